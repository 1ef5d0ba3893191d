//! Refreshes active sessions before their tokens expire, so that who uses one never waits for the provider.
//!
//! A session is active while it has an open socket, and for a while after its last use. Only active sessions are known
//! here, in memory, each with the one moment at which it is looked at next. Then it is refreshed, planned again or, if it
//! is idle, forgotten: an idle session is left to its next use. Nothing is ever searched for in the store. After a restart
//! nothing is active; sessions become so as they are used and as their sockets come back.
//!
//! A refresh ahead is an ordinary flight ([`Ask::Ahead`]). Of engines that share a store each plans for itself, all at the
//! same moment; the lease lets one of them ask, and the others find the session fresh.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use freshgate_oidc::Timestamp;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::{
    Engine, Record, RefreshError,
    flights::Ask,
    record::RefreshState,
    refresh::{LEASE, within},
    sessions::Lookup,
};
use crate::{
    clock::Clock,
    freshness,
    session::{OpenSession, SessionKey},
};

/// How many sessions are looked at at once.
const LOOKS_AT_ONCE: usize = 64;
/// How many sessions of one provider are refreshed at once; the others wait in line. A provider that takes its time keeps
/// nobody from another.
const AT_ONCE: usize = 64;
/// How long a flight is waited for until it is somebody else's matter: the session is looked at again.
const PATIENCE: Duration = Duration::from_secs(60);
/// The least time between two looks at a session, whatever its tokens say.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// How much longer than it must the next attempt waits after a failure.
const PATIENCE_AFTER_FAILURE: Duration = Duration::from_secs(5);
/// How long to sleep at most: the clock may be set meanwhile, and a machine that slept wakes up late.
const LONGEST_NAP: Duration = Duration::from_secs(30);
/// In how many parts the active sessions are kept, so that requests of different sessions seldom meet.
const SHARDS: usize = 16;

impl Engine {
    /// Notes that the user uses a session: it is active from now on, for as long as the policy says, and it is not idle.
    /// Opening a session is no use of it, and neither is an app that asks for its token.
    ///
    /// Costs a look into a table, for a session that is active already, and now and then a write for which nobody waits.
    pub fn used(&self, key: SessionKey) {
        self.note_active(key, |_| {});
        self.put_off_idling(key);
    }

    /// Notes that a session is active, though it may be the app that uses it and not the user.
    pub(super) fn active(&self, session: &OpenSession) {
        self.0.active.note(session.key(), &*self.0.clock, || Some(session.generation()), |_| {});
    }

    fn note_active(&self, key: SessionKey, how: impl FnOnce(&mut Activity)) {
        // Whoever was shown it before has seen what is in memory, or was told of it.
        let seen = || match self.0.sessions.in_memory(key) {
            Some(Lookup::Live(record, _)) => Some(record.generation),
            Some(Lookup::Ended(_) | Lookup::Unknown) | None => None,
        };
        self.0.active.note(key, &*self.0.clock, seen, how);
    }

    /// Keeps a session active until the guard is dropped: a page of it is open. It may become idle all the same.
    pub fn hold(&self, key: SessionKey) -> InUse {
        self.note_active(key, |activity| activity.sockets += 1);
        InUse { engine: self.clone(), key }
    }

    /// How many sessions are active, or were until a moment ago.
    pub fn active_sessions(&self) -> usize {
        self.0.active.shards.iter().map(|shard| lock(shard).sessions.len()).sum()
    }

    /// Refreshes active sessions ahead until `stop`, or not at all, as the policy says. Spawn it once, before sessions are
    /// used: it learns of use from this call on. A refresh that is under way at `stop` goes on.
    ///
    /// Whatever the policy says, of a session that is active here every change is told, in memory or not.
    pub fn refresh_ahead(self, stop: CancellationToken) -> impl Future<Output = ()> + Send + 'static {
        let noting = Noting::start(self.clone());
        async move {
            let _noting = noting;
            stop.run_until_cancelled(self.look_after_active_sessions(&stop)).await;
        }
    }

    async fn look_after_active_sessions(&self, stop: &CancellationToken) {
        let places = Arc::new(Semaphore::new(LOOKS_AT_ONCE));
        while let Ok(place) = places.clone().acquire_owned().await {
            let key = self.0.active.next(&*self.0.clock, self.0.policy.active_for).await;
            let (engine, stop) = (self.clone(), stop.clone());
            self.0.runner.start(Box::pin(async move {
                stop.run_until_cancelled(engine.look_after(key, place)).await;
            }));
        }
    }

    async fn look_after(&self, key: SessionKey, place: OwnedSemaphorePermit) {
        let Some(provider) = self.provider_if_due(key).await else { return };
        drop(place);
        let Some(mut seat) = self.0.active.lines.enter(provider, key) else { return };
        self.refresh_now(key).await;
        while let Some(key) = seat.next_in_line() {
            // It waited, and may have been refreshed by somebody else meanwhile, or be idle.
            if self.0.active.is_active(key, self.0.clock.now(), self.0.policy.active_for)
                && self.provider_if_due(key).await.is_some()
            {
                self.refresh_now(key).await;
            }
        }
    }

    /// The provider of a session that is to be refreshed now. Any other is planned again, or forgotten if it is over.
    async fn provider_if_due(&self, key: SessionKey) -> Option<String> {
        if !self.0.policy.refresh_ahead {
            self.0.active.plan(key, self.never_due());
            return None;
        }
        let now = self.0.clock.now();
        let next = match self.0.sessions.read(key).await {
            Ok(Lookup::Live(record, _)) => {
                let at = self.next_look(&record);
                if at <= now {
                    return Some(record.provider.clone());
                }
                at
            }
            Ok(Lookup::Ended(_) | Lookup::Unknown) => {
                self.0.active.forget(key);
                return None;
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::debug!(session = %key.short(), error, "not refreshed ahead: the store failed");
                now + PATIENCE_AFTER_FAILURE
            }
        };
        self.0.active.plan(key, next);
        None
    }

    /// Refreshes a session, and plans the next look at it.
    async fn refresh_now(&self, key: SessionKey) {
        match self.refresh_and_tell_when_next(key).await {
            Some(next) => self.0.active.plan(key, next),
            None => self.0.active.forget(key),
        }
    }

    /// Tells when to look again. `None`: the session is over.
    async fn refresh_and_tell_when_next(&self, key: SessionKey) -> Option<Timestamp> {
        let settled = within(PATIENCE, self.fly(key, Ask::Ahead)).await;
        let now = self.0.clock.now();
        match settled {
            Ok(landed) => Some(self.next_look(&landed.session.0).max(now + SHORTEST_PAUSE)),
            Err(RefreshError::TryLater(later)) => {
                let pause = later.retry_after + self.patience_after_failure(key).await;
                Some(now + pause.max(SHORTEST_PAUSE))
            }
            Err(RefreshError::NoRefreshToken) => Some(self.never_due()),
            Err(RefreshError::SignInAgain(_) | RefreshError::NotSignedIn) => None,
        }
    }

    /// How much longer than it must the next attempt waits after a failure: nobody waits for it. Unless the refresh token may
    /// have been used: then each second may be the last of the provider's grace.
    async fn patience_after_failure(&self, key: SessionKey) -> Duration {
        match self.0.sessions.read(key).await {
            Ok(Lookup::Live(record, _)) if record.refresh.is_unsettled() => Duration::ZERO,
            _ => PATIENCE_AFTER_FAILURE,
        }
    }

    /// A refresh settled, well or not: plans for what there is now, if the session is active.
    pub(super) fn plan_ahead(&self, record: &Record) {
        self.0.active.plan(record.key, self.next_look(record));
    }

    /// When a session that is active is to be refreshed; where that is never, when to see whether it is idle.
    fn next_look(&self, record: &Record) -> Timestamp {
        if !self.0.policy.refresh_ahead {
            return self.never_due();
        }
        if record.refresh.is_unsettled() {
            return self.settle_at(&record.refresh);
        }
        self.refresh_at(record).unwrap_or_else(|| self.never_due())
    }

    /// When to refresh a session ahead. `None`: its tokens cannot be renewed, or outlive it.
    fn refresh_at(&self, record: &Record) -> Option<Timestamp> {
        record.refresh_token.as_ref()?;
        record.tokens.expires_at.filter(|expires_at| *expires_at < record.ends_at)?;
        let not_before = self.usable_from(record).max(record.refresh.rests_until(self.0.clock.now()));
        freshness::refresh_ahead_at(&record.tokens, record.key, self.0.policy.min_validity, not_before)
    }

    /// When to find out what became of a refresh token that may have been used: as soon as it may be sent again, and nobody
    /// else is at it.
    fn settle_at(&self, refresh: &RefreshState) -> Timestamp {
        let now = self.0.clock.now();
        let others = refresh.lease.as_ref().filter(|lease| !self.has_died(lease));
        // By the clock of its holder, which may be another.
        let free = others.map(|lease| lease.until.clamp(now, now + LEASE));
        free.max(refresh.rests_until(now)).unwrap_or(now)
    }

    /// The next look at a session that has nothing to refresh: it may be idle by then.
    fn never_due(&self) -> Timestamp {
        self.0.clock.now() + self.0.policy.active_for.max(SHORTEST_PAUSE)
    }
}

/// Whether it is time for a refresh ahead: never later than for anybody who asks unforced.
pub(super) fn is_time(record: &Record, now: Timestamp) -> bool {
    if record.refresh.is_unsettled() {
        return true;
    }
    freshness::refresh_ahead_at(&record.tokens, record.key, Duration::ZERO, None)
        .or_else(|| freshness::fresh_until(&record.tokens, Duration::MAX))
        .is_some_and(|at| now >= at)
}

/// Keeps a session active until it is dropped; see [`Engine::hold`].
#[must_use = "the session is in use only until this is dropped"]
pub struct InUse {
    engine: Engine,
    key: SessionKey,
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.engine.0.active.release(self.key, self.engine.0.clock.now());
    }
}

impl std::fmt::Debug for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("InUse").field("session", &self.key).finish_non_exhaustive()
    }
}

/// While it lives, use is noted.
struct Noting(Engine);

impl Noting {
    fn start(engine: Engine) -> Self {
        engine.0.active.noting.store(true, Ordering::Release);
        Self(engine)
    }
}

impl Drop for Noting {
    fn drop(&mut self) {
        let active = &self.0.0.active;
        active.noting.store(false, Ordering::Release);
        for shard in &active.shards {
            *lock(shard) = Shard::default();
        }
        active.lines.lock().clear();
    }
}

/// The active sessions, and when to look at each.
#[derive(Default)]
pub(super) struct ActiveSessions {
    /// Somebody looks after them. Otherwise nobody would ever forget one.
    noting: AtomicBool,
    shards: [Mutex<Shard>; SHARDS],
    /// One may be due earlier than the next was.
    changed: Notify,
    lines: Lines,
}

/// Who is refreshed just now, and who waits for that, by provider.
#[derive(Default)]
struct Lines(Mutex<HashMap<String, Line>>);

#[derive(Default)]
struct Line {
    seated: usize,
    waiting: VecDeque<SessionKey>,
    /// Those that wait: one that is due again meanwhile is in line already.
    is_waiting: HashSet<SessionKey>,
}

impl Line {
    fn next(&mut self) -> Option<SessionKey> {
        let next = self.waiting.pop_front()?;
        self.is_waiting.remove(&next);
        Some(next)
    }
}

/// A seat at a provider, until it is dropped or nobody is in line.
struct Seat<'a> {
    lines: &'a Lines,
    provider: String,
    is_left: bool,
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A seat. `None`: all are taken, and whoever leaves one takes care of the session. One who leaves it by a panic does
    /// not: the next to leave one does.
    fn enter(&self, provider: String, key: SessionKey) -> Option<Seat<'_>> {
        let mut lines = self.lock();
        let line = lines.entry(provider.clone()).or_default();
        if line.seated < AT_ONCE {
            line.seated += 1;
            drop(lines);
            return Some(Seat { lines: self, provider, is_left: false });
        }
        if line.is_waiting.insert(key) {
            line.waiting.push_back(key);
        }
        None
    }
}

impl Seat<'_> {
    /// Who waits for this seat. `None`: nobody, and it is left.
    fn next_in_line(&mut self) -> Option<SessionKey> {
        let mut lines = self.lines.lock();
        let next = lines.get_mut(&self.provider).and_then(Line::next);
        if next.is_none() {
            self.leave(lines);
        }
        next
    }

    fn leave(&mut self, mut lines: MutexGuard<'_, HashMap<String, Line>>) {
        self.is_left = true;
        if let Some(line) = lines.get_mut(&self.provider) {
            line.seated = line.seated.saturating_sub(1);
        }
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        if !self.is_left {
            self.leave(self.lines.lock());
        }
    }
}

#[derive(Default)]
struct Shard {
    sessions: HashMap<SessionKey, Activity>,
    /// When each is due. One that is looked at just now is not here.
    timeline: BTreeSet<(Timestamp, SessionKey)>,
}

impl Shard {
    fn forget(&mut self, key: SessionKey) {
        if let Some(Activity { due: Some(at), .. }) = self.sessions.remove(&key) {
            self.timeline.remove(&(at, key));
        }
    }
}

struct Activity {
    last_used: Timestamp,
    /// Its place in the timeline.
    due: Option<Timestamp>,
    sockets: u32,
    /// The last generation that was seen or told here.
    told: Option<NonZeroU64>,
}

impl Activity {
    fn is_in_use(&self, now: Timestamp, active_for: Duration) -> bool {
        self.sockets > 0 || now < self.last_used + active_for
    }
}

/// What [`ActiveSessions::take`] found.
enum Taken {
    Due(SessionKey),
    In(Duration),
    Nothing,
}

impl ActiveSessions {
    /// Notes that a session is used. One that was not active is due at once, so that it is planned.
    fn note(
        &self,
        key: SessionKey,
        clock: &dyn Clock,
        seen: impl FnOnce() -> Option<u64>,
        how: impl FnOnce(&mut Activity),
    ) {
        if !self.noting.load(Ordering::Acquire) {
            return;
        }
        let now = clock.now();
        let mut shard = self.shard(key);
        if let Some(activity) = shard.sessions.get_mut(&key) {
            activity.last_used = now;
            how(activity);
            return;
        }
        let told = seen().and_then(NonZeroU64::new);
        let mut activity = Activity { last_used: now, due: Some(now), sockets: 0, told };
        how(&mut activity);
        shard.sessions.insert(key, activity);
        shard.timeline.insert((now, key));
        drop(shard);
        self.changed.notify_one();
    }

    /// Whether somebody here may hold something of a session.
    pub(super) fn contains(&self, key: SessionKey) -> bool {
        self.noting.load(Ordering::Acquire) && self.shard(key).sessions.contains_key(&key)
    }

    /// Notes that a generation of a session is known, and yields the last that was. `None`: it is not active, or nothing
    /// was.
    pub(super) fn tell(&self, key: SessionKey, generation: u64) -> Option<u64> {
        if !self.noting.load(Ordering::Acquire) {
            return None;
        }
        let mut shard = self.shard(key);
        let activity = shard.sessions.get_mut(&key)?;
        let before = activity.told;
        activity.told = before.max(NonZeroU64::new(generation));
        before.map(NonZeroU64::get)
    }

    fn release(&self, key: SessionKey, now: Timestamp) {
        if let Some(activity) = self.shard(key).sessions.get_mut(&key) {
            activity.sockets = activity.sockets.saturating_sub(1);
            activity.last_used = now;
        }
    }

    /// Plans the next look at a session, if it is active.
    fn plan(&self, key: SessionKey, at: Timestamp) {
        let mut shard = self.shard(key);
        let Some(activity) = shard.sessions.get_mut(&key) else { return };
        if let Some(before) = activity.due.replace(at) {
            shard.timeline.remove(&(before, key));
        }
        shard.timeline.insert((at, key));
        drop(shard);
        self.changed.notify_one();
    }

    /// Whether a session is active, which is noted no more of one that is idle.
    fn is_active(&self, key: SessionKey, now: Timestamp, active_for: Duration) -> bool {
        let mut shard = self.shard(key);
        let is_active = shard.sessions.get(&key).is_some_and(|activity| activity.is_in_use(now, active_for));
        if !is_active {
            shard.forget(key);
        }
        is_active
    }

    fn forget(&self, key: SessionKey) {
        self.shard(key).forget(key);
    }

    /// Waits for the next session that is due and still active. Dropping the future midway loses none.
    async fn next(&self, clock: &dyn Clock, active_for: Duration) -> SessionKey {
        loop {
            let nap = match self.take(clock.now(), active_for) {
                Taken::Due(key) => return key,
                Taken::In(wait) => wait.min(LONGEST_NAP),
                Taken::Nothing => LONGEST_NAP,
            };
            // Earlier or not: what is next is found out anew.
            let _ = tokio::time::timeout(nap, self.changed.notified()).await;
        }
    }

    /// Takes the session that is due, and forgets those that are due and idle.
    fn take(&self, now: Timestamp, active_for: Duration) -> Taken {
        loop {
            let first = |shard: &Mutex<Shard>| lock(shard).timeline.first().copied();
            let Some((at, key)) = self.shards.iter().filter_map(first).min() else { return Taken::Nothing };
            if at > now {
                return Taken::In(at.saturating_since(now));
            }
            let mut shard = self.shard(key);
            if !shard.timeline.remove(&(at, key)) {
                continue;
            }
            if let Some(activity) = shard.sessions.get_mut(&key) {
                activity.due = None;
                if activity.is_in_use(now, active_for) {
                    return Taken::Due(key);
                }
                shard.sessions.remove(&key);
            }
        }
    }

    fn shard(&self, key: SessionKey) -> MutexGuard<'_, Shard> {
        // A key is a hash already.
        lock(&self.shards[usize::from(key.as_bytes()[0]) % SHARDS])
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is kept of sessions must fit together: every one that is due has its one place in the timeline.
    fn check(active: &ActiveSessions) {
        for shard in &active.shards {
            let shard = lock(shard);
            let due: BTreeSet<_> =
                shard.sessions.iter().filter_map(|(key, activity)| Some((activity.due?, *key))).collect();
            assert_eq!(due, shard.timeline);
        }
    }

    #[test]
    fn a_session_has_one_place_in_line() {
        let (lines, provider) = (Lines::default(), || "one".to_owned());
        let [first, second] = [[1; 32], [2; 32]].map(SessionKey::from_bytes);
        let mut seats: Vec<_> = (0..AT_ONCE).map(|_| lines.enter(provider(), first).unwrap()).collect();
        for key in [first, second, first, second] {
            assert!(lines.enter(provider(), key).is_none(), "all are taken");
        }
        let seat = &mut seats[0];
        assert_eq!([seat.next_in_line(), seat.next_in_line()], [Some(first), Some(second)]);
        assert!(lines.enter(provider(), first).is_none(), "it may wait again");
        assert_eq!([seat.next_in_line(), seat.next_in_line()], [Some(first), None]);
        assert!(lines.enter(provider(), first).is_some(), "and the seat is free");
    }

    #[test]
    fn a_session_has_one_place_in_the_timeline() {
        struct Stopped(i64);
        impl Clock for Stopped {
            fn now(&self) -> Timestamp {
                at(self.0)
            }
        }
        fn at(seconds: i64) -> Timestamp {
            Timestamp::from_unix_seconds(seconds)
        }
        let active_for = Duration::from_secs(100);
        let active = ActiveSessions::default();
        active.noting.store(true, Ordering::Release);
        // Of one shard and of two.
        let keys = [[1; 32], [17; 32], [2; 32]].map(SessionKey::from_bytes);
        for key in keys {
            active.note(key, &Stopped(1000), || None, |_| {});
            active.note(key, &Stopped(1000), || None, |activity| activity.sockets += 1);
            check(&active);
        }
        for (key, due) in keys.into_iter().zip([1060, 1050, 1040]) {
            active.plan(key, at(due));
            active.plan(key, at(due));
            check(&active);
        }
        let take = |now: i64| match active.take(at(now), active_for) {
            Taken::Due(key) => Some(key),
            Taken::In(_) | Taken::Nothing => None,
        };
        assert_eq!(take(1039), None);
        assert_eq!(
            [take(1055), take(1055), take(1055)],
            [Some(keys[2]), Some(keys[1]), None],
            "earliest first"
        );
        check(&active);
        // Used while it is looked at: it is not due again before that is over.
        active.note(keys[2], &Stopped(1055), || None, |_| {});
        assert_eq!(take(1055), None);
        active.plan(keys[2], at(1070));
        active.forget(keys[1]);
        check(&active);
        active.release(keys[0], at(1060));
        active.release(keys[2], at(1060));
        assert_eq!(take(1159), Some(keys[0]), "used a moment before");
        active.plan(keys[0], at(1200));
        assert_eq!((take(1160), take(1300)), (None, None), "idle ones are forgotten");
        check(&active);
        assert!(active.shards.iter().all(|shard| lock(shard).sessions.is_empty()));
    }
}
