//! HTTP/2 on the listener, spoken by a client that is not ours, and frame by frame where such a client would not do it.

use std::{
    convert::Infallible,
    future,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::StreamExt as _;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    body::{Frame, Incoming},
    client::conn::http2::SendRequest,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
};
use tokio_rustls::client::TlsStream;
use tower::Service;

use super::{
    Served, echo,
    raw::{in_time, until},
    tls::{FIRST, Files, connect_to_speak},
};
use crate::listener::{ClientConnection, ListenerLimits};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A client's connection.
pub(crate) struct Client {
    sender: SendRequest<Body>,
    driver: JoinHandle<hyper::Result<()>>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = shake_hands(address).await;
        let handshake = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
        let (sender, connection) = handshake.handshake(TokioIo::new(stream)).await.unwrap();
        Self { sender, driver: tokio::spawn(connection) }
    }

    pub(crate) async fn send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        in_time("an answer comes", self.start(request)).await
    }

    fn start(
        &mut self,
        request: Request<Body>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        let mut sender = self.sender.clone();
        async move {
            sender.ready().await?;
            sender.send_request(request).await
        }
    }

    async fn ended(self) {
        drop(self.sender);
        let _ = in_time("the connection ends", self.driver).await.unwrap();
    }
}

async fn shake_hands(address: SocketAddr) -> TlsStream<TcpStream> {
    let stream = connect_to_speak(&[b"h2", b"http/1.1"], address, FIRST.0).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    stream
}

pub(crate) fn empty() -> Body {
    Full::default().boxed_unsync()
}

pub(crate) fn get(uri: &str) -> Request<Body> {
    Request::builder().uri(uri).version(Version::HTTP_2).body(empty()).unwrap()
}

pub(crate) async fn text(answer: Response<Incoming>) -> String {
    let body = in_time("a body comes", answer.into_body().collect()).await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

/// A body of what comes over a channel.
pub(crate) fn piecemeal() -> (mpsc::UnboundedSender<&'static str>, Body) {
    let (sender, receiver) = mpsc::unbounded_channel::<&'static str>();
    let pieces = futures_util::stream::unfold(receiver, async |mut receiver| {
        let piece = receiver.recv().await?;
        Some((Ok(Frame::data(Bytes::from_static(piece.as_bytes()))), receiver))
    });
    (sender, StreamBody::new(pieces).boxed_unsync())
}

async fn serve<S, B>(service: S, limits: ListenerLimits) -> Served
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let tls = Files::with(FIRST).load().unwrap();
    let grace = Duration::from_secs(5);
    Served::start_with(|listener| listener.with_tls(Some(tls)), service, limits, grace).await
}

#[tokio::test]
async fn requests_are_answered_side_by_side_and_the_connection_ends_in_order() {
    let mut served = serve(tower::service_fn(echo), ListenerLimits::default()).await;
    let mut client = Client::connect(served.address).await;
    let (piece, body) = piecemeal();
    let post = Request::builder().method(Method::POST).uri("https://app.test/up?x").body(body).unwrap();
    let slow = tokio::spawn(client.start(post));
    piece.send("one ").unwrap();
    for _ in 0..20 {
        let answer = client.send(get("https://app.test/page?a=b")).await.unwrap();
        assert_eq!((answer.status(), answer.version()), (StatusCode::OK, Version::HTTP_2));
        assert_eq!(text(answer).await, "GET /page?a=b ");
    }
    served.finish();
    // It is finished although the listener stops.
    piece.send("two").unwrap();
    drop(piece);
    let answer = in_time("the slow one is answered", slow).await.unwrap().unwrap();
    assert_eq!(text(answer).await, "POST /up?x one two");
    client.ended().await;
    assert_eq!(served.stopped().await.aborted, 0);
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let mirror =
        |request: Request<Incoming>| async { Ok::<_, Infallible>(Response::new(request.into_body())) };
    let served = serve(tower::service_fn(mirror), ListenerLimits::default()).await;
    let mut client = Client::connect(served.address).await;
    let (piece, body) = piecemeal();
    let post = Request::builder().method(Method::POST).uri("https://app.test/").body(body).unwrap();
    let mut answer = client.send(post).await.unwrap();
    for sent in ["one", "two", "three"] {
        piece.send(sent).unwrap();
        let frame = in_time("it comes back", answer.frame()).await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), sent);
    }
    drop(piece);
    assert_eq!(text(answer).await, "");

    // More than any window holds.
    let large = Bytes::from(vec![7; 8 << 20]);
    let post = Request::builder().method(Method::POST).uri("https://app.test/");
    let answer = client.send(post.body(Full::new(large.clone()).boxed_unsync()).unwrap()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), large);
}

#[tokio::test]
async fn what_is_refused_by_http_1_is_refused() {
    let served = serve(tower::service_fn(echo), ListenerLimits::default()).await;
    let mut client = Client::connect(served.address).await;
    let many = |count: usize| {
        let mut request = get("https://app.test/");
        for number in 0..count {
            let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
            request.headers_mut().insert(name, http::HeaderValue::from_static("x"));
        }
        request
    };
    let with = |name: &'static str, value: &str| {
        let mut request = get("https://app.test/");
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let pieces = |name: &'static str, values: &[&str]| {
        let mut request = get("https://app.test/");
        for value in values {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        request
    };
    let by = |method: Method| {
        let mut request = get("https://app.test/");
        *request.method_mut() = method;
        request
    };
    let large = "x".repeat(70 * 1024);
    for (what, request, expected) in [
        ("a good one", get("https://app.test/"), StatusCode::OK),
        ("the same host twice", with("host", "app.test"), StatusCode::OK),
        ("another host", with("host", "evil.test"), StatusCode::BAD_REQUEST),
        ("two hosts in one", with("host", "app.test, evil.test"), StatusCode::BAD_REQUEST),
        ("a path upwards", get("https://app.test/a/..%2fb"), StatusCode::BAD_REQUEST),
        ("a backslash", get("https://app.test/a%5cb"), StatusCode::BAD_REQUEST),
        ("a method that shows all", by(Method::TRACE), StatusCode::METHOD_NOT_ALLOWED),
        ("a tunnel", by(Method::CONNECT), StatusCode::METHOD_NOT_ALLOWED),
        ("a hundred headers", many(99), StatusCode::OK),
        ("more", many(101), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        ("a cookie in many pieces", pieces("cookie", &["a=b"; 150]), StatusCode::OK),
        ("a length", pieces("content-length", &["0"]), StatusCode::OK),
        ("a length, twice", pieces("content-length", &["0", "0"]), StatusCode::OK),
        ("no length", pieces("content-length", &[""]), StatusCode::BAD_REQUEST),
        ("a large head", with("cookie", &large), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
    ] {
        let answer = client.send(request).await.unwrap_or_else(|error| panic!("{what}: {error:?}"));
        assert_eq!(answer.status(), expected, "{what}");
    }
}

/// Counts its requests, and answers none.
fn never(
    begun: &Arc<AtomicUsize>,
) -> impl Service<Request<Incoming>, Response = Response<Full<Bytes>>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let begun = Arc::clone(begun);
    tower::service_fn(move |_| {
        begun.fetch_add(1, Ordering::Relaxed);
        future::pending()
    })
}

#[tokio::test]
async fn requests_at_work_take_the_places_of_connections() {
    let begun = Arc::new(AtomicUsize::new(0));
    // One of them is kept for whoever connects next.
    let limits = ListenerLimits { connections: 4, ..ListenerLimits::default() };
    let served = serve(never(&begun), limits).await;
    let mut client = Client::connect(served.address).await;
    let mut waiting: Vec<_> = (0..3).map(|_| tokio::spawn(client.start(get("https://app.test/")))).collect();
    until("three are at work", || begun.load(Ordering::Relaxed) == 3).await;

    let refused = client.send(get("https://app.test/")).await.unwrap();
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);

    waiting.pop().unwrap().abort();
    until("a place is free again", || {
        if begun.load(Ordering::Relaxed) == 3 {
            waiting.push(tokio::spawn(client.start(get("https://app.test/"))));
        }
        begun.load(Ordering::Relaxed) == 4
    })
    .await;
}

#[tokio::test]
async fn so_many_requests_are_at_work_at_a_time() {
    let begun = Arc::new(AtomicUsize::new(0));
    let served = serve(never(&begun), ListenerLimits { streams: 3, ..ListenerLimits::default() }).await;
    // The client would heed what the listener says of it.
    let mut raw = shake_hands(served.address).await;
    raw.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    for stream in (1..21).step_by(2) {
        raw.write_all(&headers(stream, END_HEADERS | END_STREAM, REQUEST)).await.unwrap();
    }
    let refused =
        frames_until(&mut raw, |seen| seen.iter().filter(|frame| frame.kind == RST_STREAM).count() == 7);
    let refused = refused.await;
    let reasons: Vec<u8> =
        refused.iter().filter(|frame| frame.kind == RST_STREAM).map(|frame| frame.payload[3]).collect();
    assert_eq!(reasons, [REFUSED_STREAM; 7]);
    until("three are at work", || begun.load(Ordering::Relaxed) == 3).await;
}

#[tokio::test]
async fn who_asks_nothing_is_asked_to_go() {
    let short = Duration::from_millis(50);
    for limits in [
        ListenerLimits { head_timeout: short, ..ListenerLimits::default() },
        ListenerLimits { idle_timeout: short, ..ListenerLimits::default() },
    ] {
        let asks = limits.idle_timeout == short;
        let served = serve(tower::service_fn(echo), limits).await;
        let mut client = Client::connect(served.address).await;
        if asks {
            assert_eq!(client.send(get("https://app.test/")).await.unwrap().status(), StatusCode::OK);
        }
        in_time("the connection ends", &mut client.driver).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_request_that_is_at_work_is_no_idle_connection() {
    let short = Duration::from_millis(20);
    let limits = ListenerLimits { idle_timeout: short, head_timeout: short, ..ListenerLimits::default() };
    let slow = move |_: Request<Incoming>| async move {
        tokio::time::sleep(short * 20).await;
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("late")))
    };
    let served = serve(tower::service_fn(slow), limits).await;
    let mut client = Client::connect(served.address).await;
    let answer = client.send(get("https://app.test/")).await.unwrap();
    assert_eq!(text(answer).await, "late");
}

/// CVE-2023-44487: each request is at work for a moment, so the limit of those at a time does not count it.
#[tokio::test]
async fn who_takes_requests_back_all_the_time_is_hung_up_on() {
    let begun = Arc::new(AtomicUsize::new(0));
    let served = serve(never(&begun), ListenerLimits::default()).await;
    let mut client = Client::connect(served.address).await;
    let mut sent = 0;
    while !client.driver.is_finished() {
        assert!(sent < 5_000, "{sent} were taken");
        let request = tokio::spawn(client.start(get("https://app.test/")));
        sent += 1;
        until("it is at work", || begun.load(Ordering::Relaxed) == sent || client.driver.is_finished()).await;
        request.abort();
        let _ = request.await;
    }
    assert!(begun.load(Ordering::Relaxed) >= 200, "a page that is left takes back what it has asked");
}

/// The same as fast as it goes.
#[tokio::test]
async fn a_burst_of_requests_that_are_taken_back_is_hung_up_on() {
    let begun = Arc::new(AtomicUsize::new(0));
    let served = serve(never(&begun), ListenerLimits::default()).await;
    let mut raw = shake_hands(served.address).await;
    raw.write_all(&[PREFACE, SETTINGS].concat()).await.unwrap();
    let mut burst = Vec::new();
    for stream in (1..20_001).step_by(2) {
        burst.extend(headers(stream, END_HEADERS | END_STREAM, REQUEST));
        burst.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, CANCEL]));
    }
    // It hangs up while we write.
    let _ = in_time("it takes or refuses them", raw.write_all(&burst)).await;
    let _ = in_time("it hangs up", frames_until(&mut raw, |_| false)).await;
    assert!(begun.load(Ordering::Relaxed) < 1_000, "{} were at work", begun.load(Ordering::Relaxed));
}

/// CVE-2024-27316: a head that never ends.
#[tokio::test]
async fn a_head_without_an_end_is_hung_up_on() {
    let begun = Arc::new(AtomicUsize::new(0));
    let served = serve(never(&begun), ListenerLimits::default()).await;
    let mut raw = shake_hands(served.address).await;
    raw.write_all(&[PREFACE, SETTINGS, &headers(1, 0, REQUEST)].concat()).await.unwrap();
    let piece = frame(CONTINUATION, 0, 1, &[&[0, 1, b'x', 0x7f, 0x81, 0x7f][..], &[b'x'; 256]].concat());
    let mut sent = 0;
    while raw.write_all(&piece).await.is_ok() {
        sent += piece.len();
        assert!(sent < 64 << 20, "it takes everything");
        // What it answers shows sooner than the end of its patience.
        tokio::task::yield_now().await;
    }
    assert_eq!(begun.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn one_request_can_be_cut_off_and_the_others_go_on() {
    let (cut, mut cuts) = mpsc::unbounded_channel::<ClientConnection>();
    let drip = move |request: Request<Incoming>| {
        let connection = request.extensions().get::<ClientConnection>().unwrap().clone();
        cut.send(connection).unwrap();
        let first = Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"first")));
        let body = futures_util::stream::once(future::ready(first)).chain(futures_util::stream::pending());
        future::ready(Ok::<_, Infallible>(Response::new(StreamBody::new(body.boxed()))))
    };
    let served = serve(tower::service_fn(drip), ListenerLimits::default()).await;
    let mut client = Client::connect(served.address).await;
    let mut answers = Vec::new();
    let mut connections = Vec::new();
    for _ in 0..2 {
        let mut answer = client.send(get("https://app.test/events")).await.unwrap();
        assert_eq!(answer.frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        answers.push(answer);
        connections.push(cuts.recv().await.unwrap());
    }
    connections[0].abort();
    assert!(in_time("it is cut off", answers[0].frame()).await.unwrap().is_err());
    let other = tokio::time::timeout(Duration::from_millis(100), answers[1].frame()).await;
    assert!(other.is_err(), "{other:?}");
    assert!(!client.driver.is_finished());
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const REFUSED_STREAM: u8 = 7;
const CANCEL: u8 = 8;
/// GET, /, https and the authority, by the tables of HPACK (RFC 7541).
const REQUEST: &[u8] = b"\x82\x84\x87\x01\x08app.test";

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn headers(stream: u32, flags: u8, block: &[u8]) -> Vec<u8> {
    frame(1, flags, stream, block)
}

struct Seen {
    kind: u8,
    payload: Vec<u8>,
}

/// Reads frames until these are enough, or the connection ends.
async fn frames_until(stream: &mut TlsStream<TcpStream>, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
    let mut seen = Vec::new();
    let read = async {
        while !enough(&seen) {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            if stream.read_exact(&mut payload).await.is_err() {
                return;
            }
            seen.push(Seen { kind: head[3], payload });
        }
    };
    in_time("frames come", read).await;
    seen
}
