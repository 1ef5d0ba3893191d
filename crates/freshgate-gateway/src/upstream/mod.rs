//! The way to the apps: a reverse proxy for requests and for WebSockets.
//!
//! A request arrives here after the guard, with what the guard found out about its sender. `route` finds the app that it is
//! for. What the app may read of it is decided in `headers` and `cookies`, plain functions over header maps, and what it is
//! told of the user in `hand_off`. `exchange` carries one request to the app
//! and the answer back, over connections that `pool` keeps; nothing is collected on the way, in either direction.
//! `websocket` and `tunnel` carry what was upgraded, and [`Tunnels`] knows which of those belong to which session, so
//! that they end with it; `frames` tells whether a user does anything on one. Pages for failures are the business of whoever called: this module answers with an
//! [`UpstreamError`].

mod app_socket;
mod body;
mod closing;
mod connection;
mod cookies;
mod error;
mod exchange;
mod frames;
mod hand_off;
pub mod headers;
mod pool;
mod route;
#[cfg(test)]
mod tests;
mod transport;
mod tunnel;
mod tunnels;
mod websocket;

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use freshgate::session::SessionKey;
use freshgate_web::{Admitted, Arrival, Permit, Visitor};
use http::{
    Extensions, HeaderName, HeaderValue, Request, Response, Version,
    header::{CONTENT_TYPE, TRANSFER_ENCODING},
    uri::Scheme,
};
use http_body::Body;
use hyper::body::Incoming;
use tower::Service;

use crate::listener::{ClientConnection, LongestPause};
use body::RequestBody;
use hand_off::ToldHeaders;
use headers::GateFacts;
use route::{Upstream, Upstreams};

pub use body::{RequestBodyError, ResponseBody};
pub(crate) use closing::close_sockets_of_ended_sessions;
pub use error::UpstreamError;
pub use hand_off::{Assertions, HandOff};
pub use transport::{AppTls, AppTlsError, ReachedBy};
pub use tunnels::Tunnels;

/// What the proxy needs to know, whichever app a request is for.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// The scheme of the public address, which apps are told.
    pub scheme: Scheme,
    /// The host of the public address, with its port if that is not the scheme's, which apps are told; `None`: what each
    /// request says in `Host`.
    pub host: Option<HeaderValue>,
    /// How many sockets one session may have open at once.
    pub sockets_per_session: usize,
}

impl ProxyOptions {
    /// The options for a public address of this scheme.
    pub fn new(scheme: Scheme) -> Self {
        Self { scheme, host: None, sockets_per_session: 64 }
    }
}

/// An app, and how it is spoken to.
#[derive(Clone)]
pub struct UpstreamOptions {
    /// What it is called, where sockets of one app are told from those of another.
    pub name: Arc<str>,
    /// Where it listens: `HOST:PORT`, or the path of a unix socket. A name is looked up at each new connection.
    pub address: Arc<str>,
    /// How it is reached there.
    pub reached_by: ReachedBy,
    /// The path that is the app's, with all that follows after a `/`, as browsers send it; empty for all paths.
    pub path: String,
    /// Whether the app is not told this path: it takes itself to be at `/`, and reads in `X-Forwarded-Prefix` where it is.
    pub strip_path: bool,
    /// What the app is told of a signed-in visitor, besides the session's handle.
    pub hand_off: Option<HandOff>,
    /// Headers that the app takes for identity, beside those that the gate knows. Nobody may send them.
    pub identity_headers: Vec<HeaderName>,
    /// How long connecting to the app may take.
    pub connect_timeout: Duration,
    /// How long the app may take to the head of its answer; `None` where answers may wait for work to be done.
    pub answer_timeout: Option<Duration>,
    /// Connections to the app that are kept for the next request.
    pub idle_connections: usize,
    /// How long they are kept. Less than the app keeps them, so that it is seldom the one to close.
    pub idle_timeout: Duration,
}

impl UpstreamOptions {
    /// The options for an app at this address, for every path.
    pub fn new(address: impl Into<Arc<str>>) -> Self {
        Self {
            name: Arc::default(),
            address: address.into(),
            reached_by: ReachedBy::Tcp,
            path: String::new(),
            strip_path: false,
            hand_off: None,
            identity_headers: Vec::new(),
            connect_timeout: Duration::from_secs(5),
            answer_timeout: None,
            idle_connections: 128,
            // uvicorn and Node close theirs after five seconds.
            idle_timeout: Duration::from_secs(4),
        }
    }
}

/// A signed-in visitor, and by which rules he was let in.
#[derive(Clone, Debug)]
pub struct Entrant {
    /// The session.
    pub session: SessionKey,
    /// The rules.
    pub permit: Permit,
    /// The app that he is at, by its name.
    pub app: Arc<str>,
}

impl Entrant {
    /// The visitor of a session where no rule is.
    pub fn unconditional(session: SessionKey) -> Self {
        Self { session, permit: Permit::unconditional(), app: Arc::default() }
    }
}

/// Answers whether a session is open at this moment, and its user still allowed.
///
/// Asked once for each WebSocket after it is registered in [`Tunnels`], so that a session that ends between the guard
/// and the registration is noticed: whoever ends a session must make this answer `false` before it calls
/// [`Tunnels::close_session`], and whoever changes its claims before [`Tunnels::close_refused`].
pub trait StillOpen: Send + Sync + 'static {
    /// Whether the session is open and the permit holds. Where that cannot be found out, say no: the client will come back.
    fn still_open<'a>(&'a self, entrant: &'a Entrant) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>;
}

/// Sends admitted requests to the app. Cheap to clone.
///
/// Bodies stream both ways and are never collected. A client that leaves takes its request with it: dropping the future
/// or the answer's body closes the connection to the app. Requests must come from a
/// [`Listener`](crate::listener::Listener) for the app to be told the client's address.
#[derive(Clone)]
pub struct ReverseProxy(Arc<Proxy>);

struct Proxy {
    options: ProxyOptions,
    upstreams: Upstreams,
    tunnels: Tunnels,
    still_open: Box<dyn StillOpen>,
}

impl ReverseProxy {
    /// A proxy to these apps. Must be called within a tokio runtime: it starts tasks that close idle connections, which
    /// end with the last clone.
    pub fn new(
        options: ProxyOptions,
        upstreams: Vec<UpstreamOptions>,
        tunnels: Tunnels,
        still_open: impl StillOpen,
    ) -> Self {
        let upstreams = Upstreams::new(upstreams);
        Self(Arc::new(Proxy { options, upstreams, tunnels, still_open: Box::new(still_open) }))
    }

    fn forward(&self, request: Request<Incoming>, entrant: Option<Entrant>) -> Forwarding {
        let proxy = Arc::clone(&self.0);
        Box::pin(async move { proxy.forward(request, entrant).await })
    }
}

type Forwarding = Pin<Box<dyn Future<Output = Result<Response<ResponseBody>, UpstreamError>> + Send>>;

impl Service<Admitted<Incoming>> for ReverseProxy {
    type Response = Response<ResponseBody>;
    type Error = UpstreamError;
    type Future = Forwarding;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), UpstreamError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, admitted: Admitted<Incoming>) -> Forwarding {
        let entrant = match admitted.visitor() {
            Visitor::SignedIn(session) => {
                let permit = admitted.permit().clone();
                Some(Entrant { permit, ..Entrant::unconditional(session.key()) })
            }
            Visitor::Anonymous => None,
        };
        let (request, _) = admitted.into_parts();
        self.forward(request, entrant)
    }
}

impl Proxy {
    async fn forward(
        &self,
        request: Request<Incoming>,
        entrant: Option<Entrant>,
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        let upstream = self.upstreams.of(&request).ok_or(UpstreamError::NoApp)?;
        let entrant = entrant.map(|entrant| Entrant { app: Arc::clone(&upstream.options.name), ..entrant });
        if websocket::is_handshake(&request) {
            return Box::pin(websocket::forward(self, upstream, request, entrant)).await;
        }
        let told = upstream.told(entrant.as_ref()).await?;
        let (request, extensions) = self.prepare(upstream, request, entrant.as_ref(), told, false);
        let answer = exchange::run(upstream, request).await?;
        Ok(match (entrant, extensions.get::<ClientConnection>()) {
            (Some(entrant), Some(client)) => self.bind_to_session(answer, entrant, client).await?,
            _ => answer,
        })
    }

    /// The request as the app gets it, and what hyper and the listener had attached to it.
    fn prepare(
        &self,
        upstream: &Upstream,
        request: Request<Incoming>,
        entrant: Option<&Entrant>,
        told: ToldHeaders,
        websocket: bool,
    ) -> (Request<RequestBody>, Extensions) {
        let (mut parts, body) = request.into_parts();
        let extensions = std::mem::take(&mut parts.extensions);
        let client = forwarded_for(&extensions);
        let facts = GateFacts {
            session: entrant.map(|entrant| &entrant.session),
            client: client.as_ref(),
            host: self.options.host.as_ref(),
            scheme: if self.options.scheme == Scheme::HTTPS { "https" } else { "http" },
            identity_headers: &upstream.identity_headers,
        };
        headers::prepare_request(&mut parts.headers, &facts, websocket);
        upstream.strip_path(&mut parts);
        parts.headers.extend(told);
        parts.version = Version::HTTP_11;
        if body.size_hint().exact().is_none() {
            // hyper sends a body of unknown length with any method, but takes GET at its word only if told to.
            parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        let mut request = Request::from_parts(parts, ());
        let longest_pause = extensions.get::<LongestPause>().copied();
        let body =
            RequestBody::new(body, &mut request, longest_pause, Arc::clone(&upstream.identity_headers));
        (request.map(|()| body), extensions)
    }

    /// A stream of events ends with its session, as a WebSocket does.
    async fn bind_to_session(
        &self,
        mut answer: Response<ResponseBody>,
        entrant: Entrant,
        client: &ClientConnection,
    ) -> Result<Response<ResponseBody>, UpstreamError> {
        let is_event_stream = answer
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().to_ascii_lowercase().starts_with(b"text/event-stream"));
        if is_event_stream {
            // First the entry, then the question, as for a WebSocket: the app may have taken its time to answer.
            let registration = self.tunnels.register(Some(entrant.clone()), client.clone());
            if !self.still_open.still_open(&entrant).await {
                return Err(UpstreamError::SessionEnded);
            }
            answer.body_mut().keep(registration);
        }
        Ok(answer)
    }
}

/// The client's address, as `X-Forwarded-For` has it. Mostly it is that of the connection, which has it written out.
fn forwarded_for(extensions: &Extensions) -> Option<HeaderValue> {
    let connection = extensions.get::<ClientConnection>();
    match extensions.get::<Arrival>() {
        Some(arrival)
            if connection
                .is_none_or(|connection| connection.peer().ip().to_canonical() != arrival.client) =>
        {
            HeaderValue::try_from(arrival.client.to_string()).ok()
        }
        _ => connection.map(|connection| connection.forwarded_for().clone()),
    }
}
