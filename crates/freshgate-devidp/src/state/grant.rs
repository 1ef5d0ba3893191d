//! What a user has granted a client: the family that all tokens of one sign-in belong to.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::State;
use super::refresh_chain::RefreshChain;
use crate::clock::UnixTime;
use crate::random::{base64url, from_base64url, random_bytes};
use crate::token::Thumbprint;

/// The name of a grant. Not a secret: it opens nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct GrantId([u8; GrantId::LENGTH]);

impl GrantId {
    pub(crate) const LENGTH: usize = 12;

    pub(crate) fn random() -> GrantId {
        GrantId(random_bytes())
    }

    pub(crate) fn from_bytes(bytes: [u8; GrantId::LENGTH]) -> GrantId {
        GrantId(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; GrantId::LENGTH] {
        &self.0
    }
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base64url(&self.0))
    }
}

impl fmt::Debug for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<GrantId> for String {
    fn from(id: GrantId) -> String {
        id.to_string()
    }
}

impl TryFrom<String> for GrantId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<GrantId, &'static str> {
        let bytes = from_base64url(&text).and_then(|bytes| bytes.try_into().ok());
        bytes.map(GrantId).ok_or("not the name of a grant")
    }
}

/// One sign-in of a user at a client, for as long as tokens of it live.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) client_id: String,
    pub(crate) sub: String,
    pub(crate) sid: String,
    pub(crate) auth_time: UnixTime,
    pub(crate) scope: Vec<String>,
    /// `None`: no refresh token was given.
    pub(crate) refresh: Option<RefreshChain>,
    /// When the last access token of it expires.
    pub(crate) access_ends: UnixTime,
    /// The key that its refresh token is bound to: a public client's, if it proves to hold one (RFC 9449 5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dpop_jkt: Option<Thumbprint>,
}

impl Grant {
    pub(super) fn is_over(&self, now: UnixTime) -> bool {
        self.access_ends <= now && self.refresh.as_ref().is_none_or(|chain| chain.has_expired(now))
    }
}

/// Whose sessions or grants are meant.
#[derive(Clone, Debug)]
pub(crate) enum Whose {
    User(String),
    Everyone,
}

impl Whose {
    pub(crate) fn includes(&self, sub: &str) -> bool {
        match self {
            Whose::User(user) => user == sub,
            Whose::Everyone => true,
        }
    }
}

impl State {
    pub(crate) fn add_grant(&mut self, grant: Grant) -> GrantId {
        let id = GrantId::random();
        self.grants.insert(id, grant);
        id
    }

    pub(crate) fn grant(&self, id: GrantId) -> Option<&Grant> {
        self.grants.get(&id)
    }

    pub(crate) fn grant_mut(&mut self, id: GrantId) -> Option<&mut Grant> {
        self.grants.get_mut(&id)
    }

    /// Grants of which something still lives.
    pub(crate) fn grants_of(&self, whose: &Whose, now: UnixTime) -> impl Iterator<Item = &Grant> {
        self.grants.values().filter(move |grant| whose.includes(&grant.sub) && !grant.is_over(now))
    }

    /// Ends a grant: none of its tokens is good from now on.
    pub(crate) fn revoke_grant(&mut self, id: GrantId) -> Option<Grant> {
        self.grants.remove(&id)
    }

    /// Ends grants and yields them.
    pub(crate) fn revoke_grants_of(&mut self, whose: &Whose) -> Vec<Grant> {
        self.grants.extract_if(|_, grant| whose.includes(&grant.sub)).map(|(_, grant)| grant).collect()
    }

    /// Ends the grants of sessions that have ended, except those for use without the user (Back-Channel Logout 2.7).
    pub(crate) fn revoke_online_grants(&mut self, sids: &[String]) -> Vec<Grant> {
        let ends = |grant: &Grant| grant.refresh.is_none() && sids.contains(&grant.sid);
        self.grants.extract_if(|_, grant| ends(grant)).map(|(_, grant)| grant).collect()
    }

    /// Ends a grant because a replaced refresh token of it was used (RFC 9700 4.14.2).
    pub(crate) fn revoke_reused(&mut self, id: GrantId) {
        self.grants.remove(&id);
        self.reuse_detected += 1;
    }

    /// How many grants ended that way.
    pub(crate) fn reuse_detected(&self) -> u64 {
        self.reuse_detected
    }

    pub(crate) fn forget_reuse(&mut self) {
        self.reuse_detected = 0;
    }

    pub(crate) fn revoke_access_token(&mut self, id: &str, expires: UnixTime) {
        self.revoked_access_tokens.insert(id.to_owned(), expires);
    }

    pub(crate) fn is_access_token_revoked(&self, id: &str) -> bool {
        self.revoked_access_tokens.contains_key(id)
    }
}
