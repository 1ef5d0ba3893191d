//! Requests that a client leaves here before the browser comes (RFC 9126).

use freshgate_devidp::PushedRequests;
use reqwest::{Method, StatusCode};
use serde_json::json;
use url::form_urlencoded;

use crate::browser::Browser;
use crate::setting::{Answer, CALLBACK, CHALLENGE, CLIENT, Setting, text};

/// Pushes a request; `more` replaces or, if empty, removes parameters.
async fn push(setting: &Setting, more: &[(&str, &str)]) -> Answer {
    let mut form = vec![
        ("client_id", CLIENT),
        ("redirect_uri", CALLBACK),
        ("response_type", "code"),
        ("scope", "openid email"),
        ("state", "the-state"),
        ("nonce", "the-nonce"),
        ("code_challenge", CHALLENGE),
        ("code_challenge_method", "S256"),
    ];
    form.retain(|(name, _)| !more.iter().any(|(other, _)| name == other));
    form.extend(more.iter().filter(|(_, value)| !value.is_empty()));
    setting.form("/par", &form).await
}

/// The path and query of an authorization request with a reference.
async fn reference(setting: &Setting, more: &[(&str, &str)]) -> String {
    let pushed = push(setting, more).await;
    assert_eq!(pushed.status, StatusCode::CREATED, "{}", pushed.body);
    let pushed = pushed.json();
    let query = [("client_id", CLIENT), ("request_uri", text(&pushed, "request_uri"))];
    format!("/authorize?{}", form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish())
}

/// Sends what the sign-in page of a request would.
async fn answer_page(browser: &Browser, authorize: &str) -> Answer {
    let (_, request) = authorize.split_once('?').unwrap();
    browser.post("/sign-in", &[("request", request), ("user", "alice")]).await
}

#[tokio::test]
async fn a_pushed_request_is_good_for_one_answer() {
    let setting = Setting::with(|config| config.pushed_requests = PushedRequests::Required).await;
    let metadata = setting.get("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["require_pushed_authorization_requests"], true);
    assert_eq!(metadata["pushed_authorization_request_endpoint"], setting.url("/par"));

    let pushed = push(&setting, &[]).await;
    assert_eq!(pushed.header("cache-control"), "no-store");
    assert_eq!(pushed.json()["expires_in"], 60);
    let authorize = reference(&setting, &[]).await;
    let browser = Browser::new(&setting);
    // The page may be loaded again; what it was asked for is not on it.
    for _ in 0..2 {
        let page = browser.get(&authorize).await;
        assert_eq!(page.status, StatusCode::OK, "{}", page.body);
        assert!(!page.body.contains("the-state"), "{}", page.body);
    }
    let (to, query) = browser.sign_in(&authorize, "alice").await.redirect();
    assert_eq!((to.as_str(), query["state"].as_str()), (CALLBACK, "the-state"));
    assert_eq!(setting.redeem(&query["code"]).await.json()["scope"], "openid email");

    let again = browser.get(&authorize).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST);
    assert!(again.body.contains("was used before"), "{}", again.body);
    let again = answer_page(&browser, &authorize).await;
    assert_eq!(again.status, StatusCode::BAD_REQUEST, "a page that was still open");
}

#[tokio::test]
async fn nothing_beside_the_reference_counts() {
    let setting = Setting::start().await;
    let authorize =
        format!("{}&state=another&redirect_uri=http%3A%2F%2Fevil", reference(&setting, &[]).await);
    let (to, query) = Browser::new(&setting).sign_in(&authorize, "alice").await.redirect();
    assert_eq!((to.as_str(), query["state"].as_str()), (CALLBACK, "the-state"));
}

#[tokio::test]
async fn a_refusal_is_an_answer_too() {
    let setting = Setting::start().await;
    let authorize = reference(&setting, &[("prompt", "none")]).await;
    let browser = Browser::new(&setting);
    assert_eq!(browser.get(&authorize).await.redirect().1["error"], "login_required");
    assert_eq!(browser.get(&authorize).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_reference_is_its_clients_and_lives_a_minute() {
    let setting = Setting::scripted().await;
    let browser = Browser::new(&setting);
    let authorize = reference(&setting, &[]).await;
    for wrong in [
        authorize.replace("client_id=app", "client_id=public"),
        authorize.replace("client_id=app&", ""),
        format!("{authorize}x"),
        "/authorize?client_id=app&request_uri=https%3A%2F%2Fevil.example%2Frequest".to_owned(),
    ] {
        assert_eq!(browser.get(&wrong).await.status, StatusCode::BAD_REQUEST, "{wrong}");
    }
    setting.json(Method::POST, "/_script/clock", json!({"offset_ms": 60_000})).await;
    assert_eq!(browser.get(&authorize).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_is_pushed_must_be_a_request_and_its_clients() {
    let setting = Setting::start().await;
    for (more, error) in [
        (("redirect_uri", "http://evil.example"), "invalid_request"),
        (("client_id", "public"), "invalid_request"),
        (("client_id", ""), "invalid_request"),
        (("request_uri", "urn:x"), "invalid_request"),
        (("scope", "email"), "invalid_scope"),
        (("code_challenge", ""), "invalid_request"),
        (("response_type", "token"), "unsupported_response_type"),
        (("request", "a.b.c"), "request_not_supported"),
    ] {
        let answer = push(&setting, &[more]).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{more:?}: {}", answer.body);
        assert_eq!(answer.json()["error"], error, "{more:?}");
    }
    let nobody = setting.bare_form("/par", &[("client_id", CLIENT)]).await;
    assert_eq!((nobody.status, text(&nobody.json(), "error")), (StatusCode::UNAUTHORIZED, "invalid_client"));
}

#[tokio::test]
async fn where_pushing_is_required_nothing_else_is_taken() {
    let setting = Setting::with(|config| config.pushed_requests = PushedRequests::Required).await;
    let browser = Browser::new(&setting);
    let direct = setting.authorize(&[]);
    let (_, query) = browser.get(&direct).await.redirect();
    assert_eq!(query["error"], "invalid_request");
    // Nor by answering a page that never was.
    let (_, query) = answer_page(&browser, &direct).await.redirect();
    assert_eq!((query["error"].as_str(), query.contains_key("code")), ("invalid_request", false));
}
