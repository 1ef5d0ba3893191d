//! Our own answers: what every one of them carries, and the one place that turns a failure into a response and a log line.

use std::{error::Error, fmt::Write as _};

use bytes::Bytes;
use freshgate::clock::SystemEntropy;
use freshgate_oidc::one_line;
use http::{HeaderValue, Method, Response, StatusCode, Uri, header, request::Parts};
use serde::Serialize;
use url::form_urlencoded;

use crate::{
    config::Site,
    failure::{Failure, Fault, Told, WayOn},
    next::Next,
    page::{Action, Page, Quote},
    request_id::{self, RequestId},
    route::{Asked, Ours},
};

/// One of our own answers.
pub(crate) type Answer = Response<Bytes>;

/// Sends the browser on, always by GET: after a POST too, and never with the body of one (RFC 9700 section 4.12).
pub(crate) fn redirect(location: &str) -> Answer {
    let mut answer = Answer::new(Bytes::new());
    // A location of ours is printable ASCII: a `Next`, or a `Url`.
    match HeaderValue::from_str(location) {
        Ok(mut location) => {
            // It may carry `state`, or an ID token as a hint.
            location.set_sensitive(true);
            *answer.status_mut() = StatusCode::SEE_OTHER;
            answer.headers_mut().insert(header::LOCATION, location);
        }
        Err(_) => *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR,
    }
    answer
}

/// Answers with JSON.
pub(crate) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // Fails for maps with keys that are no text, of which we have none.
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut answer = Answer::new(Bytes::from(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer
}

/// Answers with JSON that is the same for everybody, and may be kept for a while.
pub(crate) fn document(document: &Bytes) -> Answer {
    let mut answer = Answer::new(document.clone());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    answer
}

/// Answers with a page.
pub(crate) fn page(status: StatusCode, page: &Page<'_>) -> Answer {
    let mut answer = Answer::new(Bytes::from(page.html()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    if let Ok(policy) = HeaderValue::try_from(page.content_security_policy()) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    if page.has_form() {
        // Under `no-referrer` a browser hides the origin of a form's POST, by which we recognise it as ours.
        headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    }
    answer
}

/// Adds cookies to an answer.
pub(crate) fn with_cookies(mut answer: Answer, cookies: impl IntoIterator<Item = HeaderValue>) -> Answer {
    for cookie in cookies {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    answer
}

/// An answer without content that any page may show in a frame.
pub(crate) fn framable() -> Answer {
    let mut answer = Answer::new(Bytes::new());
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    let policy = HeaderValue::from_static("default-src 'none'; frame-ancestors *");
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    answer.extensions_mut().insert(Framable);
    answer
}

#[derive(Clone)]
struct Framable;

/// Adds what all our answers carry, unless the answer says otherwise itself.
pub(crate) fn finish(mut answer: Answer, request_id: &RequestId) -> Answer {
    let framable = answer.extensions_mut().remove::<Framable>().is_some();
    let headers = answer.headers_mut();
    if !framable {
        // There is no value of it that lets every page.
        headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    }
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    if let Some(value) = request_id.to_header() {
        headers.insert(request_id::HEADER, value);
    }
    answer
}

/// What a failure says to programs.
#[derive(Serialize)]
struct Refusal<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    request_id: &'a str,
}

/// Turns a failure into a response and logs it. A tab that needs a login alone is led there, which is no failure.
pub(crate) fn refuse(failure: Failure, asked: Asked, request: &Asker<'_>, request_id: &RequestId) -> Answer {
    let comes_back = request.method == Method::GET || request.method == Method::HEAD;
    if failure.0.way_on == WayOn::Login && asked == Asked::Page && comes_back {
        return redirect(&login_path(request.site, None, request.own_address().as_ref()));
    }
    let (label, to) = way_on(&failure.0, request);
    let sign_out = request.site.path_of(Ours::Logout);
    let action = match &failure.0.way_on {
        WayOn::OtherAccount { .. } => Action::LinkOrSignOut { label, to: &to, sign_out: &sign_out },
        _ => Action::Link { label, to: &to },
    };
    answer(failure, asked, Some(action), request.method, request.uri, request_id)
}

/// Answers a request that no gate can take, such as one that is malformed or too large: a page, or JSON, with a code and a
/// request id, and one line in the log. The page offers no way on, for what such a request asks for is not known.
pub fn refuse_unseen(failure: impl Into<Failure>, request: &Parts) -> Response<Bytes> {
    let request_id = RequestId::generate(&SystemEntropy);
    let asked = Asked::of(request);
    finish(answer(failure.into(), asked, None, &request.method, &request.uri, &request_id), &request_id)
}

fn answer(
    failure: Failure,
    asked: Asked,
    action: Option<Action<'_>>,
    method: &Method,
    uri: &Uri,
    request_id: &RequestId,
) -> Answer {
    let told = *failure.0;
    log(&told, method, uri, request_id);
    // Whoever is told to wait less than a second would come back within it.
    let retry_after = told.retry_after.map(|after| after.as_secs_f64().ceil() as u64);
    let mut answer = match asked {
        Asked::Page => page(
            told.status,
            &Page {
                heading: &told.heading,
                message: &told.message,
                action,
                quote: Some(Quote { code: told.code, request_id: request_id.as_str() }),
            },
        ),
        Asked::Data | Asked::Socket => json(
            told.status,
            &Refusal {
                error: told.code,
                reason: told.reason,
                message: &told.message,
                retry_after,
                request_id: request_id.as_str(),
            },
        ),
    };
    if let Some(seconds) = retry_after {
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    for (name, value) in told.headers {
        answer.headers_mut().append(name, value);
    }
    answer
}

/// What of a request is needed to refuse it.
pub(crate) struct Asker<'a> {
    pub(crate) site: &'a Site,
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
}

impl<'a> Asker<'a> {
    pub(crate) fn new(site: &'a Site, request: &'a Parts) -> Self {
        Self { site, method: &request.method, uri: &request.uri }
    }

    /// The page that was asked for. As strict as for any `next`: the address may be `//evil.example`, and a link on a
    /// page of ours would lead there.
    fn own_address(&self) -> Option<Next> {
        self.site.next(self.uri.path_and_query()?.as_str())
    }
}

/// The parameter of `/auth/login` by which a user asks to choose the account.
pub(crate) const SWITCH_ACCOUNT: &str = "switch_account";

/// The path of the login, with what it is to know.
pub(crate) fn login_path(site: &Site, provider: Option<&str>, next: Option<&Next>) -> String {
    let path = site.path_of(Ours::Login);
    let mut query = form_urlencoded::Serializer::new(String::new());
    if let Some(provider) = provider {
        query.append_pair("provider", provider);
    }
    if let Some(next) = next {
        query.append_pair("next", next.as_str());
    }
    let query = query.finish();
    if query.is_empty() { path } else { format!("{path}?{query}") }
}

/// What a page offers to click, and where that leads.
fn way_on(told: &Told, request: &Asker<'_>) -> (&'static str, String) {
    let start = || ("Go to the start page", request.site.start());
    let here = || (request.method == Method::GET).then(|| request.own_address())?;
    match &told.way_on {
        WayOn::Start => start(),
        WayOn::Login => ("Sign in", login_path(request.site, None, here().as_ref())),
        WayOn::SignIn { provider, next } => {
            let label = if told.status == StatusCode::UNAUTHORIZED { "Sign in" } else { "Try again" };
            let next = next.clone().or_else(here);
            (label, login_path(request.site, provider.as_deref(), next.as_ref()))
        }
        WayOn::OtherAccount { provider } => {
            let login = login_path(request.site, Some(provider), here().as_ref());
            ("Use another account", format!("{login}&{SWITCH_ACCOUNT}=1"))
        }
        WayOn::Reload => match request.own_address() {
            Some(same) => ("Try again", same.as_str().to_owned()),
            None => start(),
        },
    }
}

/// One line per failure. The path, but not the query: callbacks carry codes there, and apps what they please. Anybody can
/// make a line of a log, so none may be long.
fn log(told: &Told, method: &Method, uri: &Uri, request_id: &RequestId) {
    let cause = told.cause.as_deref().map(|cause| one_line(&chain(cause), 600)).unwrap_or_default();
    let (method, path) = (one_line(method.as_str(), 20), one_line(uri.path(), 200));
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                code = told.code,
                fault = told.fault.name(),
                status = told.status.as_u16(),
                method,
                path,
                %request_id,
                cause,
                "request refused"
            )
        };
    }
    match told.fault {
        Fault::Browser => line!(info),
        Fault::Provider | Fault::Upstream => line!(warn),
        Fault::Us => line!(error),
    }
}

/// An error and all that caused it, in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(text, ": {error}");
        source = error.source();
    }
    text
}
