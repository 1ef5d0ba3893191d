//! The proxies in front of the gate, and how they say for whom a request is.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    report::{Problem, Report},
    setting::{FORWARDED_HEADER, Given, Sources, TRUSTED_PROXIES},
};
use crate::listener::{ForwardedHeader, TrustedProxies};

pub(super) fn read(sources: &Sources<'_>, report: &mut Report) -> TrustedProxies {
    let (networks, header) = (sources.find(TRUSTED_PROXIES, report), sources.find(FORWARDED_HEADER, report));
    if let (None, Some(header)) = (&networks, &header) {
        report.add(
            Problem::warning(format!("`{}` has no effect", header.name))
                .at(&header.item.place, "no proxy is believed")
                .help("name the proxies in front of freshgate in `trusted_proxies`"),
        );
    }
    let networks: Vec<Given> = networks.and_then(|given| given.each(report)).unwrap_or_default();
    let networks: Vec<IpNet> = networks.iter().filter_map(|given| network(given, report)).collect();
    let kinds = [("x-forwarded", ForwardedHeader::XForwarded), ("forwarded", ForwardedHeader::Forwarded)];
    let header = header.and_then(|given| given.one_of(&kinds, report));
    TrustedProxies::new(networks, header.unwrap_or_default())
}

fn network(given: &Given, report: &mut Report) -> Option<IpNet> {
    let text = given.text(report)?.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical().into());
    }
    let Ok(network) = text.parse::<IpNet>() else {
        let help =
            "write an address such as 10.0.0.5, or a network such as 10.0.0.0/8: names are not looked up";
        return given.refuse("not an address or a network", help, report);
    };
    if network.prefix_len() == 0 {
        let help = "name the proxies alone: anybody else could pass for another client";
        return given.refuse("trusts everybody", help, report);
    }
    if network.trunc() != network {
        let help =
            format!("write {} for the network, or {} for this one address", network.trunc(), network.addr());
        return given.refuse("an address within a network", &help, report);
    }
    Some(network)
}
