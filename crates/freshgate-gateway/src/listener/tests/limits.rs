//! What a client may take of us: time, and connections.

use std::{num::NonZeroUsize, time::Duration};

use super::{Served, echo, echo_server, raw::Raw};
use crate::listener::{ForwardedHeader, Listener, ListenerLimits, TrustedProxies};

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

/// Two connections for each client, who may be on this machine.
async fn two_for_each_client(set_up: impl FnOnce(Listener) -> Listener) -> Served {
    let limits = ListenerLimits { connections_per_client: NonZeroUsize::new(2), ..ListenerLimits::default() };
    Served::start_with(set_up, tower::service_fn(echo), limits, Duration::from_secs(5)).await
}

async fn is_served(client: &mut Raw) {
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    client.head().await;
    client.expect("GET / ").await;
}

#[tokio::test]
async fn a_client_with_too_many_connections_gets_no_further_one() {
    let served = two_for_each_client(|mut listener| {
        listener.limits_this_machine = true;
        listener
    })
    .await;
    let (mut first, mut second) = (Raw::connect(served.address).await, Raw::connect(served.address).await);
    is_served(&mut first).await;
    is_served(&mut second).await;
    Raw::connect(served.address).await.expect_end().await;
    is_served(&mut first).await;
    drop(second);
    // Nothing announces that its place is free.
    let comes_in = async {
        let request = b"GET / HTTP/1.1\r\nHost: app.test\r\nConnection: close\r\n\r\n";
        loop {
            let mut again = Raw::connect(served.address).await;
            let sent = tokio::io::AsyncWriteExt::write_all(&mut again.stream, request).await;
            if sent.is_ok() && again.rest().await.starts_with("HTTP/1.1 200 ") {
                break;
            }
        }
    };
    super::raw::in_time("a place is free again", comes_in).await;
}

#[tokio::test]
async fn proxies_and_this_machine_may_have_any_number_of_connections() {
    let here = || ["127.0.0.0/8".parse().expect("a network")];
    let proxy = two_for_each_client(|mut listener| {
        listener.limits_this_machine = true;
        listener.behind(TrustedProxies::new(here(), ForwardedHeader::XForwarded))
    });
    let this_machine = two_for_each_client(|listener| listener);
    for served in [proxy.await, this_machine.await] {
        let mut held = Vec::new();
        for _ in 0..4 {
            let mut client = Raw::connect(served.address).await;
            is_served(&mut client).await;
            held.push(client);
        }
    }
}
