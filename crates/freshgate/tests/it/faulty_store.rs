//! A store that fails, or answers late, when a test wants it to.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use async_trait::async_trait;
use freshgate::{
    Timestamp,
    session::SessionKey,
    store::{
        Changes, Ended, EndedAt, Found, Inserted, Listed, Note, Position, Replaced, Resealed, Revision, Row,
        Store, StoreError, Tombstone,
    },
};
use tokio::sync::Semaphore;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Read,
    Replace,
    End,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing is done.
    Fails,
    /// It is done, and the answer says that it failed.
    FailsAfterwards,
    /// It is done, and answered only after [`FaultyStore::release`].
    AnsweredLate,
}

pub(crate) struct FaultyStore {
    store: Arc<dyn Store>,
    faults: Mutex<VecDeque<(Operation, Fault)>>,
    answers: Semaphore,
    waiting: AtomicUsize,
    down: AtomicBool,
    damaged: Mutex<Option<SessionKey>>,
}

impl FaultyStore {
    pub(crate) fn on(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            faults: Mutex::default(),
            answers: Semaphore::new(0),
            waiting: AtomicUsize::new(0),
            down: AtomicBool::new(false),
            damaged: Mutex::default(),
        })
    }

    /// What happens to the next operation of this kind, after what was said of it before.
    pub(crate) fn next(&self, operation: Operation, fault: Fault) {
        self.faults.lock().unwrap().push_back((operation, fault));
    }

    /// While it is down, every read, replacement and end fails.
    pub(crate) fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// This one session cannot be read from now on.
    pub(crate) fn damage(&self, key: SessionKey) {
        *self.damaged.lock().unwrap() = Some(key);
    }

    /// How many answers are waiting.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Lets one answer go that waits.
    pub(crate) fn release(&self) {
        self.answers.add_permits(1);
    }

    async fn operate<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(StoreError::Failed("it is down, as the test wants".into()));
        }
        let fault = {
            let mut faults = self.faults.lock().unwrap();
            let at = faults.iter().position(|(of, _)| *of == operation);
            at.and_then(|at| faults.remove(at)).map(|(_, fault)| fault)
        };
        match fault {
            None => work.await,
            Some(Fault::Fails) => Err(StoreError::Failed("as the test wants".into())),
            Some(Fault::FailsAfterwards) => {
                work.await?;
                Err(StoreError::Failed("as the test wants, though it is done".into()))
            }
            Some(Fault::AnsweredLate) => {
                let answer = work.await;
                self.waiting.fetch_add(1, Ordering::SeqCst);
                self.answers.acquire().await.unwrap().forget();
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                answer
            }
        }
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn insert(&self, key: SessionKey, row: Row) -> Result<Inserted, StoreError> {
        self.store.insert(key, row).await
    }

    async fn read(&self, key: SessionKey) -> Result<Found, StoreError> {
        if *self.damaged.lock().unwrap() == Some(key) {
            return Err(StoreError::Failed("a page is damaged, as the test wants".into()));
        }
        self.operate(Operation::Read, self.store.read(key)).await
    }

    async fn replace(&self, key: SessionKey, expected: Revision, row: Row) -> Result<Replaced, StoreError> {
        self.operate(Operation::Replace, self.store.replace(key, expected, row)).await
    }

    async fn end(
        &self,
        key: SessionKey,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<Ended, StoreError> {
        self.operate(Operation::End, self.store.end(key, tombstone, keep_until, note)).await
    }

    async fn end_at(
        &self,
        key: SessionKey,
        expected: Revision,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<EndedAt, StoreError> {
        self.operate(Operation::End, self.store.end_at(key, expected, tombstone, keep_until, note)).await
    }

    async fn reseal(
        &self,
        key: SessionKey,
        before: Vec<u8>,
        sealed: Vec<u8>,
    ) -> Result<Resealed, StoreError> {
        self.store.reseal(key, before, sealed).await
    }

    async fn list(
        &self,
        after: Option<SessionKey>,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Listed)>, StoreError> {
        self.store.list(after, limit).await
    }

    async fn of_subject(&self, subject: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        self.store.of_subject(subject).await
    }

    async fn of_provider_session(&self, sid: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        self.store.of_provider_session(sid).await
    }

    async fn ending(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Timestamp)>, StoreError> {
        self.store.ending(until, limit).await
    }

    async fn mark(
        &self,
        name: [u8; 32],
        at: Timestamp,
        keep_until: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.store.mark(name, at, keep_until).await
    }

    async fn marked(&self, name: [u8; 32]) -> Result<Option<Timestamp>, StoreError> {
        self.store.marked(name).await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.store.sweep(now, limit).await
    }

    async fn changes_since(&self, position: Option<Position>) -> Result<Changes, StoreError> {
        self.store.changes_since(position).await
    }
}
