//! What is checked in an ID token.

use std::time::Duration;

use aws_lc_rs::digest;

use super::{
    AccessTokenBinding, ExpectedNonce, IdTokenExpectations, MaxAuthenticationAge, RawIdToken, VerifiedIdToken,
};
use crate::{
    claims::{self, Claims},
    discovery::Issuer,
    jwk::JwkSet,
    jws::{JwsError, SigningAlgorithm, UnverifiedJws},
    secret::{Secret, base64url},
};

/// The rules, in the order of OpenID Connect Core section 3.1.3.7; those of other sections stand where they fit. The
/// signature comes after what is cheaper to check, so a token of another issuer never makes us fetch keys.
///
/// Rule 1 (encryption) is the parser's: an encrypted token is refused. Rule 8 (HMAC) is moot: there is no HMAC here.
pub(super) const RULES: &[Rule] = &[
    Rule { name: "it is an ID token", check: it_is_an_id_token },
    Rule { name: "no extensions", check: it_demands_no_extensions },
    Rule { name: "issuer", check: the_issuer_is_the_expected_one },
    Rule { name: "audience", check: the_audience_is_us },
    Rule { name: "authorized party", check: the_authorized_party_is_us },
    Rule { name: "algorithm", check: the_algorithm_is_allowed },
    Rule { name: "signature", check: a_key_of_the_issuer_signed_it },
    Rule { name: "expiry", check: it_has_not_expired },
    Rule { name: "issue time", check: it_was_issued_in_the_past },
    Rule { name: "not before", check: it_is_in_force },
    Rule { name: NONCE, check: the_nonce_is_ours },
    Rule { name: "authentication context", check: the_authentication_context_is_as_requested },
    Rule { name: "authentication time", check: the_authentication_is_recent_enough },
    Rule { name: "subject", check: it_names_a_subject },
    Rule { name: "access token", check: the_access_token_belongs_to_it },
];

/// The name of the one rule that a refresh has otherwise.
pub(super) const NONCE: &str = "nonce";

/// One rule. By their names tests take rules out one by one, to show that each refuses what no other does.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) check: fn(&Candidate, &JwkSet, &IdTokenExpectations<'_>) -> Result<(), IdTokenError>,
}

/// The rule that an ID token broke.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdTokenError {
    /// As a signed token it is not acceptable.
    #[error("the ID token is not acceptable")]
    Jws(#[from] JwsError),
    /// It is a signed token of another kind.
    #[error("it is not an ID token but {media_type}")]
    NotAnIdToken {
        /// The kind.
        media_type: String,
    },
    /// It is another provider's, or names none.
    #[error("the ID token is not from {expected}")]
    Issuer {
        /// The one that was asked.
        expected: Issuer,
    },
    /// It is not for us, or for others besides whom we do not trust.
    #[error("the ID token is not for this client alone")]
    Audience,
    /// It was issued to another client.
    #[error("the ID token was issued to another client")]
    AuthorizedParty,
    /// It has expired, or does not say when it does.
    #[error("the ID token {}", claims::how_late(*.ago))]
    Expired {
        /// How long ago, if it says.
        ago: Option<Duration>,
    },
    /// It was issued in the future, or does not say when. If the former, a clock is off.
    #[error("the ID token {}", claims::how_early(*.ahead))]
    IssuedInFuture {
        /// How far in the future, if it says.
        ahead: Option<Duration>,
    },
    /// It is not in force yet.
    #[error("the ID token is not in force yet")]
    NotYetValid,
    /// It does not answer the request that was sent.
    #[error("the ID token's nonce is not the one that was sent")]
    Nonce,
    /// The user did not authenticate as it was demanded.
    #[error("the user's authentication is not of the requested class")]
    AuthenticationContext,
    /// The user's authentication is too old, or it is not said when it was.
    #[error("the user's authentication is too old, or the ID token does not say when it was")]
    AuthenticationTooOld,
    /// It names no user, or not in 1 to 255 ASCII characters.
    #[error("the ID token names no subject")]
    Subject,
    /// The access token that came along is not the one that it was issued with.
    #[error("the access token is not the one that the ID token was issued with")]
    AccessToken,
}

impl IdTokenError {
    /// Whether the same token might pass with keys fetched anew (Core section 10.1.1). Limit the rate of doing so.
    pub fn wants_newer_keys(&self) -> bool {
        matches!(self, Self::Jws(error) if error.wants_newer_keys())
    }
}

/// A token taken apart, with nothing proved.
pub(super) struct Candidate {
    pub(super) jws: UnverifiedJws,
    pub(super) claims: Claims,
}

pub(super) fn verify(
    token: &RawIdToken,
    keys: &JwkSet,
    expect: &IdTokenExpectations<'_>,
) -> Result<VerifiedIdToken, IdTokenError> {
    let candidate = Candidate::parse(token)?;
    check(RULES, &candidate, keys, expect)?;
    candidate.accept(token)
}

pub(super) fn check<'r>(
    rules: impl IntoIterator<Item = &'r Rule>,
    candidate: &Candidate,
    keys: &JwkSet,
    expect: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    rules.into_iter().try_for_each(|rule| (rule.check)(candidate, keys, expect))
}

impl Candidate {
    pub(super) fn parse(token: &RawIdToken) -> Result<Self, IdTokenError> {
        let jws = UnverifiedJws::parse(token.as_secret().expose())?;
        let claims = jws.claims()?;
        Ok(Self { jws, claims })
    }

    /// The one place where an ID token becomes trusted. Call it after the rules, never before.
    pub(super) fn accept(self, token: &RawIdToken) -> Result<VerifiedIdToken, IdTokenError> {
        let text = |name| claims::text(&self.claims, name).unwrap_or_default().to_owned();
        let (issuer, subject) = (Issuer::new(text("iss")), text("sub"));
        Ok(VerifiedIdToken {
            raw: token.as_secret().clone(),
            issuer,
            subject,
            audience: claims::audience(&self.claims).ok_or(IdTokenError::Audience)?,
            expires_at: claims::date(&self.claims, "exp").ok_or(IdTokenError::Expired { ago: None })?,
            issued_at: claims::date(&self.claims, "iat")
                .ok_or(IdTokenError::IssuedInFuture { ahead: None })?,
            algorithm: self.jws.algorithm()?,
            claims: self.claims,
        })
    }
}

/// RFC 8725 section 3.11: a token of another kind is refused. ID tokens need not say that they are such.
fn it_is_an_id_token(token: &Candidate, _: &JwkSet, _: &IdTokenExpectations<'_>) -> Result<(), IdTokenError> {
    match token.jws.header.another_kind_than("id_token+jwt") {
        Some(media_type) => Err(IdTokenError::NotAnIdToken { media_type }),
        None => Ok(()),
    }
}

/// RFC 7515 section 4.1.11.
fn it_demands_no_extensions(
    token: &Candidate,
    _: &JwkSet,
    _: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    Ok(token.jws.demands_no_extensions()?)
}

/// Rule 2.
fn the_issuer_is_the_expected_one(
    token: &Candidate,
    _: &JwkSet,
    expect: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    if claims::is_from(&token.claims, expect.issuer) {
        Ok(())
    } else {
        Err(IdTokenError::Issuer { expected: expect.issuer.clone() })
    }
}

/// Rule 3.
fn the_audience_is_us(
    token: &Candidate,
    _: &JwkSet,
    expect: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    if claims::is_for(&token.claims, expect.client_id, expect.trusted_audiences) {
        Ok(())
    } else {
        Err(IdTokenError::Audience)
    }
}

/// Rules 4 and 5, as errata set 2 has them: `azp` may be absent, with several audiences too; if it is there, it is us.
fn the_authorized_party_is_us(
    token: &Candidate,
    _: &JwkSet,
    expect: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    match token.claims.get("azp") {
        None => Ok(()),
        Some(party) if party == expect.client_id => Ok(()),
        Some(_) => Err(IdTokenError::AuthorizedParty),
    }
}

/// Rule 7. It stands before rule 6, which needs to know how the token is signed.
fn the_algorithm_is_allowed(
    token: &Candidate,
    _: &JwkSet,
    expect: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    Ok(token.jws.algorithm_is_allowed(expect.algorithms)?)
}

/// Rule 6.
fn a_key_of_the_issuer_signed_it(
    token: &Candidate,
    keys: &JwkSet,
    _: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    Ok(token.jws.a_key_verifies_the_signature(keys)?)
}

/// Rule 9.
fn it_has_not_expired(
    token: &Candidate,
    _: &JwkSet,
    expect: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    claims::not_expired(&token.claims, expect.now, expect.leeway).map_err(|ago| IdTokenError::Expired { ago })
}

/// Rule 10. It may have been issued long ago: exp and nonce say whether it still counts.
fn it_was_issued_in_the_past(
    token: &Candidate,
    _: &JwkSet,
    expect: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    claims::issued_before(&token.claims, expect.now, expect.leeway)
        .map_err(|ahead| IdTokenError::IssuedInFuture { ahead })
}

/// RFC 7519 section 4.1.5.
fn it_is_in_force(
    token: &Candidate,
    _: &JwkSet,
    expect: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    if !token.claims.contains_key("nbf") {
        return Ok(());
    }
    match claims::date(&token.claims, "nbf") {
        Some(from) if from <= expect.now + expect.leeway => Ok(()),
        _ => Err(IdTokenError::NotYetValid),
    }
}

/// Rule 11.
fn the_nonce_is_ours(
    token: &Candidate,
    _: &JwkSet,
    expect: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    let ours = match (expect.nonce, token.claims.get("nonce")) {
        (ExpectedNonce::Exactly(sent), Some(found)) => {
            found.as_str().is_some_and(|found| Secret::new(found) == *sent)
        }
        (ExpectedNonce::NotSent, None) => true,
        (ExpectedNonce::Exactly(_), None) | (ExpectedNonce::NotSent, Some(_)) => false,
    };
    if ours { Ok(()) } else { Err(IdTokenError::Nonce) }
}

/// Rule 12.
fn the_authentication_context_is_as_requested(
    token: &Candidate,
    _: &JwkSet,
    expect: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    let found = claims::text(&token.claims, "acr");
    if expect.acr.is_empty() || expect.acr.iter().any(|demanded| Some(demanded.as_str()) == found) {
        Ok(())
    } else {
        Err(IdTokenError::AuthenticationContext)
    }
}

/// Rule 13. A date in the future is none of an authentication.
fn the_authentication_is_recent_enough(
    token: &Candidate,
    _: &JwkSet,
    expect: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    match (expect.max_age, claims::auth_time(&token.claims)) {
        (MaxAuthenticationAge::Unlimited, _) => Ok(()),
        (MaxAuthenticationAge::AtMost { age, sent_at }, Some(at))
            if sent_at <= at + age + expect.leeway && at <= expect.now + expect.leeway =>
        {
            Ok(())
        }
        (MaxAuthenticationAge::AtMost { .. }, _) => Err(IdTokenError::AuthenticationTooOld),
    }
}

/// Section 2: `sub`.
fn it_names_a_subject(
    token: &Candidate,
    _: &JwkSet,
    _: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    match claims::text(&token.claims, "sub") {
        Some(subject) if claims::is_subject(subject) => Ok(()),
        _ => Err(IdTokenError::Subject),
    }
}

/// Section 3.1.3.8: `at_hash`, if present, is the left half of the access token's hash. One that cannot be checked is
/// refused, not passed over.
fn the_access_token_belongs_to_it(
    token: &Candidate,
    _: &JwkSet,
    expect: &IdTokenExpectations<'_>,
) -> Result<(), IdTokenError> {
    let Some(found) = token.claims.get("at_hash") else {
        return Ok(());
    };
    let AccessTokenBinding::IssuedWith(access_token) = expect.access_token else {
        return Err(IdTokenError::AccessToken);
    };
    let hash = digest::digest(hash_of(token.jws.algorithm()?), access_token.expose().as_bytes());
    let half = &hash.as_ref()[..hash.as_ref().len() / 2];
    if *found == base64url(half) { Ok(()) } else { Err(IdTokenError::AccessToken) }
}

/// The hash of the algorithm by which a token is signed. EdDSA on Ed25519 uses SHA-512 (RFC 8032 section 5.1).
fn hash_of(algorithm: SigningAlgorithm) -> &'static digest::Algorithm {
    match algorithm {
        SigningAlgorithm::Rs256 | SigningAlgorithm::Ps256 | SigningAlgorithm::Es256 => &digest::SHA256,
        SigningAlgorithm::Rs384 | SigningAlgorithm::Ps384 | SigningAlgorithm::Es384 => &digest::SHA384,
        SigningAlgorithm::Rs512
        | SigningAlgorithm::Ps512
        | SigningAlgorithm::Es512
        | SigningAlgorithm::EdDsa => &digest::SHA512,
    }
}

#[cfg(test)]
pub(super) mod tests;
