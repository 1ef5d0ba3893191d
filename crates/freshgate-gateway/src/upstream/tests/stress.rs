//! Many clients at once on several threads, with bodies of all sizes and clients that leave in the middle: everything
//! comes back whole, and nothing hangs.

use std::{convert::Infallible, net::SocketAddr};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Either, Full, StreamBody};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::{Gate, ListenerLimits, options, session};
use crate::listener::tests::raw::in_time;

const CLIENTS: u64 = 24;
const REQUESTS: u64 = 40;

/// An app that sends every body back as it comes in.
async fn echo_app() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let echo = service_fn(|request: Request<Incoming>| async {
                // Now and then the connection ends with the answer.
                let closes = request.uri().path().ends_with('7');
                let mut response = Response::new(request.into_body());
                if closes {
                    response.headers_mut().insert("connection", "close".parse().expect("a value"));
                }
                Ok::<_, Infallible>(response)
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), echo),
            );
        }
    });
    address
}

/// Numbers without a pattern that matters (the multiplier is Knuth's).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

fn pieces_of(body: Bytes, length: usize) -> impl http_body::Body<Data = Bytes, Error = Infallible> {
    let pieces: Vec<_> =
        body.chunks(length).map(|piece| Ok(Frame::data(Bytes::copy_from_slice(piece)))).collect();
    StreamBody::new(futures_util::stream::iter(pieces))
}

async fn client(gate: SocketAddr, seed: u64) {
    let mut dice = Dice(seed);
    let mut connection = None;
    for number in 0..REQUESTS {
        let mut sender = match connection.take() {
            Some(sender) => sender,
            None => {
                let stream = TcpStream::connect(gate).await.expect("connects");
                let (sender, driver) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a handshake");
                tokio::spawn(driver);
                sender
            }
        };
        let length = [0, 1, 1000, 32 * 1024, 40_000, 300_000][usize::try_from(dice.below(6)).expect("small")];
        let body = Bytes::from(vec![u8::try_from(number).expect("small"); length]);
        let sent = if dice.below(2) == 0 {
            Either::Left(Full::new(body.clone()))
        } else {
            Either::Right(pieces_of(body.clone(), 7000))
        };
        let request =
            Request::post(format!("/{number}")).header("host", "app.test").body(sent).expect("a request");
        let mut answer = sender.send_request(request).await.expect("an answer");
        assert_eq!(answer.status(), 200);
        if length > 0 && dice.below(5) == 0 {
            // Leaves after the first piece.
            let _ = answer.frame().await;
            continue;
        }
        let echoed = answer.into_body().collect().await.expect("a whole body").to_bytes();
        assert!(echoed == body, "{} of {length} bytes came back", echoed.len());
        sender.ready().await.expect("the connection goes on");
        connection = Some(sender);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn everything_comes_back_whole() {
    let app = echo_app().await;
    let gate = Gate::start(Some(session()), options(app), ListenerLimits::default()).await;
    let clients: Vec<_> = (0..CLIENTS).map(|seed| tokio::spawn(client(gate.served.address, seed))).collect();
    for client in clients {
        in_time("a client gets all its answers", client).await.expect("no panic");
    }
}
