//! Leaves other processes that write to the same file their turn.
//!
//! SQLite has no queue for its write lock: whoever waits tries again and again. A writer with much to do takes the lock
//! again some microseconds after it let go of it, and the others may miss that moment for seconds.

use std::time::{Duration, Instant};

use rusqlite::Connection;

/// How often a connection tries again that waits for a lock. SQLite's own pauses grow to 100 ms.
const TRY_AGAIN: Duration = Duration::from_micros(500);

/// How long an operation waits for another process to finish its transaction, which takes milliseconds.
pub(super) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The pause after a commit while others write: enough for one of them to try again.
const GAP: Duration = Duration::from_millis(1);

/// For how long others are expected to go on writing.
const REMEMBERED: Duration = Duration::from_secs(1);

/// Makes a connection wait for locks that other connections hold.
pub(super) fn wait_for_others(connection: &mut Connection) -> rusqlite::Result<()> {
    let mut since = Instant::now();
    connection.busy_handler(Some(move |tries| {
        if tries == 0 {
            since = Instant::now();
        }
        std::thread::sleep(TRY_AGAIN);
        since.elapsed() < BUSY_TIMEOUT
    }))
}

/// What the writer knows of other writers.
#[derive(Default)]
pub(super) struct Neighbours {
    data_version: Option<i64>,
    seen: Option<Instant>,
}

impl Neighbours {
    /// Looks whether someone else wrote since the last time. Called within the writer's transactions.
    pub(super) fn look(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        // Changes with the commits of all other connections, and not with those of this one.
        let version = connection.prepare_cached("PRAGMA data_version")?.query_row([], |row| row.get(0))?;
        if self.data_version.replace(version).is_some_and(|before| before != version) {
            self.seen = Some(Instant::now());
        }
        Ok(())
    }

    /// Called after a commit.
    pub(super) fn give_way(&self) {
        if self.seen.is_some_and(|seen| seen.elapsed() < REMEMBERED) {
            std::thread::sleep(GAP);
        }
    }
}
