//! What the engine counts, through the `metrics` facade: the program chooses where the figures go, and without a recorder
//! nothing is counted.
//!
//! Labels are codes and the names of providers, never a user, a session or a token.

use std::time::Duration;

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::{
    engine::{RefreshError, RefreshOutcome},
    session::EndReason,
};

const ANSWERS: &str = "freshgate_refresh_answers_total";
const REFRESHES: &str = "freshgate_refreshes_total";
const REFRESH_DURATION: &str = "freshgate_refresh_duration_seconds";
const TOKEN_REQUESTS: &str = "freshgate_token_requests_total";
const LEFT_ALONE: &str = "freshgate_provider_left_alone";
const STARTED: &str = "freshgate_sessions_started_total";
const ENDED: &str = "freshgate_sessions_ended_total";

/// Tells the recorder what each figure means. Call it once, when the recorder is there.
pub fn describe() {
    describe_counter!(ANSWERS, "Callers who wanted a fresh session, by what they asked for and were told");
    describe_counter!(REFRESHES, "Refreshes that were run, each for one or more callers, by outcome");
    describe_histogram!(REFRESH_DURATION, Unit::Seconds, "How long refreshes took");
    describe_counter!(TOKEN_REQUESTS, "Requests to a provider's token endpoint, by grant and outcome");
    describe_gauge!(LEFT_ALONE, "1 while a provider fails and is not asked for refreshes");
    describe_counter!(STARTED, "Sessions that began, by provider");
    describe_counter!(ENDED, "Sessions that ended, by reason");
}

/// What a caller wanted of a session.
#[derive(Clone, Copy)]
pub(crate) enum Wanted {
    /// A token that lives for a while.
    Fresh,
    /// Tokens and claims no older than the call.
    Refresh,
}

/// A caller has its answer.
pub(crate) fn answered<T>(wanted: Wanted, answer: &Result<(T, RefreshOutcome), RefreshError>) {
    let wanted = match wanted {
        Wanted::Fresh => "fresh",
        Wanted::Refresh => "refresh",
    };
    let (outcome, reason) = codes(answer.as_ref().map(|(_, outcome)| *outcome));
    counter!(ANSWERS, "wanted" => wanted, "outcome" => outcome, "reason" => reason).increment(1);
}

/// A refresh is over.
pub(crate) fn refreshed(settled: Result<RefreshOutcome, &RefreshError>, took: Duration) {
    let (outcome, reason) = codes(settled);
    counter!(REFRESHES, "outcome" => outcome, "reason" => reason).increment(1);
    histogram!(REFRESH_DURATION, "outcome" => outcome).record(took);
}

/// A provider answered at its token endpoint, or did not.
pub(crate) fn token_answer(provider: &str, grant: &'static str, outcome: &'static str) {
    counter!(TOKEN_REQUESTS, "provider" => provider.to_owned(), "grant" => grant, "outcome" => outcome)
        .increment(1);
}

/// A provider was given up for a while, or is asked by everyone again.
pub(crate) fn provider_left_alone(provider: &str, left_alone: bool) {
    gauge!(LEFT_ALONE, "provider" => provider.to_owned()).set(u8::from(left_alone));
}

/// A session began.
pub(crate) fn session_started(provider: &str) {
    counter!(STARTED, "provider" => provider.to_owned()).increment(1);
}

/// A session ended.
pub(crate) fn session_ended(reason: EndReason) {
    counter!(ENDED, "reason" => reason.code()).increment(1);
}

/// Outcome and reason; no reason is an empty label, which is as good as none.
pub(crate) fn codes(settled: Result<RefreshOutcome, &RefreshError>) -> (&'static str, &'static str) {
    match settled {
        Ok(outcome) => (outcome.code(), outcome.reason().unwrap_or_default()),
        Err(error) => (error.code(), error.reason().unwrap_or_default()),
    }
}
