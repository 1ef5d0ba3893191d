//! A gate in memory, with an app behind it that remembers what reached it, and a provider that says little.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use async_trait::async_trait;
use bytes::Bytes;
use freshgate::{
    Engine,
    clock::{SystemClock, SystemEntropy},
    engine::EngineParts,
    keyring::Keyring,
    provider::{Provider, ProviderAnswer, ProviderConfig, ProviderRequest, Transport, TransportError},
    session::SessionPolicy,
    store::MemoryStore,
};
use freshgate_oidc::{ClientCredential, Secret};
use freshgate_web::{Admitted, Failure, Gate, GateConfig, GateLayer};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Empty;
use tokio::runtime::Runtime;
use tower::{Layer as _, Service};
use url::Url;

use crate::signing::{CLIENT, ISSUER};

pub(crate) const COOKIE_SECRET: &str = "the cookie secret";

/// What came of a request.
pub(crate) struct Outcome {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// The headers that reached the app, if the request did.
    pub(crate) app_saw: Option<HeaderMap>,
}

impl Outcome {
    /// Nobody is signed in by it, and it is no failure of ours.
    pub(crate) fn is_harmless(&self) {
        assert!(!self.status.is_server_error(), "{}", self.status);
        for cookie in self.headers.get_all(header::SET_COOKIE) {
            let cookie = cookie.to_str().expect("our cookies are text");
            let (name, rest) = cookie.split_once('=').expect("a cookie has a name");
            let session = ["freshgate", "__Host-freshgate"].contains(&name);
            assert!(!session || rest.starts_with(';'), "a session came of it");
        }
    }
}

/// Asks a gate for an address of it, with these cookies. `None` if that is no request at all.
pub(crate) fn ask(origin: &'static str, address: &str, cookies: &[HeaderValue]) -> Option<Outcome> {
    thread_local! {
        static WORLD: World = World::new();
    }
    let mut request = Request::get(address).body(Empty::new()).ok()?;
    for cookie in cookies {
        request.headers_mut().append(header::COOKIE, cookie.clone());
    }
    let host = origin.split_once("://").map_or(origin, |(_, host)| host);
    request.headers_mut().insert(header::HOST, HeaderValue::from_static(host));
    request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("text/html"));
    WORLD.with(|world| Some(world.ask(origin, request)))
}

pub(crate) const HTTPS: &str = "https://app.example";
pub(crate) const HTTP: &str = "http://localhost:8501";

struct World {
    runtime: Runtime,
    app: App,
    gates: [(&'static str, Gate<App>); 2],
}

impl World {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let _entered = runtime.enter();
        let app = App::default();
        let gates = [HTTPS, HTTP].map(|origin| {
            let mut config = GateConfig::new(Url::parse(origin).expect("an origin"));
            config.provider_token_key = Some(Secret::new(COOKIE_SECRET));
            let layer = GateLayer::new(engine(), config).expect("a gate");
            (origin, layer.layer(app.clone()))
        });
        Self { runtime, app, gates }
    }

    fn ask(&self, origin: &str, request: Request<Empty<Bytes>>) -> Outcome {
        let (_, gate) = self.gates.iter().find(|(of, _)| *of == origin).expect("there is such a gate");
        let answer = self.runtime.block_on(gate.serve(request));
        let app_saw = self.app.0.lock().expect("nobody panics with it").take();
        Outcome { status: answer.status(), headers: answer.headers().clone(), app_saw }
    }
}

fn engine() -> Engine {
    let (clock, transport) = (Arc::new(SystemClock), Arc::new(SaysLittle));
    let metadata_url = Url::parse(&format!("{ISSUER}/.well-known/openid-configuration")).expect("an address");
    let secret = ClientCredential::Secret(Secret::new("a client's secret"));
    let config = ProviderConfig::new("default", metadata_url, CLIENT, secret);
    Engine::new(EngineParts {
        store: Arc::new(MemoryStore::default()),
        keyring: Arc::new(Keyring::from_secret(&Secret::new(COOKIE_SECRET))),
        clock: clock.clone(),
        entropy: Arc::new(SystemEntropy),
        providers: [Provider::new(config, transport, clock)].into_iter().collect(),
        policy: SessionPolicy::default(),
    })
}

/// A provider that has metadata, and no keys and no tokens.
struct SaysLittle;

#[async_trait]
impl Transport for SaysLittle {
    async fn send(&self, request: ProviderRequest) -> Result<ProviderAnswer, TransportError> {
        let (status, body) = match request.url.path() {
            "/.well-known/openid-configuration" => (
                StatusCode::OK,
                serde_json::json!({
                    "issuer": ISSUER,
                    "authorization_endpoint": format!("{ISSUER}/authorize"),
                    "token_endpoint": format!("{ISSUER}/token"),
                    "jwks_uri": format!("{ISSUER}/keys"),
                }),
            ),
            "/keys" => (StatusCode::OK, serde_json::json!({"keys": []})),
            _ => (StatusCode::BAD_REQUEST, serde_json::json!({"error": "invalid_grant"})),
        };
        Ok(ProviderAnswer { status, headers: HeaderMap::new(), body: body.to_string().into() })
    }
}

/// The app: it remembers the headers that reached it.
#[derive(Clone, Default)]
struct App(Arc<Mutex<Option<HeaderMap>>>);

/// The app always answers.
struct NoFailure(Infallible);

impl From<NoFailure> for Failure {
    fn from(never: NoFailure) -> Self {
        match never.0 {}
    }
}

impl Service<Admitted<Empty<Bytes>>> for App {
    type Response = Response<Empty<Bytes>>;
    type Error = NoFailure;
    type Future = Ready<Result<Self::Response, NoFailure>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), NoFailure>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Admitted<Empty<Bytes>>) -> Self::Future {
        let (request, _) = request.into_parts();
        *self.0.lock().expect("nobody panics with it") = Some(request.headers().clone());
        ready(Ok(Response::new(Empty::new())))
    }
}
