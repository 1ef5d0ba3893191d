//! What an ID token is held against.

use std::time::Duration;

use crate::{discovery::Issuer, jws::AllowedAlgorithms, secret::Secret, time::Timestamp};

/// What an ID token must hold.
#[derive(Clone, Debug)]
pub struct IdTokenExpectations<'a> {
    /// The provider that was asked.
    pub issuer: &'a Issuer,
    /// Our id at the provider.
    pub client_id: &'a str,
    /// Audiences that may stand beside us. Usually none.
    pub trusted_audiences: &'a [String],
    /// How the token may be signed.
    pub algorithms: &'a AllowedAlgorithms,
    /// The nonce of the authorization request.
    pub nonce: ExpectedNonce<'a>,
    /// The access token that came along.
    pub access_token: AccessTokenBinding<'a>,
    /// The values of `acr` that the authorization request demanded. Empty: it demanded none.
    pub acr: &'a [String],
    /// How old the user's authentication may be.
    pub max_age: MaxAuthenticationAge,
    /// The time.
    pub now: Timestamp,
    /// How far the provider's clock may be off.
    pub leeway: Duration,
}

impl<'a> IdTokenExpectations<'a> {
    /// How far a provider's clock may be off unless the operator says otherwise.
    pub const LEEWAY: Duration = Duration::from_secs(60);

    /// Expectations without demands on audiences, `acr` or `max_age`, with the usual leeway.
    pub fn new(
        issuer: &'a Issuer,
        client_id: &'a str,
        algorithms: &'a AllowedAlgorithms,
        nonce: ExpectedNonce<'a>,
        access_token: AccessTokenBinding<'a>,
        now: Timestamp,
    ) -> Self {
        Self {
            issuer,
            client_id,
            trusted_audiences: &[],
            algorithms,
            nonce,
            access_token,
            acr: &[],
            max_age: MaxAuthenticationAge::Unlimited,
            now,
            leeway: Self::LEEWAY,
        }
    }
}

/// The nonce that an ID token must hold.
#[derive(Clone, Copy, Debug)]
pub enum ExpectedNonce<'a> {
    /// The one that was sent.
    Exactly(&'a Secret),
    /// None was sent, so none may come back.
    NotSent,
}

/// The access token that an ID token must belong to, if it says (`at_hash`) to which it belongs.
#[derive(Clone, Copy, Debug)]
pub enum AccessTokenBinding<'a> {
    /// It came in the same answer.
    IssuedWith(&'a Secret),
    /// None came, so the ID token may not belong to one.
    NoneIssued,
}

/// How old the user's authentication may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxAuthenticationAge {
    /// As old as it may be.
    Unlimited,
    /// As old as the `max_age` that was sent. The token must then say when it was.
    AtMost {
        /// That age.
        age: Duration,
        /// When it was sent. What the user does afterwards, such as to read what is to be consented to, makes no
        /// authentication too old.
        sent_at: Timestamp,
    },
}
