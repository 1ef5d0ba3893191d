//! The token endpoint (RFC 6749 3.2).

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::dpop::{DpopError, Proven};
use super::error::TokenError;
use super::{authorization_code, client, refresh};
use crate::config::Dpop;
use crate::parameters::Parameters;
use crate::provider::{Provider, SharedProvider};

/// POST `/token`.
pub(crate) async fn token(
    State(provider): State<SharedProvider>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, TokenError> {
    respond(&provider, &headers, &body)
}

fn respond(provider: &Provider, headers: &HeaderMap, body: &[u8]) -> Result<Response, TokenError> {
    let form = Parameters::from_form(headers, body)?;
    let client = client::authenticate(provider, headers, &form)?;
    // Before anything is spent: who is told to prove it otherwise asks again.
    let key = Proven { method: "POST", path: "/token", access_token: None }.key(provider, headers)?;
    if key.is_none() && provider.config.dpop == Dpop::Required {
        return Err(DpopError::Proof("there is none").into());
    }
    match form.get("grant_type") {
        Some("authorization_code") => authorization_code::redeem(provider, client, &form, key),
        Some("refresh_token") => refresh::refresh(provider, client, &form, key),
        Some(_) => Err(TokenError::GrantType),
        None => Err(TokenError::Missing("grant_type")),
    }
}
