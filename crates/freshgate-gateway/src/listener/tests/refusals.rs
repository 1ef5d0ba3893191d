//! Requests that never reach the service.

use super::{echo_server, raw::Raw};
use crate::listener::ListenerLimits;

/// What is sent, and the status of the only answer.
#[tokio::test]
async fn smuggling_and_other_malformed_requests() {
    let table: &[(&str, &str)] = &[
        ("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", "200"),
        ("GET / HTTP/1.1\r\n\r\n", "400"),
        ("GET / HTTP/1.0\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "400"),
        ("GET http://app.test/x HTTP/1.1\r\nHost: app.test\r\n\r\n", "200"),
        ("GET http://evil.test/x HTTP/1.1\r\nHost: app.test\r\n\r\n", "400"),
        ("CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n", "405"),
        ("TRACE / HTTP/1.1\r\nHost: app.test\r\n\r\n", "405"),
        ("OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n", "400"),
        // Paths.
        ("GET /a/../b HTTP/1.1\r\nHost: app.test\r\n\r\n", "400"),
        ("GET /a/%2e%2E/b HTTP/1.1\r\nHost: app.test\r\n\r\n", "400"),
        ("GET /a\\b HTTP/1.1\r\nHost: app.test\r\n\r\n", "400"),
        ("GET /a%00b HTTP/1.1\r\nHost: app.test\r\n\r\n", "400"),
        ("GET /a\0b HTTP/1.1\r\nHost: app.test\r\n\r\n", "400"),
        // Two lengths, in either order, in all spellings.
        (
            concat!(
                "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"
            ),
            "400",
        ),
        (
            concat!(
                "POST / HTTP/1.1\r\nHost: app.test\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
                "0\r\n\r\n"
            ),
            "400",
        ),
        (
            concat!(
                "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
                "0\r\n\r\n"
            ),
            "400",
        ),
        // Lengths.
        ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde", "400"),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5, 6\r\n\r\nabcde", "400"),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: +5\r\n\r\nabcde", "400"),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0x5\r\n\r\nabcde", "400"),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: -5\r\n\r\nabcde", "400"),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length : 5\r\n\r\nabcde", "400"),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 99999999999999999999999\r\n\r\nabcde", "400"),
        // Transfer codings.
        (
            "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "200",
        ),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: identity\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", "400"),
        (
            concat!(
                "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n",
                "Transfer-Encoding: x\r\n\r\n0\r\n\r\n"
            ),
            "400",
        ),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: app.test\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("POST / HTTP/1.0\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        // Heads.
        ("GET / HTTP/1.1\r\nHost: app.test\r\nX: folded\r\n line\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: app.test\r\nX\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: app.test\r\nX: \0\r\n\r\n", "400"),
        ("GET /a b HTTP/1.1\r\nHost: app.test\r\n\r\n", "400"),
        ("GET / HTTP/3.0\r\nHost: app.test\r\n\r\n", "400"),
        ("nonsense\r\n\r\n", "400"),
    ];
    let served = echo_server(ListenerLimits::default()).await;
    for (sent, status) in table {
        let mut client = Raw::connect(served.address).await;
        client.send(sent).await;
        let head = client.head().await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} "))
                || head.starts_with(&format!("HTTP/1.0 {status} ")),
            "{}\n{head}",
            sent.escape_default()
        );
        if *status != "200" {
            let rest = client.rest().await;
            assert!(!rest.contains("HTTP/1."), "a second answer to {}\n{rest}", sent.escape_default());
        }
    }
}

#[tokio::test]
async fn a_refused_method_says_what_is_allowed() {
    let served = echo_server(ListenerLimits::default()).await;
    let mut client = Raw::connect(served.address).await;
    client.send("TRACE / HTTP/1.1\r\nHost: app.test\r\nCookie: freshgate=s\r\n\r\n").await;
    let answer = client.rest().await;
    assert!(answer.contains("\r\nallow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert!(!answer.contains("freshgate=s"), "{answer}");
}

/// A client that sends everything before it reads sees the answer, though it came before the end.
#[tokio::test]
async fn a_refusal_reaches_a_client_that_is_still_sending() {
    let served = echo_server(ListenerLimits::default()).await;
    let large = "x".repeat(8 << 20);
    let table = [
        (
            format!("POST /.. HTTP/1.1\r\nHost: app.test\r\nContent-Length: {}\r\n\r\n{large}", large.len()),
            "400",
        ),
        (format!("GET / HTTP/1.1\r\nHost: app.test\r\nX-Large: {large}\r\n\r\n"), "431"),
        (format!("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: x\r\n\r\n{large}"), "400"),
    ];
    for (request, status) in table {
        let mut client = Raw::connect(served.address).await;
        client.send(&request).await;
        let answer = client.rest().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {answer}");
    }
}

#[tokio::test]
async fn heads_up_to_the_limit_pass_and_larger_ones_are_told_so() {
    let served = echo_server(ListenerLimits::default()).await;
    let with_header_of = |length: usize| {
        format!("GET / HTTP/1.1\r\nHost: app.test\r\nX-Large: {}\r\n\r\n", "x".repeat(length))
    };
    for (length, status) in [(60 * 1024, "200"), (64 * 1024, "431"), (1024 * 1024, "431")] {
        let mut client = Raw::connect(served.address).await;
        // The rest of what is refused has nobody to read it.
        let _ =
            tokio::io::AsyncWriteExt::write_all(&mut client.stream, with_header_of(length).as_bytes()).await;
        let head = client.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{length}: {head}");
    }
    let mut client = Raw::connect(served.address).await;
    let many: String = (0..150).map(|number| format!("X-{number}: 1\r\n")).collect();
    client.send(format!("GET / HTTP/1.1\r\nHost: app.test\r\n{many}\r\n")).await;
    assert!(client.head().await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn requests_follow_one_another_on_a_connection() {
    let served = echo_server(ListenerLimits::default()).await;
    let mut client = Raw::connect(served.address).await;
    // All at once, with bodies of both kinds between.
    client
        .send(concat!(
            "POST /1 HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nabc",
            "POST /2 HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n",
            "GET /3 HTTP/1.1\r\nHost: app.test\r\n\r\n",
            "POST /4 HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ))
        .await;
    for body in ["POST /1 abc", "POST /2 def", "GET /3 "] {
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        client.expect(body).await;
    }
    // The ambiguous one is the fourth, whatever came before it.
    assert!(client.rest().await.starts_with("HTTP/1.1 400 "));
}
