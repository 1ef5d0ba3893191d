//! What is configured of a provider.

use std::{num::NonZeroUsize, time::Duration};

use freshgate_oidc::{
    AuthorizationParameters, ClientAuthMethod, ClientCredential, ExpectedIssuer, IdTokenExpectations,
    ProviderMetadata,
};
use url::Url;

use super::{AssertionAudience, LostAnswer, prompt};

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

/// Whether authorization requests are left with the provider beforehand (PAR, RFC 9126).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PushedRequests {
    /// Where its metadata says that they must be.
    #[default]
    IfRequired,
    /// Always: it may require that of this client alone.
    Always,
    /// Never.
    Never,
}

/// Whether tokens are bound to a key of their session's (DPoP, RFC 9449).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DpopUse {
    /// Never. Whoever has an access token can use it, as apps expect.
    #[default]
    Never,
    /// Where the provider lists it. Tokens that it does not bind will do.
    IfListed,
    /// Always. Tokens that are not bound are refused.
    Always,
}

/// A provider, as an operator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderConfig {
    /// Its name: `default`, or that of its `[auth.NAME]` section.
    pub name: String,
    /// Where its metadata is.
    pub metadata_url: Url,
    /// The issuer that the metadata must name.
    pub issuer: ExpectedIssuer,
    /// Our name there.
    pub client_id: String,
    /// What we prove it with.
    pub credential: ClientCredential,
    /// How we prove it; `None`: as the provider lists it.
    pub client_auth_method: Option<ClientAuthMethod>,
    /// What a client assertion calls the provider; `None`: what is known of the issuer says it.
    pub assertion_audience: Option<AssertionAudience>,
    /// Whether authorization requests are left with it beforehand.
    pub pushed_requests: PushedRequests,
    /// Whether its tokens are bound to a key.
    pub dpop: DpopUse,
    /// The scope to ask for, words separated by spaces.
    pub scope: String,
    /// Whether `offline_access` is added to it.
    pub offline_access: OfflineAccess,
    /// What is asked for besides: prompt, audience, resource, …
    pub authorize_parameters: AuthorizationParameters,
    /// Whether nobody asked for the `prompt` among them: it is then left out where the provider is known not to have it.
    pub prompt_is_default: bool,
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
    /// A provider of which no more is said than must be.
    pub fn new(
        name: impl Into<String>,
        metadata_url: Url,
        client_id: impl Into<String>,
        credential: ClientCredential,
    ) -> Self {
        Self {
            name: name.into(),
            issuer: ExpectedIssuer::OfMetadataUrl(metadata_url.clone()),
            metadata_url,
            client_id: client_id.into(),
            credential,
            client_auth_method: None,
            assertion_audience: None,
            pushed_requests: PushedRequests::default(),
            dpop: DpopUse::default(),
            scope: String::new(),
            offline_access: OfflineAccess::default(),
            authorize_parameters: AuthorizationParameters::default(),
            prompt_is_default: false,
            userinfo: true,
            trusted_audiences: Vec::new(),
            clock_leeway: IdTokenExpectations::LEEWAY,
            refreshing: Refreshing::default(),
        }
    }

    /// Whether an authorization request to a provider that says this of itself is left there beforehand.
    pub fn pushes_requests(&self, metadata: &ProviderMetadata) -> bool {
        match self.pushed_requests {
            PushedRequests::IfRequired => metadata.require_pushed_authorization_requests,
            PushedRequests::Always => true,
            PushedRequests::Never => false,
        }
    }

    /// What a login asks for besides.
    pub(crate) fn authorize_parameters_for(&self, metadata: &ProviderMetadata) -> AuthorizationParameters {
        let mut parameters = self.authorize_parameters.clone();
        if self.prompt_is_default && prompt::refuses_account_choice(metadata) {
            // Nothing is wrong with taking it away.
            let _ = parameters.set("prompt", "");
        }
        parameters
    }

    /// The scope of an authorization request to a provider that says this of itself; `wanted` takes the place of the
    /// configured one. `openid` is added by the request.
    pub fn scopes_for(&self, metadata: &ProviderMetadata, wanted: Option<&[String]>) -> Vec<String> {
        let mut scopes: Vec<String> = match wanted {
            Some(wanted) => wanted.to_vec(),
            None => self.scope.split_ascii_whitespace().map(str::to_owned).collect(),
        };
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
