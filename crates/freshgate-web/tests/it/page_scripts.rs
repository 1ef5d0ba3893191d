//! What the page's own scripts may ask: who is signed in, and for a refresh. Never a token.

use freshgate::session::EndReason;
use http::{Method, StatusCode};

use crate::world::World;

#[tokio::test]
async fn a_script_may_ask_who_is_signed_in() {
    let world = World::new().await;
    let (mut browser, key) = world.signed_in("alice").await;
    let answered = browser.fetch(Method::GET, "/auth/user").send().await;
    assert_eq!(answered.status(), StatusCode::OK);
    assert_eq!(answered.json()["sub"], "alice");
    assert_eq!(answered.json()["email"], "alice@example.com");
    assert_eq!(answered.header("cache-control"), Some("no-store"));
    assert_eq!(answered.header("access-control-allow-origin"), None);

    world.engine.end(key, EndReason::Operator).await.unwrap();
    let answered = browser.fetch(Method::GET, "/auth/user").send().await;
    assert_eq!(answered.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answered.json()["error"], "sign_in_again");
    assert_eq!(answered.json()["reason"], "operator");
    assert_eq!(answered.header("cache-control"), Some("no-store"));

    let answered = world.browser().fetch(Method::GET, "/auth/user").send().await;
    assert_eq!(answered.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answered.json()["error"], "not_signed_in");
}

#[tokio::test]
async fn a_script_may_ask_for_a_refresh() {
    let world = World::new().await;
    let (mut browser, key) = world.signed_in("alice").await;
    let answered = browser.fetch(Method::POST, "/auth/refresh").send().await;
    assert_eq!(answered.status(), StatusCode::OK, "{}", answered.text());
    let json = answered.json();
    assert_eq!(json["outcome"], "refreshed");
    assert_eq!(json["generation"], 2);
    assert!(json["expires_at"].is_number());
    let freshgate::engine::Opened::Open(session) = world.engine.open(key).await.unwrap() else { panic!() };
    assert_eq!(session.generation(), 2);
    assert!(!answered.text().contains(session.tokens().access_token.expose()));

    let mut nobody = world.browser();
    let answered = nobody.fetch(Method::POST, "/auth/refresh").send().await;
    assert_eq!(answered.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answered.json()["error"], "not_signed_in");

    world.engine.end(key, EndReason::Idle).await.unwrap();
    let answered = browser.fetch(Method::POST, "/auth/refresh").send().await;
    assert_eq!(answered.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(answered.json()["reason"], "idle");
}

#[tokio::test]
async fn another_site_may_not() {
    let world = World::new().await;
    let (mut browser, key) = world.signed_in("alice").await;
    for (origin, site) in [
        (Some("https://evil.example"), Some("cross-site")),
        (Some("https://evil.example"), None),
        (Some("https://sibling.example"), Some("same-site")),
        (Some("null"), Some("cross-site")),
        (None, None),
    ] {
        let mut sending =
            browser.fetch(Method::POST, "/auth/refresh").without("origin").without("sec-fetch-site");
        if let Some(origin) = origin {
            sending = sending.with("origin", origin);
        }
        if let Some(site) = site {
            sending = sending.with("sec-fetch-site", site);
        }
        let answered = sending.send().await;
        assert_eq!(answered.status(), StatusCode::FORBIDDEN, "{origin:?} {site:?}");
        assert_eq!(answered.json()["error"], "cross_origin");
    }
    let freshgate::engine::Opened::Open(session) = world.engine.open(key).await.unwrap() else { panic!() };
    assert_eq!(session.generation(), 1);
}

#[tokio::test]
async fn a_provider_that_is_away_leaves_the_session_as_it_is() {
    let world = World::new().await;
    let (mut browser, key) = world.signed_in("alice").await;
    let World { provider, engine, .. } = world;
    provider.shutdown().await;
    let answered = browser.fetch(Method::POST, "/auth/refresh").send().await;
    assert_eq!(answered.status(), StatusCode::SERVICE_UNAVAILABLE);
    let json = answered.json();
    assert_eq!(json["error"], "try_later");
    assert_eq!(json["retry_after"].to_string(), answered.header("retry-after").unwrap());
    assert!(matches!(engine.open(key).await.unwrap(), freshgate::engine::Opened::Open(_)));
    assert!(browser.navigate("/").await.text().starts_with("alice"));
}
