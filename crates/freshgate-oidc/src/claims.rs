//! Claims: what a provider says of a user.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::{discovery::Issuer, time::Timestamp};

/// What a provider says of a user, by claim name (Core section 2 and 5.1).
pub type Claims = Map<String, Value>;

/// A claim that must be text. A missing one, and one of another type, are both `None`.
pub(crate) fn text<'a>(claims: &'a Claims, name: &str) -> Option<&'a str> {
    claims.get(name).and_then(Value::as_str)
}

/// A claim that must be a point in time.
pub(crate) fn date(claims: &Claims, name: &str) -> Option<Timestamp> {
    claims.get(name).and_then(Timestamp::from_numeric_date)
}

/// When the user last proved who they are. 0, which is what some providers write when they do not know, is absence.
pub(crate) fn auth_time(claims: &Claims) -> Option<Timestamp> {
    date(claims, "auth_time").filter(|at| at.as_unix_millis() > 0)
}

/// The audiences of a token: one text, or an array of texts (RFC 7519 section 4.1.3). `None` if it is neither.
pub(crate) fn audience(claims: &Claims) -> Option<Vec<String>> {
    match claims.get("aud")? {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(several) => several.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Whether this can be a `sub` (Core section 2): 1 to 255 ASCII characters. Control characters are no way to name anyone.
pub(crate) fn is_subject(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
}

/// What an error says of a token that has expired. The number shows an operator whether a clock is off.
pub(crate) fn how_late(ago: Option<Duration>) -> String {
    match ago {
        Some(ago) => format!("expired {} s ago", ago.as_secs()),
        None => "has no expiry".to_owned(),
    }
}

/// What an error says of a token that was issued in the future.
pub(crate) fn how_early(ahead: Option<Duration>) -> String {
    match ahead {
        Some(ahead) => format!("was issued {} s in the future", ahead.as_secs()),
        None => "has no issue time".to_owned(),
    }
}

/// Whether a token is for us (Core section 3.1.3.7, rule 3): it names us, and no one else whom we do not trust.
pub(crate) fn is_for(claims: &Claims, client_id: &str, trusted: &[String]) -> bool {
    audience(claims).is_some_and(|audience| {
        audience.iter().any(|one| one == client_id)
            && audience.iter().all(|one| one == client_id || trusted.contains(one))
    })
}

/// Whether a token says that it is from this issuer, letter by letter.
pub(crate) fn is_from(claims: &Claims, issuer: &Issuer) -> bool {
    text(claims, "iss") == Some(issuer.as_str())
}

/// That a token has not expired. Else: how long ago it has, if it says.
pub(crate) fn not_expired(claims: &Claims, now: Timestamp, leeway: Duration) -> Result<(), Option<Duration>> {
    match date(claims, "exp") {
        Some(expiry) if now < expiry + leeway => Ok(()),
        expiry => Err(expiry.map(|at| now.saturating_since(at))),
    }
}

/// That a token was issued in the past, however long ago. Else: how far in the future, if it says.
pub(crate) fn issued_before(
    claims: &Claims,
    now: Timestamp,
    leeway: Duration,
) -> Result<(), Option<Duration>> {
    match date(claims, "iat") {
        Some(issued) if issued <= now + leeway => Ok(()),
        issued => Err(issued.map(|at| at.saturating_since(now))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn audiences() {
        for (aud, found) in [
            (json!("a"), Some(vec!["a"])),
            (json!(["a"]), Some(vec!["a"])),
            (json!(["a", "b"]), Some(vec!["a", "b"])),
            (json!([]), Some(vec![])),
            (json!(["a", 1]), None),
            (json!({"a": 1}), None),
            (json!(null), None),
        ] {
            let claims = Claims::from_iter([("aud".to_owned(), aud.clone())]);
            let found = found.map(|found| found.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(audience(&claims), found, "{aud}");
        }
        assert_eq!(audience(&Claims::new()), None);
    }

    #[test]
    fn subjects() {
        assert!(is_subject("248289761001"));
        assert!(is_subject(&"x".repeat(255)));
        assert!(!is_subject(""));
        assert!(!is_subject(&"x".repeat(256)));
        assert!(!is_subject("jürgen"));
        assert!(!is_subject("two\nlines"));
    }
}
