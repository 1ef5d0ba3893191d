//! One row a rule and a way to break it. Every row is run twice: with all rules, and with the rule taken out, so that
//! the row is shown to depend on that rule alone.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::*;
use crate::{
    jws::AllowedAlgorithms,
    test_provider::{TestKey, key_set, other_rsa, p256, rsa},
    time::Timestamp,
};

pub(in super::super) const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_435_200);
const NOW_SECONDS: i64 = NOW.as_unix_millis() / 1000;
const ACCESS_TOKEN: &str = "an access token";

/// A token about to be signed, and what it will be held against.
struct Case {
    key: &'static TestKey,
    header: Value,
    claims: Value,
    spoil: fn(String) -> String,
    keys: JwkSet,
    algorithms: AllowedAlgorithms,
    nonce: Option<Secret>,
    access_token: Option<Secret>,
    trusted_audiences: Vec<String>,
    acr: Vec<String>,
    max_age: MaxAuthenticationAge,
}

/// A token in which everything is as it should be.
fn good() -> Case {
    Case {
        key: rsa(),
        header: json!({"alg": "RS256", "kid": "rsa", "typ": "JWT"}),
        claims: json!({
            "iss": "https://idp.example",
            "sub": "248289761001",
            "aud": "client",
            "exp": NOW_SECONDS + 300,
            "iat": NOW_SECONDS - 1,
            "nonce": "n-0S6_WzA2Mj",
            "at_hash": at_hash(&digest::SHA256),
        }),
        spoil: |token| token,
        keys: key_set([rsa().jwk(), p256().jwk()]),
        algorithms: AllowedAlgorithms::only([SigningAlgorithm::Rs256]),
        nonce: Some(Secret::new("n-0S6_WzA2Mj")),
        access_token: Some(Secret::new(ACCESS_TOKEN)),
        trusted_audiences: vec![],
        acr: vec![],
        max_age: MaxAuthenticationAge::Unlimited,
    }
}

fn at_hash(algorithm: &'static digest::Algorithm) -> String {
    let hash = digest::digest(algorithm, ACCESS_TOKEN.as_bytes());
    base64url(&hash.as_ref()[..hash.as_ref().len() / 2])
}

impl Case {
    fn claim(mut self, name: &str, value: Value) -> Self {
        self.claims[name] = value;
        self
    }

    fn without(mut self, name: &str) -> Self {
        self.claims.as_object_mut().unwrap().remove(name);
        self
    }

    fn header(mut self, name: &str, value: Value) -> Self {
        self.header[name] = value;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn verify(&self) -> Result<VerifiedIdToken, IdTokenError> {
        self.verify_by(RULES.iter())
    }

    fn verify_without(&self, rule: &str) -> Result<VerifiedIdToken, IdTokenError> {
        self.verify_by(RULES.iter().filter(|one| one.name != rule))
    }

    fn verify_by<'r>(&self, rules: impl Iterator<Item = &'r Rule>) -> Result<VerifiedIdToken, IdTokenError> {
        let token = (self.spoil)(self.key.sign(&self.header, self.claims.to_string().as_bytes()));
        let token = RawIdToken::new(token);
        let issuer = Issuer::new("https://idp.example");
        let expect = IdTokenExpectations {
            trusted_audiences: &self.trusted_audiences,
            acr: &self.acr,
            max_age: self.max_age,
            ..IdTokenExpectations::new(
                &issuer,
                "client",
                &self.algorithms,
                self.nonce.as_ref().map_or(ExpectedNonce::NotSent, ExpectedNonce::Exactly),
                self.access_token
                    .as_ref()
                    .map_or(AccessTokenBinding::NoneIssued, AccessTokenBinding::IssuedWith),
                NOW,
            )
        };
        let candidate = Candidate::parse(&token)?;
        check(rules, &candidate, &self.keys, &expect)?;
        candidate.accept(&token)
    }
}

fn issuer_error() -> IdTokenError {
    IdTokenError::Issuer { expected: Issuer::new("https://idp.example") }
}

fn expired(seconds: u64) -> IdTokenError {
    IdTokenError::Expired { ago: Some(Duration::from_secs(seconds)) }
}

fn issued_ahead(seconds: u64) -> IdTokenError {
    IdTokenError::IssuedInFuture { ahead: Some(Duration::from_secs(seconds)) }
}

fn flip_a_bit_of_the_signature(token: String) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let mut signature = crate::secret::from_base64url(signature).unwrap();
    signature[0] ^= 1;
    format!("{signed}.{}", base64url(&signature))
}

fn put_another_subject(token: String) -> String {
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("three parts")
    };
    let payload = String::from_utf8(crate::secret::from_base64url(payload).unwrap()).unwrap();
    let payload = payload.replace("248289761001", "admin");
    format!("{header}.{}.{signature}", base64url(payload.as_bytes()))
}

/// Rule, what is wrong, the token, the error.
#[rustfmt::skip]
fn bad_tokens() -> Vec<(&'static str, &'static str, Case, IdTokenError)> {
    let wrong_signature = || JwsError::WrongSignature { names_its_key: true }.into();
    let not_allowed = |name: &str| JwsError::AlgorithmNotAllowed { algorithm: name.to_owned() }.into();
    let not_an_id_token = |kind: &str| IdTokenError::NotAnIdToken { media_type: kind.to_owned() };
    vec![
        ("it is an ID token", "a logout token", good().header("typ", json!("logout+jwt")), not_an_id_token("logout+jwt")),
        ("it is an ID token", "an access token", good().header("typ", json!("application/AT+JWT")), not_an_id_token("at+jwt")),
        ("it is an ID token", "a DPoP proof", good().header("typ", json!("dpop+jwt")), not_an_id_token("dpop+jwt")),

        ("no extensions", "an unknown one", good().header("crit", json!(["x"])).header("x", json!(1)), JwsError::UnknownExtension.into()),
        ("no extensions", "an unencoded payload", good().header("b64", json!(false)), JwsError::UnknownExtension.into()),

        ("issuer", "another", good().claim("iss", json!("https://evil.example")), issuer_error()),
        ("issuer", "one more slash", good().claim("iss", json!("https://idp.example/")), issuer_error()),
        ("issuer", "another case", good().claim("iss", json!("https://IDP.example")), issuer_error()),
        ("issuer", "an array", good().claim("iss", json!(["https://idp.example"])), issuer_error()),
        ("issuer", "none", good().without("iss"), issuer_error()),

        ("audience", "another", good().claim("aud", json!("other")), IdTokenError::Audience),
        ("audience", "longer", good().claim("aud", json!("client2")), IdTokenError::Audience),
        ("audience", "another case", good().claim("aud", json!("Client")), IdTokenError::Audience),
        ("audience", "nobody", good().claim("aud", json!([])), IdTokenError::Audience),
        ("audience", "others", good().claim("aud", json!(["other", "another"])), IdTokenError::Audience),
        ("audience", "us and one whom we do not trust", good().claim("aud", json!(["client", "other"])), IdTokenError::Audience),
        ("audience", "one whom we trust, but not us", good().claim("aud", json!("api")).with(|case| case.trusted_audiences = vec!["api".to_owned()]), IdTokenError::Audience),

        ("authorized party", "another", good().claim("azp", json!("other")), IdTokenError::AuthorizedParty),
        ("authorized party", "null", good().claim("azp", Value::Null), IdTokenError::AuthorizedParty),
        ("authorized party", "an array", good().claim("azp", json!(["client"])), IdTokenError::AuthorizedParty),

        ("algorithm", "one of the provider's, but not allowed", good().header("alg", json!("ES256")).header("kid", json!("p256")).with(|case| case.key = p256()), not_allowed("ES256")),
        ("algorithm", "nothing is allowed", good().with(|case| case.algorithms = AllowedAlgorithms::only([])), not_allowed("RS256")),

        ("signature", "one bit", good().with(|case| case.spoil = flip_a_bit_of_the_signature), wrong_signature()),
        ("signature", "another payload", good().with(|case| case.spoil = put_another_subject), wrong_signature()),
        ("signature", "another key under the name", good().with(|case| case.key = other_rsa()), wrong_signature()),
        ("signature", "a key that is not the provider's", good().header("kid", json!("other")).with(|case| case.key = other_rsa()), JwsError::UnknownKey { key_id: Some("other".to_owned()) }.into()),

        ("expiry", "past", good().claim("exp", json!(NOW_SECONDS - 3600)), expired(3600)),
        ("expiry", "at the end of the leeway", good().claim("exp", json!(NOW_SECONDS - 60)), expired(60)),
        ("expiry", "a fraction past it", good().claim("exp", json!(NOW_SECONDS as f64 - 60.5)), expired(60).with_millis(500)),
        ("expiry", "before all time", good().claim("exp", json!(-1e300)), IdTokenError::Expired { ago: Some(NOW.saturating_since(Timestamp::from_unix_millis(i64::MIN))) }),

        ("issue time", "in the future", good().claim("iat", json!(NOW_SECONDS + 3600)), issued_ahead(3600)),
        ("issue time", "beyond the leeway", good().claim("iat", json!(NOW_SECONDS + 61)), issued_ahead(61)),

        ("not before", "in the future", good().claim("nbf", json!(NOW_SECONDS + 61)), IdTokenError::NotYetValid),
        ("not before", "text", good().claim("nbf", json!("0")), IdTokenError::NotYetValid),
        ("not before", "null", good().claim("nbf", Value::Null), IdTokenError::NotYetValid),

        ("nonce", "another", good().claim("nonce", json!("n-0S6_WzA2Mk")), IdTokenError::Nonce),
        ("nonce", "longer", good().claim("nonce", json!("n-0S6_WzA2Mj ")), IdTokenError::Nonce),
        ("nonce", "none", good().without("nonce"), IdTokenError::Nonce),
        ("nonce", "null", good().claim("nonce", Value::Null), IdTokenError::Nonce),
        ("nonce", "an array", good().claim("nonce", json!(["n-0S6_WzA2Mj"])), IdTokenError::Nonce),
        ("nonce", "one that was not sent", good().with(|case| case.nonce = None), IdTokenError::Nonce),

        ("authentication context", "another", good().claim("acr", json!("pwd")).with(|case| case.acr = vec!["mfa".to_owned()]), IdTokenError::AuthenticationContext),
        ("authentication context", "none", good().with(|case| case.acr = vec!["mfa".to_owned(), "hwk".to_owned()]), IdTokenError::AuthenticationContext),

        ("authentication time", "too old", good().claim("auth_time", json!(NOW_SECONDS - 3661)).with(limited_to_an_hour), IdTokenError::AuthenticationTooOld),
        ("authentication time", "none", good().with(limited_to_an_hour), IdTokenError::AuthenticationTooOld),
        ("authentication time", "in the future", good().claim("auth_time", json!(NOW_SECONDS + 61)).with(limited_to_an_hour), IdTokenError::AuthenticationTooOld),
        ("authentication time", "not known to the provider", good().claim("auth_time", json!(0)).with(limited_to_an_hour), IdTokenError::AuthenticationTooOld),
        ("authentication time", "text", good().claim("auth_time", json!(NOW_SECONDS.to_string())).with(limited_to_an_hour), IdTokenError::AuthenticationTooOld),

        ("subject", "none", good().without("sub"), IdTokenError::Subject),
        ("subject", "empty", good().claim("sub", json!("")), IdTokenError::Subject),
        ("subject", "too long", good().claim("sub", json!("x".repeat(256))), IdTokenError::Subject),
        ("subject", "not ASCII", good().claim("sub", json!("jürgen")), IdTokenError::Subject),
        ("subject", "a number", good().claim("sub", json!(248_289_761_001_u64)), IdTokenError::Subject),

        ("access token", "another", good().with(|case| case.access_token = Some(Secret::new("another"))), IdTokenError::AccessToken),
        ("access token", "none came", good().with(|case| case.access_token = None), IdTokenError::AccessToken),
        ("access token", "the whole hash", good().claim("at_hash", json!(base64url(digest::digest(&digest::SHA256, ACCESS_TOKEN.as_bytes()).as_ref()))), IdTokenError::AccessToken),
        ("access token", "the hash of another algorithm", good().claim("at_hash", json!(at_hash(&digest::SHA512))), IdTokenError::AccessToken),
        ("access token", "an empty hash", good().claim("at_hash", json!("")), IdTokenError::AccessToken),
        ("access token", "null", good().claim("at_hash", Value::Null), IdTokenError::AccessToken),
        ("access token", "a number", good().claim("at_hash", json!(1)), IdTokenError::AccessToken),
    ]
}

fn limited_to_an_hour(case: &mut Case) {
    case.max_age = MaxAuthenticationAge::AtMost { age: Duration::from_secs(3600), sent_at: NOW };
}

impl IdTokenError {
    fn with_millis(self, millis: u64) -> Self {
        match self {
            Self::Expired { ago: Some(ago) } => {
                Self::Expired { ago: Some(ago + Duration::from_millis(millis)) }
            }
            other => other,
        }
    }
}

#[test]
fn core_3_1_3_7_every_rule_refuses_what_no_other_rule_does() {
    for (rule, what, case, error) in bad_tokens() {
        assert_eq!(case.verify().map(|_| ()), Err(error), "{rule}: {what}");
        let without = case.verify_without(rule).map(|_| ());
        assert_eq!(
            without,
            Ok(()),
            "{rule}: {what}: the token is refused even without the rule, so it tests nothing"
        );
    }
}

#[test]
fn every_rule_has_a_token_that_breaks_it() {
    let rules: BTreeSet<_> = RULES.iter().map(|rule| rule.name).collect();
    let broken: BTreeSet<_> = bad_tokens().into_iter().map(|(rule, ..)| rule).collect();
    assert_eq!(rules, broken);
    assert_eq!(rules.len(), RULES.len(), "two rules have one name");
}

/// Tokens that lack what a verified token cannot be without: no rule taken out lets them pass.
#[test]
fn what_a_verified_token_must_have_is_asked_for_twice() {
    for (rule, case, error) in [
        ("audience", good().without("aud"), IdTokenError::Audience),
        ("audience", good().claim("aud", json!(["client", 1])), IdTokenError::Audience),
        ("audience", good().claim("aud", json!({"client": 1})), IdTokenError::Audience),
        ("expiry", good().without("exp"), IdTokenError::Expired { ago: None }),
        ("expiry", good().claim("exp", json!("1895435200")), IdTokenError::Expired { ago: None }),
        ("expiry", good().claim("exp", Value::Null), IdTokenError::Expired { ago: None }),
        ("issue time", good().without("iat"), IdTokenError::IssuedInFuture { ahead: None }),
        ("issue time", good().claim("iat", json!("1")), IdTokenError::IssuedInFuture { ahead: None }),
    ] {
        assert_eq!(case.verify().map(|_| ()), Err(error), "{rule}");
        assert!(case.verify_without(rule).is_err(), "{rule}");
    }
}

#[test]
fn core_3_1_3_7_unsigned_tokens_are_refused_by_two_rules() {
    let unsigned = good().header("alg", json!("none")).with(|case| {
        case.spoil = |token| format!("{}.", token.rsplit_once('.').unwrap().0);
    });
    let refused = Err(IdTokenError::Jws(JwsError::AlgorithmNotAllowed { algorithm: "none".to_owned() }));
    for rule in ["", "algorithm", "signature"] {
        assert_eq!(unsigned.verify_without(rule).map(|_| ()), refused, "{rule}");
    }
}

#[test]
fn core_3_1_3_7_good_tokens() {
    for (what, case) in [
        ("as it should be", good()),
        ("no typ", good().with(|case| drop(case.header.as_object_mut().unwrap().remove("typ")))),
        ("typ in another case", good().header("typ", json!("jwt"))),
        ("an audience of one", good().claim("aud", json!(["client"]))),
        ("an audience named twice", good().claim("aud", json!(["client", "client"]))),
        (
            "a trusted audience beside us",
            good()
                .claim("aud", json!(["project", "client"]))
                .with(|case| case.trusted_audiences = vec!["project".to_owned()]),
        ),
        ("we are the authorized party", good().claim("azp", json!("client"))),
        ("no at_hash", good().without("at_hash")),
        ("no at_hash and no access token", good().without("at_hash").with(|case| case.access_token = None)),
        ("no nonce was sent", good().without("nonce").with(|case| case.nonce = None)),
        ("expired within the leeway", good().claim("exp", json!(NOW_SECONDS - 59))),
        ("issued ahead within the leeway", good().claim("iat", json!(NOW_SECONDS + 60))),
        ("issued long ago", good().claim("iat", json!(1))),
        (
            "dates with fractions",
            good().claim("exp", json!(NOW_SECONDS as f64 + 0.5)).claim("iat", json!(1.5)),
        ),
        ("expires after all time", good().claim("exp", json!(1e300))),
        ("in force for long", good().claim("nbf", json!(0))),
        ("auth_time is a fraction", good().claim("auth_time", json!(NOW_SECONDS as f64 - 0.25))),
        ("auth_time is zero", good().claim("auth_time", json!(0))),
        (
            "auth_time is of the moment, and the user took a while afterwards",
            good().claim("auth_time", json!(NOW_SECONDS - 500)).with(|case| {
                let sent_at = NOW - Duration::from_secs(560);
                case.max_age = MaxAuthenticationAge::AtMost { age: Duration::ZERO, sent_at };
            }),
        ),
        ("auth_time is nonsense that nobody asked for", good().claim("auth_time", json!("today"))),
        (
            "recent enough",
            good().claim("auth_time", json!(NOW_SECONDS as f64 - 3600.5)).with(limited_to_an_hour),
        ),
        (
            "one of the demanded classes",
            good()
                .claim("acr", json!("hwk"))
                .with(|case| case.acr = vec!["mfa".to_owned(), "hwk".to_owned()]),
        ),
        ("four hundred groups", good().claim("groups", json!(vec!["a group with a long name"; 400]))),
    ] {
        assert_eq!(case.verify().map(|_| ()), Ok(()), "{what}");
    }
}

#[test]
fn core_3_1_3_8_at_hash_goes_with_every_algorithm() {
    for (algorithm, hash) in [
        (SigningAlgorithm::Ps256, &digest::SHA256),
        (SigningAlgorithm::Es256, &digest::SHA256),
        (SigningAlgorithm::Rs384, &digest::SHA384),
        (SigningAlgorithm::Es384, &digest::SHA384),
        (SigningAlgorithm::Rs512, &digest::SHA512),
        (SigningAlgorithm::Es512, &digest::SHA512),
        (SigningAlgorithm::EdDsa, &digest::SHA512),
    ] {
        let key: &'static TestKey = Box::leak(Box::new(TestKey::new("k", algorithm)));
        let signed_by = |hash: &'static digest::Algorithm| {
            good()
                .header("alg", json!(algorithm.name()))
                .header("kid", json!("k"))
                .claim("at_hash", json!(at_hash(hash)))
                .with(|case| {
                    case.key = key;
                    case.keys = key_set([key.jwk()]);
                    case.algorithms = AllowedAlgorithms::only([algorithm]);
                })
        };
        let verified = signed_by(hash).verify().map(|token| token.algorithm());
        assert_eq!(verified, Ok(algorithm), "{}", algorithm.name());
        let other = if hash == &digest::SHA256 { &digest::SHA512 } else { &digest::SHA256 };
        assert_eq!(
            signed_by(other).verify().map(|_| ()),
            Err(IdTokenError::AccessToken),
            "{}",
            algorithm.name()
        );
    }
}

#[test]
fn a_claim_that_appears_twice_is_refused() {
    let case = good();
    let payload = case.claims.to_string().replacen('{', r#"{"sub":"admin","#, 1);
    let token = RawIdToken::new(rsa().sign(&case.header, payload.as_bytes()));
    let error = Candidate::parse(&token).map(|_| ()).unwrap_err();
    let what = "its payload is not a JSON object without duplicate members";
    assert_eq!(error, IdTokenError::Jws(JwsError::Malformed { what }));
}

#[test]
fn what_a_verified_token_tells() {
    let case = good()
        .claim("sid", json!("s1"))
        .claim("azp", json!("client"))
        .claim("aud", json!(["client"]))
        .claim("auth_time", json!(NOW_SECONDS as f64 - 10.5));
    let token = case.verify().unwrap();
    assert_eq!(token.issuer().as_str(), "https://idp.example");
    assert_eq!(token.subject(), "248289761001");
    assert_eq!(token.audience(), ["client"]);
    assert_eq!(token.authorized_party(), Some("client"));
    assert_eq!(token.session_id(), Some("s1"));
    assert_eq!(token.auth_time(), Some(NOW - Duration::from_millis(10_500)));
    assert_eq!(token.expires_at(), NOW + Duration::from_secs(300));
    assert_eq!(token.issued_at(), NOW - Duration::from_secs(1));
    assert_eq!(token.claims()["nonce"], "n-0S6_WzA2Mj");
    assert!(token.raw().expose().starts_with("ey"));
    let shown = format!("{token:?} {:?}", RawIdToken::from(token.raw().clone()));
    assert!(!shown.contains("ey") && !shown.contains("n-0S6"), "{shown}");

    let token = good().claim("auth_time", json!(0)).claim("sid", json!("")).verify().unwrap();
    assert_eq!((token.auth_time(), token.session_id(), token.authorized_party()), (None, None, None));
}

#[test]
fn core_10_1_1_only_an_unknown_key_wants_newer_keys() {
    for (rule, what, case, _) in bad_tokens() {
        let wants = case.verify().unwrap_err().wants_newer_keys();
        assert_eq!(wants, what == "a key that is not the provider's", "{rule}: {what}");
    }
}

#[test]
fn errors_help_with_clocks_and_show_no_token() {
    for (_, what, case, _) in bad_tokens() {
        let error = case.verify().unwrap_err();
        let shown = format!("{error} {error:?}");
        assert!(
            !shown.contains("n-0S6") && !shown.contains("eyJ") && !shown.contains(ACCESS_TOKEN),
            "{what}: {shown}"
        );
    }
    assert_eq!(expired(3600).to_string(), "the ID token expired 3600 s ago");
    assert_eq!(issued_ahead(90).to_string(), "the ID token was issued 90 s in the future");
}
