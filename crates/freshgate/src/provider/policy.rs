//! What becomes of a refresh token whose answer was lost: it may have been used, and nobody knows.
//!
//! A rotating provider has then made the next token, which did not reach us. Some let the old one be sent again for a
//! while, some take that for theft, some never spend a refresh token at all. Metadata says nothing of it, so what the
//! provider's own pages say is written down here, by issuer; the operator knows better and may say so.

use std::time::Duration;

use url::Url;

/// Whether a refresh token may be sent again after its answer was lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LostAnswer {
    /// Once more. For a provider of which nothing else is known: if it never saw the request, the token is still good, and
    /// if it did, the session is lost with or without asking.
    #[default]
    RetryOnce,
    /// As often as needed, until this long after it was sent first.
    RetryWithin(Duration),
    /// As often as needed: the provider does not spend refresh tokens.
    RetryAlways,
    /// Never: a token that is sent twice raises an alarm there.
    SignInAgain,
}

impl LostAnswer {
    /// What is known of the provider that calls itself `issuer`; [`LostAnswer::RetryOnce`] where nothing is.
    ///
    /// Only what its documentation states for every client is taken from it. A window that a client may be given, and that
    /// is closed unless it is, does not count.
    pub fn of_issuer(issuer: &str) -> Self {
        let Ok(url) = Url::parse(issuer) else { return Self::default() };
        let Some(host) = url.host_str() else { return Self::default() };
        let known = WELL_KNOWN.iter().find(|known| known.is(host, url.path()));
        known.map_or_else(Self::default, |known| known.lost_answer)
    }

    /// Whether a token that was sent `losses` times without an answer, at first `since_first` ago, may be sent (again).
    pub fn allows(self, losses: u32, since_first: Duration) -> bool {
        losses == 0
            || match self {
                Self::RetryOnce => losses == 1,
                Self::RetryWithin(grace) => since_first < grace,
                Self::RetryAlways => true,
                Self::SignInAgain => false,
            }
    }

    /// Whether a token may be sent again after something else than the provider answered: a gateway that waited in vain
    /// (502, 504), as one also does while the provider is away and sees nothing at all.
    ///
    /// If the provider did use the token, the session is lost with or without asking; if not, asking keeps it. So only an
    /// alarm is a reason against it.
    pub(crate) fn allows_in_doubt(self) -> bool {
        self != Self::SignInAgain
    }

    /// Whether a refusal that follows a lost answer may be due to the token's use back then.
    pub(crate) fn spends_tokens(self) -> bool {
        self != Self::RetryAlways
    }
}

/// A provider that can be told by its issuer.
struct WellKnown {
    host: Host,
    /// What its path has in it.
    path: &'static str,
    lost_answer: LostAnswer,
}

enum Host {
    Any,
    Is(&'static str),
    Below(&'static str),
}

impl WellKnown {
    const fn at(host: Host, lost_answer: LostAnswer) -> Self {
        Self { host, path: "", lost_answer }
    }

    fn is(&self, host: &str, path: &str) -> bool {
        let host_fits = match self.host {
            Host::Any => true,
            Host::Is(name) => host == name,
            Host::Below(domain) => {
                host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.') && rest.len() > 1)
            }
        };
        host_fits && path.contains(self.path)
    }
}

/// For how long Okta takes the previous token after it rotated, unless the client has another window:
/// <https://developer.okta.com/docs/guides/refresh-tokens/refresh-token-rotation/> ("Grace period for token rotation"), and for
/// the figure `leeway` of `OpenIdConnectApplicationSettingsRefreshToken` in its management API (okta-sdk-dotnet, `docs/`).
const OKTA: LostAnswer = LostAnswer::RetryWithin(Duration::from_secs(30));

/// Those that are `RetryOnce` are here to say that this was looked up, and not forgotten.
const WELL_KNOWN: &[WellKnown] = &[
    // Microsoft Entra ID. Each use brings a new one, and the old ones are not revoked:
    // <https://learn.microsoft.com/entra/identity-platform/refresh-tokens>
    WellKnown::at(Host::Is("login.microsoftonline.com"), LostAnswer::RetryAlways),
    WellKnown::at(Host::Is("sts.windows.net"), LostAnswer::RetryAlways),
    // Google. To be kept and used for as long as they are valid, and none of the reasons why one ends is its use:
    // <https://developers.google.com/identity/protocols/oauth2#expiration>
    WellKnown::at(Host::Is("accounts.google.com"), LostAnswer::RetryAlways),
    WellKnown::at(Host::Below("okta.com"), OKTA),
    WellKnown::at(Host::Below("oktapreview.com"), OKTA),
    WellKnown::at(Host::Below("okta-emea.com"), OKTA),
    // Auth0. An overlap period, for each application, and none by default; later use revokes the whole family:
    // <https://auth0.com/docs/secure/tokens/refresh-tokens/configure-refresh-token-rotation>
    WellKnown::at(Host::Below("auth0.com"), LostAnswer::RetryOnce),
    // GitLab. A refresh makes the access token and the refresh token invalid; no window is mentioned:
    // <https://docs.gitlab.com/api/oauth2/>
    WellKnown::at(Host::Is("gitlab.com"), LostAnswer::RetryOnce),
    // Amazon Cognito. Rotation and its grace period (0 to 60 s) are each app client's to choose:
    // <https://docs.aws.amazon.com/cognito-user-identity-pools/latest/APIReference/API_RefreshTokenRotationType.html>
    WellKnown::at(Host::Below("amazonaws.com"), LostAnswer::RetryOnce),
    // PingOne. No window was found in its pages on refresh tokens:
    // <https://docs.pingidentity.com/pingone/applications/p1_refresh_tokens.html>
    WellKnown::at(Host::Is("auth.pingone.com"), LostAnswer::RetryOnce),
    // Keycloak. Rotation ("Revoke Refresh Token") and how often a token may be used again are each realm's to choose:
    // <https://docs.redhat.com/en/documentation/red_hat_build_of_keycloak/26.4/html/server_administration_guide/managing-user-sessions>
    WellKnown { host: Host::Any, path: "/realms/", lost_answer: LostAnswer::RetryOnce },
];

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_sent_again_as_far_as_the_policy_allows() {
        use LostAnswer::{RetryAlways, RetryOnce, RetryWithin, SignInAgain};
        // (policy, answers lost, since it was sent first, may be sent)
        let table = [
            (RetryOnce, 0, 0, true),
            (RetryOnce, 1, 0, true),
            // A process that was down for a day found its intent.
            (RetryOnce, 1, 86400, true),
            (RetryOnce, 2, 0, false),
            (RetryWithin(seconds(30)), 0, 0, true),
            (RetryWithin(seconds(30)), 1, 29, true),
            (RetryWithin(seconds(30)), 5, 29, true),
            (RetryWithin(seconds(30)), 1, 30, false),
            (RetryWithin(seconds(0)), 1, 0, false),
            (RetryAlways, 100, 86400, true),
            (SignInAgain, 0, 0, true),
            (SignInAgain, 1, 0, false),
        ];
        for (policy, losses, since, expected) in table {
            assert_eq!(policy.allows(losses, seconds(since)), expected, "{policy:?} {losses} {since}");
        }
    }

    #[test]
    fn well_known_providers_are_told_by_their_issuer() {
        use LostAnswer::{RetryAlways, RetryOnce};
        let table = [
            (
                "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0",
                RetryAlways,
                "Entra",
            ),
            ("https://sts.windows.net/72f988bf-86f1-41af-91ab-2d7cd011db47/", RetryAlways, "Entra"),
            ("https://accounts.google.com", RetryAlways, "Google"),
            ("https://acme.okta.com", OKTA, "Okta"),
            ("https://acme.okta.com/oauth2/default", OKTA, "Okta"),
            ("https://acme.oktapreview.com/oauth2/aus1", OKTA, "Okta"),
            ("https://acme.eu.auth0.com/", RetryOnce, "Auth0"),
            ("https://gitlab.com", RetryOnce, "GitLab"),
            ("https://cognito-idp.eu-west-1.amazonaws.com/eu-west-1_abc", RetryOnce, "Cognito"),
            ("https://auth.pingone.com/0000/as", RetryOnce, "PingOne"),
            ("https://sso.example.com/realms/staff", RetryOnce, "Keycloak"),
            ("https://id.example.com", RetryOnce, "nobody described it"),
            // Names that only look like it.
            ("https://evilokta.com", RetryOnce, "another domain"),
            ("https://okta.com", RetryOnce, "no tenant"),
            ("https://acme.okta.com.example.com", RetryOnce, "another domain"),
            ("https://accounts.google.com.example.com", RetryOnce, "another domain"),
            ("not an address", RetryOnce, "no address"),
        ];
        for (issuer, expected, why) in table {
            assert_eq!(LostAnswer::of_issuer(issuer), expected, "{issuer} ({why})");
        }
    }

    /// The pages of providers, and the table of them all.
    fn pages() -> Vec<(String, String)> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/providers");
        let mut pages: Vec<(String, String)> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
            .collect();
        pages.sort();
        pages
    }

    /// As it is written in `freshgate.toml`.
    fn written(policy: LostAnswer) -> String {
        match policy {
            LostAnswer::RetryOnce => "`retry`".to_owned(),
            LostAnswer::RetryWithin(grace) => format!("`retry`, `grace = \"{}s\"`", grace.as_secs()),
            LostAnswer::RetryAlways => "`retry_always`".to_owned(),
            LostAnswer::SignInAgain => "`sign_in_again`".to_owned(),
        }
    }

    #[test]
    fn the_pages_of_providers_say_what_is_done() {
        let cell =
            |row: &str, column: usize| row.split('|').nth(column).unwrap_or_default().trim().to_owned();
        let issuer = |cell: String| cell.trim_matches('`').to_owned();
        let mut compared = 0;
        for (page, text) in pages() {
            let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
            let of_page = |name: &str| rows.iter().find(|row| cell(row, 1) == name).map(|row| cell(row, 2));
            // Each page has a row for either, and the table of all has a row for each page.
            let mut said = Vec::new();
            if let Some(name) = of_page("issuer") {
                said.push((name, of_page("`lost_answer = \"auto\"`").unwrap_or_default()));
            }
            said.extend(
                rows.iter().map(|row| (cell(row, 2), cell(row, 3))).filter(|(_, policy)| {
                    policy.starts_with("`retry") || policy.starts_with("`sign_in_again")
                }),
            );
            assert!(!said.is_empty(), "{page} says nothing");
            for (name, policy) in said {
                assert_eq!(policy, written(LostAnswer::of_issuer(&issuer(name.clone()))), "{page}: {name}");
                compared += 1;
            }
        }
        assert!(compared >= 14, "only {compared} rows were compared");
    }

    #[test]
    fn the_pages_of_providers_name_each_that_is_known() {
        let all: String = pages().into_iter().map(|(_, text)| text).collect();
        for known in WELL_KNOWN {
            let name = match known.host {
                Host::Any => known.path,
                Host::Is(name) | Host::Below(name) => name,
            };
            // What Entra called itself before is the same provider.
            assert!(all.contains(name) || name == "sts.windows.net", "docs/providers has nothing of {name}");
        }
    }
}
