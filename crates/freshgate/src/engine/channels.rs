//! What a provider tells us of logouts there: over the back channel, in a token that it signed, and over the front
//! channel, by way of a browser and unsigned.

use std::{collections::BTreeSet, sync::Arc};

use freshgate_oidc::{
    Issuer, LogoutTokenError, LogoutWho, RawLogoutToken, Timestamp, VerifiedLogoutToken, sha256,
};
use futures_util::{StreamExt as _, stream};

use super::{
    Engine,
    login::FLOW_LIFETIME,
    record::{Record, lookup_hash},
    sessions::Lookup,
};
use crate::{
    provider::{KeysUnavailable, Provider, VerifyError},
    sabotage::Sabotage,
    session::{EndReason, SessionKey},
    store::StoreError,
};

/// How many sessions of one user are ended at once.
const AT_ONCE: usize = 64;

/// Why a logout token ended nothing.
#[derive(Debug, thiserror::Error)]
pub enum BackChannelError {
    /// It cannot be read, or says that it is from somebody who is no provider here.
    #[error("the logout token is from no provider that is known here")]
    UnknownIssuer,
    /// It broke a rule (OpenID Connect Back-Channel Logout, section 2.6).
    #[error("the logout token of the provider {provider:?} was refused")]
    Rejected {
        /// The provider's name in the configuration.
        provider: String,
        /// The rule.
        #[source]
        source: LogoutTokenError,
    },
    /// It was used before (section 2.6, step 8).
    #[error("the logout token was used before")]
    Replayed,
    /// It cannot be checked: the provider's keys cannot be had.
    #[error("the logout token of the provider {provider:?} cannot be checked")]
    ProviderUnavailable {
        /// The provider's name in the configuration.
        provider: String,
        /// Why.
        #[source]
        source: KeysUnavailable,
    },
    /// The store failed: some of the sessions may have ended. The provider may send the token again.
    #[error("the sessions could not be ended")]
    Store(#[from] StoreError),
    /// A defect of ours.
    #[error("ending the sessions was interrupted")]
    Interrupted,
}

/// Why a front-channel logout ended nothing.
#[derive(Debug, thiserror::Error)]
pub enum FrontChannelError {
    /// It names an issuer that is no provider here.
    #[error("the logout is from no provider that is known here")]
    UnknownIssuer,
    /// The store failed: some of the sessions may have ended.
    #[error("the sessions could not be ended")]
    Store(#[from] StoreError),
    /// A defect of ours.
    #[error("ending the sessions was interrupted")]
    Interrupted,
}

/// Whose sessions are to end.
struct Meant {
    issuer: Issuer,
    who: LogoutWho,
    /// Those that this client signed in; all, where it is not said.
    client_id: Option<String>,
}

impl Engine {
    /// Ends the sessions that a provider says are over (OpenID Connect Back-Channel Logout 1.0, section 2.7), and yields
    /// how many there were; none is no error. A token that names a session ends what came of that session, one that
    /// names a user alone ends all of the user's sessions. One that names both also ends those of the user's sessions of
    /// which the provider never said the name: there is no other way to find them.
    ///
    /// Which provider's rules hold is decided by the issuer that the token names. When it returns, nothing is served in
    /// the name of the sessions that it ended, no refresh in flight brings one back, and a login that was under way signs
    /// nobody in. Dropping the future midway stops nothing.
    pub async fn back_channel_logout(&self, token: &RawLogoutToken) -> Result<usize, BackChannelError> {
        let issuer = token.claimed_issuer().ok_or(BackChannelError::UnknownIssuer)?;
        let mut refused = BackChannelError::UnknownIssuer;
        // Several, where we are registered at one provider as several clients: the audience says which it is for.
        for provider in self.clients_at(&issuer) {
            let name = || provider.name().to_owned();
            match provider.verify_logout(token).await {
                Ok(verified) => {
                    let (engine, provider) = (self.clone(), provider.clone());
                    let work = async move { engine.carry_out(&provider, verified).await };
                    return self.uncancelled(work).await.ok_or(BackChannelError::Interrupted)?;
                }
                Err(VerifyError::Rejected(source)) => {
                    refused = BackChannelError::Rejected { provider: name(), source };
                }
                Err(VerifyError::KeysUnavailable(source)) => {
                    refused = BackChannelError::ProviderUnavailable { provider: name(), source };
                }
            }
        }
        Err(refused)
    }

    /// Ends the sessions that come from a session at a provider, as a browser says (OpenID Connect Front-Channel
    /// Logout 1.0, section 2), and yields how many there were. Nothing that it says is signed: no token is revoked on
    /// its word, and nothing is remembered of it.
    ///
    /// Dropping the future midway stops nothing.
    pub async fn front_channel_logout(
        &self,
        issuer: Issuer,
        session_id: String,
    ) -> Result<usize, FrontChannelError> {
        if self.of_issuer(&issuer).next().is_none() {
            return Err(FrontChannelError::UnknownIssuer);
        }
        let who = LogoutWho::Session { session_id, subject: None };
        let (engine, meant) = (self.clone(), Meant { issuer, who, client_id: None });
        let ended = self.uncancelled(async move { engine.end_all(&meant).await }).await;
        let ended = ended.ok_or(FrontChannelError::Interrupted)??;
        if ended > 0 {
            tracing::info!(sessions = ended, "a browser told of a logout at the provider");
        }
        Ok(ended)
    }

    fn of_issuer(&self, issuer: &Issuer) -> impl Iterator<Item = &Arc<Provider>> {
        self.0.providers.values().filter(|provider| provider.config().issuer.may_be(issuer))
    }

    /// The same, but only one of those that go by the same client: the one that knows how the provider signs for it.
    fn clients_at(&self, issuer: &Issuer) -> Vec<&Arc<Provider>> {
        let mut clients: Vec<&Arc<Provider>> = Vec::new();
        for provider in self.of_issuer(issuer) {
            let client_id = &provider.config().client_id;
            match clients.iter_mut().find(|there| there.config().client_id == *client_id) {
                Some(there) if there.registered_algorithm().is_none() => *there = provider,
                Some(_) => {}
                None => clients.push(provider),
            }
        }
        clients
    }

    /// What follows from a logout token that is good. The order is what makes it safe: the token counts as used once
    /// everything is done, so that one that met a failing store can be sent again; and that the user signed out is
    /// remembered before the sessions are looked up, so that a login finds either the one or the other.
    async fn carry_out(
        &self,
        provider: &Provider,
        token: VerifiedLogoutToken,
    ) -> Result<usize, BackChannelError> {
        let client_id = provider.config().client_id.as_str();
        let (issuer, now) = (token.issuer().as_str(), self.0.clock.now());
        let used = mark_of("logout token", &[issuer, client_id, token.token_id()]);
        let ignored = self.sabotaged(Sabotage::ReplayIgnored);
        if self.0.store.marked(used).await?.is_some() && !ignored {
            return Err(BackChannelError::Replayed);
        }
        let signed_out = match token.who() {
            LogoutWho::Session { session_id, subject } => {
                let unnamed =
                    subject.as_ref().map(|subject| signed_out_unnamed_session(issuer, client_id, subject));
                vec![Some(signed_out_session(issuer, client_id, session_id)), unnamed]
            }
            LogoutWho::Subject(subject) => vec![Some(signed_out_subject(issuer, client_id, subject))],
        };
        for mark in signed_out.into_iter().flatten() {
            // As long as a login that began before may still come back.
            self.0.store.mark(mark, now, now + FLOW_LIFETIME + FLOW_LIFETIME).await?;
        }
        let (issuer, who) = (token.issuer().clone(), token.who().clone());
        let meant = Meant { issuer, who, client_id: Some(client_id.to_owned()) };
        let ended = self.end_all(&meant).await?;
        let keep_until = token.expires_at() + provider.config().clock_leeway;
        // Of a token that came twice at once, one was the first.
        if self.0.store.mark(used, now, keep_until).await?.is_some() && !ignored {
            return Err(BackChannelError::Replayed);
        }
        tracing::info!(provider = provider.name(), sessions = ended, "the provider told of a logout");
        Ok(ended)
    }

    async fn end_all(&self, meant: &Meant) -> Result<usize, StoreError> {
        let issuer = meant.issuer.as_str();
        let of_subject = async |subject| self.0.store.of_subject(lookup_hash(issuer, subject)).await;
        let keys = match &meant.who {
            LogoutWho::Session { session_id, subject } => {
                let mut keys = self.0.store.of_provider_session(lookup_hash(issuer, session_id)).await?;
                if let Some(subject) = subject {
                    keys.extend(of_subject(subject).await?);
                }
                keys.into_iter().collect::<BTreeSet<_>>().into_iter().collect()
            }
            LogoutWho::Subject(subject) => of_subject(subject).await?,
        };
        let ends = keys.into_iter().map(|key| self.end_if_meant(key, meant));
        let mut ends = stream::iter(ends).buffer_unordered(AT_ONCE);
        let (mut ended, mut failed) = (0, None);
        // One that cannot be ended does not keep the others.
        while let Some(outcome) = ends.next().await {
            match outcome {
                Ok(one) => ended += usize::from(one),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(ended), Err)
    }

    async fn end_if_meant(&self, key: SessionKey, meant: &Meant) -> Result<bool, StoreError> {
        match self.0.sessions.read_store(key).await? {
            Lookup::Live(record, _) if meant.is(&record) => {
                Ok(self.end(key, EndReason::ProviderLogout).await?.is_some())
            }
            Lookup::Live(..) | Lookup::Ended(_) | Lookup::Unknown => Ok(false),
        }
    }

    /// Whether the provider told of a logout of this session's user, or of the session there, since `since`.
    pub(super) async fn signed_out_since(
        &self,
        record: &Record,
        provider: &Provider,
        since: Timestamp,
    ) -> Result<bool, StoreError> {
        let (issuer, client_id) = (record.identity.issuer.as_str(), &provider.config().client_id);
        let subject = record.identity.subject.as_str();
        let of_session = match &record.sid {
            Some(sid) => signed_out_session(issuer, client_id, sid),
            None => signed_out_unnamed_session(issuer, client_id, subject),
        };
        for mark in [signed_out_subject(issuer, client_id, subject), of_session] {
            if self.0.store.marked(mark).await?.is_some_and(|at| at >= since) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Meant {
    fn is(&self, record: &Record) -> bool {
        let identity = &record.identity;
        let of_client = self.client_id.as_ref().is_none_or(|client_id| identity.audience.contains(client_id));
        let of_subject = |subject: &str| identity.subject == subject;
        let is_named = match &self.who {
            LogoutWho::Subject(subject) => of_subject(subject),
            LogoutWho::Session { session_id, subject } => {
                subject.as_deref().is_none_or(of_subject)
                    && match &record.sid {
                        Some(sid) => sid == session_id,
                        // Found by its user, who is named then.
                        None => subject.is_some(),
                    }
            }
        };
        of_client && is_named
    }
}

fn signed_out_session(issuer: &str, client_id: &str, session_id: &str) -> [u8; 32] {
    mark_of("signed out session", &[issuer, client_id, session_id])
}

/// Of a session whose name the provider never said.
fn signed_out_unnamed_session(issuer: &str, client_id: &str, subject: &str) -> [u8; 32] {
    mark_of("signed out unnamed session", &[issuer, client_id, subject])
}

fn signed_out_subject(issuer: &str, client_id: &str, subject: &str) -> [u8; 32] {
    mark_of("signed out subject", &[issuer, client_id, subject])
}

/// The name of what is remembered in the store. The lengths keep ("ab", "c") apart from ("a", "bc").
fn mark_of(what: &str, parts: &[&str]) -> [u8; 32] {
    let parts = parts.iter().map(|part| format!("{}:{part}", part.len()));
    sha256(std::iter::once(format!("{what} ")).chain(parts).collect::<String>().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_of_one_thing_each() {
        let marks = [
            mark_of("logout token", &["https://a", "client", "1"]),
            mark_of("logout token", &["https://a", "client", "2"]),
            mark_of("logout token", &["https://a", "client1", ""]),
            mark_of("logout token", &["https://a1", "client", ""]),
            signed_out_session("https://a", "client", "1"),
            signed_out_unnamed_session("https://a", "client", "1"),
            signed_out_subject("https://a", "client", "1"),
        ];
        let different: BTreeSet<_> = marks.iter().collect();
        assert_eq!(different.len(), marks.len());
        // Gates of different versions share a store, and must agree.
        assert_eq!(
            freshgate_oidc::base64url(&signed_out_session("https://a", "client", "1")),
            "uptBk91sHIMbBdBs7h_Rg5c1C6PZ1aCOCSgodqbmqvo"
        );
    }
}
