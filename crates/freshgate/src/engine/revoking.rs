//! Refresh tokens of sessions that were ended here, taken back at the provider (RFC 7009). Nobody waits for it: a user is
//! signed out whether or not the provider answers.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use freshgate_oidc::Secret;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::{Engine, Record};
use crate::{
    provider::Revocation,
    session::{EndReason, SessionKey},
};

/// How many are taken back at once, so that a thousand sessions that end together do not all ask together.
const AT_ONCE: usize = 16;
/// How often the provider is asked for one at the most.
const ATTEMPTS: u32 = 3;
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(5);
/// The pause before the second attempt, unless the provider wishes another; the next is three times as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// A provider may wish a longer pause (Retry-After), but not a longer one than this.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How many refresh tokens were taken back, and how many could not be and may still be good.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevocationCounts {
    /// Taken back.
    pub revoked: u64,
    /// Not taken back: the provider did not answer, or refused.
    pub failed: u64,
}

/// The revocations of one engine.
pub(super) struct Revocations {
    under_way: TaskTracker,
    places: Semaphore,
    revoked: AtomicU64,
    failed: AtomicU64,
}

impl Default for Revocations {
    fn default() -> Self {
        let (revoked, failed) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { under_way: TaskTracker::new(), places: Semaphore::new(AT_ONCE), revoked, failed }
    }
}

impl Engine {
    /// How revocations went so far.
    pub fn revocations(&self) -> RevocationCounts {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let revocations = &self.0.revocations;
        RevocationCounts { revoked: of(&revocations.revoked), failed: of(&revocations.failed) }
    }

    /// Waits until no revocation is under way. Dropping the future is safe.
    pub async fn revocations_settled(&self) {
        let under_way = &self.0.revocations.under_way;
        under_way.close();
        under_way.wait().await;
        under_way.reopen();
    }

    /// A session ended: takes its refresh token back, if the reason asks for it. Does not wait.
    pub(super) fn revoke_tokens_of(&self, ended: &Record, reason: EndReason) {
        if let Some(refresh_token) = ended.refresh_token.clone() {
            self.revoke(ended.key, &ended.provider, refresh_token, reason);
        }
    }

    /// The same for a refresh token that reached us after its session had ended.
    pub(super) fn revoke(&self, key: SessionKey, provider: &str, refresh_token: Secret, reason: EndReason) {
        if !reason.revokes_tokens() || !self.0.providers.contains_key(provider) {
            return;
        }
        let (engine, provider) = (self.clone(), provider.to_owned());
        let task = async move { engine.take_back(key, &provider, &refresh_token).await };
        self.start(self.0.revocations.under_way.track_future(task));
    }

    async fn take_back(&self, key: SessionKey, provider: &str, refresh_token: &Secret) {
        let Some(provider) = self.0.providers.get(provider) else { return };
        let revocations = &self.0.revocations;
        let Ok(_place) = revocations.places.acquire().await else { return };
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=ATTEMPTS {
            let (error, wanted) = match tokio::time::timeout(ATTEMPT, provider.revoke(refresh_token)).await {
                Ok(Revocation::NotOffered) => return,
                Ok(Revocation::Done) => {
                    revocations.revoked.fetch_add(1, Ordering::Relaxed);
                    tracing::debug!(session = %key.short(), provider = provider.name(), "refresh token revoked");
                    return;
                }
                Ok(Revocation::Refused(error)) => (error, None),
                Ok(Revocation::NotNow(error, wanted)) => (error, Some(wanted.unwrap_or(pause))),
                Err(_) => ("it does not answer".into(), Some(pause)),
            };
            // A gate that stops does not wait for another attempt.
            let again = wanted.filter(|_| attempt < ATTEMPTS && !self.0.tasks.is_closed());
            let Some(wanted) = again else {
                revocations.failed.fetch_add(1, Ordering::Relaxed);
                tracing::warn!(
                    session = %key.short(), provider = provider.name(), attempts = attempt,
                    error = &*error as &dyn std::error::Error,
                    "a refresh token could not be revoked: it may still be good at the provider"
                );
                return;
            };
            tokio::time::sleep(wanted.min(LONGEST_PAUSE)).await;
            pause *= 3;
        }
    }
}
