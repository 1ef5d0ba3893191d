//! Sessions in one SQLite file, which may be shared by several processes on one machine.
//!
//! One thread writes: it takes the operations that wait, runs them in one transaction and answers them after the commit
//! (`writer`). A few threads read, each on a connection of its own (`readers`). `operations` holds what each method of
//! the store does in SQL, `schema` how the file is made, opened and brought up to date.

mod log;
mod neighbours;
mod operations;
mod readers;
mod schema;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use freshgate_oidc::Timestamp;

use self::{readers::Readers, writer::Writer};
use super::{
    Changes, Ended, EndedAt, Found, Inserted, Listed, Note, Position, Replaced, Resealed, Revision, Row,
    Store, StoreError, Tombstone,
};
use crate::session::SessionKey;

/// Keeps sessions in a SQLite file. A write is on disk when it is answered.
///
/// Clones share the connections. When the last one is dropped, what was asked is still carried out, in the background;
/// [`SqliteStore::close`] waits for it.
#[derive(Clone)]
pub struct SqliteStore(Arc<Parts>);

struct Parts {
    location: PathBuf,
    writer: Writer,
    readers: Readers,
}

/// What [`SqliteStore::inspect`] finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreInspection {
    /// The schema that the file has; 0 if it is empty.
    pub schema: u32,
    /// The latest schema that this version knows. A file with an earlier one is brought up to date when it is opened.
    pub known_schema: u32,
    /// How many live sessions are in it.
    pub live: u64,
    /// How many ended ones are remembered in it.
    pub ended: u64,
}

impl SqliteStore {
    /// Looks into a file without changing anything. Fails as [`SqliteStore::open`] does, and if there is no file.
    ///
    /// Blocks the thread while it does.
    pub fn inspect(path: impl AsRef<Path>) -> Result<StoreInspection, StoreError> {
        schema::inspect(path.as_ref())
    }

    /// Opens the file, and makes it where there is none: readable by this user alone, as are the directories made for it.
    ///
    /// Blocks the thread while it does, for some milliseconds: call it before serving. Another process may have the file
    /// open. Fails if the file cannot be made, read or written, is no session store, or was written by a later version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let (location, writing) = schema::open(path)?;
        let reading = (0..readers::how_many()).map(|_| schema::connect(&location));
        let reading =
            reading.collect::<Result<Vec<_>, _>>().map_err(|error| schema::cannot_open(&location, error))?;
        let writer = Writer::start(writing).map_err(|error| schema::cannot_open(&location, error))?;
        let readers = Readers::start(reading).map_err(|error| schema::cannot_open(&location, error))?;
        Ok(Self(Arc::new(Parts { location, writer, readers })))
    }

    /// Where the file is.
    pub fn location(&self) -> &Path {
        &self.0.location
    }

    /// Carries out what was asked, writes the log back into the file and lets go of it. Later calls of this and all
    /// clones fail. Dropping the future midway may leave it half closed: call again, or drop the store.
    pub async fn close(&self) {
        self.0.readers.close().await;
        // The writer goes last: the last connection to a file folds the log into it and removes the log.
        self.0.writer.close().await;
    }
}

impl std::fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqliteStore").field("location", &self.0.location).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn insert(&self, key: SessionKey, row: Row) -> Result<Inserted, StoreError> {
        self.0.writer.run(move |connection| operations::insert(connection, key, &row)).await
    }

    async fn read(&self, key: SessionKey) -> Result<Found, StoreError> {
        self.0.readers.run(move |connection| operations::read(connection, key)).await
    }

    async fn replace(&self, key: SessionKey, expected: Revision, row: Row) -> Result<Replaced, StoreError> {
        self.0.writer.run(move |connection| operations::replace(connection, key, expected, &row)).await
    }

    async fn end(
        &self,
        key: SessionKey,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<Ended, StoreError> {
        let end =
            move |connection: &_| operations::end(connection, key, tombstone, keep_until, note.as_deref());
        self.0.writer.run(end).await
    }

    async fn end_at(
        &self,
        key: SessionKey,
        expected: Revision,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<EndedAt, StoreError> {
        let end_at = move |connection: &_| {
            operations::end_at(connection, key, expected, tombstone, keep_until, note.as_deref())
        };
        self.0.writer.run(end_at).await
    }

    async fn reseal(
        &self,
        key: SessionKey,
        before: Vec<u8>,
        sealed: Vec<u8>,
    ) -> Result<Resealed, StoreError> {
        self.0.writer.run(move |connection| operations::reseal(connection, key, &before, &sealed)).await
    }

    async fn list(
        &self,
        after: Option<SessionKey>,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Listed)>, StoreError> {
        self.0.readers.run(move |connection| operations::list(connection, after, limit)).await
    }

    async fn of_subject(&self, subject: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        self.0.readers.run(move |connection| operations::of_subject(connection, &subject)).await
    }

    async fn of_provider_session(&self, sid: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        self.0.readers.run(move |connection| operations::of_provider_session(connection, &sid)).await
    }

    async fn mark(
        &self,
        name: [u8; 32],
        at: Timestamp,
        keep_until: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.0.writer.run(move |connection| operations::mark(connection, &name, at, keep_until)).await
    }

    async fn marked(&self, name: [u8; 32]) -> Result<Option<Timestamp>, StoreError> {
        self.0.readers.run(move |connection| operations::marked(connection, &name)).await
    }

    async fn ending(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Timestamp)>, StoreError> {
        self.0.readers.run(move |connection| operations::ending(connection, until, limit)).await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.0.writer.run(move |connection| operations::sweep(connection, now, limit)).await
    }

    async fn changes_since(&self, position: Option<Position>) -> Result<Changes, StoreError> {
        self.0.readers.run(move |connection| operations::changes_since(connection, position)).await
    }
}

/// Why an operation was not carried out, where SQLite is not the one to say it.
#[derive(Debug, thiserror::Error)]
enum NotRun {
    #[error("the store is closed")]
    Closed,
    #[error("the operation broke off")]
    BrokeOff,
    #[error("the transaction that held the operation was rolled back")]
    RolledBack(#[source] Arc<rusqlite::Error>),
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Failed(Box::new(error))
}
