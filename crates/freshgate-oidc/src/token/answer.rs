//! What the token endpoint answered (RFC 6749 sections 5.1 and 5.2, OpenID Connect Core sections 3.1.3.3 and 12.2).

use std::time::{Duration, UNIX_EPOCH};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::RawIdToken;
use crate::{dpop::ExpectedTokenType, operator_text::free_text, secret::Secret, time::Timestamp};

/// The answer of a token endpoint, by what to do about it.
#[derive(Debug)]
#[non_exhaustive]
pub enum TokenAnswer {
    /// Tokens. Nothing about the ID token is checked yet.
    Granted(TokenGrant),
    /// The request was understood and refused; the same request will not succeed later.
    Refused(TokenRefusal),
    /// The request could not be answered now.
    Unavailable {
        /// The HTTP status. One of success if what came with it is nothing of a token endpoint, such as a page that says
        /// that the provider is being maintained.
        status: u16,
        /// Whether it may have been acted upon all the same: the provider failed midway, or a gateway in front of it did
        /// not see its answer.
        may_have_acted: bool,
        /// How long to wait before the next request, as the provider wishes: the caller bounds it.
        retry_after: Option<Duration>,
    },
    /// Tokens were granted, but the answer cannot be used.
    Malformed {
        /// What is wrong with it.
        what: WhyMalformed,
        /// The refresh token in it, if one can be read. The one that was sent may be dead: keep this one.
        refresh_token: Option<Secret>,
    },
}

impl TokenAnswer {
    /// More than this is no token answer. Whoever fetches one reads as much: what is cut off may be a new refresh token.
    pub const MAX_BYTES: usize = 4 * 1024 * 1024;

    /// The same answer, if its access token is of an expected type; else one that cannot be used.
    #[must_use]
    pub fn expecting(self, expected: ExpectedTokenType) -> Self {
        match self {
            Self::Granted(grant) if !expected.includes(&grant.token_type) => {
                Self::Malformed { what: WhyMalformed::OtherTokenType, refresh_token: grant.refresh_token }
            }
            other => other,
        }
    }
}

/// What a token endpoint granted.
#[derive(Debug)]
pub struct TokenGrant {
    /// The access token. Visible ASCII, so it can stand in a header.
    pub access_token: Secret,
    /// `Bearer` or `DPoP`, spelled so whatever the case of the answer. Whether it is the one that was asked for,
    /// [`expecting`](TokenAnswer::expecting) says.
    pub token_type: String,
    /// How long the access token lives, if the answer says so.
    pub expires_in: Option<Duration>,
    /// The next refresh token. Without one the last one stays in use.
    pub refresh_token: Option<Secret>,
    /// The ID token. A refresh may come without.
    pub id_token: Option<RawIdToken>,
    /// What the access token may do. Without it, what was asked for (RFC 6749 section 5.1).
    pub scope: Option<String>,
}

/// What a token endpoint refused, or an endpoint for pushed authorization requests (RFC 9126 section 2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRefusal {
    /// The HTTP status.
    pub status: u16,
    /// The `error` of the answer, fit for a log. `None`: there was none, as in an empty body or a page of HTML. Then it
    /// may have been a proxy's answer rather than the provider's.
    pub code: Option<String>,
    /// What the provider adds, for the operator's log alone: one line, capped, with what looks like a token removed.
    pub description: Option<String>,
    /// What it means.
    pub kind: RefusalKind,
}

impl TokenRefusal {
    /// Whether the same request may be sent again with the nonce that came along (RFC 9449 section 8): it was not looked
    /// at.
    pub fn wants_dpop_nonce(&self) -> bool {
        self.code.as_deref() == Some("use_dpop_nonce")
    }

    /// Whether it is said of a proof, or of its absence (RFC 9449 sections 5 and 8).
    pub fn is_about_dpop_proofs(&self) -> bool {
        self.wants_dpop_nonce() || self.code.as_deref() == Some("invalid_dpop_proof")
    }
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The code or refresh token is no longer good: the user must sign in again.
    InvalidGrant,
    /// We are not known, or not allowed to do this, or do not prove what we must: the operator must mend the
    /// configuration. Signing in again will not help.
    InvalidClient,
    /// Anything else. Some providers answer so to a refresh token that is no longer good.
    Other,
}

/// Why an answer that should have held tokens cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WhyMalformed {
    /// It is larger than any token answer.
    #[error("the token answer is too large")]
    TooLarge,
    /// It is a JSON object cut short, or broken, or one with a member twice.
    #[error("the token answer is not a whole JSON object without duplicate members")]
    NotJson,
    /// It has no access token, or none that could stand in a header.
    #[error("the token answer has no usable access token")]
    AccessToken,
    /// The access token is of a type that we cannot use (RFC 6749 section 7.1).
    #[error("the token answer's token type is neither Bearer nor DPoP")]
    TokenType,
    /// It is bound to a key where we proved none, or to none where it must be (RFC 9449 section 5).
    #[error("the token answer's token type is not the one that was asked for")]
    OtherTokenType,
    /// The ID token is not text.
    #[error("the token answer's ID token is not text")]
    IdToken,
    /// The refresh token is not text.
    #[error("the token answer's refresh token is not text")]
    RefreshToken,
}

/// Reads what a token endpoint answered. Never fails: whatever it answered is one of the outcomes.
///
/// `now` is for a `Retry-After` that is a date.
pub fn parse_token_answer(
    status: u16,
    content_type: Option<&str>,
    retry_after: Option<&str>,
    body: &[u8],
    now: Timestamp,
) -> TokenAnswer {
    let unavailable = |may_have_acted| TokenAnswer::Unavailable {
        status,
        may_have_acted,
        retry_after: retry_after.and_then(|text| parse_retry_after(text, now)),
    };
    match status {
        200..=299 => granted(status, content_type, body),
        _ => match refusal(status, body) {
            Ok(refusal) => TokenAnswer::Refused(refusal),
            Err(Unanswered { may_have_acted }) => unavailable(may_have_acted),
        },
    }
}

/// The request could not be answered now.
pub(crate) struct Unanswered {
    may_have_acted: bool,
}

/// What an answer other than success refuses.
pub(crate) fn refusal(status: u16, body: &[u8]) -> Result<TokenRefusal, Unanswered> {
    let unanswered = |may_have_acted| Err(Unanswered { may_have_acted });
    match status {
        408 | 429 => unanswered(false),
        400..=499 => match refused(status, body) {
            // Said of a moment, not of the request (RFC 6749 section 4.1.2.1, borrowed by some token endpoints).
            TokenRefusal { code: Some(code), .. } if code == "temporarily_unavailable" => unanswered(false),
            TokenRefusal { code: Some(code), .. } if code == "server_error" => unanswered(true),
            refusal => Ok(refusal),
        },
        // Failed midway (RFC 9110 section 15.6.1), or a gateway that did not see the provider's answer (15.6.3, 15.6.5; the
        // latter two are those of a gateway that many use).
        500 | 502 | 504 | 520 | 524 => unanswered(true),
        // A redirect comes from something that stands before the provider, such as a maintenance page.
        _ => unanswered(false),
    }
}

fn granted(status: u16, content_type: Option<&str>, body: &[u8]) -> TokenAnswer {
    let mut members = Members::default();
    let read = members.read(&body[..body.len().min(TokenAnswer::MAX_BYTES)]);
    let what = if body.len() > TokenAnswer::MAX_BYTES {
        WhyMalformed::TooLarge
    } else if read != Read::Whole && !members.hold_any_of_a_grant() && read != Read::CutShort {
        // A page for people comes from something that stands before the provider. What else this is nobody knows.
        return TokenAnswer::Unavailable {
            status,
            may_have_acted: !is_html(content_type, body),
            retry_after: None,
        };
    } else if read != Read::Whole || members.duplicate {
        WhyMalformed::NotJson
    } else if members.hold_an_error_alone() {
        // Some providers refuse with 200.
        return TokenAnswer::Refused(refused(status, body));
    } else if !members.hold_any_of_a_grant() {
        return TokenAnswer::Unavailable { status, may_have_acted: true, retry_after: None };
    } else {
        match members.grant() {
            Ok(grant) => return TokenAnswer::Granted(grant),
            Err(what) => what,
        }
    };
    TokenAnswer::Malformed { what, refresh_token: take_secret(&mut members.refresh_token) }
}

fn refused(status: u16, body: &[u8]) -> TokenRefusal {
    let mut members = Members::default();
    let body = &body[..body.len().min(TokenAnswer::MAX_BYTES)];
    let text = |value: &Option<Value>, limit| {
        let text = value.as_ref().and_then(Value::as_str).map(|text| free_text(text, limit));
        text.filter(|text| !text.is_empty())
    };
    let (code, description) = match members.read(body) {
        Read::Whole => (text(&members.error, 60), text(&members.error_description, 200)),
        Read::CutShort | Read::Broken => (None, None),
    };
    let kind = match code.as_deref() {
        Some("invalid_grant" | "invalid_token" | "expired_token" | "access_denied") => {
            RefusalKind::InvalidGrant
        }
        Some("login_required" | "interaction_required" | "consent_required") => RefusalKind::InvalidGrant,
        Some("invalid_client" | "unauthorized_client" | "unsupported_grant_type") => {
            RefusalKind::InvalidClient
        }
        // RFC 9449 sections 5 and 8: said of the proof, or of its absence, and not of the token.
        Some("invalid_dpop_proof" | "use_dpop_nonce") => RefusalKind::InvalidClient,
        None if status == 401 => RefusalKind::InvalidClient,
        _ => RefusalKind::Other,
    };
    TokenRefusal { status, code, description, kind }
}

fn is_html(content_type: Option<&str>, body: &[u8]) -> bool {
    content_type.is_some_and(|media_type| media_type.to_ascii_lowercase().contains("html"))
        || body.trim_ascii_start().first() == Some(&b'<')
}

/// How far a JSON object could be read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Whole,
    /// It begins as one, and ends midway.
    CutShort,
    /// It is none.
    Broken,
}

/// The members of an answer that mean something to us, as far as it could be read.
#[derive(Default)]
struct Members {
    access_token: Option<Value>,
    token_type: Option<Value>,
    expires_in: Option<Value>,
    refresh_token: Option<Value>,
    id_token: Option<Value>,
    scope: Option<Value>,
    error: Option<Value>,
    error_description: Option<Value>,
    duplicate: bool,
}

impl Members {
    /// Reads a JSON object member by member, so that what was read stays when the rest turns out to be bad.
    fn read(&mut self, json: &[u8]) -> Read {
        let mut parser = serde_json::Deserializer::from_slice(json);
        match self.deserialize(&mut parser).and_then(|()| parser.end()) {
            Ok(()) => Read::Whole,
            Err(error) if error.is_eof() && json.trim_ascii_start().first() == Some(&b'{') => Read::CutShort,
            Err(_) => Read::Broken,
        }
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<Value>> {
        Some(match name {
            "access_token" => &mut self.access_token,
            "token_type" => &mut self.token_type,
            "expires_in" => &mut self.expires_in,
            "refresh_token" => &mut self.refresh_token,
            "id_token" => &mut self.id_token,
            "scope" => &mut self.scope,
            "error" => &mut self.error,
            "error_description" => &mut self.error_description,
            _ => return None,
        })
    }

    /// Takes the tokens out, if all is well; else leaves them where they are.
    fn grant(&mut self) -> Result<TokenGrant, WhyMalformed> {
        match text(&self.access_token) {
            Ok(Some(token)) if token.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') => {}
            _ => return Err(WhyMalformed::AccessToken),
        }
        text(&self.refresh_token).map_err(|NotText| WhyMalformed::RefreshToken)?;
        text(&self.id_token).map_err(|NotText| WhyMalformed::IdToken)?;
        Ok(TokenGrant {
            token_type: self.token_type()?.to_owned(),
            access_token: take_secret(&mut self.access_token).ok_or(WhyMalformed::AccessToken)?,
            expires_in: self.expires_in.as_ref().and_then(seconds),
            refresh_token: take_secret(&mut self.refresh_token),
            id_token: take_secret(&mut self.id_token).map(RawIdToken::from),
            scope: text(&self.scope).ok().flatten().map(str::to_owned),
        })
    }

    /// RFC 6749 section 5.1: the case does not matter. One that is left out was always meant to be Bearer.
    fn token_type(&self) -> Result<&'static str, WhyMalformed> {
        match text(&self.token_type).map_err(|NotText| WhyMalformed::TokenType)? {
            None => Ok("Bearer"),
            Some(name) if name.eq_ignore_ascii_case("bearer") => Ok("Bearer"),
            Some(name) if name.eq_ignore_ascii_case("dpop") => Ok("DPoP"),
            Some(_) => Err(WhyMalformed::TokenType),
        }
    }

    /// Whether somebody granted something: a member that only a token answer has is there.
    fn hold_any_of_a_grant(&self) -> bool {
        let members =
            [&self.access_token, &self.token_type, &self.expires_in, &self.refresh_token, &self.id_token];
        members.into_iter().flatten().any(|member| !member.is_null())
    }

    fn hold_an_error_alone(&self) -> bool {
        let absent = |member| matches!(text(member), Ok(None));
        absent(&self.access_token) && absent(&self.refresh_token) && !absent(&self.error)
    }
}

struct NotText;

/// The text of a member. `null` and `""` are absence.
fn text(member: &Option<Value>) -> Result<Option<&str>, NotText> {
    match member {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(NotText),
    }
}

/// The text of a member, moved out, so that no copy is left to be wiped.
fn take_secret(member: &mut Option<Value>) -> Option<Secret> {
    match member.take()? {
        Value::String(text) if !text.is_empty() => Some(Secret::new(text)),
        _ => None,
    }
}

/// A lifetime: a number of seconds, or one in quotes. Less than nothing is nothing; what is no number is unknown.
fn seconds(value: &Value) -> Option<Duration> {
    let seconds = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse::<f64>().ok()?,
        _ => return None,
    };
    if seconds.is_nan() {
        return None;
    }
    Some(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

/// `Retry-After` (RFC 9110 section 10.2.3): seconds or a date.
fn parse_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() {
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let date = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((Timestamp::from_unix_millis(0) + date).saturating_since(now))
}

impl<'de> DeserializeSeed<'de> for &mut Members {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &mut Members {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while let Some(name) = members.next_key::<String>()? {
            match self.slot(&name) {
                None => {
                    members.next_value::<IgnoredAny>()?;
                }
                Some(slot) => {
                    let again = slot.is_some();
                    *slot = Some(members.next_value()?);
                    self.duplicate |= again;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
