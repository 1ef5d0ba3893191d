//! When a session is over because nobody uses it.
//!
//! The last use is part of the record, so that it holds for every engine on the store and over a restart. It is written
//! only now and then: a session that is in use costs one write a minute at most. A session therefore ends up to a minute
//! (or a tenth of the idle timeout, if that is less) later than the timeout says, and never earlier.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use freshgate_oidc::Timestamp;

use super::{
    Engine, Record,
    sessions::{EndedAt, Lookup, Replaced},
};
use crate::{
    session::{EndReason, OpenSession, SessionKey, SessionPolicy},
    store::{Revision, StoreError, Tombstone},
};

/// A use is not written within so long of the last that was.
const LONGEST_STEP: Duration = Duration::from_secs(60);

fn step(idle_timeout: Duration) -> Duration {
    (idle_timeout / 10).min(LONGEST_STEP)
}

/// Why a session is over at `now`, if it is: a pure function of (session, now, policy).
pub(super) fn over(record: &Record, now: Timestamp, policy: &SessionPolicy) -> Option<Tombstone> {
    if now >= record.ends_at {
        return Some(Tombstone { reason: EndReason::Lifetime, ended_at: record.ends_at });
    }
    let idle_at = idle_at(record.last_used?, policy)?;
    (now >= idle_at).then_some(Tombstone { reason: EndReason::Idle, ended_at: idle_at })
}

/// When a session is idle that was used last at `last_used`.
fn idle_at(last_used: Timestamp, policy: &SessionPolicy) -> Option<Timestamp> {
    let idle_timeout = policy.idle_timeout?;
    Some(last_used + idle_timeout + step(idle_timeout))
}

/// Whether a use at `now` is to be written.
fn is_due(record: &Record, now: Timestamp, idle_timeout: Duration) -> bool {
    record.last_used.is_none_or(|last_used| now >= last_used + step(idle_timeout))
}

/// The sessions whose use is being written just now: of many requests at once, one writes.
#[derive(Default)]
pub(super) struct UsesUnderWay(Mutex<HashSet<SessionKey>>);

impl UsesUnderWay {
    fn keys(&self) -> MutexGuard<'_, HashSet<SessionKey>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes its session out when dropped.
struct UnderWay {
    engine: Engine,
    key: SessionKey,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.engine.0.uses.keys().remove(&self.key);
    }
}

impl Engine {
    /// When a session is over if nobody uses it any more. Use puts that off, here and on other engines: whoever waits for it
    /// opens the session then, which ends one that is over, and asks again. `None`: there is no idle timeout.
    pub fn over_unused_at(&self, session: &OpenSession) -> Option<Timestamp> {
        let record = &session.0;
        // From before there was an idle timeout: it counts from now on.
        let last_used = record.last_used.unwrap_or_else(|| self.0.clock.now());
        idle_at(last_used, &self.0.policy).map(|idle_at| idle_at.min(record.ends_at))
    }

    /// Notes that the user uses the session: from now on it is not idle. Costs a look into memory, and now and then a
    /// write to the store, for which nobody waits.
    pub(super) fn put_off_idling(&self, key: SessionKey) {
        let Some(idle_timeout) = self.0.policy.idle_timeout else { return };
        match self.0.sessions.in_memory(key) {
            Some(Lookup::Live(record, _)) if is_due(&record, self.0.clock.now(), idle_timeout) => {}
            Some(_) => return,
            None => {}
        }
        if !self.0.uses.keys().insert(key) {
            return;
        }
        let under_way = UnderWay { engine: self.clone(), key };
        self.start(async move {
            if let Err(error) = under_way.engine.write_use(key, idle_timeout).await {
                // The next request tries again; the store's trouble is told by whoever needs an answer from it.
                let error = &error as &dyn std::error::Error;
                tracing::debug!(session = %key.short(), error, "the use of a session was not written");
            }
        });
    }

    async fn write_use(&self, key: SessionKey, idle_timeout: Duration) -> Result<(), StoreError> {
        let mut lookup = self.0.sessions.read(key).await?;
        while let Lookup::Live(record, revision) = lookup {
            let now = self.0.clock.now();
            // Whoever is over stays so.
            if !is_due(&record, now, idle_timeout) || over(&record, now, &self.0.policy).is_some() {
                break;
            }
            let used = Record { last_used: Some(now), ..(*record).clone() };
            lookup = match self.0.sessions.replace(&record, used, revision).await? {
                Replaced::Conflict(record, revision) => Lookup::Live(record, revision),
                Replaced::Done(..) | Replaced::Ended(_) | Replaced::Unknown => break,
            };
        }
        Ok(())
    }

    /// Ends a session that is over. One that is idle may be used on another engine at this moment: then it lives on, as
    /// what this yields says.
    pub(super) async fn end_over(
        &self,
        record: &Record,
        revision: Revision,
        reason: EndReason,
    ) -> Result<Lookup, StoreError> {
        if reason != EndReason::Idle {
            self.end(record.key, reason).await?;
            // It may have ended before, for another reason.
            return self.0.sessions.read(record.key).await;
        }
        Ok(match self.end_at(record, revision, reason).await? {
            EndedAt::Now => Lookup::Ended(Tombstone { reason, ended_at: self.0.clock.now() }),
            EndedAt::Conflict(record, revision) => Lookup::Live(record, revision),
            EndedAt::Before(tombstone) => Lookup::Ended(tombstone),
            EndedAt::Unknown => Lookup::Unknown,
        })
    }
}
