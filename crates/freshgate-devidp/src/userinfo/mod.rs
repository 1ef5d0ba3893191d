//! What is known about the user whose access token came (Core 5.3).

use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use crate::provider::SharedProvider;
use crate::token::{NoAccess, Resource, bearer, released_claims};

/// GET and POST `/userinfo`: the claims as they are now, not as they were at sign-in.
pub(crate) async fn userinfo(
    State(provider): State<SharedProvider>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, NoAccess> {
    let bearer = bearer(&provider, &Resource { method: &method, path: "/userinfo" }, &headers)?;
    let mut claims = released_claims(&bearer.user, &bearer.grant.scope);
    claims.insert("sub".to_owned(), bearer.user.sub.into());
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    Ok((headers, Value::Object(claims).to_string()).into_response())
}
