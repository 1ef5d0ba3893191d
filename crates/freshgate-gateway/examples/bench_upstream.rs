//! The app behind the proxies of `bench/run`: answers every request with 1 KiB, and keeps WebSockets open in silence.
//!
//! `bench_upstream ADDR:PORT`

use std::{convert::Infallible, env, error::Error};

use bytes::Bytes;
use http::{
    Request, Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, UPGRADE},
};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{io::copy, net::TcpListener};

const BODY: [u8; 1024] = [b'x'; 1024];

async fn answer(mut request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(&BODY)));
    response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("text/plain"));
    if request.headers().contains_key(UPGRADE) {
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            if let Ok(socket) = upgrade.await {
                // Until the client leaves.
                let _ = copy(&mut TokioIo::new(socket), &mut tokio::io::sink()).await;
            }
        });
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.body_mut() = Full::default();
        response.headers_mut().insert(CONNECTION, http::HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(UPGRADE, http::HeaderValue::from_static("websocket"));
    }
    Ok(response)
}

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
