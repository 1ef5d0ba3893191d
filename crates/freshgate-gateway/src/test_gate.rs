//! A gate of `freshgate dev` as far as its sessions go: an engine on a store in a folder, and the development provider.
//! For tests of operators' commands.

use std::{sync::Arc, time::Duration};

use clap::Parser as _;
use freshgate::{
    Engine,
    clock::{Clock, SystemClock, SystemEntropy},
    engine::{EngineParts, LoginCompleted, LoginRequest, LoginStarted},
    provider::{Connection, HttpTransport, Provider, ProviderRequest, Transport, TransportOptions},
    session::{OpenSession, SessionKey},
    store::{SqliteStore, Store},
};
use freshgate_devidp::{DevProvider, RunningProvider, Scripting};
use freshgate_oidc::{AuthorizationParameters, CallbackParameters};
use tempfile::TempDir;
use url::Url;

use crate::{
    cli::{Cli, Command, Dev},
    config::{self, Config, Environment},
    keys,
};

/// Generous, for a machine that is busy.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A folder in which `freshgate dev` runs, as far as its sessions go.
pub(crate) struct TestGate {
    pub(crate) folder: TempDir,
    pub(crate) provider: RunningProvider,
    pub(crate) config: Config,
    pub(crate) engine: Engine,
    pub(crate) store: SqliteStore,
    /// Every token that came by.
    pub(crate) tokens: Vec<String>,
}

impl TestGate {
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("app.py"), "").unwrap();
        let environment = Environment::new(folder.path().to_owned(), None, []);
        let arguments = ["freshgate", "dev", "app.py", "--provider-listen", "127.0.0.1:0"];
        let Ok(Cli { command: Command::Dev(dev) }) = Cli::try_parse_from(arguments) else { panic!("good") };
        let (config, provider) = start_provider(&dev, &environment).await;
        let (engine, store) = another_on(&config);
        Self { folder, provider, config, engine, store, tokens: Vec::new() }
    }

    /// Another gate on the same store and the same keys, with its own handles on both.
    pub(crate) fn another(&self) -> (Engine, SqliteStore) {
        another_on(&self.config)
    }

    /// Signs a user in, as a browser would.
    pub(crate) async fn sign_in(&mut self, user: &str) -> OpenSession {
        let started = self.begin_login(user).await;
        let session = self.complete_login(&started, user).await;
        self.note_tokens(&session);
        session
    }

    /// The same, with the id that the browser has in its cookie.
    pub(crate) async fn sign_in_with_cookie(&mut self, user: &str) -> (String, OpenSession) {
        let started = self.begin_login(user).await;
        let completed = self.finish_login(&started, user).await;
        self.note_tokens(&completed.session);
        (completed.id.as_secret().expose().to_owned(), completed.session)
    }

    /// Has the provider refuse the user's refresh tokens from now on.
    pub(crate) async fn revoke_at_provider(&self, user: &str) {
        let request = ProviderRequest {
            method: http::Method::POST,
            url: Url::parse(&format!("{}/_script/revoke", self.provider.issuer())).unwrap(),
            headers: http::HeaderMap::from_iter([(
                http::header::CONTENT_TYPE,
                http::HeaderValue::from_static("application/json"),
            )]),
            body: serde_json::json!({ "sub": user }).to_string().into(),
            answer_limit: 1 << 20,
            connection: Connection::Kept,
        };
        let transport = HttpTransport::new(&TransportOptions::default()).unwrap();
        assert!(transport.send(request).await.unwrap().status.is_success());
    }

    pub(crate) async fn begin_login(&self, user: &str) -> LoginStarted {
        let request = LoginRequest {
            provider: "default".into(),
            redirect_uri: self.config.public.redirect_uri().clone(),
            next: "/".into(),
            parameters: AuthorizationParameters::of([("login_hint", user)]).unwrap(),
        };
        self.engine.begin_login(request).await.unwrap()
    }

    pub(crate) async fn complete_login(&self, started: &LoginStarted, user: &str) -> OpenSession {
        self.finish_login(started, user).await.session
    }

    async fn finish_login(&self, started: &LoginStarted, user: &str) -> LoginCompleted {
        let callback = choose(started.authorize.expose(), user).await;
        let callback = CallbackParameters::parse(callback.query().unwrap()).unwrap();
        let sealed = Some(started.sealed_flow.expose());
        self.engine.complete_login(&callback, sealed).await.unwrap()
    }

    pub(crate) async fn refresh(&mut self, key: SessionKey) {
        let (fresh, _) = self.engine.refresh(key, DEADLINE).await.unwrap();
        self.note_tokens(fresh.session());
    }

    fn note_tokens(&mut self, session: &OpenSession) {
        let tokens = session.tokens();
        self.tokens.push(tokens.access_token.expose().to_owned());
        self.tokens.extend(tokens.id_token.as_ref().map(|token| token.expose().to_owned()));
    }

    pub(crate) fn environment(&self) -> Environment {
        Environment::new(self.folder.path().to_owned(), None, [])
    }

    /// As after the gate stopped.
    pub(crate) async fn stop(&self) {
        self.store.close().await;
    }
}

async fn start_provider(dev: &Dev, environment: &Environment) -> (Config, RunningProvider) {
    let (dev, _) = config::load_dev(dev, environment).unwrap_or_else(|report| panic!("{report:?}"));
    let mut provider = dev.provider(&SystemEntropy).unwrap();
    provider.scripting = Scripting::On;
    let provider = DevProvider::bind(provider).await.unwrap();
    (dev.gate(provider.issuer(), &SystemEntropy).unwrap(), provider)
}

fn another_on(config: &Config) -> (Engine, SqliteStore) {
    config.prepare_store_folder().unwrap();
    let config::StoreLocation::Sqlite(path) = &config.store else { panic!("a file") };
    let store = SqliteStore::open(path).unwrap();
    (engine_on(config, Arc::new(store.clone()), Arc::new(SystemClock)), store)
}

/// The engine of such a gate, on another store or with another clock.
pub(crate) fn engine_on(config: &Config, store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Engine {
    let provider = &config.providers[0];
    let transport = HttpTransport::new(&provider.transport).unwrap();
    Engine::new(EngineParts {
        store,
        keyring: Arc::new(keys::keyring(&config.keys, &config.cookie_secret).unwrap()),
        clock: clock.clone(),
        entropy: Arc::new(SystemEntropy),
        providers: vec![Provider::new(provider.provider.clone(), Arc::new(transport), clock)],
        policy: config.session.clone(),
    })
}

/// What the user does at the provider. Returns the address that it sends the browser to.
pub(crate) async fn choose(authorize: &str, user: &str) -> Url {
    let authorize = Url::parse(authorize).unwrap();
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("request", authorize.query().unwrap())
        .append_pair("user", user)
        .finish();
    let request = ProviderRequest {
        method: http::Method::POST,
        url: authorize.join("/sign-in").unwrap(),
        headers: http::HeaderMap::from_iter([(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/x-www-form-urlencoded"),
        )]),
        body: form.into(),
        answer_limit: 1 << 20,
        connection: Connection::Kept,
    };
    let transport = HttpTransport::new(&TransportOptions::default()).unwrap();
    let answer = transport.send(request).await.unwrap();
    assert_eq!(answer.status, http::StatusCode::SEE_OTHER);
    Url::parse(answer.header(http::header::LOCATION).unwrap()).unwrap()
}
