//! A session: its names, its record, and what a caller may see of it.

use std::{fmt, sync::Arc, time::Duration};

use freshgate_oidc::{Claims, Issuer, Secret, Timestamp, TokenGrant};

/// The name a browser proves itself with: 256 random bits, in the cookie and nowhere else.
#[derive(Clone, Debug)]
pub struct SessionId(Secret);

impl SessionId {
    /// How many characters the text form has: 32 bytes in base64url without padding.
    pub const TEXT_LENGTH: usize = 43;

    /// Makes a new id; each login gets one of its own, so a fixed session id cannot outlive a login.
    pub fn generate(entropy: &dyn crate::clock::Entropy) -> Self {
        Self(entropy.token())
    }

    /// Takes what a cookie holds. `None` if it cannot be an id of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let well_formed = text.len() == Self::TEXT_LENGTH
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        well_formed.then(|| Self(Secret::new(text)))
    }

    /// The name under which the store knows this session.
    pub fn key(&self) -> SessionKey {
        SessionKey(freshgate_oidc::sha256(self.0.expose().as_bytes()))
    }

    /// The text for the cookie.
    pub fn as_secret(&self) -> &Secret {
        &self.0
    }
}

/// The name by which stores, logs and apps know a session: the SHA-256 of its [`SessionId`], which it does not reveal.
///
/// Its text form (base64url, 43 characters) is the *handle* that an app receives in `Freshgate-Session`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The key made of these bytes, as a store kept them.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for a store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first ten characters of the text form: enough to tell sessions apart in a log, where the whole handle would
    /// let a reader of the log knock at the app's private port with it.
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }

    /// Takes the text form. `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        freshgate_oidc::from_base64url(text)?.try_into().ok().map(Self)
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&freshgate_oidc::base64url(&self.0))
    }
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionKey({self})")
    }
}

/// The tokens of a session, as of its last commit.
#[derive(Clone, Debug)]
pub struct TokenSet {
    /// The access token. Any size.
    pub access_token: Secret,
    /// As the provider named it, usually `Bearer`.
    pub token_type: String,
    /// The ID token as it came, for `id_token_hint` and for apps that ask for it.
    pub id_token: Option<Secret>,
    /// What the access token may do, where the provider said it (RFC 6749 section 5.1).
    pub scope: Option<String>,
    /// When the answer that brought the access token arrived.
    pub obtained_at: Timestamp,
    /// When the access token ends; `None` where the provider did not say.
    pub expires_at: Option<Timestamp>,
}

impl TokenSet {
    /// The tokens of an answer to a request sent at `sent_at`. The life of a token is counted from then: the provider made
    /// it later, so it never ends earlier than we think.
    pub(crate) fn granted(grant: &TokenGrant, id_token: Option<Secret>, sent_at: Timestamp) -> Self {
        Self {
            access_token: grant.access_token.clone(),
            token_type: grant.token_type.clone(),
            id_token,
            scope: grant.scope.clone(),
            obtained_at: sent_at,
            expires_at: grant.expires_in.map(|lifetime| sent_at + lifetime),
        }
    }
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndReason {
    /// The user signed out.
    Logout,
    /// The browser signed in again; the new session replaced this one.
    Replaced,
    /// The provider said that the user signed out (back-channel or front-channel).
    ProviderLogout,
    /// The provider refused the refresh token.
    Refused,
    /// A refresh answer named another subject, or none that can be trusted.
    IdentityChanged,
    /// A refresh was sent and its answer lost, and the provider does not let it be repeated.
    OutcomeUnknown,
    /// The absolute lifetime is over.
    Lifetime,
    /// Nobody used it for longer than the idle timeout.
    Idle,
    /// An operator ended it.
    Operator,
}

impl EndReason {
    /// Whether the refresh token of a session that ends so is revoked at the provider: the user or an operator wanted it
    /// over. What the provider tells by way of a browser is not signed, and where it told us itself, or refused the
    /// token, it has done what it wanted.
    pub fn revokes_tokens(self) -> bool {
        matches!(self, Self::Logout | Self::Operator)
    }

    /// The stable code, as in logs and the session API.
    pub fn code(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Replaced => "replaced",
            Self::ProviderLogout => "provider_logout",
            Self::Refused => "refused",
            Self::IdentityChanged => "identity_changed",
            Self::OutcomeUnknown => "outcome_unknown",
            Self::Lifetime => "lifetime",
            Self::Idle => "idle",
            Self::Operator => "operator",
        }
    }
}

/// What may be known of an open session outside the engine. Cheap to clone.
#[derive(Clone)]
pub struct OpenSession(pub(crate) Arc<crate::engine::Record>);

impl OpenSession {
    /// The name of the session.
    pub fn key(&self) -> SessionKey {
        self.0.key
    }

    /// The provider's name in the configuration.
    pub fn provider(&self) -> &str {
        &self.0.provider
    }

    /// The issuer of the login's ID token.
    pub fn issuer(&self) -> &Issuer {
        &self.0.identity.issuer
    }

    /// The claims: the ID token's merged with those of userinfo.
    pub fn claims(&self) -> &Claims {
        &self.0.claims
    }

    /// The tokens as of the last commit. They may have expired: ask the engine for a [`FreshSession`] to use one.
    pub fn tokens(&self) -> &TokenSet {
        &self.0.tokens
    }

    /// The provider's name for its own session (`sid`), where it told one.
    pub fn provider_session(&self) -> Option<&str> {
        self.0.sid.as_deref()
    }

    /// Whether the provider issued a refresh token, without which the tokens cannot be renewed.
    pub fn can_refresh(&self) -> bool {
        self.0.refresh_token.is_some()
    }

    /// Grows with every commit of tokens and claims.
    pub fn generation(&self) -> u64 {
        self.0.generation
    }

    /// When the user signed in.
    pub fn signed_in_at(&self) -> Timestamp {
        self.0.signed_in_at
    }

    /// When the session ends at the latest.
    pub fn ends_at(&self) -> Timestamp {
        self.0.ends_at
    }
}

impl fmt::Debug for OpenSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenSession")
            .field("key", &self.key())
            .field("provider", &self.provider())
            .field("generation", &self.generation())
            .finish_non_exhaustive()
    }
}

/// An open session whose access token lives long enough for the caller. Made by the engine alone.
#[derive(Clone, Debug)]
pub struct FreshSession {
    pub(crate) session: OpenSession,
}

impl FreshSession {
    /// The session.
    pub fn session(&self) -> &OpenSession {
        &self.session
    }

    /// The access token, good for at least the validity that was asked for.
    pub fn access_token(&self) -> &Secret {
        &self.session.tokens().access_token
    }
}

/// How long a session may live and how fresh its tokens are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionPolicy {
    /// From login to the end, whatever happens between.
    pub absolute_lifetime: Duration,
    /// How long a session lives that nobody uses. Ended no earlier than this, and up to a minute (or a tenth of it, if
    /// that is less) later. What counts as use is for the callers of [`Engine::used`](crate::Engine::used) to say.
    pub idle_timeout: Option<Duration>,
    /// The life that an access token must have left when it is handed out, unless the caller asks for more. Never more
    /// than a fifth of the token's own lifetime.
    pub min_validity: Duration,
    /// Whether active sessions are refreshed before their tokens expire, so that nobody waits for the provider.
    pub refresh_ahead: bool,
    /// How long a session is active after it was last used. While it has an open socket it is active all the time.
    pub active_for: Duration,
    /// How long it is kept who an ended session was and what happened to it. A day at least.
    pub ended_kept: Duration,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        const DAY: u64 = 24 * 3600;
        Self {
            absolute_lifetime: Duration::from_secs(30 * DAY),
            idle_timeout: None,
            min_validity: Duration::from_secs(30),
            ended_kept: Duration::from_secs(7 * DAY),
            refresh_ahead: true,
            active_for: Duration::from_secs(600),
        }
    }
}
