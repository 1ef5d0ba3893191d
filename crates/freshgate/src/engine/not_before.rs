//! Refresh tokens that are not good yet.
//!
//! Some providers issue refresh tokens that they take only shortly before the access token ends, and that are JWTs which say so
//! (`nbf`, RFC 7519 section 4.1.5). A token's content is none of a client's business otherwise; but one that is sent too
//! early is refused, and must not be taken for one that is over.

use freshgate_oidc::{Secret, Timestamp};

use super::record::Record;

/// From when on the provider takes a session's refresh token. `None`: the token says nothing of it.
///
/// Not later than the access token ends: whatever is meant by a token that is good only after that, nothing is gained by
/// waiting.
pub(super) fn usable_from(record: &Record) -> Option<Timestamp> {
    let from = said_in(record.refresh_token.as_ref()?)?;
    Some(record.tokens.expires_at.map_or(from, |expires_at| from.min(expires_at)))
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
