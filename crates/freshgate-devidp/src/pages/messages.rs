//! Pages that say one thing.

use std::collections::BTreeSet;

use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;
use url::Url;

use super::{page, page_with_frames};
use crate::authorize::Unanswerable;
use crate::logout::EndSessionError;
use crate::parameters::Parameters;
use crate::provider::Provider;
use crate::state::Session;

#[derive(Template)]
#[template(path = "message.html")]
struct Message<'a> {
    base: &'a str,
    title: &'a str,
    text: String,
    /// What would have been right.
    registered: &'a [String],
}

fn message(
    provider: &Provider,
    status: StatusCode,
    title: &str,
    text: String,
    registered: &[String],
) -> Response {
    page(status, &Message { base: provider.issuer.base_path(), title, text, registered })
}

/// A sentence of its own made of an error, which is written to follow others.
fn sentence(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let mut letters = text.chars();
    let first: String = letters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}

/// The relying party's request is such that it must not be told itself.
pub(crate) fn unanswerable(provider: &Provider, error: &Unanswerable<'_>) -> Response {
    tracing::warn!(%error, "cannot answer an authorization request");
    let registered = match error {
        Unanswerable::RedirectUriNotRegistered { client } => client.redirect_uris.as_slice(),
        _ => &[],
    };
    message(provider, StatusCode::BAD_REQUEST, "This sign-in cannot go on", sentence(error), registered)
}

/// Nobody is signed out by such a request.
pub(crate) fn cannot_end_session(provider: &Provider, error: &EndSessionError<'_>) -> Response {
    tracing::warn!(%error, "cannot answer an end-session request");
    let registered = match error {
        EndSessionError::AddressNotRegistered { client } => client.post_logout_redirect_uris.as_slice(),
        _ => &[],
    };
    message(provider, StatusCode::BAD_REQUEST, "This sign-out cannot go on", sentence(error), registered)
}

/// A form came from another site.
pub(crate) fn not_from_our_page(provider: &Provider) -> Response {
    let text = format!("This form can only be sent from the pages at {}.", provider.issuer.as_str());
    message(provider, StatusCode::FORBIDDEN, "Not from here", text, &[])
}

/// Signed out, and nowhere to go.
pub(crate) fn signed_out(provider: &Provider) -> Response {
    let text = "You are signed out here, and the apps that took part were told.".to_owned();
    message(provider, StatusCode::OK, "Signed out", text, &[])
}

#[derive(Template)]
#[template(path = "signing_out.html")]
struct SigningOut<'a> {
    frames: &'a BTreeSet<Url>,
    next: Option<&'a Url>,
}

/// Signed out, and the browser tells the apps before it goes on (Front-Channel Logout 3).
pub(crate) fn signing_out(frames: &BTreeSet<Url>, next: Option<&Url>) -> Response {
    page_with_frames(StatusCode::OK, &SigningOut { frames, next }, frames)
}

/// Thought better of it.
pub(crate) fn still_signed_in(provider: &Provider) -> Response {
    message(provider, StatusCode::OK, "Still signed in", "Nothing has changed.".to_owned(), &[])
}

#[derive(Template)]
#[template(path = "sign_out.html")]
struct SignOut<'a> {
    base: &'a str,
    request: String,
    name: String,
    sub: &'a str,
}

/// Asks whether to sign out (RP-Initiated Logout 2).
pub(crate) fn confirm_sign_out(provider: &Provider, parameters: &Parameters, session: &Session) -> Response {
    let sub = session.sub.as_str();
    let name = provider.ledger.read(|state| state.user(sub).map(|user| user.display_name().to_owned()));
    page(
        StatusCode::OK,
        &SignOut {
            base: provider.issuer.base_path(),
            request: parameters.encoded(),
            name: name.unwrap_or_else(|| sub.to_owned()),
            sub,
        },
    )
}
