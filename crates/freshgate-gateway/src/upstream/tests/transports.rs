//! Apps that are reached by TLS, or on a unix socket.

use std::{convert::Infallible, path::PathBuf, time::Duration};

use bytes::Bytes;
use http::{
    Request, Response, StatusCode,
    header::{CONNECTION, HOST, UPGRADE},
};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

use super::{
    super::{AppTls, ReachedBy},
    Gate, Options, options,
    websockets::{AGREED, HANDSHAKE},
};
use crate::listener::{
    ListenerLimits,
    tests::{
        Served,
        raw::in_time,
        tls::{FIRST, Files, SECOND},
    },
};

const GET: &str = "GET /page HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";

/// An app with the first certificate. It says for which host it was asked, and sends back what comes over a WebSocket.
async fn app() -> Served {
    let serve = |mut request: Request<Incoming>| async move {
        if !request.headers().contains_key(UPGRADE) {
            let host = request.headers()[HOST].to_str().unwrap().to_owned();
            return Ok::<_, Infallible>(Response::new(Full::<Bytes>::from(host)));
        }
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut socket = TokioIo::new(upgrade.await.unwrap());
            let mut bytes = [0; 5];
            socket.read_exact(&mut bytes).await.unwrap();
            socket.write_all(&bytes).await.unwrap();
            socket.flush().await.unwrap();
            let _ = socket.read_u8().await;
        });
        let agreed = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
        let agreed = agreed.header(CONNECTION, "upgrade").header(UPGRADE, "websocket");
        Ok(agreed.body(Full::default()).unwrap())
    };
    let tls = Files::with(FIRST).load().unwrap();
    let set_up = |listener: crate::listener::Listener| listener.with_tls(Some(tls));
    Served::start_with(set_up, tower::service_fn(serve), ListenerLimits::default(), Duration::ZERO).await
}

async fn gate(app: &Served, name: &str, trusted: (&str, &str)) -> Gate {
    let files = tempfile::tempdir().unwrap();
    let ca_file = files.path().join("ca.pem");
    std::fs::write(&ca_file, trusted.0).unwrap();
    let mut options = options(app.address);
    options.app.reached_by = ReachedBy::Tls(AppTls::new(name, Some(&ca_file)).unwrap());
    Gate::start(None, options, ListenerLimits::default()).await
}

#[tokio::test]
async fn an_app_by_tls() {
    let app = app().await;
    let gate = gate(&app, "localhost", FIRST).await;
    let mut client = gate.connect().await;
    client.send(GET).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    client.expect("app.test").await;

    let mut client = gate.connect().await;
    client.send(HANDSHAKE).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    client.send("hello").await;
    client.expect("hello").await;
}

#[tokio::test]
async fn an_app_whose_certificate_is_not_good_gets_nothing() {
    let app = app().await;
    for (name, trusted) in [("localhost", SECOND), ("app.test", FIRST)] {
        let gate = gate(&app, name, trusted).await;
        for request in [GET, HANDSHAKE] {
            let mut client = gate.connect().await;
            client.send(request).await;
            let head = client.head().await;
            assert!(head.starts_with("HTTP/1.1 502 Bad Gateway\r\n"), "{name}: {head}");
            client.expect("upstream_unreachable").await;
        }
    }
}

#[test]
fn what_certificates_cannot_be_checked_by() {
    let files = tempfile::tempdir().unwrap();
    let write = |text: &str| {
        let file = files.path().join("ca.pem");
        std::fs::write(&file, text).unwrap();
        file
    };
    let error = |name: &str, file: PathBuf| AppTls::new(name, Some(&file)).unwrap_err().to_string();
    assert!(error("app.test", files.path().join("none.pem")).starts_with("cannot read "));
    for text in ["", "nonsense", "-----BEGIN CERTIFICATE-----\n%\n-----END CERTIFICATE-----\n"] {
        assert!(error("app.test", write(text)).ends_with(" holds no certificate in PEM form"), "{text}");
    }
    assert_eq!(
        error("app.test", write("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")),
        "the certificates that are trusted cannot be used"
    );
    assert_eq!(error("a b", write(FIRST.0)), "\"a b\" is no name that a certificate can be for");
    AppTls::new("[::1]", Some(&write(FIRST.0))).unwrap();
}

#[tokio::test]
async fn an_app_on_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let app = UnixListener::bind(&path).unwrap();
    let mut options: Options = options(([127, 0, 0, 1], 1).into());
    options.app.address = path.to_str().unwrap().into();
    options.app.reached_by = ReachedBy::Unix;
    let gate = Gate::start(None, options, ListenerLimits::default()).await;
    let read_head = async |stream: &mut tokio::net::UnixStream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(in_time("a head comes", stream.read_u8()).await.unwrap());
        }
        String::from_utf8(head).unwrap()
    };

    let mut client = gate.connect().await;
    client.send(GET).await;
    let (mut upstream, _) = in_time("the app is connected to", app.accept()).await.unwrap();
    assert!(read_head(&mut upstream).await.starts_with("GET /page HTTP/1.1\r\n"));
    upstream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await.unwrap();
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    client.expect("ok").await;

    let mut client = gate.connect().await;
    client.send(HANDSHAKE).await;
    let (mut upstream, _) = in_time("the app is connected to", app.accept()).await.unwrap();
    read_head(&mut upstream).await;
    upstream.write_all(AGREED.as_bytes()).await.unwrap();
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    upstream.write_all(b"hello").await.unwrap();
    client.expect("hello").await;

    drop((app, folder));
    let mut client = gate.connect().await;
    client.send(GET).await;
    assert!(client.head().await.starts_with("HTTP/1.1 502 Bad Gateway\r\n"));
    client.expect("upstream_unreachable").await;
}
