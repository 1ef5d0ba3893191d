//! Where sessions live. A store keeps sealed bytes under a [`SessionKey`]; it sees no token and no claim.
//!
//! Every implementation passes the rules in `contract` (feature `contract-tests`): updates are compare-and-set on a
//! revision, and an end leaves a tombstone that neither an insert nor an update in flight can overcome.
//!
//! Beside sessions a store remembers marks, for what must be known of the past across processes and restarts: that a
//! logout token was used, that a user signed out. They are hashes with a time.
//!
//! A store has no clock and no opinion: a session that is past its `ends_at` is served until somebody ends it, and whether
//! it may still be used is for the engine to say.

#[cfg(any(test, feature = "contract-tests"))]
pub mod contract;
mod memory;
mod sqlite;

pub use memory::MemoryStore;
pub use sqlite::{SqliteStore, StoreInspection};

use std::fmt;

use async_trait::async_trait;
use freshgate_oidc::Timestamp;

use crate::session::{EndReason, SessionKey};

/// What a store keeps of one session.
#[derive(Clone, PartialEq, Eq)]
pub struct Row {
    /// The record, sealed by the engine.
    pub sealed: Vec<u8>,
    /// By what the session can be found besides its key.
    pub index: Index,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Kilobytes of ciphertext tell nobody anything.
        f.debug_struct("Row")
            .field("sealed", &format_args!("{} bytes", self.sealed.len()))
            .field("index", &self.index)
            .finish()
    }
}

/// By what sessions can be found besides their keys. Hashes only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// SHA-256 over issuer and subject: all sessions of one user.
    pub subject: [u8; 32],
    /// SHA-256 over issuer and the provider's session id (`sid`), where there is one.
    pub provider_session: Option<[u8; 32]>,
    /// When to see whether the session is over: [`Store::ending`] finds it by that.
    pub ends_at: Timestamp,
}

/// Grows with every write to a row; what compare-and-set compares. Starts at 1.
pub type Revision = u64;

/// What is left of a session that ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Why it ended.
    pub reason: EndReason,
    /// When it ended.
    pub ended_at: Timestamp,
}

/// What is left to read of a session that ended, sealed by the engine: who it was and what happened to it. `None` where
/// nothing is known of it.
pub type Note = Option<Vec<u8>>;

/// What [`Store::list`] tells of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listed {
    /// A session.
    Live(Row, Revision),
    /// A session that ended, and the note that its end was given.
    Ended(Tombstone, Note),
}

/// What a store knows under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// A session.
    Live(Row, Revision),
    /// A session that ended.
    Ended(Tombstone),
    /// Nothing.
    Unknown,
}

/// The answer to [`Store::insert`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// Kept, at revision 1.
    Done,
    /// There is a session under this key already; nothing was written.
    Exists,
    /// A session of this key ended; nothing was written.
    Ended(Tombstone),
}

/// The answer to [`Store::replace`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replaced {
    /// Written; this is the new revision.
    Done(Revision),
    /// The row is at another revision; nothing was written. This is what is there.
    Conflict(Row, Revision),
    /// The session ended; nothing was written.
    Ended(Tombstone),
    /// There is no such session; nothing was written.
    Unknown,
}

/// The answer to [`Store::end`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Ended by this call; this is what it held.
    Now(Row),
    /// It had ended before; the first tombstone stays.
    Before(Tombstone),
    /// There was none. The tombstone was written all the same, so a login in flight cannot create it afterwards.
    Unknown,
}

/// The answer to [`Store::end_at`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndedAt {
    /// Ended by this call.
    Now,
    /// The row is at another revision; nothing was written. This is what is there.
    Conflict(Row, Revision),
    /// It had ended before; the first tombstone stays.
    Before(Tombstone),
    /// There was none; nothing was written.
    Unknown,
}

/// The answer to [`Store::reseal`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resealed {
    /// It is there in its new form.
    Done,
    /// Something else is there meanwhile, or nothing any more; nothing was written.
    Overtaken,
}

/// Why a store could not answer. The session is neither known to live nor to have ended.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Cannot be opened: path, permission, not a database.
    #[error("cannot open the session store {location}")]
    Open {
        /// Where it is.
        location: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Written by a later version of freshgate.
    #[error("the session store {location} has schema {found}, this version knows up to {known}")]
    NewerSchema {
        /// Where it is.
        location: String,
        /// Its schema version.
        found: u32,
        /// The latest that this version knows.
        known: u32,
    },
    /// Failed while at work.
    #[error("the session store failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// One write to a store, as [`Store::changes_since`] tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The session was kept, or written over; it is now, or was for a moment, at this revision.
    Written(SessionKey, Revision),
    /// The session ended. [`Store::read`] tells why.
    Ended(SessionKey),
}

/// A place in the sequence of all writes to one store, whichever process made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position(u64);

/// The answer to [`Store::changes_since`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The writes after the position that was asked for, in the order in which they were made.
    pub list: Vec<Change>,
    /// The position is too long ago, or not from this store: `list` is empty, and anything may have changed.
    pub missed: bool,
    /// Ask from here the next time.
    pub position: Position,
}

/// How many of the last writes a store can tell of: five seconds of a million sessions that are all in use.
const KEPT_CHANGES: u64 = 16_384;

/// Keeps sessions. Every method is atomic, and durable when it answers (for a store that outlives the process). What one
/// handle was answered, every other handle on the same store sees from then on.
///
/// Dropping a returned future midway is safe: the operation happens whole or not at all. It may happen after the drop.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Keeps a new session.
    async fn insert(&self, key: SessionKey, row: Row) -> Result<Inserted, StoreError>;

    /// Looks a session up.
    async fn read(&self, key: SessionKey) -> Result<Found, StoreError>;

    /// Writes over a session that is still at `expected`: row and index change together.
    async fn replace(&self, key: SessionKey, expected: Revision, row: Row) -> Result<Replaced, StoreError>;

    /// Ends a session: its row goes, `tombstone` and `note` stay until `keep_until` at least (the latest one of all
    /// calls). The first note stays with the first tombstone.
    async fn end(
        &self,
        key: SessionKey,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<Ended, StoreError>;

    /// Ends a session that is still at `expected`: for a reason that a later write may have overcome.
    async fn end_at(
        &self,
        key: SessionKey,
        expected: Revision,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<EndedAt, StoreError>;

    /// Writes the same content in another form: `sealed` takes the place of `before`, be that a live session's record or an
    /// ended one's note, if `before` is what is there. What the session says stays as it is, so its revision does too, no
    /// update in flight is overtaken by this, and no [`Change`] is told.
    async fn reseal(&self, key: SessionKey, before: Vec<u8>, sealed: Vec<u8>)
    -> Result<Resealed, StoreError>;

    /// Up to `limit` sessions, live and ended, in the order of their keys, those after `after`. Ask again after the last
    /// key of a page; an empty page is the end. Sessions that come and go meanwhile may be in it or not.
    async fn list(
        &self,
        after: Option<SessionKey>,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Listed)>, StoreError>;

    /// The keys of all live sessions of one user ([`Index::subject`]).
    async fn of_subject(&self, subject: [u8; 32]) -> Result<Vec<SessionKey>, StoreError>;

    /// The keys of all live sessions of one session at the provider ([`Index::provider_session`]).
    async fn of_provider_session(&self, sid: [u8; 32]) -> Result<Vec<SessionKey>, StoreError>;

    /// Remembers under `name`, a hash, that something happened at `at`, until `keep_until` at least. Yields what was
    /// remembered before: of several times the latest counts, of those to keep it until as well. No session is touched,
    /// and nothing of it is told as a change.
    async fn mark(
        &self,
        name: [u8; 32],
        at: Timestamp,
        keep_until: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError>;

    /// When what is remembered under `name` happened. `None`: nothing is, or it was swept.
    async fn marked(&self, name: [u8; 32]) -> Result<Option<Timestamp>, StoreError>;

    /// Live sessions whose `ends_at` is `until` or earlier, the earliest first, `limit` at most.
    ///
    /// Costs what it yields, however many sessions there are.
    async fn ending(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Timestamp)>, StoreError>;

    /// Forgets up to `limit` tombstones and marks whose `keep_until` is `now` or earlier; tells how many went. Other writes wait
    /// meanwhile: ask for some hundreds at a time, again and again. A session that lives is never forgotten.
    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// What was written since `position`, by whichever process: for a cache of rows, and to tell of sessions that another
    /// process ended. Without a position: nothing, only where the sequence stands now. Forgetting is no change.
    ///
    /// Costs one small read, so that it can be asked several times a second. A cache takes its first position before it
    /// reads its first row.
    async fn changes_since(&self, position: Option<Position>) -> Result<Changes, StoreError>;
}
