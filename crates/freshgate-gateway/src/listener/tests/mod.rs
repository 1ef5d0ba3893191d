//! The listener, over raw sockets. What a good request leads to is the business of the tests beside the service.

pub(crate) mod http2;
mod limits;
mod log;
pub(crate) mod raw;
mod refusals;
mod stopping;
pub(crate) mod tls;

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tower::Service;

use super::{Listener, ListenerLimits, Stopped};

/// A listener that serves until it is stopped or dropped.
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    finish: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Stopped>,
}

impl Served {
    pub(crate) async fn start<S, B>(service: S, limits: ListenerLimits, grace: Duration) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Self::start_with(|listener| listener, service, limits, grace).await
    }

    /// The same, set up further.
    pub(crate) async fn start_with<S, B>(
        set_up: impl FnOnce(Listener) -> Listener,
        service: S,
        limits: ListenerLimits,
        grace: Duration,
    ) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send,
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        log::start();
        let socket = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let listener = set_up(Listener::new(socket, limits));
        let address = listener.local_addr().expect("an address");
        let (finish, finished) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let finish = async {
                let _ = finished.await;
            };
            listener.serve(service, finish, grace).await
        });
        Self { address, finish: Some(finish), serving }
    }

    /// Begins to stop it.
    pub(crate) fn finish(&mut self) {
        self.finish.take().expect("finishes once").send(()).expect("it serves");
    }

    /// Waits until it has stopped.
    pub(crate) async fn stopped(&mut self) -> Stopped {
        raw::in_time("the listener stops", &mut self.serving).await.expect("no panic")
    }
}

/// Answers with the request's method, path and body.
async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let status = match body.collect().await {
        Ok(body) => {
            let text = format!("{} {} ", parts.method, parts.uri);
            return Ok(Response::new(Full::from([text.as_bytes(), &body.to_bytes()].concat())));
        }
        Err(_) => http::StatusCode::REQUEST_TIMEOUT,
    };
    let mut failure = Response::new(Full::default());
    *failure.status_mut() = status;
    Ok(failure)
}

async fn echo_server(limits: ListenerLimits) -> Served {
    Served::start(tower::service_fn(echo), limits, Duration::from_secs(5)).await
}
