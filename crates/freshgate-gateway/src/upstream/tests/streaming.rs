//! Nothing is collected on the way, and nobody is kept waiting who has left.

use super::Gate;
use crate::listener::tests::raw::{App, Raw, in_time};

const GET: &str = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";

/// The app reads the start of a body before the rest of it is sent.
#[tokio::test]
async fn uploads_stream() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    // Short and long enough for the two ways in which a connection is run.
    for length in [10, 1_000_000] {
        let mut client = gate.connect().await;
        client
            .send(format!("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {length}\r\n\r\nhello"))
            .await;
        let mut upstream = app.accept().await;
        upstream.head().await;
        upstream.expect("hello").await;
        client.send("w".repeat(length - 5)).await;
        assert_eq!(upstream.exactly(length - 5).await, "w".repeat(length - 5).as_bytes());
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
        client.head().await;
    }
    let mut client = gate.connect().await;
    client.send("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n").await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    for piece in ["5\r\nhello\r\n", "5\r\nworld\r\n", "0\r\n\r\n"] {
        client.send(piece).await;
        upstream.expect(piece).await;
    }
}

/// The client reads each piece of an answer before the next is sent.
#[tokio::test]
async fn answers_stream() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let heads = [
        ("Content-Type: text/event-stream\r\nTransfer-Encoding: chunked", "9\r\ndata: 1\n\n\r\n"),
        ("Content-Length: 1000", "data: 1\n\n"),
    ];
    for (head, piece) in heads {
        let mut client = gate.connect().await;
        client.send(GET).await;
        let mut upstream = app.accept().await;
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n")).await;
        client.head().await;
        for _ in 0..3 {
            upstream.send(piece).await;
            client.expect(piece).await;
        }
    }
}

/// An app may answer while the body is still coming in, and the body goes on meanwhile.
#[tokio::test]
async fn both_directions_at_once() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    let mut client = gate.connect().await;
    client
        .send("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        .await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    upstream.expect("5\r\nhello\r\n").await;
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n").await;
    client.head().await;
    client.expect("2\r\nok\r\n").await;
    client.send("5\r\nworld\r\n0\r\n\r\n").await;
    upstream.expect("5\r\nworld\r\n0\r\n\r\n").await;
    upstream.send("0\r\n\r\n").await;
    client.expect("0\r\n\r\n").await;
}

/// A client that reads nothing until it has sent everything is served by an app that answers meanwhile.
#[tokio::test]
async fn an_answer_that_nobody_reads_does_not_hold_up_the_body() {
    const LENGTH: usize = 4 << 20;
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    let client = gate.connect().await;
    let (mut read, mut write) = client.stream.into_split();
    let sending = async move {
        use tokio::io::AsyncWriteExt;
        let head = format!("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: {LENGTH}\r\n\r\n");
        write.write_all(head.as_bytes()).await.expect("sent");
        write.write_all(&vec![b'u'; LENGTH]).await.expect("sent");
        write
    };
    let answering = async {
        let mut upstream = app.accept().await;
        upstream.head().await;
        let (mut from_gate, mut to_gate) = upstream.stream.into_split();
        let answer = tokio::spawn(async move {
            use tokio::io::AsyncWriteExt;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n");
            to_gate.write_all(head.as_bytes()).await.expect("sent");
            to_gate.write_all(&vec![b'd'; LENGTH]).await.expect("sent");
            to_gate
        });
        // What came in with the head is missing from this count.
        let mut sink = vec![0; 64 * 1024];
        let mut received = 0;
        while received < LENGTH - 1024 * 1024 {
            use tokio::io::AsyncReadExt;
            received += from_gate.read(&mut sink).await.expect("read");
        }
        (answer, from_gate, received)
    };
    let (write, (answer, mut from_gate, _)) =
        in_time("the body arrives", async { tokio::join!(sending, answering) }).await;
    let drain = tokio::spawn(async move { tokio::io::copy(&mut from_gate, &mut tokio::io::sink()).await });
    let mut answered = 0;
    let mut buffer = vec![0; 64 * 1024];
    while answered < LENGTH {
        use tokio::io::AsyncReadExt;
        answered += in_time("the answer arrives", read.read(&mut buffer)).await.expect("read");
    }
    answer.await.expect("no panic");
    drop((write, read));
    drain.abort();
}

/// An app that has heard enough answers and hangs up; the client is still sending, and sees the answer.
#[tokio::test]
async fn an_answer_before_the_end_of_the_body() {
    const LENGTH: usize = 8 << 20;
    for framing in [format!("Content-Length: {LENGTH}"), "Transfer-Encoding: chunked".to_owned()] {
        let app = App::start().await;
        let gate = Gate::anonymous(&app).await;
        let mut client = gate.connect().await;
        let refuse = async {
            let mut upstream = app.accept().await;
            upstream.head().await;
            upstream
                .send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
                .await;
        };
        let chunk = format!("{LENGTH:x}\r\n");
        let body = [chunk.as_bytes(), &vec![b'x'; LENGTH]].concat();
        let body = if framing.contains("chunked") { &body[..] } else { &body[chunk.len()..] };
        let send = async {
            client.send(format!("POST / HTTP/1.1\r\nHost: app.test\r\n{framing}\r\n\r\n")).await;
            client.send(body).await;
            client.rest().await
        };
        let (answer, ()) = tokio::join!(send, refuse);
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("big"), "{framing}: {answer}");
    }
}

/// The client leaves in the middle; the app is told by the end of its connection.
#[tokio::test]
async fn a_client_that_leaves_takes_its_request_with_it() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;

    // While the app thinks.
    let mut client = gate.connect().await;
    client.send(GET).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    drop(client);
    upstream.expect_end().await;

    // Within an answer, also when the app sends nothing.
    let mut client = gate.connect().await;
    client.send(GET).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    upstream
        .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        .await;
    client.head().await;
    drop(client);
    upstream.expect_end().await;

    // Within a body, of either size and of none.
    for head in ["Content-Length: 10\r\n", "Content-Length: 1000000\r\n", "Transfer-Encoding: chunked\r\n"] {
        let mut client = gate.connect().await;
        client.send(format!("POST / HTTP/1.1\r\nHost: app.test\r\n{head}\r\n5\r\n")).await;
        let mut upstream = app.accept().await;
        upstream.head().await;
        drop(client);
        assert!(!upstream.rest().await.contains("0\r\n\r\n"), "{head}: the body looks complete");
    }
}

/// The app breaks off an answer: the client must not take it for a whole one.
#[tokio::test]
async fn an_answer_that_breaks_off_is_not_completed() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    for head in ["Content-Length: 100", "Transfer-Encoding: chunked"] {
        let mut client: Raw = gate.connect().await;
        client.send(GET).await;
        let mut upstream = app.accept().await;
        upstream.head().await;
        upstream.send(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n")).await;
        client.head().await;
        drop(upstream);
        let rest = client.rest().await;
        assert!(!rest.contains("0\r\n\r\n"), "{head}: {rest}");
    }
}
