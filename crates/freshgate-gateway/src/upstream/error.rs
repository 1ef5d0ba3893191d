//! Why a request could not be carried to the app or its answer back.

use std::{error::Error as StdError, io, sync::Arc, time::Duration};

use freshgate::engine::RefreshError;
use freshgate_web::{Failure, Fault};
use http::StatusCode;

use super::RequestBodyError;

/// Why there is no answer of the app. The caller turns it into a page and a line in the log.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// No connection could be made: the app is not running, or not there.
    #[error("the app at {address} cannot be reached")]
    Unreachable {
        /// Where it should be.
        address: Arc<str>,
        /// What the system said.
        source: io::Error,
    },
    /// The app did not accept the connection, or did not answer, in the time that the options allow.
    #[error("the app did not answer within {} ms", .after.as_millis())]
    TimedOut {
        /// How long was waited.
        after: Duration,
    },
    /// The app closed the connection before it answered, or its answer is not HTTP.
    #[error("the app's answer cannot be used")]
    BadAnswer {
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The client's body broke off or is malformed.
    #[error("the client's request body cannot be used")]
    RequestBody(#[source] RequestBodyError),
    /// A WebSocket handshake that is none.
    #[error("the WebSocket handshake is malformed")]
    Handshake,
    /// The request was sent to a host that the gate does not serve.
    #[error("the gate does not serve this host")]
    UnknownHost,
    /// No app is set up for this address.
    #[error("no app is set up for this address")]
    NoApp,
    /// The app is handed fresh tokens or claims, and there are none.
    #[error("there is no fresh token for the app")]
    NotFresh(#[source] RefreshError),
    /// The session ended between the guard and now.
    #[error("the session has ended")]
    SessionEnded,
    /// The session has as many sockets open as it may.
    #[error("the session has too many sockets open")]
    TooManySockets,
}

impl UpstreamError {
    /// The status to answer with.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unreachable { .. } | Self::BadAnswer { .. } => StatusCode::BAD_GATEWAY,
            Self::TimedOut { .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::RequestBody(error) if error.is_timeout() => StatusCode::REQUEST_TIMEOUT,
            Self::RequestBody(_) | Self::Handshake => StatusCode::BAD_REQUEST,
            Self::UnknownHost => StatusCode::MISDIRECTED_REQUEST,
            Self::NoApp => StatusCode::NOT_FOUND,
            Self::NotFresh(RefreshError::TryLater(_)) => StatusCode::SERVICE_UNAVAILABLE,
            Self::SessionEnded | Self::NotFresh(_) => StatusCode::UNAUTHORIZED,
            Self::TooManySockets => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } | Self::BadAnswer { .. } => Fault::Upstream,
            Self::NotFresh(RefreshError::TryLater(_)) => Fault::Provider,
            Self::RequestBody(_)
            | Self::Handshake
            | Self::SessionEnded
            | Self::TooManySockets
            | Self::UnknownHost
            | Self::NoApp
            | Self::NotFresh(_) => Fault::Browser,
        }
    }

    /// The stable code, for pages and logs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "upstream_unreachable",
            Self::TimedOut { .. } => "upstream_timed_out",
            Self::BadAnswer { .. } => "upstream_bad_answer",
            Self::RequestBody(_) => "bad_request_body",
            Self::Handshake => "bad_websocket_handshake",
            Self::SessionEnded => "session_ended",
            Self::UnknownHost => "unknown_host",
            Self::NoApp => "no_app",
            Self::NotFresh(error) => error.code(),
            Self::TooManySockets => "too_many_sockets",
        }
    }

    /// Sorts what hyper says of an exchange: the client's body can fail it as well as the app.
    pub(super) fn of_exchange(error: hyper::Error) -> Self {
        let mut cause = error.source();
        while let Some(deeper) = cause {
            if let Some(body) = deeper.downcast_ref::<RequestBodyError>() {
                return Self::RequestBody(body.clone());
            }
            cause = deeper.source();
        }
        Self::BadAnswer { source: error.into() }
    }
}

/// What a browser is told. The cause is for the log.
impl From<UpstreamError> for Failure {
    fn from(error: UpstreamError) -> Self {
        let error = match error {
            UpstreamError::NotFresh(error @ RefreshError::TryLater(_)) => return error.into(),
            UpstreamError::NotFresh(error) => return Self::from(error).leading_to_login(),
            error => error,
        };
        let (heading, message) = match &error {
            UpstreamError::Unreachable { .. } => {
                ("The app is not there yet", "It is starting, or it has stopped. Try again in a moment.")
            }
            UpstreamError::TimedOut { .. } => {
                ("The app does not answer", "It took too long. Try again in a moment.")
            }
            UpstreamError::BadAnswer { .. } => {
                ("The app failed", "It broke off its answer. Try again in a moment.")
            }
            UpstreamError::UnknownHost => {
                ("There is no site of this name here", "Nothing is set up for the name in this address.")
            }
            UpstreamError::NoApp => ("There is no app here", "Nothing is set up for this address."),
            UpstreamError::SessionEnded => {
                ("You are signed out", "Your session ended a moment ago. Sign in to go on.")
            }
            UpstreamError::TooManySockets => {
                ("Too many open tabs", "Close some of the tabs of this app, then try again.")
            }
            UpstreamError::RequestBody(_) | UpstreamError::Handshake | UpstreamError::NotFresh(_) => {
                ("This request cannot be read", "It is incomplete or was changed on its way.")
            }
        };
        let ended = matches!(error, UpstreamError::SessionEnded);
        let failure =
            Self::new(error.fault(), error.status(), error.code(), heading, message).caused_by(error);
        if ended { failure.leading_to_login() } else { failure }
    }
}
