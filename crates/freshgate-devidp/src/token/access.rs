//! Access tokens as they come back to us (RFC 6750).

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::clock::UnixTime;
use crate::config::DevUser;
use crate::provider::Provider;
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
    /// It is none of ours, it has expired, or it was revoked.
    BadToken(&'static str),
}

/// Whose access token came.
pub(crate) fn bearer(provider: &Provider, headers: &HeaderMap) -> Result<Bearer, NoAccess> {
    let authorization = headers.get(header::AUTHORIZATION).ok_or(NoAccess::NoToken)?;
    let (scheme, text) =
        authorization.to_str().ok().and_then(|value| value.split_once(' ')).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(NoAccess::NoToken);
    }
    let token = provider
        .seal
        .read_access_token(text.trim())
        .ok_or(NoAccess::BadToken("the access token is unknown"))?;
    if token.expires <= provider.now() {
        return Err(NoAccess::BadToken("the access token has expired"));
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
        let (challenge, body) = match self {
            NoAccess::NoToken => ("Bearer".to_owned(), json!({"error": "no access token came"})),
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
