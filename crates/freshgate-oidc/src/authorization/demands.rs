//! What an authorization request demands of the user's authentication, for the ID token to be held against.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::secret::Secret;

/// What was demanded of the user's authentication (OpenID Connect Core sections 3.1.2.1 and 5.5.1.1, RFC 9470 section 4).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthenticationDemands {
    /// The classes of which it must be one. Empty: any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acr: Vec<String>,
    /// How old it may be when the request is sent, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<u64>,
}

impl AuthenticationDemands {
    /// What these parameters of an authorization request demand.
    pub(super) fn of(parameters: &[(String, Secret)]) -> Self {
        let mut demands = Self::default();
        for (name, value) in parameters {
            let value = value.expose();
            match name.as_str() {
                "acr_values" => {
                    let values = value.split_ascii_whitespace().filter(|value| !is_hint(value));
                    demands.acr.extend(values.map(str::to_owned));
                }
                "claims" => demands.acr.extend(acr_of_claims(value)),
                "max_age" => demands.max_age = value.parse().ok(),
                _ => {}
            }
        }
        demands
    }

    /// How old the authentication may be.
    pub fn max_age(&self) -> Option<Duration> {
        self.max_age.map(Duration::from_secs)
    }
}

/// IdentityServer and those built on it take hints for their login page this way, which are no classes of
/// authentication: `idp:NAME`, `tenant:NAME`.
fn is_hint(value: &str) -> bool {
    ["idp:", "tenant:"].iter().any(|hint| value.starts_with(hint))
}

/// The values of `acr` that the `claims` parameter asks for the ID token (Core section 5.5.1.1). What is not there as it
/// should be demands nothing: the provider refuses it.
fn acr_of_claims(claims: &str) -> Vec<String> {
    let claims: Value = serde_json::from_str(claims).unwrap_or_default();
    let acr = &claims["id_token"]["acr"];
    let values = acr["values"].as_array().into_iter().flatten().chain(Some(&acr["value"]));
    values.filter_map(Value::as_str).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_what_is_demanded() {
        for (name, value, acr, max_age) in [
            ("acr_values", "urn:mfa", &["urn:mfa"][..], None),
            ("acr_values", "urn:mfa  phr phrh", &["urn:mfa", "phr", "phrh"], None),
            ("acr_values", "idp:Google tenant:acme", &[], None),
            ("acr_values", "idp:Google mfa", &["mfa"], None),
            ("max_age", "0", &[], Some(0)),
            ("max_age", "3600", &[], Some(3600)),
            ("claims", r#"{"id_token":{"acr":{"essential":true,"values":["a","b"]}}}"#, &["a", "b"], None),
            ("claims", r#"{"id_token":{"acr":{"value":"a"}}}"#, &["a"], None),
            ("claims", r#"{"id_token":{"acr":null,"auth_time":{"essential":true}}}"#, &[], None),
            ("claims", r#"{"userinfo":{"acr":{"value":"a"}}}"#, &[], None),
            ("claims", "no JSON", &[], None),
            ("prompt", "login", &[], None),
        ] {
            let demands = AuthenticationDemands::of(&[(name.to_owned(), Secret::new(value))]);
            assert_eq!(demands.acr, acr, "{name}={value}");
            assert_eq!(demands.max_age(), max_age.map(Duration::from_secs), "{name}={value}");
        }
    }

    #[test]
    fn it_is_written_as_shortly_as_it_can_be() {
        let none = AuthenticationDemands::default();
        assert_eq!(serde_json::to_string(&none).unwrap(), "{}");
        let some = AuthenticationDemands { acr: vec!["mfa".to_owned()], max_age: Some(0) };
        let written = serde_json::to_string(&some).unwrap();
        assert_eq!(written, r#"{"acr":["mfa"],"max_age":0}"#);
        assert_eq!(serde_json::from_str::<AuthenticationDemands>(&written).unwrap(), some);
    }
}
