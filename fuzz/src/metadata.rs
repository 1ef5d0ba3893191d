//! Metadata: what is read is of the expected issuer, and its addresses may be asked.

use std::sync::LazyLock;

use freshgate_oidc::{AllowedAlgorithms, ExpectedIssuer, Issuer, IssuerParameter, ProviderMetadata};
use url::Url;

use crate::signing::ISSUER;

static EXPECTED: LazyLock<[ExpectedIssuer; 2]> = LazyLock::new(|| {
    let url = format!("{ISSUER}/.well-known/openid-configuration");
    [
        ExpectedIssuer::Exactly(Issuer::new(ISSUER)),
        ExpectedIssuer::OfMetadataUrl(Url::parse(&url).expect("an address")),
    ]
});

pub(crate) fn run(bytes: &[u8]) {
    for expected in EXPECTED.iter() {
        match ProviderMetadata::parse(bytes, expected) {
            Ok(metadata) => {
                assert!(expected.may_be(&metadata.issuer));
                let needed = [&metadata.authorization_endpoint, &metadata.token_endpoint, &metadata.jwks_uri];
                let more = [
                    &metadata.userinfo_endpoint,
                    &metadata.end_session_endpoint,
                    &metadata.revocation_endpoint,
                    &metadata.pushed_authorization_request_endpoint,
                ];
                for url in needed.into_iter().chain(more.into_iter().flatten()) {
                    assert!(url.scheme() == "https" || is_this_machine(url), "{url}");
                    assert!(url.has_host(), "{url}");
                }
                assert!(AllowedAlgorithms::of_provider(&metadata).iter().count() <= bytes.len());
                let _ = (AllowedAlgorithms::of_userinfo(&metadata), IssuerParameter::of(&metadata));
            }
            Err(error) => assert!(error.to_string().len() < 10_000, "{error}"),
        }
    }
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
