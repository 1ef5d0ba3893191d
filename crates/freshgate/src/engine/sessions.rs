//! Sessions by key: sealed in the store, opened in memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use freshgate_oidc::Timestamp;
use quick_cache::{
    DefaultHashBuilder, OptionsBuilder, Weighter,
    sync::{Cache, DefaultLifecycle},
};
use tokio::sync::broadcast;

use super::{ahead::ActiveSessions, history::EndNote, record::Record};
use crate::{
    clock::Entropy,
    events::SessionEvent,
    keyring::{Keyring, OpenError, Purpose},
    session::SessionKey,
    store::{self, Change, Ended, Found, Inserted, Note, Revision, Row, Store, StoreError, Tombstone},
};

/// How much of the sessions is kept opened in memory, in bytes as written; in memory it is three to four times that.
const CACHE_BYTES: u64 = 128 * 1024 * 1024;
/// How many events a slow listener may be behind before it must read its sessions again.
const EVENT_BACKLOG: usize = 4096;
/// In how many parts the memory is kept. One session is never larger than a part: of more parts it would be kept out sooner.
const CACHE_SHARDS: usize = 16;
/// What an ordinary session takes, for a first guess at how many that are.
const ORDINARY_SESSION_BYTES: usize = 4 * 1024;

/// The store, the keyring and a cache: what the rest of the engine reads and writes sessions through.
pub(super) struct Sessions {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
    entropy: Arc<dyn Entropy>,
    opened: Cache<SessionKey, Lookup, BySize>,
    /// Locked while what is newer is decided, and told: an end must not be written over by an update that it overtook.
    reads: Mutex<Reads>,
    /// What was told of those that somebody here may hold something of, in memory or not.
    active: Arc<ActiveSessions>,
    events: broadcast::Sender<SessionEvent>,
    /// Tells nothing of what is written here, as the simulation wants it.
    #[cfg(feature = "simulation")]
    hushed: std::sync::OnceLock<()>,
}

/// What is known under a key.
#[derive(Clone)]
pub(super) enum Lookup {
    Live(Arc<Record>, Revision),
    Ended(Tombstone),
    Unknown,
}

impl Lookup {
    /// What is of an earlier revision is older.
    fn revision(&self) -> Revision {
        match self {
            Self::Live(_, revision) => *revision,
            Self::Ended(_) => ENDED,
            Self::Unknown => 0,
        }
    }
}

/// How something became known: what was known of it before, where it is not in memory.
#[derive(Clone, Copy)]
enum Learnt<'a> {
    /// It was written, or found in place of it, by one who started from this.
    Wrote(&'a Record),
    /// Another engine wrote it.
    Heard,
    /// Somebody looked.
    Found,
}

/// Later than every revision: nothing comes after an end.
const ENDED: Revision = Revision::MAX;

/// The reads of the store that are under way, by session.
type Reads = HashMap<SessionKey, UnderWay>;

/// Reads of one row. What they bring may be older than what became known while they were under way.
#[derive(Default)]
struct UnderWay {
    readers: usize,
    /// A row of an earlier revision than this is outdated.
    newest: Revision,
    /// Somebody may have written, and nobody knows what: whatever is read now is not kept.
    unsure: bool,
}

/// One read of a row, until it is dropped.
struct Reading<'a> {
    sessions: &'a Sessions,
    key: SessionKey,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut reads = self.sessions.reads();
        if let Some(under_way) = reads.get_mut(&self.key) {
            under_way.readers -= 1;
            if under_way.readers == 0 {
                reads.remove(&self.key);
            }
        }
    }
}

/// A session with a large token, or with hundreds of groups, takes the place of many ordinary ones.
#[derive(Clone)]
struct BySize;

impl Weighter<SessionKey, Lookup> for BySize {
    fn weight(&self, _: &SessionKey, lookup: &Lookup) -> u64 {
        const ENTRY: u64 = 64;
        match lookup {
            Lookup::Live(record, _) => ENTRY + record.size as u64,
            Lookup::Ended(_) | Lookup::Unknown => ENTRY,
        }
    }
}

/// The answer to [`Sessions::replace`].
pub(super) enum Replaced {
    Done(Arc<Record>, Revision),
    /// Somebody was faster: this is what is there now.
    Conflict(Arc<Record>, Revision),
    Ended(Tombstone),
    Unknown,
}

/// The answer to [`Sessions::end_at`].
pub(super) enum EndedAt {
    Now,
    /// Somebody was faster: this is what is there now.
    Conflict(Arc<Record>, Revision),
    Before(Tombstone),
    Unknown,
}

impl Sessions {
    pub(super) fn new(
        store: Arc<dyn Store>,
        keyring: Arc<Keyring>,
        entropy: Arc<dyn Entropy>,
        active: Arc<ActiveSessions>,
    ) -> Self {
        Self {
            store,
            keyring,
            entropy,
            opened: memory(),
            reads: Mutex::default(),
            active,
            events: broadcast::channel(EVENT_BACKLOG).0,
            #[cfg(feature = "simulation")]
            hushed: std::sync::OnceLock::new(),
        }
    }

    /// What happens to sessions from now on.
    pub(super) fn events(&self) -> broadcast::Receiver<SessionEvent> {
        self.events.subscribe()
    }

    pub(super) fn tell(&self, event: SessionEvent) {
        let _ = self.events.send(event);
    }

    /// Looks a session up: in memory, else in the store (once, however many ask).
    pub(super) async fn read(&self, key: SessionKey) -> Result<Lookup, StoreError> {
        match self.opened.get_value_or_guard_async(&key).await {
            Ok(lookup) => Ok(lookup),
            Err(_one_at_a_time) => {
                // One who waited for the guard finds what the first has read.
                match self.opened.peek(&key) {
                    Some(lookup) => Ok(lookup),
                    None => self.read_store(key).await,
                }
            }
        }
    }

    /// Looks a session up in the store itself, past the cache. What it yields is the newest that is known.
    pub(super) async fn read_store(&self, key: SessionKey) -> Result<Lookup, StoreError> {
        self.read_row(key, Learnt::Found).await
    }

    /// Looks up what another engine has written, as [`Sessions::heard_of`] says.
    pub(super) async fn read_news(&self, key: SessionKey) -> Result<Lookup, StoreError> {
        self.read_row(key, Learnt::Heard).await
    }

    async fn read_row(&self, key: SessionKey, learnt: Learnt<'_>) -> Result<Lookup, StoreError> {
        loop {
            let reading = self.begin_to_read(key);
            let lookup = match self.store.read(key).await? {
                Found::Live(row, revision) => match self.open(key, &row) {
                    Ok(record) => Lookup::Live(Arc::new(record), revision),
                    Err(error) => {
                        // Sealed under a key that is gone, or damaged: to the user, not signed in.
                        tracing::warn!(session = %key.short(), error = &error as &dyn std::error::Error, "a stored session cannot be opened");
                        return Ok(Lookup::Unknown);
                    }
                },
                Found::Ended(tombstone) => Lookup::Ended(tombstone),
                Found::Unknown => return Ok(Lookup::Unknown),
            };
            // If it was written meanwhile, what is there now is read, and is not older than that.
            if let Some(newest) = self.remember_read(&reading, lookup, learnt) {
                return Ok(newest);
            }
        }
    }

    fn begin_to_read(&self, key: SessionKey) -> Reading<'_> {
        self.reads().entry(key).or_default().readers += 1;
        Reading { sessions: self, key }
    }

    pub(super) async fn insert(&self, mut record: Record) -> Result<Option<Arc<Record>>, StoreError> {
        let key = record.key;
        match self.store.insert(key, self.seal(&mut record)).await? {
            Inserted::Done => {
                let record = Arc::new(record);
                self.remember(key, Lookup::Live(record.clone(), 1), Learnt::Found);
                Ok(Some(record))
            }
            Inserted::Exists | Inserted::Ended(_) => Ok(None),
        }
    }

    /// Puts `record` in place of `before`, which is what there is at `expected`.
    pub(super) async fn replace(
        &self,
        before: &Record,
        mut record: Record,
        expected: Revision,
    ) -> Result<Replaced, StoreError> {
        let key = record.key;
        let replaced = self.store.replace(key, expected, self.seal(&mut record)).await;
        Ok(match replaced {
            Ok(store::Replaced::Done(revision)) => {
                let record = Arc::new(record);
                self.remember(key, Lookup::Live(record.clone(), revision), Learnt::Wrote(before));
                Replaced::Done(record, revision)
            }
            Ok(store::Replaced::Conflict(row, revision)) => match self.open(key, &row) {
                Ok(record) => {
                    let record = Arc::new(record);
                    self.remember(key, Lookup::Live(record.clone(), revision), Learnt::Wrote(before));
                    Replaced::Conflict(record, revision)
                }
                Err(error) => return Err(StoreError::Failed(Box::new(error))),
            },
            Ok(store::Replaced::Ended(tombstone)) => {
                self.remember(key, Lookup::Ended(tombstone), Learnt::Found);
                Replaced::Ended(tombstone)
            }
            Ok(store::Replaced::Unknown) => {
                self.forget(key);
                Replaced::Unknown
            }
            Err(error) => {
                self.forget(key);
                return Err(error);
            }
        })
    }

    /// Ends a session and tells what it was, if it was live until this call.
    pub(super) async fn end(
        &self,
        key: SessionKey,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<Option<Arc<Record>>, StoreError> {
        let ended = match self.store.end(key, tombstone, keep_until, note).await {
            Ok(ended) => ended,
            Err(error) => {
                self.forget(key);
                return Err(error);
            }
        };
        let (tombstone, record) = match ended {
            Ended::Now(row) => (tombstone, self.open(key, &row).ok().map(Arc::new)),
            Ended::Before(earlier) => (earlier, None),
            Ended::Unknown => (tombstone, None),
        };
        self.remember(key, Lookup::Ended(tombstone), Learnt::Found);
        Ok(record)
    }

    /// Ends a session that is still at `expected`.
    pub(super) async fn end_at(
        &self,
        key: SessionKey,
        expected: Revision,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<EndedAt, StoreError> {
        let ended = match self.store.end_at(key, expected, tombstone, keep_until, note).await {
            Ok(ended) => ended,
            Err(error) => {
                self.forget(key);
                return Err(error);
            }
        };
        Ok(match ended {
            store::EndedAt::Now => {
                self.remember(key, Lookup::Ended(tombstone), Learnt::Found);
                EndedAt::Now
            }
            store::EndedAt::Before(first) => {
                self.remember(key, Lookup::Ended(first), Learnt::Found);
                EndedAt::Before(first)
            }
            store::EndedAt::Conflict(row, revision) => {
                let record = self.open(key, &row).map_err(|error| StoreError::Failed(Box::new(error)))?;
                let record = Arc::new(record);
                self.remember(key, Lookup::Live(record.clone(), revision), Learnt::Found);
                EndedAt::Conflict(record, revision)
            }
            store::EndedAt::Unknown => {
                self.forget(key);
                EndedAt::Unknown
            }
        })
    }

    /// Takes note of what was written to the store, by whichever engine. Whether that is news here: then read it.
    pub(super) fn heard_of(&self, change: Change) -> bool {
        let (key, revision) = match change {
            Change::Written(key, revision) => (key, revision),
            Change::Ended(key) => (key, ENDED),
        };
        let mut reads = self.reads();
        if let Some(under_way) = reads.get_mut(&key) {
            under_way.newest = under_way.newest.max(revision);
        }
        match self.opened.peek(&key) {
            Some(known) => known.revision() < revision,
            // An end is told to everyone; of other sessions that are not in memory nobody here holds anything.
            None => revision == ENDED || self.active.contains(key),
        }
    }

    /// Written or not, that is not known: the next read asks the store. What ended has ended, whatever becomes of it.
    pub(super) fn forget(&self, key: SessionKey) {
        let mut reads = self.reads();
        if let Some(under_way) = reads.get_mut(&key) {
            under_way.unsure = true;
        }
        if !matches!(self.opened.peek(&key), Some(Lookup::Ended(_))) {
            self.opened.remove(&key);
        }
    }

    /// Empties the memory: the store is asked for everything anew. Whether there was anything in it.
    pub(super) fn forget_all(&self) -> bool {
        let mut reads = self.reads();
        for under_way in reads.values_mut() {
            under_way.unsure = true;
        }
        let held_any = !self.opened.is_empty();
        self.opened.clear();
        held_any
    }

    /// What is in memory, without asking the store.
    pub(super) fn in_memory(&self, key: SessionKey) -> Option<Lookup> {
        self.opened.peek(&key)
    }

    /// Keeps what is outdated, as the simulation wants it.
    #[cfg(feature = "simulation")]
    pub(super) fn put_back(&self, key: SessionKey, outdated: Lookup) {
        self.opened.insert(key, outdated);
    }

    #[cfg(feature = "simulation")]
    pub(super) fn hush(&self) {
        let _ = self.hushed.set(());
    }

    fn reads(&self) -> MutexGuard<'_, Reads> {
        self.reads.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Keeps what was written, or what an answer of the store to a write says is there.
    fn remember(&self, key: SessionKey, lookup: Lookup, learnt: Learnt<'_>) {
        let mut reads = self.reads();
        if let Some(under_way) = reads.get_mut(&key) {
            under_way.newest = under_way.newest.max(lookup.revision());
        }
        self.remember_newer(key, lookup, learnt, true);
    }

    /// Keeps what a read has brought, and yields the newest that is known. `None`: what it brought is outdated.
    fn remember_read(&self, reading: &Reading<'_>, lookup: Lookup, learnt: Learnt<'_>) -> Option<Lookup> {
        let mut reads = self.reads();
        let under_way = reads.entry(reading.key).or_default();
        if lookup.revision() < under_way.newest {
            return None;
        }
        under_way.newest = lookup.revision();
        let keep = !under_way.unsure || lookup.revision() == ENDED;
        Some(self.remember_newer(reading.key, lookup, learnt, keep))
    }

    /// Keeps it (if it may be kept) unless something newer is there, for answers of the store may cross, and tells everyone
    /// what is new in it. However an engine learns of an end or of new tokens, here it is told, once. Yields the newest.
    ///
    /// `reads` must be locked.
    fn remember_newer(&self, key: SessionKey, lookup: Lookup, learnt: Learnt<'_>, keep: bool) -> Lookup {
        let before = self.opened.peek(&key);
        if let Some(there) = &before
            && there.revision() >= lookup.revision()
        {
            return there.clone();
        }
        let event = match &lookup {
            Lookup::Live(after, _) => self.news_in(after, before.as_ref(), learnt),
            Lookup::Ended(tombstone) => Some(SessionEvent::Ended { key, reason: tombstone.reason }),
            Lookup::Unknown => None,
        };
        if keep {
            self.opened.insert(key, lookup.clone());
        }
        #[cfg(feature = "simulation")]
        let event = event.filter(|_| self.hushed.get().is_none() || !matches!(learnt, Learnt::Wrote(_)));
        if let Some(event) = event {
            self.tell(event);
        }
        lookup
    }

    /// What there is to tell of a session that lives, of which `in_memory` is what was known until now. Where nothing was, for
    /// the store failed, or it was too large, or others took its place, what was told of an active session says whether this
    /// is news. What changed is then unknown, if it cannot be compared.
    fn news_in(
        &self,
        after: &Record,
        in_memory: Option<&Lookup>,
        learnt: Learnt<'_>,
    ) -> Option<SessionEvent> {
        let told = self.active.tell(after.key, after.generation);
        let in_memory = match in_memory {
            Some(Lookup::Live(record, _)) => Some(&**record),
            Some(Lookup::Ended(_) | Lookup::Unknown) | None => None,
        };
        let started_from = match learnt {
            Learnt::Wrote(before) => Some(before),
            Learnt::Heard | Learnt::Found => None,
        };
        let before = in_memory.or(started_from);
        let known = match told.or(before.map(|before| before.generation)) {
            Some(known) => known,
            // Nobody here has seen anything of it, and whoever did may be anywhere.
            None if matches!(learnt, Learnt::Found) => return None,
            None => 0,
        };
        (known < after.generation).then(|| SessionEvent::Changed {
            key: after.key,
            generation: after.generation,
            claims_changed: [in_memory, started_from]
                .into_iter()
                .flatten()
                .find(|before| before.generation == known)
                .is_none_or(|before| before.shows_otherwise(after)),
        })
    }

    fn seal(&self, record: &mut Record) -> Row {
        let plain = record.to_bytes();
        record.size = plain.len();
        let context = record.key.as_bytes();
        let sealed = self.keyring.seal(&*self.entropy, Purpose::SessionRecord, context, &plain);
        Row { sealed, index: record.index() }
    }

    /// Seals what is kept of a session when it ends.
    pub(super) fn seal_note(&self, record: &Record) -> Vec<u8> {
        let plain = EndNote::of(record).to_bytes();
        self.keyring.seal(&*self.entropy, Purpose::EndedSession, record.key.as_bytes(), &plain)
    }

    pub(super) fn open_note(&self, key: SessionKey, sealed: &[u8]) -> Result<EndNote, UnreadableRecord> {
        let plain = self.keyring.open(Purpose::EndedSession, key.as_bytes(), sealed)?;
        Ok(EndNote::from_bytes(&plain)?)
    }

    pub(super) fn open(&self, key: SessionKey, row: &Row) -> Result<Record, UnreadableRecord> {
        let plain = self.keyring.open(Purpose::SessionRecord, key.as_bytes(), &row.sealed)?;
        Ok(Record::from_bytes(key, &plain)?)
    }
}

/// What sessions are kept opened in.
fn memory() -> Cache<SessionKey, Lookup, BySize> {
    let options = OptionsBuilder::new()
        .shards(CACHE_SHARDS)
        .estimated_items_capacity(CACHE_BYTES as usize / ORDINARY_SESSION_BYTES)
        .weight_capacity(CACHE_BYTES)
        .build()
        .expect("both capacities are given");
    Cache::with_options(options, BySize, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

/// A stored record that does not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnreadableRecord {
    #[error("it is not sealed by a key of this keyring")]
    Sealed(#[from] OpenError),
    #[error("it is sealed by us and yet malformed")]
    Malformed(#[from] serde_json::Error),
}
