//! Taking a token back (RFC 7009).

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};

use super::client;
use super::error::TokenError;
use crate::config::DevClient;
use crate::parameters::Parameters;
use crate::provider::{Provider, SharedProvider};
use crate::state::GrantId;

/// POST `/revoke`: 200 for a token that is good no longer, whether or not it ever was.
///
/// A refresh token takes its whole grant along; an access token goes alone (RFC 7009 2.1).
pub(crate) async fn revoke(
    State(provider): State<SharedProvider>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, TokenError> {
    let form = Parameters::from_form(&headers, &body)?;
    let client = client::authenticate(&provider, &headers, &form)?;
    let text = form.get("token").ok_or(TokenError::Missing("token"))?;
    // The two kinds cannot be mistaken for each other, so token_type_hint says nothing new.
    if let Some(token) = provider.seal.read_refresh_token(text) {
        issued_to(&provider, client, token.grant)?;
        provider.ledger.change(|state| state.revoke_grant(token.grant));
    } else if let Some(token) = provider.seal.read_access_token(text) {
        issued_to(&provider, client, token.grant)?;
        provider.ledger.change(|state| state.revoke_access_token(&token.id(), token.expires));
    }
    Ok(StatusCode::OK)
}

fn issued_to(provider: &Provider, client: &DevClient, grant: GrantId) -> Result<(), TokenError> {
    let foreign =
        provider.ledger.read(|state| state.grant(grant).is_some_and(|grant| grant.client_id != client.id));
    if foreign { Err(TokenError::Grant("the token was issued to another client")) } else { Ok(()) }
}
