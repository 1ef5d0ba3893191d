//! A provider's metadata and its issuer (OpenID Connect Discovery 1.0, sections 3 and 4).

use std::collections::BTreeMap;

use freshgate::provider::ProviderConfig;
use freshgate_oidc::{Issuer, MetadataError, ProviderMetadata};
use http::StatusCode;
use url::Url;

use crate::{
    check::{facts::DocumentFacts, finding::Finding},
    gate::section,
};

/// Whether there is a document where one should be.
pub(super) fn reach(config: &ProviderConfig, document: &DocumentFacts) -> Finding {
    let url = &config.metadata_url;
    let setting = format!("{} server_metadata_url", section(&config.name));
    let status = document.status;
    match &document.location {
        _ if status == StatusCode::OK => {
            let how = if url.scheme() == "https" { "over TLS" } else { "over plain http, on this machine" };
            Finding::ok("reach", format!("answers after {} ms, {how}", document.took.as_millis()))
        }
        Some(location) if status.is_redirection() => {
            let finding = Finding::problem("reach", format!("it has moved to {location} (status {})", status.as_u16()));
            match Url::parse(location) {
                Ok(to) if to.scheme() == "https" => {
                    finding.mend(format!("set {setting} to that address, if it is your provider's: redirects are not followed"))
                }
                _ => finding.mend(format!("set {setting} to where the metadata is, with https: redirects are not followed")),
            }
        }
        _ if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
            Finding::problem("reach", format!("it cannot answer now: status {}", status.as_u16()))
                .mend("wait until the provider is up again, and ask the people who run it")
        }
        _ => Finding::problem("reach", format!("there is no metadata: status {}", status.as_u16())).mend(format!(
            "set {setting} to the provider's metadata address; it usually ends with /.well-known/openid-configuration"
        )),
    }
}

/// Whether the document can be used, and is the one that we asked for.
pub(super) fn issuer(
    config: &ProviderConfig,
    document: &DocumentFacts,
    error: Option<&MetadataError>,
    issuer: Option<&Issuer>,
) -> Finding {
    let setting = format!("{} server_metadata_url", section(&config.name));
    let provider = &config.name;
    let Some(error) = error else {
        let name = issuer.map(Issuer::as_str).unwrap_or_default();
        return Finding::ok("issuer", format!("is {name}, as expected"));
    };
    match error {
        MetadataError::IssuerMismatch { expected, found } => {
            Finding::problem("issuer", format!("the provider calls itself {found}, expected was {expected}"))
                .mend(format!("set {setting} to the address under {found}"))
                .mend(format!(
                    "or, if the two really differ, name it in freshgate.toml: [provider.{provider}] issuer = \"{found}\""
                ))
        }
        MetadataError::AddressNamesNoIssuer { .. } => Finding::problem("issuer", error.to_string()).mend(format!(
            "name the issuer in freshgate.toml, [provider.{provider}] issuer = \"…\", or set {setting} to the address \
             that ends in /.well-known/openid-configuration"
        )),
        MetadataError::NotJson(_) => {
            let kind = document.content_type.as_deref().unwrap_or("of no known kind");
            Finding::problem("issuer", format!("what answers is no metadata, but something else ({kind})"))
                .mend(format!("set {setting} to the provider's metadata address"))
        }
        MetadataError::InsecureEndpoint { .. } => Finding::problem("issuer", error.to_string()).mend(
            "have the provider name https addresses: if it is behind a proxy that ends TLS, it must be told its public address",
        ),
        error => Finding::problem("issuer", crate::check::ask::chain(error))
            .mend("ask the people who run the provider: its metadata breaks the specification"),
    }
}

/// Which endpoints there are, and on whose hosts.
pub(super) fn endpoints(metadata: &ProviderMetadata) -> Finding {
    let endpoints = [
        ("authorization", Some(&metadata.authorization_endpoint)),
        ("token", Some(&metadata.token_endpoint)),
        ("keys", Some(&metadata.jwks_uri)),
        ("userinfo", metadata.userinfo_endpoint.as_ref()),
        ("end session", metadata.end_session_endpoint.as_ref()),
        ("revocation", metadata.revocation_endpoint.as_ref()),
        ("pushed requests", metadata.pushed_authorization_request_endpoint.as_ref()),
    ];
    let mut by_origin: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut order = Vec::new();
    for (name, url) in endpoints.into_iter().filter_map(|(name, url)| Some((name, url?))) {
        let origin = url.origin().ascii_serialization();
        if !order.contains(&origin) {
            order.push(origin.clone());
        }
        by_origin.entry(origin).or_default().push(name);
    }
    let at = order.iter().map(|origin| format!("{} at {origin}", by_origin[origin].join(", ")));
    Finding::ok("endpoints", at.collect::<Vec<_>>().join("; "))
}
