//! The threads that read, each on a connection of its own: a read never waits for a write, nor on the async runtime.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{NotRun, StoreError, failed};

/// How many reads may wait in the queue; whoever comes then waits for a place.
const QUEUE: usize = 1024;

/// One reader per core, up to four: a read takes some ten microseconds unless it must wait for the disk.
pub(super) fn how_many() -> usize {
    thread::available_parallelism().map_or(2, usize::from).clamp(2, 4)
}

pub(super) struct Readers {
    queue: mpsc::Sender<Message>,
    stopped: CancellationToken,
}

enum Message {
    Run(Box<dyn FnOnce(&Connection) + Send>),
    Close,
}

type Waiting = Arc<Mutex<mpsc::Receiver<Message>>>;

impl Readers {
    /// Starts a thread for each connection. They end when they are told to close, or when nobody holds this any more.
    pub(super) fn start(connections: Vec<Connection>) -> std::io::Result<Self> {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let waiting: Waiting = Arc::new(Mutex::new(waiting));
        let stopped = CancellationToken::new();
        // Shared: the last thread that ends drops it.
        let stops = Arc::new(stopped.clone().drop_guard());
        for (number, connection) in connections.into_iter().enumerate() {
            let (waiting, stops) = (Arc::clone(&waiting), Arc::clone(&stops));
            thread::Builder::new().name(format!("freshgate-store-reader-{number}")).spawn(move || {
                let _stops = stops;
                read(connection, &waiting);
            })?;
        }
        Ok(Self { queue, stopped })
    }

    pub(super) async fn run<T, F>(&self, operation: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move |connection: &Connection| {
            // Nobody is harmed if a read that nobody waits for any more is left out.
            if !answer.is_closed() {
                let _ = answer.send(operation(connection));
            }
        });
        self.queue.send(Message::Run(run)).await.map_err(|_| failed(NotRun::Closed))?;
        match answered.await {
            Ok(outcome) => outcome.map_err(failed),
            Err(_) => Err(failed(NotRun::BrokeOff)),
        }
    }

    /// Takes nothing more, and waits until all that was taken is answered and the connections are closed.
    pub(super) async fn close(&self) {
        // Fails if it is closed already.
        let _ = self.queue.send(Message::Close).await;
        self.stopped.cancelled().await;
    }
}

fn read(connection: Connection, waiting: &Waiting) {
    loop {
        // One reader waits for the next message, the others for the lock: the queue has one end only.
        let message = {
            let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
            match waiting.blocking_recv() {
                None => return,
                Some(Message::Close) => {
                    waiting.close();
                    continue;
                }
                Some(Message::Run(run)) => run,
            }
        };
        // A panic drops the answer, which tells the caller.
        if catch_unwind(AssertUnwindSafe(|| message(&connection))).is_err() {
            tracing::error!("a read of the session store panicked");
        }
    }
}
