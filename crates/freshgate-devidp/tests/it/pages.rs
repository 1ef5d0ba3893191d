//! The pages on which users are edited, and what all pages have in common.

use reqwest::StatusCode;

use crate::browser::Browser;
use crate::setting::{Setting, text};

#[tokio::test]
async fn every_page_says_what_it_is_and_runs_nothing() {
    let setting = Setting::start().await;
    let browser = Browser::new(&setting);
    let authorize = setting.authorize(&[]);
    for path in [authorize.as_str(), "/users", "/users/edit?sub=alice", "/authorize", "/end_session"] {
        let page = browser.get(path).await;
        assert!(page.body.contains("Development provider - anyone can sign in as anyone"), "{path}");
        assert!(!page.body.contains("<script") && !page.body.contains("style=\""), "{path}");
        let policy = page.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{path}");
        assert_eq!(page.header("cache-control"), "no-store");
        // Each label belongs to something, and all ids are there once.
        let mut ids: Vec<&str> =
            page.body.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        for label in page.body.split("<label for=\"").skip(1) {
            assert!(ids.contains(&label.split('"').next().unwrap()), "{path}");
        }
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count, "{path}: {ids:?}");
    }
    assert_eq!(browser.get("/").await.header("location"), "/users");
}

#[tokio::test]
async fn an_edited_profile_is_what_the_app_sees() {
    let setting = Setting::start().await;
    let browser = Browser::new(&setting);
    let tokens = setting.tokens("alice").await;
    assert!(browser.get("/users").await.body.contains("signed in: 1 browser, 1 app"));
    let page = browser.get("/users/edit?sub=alice").await;
    assert!(page.body.contains("alice@example.com"));
    let claims = "{\"sub\": \"alice\", \"name\": \"Alice <Two>\", \"email\": \"two@example.com\"}";
    let saved = browser.post("/users/edit?sub=alice", &[("claims", claims)]).await;
    assert_eq!(saved.header("location"), "/users?saved=alice");
    let list = browser.get("/users?saved=alice").await.body;
    assert!(list.contains("Saved alice.") && list.contains("Alice &#60;Two&#62;"), "{list}");
    let userinfo = setting.get_as("/userinfo", text(&tokens, "access_token")).await.json();
    assert_eq!(userinfo["email"], "two@example.com");
}

#[tokio::test]
async fn bad_claims_are_shown_again_with_the_reason() {
    let setting = Setting::start().await;
    let browser = Browser::new(&setting);
    for (path, claims, reason) in [
        ("/users/edit?sub=alice", "{\"sub\": \"bob\", \"mine\": 1}", "must stay"),
        ("/users/edit?sub=alice", "{\"mine\": 1", "This is not JSON"),
        ("/users/add", "{\"sub\": \"alice\", \"mine\": 1}", "There already is a user"),
        ("/users/add", "{\"mine\": 1}", "must be a text"),
    ] {
        let page = browser.post(path, &[("claims", claims)]).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{path} {claims}");
        assert!(page.body.contains(reason) && page.body.contains("&#34;mine&#34;: 1"), "{}", page.body);
    }
    let added = browser.post("/users/add", &[("claims", "{\"sub\": \"dora the 2nd\"}")]).await;
    assert_eq!(added.header("location"), "/users?saved=dora+the+2nd");
    assert!(browser.get(&setting.authorize(&[])).await.body.contains("id=\"user-dora-the-2nd\""));
}

#[tokio::test]
async fn other_sites_change_nothing() {
    let setting = Setting::start().await;
    let browser = Browser::new(&setting);
    let tokens = setting.tokens("alice").await;
    for (path, form) in [
        ("/users/edit?sub=alice", ("claims", "{\"sub\": \"alice\"}")),
        ("/users/add", ("claims", "{\"sub\": \"eve\"}")),
        ("/users/sign-out", ("everyone", "yes")),
        ("/sign-in", ("user", "alice")),
    ] {
        for origin in ["http://evil.example", "null"] {
            assert_eq!(
                browser.post_from(origin, path, &[form]).await.status,
                StatusCode::FORBIDDEN,
                "{path}"
            );
        }
    }
    let userinfo = setting.get_as("/userinfo", text(&tokens, "access_token")).await.json();
    assert_eq!(userinfo["email"], "alice@example.com");
}

#[tokio::test]
async fn without_scripting_there_is_nothing_to_script() {
    let setting = Setting::start().await;
    for path in ["/_script", "/_log", "/_script/users"] {
        assert_eq!(setting.get(path).await.status, StatusCode::NOT_FOUND);
    }
    let browser = Browser::new(&setting);
    let page = browser.get(&setting.authorize(&[("auto_login", "alice")])).await;
    assert_eq!(page.status, StatusCode::OK);
}
