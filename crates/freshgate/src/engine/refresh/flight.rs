//! One flight: at most one token request whose outcome is known.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use freshgate_oidc::Timestamp;
use tokio::time::Instant;

use super::{
    FIRST_BACKOFF, LONGEST_RETRY_AFTER, Landed, RefreshError, RefreshFailure, RefreshOutcome, Settled,
    TryLater,
    answer::Unverified,
    lease::{self, Boarding},
    writing::{Fence, Held},
};
use crate::{
    counting,
    engine::{
        Engine,
        flights::Crew,
        history::{HistoryEntry, HistoryEvent},
        record::{Record, WithoutWords},
    },
    landmark::Landmark,
    provider::{Asked, Connection, LostAnswer, NoTurn, Provider, TokenOutcome, Turn},
    sabotage::Sabotage,
    session::{EndReason, SessionKey},
};

/// … up to this long.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// How often a flight starts again because another engine's changed the session under it.
const OVERTAKEN_LIMIT: u32 = 5;

/// Flies the flights of one session until nobody waits for another.
pub(super) async fn fly_all(engine: Engine, key: SessionKey) {
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
            engine.passes(Landmark::IntentLeftUnsent);
            let must_start = crew.note_unsent_intent(flight.holder);
            if must_start {
                engine.start(lease::give_back_unsent_intents(engine.clone()));
            }
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

pub(super) fn as_millis(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

/// One flight: at most one token request whose outcome is known.
pub(super) struct Flight<'a> {
    pub(super) engine: &'a Engine,
    pub(super) key: SessionKey,
    pub(super) crew: &'a Crew,
    pub(super) started: Instant,
    /// Its name on a lease.
    pub(super) holder: String,
    /// There may be a lease of that name in the store under which nothing was sent. Whoever finds it must take the refresh
    /// token for used, but for the next flight of this engine, which can go by the same name.
    pub(super) has_unsent_intent: AtomicBool,
    /// How many requests it has sent.
    pub(super) requests: AtomicU32,
}

/// Why a flight does not end as it should.
pub(super) enum Diversion {
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
                // To come back at once, or before it was asked, is no wish: the pause is ours then.
                let retry_after = retry_after.map(|it| it.wanted).filter(|wanted| !wanted.is_zero());
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
                self.give_back(held).await?;
                return Err(RefreshError::interrupted().into());
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
            let forgets = self.engine.sabotaged(Sabotage::SentTakenForUnsent);
            self.has_unsent_intent.store(forgets, Ordering::Relaxed);
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
                    self.has_unsent_intent.store(true, Ordering::Relaxed);
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
            // The loss is on record: what the store may say next of the lease is about a request that is not sent yet.
            self.has_unsent_intent.store(true, Ordering::Relaxed);
        }
    }

    /// Notes a failure that the session survives, and from when on it may be tried again.
    async fn settle_failed(&self, held: Held, failed: Failed) -> Diversion {
        let Failed { failure, retry_after, no_later_than, in_doubt, without_words } = failed;
        let retry_after = retry_after.filter(|_| !self.engine.sabotaged(Sabotage::RetryAfterIgnored));
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
    pub(super) fn entry(&self, what: HistoryEvent) -> HistoryEntry {
        HistoryEntry {
            at: self.engine.0.clock.now(),
            what,
            millis: millis(self.started),
            attempts: self.requests.load(Ordering::Relaxed),
        }
    }

    /// The record of a session that this flight ends, with the flight in its history.
    pub(super) fn told(&self, record: &Record, reason: EndReason) -> Record {
        let mut told = record.clone();
        told.remember(self.entry(HistoryEvent::RefreshFailed(reason.code().to_owned())));
        told
    }

    /// Doubles with every failure, and spreads: sessions that failed together do not come back together.
    fn backoff(&self, failures: u32) -> Duration {
        let longest =
            FIRST_BACKOFF.saturating_mul(2_u32.saturating_pow(failures.min(16))).min(LONGEST_BACKOFF);
        longest / 2 + longest.mul_f64(self.spread() / 2.0)
    }

    /// A random number from 0 to 1.
    pub(super) fn spread(&self) -> f64 {
        let [byte] = self.engine.random();
        f64::from(byte) / 256.0
    }
}

pub(super) fn lost_answer(provider: &Provider, record: &Record) -> LostAnswer {
    provider.lost_answer(record.identity.issuer.as_str())
}

/// What may have been used already is refused because of that, for all that anybody knows.
pub(super) fn meaning_of_a_refusal(provider: &Provider, record: &Record) -> EndReason {
    if record.refresh.may_have_been_used() && lost_answer(provider, record).spends_tokens() {
        EndReason::OutcomeUnknown
    } else {
        EndReason::Refused
    }
}

pub(super) fn no_turn(why: NoTurn) -> RefreshError {
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
