//! Bodies on their way through: never collected, let go as soon as either end leaves.

use std::{
    error::Error as StdError,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{HeaderName, Request, StatusCode, Version, header::EXPECT};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use super::{connection::UpstreamConnection, headers, pool::Pool, tunnels::Registration};
use crate::listener::LongestPause;

/// A request's body, from the client to the app.
pub(super) struct RequestBody {
    incoming: Option<Incoming>,
    hold: Option<Hold>,
    pause: Option<Pause>,
    identity_headers: Arc<[HeaderName]>,
}

/// The client's body broke off, is malformed or paused for too long.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// It ended early, or is malformed.
    #[error("the request's body ended early or is malformed")]
    Broken(#[source] Arc<hyper::Error>),
    /// Nothing more of it came.
    #[error("the request's body paused for too long")]
    Paused,
}

impl RequestBodyError {
    /// Whether the client took too long.
    pub fn is_timeout(&self) -> bool {
        let Self::Broken(error) = self else { return true };
        let mut cause = error.source();
        while let Some(error) = cause {
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
            {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

impl RequestBody {
    /// The body that belongs to this request. If the client waits for `100 Continue`, the body is held until the app
    /// says so. `longest_pause` if nobody else sees to it that the client goes on.
    pub(super) fn new(
        incoming: Incoming,
        request: &mut Request<()>,
        longest_pause: Option<LongestPause>,
        identity_headers: Arc<[HeaderName]>,
    ) -> Self {
        let waits = !incoming.is_end_stream()
            && request.version() == Version::HTTP_11
            && request
                .headers()
                .get(EXPECT)
                .is_some_and(|it| it.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let hold = waits.then(|| {
            let hold = Hold::default();
            let released = Arc::clone(&hold.released);
            hyper::ext::on_informational(request, move |answer| {
                if answer.status() == StatusCode::CONTINUE {
                    released.release();
                }
            });
            hold
        });
        let pause = longest_pause.map(|LongestPause(longest)| Pause { longest, sleep: None });
        Self { incoming: Some(incoming), hold, pause, identity_headers }
    }

    /// The same, of a body that is empty.
    pub(super) fn another_empty(&self) -> Option<Self> {
        self.is_end_stream().then(|| Self {
            incoming: None,
            hold: None,
            pause: None,
            identity_headers: Arc::clone(&self.identity_headers),
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let this = self.get_mut();
        if let Some(hold) = &mut this.hold {
            ready!(hold.poll_released(context));
            this.hold = None;
        }
        let Some(incoming) = &mut this.incoming else { return Poll::Ready(None) };
        let frame = match Pin::new(incoming).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                let Some(pause) = &mut this.pause else { return Poll::Pending };
                ready!(pause.poll_over(context));
                return Poll::Ready(Some(Err(RequestBodyError::Paused)));
            }
        };
        if let Some(pause) = &mut this.pause {
            pause.sleep = None;
        }
        Poll::Ready(frame.map(|frame| match frame {
            Ok(mut frame) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::prepare_request_trailers(trailers, &this.identity_headers);
                }
                Ok(frame)
            }
            Err(error) => Err(RequestBodyError::Broken(Arc::new(error))),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

/// How long a client may take to its next bytes.
struct Pause {
    longest: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Pause {
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let longest = self.longest;
        self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep(longest))).as_mut().poll(context)
    }
}

/// Keeps a body back until the app asks for it (RFC 9110 section 10.1.1). Reading the body is what makes hyper tell the
/// client to go on, so the client hears it when the app says it.
#[derive(Default)]
struct Hold {
    released: Arc<Released>,
    /// Apps that know nothing of 100 Continue wait for the body as the client waits for them.
    patience: Option<Pin<Box<Sleep>>>,
}

#[derive(Default)]
struct Released {
    yes: AtomicBool,
    waker: AtomicWaker,
}

impl Released {
    fn release(&self) {
        self.yes.store(true, Ordering::Release);
        self.waker.wake();
    }
}

impl Hold {
    const PATIENCE: Duration = Duration::from_secs(1);

    fn poll_released(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.released.waker.register(context.waker());
        if self.released.yes.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.patience
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(Self::PATIENCE)))
            .as_mut()
            .poll(context)
    }
}

/// The body of the app's answer. Dropping it before its end closes the connection to the app.
pub struct ResponseBody {
    incoming: Incoming,
    lease: Option<Lease>,
    _registration: Option<Registration>,
}

/// The connection that a body arrives on. Whoever reads the body runs it, and gives it back at the end.
pub(super) struct Lease {
    pub(super) connection: Box<UpstreamConnection>,
    pub(super) home: Arc<Pool>,
}

impl ResponseBody {
    /// A body; `lease` unless a task of its own runs the connection.
    pub(super) fn new(incoming: Incoming, lease: Option<Lease>) -> Self {
        let mut body = Self { incoming, lease, _registration: None };
        if body.incoming.is_end_stream() {
            body.end();
        }
        body
    }

    /// Keeps the entry for as long as the body lives.
    pub(super) fn keep(&mut self, registration: Registration) {
        self._registration = Some(registration);
    }

    fn poll_incoming(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(lease) = &mut self.lease else { return Pin::new(&mut self.incoming).poll_frame(context) };
        // Frames come out of the connection, which only this function runs: whoever waits for one waits for the
        // connection. Hence no waker for the body itself; it would wake the very task that is filling it.
        let aside = &mut Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(aside) {
            return Poll::Ready(frame);
        }
        lease.connection.run(context);
        Pin::new(&mut self.incoming).poll_frame(aside)
    }

    /// The whole message has been read: the connection may serve another request.
    fn end(&mut self) {
        if let Some(Lease { connection, home }) = self.lease.take() {
            home.put_back(connection);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        let frame = ready!(this.poll_incoming(context));
        let at_end = match &frame {
            None => true,
            Some(Ok(frame)) => frame.is_trailers() || this.incoming.is_end_stream(),
            Some(Err(_)) => false,
        };
        if at_end {
            this.end();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl std::fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody").field("size", &self.incoming.size_hint()).finish_non_exhaustive()
    }
}
