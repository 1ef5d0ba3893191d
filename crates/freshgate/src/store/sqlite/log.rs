//! When the write-ahead log is written back into the file, and how it is kept from growing.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use rusqlite::{Connection, DEFAULT_NAME, wal::CheckpointMode};

/// From this many pages on (16 MiB) the log is written back after a commit, as far as readers let it.
const WRITE_BACK: u32 = 4096;

/// From this many pages on (64 MiB) the writer waits for the readers to let go of the log, so that it starts over. Without
/// it, readers that never pause all at once would keep it growing.
const START_OVER: u32 = 16_384;

/// The writer's view of the log. SQLite would write it back within the commit that makes it too long, while the callers
/// wait; here it is done once they have been answered.
pub(super) struct Log {
    pages: Arc<AtomicU32>,
    next_try: u32,
}

impl Log {
    pub(super) fn watch(connection: &mut Connection) -> rusqlite::Result<Self> {
        let pages = Arc::new(AtomicU32::new(0));
        let seen = Arc::clone(&pages);
        // Takes the place of SQLite's own `wal_autocheckpoint`.
        connection.wal_hook(Some(move |_: &mut _, pages: i32| {
            seen.store(pages.unsigned_abs(), Ordering::Relaxed);
            Ok(())
        }))?;
        // A log that grew past this (by one large transaction) is cut when it starts over.
        connection.pragma_update(None, "journal_size_limit", i64::from(START_OVER) * 4096)?;
        Ok(Self { pages, next_try: WRITE_BACK })
    }

    /// Called after each commit.
    pub(super) fn tend(&mut self, connection: &Connection) {
        let pages = self.pages.load(Ordering::Relaxed);
        if pages < WRITE_BACK {
            self.next_try = WRITE_BACK;
        } else if pages >= self.next_try {
            // Another process that reads for minutes may stop us from starting over: try once per so many pages, not at
            // each commit.
            self.next_try = pages.saturating_add(WRITE_BACK);
            let mode = if pages < START_OVER { CheckpointMode::PASSIVE } else { CheckpointMode::RESTART };
            if let Err(error) = connection.wal_checkpoint_v2(DEFAULT_NAME, mode) {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    pages,
                    "the log of the session store is not written back"
                );
            }
        }
    }
}
