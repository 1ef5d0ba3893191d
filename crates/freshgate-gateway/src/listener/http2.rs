//! Connections that speak HTTP/2: over TLS alone, to clients that ask for it by ALPN.
//!
//! WebSockets are not offered by it (RFC 8441): browsers open those over HTTP/1.1, each on a connection of its own, which a
//! tunnel then has for itself. Every request has a [`ClientConnection`] of its own here, so that what ends one of them (its
//! session) leaves the others alone.
//!
//! What a client may take is bounded: requests at a time (on one connection, and on all of them as if each were a connection
//! of its own), bytes of heads (h2 bounds CONTINUATION frames too), bytes that
//! wait for it, and how many requests it may take back: each costs work although none of them counts as being at work
//! ("rapid reset").

use std::{
    convert::Infallible,
    future::{self, Future},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use freshgate_web::{Failure, Fault, refuse_unseen};
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::{Instant, Sleep};
use tower::Service;

use super::{
    ClientConnection, ClientTransport, Http, ListenerBody, ListenerLimits, answer, client_connection::Signal,
};

/// Bytes of answers that wait for a client on one stream.
const SEND_BUFFER: usize = 64 * 1024;
/// Bytes of a request's body that may be on their way to us unread, of one request and of all of a connection.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 512 * 1024;
/// How many requests a client may take back at once, and how many more each second. A browser takes back what a page
/// has under way when its user leaves it.
const TAKEN_BACK: f64 = 200.0;
const TAKEN_BACK_PER_SECOND: f64 = 20.0;
/// How long a client that is asked to go may stay.
const LINGER: Duration = Duration::from_secs(5);

impl<S> Http<S> {
    pub(super) async fn serve_http2<B>(self, stream: ClientTransport)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self { limits, proxies, places, service, client } = self;
        let (for_requests, body_pause) = (client.clone(), limits.body_pause);
        let serve = service_fn(move |mut request: Request<Incoming>| {
            let arrival = proxies.arrival(for_requests.peer().ip(), request.headers());
            request.extensions_mut().insert(arrival);
            request.extensions_mut().insert(LongestPause(body_pause));
            let (service, connection, places) = (service.clone(), for_requests.clone(), Arc::clone(&places));
            AtWork { connection: for_requests.clone(), is_answered: false }.run(Box::pin(async move {
                // Each may have a connection to an app for itself. The first has the place of its connection.
                let slot = match connection.requests() {
                    (_, 0) => None,
                    _ => match places.for_request(connection.peer().ip()) {
                        Some(slot) => Some(slot),
                        None => {
                            let (request, _unread) = request.into_parts();
                            return Ok(refuse_unseen(TooManyAtWork, &request).map(ListenerBody::ours));
                        }
                    },
                };
                answer(request, service, connection.request(slot)).await
            }))
        });
        let http = http2::Builder::new(TokioExecutor::new())
            .max_concurrent_streams(limits.streams)
            .max_header_list_size(u32::try_from(limits.request_head).unwrap_or(u32::MAX))
            .max_send_buf_size(SEND_BUFFER)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .serve_connection(TokioIo::new(stream), serve);
        let mut http = pin!(http);
        let mut course = Course::new(&limits);
        let ended = future::poll_fn(|context| {
            if client.poll_signal(context) == Some(Signal::Abort) {
                return Poll::Ready(Ok(()));
            }
            if client.poll_signal(context) == Some(Signal::Finish) && course.begin_to_end() {
                http.as_mut().graceful_shutdown();
            }
            if let Poll::Ready(ended) = http.as_mut().poll(context) {
                return Poll::Ready(ended);
            }
            match course.poll(&client, context) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Next::AskToGo) => {
                    http.as_mut().graceful_shutdown();
                    http.as_mut().poll(context)
                }
                Poll::Ready(Next::HangUp) => Poll::Ready(Ok(())),
            }
        })
        .await;
        if let Err(error) = ended {
            tracing::debug!(peer = %client.peer(), error = &error as &dyn std::error::Error, "a connection failed");
        }
    }
}

/// The longest pause within the body of this request. The stream of an HTTP/1.1 connection knows where a body begins and ends,
/// and keeps the time by itself; here whoever reads a body must.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LongestPause(pub(crate) Duration);

/// All places are taken, or all of this client's.
#[derive(Debug, thiserror::Error)]
#[error("too many requests are at work")]
struct TooManyAtWork;

impl From<TooManyAtWork> for Failure {
    fn from(error: TooManyAtWork) -> Self {
        let (heading, message) = ("This site is busy", "Too much is under way. Try again in a moment.");
        Self::new(Fault::Browser, StatusCode::SERVICE_UNAVAILABLE, "too_many_requests", heading, message)
            .caused_by(error)
    }
}

/// A request that is at work. It was taken back if this is dropped before its answer is there.
struct AtWork {
    connection: ClientConnection,
    is_answered: bool,
}

impl AtWork {
    async fn run<T>(mut self, answer: impl Future<Output = T>) -> T {
        let answer = answer.await;
        self.is_answered = true;
        answer
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        if !self.is_answered {
            self.connection.note_taken_back();
        }
    }
}

/// What a connection without requests is waited for, and how many it took back.
struct Course {
    /// To the first request, and after the last.
    limits: (Duration, Duration),
    /// From when on nothing is at work, told by how many requests there were before.
    silence: Option<(u32, Pin<Box<Sleep>>)>,
    is_ending: bool,
    taken_back: (u32, f64, Instant),
}

enum Next {
    AskToGo,
    HangUp,
}

impl Course {
    fn new(limits: &ListenerLimits) -> Self {
        Self {
            limits: (limits.head_timeout, limits.idle_timeout),
            silence: None,
            is_ending: false,
            taken_back: (0, 0.0, Instant::now()),
        }
    }

    /// Whether it was not ending before.
    fn begin_to_end(&mut self) -> bool {
        !std::mem::replace(&mut self.is_ending, true)
    }

    fn poll(&mut self, client: &ClientConnection, context: &mut Context<'_>) -> Poll<Next> {
        if self.takes_back_too_much(client.taken_back()) {
            tracing::debug!(peer = %client.peer(), "a client takes its requests back all the time; hung up");
            return Poll::Ready(Next::HangUp);
        }
        let (begun, at_work) = client.requests();
        if at_work > 0 {
            self.silence = None;
            return Poll::Pending;
        }
        let limit = match begun {
            _ if self.is_ending => LINGER,
            // Who connects has something to ask; who has asked may come back.
            0 => self.limits.0,
            _ => self.limits.1,
        };
        let silence = match &mut self.silence {
            Some((after, silence)) if *after == begun => silence,
            silence => &mut silence.insert((begun, Box::pin(tokio::time::sleep(limit)))).1,
        };
        ready!(silence.as_mut().poll(context));
        if std::mem::replace(&mut self.is_ending, true) {
            return Poll::Ready(Next::HangUp);
        }
        silence.as_mut().reset(Instant::now() + LINGER);
        let _ = silence.as_mut().poll(context);
        Poll::Ready(Next::AskToGo)
    }

    /// A bucket that runs empty as time goes by.
    fn takes_back_too_much(&mut self, in_all: u32) -> bool {
        let (before, level, since) = self.taken_back;
        if in_all == before {
            return false;
        }
        let now = Instant::now();
        let left = (level - (now - since).as_secs_f64() * TAKEN_BACK_PER_SECOND).max(0.0);
        let level = left + f64::from(in_all.wrapping_sub(before));
        self.taken_back = (in_all, level, now);
        level > TAKEN_BACK
    }
}
