//! Judges: from what was learnt to findings. Nothing here asks anybody anything.
//!
//! - `reach.rs`: whether something is reached, and what keeps it from being
//! - `certificate.rs`: how long a certificate is good, and whose it is
//! - `document.rs`: a provider's metadata and issuer; `keys.rs`: its keys; `client.rs`: whether it takes us;
//!   `refresh.rs`, `userinfo.rs`, `logout.rs`, `clock.rs`: the rest of it
//! - `gate.rs`: where browsers and the gate meet; `machine.rs`: the store, the keys, Python
//! - `login.rs`: a login that somebody made

mod certificate;
mod client;
mod clock;
mod document;
mod gate;
mod keys;
mod login;
mod logout;
mod machine;
mod reach;
mod refresh;
#[cfg(test)]
mod tests;
mod userinfo;

use freshgate::provider::ProviderConfig;
use freshgate_oidc::Timestamp;

pub(super) use self::{
    gate::{Addresses, gate},
    login::login,
    logout::{Site, registration},
    machine::{python, seal, store},
};
use super::{
    facts::{Asked, ProviderFacts},
    finding::Finding,
};

/// What is to be said of a provider at `now`. `site`: where the gate is, which decides whom the provider can reach.
pub(super) fn provider(
    config: &ProviderConfig,
    facts: &ProviderFacts,
    site: &Site,
    now: Timestamp,
) -> Vec<Finding> {
    let document = match &facts.document {
        Asked::Unreached(unreached) => {
            let setting = format!("{} server_metadata_url", crate::gate::section(&config.name));
            return vec![reach::unreached("reach", &config.metadata_url, unreached, &setting, config)];
        }
        Asked::Answered(document) => document,
    };
    let mut findings = vec![document::reach(config, document)];
    findings.extend(document.certificate.as_ref().map(|shown| {
        let host = config.metadata_url.host_str().unwrap_or_default();
        certificate::others(host, "the people who run the provider", shown, now)
    }));
    findings.extend(document.metadata.as_ref().map(|metadata| {
        let issuer = facts.known.as_ref().map(|known| &known.metadata.issuer);
        document::issuer(config, document, metadata.as_ref().err(), issuer)
    }));
    if let Some(known) = &facts.known {
        findings.push(document::endpoints(&known.metadata));
        findings.extend(keys::keys(config, &known.metadata, &known.keys));
        findings.push(client::pkce(&known.metadata));
        findings.push(client::method(config, &known.metadata, &known.client));
        findings.push(client::login_request(config, &known.metadata, &known.login));
        findings.push(refresh::refresh(config, &known.metadata, &known.scopes));
        findings.push(userinfo::userinfo(config, &known.metadata));
        findings.push(logout::logout(&known.metadata, site));
    }
    findings.extend(document.skew.map(|skew| clock::skew(config, skew)));
    findings
}

/// How long from one time to another, in seconds; negative if the other is earlier.
fn seconds_between(one: Timestamp, other: Timestamp) -> f64 {
    other.as_unix_seconds_f64() - one.as_unix_seconds_f64()
}
