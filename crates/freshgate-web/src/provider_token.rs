//! Streamlit's signed provider name: what `st.login("name")` puts into `provider=`.
//!
//! A JWT (RFC 7519) under HMAC-SHA-256, keyed with the app's `cookie_secret`, that names the provider and lives for two
//! minutes. It proves nothing that we rely on, as a provider may also be named in the clear: it is read so that apps
//! work unchanged.

use aws_lc_rs::hmac;
use freshgate::{Secret, Timestamp};
use freshgate_oidc::from_base64url;
use serde::Deserialize;

/// No name is so long that its token would be longer.
const LONGEST: usize = 2048;

/// Why a token names no provider.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProviderTokenError {
    #[error("the provider token is malformed")]
    Malformed,
    #[error("the provider token is not signed with the app's cookie_secret")]
    Signature,
    #[error("the provider token is over")]
    Expired,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Payload {
    provider: String,
    exp: f64,
}

/// Whether this can be a token: provider names hold no dots.
pub(crate) fn looks_like_token(text: &str) -> bool {
    text.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// The name of the provider in a signed token.
pub(crate) fn verify(token: &str, key: &Secret, now: Timestamp) -> Result<String, ProviderTokenError> {
    use ProviderTokenError::{Expired, Malformed, Signature};
    if token.len() > LONGEST {
        return Err(Malformed);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(Malformed)?;
    let (header, payload) = signed.split_once('.').ok_or(Malformed)?;
    let signature = from_base64url(signature).ok_or(Malformed)?;
    let header: Header = from_json(header).ok_or(Malformed)?;
    // `alg` chooses nothing here; but a token that claims another one was not made for us (RFC 8725 section 3.1).
    if header.alg != "HS256" || header.crit.is_some() {
        return Err(Malformed);
    }
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes());
    hmac::verify(&key, signed.as_bytes(), &signature).map_err(|_| Signature)?;
    let payload: Payload = from_json(payload).ok_or(Malformed)?;
    if payload.exp > now.as_unix_seconds_f64() { Ok(payload.provider) } else { Err(Expired) }
}

fn from_json<T: for<'de> Deserialize<'de>>(part: &str) -> Option<T> {
    serde_json::from_slice(&from_base64url(part)?).ok()
}

#[cfg(test)]
mod tests {
    use freshgate_oidc::base64url;

    use super::*;

    const KEY: &str = "a cookie secret";

    fn token(header: &str, payload: &str, key: &str) -> String {
        let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(payload.as_bytes()));
        let key = hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes());
        format!("{signed}.{}", base64url(hmac::sign(&key, signed.as_bytes()).as_ref()))
    }

    #[test]
    fn only_a_signed_and_living_token_names_a_provider() {
        use ProviderTokenError::{Expired, Malformed, Signature};
        let hs256 = r#"{"alg":"HS256","typ":"JWT"}"#;
        let google = r#"{"provider":"google","exp":1000}"#;
        let good = token(hs256, google, KEY);
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let table = [
            (good.clone(), 999, Ok("google".to_owned())),
            (token(hs256, r#"{"provider":"x","exp":1000.5}"#, KEY), 1000, Ok("x".to_owned())),
            (good.clone(), 1000, Err(Expired)),
            (token(hs256, google, "another secret"), 1, Err(Signature)),
            (token(hs256, google, ""), 1, Err(Signature)),
            (format!("{signed}."), 1, Err(Signature)),
            (format!("{signed}.{}", &signature[..42]), 1, Err(Malformed)),
            (
                format!(
                    "{}.{}.{signature}",
                    base64url(hs256.as_bytes()),
                    base64url(br#"{"provider":"evil","exp":9999}"#)
                ),
                1,
                Err(Signature),
            ),
            (token(r#"{"alg":"none"}"#, google, KEY), 1, Err(Malformed)),
            (token(r#"{"alg":"hs256"}"#, google, KEY), 1, Err(Malformed)),
            (token(r#"{"alg":"HS512"}"#, google, KEY), 1, Err(Malformed)),
            (token(r#"{"alg":"HS256","crit":["x"]}"#, google, KEY), 1, Err(Malformed)),
            (token("{}", google, KEY), 1, Err(Malformed)),
            (token(hs256, r#"{"provider":"google"}"#, KEY), 1, Err(Malformed)),
            (token(hs256, r#"{"exp":1000}"#, KEY), 1, Err(Malformed)),
            (token(hs256, r#"{"provider":1,"exp":1000}"#, KEY), 1, Err(Malformed)),
            (token(hs256, r#"{"provider":"x","exp":"1000"}"#, KEY), 1, Err(Malformed)),
            (token(hs256, "nonsense", KEY), 1, Err(Malformed)),
            ("..".to_owned(), 1, Err(Malformed)),
            (".".repeat(LONGEST + 1), 1, Err(Malformed)),
            (format!("{good}="), 1, Err(Malformed)),
        ];
        for (token, now, expected) in table {
            let now = Timestamp::from_unix_seconds(now);
            assert_eq!(verify(&token, &Secret::new(KEY), now), expected, "{token}");
        }
    }

    #[test]
    fn names_are_no_tokens() {
        assert!(looks_like_token("a.b.c"));
        for name in ["default", "google", "a.b", "a.b.c.d", ""] {
            assert!(!looks_like_token(name), "{name}");
        }
    }
}
