//! The browser at the other end: its session cookie, and whether it posts from one of our pages.

use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;

use crate::provider::Provider;
use crate::state::{SESSION_LIFETIME, Session};

/// The session cookie that came, whatever it is worth.
pub(crate) fn session_cookie<'h>(provider: &Provider, headers: &'h HeaderMap) -> Option<&'h str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find(|(name, _)| *name == provider.cookie_name)
        .map(|(_, value)| value)
}

/// The live session of the browser.
pub(crate) fn session(provider: &Provider, headers: &HeaderMap) -> Option<Session> {
    let cookie = session_cookie(provider, headers)?;
    provider.ledger.read(|state| state.session(cookie, provider.now()).cloned())
}

/// Has the browser keep a session. Not `Secure`: a development provider speaks plain http on loopback.
pub(crate) fn remember(provider: &Provider, cookie: &str, response: &mut Response) {
    set_cookie(provider, cookie, SESSION_LIFETIME.as_secs(), response);
}

/// Has the browser forget its session.
pub(crate) fn forget(provider: &Provider, response: &mut Response) {
    set_cookie(provider, "", 0, response);
}

fn set_cookie(provider: &Provider, value: &str, max_age: u64, response: &mut Response) {
    let cookie =
        format!("{}={value}; Path=/; Max-Age={max_age}; HttpOnly; SameSite=Lax", provider.cookie_name);
    let cookie = HeaderValue::try_from(cookie).expect("our cookies are base64url");
    response.headers_mut().append(header::SET_COOKIE, cookie);
}

/// Whether a form was posted from a page of ours, so that no other site edits users or signs people out here.
///
/// Browsers always say where a POST comes from; what is no browser says nothing and may. Someone who came by
/// another name of this machine (localhost for 127.0.0.1) is at home too: the browser vouches for that.
pub(crate) fn posts_from_our_page(provider: &Provider, headers: &HeaderMap) -> bool {
    let same_origin = || headers.get("sec-fetch-site").is_some_and(|site| site == "same-origin");
    headers.get(header::ORIGIN).is_none_or(|origin| origin == provider.issuer.origin() || same_origin())
}
