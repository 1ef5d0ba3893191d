//! What an operator may know of a session, live or ended: who it is, how its refreshes went, why it ended.
//!
//! Nothing here holds a token, or anything that opens a session.

use std::{collections::VecDeque, time::Duration};

use freshgate_oidc::{Claims, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Engine, record::Record};
use crate::{
    session::SessionKey,
    store::{Listed, StoreError, Tombstone},
};

/// Something that happened to a session, for "why was I signed out?".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When it was over.
    pub at: Timestamp,
    /// What it was.
    pub what: HistoryEvent,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// How many requests were sent to the provider's token endpoint for it.
    #[serde(default)]
    pub attempts: u32,
}

/// What happened to a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum HistoryEvent {
    /// The user signed in.
    SignedIn,
    /// Tokens and claims were refreshed.
    Refreshed,
    /// A refresh failed. The code says how: that of a [`RefreshFailure`](super::RefreshFailure) where the session was kept,
    /// that of an [`EndReason`](crate::session::EndReason) where it ended, `abandoned` where its engine was killed or stood
    /// still for so long that another took over, and nobody knows whether the provider saw it. Then the time is when that was
    /// noticed, and the duration reaches from the request's intent to it.
    RefreshFailed(String),
}

/// What is known of one session of the store.
#[derive(Clone, Debug)]
pub struct SessionReport {
    /// Its name, and the handle that apps know it by.
    pub key: SessionKey,
    /// Why and when it ended; `None` while it lives.
    pub ended: Option<Tombstone>,
    /// The rest.
    pub known: Known,
}

/// What is known of a session besides its key and its end.
#[derive(Clone, Debug)]
pub enum Known {
    /// What its record holds, or the note that its end left.
    All(Box<SessionFacts>),
    /// Nothing: it ended before anything was known of it.
    Nothing,
    /// It is sealed with a key that is not on the keyring, or damaged.
    Unreadable,
}

/// What a session's record holds, but for its tokens.
#[derive(Clone, Debug)]
pub struct SessionFacts {
    /// The provider's name in the configuration.
    pub provider: String,
    /// The issuer.
    pub issuer: String,
    /// Who it is to the issuer.
    pub subject: String,
    /// What to call the user: `email`, else `preferred_username`, else `name`, else `sub`.
    pub user: String,
    /// When the user signed in.
    pub signed_in_at: Timestamp,
    /// When the session ends, or would have ended, at the latest.
    pub ends_at: Timestamp,
    /// How often tokens and claims were committed.
    pub generation: u64,
    /// When the last access token ends; `None` where the provider did not say.
    pub token_expires_at: Option<Timestamp>,
    /// What happened to it, oldest first; only the last events are kept.
    pub history: VecDeque<HistoryEntry>,
    /// What only a live session has.
    pub live: Option<LiveFacts>,
}

/// What is known of a live session alone.
#[derive(Clone, Debug)]
pub struct LiveFacts {
    /// What the app sees of the user.
    pub claims: Claims,
    /// The provider's name for its own session (`sid`).
    pub provider_session: Option<String>,
    /// When the answer that brought the access token was asked for.
    pub token_obtained_at: Timestamp,
    /// As the provider named it, usually `Bearer`.
    pub token_type: String,
    /// What the access token may do, where the provider said it.
    pub scope: Option<String>,
    /// How many bytes the access token has.
    pub access_token_bytes: usize,
    /// How many bytes the ID token has, if there is one.
    pub id_token_bytes: Option<usize>,
    /// How many bytes the refresh token has, if there is one.
    pub refresh_token_bytes: Option<usize>,
    /// A refresh is under way: until when its lease is good, by the clock of who holds it.
    pub refreshing_until: Option<Timestamp>,
    /// How many attempts to refresh failed in a row.
    pub failures: u32,
    /// How many requests may have used the refresh token without their answer having arrived.
    pub answers_lost: u32,
    /// Before this time only a forced refresh asks the provider again.
    pub not_before: Option<Timestamp>,
}

impl SessionFacts {
    /// The names that the user may be looked for under.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let claims = self.live.iter().flat_map(|live| {
            NAMES.iter().filter_map(|name| live.claims.get(*name).and_then(serde_json::Value::as_str))
        });
        [self.user.as_str(), self.subject.as_str()].into_iter().chain(claims)
    }

    /// The last refresh, however it went.
    pub fn last_refresh(&self) -> Option<&HistoryEntry> {
        self.history.iter().rev().find(|entry| entry.what != HistoryEvent::SignedIn)
    }

    fn of(record: Record) -> Self {
        let user = user(&record);
        Self {
            live: Some(LiveFacts {
                provider_session: record.sid,
                token_obtained_at: record.tokens.obtained_at,
                token_type: record.tokens.token_type,
                scope: record.tokens.scope,
                access_token_bytes: record.tokens.access_token.expose().len(),
                id_token_bytes: record.tokens.id_token.map(|token| token.expose().len()),
                refresh_token_bytes: record.refresh_token.map(|token| token.expose().len()),
                refreshing_until: record.refresh.lease.map(|lease| lease.until),
                failures: record.refresh.failures,
                answers_lost: record.refresh.answers_lost,
                not_before: record.refresh.not_before,
                claims: record.claims,
            }),
            provider: record.provider,
            issuer: record.identity.issuer.as_str().to_owned(),
            subject: record.identity.subject,
            user,
            signed_in_at: record.signed_in_at,
            ends_at: record.ends_at,
            generation: record.generation,
            token_expires_at: record.tokens.expires_at,
            history: record.history,
        }
    }
}

/// The claims that name a user, the most telling first.
const NAMES: [&str; 3] = ["email", "preferred_username", "name"];

fn user(record: &Record) -> String {
    let named =
        NAMES.iter().find_map(|name| record.claims.get(*name)?.as_str().filter(|text| !text.is_empty()));
    named.unwrap_or(&record.identity.subject).to_owned()
}

impl Engine {
    /// What is known of up to `limit` sessions, live and ended, in the order of their keys, those after `after`. Ask again
    /// after the last key of a page; an empty page is the end.
    ///
    /// Reads the store and opens what it holds, past everything that is kept in memory: for operators, not for requests.
    /// Dropping the future is safe.
    pub async fn reports(
        &self,
        after: Option<SessionKey>,
        limit: usize,
    ) -> Result<Vec<SessionReport>, StoreError> {
        let page = self.0.store.list(after, limit).await?;
        Ok(page.into_iter().map(|(key, listed)| self.report(key, listed)).collect())
    }

    fn report(&self, key: SessionKey, listed: Listed) -> SessionReport {
        match listed {
            Listed::Live(row, _) => match self.0.sessions.open(key, &row) {
                Ok(record) => SessionReport { key, ended: self.over(&record), known: known(record) },
                Err(_) => SessionReport { key, ended: None, known: Known::Unreadable },
            },
            Listed::Ended(tombstone, note) => {
                let known = match note {
                    Some(note) => match self.0.sessions.open_note(key, &note) {
                        Ok(note) => Known::All(Box::new(note.into())),
                        Err(_) => Known::Unreadable,
                    },
                    None => Known::Nothing,
                };
                SessionReport { key, ended: Some(tombstone), known }
            }
        }
    }

    /// Whether and why the time of a session is over; then it has ended, though nobody may have noticed yet. Whoever comes
    /// upon such a session ends it.
    pub(super) fn over(&self, record: &Record) -> Option<Tombstone> {
        super::idle::over(record, self.0.clock.now(), &self.0.policy)
    }
}

fn known(record: Record) -> Known {
    Known::All(Box::new(SessionFacts::of(record)))
}

/// How long what is known of an ended session is kept at least: a tombstone must outlast any login or refresh that may be
/// under way.
pub(super) const SHORTEST_MEMORY: Duration = Duration::from_secs(24 * 3600);

const FORMAT: u32 = 1;

/// What is left to read of a session that ended. As written, so only ever add to it.
#[derive(Serialize, Deserialize)]
pub(super) struct EndNote {
    format: u32,
    provider: String,
    issuer: String,
    subject: String,
    user: String,
    signed_in_at: Timestamp,
    ends_at: Timestamp,
    generation: u64,
    token_expires_at: Option<Timestamp>,
    history: VecDeque<HistoryEntry>,
}

impl EndNote {
    pub(super) fn of(record: &Record) -> Self {
        Self {
            format: FORMAT,
            provider: record.provider.clone(),
            issuer: record.identity.issuer.as_str().to_owned(),
            subject: record.identity.subject.clone(),
            user: user(record),
            signed_in_at: record.signed_in_at,
            ends_at: record.ends_at,
            generation: record.generation,
            token_expires_at: record.tokens.expires_at,
            history: record.history.clone(),
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a note has only string keys")
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let note: Self = serde_json::from_slice(bytes)?;
        if note.format == FORMAT {
            Ok(note)
        } else {
            Err(serde::de::Error::custom(format_args!("note format {} is not known", note.format)))
        }
    }
}

impl From<EndNote> for SessionFacts {
    fn from(note: EndNote) -> Self {
        Self {
            provider: note.provider,
            issuer: note.issuer,
            subject: note.subject,
            user: note.user,
            signed_in_at: note.signed_in_at,
            ends_at: note.ends_at,
            generation: note.generation,
            token_expires_at: note.token_expires_at,
            history: note.history,
            live: None,
        }
    }
}
