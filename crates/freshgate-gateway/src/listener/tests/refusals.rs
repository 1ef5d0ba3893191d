//! Requests that never reach the service.

use super::{echo_server, log, raw::Raw};
use crate::listener::ListenerLimits;

/// The answer that hyper gives by itself to what is no request at all: a status and nothing else.
const UNREADABLE: &str = "400";
/// The answers of the listener: a status and a code.
const MALFORMED: &str = "400 malformed_request";
const METHOD: &str = "405 method_not_allowed";

/// What is sent, and the only answer.
#[tokio::test]
async fn smuggling_and_other_malformed_requests() {
    let table: &[(&str, &str)] = &[
        ("GET / HTTP/1.1\r\nHost: app.test\r\n\r\n", "200"),
        ("GET / HTTP/1.1\r\n\r\n", MALFORMED),
        ("GET / HTTP/1.0\r\n\r\n", MALFORMED),
        ("GET / HTTP/1.1\r\nHost: app.test\r\nHost: app.test\r\n\r\n", MALFORMED),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", MALFORMED),
        ("GET http://app.test/x HTTP/1.1\r\nHost: app.test\r\n\r\n", "200"),
        ("GET http://evil.test/x HTTP/1.1\r\nHost: app.test\r\n\r\n", MALFORMED),
        ("CONNECT app.test:443 HTTP/1.1\r\nHost: app.test:443\r\n\r\n", METHOD),
        ("TRACE / HTTP/1.1\r\nHost: app.test\r\n\r\n", METHOD),
        ("OPTIONS * HTTP/1.1\r\nHost: app.test\r\n\r\n", MALFORMED),
        // Paths.
        ("GET /a/../b HTTP/1.1\r\nHost: app.test\r\n\r\n", MALFORMED),
        ("GET /a/%2e%2E/b HTTP/1.1\r\nHost: app.test\r\n\r\n", MALFORMED),
        ("GET /a\\b HTTP/1.1\r\nHost: app.test\r\n\r\n", MALFORMED),
        ("GET /a%00b HTTP/1.1\r\nHost: app.test\r\n\r\n", MALFORMED),
        ("GET /a\0b HTTP/1.1\r\nHost: app.test\r\n\r\n", UNREADABLE),
        // Two lengths, in either order, in all spellings.
        (
            concat!(
                "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
                "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: app.test\r\n\r\n"
            ),
            MALFORMED,
        ),
        (
            concat!(
                "POST / HTTP/1.1\r\nHost: app.test\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n",
                "0\r\n\r\n"
            ),
            MALFORMED,
        ),
        (
            concat!(
                "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
                "0\r\n\r\n"
            ),
            MALFORMED,
        ),
        // Lengths.
        (
            "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
            UNREADABLE,
        ),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 5, 6\r\n\r\nabcde", UNREADABLE),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: +5\r\n\r\nabcde", UNREADABLE),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 0x5\r\n\r\nabcde", UNREADABLE),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: -5\r\n\r\nabcde", UNREADABLE),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length : 5\r\n\r\nabcde", UNREADABLE),
        (
            "POST / HTTP/1.1\r\nHost: app.test\r\nContent-Length: 99999999999999999999999\r\n\r\nabcde",
            UNREADABLE,
        ),
        // Transfer codings.
        (
            "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            "200",
        ),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: identity\r\n\r\n", UNREADABLE),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", MALFORMED),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", UNREADABLE),
        (
            "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
            UNREADABLE,
        ),
        (
            concat!(
                "POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n",
                "Transfer-Encoding: x\r\n\r\n0\r\n\r\n"
            ),
            UNREADABLE,
        ),
        ("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", UNREADABLE),
        ("POST / HTTP/1.1\r\nHost: app.test\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", UNREADABLE),
        (
            "POST / HTTP/1.1\r\nHost: app.test\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            UNREADABLE,
        ),
        ("POST / HTTP/1.0\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", UNREADABLE),
        // Heads.
        ("GET / HTTP/1.1\r\nHost: app.test\r\nX: folded\r\n line\r\n\r\n", UNREADABLE),
        ("GET / HTTP/1.1\r\nHost: app.test\r\nX\r\n\r\n", UNREADABLE),
        ("GET / HTTP/1.1\r\nHost: app.test\r\nX: \0\r\n\r\n", UNREADABLE),
        ("GET /a b HTTP/1.1\r\nHost: app.test\r\n\r\n", UNREADABLE),
        ("GET / HTTP/3.0\r\nHost: app.test\r\n\r\n", UNREADABLE),
        ("nonsense\r\n\r\n", UNREADABLE),
    ];
    let served = echo_server(ListenerLimits::default()).await;
    for (sent, expected) in table {
        let what = sent.escape_default();
        let mut client = Raw::connect(served.address).await;
        client.send(sent).await;
        let head = client.head().await;
        let status = &expected[..3];
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} "))
                || head.starts_with(&format!("HTTP/1.0 {status} ")),
            "{what}\n{head}"
        );
        if status == "200" {
            continue;
        }
        let rest = client.rest().await;
        assert!(!rest.contains("HTTP/1."), "a second answer to {what}\n{rest}");
        match expected.split_once(' ') {
            Some((_, code)) => assert_refusal(&head, &rest, code),
            None => assert_eq!(rest, "", "{what}"),
        }
    }
}

/// Fails unless it is a refusal with this code, and an id by which the operator finds the cause.
#[track_caller]
fn assert_refusal(head: &str, body: &str, code: &str) {
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let id = header("freshgate-request-id:").unwrap_or_else(|| panic!("no request id: {head}"));
    assert_eq!(header("connection:"), Some("close"), "{head}");
    assert_eq!(header("cache-control:"), Some("no-store"), "{head}");
    let cause = cause_of(id, code);
    assert!(!body.contains(&cause), "the cause is told: {body}");
    if header("content-type:") == Some("application/json") {
        let json: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!((&json["error"], &json["request_id"]), (&code.into(), &id.into()));
    } else {
        assert!(body.contains(&format!("<code>{code}</code>")), "{body}");
        assert!(body.contains(&format!("<code>{id}</code>")), "{body}");
    }
}

/// The cause in the one line of the log that has this id.
#[track_caller]
fn cause_of(id: &str, code: &str) -> String {
    let log = log::text();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(id)).collect();
    let [line] = lines[..] else { panic!("{} lines with {id}", lines.len()) };
    assert!(line.contains(&format!("code=\"{code}\" fault=\"browser\"")), "{line}");
    let (_, cause) = line.split_once("cause=\"").unwrap();
    cause.trim_end_matches('"').to_owned()
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
    let headers = |number: usize| {
        let all: String = (1..number).map(|number| format!("X-{number}: 1\r\n")).collect();
        format!("GET / HTTP/1.1\r\nHost: app.test\r\n{all}\r\n")
    };
    const LIMIT: usize = 64 * 1024;
    let around = with_header_of(0).len();
    let address = format!("GET /{} HTTP/1.1\r\nHost: app.test\r\n\r\n", "x".repeat(LIMIT));
    for (what, request, passes) in [
        ("small", with_header_of(1), true),
        ("at the limit", with_header_of(LIMIT - around), true),
        ("a byte larger", with_header_of(LIMIT - around + 1), false),
        ("much larger", with_header_of(1024 * 1024), false),
        ("a long address", address, false),
        ("a hundred headers", headers(100), true),
        ("one more", headers(101), false),
        ("many more", headers(1000), false),
    ] {
        let mut client = Raw::connect(served.address).await;
        // The rest of what is refused has nobody to read it.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut client.stream, request.as_bytes()).await;
        let head = client.head().await;
        if passes {
            assert!(head.starts_with("HTTP/1.1 200 "), "{what}: {head}");
            continue;
        }
        assert!(head.starts_with("HTTP/1.1 431 "), "{what}: {head}");
        assert_refusal(&head, &client.rest().await, "head_too_large");
    }
}

#[tokio::test]
async fn who_has_too_many_cookies_reads_what_to_do() {
    let served = echo_server(ListenerLimits::default()).await;
    let mut client = Raw::connect(served.address).await;
    let cookies: Vec<_> = (0..20).map(|number| format!("cookie-{number}={}", "x".repeat(4000))).collect();
    let request = format!(
        "GET /page?a=b HTTP/1.1\r\nHost: app.test\r\nAccept: text/html,*/*;q=0.8\r\nCookie: {}\r\n\r\n",
        cookies.join("; ")
    );
    client.send(request).await;
    let (head, page) = (client.head().await, client.rest().await);
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    assert!(head.contains("\r\ncontent-type: text/html; charset=utf-8\r\n"), "{head}");
    assert_refusal(&head, &page, "head_too_large");
    let id = page.rsplit_once("</code></footer>").unwrap().0.rsplit_once("<code>").unwrap().1;
    let (before, style) = page.split_once("<style>").unwrap();
    let (_, after) = style.split_once("</style>").unwrap();
    insta::assert_snapshot!(
        "head_too_large",
        format!("{before}<style>…</style>{after}").replace(id, "REQUEST-ID")
    );
}

/// Requests that were sent before one that is too large are answered before it.
#[tokio::test]
async fn a_head_that_is_too_large_waits_for_its_turn() {
    let served = echo_server(ListenerLimits::default()).await;
    let mut client = Raw::connect(served.address).await;
    let large = "x".repeat(100_000);
    client
        .send(format!(
            "POST /1 HTTP/1.1\r\nHost: app.test\r\nContent-Length: 3\r\n\r\nabc\
             GET /2 HTTP/1.1\r\nHost: app.test\r\n\r\n\
             GET /3 HTTP/1.1\r\nHost: app.test\r\nCookie: {large}\r\n\r\n\
             GET /4 HTTP/1.1\r\nHost: app.test\r\n\r\n"
        ))
        .await;
    for body in ["POST /1 abc", "GET /2 "] {
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        client.expect(body).await;
    }
    let (head, rest) = (client.head().await, client.rest().await);
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
    assert!(!rest.contains("/4"), "what follows is no request: {rest}");
    assert_refusal(&head, &rest, "head_too_large");
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

/// The body is a body, and is not held to the limits of a head, however its length is written.
#[tokio::test]
async fn lengths_may_be_written_at_length() {
    let served = echo_server(ListenerLimits::default()).await;
    let body = "x".repeat(100_000);
    let (blanks, zeros) = (" ".repeat(33), "0".repeat(60));
    for request in [
        format!("Content-Length:{blanks}{}\r\n\r\n{body}", body.len()),
        format!("Content-Length: {zeros}{}\r\n\r\n{body}", body.len()),
        format!("Transfer-Encoding: chunked\r\n\r\n{zeros}{:x}\r\n{body}\r\n{zeros}\r\n\r\n", body.len()),
    ] {
        let mut client = Raw::connect(served.address).await;
        client.send(format!("POST /1 HTTP/1.1\r\nHost: app.test\r\n{request}")).await;
        let head = client.head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{}: {head}", &request[..60]);
        client.expect(&format!("POST /1 {body}")).await;
        client.send("GET /2 HTTP/1.1\r\nHost: app.test\r\n\r\n").await;
        client.head().await;
        client.expect("GET /2 ").await;
    }
}
