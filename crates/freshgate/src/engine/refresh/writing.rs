//! What a flight writes: each change on top of what others wrote meanwhile, and only while its fence holds.

use std::time::Duration;

use freshgate_oidc::{Secret, Timestamp};
use tokio::time::Instant;

use super::{
    FIRST_BACKOFF, RefreshError,
    flight::{Diversion, Flight, meaning_of_a_refusal},
};
use crate::{
    engine::{
        history::HistoryEntry,
        record::Record,
        sessions::{EndedAt, Lookup, Replaced},
    },
    landmark::Landmark,
    sabotage::Sabotage,
    session::EndReason,
    store::{Revision, StoreError, Tombstone},
};
use std::{error::Error, sync::Arc};

/// How often a store that fails is told what is known, so that it does not look like an answer that was lost. That takes
/// three seconds where it fails at once.
const STORE_TRIES: u32 = 6;
/// After the first failure of the store it is tried again this soon, then after twice as long, …
const FIRST_STORE_PAUSE: Duration = Duration::from_millis(100);
/// How long, once the engine is stopping, a rotated refresh token is still tried to be saved in a store that fails.
pub(super) const LAST_SAVE_PATIENCE: Duration = Duration::from_secs(10);

/// A record and the revision it was read at: what an update starts from.
pub(super) struct Held {
    pub(super) record: Arc<Record>,
    pub(super) revision: Revision,
}

/// What of a session must be as a flight found it, or else its write does not count.
#[derive(Clone, Copy)]
pub(super) enum Fence<'a> {
    /// The refresh token.
    RefreshToken,
    /// The refresh token, which this one takes the place of.
    Rotation(&'a Secret),
    /// That, and tokens and claims: where nothing rotates, an older answer could take the place of a newer one.
    Generation,
}

impl Fence<'_> {
    fn holds(self, found: &Record, now: &Record) -> bool {
        let same_token = found.refresh_token == now.refresh_token;
        let same_generation = found.generation == now.generation;
        match self {
            Self::RefreshToken | Self::Rotation(_) => same_token,
            Self::Generation => same_token && same_generation,
        }
    }

    /// Whether it was written before: by a write that the store said it had failed to do. Others may be at the new token by
    /// now, so nothing is written again.
    fn is_done(self, found: &Record, now: &Record) -> bool {
        let Self::Rotation(rotated) = self else { return false };
        found.generation == now.generation && now.refresh_token.as_ref() == Some(rotated)
    }
}

/// Why an update was not written.
enum Unwritten {
    /// The flight takes another course.
    Diverted(Diversion),
    /// The store failed; try again from here.
    Store(Held, StoreError),
}

impl From<Unwritten> for Diversion {
    fn from(unwritten: Unwritten) -> Self {
        match unwritten {
            Unwritten::Diverted(diversion) => diversion,
            Unwritten::Store(_, error) => RefreshError::store(error).into(),
        }
    }
}

/// How often a store failed.
#[derive(Default)]
pub(super) struct Tries(u32);

impl Tries {
    /// Waits for the next try. `false`: there is none.
    pub(super) async fn again(&mut self) -> bool {
        self.0 += 1;
        if self.0 >= STORE_TRIES {
            return false;
        }
        tokio::time::sleep(FIRST_STORE_PAUSE * 2_u32.pow(self.0 - 1)).await;
        true
    }
}

impl Flight<'_> {
    /// Saves a rotated refresh token before anything else can fail: the old one is spent, this one is all there is.
    pub(super) async fn save_rotated(
        &self,
        mut held: Held,
        refresh_token: Option<&Secret>,
    ) -> Result<Held, Diversion> {
        let provider = &held.record.provider.clone();
        let rotated = refresh_token.filter(|new| held.record.refresh_token.as_ref() != Some(*new));
        if rotated.is_none() && !held.record.refresh.may_have_been_used() {
            return Ok(held);
        }
        // Where nothing rotates there is nothing that could be lost, and tokens that are newer may be in place by now.
        let fence = rotated.map_or(Fence::Generation, Fence::Rotation);
        let mut give_up: Option<Instant> = None;
        let mut pause = FIRST_BACKOFF;
        loop {
            // While the engine runs there is no reason to give up: without this token the session is lost.
            if self.engine.0.stopping.is_cancelled() {
                give_up.get_or_insert_with(|| Instant::now() + LAST_SAVE_PATIENCE);
            }
            let saved = self.try_update(held, fence, |record| {
                if let Some(rotated) = rotated {
                    record.refresh_token = Some(rotated.clone());
                }
                record.refresh.answered();
            });
            held = match saved.await {
                Ok(held) => return Ok(held),
                Err(Unwritten::Diverted(diversion)) => {
                    if let (Diversion::Landed(RefreshError::SignInAgain(reason)), Some(rotated)) =
                        (&diversion, rotated)
                    {
                        // The one that was revoked at the end is not the one that is good now.
                        self.engine.revoke(self.key, provider, rotated.clone(), *reason);
                    }
                    return Err(diversion);
                }
                Err(Unwritten::Store(_, error)) if give_up.is_some_and(|at| Instant::now() >= at) => {
                    self.engine.passes(Landmark::LastSaveGivenUp);
                    tracing::error!(session = %self.key.short(), error = &error as &dyn Error, "a rotated refresh token could not be saved");
                    return Err(RefreshError::store(error).into());
                }
                Err(Unwritten::Store(held, error)) => {
                    self.engine.passes(Landmark::SaveRepeated);
                    tracing::warn!(session = %self.key.short(), error = &error as &dyn Error, "saving a rotated refresh token again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                    held
                }
            };
        }
    }

    /// Ends the session, unless another engine has put a newer refresh token in place of the one that this is about, or is
    /// about to: it took this flight for dead and sends the token itself. What comes of that decides.
    pub(super) async fn end(&self, mut held: Held, mut reason: EndReason) -> Diversion {
        let is_about_the_token = matches!(reason, EndReason::Refused | EndReason::OutcomeUnknown);
        let mut tries = Tries::default();
        loop {
            if is_about_the_token
                && self.is_displaced(&held.record)
                && !self.engine.sabotaged(Sabotage::DisplacedEnds)
            {
                return Diversion::Overtaken;
            }
            let told = self.told(&held.record, reason);
            held = match self.engine.end_at(&told, held.revision, reason).await {
                Ok(EndedAt::Now) => return RefreshError::SignInAgain(reason).into(),
                Ok(EndedAt::Before(tombstone)) => return RefreshError::SignInAgain(tombstone.reason).into(),
                Ok(EndedAt::Unknown) => return RefreshError::NotSignedIn.into(),
                Ok(EndedAt::Conflict(record, _)) if !Fence::Generation.holds(&held.record, &record) => {
                    return Diversion::Overtaken;
                }
                Ok(EndedAt::Conflict(record, revision)) => {
                    // Another may have lost an answer meanwhile, and given up.
                    if let (EndReason::Refused, Some(provider)) =
                        (reason, self.engine.0.providers.get(&record.provider))
                    {
                        reason = meaning_of_a_refusal(provider, &record);
                    }
                    Held { record, revision }
                }
                // If it was written all the same, the next try finds the tombstone.
                Err(_) if tries.again().await => held,
                Err(error) => return RefreshError::store(error).into(),
            };
        }
    }

    /// Notes that the refresh token may have been used. That is true of the token, whatever tokens and claims there are.
    ///
    /// A flight that took this one for dead has counted its request already, and goes on from there.
    pub(super) async fn note_lost(&self, held: Held, sent_at: Timestamp) -> Result<Held, Diversion> {
        let note = |record: &mut Record| {
            // Once, however often the store is told.
            let lease = record.refresh.lease.as_ref();
            if lease.is_some_and(|lease| self.is_ours(lease) && !lease.settled) {
                record.refresh.answer_lost(sent_at);
            }
        };
        let held = self.write(held, Fence::RefreshToken, None, note).await?;
        if self.is_displaced(&held.record) { Err(Diversion::Overtaken) } else { Ok(held) }
    }

    /// Writes a change, and what the store failed to write once more, for a while. `entry`, which the change adds to the
    /// history, tells whether it was written all the same.
    pub(super) async fn write(
        &self,
        mut held: Held,
        fence: Fence<'_>,
        entry: Option<&HistoryEntry>,
        change: impl Fn(&mut Record),
    ) -> Result<Held, Diversion> {
        let mut tries = Tries::default();
        loop {
            let (before, error) = match self.try_update(held, fence, &change).await {
                Ok(held) => return Ok(held),
                Err(Unwritten::Diverted(diversion)) => return Err(diversion),
                Err(Unwritten::Store(held, error)) => (held, error),
            };
            held = match self.read_after(error, &mut tries).await? {
                Lookup::Live(record, revision)
                    if entry.is_some_and(|entry| record.history.contains(entry)) =>
                {
                    return Ok(Held { record, revision });
                }
                Lookup::Live(record, _) if !fence.holds(&before.record, &record) => {
                    return Err(Diversion::Overtaken);
                }
                Lookup::Live(record, revision) => Held { record, revision },
                Lookup::Ended(tombstone) => return Err(RefreshError::SignInAgain(tombstone.reason).into()),
                Lookup::Unknown => return Err(RefreshError::NotSignedIn.into()),
            };
        }
    }

    /// What the store holds after it failed to say whether it did as it was told; it is asked for as long as `tries` last.
    pub(super) async fn read_after(
        &self,
        mut error: StoreError,
        tries: &mut Tries,
    ) -> Result<Lookup, RefreshError> {
        while tries.again().await {
            tracing::warn!(session = %self.key.short(), error = &error as &dyn Error, "asking the store again");
            error = match self.engine.0.sessions.read_store(self.key).await {
                Ok(lookup) => return Ok(lookup),
                Err(error) => error,
            };
        }
        self.engine.passes(Landmark::StoreGivenUp);
        Err(RefreshError::store(error))
    }

    /// Writes a change of the record, on top of what others may have written meanwhile, if the fence holds: the session
    /// still has the refresh token that this flight started from.
    async fn try_update(
        &self,
        mut held: Held,
        fence: Fence<'_>,
        change: impl Fn(&mut Record),
    ) -> Result<Held, Unwritten> {
        loop {
            let mut changed = (*held.record).clone();
            change(&mut changed);
            held = match self.engine.0.sessions.replace(&held.record, changed, held.revision).await {
                Ok(Replaced::Done(record, revision)) => return Ok(Held { record, revision }),
                Ok(Replaced::Conflict(record, revision))
                    if fence.is_done(&held.record, &record)
                        && self.engine.sabotaged(Sabotage::SaveOverIntent) =>
                {
                    Held { record, revision }
                }
                Ok(Replaced::Conflict(record, revision)) if fence.is_done(&held.record, &record) => {
                    self.engine.passes(Landmark::SaveFoundDone);
                    return Ok(Held { record, revision });
                }
                Ok(Replaced::Conflict(record, _))
                    if !fence.holds(&held.record, &record)
                        && !self.engine.sabotaged(Sabotage::LockWithoutFence) =>
                {
                    return Err(Unwritten::Diverted(Diversion::Overtaken));
                }
                Ok(Replaced::Conflict(record, revision)) => Held { record, revision },
                Ok(Replaced::Ended(Tombstone { reason, .. })) => {
                    return Err(Unwritten::Diverted(RefreshError::SignInAgain(reason).into()));
                }
                Ok(Replaced::Unknown) => return Err(Unwritten::Diverted(RefreshError::NotSignedIn.into())),
                Err(error) => return Err(Unwritten::Store(held, error)),
            };
        }
    }
}
