//! What a provider says of itself (OpenID Connect Discovery 1.0, RFC 8414).

use std::fmt;

use serde_json::{Map, Value};
use url::{Host, Url};

const WELL_KNOWN: &str = "/.well-known/openid-configuration";

/// The name of a provider. Compared as the exact text that it is, never as a URL.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Issuer(String);

impl Issuer {
    /// The issuer of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose metadata we asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpectedIssuer {
    /// This issuer, as the operator wrote it.
    Exactly(Issuer),
    /// The one whose metadata is found under this address: the address without `/.well-known/openid-configuration`,
    /// with or without a terminating `/` (Discovery section 4.1).
    OfMetadataUrl(Url),
}

impl ExpectedIssuer {
    /// Whether a provider of this name may be the one that is meant. Not yet whether it is: a name that is written
    /// otherwise and means the same address passes too, where the operator wrote no issuer.
    pub fn may_be(&self, found: &Issuer) -> bool {
        self.is(found.as_str())
    }

    fn is(&self, found: &str) -> bool {
        match self {
            Self::Exactly(issuer) => issuer.as_str() == found,
            // Both sides in the URL's normal form: the address went through `Url`, which drops a default port and lowers
            // the host's case. Later comparisons, with the `iss` of a token, are exact.
            Self::OfMetadataUrl(url) => Url::parse(found)
                .is_ok_and(|found| Some(found.as_str().trim_end_matches('/')) == issuer_of(url).as_deref()),
        }
    }
}

impl fmt::Display for ExpectedIssuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(issuer) => issuer.fmt(f),
            Self::OfMetadataUrl(url) => f.write_str(&issuer_of(url).unwrap_or_else(|| url.to_string())),
        }
    }
}

/// The issuer that a metadata address names, without terminating `/`.
fn issuer_of(metadata_url: &Url) -> Option<String> {
    let mut url = metadata_url.clone();
    url.set_query(None);
    url.set_fragment(None);
    Some(url.as_str().strip_suffix(WELL_KNOWN)?.trim_end_matches('/').to_owned())
}

/// What a provider says of itself. Of a list that it omits we know nothing (`None`); it may do what it does not list.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProviderMetadata {
    /// Its name, found to be the one asked for.
    pub issuer: Issuer,
    /// Where users sign in.
    pub authorization_endpoint: Url,
    /// Where tokens are asked for.
    pub token_endpoint: Url,
    /// Where its keys are.
    pub jwks_uri: Url,
    /// Where claims are asked for.
    pub userinfo_endpoint: Option<Url>,
    /// Where users sign out (RP-Initiated Logout section 2.1).
    pub end_session_endpoint: Option<Url>,
    /// Where tokens are revoked (RFC 8414 section 2).
    pub revocation_endpoint: Option<Url>,
    /// Where authorization requests can be left beforehand (RFC 9126 section 5).
    pub pushed_authorization_request_endpoint: Option<Url>,
    /// Whether they must be left there (RFC 9126 section 5).
    pub require_pushed_authorization_requests: bool,
    /// Scopes. `offline_access` is asked for only where it is listed.
    pub scopes_supported: Option<Vec<String>>,
    /// Grants. A list without `refresh_token` means that sessions will not outlive the access token.
    pub grant_types_supported: Option<Vec<String>>,
    /// How clients may authenticate at the token endpoint. `None` means `client_secret_basic` (Discovery section 3).
    pub token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// How client assertions may be signed (Discovery section 3).
    pub token_endpoint_auth_signing_alg_values_supported: Option<Vec<String>>,
    /// How ID tokens may be signed.
    pub id_token_signing_alg_values_supported: Option<Vec<String>>,
    /// How userinfo may be signed.
    pub userinfo_signing_alg_values_supported: Option<Vec<String>>,
    /// PKCE methods (RFC 8414 section 2). S256 is used whatever this says.
    pub code_challenge_methods_supported: Option<Vec<String>>,
    /// How DPoP proofs may be signed (RFC 9449 section 5.1).
    pub dpop_signing_alg_values_supported: Option<Vec<String>>,
    /// What `prompt` may ask for (OpenID Connect Initiating User Registration 1.0).
    pub prompt_values_supported: Option<Vec<String>>,
    /// Whether every callback carries `iss` (RFC 9207 section 3).
    pub authorization_response_iss_parameter_supported: bool,
    /// Whether it tells us of logouts (Back-Channel Logout section 2.1).
    pub backchannel_logout_supported: bool,
    /// Whether its logout tokens name a session (Back-Channel Logout section 2.1).
    pub backchannel_logout_session_supported: bool,
    /// Whether it has browsers tell us of logouts (Front-Channel Logout section 3).
    pub frontchannel_logout_supported: bool,
}

impl ProviderMetadata {
    /// More than this is no metadata document.
    pub const MAX_BYTES: usize = 1024 * 1024;

    /// Reads a metadata document and checks that it is the expected issuer's (Discovery section 4.3).
    ///
    /// Unknown members are ignored, and so are optional lists and flags of the wrong type. An address that is there
    /// must be one, and `https` unless its host is a loopback host.
    pub fn parse(document: &[u8], expected: &ExpectedIssuer) -> Result<Self, MetadataError> {
        if document.len() > Self::MAX_BYTES {
            return Err(MetadataError::TooLarge { limit: Self::MAX_BYTES });
        }
        let document = Document(serde_json::from_slice(document).map_err(MetadataError::NotJson)?);
        let issuer = document.text("issuer").ok_or(MetadataError::Missing { member: "issuer" })?;
        if let ExpectedIssuer::OfMetadataUrl(url) = expected
            && issuer_of(url).is_none()
        {
            return Err(MetadataError::AddressNamesNoIssuer { address: url.clone() });
        }
        if !expected.is(issuer) {
            return Err(MetadataError::IssuerMismatch {
                expected: expected.to_string(),
                found: crate::operator_text::one_line(issuer, 300),
            });
        }
        document.required_url("issuer")?;
        Ok(Self {
            issuer: Issuer::new(issuer),
            authorization_endpoint: document.required_url("authorization_endpoint")?,
            token_endpoint: document.required_url("token_endpoint")?,
            jwks_uri: document.required_url("jwks_uri")?,
            userinfo_endpoint: document.url("userinfo_endpoint")?,
            end_session_endpoint: document.url("end_session_endpoint")?,
            revocation_endpoint: document.url("revocation_endpoint")?,
            pushed_authorization_request_endpoint: document.url("pushed_authorization_request_endpoint")?,
            require_pushed_authorization_requests: document.flag("require_pushed_authorization_requests"),
            scopes_supported: document.list("scopes_supported"),
            grant_types_supported: document.list("grant_types_supported"),
            token_endpoint_auth_methods_supported: document.list("token_endpoint_auth_methods_supported"),
            token_endpoint_auth_signing_alg_values_supported: document
                .list("token_endpoint_auth_signing_alg_values_supported"),
            id_token_signing_alg_values_supported: document.list("id_token_signing_alg_values_supported"),
            userinfo_signing_alg_values_supported: document.list("userinfo_signing_alg_values_supported"),
            code_challenge_methods_supported: document.list("code_challenge_methods_supported"),
            dpop_signing_alg_values_supported: document.list("dpop_signing_alg_values_supported"),
            prompt_values_supported: document.list("prompt_values_supported"),
            authorization_response_iss_parameter_supported: document
                .flag("authorization_response_iss_parameter_supported"),
            backchannel_logout_supported: document.flag("backchannel_logout_supported"),
            backchannel_logout_session_supported: document.flag("backchannel_logout_session_supported"),
            frontchannel_logout_supported: document.flag("frontchannel_logout_supported"),
        })
    }

    /// Whether the provider lists this scope. One that lists none lists not this one.
    pub fn lists_scope(&self, scope: &str) -> bool {
        self.scopes_supported.as_ref().is_some_and(|scopes| scopes.iter().any(|listed| listed == scope))
    }
}

struct Document(Map<String, Value>);

impl Document {
    fn text(&self, member: &str) -> Option<&str> {
        self.0.get(member).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    /// `null` and `""` count as absent: some providers write them for what they do not have.
    fn url(&self, member: &'static str) -> Result<Option<Url>, MetadataError> {
        let text = match self.0.get(member) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => text,
            Some(_) => return Err(MetadataError::NotAUrl { member }),
        };
        let url = Url::parse(text).map_err(|_| MetadataError::NotAUrl { member })?;
        match url.scheme() {
            "https" => Ok(Some(url)),
            "http" if is_loopback(&url) => Ok(Some(url)),
            "http" => Err(MetadataError::InsecureEndpoint { member, url }),
            _ => Err(MetadataError::NotAUrl { member }),
        }
    }

    fn required_url(&self, member: &'static str) -> Result<Url, MetadataError> {
        self.url(member)?.ok_or(MetadataError::Missing { member })
    }

    fn list(&self, member: &str) -> Option<Vec<String>> {
        let items = self.0.get(member)?.as_array()?;
        Some(items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
    }

    fn flag(&self, member: &str) -> bool {
        self.0.get(member).and_then(Value::as_bool).unwrap_or(false)
    }
}

/// Whether an address leads to the machine that asks, by whatever name (RFC 6761 section 6.3).
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Why a metadata document cannot be used. Each is for the operator to mend, here or at the provider.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// It is larger than any metadata document.
    #[error("the provider's metadata is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It is no JSON object: the address is probably not that of a metadata document.
    #[error("the provider's metadata is not a JSON object")]
    NotJson(#[source] serde_json::Error),
    /// A member that we need is not there.
    #[error("the provider's metadata has no `{member}`")]
    Missing {
        /// Its name.
        member: &'static str,
    },
    /// A member that must be an address is none.
    #[error("`{member}` in the provider's metadata is not a web address")]
    NotAUrl {
        /// Its name.
        member: &'static str,
    },
    /// Secrets would travel in the clear to a host other than this one.
    #[error("`{member}` in the provider's metadata is not https: {url}")]
    InsecureEndpoint {
        /// Its name.
        member: &'static str,
        /// The address.
        url: Url,
    },
    /// It is another provider's (Discovery section 4.3). If the provider is known to do this, its issuer must be
    /// configured as found here.
    #[error("the provider's metadata names the issuer {found}, expected was {expected}")]
    IssuerMismatch {
        /// The one asked for.
        expected: String,
        /// The one it names.
        found: String,
    },
    /// The configured address does not end in `/.well-known/openid-configuration`, so the issuer must be configured.
    #[error("no issuer can be told from the address {address}")]
    AddressNamesNoIssuer {
        /// The address.
        address: Url,
    },
}

#[cfg(test)]
mod tests;
