//! One row a rule and a way to break it; each is run with all rules, and with the rule taken out.

use serde_json::{Value, json};

use super::*;
use crate::{
    jws::SigningAlgorithm,
    test_provider::{TestKey, key_set, other_rsa, p256, rsa},
};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_435_200);
const NOW_SECONDS: i64 = NOW.as_unix_millis() / 1000;
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

fn good() -> Value {
    json!({
        "iss": "https://idp.example",
        "aud": "client",
        "iat": NOW_SECONDS,
        "exp": NOW_SECONDS + 120,
        "jti": "bWJq",
        "sub": "alice",
        "sid": "s1",
        "events": {EVENT: {}},
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = good();
    claims[name] = value;
    claims
}

fn without(names: &[&str]) -> Value {
    let mut claims = good();
    claims.as_object_mut().unwrap().retain(|name, _| !names.contains(&name.as_str()));
    claims
}

fn verify_without(rule: &str, token: &str) -> Result<VerifiedLogoutToken, LogoutTokenError> {
    let expect = LogoutTokenExpectations {
        issuer: &Issuer::new("https://idp.example"),
        client_id: "client",
        algorithms: &AllowedAlgorithms::only([SigningAlgorithm::Rs256]),
        now: NOW,
        leeway: Duration::from_secs(60),
    };
    let keys = key_set([rsa().jwk(), p256().jwk()]);
    verify_by(RULES.iter().filter(|one| one.name != rule), &RawLogoutToken::new(token), &keys, &expect)
}

/// Rule, token, error.
#[rustfmt::skip]
fn bad_tokens() -> Vec<(&'static str, String, LogoutTokenError)> {
    let plain = |rule, claims: Value, error| (rule, rsa().token(&claims), error);
    let header = |rule, key: &TestKey, header: Value, error| (rule, key.sign(&header, good().to_string().as_bytes()), error);
    let issuer = || LogoutTokenError::Issuer { expected: Issuer::new("https://idp.example") };
    let ago = |seconds| LogoutTokenError::Expired { ago: Some(Duration::from_secs(seconds)) };
    let ahead = |seconds| LogoutTokenError::IssuedInFuture { ahead: Some(Duration::from_secs(seconds)) };
    let kind = |kind: &str| LogoutTokenError::NotALogoutToken { media_type: kind.to_owned() };
    vec![
        header("it is a logout token", rsa(), json!({"alg": "RS256", "typ": "at+jwt"}), kind("at+jwt")),
        header("it is a logout token", rsa(), json!({"alg": "RS256", "typ": "id_token+jwt"}), kind("id_token+jwt")),
        header("no extensions", rsa(), json!({"alg": "RS256", "crit": ["exp"]}), JwsError::UnknownExtension.into()),
        plain("issuer", with("iss", json!("https://evil.example")), issuer()),
        plain("issuer", without(&["iss"]), issuer()),
        plain("audience", with("aud", json!("other")), LogoutTokenError::Audience),
        plain("audience", with("aud", json!(["client", "other"])), LogoutTokenError::Audience),
        plain("audience", without(&["aud"]), LogoutTokenError::Audience),
        plain("issue time", with("iat", json!(NOW_SECONDS + 61)), ahead(61)),
        plain("issue time", without(&["iat"]), LogoutTokenError::IssuedInFuture { ahead: None }),
        plain("expiry", with("exp", json!(NOW_SECONDS - 60)), ago(60)),
        plain("expiry", without(&["exp"]), LogoutTokenError::Expired { ago: None }),
        plain("event", without(&["events"]), LogoutTokenError::NoLogoutEvent),
        plain("event", with("events", json!({})), LogoutTokenError::NoLogoutEvent),
        plain("event", with("events", json!([EVENT])), LogoutTokenError::NoLogoutEvent),
        plain("event", with("events", json!(EVENT)), LogoutTokenError::NoLogoutEvent),
        plain("event", with("events", json!({EVENT: null})), LogoutTokenError::NoLogoutEvent),
        plain("event", with("events", json!({EVENT: "x"})), LogoutTokenError::NoLogoutEvent),
        plain("event", with("events", json!({"http://schemas.openid.net/event/other": {}})), LogoutTokenError::NoLogoutEvent),
        plain("no nonce", with("nonce", json!("n")), LogoutTokenError::Nonce),
        plain("no nonce", with("nonce", Value::Null), LogoutTokenError::Nonce),
        plain("token id", without(&["jti"]), LogoutTokenError::NoTokenId),
        plain("token id", with("jti", json!("")), LogoutTokenError::NoTokenId),
        plain("token id", with("jti", json!(1)), LogoutTokenError::NoTokenId),
        header("algorithm", p256(), json!({"alg": "ES256"}), JwsError::AlgorithmNotAllowed { algorithm: "ES256".to_owned() }.into()),
        header("signature", other_rsa(), json!({"alg": "RS256", "kid": "rsa"}), JwsError::WrongSignature { names_its_key: true }.into()),
        header("signature", other_rsa(), json!({"alg": "RS256", "kid": "other"}), JwsError::UnknownKey { key_id: Some("other".to_owned()) }.into()),
    ]
}

#[test]
fn back_channel_logout_2_6_every_rule_refuses_what_no_other_rule_does() {
    for (rule, token, error) in bad_tokens() {
        let shown = format!("{rule}: {error}");
        assert_eq!(verify_without("", &token).map(|_| ()), Err(error), "{shown}");
        assert_eq!(
            verify_without(rule, &token).map(|_| ()),
            Ok(()),
            "{shown}: refused even without the rule"
        );
    }
}

#[test]
fn every_rule_has_a_token_that_breaks_it() {
    for rule in RULES.iter().filter(|rule| rule.name != "somebody") {
        assert!(bad_tokens().iter().any(|(name, ..)| *name == rule.name), "nothing breaks `{}`", rule.name);
    }
}

/// A verified token without anybody cannot be: that rule is in its type as well.
#[test]
fn it_must_name_somebody() {
    for claims in [
        without(&["sub", "sid"]),
        with("sub", json!(1)),
        with("sub", json!("")),
        with("sid", json!("")),
        with("sid", Value::Null),
        with("sid", json!(["s1"])),
    ] {
        for rule in ["", "somebody"] {
            let found = verify_without(rule, &rsa().token(&claims)).map(|_| ());
            assert_eq!(found, Err(LogoutTokenError::Nobody), "{claims}");
        }
    }
}

#[test]
fn unsigned_tokens_are_refused_by_two_rules() {
    let signed = rsa().sign(&json!({"alg": "none"}), good().to_string().as_bytes());
    let unsigned = format!("{}.", signed.rsplit_once('.').unwrap().0);
    for rule in ["", "algorithm", "signature"] {
        let refused = LogoutTokenError::Jws(JwsError::AlgorithmNotAllowed { algorithm: "none".to_owned() });
        assert_eq!(verify_without(rule, &unsigned).map(|_| ()), Err(refused));
    }
}

#[test]
fn good_tokens() {
    let session = |subject: Option<&str>| LogoutWho::Session {
        session_id: "s1".to_owned(),
        subject: subject.map(str::to_owned),
    };
    for (claims, who) in [
        (good(), session(Some("alice"))),
        (without(&["sub"]), session(None)),
        (without(&["sid"]), LogoutWho::Subject("alice".to_owned())),
        (with("aud", json!(["client"])), session(Some("alice"))),
        (with("events", json!({EVENT: {"x": 1}, "y": {}})), session(Some("alice"))),
    ] {
        let token = verify_without("", &rsa().token(&claims)).unwrap();
        assert_eq!(token.who(), &who, "{claims}");
        assert_eq!((token.issuer().as_str(), token.token_id()), ("https://idp.example", "bWJq"));
        assert_eq!(token.expires_at(), NOW + Duration::from_secs(120));
    }
    for typ in ["logout+jwt", "application/logout+jwt", "JWT", "LOGOUT+JWT"] {
        let token = rsa().sign(&json!({"alg": "RS256", "typ": typ}), good().to_string().as_bytes());
        assert!(verify_without("", &token).is_ok(), "{typ}");
    }
}

#[test]
fn a_login_cannot_be_passed_off_as_a_logout() {
    let mut id_token = without(&["events", "jti"]);
    id_token["nonce"] = json!("n");
    assert!(verify_without("", &rsa().token(&id_token)).is_err());
}

#[test]
fn whose_it_claims_to_be() {
    let claimed = |token: String| RawLogoutToken::new(token).claimed_issuer();
    assert_eq!(claimed(other_rsa().token(&good())), Some(Issuer::new("https://idp.example")));
    assert_eq!(claimed(rsa().token(&without(&["iss"]))), None);
    assert_eq!(claimed("x".to_owned()), None);
}
