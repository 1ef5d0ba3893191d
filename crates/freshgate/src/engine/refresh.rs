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

use std::{
    convert::Infallible,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use freshgate_oidc::{
    RefreshedIdTokenError, Secret, Timestamp, TokenGrant, UserInfo, UserInfoError, VerifiedIdToken,
    merge_claims,
};
use tokio::time::Instant;

use super::{
    Engine, ahead,
    flights::{Ask, Crew},
    history::{HistoryEntry, HistoryEvent},
    idle,
    process::Process,
    record::{Lease, Record, WithoutWords},
    sessions::{EndedAt, Lookup, Replaced},
};
use crate::{
    counting::{self, Wanted},
    freshness::{self, Freshness},
    provider::{
        Asked, Connection, LostAnswer, NoTurn, Provider, TokenOutcome, Turn, UsableToken, UserInfoFailure,
        VerifyError,
    },
    sabotage::Sabotage,
    session::{EndReason, FreshSession, OpenSession, SessionKey, TokenSet},
    store::{Revision, StoreError, Tombstone},
};

/// After the first failure the provider is left alone for this long, then for twice as long, …
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// … up to this long.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// A provider may ask for patience (Retry-After), but not for more than this.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);
/// How long a lease is good without being renewed.
pub(super) const LEASE: Duration = Duration::from_secs(10);
/// How often it is renewed while the request is under way.
const RENEWAL: Duration = Duration::from_secs(3);
/// After a renewal that failed it is tried again this soon.
const RENEWAL_AGAIN: Duration = Duration::from_millis(250);
/// How often one who waits for another engine's flight looks whether it has landed.
const LEASE_POLL: Duration = Duration::from_millis(50);
/// How far the clocks of engines that share a store may be apart. A lease that is over by more than this is dead for sure;
/// any other is dead once nobody has renewed it for as long as one watched.
const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// The furthest ahead that another engine's clock may put the end of a rest.
pub(super) const LONGEST_REST: Duration = LONGEST_RETRY_AFTER.saturating_add(CLOCK_SKEW);
/// How often a flight starts again because another engine's changed the session under it.
const OVERTAKEN_LIMIT: u32 = 5;
/// How often a store that fails is told what is known, so that it does not look like an answer that was lost. That takes
/// three seconds where it fails at once.
const STORE_TRIES: u32 = 6;
/// After the first failure of the store it is tried again this soon, then after twice as long, …
const FIRST_STORE_PAUSE: Duration = Duration::from_millis(100);
/// How often a token is asked for anew because the last was over when it came.
const LATE_ANSWERS: u32 = 2;
/// What the history says of a refresh whose flight died, perhaps after sending.
const ABANDONED: &str = "abandoned";
/// How long, once the engine is stopping, a rotated refresh token is still tried to be saved in a store that fails.
const LAST_SAVE_PATIENCE: Duration = Duration::from_secs(10);

/// How a refresh went well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshOutcome {
    /// This caller's request brought new tokens.
    Refreshed,
    /// Another caller's request brought new tokens, and this one shares them.
    Shared,
    /// A request brought new tokens and no claims, be it this caller's or another's: the answer had no ID token, and the
    /// provider has no userinfo that could be asked. Claims are those that a login or a refresh brought last.
    TokensOnly,
    /// The tokens live long enough; nobody was asked.
    NotNeeded,
    /// The tokens live yet, but not for as long as they should, and cannot be refreshed now: they are served as they are.
    /// Only for who does not force a refresh.
    Kept {
        /// When to ask again.
        retry_after: Duration,
        /// The stable code of why: see [`RefreshFailure::code`].
        reason: &'static str,
    },
}

impl RefreshOutcome {
    /// The stable code, as in the session API.
    pub fn code(self) -> &'static str {
        match self {
            Self::Refreshed => "refreshed",
            Self::Shared => "shared",
            Self::TokensOnly => "tokens_only",
            Self::NotNeeded => "not_needed",
            Self::Kept { .. } => "kept",
        }
    }

    /// The stable code of why, where there are several reasons.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Refreshed | Self::Shared | Self::TokensOnly | Self::NotNeeded => None,
            Self::Kept { reason, .. } => Some(reason),
        }
    }
}

/// Why a caller gets no fresh session.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RefreshError {
    /// The session is over; only a new login helps.
    #[error("the session is over ({})", .0.code())]
    SignInAgain(EndReason),
    /// The session is kept, but cannot be refreshed now.
    #[error("the session cannot be refreshed now")]
    TryLater(#[from] TryLater),
    /// There is no such session.
    #[error("there is no such session")]
    NotSignedIn,
    /// The provider issued no refresh token: the tokens cannot be renewed.
    #[error("the provider issued no refresh token")]
    NoRefreshToken,
}

/// The session is kept; ask again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("try again in {} s", retry_after.as_secs_f32().ceil())]
pub struct TryLater {
    /// When.
    pub retry_after: Duration,
    /// Why.
    #[source]
    pub failure: RefreshFailure,
}

/// What went wrong with a refresh of a session that is kept.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshFailure {
    /// The provider could not be reached; it has seen nothing.
    #[error("the provider cannot be reached")]
    Unreachable(#[source] Arc<dyn Error + Send + Sync>),
    /// The provider said that it cannot answer now.
    #[error("the provider cannot answer now")]
    Unavailable(#[source] Arc<dyn Error + Send + Sync>),
    /// The request may have been used and its answer is lost.
    #[error("the answer of the provider was lost")]
    AnswerLost(#[source] Arc<dyn Error + Send + Sync>),
    /// A check refused the answer: identity and access token stay as they are.
    #[error("the answer of the provider was refused")]
    AnswerRejected(#[source] Arc<dyn Error + Send + Sync>),
    /// The provider failed others a moment ago, and is asked again later.
    #[error("the provider failed others a moment ago and is left alone")]
    ProviderDown,
    /// The provider refuses this client: the operator must act.
    #[error("the provider refuses this client: check its id and secret")]
    Misconfigured(#[source] Arc<dyn Error + Send + Sync>),
    /// The session's provider is not configured any more.
    #[error("the session's provider is not configured any more")]
    UnknownProvider,
    /// The refresh token says that it is not good yet, and the provider would refuse it.
    #[error("the refresh token is not good yet")]
    NotYetValid,
    /// The last attempt failed a moment ago.
    #[error("the last attempt failed a moment ago")]
    BackingOff,
    /// The store failed.
    #[error("the session store failed")]
    Store(#[source] Arc<StoreError>),
    /// The caller's deadline passed while the refresh goes on.
    #[error("it takes longer than the caller waits")]
    Deadline,
    /// The gate is stopping and begins nothing any more; or a defect of ours.
    #[error("it was interrupted")]
    Interrupted,
}

impl RefreshFailure {
    /// The stable code, as in logs and the session API.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "provider_unreachable",
            Self::Unavailable(_) => "provider_unavailable",
            Self::AnswerLost(_) => "answer_lost",
            Self::AnswerRejected(_) => "answer_rejected",
            Self::ProviderDown => "provider_down",
            Self::Misconfigured(_) => "misconfigured",
            Self::UnknownProvider => "unknown_provider",
            Self::NotYetValid => "not_yet_valid",
            Self::BackingOff => "backing_off",
            Self::Store(_) => "store",
            Self::Deadline => "deadline",
            Self::Interrupted => "interrupted",
        }
    }
}

impl RefreshError {
    /// The stable code, as in metrics and the session API.
    pub fn code(&self) -> &'static str {
        match self {
            Self::SignInAgain(_) => "sign_in_again",
            Self::TryLater(_) => "try_later",
            Self::NotSignedIn => "not_signed_in",
            Self::NoRefreshToken => "no_refresh_token",
        }
    }

    /// The stable code of why, where there are several reasons.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::SignInAgain(reason) => Some(reason.code()),
            Self::TryLater(try_later) => Some(try_later.failure.code()),
            Self::NotSignedIn | Self::NoRefreshToken => None,
        }
    }

    pub(super) fn interrupted() -> Self {
        TryLater { retry_after: FIRST_BACKOFF, failure: RefreshFailure::Interrupted }.into()
    }

    /// Whether it is nothing new: an operator was told when it happened first.
    fn is_expected(&self) -> bool {
        match self {
            Self::SignInAgain(_) | Self::NotSignedIn | Self::NoRefreshToken => true,
            Self::TryLater(try_later) => {
                // The last is said once for all of them, when the provider was given up.
                matches!(
                    try_later.failure,
                    RefreshFailure::NotYetValid | RefreshFailure::BackingOff | RefreshFailure::ProviderDown
                )
            }
        }
    }

    fn store(error: StoreError) -> Self {
        TryLater { retry_after: FIRST_BACKOFF, failure: RefreshFailure::Store(Arc::new(error)) }.into()
    }
}

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
        let answer = self.find_fresh(key, validity, Instant::now() + deadline).await;
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
            super::Opened::Open(session) => {
                self.active(&session);
                Ok(session)
            }
            super::Opened::Ended(reason) => Err(RefreshError::SignInAgain(reason)),
            super::Opened::Unknown => Err(RefreshError::NotSignedIn),
        }
    }

    /// Whether it is certain that the flight that has a lease is over: it was one of this engine, which has one at a time for a
    /// session, or its process is gone.
    pub(super) fn has_died(&self, lease: &Lease) -> bool {
        let is_ours = lease.holder.split('/').next() == Some(self.0.name.as_str());
        let process_is_gone = |here: &Process| lease.process.as_ref().is_some_and(|it| it.has_died(here));
        is_ours || self.0.process.as_ref().is_some_and(process_is_gone)
    }

    /// Takes a seat on a flight and waits for it. Dropping the future cancels nobody.
    pub(super) async fn fly(&self, key: SessionKey, ask: Ask) -> Settled {
        if self.0.stopping.is_cancelled() {
            return Err(RefreshError::interrupted());
        }
        let (seat, start) = self.0.flights.board(key, ask);
        let first = seat.first;
        if start && self.sabotaged(Sabotage::CancelWithCaller) {
            Box::pin(fly_all(self.clone(), key)).await;
        } else if start {
            self.start(fly_all(self.clone(), key));
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

/// Flies the flights of one session until nobody waits for another.
async fn fly_all(engine: Engine, key: SessionKey) {
    let mut crew = engine.0.flights.crew(key);
    loop {
        let started = Instant::now();
        let new_name = || format!("{}/{}", engine.0.name, freshgate_oidc::base64url(&engine.random::<12>()));
        let inherited = crew.unsent_intent();
        let flight = Flight {
            engine: &engine,
            key,
            crew: &crew,
            started,
            has_unsent_intent: AtomicBool::new(inherited.is_some()),
            holder: inherited.unwrap_or_else(new_name),
            requests: AtomicU32::default(),
        };
        let settled = flight.run().await;
        if flight.has_unsent_intent.into_inner() {
            crew.note_unsent_intent(flight.holder);
        }
        let answer = settled.as_ref().map(|landed| landed.outcome);
        counting::refreshed(answer, started.elapsed());
        let ((outcome, reason), millis) = (counting::codes(answer), millis(started));
        match &settled {
            Ok(landed) if landed.outcome == RefreshOutcome::NotNeeded => {}
            Ok(_) => tracing::info!(session = %key.short(), outcome, millis, "refreshed"),
            Err(error) if error.is_expected() => {
                let error = error as &dyn Error;
                tracing::debug!(session = %key.short(), outcome, reason, error, "not refreshed");
            }
            Err(error) => {
                let error = error as &dyn Error;
                tracing::warn!(session = %key.short(), outcome, reason, millis, error, "not refreshed");
            }
        }
        if !crew.land(settled) {
            return;
        }
    }
}

fn millis(started: Instant) -> u64 {
    as_millis(started.elapsed())
}

fn as_millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// A record and the revision it was read at: what an update starts from.
struct Held {
    record: Arc<Record>,
    revision: Revision,
}

/// One flight: at most one token request whose outcome is known.
struct Flight<'a> {
    engine: &'a Engine,
    key: SessionKey,
    crew: &'a Crew,
    started: Instant,
    /// Its name on a lease.
    holder: String,
    /// There may be a lease of that name in the store under which nothing was sent. Whoever finds it must take the refresh
    /// token for used, but for the next flight of this engine, which can go by the same name.
    has_unsent_intent: AtomicBool,
    /// How many requests it has sent.
    requests: AtomicU32,
}

/// What the first step found.
enum Boarding {
    /// The token lives long enough for those who asked.
    NoRequest(Landed),
    /// The lease is ours: nobody else sends the refresh token. And it is our turn to ask the provider, if there is one.
    Leased(Held, Option<Turn>),
}

/// Why a flight does not end as it should.
enum Diversion {
    /// This is its end.
    Landed(RefreshError),
    /// Another engine changed the refresh token meanwhile. Start again from what is there now.
    Overtaken,
}

impl From<RefreshError> for Diversion {
    fn from(error: RefreshError) -> Self {
        Self::Landed(error)
    }
}

/// How a flight failed that the session survives.
struct Failed {
    failure: RefreshFailure,
    /// When to come back, as the provider wishes.
    retry_after: Option<Duration>,
    /// When to come back at the latest.
    no_later_than: Option<Timestamp>,
    /// The refresh token may have been used.
    in_doubt: bool,
    /// It seems to have been refused.
    without_words: Option<WithoutWords>,
}

impl From<RefreshFailure> for Failed {
    fn from(failure: RefreshFailure) -> Self {
        Self { failure, retry_after: None, no_later_than: None, in_doubt: false, without_words: None }
    }
}

/// A session that another flight has a lease on, as one saw it first.
struct Watched {
    lease: Lease,
    since: Instant,
}

/// An answer that passed every check.
struct Verified {
    grant: TokenGrant,
    sent_at: Timestamp,
    id_token: Option<VerifiedIdToken>,
    userinfo: Option<UserInfo>,
    /// Userinfo could not be asked.
    userinfo_failure: Option<UserInfoFailure>,
}

impl Flight<'_> {
    async fn run(&self) -> Settled {
        for _ in 0..OVERTAKEN_LIMIT {
            match self.attempt().await {
                Ok(landed) => return Ok(landed),
                Err(Diversion::Landed(error)) => return Err(error),
                Err(Diversion::Overtaken) => {
                    tracing::info!(session = %self.key.short(), "another gate refreshed the session meanwhile");
                }
            }
        }
        Err(RefreshError::interrupted())
    }

    async fn attempt(&self) -> Result<Landed, Diversion> {
        let (held, turn) = match self.take_lease().await? {
            Boarding::NoRequest(landed) => return Ok(landed),
            Boarding::Leased(held, turn) => (held, turn),
        };
        let (Some(provider), Some(turn)) = (self.engine.0.providers.get(&held.record.provider), turn) else {
            return Err(self.settle_failed(held, RefreshFailure::UnknownProvider.into()).await);
        };
        let leased = Held { record: held.record.clone(), revision: held.revision };
        tokio::select! {
            biased;
            landed = self.fly(provider, held, turn) => landed,
            never = self.keep_lease(leased) => match never {},
        }
    }

    /// The part of a flight that needs the lease.
    async fn fly(&self, provider: &Provider, held: Held, turn: Turn) -> Result<Landed, Diversion> {
        let (held, sent_at, outcome) = self.ask_provider(provider, held, turn).await?;
        match outcome {
            TokenOutcome::Granted(grant) => {
                let rotated = grant.refresh_token.clone();
                let save_late = self.engine.sabotaged(Sabotage::SaveAfterVerify);
                let held = if save_late { held } else { self.save_rotated(held, rotated.as_ref()).await? };
                match self.verify(provider, &held.record, grant, sent_at).await {
                    Ok(verified) if save_late => {
                        self.commit(self.save_rotated(held, rotated.as_ref()).await?, verified).await
                    }
                    Ok(verified) => self.commit(held, verified).await,
                    Err(Unverified::OtherIdentity(error)) => {
                        tracing::error!(session = %self.key.short(), error = &*error as &dyn Error, "a refresh answer names someone else");
                        Err(self.end(held, EndReason::IdentityChanged).await)
                    }
                    Err(Unverified::Rejected(failure)) => Err(self.settle_failed(held, failure.into()).await),
                }
            }
            TokenOutcome::Malformed(error, refresh_token) => {
                let held = match &refresh_token {
                    Some(_) => self.save_rotated(held, refresh_token.as_ref()).await?,
                    // The provider may have rotated the token and said so in what cannot be read.
                    None => self.note_lost(held, sent_at).await?,
                };
                Err(self.settle_failed(held, RefreshFailure::AnswerRejected(error.into()).into()).await)
            }
            TokenOutcome::Refused(error) => match self.engine.may_be_too_early(&held.record, sent_at) {
                // A refusal after that means what it says, so there is no reason to wait for longer.
                Some(until) => {
                    let failed = Failed { no_later_than: Some(until), ..RefreshFailure::NotYetValid.into() };
                    Err(self.settle_failed(held, failed).await)
                }
                None => Err(self.refused(provider, held, error).await),
            },
            TokenOutcome::RefusedWithoutWords(error) => {
                let without_words = held.record.refresh.refused_without_words(self.engine.0.clock.now());
                if without_words.is_a_refusal(self.engine.0.clock.now()) {
                    return Err(self.refused(provider, held, error).await);
                }
                let failure = RefreshFailure::Unavailable(error.into());
                Err(self
                    .settle_failed(held, Failed { without_words: Some(without_words), ..failure.into() })
                    .await)
            }
            TokenOutcome::Lost(error) => {
                Err(self.settle_failed(held, RefreshFailure::AnswerLost(error.into()).into()).await)
            }
            TokenOutcome::NotSent(error) => {
                Err(self.settle_failed(held, RefreshFailure::Unreachable(error.into()).into()).await)
            }
            TokenOutcome::Unavailable { why, may_have_acted, .. }
                if may_have_acted && !lost_answer(provider, &held.record).allows_in_doubt() =>
            {
                tracing::warn!(session = %self.key.short(), error = &*why as &dyn Error, "the refresh token may have been used, and cannot be sent again");
                Err(self.end(held, EndReason::OutcomeUnknown).await)
            }
            TokenOutcome::Unavailable { why, retry_after, may_have_acted } => {
                let retry_after = retry_after.map(|retry_after| retry_after.wanted);
                let failure = RefreshFailure::Unavailable(why.into());
                let failed = Failed { retry_after, in_doubt: may_have_acted, ..failure.into() };
                Err(self.settle_failed(held, failed).await)
            }
            TokenOutcome::Misconfigured(error) => {
                Err(self.settle_failed(held, RefreshFailure::Misconfigured(error.into()).into()).await)
            }
        }
    }

    /// The provider refuses the refresh token: the session is over, and it depends on what went before whether that is what
    /// it means.
    async fn refused(&self, provider: &Provider, held: Held, why: Box<dyn Error + Send + Sync>) -> Diversion {
        let reason = meaning_of_a_refusal(provider, &held.record);
        let lost_before = reason == EndReason::OutcomeUnknown;
        tracing::warn!(session = %self.key.short(), lost_before, error = &*why as &dyn Error, "the provider refused the refresh token");
        if self.engine.sabotaged(Sabotage::LosersSignedOut) {
            let _ = self.engine.end(self.key, reason).await;
            return RefreshError::SignInAgain(reason).into();
        }
        self.end(held, reason).await
    }

    /// Decides on the session as the store has it now, and takes the lease: from then on only this flight sends the
    /// refresh token. Waits while another engine's flight has it, and for its turn to ask the provider.
    ///
    /// The turn comes first. A lease is the record of an intent, and whoever finds one of the dead must take the token for
    /// used: so none is taken that waits to be sent.
    ///
    /// Once the engine is stopping it gives up, wherever nothing is begun.
    async fn take_lease(&self) -> Result<Boarding, RefreshError> {
        let stopping = &self.engine.0.stopping;
        let mut watched: Option<Watched> = None;
        let mut turn: Option<Turn> = None;
        let mut tries = Tries::default();
        let mut lookup = self.engine.0.sessions.read_store(self.key).await.map_err(RefreshError::store)?;
        loop {
            let (record, revision) = match lookup {
                Lookup::Live(record, revision) => (record, revision),
                Lookup::Ended(tombstone) => return Err(RefreshError::SignInAgain(tombstone.reason)),
                Lookup::Unknown => return Err(RefreshError::NotSignedIn),
            };
            if stopping.is_cancelled() {
                if record.refresh.lease.as_ref().is_some_and(|lease| self.is_ours(lease)) {
                    // The store said that it was not written.
                    self.give_back(Held { record, revision }).await;
                }
                return Err(RefreshError::interrupted());
            }
            let now = self.engine.0.clock.now();
            if let Some(over) = idle::over(&record, now, &self.engine.0.policy) {
                let ended = self.engine.end_over(&record, revision, over.reason).await;
                lookup = ended.map_err(RefreshError::store)?;
                continue;
            }
            let ask = self.crew.ask();
            let fresh = match ask {
                Ask::Forced => false,
                Ask::IfExpiring(validity) => {
                    freshness::judge(&record.tokens, now, validity) == Freshness::Fresh
                }
                Ask::Ahead => !ahead::is_time(&record, now),
            };
            if fresh {
                // One who waited for another engine's flight shares what it brought.
                let outcome =
                    if watched.is_some() { RefreshOutcome::Shared } else { RefreshOutcome::NotNeeded };
                let session = OpenSession(record);
                return Ok(Boarding::NoRequest(Landed { session, outcome, stale_claims: None }));
            }
            if record.refresh_token.is_none() {
                return Err(RefreshError::NoRefreshToken);
            }
            if let Some(lease) = &record.refresh.lease
                && !self.engine.has_died(lease)
                && !is_dead(lease, now, &mut watched)
                && !self.engine.sabotaged(Sabotage::NoLease)
            {
                turn = None;
                tokio::time::sleep(LEASE_POLL).await;
                lookup = match self.engine.0.sessions.read_store(self.key).await {
                    Ok(lookup) => lookup,
                    Err(error) => self.read_after(error, &mut Tries::default()).await?,
                };
                continue;
            }
            let mut taken = (*record).clone();
            if let Some(lease) = taken.refresh.lease.take()
                && !self.is_ours(&lease)
                && !lease.settled
                && !self.engine.sabotaged(Sabotage::DeadIntentForgotten)
            {
                // Whoever had it died, perhaps after sending.
                taken.refresh.answer_lost(lease.since);
                taken.remember(HistoryEntry {
                    at: now,
                    what: HistoryEvent::RefreshFailed(ABANDONED.to_owned()),
                    millis: as_millis(now.saturating_since(lease.since)),
                    attempts: 1,
                });
            }
            let provider = self.engine.0.providers.get(&record.provider);
            if let Some(provider) = provider
                && !taken.refresh.may_be_sent(lost_answer(provider, &record), now)
                && !self.engine.sabotaged(Sabotage::PolicyIgnored)
            {
                tracing::warn!(session = %self.key.short(), "an answer was lost, and the refresh token cannot be sent again");
                let reason = EndReason::OutcomeUnknown;
                lookup = match self
                    .engine
                    .end_at(&self.told(&taken, reason), revision, reason)
                    .await
                    .map_err(RefreshError::store)?
                {
                    EndedAt::Now => return Err(RefreshError::SignInAgain(reason)),
                    EndedAt::Conflict(record, revision) => Lookup::Live(record, revision),
                    EndedAt::Before(tombstone) => Lookup::Ended(tombstone),
                    EndedAt::Unknown => Lookup::Unknown,
                };
                continue;
            }
            if let Some(not_before) = record.refresh.rests_until(now)
                && now < not_before
                && (ask != Ask::Forced || record.refresh.asked_to_wait)
            {
                let retry_after = not_before.saturating_since(now);
                return Err(TryLater { retry_after, failure: RefreshFailure::BackingOff }.into());
            }
            if let Some(from) = self.engine.usable_from(&record)
                && now < from
                && !self.engine.sabotaged(Sabotage::NotBeforeIgnored)
            {
                let retry_after = from.saturating_since(now);
                return Err(TryLater { retry_after, failure: RefreshFailure::NotYetValid }.into());
            }
            if let Some(provider) = provider
                && turn.is_none()
            {
                let Some(taken) = stopping.run_until_cancelled(provider.take_turn(self.spread())).await
                else {
                    return Err(RefreshError::interrupted());
                };
                turn = Some(taken.map_err(no_turn)?);
                // It may have taken a while: look at everything again.
                lookup = Lookup::Live(record, revision);
                continue;
            }
            if record.refresh.lease.as_ref().is_some_and(|lease| self.is_ours(lease) && !lease.settled) {
                // The store had said that it was not written.
                return Ok(Boarding::Leased(Held { record, revision }, turn));
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
            lookup = match self.engine.0.sessions.replace(&record, taken, revision).await {
                Ok(Replaced::Done(record, revision)) => {
                    return Ok(Boarding::Leased(Held { record, revision }, turn));
                }
                Ok(Replaced::Conflict(record, revision)) => Lookup::Live(record, revision),
                Ok(Replaced::Ended(tombstone)) => Lookup::Ended(tombstone),
                Ok(Replaced::Unknown) => Lookup::Unknown,
                // If it was written all the same, it is an intent that nobody has: see whether it is there.
                Err(error) => self.read_after(error, &mut tries).await?,
            };
        }
    }

    /// Makes sure that the lease is still ours if it was not taken a moment ago: a process that stood still in between may
    /// have been taken for dead, and its refresh token used. What stands still after this is for the fence.
    async fn confirm_lease(&self, held: Held) -> Result<Held, Diversion> {
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

    /// Sends the refresh token. If the answer is lost for the first time, sends it once more if the provider's policy
    /// allows that: one with a grace window, or one that never saw it, answers then. Not while the provider fails
    /// others too: then this session keeps the attempt for later.
    async fn ask_provider(
        &self,
        provider: &Provider,
        mut held: Held,
        mut turn: Turn,
    ) -> Result<(Held, Timestamp, TokenOutcome), Diversion> {
        let (mut is_sent, mut nonce_sent) = (false, false);
        loop {
            if self.engine.0.stopping.is_cancelled() && !is_sent {
                return Err(self.give_back(held).await);
            }
            held = self.confirm_lease(held).await?;
            let Some(refresh_token) = held.record.refresh_token.clone() else {
                return Err(RefreshError::NoRefreshToken.into());
            };
            let sent_at = self.engine.0.clock.now();
            if !self.engine.sabotaged(Sabotage::JoinOnTheWire) {
                self.crew.sent();
            }
            self.requests.fetch_add(1, Ordering::Relaxed);
            self.has_unsent_intent.store(false, Ordering::Relaxed);
            is_sent = true;
            // An answer is easily lost with a connection that the provider closes at the very moment. The last time that the
            // token may be sent, that would be the end of the session.
            let is_last =
                !held.record.refresh.may_be_sent_again(lost_answer(provider, &held.record), sent_at);
            let connection = if is_last { Connection::New } else { Connection::Kept };
            let (resources, key) = (&held.record.resources, held.record.dpop_key.as_ref());
            let outcome = match provider.refresh(&refresh_token, resources, key, connection).await {
                // It was not looked at: to send it with the nonce is no second use of it. The lease is confirmed all the same.
                Ok(Asked::NonceWanted(_)) if !nonce_sent => {
                    nonce_sent = true;
                    continue;
                }
                asked => TokenOutcome::of(asked.map(Asked::finally)),
            };
            let TokenOutcome::Lost(error) = &outcome else {
                turn.settle(outcome.verdict(), self.spread());
                return Ok((held, sent_at, outcome));
            };
            let at_once = turn.repeat(self.spread()) && held.record.refresh.answers_lost == 0;
            held = self.note_lost(held, sent_at).await?;
            let policy = lost_answer(provider, &held.record);
            if !held.record.refresh.may_be_sent(policy, self.engine.0.clock.now())
                && !self.engine.sabotaged(Sabotage::PolicyIgnored)
            {
                tracing::warn!(session = %self.key.short(), error = &**error as &dyn Error, "answer lost, and the token cannot be sent again");
                return Err(self.end(held, EndReason::OutcomeUnknown).await);
            }
            if !at_once {
                return Ok((held, sent_at, outcome));
            }
            tracing::warn!(session = %self.key.short(), error = &**error as &dyn Error, "answer lost, asking again");
        }
    }

    /// Gives back a lease under which nothing was sent: it is no intent any more.
    async fn give_back(&self, held: Held) -> Diversion {
        let give_back = |record: &mut Record| record.refresh.lease = self.others_lease(record);
        match self.write(held, Fence::Generation, None, give_back).await {
            Ok(_) => {
                self.has_unsent_intent.store(false, Ordering::Relaxed);
                RefreshError::interrupted().into()
            }
            Err(diversion) => diversion,
        }
    }

    /// Renews the lease until dropped. A renewal that fails is tried again soon: others take the flight for dead if they see
    /// no sign of life for as long as a lease is good, and a store may fail for half of that.
    async fn keep_lease(&self, mut held: Held) -> Infallible {
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

    /// Saves a rotated refresh token before anything else can fail: the old one is spent, this one is all there is.
    async fn save_rotated(&self, mut held: Held, refresh_token: Option<&Secret>) -> Result<Held, Diversion> {
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
                    tracing::error!(session = %self.key.short(), error = &error as &dyn Error, "a rotated refresh token could not be saved");
                    return Err(RefreshError::store(error).into());
                }
                Err(Unwritten::Store(held, error)) => {
                    tracing::warn!(session = %self.key.short(), error = &error as &dyn Error, "saving a rotated refresh token again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                    held
                }
            };
        }
    }

    /// Checks the answer: the ID token, if there is one (OpenID Connect Core, section 12.2), and the subject of userinfo
    /// (section 5.3.2).
    async fn verify(
        &self,
        provider: &Provider,
        record: &Record,
        grant: TokenGrant,
        sent_at: Timestamp,
    ) -> Result<Verified, Unverified> {
        let id_token = match &grant.id_token {
            Some(_) if self.engine.sabotaged(Sabotage::RejectedCommitted) => None,
            Some(raw) => Some(provider.verify_refreshed(raw, &record.identity, &grant.access_token).await?),
            None => None,
        };
        let token = UsableToken {
            access_token: &grant.access_token,
            token_type: &grant.token_type,
            key: record.dpop_key.as_ref(),
        };
        let (userinfo, userinfo_failure) = match provider.userinfo(token, &record.identity.subject).await {
            Ok(userinfo) => (userinfo, None),
            Err(UserInfoFailure::Rejected(error @ UserInfoError::Subject)) => {
                return Err(Unverified::OtherIdentity(Box::new(error)));
            }
            Err(failure @ UserInfoFailure::Unavailable(_)) => (None, Some(failure)),
            // The claims of the last answer are shown on: they are older than the request.
            Err(failure) if record.userinfo.is_some() => (None, Some(failure)),
            Err(failure) => {
                let error = &failure as &dyn Error;
                tracing::warn!(session = %self.key.short(), error, "refreshed without userinfo");
                (None, None)
            }
        };
        Ok(Verified { grant, sent_at, id_token, userinfo, userinfo_failure })
    }

    /// Puts tokens and claims in place, at once, and tells everyone.
    async fn commit(&self, held: Held, verified: Verified) -> Result<Landed, Diversion> {
        let Verified { grant, sent_at, id_token, userinfo, userinfo_failure } = verified;
        let brings_claims = id_token.is_some() || userinfo.is_some() || userinfo_failure.is_some();
        let outcome = if brings_claims || self.engine.sabotaged(Sabotage::OldClaimsAsNew) {
            RefreshOutcome::Refreshed
        } else {
            RefreshOutcome::TokensOnly
        };
        let entry = self.entry(HistoryEvent::Refreshed);
        let held = self
            .write(held, Fence::Generation, Some(&entry), |record| {
                if let Some(id_token) = &id_token {
                    record.id_token_claims =
                        Record::renewed_claims(&record.id_token_claims, id_token.claims());
                    record.sid = id_token.session_id().map(str::to_owned).or_else(|| record.sid.take());
                }
                // Where it is not asked any more, what it said once is older than the ID token.
                let is_outdated = id_token.is_some() && userinfo_failure.is_none();
                if userinfo.is_some() || is_outdated {
                    record.userinfo.clone_from(&userinfo);
                }
                record.claims = merge_claims(&record.id_token_claims, record.userinfo.as_ref());
                let id_token =
                    id_token.as_ref().map(|it| it.raw().clone()).or_else(|| record.tokens.id_token.take());
                let scope = record.tokens.scope.take();
                record.tokens = TokenSet::granted(&grant, id_token, sent_at);
                // A scope that is not said is unchanged (RFC 6749, section 5.1).
                record.tokens.scope = record.tokens.scope.take().or(scope);
                record.generation += 1;
                if self.engine.0.policy.idle_timeout.is_none() {
                    // Nobody writes it: if there is an idle timeout again, it does not count from long ago.
                    record.last_used = None;
                }
                record.refresh.lease = self.others_lease(record);
                // Losses that are counted came after this flight saved its answer: another sent the new refresh token.
                record.refresh.recovered();
                record.remember(entry.clone());
            })
            .await?;
        self.engine.plan_ahead(&held.record);
        let stale_claims = userinfo_failure.map(|failure| {
            tracing::warn!(session = %self.key.short(), error = &failure as &dyn Error, "tokens refreshed, claims not");
            TryLater { retry_after: FIRST_BACKOFF, failure: RefreshFailure::Unavailable(Arc::new(failure)) }
        });
        Ok(Landed { session: OpenSession(held.record), outcome, stale_claims })
    }

    /// Notes a failure that the session survives, and from when on it may be tried again.
    async fn settle_failed(&self, held: Held, failed: Failed) -> Diversion {
        let Failed { failure, retry_after, no_later_than, in_doubt, without_words } = failed;
        let asked_to_wait = retry_after.is_some();
        let now = self.engine.0.clock.now();
        let backoff = retry_after.map_or_else(
            || {
                let longest = no_later_than.map_or(Duration::MAX, |at| at.saturating_since(now));
                self.backoff(held.record.refresh.failures).min(longest.max(FIRST_BACKOFF))
            },
            |wanted| wanted.min(LONGEST_RETRY_AFTER),
        );
        let entry = self.entry(HistoryEvent::RefreshFailed(failure.code().to_owned()));
        let settled = self
            .write(held, Fence::Generation, Some(&entry), |record| {
                record.refresh.lease = self.others_lease(record);
                record.refresh.failures = record.refresh.failures.saturating_add(1);
                record.refresh.not_before = Some(now + backoff);
                record.refresh.asked_to_wait = asked_to_wait;
                record.refresh.in_doubt |= in_doubt;
                record.refresh.without_words = without_words.or(record.refresh.without_words);
                record.remember(entry.clone());
            })
            .await;
        match settled {
            Ok(held) => {
                self.engine.plan_ahead(&held.record);
                Diversion::Landed(TryLater { retry_after: backoff, failure }.into())
            }
            Err(diversion) => diversion,
        }
    }

    /// What the session's history says of this flight.
    fn entry(&self, what: HistoryEvent) -> HistoryEntry {
        HistoryEntry {
            at: self.engine.0.clock.now(),
            what,
            millis: millis(self.started),
            attempts: self.requests.load(Ordering::Relaxed),
        }
    }

    /// The record of a session that this flight ends, with the flight in its history.
    fn told(&self, record: &Record, reason: EndReason) -> Record {
        let mut told = record.clone();
        told.remember(self.entry(HistoryEvent::RefreshFailed(reason.code().to_owned())));
        told
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        lease.holder == self.holder
    }

    /// The lease of a flight that took ours for dead: it is not ours to give back.
    fn others_lease(&self, record: &Record) -> Option<Lease> {
        record.refresh.lease.clone().filter(|lease| !self.is_ours(lease))
    }

    /// Whether another flight has the lease by now.
    fn is_displaced(&self, record: &Record) -> bool {
        record.refresh.lease.as_ref().is_some_and(|lease| !self.is_ours(lease))
    }

    /// Doubles with every failure, and spreads: sessions that failed together do not come back together.
    fn backoff(&self, failures: u32) -> Duration {
        let longest =
            FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures.min(16))).min(LONGEST_BACKOFF);
        longest / 2 + longest.mul_f64(self.spread() / 2.0)
    }

    /// A random number from 0 to 1.
    fn spread(&self) -> f64 {
        let [byte] = self.engine.random();
        f64::from(byte) / 256.0
    }

    /// Ends the session, unless another engine has put a newer refresh token in place of the one that this is about, or is
    /// about to: it took this flight for dead and sends the token itself. What comes of that decides.
    async fn end(&self, mut held: Held, mut reason: EndReason) -> Diversion {
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
    async fn note_lost(&self, held: Held, sent_at: Timestamp) -> Result<Held, Diversion> {
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
    async fn write(
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
    async fn read_after(&self, mut error: StoreError, tries: &mut Tries) -> Result<Lookup, RefreshError> {
        while tries.again().await {
            tracing::warn!(session = %self.key.short(), error = &error as &dyn Error, "asking the store again");
            error = match self.engine.0.sessions.read_store(self.key).await {
                Ok(lookup) => return Ok(lookup),
                Err(error) => error,
            };
        }
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
                Ok(Replaced::Conflict(record, revision)) if fence.is_done(&held.record, &record) => {
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

/// How often a store failed.
#[derive(Default)]
struct Tries(u32);

impl Tries {
    /// Waits for the next try. `false`: there is none.
    async fn again(&mut self) -> bool {
        self.0 += 1;
        if self.0 >= STORE_TRIES {
            return false;
        }
        tokio::time::sleep(FIRST_STORE_PAUSE * 2_u32.pow(self.0 - 1)).await;
        true
    }
}

fn lost_answer(provider: &Provider, record: &Record) -> LostAnswer {
    provider.lost_answer(record.identity.issuer.as_str())
}

/// What may have been used already is refused because of that, for all that anybody knows.
fn meaning_of_a_refusal(provider: &Provider, record: &Record) -> EndReason {
    if record.refresh.may_have_been_used() && lost_answer(provider, record).spends_tokens() {
        EndReason::OutcomeUnknown
    } else {
        EndReason::Refused
    }
}

fn no_turn(why: NoTurn) -> RefreshError {
    match why {
        NoTurn::LeftAlone(rest) => {
            TryLater { retry_after: rest, failure: RefreshFailure::ProviderDown }.into()
        }
        error @ NoTurn::Metadata(_) => {
            TryLater { retry_after: FIRST_BACKOFF, failure: RefreshFailure::Unreachable(Arc::new(error)) }
                .into()
        }
    }
}

/// What of a session must be as a flight found it, or else its write does not count.
#[derive(Clone, Copy)]
enum Fence<'a> {
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

/// Whether a lease's holder can be taken for dead: it is over by any clock, or nobody renewed it while one watched. What others
/// write of the session, such as its last use, is no sign of life.
fn is_dead(lease: &Lease, now: Timestamp, watched: &mut Option<Watched>) -> bool {
    if now >= lease.until + CLOCK_SKEW {
        return true;
    }
    match watched {
        // The whole of it: a flight that starts again takes a new one under the same name.
        Some(watched) if watched.lease == *lease => watched.since.elapsed() >= LEASE,
        _ => {
            *watched = Some(Watched { lease: lease.clone(), since: Instant::now() });
            false
        }
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

/// Why an answer is not committed.
enum Unverified {
    /// It names another subject or issuer: the session cannot go on.
    OtherIdentity(Box<dyn Error + Send + Sync>),
    /// It did not pass, or could not be checked: nothing changes.
    Rejected(RefreshFailure),
}

impl From<VerifyError<RefreshedIdTokenError>> for Unverified {
    fn from(error: VerifyError<RefreshedIdTokenError>) -> Self {
        match error {
            VerifyError::Rejected(error @ RefreshedIdTokenError::SubjectChanged) => {
                Self::OtherIdentity(Box::new(error))
            }
            VerifyError::Rejected(error) => Self::Rejected(RefreshFailure::AnswerRejected(Arc::new(error))),
            error @ VerifyError::KeysUnavailable(_) => {
                Self::Rejected(RefreshFailure::Unavailable(Arc::new(error)))
            }
        }
    }
}
