//! Access tokens as they come back to us (RFC 6750).

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::dpop::{DpopError, Proven};
use crate::clock::UnixTime;
use crate::config::DevUser;
use crate::provider::Provider;
use crate::signing::ALGORITHMS;
use crate::state::Grant;

/// Who calls with a good access token.
pub(crate) struct Bearer {
    pub(crate) grant: Grant,
    pub(crate) user: DevUser,
    pub(crate) expires: UnixTime,
}

/// Why a caller is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoAccess {
    NoToken,
    /// It is none of ours, it has expired, it was revoked, or it is bound to a key that the caller does not prove to hold.
    BadToken(&'static str),
    BadProof(DpopError),
}

/// An endpoint that wants an access token.
pub(crate) struct Resource<'r> {
    pub(crate) method: &'r Method,
    pub(crate) path: &'r str,
}

/// Whose access token came, as one that is good for whoever has it (RFC 6750) or with a proof (RFC 9449 7).
pub(crate) fn bearer(
    provider: &Provider,
    resource: &Resource<'_>,
    headers: &HeaderMap,
) -> Result<Bearer, NoAccess> {
    let authorization = headers.get(header::AUTHORIZATION).ok_or(NoAccess::NoToken)?;
    let (scheme, text) =
        authorization.to_str().ok().and_then(|value| value.split_once(' ')).unwrap_or_default();
    let text = text.trim();
    let key = match scheme.to_ascii_lowercase().as_str() {
        "bearer" => None,
        "dpop" => {
            let proven =
                Proven { method: resource.method.as_str(), path: resource.path, access_token: Some(text) };
            let key = proven.key(provider, headers).map_err(NoAccess::BadProof)?;
            Some(key.ok_or(NoAccess::BadProof(DpopError::Proof("there is none")))?)
        }
        _ => return Err(NoAccess::NoToken),
    };
    let token =
        provider.seal.read_access_token(text).ok_or(NoAccess::BadToken("the access token is unknown"))?;
    if token.expires <= provider.now() {
        return Err(NoAccess::BadToken("the access token has expired"));
    }
    if token.key != key {
        return Err(NoAccess::BadToken("the access token is bound to another key, or to none"));
    }
    provider.ledger.read(|state| {
        let grant = state.grant(token.grant).filter(|_| !state.is_access_token_revoked(&token.id()));
        let known = grant.and_then(|grant| Some((grant, state.user(&grant.sub)?)));
        let (grant, user) = known.ok_or(NoAccess::BadToken("the access token was revoked"))?;
        Ok(Bearer { grant: grant.clone(), user: user.clone(), expires: token.expires })
    })
}

impl IntoResponse for NoAccess {
    fn into_response(self) -> Response {
        let algorithms = ALGORITHMS.join(" ");
        let (challenge, body) = match self {
            NoAccess::NoToken => {
                (format!("Bearer, DPoP algs=\"{algorithms}\""), json!({"error": "no access token came"}))
            }
            NoAccess::BadProof(error) => (
                format!(
                    "DPoP error=\"{}\", error_description=\"{error}\", algs=\"{algorithms}\"",
                    error.code()
                ),
                json!({"error": error.code(), "error_description": error.to_string()}),
            ),
            NoAccess::BadToken(why) => (
                format!("Bearer error=\"invalid_token\", error_description=\"{why}\""),
                json!({"error": "invalid_token", "error_description": why}),
            ),
        };
        let challenge = HeaderValue::try_from(challenge).expect("our own texts are plain");
        let headers = [
            (header::WWW_AUTHENTICATE, challenge),
            (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        (StatusCode::UNAUTHORIZED, headers, body.to_string()).into_response()
    }
}
