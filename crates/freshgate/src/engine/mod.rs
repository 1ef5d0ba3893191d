//! The engine: opens sessions, signs in, refreshes and ends. Every surface (cookies, session API, operator) comes here.
//!
//! - `login.rs`: from a click to a session
//! - `refresh.rs`: one refresh, step by step; `flights.rs`: who shares which
//! - `ahead.rs`: active sessions, refreshed before their tokens expire
//! - `ending.rs`: the only way a session ends; `history.rs`: what an operator reads of it afterwards
//! - `neighbours.rs`: what other engines do on the same store
//! - `trial.rs`: a session tried out, for whoever checks a provider
//! - `sessions.rs`: what all of them read and write; `record.rs`: what is written

mod ahead;
mod ending;
mod flights;
mod history;
mod login;
mod neighbours;
mod record;
mod refresh;
mod sessions;
mod trial;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::broadcast;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use ahead::InUse;
pub use ending::ProviderLogout;
pub use history::{HistoryEntry, HistoryEvent, Known, LiveFacts, SessionFacts, SessionReport};
pub use login::{FLOW_LIFETIME, FlowId, LoginCompleted, LoginError, LoginRequest, LoginStarted};
pub(crate) use record::Record;
pub use refresh::{RefreshError, RefreshFailure, RefreshOutcome, TryLater};
pub use trial::{ReplacedToken, TokenFacts, Trial, TriedRefresh, TriedUserInfo};

use crate::{
    clock::{Clock, Entropy},
    events::SessionEvent,
    keyring::Keyring,
    provider::Provider,
    sabotage::Sabotage,
    session::{EndReason, OpenSession, SessionKey, SessionPolicy},
    store::{Store, StoreError},
    tasks::{Tasks, TokioTasks},
};
use ahead::ActiveSessions;
use flights::Flights;
use sessions::{Lookup, Sessions};

/// How often expired rows are swept out of the store.
const SWEEP_INTERVAL: Duration = Duration::from_secs(60);
/// How many rows one sweep removes at most before it lets others write.
const SWEEP_BATCH: usize = 500;

/// What an engine is made of.
pub struct EngineParts {
    /// Where sessions live.
    pub store: Arc<dyn Store>,
    /// What they are sealed with.
    pub keyring: Arc<Keyring>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Who may sign users in.
    pub providers: Vec<Provider>,
    /// How long sessions live and how fresh tokens are kept.
    pub policy: SessionPolicy,
}

/// Signs users in, keeps their tokens fresh and ends their sessions. Cheap to clone; all clones are one engine.
#[derive(Clone)]
pub struct Engine(Arc<Inner>);

struct Inner {
    /// What its leases begin with.
    name: String,
    sessions: Sessions,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    providers: BTreeMap<String, Arc<Provider>>,
    policy: SessionPolicy,
    flights: Arc<Flights>,
    active: ActiveSessions,
    tasks: TaskTracker,
    runner: Arc<dyn Tasks>,
    store: Arc<dyn Store>,
    #[cfg(feature = "simulation")]
    sabotage: std::sync::OnceLock<Sabotage>,
}

/// What a session key opens.
#[derive(Clone, Debug)]
pub enum Opened {
    /// An open session. Its tokens may have expired: see [`Engine::fresh`].
    Open(OpenSession),
    /// A session that ended.
    Ended(EndReason),
    /// Nothing.
    Unknown,
}

impl Engine {
    /// Puts an engine together. It does nothing until asked; see [`Engine::keep_house`] and [`Engine::refresh_ahead`].
    pub fn new(parts: EngineParts) -> Self {
        Self::running_on(TokioTasks::shared(), parts)
    }

    /// The same, with its own work done by `runner`.
    pub fn running_on(runner: Arc<dyn Tasks>, parts: EngineParts) -> Self {
        let EngineParts { store, keyring, clock, entropy, mut providers, policy } = parts;
        for provider in &mut providers {
            provider.run_on(&runner);
        }
        let mut name = [0; 12];
        entropy.fill(&mut name);
        Self(Arc::new(Inner {
            name: freshgate_oidc::base64url(&name),
            sessions: Sessions::new(store.clone(), keyring.clone(), entropy.clone()),
            keyring,
            clock,
            entropy,
            providers: providers
                .into_iter()
                .map(|provider| (provider.name().to_owned(), Arc::new(provider)))
                .collect(),
            policy,
            flights: Arc::default(),
            active: ActiveSessions::default(),
            tasks: TaskTracker::new(),
            runner,
            store,
            #[cfg(feature = "simulation")]
            sabotage: std::sync::OnceLock::new(),
        }))
    }

    /// Opens a session: one store read at most, none if it is in memory, and never a question to the provider.
    ///
    /// Fails only if the store does; then the session is neither open nor over. Dropping the future is safe.
    pub async fn open(&self, key: SessionKey) -> Result<Opened, StoreError> {
        Ok(match self.0.sessions.read(key).await? {
            Lookup::Live(record, _) if self.0.clock.now() >= record.ends_at => {
                self.end(key, EndReason::Lifetime).await?;
                Opened::Ended(EndReason::Lifetime)
            }
            Lookup::Live(record, _) => Opened::Open(OpenSession(record)),
            Lookup::Ended(tombstone) => Opened::Ended(tombstone.reason),
            Lookup::Unknown => Opened::Unknown,
        })
    }

    /// What happens to sessions from now on. A listener that lags loses events: it then reads its sessions again.
    pub fn events(&self) -> broadcast::Receiver<SessionEvent> {
        self.0.sessions.events()
    }

    /// The providers, by name.
    pub fn providers(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.0.providers.values()
    }

    /// The engine's clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// The engine's source of randomness.
    pub fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.0.entropy
    }

    /// What sessions and logins under way are sealed with.
    pub fn keyring(&self) -> &Keyring {
        &self.0.keyring
    }

    /// The policy that sessions live by.
    pub fn policy(&self) -> &SessionPolicy {
        &self.0.policy
    }

    /// Whether the session store answers. Costs one small read. Dropping the future is safe.
    pub async fn check_store(&self) -> Result<(), StoreError> {
        self.0.store.changes_since(None).await.map(drop)
    }

    /// How many sessions have a refresh under way.
    pub fn refreshes_under_way(&self) -> usize {
        self.0.flights.len()
    }

    /// Sweeps what is over out of the store until `stop`. Spawn it once.
    pub async fn keep_house(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(SWEEP_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            loop {
                match self.0.store.sweep(self.0.clock.now(), SWEEP_BATCH).await {
                    Ok(swept) if swept == SWEEP_BATCH => continue,
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "expired sessions could not be swept"
                        );
                        break;
                    }
                }
            }
        }
    }

    /// Starts work that no caller may cancel; [`Engine::finish`] waits for it.
    fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.runner.start(Box::pin(self.0.tasks.track_future(task)));
    }

    /// Has the engine make a mistake from now on. Once.
    #[cfg(feature = "simulation")]
    pub fn sabotage(&self, mistake: Sabotage) {
        let _ = self.0.sabotage.set(mistake);
    }

    /// Whether the simulation wants this mistake to be made.
    #[cfg(feature = "simulation")]
    fn sabotaged(&self, mistake: Sabotage) -> bool {
        self.0.sabotage.get() == Some(&mistake)
    }

    /// Nobody wants a mistake to be made.
    #[cfg(not(feature = "simulation"))]
    #[inline(always)]
    fn sabotaged(&self, _: Sabotage) -> bool {
        false
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.entropy.fill(&mut bytes);
        bytes
    }

    /// Waits for the refreshes under way to land. Call it when nobody asks any more.
    pub async fn finish(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}
