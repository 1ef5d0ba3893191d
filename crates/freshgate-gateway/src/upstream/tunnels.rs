//! Which open sockets belong to which session.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use freshgate::{
    Engine,
    engine::InUse,
    session::{OpenSession, SessionKey},
};
use freshgate_web::Permit;
use tokio::sync::Notify;

use super::Entrant;
use crate::listener::ClientConnection;

/// The WebSockets and event streams that are open, by session. Cheap to clone; clones are one.
///
/// A socket enters before the app hears of it and leaves when it is closed. Their number is bounded by the listener's
/// limit of connections. Stopping the listener closes all of them:
/// see [`Listener::serve`](crate::listener::Listener::serve).
#[derive(Clone, Default)]
pub struct Tunnels(Arc<Registry>);

#[derive(Default)]
struct Registry {
    open: AtomicUsize,
    last_number: AtomicU64,
    shards: [Mutex<Shard>; SHARDS],
    /// Sessions that got their first socket since somebody asked last; only where it matters that nobody uses them.
    opened: Mutex<Vec<SessionKey>>,
    more_opened: Notify,
    /// Whoever must know that somebody is looking at the app.
    engine: Option<Engine>,
}

type Shard = HashMap<SessionKey, Vec<Entry>>;

struct Entry {
    number: u64,
    permit: Permit,
    app: Arc<str>,
    connection: ClientConnection,
}

const SHARDS: usize = 16;

impl Tunnels {
    /// No sockets.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, for the sessions of an engine: each open socket keeps its session active.
    pub fn of(engine: Engine) -> Self {
        Self(Arc::new(Registry { engine: Some(engine), ..Registry::default() }))
    }

    /// How many are open, anonymous ones included.
    pub fn count(&self) -> usize {
        self.0.open.load(Ordering::Relaxed)
    }

    /// Whether the session has an open socket, so that someone is looking at the app.
    pub fn has_open(&self, session: &SessionKey) -> bool {
        self.shard(session).contains_key(session)
    }

    /// How many open sockets the session has.
    pub fn count_of(&self, session: &SessionKey) -> usize {
        self.shard(session).get(session).map_or(0, Vec::len)
    }

    /// The sessions that have an open socket.
    pub fn sessions(&self) -> Vec<SessionKey> {
        let shards = self.0.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        shards.flat_map(|shard| shard.keys().copied().collect::<Vec<_>>()).collect()
    }

    /// Closes every socket of a session, and yields how many. They close as soon as their tasks get their turn.
    ///
    /// The sockets are shut without a WebSocket Close frame. Such a frame may only stand between two others, and to
    /// know where those begin the gate would have to parse everything that an app sends. It would also invite the client
    /// to answer, and a session that is over has no say. Clients see an abnormal closure (code 1006) and do what they do
    /// after any loss: connect again, which the guard answers.
    pub fn close_session(&self, session: &SessionKey) -> usize {
        self.close_where(session, |_| true)
    }

    /// Closes those sockets of a session whose user may be there no longer, by the claims of now, in the same way.
    pub fn close_refused(&self, session: &OpenSession) -> usize {
        self.close_where(&session.key(), |entry| !entry.permit.still_holds(session))
    }

    /// Closes the sockets that signed-in users have open at these apps, in the same way.
    pub(crate) fn close_at(&self, apps: &BTreeSet<String>) -> usize {
        let is_there = |entry: &Entry| apps.contains(&*entry.app);
        self.sessions().iter().map(|session| self.close_where(session, is_there)).sum()
    }

    fn close_where(&self, session: &SessionKey, closes: impl Fn(&Entry) -> bool) -> usize {
        let connections: Vec<ClientConnection> = self
            .shard(session)
            .get(session)
            .map(|entries| entries.iter().filter(|entry| closes(entry)))
            .map(|entries| entries.map(|entry| entry.connection.clone()).collect())
            .unwrap_or_default();
        for connection in &connections {
            connection.abort();
        }
        connections.len()
    }

    /// Enters a socket, until what this yields is dropped. Sockets of anonymous visitors are only counted.
    pub(super) fn register(&self, entrant: Option<Entrant>, connection: ClientConnection) -> Registration {
        let number = self.0.last_number.fetch_add(1, Ordering::Relaxed);
        let session = entrant.as_ref().map(|entrant| entrant.session);
        if let Some(Entrant { session, permit, app }) = entrant {
            self.enter(session, Entry { number, permit, app, connection });
        }
        self.0.open.fetch_add(1, Ordering::Relaxed);
        let engine = self.0.engine.as_ref();
        let in_use = engine.zip(session).map(|(engine, session)| engine.hold(session));
        Registration { tunnels: self.clone(), session, number, _in_use: in_use }
    }

    fn enter(&self, session: SessionKey, entry: Entry) {
        let is_first = {
            let mut shard = self.shard(&session);
            let entries = shard.entry(session).or_default();
            entries.push(entry);
            entries.len() == 1
        };
        if is_first && self.sessions_may_idle() {
            self.opened().push(session);
            self.0.more_opened.notify_one();
        }
    }

    fn opened(&self) -> MutexGuard<'_, Vec<SessionKey>> {
        self.0.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sessions_may_idle(&self) -> bool {
        self.0.engine.as_ref().is_some_and(|engine| engine.policy().idle_timeout.is_some())
    }

    /// Waits for sessions that get their first socket, where sessions end by not being used. For one listener; dropping the
    /// future loses none.
    pub(super) async fn newly_open(&self) -> Vec<SessionKey> {
        loop {
            let opened = std::mem::take(&mut *self.opened());
            if !opened.is_empty() {
                return opened;
            }
            self.0.more_opened.notified().await;
        }
    }

    fn shard(&self, session: &SessionKey) -> MutexGuard<'_, Shard> {
        // A key is a hash already.
        let index = usize::from(session.as_bytes()[0]) % SHARDS;
        self.0.shards[index].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tunnels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnels").field("open", &self.count()).finish_non_exhaustive()
    }
}

/// A socket's entry. Leaves when dropped.
#[derive(Debug)]
pub(super) struct Registration {
    tunnels: Tunnels,
    session: Option<SessionKey>,
    number: u64,
    _in_use: Option<InUse>,
}

impl Registration {
    /// Whether it matters that the user does something: only where sessions end by not being used.
    pub(super) fn wants_to_know_of_use(&self) -> bool {
        self.session.is_some() && self.tunnels.sessions_may_idle()
    }

    /// The user did something on this socket.
    pub(super) fn used(&self) {
        if let (Some(engine), Some(session)) = (&self.tunnels.0.engine, self.session) {
            engine.used(session);
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.tunnels.0.open.fetch_sub(1, Ordering::Relaxed);
        let Some(session) = &self.session else { return };
        let left = {
            let mut shard = self.tunnels.shard(session);
            let Some(entries) = shard.get_mut(session) else { return };
            let at = entries.iter().position(|entry| entry.number == self.number);
            let left = at.map(|at| entries.swap_remove(at));
            if entries.is_empty() {
                shard.remove(session);
            }
            left
        };
        // It may be the connection's last clone, whose drop takes another lock.
        drop(left);
    }
}

#[cfg(test)]
mod tests {
    use freshgate::{
        Secret,
        clock::{SystemClock, SystemEntropy},
        engine::EngineParts,
        keyring::Keyring,
        session::SessionPolicy,
        store::MemoryStore,
    };
    use tokio_util::sync::CancellationToken;

    use super::*;

    fn connection() -> ClientConnection {
        ClientConnection::detached(([127, 0, 0, 1], 1).into())
    }

    #[test]
    fn closing_a_session_reaches_its_sockets_and_no_others() {
        let tunnels = Tunnels::new();
        // Of one shard.
        let (mine, yours) = (SessionKey::from_bytes([1; 32]), SessionKey::from_bytes([17; 32]));
        let sockets = [connection(), connection(), connection(), connection()];
        let owners = [Some(mine), Some(mine), Some(yours), None];
        let mut entries: Vec<_> = sockets
            .iter()
            .zip(owners)
            .map(|(socket, owner)| tunnels.register(owner.map(Entrant::unconditional), socket.clone()))
            .collect();
        assert_eq!(tunnels.count(), 4);
        assert!(tunnels.has_open(&mine));
        assert_eq!((tunnels.count_of(&mine), tunnels.count_of(&yours)), (2, 1));

        assert_eq!(tunnels.close_session(&mine), 2);
        let told: Vec<_> = sockets.iter().map(ClientConnection::is_told_to_end).collect();
        assert_eq!(told, [true, true, false, false]);

        entries.truncate(1);
        assert_eq!((tunnels.count(), tunnels.has_open(&mine), tunnels.has_open(&yours)), (1, true, false));
        entries.clear();
        assert_eq!((tunnels.count(), tunnels.has_open(&mine)), (0, false));
        assert_eq!(tunnels.close_session(&mine), 0);
    }

    #[test]
    fn closing_at_an_app_reaches_the_sockets_there_and_no_others() {
        let tunnels = Tunnels::new();
        let sockets = [connection(), connection(), connection(), connection()];
        let places = [Some((1, "/a")), Some((1, "/b")), Some((2, "/a")), None];
        let entrant = |(key, app): (u8, &str)| Entrant {
            app: app.into(),
            ..Entrant::unconditional(SessionKey::from_bytes([key; 32]))
        };
        let entries: Vec<_> = sockets
            .iter()
            .zip(places)
            .map(|(socket, place)| tunnels.register(place.map(entrant), socket.clone()))
            .collect();
        assert_eq!(tunnels.close_at(&BTreeSet::from(["/a".to_owned(), "/c".to_owned()])), 2);
        let told: Vec<_> = sockets.iter().map(ClientConnection::is_told_to_end).collect();
        assert_eq!(told, [true, false, true, false]);
        drop(entries);
    }

    #[tokio::test]
    async fn an_open_socket_keeps_its_session_active() {
        let engine = Engine::new(EngineParts {
            store: Arc::new(MemoryStore::new()),
            keyring: Arc::new(Keyring::from_secret(&Secret::new("a cookie secret that is long enough"))),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            providers: Vec::new(),
            policy: SessionPolicy::default(),
        });
        // Use is noted as long as this lives.
        let ahead = engine.clone().refresh_ahead(CancellationToken::new());
        let tunnels = Tunnels::of(engine.clone());
        let mine = SessionKey::from_bytes([1; 32]);
        let sockets = [Some(mine), Some(mine), None]
            .map(|owner| tunnels.register(owner.map(Entrant::unconditional), connection()));
        assert_eq!(engine.active_sessions(), 1, "both are of one session, and a stranger is of none");
        drop(sockets);
        assert_eq!(engine.active_sessions(), 1, "it was used a moment ago");
        drop(ahead);
    }
}
