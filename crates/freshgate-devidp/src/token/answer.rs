//! A successful answer of the token endpoint (RFC 6749 5.1, Core 3.1.3.3).

use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::id_token::id_token;
use super::seal::{AccessToken, RefreshToken};
use crate::clock::UnixTime;
use crate::provider::Provider;
use crate::state::Grant;

/// What is handed out for a grant.
pub(super) struct Handed<'a> {
    pub(super) access: AccessToken,
    pub(super) refresh: Option<RefreshToken>,
    pub(super) scope: &'a [String],
    pub(super) nonce: Option<&'a str>,
    pub(super) now: UnixTime,
}

pub(super) fn answer(provider: &Provider, grant: &Grant, handed: Handed<'_>) -> Response {
    let access_token = provider.seal.access_token(handed.access);
    let mut body = json!({
        "access_token": access_token,
        "token_type": if handed.access.key.is_some() { "DPoP" } else { "Bearer" },
        "expires_in": handed.access.expires.since(handed.now).as_secs(),
        "scope": handed.scope.join(" "),
        "id_token": id_token(provider, grant, &handed, &access_token),
    });
    if let Some(refresh) = handed.refresh {
        let good_from = provider
            .config
            .refresh_token_not_before
            .and_then(|not_before| Some(grant.refresh.as_ref()?.good_from(not_before)));
        body["refresh_token"] = provider.seal.refresh_token(refresh, good_from).into();
    }
    tracing::info!(client = %grant.client_id, sub = %grant.sub, grant = %handed.access.grant, "handed out tokens");
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (headers, body.to_string()).into_response()
}
