//! What may change in an ID token at a refresh, and what may not (OpenID Connect Core section 12.2).

use std::{collections::BTreeSet, time::Duration};

use super::{
    AccessTokenBinding, ExpectedNonce, IdTokenError, IdTokenExpectations, MaxAuthenticationAge, RawIdToken,
    VerifiedIdToken,
    verify::{self, Candidate},
};
use crate::{
    claims, discovery::Issuer, jwk::JwkSet, jws::AllowedAlgorithms, secret::Secret, time::Timestamp,
};

/// Who signed in, as the ID token of the login said. Every later ID token of the session is held against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginalIdentity {
    /// The provider.
    pub issuer: Issuer,
    /// The user.
    pub subject: String,
    /// The audiences.
    pub audience: Vec<String>,
    /// The party that the token was issued to, if it said so.
    pub azp: Option<String>,
    /// When the user authenticated, if it said so. `None` takes any.
    pub auth_time: Option<Timestamp>,
    /// The nonce, if one was sent.
    pub nonce: Option<Secret>,
}

impl OriginalIdentity {
    /// The identity that the login's ID token proved.
    pub fn of(token: &VerifiedIdToken) -> Self {
        Self {
            issuer: token.issuer().clone(),
            subject: token.subject().to_owned(),
            audience: token.audience().to_vec(),
            azp: token.authorized_party().map(str::to_owned),
            auth_time: token.auth_time(),
            nonce: claims::text(token.claims(), "nonce").map(Secret::new),
        }
    }
}

/// What an ID token of a refresh must hold besides what the original says.
#[derive(Clone, Debug)]
pub struct RefreshExpectations<'a> {
    /// Our id at the provider.
    pub client_id: &'a str,
    /// Audiences that may stand beside us. Usually none.
    pub trusted_audiences: &'a [String],
    /// How the token may be signed.
    pub algorithms: &'a AllowedAlgorithms,
    /// The access token that came along.
    pub access_token: AccessTokenBinding<'a>,
    /// The time.
    pub now: Timestamp,
    /// How far the provider's clock may be off.
    pub leeway: Duration,
}

/// The rule that an ID token of a refresh broke.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RefreshedIdTokenError {
    /// One that holds for every ID token. Another issuer than the original is among them.
    #[error(transparent)]
    IdToken(#[from] IdTokenError),
    /// It names another user.
    #[error("the refreshed ID token names another subject")]
    SubjectChanged,
    /// It is for others than the original was.
    #[error("the refreshed ID token has another audience")]
    AudienceChanged,
    /// It was issued to another party than the original was.
    #[error("the refreshed ID token was issued to another party")]
    AuthorizedPartyChanged,
    /// It tells of another authentication than the original did.
    #[error("the refreshed ID token tells of another authentication")]
    AuthTimeChanged,
    /// It answers another authorization request than the original did.
    #[error("the refreshed ID token has another nonce")]
    NonceChanged,
}

impl RefreshedIdTokenError {
    /// Whether the same token might pass with keys fetched anew (Core section 10.1.1). Limit the rate of doing so.
    pub fn wants_newer_keys(&self) -> bool {
        matches!(self, Self::IdToken(error) if error.wants_newer_keys())
    }
}

/// The rules of section 12.2 that are not those of every ID token. The same issuer is: the original's is expected.
const RULES: &[RefreshRule] = &[
    RefreshRule { name: "same subject", check: the_subject_is_the_same },
    RefreshRule { name: "same audience", check: the_audience_is_the_same },
    RefreshRule { name: "same authorized party", check: the_authorized_party_is_the_same },
    RefreshRule { name: "same authentication", check: the_authentication_is_the_original_one },
    RefreshRule { name: "same nonce", check: the_nonce_is_the_original_one },
];

struct RefreshRule {
    #[cfg_attr(not(test), expect(dead_code, reason = "tests take rules out by name"))]
    name: &'static str,
    check: fn(&Candidate, &OriginalIdentity) -> Result<(), RefreshedIdTokenError>,
}

/// Checks the ID token of a refresh answer as OpenID Connect Core section 12.2 demands: everything that is checked at a
/// login, and that it speaks of the same login. A refresh answer without ID token needs no such check.
///
/// Call it before anything of the answer is kept, save the rotated refresh token.
pub fn verify_refreshed(
    token: &RawIdToken,
    keys: &JwkSet,
    original: &OriginalIdentity,
    expect: &RefreshExpectations<'_>,
) -> Result<VerifiedIdToken, RefreshedIdTokenError> {
    verify_by(RULES, token, keys, original, expect)
}

/// The same by some of the rules.
fn verify_by<'r>(
    rules: impl IntoIterator<Item = &'r RefreshRule>,
    token: &RawIdToken,
    keys: &JwkSet,
    original: &OriginalIdentity,
    expect: &RefreshExpectations<'_>,
) -> Result<VerifiedIdToken, RefreshedIdTokenError> {
    let candidate = Candidate::parse(token)?;
    let as_at_a_login = IdTokenExpectations {
        issuer: &original.issuer,
        client_id: expect.client_id,
        trusted_audiences: expect.trusted_audiences,
        algorithms: expect.algorithms,
        nonce: ExpectedNonce::NotSent,
        access_token: expect.access_token,
        // The authentication is the one of the login, where its class and age were checked.
        acr: &[],
        max_age: MaxAuthenticationAge::Unlimited,
        now: expect.now,
        leeway: expect.leeway,
    };
    // No nonce is sent with a refresh; for the one that may come nevertheless there is a rule below.
    let all_but_nonce = verify::RULES.iter().filter(|rule| rule.name != verify::NONCE);
    verify::check(all_but_nonce, &candidate, keys, &as_at_a_login)?;
    rules.into_iter().try_for_each(|rule| (rule.check)(&candidate, original))?;
    Ok(candidate.accept(token)?)
}

fn the_subject_is_the_same(
    token: &Candidate,
    original: &OriginalIdentity,
) -> Result<(), RefreshedIdTokenError> {
    if claims::text(&token.claims, "sub") == Some(original.subject.as_str()) {
        Ok(())
    } else {
        Err(RefreshedIdTokenError::SubjectChanged)
    }
}

/// The same set: one text and an array of it are the same, and so are two orders.
fn the_audience_is_the_same(
    token: &Candidate,
    original: &OriginalIdentity,
) -> Result<(), RefreshedIdTokenError> {
    let found = claims::audience(&token.claims).unwrap_or_default();
    if found.iter().collect::<BTreeSet<_>>() == original.audience.iter().collect() {
        Ok(())
    } else {
        Err(RefreshedIdTokenError::AudienceChanged)
    }
}

fn the_authorized_party_is_the_same(
    token: &Candidate,
    original: &OriginalIdentity,
) -> Result<(), RefreshedIdTokenError> {
    if claims::text(&token.claims, "azp") == original.azp.as_deref() {
        Ok(())
    } else {
        Err(RefreshedIdTokenError::AuthorizedPartyChanged)
    }
}

/// To the second: some providers write a fraction at one time and none at another.
fn the_authentication_is_the_original_one(
    token: &Candidate,
    original: &OriginalIdentity,
) -> Result<(), RefreshedIdTokenError> {
    let second = |at: Timestamp| at.as_unix_millis().div_euclid(1000);
    match (claims::auth_time(&token.claims), original.auth_time) {
        (Some(found), Some(before)) if second(found) != second(before) => {
            Err(RefreshedIdTokenError::AuthTimeChanged)
        }
        _ => Ok(()),
    }
}

fn the_nonce_is_the_original_one(
    token: &Candidate,
    original: &OriginalIdentity,
) -> Result<(), RefreshedIdTokenError> {
    let same = match (token.claims.get("nonce"), &original.nonce) {
        (None, _) => true,
        (Some(found), Some(before)) => found.as_str().is_some_and(|found| Secret::new(found) == *before),
        (Some(_), None) => false,
    };
    if same { Ok(()) } else { Err(RefreshedIdTokenError::NonceChanged) }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        jws::{JwsError, SigningAlgorithm},
        test_provider::{key_set, p256, rsa},
        token::verify::tests::NOW,
    };

    fn original() -> OriginalIdentity {
        OriginalIdentity {
            issuer: Issuer::new("https://idp.example"),
            subject: "alice".to_owned(),
            audience: vec!["client".to_owned(), "project".to_owned()],
            azp: Some("client".to_owned()),
            auth_time: Some(NOW - Duration::from_secs(7200)),
            nonce: Some(Secret::new("the nonce")),
        }
    }

    fn refreshed() -> Value {
        json!({
            "iss": "https://idp.example",
            "sub": "alice",
            "aud": ["client", "project"],
            "azp": "client",
            "exp": NOW.as_unix_millis() / 1000 + 300,
            "iat": NOW.as_unix_millis() / 1000,
            "auth_time": NOW.as_unix_millis() / 1000 - 7200,
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = refreshed();
        claims[name] = value;
        claims
    }

    fn without(name: &str) -> Value {
        let mut claims = refreshed();
        claims.as_object_mut().unwrap().remove(name);
        claims
    }

    fn verify_without(
        rule: &str,
        claims: &Value,
        original: &OriginalIdentity,
    ) -> Result<VerifiedIdToken, RefreshedIdTokenError> {
        let expect = RefreshExpectations {
            client_id: "client",
            trusted_audiences: &["project".to_owned(), "other".to_owned()],
            algorithms: &AllowedAlgorithms::only([SigningAlgorithm::Rs256]),
            access_token: AccessTokenBinding::IssuedWith(&Secret::new("an access token")),
            now: NOW,
            leeway: Duration::from_secs(60),
        };
        let rules = RULES.iter().filter(|one| one.name != rule);
        verify_by(rules, &RawIdToken::new(rsa().token(claims)), &key_set([rsa().jwk()]), original, &expect)
    }

    fn verify(claims: &Value, original: &OriginalIdentity) -> Result<(), RefreshedIdTokenError> {
        verify_without("", claims, original).map(|_| ())
    }

    #[test]
    fn core_12_2_every_rule_refuses_what_no_other_rule_does() {
        let no_azp = OriginalIdentity { azp: None, ..original() };
        let no_nonce = OriginalIdentity { nonce: None, ..original() };
        let auth_time = |offset| json!(NOW.as_unix_millis() / 1000 - 7200 + offset);
        let rows = [
            (
                "same subject",
                with("sub", json!("mallory")),
                original(),
                RefreshedIdTokenError::SubjectChanged,
            ),
            ("same subject", with("sub", json!("Alice")), original(), RefreshedIdTokenError::SubjectChanged),
            (
                "same audience",
                with("aud", json!("client")),
                original(),
                RefreshedIdTokenError::AudienceChanged,
            ),
            (
                "same audience",
                with("aud", json!(["client", "project", "other"])),
                original(),
                RefreshedIdTokenError::AudienceChanged,
            ),
            (
                "same audience",
                with("aud", json!(["client", "other"])),
                original(),
                RefreshedIdTokenError::AudienceChanged,
            ),
            (
                "same authorized party",
                without("azp"),
                original(),
                RefreshedIdTokenError::AuthorizedPartyChanged,
            ),
            ("same authorized party", refreshed(), no_azp, RefreshedIdTokenError::AuthorizedPartyChanged),
            (
                "same authentication",
                with("auth_time", auth_time(1)),
                original(),
                RefreshedIdTokenError::AuthTimeChanged,
            ),
            (
                "same authentication",
                with("auth_time", auth_time(7200)),
                original(),
                RefreshedIdTokenError::AuthTimeChanged,
            ),
            ("same nonce", with("nonce", json!("another")), original(), RefreshedIdTokenError::NonceChanged),
            ("same nonce", with("nonce", json!(1)), original(), RefreshedIdTokenError::NonceChanged),
            ("same nonce", with("nonce", Value::Null), original(), RefreshedIdTokenError::NonceChanged),
            ("same nonce", with("nonce", json!("the nonce")), no_nonce, RefreshedIdTokenError::NonceChanged),
        ];
        for (rule, claims, original, error) in &rows {
            assert_eq!(verify(claims, original).as_ref(), Err(error), "{rule}: {claims}");
            let without = verify_without(rule, claims, original).map(|_| ());
            assert_eq!(without, Ok(()), "{rule}: {claims}: refused even without the rule");
        }
        for rule in RULES {
            assert!(rows.iter().any(|(name, ..)| *name == rule.name), "nothing breaks `{}`", rule.name);
        }
    }

    #[test]
    fn core_12_2_the_rules_of_every_id_token_hold_too() {
        let jws = |error| RefreshedIdTokenError::IdToken(IdTokenError::Jws(error));
        for (claims, error) in [
            (
                with("iss", json!("https://evil.example")),
                IdTokenError::Issuer { expected: Issuer::new("https://idp.example") },
            ),
            (with("aud", json!(["project"])), IdTokenError::Audience),
            (with("aud", json!(["client", "project", "stranger"])), IdTokenError::Audience),
            (with("azp", json!("other")), IdTokenError::AuthorizedParty),
            (
                with("exp", json!(0)),
                IdTokenError::Expired { ago: Some(NOW.saturating_since(Timestamp::from_unix_seconds(0))) },
            ),
            (without("iat"), IdTokenError::IssuedInFuture { ahead: None }),
            (without("sub"), IdTokenError::Subject),
            (with("at_hash", json!("AAAA")), IdTokenError::AccessToken),
            (with("nbf", json!(1e12)), IdTokenError::NotYetValid),
        ] {
            assert_eq!(verify(&claims, &original()), Err(RefreshedIdTokenError::IdToken(error)), "{claims}");
        }
        let expect = RefreshExpectations {
            client_id: "client",
            trusted_audiences: &["project".to_owned()],
            algorithms: &AllowedAlgorithms::only([SigningAlgorithm::Rs256]),
            access_token: AccessTokenBinding::NoneIssued,
            now: NOW,
            leeway: Duration::ZERO,
        };
        let keys = key_set([p256().jwk(), rsa().jwk()]);
        let verify = |token: String, keys| {
            verify_refreshed(&RawIdToken::new(token), keys, &original(), &expect).map(|_| ())
        };
        assert_eq!(verify(rsa().token(&refreshed()), &keys), Ok(()));
        assert_eq!(
            verify(p256().token(&refreshed()), &keys),
            Err(jws(JwsError::AlgorithmNotAllowed { algorithm: "ES256".to_owned() }))
        );
        let error = verify(rsa().token(&refreshed()), &key_set([])).unwrap_err();
        assert_eq!(error, jws(JwsError::UnknownKey { key_id: Some("rsa".to_owned()) }));
        assert!(error.wants_newer_keys());
    }

    #[test]
    fn core_12_2_what_may_differ() {
        let no_auth_time = OriginalIdentity { auth_time: None, ..original() };
        for (what, claims, original) in [
            ("nothing", refreshed(), original()),
            ("the order of audiences", with("aud", json!(["project", "client"])), original()),
            ("an audience named twice", with("aud", json!(["project", "client", "client"])), original()),
            ("the nonce is repeated", with("nonce", json!("the nonce")), original()),
            ("auth_time is gone", without("auth_time"), original()),
            ("auth_time is zero", with("auth_time", json!(0)), original()),
            (
                "auth_time has a fraction",
                with("auth_time", json!(NOW.as_unix_seconds_f64() - 7200.0 + 0.25)),
                original(),
            ),
            ("the original had no auth_time", refreshed(), no_auth_time),
            ("profile claims", with("email", json!("new@example.com")), original()),
        ] {
            assert_eq!(verify(&claims, &original), Ok(()), "{what}");
        }
        // One audience as text or as an array.
        let alone = OriginalIdentity { audience: vec!["client".to_owned()], ..original() };
        assert_eq!(verify(&with("aud", json!("client")), &alone), Ok(()));
        assert_eq!(verify(&with("aud", json!(["client"])), &alone), Ok(()));
    }

    #[test]
    fn the_identity_is_taken_from_the_token_of_the_login() {
        let token = verify_without("", &with("nonce", json!("the nonce")), &original()).unwrap();
        assert_eq!(OriginalIdentity::of(&token), original());
        assert!(!format!("{:?}", original()).contains("the nonce"));
    }
}
