//! What the provider remembers: users, sessions of browsers, codes, grants.
//!
//! Owns the rules by which these change and how they survive a restart. It keeps no token and no cookie in a form that
//! could be used: codes and cookies as hashes, tokens not at all (see `token::seal`). Who may cause a change is decided
//! by the endpoints.

mod code;
mod file;
mod grant;
mod ledger;
mod once;
mod pushed_request;
mod refresh_chain;
mod session;
mod user;

use std::collections::{BTreeMap, HashMap};

use pushed_request::PushedRequest;
use serde::{Deserialize, Serialize};

pub(crate) use code::{Code, Redeemed};
pub use file::StateFileError;
pub(crate) use file::{SavedState, load, save};
pub(crate) use grant::{Grant, GrantId, Whose};
pub(crate) use ledger::Ledger;
pub(crate) use pushed_request::REQUEST_LIFETIME;
pub(crate) use refresh_chain::{Lifetime, Presented, RefreshChain};
pub(crate) use session::{SESSION_LIFETIME, Session};

use crate::clock::UnixTime;
use crate::config::DevUser;
use crate::random::{base64url, from_base64url, sha256};

/// All of it. Changed only through [`Ledger::change`].
#[derive(Clone, Default, Serialize, Deserialize)]
pub(crate) struct State {
    users: BTreeMap<String, DevUser>,
    /// By `sid`.
    sessions: HashMap<String, Session>,
    grants: HashMap<GrantId, Grant>,
    /// Access tokens revoked one by one, until they would have expired anyway.
    revoked_access_tokens: HashMap<String, UnixTime>,
    /// A code lives a minute: not worth saving.
    #[serde(skip)]
    codes: HashMap<Hashed, Code>,
    #[serde(skip)]
    pushed_requests: HashMap<Hashed, PushedRequest>,
    /// Names that were used, until they could not be used anyway.
    #[serde(skip)]
    used: HashMap<Hashed, UnixTime>,
    #[serde(skip)]
    reuse_detected: u64,
    #[serde(skip)]
    pruned_at: Option<UnixTime>,
}

impl State {
    /// Forgets what can no longer matter. Cheap to call often: it looks around once a minute.
    fn prune(&mut self, now: UnixTime) {
        const EVERY: std::time::Duration = std::time::Duration::from_secs(60);
        if self.pruned_at.is_some_and(|pruned| now.since(pruned) < EVERY) {
            return;
        }
        self.pruned_at = Some(now);
        self.codes.retain(|_, code| !code.forgettable(now));
        self.sessions.retain(|_, session| session.lives(now));
        self.grants.retain(|_, grant| !grant.is_over(now));
        self.pushed_requests.retain(|_, request| !request.is_over(now));
        self.used.retain(|_, until| *until > now);
        self.revoked_access_tokens.retain(|_, expires| *expires > now);
    }
}

/// The SHA-256 of a value that only has to be recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Hashed([u8; 32]);

impl Hashed {
    fn of(value: &str) -> Hashed {
        Hashed(sha256(value.as_bytes()))
    }
}

impl From<Hashed> for String {
    fn from(hashed: Hashed) -> String {
        base64url(&hashed.0)
    }
}

impl TryFrom<String> for Hashed {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Hashed, &'static str> {
        let bytes = from_base64url(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(Hashed).ok_or("not a SHA-256 hash")
    }
}
