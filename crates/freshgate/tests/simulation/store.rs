//! The store that the engines of a run share: slow, and now and then at fault.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use freshgate::{
    Timestamp,
    keyring::{Keyring, Purpose},
    session::SessionKey,
    store::{
        Changes, Ended, EndedAt, Found, Inserted, Listed, MemoryStore, Note, Position, Replaced, Resealed,
        Revision, Row, Store, StoreError, Tombstone,
    },
};
use tokio::time::Instant;

use crate::{
    book::{self, Book},
    executor::{Owner, give_way},
    provider::Provider,
    world::{Moment, World},
};

/// How long a store waits for others before it gives up, as SQLite does.
const BUSY: Duration = Duration::from_secs(5);

/// One engine's handle.
#[derive(Clone)]
pub(crate) struct SharedStore {
    pub(crate) world: Arc<World>,
    pub(crate) book: Arc<Book>,
    pub(crate) provider: Arc<Provider>,
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) rows: MemoryStore,
    pub(crate) by: Owner,
}

fn failed() -> StoreError {
    StoreError::Failed("as the simulation wants".into())
}

impl SharedStore {
    /// An operation goes on if its caller leaves, and may fail before or after it did what it should.
    async fn operation<T: Send + 'static>(
        &self,
        effect: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (world, by) = (self.world.clone(), self.by);
        let dies = world.call_begins(by);
        self.world
            .on_its_own(async move {
                world.dawdle(8).await;
                if dies == Some(Moment::BeforeEffect) {
                    world.dies_now(by);
                    return Err(failed());
                }
                let percent = world.dealt.store_faults;
                let is_cut_off = world.store_is_away(by).is_some_and(|reach| !world.chance.percent(reach));
                if world.fault("store failed", percent) || is_cut_off {
                    world.store_fails_until(by, Instant::now());
                    return Err(failed());
                }
                let done = effect.await;
                if dies == Some(Moment::AfterEffect) {
                    world.dies_now(by);
                }
                world.dawdle(8).await;
                if world.fault("store failed after writing", percent) || world.store_is_away(by).is_some() {
                    world.store_fails_until(by, Instant::now());
                    return Err(failed());
                }
                done
            })
            .await
    }

    /// A write that waits for others, until it gives up.
    async fn write<T: Send + 'static>(
        &self,
        effect: impl Future<Output = Result<T, StoreError>> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (world, by) = (self.world.clone(), self.by);
        let busy = world.fault("store busy", world.dealt.busy);
        self.operation(async move {
            if busy {
                // From now on, though its caller learns of it only then.
                world.store_fails_until(by, Instant::now() + BUSY);
                tokio::time::sleep(BUSY).await;
                return Err(failed());
            }
            effect.await
        })
        .await
    }

    fn look_into(&self, key: SessionKey, row: &Row) -> book::Row {
        let plain =
            self.keyring.open(Purpose::SessionRecord, key.as_bytes(), &row.sealed).expect("sealed by us");
        let record: serde_json::Value = serde_json::from_slice(&plain).expect("written by us");
        let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        let lease = &record["refresh"]["lease"];
        book::Row {
            intent: (lease["settled"] == false)
                .then(|| lease["holder"].as_str().unwrap_or_default().to_owned()),
            refresh_token: text("refresh_token"),
            access_token: text("access_token"),
            answers_lost: record["refresh"]["answers_lost"].as_u64().unwrap_or_default(),
            may_be_lost: record["refresh"]["answers_lost"].as_u64().unwrap_or_default() > 0
                || lease["settled"] == false,
            generation: record["generation"].as_u64().unwrap_or_default(),
            ends_at: row.index.ends_at.as_unix_millis() / 1000,
        }
    }

    fn written(&self, key: SessionKey, row: &Row) {
        let row = self.look_into(key, row);
        let (by, book) = (self.by, &self.book);
        self.world.note(|| {
            format!(
                "store: engine {by} wrote {} {} generation {}",
                row.refresh_token, row.access_token, row.generation
            )
        });
        let tainted = self.provider.is_tainted(&row.access_token);
        book.written(key, row, by, tainted);
    }

    fn ended(&self, key: SessionKey, tombstone: Tombstone) {
        let by = self.by;
        self.world.note(|| format!("store: engine {by} ended {key}: {}", tombstone.reason.code()));
        self.book.ended(key, tombstone.reason, by, |token| self.provider.is_good(token));
    }
}

#[async_trait]
impl Store for SharedStore {
    async fn insert(&self, key: SessionKey, row: Row) -> Result<Inserted, StoreError> {
        let this = self.clone();
        self.write(async move {
            let inserted = this.rows.insert(key, row.clone()).await?;
            if inserted == Inserted::Done {
                this.written(key, &row);
            }
            Ok(inserted)
        })
        .await
    }

    async fn read(&self, key: SessionKey) -> Result<Found, StoreError> {
        let this = self.clone();
        self.operation(async move { this.rows.read(key).await }).await
    }

    async fn replace(&self, key: SessionKey, expected: Revision, row: Row) -> Result<Replaced, StoreError> {
        let this = self.clone();
        self.write(async move {
            let replaced = this.rows.replace(key, expected, row.clone()).await?;
            if let Replaced::Done(_) = replaced {
                this.written(key, &row);
            }
            Ok(replaced)
        })
        .await
    }

    async fn end(
        &self,
        key: SessionKey,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<Ended, StoreError> {
        let this = self.clone();
        self.write(async move {
            let ended = this.rows.end(key, tombstone, keep_until, note).await?;
            if let Ended::Now(_) = ended {
                this.ended(key, tombstone);
            }
            Ok(ended)
        })
        .await
    }

    async fn end_at(
        &self,
        key: SessionKey,
        expected: Revision,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<EndedAt, StoreError> {
        let this = self.clone();
        self.write(async move {
            let ended = this.rows.end_at(key, expected, tombstone, keep_until, note).await?;
            if let EndedAt::Now = ended {
                this.ended(key, tombstone);
            }
            Ok(ended)
        })
        .await
    }

    async fn reseal(
        &self,
        key: SessionKey,
        before: Vec<u8>,
        sealed: Vec<u8>,
    ) -> Result<Resealed, StoreError> {
        let this = self.clone();
        self.operation(async move { this.rows.reseal(key, before, sealed).await }).await
    }

    async fn list(
        &self,
        after: Option<SessionKey>,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Listed)>, StoreError> {
        let this = self.clone();
        self.operation(async move { this.rows.list(after, limit).await }).await
    }

    async fn of_subject(&self, subject: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        let this = self.clone();
        self.operation(async move { this.rows.of_subject(subject).await }).await
    }

    async fn of_provider_session(&self, sid: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        let this = self.clone();
        self.operation(async move { this.rows.of_provider_session(sid).await }).await
    }

    async fn mark(
        &self,
        name: [u8; 32],
        at: Timestamp,
        keep_until: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let this = self.clone();
        self.operation(async move { this.rows.mark(name, at, keep_until).await }).await
    }

    async fn marked(&self, name: [u8; 32]) -> Result<Option<Timestamp>, StoreError> {
        let this = self.clone();
        self.operation(async move { this.rows.marked(name).await }).await
    }

    async fn ending(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Timestamp)>, StoreError> {
        let this = self.clone();
        self.operation(async move { this.rows.ending(until, limit).await }).await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let this = self.clone();
        self.operation(async move { this.rows.sweep(now, limit).await }).await
    }

    async fn changes_since(&self, position: Option<Position>) -> Result<Changes, StoreError> {
        // Asked ten times a second: no task of its own.
        give_way(self.world.chance.below(2)).await;
        if self.world.fault("store failed", self.world.dealt.store_faults)
            || self.world.store_is_away(self.by).is_some()
        {
            return Err(failed());
        }
        self.rows.changes_since(position).await
    }
}
