//! Through all sessions of a store, a page at a time: a million of them are never in memory at once.

use std::time::Duration;

use freshgate::{
    Engine,
    engine::{Known, SessionFacts, SessionReport},
    session::SessionKey,
};

use super::Failed;
use crate::progress::Progress;

/// How many sessions are read at once.
const PAGE: usize = 500;
/// What takes no longer needs no word on how far it is.
const SHORT: Duration = Duration::from_secs(1);

/// A way through all sessions, in the order of their keys.
pub(super) struct Scan<'a> {
    engine: &'a Engine,
    last: Option<SessionKey>,
    read: usize,
    progress: Progress,
}

impl<'a> Scan<'a> {
    pub(super) fn new(engine: &'a Engine) -> Self {
        Self { engine, last: None, read: 0, progress: Progress::after(SHORT) }
    }

    /// The next sessions; none when all were seen.
    pub(super) async fn page(&mut self) -> Result<Vec<SessionReport>, Failed> {
        let page = self.engine.reports(self.last, PAGE).await?;
        self.last = page.last().map(|report| report.key).or(self.last);
        self.read += page.len();
        self.progress.tell(|| format!("{} sessions read", self.read));
        Ok(page)
    }

    /// Takes the progress off the screen, before something else is written there.
    pub(super) fn make_way(&mut self) {
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
