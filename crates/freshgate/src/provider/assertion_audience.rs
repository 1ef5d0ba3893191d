//! What a provider wants to be called in a client assertion (`aud`).

use freshgate_oidc::ProviderMetadata;
use url::Url;

/// What a client assertion calls the provider that it is for.
///
/// By its issuer, if nothing speaks against it: an assertion for one provider then cannot be made to fit another, whose
/// metadata may name any token endpoint. RFC 9126 (section 2) recommends it, and FAPI 2.0 (section 5.3.3) demands it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AssertionAudience {
    /// Its issuer.
    #[default]
    Issuer,
    /// The address of its token endpoint (OpenID Connect Core, section 9), for one that takes nothing else.
    TokenEndpoint,
}

impl AssertionAudience {
    /// What is known of the provider that calls itself `issuer`.
    ///
    /// Microsoft Entra ID wants its token endpoint:
    /// <https://learn.microsoft.com/entra/identity-platform/certificate-credentials>
    pub fn of_issuer(issuer: &str) -> Self {
        const ENTRA: [&str; 3] =
            ["login.microsoftonline.com", "login.microsoftonline.us", "login.partner.microsoftonline.cn"];
        let host = Url::parse(issuer).ok().and_then(|url| url.host_str().map(str::to_owned));
        match host {
            Some(host) if ENTRA.contains(&host.as_str()) => Self::TokenEndpoint,
            _ => Self::Issuer,
        }
    }

    /// The value of `aud`.
    pub(super) fn of(self, metadata: &ProviderMetadata) -> &str {
        match self {
            Self::Issuer => metadata.issuer.as_str(),
            Self::TokenEndpoint => metadata.token_endpoint.as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AssertionAudience::{self, Issuer, TokenEndpoint};

    #[test]
    fn a_provider_is_called_by_its_issuer_unless_it_is_known_to_want_otherwise() {
        for (issuer, expected) in [
            ("https://id.example.com", Issuer),
            ("https://acme.eu.auth0.com/", Issuer),
            ("https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0", TokenEndpoint),
            ("https://login.microsoftonline.us/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0", TokenEndpoint),
            ("https://login.microsoftonline.com.example.com/v2.0", Issuer),
            ("no address", Issuer),
        ] {
            assert_eq!(AssertionAudience::of_issuer(issuer), expected, "{issuer}");
        }
    }
}
