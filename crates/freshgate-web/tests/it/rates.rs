//! Clients that ask too often.

use std::{num::NonZeroU32, time::Duration};

use freshgate_web::RateLimits;
use http::{Method, StatusCode};
use metrics_exporter_prometheus::PrometheusBuilder;

use crate::world::{HTTPS, World};

/// One login a minute, one refresh, one logout.
async fn strict() -> World {
    let one = NonZeroU32::new(1);
    let rates = RateLimits { logins: one, refreshes: one, logouts: one };
    World::with(HTTPS, |config| config.rate_limits = rates).await
}

#[tokio::test]
async fn who_asks_too_often_reads_when_to_come_back() {
    let recorder = PrometheusBuilder::new().build_recorder();
    // All of the gate runs on this thread.
    let _counted_here = metrics::set_default_local_recorder(&recorder);
    freshgate_web::counting::describe();
    let world = strict().await;
    let mut browser = world.browser().at("192.0.2.7");
    let mut elsewhere = world.browser().at("192.0.2.8");
    let callback = world.start_login(&mut browser, "/auth/login", "alice").await;

    let refused = browser.navigate("/auth/login?provider=google&next=%2Fpage").await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.is_page_of("too_many_requests"), "{}", refused.text());
    assert!(refused.text().contains("/auth/login?provider=google&#38;next=%2Fpage"), "{}", refused.text());
    let wait: u64 = refused.header("retry-after").expect("it says when").parse().expect("seconds");
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(elsewhere.navigate("/auth/login").await.status(), StatusCode::SEE_OTHER);

    // The login that is under way goes on: the callback has a bucket of its own.
    assert_eq!(browser.navigate(&callback).await.status(), StatusCode::SEE_OTHER);
    assert_eq!(browser.navigate(&callback).await.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(browser.navigate("/page").await.text().starts_with("alice at"), "and the app is not limited");

    let mut refresh = async || browser.fetch(Method::POST, "/auth/refresh").send().await;
    assert_eq!(refresh().await.status(), StatusCode::OK);
    let refused = refresh().await;
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    let told = refused.json();
    assert_eq!(told["error"], "too_many_requests");
    assert!(told["retry_after"].as_u64().is_some_and(|wait| (1..=60).contains(&wait)), "{told}");
    world.clock.advance(Duration::from_secs(60));
    assert_eq!(refresh().await.status(), StatusCode::OK);
    assert_eq!(browser.navigate("/auth/login").await.status(), StatusCode::SEE_OTHER);

    let figures = recorder.handle().render();
    for line in [
        r#"freshgate_requests_too_often_total{route="/auth/login"} 1"#,
        r#"freshgate_requests_too_often_total{route="/oauth2callback"} 1"#,
        r#"freshgate_requests_too_often_total{route="/auth/refresh"} 1"#,
    ] {
        assert!(figures.lines().any(|there| there == line), "{line}:\n{figures}");
    }
    assert!(!figures.contains("192.0.2"), "{figures}");
}

#[tokio::test]
async fn logins_that_are_posted_too_often_are_not_read() {
    let world = strict().await;
    let mut site = world.browser().at("192.0.2.9");
    for expected in [StatusCode::BAD_REQUEST, StatusCode::TOO_MANY_REQUESTS] {
        let posted = site.post_form("/auth/login").with_body("login_hint=alice");
        let answered = posted.with("content-type", "application/x-www-form-urlencoded").send().await;
        assert_eq!(answered.status(), expected);
    }
}

#[tokio::test]
async fn logouts_that_come_too_often_are_not_read() {
    let world = strict().await;
    let mut provider = world.browser().at("2001:db8::1");
    let mut tell = async || provider.sending(Method::POST, "/auth/backchannel-logout").send().await.status();
    assert_eq!(tell().await, StatusCode::BAD_REQUEST);
    assert_eq!(tell().await, StatusCode::TOO_MANY_REQUESTS);
    let mut neighbour = world.browser().at("2001:db8::ffff");
    let told = neighbour.sending(Method::POST, "/auth/backchannel-logout").send().await;
    assert_eq!(told.status(), StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn other_sites_cannot_use_up_what_a_user_may_ask() {
    let world = strict().await;
    let mut browser = world.browser().at("192.0.2.7");
    let callback = world.start_login(&mut browser, "/auth/login", "alice").await;
    browser.navigate(&callback).await;
    for _ in 0..3 {
        let forged = browser.fetch(Method::POST, "/auth/refresh").with("sec-fetch-site", "cross-site");
        assert_eq!(forged.send().await.status(), StatusCode::FORBIDDEN);
    }
    assert_eq!(browser.fetch(Method::POST, "/auth/refresh").send().await.status(), StatusCode::OK);
}

#[tokio::test]
async fn who_is_on_this_machine_or_nowhere_is_not_limited() {
    let world = strict().await;
    for mut browser in [world.browser(), world.browser().at("127.0.0.1")] {
        for _ in 0..3 {
            assert_eq!(browser.navigate("/auth/login").await.status(), StatusCode::SEE_OTHER);
        }
    }
}

/// A proxy on this machine whose header cannot be read, or that believes a client to be here, is no operator.
#[tokio::test]
async fn who_comes_through_a_proxy_is_limited_whatever_address_it_has() {
    let world = strict().await;
    for here in ["127.0.0.1", "::1"] {
        let mut browser = world.browser().behind_a_proxy_for(here);
        assert_eq!(browser.navigate("/auth/login").await.status(), StatusCode::SEE_OTHER, "{here}");
        assert_eq!(browser.navigate("/auth/login").await.status(), StatusCode::TOO_MANY_REQUESTS, "{here}");
    }
}
