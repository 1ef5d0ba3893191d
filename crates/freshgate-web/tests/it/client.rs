//! How the gate is a client: by what it proves itself, and how it sends its requests.

use freshgate::{
    Secret,
    provider::{AssertionAudience, PushedRequests as Pushing},
};
use freshgate_devidp::{DevClient, PushedRequests, Scripting};
use freshgate_oidc::{ClientCredential, ClientKey};
use http::{Method, StatusCode};
use serde_json::{Value, json};

use crate::world::World;

/// The P-256 key of RFC 7515, appendix A.3.1, with its private part.
const KEY: &str = r#"{"kty":"EC","crv":"P-256","kid":"gate","d":"jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LI","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
/// The Ed25519 key of RFC 8037, appendix A.1.
const OTHER_KEY: &str = r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

fn key(jwk: &str) -> ClientCredential {
    ClientCredential::Key(ClientKey::parse(&Secret::new(jwk)).unwrap())
}

/// Registers the public part of `KEY`, and nothing else, for the gate.
fn knows_the_key(client: &mut DevClient) {
    let mut jwk: Value = serde_json::from_str(KEY).unwrap();
    jwk.as_object_mut().unwrap().remove("d");
    client.secret = None;
    client.jwks = Some(json!({"keys": [jwk]}));
}

#[tokio::test]
async fn the_gate_proves_itself_with_a_key() {
    for audience in [None, Some(AssertionAudience::Issuer), Some(AssertionAudience::TokenEndpoint)] {
        let world = World::at(
            |provider| {
                provider.scripting = Scripting::On;
                knows_the_key(&mut provider.clients[0]);
            },
            |client| {
                client.credential = key(KEY);
                client.assertion_audience = audience;
            },
        )
        .await;
        let (mut browser, _) = world.signed_in("alice").await;
        for _ in 0..3 {
            // The provider takes each assertion once.
            let refreshed = browser.fetch(Method::POST, "/auth/refresh").send().await;
            assert_eq!(refreshed.json()["outcome"], "refreshed", "{audience:?}");
        }
        assert_eq!(world.client_authentications().await, ["private_key_jwt"; 4]);
    }
}

#[tokio::test]
async fn a_key_that_the_provider_does_not_know_is_for_the_operator() {
    let world = World::at(
        |provider| knows_the_key(&mut provider.clients[0]),
        |client| client.credential = key(OTHER_KEY),
    )
    .await;
    let mut browser = world.browser();
    let callback = world.start_login(&mut browser, "/auth/login", "alice").await;
    let refused = browser.navigate(&callback).await;
    assert_eq!(refused.status(), StatusCode::INTERNAL_SERVER_ERROR);
    assert!(refused.is_page_of("provider_misconfigured"), "{}", refused.text());
    assert!(!refused.text().contains("assertion"), "the cause is for the operator");
    assert!(crate::log::text().contains("no key of the client has signed it"));
    assert!(browser.session_key().is_none());
}

#[tokio::test]
async fn a_provider_that_requires_it_gets_the_request_beforehand() {
    for (required, set) in
        [(PushedRequests::Required, Pushing::IfRequired), (PushedRequests::Taken, Pushing::Always)]
    {
        let world = World::at(
            |provider| {
                provider.pushed_requests = required;
                provider.scripting = Scripting::On;
            },
            |client| client.pushed_requests = set,
        )
        .await;
        let mut browser = world.browser();
        for user in ["alice", "mallory"] {
            // The browser carries a reference, and nothing of what was asked for.
            let authorize = browser.navigate("/auth/login?next=/page").await.location();
            let (_, query) = authorize.split_once('?').unwrap();
            let carried: Vec<String> =
                url::form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name.into_owned()).collect();
            assert_eq!(carried, ["client_id", "request_uri"]);
            let callback = world.sign_in(&authorize, user).await;
            assert_eq!(browser.navigate(&callback).await.location(), "/page");
            assert!(browser.navigate("/page").await.text().starts_with(user));
        }
        let pushed = world.provider_log().await.into_iter().filter(|entry| entry["endpoint"] == "par");
        let pushed: Vec<_> =
            pushed.map(|entry| (entry["status"].clone(), entry["client_auth"].clone())).collect();
        assert_eq!(pushed, vec![(json!(201), json!("client_secret_basic")); 2], "one for each login");
    }
}

#[tokio::test]
async fn where_it_is_not_required_nothing_is_left_beforehand() {
    for set in [Pushing::IfRequired, Pushing::Never] {
        let world = World::at(|_| {}, |client| client.pushed_requests = set).await;
        let authorize = world.browser().navigate("/auth/login").await.location();
        assert!(authorize.contains("code_challenge=") && !authorize.contains("request_uri="), "{authorize}");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_left_beforehand_is_told_by_whose_fault_it_is() {
    let world = World::at(
        |provider| provider.scripting = Scripting::On,
        |client| client.pushed_requests = Pushing::Always,
    )
    .await;
    let refuse = |status: u16, body: Value| json!({"respond": {"status": status, "body": body}});
    for (action, code) in [
        (
            refuse(400, json!({"error": "invalid_request", "error_description": "hunter2 is missing"})),
            "provider_misconfigured",
        ),
        (refuse(401, json!({"error": "invalid_client"})), "provider_misconfigured"),
        (refuse(404, json!("")), "provider_misconfigured"),
        (refuse(201, json!({"expires_in": 60})), "provider_misconfigured"),
        (refuse(503, json!("")), "provider_unavailable"),
        (refuse(429, json!("")), "provider_unavailable"),
        (json!({"cut": "before_handling"}), "provider_unavailable"),
    ] {
        world.script("", json!({"endpoint": "par", "times": 1, "action": action})).await;
        let mut browser = world.browser();
        let refused = browser.navigate("/auth/login").await;
        assert!(refused.is_page_of(code), "{action}: {}", refused.text());
        assert!(!refused.text().contains("hunter2"), "the cause is for the operator");
        assert!(browser.flows().is_empty(), "no login is under way");
        assert_eq!(browser.navigate("/auth/login").await.status(), StatusCode::SEE_OTHER, "the next one is");
    }
    assert!(crate::log::text().contains("hunter2 is missing"));
}
