//! Who sends the refresh token: the lease that says so, and the intent that it records.

use std::{
    convert::Infallible,
    error::Error,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use freshgate_oidc::Timestamp;
use tokio::time::Instant;

use super::{
    CLOCK_SKEW, Landed, RefreshError, RefreshFailure, RefreshOutcome, TryLater,
    flight::{Diversion, Flight, as_millis, lost_answer, no_turn},
    writing::{Fence, Held, LAST_SAVE_PATIENCE, Tries},
};
use crate::{
    engine::{
        Engine, ahead,
        flights::Ask,
        history::{HistoryEntry, HistoryEvent},
        idle,
        process::Process,
        record::{Lease, Record},
        sessions::{EndedAt, Lookup, Replaced},
    },
    freshness::{self, Freshness},
    landmark::Landmark,
    provider::Turn,
    sabotage::Sabotage,
    session::{EndReason, OpenSession},
    tasks::Task,
};

/// How long a lease is good without being renewed.
pub(in crate::engine) const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed while the request is under way.
const RENEWAL: Duration = Duration::from_secs(3);
/// After a renewal that failed it is tried again this soon.
const RENEWAL_AGAIN: Duration = Duration::from_millis(250);
/// How often intents under which nothing was sent are tried to be given back while the store fails …
const GIVING_BACK: Duration = Duration::from_secs(5);
/// … and once the engine is stopping.
const GIVING_BACK_AT_THE_LAST: Duration = Duration::from_millis(250);
/// How often one who waits for another engine's flight looks whether it has landed.
const LEASE_POLL: Duration = Duration::from_millis(50);
/// What the history says of a refresh whose flight died, perhaps after sending.
const ABANDONED: &str = "abandoned";

/// What the first step found.
pub(super) enum Boarding {
    /// The token lives long enough for those who asked.
    NoRequest(Landed),
    /// The lease is ours: nobody else sends the refresh token. And it is our turn to ask the provider, if there is one.
    Leased(Held, Option<Turn>),
}

/// A session that another flight has a lease on, as one saw it first.
struct Watched {
    lease: Lease,
    since: Instant,
}

impl Engine {
    /// Whether it is certain that the flight that has a lease is over: it was one of this engine, which has one at a time for a
    /// session, or its process is gone.
    pub(in crate::engine) fn has_died(&self, lease: &Lease) -> bool {
        let is_ours = lease.holder.split('/').next() == Some(self.0.name.as_str());
        let process_is_gone = |here: &Process| lease.process.as_ref().is_some_and(|it| it.has_died(here));
        is_ours || self.0.process.as_ref().is_some_and(process_is_gone)
    }

    /// Whether it is certain that the process of the flight that has a lease is alive. It may stand still, and what flew in it
    /// may be over. Engines of one process know no more of each other than of those elsewhere.
    fn lives_elsewhere(&self, lease: &Lease) -> bool {
        let process_is_there =
            |here: &Process| lease.process.as_ref().is_some_and(|it| it != here && it.is_alive(here));
        self.0.process.as_ref().is_some_and(process_is_there)
    }
}

/// Gives back the intents under which nothing was sent, as soon as the store answers, until there are none: whoever else
/// finds one takes the refresh token for used. Once the engine is stopping, for a while yet.
pub(super) fn give_back_unsent_intents(engine: Engine) -> Task {
    // A flight starts it, and it flies: without a name for its type there would be no end of it.
    Box::pin(async move {
        let stopping = &engine.0.stopping;
        let mut give_up: Option<Instant> = None;
        loop {
            if give_up.is_some() {
                tokio::time::sleep(GIVING_BACK_AT_THE_LAST).await;
            } else if stopping.run_until_cancelled(tokio::time::sleep(GIVING_BACK)).await.is_none() {
                give_up = Some(Instant::now() + LAST_SAVE_PATIENCE);
            }
            let sessions = engine.0.flights.with_unsent_intents();
            if sessions.is_empty() {
                return;
            }
            for key in sessions {
                if let Err(RefreshError::TryLater(later)) = engine.fly(key, Ask::GiveBack).await
                    && matches!(later.failure, RefreshFailure::Store(_))
                {
                    break;
                }
            }
            if give_up.is_some_and(|at| Instant::now() >= at) {
                // A flight that is in the air yet may note one, for which another has its time.
                engine.0.flights.stop_giving_back();
                return;
            }
        }
    })
}

impl Flight<'_> {
    /// Decides on the session as the store has it now, and takes the lease: from then on only this flight sends the
    /// refresh token. Waits while another engine's flight has it, and for its turn to ask the provider.
    ///
    /// The turn comes first. A lease is the record of an intent, and whoever finds one of the dead must take the token for
    /// used: so none is taken that waits to be sent.
    ///
    /// Once the engine is stopping it gives up, wherever nothing is begun.
    pub(super) async fn take_lease(&self) -> Result<Boarding, Diversion> {
        let stopping = &self.engine.0.stopping;
        let mut watched: Option<Watched> = None;
        let mut turn: Option<Turn> = None;
        let mut tries = Tries::default();
        let mut lookup = self.engine.0.sessions.read_store(self.key).await.map_err(RefreshError::store)?;
        loop {
            // What the store holds counts, whatever it said when that was written.
            self.has_unsent_intent.store(false, Ordering::Relaxed);
            let held = match lookup {
                Lookup::Live(record, revision) => Held { record, revision },
                Lookup::Ended(tombstone) => return Err(RefreshError::SignInAgain(tombstone.reason).into()),
                Lookup::Unknown => return Err(RefreshError::NotSignedIn.into()),
            };
            let record = &held.record;
            let has_unsent_intent = self.has_intent(record);
            self.has_unsent_intent.store(has_unsent_intent, Ordering::Relaxed);
            if stopping.is_cancelled() {
                if has_unsent_intent {
                    self.give_back(held).await?;
                }
                return Err(RefreshError::interrupted().into());
            }
            let now = self.engine.0.clock.now();
            if let Some(over) = idle::over(record, now, &self.engine.0.policy) {
                let ended = self.engine.end_over(record, held.revision, over.reason).await;
                lookup = ended.map_err(RefreshError::store)?;
                continue;
            }
            let ask = self.crew.ask();
            if ask == Ask::GiveBack {
                let held = if has_unsent_intent { self.give_back(held).await? } else { held };
                return Ok(no_request(held, RefreshOutcome::NotNeeded));
            }
            if is_served(ask, record, now) {
                // One who waited for another engine's flight shares what it brought.
                let outcome =
                    if watched.is_some() { RefreshOutcome::Shared } else { RefreshOutcome::NotNeeded };
                return Ok(no_request(held, outcome));
            }
            if record.refresh_token.is_none() {
                return Err(RefreshError::NoRefreshToken.into());
            }
            if self.is_held_by_another(record, now, &mut watched) {
                turn = None;
                tokio::time::sleep(LEASE_POLL).await;
                lookup = match self.engine.0.sessions.read_store(self.key).await {
                    Ok(lookup) => lookup,
                    Err(error) => self.read_after(error, &mut Tries::default()).await?,
                };
                continue;
            }
            let mut taken = self.without_intents_of_the_dead(record, now);
            let provider = self.engine.0.providers.get(&record.provider);
            if let Some(provider) = provider
                && !taken.refresh.may_be_sent(lost_answer(provider, record), now)
                && !self.engine.sabotaged(Sabotage::PolicyIgnored)
            {
                tracing::warn!(session = %self.key.short(), "an answer was lost, and the refresh token cannot be sent again");
                let told = self.told(&taken, EndReason::OutcomeUnknown);
                let ended = self.engine.end_at(&told, held.revision, EndReason::OutcomeUnknown).await;
                lookup = match ended.map_err(RefreshError::store)? {
                    EndedAt::Now => return Err(RefreshError::SignInAgain(EndReason::OutcomeUnknown).into()),
                    EndedAt::Conflict(record, revision) => Lookup::Live(record, revision),
                    EndedAt::Before(tombstone) => Lookup::Ended(tombstone),
                    EndedAt::Unknown => Lookup::Unknown,
                };
                continue;
            }
            self.may_ask(ask, record, now).map_err(RefreshError::from)?;
            if let Some(provider) = provider
                && turn.is_none()
            {
                // If the engine is stopping, that is the first thing seen then.
                if let Some(taken) = stopping.run_until_cancelled(provider.take_turn(self.spread())).await {
                    turn = Some(taken.map_err(no_turn)?);
                }
                // It may have taken a while: look at everything again.
                lookup = Lookup::Live(held.record, held.revision);
                continue;
            }
            if has_unsent_intent {
                self.engine.passes(Landmark::UnsentIntentFound);
                return Ok(Boarding::Leased(held, turn));
            }
            self.has_unsent_intent.store(true, Ordering::Relaxed);
            taken.refresh.lease = Some(Lease {
                holder: self.holder.clone(),
                process: self.engine.0.process.clone(),
                since: now,
                settled: false,
                renewals: 0,
                until: now + LEASE,
            });
            let trusted = self.engine.sabotaged(Sabotage::TurnTrusted).then(|| Arc::new(taken.clone()));
            lookup = match self.engine.0.sessions.replace(record, taken, held.revision).await {
                Ok(Replaced::Done(record, revision)) => {
                    return Ok(Boarding::Leased(Held { record, revision }, turn));
                }
                Ok(Replaced::Conflict(record, revision)) => Lookup::Live(record, revision),
                Ok(Replaced::Ended(tombstone)) => match trusted {
                    None => Lookup::Ended(tombstone),
                    Some(record) => {
                        return Ok(Boarding::Leased(Held { record, revision: held.revision }, turn));
                    }
                },
                Ok(Replaced::Unknown) => Lookup::Unknown,
                // If it was written all the same, it is an intent that nobody has: see whether it is there.
                Err(error) => self.read_after(error, &mut tries).await?,
            };
        }
    }

    /// Whether another flight has the lease, and may be alive.
    fn is_held_by_another(&self, record: &Record, now: Timestamp, watched: &mut Option<Watched>) -> bool {
        let lease = record.refresh.lease.as_ref().filter(|lease| !self.engine.has_died(lease));
        let is_over = |lease: &Lease| is_over_by_any_clock(lease, now) && !self.engine.lives_elsewhere(lease);
        let may_live = |lease: &Lease| !is_over(lease) && !shows_no_sign_of_life(lease, watched);
        lease.is_some_and(may_live) && !self.engine.sabotaged(Sabotage::NoLease)
    }

    /// The record without the lease that there was. Whoever had it died, perhaps after sending: that counts, and is in the
    /// history.
    fn without_intents_of_the_dead(&self, record: &Record, now: Timestamp) -> Record {
        let mut taken = record.clone();
        if let Some(lease) = taken.refresh.lease.take()
            && !self.is_ours(&lease)
            && !lease.settled
            && !self.engine.sabotaged(Sabotage::DeadIntentForgotten)
        {
            taken.refresh.answer_lost(lease.since);
            taken.remember(HistoryEntry {
                at: now,
                what: HistoryEvent::RefreshFailed(ABANDONED.to_owned()),
                millis: as_millis(now.saturating_since(lease.since)),
                attempts: 1,
            });
        }
        taken
    }

    /// Whether the session and its refresh token may be used now, or when.
    fn may_ask(&self, ask: Ask, record: &Record, now: Timestamp) -> Result<(), TryLater> {
        let rests = record.refresh.rests_until(now).filter(|until| now < *until);
        if let Some(until) = rests
            && (ask != Ask::Forced || record.refresh.asked_to_wait)
        {
            let retry_after = until.saturating_since(now);
            return Err(TryLater { retry_after, failure: RefreshFailure::BackingOff });
        }
        if let Some(from) = self.engine.usable_from(record)
            && now < from
            && !self.engine.sabotaged(Sabotage::NotBeforeIgnored)
        {
            let retry_after = from.saturating_since(now);
            return Err(TryLater { retry_after, failure: RefreshFailure::NotYetValid });
        }
        Ok(())
    }

    /// Makes sure that the lease is still ours if it was not taken a moment ago: a process that stood still in between may
    /// have been taken for dead, and its refresh token used. What stands still after this is for the fence.
    pub(super) async fn confirm_lease(&self, held: Held) -> Result<Held, Diversion> {
        let until = self.engine.0.clock.now() + LEASE;
        let is_new = |lease: &Lease| self.is_ours(lease) && !lease.settled && until < lease.until + RENEWAL;
        if held.record.refresh.lease.as_ref().is_some_and(is_new) {
            return Ok(held);
        }
        let confirmed = self
            .write(held, Fence::Generation, None, |record| {
                if let Some(lease) = record.refresh.lease.as_mut().filter(|lease| self.is_ours(lease)) {
                    lease.settled = false;
                    lease.renewals += 1;
                    // What was sent under it before, if anything was, is on record by now.
                    lease.since = self.engine.0.clock.now();
                    lease.until = until;
                }
            })
            .await?;
        if confirmed.record.refresh.lease.as_ref().is_some_and(|lease| self.is_ours(lease)) {
            Ok(confirmed)
        } else {
            Err(Diversion::Overtaken)
        }
    }

    /// Gives back a lease under which nothing was sent: it is no intent any more.
    pub(super) async fn give_back(&self, held: Held) -> Result<Held, Diversion> {
        let give_back = |record: &mut Record| record.refresh.lease = self.others_lease(record);
        let held = self.write(held, Fence::Generation, None, give_back).await?;
        self.engine.passes(Landmark::IntentGivenBack);
        self.has_unsent_intent.store(false, Ordering::Relaxed);
        Ok(held)
    }

    /// Renews the lease until dropped. A renewal that fails is tried again soon: others take the flight for dead if they see
    /// no sign of life for as long as a lease is good, and a store may fail for half of that.
    pub(super) async fn keep_lease(&self, mut held: Held) -> Infallible {
        let mut pause = RENEWAL;
        loop {
            tokio::time::sleep(std::mem::replace(&mut pause, RENEWAL)).await;
            if self.engine.sabotaged(Sabotage::LeaseNotRenewed) {
                continue;
            }
            let until = self.engine.0.clock.now() + LEASE;
            let mut renewed = (*held.record).clone();
            match &mut renewed.refresh.lease {
                Some(lease) if self.is_ours(lease) => {
                    lease.renewals += 1;
                    lease.until = until;
                }
                // Taken over: there is nothing to renew, but the answer still counts if the fence holds.
                _ => continue,
            }
            match self.engine.0.sessions.replace(&held.record, renewed, held.revision).await {
                Ok(Replaced::Done(record, revision)) => held = Held { record, revision },
                Ok(Replaced::Conflict(record, revision)) => {
                    // Somebody wrote something else, such as the last use: that is no renewal.
                    held = Held { record, revision };
                    pause = Duration::ZERO;
                }
                Ok(Replaced::Ended(_) | Replaced::Unknown) => std::future::pending().await,
                Err(error) => {
                    pause = RENEWAL_AGAIN;
                    tracing::warn!(session = %self.key.short(), error = &error as &dyn Error, "a lease could not be renewed");
                }
            }
        }
    }

    /// Whether this flight has said that it is about to send the refresh token.
    fn has_intent(&self, record: &Record) -> bool {
        record.refresh.lease.as_ref().is_some_and(|lease| self.is_ours(lease) && !lease.settled)
    }

    pub(super) fn is_ours(&self, lease: &Lease) -> bool {
        lease.holder == self.holder
    }

    /// The lease of a flight that took ours for dead: it is not ours to give back.
    pub(super) fn others_lease(&self, record: &Record) -> Option<Lease> {
        record.refresh.lease.clone().filter(|lease| !self.is_ours(lease))
    }

    /// Whether another flight has the lease by now.
    pub(super) fn is_displaced(&self, record: &Record) -> bool {
        record.refresh.lease.as_ref().is_some_and(|lease| !self.is_ours(lease))
    }
}

fn no_request(held: Held, outcome: RefreshOutcome) -> Boarding {
    Boarding::NoRequest(Landed { session: OpenSession(held.record), outcome, stale_claims: None })
}

/// Whether the tokens that there are serve whoever asks.
fn is_served(ask: Ask, record: &Record, now: Timestamp) -> bool {
    match ask {
        Ask::Forced => false,
        Ask::IfExpiring(validity) => freshness::judge(&record.tokens, now, validity) == Freshness::Fresh,
        Ask::Ahead => !ahead::is_time(record, now),
        // It wants no tokens.
        Ask::GiveBack => true,
    }
}

/// Whether a lease is over, however far the clock of its holder may be from ours. If the clock was not set meanwhile.
fn is_over_by_any_clock(lease: &Lease, now: Timestamp) -> bool {
    now >= lease.until + CLOCK_SKEW
}

/// Whether nobody renewed a lease for as long as it is good, while one watched. What others write of the session, such as its
/// last use, is no sign of life.
fn shows_no_sign_of_life(lease: &Lease, watched: &mut Option<Watched>) -> bool {
    match watched {
        // The whole of it: a flight that starts again takes a new one under the same name.
        Some(watched) if watched.lease == *lease => watched.since.elapsed() >= LEASE,
        _ => {
            *watched = Some(Watched { lease: lease.clone(), since: Instant::now() });
            false
        }
    }
}
