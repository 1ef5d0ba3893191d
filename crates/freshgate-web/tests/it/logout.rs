//! Signing out: here, at the provider, and not by somebody else's hand.

use freshgate::session::EndReason;
use http::{Method, StatusCode};

use crate::world::{HTTPS, World};

#[tokio::test]
async fn signing_out_ends_the_session_here_and_at_the_provider() {
    let world = World::new().await;
    for by_form in [true, false] {
        let (mut browser, key) = world.signed_in("alice").await;
        let other_tab = world.start_login(&mut browser, "/auth/login", "alice").await;
        let answered = if by_form {
            browser.post_form("/auth/logout").send().await
        } else {
            browser.navigate("/auth/logout").await
        };
        let end_session = answered.location();
        assert_eq!(world.end_of(key).await, Some(EndReason::Logout));
        assert!(browser.session_key().is_none() && browser.flows().is_empty());
        assert!(end_session.contains("id_token_hint=") && end_session.contains("state="));

        let back = world.sign_out_at_provider(&end_session).await;
        assert!(back.starts_with("https://app.example/oauth2callback?state="));
        assert_eq!(browser.tab(&back, "cross-site").send().await.location(), "/");
        assert!(browser.jar.is_empty(), "{:?}", browser.jar.keys());
        assert!(browser.navigate("/").await.text().starts_with("nobody"));
        // Nothing that was under way signs in afterwards.
        assert!(browser.navigate(&other_tab).await.is_page_of("login_expired"));
    }
}

#[tokio::test]
async fn signing_out_twice_or_signed_out_leads_to_the_start() {
    let world = World::new().await;
    let mut browser = world.browser();
    assert_eq!(browser.navigate("/auth/logout").await.location(), "/");
    let (mut browser, _) = world.signed_in("alice").await;
    let kept = browser.jar.clone();
    browser.navigate("/auth/logout").await;
    browser.jar = kept;
    assert_eq!(browser.navigate("/auth/logout").await.location(), "/");
    assert!(browser.session_key().is_none());
}

#[tokio::test]
async fn where_login_is_required_signing_out_does_not_sign_in_again() {
    let world = World::with(HTTPS, |config| config.require_login = true).await;
    let (mut browser, _) = world.signed_in("alice").await;
    let end_session = browser.navigate("/auth/logout").await.location();
    let back = world.sign_out_at_provider(&end_session).await;
    let answered = browser.tab(&back, "cross-site").send().await;
    assert_eq!(answered.status(), StatusCode::OK);
    insta::assert_snapshot!("signed_out", answered.page());
}

#[tokio::test]
async fn a_link_from_elsewhere_asks_first() {
    let world = World::new().await;
    let (mut browser, key) = world.signed_in("alice").await;
    // What the browser says of who sent it here; nothing, where it is too old for that.
    let table: [&[(&str, &str)]; 6] = [
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "none")],
        &[],
        &[("referer", "https://evil.example/")],
        &[("referer", "https://app.example.evil.example/")],
        // A frame in a page of our own is not the tab.
        &[("sec-fetch-site", "same-origin"), ("sec-fetch-dest", "iframe")],
    ];
    for headers in table {
        let mut sending = browser.tab("/auth/logout", "").without("sec-fetch-site");
        for (name, value) in headers {
            sending = sending.with(name, value);
        }
        let answered = sending.send().await;
        assert_eq!(answered.status(), StatusCode::OK, "{headers:?}");
        assert!(answered.text().contains(r#"<form method="post" action="/auth/logout">"#), "{headers:?}");
        // Without an origin, its own form would not be taken for ours.
        assert_eq!(answered.header("referrer-policy"), Some("same-origin"));
    }
    assert_eq!(world.end_of(key).await, None);
    insta::assert_snapshot!("sign_out", browser.tab("/auth/logout", "cross-site").send().await.page());
}

#[tokio::test]
async fn a_link_from_this_site_signs_out() {
    let world = World::new().await;
    let table: [&[(&str, &str)]; 3] = [
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "same-site")],
        &[("referer", "https://app.example/page")],
    ];
    for headers in table {
        let (mut browser, key) = world.signed_in("alice").await;
        let mut sending = browser.tab("/auth/logout", "").without("sec-fetch-site");
        for (name, value) in headers {
            sending = sending.with(name, value);
        }
        sending.send().await.location();
        assert_eq!(world.end_of(key).await, Some(EndReason::Logout), "{headers:?}");
    }
}

#[tokio::test]
async fn nobody_is_signed_out_behind_his_back() {
    let world = World::new().await;
    let (mut browser, key) = world.signed_in("alice").await;
    let image = browser
        .sending(Method::GET, "/auth/logout")
        .with("accept", "image/avif,image/webp,*/*;q=0.8")
        .with("sec-fetch-site", "same-origin")
        .with("sec-fetch-mode", "no-cors")
        .with("sec-fetch-dest", "image");
    assert_eq!(image.send().await.status(), StatusCode::FORBIDDEN);
    let table: [&[(&str, &str)]; 5] = [
        &[("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")],
        &[("origin", "https://evil.example"), ("sec-fetch-site", "same-origin")],
        &[("origin", "https://sibling.example"), ("sec-fetch-site", "same-site")],
        &[("origin", "null"), ("sec-fetch-site", "cross-site")],
        &[("origin", "null")],
    ];
    for headers in table {
        let mut sending = browser.post_form("/auth/logout").without("sec-fetch-site");
        for (name, value) in headers {
            sending = sending.with(name, value);
        }
        let answered = sending.send().await;
        assert_eq!(answered.status(), StatusCode::FORBIDDEN, "{headers:?}");
        assert!(answered.is_page_of("cross_origin"), "{headers:?}");
        assert!(answered.header("set-cookie").is_none());
    }
    assert_eq!(world.end_of(key).await, None);
}

#[tokio::test]
async fn the_way_back_from_the_provider_is_compared() {
    let world = World::new().await;
    for query in ["?state=another", "", "?state=", "?state=a&state=b"] {
        let (mut browser, _) = world.signed_in("alice").await;
        browser.navigate("/auth/logout").await.location();
        let answered = browser.tab(&format!("/oauth2callback{query}"), "cross-site").send().await;
        assert_eq!(answered.status(), StatusCode::BAD_REQUEST, "{query}");
        assert!(answered.is_page_of("logout_unconfirmed"), "{query}");
        assert!(browser.jar.is_empty());
        // Where nothing is under way there is nothing to compare.
        let answered = browser.tab(&format!("/oauth2callback{query}"), "cross-site").send().await;
        assert_eq!(answered.location(), "/", "{query}");
    }
}
