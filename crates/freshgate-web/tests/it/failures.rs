//! What a failure looks like: to a user, to a script, to an operator.

use std::sync::atomic::Ordering;

use http::{Method, StatusCode};

use crate::{browser::Answered, log, world::World};

#[tokio::test]
async fn a_failure_of_the_app_is_a_page_or_json() {
    let world = World::new().await;
    world.app.out_of_order.store(true, Ordering::SeqCst);
    let mut browser = world.browser();

    let page = browser.navigate("/page?a='onclick='x").await;
    assert_eq!(page.status(), StatusCode::BAD_GATEWAY);
    assert!(page.is_page_of("upstream_unreachable"));
    assert_eq!(page.header("retry-after"), Some("2"));
    assert!(!page.text().contains("'onclick") && !page.text().contains("out of order"));
    insta::assert_snapshot!("upstream_unreachable", browser.navigate("/page?a=b&c=d").await.page());
    // Another host's address is nothing to try again.
    assert!(browser.navigate("//evil.example/").await.text().contains("href=\"/\""));

    let fetched = browser.fetch(Method::GET, "/data").send().await;
    assert_eq!(fetched.status(), StatusCode::BAD_GATEWAY);
    let id = fetched.header("freshgate-request-id").unwrap();
    assert_eq!(
        fetched.json(),
        serde_json::json!({
            "error": "upstream_unreachable",
            "message": "Try again in a moment.",
            "retry_after": 2,
            "request_id": id,
        })
    );
    assert_eq!(id.len(), 16);
}

#[tokio::test]
async fn all_our_answers_are_kept_from_caches_frames_and_scripts() {
    let world = World::new().await;
    let (mut browser, _) = world.signed_in("alice").await;
    world.app.out_of_order.store(true, Ordering::SeqCst);
    let mut answers = Vec::new();
    for path in [
        "/auth/login",
        "/auth/login?provider=x",
        "/auth/user",
        "/oauth2callback",
        "/oauth2callback?code=x",
        "/",
    ] {
        answers.push((path, browser.navigate(path).await));
    }
    answers.push(("confirm", browser.tab("/auth/logout", "cross-site").send().await));
    answers.push(("refresh", browser.fetch(Method::POST, "/auth/refresh").send().await));
    for (what, answered) in answers {
        assert_eq!(answered.header("cache-control"), Some("no-store"), "{what}");
        assert_eq!(answered.header("x-content-type-options"), Some("nosniff"), "{what}");
        assert_eq!(answered.header("x-frame-options"), Some("DENY"), "{what}");
        assert!(answered.header("referrer-policy").is_some(), "{what}");
        assert!(answered.header("freshgate-request-id").is_some(), "{what}");
        let policy = answered.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{what}");
        assert!(!policy.contains("unsafe"), "{what}");
    }
}

#[tokio::test]
async fn our_routes_answer_their_own_methods_alone() {
    let world = World::new().await;
    let mut browser = world.browser();
    for (path, allowed) in [
        ("/auth/login", "GET, POST"),
        ("/oauth2callback", "GET"),
        ("/auth/logout", "GET, POST"),
        ("/auth/refresh", "POST"),
        ("/auth/user", "GET"),
        ("/auth/backchannel-logout", "POST"),
        ("/auth/frontchannel-logout", "GET"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "QUERY"] {
            if allowed.split(", ").any(|it| it == method) {
                continue;
            }
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let answered = browser.fetch(method.clone(), path).send().await;
            assert_eq!(answered.status(), StatusCode::METHOD_NOT_ALLOWED, "{method} {path}");
            assert_eq!(answered.header("allow"), Some(allowed), "{method} {path}");
        }
    }
    // Names that are not ours are the app's.
    assert_eq!(browser.navigate("/auth/whatever").await.text(), "nobody at /auth/whatever with cookies []");
}

#[tokio::test]
async fn an_operator_reads_one_line_with_the_cause() {
    let world = World::new().await;
    let (mut browser, _) = world.signed_in("alice").await;
    world.app.out_of_order.store(true, Ordering::SeqCst);
    let refused = browser.navigate("/page?secret=in-the-query").await;
    let line = line_about(&refused);
    for part in [
        "WARN",
        "code=\"upstream_unreachable\"",
        "fault=\"upstream\"",
        "status=502",
        "path=\"/page\"",
        "the app is out of order: an error occurred when formatting an argument",
    ] {
        assert!(line.contains(part), "{part} is not in {line}");
    }

    let authorize = browser.navigate("/auth/login").await.location();
    let denied = world.cancel_sign_in(&authorize).await;
    let line = line_about(&browser.navigate(&denied).await);
    assert!(line.contains("fault=\"browser\"") && line.contains("access_denied"), "{line}");

    let line = line_about(&browser.navigate("/auth/login?provider=nowhere").await);
    assert!(line.contains("fault=\"provider\"") && line.contains("127.0.0.1"), "{line}");
}

/// Nor can they forge a line of it, or steer the terminal it is read in.
#[tokio::test]
async fn strangers_cannot_fill_the_log() {
    let world = World::new().await;
    let mut browser = world.browser();
    let long = "x".repeat(30_000);
    let forged = "a%0d%0aINFO%20forged%1b%5b31m%e2%80%ae";
    for target in [
        format!("/auth/login?provider={forged}{long}"),
        format!("/auth/login?iss=https://{forged}{long}"),
        format!("/auth/login?iss={forged}&login_hint={long}"),
        format!("/oauth2callback?error={forged}{long}&error_description={long}&state=y"),
        format!("/oauth2callback?code={long}&iss={forged}{long}&state=y"),
        format!("/auth/frontchannel-logout?iss={forged}{long}&sid={long}&sid=2"),
    ] {
        let line = line_about(&browser.navigate(&target).await);
        assert!(line.len() < 1500, "{} characters for {}", line.len(), &target[..60]);
        for steering in ['\u{1b}', '\u{202e}'] {
            assert!(!line.contains(steering), "{line}");
        }
        assert!(!line.contains("\\u{1b}"), "it is no longer there to be escaped: {line}");
    }
    world.app.out_of_order.store(true, Ordering::SeqCst);
    let line = line_about(&browser.navigate(&format!("/{long}")).await);
    assert!(line.len() < 1500 && line.contains("path=\"/xxxx"), "{} characters", line.len());
}

#[tokio::test]
async fn no_secret_is_in_the_log() {
    let world = World::new().await;
    let mut browser = world.browser();
    let authorize = browser.navigate("/auth/login").await.location();
    let mut secrets: Vec<String> = browser.jar.values().cloned().collect();
    let callback = world.sign_in(&authorize, "alice").await;
    // First in a browser where it is refused.
    world.browser().navigate(&callback).await;
    browser.navigate(&callback).await.location();
    secrets.extend(browser.jar.values().cloned());
    let key = world.session_key(&browser);
    let freshgate::engine::Opened::Open(session) = world.engine.open(key).await.unwrap() else { panic!() };
    secrets.push(session.tokens().access_token.expose().to_owned());
    secrets.push(session.tokens().id_token.as_ref().unwrap().expose().to_owned());
    browser.navigate("/auth/user?secret=in-the-query").await;
    browser.navigate(&format!("/auth/whatever/{}", "x".repeat(10))).await;
    let end_session = browser.navigate("/auth/logout").await.location();
    let back = world.sign_out_at_provider(&end_session).await;
    world.browser().navigate(&back.replace("state=", "state=not-")).await;
    browser.navigate(&back.replace("state=", "state=not-")).await;
    for address in [&authorize, &callback, &end_session, &back] {
        for (name, value) in url::Url::parse(address).unwrap().query_pairs() {
            if matches!(&*name, "state" | "nonce" | "code" | "code_challenge" | "id_token_hint") {
                secrets.push(value.into_owned());
            }
        }
    }
    secrets.extend(["in-the-query", "client secret", "a keyring's secret"].map(str::to_owned));
    let log = log::text();
    assert!(log.contains(&key.short()));
    secrets.push(key.to_string());
    for secret in secrets {
        assert!(!log.contains(&secret), "a secret is in the log");
    }
}

/// The one line of the log that names the request.
fn line_about(answered: &Answered) -> String {
    let id = answered.header("freshgate-request-id").unwrap();
    let log = log::text();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(id)).collect();
    let [line] = lines[..] else { panic!("{} lines", lines.len()) };
    line.to_owned()
}
