//! Tokens: what the token endpoint answers, what an ID token proves, and what may change at a refresh.
//!
//! A [`RawIdToken`] is text from outside. [`RawIdToken::verify`] and [`verify_refreshed`] alone turn it into a
//! [`VerifiedIdToken`].

mod answer;
mod expectations;
mod refresh;
mod verify;

pub(crate) use answer::refusal;
pub use answer::{RefusalKind, TokenAnswer, TokenGrant, TokenRefusal, WhyMalformed, parse_token_answer};
pub use expectations::{AccessTokenBinding, ExpectedNonce, IdTokenExpectations, MaxAuthenticationAge};
pub use refresh::{OriginalIdentity, RefreshExpectations, RefreshedIdTokenError, verify_refreshed};
pub use verify::IdTokenError;

use std::fmt;

use crate::{
    claims::{self, Claims},
    discovery::Issuer,
    jwk::JwkSet,
    jws::SigningAlgorithm,
    secret::Secret,
    time::Timestamp,
};

/// An ID token as it came. Nothing in it is proved, and nothing of it can be read but its text.
#[derive(Clone, Debug)]
pub struct RawIdToken(Secret);

impl RawIdToken {
    /// Takes the token's text.
    pub fn new(token: impl Into<String>) -> Self {
        Self(Secret::new(token))
    }

    /// The token's text.
    pub fn as_secret(&self) -> &Secret {
        &self.0
    }

    /// Checks the token as OpenID Connect Core section 3.1.3.7 demands; what is checked is listed in `token/verify.rs`.
    ///
    /// If it fails with [`IdTokenError::wants_newer_keys`], the same token may pass with the provider's keys fetched
    /// again.
    pub fn verify(
        &self,
        keys: &JwkSet,
        expect: &IdTokenExpectations<'_>,
    ) -> Result<VerifiedIdToken, IdTokenError> {
        verify::verify(self, keys, expect)
    }
}

impl From<Secret> for RawIdToken {
    fn from(token: Secret) -> Self {
        Self(token)
    }
}

/// An ID token of which every rule held when it was verified.
#[derive(Clone)]
pub struct VerifiedIdToken {
    raw: Secret,
    claims: Claims,
    issuer: Issuer,
    subject: String,
    audience: Vec<String>,
    expires_at: Timestamp,
    issued_at: Timestamp,
    algorithm: SigningAlgorithm,
}

impl VerifiedIdToken {
    /// What the token says.
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// Who says it.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// Of whom: unique within the issuer, and never given to someone else.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// To whom.
    pub fn audience(&self) -> &[String] {
        &self.audience
    }

    /// The party that the token was issued to (`azp`), if it says so.
    pub fn authorized_party(&self) -> Option<&str> {
        claims::text(&self.claims, "azp")
    }

    /// The provider's session (`sid`), by which a logout token will name it.
    pub fn session_id(&self) -> Option<&str> {
        claims::text(&self.claims, "sid").filter(|sid| !sid.is_empty())
    }

    /// When the user last proved who they are. Providers that do not know write 0, which counts as absent.
    pub fn auth_time(&self) -> Option<Timestamp> {
        claims::auth_time(&self.claims)
    }

    /// When the token ends. The session does not end with it.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// When it was issued.
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// How it is signed: as the provider signs what it sends to this client.
    pub fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    /// The token as it came, for `id_token_hint` and for apps that ask for it.
    pub fn raw(&self) -> &Secret {
        &self.raw
    }
}

/// Says whose it is. Claims hold a nonce, and more of a person than a log should.
impl fmt::Debug for VerifiedIdToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedIdToken")
            .field("issuer", &self.issuer)
            .field("subject", &self.subject)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}
