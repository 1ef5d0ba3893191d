//! Whom the rules let in: on every request, by the claims of that moment.

use freshgate::engine::Opened;
use freshgate_web::{AccessRule, Condition, GateConfig};
use http::{Method, StatusCode};
use serde_json::json;

use crate::{
    log,
    world::{HTTPS, World},
};

fn only(path: &str, group: &str) -> AccessRule {
    let condition = Condition::Claim { name: "groups".into(), one_of: vec![group.into()] };
    AccessRule { path: path.into(), conditions: vec![condition] }
}

fn email(domain: &str) -> Condition {
    Condition::Email { addresses: vec![], domains: vec![domain.into()] }
}

async fn world(configure: impl FnOnce(&mut GateConfig)) -> World {
    World::with(HTTPS, configure).await
}

#[tokio::test]
async fn whoever_is_not_allowed_reads_who_he_is_and_how_to_be_another() {
    let world = world(|config| config.access = vec![only("/", "admins")]).await;
    let (mut browser, _) = world.signed_in("mallory").await;

    let page = browser.navigate("/reports?a=b&c=d").await;
    assert_eq!(page.status(), StatusCode::FORBIDDEN);
    assert!(page.is_page_of("not_allowed"));
    insta::assert_snapshot!("not_allowed", page.page());
    for path in
        ["/static/app.js", "/media/x.png", "/_stcore/health", "/_stcore/upload_file/1/2", "/app/static/x"]
    {
        let fetched = browser.fetch(Method::GET, path).send().await;
        assert_eq!(
            (fetched.status(), &fetched.json()["error"]),
            (StatusCode::FORBIDDEN, &json!("not_allowed"))
        );
    }
    let posted = browser.post_form("/reports").send().await;
    assert_eq!(posted.status(), StatusCode::FORBIDDEN);
    let socket = browser.socket("/_stcore/stream").send().await;
    assert_eq!((socket.status(), &socket.json()["error"]), (StatusCode::FORBIDDEN, &json!("not_allowed")));
    assert!(world.app.asked.lock().unwrap().is_empty(), "nothing of it reached the app");

    // The log says which rule it was, and of whom only the session.
    let id = page.header("freshgate-request-id").unwrap();
    let text = log::text();
    let line = text.lines().find(|line| line.contains(id)).unwrap();
    let key = world.session_key(&browser);
    for part in ["INFO", "fault=\"browser\"", "the rules for / refuse", &key.short()] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!line.contains("mallory"), "{line}");

    // Our own routes are for everyone who is signed in, and nobody is signed out.
    assert_eq!(browser.fetch(Method::GET, "/auth/user").send().await.json()["sub"], "mallory");
    assert_eq!(world.end_of(key).await, None);
}

#[tokio::test]
async fn another_account_leads_back_to_the_page() {
    let world = world(|config| config.access = vec![only("/", "admins")]).await;
    world.change_user("alice", json!({"groups": ["admins"]})).await;
    let (mut browser, mallorys) = world.signed_in("mallory").await;
    let page = browser.navigate("/reports?a=b").await;
    let link = "/auth/login?provider=default&#38;next=%2Freports%3Fa%3Db&#38;switch_account=1";
    assert!(page.text().contains(&format!("href=\"{link}\"")), "{}", page.text());

    let authorize = browser.navigate(&link.replace("&#38;", "&")).await.location();
    let asked: Vec<_> = url::Url::parse(&authorize).unwrap().query_pairs().into_owned().collect();
    assert_eq!(asked.iter().filter(|(name, _)| name == "prompt").count(), 1);
    assert!(asked.contains(&("prompt".into(), "select_account".into())), "{authorize}");
    // Nothing has happened yet: who thinks better of it is who he was.
    assert_eq!(world.end_of(mallorys).await, None);

    let callback = world.sign_in(&authorize, "alice").await;
    assert_eq!(browser.tab(&callback, "cross-site").send().await.location(), "/reports?a=b");
    assert!(browser.navigate("/reports?a=b").await.text().starts_with("alice"));
    assert_eq!(world.end_of(mallorys).await.unwrap().code(), "replaced");
}

#[tokio::test]
async fn the_page_signs_out_too() {
    let world = world(|config| config.access = vec![only("/", "admins")]).await;
    let (mut browser, key) = world.signed_in("mallory").await;
    assert!(browser.navigate("/").await.text().contains("<form method=\"post\" action=\"/auth/logout\">"));
    let end_session = browser.post_form("/auth/logout").send().await.location();
    assert_eq!(world.end_of(key).await.unwrap().code(), "logout");
    // Back from the provider there is a page to stay on: the start would lead to the login at once.
    let back = world.sign_out_at_provider(&end_session).await;
    let signed_out = browser.tab(&back, "cross-site").send().await;
    assert_eq!(signed_out.status(), StatusCode::OK, "{}", signed_out.text());
    assert!(signed_out.text().contains("You are signed out"));
}

#[tokio::test]
async fn a_rule_asks_for_a_login_where_none_is_required_otherwise() {
    let world =
        world(|config| config.access = vec![only("/admin", "admins"), only("/staff", "everyone")]).await;
    let mut nobody = world.browser();
    assert!(nobody.navigate("/").await.text().starts_with("nobody"));
    assert!(nobody.socket("/socket").send().await.text().starts_with("nobody"));
    assert_eq!(nobody.navigate("/admin/x").await.location(), "/auth/login?next=%2Fadmin%2Fx");
    assert_eq!(nobody.fetch(Method::GET, "/admin").send().await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(nobody.socket("/admin/socket").send().await.status(), StatusCode::UNAUTHORIZED);

    let (mut browser, _) = world.signed_in("alice").await;
    assert!(browser.navigate("/").await.text().starts_with("alice"));
    assert!(browser.navigate("/staff").await.text().starts_with("alice"));
    assert_eq!(browser.navigate("/admin").await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn no_spelling_of_an_address_skips_a_rule() {
    let world = world(|config| {
        config.access = vec![only("/", "everyone"), only("/admin", "admins")];
        config.public_paths = vec!["/health".into()];
    })
    .await;
    let (mut browser, _) = world.signed_in("mallory").await;
    assert!(browser.navigate("/page").await.text().starts_with("mallory"));
    for path in [
        "/admin",
        "/admin/",
        "/admin/x",
        "/admin?/page",
        "/admin?x=/../page",
        "/admin#/page",
        "/admin//x",
        "/%61dmin",
        "/%2561dmin",
        "/admin%2F",
        "/admin;x",
        "/admin%3b",
        "/ADMIN",
        "/admin%3Fx",
        "/admin%23x",
        "/admin.",
        "/admin%20",
        "https://app.example/admin",
    ] {
        let answered = browser.fetch(Method::GET, path).send().await;
        assert_eq!(answered.status(), StatusCode::FORBIDDEN, "{path}");
        assert_eq!(answered.json()["error"], "not_allowed", "{path}");
    }
    for path in [
        "/page/../admin",
        "/page/%2e%2e/admin",
        "/page/..;/admin",
        "/page%2f..%2fadmin",
        "/page/..%5cadmin",
        "/page/..%20/admin",
        "/page%3F/../admin",
        "//page/admin",
        "//admin",
        "/%2Fadmin",
        "/;/admin",
    ] {
        let answered = browser.fetch(Method::GET, path).send().await;
        assert_eq!(answered.status(), StatusCode::BAD_REQUEST, "{path}");
    }
    assert_eq!(*world.app.asked.lock().unwrap(), ["/page"]);

    // What is public is so to the byte.
    let mut nobody = world.browser();
    assert!(nobody.fetch(Method::GET, "/health").send().await.text().starts_with("nobody"));
    for path in ["/health/", "/health//", "/health;x", "/Health", "/health/x", "/%68ealth"] {
        let answered = nobody.fetch(Method::GET, path).send().await;
        assert_eq!(answered.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
}

#[tokio::test]
async fn an_unverified_address_is_none() {
    for (unverified_email, verified, expected) in [
        (false, json!(true), StatusCode::OK),
        (false, json!(false), StatusCode::FORBIDDEN),
        (false, json!(null), StatusCode::FORBIDDEN),
        (true, json!(false), StatusCode::OK),
        (true, json!(null), StatusCode::OK),
    ] {
        let world = world(|config| {
            config.access = vec![AccessRule { path: "/".into(), conditions: vec![email("example.com")] }];
            config.unverified_email = unverified_email;
        })
        .await;
        let mut claims = json!({"email": "alice@example.com"});
        if !verified.is_null() {
            claims["email_verified"] = verified.clone();
        }
        world.change_user("alice", claims).await;
        let (mut browser, _) = world.signed_in("alice").await;
        assert_eq!(browser.navigate("/").await.status(), expected, "{verified} with {unverified_email}");
    }
}

/// A rule holds by the claims of now, in both directions, and whoever keeps something open can ask again.
#[tokio::test]
async fn a_refresh_that_changes_claims_changes_who_may_enter() {
    let world = world(|config| config.access = vec![only("/admin", "admins")]).await;
    world.change_user("alice", json!({"groups": ["admins"]})).await;
    let (mut browser, key) = world.signed_in("alice").await;
    assert!(browser.socket("/admin/socket").send().await.text().starts_with("alice"));
    let of_admin = world.app.permit.lock().unwrap().clone().unwrap();
    assert!(browser.socket("/socket").send().await.text().starts_with("alice"));
    let of_socket = world.app.permit.lock().unwrap().clone().unwrap();
    let session = || async {
        match world.engine.open(key).await.unwrap() {
            Opened::Open(session) => session,
            other => panic!("{other:?}"),
        }
    };
    assert!(of_admin.still_holds(&session().await));

    world.change_user("alice", json!({"groups": ["everyone"]})).await;
    assert!(browser.navigate("/admin").await.text().starts_with("alice"), "nobody knows of it yet");
    assert_eq!(browser.fetch(Method::POST, "/auth/refresh").send().await.status(), StatusCode::OK);
    assert_eq!(browser.navigate("/admin").await.status(), StatusCode::FORBIDDEN);
    assert_eq!(browser.socket("/admin/socket").send().await.status(), StatusCode::FORBIDDEN);
    assert!(!of_admin.still_holds(&session().await));
    assert!(of_socket.still_holds(&session().await), "no rule is about it");

    world.change_user("alice", json!({"groups": "admins"})).await;
    assert_eq!(browser.fetch(Method::POST, "/auth/refresh").send().await.status(), StatusCode::OK);
    assert!(browser.navigate("/admin").await.text().starts_with("alice"));
    assert!(of_admin.still_holds(&session().await));
}
