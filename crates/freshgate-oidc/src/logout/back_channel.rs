//! A logout at the provider, told by the provider itself (OpenID Connect Back-Channel Logout 1.0).

use std::time::Duration;

use crate::{
    claims::{self, Claims},
    discovery::Issuer,
    jwk::JwkSet,
    jws::{AllowedAlgorithms, JwsError, UnverifiedJws},
    secret::Secret,
    time::Timestamp,
};

/// A logout token as it came. Nothing in it is proved: its endpoint is open to anyone.
#[derive(Clone, Debug)]
pub struct RawLogoutToken(Secret);

/// What a logout token must hold.
#[derive(Clone, Debug)]
pub struct LogoutTokenExpectations<'a> {
    /// The provider.
    pub issuer: &'a Issuer,
    /// Our id at the provider.
    pub client_id: &'a str,
    /// How it may be signed: as this client's ID tokens are (Back-Channel Logout section 2.6, step 3).
    pub algorithms: &'a AllowedAlgorithms,
    /// The time.
    pub now: Timestamp,
    /// How far the provider's clock may be off.
    pub leeway: Duration,
}

/// Whose sessions a logout token ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogoutWho {
    /// Those that come from this session at the provider.
    Session {
        /// The provider's session.
        session_id: String,
        /// Its user, if named; a session of another user is not meant.
        subject: Option<String>,
    },
    /// All those of this user.
    Subject(String),
}

/// A logout token of which every rule held when it was verified. Whether it was used before is the caller's to know, by
/// [`token_id`](Self::token_id).
#[derive(Clone, Debug)]
pub struct VerifiedLogoutToken {
    issuer: Issuer,
    who: LogoutWho,
    token_id: String,
    expires_at: Timestamp,
}

impl VerifiedLogoutToken {
    /// Who says it.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Of whom.
    pub fn who(&self) -> &LogoutWho {
        &self.who
    }

    /// Unique to this token within the issuer (`jti`): one that was seen before is a replay.
    pub fn token_id(&self) -> &str {
        &self.token_id
    }

    /// Until when to remember [`token_id`](Self::token_id), with the leeway added.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

/// The rule that a logout token broke.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogoutTokenError {
    /// As a signed token it is not acceptable.
    #[error("the logout token is not acceptable")]
    Jws(#[from] JwsError),
    /// It is a signed token of another kind.
    #[error("it is not a logout token but {media_type}")]
    NotALogoutToken {
        /// The kind.
        media_type: String,
    },
    /// It is another provider's, or names none.
    #[error("the logout token is not from {expected}")]
    Issuer {
        /// The one that is known.
        expected: Issuer,
    },
    /// It is not for us alone.
    #[error("the logout token is not for this client alone")]
    Audience,
    /// It was issued in the future, or does not say when.
    #[error("the logout token {}", claims::how_early(*.ahead))]
    IssuedInFuture {
        /// How far in the future, if it says.
        ahead: Option<Duration>,
    },
    /// It has expired, or does not say when it does.
    #[error("the logout token {}", claims::how_late(*.ago))]
    Expired {
        /// How long ago, if it says.
        ago: Option<Duration>,
    },
    /// It says neither whose sessions nor which session.
    #[error("the logout token names neither a subject nor a session")]
    Nobody,
    /// It does not say that it is about a logout.
    #[error("the logout token has no logout event")]
    NoLogoutEvent,
    /// It has a nonce, so it may be an ID token put to another use.
    #[error("the logout token has a nonce")]
    Nonce,
    /// It has no id, so a replay could not be told.
    #[error("the logout token has no id")]
    NoTokenId,
}

impl LogoutTokenError {
    /// Whether the same token might pass with keys fetched anew (Core section 10.1.1). Limit the rate of doing so: anyone
    /// can send such a token.
    pub fn wants_newer_keys(&self) -> bool {
        matches!(self, Self::Jws(error) if error.wants_newer_keys())
    }
}

impl RawLogoutToken {
    /// Takes the token's text, the `logout_token` of the form (section 2.5).
    pub fn new(token: impl Into<String>) -> Self {
        Self(Secret::new(token))
    }

    /// Who says they issued it: for choosing the provider to verify it against, and for nothing else.
    pub fn claimed_issuer(&self) -> Option<Issuer> {
        let claims = UnverifiedJws::parse(self.0.expose()).ok()?.claims().ok()?;
        claims::text(&claims, "iss").map(Issuer::new)
    }

    /// Checks the token as OpenID Connect Back-Channel Logout section 2.6 demands.
    pub fn verify(
        &self,
        keys: &JwkSet,
        expect: &LogoutTokenExpectations<'_>,
    ) -> Result<VerifiedLogoutToken, LogoutTokenError> {
        verify_by(RULES, self, keys, expect)
    }
}

/// The rules, in the order of section 2.6 but for the signature: it comes last, so that a token that could not be meant
/// for us never makes us fetch keys. Encryption (step 1) is refused by the parser; `jti` replay (step 8) is the caller's.
const RULES: &[Rule] = &[
    Rule { name: "it is a logout token", check: it_is_a_logout_token },
    Rule { name: "no extensions", check: it_demands_no_extensions },
    Rule { name: "issuer", check: the_issuer_is_the_expected_one },
    Rule { name: "audience", check: the_audience_is_us },
    Rule { name: "issue time", check: it_was_issued_in_the_past },
    Rule { name: "expiry", check: it_has_not_expired },
    Rule { name: "somebody", check: it_names_somebody },
    Rule { name: "event", check: it_tells_of_a_logout },
    Rule { name: "no nonce", check: it_has_no_nonce },
    Rule { name: "token id", check: it_has_an_id },
    Rule { name: "algorithm", check: the_algorithm_is_allowed },
    Rule { name: "signature", check: a_key_of_the_issuer_signed_it },
];

/// One rule. By their names tests take rules out one by one, to show that each refuses what no other does.
struct Rule {
    #[cfg_attr(not(test), expect(dead_code, reason = "tests take rules out by name"))]
    name: &'static str,
    check: fn(&Candidate, &JwkSet, &LogoutTokenExpectations<'_>) -> Result<(), LogoutTokenError>,
}

struct Candidate {
    jws: UnverifiedJws,
    claims: Claims,
}

/// Verifies by some of the rules.
fn verify_by<'r>(
    rules: impl IntoIterator<Item = &'r Rule>,
    token: &RawLogoutToken,
    keys: &JwkSet,
    expect: &LogoutTokenExpectations<'_>,
) -> Result<VerifiedLogoutToken, LogoutTokenError> {
    let jws = UnverifiedJws::parse(token.0.expose())?;
    let claims = jws.claims()?;
    let candidate = Candidate { jws, claims };
    rules.into_iter().try_for_each(|rule| (rule.check)(&candidate, keys, expect))?;
    let claims = &candidate.claims;
    Ok(VerifiedLogoutToken {
        issuer: expect.issuer.clone(),
        who: who(claims).ok_or(LogoutTokenError::Nobody)?,
        token_id: claims::text(claims, "jti").unwrap_or_default().to_owned(),
        expires_at: claims::date(claims, "exp").unwrap_or(expect.now),
    })
}

fn who(claims: &Claims) -> Option<LogoutWho> {
    let subject = match claims.get("sub") {
        None => None,
        Some(subject) => Some(subject.as_str().filter(|subject| claims::is_subject(subject))?.to_owned()),
    };
    match claims.get("sid") {
        None => subject.map(LogoutWho::Subject),
        Some(session_id) => {
            let session_id = session_id.as_str().filter(|session_id| !session_id.is_empty())?.to_owned();
            Some(LogoutWho::Session { session_id, subject })
        }
    }
}

/// Section 2.4: `logout+jwt` is recommended; many providers write `JWT` or nothing.
fn it_is_a_logout_token(
    token: &Candidate,
    _: &JwkSet,
    _: &LogoutTokenExpectations<'_>,
) -> Result<(), LogoutTokenError> {
    match token.jws.header.another_kind_than("logout+jwt") {
        Some(media_type) => Err(LogoutTokenError::NotALogoutToken { media_type }),
        None => Ok(()),
    }
}

/// RFC 7515 section 4.1.11.
fn it_demands_no_extensions(
    token: &Candidate,
    _: &JwkSet,
    _: &LogoutTokenExpectations<'_>,
) -> Result<(), LogoutTokenError> {
    Ok(token.jws.demands_no_extensions()?)
}

/// Step 4.
fn the_issuer_is_the_expected_one(
    token: &Candidate,
    _: &JwkSet,
    expect: &LogoutTokenExpectations<'_>,
) -> Result<(), LogoutTokenError> {
    if claims::is_from(&token.claims, expect.issuer) {
        Ok(())
    } else {
        Err(LogoutTokenError::Issuer { expected: expect.issuer.clone() })
    }
}

/// Step 4.
fn the_audience_is_us(
    token: &Candidate,
    _: &JwkSet,
    expect: &LogoutTokenExpectations<'_>,
) -> Result<(), LogoutTokenError> {
    if claims::is_for(&token.claims, expect.client_id, &[]) {
        Ok(())
    } else {
        Err(LogoutTokenError::Audience)
    }
}

/// Step 4.
fn it_was_issued_in_the_past(
    token: &Candidate,
    _: &JwkSet,
    expect: &LogoutTokenExpectations<'_>,
) -> Result<(), LogoutTokenError> {
    claims::issued_before(&token.claims, expect.now, expect.leeway)
        .map_err(|ahead| LogoutTokenError::IssuedInFuture { ahead })
}

/// Step 4.
fn it_has_not_expired(
    token: &Candidate,
    _: &JwkSet,
    expect: &LogoutTokenExpectations<'_>,
) -> Result<(), LogoutTokenError> {
    claims::not_expired(&token.claims, expect.now, expect.leeway)
        .map_err(|ago| LogoutTokenError::Expired { ago })
}

/// Step 5.
fn it_names_somebody(
    token: &Candidate,
    _: &JwkSet,
    _: &LogoutTokenExpectations<'_>,
) -> Result<(), LogoutTokenError> {
    if who(&token.claims).is_some() { Ok(()) } else { Err(LogoutTokenError::Nobody) }
}

/// Step 6: an object with this member, which is an object itself.
fn it_tells_of_a_logout(
    token: &Candidate,
    _: &JwkSet,
    _: &LogoutTokenExpectations<'_>,
) -> Result<(), LogoutTokenError> {
    let events = token.claims.get("events").and_then(|events| events.as_object());
    match events.and_then(|events| events.get("http://schemas.openid.net/event/backchannel-logout")) {
        Some(event) if event.is_object() => Ok(()),
        _ => Err(LogoutTokenError::NoLogoutEvent),
    }
}

/// Step 7.
fn it_has_no_nonce(
    token: &Candidate,
    _: &JwkSet,
    _: &LogoutTokenExpectations<'_>,
) -> Result<(), LogoutTokenError> {
    if token.claims.contains_key("nonce") { Err(LogoutTokenError::Nonce) } else { Ok(()) }
}

/// Section 2.4: `jti` is required.
fn it_has_an_id(
    token: &Candidate,
    _: &JwkSet,
    _: &LogoutTokenExpectations<'_>,
) -> Result<(), LogoutTokenError> {
    match claims::text(&token.claims, "jti") {
        Some(id) if !id.is_empty() => Ok(()),
        _ => Err(LogoutTokenError::NoTokenId),
    }
}

/// Step 3.
fn the_algorithm_is_allowed(
    token: &Candidate,
    _: &JwkSet,
    expect: &LogoutTokenExpectations<'_>,
) -> Result<(), LogoutTokenError> {
    Ok(token.jws.algorithm_is_allowed(expect.algorithms)?)
}

/// Step 2.
fn a_key_of_the_issuer_signed_it(
    token: &Candidate,
    keys: &JwkSet,
    _: &LogoutTokenExpectations<'_>,
) -> Result<(), LogoutTokenError> {
    Ok(token.jws.a_key_verifies_the_signature(keys)?)
}

#[cfg(test)]
mod tests;
