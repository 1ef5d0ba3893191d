//! What an app is told of its user, besides the session's handle.

use std::{sync::Arc, time::Duration};

use freshgate::{
    Engine,
    engine::{Opened, RefreshError, RefreshFailure, TryLater},
    session::{OpenSession, SessionKey},
};
use freshgate_oidc::{AssertionKey, Claims, Secret};
use http::{HeaderName, HeaderValue, header::AUTHORIZATION};
use serde_json::{Value, json};

use super::UpstreamError;

/// The header by which an app gets an assertion.
const FRESHGATE_ASSERTION: HeaderName = HeaderName::from_static("freshgate-assertion");
const X_FORWARDED_USER: HeaderName = HeaderName::from_static("x-forwarded-user");
const X_FORWARDED_EMAIL: HeaderName = HeaderName::from_static("x-forwarded-email");
const X_FORWARDED_PREFERRED_USERNAME: HeaderName = HeaderName::from_static("x-forwarded-preferred-username");
const X_FORWARDED_GROUPS: HeaderName = HeaderName::from_static("x-forwarded-groups");

/// How long an assertion is good, in seconds.
const ASSERTION_LIFETIME: i64 = 60;

/// How long a request waits for a token that has to be refreshed first.
const PATIENCE: Duration = Duration::from_secs(20);

/// Headers that are added to a request.
pub(super) type ToldHeaders = Vec<(HeaderName, HeaderValue)>;

/// What an app is told of a signed-in visitor. What it is told by is taken out of every request first, whoever sent it.
#[derive(Clone)]
pub struct HandOff {
    /// Who knows.
    pub engine: Engine,
    /// Whether it is told the user by the headers that oauth2-proxy uses: `X-Forwarded-User` (`sub`), `-Email`,
    /// `-Preferred-Username` and `-Groups`.
    pub headers: bool,
    /// Whether it gets the access token: `Authorization: Bearer`, refreshed first if it is about to expire.
    pub bearer: bool,
    /// By what assertions it is told who the user is, if it is: `Freshgate-Assertion`.
    pub assertion: Option<Assertions>,
    /// Whether it is told an e-mail address that the provider does not call verified.
    pub unverified_email: bool,
}

/// How assertions for one app are made.
#[derive(Clone)]
pub struct Assertions {
    /// What signs them.
    pub key: Arc<AssertionKey>,
    /// Who says it: the gate's public address.
    pub issuer: String,
    /// To whom: the app's public address.
    pub audience: String,
}

impl Assertions {
    /// An assertion about the session's user, good for this request: a minute.
    fn assert(&self, engine: &Engine, session: &OpenSession, unverified_email: bool) -> Secret {
        let now = engine.clock().now().as_unix_seconds();
        let mut claims = json!({
            "iss": self.issuer,
            "aud": self.audience,
            "iat": now,
            "exp": now + ASSERTION_LIFETIME,
            "sid": session.key().to_string(),
        });
        let known = session.claims();
        for name in ["sub", "email", "preferred_username", "name", "groups"] {
            if let Some(value) = known.get(name)
                && (name != "email" || unverified_email || freshgate_web::is_email_verified(known))
            {
                claims[name] = value.clone();
            }
        }
        self.key.sign(&claims)
    }
}

impl HandOff {
    /// The headers for a request of this session. With a token that lives this asks nobody. A refresh that is waited for
    /// goes on if the future is dropped.
    pub(super) async fn tell(&self, key: SessionKey) -> Result<ToldHeaders, UpstreamError> {
        let mut told = ToldHeaders::new();
        if self.bearer {
            let (fresh, _) = self.engine.fresh(key, None, PATIENCE).await.map_err(UpstreamError::NotFresh)?;
            // A token that is bound to a key is good with a proof for each request alone, which only the caller can ask for.
            let is_bearer = fresh.session().tokens().token_type.eq_ignore_ascii_case("Bearer");
            let value = HeaderValue::try_from(format!("Bearer {}", fresh.access_token().expose()));
            if let (true, Ok(mut value)) = (is_bearer, value) {
                value.set_sensitive(true);
                told.push((AUTHORIZATION, value));
            }
            self.tell_claims(fresh.session(), &mut told);
        } else {
            self.tell_claims(&self.open(key).await?, &mut told);
        }
        Ok(told)
    }

    async fn open(&self, key: SessionKey) -> Result<OpenSession, UpstreamError> {
        match self.engine.open(key).await {
            Ok(Opened::Open(session)) => Ok(session),
            Ok(Opened::Ended(_) | Opened::Unknown) => Err(UpstreamError::SessionEnded),
            Err(error) => {
                let later = TryLater {
                    retry_after: Duration::from_secs(1),
                    failure: RefreshFailure::Store(error.into()),
                };
                Err(UpstreamError::NotFresh(RefreshError::TryLater(later)))
            }
        }
    }

    fn tell_claims(&self, session: &OpenSession, told: &mut ToldHeaders) {
        if let Some(assertions) = &self.assertion {
            let assertion = assertions.assert(&self.engine, session, self.unverified_email);
            // It is base64url and dots.
            if let Ok(mut value) = HeaderValue::try_from(assertion.expose()) {
                value.set_sensitive(true);
                told.push((FRESHGATE_ASSERTION, value));
            }
        }
        if self.headers {
            told.extend(claims_as_headers(session.claims(), self.unverified_email));
        }
    }
}

/// The user as oauth2-proxy tells it. A claim that a header cannot hold is left out.
fn claims_as_headers(
    claims: &Claims,
    unverified_email: bool,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> + use<> {
    let text = |name: &str| claims.get(name).and_then(Value::as_str).and_then(header_value);
    let email = text("email").filter(|_| unverified_email || freshgate_web::is_email_verified(claims));
    [
        (X_FORWARDED_USER, text("sub")),
        (X_FORWARDED_EMAIL, email),
        (X_FORWARDED_PREFERRED_USERNAME, text("preferred_username")),
        (X_FORWARDED_GROUPS, groups(claims).as_deref().and_then(header_value)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

/// The groups with commas between them. One whose name has a comma would read as two, of which the user need not be a
/// member: it is left out.
fn groups(claims: &Claims) -> Option<String> {
    let named: Vec<&str> = match claims.get("groups")? {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().filter_map(Value::as_str).collect(),
        _ => return None,
    };
    let plain: Vec<&str> =
        named.into_iter().filter(|name| !name.contains(',') && !name.trim().is_empty()).collect();
    (!plain.is_empty()).then(|| plain.join(","))
}

/// As UTF-8. Spaces at its ends would not arrive, so such a text is none that can be told.
fn header_value(text: &str) -> Option<HeaderValue> {
    (!text.is_empty() && text.trim() == text).then(|| HeaderValue::from_bytes(text.as_bytes()).ok())?
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn told(claims: Value, unverified_email: bool) -> Vec<String> {
        let Value::Object(claims) = claims else { panic!("claims are an object") };
        claims_as_headers(&claims, unverified_email)
            .map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes())))
            .collect()
    }

    #[test]
    fn claims_become_headers() {
        let whole = json!({
            "sub": "ada", "email": "ada@example.com", "email_verified": true, "preferred_username": "ada.l",
            "groups": ["staff", "board"],
        });
        let headers = [
            "x-forwarded-user: ada",
            "x-forwarded-email: ada@example.com",
            "x-forwarded-preferred-username: ada.l",
            "x-forwarded-groups: staff,board",
        ];
        assert_eq!(told(whole, false), headers);
        // What is left of claims that are not plain.
        let table: [(Value, &[&str]); 9] = [
            (json!({"sub": "ada", "email": "ada@example.com"}), &["x-forwarded-user: ada"]),
            (json!({"sub": "ada", "email": "a@b", "email_verified": false}), &["x-forwarded-user: ada"]),
            (json!({"sub": "ada\r\nx-forwarded-groups: admin"}), &[]),
            (json!({"sub": " ada"}), &[]),
            (json!({"sub": 5, "preferred_username": null}), &[]),
            (json!({"sub": "Zoë"}), &["x-forwarded-user: Zoë"]),
            (json!({"groups": ["staff", "a,admin", "", 5]}), &["x-forwarded-groups: staff"]),
            (json!({"groups": "staff"}), &["x-forwarded-groups: staff"]),
            (json!({"groups": {"admin": true}}), &[]),
        ];
        for (claims, expected) in table {
            assert_eq!(told(claims.clone(), false), expected, "{claims}");
        }
        assert_eq!(told(json!({"email": "a@b"}), true), ["x-forwarded-email: a@b"]);
    }
}
