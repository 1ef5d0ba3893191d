//! Connections to the app are used again, and a request that meets a dead one is sent once more if that is safe.

use std::time::Duration;

use super::{Gate, ListenerLimits, Raw, options};
use crate::listener::tests::raw::App;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn request(method: &str, rest: &str) -> String {
    format!("{method} / HTTP/1.1\r\nHost: app.test\r\n{rest}\r\n")
}

/// A gate, a client and the connection to the app over which they have spoken once.
async fn used(app: &App) -> (Gate, Raw, Raw) {
    let gate = Gate::anonymous(app).await;
    let mut client = gate.connect().await;
    client.send(request("GET", "")).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    upstream.send(OK).await;
    client.head().await;
    client.expect("ok").await;
    (gate, client, upstream)
}

#[tokio::test]
async fn one_connection_serves_many_requests_and_clients() {
    let app = App::start().await;
    let (gate, mut client, mut upstream) = used(&app).await;
    let kinds = [
        ("GET", "", OK),
        ("POST", "Content-Length: 5\r\n\r\nhello", OK),
        ("HEAD", "", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"),
        ("GET", "", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
        ("GET", "", "HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", "", OK),
    ];
    for (method, rest, answer) in kinds {
        client
            .send(
                request(method, rest).trim_end_matches("hello\r\n").to_owned()
                    + if rest.is_empty() { "" } else { "hello" },
            )
            .await;
        upstream.head().await;
        if !rest.is_empty() {
            upstream.expect("hello").await;
        }
        upstream.send(answer).await;
        client.head().await;
        if answer == OK {
            client.expect("ok").await;
        } else if answer.contains("chunked") {
            client.expect("2\r\nok\r\n0\r\n\r\n").await;
        }
    }
    let mut another = gate.connect().await;
    another.send(request("GET", "")).await;
    upstream.head().await;
    upstream.send(OK).await;
    another.head().await;
    assert!(app.is_left_alone().await);
}

#[tokio::test]
async fn a_connection_that_was_closed_is_not_used() {
    let app = App::start().await;
    let (_gate, mut client, upstream) = used(&app).await;
    drop(upstream);
    // A body can't be sent twice, and need not be.
    client.send(request("POST", "Content-Length: 5\r\n") + "hello").await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    upstream.expect("hello").await;
    upstream.send(OK).await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn an_app_that_says_close_is_taken_at_its_word() {
    let app = App::start().await;
    let (_gate, mut client, mut upstream) = used(&app).await;
    client.send(request("GET", "")).await;
    upstream.head().await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    client.head().await;
    client.expect("ok").await;
    client.send(request("GET", "")).await;
    app.accept().await.head().await;
    upstream.expect_end().await;
}

/// The app closes a kept connection at the moment when the next request is on its way.
#[tokio::test]
async fn a_request_that_meets_a_dying_connection_is_sent_again_if_that_is_safe() {
    for (method, rest, again) in [
        ("GET", "", true),
        ("HEAD", "", true),
        ("DELETE", "", true),
        ("POST", "", false),
        ("PATCH", "", false),
        ("PUT", "Content-Length: 5\r\n\r\nhello", false),
    ] {
        let app = App::start().await;
        let (_gate, mut client, mut upstream) = used(&app).await;
        let body_follows = rest.ends_with("hello");
        let sent = request(method, rest.trim_end_matches("\r\nhello"));
        client.send(sent + if body_follows { "hello" } else { "" }).await;
        upstream.head().await;
        drop(upstream);
        if again {
            let mut upstream = app.accept().await;
            assert!(upstream.head().await.starts_with(&format!("{method} / ")));
            upstream.send("HTTP/1.1 204 No Content\r\n\r\n").await;
            assert!(client.head().await.starts_with("HTTP/1.1 204 "), "{method}");
        } else {
            assert!(client.head().await.starts_with("HTTP/1.1 502 "), "{method}");
            assert!(app.is_left_alone().await, "{method}");
        }
    }
}

/// An answer that cannot be parsed was given to the request all the same.
#[tokio::test]
async fn an_answer_of_nonsense_does_not_send_the_request_again() {
    let app = App::start().await;
    let (_gate, mut client, mut upstream) = used(&app).await;
    client.send(request("GET", "")).await;
    upstream.head().await;
    upstream.send("nonsense\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 502 "));
    assert!(app.is_left_alone().await);
}

/// A connection that was made for a request has no excuse: nothing is sent a second time.
#[tokio::test]
async fn a_new_connection_that_dies_is_not_tried_again() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    let mut client = gate.connect().await;
    client.send(request("GET", "")).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    drop(upstream);
    assert!(client.head().await.starts_with("HTTP/1.1 502 "));
    assert!(app.is_left_alone().await);
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_spoil_a_connection() {
    let app = App::start().await;
    let (_gate, mut client, mut upstream) = used(&app).await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil").await;
    upstream.expect_end_or_request(&mut client).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    upstream.send(OK).await;
    client.head().await;
    client.expect("ok").await;
}

impl Raw {
    /// The client asks for something, and this connection to the app does not get to hear of it.
    async fn expect_end_or_request(&mut self, client: &mut Raw) {
        client.send(request("GET", "")).await;
        self.expect_end().await;
    }
}

#[tokio::test]
async fn old_connections_are_closed() {
    let app = App::start().await;
    let idle_timeout = Duration::from_millis(30);
    let mut options = options(app.address);
    options.app.idle_timeout = idle_timeout;
    let gate = Gate::start(None, options, ListenerLimits::default()).await;
    let mut client = gate.connect().await;
    client.send(request("GET", "")).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    upstream.send(OK).await;
    client.head().await;
    upstream.expect_end().await;
}
