//! WebSockets of browsers that speak TLS.

use std::{task::Poll, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream};

use super::{
    super::tunnel::{self, End},
    Gate, options, session,
    websockets::{AGREED, HANDSHAKE},
};
use crate::listener::{
    ListenerLimits,
    tests::{
        raw::{App, in_time},
        tls::{FIRST, Files, connect},
    },
};

/// More than the kernel holds for a reader who is slow.
const MUCH: usize = 16 * 1024 * 1024;

#[tokio::test]
async fn all_bytes_arrive_though_the_reader_is_slow_and_the_writer_falls_silent() {
    let app = App::start().await;
    let tls = Files::with(FIRST).load().expect("a certificate");
    let gate = Gate::start_with(
        |listener| listener.with_tls(Some(tls)),
        Some(session()),
        options(app.address),
        ListenerLimits::default(),
    )
    .await;
    let mut client = connect(gate.served.address, FIRST.0).await.expect("a connection");
    client.write_all(HANDSHAKE.as_bytes()).await.expect("sent");
    let mut upstream = app.accept().await;
    upstream.head().await;
    upstream.send(AGREED).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(in_time("a head comes", client.read_u8()).await.expect("a byte"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", head.escape_ascii());

    client.write_all(b"hello").await.expect("sent");
    upstream.expect("hello").await;

    let writing = tokio::spawn(async move {
        upstream.stream.write_all(&vec![b'x'; MUCH]).await.expect("the gate takes it");
        upstream
    });
    // Not read until all that lies between is full; being wrong about when makes the test easier, never harder.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut read = vec![0; MUCH];
    in_time("all of it arrives", client.read_exact(&mut read)).await.expect("read");
    assert!(read.iter().all(|&byte| byte == b'x'));
    drop(writing.await.expect("no panic"));
}

/// Some sockets, such as those with TLS on them, keep back what they took until they are flushed.
#[tokio::test]
async fn what_a_socket_keeps_back_is_not_left_there() {
    let (mut browser, client) = tokio::io::duplex(1024);
    let (mut app, upstream) = tokio::io::duplex(1024);
    let (client, upstream) = (BufWriter::new(client), BufWriter::new(upstream));
    let end = |early: &'static str| bytes::Bytes::from_static(early.as_bytes());
    let carrying = tokio::spawn(tunnel::run(
        End { socket: client, early: end("early ") },
        End { socket: upstream, early: end("soon ") },
        |_| Poll::Pending,
        |_| {},
    ));
    let arrives = async |stream: &mut DuplexStream, expected: &str| {
        let mut read = vec![0; expected.len()];
        in_time("it arrives", stream.read_exact(&mut read)).await.expect("read");
        assert_eq!(read, expected.as_bytes());
    };
    arrives(&mut app, "early ").await;
    arrives(&mut browser, "soon ").await;
    browser.write_all(b"question").await.expect("taken");
    arrives(&mut app, "question").await;
    app.write_all(b"answer").await.expect("taken");
    arrives(&mut browser, "answer").await;
    carrying.abort();
}
