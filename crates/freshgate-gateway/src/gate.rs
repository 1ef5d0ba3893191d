//! The one place where the parts are put together: store, engine, guard, reverse proxy, session API.

mod front;
#[cfg(test)]
mod host_tests;
#[cfg(test)]
mod serve_tests;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use freshgate::{
    Engine,
    clock::{Entropy, SystemClock, SystemEntropy},
    engine::{EngineParts, Opened},
    keyring::Keyring,
    provider::{DpopUse, HttpTransport, MetadataUnavailable, Provider, ProviderConfig},
    store::{MemoryStore, SqliteStore, Store, StoreError},
};
use freshgate_oidc::{AssertionKey, ClientCredential, MetadataError, Secret};
use freshgate_web::{GateConfig, GateConfigError, GateLayer, SharedLogin};
use futures_util::future::join_all;
use http::uri::Scheme;
use tokio::net::{TcpListener, UnixListener};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Layer;
use url::Url;

use front::{Front, Hosts};

pub use front::GuardedProxy;

use crate::{
    config::{
        AppScheme, Config, ConfiguredProvider, Framework, Host, MORE_RESOURCES, StartupProblem,
        StoreLocation, Told, Upstream, as_sent,
    },
    keys,
    listener::{Listener, ListenerLimits},
    operator::{OperatorListener, Ready},
    session_api::{SessionApi, UpstreamSecrets},
    upstream::{
        AppTls, Assertions, Entrant, HandOff, ProxyOptions, ReachedBy, ReverseProxy, StillOpen, Tunnels,
        UpstreamOptions, close_sockets_of_ended_sessions,
    },
};

/// How long requests may take to finish when the gate stops.
const DRAIN: Duration = Duration::from_secs(10);

/// Binds an address that `flag` names.
pub async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener, StartupProblem> {
    TcpListener::bind(address).await.map_err(|error| bind_problem(address, flag, &error))
}

/// What to say of an address that cannot be listened on.
pub(crate) fn bind_problem(address: SocketAddr, flag: &str, error: &io::Error) -> StartupProblem {
    let (what, mend) = match error.kind() {
        io::ErrorKind::AddrInUse => (
            format!("the address {address} is taken"),
            format!(
                "stop the program that listens there, or choose another address: `{flag} 127.0.0.1:8502`"
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            format!("the address {address} may not be used"),
            format!("ports below 1024 are reserved: choose a higher one, such as `{flag} 127.0.0.1:8501`"),
        ),
        io::ErrorKind::AddrNotAvailable => (
            format!("the address {address} is not this machine's"),
            "listen on 127.0.0.1 for this machine alone, on 0.0.0.0 for every network".to_owned(),
        ),
        _ => (
            format!("cannot listen on {address}"),
            format!("choose another address, such as `{flag} 127.0.0.1:8501`"),
        ),
    };
    StartupProblem::new(what).at(flag).because(error).mend(mend)
}

/// Opens the session store.
pub fn open_store(config: &Config) -> Result<Arc<dyn Store>, StartupProblem> {
    let path = match &config.store {
        StoreLocation::Memory => return Ok(Arc::new(MemoryStore::new())),
        StoreLocation::Sqlite(path) => path,
    };
    config.prepare_store_folder()?;
    let opened = SqliteStore::open(path);
    Ok(Arc::new(opened.map_err(|error| store_problem(path, &error))?))
}

/// Does something with a session store, past any gate that runs on it: for operators' commands. Blocks until it is done and
/// the store closed.
pub(crate) fn on_store<T>(
    path: &Path,
    work: impl AsyncFnOnce(SqliteStore) -> T,
) -> Result<T, StartupProblem> {
    let store = SqliteStore::open(path).map_err(|error| store_problem(path, &error))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        StartupProblem::new("the runtime cannot start").because(&error).mend(MORE_RESOURCES)
    })?;
    Ok(runtime.block_on(async {
        let done = work(store.clone()).await;
        store.close().await;
        done
    }))
}

/// What to say of a store that does not open.
pub(crate) fn store_problem(path: &Path, error: &StoreError) -> StartupProblem {
    let at = format!("sqlite:{}", path.display());
    match error {
        StoreError::NewerSchema { .. } => {
            StartupProblem::new("the session store was written by a newer freshgate")
                .at(at)
                .because(error)
                .mend("run that version or a later one, or choose another store: `--store sqlite:PATH`")
        }
        _ => StartupProblem::new("the session store cannot be opened").at(at).because(error).mend(
            "name a file that freshgate has made or can make: `--store sqlite:PATH`, or `--store memory:` to keep nothing",
        ),
    }
}

/// The providers, not asked anything yet. Fails with what is wrong with any of them.
pub fn providers(config: &Config) -> Result<Vec<Provider>, Vec<StartupProblem>> {
    let (mut providers, mut problems) = (Vec::new(), Vec::new());
    for configured in &config.providers {
        match provider(configured) {
            Ok(provider) => providers.push(provider),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() { Ok(providers) } else { Err(problems) }
}

pub(crate) fn provider(configured: &ConfiguredProvider) -> Result<Provider, StartupProblem> {
    let transport = HttpTransport::new(&configured.transport).map_err(|error| {
        let name = &configured.provider.name;
        StartupProblem::new(format!("secure connections to the provider `{name}` cannot be set up"))
            .at(section(name))
            .because(&error)
            .mend(format!(
                "look at `ca_file` in [provider.{name}] of freshgate.toml, if it is there, and at the system's own \
                 certificates (the package ca-certificates, or SSL_CERT_FILE)"
            ))
    })?;
    Ok(Provider::new(configured.provider.clone(), Arc::new(transport), Arc::new(SystemClock)))
}

/// Puts the engine together.
/// The keys that seal, as the configuration names them.
pub fn keyring(config: &Config) -> Result<Keyring, StartupProblem> {
    keys::keyring(&config.keys, &config.cookie_secret)
}

/// Puts the engine together.
pub fn engine(config: &Config, store: Arc<dyn Store>, keyring: Keyring, providers: Vec<Provider>) -> Engine {
    Engine::new(EngineParts {
        store,
        keyring: Arc::new(keyring),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        providers,
        policy: config.session.clone(),
    })
}

pub(crate) fn section(provider: &str) -> String {
    if provider == "default" { "[auth]".to_owned() } else { format!("[auth.{provider}]") }
}

/// The settings by which a provider knows us, and what to do about them when it does not.
fn client_settings(provider: &ProviderConfig) -> (&'static str, &'static str) {
    match provider.credential {
        ClientCredential::Secret(_) => ("client_id, client_secret", "a secret may have expired there"),
        ClientCredential::Key(_) => (
            "client_id, client_key_file",
            "the public part of the key must be registered there, and the provider may want another assertion_audience \
             or client_key_id",
        ),
        ClientCredential::Public => ("client_id", "it may not be registered as a public client"),
    }
}

/// Asks every provider for its metadata, and whether it takes us for its client.
///
/// What is wrong for good is a problem: a wrong address, another issuer, a wrong secret. A provider that is merely away is
/// none: sessions that are open go on, and it is asked again at the next login.
pub async fn ask_providers(providers: &[Provider], redirect_uri: &Url) -> Result<(), Vec<StartupProblem>> {
    let asked = join_all(providers.iter().map(async |provider| {
        let metadata = provider.metadata().await;
        let client = match &metadata {
            Ok(_) => provider.check_client(redirect_uri, &SystemEntropy.token()).await,
            Err(_) => Ok(()),
        };
        (provider, metadata, client)
    }));
    let mut problems = Vec::new();
    for (provider, metadata, client) in asked.await {
        if let Err(error) = client {
            let refused =
                StartupProblem::new(format!("the provider `{}` refuses this client", provider.name()));
            if error.wants_proof() {
                let at = format!("[provider.{}] dpop", provider.name());
                problems.push(refused.at(at).because(&error).mend(mend_of_proofs(provider.config().dpop)));
                continue;
            }
            let (settings, hint) = client_settings(provider.config());
            problems.push(
                refused
                    .at(format!("{} {settings}", section(provider.name())))
                    .because(&error)
                    .mend(format!(
                        "compare {} with what the provider shows for this app; {hint}, or the provider may want another \
                         token_endpoint_auth_method",
                        settings.replace(", ", " and ")
                    )),
            );
        }
        let Err(error) = metadata else { continue };
        if !error.is_misconfiguration() {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                provider = provider.name(),
                error,
                "the provider does not answer; nobody can sign in until it does"
            );
            continue;
        }
        let what = format!("the provider `{}` cannot be used", provider.name());
        let at = format!("{} server_metadata_url", section(provider.name()));
        problems.push(StartupProblem::new(what).at(at).because(&error).mend(mend(&error)));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
}

/// What to do about a provider that refuses us because of proofs of holding a key.
pub(crate) fn mend_of_proofs(dpop: DpopUse) -> &'static str {
    match dpop {
        DpopUse::Never => {
            "set it to \"always\": the provider hands out tokens to clients alone that prove to hold a key (DPoP)"
        }
        DpopUse::IfListed | DpopUse::Always => {
            "compare the clock of this machine with the provider's: it does not accept our proofs of holding a key (DPoP)"
        }
    }
}

fn mend(error: &MetadataUnavailable) -> &'static str {
    match error {
        MetadataUnavailable::Unusable { source, .. }
            if matches!(**source, MetadataError::IssuerMismatch { .. }) =>
        {
            "set server_metadata_url to the address under the issuer that the provider names; if the two really differ, \
             name the issuer in freshgate.toml: [provider.NAME] issuer = \"…\""
        }
        MetadataUnavailable::Unusable { source, .. } if !matches!(**source, MetadataError::NotJson(_)) => {
            "ask the people who run the provider: its metadata breaks the specification"
        }
        _ => {
            "set server_metadata_url to the provider's metadata address; it usually ends with \
             /.well-known/openid-configuration"
        }
    }
}

/// A gate that is put together and not open yet.
pub struct GateParts {
    /// The engine.
    pub engine: Engine,
    /// What it was told.
    pub config: Config,
    /// The apps behind it.
    pub upstreams: Vec<Upstream>,
    /// By what they prove themselves to the session API.
    pub upstream_secrets: UpstreamSecrets,
    /// Where operators ask, if they want to.
    pub operator: Option<OperatorListener>,
}

/// Where apps ask about their sessions: on this machine alone.
pub enum SessionApiListener {
    /// On a unix socket.
    Unix(UnixListener),
    /// On a loopback address.
    Tcp(TcpListener),
}

/// The tasks of an open gate.
pub struct OpenGate {
    engine: Engine,
    tunnels: Tunnels,
    upstream_secrets: UpstreamSecrets,
    front: Front,
    listener: tokio::task::JoinHandle<()>,
    tasks: TaskTracker,
    finish: CancellationToken,
    stop: CancellationToken,
}

impl GateParts {
    /// Opens the gate in front of its apps: browsers on `public`, the apps themselves on `private`.
    ///
    /// Apps can ask at once. Browsers that connect before the apps are `ready` wait until they are.
    pub fn open(
        self,
        public: TcpListener,
        private: Option<SessionApiListener>,
        ready: impl Future<Output = ()> + Send + 'static,
    ) -> Result<OpenGate, StartupProblem> {
        let Self { engine, config, upstreams, upstream_secrets, operator } = self;
        let tunnels = Tunnels::of(engine.clone());
        let front = Front::new(hosts(&engine, &tunnels, &config, &upstreams)?);
        let service = front.clone();
        let (proxies, tls) = (config.proxies.clone(), config.tls.clone());
        let limits = ListenerLimits {
            connections: config.limits.connections,
            connections_per_client: config.limits.connections_per_client,
            request_head: config.limits.request_header_bytes,
            ..ListenerLimits::default()
        };

        let (finish, stop, tasks) = (CancellationToken::new(), CancellationToken::new(), TaskTracker::new());
        // Before the first request, so that no use goes unnoticed.
        tasks.spawn(engine.clone().tend(stop.clone()));
        let readiness = Ready::until(finish.clone());
        if let Some(operator) = operator {
            tasks.spawn(operator.serve(engine.clone(), tunnels.clone(), readiness.clone(), stop.clone()));
        }
        let listener = tokio::spawn({
            let finish = finish.clone();
            async move {
                if finish.run_until_cancelled(ready).await.is_some() {
                    readiness.app_is_there();
                    Listener::new(public, limits)
                        .behind(proxies)
                        .with_tls(tls)
                        .serve(service, finish.cancelled_owned(), DRAIN)
                        .await;
                }
            }
        });
        if let Some(private) = private {
            let api = SessionApi {
                engine: engine.clone(),
                upstream_secrets: upstream_secrets.clone(),
                expose_tokens: config.exposed_tokens,
                login_path: format!("{}/auth/login", config.public.base_path()),
            };
            tasks.spawn(serve_session_api(private, api, stop.clone()));
        }
        tasks.spawn(close_sockets_of_ended_sessions(engine.clone(), tunnels.clone(), stop.clone()));
        tasks.spawn(keys::watch(engine.keyring().clone(), stop.clone()));
        if let Some(tls) = config.tls {
            tasks.spawn(tls.watch(stop.clone()));
        }
        Ok(OpenGate { engine, tunnels, upstream_secrets, front, listener, tasks, finish, stop })
    }
}

impl OpenGate {
    /// Serves by this configuration from now on, as far as it is about the apps, who may enter and what one client may
    /// ask: the rest of it was settled at the start. Requests under way go on as they began, and no connection is dropped.
    /// Sockets of signed-in users at apps that `changed` are closed: their pages connect again.
    pub fn reload(
        &self,
        config: &Config,
        upstreams: &[Upstream],
        secrets: Vec<Secret>,
        changed: &BTreeSet<String>,
    ) -> Result<(), StartupProblem> {
        let hosts = hosts(&self.engine, &self.tunnels, config, upstreams)?;
        self.upstream_secrets.replace_by(secrets);
        self.front.replace_by(hosts);
        self.tunnels.close_at(changed);
        Ok(())
    }

    /// Stops in order: no new requests, those under way end, then the refreshes under way, then the rest.
    pub async fn close(self) {
        self.finish.cancel();
        if self.listener.await.is_err() {
            tracing::error!("the listener ended by a panic");
        }
        self.engine.finish().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// For each host the guard and the reverse proxy behind it.
fn hosts(
    engine: &Engine,
    tunnels: &Tunnels,
    config: &Config,
    upstreams: &[Upstream],
) -> Result<Hosts, StartupProblem> {
    let hosts = config.hosts(upstreams);
    let (first, others) = hosts.split_first().expect("that of redirect_uri is one");
    let shared_login = config.cookie_domain.as_ref().map(|domain| SharedLogin {
        cookie_domain: domain.clone(),
        login_origin: config.public.origin(),
        origins: hosts.iter().map(|host| host.config.public.origin()).collect(),
    });
    // At each host: the issuer of all of them is at the first.
    let assertion_keys = upstreams
        .iter()
        .any(|upstream| upstream.told.assertion)
        .then(|| AssertionKey::from_secret(&config.cookie_secret).jwk_set().to_string());
    let of_host = |host: &Host| {
        let mut gate = gate_config(&host.config, &host.upstreams);
        gate.shared_login.clone_from(&shared_login);
        gate.documents.extend(assertion_keys.clone().map(|keys| (ASSERTION_KEYS.to_owned(), keys.into())));
        gate
    };
    let guard = GateLayer::new(engine.clone(), of_host(first)).map_err(|error| cannot_be_served(&error))?;
    let mut front = Hosts {
        first: guarded_proxy(&guard, engine, tunnels, config, first)?,
        first_name: config.public.host_name().unwrap_or_default().to_owned(),
        others: HashMap::new(),
        verify_path: format!("{}/auth/verify", config.public.base_path()),
    };
    for host in others {
        let guard = guard.for_another_host(of_host(host)).map_err(|error| cannot_be_served(&error))?;
        let proxy = guarded_proxy(&guard, engine, tunnels, config, host)?;
        front.others.insert(host.name.clone().unwrap_or_default(), proxy);
    }
    Ok(front)
}

fn cannot_be_served(error: &GateConfigError) -> StartupProblem {
    StartupProblem::new("the public address cannot be served")
        .at("redirect_uri")
        .because(error)
        .mend("set redirect_uri to your address, the base path and /oauth2callback")
}

/// `main` is what the gate was told.
fn guarded_proxy(
    guard: &GateLayer,
    engine: &Engine,
    tunnels: &Tunnels,
    main: &Config,
    host: &Host,
) -> Result<GuardedProxy, StartupProblem> {
    let config = &host.config;
    let scheme = if config.public.is_https() { Scheme::HTTPS } else { Scheme::HTTP };
    let options = ProxyOptions {
        sockets_per_session: config.limits.sockets_per_session,
        host: config.public.host(),
        ..ProxyOptions::new(scheme)
    };
    let upstreams = host.upstreams.iter().map(|upstream| upstream_options(engine, main, config, upstream));
    let upstreams = upstreams.collect::<Result<_, _>>()?;
    Ok(guard.layer(ReverseProxy::new(options, upstreams, tunnels.clone(), StoredSessions(engine.clone()))))
}

fn reached_by(upstream: &Upstream) -> Result<ReachedBy, StartupProblem> {
    let name = match &upstream.scheme {
        AppScheme::Http => return Ok(ReachedBy::Tcp),
        AppScheme::Unix => return Ok(ReachedBy::Unix),
        AppScheme::Https(name) => name,
    };
    AppTls::new(name, upstream.ca_file.as_deref()).map(ReachedBy::Tls).map_err(|error| {
        StartupProblem::new("the certificate of an app cannot be checked")
            .at(format!("upstream {}", upstream.shown_place()))
            .because(&error)
            .mend("name a file in PEM form with the certificates that vouch for the app's own in `ca_file`, or leave it out: then those count that the system trusts")
    })
}

/// `main` is what the gate was told, and `config` what follows for the app's host.
fn upstream_options(
    engine: &Engine,
    main: &Config,
    config: &Config,
    upstream: &Upstream,
) -> Result<UpstreamOptions, StartupProblem> {
    let told = upstream.told;
    Ok(UpstreamOptions {
        reached_by: reached_by(upstream)?,
        name: upstream.shown_place().into(),
        path: match upstream.path.as_str() {
            "" => String::new(),
            path => as_sent(&format!("{}{path}", config.public.base_path())),
        },
        strip_path: upstream.strip_path,
        hand_off: (told != Told::default()).then(|| HandOff {
            engine: engine.clone(),
            headers: told.headers,
            bearer: told.bearer,
            assertion: told.assertion.then(|| Assertions {
                key: Arc::new(AssertionKey::from_secret(&config.cookie_secret)),
                issuer: address_of(main, ""),
                audience: address_of(config, &upstream.path),
            }),
            unverified_email: config.access.unverified_email,
        }),
        identity_headers: upstream.identity_headers.clone(),
        connect_timeout: upstream.connect_timeout,
        answer_timeout: upstream.answer_timeout,
        ..UpstreamOptions::new(upstream.address.as_str())
    })
}

/// The address of an app, without a `/` at its end.
fn address_of(config: &Config, path: &str) -> String {
    let mut address = config.public.origin();
    address.set_path(&format!("{}{path}", config.public.base_path()));
    address.as_str().trim_end_matches('/').to_owned()
}

/// Where the public keys are by which apps verify assertions.
const ASSERTION_KEYS: &str = "/.well-known/freshgate/jwks.json";

fn gate_config(config: &Config, upstreams: &[Upstream]) -> GateConfig {
    let default_provider =
        config.providers.first().map(|first| first.provider.name.clone()).unwrap_or_default();
    let mut gate = GateConfig::new(config.public.origin());
    gate.base_path = config.public.base_path().to_owned();
    gate.default_provider = default_provider;
    gate.logins_in_flight = config.limits.logins_in_flight;
    gate.rate_limits = config.limits.rates;
    gate.require_login = config.access.require_login;
    gate.access.clone_from(&config.access.rules);
    gate.open_paths.clone_from(&config.access.open_paths);
    gate.unverified_email = config.access.unverified_email;
    gate.forward_auth = config.access.forward_auth;
    gate.provider_token_key = Some(config.cookie_secret.clone());
    for upstream in upstreams {
        let path = as_sent(&upstream.path);
        if upstream.framework == Framework::Streamlit {
            gate.public_paths.extend(PUBLIC_PATHS.map(|public| format!("{path}{public}")));
            gate.mounts.push(path.clone());
        }
        gate.public_paths.extend(upstream.public_paths.iter().map(|public| format!("{path}{public}")));
    }
    if let (Some(first), true) =
        (upstreams.first(), upstreams.iter().all(|upstream| !upstream.path.is_empty()))
    {
        gate.start = format!("{}/", as_sent(&first.path));
    }
    gate
}

/// What Streamlit's page asks before it connects (again). It says nothing of the app, and where it is refused the page takes
/// the app for broken.
const PUBLIC_PATHS: [&str; 2] = ["/_stcore/health", "/_stcore/host-config"];

async fn serve_session_api(listener: SessionApiListener, api: SessionApi, stop: CancellationToken) {
    let router = api.into_router();
    let ending = stop.clone().cancelled_owned();
    let serving = async {
        match listener {
            SessionApiListener::Unix(listener) => {
                axum::serve(listener, router).with_graceful_shutdown(ending).await
            }
            SessionApiListener::Tcp(listener) => {
                axum::serve(listener, router).with_graceful_shutdown(ending).await
            }
        }
    };
    // Streams of events never end by themselves: once the gate stops nobody waits for them.
    tokio::select! {
        served = serving => {
            if let Err(error) = served {
                tracing::error!(error = &error as &dyn std::error::Error, "the session API ended");
            }
        }
        () = stop.cancelled() => {}
    }
}

/// Asks the engine whether a session is open and may be where it is.
struct StoredSessions(Engine);

impl StillOpen for StoredSessions {
    fn still_open<'a>(&'a self, entrant: &'a Entrant) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(async move {
            match self.0.open(entrant.session).await {
                Ok(Opened::Open(session)) => entrant.permit.still_holds(&session),
                Ok(Opened::Ended(_) | Opened::Unknown) | Err(_) => false,
            }
        })
    }
}
