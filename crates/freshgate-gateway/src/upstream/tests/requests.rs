//! What the app sees of a request, and the browser of an answer.

use http::HeaderValue;

use super::{Gate, Raw, lines, options, session};
use crate::listener::{ForwardedHeader, ListenerLimits, TrustedProxies, tests::raw::App};

const GET: &str = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";

#[tokio::test]
async fn the_app_sees_the_request_and_what_the_gate_says() {
    let app = App::start().await;
    let gate = Gate::signed_in(&app).await;
    let mut client = gate.connect().await;
    client
        .send(concat!(
            "GET /a%20b?x=1&y=%2F HTTP/1.1\r\nHost: app.test:8501\r\nAccept: */*\r\n",
            "Cookie: freshgate=secret; _streamlit_xsrf=x; _streamlit_user=u\r\n",
            "Freshgate-Session: forged\r\nfreshgate_session: forged\r\nX-Forwarded-For: 10.0.0.1\r\n",
            "Connection: keep-alive, freshgate-session, x-hop\r\nX-Hop: 1\r\n\r\n"
        ))
        .await;
    let mut upstream = app.accept().await;
    let head = upstream.head().await;
    let handle = format!("freshgate-session: {}", session());
    let mut expected = vec![
        "accept: */*",
        "cookie: _streamlit_xsrf=x",
        &handle,
        "host: app.test:8501",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: app.test:8501",
        "x-forwarded-proto: http",
    ];
    expected.insert(0, "GET /a%20b?x=1&y=%2F HTTP/1.1");
    assert_eq!(lines(&head), expected);

    upstream
        .send(concat!(
            "HTTP/1.1 200 Splendid\r\nContent-Length: 2\r\nDate: now\r\nServer: app\r\nSet-Cookie: a=1\r\n",
            "Set-Cookie: freshgate=fixed\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\n\r\nok"
        ))
        .await;
    let head = client.head().await;
    let expected =
        ["HTTP/1.1 200 Splendid", "content-length: 2", "date: now", "server: app", "set-cookie: a=1"];
    assert_eq!(lines(&head), expected);
    client.expect("ok").await;
}

#[tokio::test]
async fn the_app_is_told_of_the_client_behind_a_proxy_that_is_trusted() {
    let app = App::start().await;
    for (network, expected) in [("127.0.0.0/8", "198.51.100.7"), ("10.0.0.0/8", "127.0.0.1")] {
        let proxies = TrustedProxies::new([network.parse().expect("a network")], ForwardedHeader::XForwarded);
        let mut options = options(app.address);
        options.proxy.host = Some(HeaderValue::from_static("app.example"));
        options.app.idle_connections = 0;
        let gate = Gate::start_with(
            |listener| listener.behind(proxies),
            Some(session()),
            options,
            ListenerLimits::default(),
        )
        .await;
        let mut client = gate.connect().await;
        // Requests of several clients come over one connection.
        for (sent, expected) in [
            ("X-Forwarded-For: 127.0.0.1, 198.51.100.7\r\n", expected),
            ("X-Forwarded-For: 198.51.100.7, \"nonsense\"\r\nForwarded: for=203.0.113.9\r\n", "127.0.0.1"),
            ("", "127.0.0.1"),
        ] {
            let rest = "X-Forwarded-Proto: ftp\r\nX-Forwarded-Host: evil.test\r\n\r\n";
            client.send(format!("GET / HTTP/1.1\r\nHost: 10.0.0.5\r\n{sent}{rest}")).await;
            let mut upstream = app.accept().await;
            let head = upstream.head().await;
            let handle = format!("freshgate-session: {}", session());
            let client_is = format!("x-forwarded-for: {expected}");
            let expected = [
                "GET / HTTP/1.1",
                &handle,
                "host: 10.0.0.5",
                &client_is,
                "x-forwarded-host: app.example",
                "x-forwarded-proto: http",
            ];
            assert_eq!(lines(&head), expected, "{network} {sent}");
            upstream.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n").await;
            client.head().await;
        }
    }
}

#[tokio::test]
async fn an_anonymous_visitor_has_no_handle() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    let mut client = gate.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: app.test\r\nFreshgate_Session: forged\r\n\r\n").await;
    let head = app.accept().await.head().await;
    assert!(!head.contains("forged") && !head.contains("freshgate"), "{head}");
}

#[tokio::test]
async fn an_absolute_target_becomes_a_path() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    let mut client = gate.connect().await;
    client.send("GET http://app.test/a?b HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
    let head = app.accept().await.head().await;
    assert!(head.starts_with("GET /a?b HTTP/1.1\r\n"), "{head}");
}

/// The browser's request line, the app's answer, and what the browser must and must not see of it.
#[tokio::test]
async fn answers_keep_their_shape() {
    let table: &[(&str, &str, &str, &str)] = &[
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n",
            "content-length: 1000",
            "transfer-encoding",
        ),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "200 OK", "content-length"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", "204 No Content", "content-length"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n", "etag: \"x\"", "transfer-encoding"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "content-length: 0", "transfer-encoding"),
        (
            "GET",
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
            "404 Not Found",
            "link",
        ),
        ("GET", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK", "connection: close"),
    ];
    for (method, answer, present, absent) in table {
        let app = App::start().await;
        let gate = Gate::anonymous(&app).await;
        let mut client = gate.connect().await;
        client.send(format!("{method} / HTTP/1.1\r\nHost: app.test\r\n\r\n")).await;
        let mut upstream = app.accept().await;
        upstream.head().await;
        upstream.send(answer).await;
        let head = client.head().await;
        assert!(head.contains(present) && !head.contains(absent), "{answer}\n{head}");
        // Nothing follows that head: the next answer starts where it ends.
        client.send("GET /next HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        drop(upstream);
        let mut upstream = app.accept().await;
        assert!(upstream.head().await.starts_with("GET /next"));
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

#[tokio::test]
async fn an_answer_that_ends_with_its_connection_is_chunked() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    let mut client = gate.connect().await;
    client.send(GET).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    upstream.send("HTTP/1.0 200 OK\r\n\r\nhello").await;
    drop(upstream);
    assert!(client.head().await.contains("transfer-encoding: chunked\r\n"));
    client.expect("5\r\nhello\r\n0\r\n\r\n").await;
}

#[tokio::test]
async fn an_old_client_gets_no_chunks() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    let mut client = gate.connect().await;
    client.send("GET / HTTP/1.0\r\nHost: app.test\r\n\r\n").await;
    let mut upstream = app.accept().await;
    assert!(upstream.head().await.starts_with("GET / HTTP/1.1\r\n"));
    upstream.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n").await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.0 200 OK\r\n") && !head.contains("chunked"), "{head}");
    client.expect("hello").await;
    client.expect_end().await;
}

#[tokio::test]
async fn bodies_keep_their_framing() {
    let table: &[(&str, &str, &str)] = &[
        ("POST", "Content-Length: 0\r\n\r\n", "content-length: 0\r\n"),
        ("POST", "Content-Length: 5\r\n\r\nhello", "content-length: 5\r\n"),
        ("POST", "\r\n", "POST /"),
        ("GET", "Content-Length: 5\r\n\r\nhello", "content-length: 5\r\n"),
        (
            "POST",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "transfer-encoding: chunked\r\n",
        ),
        (
            "GET",
            "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "transfer-encoding: chunked\r\n",
        ),
        (
            "PUT",
            "Transfer-Encoding: Chunked\r\nConnection: content-length\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            "transfer-encoding: chunked\r\n",
        ),
    ];
    for (method, sent, framing) in table {
        let app = App::start().await;
        let gate = Gate::anonymous(&app).await;
        let mut client = gate.connect().await;
        client.send(format!("{method} / HTTP/1.1\r\nHost: app.test\r\n{sent}")).await;
        let mut upstream = app.accept().await;
        let head = upstream.head().await;
        assert!(head.contains(framing), "{sent}\n{head}");
        assert!(!(head.contains("content-length") && head.contains("transfer-encoding")), "{head}");
        if framing.contains("chunked") {
            upstream.expect("5\r\nhello\r\n0\r\n\r\n").await;
        } else if framing.contains("5") {
            upstream.expect("hello").await;
        }
        upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
        assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    }
}

#[tokio::test]
async fn trailers_pass_both_ways_without_identity() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    let mut client = gate.connect().await;
    client
        .send(concat!(
            "POST / HTTP/1.1\r\nHost: app.test\r\nTE: trailers\r\nConnection: te\r\n",
            "Trailer: x-sum, freshgate-session\r\nTransfer-Encoding: chunked\r\n\r\n",
            "5\r\nhello\r\n0\r\nX-Sum: 1\r\nFreshgate-Session: forged\r\n\r\n"
        ))
        .await;
    let mut upstream = app.accept().await;
    let head = upstream.head().await;
    assert!(head.contains("te: trailers\r\n") && head.contains("connection: te\r\n"), "{head}");
    upstream.expect("5\r\nhello\r\n0\r\nx-sum: 1\r\n\r\n").await;
    upstream
        .send(concat!(
            "HTTP/1.1 200 OK\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n",
            "2\r\nok\r\n0\r\nX-Sum: 2\r\n\r\n"
        ))
        .await;
    assert!(client.head().await.contains("trailer: x-sum\r\n"));
    client.expect("2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n").await;
}

/// A client that waits for permission to send its body gets it from the app, not from the gate.
#[tokio::test]
async fn expect_continue_is_answered_by_the_app() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    let ask = "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";

    let mut client = gate.connect().await;
    client.send(ask).await;
    let mut upstream = app.accept().await;
    assert!(upstream.head().await.contains("expect: 100-continue\r\n"));
    assert!(client.is_silent());
    upstream.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("hello").await;
    upstream.expect("hello").await;
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));

    // An app that refuses is heard at once, and the body never asked for.
    let mut client = gate.connect().await;
    client.send(ask).await;
    let refused = async {
        upstream.head().await;
        upstream.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n").await;
    };
    refused.await;
    assert!(client.head().await.starts_with("HTTP/1.1 413 "));

    // An app that knows nothing of it gets the body after a while.
    let mut client = gate.connect().await;
    client.send(ask).await;
    let mut upstream = app.accept().await;
    upstream.head().await;
    client.expect("HTTP/1.1 100 Continue\r\n\r\n").await;
    client.send("hello").await;
    upstream.expect("hello").await;
}

#[tokio::test]
async fn a_head_of_60_kib_passes_both_ways() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    let mut client = gate.connect().await;
    let large = format!("x-large: {}\r\n", "x".repeat(60 * 1024));
    client.send(format!("GET / HTTP/1.1\r\nHost: app.test\r\n{large}\r\n")).await;
    let mut upstream = app.accept().await;
    assert!(upstream.head().await.contains(&large));
    upstream.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{large}\r\n")).await;
    assert!(client.head().await.contains(&large));
}

/// Two requests at once on one connection: the app gets them one after the other, and the answers come in order.
#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    let mut client: Raw = gate.connect().await;
    client.send(format!("{GET}{}", GET.replace("GET /", "GET /second"))).await;
    let mut upstream = app.accept().await;
    assert!(upstream.head().await.starts_with("GET / "));
    assert!(upstream.is_silent());
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1").await;
    assert!(upstream.head().await.starts_with("GET /second "));
    upstream.send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2").await;
    client.head().await;
    client.expect("1").await;
    client.head().await;
    client.expect("2").await;
}
