//! GET `/auth/verify`: a proxy that does not pass requests through us asks whether one may pass, and for whom it is.
//!
//! What the proxy says of the request is believed only if the server around the layer says that the proxy is trusted
//! ([`Arrival::by_trusted_proxy`]), and only in the headers that the operator has named: a client can send the others.

use freshgate::{Secret, session::OpenSession};
use freshgate_oidc::Claims;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts, uri::PathAndQuery};
use serde_json::Value;
use std::time::Duration;

use crate::{
    access::is_email_verified,
    arrival::Arrival,
    failure::Failure,
    guard,
    request_id::RequestId,
    respond::{self, Answer, Asker},
    route::{Asked, Ours, Route},
    routes::{Routes, Session},
};

/// How proxies ask whether a request may pass, and what they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForwardAuth {
    /// How the proxy tells of the request.
    pub told_by: ToldBy,
    /// Whether it is told the access token too, always fresh: in `X-Auth-Request-Access-Token` and `Authorization`. A browser
    /// that reaches `/auth/verify` itself could then read its own.
    pub tokens: bool,
}

/// How a proxy tells of the request that it asks about, and what it can do with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// `X-Original-URI` and `X-Original-Method`, as nginx is told to send. It knows no answers but 2xx, 401 and 403; where a
    /// page is to be led to the login, the 401 has a `Location`.
    Original,
    /// `X-Forwarded-Uri` and `X-Forwarded-Method`, as Traefik and Caddy send by themselves. They hand any other answer on to
    /// the browser: a redirect.
    Forwarded,
}

impl ToldBy {
    fn headers(self) -> (HeaderName, HeaderName) {
        let named = |uri, method| (HeaderName::from_static(uri), HeaderName::from_static(method));
        match self {
            Self::Original => named("x-original-uri", "x-original-method"),
            Self::Forwarded => named("x-forwarded-uri", "x-forwarded-method"),
        }
    }
}

/// How long a proxy waits for a token. A refresh goes on when it is over.
const DEADLINE: Duration = Duration::from_secs(20);

/// Why a question cannot be answered.
#[derive(Debug, thiserror::Error)]
enum NoQuestion {
    #[error("who asks is no proxy that is trusted")]
    NotTrusted,
    #[error("the proxy does not say once, in {0}, which path and query was asked for")]
    NoAddress(HeaderName),
    #[error("the proxy does not say which method was used")]
    NoMethod,
    #[error("the question is about itself")]
    AboutItself,
}

impl Routes {
    /// Answers a proxy.
    pub(crate) async fn verify(&self, question: &Parts, forward_auth: ForwardAuth) -> Answer {
        let request_id = RequestId::generate(&**self.engine.entropy());
        let original = match self.original(question, forward_auth.told_by) {
            Ok(original) => original,
            Err(error) => {
                let failure = Failure::not_for_proxies().caused_by(error);
                let asker = Asker::new(&self.site, question);
                return respond::finish(
                    respond::refuse(failure, Asked::Data, &asker, &request_id),
                    &request_id,
                );
            }
        };
        let asked = asked(&original);
        let answer = match self.let_pass(&original, asked, forward_auth).await {
            Ok(answer) => answer,
            Err(failure) => {
                let asker = Asker::new(&self.site, &original);
                let refused = respond::refuse(failure, asked, &asker, &request_id);
                self.as_understood(refused, forward_auth.told_by)
            }
        };
        respond::finish(answer, &request_id)
    }

    /// The request that the proxy asks about.
    fn original(&self, question: &Parts, told_by: ToldBy) -> Result<Parts, NoQuestion> {
        if !Arrival::of(question).is_some_and(|arrival| arrival.by_trusted_proxy) {
            return Err(NoQuestion::NotTrusted);
        }
        let (uri, method) = told_by.headers();
        let once = |name: &HeaderName| {
            let mut values = question.headers.get_all(name).iter();
            values.next().filter(|_| values.next().is_none())
        };
        let address = once(&uri).filter(|value| value.as_bytes().starts_with(b"/"));
        let address = address.and_then(|value| PathAndQuery::try_from(value.as_bytes()).ok());
        let mut original = question.clone();
        original.uri = address.map(Uri::from).ok_or(NoQuestion::NoAddress(uri))?;
        original.method = once(&method)
            .and_then(|value| Method::from_bytes(value.as_bytes()).ok())
            .ok_or(NoQuestion::NoMethod)?;
        match self.site.route(original.uri.path()) {
            // Whoever asks about it sends browsers here.
            Route::Ours(Ours::Verify) => Err(NoQuestion::AboutItself),
            _ => Ok(original),
        }
    }

    async fn let_pass(
        &self,
        original: &Parts,
        asked: Asked,
        forward_auth: ForwardAuth,
    ) -> Result<Answer, Failure> {
        if original.headers.keys().any(|name| reads_like_an_answer(name.as_str())) {
            return Err(Failure::bad_request("a header reads like one of ours, and is spelt otherwise"));
        }
        let session = self.session(original).await?;
        let route = match self.site.route(original.uri.path()) {
            // Signing in is for everybody.
            Route::Ours(_) => Route::Public,
            route => route,
        };
        guard::decide(&self.site, route, asked, original, &session)?;
        let Session::Open(session) = session else { return Ok(identity(None, self.site.unverified_email())) };
        if !forward_auth.tokens {
            return Ok(identity(Some(session.claims()), self.site.unverified_email()));
        }
        let (fresh, _) = self.engine.fresh(session.key(), None, DEADLINE).await?;
        let mut answer = identity(Some(fresh.session().claims()), self.site.unverified_email());
        add_tokens(&mut answer, fresh.session(), fresh.access_token());
        Ok(answer)
    }

    /// A refusal as the proxy understands it.
    fn as_understood(&self, mut refused: Answer, told_by: ToldBy) -> Answer {
        if let Some(location) = refused.headers_mut().get_mut(header::LOCATION) {
            // Whole: Traefik would take a path for one of ours.
            let path = location.to_str().ok();
            if let Some(whole) = path.and_then(|path| self.site.origins.public().join(path).ok())
                && let Ok(whole) = HeaderValue::from_str(whole.as_str())
            {
                *location = whole;
            }
        }
        if told_by == ToldBy::Original {
            let status = refused.status();
            if status.is_redirection() {
                *refused.status_mut() = StatusCode::UNAUTHORIZED;
            } else if status.is_client_error() && status != StatusCode::UNAUTHORIZED {
                *refused.status_mut() = StatusCode::FORBIDDEN;
            }
        }
        refused
    }
}

/// What the names of the headers begin with that say who it is.
const ANSWER: &str = "x-auth-request-";

/// Whether a header is none of those that say who it is, and an app may take it for one: CGI and WSGI turn `-` into `_` before
/// an app sees a name, and some servers do so with any odd character. A proxy replaces those alone that are spelt as ours.
fn reads_like_an_answer(name: &str) -> bool {
    let is_odd = |byte: u8| byte != b'-' && !byte.is_ascii_alphanumeric();
    name.len() > ANSWER.len()
        && name.bytes().any(is_odd)
        && name.bytes().zip(ANSWER.bytes()).all(|(it, ours)| it == ours || (ours == b'-' && is_odd(it)))
}

/// How the original request was asked. Proxies do not pass on that a connection was to be upgraded.
fn asked(original: &Parts) -> Asked {
    let is_socket = original.headers.contains_key(header::SEC_WEBSOCKET_KEY)
        || original.headers.get("sec-fetch-mode").is_some_and(|mode| mode == "websocket");
    if is_socket { Asked::Socket } else { Asked::of(original) }
}

/// Who it is. Every header is there, if only empty: a proxy that copies them writes over what the client has sent.
fn identity(claims: Option<&Claims>, unverified_email: bool) -> Answer {
    let text =
        |name: &str| claims.and_then(|claims| claims.get(name)).and_then(Value::as_str).unwrap_or_default();
    let email_counts = unverified_email || claims.is_some_and(is_email_verified);
    let groups = match claims.and_then(|claims| claims.get("groups")) {
        Some(Value::Array(groups)) => {
            // One with a comma in its name would be taken for two.
            let groups = groups.iter().filter_map(Value::as_str).filter(|group| !group.contains(','));
            groups.collect::<Vec<_>>().join(",")
        }
        Some(Value::String(group)) if !group.contains(',') => group.clone(),
        _ => String::new(),
    };
    let mut answer = Answer::new(bytes::Bytes::new());
    for (name, value) in [
        ("x-auth-request-user", text("sub")),
        ("x-auth-request-email", if email_counts { text("email") } else { "" }),
        ("x-auth-request-preferred-username", text("preferred_username")),
        ("x-auth-request-groups", &groups),
    ] {
        // What cannot be in a header is nobody.
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static(""));
        answer.headers_mut().insert(name, value);
    }
    answer
}

fn add_tokens(answer: &mut Answer, session: &OpenSession, token: &Secret) {
    // A token that is bound to a key of ours is of no use to anybody else.
    if !session.tokens().token_type.eq_ignore_ascii_case("bearer") {
        return;
    }
    let bearer = Secret::new(format!("Bearer {}", token.expose()));
    for (name, value) in
        [(HeaderName::from_static("x-auth-request-access-token"), token), (header::AUTHORIZATION, &bearer)]
    {
        if let Ok(mut value) = HeaderValue::from_str(value.expose()) {
            value.set_sensitive(true);
            answer.headers_mut().insert(name, value);
        }
    }
}
