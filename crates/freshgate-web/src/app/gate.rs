//! A gate in an app's own process: the layer, and what goes on behind it.

use std::{fmt, sync::Arc};

use freshgate::{
    Engine,
    clock::Entropy as _,
    clock::SystemEntropy,
    provider::{ClientRefused, MetadataUnavailable},
};
use futures_util::future::join_all;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::Layer;

use super::{builder::AppGateBuilder, service::AppService, watched::Watched};
use crate::{
    config::{GateConfig, GateConfigError},
    layer::{Gate, GateLayer},
    routes::Routes,
};

/// Signs the users of an app in, keeps their tokens fresh in the background, and ends their sessions.
///
/// Made by [`AppGate::at`]. Cheap to clone; all clones are one gate. What it does in the background goes on until
/// [`AppGate::close`], or until the runtime ends.
#[derive(Clone)]
pub struct AppGate {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
    pub(super) reached_directly: bool,
}

/// What the users of a gate share.
pub(crate) struct Shared {
    pub(super) routes: Arc<Routes>,
    pub(super) watched: Arc<Watched>,
    pub(super) unverified_email: bool,
}

impl Shared {
    pub(super) fn engine(&self) -> &Engine {
        &self.routes.engine
    }
}

impl AppGate {
    /// Begins to describe the gate of an app that browsers reach at this address, such as `https://app.example`. An address
    /// with a path, such as `https://example.com/app`, is that of an app all of whose routes are below the path.
    pub fn at(public_address: impl Into<String>) -> AppGateBuilder {
        AppGateBuilder::new(public_address.into())
    }

    /// Puts a gate around an engine, and starts the engine's own work. For those who have an engine: others begin with
    /// [`AppGate::at`].
    ///
    /// # Errors
    /// The configuration contradicts itself.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn around(engine: Engine, config: GateConfig) -> Result<Self, GateConfigError> {
        let unverified_email = config.unverified_email;
        let GateLayer { routes } = GateLayer::new(engine.clone(), config)?;
        let (watched, tasks, stop) =
            (Arc::<Watched>::default(), TaskTracker::new(), CancellationToken::new());
        tasks.spawn({
            let follow = watched.clone().follow(engine.events());
            let stop = stop.clone();
            async move {
                stop.run_until_cancelled(follow).await;
            }
        });
        tasks.spawn(engine.tend(stop.clone()));
        let shared = Arc::new(Shared { routes, watched, unverified_email });
        Ok(Self { shared, tasks, stop, reached_directly: false })
    }

    /// The layer that goes around the app. Around all of it: what is outside is not guarded, and has no `/auth` routes.
    pub fn layer(&self) -> AppLayer {
        AppLayer { shared: self.shared.clone() }
    }

    /// The engine: for what an operator does, such as ending somebody's session.
    pub fn engine(&self) -> &Engine {
        self.shared.engine()
    }

    /// Asks every provider whether it is there and takes this app for its client. At the start, so that a mistake in the
    /// settings shows then and not at the first login. Changes nothing; dropping the future is safe.
    ///
    /// # Errors
    /// What is wrong with the first one that something is wrong with. One that merely does not answer may do so later: see
    /// [`ProviderProblem::may_pass`].
    pub async fn ask_providers(&self) -> Result<(), ProviderProblem> {
        let redirect_uri = &self.shared.routes.site.redirect_uri;
        let asked = self.engine().providers().map(async |provider| {
            let provider_name = || provider.name().to_owned();
            if let Err(source) = provider.metadata().await {
                return Err(ProviderProblem::Metadata { provider: provider_name(), source });
            }
            let no_code = SystemEntropy.token();
            let known = provider.check_client(redirect_uri, &no_code).await;
            known.map_err(|source| ProviderProblem::ClientRefused { provider: provider_name(), source })
        });
        join_all(asked).await.into_iter().collect()
    }

    /// Stops in order: refreshes under way end first, so that no token is lost. Call it when the server has stopped.
    ///
    /// Returns when all is done, or after a while (45 s). Dropping the future changes nothing but that nobody waits.
    pub async fn close(&self) {
        self.engine().finish().await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl fmt::Debug for AppGate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppGate").finish_non_exhaustive()
    }
}

/// Why a provider cannot sign anybody in.
#[derive(Debug, thiserror::Error)]
pub enum ProviderProblem {
    /// It does not answer, or what it says of itself cannot be used.
    #[error("the provider `{provider}` cannot be used")]
    Metadata {
        /// Its name.
        provider: String,
        /// Why.
        source: MetadataUnavailable,
    },
    /// It does not take us for its client.
    #[error(
        "the provider `{provider}` refuses this client: compare client id and secret with what it shows for this app"
    )]
    ClientRefused {
        /// Its name.
        provider: String,
        /// What it says.
        source: ClientRefused,
    },
}

impl ProviderProblem {
    /// Whether it may pass without anybody mending anything: the provider is away.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Metadata { source, .. } if !source.is_misconfiguration())
    }
}

/// Puts an [`AppGate`] around an app: any service that takes requests.
#[derive(Clone)]
pub struct AppLayer {
    shared: Arc<Shared>,
}

impl<S> Layer<S> for AppLayer {
    type Service = Gate<AppService<S>>;

    fn layer(&self, app: S) -> Self::Service {
        GateLayer { routes: self.shared.routes.clone() }.layer(AppService::new(app, self.shared.clone()))
    }
}
