//! The way of the provider's own requests to a gate that listens nowhere.

use std::sync::{Arc, Mutex, OnceLock};

use axum::{Router, body::Body, extract::State};
use bytes::Bytes;
use freshgate_web::Gate;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use tokio::{net::TcpListener, task::AbortHandle};
use tower::Service as _;
use url::Url;

use crate::world::{App, infallible};

/// Listens, and hands what comes to the gate, once there is one.
pub(crate) struct Bridge {
    origin: Url,
    crossing: Arc<Crossing>,
    server: AbortHandle,
}

#[derive(Default)]
struct Crossing {
    gate: OnceLock<Gate<App>>,
    answers: Mutex<Vec<Told>>,
}

/// What the gate answered to the provider.
pub(crate) struct Told {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Bridge {
    pub(crate) async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let crossing = Arc::new(Crossing::default());
        let routes = Router::new().fallback(cross).with_state(crossing.clone());
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() }).abort_handle();
        Self { origin, crossing, server }
    }

    pub(crate) fn leads_to(&self, gate: Gate<App>) {
        assert!(self.crossing.gate.set(gate).is_ok());
    }

    pub(crate) fn address(&self, path: &str) -> Url {
        self.origin.join(path).unwrap()
    }

    /// The answers since the last time.
    pub(crate) fn answers(&self) -> Vec<Told> {
        std::mem::take(&mut *self.crossing.answers.lock().unwrap())
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn cross(State(crossing): State<Arc<Crossing>>, request: Request<Body>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = Full::new(body.collect().await.unwrap().to_bytes());
    let answer =
        infallible(crossing.gate.get().unwrap().clone().call(Request::from_parts(parts, body)).await);
    let (parts, body) = answer.into_parts();
    let body = infallible(body.collect().await).to_bytes();
    let told = Told { status: parts.status, headers: parts.headers.clone(), body: body.clone() };
    crossing.answers.lock().unwrap().push(told);
    Response::from_parts(parts, Full::new(body))
}
