//! Starting, serving, stopping.

mod check;
mod connections;
mod keep_saved;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use connections::{CutSwitch, OpenConnections};

use crate::clock::Clock;
use crate::config::DevProviderConfig;
use crate::issuer::Issuer;
use crate::logout::Messenger;
use crate::provider::{Provider, SharedProvider};
use crate::signing::Keyring;
use crate::state::{self, Ledger, SavedState, State, StateFileError};
use crate::token::{Nonces, Seal};

/// Starts development providers.
#[derive(Debug)]
pub struct DevProvider;

/// Why a development provider does not start.
#[derive(Debug, thiserror::Error)]
pub enum DevProviderError {
    /// Whoever reaches it can sign in as anyone, so it must be reachable from this machine alone.
    #[error("{address} is not a loopback address: a development provider lets anyone sign in as anyone")]
    NotLoopback {
        /// The address that was asked for.
        address: SocketAddr,
    },
    /// The issuer cannot be one.
    #[error("{issuer:?} cannot be the issuer: {reason}")]
    BadIssuer {
        /// As it was given.
        issuer: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A client is not set up as it must be.
    #[error("the client {client:?} cannot be used: {reason}")]
    BadClient {
        /// Its id.
        client: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A lifetime is zero or longer than a hundred years.
    #[error("{name} must be longer than zero and no longer than a hundred years")]
    BadLifetime {
        /// Which one.
        name: &'static str,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The state file cannot be used.
    #[error(transparent)]
    StateFile(#[from] StateFileError),
    /// What posts logout tokens cannot be set up.
    #[error("cannot set up outgoing requests")]
    Outgoing(#[source] reqwest::Error),
}

impl DevProvider {
    /// Starts a provider; when this returns it is serving.
    ///
    /// It serves until [`RunningProvider::shutdown`] or until the [`RunningProvider`] is dropped. Dropping the future
    /// before it is done leaves nothing running.
    ///
    /// # Errors
    /// If the configuration cannot be used, the address cannot be listened on, or the state file is there but cannot be
    /// read or written. A state file that is damaged is left as it is.
    pub async fn bind(config: DevProviderConfig) -> Result<RunningProvider, DevProviderError> {
        check::check(&config)?;
        let address = config.listen;
        let cannot_listen = |source| DevProviderError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(cannot_listen)?;
        let addr = listener.local_addr().map_err(cannot_listen)?;
        let provider = Arc::new(assemble(config, addr).await?);
        let state_file = provider.config.state_file.clone();
        if let Some(path) = &state_file {
            keep_saved::save_now(&provider, path).await?;
        }

        let (stop_serving, stop_saving) = (CancellationToken::new(), CancellationToken::new());
        let routes = crate::routes::routes(&provider);
        let server = tokio::spawn(connections::serve(
            listener,
            routes,
            Arc::clone(&provider.connections),
            stop_serving.clone(),
        ));
        let saver = state_file.map(|path| {
            tokio::spawn(keep_saved::keep_saved(Arc::clone(&provider), path, stop_saving.clone()))
        });
        tracing::info!(issuer = provider.issuer.as_str(), "development provider is serving");
        Ok(RunningProvider {
            addr,
            provider,
            server,
            saver,
            stop_serving: stop_serving.drop_guard(),
            stop_saving: stop_saving.drop_guard(),
        })
    }
}

async fn assemble(config: DevProviderConfig, addr: SocketAddr) -> Result<Provider, DevProviderError> {
    let issuer = config.issuer.clone().unwrap_or_else(|| format!("http://{addr}"));
    let issuer = Issuer::parse(&issuer).map_err(|reason| DevProviderError::BadIssuer { issuer, reason })?;
    let messenger = Messenger::new().map_err(DevProviderError::Outgoing)?;
    let recalled = {
        let config = config.clone();
        // Key generation takes a while, and files block.
        tokio::task::spawn_blocking(move || recall(&config)).await
    };
    let (keyring, seal, mut state) =
        recalled.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
    for user in &config.users {
        state.seed_user(user.clone());
    }
    let cookie_name = format!("freshgate-devidp-{}", addr.port());
    Ok(Provider {
        nonces: Nonces::new(config.dpop_nonces),
        config,
        issuer,
        clock: Clock::default(),
        keyring,
        seal,
        ledger: Ledger::new(state),
        messenger,
        connections: Arc::default(),
        cookie_name,
    })
}

/// What the state file holds, or everything new.
fn recall(config: &DevProviderConfig) -> Result<(Keyring, Seal, State), StateFileError> {
    let saved = match &config.state_file {
        Some(path) => state::load(path)?.map(|saved| (path, saved)),
        None => None,
    };
    let Some((path, SavedState { seal, keyring, state, .. })) = saved else {
        return Ok((Keyring::generate(config.signing_algorithm), Seal::generate(), State::default()));
    };
    let damaged = |reason: &str| StateFileError::NotOurs { path: path.clone(), reason: reason.to_owned() };
    let keyring =
        Keyring::restore(&keyring, config.signing_algorithm).map_err(|error| damaged(&error.to_string()))?;
    let seal = Seal::restore(&seal).ok_or_else(|| damaged("the key that seals tokens cannot be read"))?;
    Ok((keyring, seal, state))
}

/// A provider that is serving. Dropping it stops it at once; [`RunningProvider::shutdown`] lets it finish.
#[must_use = "the provider stops when this is dropped"]
pub struct RunningProvider {
    addr: SocketAddr,
    provider: SharedProvider,
    server: JoinHandle<()>,
    saver: Option<JoinHandle<()>>,
    stop_serving: DropGuard,
    stop_saving: DropGuard,
}

impl RunningProvider {
    /// The issuer identifier.
    pub fn issuer(&self) -> &str {
        self.provider.issuer.as_str()
    }

    /// The address of the metadata, which is all that a relying party has to be told.
    pub fn metadata_url(&self) -> String {
        self.provider.metadata_url()
    }

    /// The page on which users are edited and signed out.
    pub fn users_url(&self) -> String {
        self.provider.issuer.endpoint("/users")
    }

    /// Where it listens; with the port that it got.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Stops: takes no more connections, lets requests that are under way finish for up to two seconds, and saves
    /// the state. Dropping the future midway stops it at once, as dropping the provider does.
    pub async fn shutdown(self) {
        let RunningProvider { server, saver, stop_serving, stop_saving, .. } = self;
        drop(stop_serving);
        // Neither task fails but by a panic, which has been reported by then.
        let _ = server.await;
        drop(stop_saving);
        if let Some(saver) = saver {
            let _ = saver.await;
        }
    }
}

impl std::fmt::Debug for RunningProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningProvider")
            .field("issuer", &self.issuer())
            .field("addr", &self.addr)
            .finish_non_exhaustive()
    }
}

/// How long requests may take to finish when the provider stops.
const FINISHING_TIME: Duration = Duration::from_secs(2);
