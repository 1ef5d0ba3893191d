//! Who reaches the app, and as whom.

use std::sync::atomic::Ordering;

use freshgate::session::EndReason;
use http::{Method, StatusCode};

use crate::world::{HTTPS, LOCALHOST, World};

#[tokio::test]
async fn where_login_is_required_a_page_leads_to_it_and_the_rest_is_refused() {
    let world = World::with(HTTPS, |config| {
        config.require_login = true;
        config.public_paths = vec!["/health".into()];
    })
    .await;
    let mut browser = world.browser();

    let answered = browser.navigate("/page?a=b&c=d").await;
    assert_eq!(answered.location(), "/auth/login?next=%2Fpage%3Fa%3Db%26c%3Dd");
    assert_eq!(answered.header("cache-control"), Some("no-store"));
    // A path that a browser would take for another host's is not sent back to it.
    assert_eq!(browser.navigate("//evil.example/").await.location(), "/auth/login");

    let posted = browser.post_form("/page").send().await;
    assert_eq!(posted.status(), StatusCode::UNAUTHORIZED);
    assert!(posted.is_page_of("not_signed_in"));
    let fetched = browser.fetch(Method::GET, "/data").send().await;
    assert_eq!(fetched.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(fetched.json()["error"], "not_signed_in");
    let socket = browser.socket("/socket").send().await;
    assert_eq!(socket.status(), StatusCode::UNAUTHORIZED);

    let public = browser.fetch(Method::GET, "/health?x").send().await;
    assert_eq!(public.text(), "nobody at /health?x with cookies []");
    for not_public in
        ["/health/", "/health/../page", "//health", "/health%2f..%2fpage", "/page?/health", "/Health"]
    {
        let answered = browser.fetch(Method::GET, not_public).send().await;
        assert_eq!(answered.status(), StatusCode::UNAUTHORIZED, "{not_public}");
    }
    // A health checker's name opens nothing.
    let answered = browser.fetch(Method::GET, "/page").with("user-agent", "GoogleHC/1.0").send().await;
    assert_eq!(answered.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(*world.app.asked.lock().unwrap(), ["/health?x"]);

    let (mut browser, key) = world.signed_in("alice").await;
    assert!(browser.navigate("/page").await.text().starts_with("alice"));
    assert!(browser.socket("/socket").send().await.text().starts_with("alice"));
    world.engine.end(key, EndReason::Operator).await.unwrap();
    assert!(browser.navigate("/page").await.location().starts_with("/auth/login?"));
    let fetched = browser.fetch(Method::GET, "/data").send().await;
    assert_eq!(fetched.json()["reason"], "operator");
}

#[tokio::test]
async fn two_sessions_do_not_send_a_browser_round_in_circles() {
    let world = World::with(HTTPS, |config| config.require_login = true).await;
    let cookie = format!("__Host-freshgate={}; __Host-freshgate={}", "x".repeat(43), "y".repeat(43));
    let answered = world.browser().tab("/", "none").with("cookie", &cookie).send().await;
    assert_eq!(answered.status(), StatusCode::BAD_REQUEST);
    assert!(answered.is_page_of("cookie_conflict"));
}

#[tokio::test]
async fn a_foreign_page_opens_no_socket() {
    let world = World::with(LOCALHOST, |_| {}).await;
    let (mut browser, _) = world.signed_in("alice").await;
    assert!(browser.socket("/socket").send().await.text().starts_with("alice"));
    assert!(browser.socket("/socket").without("origin").send().await.text().starts_with("alice"));
    for (origin, host) in [
        ("https://evil.example", "localhost:8501"),
        ("http://localhost:3000", "localhost:8501"),
        ("null", "localhost:8501"),
        ("http://evil.example:8501", "evil.example:8501"),
    ] {
        let answered = browser.socket("/socket").with("origin", origin).with("host", host).send().await;
        assert_eq!(answered.status(), StatusCode::FORBIDDEN, "{origin}");
        assert_eq!(answered.json()["error"], "cross_origin");
    }
    let alias =
        browser.socket("/socket").with("origin", "http://127.0.0.1:8501").with("host", "127.0.0.1:8501");
    assert!(alias.send().await.text().starts_with("nobody"));
}

#[tokio::test]
async fn the_app_never_sees_our_cookies() {
    let world = World::new().await;
    let (mut browser, _) = world.signed_in("alice").await;
    world.start_login(&mut browser, "/auth/login", "alice").await;
    browser.jar.insert("theirs".into(), "1".into());
    browser.jar.insert("freshgate".into(), "planted".into());
    let seen = browser.navigate("/").await;
    assert_eq!(seen.text(), "alice at / with cookies [theirs=1]");
}

#[tokio::test]
async fn a_store_that_fails_makes_nobody_anonymous() {
    let world = World::new().await;
    let mut nobody = world.browser();
    let mut unknown = world.browser();
    unknown.jar.insert("__Host-freshgate".into(), "x".repeat(43));
    world.store.fails.store(true, Ordering::SeqCst);
    // Who offers no session needs no store.
    assert!(nobody.navigate("/").await.text().starts_with("nobody"));
    let answered = unknown.navigate("/page").await;
    assert_eq!(answered.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answered.is_page_of("store_unavailable"));
    assert!(!answered.text().contains("disk"), "the page tells the cause");
    assert!(answered.text().contains("href=\"/page\""));
}
