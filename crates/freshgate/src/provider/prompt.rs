//! Which `prompt` lets the user choose the account.

use freshgate_oidc::ProviderMetadata;
use url::Url;

/// By which `prompt` a provider lets the user choose the account (OpenID Connect Core section 3.1.2.1): `select_account`
/// where it is known to offer that, else `login`, which every provider must take. Many do not mind a value that they do not
/// know, and would bring back the same user.
pub(super) fn account_prompt(metadata: &ProviderMetadata) -> &'static str {
    let offers_choice = match &metadata.prompt_values_supported {
        Some(listed) => listed.iter().any(|value| value == "select_account"),
        // Neither lists its prompts. Google takes no `login`, and at Entra that wants the password of the same account:
        // <https://developers.google.com/identity/openid-connect/openid-connect#authenticationuriparameters>
        // <https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc#send-the-sign-in-request>
        None => Url::parse(metadata.issuer.as_str()).is_ok_and(|issuer| {
            matches!(issuer.host_str(), Some("accounts.google.com" | "login.microsoftonline.com"))
        }),
    };
    if offers_choice { "select_account" } else { "login" }
}

/// Whether a provider is known to refuse `select_account`: it lists its prompts without it, or it is GitLab, or another of
/// those made with Doorkeeper, which has no page for it and answers `account_selection_required` to whoever is signed in
/// there. It lists no prompts; its keys are at an address of its own.
/// <https://github.com/doorkeeper-gem/doorkeeper-openid_connect#configuration>
pub(super) fn refuses_account_choice(metadata: &ProviderMetadata) -> bool {
    match &metadata.prompt_values_supported {
        Some(listed) => !listed.iter().any(|value| value == "select_account"),
        None => metadata.jwks_uri.path().ends_with("/oauth/discovery/keys"),
    }
}

#[cfg(test)]
mod tests {
    use freshgate_oidc::{ExpectedIssuer, Issuer};
    use serde_json::json;

    use super::*;

    #[test]
    fn a_choice_is_asked_for_where_it_is_offered() {
        let table = [
            ("https://id.example", Some(json!(["none", "login", "select_account"])), "select_account"),
            ("https://id.example", Some(json!(["none", "login"])), "login"),
            ("https://id.example", Some(json!([])), "login"),
            ("https://id.example", None, "login"),
            ("https://accounts.google.com", None, "select_account"),
            ("https://accounts.google.com.example", None, "login"),
            (
                "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0",
                None,
                "select_account",
            ),
            (
                "https://login.microsoftonline.com/72f988bf-86f1-41af-91ab-2d7cd011db47/v2.0",
                Some(json!(["login"])),
                "login",
            ),
        ];
        for (issuer, listed, expected) in table {
            let mut document = json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
                "jwks_uri": format!("{issuer}/jwks"),
            });
            if let Some(listed) = &listed {
                document["prompt_values_supported"] = listed.clone();
            }
            let expected_issuer = ExpectedIssuer::Exactly(Issuer::new(issuer));
            let metadata =
                ProviderMetadata::parse(document.to_string().as_bytes(), &expected_issuer).unwrap();
            assert_eq!(account_prompt(&metadata), expected, "{issuer} {listed:?}");
        }
    }

    #[test]
    fn a_choice_that_nobody_asked_for_is_not_asked_for_where_it_is_refused() {
        let table = [
            ("https://id.example", "/jwks", Some(json!(["none", "login", "select_account"])), false),
            ("https://id.example", "/jwks", Some(json!(["none", "login"])), true),
            ("https://id.example", "/jwks", None, false),
            ("https://accounts.google.com", "/jwks", None, false),
            ("https://gitlab.com", "/oauth/discovery/keys", None, true),
            ("https://git.example/gitlab", "/oauth/discovery/keys", None, true),
            ("https://git.example", "/oauth/discovery/keys", Some(json!(["select_account"])), false),
        ];
        for (issuer, keys, listed, expected) in table {
            let mut document = json!({
                "issuer": issuer,
                "authorization_endpoint": format!("{issuer}/authorize"),
                "token_endpoint": format!("{issuer}/token"),
                "jwks_uri": format!("{issuer}{keys}"),
            });
            if let Some(listed) = &listed {
                document["prompt_values_supported"] = listed.clone();
            }
            let issuer = ExpectedIssuer::Exactly(Issuer::new(issuer));
            let metadata = ProviderMetadata::parse(document.to_string().as_bytes(), &issuer).unwrap();
            assert_eq!(refuses_account_choice(&metadata), expected, "{document}");
        }
    }
}
