//! The front door: accepts connections, reads requests, and stops in two steps.
//!
//! What a client may get wrong is answered here, before any rule looks at a path or a header (`request_checks`,
//! `framing`). Whom it comes from, past the proxies in front of us, is found out here (`forwarded`). How long it may take is decided here too (`client_stream`), over TLS or without (`tls`, `transport`). What happens to a good request is the
//! business of the service behind.

mod body;
mod client_connection;
mod client_places;
mod client_stream;
mod forwarded;
mod framing;
mod http2;
mod request_checks;
#[cfg(test)]
pub(crate) mod tests;
mod tls;
mod transport;

use std::{
    convert::Infallible,
    future::{self, Future},
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroUsize,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use freshgate_web::ClientNetwork;
use http::{HeaderValue, Request, Response, Version, header};
use http_body::Body;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::Instant,
};
use tokio_rustls::server::TlsStream;
use tower::Service;

pub use body::ListenerBody;
pub use client_connection::ClientConnection;
pub(crate) use client_stream::ClientStream;
pub use forwarded::{ForwardedHeader, TrustedProxies};
pub(crate) use http2::LongestPause;
pub use request_checks::MalformedRequest;
pub use tls::{CertificateError, Tls};
pub(crate) use transport::ClientTransport;

use client_connection::{Connections, Signal, Slot};
use client_places::{ClientPlace, ClientPlaces, TooMany};
use framing::BadHead;

/// What a client may take of us.
#[derive(Clone, Debug)]
pub struct ListenerLimits {
    /// Connections at one time, sockets of upgraded ones included. More wait in the kernel's queue. Over HTTP/2 each request
    /// that is at work beside others of its connection counts as one; more are answered with 503.
    pub connections: usize,
    /// Those of one client ([`ClientNetwork`]) among them; more are closed at once. `None`: as many as it likes.
    ///
    /// Proxies that are trusted hold connections for many clients, and are not limited; nor is whoever is on this machine.
    pub connections_per_client: Option<NonZeroUsize>,
    /// Bytes of a request's head; more is answered with 431. At least 8 KiB.
    pub request_head: usize,
    /// From the first byte of a request's head to its last, and from a new connection to its first byte.
    pub head_timeout: Duration,
    /// The longest pause within a request's body.
    pub body_pause: Duration,
    /// How long a connection may stay open after its last request.
    pub idle_timeout: Duration,
    /// Requests that one connection may have at work at a time (HTTP/2).
    pub streams: u32,
    /// How long bytes that we sent may wait for the client to take them.
    pub send_timeout: Duration,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 8_192,
            // An office behind one address has a tab or two for each of its people.
            connections_per_client: NonZeroUsize::new(2_048),
            request_head: 64 * 1024,
            head_timeout: Duration::from_secs(15),
            body_pause: Duration::from_secs(60),
            // Load balancers keep idle connections for a minute and must be the ones to close them.
            idle_timeout: Duration::from_secs(75),
            streams: 100,
            send_timeout: Duration::from_secs(120),
        }
    }
}

/// A bound socket that will speak HTTP/1.1, or, if it has a certificate, TLS with HTTP/2 or HTTP/1.1 on it.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    limits: ListenerLimits,
    proxies: TrustedProxies,
    tls: Option<Tls>,
    limits_this_machine: bool,
}

/// How a listener came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Connections that had not finished when the grace was over.
    pub aborted: usize,
}

impl Listener {
    /// Takes a bound socket. No proxy is trusted.
    pub fn new(socket: TcpListener, limits: ListenerLimits) -> Self {
        Self { socket, limits, proxies: TrustedProxies::default(), tls: None, limits_this_machine: false }
    }

    /// Believes these proxies for whom they pass requests on.
    pub fn behind(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Speaks TLS with this certificate, and nothing else. Following the certificate's files is the caller's business.
    pub fn with_tls(mut self, tls: Option<Tls>) -> Self {
        self.tls = tls;
        self
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `finish` is ready, then stops in two steps: it accepts no more, tells every connection to end after
    /// the request at hand and closes upgraded sockets (they would never end by themselves, and their clients come
    /// back); whatever is still there after `grace` is cut off.
    ///
    /// Each request carries its [`ClientConnection`] and its [`Arrival`](freshgate_web::Arrival) as extensions. Dropping the future stops accepting and leaves
    /// the open connections to themselves.
    pub async fn serve<S, B>(self, service: S, finish: impl Future<Output = ()>, grace: Duration) -> Stopped
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let connections = Arc::new(Connections::default());
        {
            let mut finish = pin!(finish);
            let mut accepting = pin!(self.accept(service, Arc::clone(&connections)));
            future::poll_fn(|context| match finish.as_mut().poll(context) {
                Poll::Ready(()) => Poll::Ready(()),
                Poll::Pending => accepting.as_mut().poll(context).map(|never| match never {}),
            })
            .await;
        }
        // The accepting half is dropped here, and the socket with it.
        connections.signal(Signal::Finish);
        if tokio::time::timeout(grace, connections.all_closed()).await.is_ok() {
            return Stopped { aborted: 0 };
        }
        let aborted = connections.signal(Signal::Abort);
        tracing::warn!(aborted, "connections were cut off at the end of the grace period");
        // Their tasks need one more turn each. A clone of `ClientConnection` that an app keeps must not hold us up.
        let _ = tokio::time::timeout(Duration::from_secs(1), connections.all_closed()).await;
        Stopped { aborted }
    }

    async fn accept<S, B>(self, service: S, connections: Arc<Connections>) -> Infallible
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let places = Arc::new(Places {
            of_all: Arc::new(Semaphore::new(self.limits.connections)),
            of_clients: ClientPlaces::new(self.limits.connections_per_client),
            proxies: self.proxies.clone(),
            limits_this_machine: self.limits_this_machine,
        });
        let (mut full, mut too_many) = (Notice::default(), Notice::default());
        loop {
            let of_all = Arc::clone(&places.of_all);
            let slot = match Arc::clone(&of_all).try_acquire_owned() {
                Ok(slot) => slot,
                Err(_) => {
                    if full.is_due() {
                        let limit = self.limits.connections;
                        tracing::warn!(limit, "all connections are taken; new ones wait");
                    }
                    of_all.acquire_owned().await.expect("the semaphore is never closed")
                }
            };
            match self.socket.accept().await {
                Ok((stream, peer)) => match places.of_client(peer.ip()) {
                    Ok(of_client) => {
                        let slot = Slot { _of_all: slot, _of_client: of_client };
                        self.start_connection(stream, peer, (slot, &places), service.clone(), &connections);
                    }
                    Err(TooMany { client, limit }) => {
                        if too_many.is_due() {
                            tracing::warn!(
                                %client,
                                limit,
                                "a client has as many connections as it may; more are closed. If it is a proxy, name it \
                                 in `trusted_proxies`"
                            );
                        }
                    }
                },
                Err(error) if concerns_one_connection(&error) => {}
                Err(error) => {
                    // Out of file descriptors or memory: it passes when connections close.
                    tracing::error!(%error, "cannot accept a connection; trying again");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn start_connection<S, B>(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        (slot, places): (Slot, &Arc<Places>),
        service: S,
        connections: &Arc<Connections>,
    ) where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Err(error) = client_stream::tune(&stream, self.limits.send_timeout) {
            // The client has gone already.
            tracing::debug!(%error, "a connection closed before it was served");
            return;
        }
        let client = connections.open(peer, slot);
        let (limits, proxies, places) = (self.limits.clone(), self.proxies.clone(), Arc::clone(places));
        let http = Http { limits, proxies, places, service, client };
        match self.tls.clone() {
            None => drop(tokio::spawn(http.serve(ClientTransport::Plain(stream)))),
            Some(tls) => drop(tokio::spawn(async move {
                if let Some(stream) = shake_hands(&tls, stream, &http.client, http.limits.head_timeout).await
                {
                    let speaks_http2 = stream.get_ref().1.alpn_protocol() == Some(tls::HTTP_2);
                    let stream = ClientTransport::Tls(Box::new(stream));
                    // Boxed: most of the time of either the other is not needed.
                    match speaks_http2 {
                        true => Box::pin(http.serve_http2(stream)).await,
                        false => http.serve(stream).await,
                    }
                }
            })),
        }
    }
}

/// The places for connections, and for requests that are at work on one connection beside others.
#[derive(Debug)]
struct Places {
    of_all: Arc<Semaphore>,
    of_clients: Arc<ClientPlaces>,
    proxies: TrustedProxies,
    limits_this_machine: bool,
}

impl Places {
    /// Who holds connections for others has no limit of its own.
    fn of_client(&self, peer: IpAddr) -> Result<Option<ClientPlace>, TooMany> {
        let peer = peer.to_canonical();
        if self.proxies.trusts(&peer) || (peer.is_loopback() && !self.limits_this_machine) {
            return Ok(None);
        }
        self.of_clients.take(ClientNetwork::of(peer))
    }

    /// A place for one more request of a connection that has others at work. `None`: all are taken, or all of this client's.
    fn for_request(&self, peer: IpAddr) -> Option<Slot> {
        let of_all = Arc::clone(&self.of_all).try_acquire_owned().ok()?;
        Some(Slot { _of_all: of_all, _of_client: self.of_client(peer).ok()? })
    }
}

/// The handshake of one connection. Yields nothing if it fails, takes too long, or the listener stops.
async fn shake_hands(
    tls: &Tls,
    stream: TcpStream,
    client: &ClientConnection,
    timeout: Duration,
) -> Option<TlsStream<TcpStream>> {
    let mut handshake = pin!(tokio::time::timeout(timeout, tls.accept(stream)));
    let shaken = future::poll_fn(|context| match client.poll_signal(context) {
        Some(_) => Poll::Ready(Ok(Ok(None))),
        None => handshake.as_mut().poll(context),
    });
    let error = match shaken.await {
        Ok(Ok(stream)) => return stream,
        Ok(Err(error)) => error,
        Err(_) => io::ErrorKind::TimedOut.into(),
    };
    // Anybody can send nonsense.
    tracing::debug!(peer = %client.peer(), %error, "a TLS handshake failed");
    None
}

/// One connection, and what serves its requests.
struct Http<S> {
    limits: ListenerLimits,
    proxies: TrustedProxies,
    places: Arc<Places>,
    service: S,
    client: ClientConnection,
}

impl<S> Http<S> {
    async fn serve<B>(self, stream: ClientTransport)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let Self { limits, proxies, places: _, service, client } = self;
        let stream = TokioIo::new(ClientStream::new(stream, client.clone(), &limits));
        let for_requests = client.clone();
        let answer = service_fn(move |mut request: Request<Incoming>| {
            let arrival = proxies.arrival(for_requests.peer().ip(), request.headers());
            request.extensions_mut().insert(arrival);
            answer(request, service.clone(), for_requests.clone())
        });
        let http = http1::Builder::new()
            // Our stream keeps time, at less cost per request.
            .header_read_timeout(None)
            // Our stream cuts heads that are too large, so that they are answered by a page instead of a bare status.
            .max_header_size(limits.request_head + framing::LONGEST_ENDING)
            .max_buf_size(limits.request_head + framing::LONGEST_ENDING)
            .serve_connection(stream, answer)
            .with_upgrades();
        run(http, client).await;
    }
}

/// Answers one request: what is malformed at once, all else by the service.
async fn answer<S, B>(
    mut request: Request<Incoming>,
    mut service: S,
    client: ClientConnection,
) -> Result<Response<ListenerBody<B>>, Infallible>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
{
    let in_flight = client.begin_request();
    let checked = match in_flight.bad_head() {
        Some(BadHead::AmbiguousLength) => Err(MalformedRequest::AmbiguousLength),
        Some(BadHead::TooLarge) => Err(MalformedRequest::HeadTooLarge),
        None => request_checks::check(&mut request),
    };
    if let Err(malformed) = checked {
        return Ok(refusal(malformed, request));
    }
    request.extensions_mut().insert(client);
    let Ok(()) = future::poll_fn(|context| service.poll_ready(context)).await;
    let Ok(response) = service.call(request).await;
    Ok(response.map(|body| ListenerBody::of_service(body, in_flight)))
}

fn refusal<B>(malformed: MalformedRequest, request: Request<Incoming>) -> Response<ListenerBody<B>> {
    let (request, _unread) = request.into_parts();
    let mut response = freshgate_web::refuse_unseen(malformed, &request).map(ListenerBody::ours);
    let headers = response.headers_mut();
    if request.version != Version::HTTP_2 {
        // What follows on this connection can't be trusted to be a request.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if malformed == MalformedRequest::Method {
        let allowed = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
        headers.insert(header::ALLOW, allowed);
    }
    response
}

/// Runs one connection to its end, or until it is told to stop.
async fn run<S, B>(http: http1::UpgradeableConnection<TokioIo<ClientStream>, S>, client: ClientConnection)
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut http = pin!(http);
    let mut finishing = false;
    let ended = future::poll_fn(|context| {
        match client.poll_signal(context) {
            Some(Signal::Abort) => return Poll::Ready(Ok(())),
            Some(Signal::Finish) if !finishing => {
                finishing = true;
                http.as_mut().graceful_shutdown();
            }
            _ => {}
        }
        http.as_mut().poll(context)
    })
    .await;
    if let Err(error) = ended {
        tracing::debug!(peer = %client.peer(), error = &error as &dyn std::error::Error, "a connection failed");
    }
}

fn concerns_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Something to be told, though not each time that it happens.
#[derive(Default)]
struct Notice(Option<Instant>);

impl Notice {
    /// Whether it is to be told now.
    fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|last| last.elapsed() > Duration::from_secs(60));
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }
}
