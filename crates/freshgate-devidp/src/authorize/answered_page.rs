//! What comes back from a page that was shown in the middle of an authorization request.

use axum::http::HeaderMap;
use axum::response::Response;

use super::endpoint::refuse;
use super::{Asked, Refused};
use crate::parameters::Parameters;
use crate::provider::Provider;
use crate::{browser, pages};

/// A form of ours, with the request that it was shown for.
pub(super) struct AnsweredPage {
    /// The form itself.
    pub(super) form: Parameters,
    /// The authorization request as the browser had brought it.
    pub(super) brought: Parameters,
    /// What it asks for, not yet read.
    pub(super) asked: Asked,
}

impl AnsweredPage {
    /// Reads a form. Its field `request` holds the authorization request as a query: the page is all that remembers it,
    /// so any number of sign-ins can go on side by side. An error is the answer to give.
    #[expect(clippy::result_large_err, reason = "the response is sent, not passed around")]
    pub(super) fn read(
        provider: &Provider,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<AnsweredPage, Response> {
        if !browser::posts_from_our_page(provider, headers) {
            return Err(pages::not_from_our_page(provider));
        }
        let read = || {
            let form = Parameters::from_form(headers, body)?;
            let brought = Parameters::parse(form.get("request").unwrap_or_default().as_bytes())?;
            let asked = Asked::by_browser(provider, &brought)?;
            Ok(AnsweredPage { form, brought, asked })
        };
        read().map_err(|refused: Refused<'_>| refuse(provider, refused))
    }
}
