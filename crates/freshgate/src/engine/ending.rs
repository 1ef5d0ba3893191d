//! How a session ends, whoever asked: the one way.

use std::time::Duration;

use freshgate_oidc::{EndSessionRequest, Secret, Timestamp};
use url::Url;

use super::{
    Engine,
    history::SHORTEST_MEMORY,
    record::Record,
    sessions::{EndedAt, Lookup},
};
#[cfg(feature = "simulation")]
use crate::sabotage::Sabotage;
use crate::{
    counting,
    session::{EndReason, OpenSession, SessionKey},
    store::{Revision, StoreError, Tombstone},
};

/// How long a logout waits to learn where the provider signs users out.
const LOGOUT_METADATA_DEADLINE: Duration = Duration::from_secs(3);

/// Where to send the browser so that the provider signs the user out too.
#[derive(Debug)]
pub struct ProviderLogout {
    /// The provider's end_session address. It holds the ID token as a hint: for a `Location` header, not for a log.
    pub url: Secret,
    /// Comes back with the browser; compare it.
    pub state: Secret,
}

impl Engine {
    /// Ends a session and tells everyone. Returns what it was, if this call ended it; ending twice is no error.
    ///
    /// When it returns, nothing is served in the session's name any more, and no refresh or login in flight can bring it
    /// back. If the user or an operator ends it, its refresh token is revoked at the provider; that takes place later, and
    /// nobody waits for it. Dropping the future midway is safe: the session ends or it does not, and can be ended again.
    pub async fn end(&self, key: SessionKey, reason: EndReason) -> Result<Option<OpenSession>, StoreError> {
        #[cfg(feature = "simulation")]
        let before =
            self.sabotaged(Sabotage::TombstoneIgnored).then(|| self.0.sessions.in_memory(key)).flatten();
        let now = self.0.clock.now();
        let tombstone = Tombstone { reason, ended_at: now };
        // What happened to it, to be read afterwards. A refresh that lands before the end is left out of it.
        let before_it = match self.0.sessions.read_store(key).await? {
            Lookup::Live(record, _) => Some(record),
            Lookup::Ended(_) | Lookup::Unknown => None,
        };
        let note = before_it.as_ref().map(|record| self.0.sessions.seal_note(record));
        let ended = match self.0.sessions.end(key, tombstone, self.tombstone_until(now), note).await {
            Ok(ended) => ended,
            // If it was written all the same, it ended by this, and there is a refresh token to be revoked.
            Err(error) => match self.0.sessions.read_store(key).await {
                Ok(Lookup::Ended(found)) if found == tombstone => before_it,
                _ => return Err(error),
            },
        };
        #[cfg(feature = "simulation")]
        if let Some(before) = before {
            self.0.sessions.put_back(key, before);
        }
        if let Some(ended) = &ended {
            self.revoke_tokens_of(ended, reason);
            counting::session_ended(reason);
            tracing::info!(session = %key.short(), reason = reason.code(), "session ended");
        }
        Ok(ended.map(OpenSession))
    }

    /// The same, if the session is still at `revision`: what it ends for may have been overcome meanwhile. `told` is the
    /// record whose history is kept.
    pub(super) async fn end_at(
        &self,
        told: &Record,
        revision: Revision,
        reason: EndReason,
    ) -> Result<EndedAt, StoreError> {
        let now = self.0.clock.now();
        let tombstone = Tombstone { reason, ended_at: now };
        let key = told.key;
        let note = Some(self.0.sessions.seal_note(told));
        let ended = self.0.sessions.end_at(key, revision, tombstone, self.tombstone_until(now), note).await?;
        if let EndedAt::Now = &ended {
            counting::session_ended(reason);
            tracing::info!(session = %key.short(), reason = reason.code(), "session ended");
        }
        Ok(ended)
    }

    fn tombstone_until(&self, now: Timestamp) -> Timestamp {
        now + self.0.policy.ended_kept.max(SHORTEST_MEMORY)
    }

    /// The provider's logout for a session that was just ended (OpenID Connect RP-Initiated Logout 1.0, section 2).
    ///
    /// `None` where the provider offers none, or does not say in time: the user is signed out here all the same.
    pub async fn provider_logout(
        &self,
        ended: &OpenSession,
        post_logout_redirect_uri: &Url,
    ) -> Option<ProviderLogout> {
        let provider = self.0.providers.get(ended.provider())?;
        let metadata =
            tokio::time::timeout(LOGOUT_METADATA_DEADLINE, provider.metadata()).await.ok()?.ok()?;
        let state = self.0.entropy.token();
        let url = EndSessionRequest {
            endpoint: metadata.end_session_endpoint.as_ref()?,
            id_token_hint: ended.tokens().id_token.as_ref(),
            client_id: &provider.config().client_id,
            post_logout_redirect_uri: Some(post_logout_redirect_uri),
            state: Some(&state),
        }
        .to_url();
        let url = Secret::new(url);
        Some(ProviderLogout { url, state })
    }
}
