//! What a client may take of us: time, and connections.

use std::time::Duration;

use super::{echo_server, raw::Raw};
use crate::listener::ListenerLimits;

const SHORT: Duration = Duration::from_millis(60);

#[tokio::test]
async fn a_head_that_does_not_end_ends_the_connection() {
    let served = echo_server(ListenerLimits { head_timeout: SHORT, ..ListenerLimits::default() }).await;
    let mut client = Raw::connect(served.address).await;
    client.send("GET / HTTP/1.1\r\nHost: app").await;
    client.expect_end().await;

    // Bytes that trickle in do not help, also not in a second request.
    let mut client = Raw::connect(served.address).await;
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    client.head().await;
    client.expect("GET / ").await;
    let trickle = async {
        client.send("GET / HTTP/1.1\r\n").await;
        while tokio::io::AsyncWriteExt::write_all(&mut client.stream, b"X: y\r\n").await.is_ok() {
            tokio::time::sleep(SHORT / 4).await;
        }
    };
    super::raw::in_time("the connection ends", trickle).await;
}

#[tokio::test]
async fn idle_connections_are_closed() {
    let served = echo_server(ListenerLimits { head_timeout: SHORT, ..ListenerLimits::default() }).await;
    let mut never_used = Raw::connect(served.address).await;
    never_used.expect_end().await;

    let served = echo_server(ListenerLimits { idle_timeout: SHORT, ..ListenerLimits::default() }).await;

    let mut client = Raw::connect(served.address).await;
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    client.head().await;
    client.expect("GET / ").await;
    client.expect_end().await;
}

#[tokio::test]
async fn a_request_that_is_being_answered_is_not_idle() {
    let service = tower::service_fn(|_| async {
        tokio::time::sleep(SHORT * 4).await;
        Ok::<_, std::convert::Infallible>(http::Response::new(http_body_util::Full::<bytes::Bytes>::from(
            "late",
        )))
    });
    let limits =
        ListenerLimits { idle_timeout: SHORT, head_timeout: SHORT, body_pause: SHORT, ..Default::default() };
    let served = super::Served::start(service, limits, SHORT).await;
    let mut client = Raw::connect(served.address).await;
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 2\r\n\r\nab").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
    client.expect("late").await;
}

#[tokio::test]
async fn a_body_that_pauses_fails_its_request() {
    let served = echo_server(ListenerLimits { body_pause: SHORT, ..ListenerLimits::default() }).await;
    for head in ["Content-Length: 5\r\n\r\nab", "Transfer-Encoding: chunked\r\n\r\n5\r\nab"] {
        let mut client = Raw::connect(served.address).await;
        client.send(format!("POST / HTTP/1.1\r\nHost: app.test\r\n{head}")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 408 "), "{head}");
        client.expect_end().await;
    }
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let served = echo_server(ListenerLimits { connections: 1, ..ListenerLimits::default() }).await;
    let mut first = Raw::connect(served.address).await;
    first.send("GET /first HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    first.head().await;
    first.expect("GET /first ").await;

    let mut second = Raw::connect(served.address).await;
    second.send("GET /second HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    // The first goes on undisturbed, and the second is not served meanwhile.
    for _ in 0..20 {
        first.send("GET /again HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        first.head().await;
        first.expect("GET /again ").await;
    }
    assert!(second.is_silent());
    drop(first);
    second.head().await;
    second.expect("GET /second ").await;
}
