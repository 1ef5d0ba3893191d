//! A provider's keys, and whether ID tokens can be checked with them.

use freshgate::provider::ProviderConfig;
use freshgate_oidc::{AllowedAlgorithms, JwkSet, ProviderMetadata, SigningAlgorithm, WhySkipped};

use super::reach;
use crate::check::{
    facts::{Asked, KeyFacts},
    finding::Finding,
};

pub(super) fn keys(
    config: &ProviderConfig,
    metadata: &ProviderMetadata,
    keys: &Asked<KeyFacts>,
) -> Vec<Finding> {
    const ASK: &str = "ask the people who run the provider: without its keys no ID token can be checked";
    let url = &metadata.jwks_uri;
    let set = match keys {
        Asked::Unreached(unreached) => {
            return vec![reach::unreached(
                "keys",
                url,
                unreached,
                "`jwks_uri` in the provider's metadata",
                config,
            )];
        }
        Asked::Answered(KeyFacts::Status(status)) => {
            let what = format!("{url} answers with status {}", status.as_u16());
            return vec![Finding::problem("keys", what).mend(ASK)];
        }
        Asked::Answered(KeyFacts::Unusable(why)) => {
            return vec![Finding::problem("keys", format!("{url}: {why}")).mend(ASK)];
        }
        Asked::Answered(KeyFacts::Set(set)) => set,
    };
    let mut findings = vec![usable(metadata, set)];
    if set.skipped().iter().any(|key| key.why == WhySkipped::Private) {
        findings.push(
            Finding::warning(
                "keys",
                "a key is published with its private part: anyone can sign with it, so it is not used",
            )
            .mend("tell the people who run the provider, today"),
        );
    }
    findings
}

fn usable(metadata: &ProviderMetadata, set: &JwkSet) -> Finding {
    let allowed = AllowedAlgorithms::of_provider(metadata);
    let listed = metadata.id_token_signing_alg_values_supported.as_deref().unwrap_or_default();
    if allowed.is_empty() {
        let ours: Vec<_> = SigningAlgorithm::ALL.map(SigningAlgorithm::name).into();
        return Finding::problem(
            "keys",
            format!("ID tokens are signed with none that we accept: {}", listed.join(", ")),
        )
        .mend(format!("have the provider sign ID tokens for this client with one of {}", ours.join(", ")));
    }
    let count = |algorithm| set.iter().filter(|key| key.fits(algorithm)).count();
    let (with, without): (Vec<_>, Vec<_>) =
        allowed.iter().map(|algorithm| (algorithm, count(algorithm))).partition(|(_, keys)| *keys > 0);
    let name = |(algorithm, _): &(SigningAlgorithm, usize)| algorithm.name();
    let passed_over = match set.skipped().len() {
        0 => String::new(),
        1 => "; 1 key is passed over".to_owned(),
        several => format!("; {several} keys are passed over"),
    };
    if with.is_empty() {
        let why: Vec<_> = set.skipped().iter().take(3).map(|key| key.why.to_string()).collect();
        let why = if why.is_empty() { String::new() } else { format!(" ({})", why.join("; ")) };
        let names: Vec<_> = without.iter().map(name).collect();
        return Finding::problem(
            "keys",
            format!("there is no key for {}{passed_over}{why}", names.join(", ")),
        )
        .mend("ask the people who run the provider: no ID token can be checked");
    }
    let with: Vec<_> = with
        .iter()
        .map(|(algorithm, keys)| match keys {
            1 => format!("{} (1 key)", algorithm.name()),
            several => format!("{} ({several} keys)", algorithm.name()),
        })
        .collect();
    let without = match without.as_slice() {
        [] => String::new(),
        some => format!("; listed without a key: {}", some.iter().map(name).collect::<Vec<_>>().join(", ")),
    };
    let said = if metadata.id_token_signing_alg_values_supported.is_some() {
        ""
    } else {
        ", which is meant where none is listed"
    };
    Finding::ok("keys", format!("ID tokens can be checked: {}{said}{without}{passed_over}", with.join(", ")))
}
