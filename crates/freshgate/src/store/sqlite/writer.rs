//! The one thread that writes: whatever waits goes into one transaction, and is answered after the commit.
//!
//! A commit waits for the disk (0.2 ms to 10 ms), an operation takes some tens of microseconds. So the operations that
//! arrive during one commit share the next.

use std::{
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{NotRun, StoreError, failed, log::Log, neighbours::Neighbours, operations};

/// How many operations share a commit at most: enough to hide the disk, few enough that the first does not wait for long.
const BATCH: usize = 256;

/// How many operations may wait in the queue; whoever comes then waits for a place.
const QUEUE: usize = 1024;

pub(super) struct Writer {
    queue: mpsc::Sender<Message>,
    stopped: CancellationToken,
}

enum Message {
    Run(Box<dyn Operation>),
    Close,
}

impl Writer {
    /// Starts the thread. It ends when it is told to close, or when nobody holds the writer any more.
    pub(super) fn start(mut connection: Connection) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let log = Log::watch(&mut connection)?;
        let (queue, waiting) = mpsc::channel(QUEUE);
        let stopped = CancellationToken::new();
        let stops = stopped.clone().drop_guard();
        thread::Builder::new().name("freshgate-store-writer".into()).spawn(move || {
            let _stops = stops;
            write(connection, log, waiting);
        })?;
        Ok(Self { queue, stopped })
    }

    /// Runs an operation in a transaction and answers after its commit. The operation must be whole after each of its
    /// statements, for one that fails is not undone: at most one of them writes.
    pub(super) async fn run<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { operation: Some(operation), outcome: None, answer };
        self.queue.send(Message::Run(Box::new(waiting))).await.map_err(|_| failed(NotRun::Closed))?;
        answered.await.unwrap_or_else(|_| Err(failed(NotRun::BrokeOff)))
    }

    /// Takes nothing more, and waits until all that was taken is done and the file closed.
    pub(super) async fn close(&self) {
        // Fails if it is closed already.
        let _ = self.queue.send(Message::Close).await;
        self.stopped.cancelled().await;
    }
}

/// An operation and who waits for its outcome.
trait Operation: Send {
    /// Runs it. Tells whether it went well; the outcome stays inside.
    fn run(&mut self, connection: &Connection) -> Result<(), ()>;
    /// Answers with the outcome, or with the fate of the transaction if that failed. Without this, the caller hears that
    /// the operation broke off.
    fn answer(self: Box<Self>, committed: Result<(), Arc<rusqlite::Error>>);
}

struct Waiting<T, F> {
    operation: Option<F>,
    outcome: Option<rusqlite::Result<T>>,
    answer: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Operation for Waiting<T, F>
where
    T: Send,
    F: FnOnce(&Connection) -> rusqlite::Result<T> + Send,
{
    fn run(&mut self, connection: &Connection) -> Result<(), ()> {
        let Some(operation) = self.operation.take() else { return Ok(()) };
        let outcome = self.outcome.insert(operation(connection));
        outcome.as_ref().map(|_| ()).map_err(|_| ())
    }

    fn answer(self: Box<Self>, committed: Result<(), Arc<rusqlite::Error>>) {
        let answer = match (committed, self.outcome) {
            (_, Some(Err(error))) => Err(failed(error)),
            (Ok(()), Some(Ok(outcome))) => Ok(outcome),
            (Err(error), _) => Err(failed(NotRun::RolledBack(error))),
            (Ok(()), None) => Err(failed(NotRun::BrokeOff)),
        };
        // The caller may have gone.
        let _ = self.answer.send(answer);
    }
}

fn write(mut connection: Connection, mut log: Log, mut waiting: mpsc::Receiver<Message>) {
    let mut neighbours = Neighbours::default();
    let mut messages = Vec::with_capacity(BATCH);
    while waiting.blocking_recv_many(&mut messages, BATCH) > 0 {
        let mut batch = Vec::with_capacity(messages.len());
        for message in messages.drain(..) {
            match message {
                Message::Run(operation) => batch.push(operation),
                // What is in the queue already is still taken; nothing is added to it.
                Message::Close => waiting.close(),
            }
        }
        if !batch.is_empty() {
            commit(&mut connection, &mut neighbours, batch);
            log.tend(&connection);
            neighbours.give_way();
        }
    }
    if let Err((_, error)) = connection.close() {
        tracing::warn!(error = &error as &dyn Error, "the session store did not close cleanly");
    }
}

fn commit(connection: &mut Connection, neighbours: &mut Neighbours, mut batch: Vec<Box<dyn Operation>>) {
    // A panic drops the transaction, which rolls it back, and then the batch, which tells everyone.
    let committed = catch_unwind(AssertUnwindSafe(|| run_all(connection, neighbours, &mut batch)));
    let Ok(committed) = committed else {
        tracing::error!(
            operations = batch.len(),
            "an operation of the session store panicked; none was carried out"
        );
        return;
    };
    let committed = committed.map_err(Arc::new);
    if let Err(error) = &committed {
        tracing::warn!(
            error = error as &dyn Error,
            operations = batch.len(),
            "the session store cannot write"
        );
    }
    for operation in batch {
        operation.answer(committed.clone());
    }
}

fn run_all(
    connection: &mut Connection,
    neighbours: &mut Neighbours,
    batch: &mut [Box<dyn Operation>],
) -> rusqlite::Result<()> {
    // Immediate: two processes that both read first and write later would end up waiting for each other.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    neighbours.look(&transaction)?;
    for operation in batch {
        // A failed statement undoes itself and concerns its caller alone. But some failures (disk full, I/O) make SQLite
        // give up the transaction: what runs after that would be committed one by one.
        if operation.run(&transaction).is_err() && transaction.is_autocommit() {
            return Err(rusqlite::Error::SqliteFailure(
                rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK),
                None,
            ));
        }
    }
    operations::forget_old_changes(&transaction)?;
    transaction.commit()
}
