//! Logouts that the provider tells of, over the back channel and the front channel.

use std::{
    future::{Future as _, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use freshgate::{
    engine::{BackChannelError, FrontChannelError, LoginError, Opened, RefreshError},
    events::SessionEvent,
    session::{EndReason, SessionKey},
    store::SqliteStore,
};
use freshgate_oidc::{Issuer, RawLogoutToken};
use serde_json::{Value, json};

use crate::{
    provider::ISSUER,
    setting::{DEADLINE, LoginUnderWay, Setting, until},
};

impl Setting {
    async fn signed_in_as(&self, subject: &str, sid: &str) -> SessionKey {
        self.provider.next_login_is_of(subject, sid);
        // Not in the same instant as what was before.
        self.clock.advance(Duration::from_millis(1));
        self.signed_in().await.key()
    }

    async fn end_of(&self, key: SessionKey) -> Option<EndReason> {
        // By an engine that has nothing in memory: whichever engine ended it, the store says so.
        match self.another_engine().open(key).await.unwrap() {
            Opened::Open(_) => None,
            Opened::Ended(reason) => Some(reason),
            Opened::Unknown => panic!("nobody knows this session"),
        }
    }
}

fn of_session(sid: &'static str) -> impl FnOnce(&mut Value) {
    move |claims| {
        claims["sid"] = sid.into();
        claims.as_object_mut().unwrap().remove("sub");
    }
}

const TOLD: Option<EndReason> = Some(EndReason::ProviderLogout);

#[tokio::test]
async fn a_token_ends_the_sessions_that_it_names_and_no_others() {
    // What the token says, and which of four sessions it ends.
    type Claims = fn(&mut Value);
    let table: [(&str, Claims, [bool; 4]); 6] = [
        ("a session", |claims| of_session("one")(claims), [true, true, false, false]),
        ("a session and its user", |claims| claims["sid"] = "one".into(), [true, true, false, false]),
        ("a session and another user", |claims| claims["sid"] = "three".into(), [false; 4]),
        ("a session that nobody has", |claims| of_session("four")(claims), [false; 4]),
        ("a user", |_| {}, [true, true, true, false]),
        ("a user who is not here", |claims| claims["sub"] = "bob".into(), [false; 4]),
    ];
    for (names, claims, ends) in table {
        let setting = Setting::new();
        let mut keys = Vec::new();
        for (subject, sid) in [("alice", "one"), ("alice", "one"), ("alice", "two"), ("mallory", "three")] {
            keys.push(setting.signed_in_as(subject, sid).await);
        }
        let mut events = setting.engine.events();
        let token = setting.provider.logout_token(claims);
        let ended = setting.engine.back_channel_logout(&token).await.unwrap();
        assert_eq!(ended, ends.iter().filter(|ends| **ends).count(), "{names}");
        for (key, ends) in keys.iter().zip(ends) {
            assert_eq!(setting.end_of(*key).await, ends.then_some(EndReason::ProviderLogout), "{names}");
        }
        for _ in 0..ended {
            let event = events.try_recv().unwrap();
            assert!(matches!(event, SessionEvent::Ended { reason: EndReason::ProviderLogout, .. }));
        }
        assert!(setting.provider.asked_to_revoke().is_empty(), "the provider knows best");
    }
}

/// Sections 2.6 and 2.7: a token may name a user and a session. Where we were never told the name of a session, it can only
/// be found by its user.
#[tokio::test]
async fn a_session_without_a_name_is_found_by_its_user() {
    type Claims = fn(&mut Value);
    let table: [(&str, Claims, [bool; 4]); 5] = [
        ("a session and its user", |claims| claims["sid"] = "one".into(), [true, true, false, false]),
        ("a session that nobody has", |claims| claims["sid"] = "four".into(), [false, true, false, false]),
        ("a session alone", |claims| of_session("one")(claims), [true, false, false, false]),
        ("a user", |_| {}, [true, true, true, false]),
        (
            "another user",
            |claims| {
                claims["sub"] = "mallory".into();
                claims["sid"] = "one".into();
            },
            [false, false, false, true],
        ),
    ];
    for (names, claims, ends) in table {
        let setting = Setting::new();
        let mut keys = Vec::new();
        for (subject, sid) in [("alice", "one"), ("alice", ""), ("alice", "two"), ("mallory", "")] {
            keys.push(setting.signed_in_as(subject, sid).await);
        }
        let token = setting.provider.logout_token(claims);
        let ended = setting.engine.back_channel_logout(&token).await.unwrap();
        assert_eq!(ended, ends.iter().filter(|ends| **ends).count(), "{names}");
        for (key, ends) in keys.iter().zip(ends) {
            assert_eq!(setting.end_of(*key).await, ends.then_some(EndReason::ProviderLogout), "{names}");
        }
    }
}

#[tokio::test]
async fn hundreds_of_sessions_of_one_user_end_at_once() {
    let setting = Setting::new();
    let mut keys = Vec::new();
    for _ in 0..300 {
        keys.push(setting.signed_in_as("alice", "one").await);
    }
    let token = setting.provider.logout_token(|_| {});
    assert_eq!(setting.engine.back_channel_logout(&token).await.unwrap(), 300);
    for key in keys {
        assert_eq!(setting.end_of(key).await, TOLD);
    }
}

async fn assert_replayed(engine: &freshgate::Engine, token: &RawLogoutToken) {
    let again = engine.back_channel_logout(token).await;
    assert!(matches!(again, Err(BackChannelError::Replayed)), "{again:?}");
}

/// Section 2.6, step 8.
#[tokio::test]
async fn a_token_is_taken_once_by_all_engines_and_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let setting = Setting::on(Arc::new(SqliteStore::open(&path).unwrap()));
    let other = setting.another_engine_on(&(Arc::new(SqliteStore::open(&path).unwrap()) as _));
    setting.signed_in_as("alice", "one").await;
    let token = setting.provider.logout_token(|claims| claims["jti"] = "the same".into());
    assert_eq!(setting.engine.back_channel_logout(&token).await.unwrap(), 1);
    let later = setting.signed_in_as("alice", "one").await;
    assert_replayed(&setting.engine, &token).await;
    assert_replayed(&other, &token).await;
    let restarted = setting.another_engine_on(&(Arc::new(SqliteStore::open(&path).unwrap()) as _));
    assert_replayed(&restarted, &token).await;
    // It is the id that counts, whatever else the token says.
    let namesake = setting.provider.logout_token(|claims| {
        claims["jti"] = "the same".into();
        claims["sub"] = "bob".into();
    });
    assert_replayed(&other, &namesake).await;
    assert_eq!(setting.end_of(later).await, None, "a login after the logout is none of its business");

    // It is remembered for as long as it could be sent again: two minutes, and the leeway of one.
    setting.clock.advance(Duration::from_secs(179));
    setting.store.sweep(setting.now(), 100).await.unwrap();
    assert_replayed(&setting.engine, &token).await;
    setting.clock.advance(Duration::from_secs(1));
    setting.store.sweep(setting.now(), 100).await.unwrap();
    let expired = setting.engine.back_channel_logout(&token).await;
    assert!(matches!(expired, Err(BackChannelError::Rejected { .. })), "{expired:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_one_token_many_times_at_once_one_is_taken() {
    let setting = Setting::new();
    let other = setting.another_engine();
    for _ in 0..20 {
        let key = setting.signed_in_as("alice", "one").await;
        let token = setting.provider.logout_token(|_| {});
        let mut deliveries = tokio::task::JoinSet::new();
        for engine in [&setting.engine, &other, &setting.engine, &other] {
            let (engine, token) = (engine.clone(), token.clone());
            deliveries.spawn(async move { engine.back_channel_logout(&token).await });
        }
        let outcomes = deliveries.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        assert_eq!(setting.end_of(key).await, TOLD);
    }
}

#[tokio::test]
async fn who_leaves_stops_nothing() {
    let setting = Setting::new();
    let key = setting.signed_in_as("alice", "one").await;
    let token = setting.provider.logout_token(|_| {});
    {
        let mut asked = pin!(setting.engine.back_channel_logout(&token));
        let answered = poll_fn(|context| Poll::Ready(asked.as_mut().poll(context).is_ready())).await;
        assert!(!answered && setting.end_of(key).await.is_none(), "the work is begun and not done");
    }
    setting.engine.finish().await;
    assert_eq!(setting.end_of(key).await, TOLD);
}

#[tokio::test]
async fn a_refresh_in_flight_loses() {
    for claims in [json!({}), json!({"sid": "one"})] {
        let setting = Setting::new();
        let key = setting.signed_in_as("alice", "one").await;
        setting.provider.wire.forget_permits(usize::MAX);
        let engine = setting.engine.clone();
        let refresh = tokio::spawn(async move { engine.refresh(key, DEADLINE).await });
        until("the refresh is on the wire", || setting.provider.on_the_wire() == 1).await;
        let token = setting.provider.logout_token(|token| {
            token.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
        });
        assert_eq!(setting.engine.back_channel_logout(&token).await.unwrap(), 1);
        setting.provider.wire.add_permits(10);
        let refreshed = refresh.await.unwrap();
        assert!(
            matches!(refreshed, Err(RefreshError::SignInAgain(EndReason::ProviderLogout))),
            "{refreshed:?}"
        );
        assert_eq!(setting.end_of(key).await, TOLD);
        assert!(setting.provider.asked_to_revoke().is_empty());
    }
}

#[tokio::test]
async fn a_login_in_flight_loses_and_the_next_one_does_not() {
    // (the name of the session that is begun, what the token names, whether it is about the login that is under way)
    type Claims = fn(&mut Value);
    let table: [(&str, Claims, bool); 9] = [
        ("one", |_| {}, true),
        ("one", |claims| claims["sid"] = "one".into(), true),
        ("one", |claims| claims["sid"] = "two".into(), false),
        ("one", |claims| of_session("one")(claims), true),
        ("one", |claims| of_session("two")(claims), false),
        ("one", |claims| claims["sub"] = "bob".into(), false),
        ("", |claims| claims["sid"] = "one".into(), true),
        ("", |claims| of_session("one")(claims), false),
        ("", |claims| claims["sub"] = "bob".into(), false),
    ];
    for (sid, claims, loses) in table {
        let setting = Setting::new();
        // Gates share the store: the browser comes back to one, the provider has told another.
        let other = setting.another_engine();
        setting.provider.next_login_is_of("alice", sid);
        let under_way = LoginUnderWay::begin(&setting.engine, &setting.provider).await;
        setting.clock.advance(Duration::from_secs(30));
        let token = setting.provider.logout_token(claims);
        assert_eq!(other.back_channel_logout(&token).await.unwrap(), 0);
        setting.clock.advance(Duration::from_secs(30));
        let mut events = setting.engine.events();
        let completed = under_way.complete(&setting.engine).await;
        if loses {
            assert!(matches!(completed, Err(LoginError::SignedOutMeanwhile)), "{completed:?}");
            let Ok(SessionEvent::Ended { key, reason }) = events.try_recv() else { panic!("nothing ended") };
            assert_eq!((setting.end_of(key).await, reason), (TOLD, EndReason::ProviderLogout));
        } else {
            assert_eq!(setting.end_of(completed.unwrap().key()).await, None);
        }
        // Whoever begins now has signed out before: not meanwhile.
        let next = setting.signed_in_as("alice", sid).await;
        assert_eq!(setting.end_of(next).await, None);
    }
}

#[tokio::test]
async fn whose_token_it_is_is_decided_by_its_issuer() {
    let setting = Setting::new();
    let key = setting.signed_in_as("alice", "one").await;
    let fetched = setting.provider.keys_fetched();
    for token in [
        setting.provider.logout_token(|claims| claims["iss"] = "https://evil.test".into()),
        setting.provider.logout_token(|claims| claims["iss"] = format!("{ISSUER}/").into()),
        setting.provider.logout_token(|claims| claims["iss"] = Value::Null),
        RawLogoutToken::new("not a token"),
        RawLogoutToken::new(""),
    ] {
        let refused = setting.engine.back_channel_logout(&token).await;
        assert!(matches!(refused, Err(BackChannelError::UnknownIssuer)), "{refused:?}");
    }
    assert_eq!(setting.provider.keys_fetched(), fetched);
    assert_eq!(setting.end_of(key).await, None);
}

#[tokio::test]
async fn what_breaks_a_rule_ends_nothing_and_may_come_again_when_mended() {
    let setting = Setting::new();
    let key = setting.signed_in_as("alice", "one").await;
    type Claims = fn(&mut Value);
    let broken: [Claims; 4] = [
        |claims| claims["aud"] = "another".into(),
        |claims| claims["nonce"] = "n".into(),
        |claims| claims["events"] = json!({}),
        |claims| claims["exp"] = 1.into(),
    ];
    for change in broken {
        let token = setting.provider.logout_token(|claims| {
            claims["jti"] = "one id".into();
            change(claims);
        });
        let refused = setting.engine.back_channel_logout(&token).await;
        assert!(matches!(refused, Err(BackChannelError::Rejected { .. })), "{refused:?}");
    }
    assert_eq!(setting.end_of(key).await, None);
    let token = setting.provider.logout_token(|claims| claims["jti"] = "one id".into());
    assert_eq!(setting.engine.back_channel_logout(&token).await.unwrap(), 1, "a refused token was not used");
}

/// Core, section 10.1.1: anyone can send a token with an unknown key.
#[tokio::test]
async fn a_flood_of_forged_tokens_asks_for_keys_now_and_then() {
    let setting = Setting::new();
    let key = setting.signed_in_as("alice", "one").await;
    let flood = async || {
        let before = setting.provider.keys_fetched();
        for number in 0..200 {
            let token = setting.provider.forged_logout_token(&format!("key-{number}"));
            let refused = setting.engine.back_channel_logout(&token).await;
            assert!(matches!(refused, Err(BackChannelError::Rejected { .. })), "{refused:?}");
        }
        setting.provider.keys_fetched() - before
    };
    assert_eq!(flood().await, 1, "they may have been replaced since the login");
    assert_eq!(flood().await, 0, "they were fetched again a moment ago");
    setting.clock.advance(Duration::from_secs(5));
    assert_eq!(flood().await, 1);
    setting.clock.advance(Duration::from_secs(5));
    setting.provider.withhold_keys(true);
    let refused = setting.engine.back_channel_logout(&setting.provider.forged_logout_token("another")).await;
    assert!(matches!(refused, Err(BackChannelError::ProviderUnavailable { .. })), "{refused:?}");
    assert_eq!(flood().await, 0, "a provider in trouble is not asked more often");
    let genuine = setting.provider.logout_token(|_| {});
    assert_eq!(setting.engine.back_channel_logout(&genuine).await.unwrap(), 1, "the keys at hand serve on");
    assert_eq!(setting.end_of(key).await, TOLD);
}

#[tokio::test]
async fn a_provider_without_keys_is_asked_once_a_second() {
    let setting = Setting::new();
    setting.provider.withhold_keys(true);
    for second in 1..=3 {
        for _ in 0..50 {
            let token = setting.provider.logout_token(|_| {});
            let refused = setting.engine.back_channel_logout(&token).await;
            assert!(matches!(refused, Err(BackChannelError::ProviderUnavailable { .. })), "{refused:?}");
        }
        assert_eq!(setting.provider.keys_fetched(), second);
        setting.clock.advance(Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_browser_can_end_what_came_of_a_session_at_the_provider() {
    let setting = Setting::new();
    let [one, two] = [setting.signed_in_as("alice", "one").await, setting.signed_in_as("alice", "two").await];
    let logout =
        |issuer: &str, sid: &str| setting.engine.front_channel_logout(Issuer::new(issuer), sid.to_owned());
    for issuer in ["https://evil.test", "", &format!("{ISSUER}/")] {
        let refused = logout(issuer, "one").await;
        assert!(matches!(refused, Err(FrontChannelError::UnknownIssuer)), "{refused:?}");
    }
    assert_eq!(logout(ISSUER, "three").await.unwrap(), 0);
    assert_eq!(logout(ISSUER, "one").await.unwrap(), 1);
    assert_eq!(logout(ISSUER, "one").await.unwrap(), 0);
    assert_eq!((setting.end_of(one).await, setting.end_of(two).await), (TOLD, None));
    setting.engine.revocations_settled().await;
    assert!(setting.provider.asked_to_revoke().is_empty(), "it is not signed");
    // And it keeps nobody from signing in.
    let under_way = LoginUnderWay::begin(&setting.engine, &setting.provider).await;
    assert_eq!(logout(ISSUER, "two").await.unwrap(), 1);
    assert!(under_way.complete(&setting.engine).await.is_ok());
}
