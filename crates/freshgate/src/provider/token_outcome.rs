//! What a token request led to, by what the caller must do about it.

use std::{error::Error, time::Duration};

use freshgate_oidc::{RefusalKind, Secret, TokenAnswer, TokenGrant, TokenRefusal, WhyMalformed};

use super::{TokenRequestError, TransportError, breaker::Verdict};

type Why = Box<dyn Error + Send + Sync>;

/// What a token request led to.
pub(crate) enum TokenOutcome {
    /// Tokens. Nothing in them is verified.
    Granted(TokenGrant),
    /// The provider refuses the code or the refresh token.
    Refused(Why),
    /// A 400 that does not say why. It may be the provider's refusal, or the page of something that stands before it.
    RefusedWithoutWords(Why),
    /// The provider refuses this client, whatever it sends.
    Misconfigured(Why),
    /// The provider cannot answer now, and may say when to come back.
    Unavailable {
        why: Why,
        retry_after: Option<RetryAfter>,
        /// It may have acted all the same: what came is the answer of a gateway, or of a provider that failed midway.
        may_have_acted: bool,
    },
    /// The provider acted, and its answer cannot be used; but it may hold a rotated refresh token.
    Malformed(Why, Option<Secret>),
    /// The provider may have acted, and its answer is lost.
    Lost(Why),
    /// The provider has seen nothing.
    NotSent(Why),
}

/// When to come back, as the provider wishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RetryAfter {
    pub(crate) wanted: Duration,
    /// It is away for everyone (503: RFC 9110, section 10.2.3); a limit (429) may be this session's own.
    everyone: bool,
}

/// The provider answered, but not with tokens.
#[derive(Debug, thiserror::Error)]
enum NoTokens {
    #[error("it refused with status {}{}", .0.status, said(.0))]
    Refused(TokenRefusal),
    #[error("it cannot answer now: status {0}")]
    Unavailable(u16),
    #[error("it answers with status {0} and nothing of a token endpoint")]
    NotATokenAnswer(u16),
    #[error("its answer cannot be used")]
    Malformed(#[source] WhyMalformed),
}

pub(super) fn said(refusal: &TokenRefusal) -> String {
    let code = refusal.code.as_deref().map(|code| format!(", {code}")).unwrap_or_default();
    let description = refusal.description.as_deref().map(|text| format!(": {text}")).unwrap_or_default();
    format!("{code}{description}")
}

impl TokenOutcome {
    /// Sorts an answer, or the lack of one.
    pub(crate) fn of(answer: Result<TokenAnswer, TokenRequestError>) -> Self {
        match answer {
            Ok(TokenAnswer::Granted(grant)) => Self::Granted(grant),
            Ok(TokenAnswer::Refused(refusal)) => Self::refused(refusal),
            Ok(TokenAnswer::Unavailable { status, retry_after, may_have_acted }) => {
                let retry_after = retry_after.map(|wanted| RetryAfter { wanted, everyone: status == 503 });
                let why = match status {
                    200..=299 => NoTokens::NotATokenAnswer(status),
                    _ => NoTokens::Unavailable(status),
                };
                Self::Unavailable { why: why.into(), retry_after, may_have_acted }
            }
            Ok(TokenAnswer::Malformed { what, refresh_token }) => {
                Self::Malformed(NoTokens::Malformed(what).into(), refresh_token)
            }
            Ok(_) => Self::Malformed("its answer is of an unknown kind".into(), None),
            Err(error @ TokenRequestError::Transport(TransportError::AnswerLost { .. })) => {
                Self::Lost(error.into())
            }
            Err(error @ TokenRequestError::ClientAuthentication(_)) => Self::Misconfigured(error.into()),
            Err(error) => Self::NotSent(error.into()),
        }
    }

    /// What it says of the provider. One that refuses is up.
    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Granted(_)
            | Self::Refused(_)
            | Self::RefusedWithoutWords(_)
            | Self::Misconfigured(_)
            | Self::Malformed(..) => Verdict::Answered,
            Self::Unavailable { retry_after: Some(RetryAfter { wanted, everyone }), .. } => {
                Verdict::Failed { wanted: Some(*wanted), everyone: *everyone }
            }
            Self::Unavailable { retry_after: None, .. } | Self::Lost(_) | Self::NotSent(_) => Verdict::FAILED,
        }
    }

    fn refused(refusal: TokenRefusal) -> Self {
        // A refusal in the protocol's words, whatever the code, is meant for the token. Any other (a firewall's page, a
        // moved endpoint) says nothing about it, and must not sign anybody out; except that some providers have no words.
        let (kind, has_words, is_400) = (refusal.kind, refusal.code.is_some(), refusal.status == 400);
        let why = NoTokens::Refused(refusal).into();
        match kind {
            RefusalKind::InvalidClient => Self::Misconfigured(why),
            RefusalKind::InvalidGrant => Self::Refused(why),
            RefusalKind::Other if has_words => Self::Refused(why),
            RefusalKind::Other if is_400 => Self::RefusedWithoutWords(why),
            RefusalKind::Other => Self::Unavailable { why, retry_after: None, may_have_acted: false },
        }
    }
}
