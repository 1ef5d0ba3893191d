//! What proxies say: whatever stands before it, what our own proxy adds counts, or nothing.

use std::{net::IpAddr, sync::LazyLock};

use freshgate_gateway::listener::{ForwardedHeader, TrustedProxies};
use http::{HeaderMap, HeaderName, HeaderValue};

const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 7));

static KINDS: LazyLock<[TrustedProxies; 2]> = LazyLock::new(|| {
    [ForwardedHeader::XForwarded, ForwardedHeader::Forwarded].map(|kind| {
        let networks = ["192.0.2.1/32", "10.0.0.0/8", "2001:db8:1::/48"];
        TrustedProxies::new(networks.map(|network| network.parse().expect("a network")), kind)
    })
});

/// Lines of headers without their names, which go round. To the last one our proxy adds its own.
pub(crate) fn run(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    let names = ["forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"];
    for (line, name) in bytes.split(|byte| *byte == b'\n').zip(names.iter().cycle()).take(64) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    for proxies in KINDS.iter() {
        let stranger = proxies.arrival(CLIENT, &headers);
        assert_eq!(
            (stranger.client, stranger.scheme, stranger.host),
            (CLIENT, None, None),
            "a stranger is not believed"
        );
        // Whatever it says, it can be had.
        let _ = proxies.arrival(PROXY, &headers);
    }

    let adds = |name: &'static str, added: &str| {
        let name = HeaderName::from_static(name);
        let mut headers = headers.clone();
        let mut lines: Vec<HeaderValue> = headers.get_all(&name).iter().cloned().collect();
        let before = lines.pop().map(|line| [line.as_bytes(), b", "].concat()).unwrap_or_default();
        lines.push(HeaderValue::from_bytes(&[&before, added.as_bytes()].concat()).expect("a value"));
        headers.remove(&name);
        for line in lines {
            headers.append(name.clone(), line);
        }
        headers
    };
    let [x_forwarded, forwarded] = &*KINDS;
    let seen = x_forwarded.arrival(PROXY, &adds("x-forwarded-for", "198.51.100.7"));
    assert_eq!(seen.client, CLIENT, "our proxy's word counts");
    // A quote that was left open may swallow what our proxy adds: then nothing counts.
    let seen = forwarded.arrival(PROXY, &adds("forwarded", "for=198.51.100.7;proto=https"));
    assert!([CLIENT, PROXY].contains(&seen.client), "{}", seen.client);
}
