//! One run: engines, sessions, callers, and what befalls them.

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use freshgate::{
    Engine, Secret,
    clock::Clock,
    engine::{EngineParts, LoginError, LoginRequest, Opened, RefreshError, RefreshOutcome},
    events::SessionEvent,
    keyring::Keyring,
    landmark::Landmark,
    provider::{Provider as ProviderClient, ProviderConfig, Refreshing},
    sabotage::Sabotage,
    session::{EndReason, FreshSession, OpenSession, SessionKey, SessionPolicy},
    store::MemoryStore,
};
use freshgate_oidc::{
    AuthorizationParameters, CallbackParameters, ClientCredential, ExpectedIssuer, Issuer, RawLogoutToken,
    Timestamp,
};
use tokio::{
    sync::{
        broadcast::{self, error::TryRecvError},
        oneshot,
    },
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::{
    book::{Book, Held},
    chance::Chance,
    crash::{Crash, Place},
    executor::{Owner, Stepped, WORLD},
    provider::{CLIENT_ID, ISSUER, Provider, Wire},
    store::SharedStore,
    world::{Broken, Dealt, Skew, SkewedClock, World},
};

/// A caller is answered no later than this after its deadline.
const SLACK: Duration = Duration::from_millis(100);
/// An engine learns of what others end within this.
const EVERYWHERE_WITHIN: Duration = Duration::from_secs(8);
/// An engine that is told to stop has finished within this.
const FINISHED_WITHIN: Duration = Duration::from_secs(46);
/// What became of a refresh token is found out within this, once all is well.
const FOUND_OUT_WITHIN: Duration = Duration::from_secs(60);
/// A session whose time is over ends within this, by whatever clock, once all is well.
const ENDED_WITHIN: i64 = 150;
/// A run in which something waits for ever is stopped.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// What a run yields.
pub(crate) struct Outcome {
    pub(crate) steps: u64,
    /// What tells a run from others.
    pub(crate) print: u64,
    pub(crate) faults: BTreeMap<&'static str, u64>,
    pub(crate) landmarks: BTreeMap<Landmark, u64>,
    pub(crate) broken: Option<Broken>,
    pub(crate) trace: Vec<String>,
    pub(crate) dealt: String,
}

/// How it is counted that the engine died that was to die.
pub(crate) const DIED: &str = "engine killed on purpose";

pub(crate) fn run(seed: u64, mistake: Option<Sabotage>, verbose: bool) -> Outcome {
    play_out(|| Scenario::new(World::new(seed, Dealt::by, verbose), mistake), Scenario::play)
}

/// The one scenario in which an engine dies where it is wanted, if it comes so far: then that is counted among the faults.
pub(crate) fn run_crash(crash: Crash, verbose: bool) -> Outcome {
    let deal = |_: &Chance| Dealt::for_a_crash(crash.grace);
    play_out(
        || Scenario::new(World::new(crash.schedule, deal, verbose), None),
        move |scenario| scenario.play_crash(crash),
    )
}

fn play_out<F: Future<Output = ()> + Send + 'static>(
    prepare: impl FnOnce() -> Arc<Scenario>,
    play: impl FnOnce(Arc<Scenario>) -> F,
) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime with a clock and nothing else");
    runtime.block_on(tokio::task::unconstrained(async {
        let scenario = prepare();
        let world = scenario.world.clone();
        let finished = Arc::new(AtomicBool::new(false));
        let (script, done) = (play(scenario.clone()), finished.clone());
        world.executor.spawn(
            WORLD,
            Box::pin(async move {
                script.await;
                done.store(true, Ordering::Relaxed);
            }),
        );
        let (watch, over) = (world.clone(), world.clone());
        let book = scenario.book.clone();
        let provider = scenario.provider.clone();
        let gone = scenario.clone();
        let work = world.executor.run(
            move |stepped| {
                if let Stepped::Killed(owner) = stepped {
                    gone.is_killed(owner);
                }
                book.check_unsaved(|token| provider.is_good(token));
            },
            move || finished.load(Ordering::Relaxed) || over.verdict().is_some(),
        );
        if tokio::time::timeout(LONGEST, work).await.is_err() {
            watch.broken("every run ends", format!("nothing more happens for {LONGEST:?}"));
        }
        let outcome = Outcome {
            steps: watch.executor.steps(),
            print: watch.print(),
            faults: watch.faults(),
            landmarks: watch.landmarks(),
            broken: watch.verdict(),
            trace: watch.trace(),
            dealt: format!("{:?}", watch.dealt),
        };
        watch.executor.clear();
        outcome
    }))
}

struct Scenario {
    world: Arc<World>,
    book: Arc<Book>,
    provider: Arc<Provider>,
    keyring: Arc<Keyring>,
    rows: MemoryStore,
    mistake: Option<Sabotage>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    owners: Owner,
    /// A place for each engine; nobody is there while it is dead.
    places: Vec<Option<Running>>,
    sessions: Vec<(SessionKey, u64)>,
    /// Which engine has said that which session is over.
    known_over: BTreeMap<(Owner, SessionKey), ()>,
    waiting: BTreeMap<u64, Waiting>,
    callers: u64,
}

#[derive(Clone)]
struct Running {
    owner: Owner,
    engine: Engine,
    skew: Arc<SkewedClock>,
    /// Stops what the engine does of itself.
    stop: CancellationToken,
}

impl Running {
    fn skew(&self) -> i64 {
        self.skew.skew_millis.load(Ordering::Relaxed)
    }
}

/// An app behind one engine, with a page of each session: what it read at first, and what it was told since.
struct Listener {
    owner: Owner,
    events: broadcast::Receiver<SessionEvent>,
    /// The generation of each session that was open.
    read: BTreeMap<SessionKey, u64>,
}

impl Listener {
    /// Of sessions that somebody holds: of others nobody need hear.
    async fn start(running: &Running, sessions: &[(SessionKey, u64)]) -> Self {
        let events = running.engine.events();
        let mut read = BTreeMap::new();
        for (key, _) in sessions {
            if let Ok(Opened::Open(session)) = running.engine.open(*key).await {
                read.insert(*key, session.generation());
            }
        }
        Self { owner: running.owner, events, read }
    }

    /// What was so a while ago was read or told, and nothing twice.
    fn has_heard_of(mut self, held: &[(SessionKey, Held)], world: &World) {
        let (mut told, mut ended) = (BTreeMap::new(), Vec::new());
        loop {
            match self.events.try_recv() {
                Ok(SessionEvent::Changed { key, generation, .. }) => {
                    if told.insert(key, generation).is_some_and(|before| before >= generation) {
                        let what = format!("generation {generation} on engine {}", self.owner);
                        world.broken("a change is told once", what);
                    }
                }
                Ok(SessionEvent::Ended { key, .. }) => ended.push(key),
                // It reads everything again.
                Ok(SessionEvent::Missed) | Err(TryRecvError::Lagged(_)) => return,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        for (key, held) in held {
            let Some(read) = self.read.get(key).filter(|_| !ended.contains(key)) else { continue };
            let known = read.max(told.get(key).unwrap_or(read));
            let what = match held {
                Held::Live(row) if *known < row.generation => {
                    format!("generation {} after {known}, on engine {}", row.generation, self.owner)
                }
                Held::Ended(reason, _) => {
                    format!("that it ended ({}), on engine {}", reason.code(), self.owner)
                }
                Held::Live(_) => continue,
            };
            world.broken("apps are told of every change", what);
        }
    }
}

/// A login whose user is at the provider.
struct LoginUnderWay {
    callback: CallbackParameters,
    sealed_flow: Secret,
    family: u64,
}

impl LoginUnderWay {
    async fn begin(engine: &Engine, provider: &Provider) -> Result<Self, LoginError> {
        let request = LoginRequest {
            provider: "default".into(),
            redirect_uri: Url::parse("http://localhost:8501/oauth2callback").expect("a URL"),
            next: "/".into(),
            parameters: AuthorizationParameters::default(),
        };
        let started = engine.begin_login(request).await?;
        let authorize = Url::parse(started.authorize.expose()).expect("a URL");
        let (callback, family) = provider.authorize(authorize.query().unwrap_or_default());
        let callback = CallbackParameters::parse(&callback).expect("a callback");
        Ok(Self { callback, sealed_flow: started.sealed_flow, family })
    }

    async fn complete(self, engine: &Engine) -> Result<SessionKey, LoginError> {
        let completed = engine.complete_login(&self.callback, Some(self.sealed_flow.expose())).await?;
        Ok(completed.session.key())
    }
}

/// How somebody asks for a session.
struct Asking {
    forced: bool,
    deadline: Duration,
    leaves: Option<Duration>,
    validity: Option<Duration>,
}

struct Waiting {
    owner: Owner,
    what: String,
}

impl Scenario {
    fn new(world: Arc<World>, mistake: Option<Sabotage>) -> Arc<Self> {
        let book = Book::new(world.clone());
        let provider = Provider::new(world.clone());
        let keyring = Arc::new(Keyring::from_secret(&Secret::new("a cookie secret that is long enough")));
        let rows = MemoryStore::new();
        Arc::new(Self { world, book, provider, keyring, rows, mistake, state: Mutex::default() })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_engine(self: &Arc<Self>) -> Running {
        let owner = {
            let mut state = self.state();
            state.owners += 1;
            state.owners
        };
        let world = &self.world;
        let furthest = match world.dealt.skew {
            Skew::None => 0,
            Skew::Within => 25_000,
            Skew::Beyond if world.is_calm() && !self.state().sessions.is_empty() => 0,
            Skew::Beyond => 100_000,
        };
        let skew = world.chance.between(0, 2 * furthest) as i64 - furthest as i64;
        let clock = Arc::new(SkewedClock { world: world.clone(), skew_millis: AtomicI64::new(skew) });
        let store = SharedStore {
            world: world.clone(),
            book: self.book.clone(),
            provider: self.provider.clone(),
            keyring: self.keyring.clone(),
            rows: self.rows.clone(),
            by: owner,
        };
        let wire = Wire {
            world: world.clone(),
            provider: self.provider.clone(),
            book: self.book.clone(),
            by: owner,
        };
        let metadata_url = Url::parse(&format!("{ISSUER}/.well-known/openid-configuration")).expect("a URL");
        let secret = ClientCredential::Secret(Secret::new("client-secret"));
        let config = ProviderConfig {
            issuer: ExpectedIssuer::Exactly(Issuer::new(ISSUER)),
            scope: "openid".into(),
            userinfo: world.dealt.userinfo,
            refreshing: Refreshing {
                lost_answer: Some(world.dealt.lost_answer),
                requests_in_flight: NonZeroUsize::new(world.dealt.at_once).expect("one at least"),
            },
            ..ProviderConfig::new("default", metadata_url, CLIENT_ID, secret)
        };
        let parts = EngineParts {
            store: Arc::new(store),
            keyring: self.keyring.clone(),
            clock: clock.clone(),
            entropy: world.chance.clone(),
            providers: vec![ProviderClient::new(config, Arc::new(wire), clock.clone())],
            policy: SessionPolicy {
                refresh_ahead: world.dealt.ahead,
                idle_timeout: world.dealt.idle_timeout,
                absolute_lifetime: world
                    .dealt
                    .absolute_lifetime
                    .unwrap_or(SessionPolicy::default().absolute_lifetime),
                ..SessionPolicy::default()
            },
        };
        let engine = Engine::running_on(world.executor.tasks_of(owner), parts);
        if let Some(mistake) = self.mistake {
            engine.sabotage(mistake);
        }
        let watch = world.clone();
        engine.watch_landmarks(move |landmark| watch.passed(owner, landmark));
        let stop = CancellationToken::new();
        world.executor.spawn(owner, Box::pin(engine.clone().refresh_ahead(stop.clone())));
        world.executor.spawn(owner, Box::pin(engine.clone().keep_house(stop.clone())));
        world.executor.spawn(owner, Box::pin(engine.clone().watch_neighbours(stop.clone())));
        world.note(|| format!("engine {owner} starts, its clock off by {skew} ms"));
        Running { owner, engine, skew: clock, stop }
    }

    fn is_killed(&self, owner: Owner) {
        self.world.note(|| format!("engine {owner} is killed"));
        let mut state = self.state();
        state.waiting.retain(|_, waiting| waiting.owner != owner);
        let gone: Vec<_> = state
            .places
            .iter_mut()
            .filter(|place| place.as_ref().is_some_and(|running| running.owner == owner))
            .map(Option::take)
            .collect();
        drop(state);
        drop(gone);
    }

    /// An engine that runs, starting one in an empty place.
    fn some_engine(self: &Arc<Self>) -> Running {
        let places = self.state().places.len() as u64;
        let place = self.world.chance.below(places) as usize;
        if let Some(running) = self.state().places[place].clone() {
            return running;
        }
        let running = self.start_engine();
        self.state().places[place] = Some(running.clone());
        running
    }

    /// An engine that the store is away for.
    fn cut_off_engine(&self) -> Option<Running> {
        let state = self.state();
        let mut running = state.places.iter().flatten();
        running.find(|running| self.world.store_is_away(running.owner).is_some()).cloned()
    }

    fn some_session(&self) -> (SessionKey, u64) {
        let sessions = self.state().sessions.clone();
        self.world.chance.pick(&sessions)
    }

    async fn play(self: Arc<Self>) {
        let world = self.world.clone();
        let dealt = world.dealt.clone();
        let places = (0..dealt.engines).map(|_| Some(self.start_engine())).collect();
        self.state().places = places;
        for _ in 0..dealt.sessions {
            self.sign_in().await;
        }
        world.set_calm(false);
        for _ in 0..dealt.actions {
            self.act().await;
            let pause = match world.chance.below(10) {
                0..=4 => world.chance.millis(0, 60),
                5..=7 => world.chance.millis(100, 4_000),
                _ => world.chance.millis(5_000, dealt.lifetime.min(90) * 1_000),
            };
            tokio::time::sleep(pause).await;
        }
        // Whoever still waits is answered within its deadline.
        tokio::time::sleep(Duration::from_secs(60)).await;
        self.wind_up().await;
    }

    /// Two engines are asked for a refresh, and the first of them dies in the middle of it.
    async fn play_crash(self: Arc<Self>, crash: Crash) {
        let world = self.world.clone();
        let (one, two) = (self.start_engine(), self.start_engine());
        let dying = one.owner;
        self.state().places = vec![Some(one.clone()), Some(two.clone())];
        self.sign_in().await;
        world.set_calm(false);
        tokio::time::sleep(Duration::from_secs(1)).await;
        match crash.place {
            Place::Step => world.executor.light_fuse(dying, crash.after),
            Place::Call(moment) => world.dies_at_call(dying, crash.after, moment),
        }
        let (key, family) = self.some_session();
        for running in [one, two] {
            let ask =
                Asking { forced: true, deadline: Duration::from_secs(45), leaves: None, validity: None };
            self.call_on(running, key, family, ask);
            // At once, or when the first is at it already.
            tokio::time::sleep(Duration::from_millis(100) * crash.schedule as u32).await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        while !self.state().waiting.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        world.spare(dying);
        if world.is_dead(dying) {
            world.count(DIED);
        }
        self.wind_up().await;
        if crash.grace && !matches!(self.book.row(key), Some(Held::Live(_))) {
            world.broken("within the grace window nobody is signed out", format!("{:?}", self.book.row(key)));
        }
    }

    /// All is calm from now on: what was promised of the time after that is looked at.
    async fn wind_up(self: &Arc<Self>) {
        let (world, dealt) = (self.world.clone(), self.world.dealt.clone());
        world.set_calm(true);
        let running: Vec<Running> = self.state().places.iter().flatten().cloned().collect();
        for running in &running {
            world.thaw(running.owner);
            if dealt.skew == Skew::Beyond {
                // With such a clock no ID token is valid: an operator sets it right.
                running.skew.skew_millis.store(0, Ordering::Relaxed);
            }
        }
        // Somebody looks at every session from now on.
        let sessions = self.state().sessions.clone();
        let tabs: Vec<_> = running
            .iter()
            .flat_map(|running| sessions.iter().map(|(key, _)| running.engine.hold(*key)))
            .collect();
        let mut listeners = Vec::new();
        for running in running.iter().filter(|running| !world.is_dead(running.owner)) {
            listeners.push(Listener::start(running, &sessions).await);
        }
        // Leases of the dead run out, and so does every backoff.
        tokio::time::sleep(Duration::from_secs(100)).await;
        // A refusal without a word is believed only after a while, and when the clocks were set right what was planned by
        // them is due at the wrong time.
        let is_kept_fresh = dealt.ahead && !dealt.without_words && dealt.skew != Skew::Beyond;
        // One may have been about to die when the faults ended.
        let somebody_lives = || running.iter().any(|running| !world.is_dead(running.owner));
        if is_kept_fresh && somebody_lives() {
            self.check_settled();
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
        // Whose clock is behind hears of a not-before too late to use it.
        if is_kept_fresh && (dealt.not_before.is_none() || dealt.skew == Skew::None) {
            // One that was told to stop before the faults ended has stopped since.
            for running in running.iter().filter(|running| !world.is_dead(running.owner)) {
                self.check_fresh(running).await;
            }
        }
        if somebody_lives() && dealt.skew != Skew::Beyond {
            self.check_over();
        }
        let held: Vec<_> =
            sessions.iter().filter_map(|(key, _)| Some((*key, self.book.row(*key)?))).collect();
        tokio::time::sleep(EVERYWHERE_WITHIN).await;
        for listener in listeners.into_iter().filter(|listener| !world.is_dead(listener.owner)) {
            listener.has_heard_of(&held, &world);
        }
        drop(tabs);
        let waiting: Vec<String> =
            self.state().waiting.values().map(|waiting| waiting.what.clone()).collect();
        if !waiting.is_empty() {
            world.broken("every waiter is answered", waiting.join("; "));
        }
        for (key, family) in sessions {
            self.settle(key, family).await;
        }
        // Every token request and every wait is over by then.
        tokio::time::sleep(Duration::from_secs(60)).await;
        for running in running.iter().filter(|running| !world.is_dead(running.owner)) {
            let flying = running.engine.refreshes_under_way();
            if flying > 0 && !dealt.ahead {
                let what = format!("{flying} on engine {}", running.owner);
                world.broken("every flight lands", what);
            }
        }
    }

    /// What became of a refresh token is found out although nobody asks, where a session is active.
    fn check_settled(&self) {
        for (key, family) in self.state().sessions.clone() {
            if let Some(Held::Live(row)) = self.book.row(key)
                && self.book.in_doubt_for(key) > FOUND_OUT_WITHIN
            {
                let what = format!("family {family} is active, and {} may still be lost", row.refresh_token);
                self.world.broken("what is in doubt is found out", what);
            }
        }
    }

    /// A session ends when its time is over, though nobody looks for it.
    fn check_over(&self) {
        for (key, family) in self.state().sessions.clone() {
            if let Some(Held::Live(row)) = self.book.row(key)
                && self.world.unix_seconds() > row.ends_at + ENDED_WITHIN
            {
                let what = format!("family {family}, over since {}: {row:?}", row.ends_at);
                self.world.broken("what is over ends", what);
            }
        }
    }

    /// An active session never expires.
    async fn check_fresh(&self, running: &Running) {
        let sessions = self.state().sessions.clone();
        for (key, family) in sessions {
            let Ok(Opened::Open(session)) = running.engine.open(key).await else { continue };
            if let Some(Held::Live(row)) = self.book.row(key)
                && self.provider.is_early(&row.refresh_token)
            {
                // The last answer brought a refresh token for later, and no access token that is good.
                continue;
            }
            if session.tokens().expires_at.is_some_and(|at| at <= running.skew.now()) {
                let what =
                    format!("family {family} is active on engine {}, and its token is over", running.owner);
                self.world.broken("active sessions are fresh", what);
            }
        }
    }

    async fn sign_in(self: &Arc<Self>) {
        let running = self.some_engine();
        let under_way = LoginUnderWay::begin(&running.engine, &self.provider).await;
        let under_way = under_way.expect("nothing fails yet");
        let family = under_way.family;
        match under_way.complete(&running.engine).await {
            Ok(key) => self.state().sessions.push((key, family)),
            Err(error) => self.world.broken("a login without faults succeeds", format!("{error:?}")),
        }
    }

    async fn act(self: &Arc<Self>) {
        let world = &self.world;
        let (key, family) = self.some_session();
        let (crashes, freezes) = (world.dealt.crashes, world.dealt.freezes);
        if world.fault("engine killed", crashes) {
            let running = self.some_engine();
            let steps = world.chance.below(80);
            world.executor.light_fuse(running.owner, steps);
        }
        if world.fault("engine stands still", freezes) {
            let running = self.some_engine();
            world.stand_still(running.owner, world.chance.millis(500, 40_000));
        }
        if world.fault("store away", world.dealt.outages) {
            let whose = if world.chance.percent(50) { WORLD } else { self.some_engine().owner };
            world.store_goes_away(whose);
        }
        if world.fault("engine stopped in order", world.dealt.stops) {
            self.stop(self.some_engine());
        }
        // The worst time for it.
        if let Some(running) = self.cut_off_engine()
            && world.fault("engine stopped while the store is away", 2 * world.dealt.stops)
        {
            self.stop(running);
        }
        match world.chance.below(100) {
            0..=54 => self.call(true, key, family),
            55..=74 => self.call(false, key, family),
            75..=84 => self.look(key),
            85..=92 => {
                world.note(|| format!("the user of family {family} edits the profile"));
                self.provider.edit_profile(family);
            }
            93 => {
                world.note(|| "the provider restarts".into());
                world.count("provider restarted");
                self.provider.restart(world.chance.millis(100, 30_000));
            }
            94 => {
                world.note(|| format!("family {family} is revoked at the provider"));
                world.count("revoked at the provider");
                self.provider.revoke(family);
            }
            95 => match world.chance.below(3) {
                0 => self.end(key),
                1 => self.tell(key, family),
                _ => self.sign_in_and_out(),
            },
            _ => {
                // Several at once, on several engines.
                for _ in 0..world.chance.between(2, 5) {
                    self.call(world.chance.percent(70), key, family);
                }
            }
        }
    }

    /// An engine is told to stop, as at an update. Callers go on asking it until it is gone.
    fn stop(self: &Arc<Self>, running: Running) {
        let (this, world, owner) = (self.clone(), self.world.clone(), running.owner);
        world.note(|| format!("engine {owner} is told to stop"));
        world.executor.spawn(
            owner,
            Box::pin(async move {
                let began = Instant::now();
                running.engine.finish().await;
                running.stop.cancel();
                this.world.note(|| format!("engine {owner} has finished"));
                let took = began.elapsed();
                if took > FINISHED_WITHIN && !this.world.stood_still_since(owner, began) {
                    this.world.broken("a stop is bounded", format!("engine {owner} took {took:?}"));
                }
                this.book.finished(owner, began, |token| this.provider.is_good(token));
                this.world.executor.light_fuse(owner, 0);
            }),
        );
    }

    fn begin(&self, owner: Owner, what: String) -> u64 {
        self.world.note(|| what.clone());
        let mut state = self.state();
        state.callers += 1;
        let caller = state.callers;
        state.waiting.insert(caller, Waiting { owner, what });
        caller
    }

    fn finish(&self, caller: u64) {
        self.state().waiting.remove(&caller);
    }

    /// Somebody asks for a refresh, or for a token that lives, and may leave before the answer comes.
    fn call(self: &Arc<Self>, forced: bool, key: SessionKey, family: u64) {
        let running = self.some_engine();
        let world = &self.world;
        let deadline = world.chance.pick(&[500, 3_000, 10_000, 20_000, 45_000]);
        let deadline = Duration::from_millis(deadline);
        let leaves = world.fault("caller left", 15).then(|| world.chance.millis(0, 3_000));
        let validity = world.chance.percent(20).then(|| Duration::from_secs(world.chance.below(100)));
        self.call_on(running, key, family, Asking { forced, deadline, leaves, validity });
    }

    fn call_on(self: &Arc<Self>, running: Running, key: SessionKey, family: u64, asking: Asking) {
        let Asking { forced, deadline, leaves, validity } = asking;
        let (world, this, owner) = (self.world.clone(), self.clone(), running.owner);
        world.executor.spawn(
            owner,
            Box::pin(async move {
                let started = Instant::now();
                let kind = if forced { "refresh" } else { "fresh" };
                let ask = format!(
                    "{kind} of family {family} on engine {owner}, deadline {deadline:?}, leaves {leaves:?}"
                );
                let caller = this.begin(owner, ask);
                let is_over = if this.is_known_over(owner, key) {
                    Some("it said so itself")
                } else {
                    this.ended_long_ago(owner, key).then_some("it ended long ago")
                };
                let version = this.provider.version(family);
                let asked_at = running.engine.clock().now();
                let patience = leaves.unwrap_or(Duration::from_secs(3_600));
                let answer = if forced {
                    tokio::time::timeout(patience, running.engine.refresh(key, deadline)).await
                } else {
                    tokio::time::timeout(patience, running.engine.fresh(key, validity, deadline)).await
                };
                this.finish(caller);
                let Ok(answer) = answer else {
                    this.world.note(|| format!("caller {caller} leaves"));
                    return;
                };
                let late = started.elapsed().saturating_sub(deadline);
                if late > SLACK && !this.world.stood_still_since(owner, started) {
                    let what =
                        format!("{kind} on engine {owner} took {:?}, {late:?} too long", started.elapsed());
                    this.world.broken("every waiter is answered by its deadline", what);
                }
                if !forced && !this.world.stood_still_since(owner, started) {
                    this.served_while_it_lives(&running, key, asked_at, &answer).await;
                }
                this.answered(caller, forced, owner, key, family, is_over, version, answer);
            }),
        );
    }

    /// Who only wants a token that lives gets one if there is one, whatever becomes of a refresh, and never one that is over.
    async fn served_while_it_lives(
        &self,
        running: &Running,
        key: SessionKey,
        asked_at: Timestamp,
        answer: &Result<(FreshSession, RefreshOutcome), RefreshError>,
    ) {
        let now = || running.engine.clock().now();
        match answer {
            Ok((fresh, _)) => {
                let over_since =
                    fresh.session().tokens().expires_at.filter(|expires_at| now() >= *expires_at + SLACK);
                // An answer that took so long that its token is over is all that there is.
                let is_new = fresh.session().tokens().obtained_at >= asked_at;
                if let (Some(over_since), false) = (over_since, is_new) {
                    let what = format!("over since {over_since:?}, on engine {}", running.owner);
                    self.world.broken("nobody gets a token that is over", what);
                }
            }
            // A store that fails, or is too slow to say whether there is a session.
            Err(RefreshError::TryLater(later)) if !matches!(later.failure.code(), "store" | "deadline") => {
                if let Ok(Opened::Open(session)) = running.engine.open(key).await
                    && session.tokens().obtained_at <= asked_at
                    && session.tokens().expires_at.is_none_or(|expires_at| now() < expires_at)
                {
                    let what = format!("{} on engine {}", later.failure.code(), running.owner);
                    self.world.broken("a token that lives is served while the provider is away", what);
                }
            }
            Err(_) => {}
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what was true when the caller asked")]
    fn answered(
        &self,
        caller: u64,
        forced: bool,
        owner: Owner,
        key: SessionKey,
        family: u64,
        is_over: Option<&'static str>,
        version: u64,
        answer: Result<(FreshSession, RefreshOutcome), RefreshError>,
    ) {
        match &answer {
            Ok((fresh, outcome)) => {
                let claims = fresh.session().claims();
                let got = claims["version"].as_u64().unwrap_or_default();
                let token = fresh.access_token().expose();
                self.world
                    .note(|| format!("caller {caller}: {} {token}, claims version {got}", outcome.code()));
                if let Some(why) = is_over {
                    let what =
                        format!("engine {owner} served {token} when it was asked after the end: {why}");
                    self.world.broken("nothing is served after an end", what);
                }
                if self.provider.is_tainted(token) {
                    self.world
                        .broken("nothing of a rejected answer is seen", format!("{token} on engine {owner}"));
                }
                if claims["sub"] != format!("user-{family}") {
                    self.world
                        .broken("a session keeps its user", format!("{} in family {family}", claims["sub"]));
                }
                if forced {
                    self.claims_are_no_older(fresh.session(), *outcome, version, owner);
                }
            }
            Err(error) => {
                self.world.note(|| match error {
                    RefreshError::TryLater(later) => {
                        format!("caller {caller}: try later, {}", later.failure.code())
                    }
                    error => format!("caller {caller}: {error}"),
                });
                if let RefreshError::SignInAgain(_) = error {
                    self.state().known_over.insert((owner, key), ());
                }
                if let RefreshError::NotSignedIn = error {
                    self.world
                        .broken("a session does not vanish", format!("caller {caller} on engine {owner}"));
                }
            }
        }
    }

    /// What a forced caller gets: claims that were good when it called or later, or the word that none came.
    fn claims_are_no_older(
        &self,
        session: &OpenSession,
        outcome: RefreshOutcome,
        version: u64,
        owner: Owner,
    ) {
        let got = session.claims()["version"].as_u64().unwrap_or_default();
        let what = || format!("version {got} instead of {version}, {}, on engine {owner}", outcome.code());
        if outcome == RefreshOutcome::TokensOnly {
            if self.world.dealt.id_token || self.world.dealt.userinfo {
                self.world.broken("claims that came are told of", what());
            }
        } else if got < version {
            self.world.broken("a forced caller gets claims no older than its call", what());
        }
    }

    fn is_known_over(&self, owner: Owner, key: SessionKey) -> bool {
        self.state().known_over.contains_key(&(owner, key))
    }

    /// Whether a session ended so long ago that an engine must know of it.
    fn ended_long_ago(&self, owner: Owner, key: SessionKey) -> bool {
        let Some(Held::Ended(_, at)) = self.book.row(key) else { return false };
        let in_touch_since = self.world.in_touch_since(owner).map_or(at, |since| at.max(since));
        in_touch_since.elapsed() > EVERYWHERE_WITHIN
    }

    /// A request comes in: is the session served?
    fn look(self: &Arc<Self>, key: SessionKey) {
        let running = self.some_engine();
        let (world, this, owner) = (self.world.clone(), self.clone(), running.owner);
        world.executor.spawn(
            owner,
            Box::pin(async move {
                let caller = this.begin(owner, format!("open on engine {owner}"));
                let started = Instant::now();
                let known_over = this.is_known_over(owner, key);
                let ended_long_ago = this.ended_long_ago(owner, key);
                let opened = running.engine.open(key).await;
                this.finish(caller);
                match opened {
                    Ok(Opened::Open(session)) => {
                        running.engine.used(key);
                        let token = session.tokens().access_token.expose();
                        if known_over || ended_long_ago {
                            let what = format!(
                                "engine {owner} served {token} at {started:?} (it knew: {known_over})"
                            );
                            this.world.broken("nothing is served after an end", what);
                        }
                        if this.provider.is_tainted(token) {
                            let what = format!("{token} on engine {owner}");
                            this.world.broken("nothing of a rejected answer is seen", what);
                        }
                    }
                    Ok(Opened::Ended(_)) => {
                        this.state().known_over.insert((owner, key), ());
                    }
                    Ok(Opened::Unknown) => {
                        this.world.broken("a session does not vanish", format!("open on engine {owner}"));
                    }
                    Err(_store) => {}
                }
            }),
        );
    }

    /// The user or an operator ends a session; then requests come in.
    fn end(self: &Arc<Self>, key: SessionKey) {
        let running = self.some_engine();
        let (world, this, owner) = (self.world.clone(), self.clone(), running.owner);
        let reason = world.chance.pick(&[EndReason::Logout, EndReason::Operator]);
        world.count("session ended");
        world.executor.spawn(
            owner,
            Box::pin(async move {
                this.world.note(|| format!("engine {owner} ends {key}"));
                if running.engine.end(key, reason).await.is_ok() {
                    this.world.note(|| format!("engine {owner} has ended {key}"));
                    this.state().known_over.insert((owner, key), ());
                    if let Ok(Opened::Open(_)) = running.engine.open(key).await {
                        let what = format!("engine {owner} opens what it ended");
                        this.world.broken("nothing is served after an end", what);
                    }
                }
            }),
        );
    }

    /// The provider tells of a logout there, now and then twice.
    fn tell(self: &Arc<Self>, key: SessionKey, family: u64) {
        let by_session = self.world.chance.percent(50);
        let token = self.provider.logout_token(family, by_session);
        let taken = Arc::new(AtomicBool::new(false));
        for _ in 0..self.world.chance.between(1, 2) {
            self.world.count("logout told");
            let (running, this) = (self.some_engine(), self.clone());
            let (token, taken, owner) = (token.clone(), taken.clone(), running.owner);
            self.world.executor.spawn(
                owner,
                Box::pin(async move {
                    this.world.note(|| format!("engine {owner} is told that family {family} signed out"));
                    // One that another engine ended a moment ago may be served on here for as long.
                    if this.ended_as_told(&running, &token, &taken).await.is_none_or(|ended| ended == 0) {
                        return;
                    }
                    this.state().known_over.insert((owner, key), ());
                    if let Ok(Opened::Open(_)) = running.engine.open(key).await {
                        let what = format!("engine {owner} opens what it was told is over");
                        this.world.broken("nothing is served after an end", what);
                    }
                }),
            );
        }
    }

    /// How many sessions an engine ends that is handed a logout token, if it takes it.
    async fn ended_as_told(
        &self,
        running: &Running,
        token: &RawLogoutToken,
        taken: &AtomicBool,
    ) -> Option<usize> {
        let owner = running.owner;
        match running.engine.back_channel_logout(token).await {
            Ok(ended) => {
                self.world.note(|| format!("engine {owner} was told of a logout and ended {ended}"));
                if taken.swap(true, Ordering::Relaxed) {
                    self.world
                        .broken("a logout token is taken once", format!("engine {owner} took it again"));
                }
                Some(ended)
            }
            Err(error) => {
                self.world.note(|| format!("engine {owner} ends nothing: {error:?}"));
                None
            }
        }
    }

    /// Somebody signs in, and signs out at the provider before that is done.
    fn sign_in_and_out(self: &Arc<Self>) {
        let (running, told, this) = (self.some_engine(), self.some_engine(), self.clone());
        self.world.count("signed out while signing in");
        self.world.executor.spawn(
            running.owner,
            Box::pin(async move {
                let Ok(under_way) = LoginUnderWay::begin(&running.engine, &this.provider).await else {
                    return;
                };
                let family = under_way.family;
                this.world.note(|| format!("family {family} signs in on engine {}", running.owner));
                let (sender, signed_out) = oneshot::channel();
                let (teller, told_there) = (this.clone(), told.clone());
                this.world.executor.spawn(
                    told.owner,
                    Box::pin(async move {
                        teller.world.dawdle(400).await;
                        let by_session = teller.world.chance.percent(50);
                        let token = teller.provider.logout_token(family, by_session);
                        let told = teller.ended_as_told(&told_there, &token, &AtomicBool::new(false)).await;
                        let _ = sender.send(told.is_some());
                    }),
                );
                this.world.dawdle(400).await;
                let completed = under_way.complete(&running.engine).await;
                // Without an answer its engine died.
                let signed_out = signed_out.await.unwrap_or(false);
                let Ok(key) = completed else { return };
                this.state().sessions.push((key, family));
                // What came first is told by clocks, and those may disagree.
                let clocks_agree = running.skew() <= told.skew();
                if signed_out
                    && clocks_agree
                    && this.book.row(key).is_some_and(|held| matches!(held, Held::Live(_)))
                {
                    let what = format!("family {family} is signed in on engine {}", running.owner);
                    this.world.broken("who signed out meanwhile is not signed in", what);
                }
            }),
        );
    }

    /// When all is calm again: a session whose token is good can be refreshed, any other ends.
    async fn settle(self: &Arc<Self>, key: SessionKey, family: u64) {
        let running = self.some_engine();
        let mut last = String::new();
        for _ in 0..12 {
            let version = self.provider.version(family);
            match running.engine.refresh(key, Duration::from_secs(60)).await {
                Ok((fresh, outcome)) => {
                    self.claims_are_no_older(fresh.session(), outcome, version, running.owner);
                    return;
                }
                // Whether rightly so was checked when the end was written.
                Err(RefreshError::SignInAgain(_)) => return,
                // Kept fresh by what is refreshed ahead, and never good for a forced caller.
                Err(RefreshError::TryLater(later))
                    if later.failure.code() == "not_yet_valid"
                        && running.engine.fresh(key, None, Duration::from_secs(60)).await.is_ok() =>
                {
                    return;
                }
                Err(RefreshError::TryLater(later)) => {
                    last = format!("try later, {}", later.failure.code());
                    tokio::time::sleep(later.retry_after + Duration::from_secs(1)).await;
                }
                Err(error) => last = error.to_string(),
            }
        }
        self.world.broken(
            "every session recovers or ends",
            format!("family {family} on engine {}: {last}", running.owner),
        );
    }
}
