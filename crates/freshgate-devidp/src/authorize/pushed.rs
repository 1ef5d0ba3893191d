//! Requests that a client leaves here before the browser comes (RFC 9126).

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::request::Way;
use super::{Asked, AuthorizeRequest, Refused};
use crate::parameters::Parameters;
use crate::provider::{Provider, SharedProvider};
use crate::state::REQUEST_LIFETIME;
use crate::token::{Proven, TokenError, authenticate};

/// By what a client proves itself: no part of what it asks for.
const OF_THE_PROOF: [&str; 3] = ["client_secret", "client_assertion", "client_assertion_type"];

/// POST `/par`.
pub(crate) async fn push(
    State(provider): State<SharedProvider>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, TokenError> {
    let form = Parameters::from_form(&headers, &body)?;
    let client = authenticate(&provider, &headers, &form)?;
    if form.get("request_uri").is_some() {
        return Err(TokenError::Request(
            "a pushed request cannot refer to another (RFC 9126 2.1)".to_owned(),
        ));
    }
    if form.get("client_id") != Some(&client.id) {
        return Err(TokenError::Request("client_id is not that of the client that asks".to_owned()));
    }
    let mut parameters = form.without(&OF_THE_PROOF);
    // RFC 9449 10.1: a proof says what `dpop_jkt` would.
    let proven = Proven { method: "POST", path: "/par", access_token: None };
    if let Some(key) = proven.key(&provider, &headers)?.map(String::from) {
        if parameters.get("dpop_jkt").is_some_and(|named| named != key) {
            return Err(TokenError::Request("dpop_jkt is another key than the proof's".to_owned()));
        }
        parameters.set("dpop_jkt", key);
    }
    let asked = Asked { parameters, way: Way::ToBePushed };
    check(&provider, &asked)?;
    let now = provider.now();
    let reference =
        provider.ledger.change(|state| state.keep_request(&client.id, asked.parameters.encoded(), now));
    let body = json!({"request_uri": reference, "expires_in": REQUEST_LIFETIME.as_secs()});
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((StatusCode::CREATED, headers, body.to_string()).into_response())
}

/// The same rules as at the authorization endpoint (RFC 9126 2.1).
fn check(provider: &Provider, asked: &Asked) -> Result<(), TokenError> {
    match AuthorizeRequest::read(provider, asked) {
        Ok(_) => Ok(()),
        Err(Refused::Page(unanswerable)) => Err(TokenError::Request(unanswerable.to_string())),
        Err(Refused::Redirect { error, description, .. }) => {
            Err(TokenError::Authorization { error, description })
        }
    }
}
