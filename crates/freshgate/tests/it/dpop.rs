//! Tokens that are bound to their session's key (DPoP, RFC 9449).

use std::{collections::BTreeSet, sync::Arc};

use freshgate::{
    Engine,
    engine::{LoginError, RefreshError, RefreshFailure},
    provider::DpopUse,
    session::OpenSession,
    store::{MemoryStore, Store},
};
use freshgate_oidc::{DpopNonce, Secret};
use serde_json::{Value, json};
use url::Url;

use crate::{
    provider::{Act, ISSUER, ScriptedProvider},
    setting::{DEADLINE, TestClock, engine_with, sign_in_with},
};

struct Bound {
    clock: Arc<TestClock>,
    provider: Arc<ScriptedProvider>,
    store: Arc<dyn Store>,
    engine: Engine,
}

impl Bound {
    /// A provider that binds tokens, if it is told to.
    fn new(dpop: DpopUse) -> Self {
        let clock = TestClock::new();
        let provider = ScriptedProvider::new(clock.clone());
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let engine = engine_with(clock.clone(), provider.clone(), store.clone(), |config| config.dpop = dpop);
        Self { clock, provider, store, engine }
    }

    /// Another engine on the same store, as after a restart.
    fn another_engine(&self) -> Engine {
        engine_with(self.clock.clone(), self.provider.clone(), self.store.clone(), |config| {
            config.dpop = DpopUse::Always;
        })
    }

    async fn sign_in(&self) -> Result<OpenSession, LoginError> {
        self.provider.next_token_act(Act::TokenType("DPoP"));
        sign_in_with(&self.engine, &self.provider, &[]).await
    }
}

/// What of a proof's claims is not new each time.
fn fixed(claims: &Value) -> Value {
    let mut claims = claims.clone();
    for name in ["jti", "iat"] {
        claims.as_object_mut().unwrap().remove(name).expect(name);
    }
    claims
}

#[tokio::test]
async fn every_request_of_a_session_is_proved_by_one_key_and_a_proof_of_its_own() {
    let bound = Bound::new(DpopUse::Always);
    let session = bound.sign_in().await.unwrap();
    assert_eq!(session.tokens().token_type, "DPoP");
    for engine in [&bound.engine, &bound.another_engine()] {
        bound.provider.next_token_act(Act::TokenType("DPoP"));
        engine.refresh(session.key(), DEADLINE).await.unwrap();
    }
    let other = bound.sign_in().await.unwrap();
    assert_ne!(other.key(), session.key());

    let token = bound.provider.proofs("/token");
    let userinfo = bound.provider.proofs("/userinfo");
    let token: Vec<_> = token.into_iter().map(Option::unwrap).collect();
    let userinfo: Vec<_> = userinfo.into_iter().map(Option::unwrap).collect();
    assert_eq!((token.len(), userinfo.len()), (4, 4));
    let ids: BTreeSet<String> =
        token.iter().chain(&userinfo).map(|(claims, _)| claims["jti"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 8);
    for (number, (claims, key)) in token.iter().enumerate() {
        assert_eq!(fixed(claims), json!({"htm": "POST", "htu": format!("{ISSUER}/token")}));
        assert_eq!(*key == token[0].1, number < 3, "each session has a key of its own");
    }
    for (number, (claims, key)) in userinfo.iter().enumerate() {
        let ath =
            freshgate_oidc::base64url(&freshgate_oidc::sha256(format!("access-{}", number + 1).as_bytes()));
        assert_eq!(fixed(claims), json!({"htm": "GET", "htu": format!("{ISSUER}/userinfo"), "ath": ath}));
        assert_eq!(*key, token[number].1);
    }
}

#[tokio::test]
async fn a_nonce_is_sent_when_it_is_wanted_and_kept_for_all() {
    let bound = Bound::new(DpopUse::Always);
    bound.provider.next_token_act(Act::WantNonce("one"));
    bound.provider.next_userinfo_act(Act::WantNonce("for-userinfo"));
    let session = bound.sign_in().await.unwrap();
    bound.provider.next_token_act(Act::WantNonce("two"));
    bound.provider.next_token_act(Act::TokenType("DPoP"));
    bound.engine.refresh(session.key(), DEADLINE).await.unwrap();
    bound.sign_in().await.unwrap();

    let nonces = |path| -> Vec<Value> {
        let proofs = bound.provider.proofs(path).into_iter();
        proofs.map(|proof| proof.unwrap().0["nonce"].clone()).collect()
    };
    assert_eq!(nonces("/token"), [json!(null), json!("one"), json!("one"), json!("two"), json!("two")]);
    let expected = [json!(null), json!("for-userinfo"), json!("for-userinfo"), json!("for-userinfo")];
    assert_eq!(nonces("/userinfo"), expected, "each server has its own");
    assert_eq!(bound.provider.presented(), ["refresh-1", "refresh-1"], "the second time with the nonce");
}

#[tokio::test]
async fn a_server_that_goes_on_wanting_nonces_ends_no_session() {
    let bound = Bound::new(DpopUse::Always);
    let session = bound.sign_in().await.unwrap();
    bound.provider.next_token_act(Act::WantNonce("one"));
    bound.provider.next_token_act(Act::WantNonce("two"));
    let error = bound.engine.refresh(session.key(), DEADLINE).await.unwrap_err();
    let RefreshError::TryLater(try_later) = error else { panic!("{error}") };
    assert!(matches!(try_later.failure, RefreshFailure::Misconfigured(_)), "{try_later}");
    assert_eq!(bound.provider.presented().len(), 2, "it is not asked for ever");
    bound.provider.next_token_act(Act::TokenType("DPoP"));
    bound.engine.refresh(session.key(), DEADLINE).await.unwrap();

    // One that says so and hands out none, or the same again, is not asked again at once.
    bound.provider.next_token_act(Act::Status(400, "", json!({"error": "use_dpop_nonce"})));
    bound.engine.refresh(session.key(), DEADLINE).await.unwrap_err();
    bound.provider.next_token_act(Act::WantNonce("two"));
    bound.engine.refresh(session.key(), DEADLINE).await.unwrap_err();
    assert_eq!(bound.provider.presented().len(), 5);
}

#[tokio::test]
async fn a_token_that_is_not_bound_is_refused_where_it_must_be() {
    // (configured, the type that comes, whether it is used)
    for (dpop, token_type, used) in [
        (DpopUse::Always, "DPoP", true),
        (DpopUse::Always, "Bearer", false),
        (DpopUse::Never, "Bearer", true),
        (DpopUse::Never, "DPoP", false),
        // It lists no DPoP.
        (DpopUse::IfListed, "Bearer", true),
        (DpopUse::IfListed, "DPoP", false),
    ] {
        let bound = Bound::new(dpop);
        bound.provider.next_token_act(Act::TokenType(token_type));
        let result = sign_in_with(&bound.engine, &bound.provider, &[]).await;
        assert_eq!(result.is_ok(), used, "{dpop:?} {token_type}: {result:?}");
        assert!(result.is_ok() || matches!(result, Err(LoginError::Rejected { .. })), "{result:?}");
        assert_eq!(bound.provider.proofs("/token")[0].is_some(), dpop == DpopUse::Always);
    }
}

#[tokio::test]
async fn a_refresh_that_unbinds_the_token_changes_nothing_but_the_refresh_token() {
    let bound = Bound::new(DpopUse::Always);
    let session = bound.sign_in().await.unwrap();
    bound.provider.next_token_act(Act::TokenType("Bearer"));
    let error = bound.engine.refresh(session.key(), DEADLINE).await.unwrap_err();
    let RefreshError::TryLater(try_later) = error else { panic!("{error}") };
    assert!(matches!(try_later.failure, RefreshFailure::AnswerRejected(_)), "{try_later}");
    bound.provider.next_token_act(Act::TokenType("DPoP"));
    let (fresh, _) = bound.engine.refresh(session.key(), DEADLINE).await.unwrap();
    assert_eq!(fresh.access_token().expose(), "access-3");
    assert_eq!(bound.provider.presented(), ["refresh-1", "refresh-2"]);
}

#[tokio::test]
async fn whether_the_client_is_taken_is_asked_with_a_proof() {
    let bound = Bound::new(DpopUse::Always);
    let provider = bound.engine.providers().next().unwrap().clone();
    let (callback, no_code) = (Url::parse("https://app.example/callback").unwrap(), Secret::new("no code"));
    bound.provider.next_token_act(Act::WantNonce("one"));
    provider.check_client(&callback, &no_code).await.unwrap();
    let nonces: Vec<Value> =
        bound.provider.proofs("/token").into_iter().map(|proof| proof.unwrap().0["nonce"].clone()).collect();
    assert_eq!(nonces, [json!(null), json!("one")]);

    for (code, wants_proof) in
        [("invalid_dpop_proof", true), ("use_dpop_nonce", true), ("invalid_client", false)]
    {
        bound.provider.next_token_act(Act::Status(400, "", json!({"error": code})));
        let refused = provider.check_client(&callback, &no_code).await.unwrap_err();
        assert_eq!(refused.wants_proof(), wants_proof, "{code}");
    }
    let plain = Bound::new(DpopUse::Never);
    let provider = plain.engine.providers().next().unwrap().clone();
    provider.check_client(&callback, &no_code).await.unwrap();
    assert!(plain.provider.proofs("/token")[0].is_none());
}

#[tokio::test]
async fn an_app_gets_a_proof_for_each_request_and_never_the_key() {
    let api = Url::parse("https://api.example/items?page=2").unwrap();
    let bound = Bound::new(DpopUse::Always);
    let session = bound.sign_in().await.unwrap();
    let (fresh, _) = bound.engine.fresh(session.key(), None, DEADLINE).await.unwrap();
    let nonce = DpopNonce::parse("of-the-api").unwrap();
    let carried = bound.engine.authorization(&fresh, "DELETE", &api, Some(&nonce));
    assert_eq!(carried.authorization.expose(), "DPoP access-1");
    let proof = carried.dpop.unwrap();
    let claims = proof.expose().split('.').nth(1).and_then(freshgate_oidc::from_base64url).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let ath = freshgate_oidc::base64url(&freshgate_oidc::sha256(b"access-1"));
    assert_eq!(
        fixed(&claims),
        json!({"htm": "DELETE", "htu": "https://api.example/items", "ath": ath, "nonce": "of-the-api"})
    );

    let plain = Bound::new(DpopUse::Never);
    let session = sign_in_with(&plain.engine, &plain.provider, &[]).await.unwrap();
    let (fresh, _) = plain.engine.fresh(session.key(), None, DEADLINE).await.unwrap();
    let carried = plain.engine.authorization(&fresh, "GET", &api, Some(&nonce));
    assert_eq!((carried.authorization.expose(), carried.dpop.is_none()), ("Bearer access-1", true));
}
