//! The callback: how the browser comes back (OpenID Connect Core sections 3.1.2.5 to 3.1.2.7, RFC 9207).

use std::fmt;

use url::form_urlencoded;

use crate::{
    discovery::{Issuer, ProviderMetadata},
    operator_text::free_text,
    secret::Secret,
};

/// What a browser brought back. Nothing in it is proved: anyone can send a browser here.
#[derive(Debug)]
pub struct CallbackParameters {
    state: Secret,
    issuer: Option<String>,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Code(Secret),
    Error(AuthorizationError),
}

/// The provider's reason for not signing the user in (RFC 6749 section 4.1.2.1, Core section 3.1.2.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationError {
    /// The code, such as `access_denied` or `login_required`, fit for a log.
    pub code: String,
    /// What the provider adds, for the operator's log alone: one line, capped, with what looks like a token removed.
    pub description: Option<String>,
}

impl fmt::Display for AuthorizationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.description {
            Some(description) => write!(f, "{}: {description}", self.code),
            None => f.write_str(&self.code),
        }
    }
}

/// Why a query is no callback at all.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedCallback {
    /// It is longer than any callback.
    #[error("the callback is longer than {limit} bytes")]
    TooLong {
        /// The limit.
        limit: usize,
    },
    /// A parameter of the protocol is there twice (RFC 6749 section 3.1).
    #[error("the callback has `{name}` twice")]
    Duplicate {
        /// Its name.
        name: &'static str,
    },
    /// It does not say which request it answers.
    #[error("the callback has no state")]
    NoState,
    /// It has neither a code nor an error.
    #[error("the callback has neither code nor error")]
    NoAnswer,
    /// It has both a code and an error.
    #[error("the callback has both code and error")]
    TwoAnswers,
}

impl CallbackParameters {
    /// More than this is no callback. Codes of some providers have thousands of characters.
    pub const MAX_BYTES: usize = 32 * 1024;

    /// Reads the query of the redirect back to us, without the `?`. Unknown parameters are ignored.
    pub fn parse(query: &str) -> Result<Self, MalformedCallback> {
        if query.len() > Self::MAX_BYTES {
            return Err(MalformedCallback::TooLong { limit: Self::MAX_BYTES });
        }
        let state = parameter(query, "state")?.ok_or(MalformedCallback::NoState)?;
        let issuer = parameter(query, "iss")?;
        let description = parameter(query, "error_description")?;
        let answer = match (parameter(query, "code")?, parameter(query, "error")?) {
            (Some(code), None) => Answer::Code(Secret::new(code)),
            (None, Some(error)) => Answer::Error(AuthorizationError {
                code: free_text(&error, 60),
                description: description.map(|text| free_text(&text, 200)).filter(|text| !text.is_empty()),
            }),
            (None, None) => return Err(MalformedCallback::NoAnswer),
            (Some(_), Some(_)) => return Err(MalformedCallback::TwoAnswers),
        };
        Ok(Self { state: Secret::new(state), issuer, answer })
    }

    /// Which request this claims to answer; what it was, the browser's own cookie must tell.
    pub fn state(&self) -> &Secret {
        &self.state
    }

    /// Checks that this answers the request that we sent, and that the provider it was sent to is the one that answers
    /// (RFC 9207 section 2.4). This alone makes an [`AuthorizedCode`].
    pub fn check(&self, expect: &ExpectedCallback<'_>) -> Result<AuthorizedCode, CallbackError> {
        if self.state != *expect.state {
            return Err(CallbackError::State);
        }
        match (&self.issuer, expect.issuer_parameter) {
            (Some(found), _) if found == expect.issuer.as_str() => {}
            (None, IssuerParameter::NotAdvertised) => {}
            (Some(_), _) => return Err(CallbackError::Issuer { expected: expect.issuer.clone() }),
            (None, IssuerParameter::Advertised) => return Err(CallbackError::NoIssuer),
        }
        match &self.answer {
            Answer::Code(code) => Ok(AuthorizedCode(code.clone())),
            Answer::Error(error) => Err(CallbackError::Provider(error.clone())),
        }
    }
}

/// One value of a parameter, if it is there and not empty (RFC 6749 section 3.1: empty counts as left out).
fn parameter(query: &str, name: &'static str) -> Result<Option<String>, MalformedCallback> {
    let mut values = form_urlencoded::parse(query.as_bytes()).filter(|(found, _)| found == name);
    let first = values.next().map(|(_, value)| value.into_owned());
    match values.next() {
        None => Ok(first.filter(|value| !value.is_empty())),
        Some(_) => Err(MalformedCallback::Duplicate { name }),
    }
}

/// What a callback must hold.
#[derive(Clone, Debug)]
pub struct ExpectedCallback<'a> {
    /// The state that was sent.
    pub state: &'a Secret,
    /// The provider that it was sent to.
    pub issuer: &'a Issuer,
    /// Whether that provider promises to name itself.
    pub issuer_parameter: IssuerParameter,
}

/// Whether a provider promises to put `iss` into every callback (RFC 9207 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IssuerParameter {
    /// It does: one without is not its own.
    Advertised,
    /// It does not. One with another's `iss` is refused all the same.
    NotAdvertised,
}

impl IssuerParameter {
    /// What this provider promises.
    pub fn of(metadata: &ProviderMetadata) -> Self {
        if metadata.authorization_response_iss_parameter_supported {
            Self::Advertised
        } else {
            Self::NotAdvertised
        }
    }
}

/// Why a callback brings no code that may be exchanged.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallbackError {
    /// It answers another request than the one of this browser.
    #[error("the callback's state is not the one that was sent")]
    State,
    /// It is from another provider than the one that was asked (mix-up).
    #[error("the callback is not from {expected}")]
    Issuer {
        /// The one that was asked.
        expected: Issuer,
    },
    /// It does not say from which provider it is, though that one promises to.
    #[error("the callback has no `iss`, which the provider promises")]
    NoIssuer,
    /// The provider did not sign the user in.
    #[error("the provider answered {0}")]
    Provider(AuthorizationError),
}

/// A code that answers our request and comes from the provider that was asked. Good for one exchange.
#[derive(Debug)]
pub struct AuthorizedCode(Secret);

impl AuthorizedCode {
    /// The code.
    pub fn as_secret(&self) -> &Secret {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, issuer_parameter: IssuerParameter) -> Result<String, CallbackError> {
        let expect = ExpectedCallback {
            state: &Secret::new("the state"),
            issuer: &Issuer::new("https://idp.example"),
            issuer_parameter,
        };
        let code = CallbackParameters::parse(query).unwrap().check(&expect)?;
        Ok(code.as_secret().expose().to_owned())
    }

    #[test]
    fn rfc_6749_4_1_2_what_is_a_callback() {
        for (query, outcome) in [
            ("code=c&state=s", None),
            ("state=s&code=c&session_state=x&scope=openid&scope=email", None),
            ("error=access_denied&state=s", None),
            ("code=&error=access_denied&state=s", None),
            ("", Some(MalformedCallback::NoState)),
            ("code=c", Some(MalformedCallback::NoState)),
            ("code=c&state=", Some(MalformedCallback::NoState)),
            ("state=s", Some(MalformedCallback::NoAnswer)),
            ("state=s&code=", Some(MalformedCallback::NoAnswer)),
            ("state=s&code=c&error=e", Some(MalformedCallback::TwoAnswers)),
            ("state=s&state=s&code=c", Some(MalformedCallback::Duplicate { name: "state" })),
            ("state=s&code=c&code=d", Some(MalformedCallback::Duplicate { name: "code" })),
            ("state=s&code=c&c%6fde=d", Some(MalformedCallback::Duplicate { name: "code" })),
            ("state=s&code=c&code=", Some(MalformedCallback::Duplicate { name: "code" })),
            ("state=s&code=c&iss=a&iss=a", Some(MalformedCallback::Duplicate { name: "iss" })),
            ("state=s&error=a&error=b", Some(MalformedCallback::Duplicate { name: "error" })),
            (
                "state=s&error=a&error_description=b&error_description=c",
                Some(MalformedCallback::Duplicate { name: "error_description" }),
            ),
            (
                &"x".repeat(CallbackParameters::MAX_BYTES + 1),
                Some(MalformedCallback::TooLong { limit: 32 * 1024 }),
            ),
        ] {
            assert_eq!(CallbackParameters::parse(query).err(), outcome, "{}", &query[..query.len().min(80)]);
        }
        // Bytes that are no UTF-8 are no state of ours, and no reason to fail otherwise.
        let callback = CallbackParameters::parse("state=%ff%fe&code=%00").unwrap();
        assert_eq!(callback.state().expose(), "\u{fffd}\u{fffd}");
    }

    #[test]
    fn rfc_9207_2_4_whom_it_comes_from() {
        use IssuerParameter::{Advertised, NotAdvertised};
        let wrong = || Err(CallbackError::Issuer { expected: Issuer::new("https://idp.example") });
        let code = || Ok("c+ d".to_owned());
        for (query, issuer_parameter, outcome) in [
            ("code=c%2B+d&state=the+state", NotAdvertised, code()),
            ("code=c%2B+d&state=the%20state&iss=https%3A%2F%2Fidp.example", NotAdvertised, code()),
            ("code=c%2B+d&state=the%20state&iss=https%3A%2F%2Fidp.example", Advertised, code()),
            ("code=c&state=the+state", Advertised, Err(CallbackError::NoIssuer)),
            ("code=c&state=the+state&iss=", Advertised, Err(CallbackError::NoIssuer)),
            ("code=c&state=the+state&iss=https://evil.example", Advertised, wrong()),
            ("code=c&state=the+state&iss=https://evil.example", NotAdvertised, wrong()),
            ("code=c&state=the+state&iss=https://idp.example/", Advertised, wrong()),
            ("code=c&state=the+state&iss=https://IDP.example", Advertised, wrong()),
            ("code=c&state=another&iss=https://idp.example", Advertised, Err(CallbackError::State)),
            ("error=access_denied&state=another", NotAdvertised, Err(CallbackError::State)),
            ("error=access_denied&state=the+state", Advertised, Err(CallbackError::NoIssuer)),
            ("error=access_denied&state=the+state&iss=https://evil.example", NotAdvertised, wrong()),
        ] {
            assert_eq!(check(query, issuer_parameter), outcome, "{query} {issuer_parameter:?}");
        }
    }

    #[test]
    fn the_providers_reason_is_fit_for_a_log() {
        let reason = |query: &str| match check(query, IssuerParameter::NotAdvertised).unwrap_err() {
            CallbackError::Provider(error) => error.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(reason("state=the+state&error=access_denied"), "access_denied");
        assert_eq!(
            reason(
                "state=the+state&error=login_required&error_description=Please%0d%0aFAKE%3a+sign+in%1b%5b2J"
            ),
            "login_required: Please FAKE: sign in [2J"
        );
        let long = format!("state=the+state&error={0}&error_description={0}", "no+".repeat(5000));
        assert!(reason(&long).chars().count() < 300);
    }

    #[test]
    fn nothing_secret_is_shown() {
        let callback = CallbackParameters::parse("code=the-code&state=the+state").unwrap();
        let expect = ExpectedCallback {
            state: &Secret::new("the state"),
            issuer: &Issuer::new("https://idp.example"),
            issuer_parameter: IssuerParameter::NotAdvertised,
        };
        let shown = format!("{callback:?} {expect:?} {:?}", callback.check(&expect));
        assert!(!shown.contains("the state") && !shown.contains("the-code"), "{shown}");
    }
}
