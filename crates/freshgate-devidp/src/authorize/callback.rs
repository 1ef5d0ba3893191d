//! The answer to the relying party: a redirect to its own address.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use url::Url;

use super::request::ReturnAddress;
use super::{AuthorizeRequest, Unanswerable};
use crate::pages;
use crate::provider::Provider;
use crate::state::{Code, Session};

/// Gives the code (RFC 6749 4.1.2).
pub(crate) fn with_code(provider: &Provider, request: &AuthorizeRequest<'_>, session: &Session) -> Response {
    let now = provider.now();
    let code = Code::new(request, session, now);
    let code = provider.ledger.change(|state| {
        let first_answer = request.pushed.is_none_or(|reference| state.answer_request(reference));
        first_answer.then(|| state.issue_code(code))
    });
    let Some(code) = code else {
        return pages::unanswerable(provider, &Unanswerable::UnknownRequestUri);
    };
    tracing::info!(client = %request.client.id, sub = %session.sub, "signed in at a client");
    redirect(provider, request.return_address(), &[("code", &code)])
}

/// Says why there is no code (RFC 6749 4.1.2.1).
pub(crate) fn with_error(
    provider: &Provider,
    to: ReturnAddress<'_>,
    error: &str,
    description: &str,
) -> Response {
    tracing::info!(error, description, "refused an authorization request");
    if let Some(reference) = to.pushed {
        provider.ledger.change(|state| state.answer_request(reference));
    }
    redirect(provider, to, &[("error", error), ("error_description", description)])
}

fn redirect(provider: &Provider, to: ReturnAddress<'_>, answer: &[(&str, &str)]) -> Response {
    // The text was compared with that of a registered, parsed address.
    let mut location = Url::parse(to.redirect_uri).expect("a registered redirect URI is an address");
    {
        let mut query = location.query_pairs_mut();
        query.extend_pairs(answer);
        query.extend_pairs(to.state.map(|state| ("state", state)));
        query.append_pair("iss", provider.issuer.as_str()); // RFC 9207 2
    }
    // 303: the browser must not repeat a form's POST at the relying party (RFC 9700 4.12).
    let headers = [(header::LOCATION, location.as_str()), (header::CACHE_CONTROL, "no-store")];
    (StatusCode::SEE_OTHER, headers).into_response()
}
