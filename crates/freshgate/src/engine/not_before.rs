//! Refresh tokens that are not good yet.
//!
//! Some providers issue refresh tokens that they take only shortly before the access token ends, and that are JWTs which say so
//! (`nbf`, RFC 7519 section 4.1.5). A token's content is none of a client's business otherwise; but one that is sent too
//! early is refused, and must not be taken for one that is over.

use std::time::Duration;

use freshgate_oidc::{Secret, Timestamp};

use super::{Engine, record::Record};

/// What lies further ahead is no time that anybody meant, such as one in milliseconds.
const FURTHEST: Duration = Duration::from_secs(366 * 86_400);

impl Engine {
    /// From when on a session's refresh token is sent. `None`: it says nothing of that.
    ///
    /// That is when it says, by our clock. Once the access token is over there is nothing to lose by asking, and the
    /// provider's clock may be ahead of ours: then it is sent earlier, by the leeway that clocks have.
    pub(super) fn usable_from(&self, record: &Record) -> Option<Timestamp> {
        let said = said_by(record, self.0.clock.now())?;
        let earliest = said - self.leeway(record);
        Some(record.tokens.expires_at.map_or(said, |expires_at| expires_at.clamp(earliest, said)))
    }

    /// A token that was sent then may have come too early, by the provider's clock: its refusal says nothing more. Yields
    /// until when that holds.
    pub(super) fn may_be_too_early(&self, record: &Record, sent_at: Timestamp) -> Option<Timestamp> {
        said_by(record, sent_at).map(|said| said + self.leeway(record)).filter(|until| sent_at < *until)
    }

    fn leeway(&self, record: &Record) -> Duration {
        let provider = self.0.providers.get(&record.provider);
        provider.map_or(Duration::ZERO, |provider| provider.config().clock_leeway)
    }
}

fn said_by(record: &Record, now: Timestamp) -> Option<Timestamp> {
    said_in(record.refresh_token.as_ref()?).filter(|said| *said < now + FURTHEST)
}

fn said_in(refresh_token: &Secret) -> Option<Timestamp> {
    #[derive(serde::Deserialize)]
    struct Payload {
        nbf: Option<i64>,
    }
    let (_, rest) = refresh_token.expose().split_once('.')?;
    let (payload, _) = rest.split_once('.')?;
    let payload = zeroize::Zeroizing::new(freshgate_oidc::from_base64url(payload)?);
    let payload: Payload = serde_json::from_slice(&payload).ok()?;
    payload.nbf.map(Timestamp::from_unix_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refresh_token_may_say_from_when_on_it_is_good() {
        let jwt = |payload: &str| format!("e30.{}.c2ln", freshgate_oidc::base64url(payload.as_bytes()));
        let table = [
            (jwt(r#"{"nbf":1795000000}"#), Some(1_795_000_000)),
            (jwt(r#"{"exp":1795000000}"#), None),
            (jwt(r#"{"nbf":"soon"}"#), None),
            (jwt("not JSON"), None),
            ("opaque".to_owned(), None),
            ("with.two.dots".to_owned(), None),
            ("one.dot".to_owned(), None),
            (String::new(), None),
        ];
        for (token, expected) in table {
            let expected = expected.map(Timestamp::from_unix_seconds);
            assert_eq!(said_in(&Secret::new(token.clone())), expected, "{token}");
        }
    }
}
