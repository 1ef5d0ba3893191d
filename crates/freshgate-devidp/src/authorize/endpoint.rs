//! The authorization endpoint.

use axum::body::Bytes;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;

use super::callback;
use super::{Ask, Asked, AuthorizeRequest, Refused, decide};
use crate::parameters::{Parameters, ParametersError};
use crate::provider::{Provider, SharedProvider};
use crate::state::Session;
use crate::{browser, pages};

/// GET `/authorize`.
pub(crate) async fn get(
    State(provider): State<SharedProvider>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    answer(&provider, &headers, Parameters::parse(query.unwrap_or_default().as_bytes()))
}

/// POST `/authorize`: the same with the parameters in a form (Core 3.1.2.1).
pub(crate) async fn post(
    State(provider): State<SharedProvider>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    answer(&provider, &headers, Parameters::from_form(&headers, &body))
}

fn answer(
    provider: &Provider,
    headers: &HeaderMap,
    parameters: Result<Parameters, ParametersError>,
) -> Response {
    let read = || {
        let brought = parameters?;
        Ok((Asked::by_browser(provider, &brought)?, brought))
    };
    let (asked, parameters) = match read() {
        Ok(read) => read,
        Err(refused) => return refuse(provider, refused),
    };
    match AuthorizeRequest::read(provider, &asked) {
        Ok(request) => {
            let session = browser::session(provider, headers);
            next_step(provider, &request, &parameters, session.as_ref())
        }
        Err(refused) => refuse(provider, refused),
    }
}

/// Answers a request from a browser with this session: with a page, or for good.
fn next_step(
    provider: &Provider,
    request: &AuthorizeRequest<'_>,
    parameters: &Parameters,
    session: Option<&Session>,
) -> Response {
    match (decide(request, session, provider.now()), session) {
        (Ask::Consent, Some(session)) => pages::consent(provider, request, parameters, session),
        (Ask::Nothing, Some(session)) => callback::with_code(provider, request, session),
        (Ask::NotAllowedTo(error), _) => callback::with_error(
            provider,
            request.return_address(),
            error,
            "somebody must sign in, but no page may be shown",
        ),
        (Ask::Who | Ask::Consent | Ask::Nothing, _) => {
            pages::pick(provider, request, parameters, session, None)
        }
    }
}

pub(super) fn refuse(provider: &Provider, refused: Refused<'_>) -> Response {
    match refused {
        Refused::Page(unanswerable) => pages::unanswerable(provider, &unanswerable),
        Refused::Redirect { to, error, description } => {
            callback::with_error(provider, to, error, description)
        }
    }
}
