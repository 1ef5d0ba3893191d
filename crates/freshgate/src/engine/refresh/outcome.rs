//! How a refresh went: what callers, logs, metrics and the session API are told.

use std::{error::Error, sync::Arc, time::Duration};

use super::FIRST_BACKOFF;
use crate::{session::EndReason, store::StoreError};

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

    pub(in crate::engine) fn interrupted() -> Self {
        TryLater { retry_after: FIRST_BACKOFF, failure: RefreshFailure::Interrupted }.into()
    }

    /// Whether it is nothing new: an operator was told when it happened first.
    pub(super) fn is_expected(&self) -> bool {
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

    pub(super) fn store(error: StoreError) -> Self {
        TryLater { retry_after: FIRST_BACKOFF, failure: RefreshFailure::Store(Arc::new(error)) }.into()
    }
}
