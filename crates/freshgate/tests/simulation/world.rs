//! What is true in one run, whoever believes what: time, chance, what happened, and the first promise that was broken.

use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, Ordering},
    },
    time::Duration,
};

use freshgate::{Timestamp, clock::Clock, landmark::Landmark, provider::LostAnswer};
use tokio::time::Instant;

use crate::{
    chance::Chance,
    executor::{Executor, Owner, WORLD, give_way},
};

const EPOCH: i64 = 1_795_000_000_000;
const TRACE: usize = 120;

/// How this run is dealt. All of it follows from the seed.
#[derive(Clone, Debug)]
pub(crate) struct Dealt {
    pub(crate) engines: u64,
    pub(crate) sessions: u64,
    pub(crate) actions: u64,
    pub(crate) rotation: Rotation,
    pub(crate) lost_answer: LostAnswer,
    /// Seconds that an access token lives.
    pub(crate) lifetime: u64,
    /// Active sessions are refreshed ahead.
    pub(crate) ahead: bool,
    pub(crate) id_token: bool,
    pub(crate) userinfo: bool,
    /// So many seconds after it was issued a refresh token becomes good, and says so.
    pub(crate) not_before: Option<i64>,
    /// The provider refuses with a bare status.
    pub(crate) without_words: bool,
    /// How many refreshes may be on their way at once; others wait for their turn.
    pub(crate) at_once: usize,
    pub(crate) provider_faults: u64,
    pub(crate) slow: u64,
    pub(crate) store_faults: u64,
    pub(crate) busy: u64,
    /// How often the store is away for seconds.
    pub(crate) outages: u64,
    pub(crate) skew: Skew,
    pub(crate) crashes: u64,
    pub(crate) freezes: u64,
    pub(crate) idle_timeout: Option<Duration>,
    /// Otherwise sessions outlive the run.
    pub(crate) absolute_lifetime: Option<Duration>,
    pub(crate) stops: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotation {
    /// The refresh token stays.
    None,
    /// A spent token is refused.
    Refuse,
    /// A spent token revokes all that came of it.
    Revoke,
    /// A spent token is answered with its successor for a while, and revokes after that.
    Grace(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skew {
    None,
    /// As far apart as the engine allows for.
    Within,
    /// Further.
    Beyond,
}

/// When, in a call to the store or to the provider, an engine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Nothing comes of the call.
    BeforeEffect,
    /// What it should do is done, and its answer reaches nobody.
    AfterEffect,
}

/// Who dies at a call, and how many calls go before.
struct Doom {
    owner: Owner,
    after: u64,
    moment: Moment,
}

impl Dealt {
    /// Two engines, one session whose token rotates, and nothing that fails but what is killed on purpose.
    pub(crate) fn for_a_crash(grace: bool) -> Self {
        let window = Duration::from_secs(60);
        let (rotation, lost_answer) = match grace {
            true => (Rotation::Grace(window), LostAnswer::RetryWithin(window)),
            false => (Rotation::Revoke, LostAnswer::RetryOnce),
        };
        Self {
            engines: 2,
            sessions: 1,
            actions: 0,
            rotation,
            lost_answer,
            lifetime: 600,
            ahead: true,
            id_token: true,
            userinfo: true,
            not_before: None,
            without_words: false,
            at_once: 64,
            provider_faults: 0,
            slow: 0,
            store_faults: 0,
            busy: 0,
            outages: 0,
            skew: Skew::None,
            // One, that is, wherever it is wanted.
            crashes: 1,
            freezes: 0,
            idle_timeout: None,
            absolute_lifetime: None,
            stops: 0,
        }
    }

    pub(crate) fn by(chance: &Chance) -> Self {
        let rotation = match chance.below(8) {
            0 => Rotation::None,
            1 | 2 => Rotation::Refuse,
            3..=5 => Rotation::Revoke,
            _ => Rotation::Grace(Duration::from_secs(chance.between(5, 60))),
        };
        let lost_answer = match rotation {
            Rotation::None => LostAnswer::RetryAlways,
            Rotation::Grace(grace) => LostAnswer::RetryWithin(grace),
            Rotation::Refuse | Rotation::Revoke => {
                chance.pick(&[LostAnswer::RetryOnce, LostAnswer::RetryOnce, LostAnswer::SignInAgain])
            }
        };
        let lifetime: u64 = chance.pick(&[15, 30, 90, 600]);
        let skew = chance.pick(&[Skew::None, Skew::None, Skew::Within, Skew::Beyond]);
        let not_before = (chance.percent(12) && rotation != Rotation::None && skew != Skew::Beyond)
            .then(|| (lifetime - chance.pick(&[lifetime / 5, lifetime / 2])) as i64);
        let (id_token, userinfo) =
            chance.pick(&[(true, true), (true, true), (true, false), (false, true), (false, false)]);
        Self {
            engines: chance.between(2, 3),
            sessions: chance.between(1, 2),
            actions: chance.between(10, 30),
            rotation,
            lost_answer,
            lifetime,
            not_before,
            ahead: chance.percent(50),
            id_token,
            userinfo,
            without_words: chance.percent(20),
            at_once: chance.pick(&[1, 2, 64]),
            provider_faults: chance.pick(&[0, 1, 3, 8]),
            slow: chance.pick(&[0, 0, 5, 30]),
            store_faults: chance.pick(&[0, 0, 1, 4]),
            busy: chance.pick(&[0, 0, 0, 5]),
            outages: chance.pick(&[0, 0, 10]),
            skew,
            crashes: chance.pick(&[0, 5, 15]),
            freezes: chance.pick(&[0, 0, 8]),
            idle_timeout: chance.pick(&[None, None, Some(600)]).map(Duration::from_secs),
            stops: chance.pick(&[0, 0, 10]),
            absolute_lifetime: chance.percent(20).then(|| Duration::from_secs(chance.between(60, 400))),
        }
    }
}

pub(crate) struct World {
    pub(crate) chance: Arc<Chance>,
    pub(crate) executor: Arc<Executor>,
    pub(crate) dealt: Dealt,
    started: Instant,
    calm: AtomicBool,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    trace: VecDeque<String>,
    faults: BTreeMap<&'static str, u64>,
    broken: Option<Broken>,
    frozen: BTreeMap<Owner, Frozen>,
    sleepers: BTreeMap<String, Owner>,
    store_trouble: BTreeMap<Owner, Vec<Instant>>,
    store_away: BTreeMap<Owner, Away>,
    landmarks: BTreeMap<Landmark, u64>,
    doom: Option<Doom>,
    verbose: bool,
    /// Of the whole trace.
    print: DefaultHasher,
}

struct Frozen {
    thawed: Option<Instant>,
}

/// The store is away, for one engine or for the world.
#[derive(Clone, Copy)]
struct Away {
    until: Instant,
    /// How many in a hundred of the calls that fail reach it all the same: what they write is there.
    reach: u64,
}

/// A promise that was not kept.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) check: &'static str,
    pub(crate) step: u64,
    pub(crate) what: String,
}

impl World {
    pub(crate) fn new(seed: u64, deal: impl FnOnce(&Chance) -> Dealt, verbose: bool) -> Arc<Self> {
        let chance = Arc::new(Chance::new(seed));
        let dealt = deal(&chance);
        Arc::new(Self {
            executor: Executor::new(chance.clone()),
            chance,
            dealt,
            started: Instant::now(),
            calm: AtomicBool::new(true),
            told: Mutex::new(Told { verbose, ..Told::default() }),
        })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The true time.
    pub(crate) fn unix_seconds(&self) -> i64 {
        EPOCH / 1000 + self.elapsed().as_secs() as i64
    }

    /// Notes what happens, for the trace.
    pub(crate) fn note(&self, what: impl FnOnce() -> String) {
        let line = format!("{:>9.3} s  {}", self.elapsed().as_secs_f64(), what());
        let mut told = self.told();
        line.hash(&mut told.print);
        if told.verbose {
            eprintln!("{line}");
        }
        if told.trace.len() == TRACE {
            told.trace.pop_front();
        }
        told.trace.push_back(line);
    }

    /// What tells a run from others: all that was noted, and who went when.
    pub(crate) fn print(&self) -> u64 {
        let mut print = self.told().print.clone();
        self.executor.print().hash(&mut print);
        print.finish()
    }

    pub(crate) fn trace(&self) -> Vec<String> {
        self.told().trace.iter().cloned().collect()
    }

    /// A promise is broken. The first one counts.
    pub(crate) fn broken(&self, check: &'static str, what: String) {
        self.note(|| format!("BROKEN {check}: {what}"));
        let step = self.executor.steps();
        self.told().broken.get_or_insert(Broken { check, step, what });
    }

    pub(crate) fn verdict(&self) -> Option<Broken> {
        self.told().broken.clone()
    }

    /// Whether a fault happens here, `percent` times in a hundred; counted by name.
    pub(crate) fn fault(&self, name: &'static str, percent: u64) -> bool {
        // Always draw: a run does not take another course because a fault is switched off.
        let happens = self.chance.percent(percent) && !self.calm.load(Ordering::Relaxed);
        if happens {
            *self.told().faults.entry(name).or_default() += 1;
        }
        happens
    }

    pub(crate) fn set_calm(&self, calm: bool) {
        self.calm.store(calm, Ordering::Relaxed);
        let now = Instant::now();
        for away in self.told().store_away.values_mut() {
            away.until = away.until.min(now);
        }
    }

    pub(crate) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    pub(crate) fn count(&self, name: &'static str) {
        *self.told().faults.entry(name).or_default() += 1;
    }

    pub(crate) fn passed(&self, owner: Owner, landmark: Landmark) {
        self.note(|| format!("engine {owner} passes {landmark:?}"));
        *self.told().landmarks.entry(landmark).or_default() += 1;
    }

    pub(crate) fn landmarks(&self) -> BTreeMap<Landmark, u64> {
        self.told().landmarks.clone()
    }

    pub(crate) fn faults(&self) -> BTreeMap<&'static str, u64> {
        self.told().faults.clone()
    }

    /// Lets others go first, and perhaps some time pass.
    pub(crate) async fn dawdle(&self, longest_millis: u64) {
        give_way(self.chance.below(4)).await;
        if self.chance.percent(40) {
            tokio::time::sleep(self.chance.millis(1, longest_millis)).await;
        }
    }

    /// Does something that goes on whether or not who asked for it lives.
    pub(crate) async fn on_its_own<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.executor.spawn(
            WORLD,
            Box::pin(async move {
                let _ = sender.send(work.await);
            }),
        );
        receiver.await.expect("the world goes on")
    }

    /// The engine dies at a call to the store or to the provider, after so many others.
    pub(crate) fn dies_at_call(&self, owner: Owner, after: u64, moment: Moment) {
        self.told().doom = Some(Doom { owner, after, moment });
    }

    /// An engine calls the store or the provider: whether it dies of it.
    pub(crate) fn call_begins(&self, owner: Owner) -> Option<Moment> {
        let mut told = self.told();
        let doom = told.doom.as_mut().filter(|doom| doom.owner == owner)?;
        if doom.after > 0 {
            doom.after -= 1;
            return None;
        }
        told.doom.take().map(|doom| doom.moment)
    }

    /// The engine does nothing more.
    pub(crate) fn dies_now(&self, owner: Owner) {
        self.executor.light_fuse(owner, 0);
    }

    /// Whoever was about to die at some step or call lives.
    pub(crate) fn spare(&self, owner: Owner) {
        self.executor.cut_fuse(owner);
        self.told().doom = None;
    }

    pub(crate) fn is_dead(&self, owner: Owner) -> bool {
        self.executor.is_dead(owner)
    }

    /// The engine stands still for a while, wherever it is.
    pub(crate) fn stand_still(self: &Arc<Self>, owner: Owner, pause: Duration) {
        self.executor.freeze(owner);
        self.told().frozen.insert(owner, Frozen { thawed: None });
        self.note(|| format!("engine {owner} stands still for {pause:?}"));
        let world = self.clone();
        self.executor.spawn(
            WORLD,
            Box::pin(async move {
                tokio::time::sleep(pause).await;
                world.thaw(owner);
            }),
        );
    }

    pub(crate) fn thaw(&self, owner: Owner) {
        self.executor.thaw(owner);
        self.told().frozen.insert(owner, Frozen { thawed: Some(Instant::now()) });
    }

    /// Whoever stands still with a token in hand wakes up, if nothing else happens earlier, as soon as another has used it:
    /// the worst moment there is.
    pub(crate) fn wake_at_use_of(&self, token: &str, owner: Owner) {
        self.told().sleepers.insert(token.to_owned(), owner);
    }

    /// A token was used: whether somebody woke up.
    pub(crate) fn woke_at_use_of(&self, token: &str) -> bool {
        let sleeper = self.told().sleepers.remove(token);
        if let Some(owner) = sleeper {
            self.thaw(owner);
        }
        sleeper.is_some()
    }

    /// Since when an engine has been able to learn of what others do, if ever it was not: it stood still, or the store was
    /// away. In the future, if it does, or is.
    pub(crate) fn in_touch_since(&self, owner: Owner) -> Option<Instant> {
        let stood_still = self.told().frozen.get(&owner).map(|frozen| frozen.thawed);
        let moves_since = stood_still.map(|thawed| thawed.unwrap_or_else(Instant::now));
        moves_since.max(self.store_came_back(owner))
    }

    /// Whether the engine stood still at some time since `since`, or does.
    pub(crate) fn stood_still_since(&self, owner: Owner, since: Instant) -> bool {
        self.told()
            .frozen
            .get(&owner)
            .is_some_and(|frozen| frozen.thawed.is_none_or(|thawed| thawed >= since))
    }

    /// The store is away for some seconds, for an engine or for all of them ([`WORLD`]).
    pub(crate) fn store_goes_away(&self, whose: Owner) {
        let lasting = self.chance.millis(1_000, 30_000);
        let reach = self.chance.pick(&[0, 0, 50]);
        self.note(|| format!("the store is away for engine {whose} (0: all) and {lasting:?}"));
        let until = Instant::now() + lasting;
        self.told().store_away.insert(whose, Away { until, reach });
    }

    /// Whether the store is away for an engine: then how many in a hundred of its calls reach it.
    pub(crate) fn store_is_away(&self, owner: Owner) -> Option<u64> {
        let told = self.told();
        let away = [owner, WORLD].map(|whose| told.store_away.get(&whose));
        away.into_iter().flatten().find(|away| Instant::now() < away.until).map(|away| away.reach)
    }

    /// When the store came back to an engine the last time that it was away, or comes.
    pub(crate) fn store_came_back(&self, owner: Owner) -> Option<Instant> {
        let told = self.told();
        [owner, WORLD].iter().filter_map(|whose| told.store_away.get(whose)).map(|away| away.until).max()
    }

    pub(crate) fn store_fails_until(&self, owner: Owner, moment: Instant) {
        self.told().store_trouble.entry(owner).or_default().push(moment);
    }

    /// How often the store failed this engine since then, what it is about to fail among it.
    pub(crate) fn store_failures(&self, owner: Owner, since: Instant) -> usize {
        let failed = |times: &Vec<Instant>| times.iter().filter(|at| **at >= since).count();
        self.told().store_trouble.get(&owner).map_or(0, failed)
    }
}

/// The clock of one engine.
pub(crate) struct SkewedClock {
    pub(crate) world: Arc<World>,
    pub(crate) skew_millis: AtomicI64,
}

impl Clock for SkewedClock {
    fn now(&self) -> Timestamp {
        let millis = EPOCH + self.world.elapsed().as_millis() as i64;
        Timestamp::from_unix_millis(millis + self.skew_millis.load(Ordering::Relaxed))
    }
}
