//! What the provider's answer is worth: the checks that it must pass, and the commit that makes it visible.

use std::{error::Error, sync::Arc};

use freshgate_oidc::{
    RefreshedIdTokenError, Timestamp, TokenGrant, UserInfo, UserInfoError, VerifiedIdToken, merge_claims,
};

use super::{
    FIRST_BACKOFF, Landed, RefreshFailure, RefreshOutcome, TryLater,
    flight::{Diversion, Flight},
    writing::{Fence, Held},
};
use crate::{
    engine::{history::HistoryEvent, record::Record},
    provider::{Provider, UsableToken, UserInfoFailure, VerifyError},
    sabotage::Sabotage,
    session::{OpenSession, TokenSet},
};

/// An answer that passed every check.
pub(super) struct Verified {
    grant: TokenGrant,
    sent_at: Timestamp,
    id_token: Option<VerifiedIdToken>,
    userinfo: Option<UserInfo>,
    /// Userinfo could not be asked.
    userinfo_failure: Option<UserInfoFailure>,
}

/// Why an answer is not committed.
pub(super) enum Unverified {
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

impl Flight<'_> {
    /// Checks the answer: the ID token, if there is one (OpenID Connect Core, section 12.2), and the subject of userinfo
    /// (section 5.3.2).
    pub(super) async fn verify(
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
    pub(super) async fn commit(&self, held: Held, verified: Verified) -> Result<Landed, Diversion> {
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
}
