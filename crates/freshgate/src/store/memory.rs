//! Sessions in this process's memory: for development, for tests, and where a restart may sign everyone out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use freshgate_oidc::Timestamp;

use super::{
    Change, Changes, Ended, EndedAt, Found, Inserted, KEPT_CHANGES, Listed, Note, Position, Replaced,
    Resealed, Revision, Row, Store, StoreError, Tombstone,
};
use crate::session::SessionKey;

/// Keeps sessions in memory. Nothing outlives the process; no operation fails.
///
/// Clones share what they hold, so several engines can be put on one store.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Contents>>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        // No operation panics between its first write and its last, so what a poisoned lock guards is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryStore").field("entries", &self.contents().entries.len()).finish()
    }
}

#[derive(Default)]
struct Contents {
    entries: BTreeMap<SessionKey, Entry>,
    by_subject: BTreeSet<([u8; 32], SessionKey)>,
    by_provider_session: BTreeSet<([u8; 32], SessionKey)>,
    /// Live sessions by `ends_at`.
    by_end: BTreeSet<(Timestamp, SessionKey)>,
    /// Tombstones by `keep_until`.
    by_keep_until: BTreeSet<(Timestamp, SessionKey)>,
    marks: BTreeMap<[u8; 32], (Timestamp, KeepUntil)>,
    marks_by_forget_at: BTreeSet<(KeepUntil, [u8; 32])>,
    /// The last writes, oldest first; the newest is at `written`.
    changes: VecDeque<Change>,
    written: u64,
}

enum Entry {
    // Shared, so that a reader copies the sealed bytes after it has let go of the lock.
    Live(Arc<Row>, Revision),
    Ended(Tombstone, KeepUntil, Note),
}

type KeepUntil = Timestamp;

impl Contents {
    fn keep(&mut self, key: SessionKey, row: Arc<Row>, revision: Revision) {
        self.by_subject.insert((row.index.subject, key));
        self.by_end.insert((row.index.ends_at, key));
        if let Some(sid) = row.index.provider_session {
            self.by_provider_session.insert((sid, key));
        }
        self.entries.insert(key, Entry::Live(row, revision));
        self.note(Change::Written(key, revision));
    }

    fn keep_tombstone(&mut self, key: SessionKey, tombstone: Tombstone, keep_until: KeepUntil, note: Note) {
        self.by_keep_until.insert((keep_until, key));
        self.entries.insert(key, Entry::Ended(tombstone, keep_until, note));
        self.note(Change::Ended(key));
    }

    fn take(&mut self, key: SessionKey) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        match &entry {
            Entry::Live(row, _) => {
                self.by_subject.remove(&(row.index.subject, key));
                self.by_end.remove(&(row.index.ends_at, key));
                if let Some(sid) = row.index.provider_session {
                    self.by_provider_session.remove(&(sid, key));
                }
            }
            Entry::Ended(_, keep_until, _) => {
                self.by_keep_until.remove(&(*keep_until, key));
            }
        }
        Some(entry)
    }

    fn note(&mut self, change: Change) {
        self.changes.push_back(change);
        self.written += 1;
        if self.changes.len() as u64 > KEPT_CHANGES {
            self.changes.pop_front();
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn insert(&self, key: SessionKey, row: Row) -> Result<Inserted, StoreError> {
        let mut contents = self.contents();
        Ok(match contents.entries.get(&key) {
            Some(Entry::Live(..)) => Inserted::Exists,
            Some(Entry::Ended(tombstone, ..)) => Inserted::Ended(*tombstone),
            None => {
                contents.keep(key, Arc::new(row), 1);
                Inserted::Done
            }
        })
    }

    async fn read(&self, key: SessionKey) -> Result<Found, StoreError> {
        let (row, revision) = match self.contents().entries.get(&key) {
            Some(Entry::Live(row, revision)) => (Arc::clone(row), *revision),
            Some(Entry::Ended(tombstone, ..)) => return Ok(Found::Ended(*tombstone)),
            None => return Ok(Found::Unknown),
        };
        Ok(Found::Live(Arc::unwrap_or_clone(row), revision))
    }

    async fn replace(&self, key: SessionKey, expected: Revision, row: Row) -> Result<Replaced, StoreError> {
        let mut contents = self.contents();
        let (there, revision) = match contents.entries.get(&key) {
            Some(Entry::Live(_, revision)) if *revision == expected => {
                contents.take(key);
                contents.keep(key, Arc::new(row), expected + 1);
                return Ok(Replaced::Done(expected + 1));
            }
            Some(Entry::Live(there, revision)) => (Arc::clone(there), *revision),
            Some(Entry::Ended(tombstone, ..)) => return Ok(Replaced::Ended(*tombstone)),
            None => return Ok(Replaced::Unknown),
        };
        drop(contents);
        Ok(Replaced::Conflict(Arc::unwrap_or_clone(there), revision))
    }

    async fn end(
        &self,
        key: SessionKey,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<Ended, StoreError> {
        let mut contents = self.contents();
        let row = match contents.entries.get_mut(&key) {
            Some(Entry::Ended(first, kept_until, _)) => {
                let (first, before) = (*first, *kept_until);
                let until = before.max(keep_until);
                *kept_until = until;
                contents.by_keep_until.remove(&(before, key));
                contents.by_keep_until.insert((until, key));
                return Ok(Ended::Before(first));
            }
            Some(Entry::Live(row, _)) => Some(Arc::clone(row)),
            None => None,
        };
        contents.take(key);
        contents.keep_tombstone(key, tombstone, keep_until, note);
        drop(contents);
        Ok(row.map_or(Ended::Unknown, |row| Ended::Now(Arc::unwrap_or_clone(row))))
    }

    async fn end_at(
        &self,
        key: SessionKey,
        expected: Revision,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<EndedAt, StoreError> {
        let mut contents = self.contents();
        match contents.entries.get(&key) {
            None => return Ok(EndedAt::Unknown),
            Some(Entry::Ended(first, ..)) => return Ok(EndedAt::Before(*first)),
            Some(Entry::Live(row, revision)) if *revision != expected => {
                return Ok(EndedAt::Conflict(Row::clone(row), *revision));
            }
            Some(Entry::Live(..)) => {}
        }
        contents.take(key);
        contents.keep_tombstone(key, tombstone, keep_until, note);
        Ok(EndedAt::Now)
    }

    async fn reseal(
        &self,
        key: SessionKey,
        before: Vec<u8>,
        sealed: Vec<u8>,
    ) -> Result<Resealed, StoreError> {
        let mut contents = self.contents();
        match contents.entries.get_mut(&key) {
            Some(Entry::Live(row, _)) if row.sealed == before => {
                *row = Arc::new(Row { sealed, index: row.index.clone() });
            }
            Some(Entry::Ended(_, _, Some(note))) if *note == before => *note = sealed,
            _ => return Ok(Resealed::Overtaken),
        }
        Ok(Resealed::Done)
    }

    async fn list(
        &self,
        after: Option<SessionKey>,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Listed)>, StoreError> {
        let contents = self.contents();
        let later = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = contents.entries.range((later, Bound::Unbounded)).take(limit);
        let page = page.map(|(key, entry)| match entry {
            Entry::Live(row, revision) => (*key, Listed::Live(Row::clone(row), *revision)),
            Entry::Ended(tombstone, _, note) => (*key, Listed::Ended(*tombstone, note.clone())),
        });
        Ok(page.collect())
    }

    async fn of_subject(&self, subject: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        Ok(keys_under(&self.contents().by_subject, subject))
    }

    async fn of_provider_session(&self, sid: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        Ok(keys_under(&self.contents().by_provider_session, sid))
    }

    async fn mark(
        &self,
        name: [u8; 32],
        at: Timestamp,
        keep_until: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let mut contents = self.contents();
        let before = contents.marks.get(&name).copied();
        let (mut latest, mut kept) = (at, keep_until);
        if let Some((at, keep_until)) = before {
            (latest, kept) = (latest.max(at), kept.max(keep_until));
            contents.marks_by_forget_at.remove(&(keep_until, name));
        }
        contents.marks.insert(name, (latest, kept));
        contents.marks_by_forget_at.insert((kept, name));
        Ok(before.map(|(at, _)| at))
    }

    async fn marked(&self, name: [u8; 32]) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.contents().marks.get(&name).map(|(at, _)| *at))
    }

    async fn ending(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Timestamp)>, StoreError> {
        let contents = self.contents();
        let ending = contents.by_end.iter().take_while(|(ends_at, _)| *ends_at <= until);
        Ok(ending.take(limit).map(|&(ends_at, key)| (key, ends_at)).collect())
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let mut contents = self.contents();
        let over = contents.by_keep_until.iter().take_while(|(keep_until, _)| *keep_until <= now);
        let over: Vec<SessionKey> = over.take(limit).map(|&(_, key)| key).collect();
        for key in &over {
            contents.take(*key);
        }
        let old = contents.marks_by_forget_at.iter().take_while(|(forget_at, _)| *forget_at <= now);
        let old: Vec<(KeepUntil, [u8; 32])> = old.take(limit - over.len()).copied().collect();
        for mark in &old {
            contents.marks_by_forget_at.remove(mark);
            contents.marks.remove(&mark.1);
        }
        Ok(over.len() + old.len())
    }

    async fn changes_since(&self, position: Option<Position>) -> Result<Changes, StoreError> {
        let contents = self.contents();
        let now = Position(contents.written);
        let Some(Position(position)) = position else {
            return Ok(Changes { list: Vec::new(), missed: false, position: now });
        };
        let news = contents.written.saturating_sub(position);
        let kept = contents.changes.len() as u64;
        let missed = position > contents.written || news > kept;
        let skipped = usize::try_from(kept.saturating_sub(news)).unwrap_or(usize::MAX);
        let list = if missed { Vec::new() } else { contents.changes.range(skipped..).copied().collect() };
        Ok(Changes { list, missed, position: now })
    }
}

fn keys_under(index: &BTreeSet<([u8; 32], SessionKey)>, hash: [u8; 32]) -> Vec<SessionKey> {
    let all = (hash, SessionKey::from_bytes([0; 32]))..=(hash, SessionKey::from_bytes([0xff; 32]));
    index.range(all).map(|&(_, key)| key).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract;

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn it_passes_the_contract() {
        contract::check(async || vec![Arc::new(MemoryStore::new()) as Arc<dyn Store>]).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn clones_share_what_they_hold() {
        contract::check(async || {
            let store = MemoryStore::new();
            vec![Arc::new(store.clone()) as Arc<dyn Store>, Arc::new(store)]
        })
        .await;
    }
}
