//! Closes the sockets of sessions that end, and of users who are no longer allowed where they are.

use std::{
    collections::{BTreeSet, HashSet, VecDeque},
    future::Future,
    time::Duration,
};

use freshgate::{
    Engine, Timestamp,
    engine::Opened,
    events::SessionEvent,
    session::{OpenSession, SessionKey},
    store::StoreError,
};
use tokio::{
    sync::{
        Notify,
        broadcast::{Receiver, error::RecvError},
        mpsc,
    },
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::Tunnels;

/// How long the sockets of an ended session stay open. The app was told and holds nothing of the session any more; what
/// its pages still have to be shown, such as a way to sign in again, goes over these sockets.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// How long to sleep at most until the next session may be idle: the clock may be set meanwhile, and a machine that slept
/// wakes up late.
const LONGEST_NAP: Duration = Duration::from_secs(30);

/// When to look again after the store failed.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// How many sessions with changed claims may wait to be looked at, before all of them are.
const CHANGES_KEPT: usize = 1024;

/// Closes the sockets of sessions that end from now on, and of sessions whose claims change so that a rule lets them in no
/// longer, until `stop`.
pub(crate) fn close_sockets_of_ended_sessions(
    engine: Engine,
    tunnels: Tunnels,
    stop: CancellationToken,
) -> impl Future<Output = ()> + Send + 'static {
    let events = engine.events();
    async move {
        let missed = Notify::new();
        let (changed, changes) = mpsc::channel(CHANGES_KEPT);
        tokio::select! {
            () = close_as_told(events, &tunnels, &changed, &missed) => {}
            () = look_when_changed(&engine, &tunnels, changes, &missed) => {}
            () = look_when_missed(|key| engine.open(key), &tunnels, &missed) => {}
            () = end_idle(&engine, &tunnels) => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Waits for nothing but events and the time to close.
async fn close_as_told(
    mut events: Receiver<SessionEvent>,
    tunnels: &Tunnels,
    changed: &mpsc::Sender<SessionKey>,
    missed: &Notify,
) {
    let mut ending: VecDeque<(Instant, SessionKey)> = VecDeque::new();
    loop {
        let next = ending.front().map(|(at, _)| *at);
        let event = tokio::select! {
            event = events.recv() => event,
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                if let Some((_, key)) = ending.pop_front() {
                    let closed = tunnels.close_session(&key);
                    tracing::debug!(session = %key.short(), closed, "closed the sockets of an ended session");
                }
                continue;
            }
        };
        match event {
            Ok(SessionEvent::Ended { key, .. }) => ending.push_back((Instant::now() + LAST_WORDS, key)),
            Ok(SessionEvent::Changed { key, claims_changed, .. }) => {
                if claims_changed && tunnels.has_open(&key) && changed.try_send(key).is_err() {
                    missed.notify_one();
                }
            }
            Ok(SessionEvent::Missed) | Err(RecvError::Lagged(_)) => missed.notify_one(),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Asks the rules again for sessions whose claims have changed. At once, without last words: what an app has to say, it may
/// not say any more.
async fn look_when_changed(
    engine: &Engine,
    tunnels: &Tunnels,
    mut changes: mpsc::Receiver<SessionKey>,
    missed: &Notify,
) {
    while let Some(key) = changes.recv().await {
        match engine.open(key).await {
            Ok(Opened::Open(session)) => close_refused(tunnels, &session),
            // Its end is told too.
            Ok(Opened::Ended(_) | Opened::Unknown) => {}
            Err(_) => missed.notify_one(),
        }
    }
}

fn close_refused(tunnels: &Tunnels, session: &OpenSession) {
    let closed = tunnels.close_refused(session);
    if closed > 0 {
        tracing::info!(session = %session.key().short(), closed, "closed sockets that the rules for their path allow no longer");
    }
}

/// Looks at every session that has a socket, which asks the store as often, when events were missed.
async fn look_when_missed<O>(open: impl Fn(SessionKey) -> O, tunnels: &Tunnels, missed: &Notify)
where
    O: Future<Output = Result<Opened, StoreError>>,
{
    loop {
        missed.notified().await;
        tracing::warn!("events were missed; looking at every session that has a socket");
        let mut sessions = tunnels.sessions();
        while !sessions.is_empty() {
            let mut unanswered = Vec::new();
            for key in sessions {
                match open(key).await {
                    Ok(Opened::Open(session)) => close_refused(tunnels, &session),
                    Ok(Opened::Ended(_) | Opened::Unknown) => {
                        tunnels.close_session(&key);
                    }
                    // A store that fails says nothing about the session: its sockets stay until it does.
                    Err(_) => unanswered.push(key),
                }
            }
            if !unanswered.is_empty() {
                sleep(AFTER_FAILURE).await;
            }
            sessions = unanswered;
        }
    }
}

/// An idle session ends when somebody looks, and an open socket is a reason to look: at the moment when the session would be
/// over, which its use puts off. Its end is an event like any other.
async fn end_idle(engine: &Engine, tunnels: &Tunnels) {
    let now = || engine.clock().now();
    let mut waited_for = HashSet::new();
    let mut due = BTreeSet::new();
    loop {
        let nap = due.first().map(|(at, _): &(Timestamp, _)| at.saturating_since(now()).min(LONGEST_NAP));
        tokio::select! {
            opened = tunnels.newly_open() => {
                due.extend(opened.into_iter().filter(|key| waited_for.insert(*key)).map(|key| (now(), key)));
            }
            () = sleep(nap.unwrap_or_default()), if nap.is_some() => {}
        }
        while let Some(&(at, key)) = due.first()
            && at <= now()
        {
            due.pop_first();
            match over_unused_at(engine, tunnels, key).await {
                Some(next) => drop(due.insert((next, key))),
                None => drop(waited_for.remove(&key)),
            }
        }
    }
}

/// When to look again. `None`: the session has no socket any more, or is over.
async fn over_unused_at(engine: &Engine, tunnels: &Tunnels, key: SessionKey) -> Option<Timestamp> {
    if !tunnels.has_open(&key) {
        return None;
    }
    match engine.open(key).await {
        Ok(Opened::Open(session)) => engine.over_unused_at(&session),
        Ok(Opened::Ended(_) | Opened::Unknown) => None,
        // A store that fails says nothing about the session.
        Err(_) => Some(engine.clock().now() + AFTER_FAILURE),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    };

    use freshgate::{
        Secret,
        clock::{Clock, SystemClock, SystemEntropy},
        engine::EngineParts,
        keyring::Keyring,
        session::{EndReason, SessionPolicy},
        store::MemoryStore,
    };
    use tokio::time::timeout;

    use super::*;
    use crate::{
        listener::ClientConnection,
        test_gate::{self, TestGate},
        upstream::Entrant,
    };

    const A_SECOND: Duration = Duration::from_secs(1);

    fn key(number: u32) -> SessionKey {
        SessionKey::from_bytes(freshgate_oidc::sha256(&number.to_be_bytes()))
    }

    fn connection() -> ClientConnection {
        ClientConnection::detached(([127, 0, 0, 1], 1).into())
    }

    fn engine() -> Engine {
        Engine::new(EngineParts {
            store: Arc::new(MemoryStore::new()),
            keyring: Arc::new(Keyring::from_secret(&Secret::new("a cookie secret that is long enough"))),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            providers: Vec::new(),
            policy: SessionPolicy::default(),
        })
    }

    /// More than anybody remembers who does not listen.
    async fn end_many(engine: &Engine) {
        for number in 1000..6000 {
            engine.end(key(number), EndReason::Logout).await.unwrap();
        }
    }

    async fn closes(socket: &ClientConnection) -> bool {
        let closed = async {
            while !socket.is_told_to_end() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(A_SECOND, closed).await.is_ok()
    }

    #[tokio::test]
    async fn the_sockets_of_an_ended_session_close_within_a_second_and_no_others() {
        let (engine, tunnels, stop) = (engine(), Tunnels::new(), CancellationToken::new());
        let sockets = [connection(), connection(), connection(), connection()];
        let owners = [Some(key(1)), Some(key(1)), Some(key(2)), None];
        let _entries: Vec<_> = owners
            .into_iter()
            .zip(&sockets)
            .map(|(owner, one)| tunnels.register(owner.map(Entrant::unconditional), one.clone()))
            .collect();
        let closing = tokio::spawn(close_sockets_of_ended_sessions(engine.clone(), tunnels, stop.clone()));
        engine.end(key(1), EndReason::Operator).await.unwrap();
        sleep(LAST_WORDS / 2).await;
        assert!(!sockets[0].is_told_to_end(), "the app has something to say yet");
        assert!(closes(&sockets[0]).await && closes(&sockets[1]).await);
        sleep(LAST_WORDS).await;
        assert!(!sockets[2].is_told_to_end() && !sockets[3].is_told_to_end());
        stop.cancel();
        closing.await.unwrap();
    }

    /// Runs with tokio's time, which a test can pause.
    struct TokioClock {
        started: Timestamp,
        since: Instant,
    }

    impl Clock for TokioClock {
        fn now(&self) -> Timestamp {
            self.started + self.since.elapsed()
        }
    }

    #[tokio::test]
    async fn the_sockets_of_a_session_that_nobody_uses_close_when_it_is_over() {
        // Uses are written a minute apart: see `Engine::over_unused_at`.
        let (idle_timeout, step) = (600 * A_SECOND, 60 * A_SECOND);
        let mut gate = TestGate::new().await;
        gate.config.session.idle_timeout = Some(idle_timeout);
        let clock = TokioClock { started: SystemClock.now(), since: Instant::now() };
        gate.engine = test_gate::engine_on(&gate.config, Arc::new(MemoryStore::new()), Arc::new(clock));
        let (engine, key) = (gate.engine.clone(), gate.sign_in("ada").await.key());

        tokio::time::pause();
        let tunnels = Tunnels::of(engine.clone());
        tokio::spawn(close_sockets_of_ended_sessions(
            engine.clone(),
            tunnels.clone(),
            CancellationToken::new(),
        ));
        // One that is gone again must not hold up what is known of the next.
        drop(tunnels.register(Some(Entrant::unconditional(key)), connection()));
        sleep(A_SECOND).await;
        let socket = connection();
        let _entry = tunnels.register(Some(Entrant::unconditional(key)), socket.clone());
        sleep(300 * A_SECOND).await;
        let used = Instant::now();
        engine.used(key);
        sleep_until(used + idle_timeout + step - A_SECOND).await;
        assert!(!socket.is_told_to_end(), "its use puts the end off");
        sleep_until(used + idle_timeout + step + LAST_WORDS + A_SECOND / 4).await;
        assert!(socket.is_told_to_end());
        let opened = engine.open(key).await.unwrap();
        assert!(matches!(opened, Opened::Ended(EndReason::Idle)), "{opened:?}");
    }

    #[tokio::test]
    async fn after_missed_events_every_session_that_has_a_socket_is_looked_at() {
        let (engine, tunnels) = (engine(), Tunnels::new());
        let closing =
            close_sockets_of_ended_sessions(engine.clone(), tunnels.clone(), CancellationToken::new());
        let (ended, unknown) = (connection(), connection());
        let _entries = [(key(1), &ended), (key(2), &unknown)]
            .map(|(key, one)| tunnels.register(Some(Entrant::unconditional(key)), one.clone()));
        engine.end(key(1), EndReason::Logout).await.unwrap();
        end_many(&engine).await;
        tokio::spawn(closing);
        assert!(closes(&ended).await && closes(&unknown).await);
    }

    #[tokio::test(start_paused = true)]
    async fn where_the_store_fails_they_are_looked_at_again() {
        let (tunnels, missed, asked) = (Tunnels::new(), Notify::new(), AtomicU32::new(0));
        let ended = connection();
        let _entry = tunnels.register(Some(Entrant::unconditional(key(1))), ended.clone());
        let open = async |_| match asked.fetch_add(1, Ordering::SeqCst) {
            0..3 => Err(StoreError::Failed("the disk is full".into())),
            _ => Ok(Opened::Ended(EndReason::Logout)),
        };
        missed.notify_one();
        let looks = look_when_missed(open, &tunnels, &missed);
        timeout(4 * AFTER_FAILURE, looks).await.expect_err("it never ends");
        assert!(ended.is_told_to_end());
        assert_eq!(asked.into_inner(), 4, "and no more, once it is known");
    }

    #[tokio::test]
    async fn an_end_does_not_wait_for_that_look() {
        let (engine, tunnels, missed) = (engine(), Tunnels::new(), Notify::new());
        let (changed, _changes) = mpsc::channel(1);
        let events = engine.events();
        end_many(&engine).await;
        let socket = connection();
        let _entry = tunnels.register(Some(Entrant::unconditional(key(1))), socket.clone());
        // Nobody looks, as if the store took forever.
        let told = async {
            timeout(A_SECOND, missed.notified()).await.expect("events were missed");
            engine.end(key(1), EndReason::Logout).await.unwrap();
            assert!(closes(&socket).await);
        };
        tokio::select! {
            () = close_as_told(events, &tunnels, &changed, &missed) => panic!("the engine is there"),
            () = told => {}
        }
    }
}
