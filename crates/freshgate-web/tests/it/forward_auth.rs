//! A proxy asks whether a request may pass.

use freshgate::session::EndReason;
use freshgate_web::{AccessRule, Condition, ForwardAuth, GateConfig, ToldBy};
use http::{Method, StatusCode};
use serde_json::json;

use crate::{
    browser::{Answered, Browser, Sending},
    world::{HTTPS, World},
};

const VERIFY: &str = "/auth/verify";

async fn world(told_by: ToldBy, tokens: bool, more: impl FnOnce(&mut GateConfig)) -> World {
    World::with(HTTPS, |config| {
        config.forward_auth = Some(ForwardAuth { told_by, tokens });
        more(config);
    })
    .await
}

/// What a proxy sends for a browser's request.
fn question<'a>(told_by: ToldBy, asking: Sending<'a>, method: &str, uri: &str) -> Sending<'a> {
    match told_by {
        ToldBy::Original => asking.with("x-original-uri", uri).with("x-original-method", method),
        ToldBy::Forwarded => asking.with("x-forwarded-uri", uri).with("x-forwarded-method", method),
    }
}

async fn asked_by_tab(told_by: ToldBy, browser: &mut Browser, uri: &str) -> Answered {
    question(told_by, browser.tab(VERIFY, "none"), "GET", uri).send().await
}

fn only_analysts(path: &str) -> AccessRule {
    let analysts = Condition::Claim { name: "groups".into(), one_of: vec!["analysts".into()] };
    AccessRule { path: path.into(), conditions: vec![analysts] }
}

#[tokio::test]
async fn who_is_not_signed_in_is_led_to_the_login_as_the_proxy_can() {
    for (told_by, redirect, refusal) in [(ToldBy::Original, 401, 403), (ToldBy::Forwarded, 303, 400)] {
        let world = world(told_by, false, |config| {
            config.require_login = true;
            config.public_paths = vec!["/health".into()];
        })
        .await;
        let mut nobody = world.browser().behind_a_proxy();

        let page = asked_by_tab(told_by, &mut nobody, "/page?a=b&c=d").await;
        assert_eq!(page.status().as_u16(), redirect);
        let login = "https://app.example/auth/login?next=%2Fpage%3Fa%3Db%26c%3Dd";
        assert_eq!(
            page.header("location"),
            Some(login),
            "whole, for proxies that would complete it otherwise"
        );

        // Whatever is not a page gets a status alone.
        let fetched = question(told_by, nobody.fetch(Method::GET, VERIFY), "GET", "/data").send().await;
        assert_eq!((fetched.status(), fetched.header("location")), (StatusCode::UNAUTHORIZED, None));
        let posted = question(told_by, nobody.tab(VERIFY, "none"), "POST", "/page").send().await;
        assert_eq!((posted.status(), posted.header("location")), (StatusCode::UNAUTHORIZED, None));
        // Proxies take the words away by which a socket is known.
        let socket = nobody
            .fetch(Method::GET, VERIFY)
            .with("sec-websocket-key", "x")
            .with("origin", "https://evil.example");
        assert_eq!(question(told_by, socket, "GET", "/socket").send().await.status(), StatusCode::FORBIDDEN);

        for open in ["/health", "/auth/login?next=/", "/oauth2callback?code=x"] {
            let answered = asked_by_tab(told_by, &mut nobody, open).await;
            assert_eq!(
                (answered.status(), answered.header("x-auth-request-user")),
                (StatusCode::OK, Some("")),
                "{open}"
            );
        }
        let mut two = world.browser().behind_a_proxy();
        two.jar.insert(
            "x".into(),
            format!("y; __Host-freshgate={}; __Host-freshgate={}", "x".repeat(43), "y".repeat(43)),
        );
        assert_eq!(asked_by_tab(told_by, &mut two, "/").await.status().as_u16(), refusal);
    }
}

#[tokio::test]
async fn the_rules_are_those_of_the_path_that_was_asked_for() {
    for told_by in [ToldBy::Original, ToldBy::Forwarded] {
        let world = world(told_by, false, |config| config.access = vec![only_analysts("/reports")]).await;
        world
            .change_user(
                "alice",
                json!({ "groups": ["analysts", "a,b", "staff"], "email": "alice@example.com" }),
            )
            .await;
        let (alice, key) = world.signed_in("alice").await;
        let (mallory, _) = world.signed_in("mallory").await;
        let (mut alice, mut mallory) = (alice.behind_a_proxy(), mallory.behind_a_proxy());

        let passed = asked_by_tab(told_by, &mut alice, "/reports/1").await;
        assert_eq!(passed.status(), StatusCode::OK);
        assert_eq!(passed.header("x-auth-request-user"), Some("alice"));
        assert_eq!(
            passed.header("x-auth-request-groups"),
            Some("analysts,staff"),
            "no group with a comma in its name"
        );
        assert_eq!(passed.header("x-auth-request-email"), Some(""), "nobody has verified it");
        for absent in ["authorization", "x-auth-request-access-token", "set-cookie"] {
            assert_eq!(passed.header(absent), None);
        }
        for uri in ["/reports/1", "/Reports/1", "//reports/1", "/reports%2f1", "/x/../reports/1"] {
            let refused = asked_by_tab(told_by, &mut mallory, uri).await.status();
            assert!(refused.is_client_error(), "{uri}: {refused}");
        }
        assert_eq!(asked_by_tab(told_by, &mut mallory, "/").await.status(), StatusCode::OK);
        // What the other kind of proxy would say is what a client has sent.
        let (uri, method) = match told_by {
            ToldBy::Original => ("x-forwarded-uri", "x-forwarded-method"),
            ToldBy::Forwarded => ("x-original-uri", "x-original-method"),
        };
        let forged = mallory.tab(VERIFY, "none").with(uri, "/").with(method, "GET");
        assert_eq!(
            question(told_by, forged, "GET", "/reports/1").send().await.status(),
            StatusCode::FORBIDDEN
        );

        world.engine.end(key, EndReason::Operator).await.unwrap();
        let fetched = question(told_by, alice.fetch(Method::GET, VERIFY), "GET", "/reports/1").send().await;
        assert_eq!(fetched.status(), StatusCode::UNAUTHORIZED, "at once");
    }
}

#[tokio::test]
async fn what_an_app_may_take_for_an_answer_does_not_pass() {
    for (told_by, refusal) in [(ToldBy::Original, 403), (ToldBy::Forwarded, 400)] {
        let world = world(told_by, false, |_| {}).await;
        let mut nobody = world.browser().behind_a_proxy();
        for (name, expected) in [
            ("x_auth_request_user", refusal),
            ("x-auth-request_user", refusal),
            ("x-auth.request-groups", refusal),
            ("x_auth_request_access_token", refusal),
            // The proxy replaces it.
            ("x-auth-request-user", 200),
            ("x_auth_request", 200),
            ("x_auth_requests_user", 200),
            ("x_other", 200),
        ] {
            let asking = nobody.tab(VERIFY, "none").with(name, "admin");
            let answered = question(told_by, asking, "GET", "/page").send().await;
            assert_eq!(answered.status().as_u16(), expected, "{name}");
        }
    }
}

#[tokio::test]
async fn questions_that_are_not_answered() {
    let told_by = ToldBy::Forwarded;
    let world = world(told_by, true, |_| {}).await;
    let (alice, _) = world.signed_in("alice").await;
    // A browser that reaches us itself would read its own token.
    let direct = asked_by_tab(told_by, &mut alice.clone(), "/").await;
    assert_eq!(direct.status(), StatusCode::FORBIDDEN);
    assert_eq!(
        asked_by_tab(told_by, &mut alice.clone().at("198.51.100.7"), "/").await.status(),
        StatusCode::FORBIDDEN
    );

    let mut alice = alice.behind_a_proxy();
    assert_eq!(asked_by_tab(told_by, &mut alice, "/").await.status(), StatusCode::OK);
    for uri in ["", "page", "https://app.example/", "/a b", "*", "/auth/verify", "/auth/verify?x"] {
        assert_eq!(asked_by_tab(told_by, &mut alice, uri).await.status(), StatusCode::FORBIDDEN, "{uri:?}");
    }
    for missing in ["x-forwarded-uri", "x-forwarded-method"] {
        let asking = question(told_by, alice.tab(VERIFY, "none"), "GET", "/").without(missing);
        assert_eq!(asking.send().await.status(), StatusCode::FORBIDDEN, "{missing}");
    }
    // Where no proxy asks, the path is the app's.
    let world = World::with(HTTPS, |_| {}).await;
    assert!(world.browser().navigate(VERIFY).await.text().starts_with("nobody at /auth/verify"));
}

#[tokio::test]
async fn the_token_is_fresh() {
    let told_by = ToldBy::Original;
    let world = world(told_by, true, |_| {}).await;
    let (alice, _) = world.signed_in("alice").await;
    let mut alice = alice.behind_a_proxy();
    let token = |answered: &Answered| answered.header("x-auth-request-access-token").unwrap().to_owned();

    let first = asked_by_tab(told_by, &mut alice, "/").await;
    assert_eq!(first.header("authorization"), Some(format!("Bearer {}", token(&first)).as_str()));
    assert_eq!(token(&asked_by_tab(told_by, &mut alice, "/").await), token(&first));
    world.clock.advance(std::time::Duration::from_secs(299));
    assert_ne!(token(&asked_by_tab(told_by, &mut alice, "/").await), token(&first));

    let nobody = asked_by_tab(told_by, &mut world.browser().behind_a_proxy(), "/").await;
    assert_eq!((nobody.status(), nobody.header("authorization")), (StatusCode::OK, None));
}
