//! An engine with a clock that tests move and a provider that they script.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use freshgate::{
    Engine,
    clock::{Clock, SystemEntropy},
    engine::{EngineParts, LoginError, LoginRequest, Opened},
    keyring::Keyring,
    provider::{Provider, ProviderConfig, Refreshing, Transport},
    session::{OpenSession, SessionKey, SessionPolicy},
    store::{MemoryStore, Store},
};
use freshgate_oidc::{
    AuthorizationParameters, CallbackParameters, ClientCredential, ExpectedIssuer, Issuer, Secret, Timestamp,
};
use url::Url;

use crate::provider::{CLIENT_ID, ISSUER, ScriptedProvider};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Stands still until it is moved, or runs with tokio's (which tests can pause).
pub(crate) struct TestClock {
    moved: AtomicI64,
    runs_from: Option<tokio::time::Instant>,
}

/// When tests take place.
pub(crate) const START: i64 = 1_795_000_000_000;

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { moved: AtomicI64::new(START), runs_from: None })
    }

    pub(crate) fn running() -> Arc<Self> {
        Arc::new(Self { moved: AtomicI64::new(START), runs_from: Some(tokio::time::Instant::now()) })
    }

    pub(crate) fn advance(&self, by: Duration) {
        self.moved.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
    }

    /// Somebody sets it right.
    pub(crate) fn set_back(&self, by: Duration) {
        self.moved.fetch_sub(by.as_millis() as i64, Ordering::SeqCst);
    }

    pub(crate) fn unix_seconds(&self) -> i64 {
        self.now().as_unix_millis() / 1000
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_unix_millis(self.moved.load(Ordering::SeqCst))
            + self.runs_from.map_or(Duration::ZERO, |start| start.elapsed())
    }
}

pub(crate) struct Setting {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) provider: Arc<ScriptedProvider>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) engine: Engine,
}

impl Setting {
    pub(crate) fn new() -> Self {
        Self::on(Arc::new(MemoryStore::new()))
    }

    pub(crate) fn on(store: Arc<dyn Store>) -> Self {
        Self::with(store, TestClock::new())
    }

    /// With a clock that runs with tokio's.
    pub(crate) fn in_tokio_time() -> Self {
        Self::with(Arc::new(MemoryStore::new()), TestClock::running())
    }

    /// With a clock that runs with tokio's, and sessions that live by this policy.
    pub(crate) fn with_policy(policy: SessionPolicy) -> Self {
        Self::with(Arc::new(MemoryStore::new()), TestClock::running()).restarted_with(policy)
    }

    fn with(store: Arc<dyn Store>, clock: Arc<TestClock>) -> Self {
        let provider = ScriptedProvider::new(clock.clone());
        let engine = engine(&clock, &provider, &store);
        Self { clock, provider, store, engine }
    }

    /// Another engine on the same store, with another policy, in place of the one before.
    pub(crate) fn restarted_with(self, policy: SessionPolicy) -> Self {
        let Self { clock, provider, store, .. } = self;
        let (transport, kept) = (provider.clone(), store.clone());
        let engine = engine_living_by(policy, clock.clone(), transport, kept, |_| {});
        Self { clock, provider, store, engine }
    }

    /// Another engine on the same store, as after a restart.
    pub(crate) fn another_engine(&self) -> Engine {
        engine(&self.clock, &self.provider, &self.store)
    }

    /// Another engine, with its own handle on the store.
    pub(crate) fn another_engine_on(&self, store: &Arc<dyn Store>) -> Engine {
        engine(&self.clock, &self.provider, store)
    }

    /// The same with another policy.
    pub(crate) fn another_engine_living_by(&self, store: &Arc<dyn Store>, policy: SessionPolicy) -> Engine {
        let (clock, transport) = (self.clock.clone(), self.provider.clone());
        engine_living_by(policy, clock, transport, store.clone(), |_| {})
    }

    pub(crate) async fn signed_in(&self) -> OpenSession {
        sign_in(&self.engine, &self.provider).await
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) async fn open(&self, key: SessionKey) -> OpenSession {
        match self.engine.open(key).await.unwrap() {
            Opened::Open(session) => session,
            other => panic!("not open: {other:?}"),
        }
    }
}

fn engine(clock: &Arc<TestClock>, provider: &Arc<ScriptedProvider>, store: &Arc<dyn Store>) -> Engine {
    engine_of(clock.clone(), provider.clone(), store.clone(), Refreshing::default())
}

pub(crate) fn engine_of(
    clock: Arc<dyn Clock>,
    transport: Arc<dyn Transport>,
    store: Arc<dyn Store>,
    refreshing: Refreshing,
) -> Engine {
    engine_with(clock, transport, store, |config| config.refreshing = refreshing)
}

/// An engine at a provider of which something else is configured.
pub(crate) fn engine_with(
    clock: Arc<dyn Clock>,
    transport: Arc<dyn Transport>,
    store: Arc<dyn Store>,
    configure: impl FnOnce(&mut ProviderConfig),
) -> Engine {
    engine_living_by(SessionPolicy::default(), clock, transport, store, configure)
}

fn engine_living_by(
    policy: SessionPolicy,
    clock: Arc<dyn Clock>,
    transport: Arc<dyn Transport>,
    store: Arc<dyn Store>,
    configure: impl FnOnce(&mut ProviderConfig),
) -> Engine {
    let mut config = provider_config("default");
    configure(&mut config);
    engine_at(vec![Provider::new(config, transport, clock.clone())], policy, clock, store)
}

/// An engine at these providers.
pub(crate) fn engine_at(
    providers: Vec<Provider>,
    policy: SessionPolicy,
    clock: Arc<dyn Clock>,
    store: Arc<dyn Store>,
) -> Engine {
    let (keyring, entropy) = (Arc::new(keyring()), Arc::new(SystemEntropy));
    Engine::new(EngineParts { store, keyring, clock, entropy, providers, policy })
}

/// What is configured of a scripted provider.
pub(crate) fn provider_config(name: &str) -> ProviderConfig {
    let metadata_url = Url::parse(&format!("{ISSUER}/.well-known/openid-configuration")).unwrap();
    let secret = ClientCredential::Secret(Secret::new("client-secret"));
    ProviderConfig {
        issuer: ExpectedIssuer::Exactly(Issuer::new(ISSUER)),
        scope: "openid email".into(),
        authorize_parameters: AuthorizationParameters::of([("prompt", "select_account")]).unwrap(),
        ..ProviderConfig::new(name, metadata_url, CLIENT_ID, secret)
    }
}

/// What sessions are sealed with.
pub(crate) fn keyring() -> Keyring {
    Keyring::from_secret(&Secret::new("a cookie secret that is long enough"))
}

/// A login at `provider` with `engine`.
pub(crate) async fn sign_in(engine: &Engine, provider: &ScriptedProvider) -> OpenSession {
    sign_in_with(engine, provider, &[]).await.unwrap()
}

/// The same, asking for this besides.
pub(crate) async fn sign_in_with(
    engine: &Engine,
    provider: &ScriptedProvider,
    parameters: &[(&str, &str)],
) -> Result<OpenSession, LoginError> {
    LoginUnderWay::begin_with(engine, "default", provider, parameters).await.complete(engine).await
}

/// A login at the provider of this name.
pub(crate) async fn sign_in_at(engine: &Engine, name: &str, provider: &ScriptedProvider) -> OpenSession {
    LoginUnderWay::begin_with(engine, name, provider, &[]).await.complete(engine).await.unwrap()
}

/// A login whose user is at the provider.
pub(crate) struct LoginUnderWay {
    callback: CallbackParameters,
    sealed_flow: Secret,
}

impl LoginUnderWay {
    pub(crate) async fn begin(engine: &Engine, provider: &ScriptedProvider) -> Self {
        Self::begin_with(engine, "default", provider, &[]).await
    }

    async fn begin_with(
        engine: &Engine,
        name: &str,
        provider: &ScriptedProvider,
        parameters: &[(&str, &str)],
    ) -> Self {
        let request = LoginRequest {
            provider: name.into(),
            redirect_uri: Url::parse("http://localhost:8501/oauth2callback").unwrap(),
            next: "/page?x=1".into(),
            parameters: AuthorizationParameters::of(parameters.iter().copied()).unwrap(),
        };
        let started = engine.begin_login(request).await.unwrap();
        let authorize = Url::parse(started.authorize.expose()).unwrap();
        let callback = CallbackParameters::parse(&provider.authorize(authorize.query().unwrap())).unwrap();
        Self { callback, sealed_flow: started.sealed_flow }
    }

    /// The browser comes back.
    pub(crate) async fn complete(self, engine: &Engine) -> Result<OpenSession, LoginError> {
        let completed = engine.complete_login(&self.callback, Some(self.sealed_flow.expose())).await?;
        assert_eq!(completed.next, "/page?x=1");
        Ok(completed.session)
    }
}

/// Waits until `condition` holds; the test fails if it never does.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    panic!("never: {what}");
}
