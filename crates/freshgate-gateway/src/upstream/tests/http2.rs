//! Browsers that speak HTTP/2 to the gate, and apps that know HTTP/1.1 alone.

use std::time::Duration;

use http::{Method, Request, StatusCode};

use super::{Gate, options};
use crate::listener::{
    ListenerLimits,
    tests::{
        http2::{Client, piecemeal, text},
        raw::App,
        tls::{FIRST, Files},
    },
};

async fn gate(app: &App, limits: ListenerLimits) -> Gate {
    let tls = Files::with(FIRST).load().expect("a certificate");
    Gate::start_with(|listener| listener.with_tls(Some(tls)), None, options(app.address), limits).await
}

#[tokio::test]
async fn an_upload_arrives_as_it_is_sent() {
    let app = App::start().await;
    let gate = gate(&app, ListenerLimits::default()).await;
    let mut client = Client::connect(gate.served.address).await;
    let (piece, body) = piecemeal();
    let request = Request::builder().method(Method::POST).uri("https://app.test/up").body(body);
    let app_side = async {
        let mut upstream = app.accept().await;
        let head = upstream.head().await;
        assert!(head.starts_with("POST /up HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{head}");
        for sent in ["one", "two"] {
            piece.send(sent).unwrap();
            upstream.expect(&format!("3\r\n{sent}\r\n")).await;
        }
        drop(piece);
        upstream.expect("0\r\n\r\n").await;
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await;
    };
    let (answer, ()) = tokio::join!(client.send(request.unwrap()), app_side);
    assert_eq!(text(answer.unwrap()).await, "done");
}

#[tokio::test]
async fn an_upload_that_pauses_for_too_long() {
    let app = App::start().await;
    let limits = ListenerLimits { body_pause: Duration::from_millis(50), ..ListenerLimits::default() };
    let gate = gate(&app, limits).await;
    let mut client = Client::connect(gate.served.address).await;
    let (piece, body) = piecemeal();
    piece.send("one").unwrap();
    let request = Request::builder().method(Method::POST).uri("https://app.test/up").body(body);
    let app_side = async {
        let sent = app.accept().await.rest().await;
        assert!(!sent.contains("0\r\n\r\n"), "the app got a whole body: {sent}");
    };
    let (answer, ()) = tokio::join!(client.send(request.unwrap()), app_side);
    assert_eq!(answer.unwrap().status(), StatusCode::REQUEST_TIMEOUT);
}
