//! Sessions by key: sealed in the store, opened in memory.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use freshgate_oidc::Timestamp;
use quick_cache::{Weighter, sync::Cache};
use tokio::sync::broadcast;

use super::{history::EndNote, record::Record};
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
    events: broadcast::Sender<SessionEvent>,
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
    pub(super) fn new(store: Arc<dyn Store>, keyring: Arc<Keyring>, entropy: Arc<dyn Entropy>) -> Self {
        Self {
            store,
            keyring,
            entropy,
            opened: Cache::with_weighter(CACHE_BYTES as usize / ORDINARY_SESSION_BYTES, CACHE_BYTES, BySize),
            reads: Mutex::default(),
            events: broadcast::channel(EVENT_BACKLOG).0,
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
            if let Some(newest) = self.remember_read(&reading, lookup) {
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
                self.remember(key, Lookup::Live(record.clone(), 1));
                Ok(Some(record))
            }
            Inserted::Exists | Inserted::Ended(_) => Ok(None),
        }
    }

    pub(super) async fn replace(
        &self,
        mut record: Record,
        expected: Revision,
    ) -> Result<Replaced, StoreError> {
        let key = record.key;
        let replaced = self.store.replace(key, expected, self.seal(&mut record)).await;
        Ok(match replaced {
            Ok(store::Replaced::Done(revision)) => {
                let record = Arc::new(record);
                self.remember(key, Lookup::Live(record.clone(), revision));
                Replaced::Done(record, revision)
            }
            Ok(store::Replaced::Conflict(row, revision)) => match self.open(key, &row) {
                Ok(record) => {
                    let record = Arc::new(record);
                    self.remember(key, Lookup::Live(record.clone(), revision));
                    Replaced::Conflict(record, revision)
                }
                Err(error) => return Err(StoreError::Failed(Box::new(error))),
            },
            Ok(store::Replaced::Ended(tombstone)) => {
                self.remember(key, Lookup::Ended(tombstone));
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
        self.remember(key, Lookup::Ended(tombstone));
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
                self.remember(key, Lookup::Ended(tombstone));
                EndedAt::Now
            }
            store::EndedAt::Before(first) => {
                self.remember(key, Lookup::Ended(first));
                EndedAt::Before(first)
            }
            store::EndedAt::Conflict(row, revision) => {
                let record = self.open(key, &row).map_err(|error| StoreError::Failed(Box::new(error)))?;
                let record = Arc::new(record);
                self.remember(key, Lookup::Live(record.clone(), revision));
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
            // Of what is not in memory nobody here has seen anything yet; but an end is told to everyone.
            None => revision == ENDED,
        }
    }

    /// Written or not, that is not known: the next read asks the store. What ended has ended, whatever becomes of it.
    fn forget(&self, key: SessionKey) {
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

    fn reads(&self) -> MutexGuard<'_, Reads> {
        self.reads.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Keeps what was written, or what an answer of the store to a write says is there.
    fn remember(&self, key: SessionKey, lookup: Lookup) {
        let mut reads = self.reads();
        if let Some(under_way) = reads.get_mut(&key) {
            under_way.newest = under_way.newest.max(lookup.revision());
        }
        self.remember_newer(key, lookup, true);
    }

    /// Keeps what a read has brought, and yields the newest that is known. `None`: what it brought is outdated.
    fn remember_read(&self, reading: &Reading<'_>, lookup: Lookup) -> Option<Lookup> {
        let mut reads = self.reads();
        let under_way = reads.entry(reading.key).or_default();
        if lookup.revision() < under_way.newest {
            return None;
        }
        under_way.newest = lookup.revision();
        let keep = !under_way.unsure || lookup.revision() == ENDED;
        Some(self.remember_newer(reading.key, lookup, keep))
    }

    /// Keeps it (if it may be kept) unless something newer is there, for answers of the store may cross, and tells everyone
    /// what is new in it. However an engine learns of an end or of new tokens, here it is told, once. Yields the newest.
    ///
    /// `reads` must be locked.
    fn remember_newer(&self, key: SessionKey, lookup: Lookup, keep: bool) -> Lookup {
        let before = self.opened.peek(&key);
        if let Some(there) = &before
            && there.revision() >= lookup.revision()
        {
            return there.clone();
        }
        let event = match (&before, &lookup) {
            (Some(Lookup::Live(before, _)), Lookup::Live(after, _)) => {
                (before.generation != after.generation).then(|| SessionEvent::Changed {
                    key,
                    generation: after.generation,
                    claims_changed: before.shows_otherwise(after),
                })
            }
            (_, Lookup::Ended(tombstone)) => Some(SessionEvent::Ended { key, reason: tombstone.reason }),
            (_, Lookup::Live(..) | Lookup::Unknown) => None,
        };
        if keep {
            self.opened.insert(key, lookup.clone());
        }
        if let Some(event) = event {
            self.tell(event);
        }
        lookup
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

/// A stored record that does not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum UnreadableRecord {
    #[error("it is not sealed by a key of this keyring")]
    Sealed(#[from] OpenError),
    #[error("it is sealed by us and yet malformed")]
    Malformed(#[from] serde_json::Error),
}
