//! What the sign-in page sends: who it is.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;

use super::answered_page::AnsweredPage;
use super::endpoint::refuse;
use super::{AuthorizeRequest, callback};
use crate::browser;
use crate::pages::{self, PickProblem, claims_from_text};
use crate::parameters::Parameters;
use crate::provider::{Provider, SharedProvider};

/// POST `/sign-in` with `user`, or with `claims` that describe one, or with `cancel`.
pub(crate) async fn sign_in(
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
    if page.form.get("cancel").is_some() {
        let description = "the user turned back on the sign-in page";
        return callback::with_error(&provider, request.return_address(), "access_denied", description);
    }
    let sub = match chosen(&provider, &page.form) {
        Ok(sub) => sub,
        Err(problem) => {
            let session = browser::session(&provider, &headers);
            return pages::pick(&provider, &request, &page.brought, session.as_ref(), Some(problem));
        }
    };

    let cookie = browser::session_cookie(&provider, &headers);
    let now = provider.now();
    let signed_in = provider.ledger.change(|state| state.sign_in(&sub, cookie, now));
    tracing::info!(%sub, "signed in at the provider");
    let mut response = if request.prompt.consent {
        pages::consent(&provider, &request, &page.brought, &signed_in.session)
    } else {
        callback::with_code(&provider, &request, &signed_in.session)
    };
    browser::remember(&provider, &signed_in.cookie, &mut response);
    response
}

/// Who was chosen or typed in; a user typed in is there from now on.
fn chosen(provider: &Provider, form: &Parameters) -> Result<String, PickProblem> {
    if let Some(sub) = form.get("user") {
        let is_known = provider.ledger.read(|state| state.user(sub).is_some());
        return if is_known { Ok(sub.to_owned()) } else { Err(PickProblem::NoSuchUser(sub.to_owned())) };
    }
    let user = claims_from_text(form.get("claims").unwrap_or_default()).map_err(PickProblem::Claims)?;
    let sub = user.sub.clone();
    provider.ledger.change(|state| state.put_user(user));
    Ok(sub)
}
