//! Stopping in two steps.

use std::{convert::Infallible, future, time::Duration};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::{io::AsyncReadExt, sync::mpsc};

use super::{
    Served, echo_server,
    raw::{Raw, in_time},
};
use crate::listener::{ListenerLimits, Stopped};

#[tokio::test]
async fn what_is_at_hand_is_finished_and_nothing_else_begins() {
    let (begun, mut has_begun) = mpsc::channel(1);
    let (go_on, _) = tokio::sync::broadcast::channel::<()>(1);
    let waits = go_on.clone();
    let service = tower::service_fn(move |_| {
        let (begun, mut waits) = (begun.clone(), waits.subscribe());
        async move {
            begun.send(()).await.expect("the test waits");
            waits.recv().await.expect("the test says so");
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("done")))
        }
    });
    let mut served = Served::start(service, ListenerLimits::default(), Duration::from_secs(20)).await;
    let mut idle = Raw::connect(served.address).await;
    let mut busy = Raw::connect(served.address).await;
    busy.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    has_begun.recv().await.expect("the request arrives");

    served.finish();
    idle.expect_end().await;
    assert!(busy.is_silent());
    // Not accepted any more: refused, or closed unanswered if it was in the kernel's queue.
    if let Ok(mut stream) = tokio::net::TcpStream::connect(served.address).await {
        let mut byte = [0];
        let read = in_time("it is closed", stream.read(&mut byte)).await;
        assert_eq!(read.unwrap_or(0), 0);
    }

    go_on.send(()).expect("the service waits");
    let head = busy.head().await;
    assert!(head.contains("\r\nconnection: close\r\n"), "{head}");
    busy.expect("done").await;
    busy.expect_end().await;
    assert_eq!(served.stopped().await, Stopped { aborted: 0 });
}

#[tokio::test]
async fn what_takes_longer_than_the_grace_is_cut_off() {
    let (begun, mut has_begun) = mpsc::channel(1);
    let service = tower::service_fn(move |_| {
        let begun = begun.clone();
        async move {
            begun.send(()).await.expect("the test waits");
            future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
        }
    });
    let mut served = Served::start(service, ListenerLimits::default(), Duration::from_millis(50)).await;
    let mut stuck = Raw::connect(served.address).await;
    stuck.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    has_begun.recv().await.expect("the request arrives");
    served.finish();
    assert_eq!(served.stopped().await, Stopped { aborted: 1 });
    stuck.expect_end().await;
}

#[tokio::test]
async fn with_no_connections_it_stops_at_once() {
    let mut served = echo_server(ListenerLimits::default()).await;
    served.finish();
    assert_eq!(served.stopped().await, Stopped { aborted: 0 });
}
