//! What a provider makes of one session, looked at closely: for whoever checks a provider before users do.
//!
//! Everything is asked as for any session; what is told here besides are sizes, times and yes or no, never a token.

use std::{error::Error, sync::Arc, time::Duration};

use freshgate_oidc::{Secret, Timestamp};

use super::{Engine, Record, RefreshError, sessions::Lookup};
use crate::{
    provider::{Asked, Connection, TokenOutcome},
    session::OpenSession,
};

/// A session that is tried out.
pub struct Trial {
    engine: Engine,
    record: Arc<Record>,
    /// The refresh token that the last refresh replaced.
    replaced: Option<Secret>,
}

/// The tokens of a session, as of the last answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    /// As the provider named it, usually `Bearer`.
    pub token_type: String,
    /// How many bytes the access token has.
    pub access_token_bytes: usize,
    /// How long it lives; `None` where the provider did not say.
    pub access_token_lifetime: Option<Duration>,
    /// How many bytes the refresh token has, if there is one.
    pub refresh_token_bytes: Option<usize>,
    /// How many bytes the ID token has, if there is one.
    pub id_token_bytes: Option<usize>,
    /// When the ID token says that it was made.
    pub id_token_issued_at: Option<Timestamp>,
    /// When the ID token is over.
    pub id_token_expires_at: Option<Timestamp>,
    /// What the access token may do, where the provider said it.
    pub scope: Option<String>,
    /// When the answer that brought them was asked for.
    pub asked_at: Timestamp,
}

/// What userinfo answered.
#[derive(Debug)]
pub enum TriedUserInfo {
    /// It is not to be asked, or there is none.
    NotAsked,
    /// It tells so many claims, of the same subject as the ID token.
    Agrees {
        /// How many claims.
        claims: usize,
    },
    /// There is nothing from it.
    Failed(Box<dyn Error + Send + Sync>),
}

/// What a refresh brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriedRefresh {
    /// Whether another refresh token came.
    pub rotated: bool,
    /// Whether another ID token came. One that was made in the same second as the one before may be the same to the byte.
    pub new_id_token: bool,
    /// Whether another access token came.
    pub new_access_token: bool,
    /// The tokens from now on.
    pub tokens: TokenFacts,
}

/// What the provider did with a refresh token that it had replaced.
#[derive(Debug)]
pub enum ReplacedToken {
    /// There is none: the last refresh brought no other.
    None,
    /// It took it again.
    Accepted,
    /// It refused it.
    Refused(Box<dyn Error + Send + Sync>),
    /// Its answer says neither.
    Unclear(Box<dyn Error + Send + Sync>),
}

impl Engine {
    /// Tries a session out. It should be one that was made for that: its tokens are spent.
    pub fn trial(&self, session: &OpenSession) -> Trial {
        Trial { engine: self.clone(), record: session.0.clone(), replaced: None }
    }
}

impl Trial {
    /// The tokens as they are now.
    pub fn tokens(&self) -> TokenFacts {
        let Record { tokens, refresh_token, id_token_claims, .. } = &*self.record;
        let time = |claim: &str| id_token_claims.get(claim)?.as_f64();
        let time = |claim| time(claim).map(|seconds| Timestamp::from_unix_millis((seconds * 1000.0) as i64));
        TokenFacts {
            token_type: tokens.token_type.clone(),
            access_token_bytes: tokens.access_token.expose().len(),
            access_token_lifetime: tokens.expires_at.map(|end| end.saturating_since(tokens.obtained_at)),
            refresh_token_bytes: refresh_token.as_ref().map(|token| token.expose().len()),
            id_token_bytes: tokens.id_token.as_ref().map(|token| token.expose().len()),
            id_token_issued_at: time("iat"),
            id_token_expires_at: time("exp"),
            scope: tokens.scope.clone(),
            asked_at: tokens.obtained_at,
        }
    }

    /// Asks userinfo. Dropping the future is safe.
    pub async fn userinfo(&self) -> TriedUserInfo {
        let Some(provider) = self.engine.0.providers.get(&self.record.provider) else {
            return TriedUserInfo::NotAsked;
        };
        let subject = &self.record.identity.subject;
        match provider.userinfo(self.record.usable_token(), subject).await {
            Ok(None) => TriedUserInfo::NotAsked,
            Ok(Some(userinfo)) => TriedUserInfo::Agrees { claims: userinfo.claims().len() },
            Err(error) => TriedUserInfo::Failed(Box::new(error)),
        }
    }

    /// Refreshes the session, as [`Engine::refresh`] does, and compares what came with what was there.
    pub async fn refresh(&mut self, deadline: Duration) -> Result<TriedRefresh, RefreshError> {
        let before = self.record.clone();
        self.engine.refresh(before.key, deadline).await?;
        if let Ok(Lookup::Live(record, _)) = self.engine.0.sessions.read(before.key).await {
            self.record = record;
        }
        let after = &self.record;
        let rotated = before.refresh_token != after.refresh_token;
        self.replaced = before.refresh_token.clone().filter(|_| rotated);
        Ok(TriedRefresh {
            rotated,
            new_id_token: before.tokens.id_token != after.tokens.id_token,
            new_access_token: before.tokens.access_token != after.tokens.access_token,
            tokens: self.tokens(),
        })
    }

    /// Sends the refresh token that the last refresh replaced once more. A provider may take that for theft and revoke
    /// every token of this login; what it answers with is thrown away.
    pub async fn send_replaced_token(&self) -> ReplacedToken {
        let provider = self.engine.0.providers.get(&self.record.provider);
        let (Some(provider), Some(replaced)) = (provider, &self.replaced) else { return ReplacedToken::None };
        let (resources, key) = (&self.record.resources, self.record.dpop_key.as_ref());
        let ask = || provider.refresh(replaced, resources, key, Connection::New);
        let answer = match ask().await {
            Ok(Asked::NonceWanted(_)) => ask().await,
            asked => asked,
        };
        match TokenOutcome::of(answer.map(Asked::finally)) {
            TokenOutcome::Granted(_) => ReplacedToken::Accepted,
            TokenOutcome::Refused(error) => ReplacedToken::Refused(error),
            TokenOutcome::Misconfigured(error)
            | TokenOutcome::RefusedWithoutWords(error)
            | TokenOutcome::Unavailable { why: error, .. }
            | TokenOutcome::Malformed(error, _)
            | TokenOutcome::Lost(error)
            | TokenOutcome::NotSent(error) => ReplacedToken::Unclear(error),
        }
    }
}
