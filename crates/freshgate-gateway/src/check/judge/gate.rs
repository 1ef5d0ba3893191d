//! Where browsers and the gate meet: the address, what may be in front, what runs there now.

use std::net::SocketAddr;

use freshgate::provider::ConnectionTrouble;
use freshgate_oidc::Timestamp;
use http::StatusCode;
use url::Url;

use super::{certificate, reach};
use crate::check::{
    facts::{Asked, CertificateFacts, GateProbe, Trouble},
    finding::Finding,
};

/// The addresses of the gate, and what answered there.
pub(in crate::check) struct Addresses<'a> {
    pub(in crate::check) start: &'a Url,
    pub(in crate::check) is_loopback: bool,
    pub(in crate::check) listen: SocketAddr,
    /// Whether the gate speaks TLS itself.
    pub(in crate::check) tls: bool,
    /// Where it listens.
    pub(in crate::check) here: GateProbe,
    /// Where browsers reach it, if that is another address.
    pub(in crate::check) public: Option<GateProbe>,
    /// What it shows to browsers, if it speaks TLS itself; else what stands before it shows, if that was reached.
    pub(in crate::check) certificate: Option<CertificateFacts>,
    pub(in crate::check) now: Timestamp,
}

pub(in crate::check) fn gate(addresses: &Addresses<'_>) -> Vec<Finding> {
    let mut findings = vec![address(addresses), cookies(addresses)];
    let Addresses { start, now, .. } = addresses;
    findings.extend(addresses.certificate.as_ref().map(|facts| {
        if addresses.tls {
            return certificate::own(start, facts, *now);
        }
        let host = start.host_str().unwrap_or_default();
        certificate::others(host, "whoever runs the proxy", facts, *now)
    }));
    findings.push(running(addresses));
    findings.extend(addresses.public.as_ref().map(|public| proxy(addresses, public)));
    findings
}

/// Whether browsers that are sent to the one address can arrive at the other.
fn address(addresses: &Addresses<'_>) -> Finding {
    let Addresses { start, listen, is_loopback, tls, .. } = addresses;
    let what = format!("browsers use {start}, and the gate listens on {listen}");
    if start.scheme() == "https" && !tls {
        return Finding::ok(
            "address",
            format!(
                "{what}, for the proxy that ends TLS: it must pass on Host as it is, WebSockets, and every path below {}",
                start.path()
            ),
        );
    }
    if *tls {
        return Finding::ok("address", format!("{what}, which speaks TLS with the certificate of [tls]"));
    }
    if *is_loopback && !listen.ip().is_loopback() {
        return Finding::warning(
            "address",
            format!("{what}: whoever comes by another name than {} cannot sign in", start.host_str().unwrap_or_default()),
        )
        .mend("for this machine alone, listen on 127.0.0.1; for others, give the gate an https address: redirect_uri");
    }
    Finding::ok("address", what)
}

/// What browsers do with the session's cookie.
fn cookies(addresses: &Addresses<'_>) -> Finding {
    let Addresses { start, listen, tls, .. } = addresses;
    if start.scheme() != "https" {
        return Finding::ok("cookies", "go over plain http, which is for this machine alone");
    }
    if !tls && !listen.ip().is_loopback() {
        return Finding::warning(
            "cookies",
            format!(
                "are for https alone (Secure), but the gate speaks plain http on {listen}: whoever is on the way from the \
                 proxy to it reads them"
            ),
        )
        .mend("where the proxy is on this machine, listen on 127.0.0.1; else see to it that nobody else is on that network");
    }
    Finding::ok("cookies", "are for https alone (Secure), and for this host alone")
}

/// What runs at the gate's own address now.
fn running(addresses: &Addresses<'_>) -> Finding {
    let listen = addresses.listen;
    match &addresses.here {
        GateProbe::Gate { app: Asked::Answered(status) } if status.is_success() => {
            Finding::ok("running", format!("a gate runs on {listen}, and the app behind it answers"))
        }
        GateProbe::Gate { app } => {
            let why = match app {
                Asked::Answered(status) => format!("status {}", status.as_u16()),
                Asked::Unreached(unreached) => unreached.why.clone(),
            };
            Finding::problem(
                "running",
                format!("a gate runs on {listen}, but the app behind it does not answer: {why}"),
            )
            .mend("look at what the app says in the gate's output; it may still be starting")
        }
        // It was asked in plain http: no certificate is made out to the address that a gate listens on.
        GateProbe::SomethingElse(StatusCode::BAD_REQUEST) if addresses.tls => {
            Finding::ok("running", format!("what listens on {listen} speaks https alone, as the gate does"))
        }
        GateProbe::SomethingElse(status) => Finding::problem(
            "running",
            format!("something else than a gate listens on {listen}: status {}", status.as_u16()),
        )
        .mend("stop it, or let the gate listen elsewhere: `--listen`"),
        GateProbe::Unreached(unreached)
            if unreached.trouble == Trouble::Connection(ConnectionTrouble::Refused) =>
        {
            Finding::ok("running", format!("nothing listens on {listen} yet: the address is free"))
        }
        GateProbe::Unreached(unreached) => Finding::warning(
            "running",
            format!("what listens on {listen} cannot be asked: {}", unreached.why),
        ),
    }
}

/// What answers at the address that browsers use, where something is in front of the gate.
fn proxy(addresses: &Addresses<'_>, public: &GateProbe) -> Finding {
    let start = addresses.start;
    let runs = matches!(addresses.here, GateProbe::Gate { .. });
    match public {
        GateProbe::Gate { app: Asked::Answered(status) } if status.is_success() => {
            Finding::ok("proxy", format!("{start} leads to a gate, and to the app behind it"))
        }
        GateProbe::Gate { app } => {
            let status = match app {
                Asked::Answered(status) => format!("status {}", status.as_u16()),
                Asked::Unreached(unreached) => unreached.why.clone(),
            };
            let finding = format!("{start} leads to a gate, but not to the app behind it: {status}");
            if runs {
                Finding::warning("proxy", finding)
                    .mend("look whether the proxy passes on every path, and not some alone")
            } else {
                Finding::warning("proxy", finding)
            }
        }
        GateProbe::SomethingElse(
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT,
        ) if !runs => {
            Finding::ok("proxy", format!("{start} answers, and waits for a gate on {}", addresses.listen))
        }
        GateProbe::SomethingElse(status) => Finding::warning(
            "proxy",
            format!("{start} answers with status {}, and not as a gate does", status.as_u16()),
        )
        .mend(format!(
            "have the proxy pass on {start} and everything below it to {}, unchanged",
            addresses.listen
        )),
        GateProbe::Unreached(unreached) => {
            let (what, mend) = reach::said(start, unreached.trouble);
            let finding =
                Finding::warning("proxy", format!("{start} is not reached from this machine: {what}"));
            finding.mend(format!("if browsers do not reach it either: {mend}"))
        }
    }
}
