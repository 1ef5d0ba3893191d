//! How the endpoints that clients ask say no (RFC 6749 5.2).

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::dpop::DpopError;
use crate::parameters::ParametersError;

/// Why there are no tokens.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TokenError {
    #[error(transparent)]
    Parameters(#[from] ParametersError),
    #[error("the parameter {0} is missing")]
    Missing(&'static str),
    #[error("the client authenticates in two ways at once")]
    TwoAuthentications,
    #[error("the client is unknown or does not prove itself")]
    Client,
    #[error(transparent)]
    Dpop(#[from] DpopError),
    #[error("the client assertion cannot be accepted: {0}")]
    Assertion(&'static str),
    #[error("{0}")]
    Request(String),
    /// What the authorization endpoint would have said.
    #[error("{description}")]
    Authorization { error: &'static str, description: &'static str },
    #[error("{0}")]
    Grant(&'static str),
    #[error("the scope was not granted")]
    Scope,
    #[error("grant_type must be authorization_code or refresh_token")]
    GrantType,
}

impl TokenError {
    fn code(&self) -> &'static str {
        match self {
            TokenError::Parameters(_)
            | TokenError::Missing(_)
            | TokenError::TwoAuthentications
            | TokenError::Request(_) => "invalid_request",
            TokenError::Authorization { error, .. } => error,
            TokenError::Dpop(error) => error.code(),
            TokenError::Client | TokenError::Assertion(_) => "invalid_client",
            TokenError::Grant(_) => "invalid_grant",
            TokenError::Scope => "invalid_scope",
            TokenError::GrantType => "unsupported_grant_type",
        }
    }
}

impl IntoResponse for TokenError {
    fn into_response(self) -> Response {
        let code = self.code();
        tracing::info!(error = code, reason = %self, "refused a client's request");
        let body = json!({"error": code, "error_description": self.to_string()}).to_string();
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        let status =
            if code == "invalid_client" { StatusCode::UNAUTHORIZED } else { StatusCode::BAD_REQUEST };
        let mut response = (status, headers, body).into_response();
        if self == TokenError::Client {
            let challenge = HeaderValue::from_static("Basic realm=\"freshgate-devidp\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}
