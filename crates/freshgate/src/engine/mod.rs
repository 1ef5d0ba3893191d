//! The engine: opens sessions, signs in, refreshes and ends. Every surface (cookies, session API, operator) comes here.
//!
//! - `login.rs`: from a click to a session; `prepared.rs`: what an app asks for in one login
//! - `refresh/`: one refresh, step by step; `flights.rs`: who shares which
//! - `not_before.rs`: refresh tokens that are not good yet
//! - `ahead.rs`: active sessions, refreshed before their tokens expire
//! - `authorization.rs`: what an app's request to an API carries
//! - `ending.rs`: the only way a session ends; `history.rs`: what an operator reads of it afterwards
//! - `channels.rs`: logouts that a provider tells us of; `idle.rs`: sessions that nobody uses
//! - `revoking.rs`: refresh tokens of ended sessions, taken back at the provider
//! - `house.rs`: sessions whose time is over, and what is left of ended ones
//! - `neighbours.rs`: what other engines do on the same store
//! - `process.rs`: which process an engine is in
//! - `trial.rs`: a session tried out, for whoever checks a provider
//! - `sessions.rs`: what all of them read and write; `record.rs`: what is written

mod ahead;
mod authorization;
mod channels;
mod ending;
mod flights;
mod history;
mod house;
mod idle;
mod login;
mod neighbours;
mod not_before;
mod prepared;
mod process;
mod record;
mod refresh;
mod revoking;
mod sessions;
mod trial;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::sync::broadcast;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use ahead::InUse;
pub use authorization::ResourceAuthorization;
pub use channels::{BackChannelError, FrontChannelError};
pub use ending::ProviderLogout;
pub use history::{HistoryEntry, HistoryEvent, Known, LiveFacts, SessionFacts, SessionReport};
pub use login::{FLOW_LIFETIME, FlowId, LoginCompleted, LoginError, LoginRequest, LoginStarted};
pub use prepared::{PrepareError, PreparedLogin};
pub(crate) use record::Record;
pub use refresh::{RefreshError, RefreshFailure, RefreshOutcome, TryLater};
pub use revoking::RevocationCounts;
pub use trial::{ReplacedToken, TokenFacts, Trial, TriedRefresh, TriedUserInfo};

use crate::{
    clock::{Clock, Entropy},
    counting,
    events::SessionEvent,
    keyring::Keyring,
    landmark::Landmark,
    provider::Provider,
    sabotage::Sabotage,
    session::{EndReason, OpenSession, SessionKey, SessionPolicy},
    store::{Store, StoreError},
    tasks::{Tasks, TokioTasks},
};
use ahead::ActiveSessions;
use flights::Flights;
use idle::UsesUnderWay;
use process::Process;
use revoking::Revocations;
use sessions::{Lookup, Sessions};

/// How long [`Engine::finish`] waits at most: for a request and its repetition, 15 s each, and then for a store that fails.
const FINISH_PATIENCE: Duration = Duration::from_secs(45);

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
    process: Option<Process>,
    sessions: Sessions,
    keyring: Arc<Keyring>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    providers: BTreeMap<String, Arc<Provider>>,
    policy: SessionPolicy,
    flights: Arc<Flights>,
    active: Arc<ActiveSessions>,
    uses: UsesUnderWay,
    revocations: Revocations,
    tasks: TaskTracker,
    /// No refresh begins any more.
    stopping: CancellationToken,
    runner: Arc<dyn Tasks>,
    store: Arc<dyn Store>,
    #[cfg(feature = "simulation")]
    sabotage: std::sync::OnceLock<Sabotage>,
    #[cfg(feature = "simulation")]
    watch: std::sync::OnceLock<Watch>,
}

/// Who is told of landmarks.
#[cfg(feature = "simulation")]
type Watch = Box<dyn Fn(Landmark) + Send + Sync>;

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
            provider.run_on(&runner, &entropy);
            // From the start, so that who watches it sees that nothing is wrong.
            counting::provider_left_alone(provider.name(), false);
        }
        let mut name = [0; 12];
        entropy.fill(&mut name);
        let active = Arc::<ActiveSessions>::default();
        Self(Arc::new(Inner {
            name: freshgate_oidc::base64url(&name),
            process: Process::this(),
            sessions: Sessions::new(store.clone(), keyring.clone(), entropy.clone(), active.clone()),
            keyring,
            clock,
            entropy,
            providers: providers
                .into_iter()
                .map(|provider| (provider.name().to_owned(), Arc::new(provider)))
                .collect(),
            policy,
            flights: Arc::default(),
            active,
            uses: UsesUnderWay::default(),
            revocations: Revocations::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            runner,
            store,
            #[cfg(feature = "simulation")]
            sabotage: std::sync::OnceLock::new(),
            #[cfg(feature = "simulation")]
            watch: std::sync::OnceLock::new(),
        }))
    }

    /// Opens a session: one store read at most, none if it is in memory, and never a question to the provider. One that
    /// is over, by its lifetime or because nobody uses it, ends by this.
    ///
    /// Fails only if the store does; then the session is neither open nor over. Dropping the future is safe.
    pub async fn open(&self, key: SessionKey) -> Result<Opened, StoreError> {
        let mut lookup = self.0.sessions.read(key).await?;
        loop {
            let (record, revision) = match lookup {
                Lookup::Live(record, revision) => (record, revision),
                Lookup::Ended(tombstone) => return Ok(Opened::Ended(tombstone.reason)),
                Lookup::Unknown => return Ok(Opened::Unknown),
            };
            match idle::over(&record, self.0.clock.now(), &self.0.policy) {
                Some(over) => lookup = self.end_over(&record, revision, over.reason).await?,
                None => {
                    if record.last_used.is_none() {
                        // From before there was an idle timeout: it counts from now on.
                        self.put_off_idling(key);
                    }
                    return Ok(Opened::Open(OpenSession(record)));
                }
            }
        }
    }

    /// Does all that an engine does by itself until `stop`: refreshes active sessions ahead, ends those whose time is over, and
    /// follows what other engines do on the same store ([`Engine::refresh_ahead`], [`Engine::keep_house`],
    /// [`Engine::watch_neighbours`]). Spawn it once, before sessions are used: it learns of use from this call on.
    ///
    /// Nothing is refreshed ahead any more once the engine [finishes](Engine::finish).
    pub fn tend(self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let stopping = self.0.stopping.clone();
        let ahead = self.clone().refresh_ahead(stop.clone());
        async move {
            tokio::join!(
                stopping.run_until_cancelled(ahead),
                self.clone().keep_house(stop.clone()),
                self.watch_neighbours(stop),
            );
        }
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

    /// Starts work that no caller may cancel; [`Engine::finish`] waits for it.
    fn start(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.0.runner.start(Box::pin(self.0.tasks.track_future(task)));
    }

    /// Has the engine make a mistake from now on. Once.
    #[cfg(feature = "simulation")]
    pub fn sabotage(&self, mistake: Sabotage) {
        let _ = self.0.sabotage.set(mistake);
        if mistake == Sabotage::OwnCommitNotTold {
            self.0.sessions.hush();
        }
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

    /// Has `watch` told of each landmark that the engine passes from now on. Once.
    #[cfg(feature = "simulation")]
    pub fn watch_landmarks(&self, watch: impl Fn(Landmark) + Send + Sync + 'static) {
        let _ = self.0.watch.set(Box::new(watch));
    }

    #[cfg(feature = "simulation")]
    fn passes(&self, landmark: Landmark) {
        if let Some(watch) = self.0.watch.get() {
            watch(landmark);
        }
    }

    /// Nobody watches.
    #[cfg(not(feature = "simulation"))]
    #[inline(always)]
    fn passes(&self, _: Landmark) {}

    /// Does `work` in a task of its own, which goes on if this future is dropped. `None`: it panicked.
    async fn uncancelled<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, outcome) = tokio::sync::oneshot::channel();
        self.start(async move {
            // Whoever asked may have gone.
            let _ = sender.send(work.await);
        });
        outcome.await.ok()
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.entropy.fill(&mut bytes);
        bytes
    }

    /// Stops refreshing, for good: what is on the wire lands and is saved, what is not is given up, and whoever asks from now
    /// on is told that it was interrupted. Sessions are opened and ended as before. What else nobody
    /// may cancel, such as a revocation, is waited for too.
    ///
    /// Returns when all have landed, or after a while (45 s): a provider and a store that both fail are not
    /// waited for without end. Dropping the future midway changes nothing but that nobody waits.
    pub async fn finish(&self) {
        self.0.stopping.cancel();
        if self.sabotaged(Sabotage::FinishDoesNotWait) {
            return;
        }
        self.0.tasks.close();
        if tokio::time::timeout(FINISH_PATIENCE, self.0.tasks.wait()).await.is_err() {
            let refreshes = self.refreshes_under_way();
            tracing::error!(
                refreshes,
                "not all refreshes under way have landed, and their tokens may be lost"
            );
        }
    }
}
