//! The provider tells of logouts: over the back channel, and by way of a browser.

use std::sync::atomic::Ordering;

use freshgate::session::{EndReason, SessionKey};
use http::{Method, StatusCode};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::{
    browser::{Answered, Browser},
    world::World,
};

const TOLD: Option<EndReason> = Some(EndReason::ProviderLogout);

impl World {
    /// Has the provider send a logout token for each of the user's sessions and clients, with what is wrong with it. What
    /// the gate answered, each checked to be an answer as section 2.8 wants it.
    async fn tell(&self, sub: &str, token: Value) -> Vec<StatusCode> {
        self.script("/backchannel_logout", json!({"sub": sub, "token": token})).await;
        let answers = self.bridge.answers();
        for told in &answers {
            assert_eq!(told.headers["cache-control"], "no-store");
            assert!(told.headers.get("set-cookie").is_none());
            match told.status {
                StatusCode::OK => assert!(told.body.is_empty()),
                StatusCode::BAD_REQUEST => {
                    let error: Value = serde_json::from_slice(&told.body).unwrap();
                    assert!(error["error"].as_str().is_some_and(|code| code.starts_with("logout_")));
                }
                other => panic!("{other}"),
            }
        }
        answers.iter().map(|told| told.status).collect()
    }

    async fn sid_of(&self, key: SessionKey) -> String {
        match self.engine.open(key).await.unwrap() {
            freshgate::engine::Opened::Open(session) => session.provider_session().unwrap().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    async fn signed_in_at(&self, provider: &str, user: &str) -> (Browser, SessionKey) {
        let mut browser = self.browser();
        let path = format!("/auth/login?provider={provider}");
        let callback = self.start_login(&mut browser, &path, user).await;
        browser.navigate(&callback).await.location();
        let key = self.session_key(&browser);
        (browser, key)
    }
}

#[tokio::test]
async fn the_provider_ends_a_session_or_all_of_a_user() {
    for (token, ends_others_of_the_user) in
        [(json!({"omit": ["sub"]}), false), (json!({"omit": ["sid"]}), true)]
    {
        let world = World::new().await;
        let (mut browser, one) = world.signed_in("alice").await;
        let (_, mallorys) = world.signed_in("mallory").await;
        // Another name of the same client, and another client.
        let (_, by_another_name) = world.signed_in_at("google", "alice").await;
        let (_, of_another_client) = world.signed_in_at("another", "alice").await;
        // The tokens for the other client are not for this one: a fault that only theirs have.
        let sids = [world.sid_of(one).await, world.sid_of(by_another_name).await];
        assert_ne!(sids[0], sids[1]);
        let mut token = token;
        token["set"] = json!({"aud": "app"});
        if !ends_others_of_the_user {
            token["set"]["sid"] = sids[0].clone().into();
        }
        // Its tokens are for three sessions, and all say the same but for their ids.
        assert_eq!(world.tell("alice", token).await, [StatusCode::OK; 3]);
        assert_eq!(world.end_of(one).await, TOLD);
        assert_eq!(world.end_of(by_another_name).await.is_some(), ends_others_of_the_user);
        assert_eq!(world.end_of(of_another_client).await, None);
        assert_eq!(world.end_of(mallorys).await, None);
        assert!(browser.navigate("/").await.text().starts_with("nobody"));
        assert_eq!(world.requests("revoke").await, 0);
    }
}

#[tokio::test]
async fn each_client_is_told_of_its_own_sessions() {
    let world = World::new().await;
    let (_, one) = world.signed_in("alice").await;
    let (_, other) = world.signed_in_at("another", "alice").await;
    assert_eq!(world.tell("alice", json!({})).await, [StatusCode::OK; 2]);
    assert_eq!((world.end_of(one).await, world.end_of(other).await), (TOLD, TOLD));
}

/// Back-Channel Logout, section 2.6: each of these tokens breaks one rule.
#[tokio::test]
async fn what_breaks_a_rule_ends_nothing() {
    let world = World::new().await;
    let (mut browser, key) = world.signed_in("alice").await;
    let event = "http://schemas.openid.net/event/backchannel-logout";
    let faults = [
        json!({"signature": "bad"}),
        json!({"signature": "empty"}),
        json!({"signature": "alg_none"}),
        json!({"signature": "hs256_public_key"}),
        json!({"signature": "another_key"}),
        // Published by the provider, and not what it signs our ID tokens with.
        json!({"signature": "es256"}),
        json!({"kid": "wrong"}),
        json!({"typ": "at+jwt"}),
        json!({"set": {"iss": "https://evil.example"}}),
        json!({"omit": ["iss"]}),
        json!({"set": {"aud": "somebody-else"}}),
        json!({"set": {"aud": ["app", "somebody-else"]}}),
        json!({"shift": {"exp": -1000}}),
        json!({"shift": {"iat": 1000}}),
        json!({"omit": ["sub", "sid"]}),
        json!({"omit": ["events"]}),
        json!({"set": {"events": {"http://schemas.openid.net/event/another": {}}}}),
        json!({"set": {"events": {event: true}}}),
        json!({"set": {"nonce": "n"}}),
        json!({"omit": ["jti"]}),
    ];
    for fault in faults {
        assert_eq!(world.tell("alice", fault.clone()).await, [StatusCode::BAD_REQUEST], "{fault}");
        assert_eq!(world.end_of(key).await, None, "{fault}");
    }
    assert!(browser.navigate("/").await.text().starts_with("alice"));
    assert_eq!(world.tell("alice", json!({"typ": "JWT"})).await, [StatusCode::OK]);
    assert_eq!(world.end_of(key).await, TOLD);
}

#[tokio::test]
async fn a_request_without_a_token_is_refused() {
    let world = World::new().await;
    let mut nobody = world.browser();
    let table: &[(Option<&str>, &str)] = &[
        (Some("application/x-www-form-urlencoded"), ""),
        (Some("application/x-www-form-urlencoded"), "logout_token=not.a.token"),
        (Some("application/x-www-form-urlencoded"), "logout_token=a&logout_token=b"),
        (Some("application/json"), "{}"),
        (None, "logout_token=a.b.c"),
    ];
    for (kind, body) in table {
        let mut sending = nobody.sending(Method::POST, "/auth/backchannel-logout").with_body(body);
        if let Some(kind) = kind {
            sending = sending.with("content-type", kind);
        }
        // A browser that is lured into sending one gets no further than anyone else.
        let answered = sending.with("origin", "https://evil.example").send().await;
        assert_eq!(answered.status(), StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answered.header("cache-control"), Some("no-store"));
        assert_eq!(answered.json()["error"], "logout_refused");
    }
}

#[tokio::test]
async fn a_used_token_is_refused_by_every_gate_on_the_store() {
    let world = World::new().await;
    world.signed_in("alice").await;
    let same_id = json!({"set": {"jti": "the same"}});
    assert_eq!(world.tell("alice", same_id.clone()).await, [StatusCode::OK]);
    let (_, later) = world.signed_in("alice").await;
    assert!(world.tell("alice", same_id).await.iter().all(|status| *status == StatusCode::BAD_REQUEST));
    assert_eq!(world.end_of(later).await, None);

    let (engine, _) = world.another_gate();
    let (_, key) = world.signed_in("alice").await;
    assert!(world.tell("alice", json!({"omit": ["sid"]})).await.contains(&StatusCode::OK));
    let opened = engine.open(key).await.unwrap();
    assert!(matches!(opened, freshgate::engine::Opened::Ended(EndReason::ProviderLogout)), "{opened:?}");
}

#[tokio::test]
async fn a_token_that_met_a_failing_store_may_come_again() {
    let world = World::new().await;
    let (_, key) = world.signed_in("alice").await;
    let same_id = json!({"set": {"jti": "the same"}});
    world.store.fails.store(true, Ordering::SeqCst);
    assert_eq!(world.tell("alice", same_id.clone()).await, [StatusCode::BAD_REQUEST]);
    world.store.fails.store(false, Ordering::SeqCst);
    assert_eq!(world.end_of(key).await, None);
    assert_eq!(world.tell("alice", same_id).await, [StatusCode::OK]);
    assert_eq!(world.end_of(key).await, TOLD);
}

#[tokio::test]
async fn who_signs_out_at_the_provider_while_signing_in_here_is_not_signed_in() {
    let world = World::new().await;
    // A session that the provider knows, so that there is something to tell of.
    world.signed_in("alice").await;
    let mut browser = world.browser();
    let callback = world.start_login(&mut browser, "/auth/login", "alice").await;
    assert!(world.tell("alice", json!({"omit": ["sid"]})).await.contains(&StatusCode::OK));
    let answered = browser.navigate(&callback).await;
    assert!(answered.is_page_of("signed_out_meanwhile"), "{}", answered.text());
    assert!(browser.session_key().is_none() && browser.flows().is_empty());
    insta::assert_snapshot!("signed_out_meanwhile", answered.page());
    let (_, key) = world.signed_in("alice").await;
    assert_eq!(world.end_of(key).await, None, "the next login is another matter");
}

fn frame<'a>(browser: &'a mut Browser, target: &str) -> crate::browser::Sending<'a> {
    browser.tab(target, "cross-site").with("sec-fetch-dest", "iframe")
}

fn front_channel(issuer: &str, sid: &str) -> String {
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("iss", issuer)
        .append_pair("sid", sid)
        .finish();
    format!("/auth/frontchannel-logout?{query}")
}

#[track_caller]
fn assert_framable(answered: &Answered) {
    assert_eq!(answered.status(), StatusCode::OK, "{}", answered.text());
    assert_eq!(answered.header("cache-control"), Some("no-store"));
    assert_eq!(answered.header("x-frame-options"), None);
    let policy = answered.header("content-security-policy");
    assert_eq!(policy, Some("default-src 'none'; frame-ancestors *"));
    assert_eq!(answered.text(), "");
}

#[tokio::test]
async fn a_frame_in_a_page_of_the_provider_ends_a_session_without_its_cookie() {
    let world = World::new().await;
    let [(mut browser, key), (_, other)] = [world.signed_in("alice").await, world.signed_in("alice").await];
    let (issuer, sid) = (world.provider.issuer().to_owned(), world.sid_of(key).await);
    // `SameSite=Lax`: the browser sends none from there.
    let mut framed = world.browser();
    for target in [
        front_channel("https://evil.example", &sid),
        format!("/auth/frontchannel-logout?sid={sid}"),
        format!("/auth/frontchannel-logout?iss={issuer}"),
        format!("{}&sid=another", front_channel(&issuer, &sid)),
    ] {
        let answered = frame(&mut framed, &target).send().await;
        assert_eq!(answered.status(), StatusCode::BAD_REQUEST, "{target}");
        assert!(answered.is_page_of("logout_refused"), "{target}");
    }
    assert_framable(&frame(&mut framed, &front_channel(&issuer, "nobody's")).send().await);
    assert_eq!(world.end_of(key).await, None);

    assert_framable(&frame(&mut framed, &front_channel(&issuer, &sid)).send().await);
    assert_eq!((world.end_of(key).await, world.end_of(other).await), (TOLD, None));
    assert!(browser.navigate("/").await.text().starts_with("nobody"));
    assert_framable(&frame(&mut framed, &front_channel(&issuer, &sid)).send().await);
    world.engine.revocations_settled().await;
    assert_eq!(world.requests("revoke").await, 0, "its word is not signed");
}

#[tokio::test]
async fn a_frame_that_names_no_session_ends_one_without_a_name_alone() {
    let world = World::new().await;
    let unnamed = "/auth/frontchannel-logout";
    let (mut browser, named) = world.signed_in("alice").await;
    assert_framable(&frame(&mut browser, unnamed).send().await);
    assert_eq!(world.end_of(named).await, None, "the provider named it, and must do so here too");

    world.script("", json!({"endpoint": "token:code", "action": {"id_token": {"omit": ["sid"]}}})).await;
    let (mut browser, key) = world.signed_in("alice").await;
    assert_framable(&browser.tab(unnamed, "cross-site").send().await);
    assert_framable(&browser.tab(unnamed, "").without("sec-fetch-dest").send().await);
    assert_eq!(world.end_of(key).await, None, "a link is no frame");
    assert_framable(&frame(&mut world.browser(), unnamed).send().await);
    assert_eq!(world.end_of(key).await, None, "nobody's frame is nobody's session");
    assert_framable(&frame(&mut browser, unnamed).send().await);
    assert_eq!(world.end_of(key).await, TOLD);
    assert!(browser.session_key().is_none());
}

#[tokio::test]
async fn a_frame_that_names_a_session_by_a_name_never_told_ends_one_without_a_name_alone() {
    let world = World::new().await;
    let issuer = world.provider.issuer().to_owned();
    // Some providers put no `sid` into their ID tokens, and the user's name into this.
    let calls_alice = front_channel(&issuer, "alice");
    let (mut browser, named) = world.signed_in("alice").await;
    assert_framable(&frame(&mut browser, &calls_alice).send().await);
    assert_eq!(world.end_of(named).await, None, "the provider named it otherwise");

    world.script("", json!({"endpoint": "token:code", "action": {"id_token": {"omit": ["sid"]}}})).await;
    let [(mut browser, key), (_, other)] = [world.signed_in("alice").await, world.signed_in("alice").await];
    // Another provider of this gate, but not the one that she signed in with.
    let other_provider = front_channel("http://127.0.0.1:9", "alice");
    assert_framable(&frame(&mut browser, &other_provider).send().await);
    assert_framable(&frame(&mut world.browser(), &calls_alice).send().await);
    assert_framable(&browser.tab(&calls_alice, "cross-site").send().await);
    assert_eq!(world.end_of(key).await, None, "from elsewhere, without its cookie, or not in a frame");
    assert_framable(&frame(&mut browser, &calls_alice).send().await);
    assert_eq!((world.end_of(key).await, world.end_of(other).await), (TOLD, None));
    assert!(browser.session_key().is_none());
}

#[tokio::test]
async fn signing_out_here_takes_the_refresh_token_back_and_waits_for_nobody() {
    let world = World::new().await;
    world.script("", json!({"endpoint": "revoke", "times": 1, "action": {"respond": {"status": 503}}})).await;
    let (mut browser, _) = world.signed_in("alice").await;
    browser.navigate("/auth/logout").await.location();
    world.engine.revocations_settled().await;
    assert_eq!(world.requests("revoke").await, 2, "503 means that the token still lives");
    assert_eq!(world.engine.revocations().revoked, 1);
}
