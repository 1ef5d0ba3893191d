//! What is configured of a provider.

use std::{num::NonZeroUsize, time::Duration};

use freshgate_oidc::{ClientAuthMethod, ExpectedIssuer, ProviderMetadata, Secret};
use url::Url;

use super::LostAnswer;

/// The scope that asks for a refresh token (OpenID Connect Core, section 11).
const OFFLINE_ACCESS: &str = "offline_access";

/// Whether `offline_access` is added to the scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OfflineAccess {
    /// Where the provider lists it.
    #[default]
    IfListed,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// A provider, as an operator describes it.
#[derive(Clone, Debug)]
pub struct ProviderConfig {
    /// Its name: `default`, or that of its `[auth.NAME]` section.
    pub name: String,
    /// Where its metadata is.
    pub metadata_url: Url,
    /// The issuer that the metadata must name.
    pub issuer: ExpectedIssuer,
    /// Our name there.
    pub client_id: String,
    /// How we prove it; `None` for a public client.
    pub client_secret: Option<Secret>,
    /// How the secret travels; `None`: as the provider lists it.
    pub client_auth_method: Option<ClientAuthMethod>,
    /// The scope to ask for, words separated by spaces.
    pub scope: String,
    /// Whether `offline_access` is added to it.
    pub offline_access: OfflineAccess,
    /// Further parameters of the authorization request: prompt, audience, …
    pub authorize_parameters: Vec<(String, String)>,
    /// Whether userinfo is asked, where there is one.
    pub userinfo: bool,
    /// Whom else an ID token may be for besides us (OpenID Connect Core, section 3.1.3.7, rule 3).
    pub trusted_audiences: Vec<String>,
    /// How far the provider's clock may be off.
    pub clock_leeway: Duration,
    /// How it is asked for new tokens.
    pub refreshing: Refreshing,
}

/// How a provider is asked for new tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refreshing {
    /// What becomes of a refresh token whose answer was lost; `None`: what is known of the issuer says it.
    pub lost_answer: Option<LostAnswer>,
    /// How many refreshes may be on their way to it at once. Further ones wait their turn.
    pub requests_in_flight: NonZeroUsize,
}

impl Refreshing {
    /// How many refreshes may be on their way at once, unless the operator says otherwise.
    pub const REQUESTS_IN_FLIGHT: NonZeroUsize = NonZeroUsize::new(64).unwrap();
}

impl Default for Refreshing {
    fn default() -> Self {
        Self { lost_answer: None, requests_in_flight: Self::REQUESTS_IN_FLIGHT }
    }
}

impl ProviderConfig {
    /// The scope of an authorization request to a provider that says this of itself. `openid` is added by the request.
    pub fn scopes_for(&self, metadata: &ProviderMetadata) -> Vec<String> {
        let mut scopes: Vec<String> = self.scope.split_ascii_whitespace().map(str::to_owned).collect();
        let add_offline_access = match self.offline_access {
            OfflineAccess::IfListed => metadata.lists_scope(OFFLINE_ACCESS),
            OfflineAccess::Always => true,
            OfflineAccess::Never => false,
        };
        if add_offline_access && !scopes.iter().any(|scope| scope == OFFLINE_ACCESS) {
            scopes.push(OFFLINE_ACCESS.to_owned());
        }
        scopes
    }
}
