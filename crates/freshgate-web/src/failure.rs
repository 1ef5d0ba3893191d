//! What a failure tells: to the user a plain sentence and a stable code, to the operator the cause and whose fault it was.

use std::{
    borrow::Cow,
    convert::Infallible,
    error::Error,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use freshgate::{
    engine::{BackChannelError, FrontChannelError, LoginError, RefreshError, RefreshFailure, TryLater},
    session::{EndReason, OpenSession},
    store::StoreError,
};
use freshgate_oidc::{Claims, is_unprintable};
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::Value;

use crate::{next::Next, rates::TooOften};

/// Whose fault a failure was, which decides who looks into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The browser's, or the user's: nothing to mend here.
    Browser,
    /// The OpenID provider's.
    Provider,
    /// The app's behind the gate.
    Upstream,
    /// Ours, or the operator's who set us up.
    Us,
}

impl Fault {
    /// The word in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Provider => "provider",
            Self::Upstream => "upstream",
            Self::Us => "us",
        }
    }
}

/// A request that could not be served. The layer makes a page or JSON of it, and one line in the log.
///
/// The error type of the inner service converts into it: `impl From<YourError> for Failure`.
#[derive(Debug)]
#[must_use]
pub struct Failure(pub(crate) Box<Told>);

/// A failure on its way from a handler to the layer. Extensions can be cloned, and a failure cannot.
#[derive(Clone)]
struct Carried(Arc<Mutex<Option<Failure>>>);

/// What a [`Failure`] tells, and to whom.
#[derive(Debug)]
pub(crate) struct Told {
    pub(crate) fault: Fault,
    pub(crate) status: StatusCode,
    /// For programs, and to be quoted by people.
    pub(crate) code: &'static str,
    pub(crate) heading: Cow<'static, str>,
    pub(crate) message: Cow<'static, str>,
    pub(crate) reason: Option<&'static str>,
    pub(crate) retry_after: Option<Duration>,
    pub(crate) way_on: WayOn,
    /// What the response carries besides, such as cookies.
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    /// For the operator alone.
    pub(crate) cause: Option<Box<dyn Error + Send + Sync>>,
}

/// What the page of a failure offers to click.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WayOn {
    /// The same address once more.
    Reload,
    /// A login and no more: a tab is led there at once, if it can come back to where it was.
    Login,
    /// A login, which leads back to where the user wanted to go.
    SignIn { provider: Option<String>, next: Option<Next> },
    /// A login with another account of the same provider, which leads back here; or signing out.
    OtherAccount { provider: String },
    /// The app's start.
    Start,
}

impl Failure {
    /// A failure with a stable `code` for programs, and a heading and a sentence for people. Neither may tell the cause.
    pub fn new(
        fault: Fault,
        status: StatusCode,
        code: &'static str,
        heading: impl Into<Cow<'static, str>>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self(Box::new(Told {
            fault,
            status,
            code,
            heading: heading.into(),
            message: message.into(),
            reason: None,
            retry_after: None,
            way_on: WayOn::Reload,
            headers: Vec::new(),
            cause: None,
        }))
    }

    /// Adds the cause: for the log alone.
    pub fn caused_by(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    /// Says when to try again, also in `Retry-After`.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.0.retry_after = Some(after);
        self
    }

    /// What a handler of an app answers with. The layer around the app makes a page or JSON of it; without one it is nothing
    /// but a status.
    pub fn into_response<B: Default>(self) -> Response<B> {
        let mut response = Response::new(B::default());
        *response.status_mut() = self.0.status;
        response.extensions_mut().insert(Carried(Arc::new(Mutex::new(Some(self)))));
        response
    }

    /// The failure that a handler answered with, if it did.
    pub(crate) fn carried_by<B>(response: &mut Response<B>) -> Option<Self> {
        let Carried(failure) = response.extensions_mut().remove()?;
        failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Only a login helps: a page that is asked for leads to it at once and comes back. Anything else is told the failure.
    pub fn leading_to_login(self) -> Self {
        self.offering(WayOn::Login)
    }

    pub(crate) fn offering(mut self, way_on: WayOn) -> Self {
        self.0.way_on = way_on;
        self
    }

    /// The same, unless the failure offers the start page: then another try is pointless.
    pub(crate) fn offering_another_try(self, try_again: WayOn) -> Self {
        if self.0.way_on == WayOn::Start { self } else { self.offering(try_again) }
    }

    pub(crate) fn because(mut self, reason: EndReason) -> Self {
        self.0.reason = Some(reason.code());
        self
    }

    pub(crate) fn setting(mut self, cookies: impl IntoIterator<Item = HeaderValue>) -> Self {
        self.0.headers.extend(cookies.into_iter().map(|cookie| (header::SET_COOKIE, cookie)));
        self
    }

    // What we refuse ourselves.

    pub(crate) fn bad_request(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(
            Fault::Browser,
            StatusCode::BAD_REQUEST,
            "bad_request",
            "This request cannot be read",
            "The address is incomplete or was changed on its way.",
        )
        .offering(WayOn::Start)
        .caused_by(cause)
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        let mut failure = Self::new(
            Fault::Browser,
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This cannot be done here",
            "This address does not answer requests of this kind.",
        )
        .offering(WayOn::Start);
        failure.0.headers.push((header::ALLOW, HeaderValue::from_static(allowed)));
        failure
    }

    pub(crate) fn cross_origin() -> Self {
        Self::new(
            Fault::Browser,
            StatusCode::FORBIDDEN,
            "cross_origin",
            "This came from another site",
            "For your safety, other sites cannot do this in your name.",
        )
        .offering(WayOn::Start)
    }

    pub(crate) fn not_for_proxies() -> Self {
        Self::new(
            Fault::Us,
            StatusCode::FORBIDDEN,
            "not_a_trusted_proxy",
            "This is for proxies alone",
            "Whoever set this proxy up can mend it, with the code and the id below.",
        )
        .offering(WayOn::Start)
    }

    pub(crate) fn speculative() -> Self {
        Self::new(
            Fault::Browser,
            StatusCode::SERVICE_UNAVAILABLE,
            "not_ahead_of_time",
            "Not ahead of time",
            "This address is not answered before it is visited.",
        )
    }

    pub(crate) fn too_often(cause: TooOften) -> Self {
        let retry_after = cause.retry_after;
        Self::new(
            Fault::Browser,
            StatusCode::TOO_MANY_REQUESTS,
            "too_many_requests",
            "That was too often",
            "Too many such requests came from your network within a minute. Wait a moment, then try again.",
        )
        .retry_after(retry_after)
        .caused_by(cause)
    }

    pub(crate) fn not_signed_in() -> Self {
        Self::new(
            Fault::Browser,
            StatusCode::UNAUTHORIZED,
            "not_signed_in",
            "You are not signed in",
            "Sign in to go on.",
        )
        .offering(WayOn::Login)
    }

    /// Somebody is signed in whom the rules for `path` do not let in.
    pub(crate) fn not_allowed(session: &OpenSession, path: &str) -> Self {
        Self::not_for(session).caused_by(format!(
            "the rules for {path} refuse the account of session {}",
            session.key().short()
        ))
    }

    /// Somebody is signed in who is not allowed to do this.
    pub(crate) fn not_for(session: &OpenSession) -> Self {
        let name = name_of(session.claims());
        Self::new(
            Fault::Browser,
            StatusCode::FORBIDDEN,
            "not_allowed",
            "You are not allowed here",
            format!("You are signed in as {name}, and this account does not have access."),
        )
        .offering(WayOn::OtherAccount { provider: session.provider().to_owned() })
    }

    pub(crate) fn session_over(reason: EndReason) -> Self {
        Self::new(
            Fault::Browser,
            StatusCode::UNAUTHORIZED,
            "sign_in_again",
            "Your session is over",
            "Sign in again to go on.",
        )
        .because(reason)
        .offering(WayOn::Login)
    }

    pub(crate) fn conflicting_sessions() -> Self {
        Self::new(
            Fault::Browser,
            StatusCode::BAD_REQUEST,
            "cookie_conflict",
            "Your browser holds two sessions",
            "It sent two different session cookies for this site, and we cannot tell which one is yours. Delete the \
             cookies of this site in your browser, then sign in again.",
        )
    }

    pub(crate) fn logout_unconfirmed() -> Self {
        Self::new(
            Fault::Provider,
            StatusCode::BAD_REQUEST,
            "logout_unconfirmed",
            "You are signed out of this app",
            "The sign-in service sent you back without confirming it, so you may still be signed in there.",
        )
        .offering(WayOn::Start)
    }

    /// A logout that the provider told of and that is not carried out. Always 400, whatever the reason (OpenID Connect
    /// Back-Channel Logout, section 2.8).
    pub(crate) fn logout_not_carried_out(
        fault: Fault,
        cause: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        let code = if fault == Fault::Us { "logout_failed" } else { "logout_refused" };
        Self::new(
            fault,
            StatusCode::BAD_REQUEST,
            code,
            "This logout is not carried out",
            "Nobody was signed out here, or not everybody who was meant.",
        )
        .offering(WayOn::Start)
        .caused_by(cause)
    }

    pub(crate) fn prepared_login_over() -> Self {
        Self::new(
            Fault::Browser,
            StatusCode::BAD_REQUEST,
            "prepared_login_over",
            "This way to sign in is over",
            "It is good for two minutes. Go back to the app and try again.",
        )
        .offering(WayOn::Start)
        .caused_by("the prepared login has expired, or was not sealed here")
    }

    pub(crate) fn prepared_for_another() -> Self {
        Self::new(
            Fault::Browser,
            StatusCode::BAD_REQUEST,
            "prepared_for_another",
            "This way to sign in is not yours",
            "It was made for another browser, or you have signed in or out since. Go back to the app and try again.",
        )
        .offering(WayOn::Start)
        .caused_by("the prepared login is for another session")
    }

    pub(crate) fn too_large_for_a_cookie() -> Self {
        Self::new(
            Fault::Us,
            StatusCode::INTERNAL_SERVER_ERROR,
            "login_too_large",
            "You cannot be signed in from here",
            "Go to the start page and sign in from there.",
        )
        .offering(WayOn::Start)
        .caused_by("what the browser must keep during the login does not fit into a cookie")
    }
}

/// By what a user knows which account it is.
fn name_of(claims: &Claims) -> String {
    const LONGEST: usize = 100;
    let named =
        |name: &&str| claims.get(*name).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let name = ["email", "preferred_username", "name", "sub"].iter().find_map(named).unwrap_or("somebody");
    // Characters that no name needs, and that could make one look like another.
    name.chars().take(LONGEST).map(|c| if is_unprintable(c) { '\u{fffd}' } else { c }).collect()
}

impl From<Infallible> for Failure {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::new(
            Fault::Us,
            StatusCode::SERVICE_UNAVAILABLE,
            "store_unavailable",
            "Your session cannot be looked up",
            "This is a fault on our side. Try again in a moment.",
        )
        .caused_by(error)
    }
}

impl From<LoginError> for Failure {
    fn from(error: LoginError) -> Self {
        let failure = match &error {
            LoginError::UnknownProvider(_) => Self::new(
                Fault::Browser,
                StatusCode::NOT_FOUND,
                "unknown_provider",
                "This sign-in service is not known",
                "No sign-in service of this name is set up here.",
            )
            .offering(WayOn::Start),
            LoginError::ProviderUnavailable { .. } => provider_unavailable(),
            LoginError::ProviderMisconfigured { .. } => provider_misconfigured(),
            LoginError::FlowUnknown => Self::new(
                Fault::Browser,
                StatusCode::BAD_REQUEST,
                "login_expired",
                "This sign-in is over",
                "It took too long, was finished already, or was started in another browser.",
            ),
            LoginError::SignedOutMeanwhile => Self::new(
                Fault::Browser,
                StatusCode::FORBIDDEN,
                "signed_out_meanwhile",
                "You were not signed in",
                "You were signed out at the sign-in service while you signed in here. Sign in again to go on.",
            ),
            LoginError::Denied(error) => denied(&error.code),
            LoginError::UnmetAuthenticationRequirements { .. } => unmet_authentication_requirements(),
            LoginError::Rejected { .. } => Self::new(
                Fault::Provider,
                StatusCode::BAD_GATEWAY,
                "provider_rejected",
                "You could not be signed in",
                "The sign-in service gave an answer that we cannot accept.",
            ),
            LoginError::Store(_) => Self::new(
                Fault::Us,
                StatusCode::SERVICE_UNAVAILABLE,
                "store_unavailable",
                "You could not be signed in",
                "Your session could not be saved. This is a fault on our side. Try again in a moment.",
            ),
        };
        failure.caused_by(error)
    }
}

impl From<BackChannelError> for Failure {
    fn from(error: BackChannelError) -> Self {
        let fault = match &error {
            // Anyone can send such a token.
            BackChannelError::UnknownIssuer => Fault::Browser,
            BackChannelError::Rejected { .. }
            | BackChannelError::Replayed
            | BackChannelError::ProviderUnavailable { .. } => Fault::Provider,
            BackChannelError::Store(_) | BackChannelError::Interrupted => Fault::Us,
        };
        Self::logout_not_carried_out(fault, error)
    }
}

impl From<FrontChannelError> for Failure {
    fn from(error: FrontChannelError) -> Self {
        let fault = match &error {
            FrontChannelError::UnknownIssuer => Fault::Browser,
            FrontChannelError::Store(_) | FrontChannelError::Interrupted => Fault::Us,
        };
        Self::logout_not_carried_out(fault, error)
    }
}

/// By the error code in the callback (RFC 6749 section 4.1.2.1, OpenID Connect Core section 3.1.2.6).
fn denied(error: &str) -> Failure {
    match error {
        "server_error" | "temporarily_unavailable" => provider_unavailable(),
        "unmet_authentication_requirements" => unmet_authentication_requirements(),
        "invalid_request"
        | "invalid_scope"
        | "unauthorized_client"
        | "unsupported_response_type"
        | "request_not_supported"
        | "request_uri_not_supported"
        | "registration_not_supported" => provider_misconfigured(),
        _ => Failure::new(
            Fault::Browser,
            StatusCode::FORBIDDEN,
            "login_denied",
            "You were not signed in",
            "The sign-in was cancelled, or the sign-in service did not allow it.",
        ),
    }
}

fn provider_unavailable() -> Failure {
    Failure::new(
        Fault::Provider,
        StatusCode::SERVICE_UNAVAILABLE,
        "provider_unavailable",
        "The sign-in service does not answer",
        "Try again in a moment.",
    )
}

/// The code is that of OpenID Connect Core Error Code unmet_authentication_requirements 1.0.
fn unmet_authentication_requirements() -> Failure {
    Failure::new(
        Fault::Browser,
        StatusCode::FORBIDDEN,
        "unmet_authentication_requirements",
        "You need to sign in another way here",
        "The sign-in service did not confirm that you signed in the way this app asks for. If you were signed in before, \
         you still are.",
    )
    .offering(WayOn::Start)
}

fn provider_misconfigured() -> Failure {
    Failure::new(
        Fault::Us,
        StatusCode::INTERNAL_SERVER_ERROR,
        "provider_misconfigured",
        "Signing in is not set up correctly",
        "Only the people who run this app can mend it. Tell them the code and the id below.",
    )
}

impl From<RefreshError> for Failure {
    fn from(error: RefreshError) -> Self {
        let failure = match &error {
            RefreshError::SignInAgain(reason) => Self::session_over(*reason),
            RefreshError::NotSignedIn => Self::not_signed_in(),
            RefreshError::NoRefreshToken => Self::new(
                Fault::Provider,
                StatusCode::CONFLICT,
                "no_refresh_token",
                "Your session cannot be refreshed",
                "The sign-in service does not allow it. You stay signed in until your session is over.",
            ),
            RefreshError::TryLater(TryLater { retry_after, failure }) => Self::new(
                fault_of(failure),
                StatusCode::SERVICE_UNAVAILABLE,
                "try_later",
                "Your session cannot be refreshed now",
                "You are still signed in. Try again in a moment.",
            )
            .retry_after(*retry_after),
        };
        failure.caused_by(error)
    }
}

fn fault_of(failure: &RefreshFailure) -> Fault {
    match failure {
        RefreshFailure::Misconfigured(_)
        | RefreshFailure::UnknownProvider
        | RefreshFailure::Store(_)
        | RefreshFailure::Interrupted => Fault::Us,
        _ => Fault::Provider,
    }
}
