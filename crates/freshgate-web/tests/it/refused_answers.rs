//! Answers of the provider at a login that a check refuses: nobody is signed in, and the page tells no cause.

use freshgate::store::Store as _;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    log,
    world::{World, script},
};

/// What the provider does wrong, where, and what the operator reads of it.
fn rows() -> Vec<(&'static str, Value, &'static str)> {
    let id_token = |fault: Value| json!({"id_token": fault});
    vec![
        ("token:code", id_token(json!({"signature": "bad"})), "the token's signature is wrong"),
        ("token:code", id_token(json!({"signature": "another_key"})), "the token's signature is wrong"),
        ("token:code", id_token(json!({"signature": "alg_none"})), "the token is signed with none"),
        ("token:code", id_token(json!({"signature": "hs256_public_key"})), "the token is signed with HS256"),
        ("token:code", id_token(json!({"kid": "wrong"})), "the provider's keys have none"),
        (
            "token:code",
            id_token(json!({"set": {"iss": "https://elsewhere.example"}})),
            "the ID token is not from",
        ),
        ("token:code", id_token(json!({"omit": ["iss"]})), "the ID token is not from"),
        (
            "token:code",
            id_token(json!({"set": {"aud": "another-client"}})),
            "the ID token is not for this client alone",
        ),
        (
            "token:code",
            id_token(json!({"set": {"aud": ["app", "another-client"]}})),
            "the ID token is not for this client alone",
        ),
        (
            "token:code",
            id_token(json!({"set": {"azp": "another-client"}})),
            "the ID token was issued to another client",
        ),
        ("token:code", id_token(json!({"shift": {"exp": -7200, "iat": -7200}})), "the ID token expired"),
        ("token:code", id_token(json!({"omit": ["exp"]})), "the ID token has no expiry"),
        ("token:code", id_token(json!({"shift": {"iat": 7200, "exp": 7200}})), "in the future"),
        ("token:code", id_token(json!({"set": {"nonce": "of another login"}})), "the ID token's nonce"),
        ("token:code", id_token(json!({"omit": ["nonce"]})), "the ID token's nonce"),
        (
            "token:code",
            id_token(json!({"set": {"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}})),
            "the access token is not the one",
        ),
        ("token:code", id_token(json!({"omit": ["sub"]})), "the ID token names no subject"),
        ("token:code", json!({"omit": ["id_token"]}), "it holds no ID token"),
        ("userinfo", json!({"set": {"sub": "mallory"}}), "not about the user who signed in"),
        ("callback", json!({"set": {"iss": "https://elsewhere.example"}}), "the callback is not from"),
        ("callback", json!({"omit": ["iss"]}), "the callback has no `iss`"),
    ]
}

#[tokio::test]
async fn an_answer_that_a_check_refuses_signs_nobody_in_and_the_page_tells_no_cause() {
    let world = World::new().await;
    for (endpoint, action, cause) in rows() {
        let what = format!("{endpoint} {action}");
        script(&world.provider, json!({"endpoint": endpoint, "times": 1, "action": action})).await;
        let mut browser = world.browser();
        let callback = world.start_login(&mut browser, "/auth/login?next=/page", "alice").await;
        let answered = browser.navigate(&callback).await;

        assert_eq!(answered.status(), StatusCode::BAD_GATEWAY, "{what}");
        assert!(browser.jar.is_empty(), "{what}: {:?}", browser.jar);
        assert!(world.store.list(None, 1).await.unwrap().is_empty(), "{what}: a session was kept");
        // The same page for all: it cannot tell which check it was.
        insta::allow_duplicates! {
            insta::assert_snapshot!("provider_rejected", answered.page());
        }
        let id = answered.header("freshgate-request-id").unwrap();
        assert!(answered.text().contains(&format!("<code>{id}</code>")), "{what}: {}", answered.text());
        let log = log::text();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains(id)).collect();
        let [line] = lines[..] else { panic!("{what}: {} lines", lines.len()) };
        assert!(line.contains("fault=\"provider\"") && line.contains(cause), "{what}: {line}");
    }
    // What was refused was refused for that, and for nothing else.
    world.signed_in("alice").await;
    assert_eq!(world.store.list(None, 10).await.unwrap().len(), 1);
}
