//! The app behind the proxies of `bench/run`: answers `/` with 1 KiB, `/100k` and `/10m` with as much, and sends back what
//! comes over a WebSocket.
//!
//! `bench_upstream ADDR:PORT`

use std::{convert::Infallible, env, error::Error, io, sync::LazyLock};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, UPGRADE},
};
use http_body_util::Full;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::service_fn,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

static LARGEST: LazyLock<Bytes> = LazyLock::new(|| vec![b'x'; 10_000_000].into());

/// A text frame, whole, of up to 125 bytes (RFC 6455, section 5.2).
const TEXT: u8 = 0x81;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(env::args().nth(1).ok_or("where to listen?")?).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)).with_upgrades();
        tokio::spawn(connection);
    }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.headers().contains_key(UPGRADE) {
        let socket = hyper::upgrade::on(&mut request);
        tokio::spawn(echo(socket));
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return Ok(response);
    }
    let size = match request.uri().path() {
        "/100k" => 100_000,
        "/10m" => LARGEST.len(),
        _ => 1024,
    };
    let mut response = Response::new(Full::new(LARGEST.slice(..size)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// Until the client leaves.
async fn echo(socket: OnUpgrade) {
    if let Ok(socket) = socket.await {
        let mut socket = TokioIo::new(socket);
        while echo_one(&mut socket).await.is_ok() {}
    }
}

async fn echo_one(socket: &mut TokioIo<Upgraded>) -> io::Result<()> {
    let mut head = [0; 6];
    socket.read_exact(&mut head).await?;
    let [TEXT, length, mask @ ..] = head else { return Err(io::ErrorKind::InvalidData.into()) };
    let mut frame = vec![0; 2 + usize::from(length & 0x7f)];
    socket.read_exact(&mut frame[2..]).await?;
    for (at, byte) in frame[2..].iter_mut().enumerate() {
        *byte ^= mask[at % 4];
    }
    frame[0] = TEXT;
    frame[1] = length & 0x7f;
    socket.write_all(&frame).await
}
