//! The record of a session: what the engine knows of it, and how that is sealed.

use std::{collections::VecDeque, time::Duration};

use freshgate_oidc::{
    Claims, DpopKey, Issuer, OriginalIdentity, ResourceIndicator, Secret, Timestamp, UserInfo, merge_claims,
    sha256,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{history::HistoryEntry, process::Process, refresh::LONGEST_REST};
use crate::{
    provider::{LostAnswer, UsableToken},
    session::{SessionKey, TokenSet},
    store::Index,
};

/// How many events of its life a record keeps.
const HISTORY_LENGTH: usize = 20;

/// A session. A record is never changed in place: a new one takes its place by compare-and-set.
#[derive(Clone)]
pub(crate) struct Record {
    pub(crate) key: SessionKey,
    pub(crate) provider: String,
    /// What every later ID token must agree with (OpenID Connect Core, section 12.2).
    pub(crate) identity: OriginalIdentity,
    /// The provider's name for its own session, which a logout token may use.
    pub(crate) sid: Option<String>,
    /// The claims of the last ID token.
    pub(crate) id_token_claims: Claims,
    /// The claims of the last userinfo answer, of the same subject.
    pub(crate) userinfo: Option<UserInfo>,
    /// What the app sees: the one merged with the other.
    pub(crate) claims: Claims,
    pub(crate) tokens: TokenSet,
    pub(crate) refresh_token: Option<Secret>,
    /// Where the access token is to be used (RFC 8707), as asked for at the login.
    pub(crate) resources: Vec<ResourceIndicator>,
    /// The key that its tokens are bound to, if they are bound.
    pub(crate) dpop_key: Option<DpopKey>,
    pub(crate) generation: u64,
    pub(crate) signed_in_at: Timestamp,
    pub(crate) ends_at: Timestamp,
    /// When the user used it, to within a step of `idle.rs`. `None`: there was no idle timeout yet.
    pub(crate) last_used: Option<Timestamp>,
    pub(crate) refresh: RefreshState,
    pub(crate) history: VecDeque<HistoryEntry>,
    /// How many bytes it takes when written: what it weighs in the cache.
    pub(crate) size: usize,
}

/// Where the refresh of a session stands, in the store's eyes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefreshState {
    /// Who is about to send the refresh token, or has sent it and not learnt the outcome.
    pub(crate) lease: Option<Lease>,
    /// How many requests may have used the refresh token without our learning the answer.
    pub(crate) answers_lost: u32,
    /// When the first of them was sent.
    #[serde(default)]
    pub(crate) first_sent_at: Option<Timestamp>,
    /// A gateway answered in the provider's place, or the provider failed midway: the refresh token may have been used.
    #[serde(default)]
    pub(crate) in_doubt: bool,
    /// That the provider refused, or seemed to, and did not say what.
    #[serde(default)]
    pub(crate) without_words: Option<WithoutWords>,
    /// How many attempts failed in a row.
    pub(crate) failures: u32,
    /// Before this time nobody but a forced caller asks again.
    pub(crate) not_before: Option<Timestamp>,
    /// The provider said when to come back (Retry-After): forced callers wait too.
    pub(crate) asked_to_wait: bool,
}

/// Refusals with a bare 400, since the last answer that said something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WithoutWords {
    pub(crate) times: u32,
    /// When the first came.
    pub(crate) since: Timestamp,
}

impl WithoutWords {
    /// How often, …
    const TIMES: u32 = 3;
    /// … and for how long a provider refuses without a word until it is taken for a refusal.
    const FOR: Duration = Duration::from_secs(120);

    /// Whether the provider means it.
    pub(crate) fn is_a_refusal(self, now: Timestamp) -> bool {
        self.times >= Self::TIMES && now.saturating_since(self.since) >= Self::FOR
    }
}

/// The right to send a session's refresh token, for one flight at a time.
///
/// It is also the record of an intent: a lease whose holder is dead, and that is not settled, means that the token may have
/// been used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// The flight that holds it.
    pub(crate) holder: String,
    /// The process that the flight is of, where that can be told.
    #[serde(default)]
    pub(crate) process: Option<Process>,
    /// By the holder's clock: when it was taken, which is when the token is sent.
    #[serde(default = "unknown_past")]
    pub(crate) since: Timestamp,
    /// What came of the request is in the record: the next refresh token, or that the answer was lost. Until the token is
    /// sent again nothing more is in doubt.
    #[serde(default)]
    pub(crate) settled: bool,
    /// Grows while the holder lives and its request is under way, whatever its clock does.
    #[serde(default)]
    pub(crate) renewals: u32,
    /// By the holder's clock: when others may take it, if it is not renewed.
    pub(crate) until: Timestamp,
}

/// Of a lease that does not say since when it is held.
fn unknown_past() -> Timestamp {
    Timestamp::from_unix_millis(0)
}

impl RefreshState {
    /// Until when nobody but a forced caller asks again. A time that lies further ahead than anybody is made to wait was
    /// written by a clock that was wrong, and counts for nothing.
    pub(crate) fn rests_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.not_before.filter(|until| *until <= now + LONGEST_REST)
    }

    /// A request sent at `sent_at` may have used the refresh token, and its answer is lost.
    pub(crate) fn answer_lost(&mut self, sent_at: Timestamp) {
        self.settle_lease();
        self.answers_lost = self.answers_lost.saturating_add(1);
        self.first_sent_at = Some(self.first_sent_at.map_or(sent_at, |first| first.min(sent_at)));
    }

    /// The provider answered: the refresh token that is held is good.
    pub(crate) fn answered(&mut self) {
        self.answers_lost = 0;
        self.first_sent_at = None;
        self.in_doubt = false;
        self.without_words = None;
        self.settle_lease();
    }

    /// A refresh went well: nobody needs to wait any more.
    pub(crate) fn recovered(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.asked_to_wait = false;
        self.without_words = None;
    }

    /// The provider refused with a bare 400 once more.
    pub(crate) fn refused_without_words(&self, now: Timestamp) -> WithoutWords {
        let before = self.without_words.unwrap_or(WithoutWords { times: 0, since: now });
        WithoutWords { times: before.times.saturating_add(1), ..before }
    }

    /// Whether the refresh token may have been used, or is being used just now.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.may_have_been_used() || self.lease.as_ref().is_some_and(|lease| !lease.settled)
    }

    fn settle_lease(&mut self) {
        if let Some(lease) = &mut self.lease {
            lease.settled = true;
        }
    }

    /// Whether the refresh token may be sent now, as the provider's policy has it.
    pub(crate) fn may_be_sent(&self, policy: LostAnswer, now: Timestamp) -> bool {
        let since_first = self.first_sent_at.map_or(Duration::ZERO, |first| now.saturating_since(first));
        policy.allows(self.answers_lost, since_first) && (!self.in_doubt || policy.allows_in_doubt())
    }

    /// Whether the refresh token may have been used: what the provider says of it next may be due to that.
    pub(crate) fn may_have_been_used(&self) -> bool {
        self.answers_lost > 0 || self.in_doubt
    }

    /// Whether that will be so if it is sent now and the answer is lost.
    pub(crate) fn may_be_sent_again(&self, policy: LostAnswer, now: Timestamp) -> bool {
        let mut lost = self.clone();
        lost.answer_lost(now);
        lost.may_be_sent(policy, now)
    }
}

impl Record {
    /// The claims of a refreshed ID token. What says how the user signed in stays where the new token leaves it out: it is
    /// still the same authentication (OpenID Connect Core, section 12.2).
    pub(crate) fn renewed_claims(before: &Claims, renewed: &Claims) -> Claims {
        let mut claims = renewed.clone();
        for name in ["auth_time", "acr", "amr"] {
            if let Some(value) = before.get(name).filter(|_| !renewed.contains_key(name)) {
                claims.insert(name.to_owned(), value.clone());
            }
        }
        claims
    }

    /// Whether an app sees other claims in `later`. Those that every ID token has anew do not count.
    pub(crate) fn shows_otherwise(&self, later: &Self) -> bool {
        const EACH_TIME_NEW: [&str; 7] = ["exp", "iat", "nbf", "jti", "at_hash", "c_hash", "nonce"];
        let shown = |(name, _): &(&String, &Value)| !EACH_TIME_NEW.contains(&name.as_str());
        !self.claims.iter().filter(shown).eq(later.claims.iter().filter(shown))
    }

    /// Notes an event, forgetting the oldest beyond a small number.
    pub(crate) fn remember(&mut self, entry: HistoryEntry) {
        if self.history.len() == HISTORY_LENGTH {
            self.history.pop_front();
        }
        self.history.push_back(entry);
    }

    /// By what the store can find this session.
    pub(crate) fn index(&self) -> Index {
        let issuer = self.identity.issuer.as_str();
        Index {
            subject: lookup_hash(issuer, &self.identity.subject),
            provider_session: self.sid.as_deref().map(|sid| lookup_hash(issuer, sid)),
            ends_at: self.ends_at,
        }
    }

    /// The access token, and what it takes to use it.
    pub(crate) fn usable_token(&self) -> UsableToken<'_> {
        UsableToken {
            access_token: &self.tokens.access_token,
            token_type: &self.tokens.token_type,
            key: self.dpop_key.as_ref(),
        }
    }

    /// The plain bytes, to be sealed at once.
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let dpop_key = self.dpop_key.as_ref().map(DpopKey::to_secret);
        let sealed_form = SealedForm {
            format: FORMAT,
            provider: &self.provider,
            issuer: self.identity.issuer.as_str(),
            subject: &self.identity.subject,
            audience: &self.identity.audience,
            azp: self.identity.azp.as_deref(),
            auth_time: self.identity.auth_time,
            nonce: self.identity.nonce.as_ref().map(Secret::expose),
            sid: self.sid.as_deref(),
            id_token_claims: &self.id_token_claims,
            userinfo: self.userinfo.as_ref().map(UserInfo::claims),
            access_token: self.tokens.access_token.expose(),
            token_type: &self.tokens.token_type,
            id_token: self.tokens.id_token.as_ref().map(Secret::expose),
            scope: self.tokens.scope.as_deref(),
            obtained_at: self.tokens.obtained_at,
            expires_at: self.tokens.expires_at,
            refresh_token: self.refresh_token.as_ref().map(Secret::expose),
            resources: &self.resources,
            dpop_key: dpop_key.as_ref().map(Secret::expose),
            generation: self.generation,
            signed_in_at: self.signed_in_at,
            ends_at: self.ends_at,
            last_used: self.last_used,
            refresh: &self.refresh,
            history: &self.history,
        };
        Zeroizing::new(serde_json::to_vec(&sealed_form).expect("a record has only string keys"))
    }

    /// The record that `to_bytes` wrote.
    pub(crate) fn from_bytes(key: SessionKey, bytes: &[u8]) -> Result<Self, serde_json::Error> {
        let form: OpenedForm = serde_json::from_slice(bytes)?;
        if form.format != FORMAT {
            return Err(serde::de::Error::custom(format_args!("record format {} is not known", form.format)));
        }
        let userinfo = form.userinfo.map(UserInfo::from_record);
        Ok(Self {
            key,
            provider: form.provider,
            identity: OriginalIdentity {
                issuer: Issuer::new(form.issuer),
                subject: form.subject,
                audience: form.audience,
                azp: form.azp,
                auth_time: form.auth_time,
                nonce: form.nonce,
            },
            sid: form.sid,
            claims: merge_claims(&form.id_token_claims, userinfo.as_ref()),
            id_token_claims: form.id_token_claims,
            userinfo,
            tokens: TokenSet {
                access_token: form.access_token,
                token_type: form.token_type,
                id_token: form.id_token,
                scope: form.scope,
                obtained_at: form.obtained_at,
                expires_at: form.expires_at,
            },
            refresh_token: form.refresh_token,
            resources: form.resources,
            dpop_key: match form.dpop_key {
                Some(key) => {
                    Some(DpopKey::parse(&key).ok_or_else(|| serde::de::Error::custom("no DPoP key"))?)
                }
                None => None,
            },
            generation: form.generation,
            signed_in_at: form.signed_in_at,
            ends_at: form.ends_at,
            last_used: form.last_used,
            refresh: form.refresh,
            history: form.history,
            size: bytes.len(),
        })
    }
}

/// The hash under which sessions of one subject, or of one session at the provider, are found.
pub(crate) fn lookup_hash(issuer: &str, name: &str) -> [u8; 32] {
    // The length keeps ("ab", "c") apart from ("a", "bc").
    sha256(format!("{}:{issuer}{name}", issuer.len()).as_bytes())
}

const FORMAT: u32 = 1;

/// How a record is written. `Secret` cannot be serialized by accident; this is the one place where it is on purpose.
#[derive(Serialize)]
struct SealedForm<'a> {
    format: u32,
    provider: &'a str,
    issuer: &'a str,
    subject: &'a str,
    audience: &'a [String],
    azp: Option<&'a str>,
    auth_time: Option<Timestamp>,
    nonce: Option<&'a str>,
    sid: Option<&'a str>,
    id_token_claims: &'a Claims,
    userinfo: Option<&'a Claims>,
    access_token: &'a str,
    token_type: &'a str,
    id_token: Option<&'a str>,
    scope: Option<&'a str>,
    obtained_at: Timestamp,
    expires_at: Option<Timestamp>,
    refresh_token: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    resources: &'a [ResourceIndicator],
    #[serde(skip_serializing_if = "Option::is_none")]
    dpop_key: Option<&'a str>,
    generation: u64,
    signed_in_at: Timestamp,
    ends_at: Timestamp,
    last_used: Option<Timestamp>,
    refresh: &'a RefreshState,
    history: &'a VecDeque<HistoryEntry>,
}

#[derive(Deserialize)]
struct OpenedForm {
    format: u32,
    provider: String,
    issuer: String,
    subject: String,
    audience: Vec<String>,
    azp: Option<String>,
    auth_time: Option<Timestamp>,
    nonce: Option<Secret>,
    sid: Option<String>,
    id_token_claims: Claims,
    userinfo: Option<Claims>,
    access_token: Secret,
    token_type: String,
    id_token: Option<Secret>,
    scope: Option<String>,
    obtained_at: Timestamp,
    expires_at: Option<Timestamp>,
    refresh_token: Option<Secret>,
    #[serde(default)]
    resources: Vec<ResourceIndicator>,
    #[serde(default)]
    dpop_key: Option<Secret>,
    generation: u64,
    signed_in_at: Timestamp,
    ends_at: Timestamp,
    #[serde(default)]
    last_used: Option<Timestamp>,
    refresh: RefreshState,
    history: VecDeque<HistoryEntry>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn how_the_user_signed_in_stays_until_it_is_said_otherwise() {
        let claims = |json: Value| json.as_object().unwrap().clone();
        let before = json!({"auth_time": 1, "acr": "mfa", "amr": ["otp"], "email": "old", "iat": 1});
        for (renewed, expected) in [
            (
                json!({"email": "new", "iat": 2}),
                json!({"auth_time": 1, "acr": "mfa", "amr": ["otp"], "email": "new", "iat": 2}),
            ),
            (
                json!({"auth_time": 1, "acr": "pwd", "iat": 2}),
                json!({"auth_time": 1, "acr": "pwd", "amr": ["otp"], "iat": 2}),
            ),
        ] {
            let found = Record::renewed_claims(&claims(before.clone()), &claims(renewed));
            assert_eq!(Value::from(found), expected);
        }
    }

    #[test]
    fn a_lease_whose_outcome_is_known_is_no_intent_any_more() {
        let at = Timestamp::from_unix_millis(1_000);
        let leased = || {
            let until = at + Duration::from_secs(10);
            let (holder, process) = ("one".into(), None);
            let lease = Lease { holder, process, since: at, settled: false, renewals: 0, until };
            RefreshState { lease: Some(lease), ..RefreshState::default() }
        };
        let is_settled = |refresh: &RefreshState| refresh.lease.as_ref().is_some_and(|lease| lease.settled);
        let mut refresh = leased();
        assert!(!is_settled(&refresh));
        refresh.answer_lost(at);
        assert!(is_settled(&refresh), "a loss that is noted is not counted again with the lease");
        assert_eq!((refresh.answers_lost, refresh.first_sent_at), (1, Some(at)));
        let mut refresh = leased();
        refresh.answered();
        assert!(is_settled(&refresh), "a dead holder lost nothing");
        assert_eq!((refresh.answers_lost, refresh.first_sent_at), (0, None));
    }
}
