//! Taking connections and letting them go.
//!
//! Not `axum::serve`: a script must be able to cut the very connection that a request came on, and stopping must not
//! wait for a client that keeps its connection open.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::FINISHING_TIME;

/// How long a client may take to send the head of a request.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// Cuts the connection that a request came on. A request finds it among its extensions.
#[derive(Clone, Debug)]
pub(crate) struct CutSwitch(CancellationToken);

impl CutSwitch {
    /// Closes the connection; whatever is still to be sent on it is not.
    pub(crate) fn cut(&self) {
        self.0.cancel();
    }
}

/// Counts the connections that are open.
#[derive(Debug, Default)]
pub(crate) struct OpenConnections {
    now: AtomicUsize,
    high_water: AtomicUsize,
}

impl OpenConnections {
    /// How many there are.
    pub(crate) fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// How many there were at the most since the last [`OpenConnections::forget`].
    pub(crate) fn high_water(&self) -> usize {
        self.high_water.load(Ordering::Relaxed)
    }

    pub(crate) fn forget(&self) {
        self.high_water.store(self.now(), Ordering::Relaxed);
    }

    fn opened(self: Arc<Self>) -> OpenConnection {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.high_water.fetch_max(now, Ordering::Relaxed);
        OpenConnection(self)
    }
}

/// One of them, until it is dropped.
struct OpenConnection(Arc<OpenConnections>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    open: Arc<OpenConnections>,
    stop: CancellationToken,
) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let counted = Arc::clone(&open).opened();
                    let serving = connection(stream, routes.clone(), stop.clone());
                    connections.spawn(async move {
                        serving.await;
                        drop(counted);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, most likely: trying again at once would only burn the processor.
                    tracing::warn!(%error, "cannot take a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }
    drop(listener);
    let finish = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(FINISHING_TIME, finish).await.is_err() {
        connections.shutdown().await;
    }
}

async fn connection(stream: TcpStream, routes: Router, stop: CancellationToken) {
    // Small answers must not wait for an acknowledgement.
    let _ = stream.set_nodelay(true);
    let cut = CancellationToken::new();
    let switch = CutSwitch(cut.clone());
    let routes = TowerToHyperService::new(routes);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(switch.clone());
        let answer = routes.call(request);
        async move { Ok::<_, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let mut serving = pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_PATIENCE)
            .serve_connection(TokioIo::new(stream), service)
    );
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = cut.cancelled() => return,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            tokio::select! {
                outcome = serving => outcome,
                () = cut.cancelled() => return,
            }
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection ended early");
    }
}
