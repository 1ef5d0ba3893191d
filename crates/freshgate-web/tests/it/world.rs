//! The world of a story: a provider, an engine, a gate, and an app behind it that tells what reached it.

use std::{
    convert::Infallible,
    fmt,
    future::{Ready, ready},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use freshgate::{
    Engine, Secret, Timestamp,
    clock::{Clock, SystemClock, SystemEntropy},
    engine::EngineParts,
    keyring::Keyring,
    provider::{HttpTransport, Provider, ProviderConfig, TransportOptions},
    session::{EndReason, SessionKey, SessionPolicy},
    store::{
        Changes, Ended, EndedAt, Found, Inserted, Listed, MemoryStore, Note, Position, Replaced, Resealed,
        Revision, Row, Store, StoreError, Tombstone,
    },
};
use freshgate_devidp::{DevClient, DevProvider, DevProviderConfig, DevUser, RunningProvider, Scripting};
use freshgate_oidc::ClientCredential;
use freshgate_web::{Admitted, Failure, Fault, Gate, GateConfig, GateLayer, Permit, Visitor};
use http::{Response, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;
use tower::{Layer, Service};
use url::Url;

use crate::{bridge::Bridge, browser::Browser};

pub(crate) const HTTPS: &str = "https://app.example";
pub(crate) const LOCALHOST: &str = "http://localhost:8501";
pub(crate) const COOKIE_SECRET: &str = "the app's cookie_secret";

pub(crate) struct World {
    pub(crate) provider: RunningProvider,
    pub(crate) engine: Engine,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) store: Arc<FlakyStore>,
    pub(crate) gate: Gate<App>,
    pub(crate) origin: Url,
    pub(crate) app: App,
    pub(crate) bridge: Bridge,
    config: GateConfig,
}

impl World {
    /// The usual: https, no login required.
    pub(crate) async fn new() -> Self {
        Self::with(HTTPS, |_| {}).await
    }

    pub(crate) async fn with(origin: &str, configure: impl FnOnce(&mut GateConfig)) -> Self {
        Self::set_up(origin, configure, |_| {}, |_| {}).await
    }

    /// The usual gate at a provider that is set up otherwise, on its own side and on ours.
    pub(crate) async fn at(
        provider: impl FnOnce(&mut DevProviderConfig),
        client: impl Fn(&mut ProviderConfig),
    ) -> Self {
        Self::set_up(HTTPS, |_| {}, provider, client).await
    }

    async fn set_up(
        origin: &str,
        configure: impl FnOnce(&mut GateConfig),
        provider_setup: impl FnOnce(&mut DevProviderConfig),
        client_setup: impl Fn(&mut ProviderConfig),
    ) -> Self {
        crate::log::start();
        let origin = Url::parse(origin).unwrap();
        let mut config = GateConfig::new(origin.clone());
        config.provider_token_key = Some(Secret::new(COOKIE_SECRET));
        configure(&mut config);
        let callback = origin.join(&format!("{}/oauth2callback", config.base_path)).unwrap();

        let mut provider = DevProviderConfig::new("127.0.0.1:0".parse().unwrap());
        let bridge = Bridge::open().await;
        let told_at = format!("{}/auth/backchannel-logout", config.base_path);
        for id in ["app", "another-app"] {
            let client = DevClient::confidential(id, Secret::new("client secret"), callback.clone());
            provider.clients.push(DevClient {
                post_logout_redirect_uris: vec![callback.to_string()],
                backchannel_logout_uri: Some(bridge.address(&told_at)),
                ..client
            });
        }
        provider.scripting = Scripting::On;
        provider.users.extend([DevUser::named("alice"), DevUser::named("mallory")]);
        provider_setup(&mut provider);
        let provider = DevProvider::bind(provider).await.unwrap();
        let metadata_url = Url::parse(&provider.metadata_url()).unwrap();

        let clock = Arc::new(TestClock::default());
        let store = Arc::new(FlakyStore::default());
        let engine = engine(&metadata_url, store.clone(), clock.clone(), client_setup);
        let app = App::default();
        let gate = GateLayer::new(engine.clone(), config.clone()).unwrap().layer(app.clone());
        bridge.leads_to(gate.clone());
        Self { provider, engine, clock, store, gate, origin, app, bridge, config }
    }

    /// Another gate on the same store, as on another machine or after a restart.
    pub(crate) fn another_gate(&self) -> (Engine, Gate<App>) {
        let metadata_url = Url::parse(&self.provider.metadata_url()).unwrap();
        let engine = engine(&metadata_url, self.store.clone(), self.clock.clone(), |_| {});
        let gate = GateLayer::new(engine.clone(), self.config.clone()).unwrap().layer(self.app.clone());
        (engine, gate)
    }

    /// Tells the provider's script what to do; what it says.
    pub(crate) async fn script(&self, path: &str, wanted: Value) -> Value {
        let answered = client()
            .post(format!("{}/_script{path}", self.provider.issuer()))
            .header(header::CONTENT_TYPE, "application/json")
            .body(wanted.to_string())
            .send()
            .await
            .unwrap();
        assert!(answered.status().is_success(), "{}", answered.text().await.unwrap());
        let said = answered.text().await.unwrap();
        if said.is_empty() { Value::Null } else { serde_json::from_str(&said).unwrap() }
    }

    /// How many requests reached an endpoint of the provider.
    pub(crate) async fn requests(&self, endpoint: &str) -> usize {
        let log = client().get(format!("{}/_log", self.provider.issuer())).send().await.unwrap();
        let log: Value = serde_json::from_str(&log.text().await.unwrap()).unwrap();
        log["entries"].as_array().unwrap().iter().filter(|entry| entry["endpoint"] == endpoint).count()
    }

    /// A browser that was never here.
    pub(crate) fn browser(&self) -> Browser {
        Browser::new(self.gate.clone(), &self.origin)
    }

    /// A browser in which somebody is signed in, and the name of the session.
    pub(crate) async fn signed_in(&self, user: &str) -> (Browser, SessionKey) {
        let mut browser = self.browser();
        let callback = self.start_login(&mut browser, "/auth/login", user).await;
        assert_eq!(browser.navigate(&callback).await.status(), StatusCode::SEE_OTHER);
        let key = self.session_key(&browser);
        (browser, key)
    }

    /// Starts a login and signs in at the provider. Returns the address that the provider sends the browser to.
    pub(crate) async fn start_login(&self, browser: &mut Browser, path: &str, user: &str) -> String {
        let started = browser.navigate(path).await;
        assert_eq!(started.status(), StatusCode::SEE_OTHER, "{}", started.text());
        self.sign_in(&started.location(), user).await
    }

    /// What the user does at the provider. Returns the address that the provider sends the browser to.
    pub(crate) async fn sign_in(&self, authorize: &str, user: &str) -> String {
        self.answer_sign_in_page(authorize, ("user", user)).await
    }

    pub(crate) async fn cancel_sign_in(&self, authorize: &str) -> String {
        self.answer_sign_in_page(authorize, ("cancel", "1")).await
    }

    async fn answer_sign_in_page(&self, authorize: &str, answer: (&str, &str)) -> String {
        let authorize = Url::parse(authorize).unwrap();
        let form = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("request", authorize.query().unwrap())
            .append_pair(answer.0, answer.1)
            .finish();
        let answered = client()
            .post(authorize.join("/sign-in").unwrap())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form)
            .send()
            .await
            .unwrap();
        assert_eq!(answered.status(), StatusCode::SEE_OTHER);
        answered.headers()[header::LOCATION].to_str().unwrap().to_owned()
    }

    /// By what the gate proved itself at the token endpoint, request by request; of a provider that keeps a log.
    pub(crate) async fn client_authentications(&self) -> Vec<String> {
        let ways = self.provider_log().await.into_iter().map(|entry| entry["client_auth"].clone());
        ways.filter_map(|way| way.as_str().map(str::to_owned)).collect()
    }

    /// The requests that reached the provider.
    pub(crate) async fn provider_log(&self) -> Vec<serde_json::Value> {
        let answered = client().get(format!("{}/_log", self.provider.issuer())).send().await.unwrap();
        let log: serde_json::Value = serde_json::from_slice(&answered.bytes().await.unwrap()).unwrap();
        log["entries"].as_array().unwrap().clone()
    }

    /// Lets the provider sign the user out. Returns the address that it sends the browser to.
    pub(crate) async fn sign_out_at_provider(&self, end_session: &str) -> String {
        let answered = client().get(end_session).send().await.unwrap();
        assert_eq!(answered.status(), StatusCode::SEE_OTHER);
        answered.headers()[header::LOCATION].to_str().unwrap().to_owned()
    }

    /// Edits a profile at the provider. The gate learns of it with the next refresh.
    pub(crate) async fn change_user(&self, user: &str, mut claims: serde_json::Value) {
        claims["name"] = user.into();
        let body = serde_json::json!({ "sub": user, "claims": claims }).to_string();
        let url = format!("{}/_script/users", self.provider.issuer());
        let changed =
            client().post(url).header(header::CONTENT_TYPE, "application/json").body(body).send().await;
        assert!(changed.unwrap().status().is_success());
    }

    pub(crate) fn session_key(&self, browser: &Browser) -> SessionKey {
        browser.session_key().expect("the browser holds a session cookie")
    }

    /// Why a session ended; `None` if it is open.
    pub(crate) async fn end_of(&self, key: SessionKey) -> Option<EndReason> {
        match self.engine.open(key).await.unwrap() {
            freshgate::engine::Opened::Open(_) => None,
            freshgate::engine::Opened::Ended(reason) => Some(reason),
            freshgate::engine::Opened::Unknown => panic!("nobody knows this session"),
        }
    }
}

/// Tells the provider to misbehave.
pub(crate) async fn script(provider: &RunningProvider, rule: serde_json::Value) {
    let answered = client()
        .post(format!("{}/_script", provider.issuer()))
        .header(header::CONTENT_TYPE, "application/json")
        .body(rule.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answered.status(), StatusCode::CREATED, "{rule}");
}

fn engine(
    metadata_url: &Url,
    store: Arc<FlakyStore>,
    clock: Arc<TestClock>,
    client_setup: impl Fn(&mut ProviderConfig),
) -> Engine {
    let transport = Arc::new(HttpTransport::new(&TransportOptions::default()).unwrap());
    let described = |name: &str, client_id: &str, metadata_url: &Url| {
        let secret = ClientCredential::Secret(Secret::new("client secret"));
        let mut config = ProviderConfig::new(name, metadata_url.clone(), client_id, secret);
        config.scope = "openid profile email".to_owned();
        client_setup(&mut config);
        config
    };
    // Port 9 discards; nobody listens there.
    let nowhere = Url::parse("http://127.0.0.1:9/.well-known/openid-configuration").unwrap();
    let providers = [
        described("default", "app", metadata_url),
        described("google", "app", metadata_url),
        described("another", "another-app", metadata_url),
        described("nowhere", "app", &nowhere),
    ];
    Engine::new(EngineParts {
        store,
        keyring: Arc::new(Keyring::from_secret(&Secret::new("a keyring's secret"))),
        clock: clock.clone(),
        entropy: Arc::new(SystemEntropy),
        providers: providers
            .map(|config| Provider::new(config, transport.clone(), clock.clone()))
            .into_iter()
            .collect(),
        policy: SessionPolicy::default(),
    })
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// The machine's clock, which stories move on.
#[derive(Default)]
pub(crate) struct TestClock {
    ahead_millis: AtomicI64,
}

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.ahead_millis.fetch_add(by.as_millis().try_into().unwrap(), Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let ahead = Duration::from_millis(self.ahead_millis.load(Ordering::SeqCst).try_into().unwrap());
        SystemClock.now() + ahead
    }
}

/// The app behind the gate. Shows in its answer what reached it.
#[derive(Clone, Default)]
pub(crate) struct App {
    pub(crate) out_of_order: Arc<AtomicBool>,
    /// The paths that it was asked for.
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
    /// By what the last request was let in.
    pub(crate) permit: Arc<Mutex<Option<Permit>>>,
}

/// An app that does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the app is out of order")]
pub(crate) struct OutOfOrder(#[source] fmt::Error);

impl From<OutOfOrder> for Failure {
    fn from(error: OutOfOrder) -> Self {
        Failure::new(
            Fault::Upstream,
            StatusCode::BAD_GATEWAY,
            "upstream_unreachable",
            "The app does not answer",
            "Try again in a moment.",
        )
        .retry_after(Duration::from_millis(1500))
        .caused_by(error)
    }
}

impl Service<Admitted<Full<Bytes>>> for App {
    type Response = Response<Full<Bytes>>;
    type Error = OutOfOrder;
    type Future = Ready<Result<Self::Response, OutOfOrder>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OutOfOrder>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, admitted: Admitted<Full<Bytes>>) -> Self::Future {
        *self.permit.lock().unwrap() = Some(admitted.permit().clone());
        let (request, visitor) = admitted.into_parts();
        self.asked.lock().unwrap().push(request.uri().to_string());
        if self.out_of_order.load(Ordering::SeqCst) {
            return ready(Err(OutOfOrder(fmt::Error)));
        }
        let who = match &visitor {
            Visitor::Anonymous => "nobody".to_owned(),
            Visitor::SignedIn(session) => session.claims()["sub"].as_str().unwrap().to_owned(),
        };
        let cookies: Vec<_> =
            request.headers().get_all(header::COOKIE).iter().map(|it| it.to_str().unwrap()).collect();
        let seen = format!("{who} at {} with cookies [{}]", request.uri(), cookies.join(" | "));
        ready(Ok(Response::new(Full::from(seen))))
    }
}

/// A store in memory that fails when told to.
#[derive(Default)]
pub(crate) struct FlakyStore {
    inner: MemoryStore,
    pub(crate) fails: AtomicBool,
}

impl FlakyStore {
    fn check(&self) -> Result<(), StoreError> {
        match self.fails.load(Ordering::SeqCst) {
            true => Err(StoreError::Failed("the disk is full".into())),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Store for FlakyStore {
    async fn insert(&self, key: SessionKey, row: Row) -> Result<Inserted, StoreError> {
        self.check()?;
        self.inner.insert(key, row).await
    }

    async fn read(&self, key: SessionKey) -> Result<Found, StoreError> {
        self.check()?;
        self.inner.read(key).await
    }

    async fn replace(&self, key: SessionKey, expected: Revision, row: Row) -> Result<Replaced, StoreError> {
        self.check()?;
        self.inner.replace(key, expected, row).await
    }

    async fn end(
        &self,
        key: SessionKey,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<Ended, StoreError> {
        self.check()?;
        self.inner.end(key, tombstone, keep_until, note).await
    }

    async fn end_at(
        &self,
        key: SessionKey,
        expected: Revision,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<EndedAt, StoreError> {
        self.check()?;
        self.inner.end_at(key, expected, tombstone, keep_until, note).await
    }

    async fn reseal(
        &self,
        key: SessionKey,
        before: Vec<u8>,
        sealed: Vec<u8>,
    ) -> Result<Resealed, StoreError> {
        self.check()?;
        self.inner.reseal(key, before, sealed).await
    }

    async fn list(
        &self,
        after: Option<SessionKey>,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Listed)>, StoreError> {
        self.inner.list(after, limit).await
    }

    async fn of_subject(&self, subject: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        self.inner.of_subject(subject).await
    }

    async fn of_provider_session(&self, sid: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        self.inner.of_provider_session(sid).await
    }

    async fn changes_since(&self, position: Option<Position>) -> Result<Changes, StoreError> {
        self.inner.changes_since(position).await
    }

    async fn mark(
        &self,
        name: [u8; 32],
        at: Timestamp,
        keep_until: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.check()?;
        self.inner.mark(name, at, keep_until).await
    }

    async fn marked(&self, name: [u8; 32]) -> Result<Option<Timestamp>, StoreError> {
        self.check()?;
        self.inner.marked(name).await
    }

    async fn ending(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Timestamp)>, StoreError> {
        self.inner.ending(until, limit).await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.inner.sweep(now, limit).await
    }
}

/// The gate's service never fails.
pub(crate) fn infallible<T>(result: Result<T, Infallible>) -> T {
    match result {
        Ok(value) => value,
        Err(never) => match never {},
    }
}
