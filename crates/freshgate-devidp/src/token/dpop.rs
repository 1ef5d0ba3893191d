//! Proofs that a client holds a key, and tokens that are bound to it (DPoP, RFC 9449).

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use url::Url;

use crate::config::DpopNonces;
use crate::provider::{Provider, SharedProvider};
use crate::random::{base64url, from_base64url, random_text, sha256};
use crate::signing::{Parts, VerifyingKey};

const PROOF: HeaderName = HeaderName::from_static("dpop");
const NONCE: HeaderName = HeaderName::from_static("dpop-nonce");
/// A proof is for one request, at once.
const LIFETIME: Duration = Duration::from_secs(60);
/// How far ahead of ours the client's clock may be.
const LEEWAY: Duration = Duration::from_secs(10);

/// By what a key is known (RFC 7638).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Thumbprint([u8; Thumbprint::LENGTH]);

impl Thumbprint {
    pub(crate) const LENGTH: usize = 32;

    /// Of a public JWK: the members that make the key, in the order of their names, without white space.
    fn of(jwk: &Value) -> Thumbprint {
        let member = |name: &str| Some(format!("{name:?}:{}", Value::from(jwk.get(name)?.as_str()?)));
        let members: Vec<String> =
            ["crv", "e", "kty", "n", "x", "y"].iter().filter_map(|name| member(name)).collect();
        Thumbprint(sha256(format!("{{{}}}", members.join(",")).as_bytes()))
    }

    pub(crate) fn from_bytes(bytes: [u8; Thumbprint::LENGTH]) -> Thumbprint {
        Thumbprint(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Thumbprint::LENGTH] {
        &self.0
    }

    pub(crate) fn parse(text: &str) -> Option<Thumbprint> {
        Some(Thumbprint(from_base64url(text)?.try_into().ok()?))
    }
}

impl From<Thumbprint> for String {
    fn from(thumbprint: Thumbprint) -> String {
        base64url(&thumbprint.0)
    }
}

impl TryFrom<String> for Thumbprint {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Thumbprint, &'static str> {
        Thumbprint::parse(&text).ok_or("not a key's thumbprint")
    }
}

/// Why a proof proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DpopError {
    #[error("the DPoP proof cannot be accepted: {0}")]
    Proof(&'static str),
    /// The answer brings the one that is wanted.
    #[error("the DPoP proof must have the nonce of the last answer")]
    Nonce,
}

impl DpopError {
    pub(crate) fn code(self) -> &'static str {
        match self {
            DpopError::Proof(_) => "invalid_dpop_proof",
            DpopError::Nonce => "use_dpop_nonce",
        }
    }
}

/// The request that a proof is about.
pub(crate) struct Proven<'r> {
    pub(crate) method: &'r str,
    /// The path of the endpoint.
    pub(crate) path: &'r str,
    /// The access token that it carries, if it carries one.
    pub(crate) access_token: Option<&'r str>,
}

impl Proven<'_> {
    /// The key that the client proves it holds, by the checks of RFC 9449 4.3 in their order. `None`: it sends no proof.
    pub(crate) fn key(
        &self,
        provider: &Provider,
        headers: &HeaderMap,
    ) -> Result<Option<Thumbprint>, DpopError> {
        const BAD: fn(&'static str) -> DpopError = DpopError::Proof;
        let mut proofs = headers.get_all(PROOF).iter();
        let Some(proof) = proofs.next() else { return Ok(None) };
        if proofs.next().is_some() {
            return Err(BAD("there are two"));
        }
        let token = proof.to_str().ok().and_then(Parts::of).ok_or(BAD("it is not a signed JWT"))?;
        let claims: Map<String, Value> =
            serde_json::from_slice(&token.claims).map_err(|_| BAD("its claims are no JSON object"))?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let jti = text("jti").ok_or(BAD("jti is missing"))?;
        let htm = text("htm").ok_or(BAD("htm is missing"))?;
        let htu = text("htu").ok_or(BAD("htu is missing"))?;
        let iat = claims.get("iat").and_then(Value::as_i64).ok_or(BAD("iat is missing"))?;
        if token.header.typ.as_deref() != Some("dpop+jwt") {
            return Err(BAD("typ is not dpop+jwt"));
        }
        let jwk = token.header.others.get("jwk").ok_or(BAD("jwk is missing"))?;
        // One with a private part is none that verifies, nor is there one for `none` or HMAC.
        let key = VerifyingKey::of_jwk(jwk).ok_or(BAD("jwk is no public key"))?;
        if !key.signed(&token) {
            return Err(BAD("its jwk has not signed it"));
        }
        if htm != self.method {
            return Err(BAD("htm is another method"));
        }
        if address(htu) != address(&provider.issuer.endpoint(self.path)) {
            return Err(BAD("htu is another address"));
        }
        provider.nonces.check(text("nonce"))?;
        let now = provider.now();
        if iat > now.after(LEEWAY).seconds() {
            return Err(BAD("it is from the future"));
        }
        if iat.saturating_add(LIFETIME.as_secs().try_into().unwrap_or(i64::MAX)) < now.seconds() {
            return Err(BAD("it is too old"));
        }
        if let Some(access_token) = self.access_token
            && text("ath") != Some(&base64url(&sha256(access_token.as_bytes())))
        {
            return Err(BAD("ath is not the hash of the access token"));
        }
        let remembered = LIFETIME + LEEWAY;
        if !provider.ledger.change(|state| state.use_once("proof", &format!("{htu} {jti}"), now, remembered))
        {
            return Err(BAD("it was used before"));
        }
        Ok(Some(Thumbprint::of(jwk)))
    }
}

/// An address without query and fragment, in the one way that it is written.
fn address(text: &str) -> Option<Url> {
    let mut url = Url::parse(text).ok()?;
    url.set_query(None);
    url.set_fragment(None);
    Some(url)
}

/// What proofs must hold to be known for new, if anything (RFC 9449 8 and 9).
pub(crate) struct Nonces(Option<Mutex<String>>);

impl Nonces {
    pub(crate) fn new(wanted: DpopNonces) -> Nonces {
        Nonces(match wanted {
            DpopNonces::NotWanted => None,
            DpopNonces::Wanted => Some(Mutex::new(random_text::<16>())),
        })
    }

    /// Wants another one from now on.
    pub(crate) fn replace(&self) {
        if let Some(nonce) = &self.0 {
            *nonce.lock().unwrap_or_else(PoisonError::into_inner) = random_text::<16>();
        }
    }

    fn check(&self, found: Option<&str>) -> Result<(), DpopError> {
        let wanted = self.current();
        if wanted.is_none() || wanted.as_deref() == found { Ok(()) } else { Err(DpopError::Nonce) }
    }

    fn current(&self) -> Option<String> {
        Some(self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// Tells every client, with every answer, what its next proof is to hold.
pub(crate) async fn hand_out_nonce(
    State(provider): State<SharedProvider>,
    mut response: Response,
) -> Response {
    if let Some(nonce) = provider.nonces.current().and_then(|nonce| HeaderValue::try_from(nonce).ok()) {
        response.headers_mut().insert(NONCE, nonce);
    }
    response
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Thumbprint, address};

    #[test]
    fn thumbprints() {
        // RFC 9449 6.1, RFC 8037 A.3.
        for (jwk, expected) in [
            (
                json!({
                    "kty": "EC", "crv": "P-256",
                    "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
                    "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
                }),
                "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
            ),
            (
                json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "1"}),
                "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
            ),
        ] {
            assert_eq!(String::from(Thumbprint::of(&jwk)), expected);
            assert_eq!(Thumbprint::parse(expected), Some(Thumbprint::of(&jwk)));
        }
    }

    #[test]
    fn addresses_are_compared_without_what_does_not_count() {
        let ours = address("http://127.0.0.1:9400/token");
        for same in [
            "http://127.0.0.1:9400/token?a=b#c",
            "HTTP://127.0.0.1:9400/token",
            "http://127.0.0.1:9400/./token",
        ] {
            assert_eq!(address(same), ours, "{same}");
        }
        for other in [
            "http://127.0.0.1/token",
            "https://127.0.0.1:9400/token",
            "http://127.0.0.1:9400/token/",
            "/token",
        ] {
            assert_ne!(address(other), ours, "{other}");
        }
    }
}
