//! What is open ends with its session, and with the listener.

use super::{
    Gate, options, session,
    websockets::{AGREED, HANDSHAKE, open},
};
use crate::listener::{
    ListenerLimits, Stopped,
    tests::raw::{App, until},
};
use freshgate::session::SessionKey;

#[tokio::test]
async fn the_end_of_a_session_closes_its_sockets() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let (mut first, mut first_upstream) = open(&gate, &app).await;
    let (mut second, mut second_upstream) = open(&gate, &app).await;
    assert_eq!(gate.tunnels.count(), 2);
    assert!(gate.tunnels.has_open(&session()));

    assert_eq!(gate.tunnels.close_session(&SessionKey::from_bytes([8; 32])), 0);
    first.send("still open").await;
    first_upstream.expect("still open").await;

    assert_eq!(gate.tunnels.close_session(&session()), 2);
    for side in [&mut first, &mut first_upstream, &mut second, &mut second_upstream] {
        side.expect_end().await;
    }
    until("the tunnels are gone", || gate.tunnels.count() == 0).await;
    assert!(!gate.tunnels.has_open(&session()));
}

#[tokio::test]
async fn a_session_has_only_so_many_sockets() {
    let app = App::start().await;
    let mut options = options(app.address);
    options.proxy.sockets_per_session = 2;
    let gate = Gate::start(Some(session()), options, ListenerLimits::default()).await;
    let first = open(&gate, &app).await;
    let _second = open(&gate, &app).await;
    let mut third = gate.connect().await;
    third.send(HANDSHAKE).await;
    let head = third.head().await;
    assert!(head.starts_with("HTTP/1.1 429 "), "{head}");
    assert_eq!(gate.tunnels.count_of(&session()), 2);

    drop(first);
    until("there is room again", || gate.tunnels.count_of(&session()) == 1).await;
    let _again = open(&gate, &app).await;
}

/// A socket that is stuck because its client reads nothing closes all the same.
#[tokio::test]
async fn a_stuck_socket_closes_too() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let (_client, upstream) = open(&gate, &app).await;
    let (mut from_gate, mut to_gate) = upstream.stream.into_split();
    let filling = tokio::spawn(async move {
        let block = vec![b'x'; 1 << 20];
        while tokio::io::AsyncWriteExt::write_all(&mut to_gate, &block).await.is_ok() {}
    });
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    gate.tunnels.close_session(&session());
    crate::listener::tests::raw::in_time("the app's writes fail", filling).await.expect("no panic");
    let mut byte = [0];
    assert_eq!(tokio::io::AsyncReadExt::read(&mut from_gate, &mut byte).await.unwrap_or(0), 0);
    until("the tunnel is gone", || gate.tunnels.count() == 0).await;
}

/// The session ends while the app is still thinking about the handshake.
#[tokio::test]
async fn a_session_that_ends_during_the_handshake() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let mut client = gate.connect().await;
    client.send(HANDSHAKE).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    assert_eq!(gate.tunnels.close_session(&session()), 1);
    client.expect_end().await;
    upstream.expect_end().await;
    until("nothing is left", || gate.tunnels.count() == 0).await;

    // And right after the app agreed.
    let mut client = gate.connect().await;
    client.send(HANDSHAKE).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    upstream.send(AGREED).await;
    until("it is known", || gate.tunnels.close_session(&session()) == 1).await;
    client.rest().await;
    upstream.expect_end().await;
    until("nothing is left", || gate.tunnels.count() == 0).await;
}

#[tokio::test]
async fn event_streams_end_with_their_session_and_plain_answers_do_not() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let get = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";

    let mut plain = gate.connect().await;
    plain.send(get).await;
    let mut plain_upstream = app.accept().await;
    plain_upstream.head().await;
    plain_upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello").await;
    plain.head().await;

    let mut events = gate.connect().await;
    events.send(get).await;
    let mut events_upstream = app.accept().await;
    events_upstream.head().await;
    events_upstream
        .send("HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    events.head().await;

    assert_eq!(gate.tunnels.close_session(&session()), 1);
    events.expect_end().await;
    events_upstream.expect_end().await;
    until("the stream is gone", || gate.tunnels.count() == 0).await;

    plain_upstream.send("world").await;
    plain.expect("helloworld").await;
}

#[tokio::test]
async fn an_anonymous_socket_belongs_to_no_session() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    let (mut client, mut upstream) = open(&gate, &app).await;
    assert_eq!((gate.tunnels.count(), gate.tunnels.close_session(&session())), (1, 0));
    client.send("hello").await;
    upstream.expect("hello").await;
}

#[tokio::test]
async fn stopping_the_listener_closes_sockets_at_once() {
    let app = App::start().await;
    let mut gate = Gate::signed_in(&app).await;
    let (mut client, mut upstream) = open(&gate, &app).await;
    gate.served.finish();
    client.expect_end().await;
    upstream.expect_end().await;
    assert_eq!(gate.served.stopped().await, Stopped { aborted: 0 });
    assert_eq!(gate.tunnels.count(), 0);
}
