//! What people see.
//!
//! Owns the looks of every page and the pages for editing users. Each page is shown by one function here; what its
//! buttons do is decided where they are posted to. No page needs JavaScript.

mod claims;
mod messages;
mod person;
mod sign_in;
mod users;

use std::collections::BTreeSet;
use std::sync::LazyLock;

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use url::Url;

pub(crate) use claims::claims_from_text;
pub(crate) use messages::{
    cannot_end_session, confirm_sign_out, not_from_our_page, signed_out, signing_out, still_signed_in,
    unanswerable,
};
pub(crate) use sign_in::{PickProblem, consent, pick};
pub(crate) use users::{add_user, edit_user, list_users, save_user, sign_out};

/// The one stylesheet, part of every page.
pub(crate) const STYLE: &str = include_str!("../../templates/style.css");

/// Nothing runs on our pages and nothing is loaded, but for the stylesheet above.
static CONTENT_SECURITY_POLICY: LazyLock<String> = LazyLock::new(|| {
    let style = STANDARD.encode(crate::random::sha256(STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; frame-ancestors 'none'"
    )
});

fn page(status: StatusCode, template: &impl Template) -> Response {
    page_with_frames(status, template, &BTreeSet::new())
}

/// A page that has frames of these addresses.
fn page_with_frames(status: StatusCode, template: &impl Template, frames: &BTreeSet<Url>) -> Response {
    let mut policy = CONTENT_SECURITY_POLICY.clone();
    if !frames.is_empty() {
        policy.push_str("; frame-src");
    }
    for frame in frames {
        policy.push(' ');
        policy.push_str(&frame.origin().ascii_serialization());
    }
    let policy = HeaderValue::try_from(policy).expect("the policy is plain text");
    page_under(policy, status, template)
}

fn page_under(policy: HeaderValue, status: StatusCode, template: &impl Template) -> Response {
    let html = match template.render() {
        Ok(html) => html,
        Err(error) => {
            tracing::error!(%error, "a page cannot be shown");
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        }
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        // Forms of ours must say where they come from; nobody else need know.
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    ];
    (status, headers, html).into_response()
}
