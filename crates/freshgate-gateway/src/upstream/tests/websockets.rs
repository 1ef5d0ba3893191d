//! WebSockets: the handshake as it passes, and the bytes after it.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{Gate, Raw, lines, session};
use crate::listener::tests::raw::{App, in_time, until};

pub(super) const HANDSHAKE: &str = concat!(
    "GET /_stcore/stream HTTP/1.1\r\nHost: app.test\r\nOrigin: http://app.test\r\n",
    "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n",
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "Sec-WebSocket-Protocol: streamlit, 2|abc|def|1, session-1\r\n\r\n"
);

pub(super) const AGREED: &str = concat!(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nDate: now\r\n",
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: streamlit\r\n\r\n"
);

/// Both ends of an open WebSocket.
pub(super) async fn open(gate: &Gate, app: &App) -> (Raw, Raw) {
    let mut client = gate.connect().await;
    client.send(HANDSHAKE).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    upstream.send(AGREED).await;
    assert!(client.head().await.starts_with("HTTP/1.1 101 "));
    (client, upstream)
}

#[tokio::test]
async fn the_handshake_passes_unchanged() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let mut client = gate.connect().await;
    client.send(HANDSHAKE).await;
    let mut upstream = app.accept().await;
    let head = upstream.head().await;
    let handle = format!("freshgate-session: {}", session());
    let expected = [
        "GET /_stcore/stream HTTP/1.1",
        "connection: upgrade",
        &handle,
        "host: app.test",
        "origin: http://app.test",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-protocol: streamlit, 2|abc|def|1, session-1",
        "sec-websocket-version: 13",
        "upgrade: websocket",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: app.test",
        "x-forwarded-proto: http",
    ];
    assert_eq!(lines(&head), expected);
    upstream.send(AGREED).await;
    let head = client.head().await;
    let expected = [
        "HTTP/1.1 101 Switching Protocols",
        "connection: upgrade",
        "date: now",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "sec-websocket-protocol: streamlit",
        "upgrade: websocket",
    ];
    assert_eq!(lines(&head), expected);
}

#[tokio::test]
async fn bytes_pass_both_ways_at_once_in_any_size() {
    const MIB: usize = 1 << 20;
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let (mut client, mut upstream) = open(&gate, &app).await;
    for message in ["\u{81}\u{5}hello", "x", "0\r\n\r\n"] {
        client.send(message).await;
        upstream.expect(message).await;
        upstream.send(message).await;
        client.expect(message).await;
    }
    let down: Vec<u8> = (0..MIB).map(|at| (at % 251) as u8).collect();
    let up: Vec<u8> = (0..MIB).map(|at| (at % 241) as u8).collect();
    let (mut client_read, mut client_write) = client.stream.into_split();
    let (mut app_read, mut app_write) = upstream.stream.into_split();
    let (mut down_read, mut up_read) = (vec![0; 4 * MIB], vec![0; 4 * MIB]);
    in_time("four frames of 1 MiB pass each way", async {
        let send_up = async {
            for _ in 0..4 {
                client_write.write_all(&up).await.expect("sent");
            }
        };
        let send_down = async {
            for _ in 0..4 {
                app_write.write_all(&down).await.expect("sent");
            }
        };
        let receive = async {
            tokio::try_join!(client_read.read_exact(&mut down_read), app_read.read_exact(&mut up_read))
        };
        let (_, _, received) = tokio::join!(send_up, send_down, receive);
        received.expect("received");
    })
    .await;
    assert!(down_read == down.repeat(4) && up_read == up.repeat(4));
}

/// What either side sends together with its head is not lost.
#[tokio::test]
async fn early_bytes_arrive() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let mut client = gate.connect().await;
    client.send(format!("{HANDSHAKE}early from the client")).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    upstream.send(format!("{AGREED}early from the app")).await;
    client.head().await;
    client.expect("early from the app").await;
    upstream.expect("early from the client").await;
}

/// A client that does not read slows the app down, and then gets everything.
#[tokio::test]
async fn a_slow_reader_slows_its_writer() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let (mut client, mut upstream) = open(&gate, &app).await;
    let block = vec![b'x'; 1 << 20];
    let mut sent = 0;
    // Until the buffers of the kernel are full on both legs, and no further.
    while let Ok(written) =
        tokio::time::timeout(std::time::Duration::from_millis(300), upstream.stream.write(&block)).await
    {
        sent += written.expect("the socket lives");
        assert!(sent < 256 << 20, "nothing holds the app back");
    }
    // The other direction is not affected.
    client.send("still here").await;
    upstream.expect("still here").await;

    upstream.half_close().await;
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    loop {
        match in_time("the rest arrives", client.stream.read(&mut buffer)).await.expect("read") {
            0 => break,
            read => received += read,
        }
    }
    assert_eq!(received, sent);
}

#[tokio::test]
async fn an_end_of_one_direction_leaves_the_other() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let (mut client, mut upstream) = open(&gate, &app).await;
    client.send("bye").await;
    client.half_close().await;
    assert_eq!(upstream.rest().await, "bye");
    upstream.send("and another thing").await;
    client.expect("and another thing").await;
    drop(upstream);
    client.expect_end().await;
    until("the tunnel is gone", || gate.tunnels.count() == 0).await;
}

#[tokio::test]
async fn either_side_that_leaves_ends_the_other() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let (client, mut upstream) = open(&gate, &app).await;
    drop(client);
    upstream.expect_end().await;
    drop(upstream);
    let (mut client, upstream) = open(&gate, &app).await;
    drop(upstream);
    client.expect_end().await;
    drop(client);
    until("the tunnels are gone", || gate.tunnels.count() == 0).await;
}

#[tokio::test]
async fn an_app_may_decline() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let mut client = gate.connect().await;
    client.send(HANDSHAKE).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno").await;
    assert!(client.head().await.starts_with("HTTP/1.1 403 "));
    client.expect("no").await;
    assert_eq!(gate.tunnels.count(), 0);
    // The connection speaks HTTP as before.
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    upstream.head().await;
}

/// A handshake that is changed in one point, and what becomes of it. What the app never hears of has a code.
#[tokio::test]
async fn handshakes_that_do_not_pass() {
    let table: &[(&str, &str, &str)] = &[
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", "400 Bad Request bad_websocket_handshake"),
        ("Sec-WebSocket-Version: 13", "Content-Length: 5", "400 Bad Request bad_websocket_handshake"),
        (
            "Sec-WebSocket-Version: 13",
            "Transfer-Encoding: chunked",
            "400 Bad Request bad_websocket_handshake",
        ),
    ];
    for (from, to, expected) in table {
        let app = App::start().await;
        let gate = Gate::signed_in(&app).await;
        let mut client = gate.connect().await;
        client.send(HANDSHAKE.replace(from, to)).await;
        let head = client.head().await;
        let body = expected.rsplit(' ').next().expect("a code");
        assert!(
            head.starts_with(&format!("HTTP/1.1 {}\r\n", expected.trim_end_matches(body).trim_end())),
            "{to}: {head}"
        );
        client.expect(body).await;
        assert!(app.is_left_alone().await, "{to}");
        assert_eq!(gate.tunnels.count(), 0);
    }
}

#[tokio::test]
async fn other_protocols_are_not_tunnelled() {
    let changes = [
        ("Upgrade: websocket", "Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"),
        ("Upgrade: websocket", "Upgrade: websocketx"),
        ("Connection: keep-alive, Upgrade", "Connection: keep-alive"),
        ("GET /", "POST /"),
        ("HTTP/1.1", "HTTP/1.0"),
    ];
    for (from, to) in changes {
        let app = App::start().await;
        let gate = Gate::signed_in(&app).await;
        let mut client = gate.connect().await;
        client.send(HANDSHAKE.replacen(from, to, 1)).await;
        let mut upstream = app.accept().await;
        let head = upstream.head().await;
        assert!(!head.contains("upgrade") && !head.contains("http2-settings"), "{to}: {head}");
        // An app that goes along nevertheless is not followed.
        upstream.send(AGREED).await;
        let head = client.head().await;
        assert!(head.contains(" 502 "), "{to}: {head}");
    }
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let mut client = gate.connect().await;
    client.send(HANDSHAKE).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    upstream.send(AGREED.replace("Upgrade: websocket", "Upgrade: h2c")).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
}

#[tokio::test]
async fn a_session_that_ended_since_the_guard_opens_no_socket() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    gate.still_open.store(false, Ordering::SeqCst);
    let mut client = gate.connect().await;
    client.send(HANDSHAKE).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 401 "), "{head}");
    assert!(app.is_left_alone().await);
    assert_eq!(gate.tunnels.count(), 0);
}
