//! Clients that prove themselves with a key.

use freshgate_devidp::DevClient;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setting::{Answer, CALLBACK, SECRET, Setting, VERIFIER, text};
use crate::signer::Signer;

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
const CLIENT: &str = "signing";

struct World {
    setting: Setting,
    key: Signer,
}

impl World {
    async fn new() -> World {
        let key = Signer::new();
        let mut jwk = key.public_jwk();
        jwk["kid"] = "k1".into();
        let client = DevClient::with_keys(CLIENT, json!({"keys": [jwk]}), CALLBACK);
        let setting = Setting::with(|config| {
            config.clients.push(client);
            config.scripting = freshgate_devidp::Scripting::On;
        })
        .await;
        World { setting, key }
    }

    fn claims(&self, jti: &str) -> Value {
        let now = self.setting.now();
        json!({
            "iss": CLIENT, "sub": CLIENT, "aud": self.setting.url(""), "jti": jti, "iat": now, "exp": now + 60,
        })
    }

    async fn redeem(&self, assertion: &str, more: &[(&str, &str)]) -> Answer {
        let code = self.setting.code("alice", &[("client_id", CLIENT)]).await;
        let mut form = vec![
            ("grant_type", "authorization_code"),
            ("code", &code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
            ("client_assertion_type", TYPE),
            ("client_assertion", assertion),
        ];
        form.retain(|(name, _)| !more.iter().any(|(other, _)| name == other));
        form.extend(more);
        self.setting.bare_form("/token", &form).await
    }
}

#[tokio::test]
async fn a_good_assertion_is_good_once() {
    let world = World::new().await;
    let assertion = world.key.sign(&json!({"kid": "k1"}), &world.claims("one"));
    let answer = world.redeem(&assertion, &[("client_id", CLIENT)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let tokens = answer.json();
    let again = world.redeem(&assertion, &[]).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
    assert!(text(&again.json(), "error_description").contains("used before"), "{}", again.body);

    // To a provider that calls itself by its token endpoint; refreshing and revoking too; a key may go unnamed.
    let mut claims = world.claims("two");
    claims["aud"] = world.setting.url("/token").into();
    let assertion = world.key.sign(&json!({}), &claims);
    let refresh_token = text(&tokens, "refresh_token");
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh_token),
        ("client_assertion_type", TYPE),
        ("client_assertion", &assertion),
    ];
    let refreshed = world.setting.bare_form("/token", &form).await;
    assert_eq!(refreshed.status, StatusCode::OK, "{}", refreshed.body);
    let assertion = world.key.sign(&json!({}), &world.claims("three"));
    let form = [("token", refresh_token), ("client_assertion_type", TYPE), ("client_assertion", &assertion)];
    assert_eq!(world.setting.bare_form("/revoke", &form).await.status, StatusCode::OK);

    let log = world.setting.log().await;
    let ways: Vec<&str> =
        log["entries"].as_array().unwrap().iter().filter_map(|entry| entry["client_auth"].as_str()).collect();
    assert_eq!(ways, ["private_key_jwt"; 4]);
}

#[tokio::test]
async fn every_claim_and_the_signature_count() {
    let world = World::new().await;
    let now = world.setting.now();
    let stranger = Signer::new();
    type Change<'a> = (&'a str, Value);
    let changes: [(&str, Change<'_>); 17] = [
        ("iss is missing", ("iss", Value::Null)),
        ("sub is not the same", ("sub", json!("app"))),
        ("sub is not the same", ("iss", json!("app"))),
        ("aud is neither", ("aud", Value::Null)),
        ("aud is neither", ("aud", json!("https://other.example"))),
        ("aud is neither", ("aud", json!([world.setting.url("")]))),
        ("aud is neither", ("aud", json!(world.setting.url("/")))),
        ("exp is missing", ("exp", Value::Null)),
        ("exp is missing", ("exp", json!("soon"))),
        ("has expired", ("exp", json!(now))),
        ("good for too long", ("exp", json!(now + 3600))),
        ("from the future", ("iat", json!(now + 60))),
        ("from the future", ("nbf", json!(now + 60))),
        ("jti is missing", ("jti", Value::Null)),
        ("jti is missing", ("jti", json!(""))),
        ("client_id is another", ("iss+sub", json!("app"))),
        ("no key of the client", ("stranger", Value::Null)),
    ];
    for (number, (said, (name, value))) in changes.into_iter().enumerate() {
        let mut claims = world.claims(&format!("jti-{number}"));
        match name {
            "iss+sub" => (claims["iss"], claims["sub"]) = (value.clone(), value),
            "stranger" => {}
            _ => claims[name] = value,
        }
        let signer = if name == "stranger" { &stranger } else { &world.key };
        let answer =
            world.redeem(&signer.sign(&json!({"kid": "k1"}), &claims), &[("client_id", CLIENT)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{said}: {}", answer.body);
        assert_eq!(answer.json()["error"], "invalid_client");
        assert!(text(&answer.json(), "error_description").contains(said), "{said}: {}", answer.body);
    }
    for header in
        [json!({"kid": "k2"}), json!({"alg": "none"}), json!({"alg": "HS256"}), json!({"alg": "ES384"})]
    {
        let answer = world.redeem(&world.key.sign(&header, &world.claims("header")), &[]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{header}: {}", answer.body);
    }
    for token in ["", "a.b", "a.b.c", "e30.e30."] {
        let answer = world.redeem(token, &[("client_id", CLIENT)]).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{token}: {}", answer.body);
    }
    let good = || world.key.sign(&json!({}), &world.claims("unused"));
    for more in [("client_assertion_type", "jwt"), ("client_secret", SECRET)] {
        let answer = world.redeem(&good(), &[more]).await;
        assert!(!answer.status.is_success(), "{more:?}: {}", answer.body);
    }
    assert_eq!(world.redeem(&good(), &[]).await.status, StatusCode::OK, "none of those used it up");
}

#[tokio::test]
async fn a_client_with_keys_has_no_other_way_and_others_have_not_this_one() {
    let world = World::new().await;
    // Without an assertion it looks like a public client.
    let answer = world.redeem("", &[("client_assertion_type", ""), ("client_id", CLIENT)]).await;
    assert_eq!(answer.json()["error"], "invalid_client");
    let mut claims = world.claims("other");
    (claims["iss"], claims["sub"]) = (json!("app"), json!("app"));
    let answer = world.redeem(&world.key.sign(&json!({}), &claims), &[]).await;
    assert!(text(&answer.json(), "error_description").contains("no keys here"), "{}", answer.body);
}

#[tokio::test]
async fn an_expired_assertion_stays_refused_after_its_use_is_forgotten() {
    let world = World::new().await;
    let assertion = world.key.sign(&json!({}), &world.claims("one"));
    assert_eq!(world.redeem(&assertion, &[]).await.status, StatusCode::OK);
    world.setting.json(Method::POST, "/_script/clock", json!({"offset_ms": 700_000})).await;
    let answer = world.redeem(&assertion, &[]).await;
    assert!(text(&answer.json(), "error_description").contains("has expired"), "{}", answer.body);
}
