//! Through all sessions of a store, a page at a time: a million of them are never in memory at once.

use std::{
    io::{IsTerminal as _, Write as _},
    time::{Duration, Instant},
};

use freshgate::{
    Engine,
    engine::{Known, SessionFacts, SessionReport},
    session::SessionKey,
};

use super::Failed;

/// How many sessions are read at once.
const PAGE: usize = 500;

/// A way through all sessions, in the order of their keys.
pub(super) struct Scan<'a> {
    engine: &'a Engine,
    last: Option<SessionKey>,
    read: usize,
    progress: Progress,
}

impl<'a> Scan<'a> {
    pub(super) fn new(engine: &'a Engine) -> Self {
        Self { engine, last: None, read: 0, progress: Progress::new() }
    }

    /// The next sessions; none when all were seen.
    pub(super) async fn page(&mut self) -> Result<Vec<SessionReport>, Failed> {
        let page = self.engine.reports(self.last, PAGE).await?;
        self.last = page.last().map(|report| report.key).or(self.last);
        self.read += page.len();
        self.progress.tell(self.read);
        Ok(page)
    }

    /// Takes the progress off the screen, before something else is written there.
    pub(super) fn make_way(&mut self) {
        self.progress.clear();
    }
}

impl Drop for Scan<'_> {
    fn drop(&mut self) {
        self.progress.clear();
    }
}

/// What is known of a session, if anything is.
pub(super) fn facts(report: &SessionReport) -> Option<&SessionFacts> {
    match &report.known {
        Known::All(facts) => Some(facts),
        Known::Nothing | Known::Unreadable => None,
    }
}

/// Tells a person at a terminal how far it is, once it takes long.
struct Progress {
    started: Instant,
    wanted: bool,
    shown: bool,
}

impl Progress {
    fn new() -> Self {
        Self { started: Instant::now(), wanted: std::io::stderr().is_terminal(), shown: false }
    }

    fn tell(&mut self, read: usize) {
        const LONG: Duration = Duration::from_secs(1);
        if self.wanted && self.started.elapsed() > LONG {
            // If it cannot be written, nobody misses it.
            let _ = write!(std::io::stderr(), "\r\x1b[K{read} sessions read");
            self.shown = true;
        }
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
