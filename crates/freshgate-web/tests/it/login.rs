//! Signing in, and all the ways in which it goes wrong.

use std::time::Duration;

use freshgate::session::EndReason;
use http::{Method, StatusCode};

use crate::world::{COOKIE_SECRET, LOCALHOST, World};

#[tokio::test]
async fn a_login_leads_back_to_where_the_user_was() {
    for origin in [crate::world::HTTPS, LOCALHOST] {
        let world = World::with(origin, |_| {}).await;
        let mut browser = world.browser();
        browser.jar.insert("other".into(), "cookie".into());
        let anonymous = browser.navigate("/page").await;
        assert_eq!(anonymous.text(), "nobody at /page with cookies [other=cookie]");

        let callback = world.start_login(&mut browser, "/auth/login?next=%2Fpage%3Fa%3Db", "alice").await;
        assert_eq!(browser.flows().len(), 1);
        assert!(browser.session_key().is_none());
        let back = browser.tab(&callback, "cross-site").send().await;
        assert_eq!(back.location(), "/page?a=b");
        assert!(browser.flows().is_empty());

        let signed_in = browser.navigate("/page?a=b").await;
        assert_eq!(signed_in.text(), "alice at /page?a=b with cookies [other=cookie]");
        assert!(
            signed_in.header("set-cookie").is_none() && signed_in.header("freshgate-request-id").is_none()
        );
    }
}

#[tokio::test]
async fn without_next_it_leads_back_to_the_page_that_led_here() {
    let world = World::new().await;
    for (path, referer, expected) in [
        ("/auth/login", Some("https://app.example/page?a=b"), "/page?a=b"),
        ("/auth/login", Some("https://app.example/auth/logout"), "/"),
        ("/auth/login", Some("https://evil.example/page"), "/"),
        ("/auth/login", None, "/"),
        ("/auth/login?next=/other", Some("https://app.example/page"), "/other"),
        ("/auth/login?next=//evil.example", None, "/"),
        ("/auth/login?next=https://evil.example/", Some("https://app.example/page"), "/"),
        ("/auth/login?next=/%255Cevil.example", None, "/"),
        ("/auth/login?next=/auth/logout", None, "/"),
    ] {
        let mut browser = world.browser();
        let mut sending = browser.tab(path, "same-origin");
        if let Some(referer) = referer {
            sending = sending.with("referer", referer);
        }
        let authorize = sending.send().await.location();
        let callback = world.sign_in(&authorize, "alice").await;
        assert_eq!(browser.navigate(&callback).await.location(), expected, "{path} from {referer:?}");
    }
}

#[tokio::test]
async fn below_a_base_path_everything_is_below_it() {
    let world = World::with(crate::world::HTTPS, |config| config.base_path = "/app".into()).await;
    let mut browser = world.browser();
    let callback = world.start_login(&mut browser, "/app/auth/login", "alice").await;
    assert!(callback.starts_with("https://app.example/app/oauth2callback?"));
    assert_eq!(browser.navigate(&callback).await.location(), "/app/");
    assert!(browser.navigate("/app/").await.text().starts_with("alice at /app/"));
    assert!(browser.navigate("/auth/login").await.text().starts_with("alice at /auth/login"));
}

#[tokio::test]
async fn a_provider_is_named_in_the_clear_or_by_streamlit() {
    let world = World::new().await;
    let mut browser = world.browser();
    let token = |provider: &str, seconds: i64, key: &str| {
        let exp = world.engine.clock().now().as_unix_millis() / 1000 + seconds;
        let payload = format!(r#"{{"provider":"{provider}","exp":{exp}}}"#);
        let signed = format!(
            "{}.{}",
            freshgate_oidc::base64url(br#"{"alg":"HS256","typ":"JWT"}"#),
            freshgate_oidc::base64url(payload.as_bytes())
        );
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_bytes());
        format!(
            "{signed}.{}",
            freshgate_oidc::base64url(aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref())
        )
    };
    for (provider, expected) in [
        ("google".to_owned(), None),
        (token("google", 120, COOKIE_SECRET), None),
        (token("google", -1, COOKIE_SECRET), Some((StatusCode::BAD_REQUEST, "bad_request"))),
        (token("google", 120, "another secret"), Some((StatusCode::BAD_REQUEST, "bad_request"))),
        (token("nobody", 120, COOKIE_SECRET), Some((StatusCode::NOT_FOUND, "unknown_provider"))),
        ("nobody".to_owned(), Some((StatusCode::NOT_FOUND, "unknown_provider"))),
        ("a&provider=b".to_owned(), Some((StatusCode::BAD_REQUEST, "bad_request"))),
    ] {
        let answered = browser.navigate(&format!("/auth/login?provider={provider}")).await;
        match expected {
            None => {
                let callback = world.sign_in(&answered.location(), "alice").await;
                browser.navigate(&callback).await;
                let key = world.session_key(&browser);
                let freshgate::engine::Opened::Open(session) = world.engine.open(key).await.unwrap() else {
                    panic!("not signed in");
                };
                assert_eq!(session.provider(), "google");
            }
            Some((status, code)) => {
                assert_eq!(answered.status(), status, "{provider}");
                assert!(answered.is_page_of(code), "{provider}: {}", answered.text());
            }
        }
    }
}

#[tokio::test]
async fn by_another_name_of_the_host_it_moves_to_the_public_one_first() {
    let world = World::with(LOCALHOST, |_| {}).await;
    let mut browser = world.browser();
    let moved = browser
        .tab("/auth/login?provider=google", "same-origin")
        .with("host", "127.0.0.1:8501")
        .with("referer", "http://127.0.0.1:8501/page?a=b")
        .send()
        .await;
    let location = "http://localhost:8501/auth/login?provider=google&next=%2Fpage%3Fa%3Db&moved=1";
    assert_eq!(moved.location(), location);
    assert!(moved.header("set-cookie").is_none());
    let callback = world.start_login(&mut browser, location, "alice").await;
    assert_eq!(browser.navigate(&callback).await.location(), "/page?a=b");

    let by_issuer =
        "/auth/login?iss=https://a.example&login_hint=ada&target_link_uri=http://localhost:8501/page";
    let moved = browser.tab(by_issuer, "cross-site").with("host", "127.0.0.1:8501").send().await;
    assert_eq!(
        moved.location(),
        "http://localhost:8501/auth/login?next=%2Fpage&iss=https%3A%2F%2Fa.example&login_hint=ada&moved=1"
    );

    // Behind a proxy that rewrites `Host`, it moves once and no more.
    let stays = browser.tab(location, "same-origin").with("host", "internal:80").send().await;
    assert!(stays.location().starts_with(world.provider.issuer()), "{}", stays.location());
}

/// OpenID Connect Core, section 4.
#[tokio::test]
async fn another_site_begins_a_login_at_a_provider_that_is_known() {
    let world = World::new().await;
    let issuer = world.provider.issuer();
    for (more, expected) in [
        ("", "/"),
        ("&target_link_uri=https://app.example/page?a=b", "/page?a=b"),
        ("&target_link_uri=https://app.example/auth/logout", "/"),
        ("&target_link_uri=https://evil.example/page", "/"),
        ("&target_link_uri=//evil.example/page", "/"),
        ("&target_link_uri=https://app.example//evil.example", "/"),
    ] {
        let mut browser = world.browser();
        let path = format!("/auth/login?iss={issuer}&login_hint=alice&scope=none{more}");
        let authorize = browser.tab(&path, "cross-site").send().await.location();
        assert!(authorize.starts_with(issuer) && authorize.contains("&login_hint=alice"), "{authorize}");
        assert!(authorize.contains("&scope=openid"), "{authorize}");
        let callback = world.sign_in(&authorize, "alice").await;
        assert_eq!(browser.navigate(&callback).await.location(), expected, "{more}");
    }
    // A hint that is none is left out: the login needs it not.
    let longest = "x".repeat(256);
    for (hint, sent) in [(longest.clone(), true), (format!("{longest}x"), false), ("a%00b".to_owned(), false)]
    {
        let path = format!("/auth/login?iss={issuer}&login_hint={hint}");
        let authorize = world.browser().tab(&path, "cross-site").send().await.location();
        assert_eq!(authorize.contains("login_hint="), sent, "{authorize}");
    }
    let elsewhere = world.browser().navigate("/auth/login?iss=https://evil.example").await;
    assert_eq!(elsewhere.status(), StatusCode::NOT_FOUND);
    assert!(elsewhere.is_page_of("unknown_provider"), "{}", elsewhere.text());
}

/// The same by POST: a form says no more than a link does, and decides nothing.
#[tokio::test]
async fn another_site_begins_a_login_by_post() {
    const FORM: &str = "application/x-www-form-urlencoded";
    let world = World::new().await;
    let issuer = world.provider.issuer();
    let (mut signed_in, key) = world.signed_in("alice").await;
    for (more, taken) in [
        ("", ""),
        (
            "&login_hint=alice&target_link_uri=https%3A%2F%2Fapp.example%2Fpage",
            "&login_hint=alice&target_link_uri=https%3A%2F%2Fapp.example%2Fpage",
        ),
        // It is the GET that finds that this is no page of ours.
        ("&target_link_uri=https%3A%2F%2Fevil.example", "&target_link_uri=https%3A%2F%2Fevil.example"),
        // Not for another site to say.
        ("&next=%2Fpage&moved=1&switch_account=1&scope=x&prompt=none", ""),
        ("&login_hint=a%26prompt%3Dnone", "&login_hint=a%26prompt%3Dnone"),
        ("&login_hint=a%26prompt%3Dnone%0D%0Ax", ""),
    ] {
        let issuer = url::form_urlencoded::byte_serialize(issuer.as_bytes()).collect::<String>();
        let sending = signed_in.post_form("/auth/login").with_body(&format!("iss={issuer}{more}"));
        let sending = sending.with("origin", "https://evil.example").with("sec-fetch-site", "cross-site");
        let answered = sending.with("content-type", FORM).send().await;
        assert_eq!(answered.location(), format!("https://app.example/auth/login?iss={issuer}{taken}"));
        assert!(answered.header("set-cookie").is_none());
    }
    assert_eq!(signed_in.session_key(), Some(key));

    for (kind, form) in [
        (FORM, String::new()),
        (FORM, "login_hint=alice".to_owned()),
        (FORM, format!("iss={issuer}&iss={issuer}")),
        (FORM, format!("iss={issuer}&provider=google")),
        (FORM, format!("iss={issuer}&prepared=x")),
        (FORM, format!("iss={issuer}&login_hint={}", "a".repeat(32 * 1024))),
        ("application/json", format!("{{\"iss\": \"{issuer}\"}}")),
        ("text/plain", format!("iss={issuer}")),
    ] {
        // What is in the address counts for nothing.
        let to = format!("/auth/login?iss={issuer}");
        let sending = signed_in.post_form(&to).with_body(&form).with("content-type", kind);
        let answered = sending.send().await;
        assert_eq!(answered.status(), StatusCode::BAD_REQUEST, "{kind} {}", &form[..form.len().min(80)]);
        assert!(answered.is_page_of("bad_request"), "{}", answered.text());
    }
}

#[tokio::test]
async fn a_preset_cookie_never_becomes_the_session() {
    let world = World::new().await;
    let mut browser = world.browser();
    let preset = "A".repeat(43);
    browser.jar.insert("__Host-freshgate".into(), preset.clone());
    assert!(browser.navigate("/").await.text().starts_with("nobody"));
    let callback = world.start_login(&mut browser, "/auth/login", "alice").await;
    browser.navigate(&callback).await;
    assert_ne!(browser.jar["__Host-freshgate"], preset);
    assert!(browser.navigate("/").await.text().starts_with("alice"));
    browser.jar.insert("__Host-freshgate".into(), preset);
    assert!(browser.navigate("/").await.text().starts_with("nobody"));
}

#[tokio::test]
async fn cookies_that_are_no_session_are_nobody() {
    let world = World::new().await;
    let (browser, _) = world.signed_in("alice").await;
    let good = browser.jar["__Host-freshgate"].clone();
    for cookie in [
        "__Host-freshgate=".to_owned(),
        format!("__Host-freshgate={}", "x".repeat(43)),
        format!("__Host-freshgate={}", "x".repeat(50_000)),
        format!("__Host-freshgate=\"{good}\""),
        format!("freshgate={good}"),
        format!("__host-freshgate={good}"),
        // Two that differ: nobody knows whose is whose.
        format!("__Host-freshgate={good}; __Host-freshgate={}", "x".repeat(43)),
        ";;;=;=;".to_owned(),
    ] {
        let answered = world.browser().tab("/", "none").with("cookie", &cookie).send().await;
        assert!(answered.text().starts_with("nobody"), "{cookie}");
    }
    let twice = format!("__Host-freshgate={good}; __Host-freshgate={good}");
    assert!(world.browser().tab("/", "none").with("cookie", &twice).send().await.text().starts_with("alice"));
}

#[tokio::test]
async fn with_two_different_sessions_a_login_says_what_is_wrong() {
    let world = World::new().await;
    let cookie = format!("__Host-freshgate={}; __Host-freshgate={}", "x".repeat(43), "y".repeat(43));
    let mut browser = world.browser();
    let answered = browser.tab("/auth/login", "same-origin").with("cookie", &cookie).send().await;
    assert!(answered.is_page_of("cookie_conflict"), "{}", answered.text());
    insta::assert_snapshot!("cookie_conflict", answered.page());
}

#[tokio::test]
async fn tabs_sign_in_side_by_side() {
    let world = World::new().await;
    let mut browser = world.browser();
    let first = world.start_login(&mut browser, "/auth/login?next=/first", "alice").await;
    let second = world.start_login(&mut browser, "/auth/login?next=/second", "alice").await;
    assert_eq!(browser.flows().len(), 2);
    assert_eq!(browser.navigate(&second).await.location(), "/second");
    let second_key = world.session_key(&browser);
    assert_eq!(browser.navigate(&first).await.location(), "/first");
    assert!(browser.navigate("/").await.text().starts_with("alice"));
    // The cookie of the one was written over by the other's: it is over, and not left to its lifetime.
    assert_eq!(world.end_of(second_key).await, Some(EndReason::Replaced));
    assert_eq!(world.end_of(world.session_key(&browser)).await, None);
}

#[tokio::test]
async fn the_oldest_of_many_logins_is_forgotten() {
    let world = World::new().await;
    let mut browser = world.browser();
    let first = world.start_login(&mut browser, "/auth/login", "alice").await;
    let mut last = String::new();
    for _ in 0..12 {
        // The cookies tell whole seconds.
        world.clock.advance(Duration::from_secs(1));
        last = world.start_login(&mut browser, "/auth/login", "alice").await;
        assert!(browser.flows().len() <= 8, "{:?}", browser.flows());
    }
    assert_eq!(browser.flows().len(), 8);
    assert!(browser.navigate(&first).await.is_page_of("login_expired"));
    assert_eq!(browser.navigate(&last).await.location(), "/");
}

#[tokio::test]
async fn long_addresses_do_not_make_headers_too_long() {
    let world = World::new().await;
    let mut browser = world.browser();
    let page = format!("/page?{}", "x".repeat(1400));
    for _ in 0..6 {
        world.clock.advance(Duration::from_secs(1));
        let started =
            browser.tab("/auth/login", "same-origin").with("referer", &format!("https://app.example{page}"));
        started.send().await.location();
    }
    let bytes: usize = browser.jar.iter().map(|(name, value)| name.len() + value.len() + 3).sum();
    assert!(bytes < 7 * 1024, "{bytes}");
    assert!(!browser.flows().is_empty());
}

#[tokio::test]
async fn a_login_of_another_browser_signs_nobody_in() {
    let world = World::new().await;
    // Mallory sends Alice a link with which Alice would work in Mallory's account.
    let link = world.start_login(&mut world.browser(), "/auth/login", "mallory").await;
    let mut alice = world.browser();
    let answered = alice.tab(&link, "cross-site").send().await;
    assert_eq!(answered.status(), StatusCode::BAD_REQUEST);
    assert!(answered.is_page_of("login_expired"), "{}", answered.text());
    assert!(alice.jar.is_empty());
    insta::assert_snapshot!("login_expired", answered.page());

    // Neither while she has a login of her own under way, nor while she is signed in.
    let own = world.start_login(&mut alice, "/auth/login", "alice").await;
    assert!(alice.tab(&link, "cross-site").send().await.is_page_of("login_expired"));
    assert_eq!(alice.navigate(&own).await.location(), "/");
    assert_eq!(alice.tab(&link, "cross-site").send().await.location(), "/");
    assert!(alice.navigate("/").await.text().starts_with("alice"));
}

#[tokio::test]
async fn a_login_that_took_too_long_is_over() {
    let world = World::new().await;
    let mut browser = world.browser();
    let callback = world.start_login(&mut browser, "/auth/login", "alice").await;
    world.clock.advance(Duration::from_secs(601));
    let answered = browser.navigate(&callback).await;
    assert!(answered.is_page_of("login_expired"), "{}", answered.text());
    assert!(browser.session_key().is_none());
}

#[tokio::test]
async fn the_same_callback_twice_is_no_drama() {
    let world = World::new().await;
    let mut browser = world.browser();
    let callback = world.start_login(&mut browser, "/auth/login?next=/page", "alice").await;
    assert_eq!(browser.navigate(&callback).await.location(), "/page");
    let key = world.session_key(&browser);
    // The back button: still signed in, by the same session.
    assert_eq!(browser.navigate(&callback).await.location(), "/");
    assert_eq!(world.session_key(&browser), key);
    assert_eq!(world.end_of(key).await, None);
    // After signing out: a plain page, and nobody is signed in.
    browser.post_form("/auth/logout").send().await;
    let answered = browser.navigate(&callback).await;
    assert!(answered.is_page_of("login_expired"), "{}", answered.text());
    assert!(browser.session_key().is_none());
}

#[tokio::test]
async fn who_turns_back_at_the_provider_reads_a_plain_page() {
    let world = World::new().await;
    let mut browser = world.browser();
    let authorize = browser.navigate("/auth/login").await.location();
    let callback = world.cancel_sign_in(&authorize).await;
    assert!(callback.contains("error=access_denied"));
    let answered = browser.navigate(&callback).await;
    assert_eq!(answered.status(), StatusCode::FORBIDDEN);
    assert!(!answered.text().contains("access_denied"));
    assert!(browser.flows().is_empty() && browser.session_key().is_none());
    insta::assert_snapshot!("login_denied", answered.page());
}

#[tokio::test]
async fn callbacks_that_are_none_are_refused() {
    let world = World::new().await;
    let mut browser = world.browser();
    let callback = world.start_login(&mut browser, "/auth/login", "alice").await;
    let (path, query) = callback.split_once('?').unwrap();
    for (query, code) in [
        (format!("{query}&state=x"), "bad_request"),
        (format!("{query}&code=x"), "bad_request"),
        (format!("{query}&error=x"), "bad_request"),
        ("code=x".to_owned(), "bad_request"),
        ("code=x&state=y".to_owned(), "login_expired"),
        ("error=%3Cscript%3E&state=y".to_owned(), "login_expired"),
        (format!("code={}&state=y", "x".repeat(40_000)), "bad_request"),
    ] {
        let answered = browser.navigate(&format!("{path}?{query}")).await;
        assert_eq!(answered.status(), StatusCode::BAD_REQUEST, "{query}");
        assert!(answered.is_page_of(code), "{query}: {}", answered.text());
        assert!(!answered.text().contains("<script"));
    }
    // The login under way is none the worse for it.
    assert_eq!(browser.navigate(&callback).await.location(), "/");
}

#[tokio::test]
async fn an_answer_that_fails_a_check_signs_nobody_in() {
    let world = World::new().await;
    let mut browser = world.browser();
    let callback = world.start_login(&mut browser, "/auth/login", "alice").await;
    let forged: String = url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(url::Url::parse(&callback).unwrap().query_pairs().map(|(name, value)| match &*name {
            "code" => (name, "another-code".into()),
            _ => (name, value),
        }))
        .finish();
    let answered = browser.navigate(&format!("/oauth2callback?{forged}")).await;
    assert_eq!(answered.status(), StatusCode::BAD_GATEWAY);
    assert!(answered.is_page_of("provider_rejected"), "{}", answered.text());
    assert!(browser.session_key().is_none() && browser.flows().is_empty());
}

#[tokio::test]
async fn a_provider_that_does_not_answer_can_be_tried_again() {
    let world = World::new().await;
    let mut browser = world.browser();
    let answered = browser.navigate("/auth/login?provider=nowhere&next=/page%3Fa=b").await;
    assert_eq!(answered.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answered.text().contains("href=\"/auth/login?provider=nowhere&#38;next=%2Fpage%3Fa%3Db\""));
    assert!(!answered.text().contains("127.0.0.1"), "the page tells the cause");
    assert!(browser.jar.is_empty());
    insta::assert_snapshot!("provider_unavailable", answered.page());

    let answered = browser.fetch(Method::GET, "/auth/login?provider=nowhere").send().await;
    let json = answered.json();
    assert_eq!(json["error"], "provider_unavailable");
    assert_eq!(json["request_id"], answered.header("freshgate-request-id").unwrap());
}

#[tokio::test]
async fn a_store_that_fails_signs_nobody_in_and_loses_nobody() {
    let world = World::new().await;
    let (mut signed_in, _) = world.signed_in("alice").await;
    let mut browser = world.browser();
    let callback = world.start_login(&mut browser, "/auth/login", "alice").await;
    world.store.fails.store(true, std::sync::atomic::Ordering::SeqCst);
    let answered = browser.navigate(&callback).await;
    assert_eq!(answered.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answered.is_page_of("store_unavailable"), "{}", answered.text());
    assert!(browser.session_key().is_none());
    // A sign-out that did not happen is not shown as one.
    let answered = signed_in.post_form("/auth/logout").send().await;
    assert!(answered.is_page_of("store_unavailable"));
    assert!(signed_in.session_key().is_some());
    world.store.fails.store(false, std::sync::atomic::Ordering::SeqCst);
    assert!(signed_in.navigate("/").await.text().starts_with("alice"));
}

#[tokio::test]
async fn nothing_happens_ahead_of_the_user() {
    let world = World::new().await;
    let (mut browser, key) = world.signed_in("alice").await;
    for path in ["/auth/login", "/auth/logout"] {
        let answered =
            browser.tab(path, "same-origin").with("sec-purpose", "prefetch;prerender").send().await;
        assert_eq!(answered.status(), StatusCode::SERVICE_UNAVAILABLE, "{path}");
        assert!(answered.header("set-cookie").is_none());
    }
    assert_eq!(world.end_of(key).await, None);
}
