//! Claims from the userinfo endpoint (OpenID Connect Core section 5.3), and how they join those of the ID token.

use std::{fmt, time::Duration};

use crate::{
    claims::{self, Claims},
    discovery::Issuer,
    json,
    jwk::JwkSet,
    jws::{AllowedAlgorithms, JwsError, UnverifiedJws},
    time::Timestamp,
};

/// Claims that are shown to be about the user who signed in.
#[derive(Clone)]
pub struct UserInfo(Claims);

/// Names no claim: they hold more of a person than a log should.
impl fmt::Debug for UserInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserInfo").finish_non_exhaustive()
    }
}

impl UserInfo {
    /// More than this is no userinfo.
    pub const MAX_BYTES: usize = 1024 * 1024;

    /// The claims.
    pub fn claims(&self) -> &Claims {
        &self.0
    }

    /// Takes back what was proved before, from a record that was sealed meanwhile.
    pub fn from_record(claims: Claims) -> Self {
        Self(claims)
    }
}

/// Why an answer of the userinfo endpoint must not be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UserInfoError {
    /// It is larger than any userinfo.
    #[error("the userinfo is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It is signed: [`verify_signed_userinfo`] reads it.
    #[error("the userinfo is signed")]
    Signed,
    /// It is no JSON object, or one with a member twice.
    #[error("the userinfo is not a JSON object without duplicate members")]
    NotJson,
    /// It is about someone else, or does not say about whom (section 5.3.2).
    #[error("the userinfo is not about the user who signed in")]
    Subject,
    /// It is signed and as a signed token it is not acceptable.
    #[error("the signed userinfo is not acceptable")]
    Jws(#[from] JwsError),
    /// It is signed by another than the provider that was asked.
    #[error("the signed userinfo is not from {expected}")]
    Issuer {
        /// The one that was asked.
        expected: Issuer,
    },
    /// It is signed and not for us.
    #[error("the signed userinfo is not for this client")]
    Audience,
    /// It is signed and has expired.
    #[error("the signed userinfo has expired")]
    Expired,
}

impl UserInfoError {
    /// Whether the same answer might pass with keys fetched anew (Core section 10.1.1). Limit the rate of doing so.
    pub fn wants_newer_keys(&self) -> bool {
        matches!(self, Self::Jws(error) if error.wants_newer_keys())
    }
}

/// Reads userinfo in JSON. It must be about `expected_subject` (section 5.3.2), the subject of a verified ID token.
///
/// [`UserInfoError::Signed`] says that it is a token instead, for [`verify_signed_userinfo`].
pub fn parse_userinfo(
    content_type: Option<&str>,
    body: &[u8],
    expected_subject: &str,
) -> Result<UserInfo, UserInfoError> {
    if content_type.is_some_and(|media_type| media_type.to_ascii_lowercase().contains("application/jwt")) {
        return Err(UserInfoError::Signed);
    }
    if body.len() > UserInfo::MAX_BYTES {
        return Err(UserInfoError::TooLarge { limit: UserInfo::MAX_BYTES });
    }
    let claims = json::object_without_duplicates(body).ok_or(UserInfoError::NotJson)?;
    about(expected_subject, claims)
}

/// What signed userinfo must hold.
#[derive(Clone, Debug)]
pub struct SignedUserInfoExpectations<'a> {
    /// The provider that was asked.
    pub issuer: &'a Issuer,
    /// Our id at the provider.
    pub client_id: &'a str,
    /// How it may be signed: [`AllowedAlgorithms::of_userinfo`].
    pub algorithms: &'a AllowedAlgorithms,
    /// The subject of a verified ID token.
    pub subject: &'a str,
    /// The time.
    pub now: Timestamp,
    /// How far the provider's clock may be off.
    pub leeway: Duration,
}

/// Reads userinfo in a signed token (section 5.3.2: `iss` and `aud` must be there and be right).
pub fn verify_signed_userinfo(
    body: &[u8],
    keys: &JwkSet,
    expect: &SignedUserInfoExpectations<'_>,
) -> Result<UserInfo, UserInfoError> {
    let token = std::str::from_utf8(body).map_err(|_| JwsError::Malformed { what: "it is not text" })?;
    let jws = UnverifiedJws::parse(token.trim_ascii())?;
    let claims = jws.claims()?;
    if !claims::is_from(&claims, expect.issuer) {
        return Err(UserInfoError::Issuer { expected: expect.issuer.clone() });
    }
    if !claims::audience(&claims).is_some_and(|audience| audience.iter().any(|one| one == expect.client_id)) {
        return Err(UserInfoError::Audience);
    }
    if claims.contains_key("exp") && claims::not_expired(&claims, expect.now, expect.leeway).is_err() {
        return Err(UserInfoError::Expired);
    }
    jws.verify(keys, expect.algorithms)?;
    about(expect.subject, claims)
}

fn about(expected_subject: &str, claims: Claims) -> Result<UserInfo, UserInfoError> {
    if claims::text(&claims, "sub") == Some(expected_subject) {
        Ok(UserInfo(claims))
    } else {
        Err(UserInfoError::Subject)
    }
}

/// What a token says of itself or of the login. Userinfo has no say in it, present in the ID token or not.
const PROTOCOL_CLAIMS: &[&str] = &[
    "iss",
    "sub",
    "aud",
    "exp",
    "iat",
    "nbf",
    "nonce",
    "azp",
    "at_hash",
    "c_hash",
    "s_hash",
    "auth_time",
    "acr",
    "amr",
    "sid",
    "jti",
    "events",
    "cnf",
];

/// Where aggregated and distributed claims come from (section 5.6.2). Dropped: the claims that they stand for are in
/// neither document, the values hold access tokens to other parties' endpoints, and an app that followed them would
/// take the word of whoever is named there.
const CLAIM_SOURCES: &[&str] = &["_claim_names", "_claim_sources"];

/// Addresses, and the claims that say of them whether the user can be reached there (section 5.1).
const VERIFIED: &[(&str, &str)] = &[("email", "email_verified"), ("phone_number", "phone_number_verified")];

/// The claims of a user: the ID token's, with those of userinfo where both have one, because userinfo is newer.
///
/// Without userinfo they are the ID token's. Protocol claims are the ID token's alone; claim sources are dropped from both. What one document says of an address
/// counts for the address in that document, and not for another one in the other.
pub fn merge_claims(id_token: &Claims, userinfo: Option<&UserInfo>) -> Claims {
    let mut merged = id_token.clone();
    if let Some(userinfo) = userinfo {
        merge_userinfo(&mut merged, id_token, userinfo);
    }
    for source in CLAIM_SOURCES {
        merged.remove(*source);
    }
    merged
}

fn merge_userinfo(merged: &mut Claims, id_token: &Claims, userinfo: &UserInfo) {
    for (name, value) in userinfo.claims() {
        if !PROTOCOL_CLAIMS.contains(&name.as_str()) {
            merged.insert(name.clone(), value.clone());
        }
    }
    for (address, verified) in VERIFIED {
        let (theirs, ours) = (userinfo.claims().get(*address), id_token.get(*address));
        let speaks_of_it = match (theirs, ours) {
            (Some(theirs), Some(ours)) if theirs == ours => continue,
            (Some(_), _) => userinfo.claims(),
            (None, _) => id_token,
        };
        match speaks_of_it.get(*verified) {
            Some(value) => merged.insert((*verified).to_owned(), value.clone()),
            None => merged.remove(*verified),
        };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        jws::SigningAlgorithm,
        test_provider::{key_set, other_rsa, rsa},
    };

    const JSON: Option<&str> = Some("application/json");
    const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_435_200);

    fn claims(json: Value) -> Claims {
        let Value::Object(claims) = json else { panic!("an object") };
        claims
    }

    #[test]
    fn core_5_3_2_json_about_the_user() {
        let body = br#"{"sub":"alice","email":"a@example.com"}"#;
        for content_type in [JSON, Some("application/json; charset=utf-8"), Some("text/plain"), None] {
            let userinfo = parse_userinfo(content_type, body, "alice").unwrap();
            assert_eq!(userinfo.claims()["email"], "a@example.com");
        }
        for (body, error) in [
            (&br#"{"sub":"mallory"}"#[..], UserInfoError::Subject),
            (br#"{"sub":"Alice"}"#, UserInfoError::Subject),
            (br#"{"sub":"alice "}"#, UserInfoError::Subject),
            (br#"{"sub":["alice"]}"#, UserInfoError::Subject),
            (br#"{"sub":null}"#, UserInfoError::Subject),
            (br#"{"email":"a@example.com"}"#, UserInfoError::Subject),
            (br#"{"sub":"mallory","sub":"alice"}"#, UserInfoError::NotJson),
            (br#"["alice"]"#, UserInfoError::NotJson),
            (b"<html>", UserInfoError::NotJson),
            (b"", UserInfoError::NotJson),
            (b"{\"sub\":\"alice\",\"x\":\"\xff\"}", UserInfoError::NotJson),
            (&vec![b' '; UserInfo::MAX_BYTES + 1], UserInfoError::TooLarge { limit: UserInfo::MAX_BYTES }),
        ] {
            assert_eq!(parse_userinfo(JSON, body, "alice").map(|_| ()), Err(error));
        }
        assert_eq!(
            parse_userinfo(Some("Application/JWT"), b"ey", "alice").map(|_| ()),
            Err(UserInfoError::Signed)
        );
    }

    #[test]
    fn core_5_3_2_signed_about_the_user() {
        let good = || json!({"iss": "https://idp.example", "aud": "client", "sub": "alice", "email": "a@example.com"});
        let with = |name: &str, value: Value| {
            let mut claims = good();
            claims[name] = value;
            rsa().token(&claims)
        };
        let without = |name: &str| {
            let mut claims = good();
            claims.as_object_mut().unwrap().remove(name);
            rsa().token(&claims)
        };
        let issuer = Issuer::new("https://idp.example");
        let not_from_it = || UserInfoError::Issuer { expected: issuer.clone() };
        let now = NOW.as_unix_millis() / 1000;
        for (what, token, outcome) in [
            ("good", rsa().token(&good()), Ok(())),
            ("with white space around", format!("\n{} ", rsa().token(&good())), Ok(())),
            ("several audiences", with("aud", json!(["other", "client"])), Ok(())),
            ("not expired", with("exp", json!(now)), Ok(())),
            ("expired", with("exp", json!(now - 60)), Err(UserInfoError::Expired)),
            ("no date", with("exp", json!("tomorrow")), Err(UserInfoError::Expired)),
            ("another issuer", with("iss", json!("https://evil.example")), Err(not_from_it())),
            ("no issuer", without("iss"), Err(not_from_it())),
            ("another audience", with("aud", json!("other")), Err(UserInfoError::Audience)),
            ("no audience", without("aud"), Err(UserInfoError::Audience)),
            ("another subject", with("sub", json!("mallory")), Err(UserInfoError::Subject)),
            ("no subject", without("sub"), Err(UserInfoError::Subject)),
            (
                "another key",
                other_rsa().token(&good()),
                Err(JwsError::UnknownKey { key_id: Some("other".to_owned()) }.into()),
            ),
            (
                "another algorithm",
                rsa().sign(&json!({"alg": "PS256"}), good().to_string().as_bytes()),
                Err(JwsError::AlgorithmNotAllowed { algorithm: "PS256".to_owned() }.into()),
            ),
        ] {
            let expect = SignedUserInfoExpectations {
                issuer: &issuer,
                client_id: "client",
                algorithms: &AllowedAlgorithms::only([SigningAlgorithm::Rs256]),
                subject: "alice",
                now: NOW,
                leeway: Duration::from_secs(60),
            };
            let found =
                verify_signed_userinfo(token.as_bytes(), &key_set([rsa().jwk()]), &expect).map(|_| ());
            assert_eq!(found, outcome, "{what}");
            assert_eq!(found.is_err_and(|error| error.wants_newer_keys()), what == "another key", "{what}");
        }
    }

    #[test]
    fn userinfo_wins_where_it_has_a_say() {
        let id_token =
            claims(json!({"sub": "alice", "email": "old@example.com", "groups": ["a"], "locale": "en"}));
        let userinfo =
            UserInfo(claims(json!({"sub": "alice", "email": "new@example.com", "groups": [], "name": "A"})));
        assert_eq!(
            Value::from(merge_claims(&id_token, Some(&userinfo))),
            json!({"sub": "alice", "email": "new@example.com", "groups": [], "locale": "en", "name": "A"})
        );
    }

    #[test]
    fn protocol_claims_are_the_id_tokens_alone() {
        for name in PROTOCOL_CLAIMS.iter().copied() {
            let mut id_token = claims(json!({"email": "a@example.com"}));
            let userinfo = UserInfo(claims(json!({name: "forged"})));
            assert_eq!(merge_claims(&id_token, Some(&userinfo)), id_token, "{name}: added");
            id_token.insert(name.to_owned(), json!("true"));
            assert_eq!(merge_claims(&id_token, Some(&userinfo)), id_token, "{name}: replaced");
        }
    }

    #[test]
    fn core_5_6_2_claim_sources_are_dropped() {
        let sources = json!({
            "sub": "alice",
            "_claim_names": {"credit_score": "src1"},
            "_claim_sources": {"src1": {"endpoint": "https://elsewhere.example", "access_token": "ksj3n283dke"}},
        });
        for (id_token, userinfo) in
            [(sources.clone(), json!({})), (json!({}), sources.clone()), (sources.clone(), sources)]
        {
            let merged = merge_claims(&claims(id_token), Some(&UserInfo(claims(userinfo))));
            assert!(!merged.keys().any(|name| name.starts_with("_claim")), "{merged:?}");
        }
    }
    #[test]
    fn an_address_is_as_verified_as_its_own_document_says() {
        let table = [
            // ID token, userinfo, merged.
            (json!({"email": "a", "email_verified": true}), json!({"email": "b"}), json!({"email": "b"})),
            (
                json!({"email": "a", "email_verified": true}),
                json!({"email": "b", "email_verified": false}),
                json!({"email": "b", "email_verified": false}),
            ),
            (
                json!({"email": "a", "email_verified": true}),
                json!({"email": "a"}),
                json!({"email": "a", "email_verified": true}),
            ),
            (
                json!({"email": "a"}),
                json!({"email": "a", "email_verified": true}),
                json!({"email": "a", "email_verified": true}),
            ),
            (json!({"email": "a"}), json!({"email_verified": true}), json!({"email": "a"})),
            (
                json!({"email": "a", "email_verified": false}),
                json!({"email_verified": true}),
                json!({"email": "a", "email_verified": false}),
            ),
            (json!({"email_verified": true}), json!({"email": "b"}), json!({"email": "b"})),
            (
                json!({"phone_number": "1", "phone_number_verified": true}),
                json!({"phone_number": "2"}),
                json!({"phone_number": "2"}),
            ),
        ];
        for (id_token, userinfo, expected) in table {
            let merged = merge_claims(&claims(id_token.clone()), Some(&UserInfo(claims(userinfo.clone()))));
            assert_eq!(Value::Object(merged), expected, "{id_token} with {userinfo}");
        }
    }

    #[test]
    fn claim_sources_are_dropped_with_userinfo_or_without() {
        let id_token = claims(json!({
            "sub": "alice",
            "_claim_names": {"salary": "bank"},
            "_claim_sources": {"bank": {"endpoint": "https://bank.example", "access_token": "theirs"}},
        }));
        let expected = claims(json!({"sub": "alice"}));
        assert_eq!(merge_claims(&id_token, None), expected);
        assert_eq!(merge_claims(&id_token, Some(&UserInfo(expected.clone()))), expected);
    }
}
