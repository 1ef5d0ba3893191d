//! What may be asked for besides: parameters of one login, or of all logins at a provider.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

use crate::operator_text::one_line;

/// What only this crate sets in an authorization request. A second `state` is as bad as none.
pub(super) const PROTOCOL_PARAMETERS: &[&str] = &[
    "response_type",
    "response_mode",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
    "redirect_uri",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
    "registration",
    "dpop_jkt",
];

/// Where an access token is to be used (RFC 8707 section 2): an absolute URI without fragment, kept as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ResourceIndicator(String);

impl ResourceIndicator {
    /// Takes a URI. Fails if it is relative or has a fragment.
    pub fn parse(text: &str) -> Result<Self, ParameterError> {
        match Url::parse(text) {
            Ok(url) if url.fragment().is_none() => Ok(Self(text.to_owned())),
            _ => Err(ParameterError::malformed("resource", "an absolute URI without fragment")),
        }
    }

    /// The URI.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ResourceIndicator {
    type Error = ParameterError;

    fn try_from(text: String) -> Result<Self, ParameterError> {
        Self::parse(&text)
    }
}

impl From<ResourceIndicator> for String {
    fn from(resource: ResourceIndicator) -> Self {
        resource.0
    }
}

/// A parameter that cannot be set from outside, or not so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParameterError {
    /// It is the protocol's.
    #[error("the authorization parameter `{name}` cannot be set: the protocol needs it")]
    Reserved {
        /// Its name.
        name: String,
    },
    /// Its value is none for it.
    #[error("the authorization parameter `{name}` must be {expected}")]
    Malformed {
        /// Its name.
        name: String,
        /// What it must be.
        expected: &'static str,
    },
}

impl ParameterError {
    fn malformed(name: &str, expected: &'static str) -> Self {
        Self::Malformed { name: one_line(name, 60), expected }
    }
}

/// What is asked for besides what the protocol needs. Values are those of a user's login: they are not shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorizationParameters {
    /// The scopes to ask for, if not the usual ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<Vec<String>>,
    /// Where the access token is to be used, if not where it usually is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resources: Option<Vec<ResourceIndicator>>,
    /// All others. One without a value is not to be sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<(String, String)>,
}

impl AuthorizationParameters {
    /// These, each as [`set`](Self::set) takes it.
    pub fn of<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, ParameterError> {
        let mut parameters = Self::default();
        pairs.into_iter().try_for_each(|(name, value)| parameters.set(name, value))?;
        Ok(parameters)
    }

    /// Sets a parameter, such as `prompt`, `acr_values` or `audience`; the last value counts. An empty one takes the
    /// parameter away, where something else sets it.
    ///
    /// `scope` takes the place of the usual scopes, and `resource` (RFC 8707; several are separated by spaces, which no URI
    /// has) that of the usual resources. Fails for what the protocol itself sets.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), ParameterError> {
        if PROTOCOL_PARAMETERS.contains(&name) {
            return Err(ParameterError::Reserved { name: name.to_owned() });
        }
        let is_name = (1..=64).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_name {
            return Err(ParameterError::malformed(name, "named in 1 to 64 visible ASCII characters"));
        }
        let words = || value.split_ascii_whitespace();
        match name {
            "scope" => self.scope = Some(words().map(str::to_owned).collect()),
            "resource" => {
                self.resources = Some(words().map(ResourceIndicator::parse).collect::<Result<_, _>>()?);
            }
            // Digits alone: the type's own reading takes a sign, too.
            "max_age"
                if !value.is_empty()
                    && (value.parse::<u64>().is_err()
                        || !value.bytes().all(|byte| byte.is_ascii_digit())) =>
            {
                return Err(ParameterError::malformed(name, "a whole number of seconds, 0 or more"));
            }
            _ => {
                self.others.retain(|(other, _)| other != name);
                self.others.push((name.to_owned(), value.to_owned()));
            }
        }
        Ok(())
    }

    /// These, and what `later` sets on top.
    #[must_use]
    pub fn and(&self, later: &Self) -> Self {
        let replaced = |name: &str| later.others.iter().any(|(other, _)| other == name);
        let kept = self.others.iter().filter(|(name, _)| !replaced(name));
        Self {
            scope: later.scope.clone().or_else(|| self.scope.clone()),
            resources: later.resources.clone().or_else(|| self.resources.clone()),
            others: kept.chain(&later.others).cloned().collect(),
        }
    }

    /// The scopes, if they are not the usual ones.
    pub fn scope(&self) -> Option<&[String]> {
        self.scope.as_deref()
    }

    /// Where the access token is to be used.
    pub fn resources(&self) -> &[ResourceIndicator] {
        self.resources.as_deref().unwrap_or_default()
    }

    /// The others that are to be sent.
    pub fn others(&self) -> impl Iterator<Item = (&str, &str)> {
        let sent = self.others.iter().filter(|(_, value)| !value.is_empty());
        sent.map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many characters all of it has.
    pub fn length(&self) -> usize {
        let scope = self.scope.iter().flatten().map(String::len);
        let resources = self.resources.iter().flatten().map(|resource| resource.0.len());
        let others = self.others.iter().map(|(name, value)| name.len() + value.len());
        scope.chain(resources).chain(others).sum()
    }
}

/// Names alone: a `login_hint` names a person.
impl fmt::Debug for AuthorizationParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthorizationParameters")
            .field("scope", &self.scope)
            .field("resources", &self.resources)
            .field("others", &self.others.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> Result<AuthorizationParameters, ParameterError> {
        AuthorizationParameters::of(pairs.iter().copied())
    }

    #[test]
    fn what_the_protocol_sets_cannot_be_set() {
        for name in PROTOCOL_PARAMETERS {
            let error = parameters(&[(name, "x")]).unwrap_err();
            assert_eq!(error, ParameterError::Reserved { name: (*name).to_owned() });
        }
        for (name, value, said) in [
            ("", "x", "visible ASCII"),
            ("a b", "x", "visible ASCII"),
            ("ä", "x", "visible ASCII"),
            (&"x".repeat(65), "x", "visible ASCII"),
            ("max_age", "soon", "whole number of seconds"),
            ("max_age", "-1", "whole number of seconds"),
            ("max_age", "1.5", "whole number of seconds"),
            ("resource", "/api", "absolute URI without fragment"),
            ("resource", "https://api.example/#x", "absolute URI without fragment"),
            ("resource", "https://api.example/ api", "absolute URI without fragment"),
        ] {
            let error = parameters(&[(name, value)]).unwrap_err().to_string();
            assert!(error.contains(said), "{name}={value}: {error}");
        }
    }

    #[test]
    fn the_last_value_counts_and_an_empty_one_takes_away() {
        let usual = parameters(&[
            ("prompt", "select_account"),
            ("audience", "api"),
            ("scope", "openid email"),
            ("resource", "https://api.example"),
        ])
        .unwrap();
        let others = |parameters: &AuthorizationParameters| -> Vec<(String, String)> {
            parameters.others().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
        };
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(usual.and(&AuthorizationParameters::default()), usual);
        for (later, scope, resources, expected) in [
            (
                &[("prompt", "login")][..],
                "openid email",
                "https://api.example",
                pairs(&[("audience", "api"), ("prompt", "login")]),
            ),
            (&[("prompt", "")], "openid email", "https://api.example", pairs(&[("audience", "api")])),
            (
                &[("max_age", ""), ("max_age", "0"), ("audience", "")],
                "openid email",
                "https://api.example",
                pairs(&[("prompt", "select_account"), ("max_age", "0")]),
            ),
            (&[("scope", "openid drive")], "openid drive", "https://api.example", others(&usual)),
            (
                &[("resource", "urn:a https://b.example/?x=1")],
                "openid email",
                "urn:a https://b.example/?x=1",
                others(&usual),
            ),
            (&[("resource", "")], "openid email", "", others(&usual)),
        ] {
            let both = usual.and(&parameters(later).unwrap());
            assert_eq!(both.scope().unwrap().join(" "), scope, "{later:?}");
            let found: Vec<&str> = both.resources().iter().map(ResourceIndicator::as_str).collect();
            assert_eq!(found.join(" "), resources, "{later:?}");
            assert_eq!(others(&both), expected, "{later:?}");
            let written = serde_json::to_string(&both).unwrap();
            assert_eq!(serde_json::from_str::<AuthorizationParameters>(&written).unwrap(), both);
        }
        assert_eq!(
            usual.length(),
            "prompt".len()
                + "select_account".len()
                + "audience".len()
                + "api".len()
                + "openid".len()
                + "email".len()
                + "https://api.example".len()
        );
        assert!(
            !format!("{:?}", parameters(&[("login_hint", "alice@example.com")]).unwrap()).contains("alice")
        );
    }
}
