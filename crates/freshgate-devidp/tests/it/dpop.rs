//! Tokens that are bound to a key, and proofs of holding it (RFC 9449).

use aws_lc_rs::digest::{SHA256, digest};
use freshgate_devidp::{Dpop, DpopNonces, Scripting};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::setting::{Answer, CALLBACK, Setting, VERIFIER, base64url, text};
use crate::signer::Signer;

const PUBLIC: &str = "public";

struct World {
    setting: Setting,
    key: Signer,
}

impl World {
    async fn new(dpop: Dpop, nonces: DpopNonces) -> World {
        let setting = Setting::with(|config| {
            config.dpop = dpop;
            config.dpop_nonces = nonces;
            config.scripting = Scripting::On;
        })
        .await;
        World { setting, key: Signer::new() }
    }

    fn header(&self) -> Value {
        json!({"typ": "dpop+jwt", "jwk": self.key.public_jwk()})
    }

    fn claims(&self, method: &str, path: &str, jti: &str) -> Value {
        json!({"htm": method, "htu": self.setting.url(path), "iat": self.setting.now(), "jti": jti})
    }

    fn proof(&self, method: &str, path: &str, jti: &str) -> String {
        self.key.sign(&self.header(), &self.claims(method, path, jti))
    }

    async fn code(&self, more: &[(&str, &str)]) -> String {
        self.setting.code("alice", &[&[("client_id", PUBLIC)], more].concat()).await
    }

    async fn redeem(&self, code: &str, proofs: &[&str]) -> Answer {
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", PUBLIC),
            ("code", code),
            ("redirect_uri", CALLBACK),
            ("code_verifier", VERIFIER),
        ];
        let headers: Vec<_> = proofs.iter().map(|proof| ("dpop", *proof)).collect();
        self.setting.send(Method::POST, "/token", &headers, &form).await
    }

    async fn refresh(&self, refresh_token: &str, proofs: &[&str]) -> Answer {
        let form = [("grant_type", "refresh_token"), ("client_id", PUBLIC), ("refresh_token", refresh_token)];
        let headers: Vec<_> = proofs.iter().map(|proof| ("dpop", *proof)).collect();
        self.setting.send(Method::POST, "/token", &headers, &form).await
    }

    async fn userinfo(&self, authorization: &str, proof: Option<&str>) -> Answer {
        let headers: Vec<_> = [("authorization", authorization)]
            .into_iter()
            .chain(proof.map(|proof| ("dpop", proof)))
            .collect();
        self.setting.send(Method::GET, "/userinfo", &headers, &[]).await
    }
}

fn hash(access_token: &str) -> Value {
    base64url(digest(&SHA256, access_token.as_bytes()).as_ref()).into()
}

fn refusal(answer: &Answer) -> (u16, String) {
    (answer.status.as_u16(), text(&answer.json(), "error").to_owned())
}

#[tokio::test]
async fn a_proof_is_checked_at_every_point() {
    let world = World::new(Dpop::Taken, DpopNonces::NotWanted).await;
    let code = world.code(&[]).await;
    let (header, claims) = (world.header(), world.claims("POST", "/token", "one"));
    let now = world.setting.now();
    let with = |value: &Value, name: &str, new: Value| {
        let mut changed = value.clone();
        changed[name] = new;
        changed
    };
    let without = |value: &Value, name: &str| {
        let mut changed = value.clone();
        changed.as_object_mut().unwrap().remove(name);
        changed
    };
    let other = Signer::new();
    let mut private = world.key.public_jwk();
    private["d"] = "AAAA".into();
    let good = world.key.sign(&header, &claims);
    for (what, proof) in [
        ("no JWT", "a.b".to_owned()),
        ("no jti", world.key.sign(&header, &without(&claims, "jti"))),
        ("empty jti", world.key.sign(&header, &with(&claims, "jti", "".into()))),
        ("no htm", world.key.sign(&header, &without(&claims, "htm"))),
        ("another htm", world.key.sign(&header, &with(&claims, "htm", "GET".into()))),
        ("htm in small letters", world.key.sign(&header, &with(&claims, "htm", "post".into()))),
        ("no htu", world.key.sign(&header, &without(&claims, "htu"))),
        (
            "another htu",
            world.key.sign(&header, &with(&claims, "htu", world.setting.url("/userinfo").into())),
        ),
        ("no iat", world.key.sign(&header, &without(&claims, "iat"))),
        ("old iat", world.key.sign(&header, &with(&claims, "iat", (now - 120).into()))),
        ("future iat", world.key.sign(&header, &with(&claims, "iat", (now + 120).into()))),
        ("no typ", world.key.sign(&without(&header, "typ"), &claims)),
        ("another typ", world.key.sign(&with(&header, "typ", "JWT".into()), &claims)),
        ("no jwk", world.key.sign(&without(&header, "jwk"), &claims)),
        ("another jwk", world.key.sign(&with(&header, "jwk", other.public_jwk()), &claims)),
        ("a private jwk", world.key.sign(&with(&header, "jwk", private), &claims)),
        ("alg none", world.key.sign(&with(&header, "alg", "none".into()), &claims)),
        ("alg HS256", world.key.sign(&with(&header, "alg", "HS256".into()), &claims)),
    ] {
        let answer = world.redeem(&code, &[&proof]).await;
        assert_eq!(refusal(&answer), (400, "invalid_dpop_proof".to_owned()), "{what}: {}", answer.body);
    }
    assert_eq!(refusal(&world.redeem(&code, &[&good, &good]).await).1, "invalid_dpop_proof", "two of them");

    let answer = world.redeem(&code, &[&good]).await;
    assert_eq!(answer.status, StatusCode::OK, "none of them has spent the code: {}", answer.body);
    assert_eq!(answer.json()["token_type"], "DPoP");
    let tokens = answer.json();
    let again = world.refresh(text(&tokens, "refresh_token"), &[&good]).await;
    assert_eq!(refusal(&again), (400, "invalid_dpop_proof".to_owned()));
    assert!(again.body.contains("used before"), "{}", again.body);
    let query = world.setting.url("/token?a=b#c");
    let with_query = world.key.sign(&header, &with(&with(&claims, "htu", query.into()), "jti", "two".into()));
    assert_eq!(world.refresh(text(&tokens, "refresh_token"), &[&with_query]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_token_is_good_with_the_key_that_it_is_bound_to_and_not_otherwise() {
    let world = World::new(Dpop::Taken, DpopNonces::NotWanted).await;
    let bound = world.redeem(&world.code(&[]).await, &[&world.proof("POST", "/token", "a")]).await.json();
    let free = world.redeem(&world.code(&[]).await, &[]).await.json();
    assert_eq!((&bound["token_type"], &free["token_type"]), (&"DPoP".into(), &"Bearer".into()));
    let (bound, free) = (text(&bound, "access_token"), text(&free, "access_token"));
    let proof = |jti: &str, ath: Value| {
        let mut claims = world.claims("GET", "/userinfo", jti);
        claims["ath"] = ath;
        world.key.sign(&world.header(), &claims)
    };
    let other = {
        let key = Signer::new();
        let mut claims = world.claims("GET", "/userinfo", "other");
        claims["ath"] = hash(bound);
        key.sign(&json!({"typ": "dpop+jwt", "jwk": key.public_jwk()}), &claims)
    };
    for (what, authorization, proof, error) in [
        ("as Bearer", format!("Bearer {bound}"), None, "invalid_token"),
        (
            "as Bearer, with a proof",
            format!("Bearer {bound}"),
            Some(proof("1", hash(bound))),
            "invalid_token",
        ),
        ("without a proof", format!("DPoP {bound}"), None, "invalid_dpop_proof"),
        ("ath of another", format!("DPoP {bound}"), Some(proof("2", hash(free))), "invalid_dpop_proof"),
        ("no ath", format!("DPoP {bound}"), Some(world.proof("GET", "/userinfo", "3")), "invalid_dpop_proof"),
        ("another key", format!("DPoP {bound}"), Some(other), "invalid_token"),
        ("bound to none", format!("DPoP {free}"), Some(proof("4", hash(free))), "invalid_token"),
    ] {
        let answer = world.userinfo(&authorization, proof.as_deref()).await;
        assert_eq!(refusal(&answer), (401, error.to_owned()), "{what}");
        assert!(answer.header("www-authenticate").contains(error), "{what}");
    }
    let good = proof("5", hash(bound));
    assert_eq!(world.userinfo(&format!("dpop {bound}"), Some(&good)).await.json()["sub"], "alice");
    assert_eq!(refusal(&world.userinfo(&format!("DPoP {bound}"), Some(&good)).await).1, "invalid_dpop_proof");
    assert_eq!(world.userinfo(&format!("Bearer {free}"), None).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_public_clients_refresh_token_and_a_code_can_be_bound_too() {
    let world = World::new(Dpop::Taken, DpopNonces::NotWanted).await;
    let tokens = world.redeem(&world.code(&[]).await, &[&world.proof("POST", "/token", "a")]).await.json();
    let refresh_token = text(&tokens, "refresh_token");
    let stranger = Signer::new();
    let header = json!({"typ": "dpop+jwt", "jwk": stranger.public_jwk()});
    let foreign = stranger.sign(&header, &world.claims("POST", "/token", "b"));
    for proofs in [&[][..], &[foreign.as_str()]] {
        let refused = world.refresh(refresh_token, proofs).await;
        assert_eq!(refusal(&refused), (400, "invalid_grant".to_owned()));
    }
    let refreshed = world.refresh(refresh_token, &[&world.proof("POST", "/token", "c")]).await;
    assert_eq!(refreshed.json()["token_type"], "DPoP", "who could not use it has not spent it");

    // A confidential client proves itself anyway: its refresh token is bound to that.
    let free = world.setting.tokens("alice").await;
    assert_eq!(free["token_type"], "Bearer");
    assert_eq!(world.setting.refresh(text(&free, "refresh_token")).await.status, StatusCode::OK);

    let other = String::from("0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
    let code = world.code(&[("dpop_jkt", &other)]).await;
    let refused = world.redeem(&code, &[&world.proof("POST", "/token", "d")]).await;
    assert_eq!(refusal(&refused), (400, "invalid_grant".to_owned()));
}

#[tokio::test]
async fn where_it_is_required_nobody_gets_a_token_without() {
    let world = World::new(Dpop::Required, DpopNonces::NotWanted).await;
    let code = world.code(&[]).await;
    assert_eq!(refusal(&world.redeem(&code, &[]).await), (400, "invalid_dpop_proof".to_owned()));
    assert_eq!(world.redeem(&code, &[&world.proof("POST", "/token", "a")]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_nonce_is_handed_out_and_wanted() {
    let world = World::new(Dpop::Taken, DpopNonces::Wanted).await;
    let code = world.code(&[]).await;
    let proof = |path: &str, jti: &str, nonce: &str, ath: Option<&str>| {
        let mut claims = world.claims(if path == "/token" { "POST" } else { "GET" }, path, jti);
        claims["nonce"] = nonce.into();
        if let Some(access_token) = ath {
            claims["ath"] = hash(access_token);
        }
        world.key.sign(&world.header(), &claims)
    };
    let refused = world.redeem(&code, &[&world.proof("POST", "/token", "a")]).await;
    assert_eq!(refusal(&refused), (400, "use_dpop_nonce".to_owned()));
    let nonce = refused.header("dpop-nonce").to_owned();
    assert_eq!(refusal(&world.redeem(&code, &[&proof("/token", "b", "x", None)]).await).1, "use_dpop_nonce");
    let granted = world.redeem(&code, &[&proof("/token", "c", &nonce, None)]).await;
    assert_eq!((granted.status, granted.header("dpop-nonce")), (StatusCode::OK, nonce.as_str()));

    let replaced = world.setting.json(Method::POST, "/_script/replace_nonce", Value::Null).await;
    assert_eq!(replaced.status, StatusCode::NO_CONTENT);
    let tokens = granted.json();
    let access_token = text(&tokens, "access_token");
    let authorization = format!("DPoP {access_token}");
    let stale = proof("/userinfo", "d", &nonce, Some(access_token));
    let refused = world.userinfo(&authorization, Some(&stale)).await;
    assert_eq!(refusal(&refused), (401, "use_dpop_nonce".to_owned()));
    let newer = proof("/userinfo", "e", refused.header("dpop-nonce"), Some(access_token));
    assert_eq!(world.userinfo(&authorization, Some(&newer)).await.status, StatusCode::OK);
}
