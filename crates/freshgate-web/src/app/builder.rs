//! From a few settings to a gate.

use std::{error::Error, sync::Arc};

use freshgate::{
    Engine, Secret,
    clock::{Entropy as _, SystemClock, SystemEntropy},
    engine::EngineParts,
    keyring::Keyring,
    provider::{HttpTransport, Provider, ProviderConfig, TransportOptions},
    session::SessionPolicy,
    store::{MemoryStore, Store},
};
use freshgate_oidc::{ClientCredential, is_loopback};
use url::Url;

use super::gate::AppGate;
use crate::{
    access::{AccessRule, Condition},
    config::{GateConfig, GateConfigError},
};

const WELL_KNOWN: &str = "/.well-known/";
/// The fewest bytes of a secret that sessions are sealed with: 128 random bits, in hexadecimal.
const SHORTEST_SECRET: usize = 32;

/// What a gate is to be. Nothing is checked before [`AppGateBuilder::open`].
pub struct AppGateBuilder {
    public_address: String,
    providers: Vec<Described>,
    scope: String,
    store: Option<(Arc<dyn Store>, Secret)>,
    policy: SessionPolicy,
    transport: TransportOptions,
    changes: Vec<Change>,
    reached_directly: bool,
}

type Change = Box<dyn FnOnce(&mut GateConfig) + Send>;

enum Described {
    Usual { issuer: String, client_id: String, client_secret: Secret },
    Whole(Box<ProviderConfig>),
}

/// Why there is no gate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppGateError {
    /// The app's own address, or a provider's, is no URL with http or https.
    #[error("`{0}` is not an address: write the whole of it, such as https://app.example")]
    NotAnAddress(String),
    /// Everyone on the way could pretend to be the provider. Plain http is for one on this machine.
    #[error("the provider {0} is not reached over https")]
    InsecureProvider(Url),
    /// Nobody could sign in.
    #[error("no provider is named: say who signs users in, with `sign_in_at`")]
    NoProvider,
    /// Two providers have one name.
    #[error("two providers have the name `{0}`")]
    ProviderNamedTwice(String),
    /// Who guesses the secret reads every session.
    #[error(
        "the secret that seals sessions is too short: it must have {SHORTEST_SECRET} characters that nobody can guess"
    )]
    ShortSecret,
    /// Secure connections cannot be set up.
    #[error("secure connections to the providers cannot be set up: look at the system's certificates")]
    Transport(#[source] Box<dyn Error + Send + Sync>),
    /// The gate's configuration contradicts itself.
    #[error("the gate cannot be set up")]
    Gate(#[from] GateConfigError),
}

impl AppGateBuilder {
    pub(super) fn new(public_address: String) -> Self {
        Self {
            public_address,
            providers: Vec::new(),
            scope: "openid profile email".to_owned(),
            store: None,
            policy: SessionPolicy::default(),
            transport: TransportOptions::default(),
            changes: Vec::new(),
            reached_directly: false,
        }
    }

    /// Who signs users in: the provider's issuer (or the address of its metadata), and as what it knows this app. There,
    /// register the redirect URI `{public address}/oauth2callback` (for logouts too, as the post-logout redirect URI) and
    /// the back-channel logout URI `{public address}/auth/backchannel-logout`.
    pub fn sign_in_at(
        mut self,
        issuer: impl Into<String>,
        client_id: impl Into<String>,
        client_secret: Secret,
    ) -> Self {
        let (issuer, client_id) = (issuer.into(), client_id.into());
        self.providers.push(Described::Usual { issuer, client_id, client_secret });
        self
    }

    /// What is asked for there: `openid profile email`, unless this says otherwise. `offline_access` is added where the
    /// provider lists it.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = scope.into();
        self
    }

    /// The same for a provider of which more is to be said: a key in place of a secret, a name. The first
    /// one is that of `/auth/login` without a name.
    pub fn sign_in_with(mut self, provider: ProviderConfig) -> Self {
        self.providers.push(Described::Whole(Box::new(provider)));
        self
    }

    /// Where sessions live, sealed with a key that is made of `secret`: at least 32 characters that nobody can guess. Without
    /// it they live in memory, and everybody is signed out when the process ends.
    pub fn sessions_in(mut self, store: impl Store, secret: Secret) -> Self {
        self.store = Some((Arc::new(store), secret));
        self
    }

    /// How long sessions live and how fresh their tokens are kept.
    pub fn sessions(mut self, policy: SessionPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Only signed-in users reach the app: a page leads to the login, anything else is refused.
    pub fn require_login(self) -> Self {
        self.configure(|config| config.require_login = true)
    }

    /// Nobody but those who meet all conditions reaches this path and what is below it; see [`AccessRule`].
    pub fn allow(self, path: impl Into<String>, conditions: impl IntoIterator<Item = Condition>) -> Self {
        let rule = AccessRule { path: path.into(), conditions: conditions.into_iter().collect() };
        self.configure(|config| config.access.push(rule))
    }

    /// No proxy is between browsers and this process, so who is connected is who asks: that is how often one client may ask for
    /// a login is limited. Needs axum's `into_make_service_with_connect_info::<SocketAddr>()`. Behind a proxy, put an
    /// [`Arrival`](crate::Arrival) among the extensions of each request in place of it.
    #[cfg(feature = "axum")]
    pub fn reached_directly(mut self) -> Self {
        self.reached_directly = true;
        self
    }

    /// How providers are connected to, such as with a certificate authority of one's own.
    pub fn connect_with(mut self, options: TransportOptions) -> Self {
        self.transport = options;
        self
    }

    /// Changes what this builder has no word for.
    pub fn configure(mut self, change: impl FnOnce(&mut GateConfig) + Send + 'static) -> Self {
        self.changes.push(Box::new(change));
        self
    }

    /// Opens the gate: it works in the background from now on. No provider is asked yet; see [`AppGate::ask_providers`].
    ///
    /// # Errors
    /// What is wrong with the description.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn open(self) -> Result<AppGate, AppGateError> {
        let mut public_origin = address(&self.public_address)?;
        let base_path = public_origin.path().trim_end_matches('/').to_owned();
        public_origin.set_path("");

        let transport = HttpTransport::new(&self.transport);
        let transport = Arc::new(transport.map_err(|error| AppGateError::Transport(error.into()))?);
        let mut providers: Vec<Provider> = Vec::new();
        for described in self.providers {
            let config = described.into_config(&self.scope)?;
            if providers.iter().any(|known| known.name() == config.name) {
                return Err(AppGateError::ProviderNamedTwice(config.name));
            }
            providers.push(Provider::new(config, transport.clone(), Arc::new(SystemClock)));
        }
        let mut config = GateConfig::new(public_origin);
        config.base_path = base_path;
        config.default_provider = providers.first().ok_or(AppGateError::NoProvider)?.name().to_owned();
        for change in self.changes {
            change(&mut config);
        }

        let (store, secret) = match self.store {
            Some((_, secret)) if secret.expose().len() < SHORTEST_SECRET => {
                return Err(AppGateError::ShortSecret);
            }
            Some(kept) => kept,
            None => (Arc::new(MemoryStore::new()) as Arc<dyn Store>, SystemEntropy.token()),
        };
        let engine = Engine::new(EngineParts {
            store,
            keyring: Arc::new(Keyring::from_secret(&secret)),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            providers,
            policy: self.policy,
        });
        let mut gate = AppGate::around(engine, config)?;
        gate.reached_directly = self.reached_directly;
        Ok(gate)
    }
}

impl Described {
    fn into_config(self, scope: &str) -> Result<ProviderConfig, AppGateError> {
        let config = match self {
            Self::Whole(config) => *config,
            Self::Usual { issuer, client_id, client_secret } => {
                let mut metadata_url = address(&issuer)?;
                if !metadata_url.path().contains(WELL_KNOWN) {
                    let path = metadata_url.path().trim_end_matches('/');
                    metadata_url.set_path(&format!("{path}{WELL_KNOWN}openid-configuration"));
                }
                let credential = ClientCredential::Secret(client_secret);
                let mut config = ProviderConfig::new("default", metadata_url, client_id, credential);
                config.scope = scope.to_owned();
                config
            }
        };
        let url = &config.metadata_url;
        if url.scheme() == "https" || is_loopback(url) {
            Ok(config)
        } else {
            Err(AppGateError::InsecureProvider(url.clone()))
        }
    }
}

fn address(text: &str) -> Result<Url, AppGateError> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(url),
        _ => Err(AppGateError::NotAnAddress(text.to_owned())),
    }
}
