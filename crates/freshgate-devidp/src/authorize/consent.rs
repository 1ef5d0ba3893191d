//! What the consent page sends: yes or no.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::answered_page::AnsweredPage;
use super::endpoint::refuse;
use super::{AuthorizeRequest, callback};
use crate::provider::SharedProvider;
use crate::{browser, pages};

/// POST `/consent` with `decision`: `allow` or anything else.
pub(crate) async fn consent(
    State(provider): State<SharedProvider>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let page = match AnsweredPage::read(&provider, &headers, &body) {
        Ok(page) => page,
        Err(answer) => return answer,
    };
    let request = match AuthorizeRequest::read(&provider, &page.asked) {
        Ok(request) => request,
        Err(refused) => return refuse(&provider, refused),
    };
    if page.form.get("decision") != Some("allow") {
        let description = "the user did not consent";
        return callback::with_error(&provider, request.return_address(), "access_denied", description);
    }
    match browser::session(&provider, &headers) {
        Some(session) => callback::with_code(&provider, &request, &session),
        // Signed out in another tab in the meantime: ask again who it is.
        None => pages::pick(&provider, &request, &page.brought, None, None),
    }
}
