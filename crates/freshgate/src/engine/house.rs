//! Ends sessions when their time is over, and forgets what is left of ended ones when it was kept for long enough.
//!
//! Once a minute the store is asked which sessions end before the next time, which is one question to an index however many
//! sessions there are, and each of those is ended at its moment. Nobody need look for a session to end, and nobody need
//! look at all of them.

use std::time::Duration;

use freshgate_oidc::Timestamp;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::{
    sync::oneshot::{self, error::RecvError},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Engine, sessions::Lookup};
use crate::{
    sabotage::Sabotage,
    session::{EndReason, SessionKey},
    store::StoreError,
};

/// How far the store is asked ahead.
const ROUND: Duration = Duration::from_secs(60);
/// How many sessions, or tombstones, one question to the store is about.
const BATCH: usize = 500;
/// How many sessions are ended at once: so many share a write to the disk.
const AT_ONCE: usize = 64;
/// How long to sleep at most: the clock may be set meanwhile, and a machine that slept wakes up late.
const LONGEST_NAP: Duration = Duration::from_secs(30);

impl Engine {
    /// Ends sessions whose time is over, and sweeps tombstones that were kept for long enough out of the store, until
    /// `stop`. Spawn it once.
    pub async fn keep_house(self, stop: CancellationToken) {
        if self.sabotaged(Sabotage::HouseNotKept) {
            return;
        }
        // A session that begins after a round was planned ends after it.
        let round = ROUND.min(self.0.policy.absolute_lifetime).max(Duration::from_secs(1));
        let rounds = async {
            loop {
                let next = Instant::now() + round;
                if let Err(error) = self.keep_house_until(self.0.clock.now() + round).await {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "sessions whose time is over could not be ended or forgotten");
                }
                sleep_until(next).await;
            }
        };
        stop.run_until_cancelled(rounds).await;
    }

    async fn keep_house_until(&self, until: Timestamp) -> Result<(), StoreError> {
        while self.0.store.sweep(self.0.clock.now(), BATCH).await? == BATCH {}
        loop {
            let ending = self.0.store.ending(until, BATCH).await?;
            let last = ending.len() < BATCH;
            self.end_each_at_its_moment(ending).await?;
            if last {
                return Ok(());
            }
        }
    }

    async fn end_each_at_its_moment(&self, ending: Vec<(SessionKey, Timestamp)>) -> Result<(), StoreError> {
        let mut ends = FuturesUnordered::new();
        let mut outcome = Ok(());
        for (key, at) in ending {
            self.sleep_until(at).await;
            while ends.len() >= AT_ONCE {
                settle(ends.next().await, &mut outcome);
            }
            let (sender, ended) = oneshot::channel();
            let engine = self.clone();
            self.start(async move {
                // Whoever keeps house may have stopped.
                let _ = sender.send(engine.end_if_over(key).await);
            });
            ends.push(ended);
        }
        while let Some(ended) = ends.next().await {
            settle(Some(ended), &mut outcome);
        }
        outcome
    }

    async fn end_if_over(&self, key: SessionKey) -> Result<(), StoreError> {
        let reason = match self.0.sessions.read_store(key).await? {
            Lookup::Live(record, _) => self.over(&record).map(|tombstone| tombstone.reason),
            Lookup::Ended(_) => None,
            // A record that does not open. It ends when the store says.
            Lookup::Unknown => Some(EndReason::Lifetime),
        };
        if let Some(reason) = reason {
            self.end(key, reason).await?;
        }
        Ok(())
    }

    async fn sleep_until(&self, at: Timestamp) {
        loop {
            let now = self.0.clock.now();
            if now >= at {
                return;
            }
            sleep(at.saturating_since(now).min(LONGEST_NAP)).await;
        }
    }
}

/// The first failure counts. What failed is found again in the next round.
fn settle(ended: Option<Result<Result<(), StoreError>, RecvError>>, outcome: &mut Result<(), StoreError>) {
    match ended {
        Some(Ok(Err(error))) if outcome.is_ok() => *outcome = Err(error),
        Some(Err(_gone)) => tracing::error!("ending a session broke off"),
        _ => {}
    }
}
