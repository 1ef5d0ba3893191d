//! Whether the provider takes us for its client: PKCE, client authentication, the request that a login begins with.

use freshgate::provider::ProviderConfig;
use freshgate_oidc::{ClientCredential, ProviderMetadata};

use super::reach;
use crate::{
    check::{
        facts::{ClientFacts, LoginRequestFacts},
        finding::Finding,
    },
    gate::mend_of_proofs,
    gate::section,
};

/// RFC 7636. S256 is sent whatever is listed.
pub(super) fn pkce(metadata: &ProviderMetadata) -> Finding {
    match metadata.code_challenge_methods_supported.as_deref() {
        None => Finding::warning(
            "pkce",
            "the provider does not say whether it knows PKCE; S256 is sent, and one that does not know it ignores it",
        ),
        Some(methods) if methods.iter().any(|method| method == "S256") => {
            Finding::ok("pkce", "S256 is listed, and is used")
        }
        Some(methods) => {
            Finding::problem("pkce", format!("S256 is not listed, but is used; listed: {}", listed(methods)))
                .mend(
                    "allow S256 for this client at the provider; `plain` protects nobody, so it is not used",
                )
        }
    }
}

/// How we prove who we are, and whether that is accepted.
pub(super) fn method(config: &ProviderConfig, metadata: &ProviderMetadata, client: &ClientFacts) -> Finding {
    let at = section(&config.name);
    match client {
        ClientFacts::NoMethod(why) => Finding::problem("client", why).mend(format!(
            "register the client so that it authenticates in a way that freshgate has, and set {at} \
             client_kwargs.token_endpoint_auth_method to that"
        )),
        ClientFacts::Refused { why, wants_proof: true, .. } => {
            Finding::problem("client", format!("{} is refused: {why}", config.client_id))
                .mend(format!("[provider.{}] dpop: {}", config.name, mend_of_proofs(config.dpop)))
        }
        ClientFacts::Refused { method, why, wants_proof: false } => Finding::problem(
            "client",
            format!("{} is refused with {method}: {why}", config.client_id),
        )
        .mend(match &config.credential {
            ClientCredential::Key(_) => format!(
                "register the public part of client_key_file there, and compare {at} client_id with what the provider shows"
            ),
            ClientCredential::Secret(_) => format!(
                "compare {at} client_id and client_secret with what the provider shows; a secret may have expired"
            ),
            ClientCredential::Public => format!("compare {at} client_id with what the provider shows"),
        })
        .mend(format!(
            "or set {at} client_kwargs.token_endpoint_auth_method to what this client is registered with"
        )),
        ClientFacts::NotRefused { method } => {
            let methods = metadata.token_endpoint_auth_methods_supported.as_deref();
            let is_listed =
                methods.is_none_or(|methods| methods.iter().any(|listed| listed == method.name()));
            let what = format!("{} proves itself with {method}, and was not refused", config.client_id);
            match methods {
                Some(methods) if !is_listed => Finding::warning(
                    "client",
                    format!("{what}, though the provider lists {} alone", listed(methods)),
                ),
                _ => Finding::ok("client", what),
            }
        }
    }
}

/// What the browser would see first.
pub(super) fn login_request(
    config: &ProviderConfig,
    metadata: &ProviderMetadata,
    login: &LoginRequestFacts,
) -> Finding {
    let at = section(&config.name);
    match login {
        LoginRequestFacts::NotMade(why) => Finding::problem("login", format!("a login cannot begin: {why}")),
        LoginRequestFacts::Unreached(unreached) => {
            let setting = "`authorization_endpoint` in the provider's metadata";
            reach::unreached("login", &metadata.authorization_endpoint, unreached, setting, config)
        }
        LoginRequestFacts::SentBack(error) => Finding::problem(
            "login",
            format!("the provider sends browsers back at once: {error}"),
        )
        .mend(format!(
            "look at {at} client_kwargs (scope, prompt and others), and at what this client may do there"
        )),
        LoginRequestFacts::Answered(status) if status.is_client_error() => Finding::problem(
            "login",
            format!("the provider refuses the request that a login begins with: status {}", status.as_u16()),
        )
        .mend("register redirect_uri there, letter by letter as below")
        .mend(format!("compare {at} client_id with what the provider shows")),
        LoginRequestFacts::Answered(status) if status.is_server_error() => Finding::warning(
            "login",
            format!("the provider fails at the request that a login begins with: status {}", status.as_u16()),
        )
        .mend("try it with a browser: `freshgate check --login`"),
        LoginRequestFacts::Answered(_) => {
            Finding::ok("login", "the request that a login begins with is not refused")
        }
    }
}

fn listed(methods: &[String]) -> String {
    if methods.is_empty() { "none".to_owned() } else { crate::words::printable(&methods.join(", ")) }
}
