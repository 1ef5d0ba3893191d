//! One refresh, step by step.
//!
//! ```text
//! board a flight -> take the lease -> token request -> save the rotated refresh token -> verify -> commit -> tell everyone
//! ```
//!
//! A refresh runs in a task of its own: a caller who leaves cancels nobody. The rotated refresh token is saved before
//! anything else can fail, and nothing of an answer that a check refused is ever seen.
//!
//! Several engines may share a store. The lease says which of them sends the refresh token. It can be wrong (a process
//! that sleeps for a minute and wakes up still believes in it), so nothing that is written relies on it: a write counts
//! only if the session still holds the refresh token that the writer started from. That token is the fence.
//!
//! - here: what callers ask for, and how long they wait; `outcome.rs`: what they are told
//! - `flight.rs`: one flight, from its start to its end; `lease.rs`: who may send the refresh token
//! - `answer.rs`: what the provider's answer must pass, and the commit; `writing.rs`: how anything is written

mod answer;
mod flight;
mod lease;
mod outcome;
mod writing;

use std::{error::Error, time::Duration};

use tokio::time::Instant;

pub(super) use lease::LEASE;
pub use outcome::{RefreshError, RefreshFailure, RefreshOutcome, TryLater};

use super::{Engine, Opened, flights::Ask, idle, sessions::Lookup};
use crate::{
    counting::{self, Wanted},
    freshness::{self, Freshness},
    sabotage::Sabotage,
    session::{FreshSession, OpenSession, SessionKey},
};

/// After the first failure the provider is left alone for this long, then for twice as long, …
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// A provider may ask for patience (Retry-After), but not for more than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);
/// How far the clocks of engines that share a store may be apart. A lease that is over by more than this is dead for sure;
/// any other is dead once nobody has renewed it for as long as one watched.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// The furthest ahead that another engine's clock may put the end of a rest.
pub(super) const LONGEST_REST: Duration = LONGEST_RETRY_AFTER.saturating_add(CLOCK_SKEW);
/// Whoever waits for longer than any clock goes waits for a year.
const LONGEST_WAIT: Duration = Duration::from_secs(365 * 24 * 3600);
/// How often a token is asked for anew because the last was over when it came.
const LATE_ANSWERS: u32 = 2;

/// What a flight brings home.
#[derive(Clone, Debug)]
pub(super) struct Landed {
    pub(super) session: OpenSession,
    pub(super) outcome: RefreshOutcome,
    /// The claims are older than the request: userinfo could not be asked. Enough for a token, not for a forced caller.
    stale_claims: Option<TryLater>,
}

/// The result of a flight.
pub(super) type Settled = Result<Landed, RefreshError>;

impl Engine {
    /// A session whose access token lives for `validity` yet (none: the policy's), refreshed first if it must be. Where it
    /// cannot be refreshed now, a token that lives for less is served ([`RefreshOutcome::Kept`]), and one that is over never.
    ///
    /// The wish counts for a fifth of the token's lifetime at most. Waits for `deadline` at most, be it for the provider or
    /// for the store; a refresh that takes longer goes on, as it does if this future is dropped.
    pub async fn fresh(
        &self,
        key: SessionKey,
        validity: Option<Duration>,
        deadline: Duration,
    ) -> Result<(FreshSession, RefreshOutcome), RefreshError> {
        let now = Instant::now();
        let until = now.checked_add(deadline).unwrap_or(now + LONGEST_WAIT);
        let answer = self.find_fresh(key, validity, until).await;
        counting::answered(Wanted::Fresh, &answer);
        answer
    }

    async fn find_fresh(
        &self,
        key: SessionKey,
        validity: Option<Duration>,
        until: Instant,
    ) -> Result<(FreshSession, RefreshOutcome), RefreshError> {
        let left = || until.saturating_duration_since(Instant::now());
        let validity = validity.unwrap_or(self.0.policy.min_validity);
        let mut outcome = RefreshOutcome::NotNeeded;
        let mut late_answers = 0;
        loop {
            let session = within(left(), self.open_for_refresh(key)).await?;
            let is_new = outcome != RefreshOutcome::NotNeeded;
            match freshness::judge(session.tokens(), self.0.clock.now(), validity) {
                Freshness::Fresh => return Ok((FreshSession { session }, outcome)),
                // Too short-lived for the wish all the same: it is the best there is.
                Freshness::Expiring if is_new => return Ok((FreshSession { session }, outcome)),
                // It took its answer longer to come than its token lives.
                Freshness::Expired if is_new && late_answers == LATE_ANSWERS => {
                    let why: Box<dyn Error + Send + Sync> =
                        "its answers take longer than its tokens live".into();
                    let failure = RefreshFailure::Unavailable(why.into());
                    return Err(TryLater { retry_after: FIRST_BACKOFF, failure }.into());
                }
                Freshness::Expired if is_new => late_answers += 1,
                Freshness::Expiring | Freshness::Expired => {}
            }
            outcome = match within(left(), self.fly(key, Ask::IfExpiring(validity))).await {
                Ok(landed) => landed.outcome,
                Err(RefreshError::TryLater(try_later)) => return self.keep(session, validity, try_later),
                // It serves as long as it lives.
                Err(RefreshError::NoRefreshToken)
                    if freshness::judge(session.tokens(), self.0.clock.now(), validity)
                        != Freshness::Expired =>
                {
                    return Ok((FreshSession { session }, RefreshOutcome::NotNeeded));
                }
                Err(error) => return Err(error),
            };
        }
    }

    /// What a caller gets where a refresh failed and the session is kept: the token that there is, as long as it lives. `at_hand`
    /// was opened before; what others wrote since then, an end above all, counts for more.
    fn keep(
        &self,
        at_hand: OpenSession,
        validity: Duration,
        try_later: TryLater,
    ) -> Result<(FreshSession, RefreshOutcome), RefreshError> {
        let session = match self.0.sessions.in_memory(at_hand.key()) {
            Some(Lookup::Live(record, _)) => OpenSession(record),
            Some(Lookup::Ended(tombstone)) => return Err(RefreshError::SignInAgain(tombstone.reason)),
            Some(Lookup::Unknown) | None => at_hand,
        };
        let now = self.0.clock.now();
        if idle::over(&session.0, now, &self.0.policy).is_some() {
            return Err(try_later.into());
        }
        let outcome = match freshness::judge(session.tokens(), now, validity) {
            Freshness::Fresh => RefreshOutcome::Shared,
            Freshness::Expiring => {
                RefreshOutcome::Kept { retry_after: try_later.retry_after, reason: try_later.failure.code() }
            }
            Freshness::Expired if self.sabotaged(Sabotage::DeadTokenServed) => RefreshOutcome::Shared,
            Freshness::Expired => return Err(try_later.into()),
        };
        tracing::debug!(
            session = %session.key().short(),
            outcome = outcome.code(),
            error = &try_later as &dyn Error,
            "not refreshed, and the token lives"
        );
        Ok((FreshSession { session }, outcome))
    }

    /// Refreshes now. What it returns is no older than the call: the tokens always, and the claims unless the outcome is
    /// [`RefreshOutcome::TokensOnly`].
    ///
    /// Waits for `deadline` at most, be it for the provider or for the store; a refresh that takes longer goes on, as it does
    /// if this future is dropped.
    pub async fn refresh(
        &self,
        key: SessionKey,
        deadline: Duration,
    ) -> Result<(FreshSession, RefreshOutcome), RefreshError> {
        let answer = within(deadline, self.force_refresh(key)).await;
        counting::answered(Wanted::Refresh, &answer);
        answer
    }

    async fn force_refresh(&self, key: SessionKey) -> Result<(FreshSession, RefreshOutcome), RefreshError> {
        self.open_for_refresh(key).await?;
        let landed = self.fly(key, Ask::Forced).await?;
        match landed.stale_claims {
            Some(try_later) => Err(try_later.into()),
            None => Ok((FreshSession { session: landed.session }, landed.outcome)),
        }
    }

    async fn open_for_refresh(&self, key: SessionKey) -> Result<OpenSession, RefreshError> {
        match self.open(key).await.map_err(RefreshError::store)? {
            Opened::Open(session) => {
                self.active(&session);
                Ok(session)
            }
            Opened::Ended(reason) => Err(RefreshError::SignInAgain(reason)),
            Opened::Unknown => Err(RefreshError::NotSignedIn),
        }
    }

    /// Takes a seat on a flight and waits for it. Dropping the future cancels nobody.
    pub(super) async fn fly(&self, key: SessionKey, ask: Ask) -> Settled {
        if self.0.stopping.is_cancelled() && ask != Ask::GiveBack {
            return Err(RefreshError::interrupted());
        }
        let (seat, start) = self.0.flights.board(key, ask);
        let first = seat.first;
        if start && self.sabotaged(Sabotage::CancelWithCaller) {
            Box::pin(flight::fly_all(self.clone(), key)).await;
        } else if start {
            self.start(flight::fly_all(self.clone(), key));
        }
        let mut landed = seat.landed().await?;
        if landed.outcome == RefreshOutcome::Refreshed && !first {
            landed.outcome = RefreshOutcome::Shared;
        }
        Ok(landed)
    }
}

/// An answer, or that there is none yet: whoever waits has a deadline.
pub(super) async fn within<T>(
    deadline: Duration,
    answer: impl Future<Output = Result<T, RefreshError>>,
) -> Result<T, RefreshError> {
    tokio::time::timeout(deadline, answer).await.unwrap_or_else(|_| {
        Err(TryLater { retry_after: FIRST_BACKOFF, failure: RefreshFailure::Deadline }.into())
    })
}
