//! What the caller learns when there is no answer.

use std::time::Duration;

use super::{Gate, ListenerLimits, options};
use crate::listener::tests::raw::App;

const GET: &str = "GET / HTTP/1.1\r\nHost: app.test\r\n\r\n";

async fn answer_to(gate: &Gate, request: &str) -> String {
    let mut client = gate.connect().await;
    client.send(request).await;
    client.half_close_after_answer().await
}

impl crate::listener::tests::raw::Raw {
    /// The status line and the body of the only answer.
    async fn half_close_after_answer(mut self) -> String {
        let head = self.head().await;
        self.half_close().await;
        let body = self.rest().await;
        format!("{} {body}", head.lines().next().unwrap_or_default())
    }
}

#[tokio::test]
async fn an_app_that_is_not_there() {
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    drop(app);
    assert_eq!(answer_to(&gate, GET).await, "HTTP/1.1 502 Bad Gateway upstream_unreachable");
}

#[tokio::test]
async fn an_app_that_is_silent() {
    let app = App::start().await;
    let after = Some(Duration::from_millis(50));
    let mut options = options(app.address);
    options.app.answer_timeout = after;
    let gate = Gate::start(None, options, ListenerLimits::default()).await;
    let (answer, mut upstream) = tokio::join!(answer_to(&gate, GET), app.accept());
    assert_eq!(answer, "HTTP/1.1 504 Gateway Timeout upstream_timed_out");
    upstream.head().await;
    upstream.expect_end().await;
}

#[tokio::test]
async fn an_app_that_answers_nonsense() {
    let nonsense = [
        "220 mail.test ESMTP\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        "",
    ];
    for answer in nonsense {
        let app = App::start().await;
        let gate = Gate::anonymous(&app).await;
        let app_side = async {
            let mut upstream = app.accept().await;
            upstream.head().await;
            upstream.send(answer).await;
            upstream.half_close().await;
            upstream
        };
        let (page, _upstream) = tokio::join!(answer_to(&gate, GET), app_side);
        assert_eq!(page, "HTTP/1.1 502 Bad Gateway upstream_bad_answer", "{answer:?}");
    }
    let app = App::start().await;
    let gate = Gate::anonymous(&app).await;
    let endless = async {
        let mut upstream = app.accept().await;
        upstream.head().await;
        let filler = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(200 * 1024));
        let _ = tokio::io::AsyncWriteExt::write_all(&mut upstream.stream, filler.as_bytes()).await;
        upstream
    };
    let (page, _upstream) = tokio::join!(answer_to(&gate, GET), endless);
    assert_eq!(page, "HTTP/1.1 502 Bad Gateway upstream_bad_answer");
}

/// The client's fault is not blamed on the app.
#[tokio::test]
async fn bodies_that_are_malformed() {
    let bad = [
        "zz\r\nhello\r\n0\r\n\r\n",
        "5\r\nhelloworld\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\rX\nhello\r\n0\r\n\r\n",
    ];
    for body in bad {
        let app = App::start().await;
        let gate = Gate::anonymous(&app).await;
        let request =
            format!("POST / HTTP/1.1\r\nHost: app.test\r\nTransfer-Encoding: chunked\r\n\r\n{body}");
        let app_side = async {
            let mut upstream = app.accept().await;
            assert!(!upstream.rest().await.contains("0\r\n\r\n"), "the app got a whole body from {body:?}");
        };
        let (page, ()) = tokio::join!(answer_to(&gate, &request), app_side);
        assert_eq!(page, "HTTP/1.1 400 Bad Request bad_request_body", "{body:?}");
    }
}

#[tokio::test]
async fn a_body_that_pauses_for_too_long() {
    let app = App::start().await;
    let limits = ListenerLimits { body_pause: Duration::from_millis(50), ..ListenerLimits::default() };
    let gate = Gate::start(None, options(app.address), limits).await;
    for head in ["Content-Length: 10", "Content-Length: 1000000", "Transfer-Encoding: chunked"] {
        let request = format!("POST / HTTP/1.1\r\nHost: app.test\r\n{head}\r\n\r\n5\r\n");
        let app_side = async { app.accept().await.rest().await };
        let (page, _) = tokio::join!(answer_to(&gate, &request), app_side);
        assert_eq!(page, "HTTP/1.1 408 Request Timeout bad_request_body", "{head}");
    }
}
