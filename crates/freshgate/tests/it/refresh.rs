use std::{sync::Arc, time::Duration};

use freshgate::{
    Engine,
    engine::{Opened, RefreshError, RefreshOutcome, TryLater},
    events::SessionEvent,
    provider::{LostAnswer, Refreshing},
    session::{EndReason, FreshSession, SessionKey},
    store::{MemoryStore, Store},
};
use serde_json::json;
use tokio::{sync::Semaphore, task::JoinHandle};

use crate::{
    faulty_store::{Fault, FaultyStore, Operation},
    provider::Act,
    setting::{DEADLINE, Setting, engine_of, engine_with, sign_in, until},
};

type Answer = Result<(FreshSession, RefreshOutcome), RefreshError>;

fn spawn_refresh(setting: &Setting, key: SessionKey) -> JoinHandle<Answer> {
    let engine = setting.engine.clone();
    tokio::spawn(async move { engine.refresh(key, DEADLINE).await })
}

fn failure_code(answer: Answer) -> &'static str {
    match answer {
        Err(RefreshError::TryLater(TryLater { failure, .. })) => failure.code(),
        other => panic!("not `TryLater`: {other:?}"),
    }
}

#[tokio::test]
async fn a_forced_refresh_brings_new_tokens_and_claims_and_tells_everyone() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    let mut events = setting.engine.events();
    setting.provider.set_claim("name", json!("Alice Cooper"));
    let (fresh, outcome) = setting.engine.refresh(key, DEADLINE).await.unwrap();
    assert_eq!(outcome, RefreshOutcome::Refreshed);
    assert_eq!(fresh.access_token().expose(), "access-2");
    assert_eq!(fresh.session().claims()["name"], "Alice Cooper");
    assert_eq!(fresh.session().generation(), 2);
    assert_eq!(setting.open(key).await.tokens().access_token.expose(), "access-2");
    assert!(matches!(
        events.try_recv(),
        Ok(SessionEvent::Changed { generation: 2, claims_changed: true, .. })
    ));

    setting.engine.refresh(key, DEADLINE).await.unwrap();
    assert_eq!(setting.provider.presented(), ["refresh-1", "refresh-2"], "each rotated token is spent once");
}

#[tokio::test]
async fn a_token_is_refreshed_only_when_too_little_of_its_life_is_left() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    let fresh = async || setting.engine.fresh(key, None, DEADLINE).await.unwrap();
    setting.clock.advance(Duration::from_secs(269));
    let (session, outcome) = fresh().await;
    assert_eq!((session.access_token().expose(), outcome), ("access-1", RefreshOutcome::NotNeeded));
    setting.clock.advance(Duration::from_secs(1));
    let (session, outcome) = fresh().await;
    assert_eq!((session.access_token().expose(), outcome), ("access-2", RefreshOutcome::Refreshed));
    let (session, outcome) = fresh().await;
    assert_eq!((session.access_token().expose(), outcome), ("access-2", RefreshOutcome::NotNeeded));
    // A wish beyond a fifth of the lifetime counts for a fifth.
    let (_, outcome) = setting.engine.fresh(key, Some(Duration::from_secs(299)), DEADLINE).await.unwrap();
    assert_eq!(outcome, RefreshOutcome::NotNeeded);
    setting.clock.advance(Duration::from_secs(240));
    let (_, outcome) = setting.engine.fresh(key, Some(Duration::from_secs(299)), DEADLINE).await.unwrap();
    assert_eq!(outcome, RefreshOutcome::Refreshed);
}

#[tokio::test]
async fn a_token_that_is_over_when_it_comes_is_asked_for_anew() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.clock.advance(Duration::from_secs(400));
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let engine = setting.engine.clone();
    let read = tokio::spawn(async move { engine.fresh(key, None, DEADLINE).await });
    for requests in 1..=3 {
        until("a request is on the wire", || setting.provider.presented().len() == requests).await;
        assert!(!read.is_finished());
        setting.clock.advance(Duration::from_secs(400));
        setting.provider.wire.add_permits(1);
    }
    assert_eq!(failure_code(read.await.unwrap()), "provider_unavailable", "it is not asked for ever");

    setting.provider.wire.add_permits(100);
    let (session, outcome) = setting.engine.fresh(key, None, DEADLINE).await.unwrap();
    assert_eq!((session.access_token().expose(), outcome), ("access-5", RefreshOutcome::Refreshed));
}

#[tokio::test]
async fn many_who_read_an_expired_token_share_one_request() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.clock.advance(Duration::from_secs(400));
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let readers: Vec<_> = (0..100)
        .map(|_| {
            let engine = setting.engine.clone();
            tokio::spawn(async move { engine.fresh(key, None, DEADLINE).await })
        })
        .collect();
    until("a request is on the wire", || setting.provider.on_the_wire() == 1).await;
    setting.provider.wire.add_permits(100);
    let mut refreshed = 0;
    for reader in readers {
        let (session, outcome) = reader.await.unwrap().unwrap();
        assert_eq!(session.access_token().expose(), "access-2");
        refreshed += usize::from(outcome == RefreshOutcome::Refreshed);
    }
    assert_eq!(refreshed, 1, "one made it, the others share it");
    assert_eq!(setting.provider.presented(), ["refresh-1"]);
}

#[tokio::test]
async fn forced_callers_never_share_a_request_that_was_on_the_wire_before_they_came() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let first = spawn_refresh(&setting, key);
    until("the first is on the wire", || setting.provider.on_the_wire() == 1).await;
    let late: Vec<_> = (0..11).map(|_| spawn_refresh(&setting, key)).collect();
    // They have boarded when nothing more happens: the wire holds the first.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    setting.provider.set_claim("name", json!("edited after the first was sent"));
    setting.provider.wire.add_permits(100);
    first.await.unwrap().unwrap();
    for caller in late {
        let (session, _) = caller.await.unwrap().unwrap();
        assert_eq!(session.session().claims()["name"], "edited after the first was sent");
        assert_eq!(session.access_token().expose(), "access-3");
    }
    assert_eq!(setting.provider.presented(), ["refresh-1", "refresh-2"], "all that waited share the second");
    assert_eq!(setting.provider.most_on_the_wire(), 1);
}

#[tokio::test]
async fn a_caller_who_leaves_cancels_nobody() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let leaver = spawn_refresh(&setting, key);
    until("the request is on the wire", || setting.provider.on_the_wire() == 1).await;
    leaver.abort();
    assert!(leaver.await.unwrap_err().is_cancelled());
    setting.provider.wire.add_permits(100);
    setting.engine.finish().await;
    assert_eq!(setting.open(key).await.tokens().access_token.expose(), "access-2");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_stops_lands_what_is_on_the_wire_and_begins_nothing() {
    let setting = Setting::new();
    let (on_the_wire, idle) = (setting.signed_in().await.key(), setting.signed_in().await.key());
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    // An app that refreshes in a loop, in several tabs, and goes on when it is told to try later.
    let tabs: Vec<_> = (0..6)
        .map(|tab| {
            let engine = setting.engine.clone();
            let key = if tab % 2 == 0 { on_the_wire } else { idle };
            tokio::spawn(async move {
                loop {
                    if let Err(RefreshError::TryLater(TryLater { failure, .. })) =
                        engine.refresh(key, DEADLINE).await
                    {
                        assert_eq!(failure.code(), "interrupted");
                    }
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        })
        .collect();
    while setting.provider.on_the_wire() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let stopping = setting.engine.clone();
    let stopping = tokio::spawn(async move { stopping.finish().await });
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!stopping.is_finished(), "it waits for what is on the wire");
    setting.provider.wire.add_permits(100);
    stopping.await.unwrap();
    for key in [on_the_wire, idle] {
        assert_eq!(setting.open(key).await.generation(), 2, "landed, and saved");
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(setting.provider.presented().len(), 2, "and nothing was sent after that");
    assert_eq!(setting.engine.refreshes_under_way(), 0);
    assert!(tabs.iter().all(|tab| !tab.is_finished()), "nobody was told anything else");
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_stops_waits_for_no_other_and_leaves_no_intent() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let first = spawn_refresh(&setting, key);
    while setting.provider.on_the_wire() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let other = setting.another_engine();
    let waiting = other.clone();
    let waiting = tokio::spawn(async move { waiting.refresh(key, DEADLINE).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    let began = tokio::time::Instant::now();
    other.finish().await;
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "its flight waited for another engine's: {:?}",
        began.elapsed()
    );
    assert_eq!(failure_code(waiting.await.unwrap()), "interrupted");
    setting.provider.wire.add_permits(100);
    first.await.unwrap().unwrap();
    assert_eq!(setting.provider.presented(), ["refresh-1"]);
    assert!(matches!(other.open(key).await.unwrap(), Opened::Open(_)), "sessions are served to the last");
}

#[tokio::test]
async fn a_caller_waits_for_its_own_deadline_and_no_longer() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let answer = setting.engine.refresh(key, Duration::from_millis(50)).await;
    assert_eq!(failure_code(answer), "deadline");
    setting.provider.wire.add_permits(100);
    setting.engine.finish().await;
    assert_eq!(setting.open(key).await.generation(), 2, "the refresh went on");
}

#[tokio::test]
async fn a_rejected_answer_changes_nothing_but_the_refresh_token() {
    let rejected = [
        ("signature", Act::ForgedSignature),
        ("issuer", Act::IdToken(|claims| claims["iss"] = json!("https://evil.test"))),
        ("audience", Act::IdToken(|claims| claims["aud"] = json!("another-app"))),
        ("audience added", Act::IdToken(|claims| claims["aud"] = json!(["app", "another-app"]))),
        ("authentication", Act::IdToken(|claims| claims["auth_time"] = json!(1_000_000_001))),
        ("expiry", Act::IdToken(|claims| claims["exp"] = json!(1_000))),
        ("access token hash", Act::IdToken(|claims| claims["at_hash"] = json!("AAAAAAAAAAAAAAAAAAAAAA"))),
        ("no access token", Act::NoAccessToken),
    ];
    for (what, act) in rejected {
        let setting = Setting::new();
        let before = setting.signed_in().await;
        let mut events = setting.engine.events();
        setting.provider.next_token_act(act);
        setting.provider.set_claim("name", json!("from a rejected answer"));
        let answer = setting.engine.refresh(before.key(), DEADLINE).await;
        assert_eq!(failure_code(answer), "answer_rejected", "{what}");
        let after = setting.open(before.key()).await;
        assert_eq!(after.claims(), before.claims(), "{what}");
        assert_eq!(after.tokens().access_token, before.tokens().access_token, "{what}");
        assert_eq!(after.generation(), before.generation(), "{what}");
        assert!(events.try_recv().is_err(), "{what}: nobody is told of what did not happen");

        let (session, _) = setting.engine.refresh(before.key(), DEADLINE).await.unwrap();
        assert_eq!(session.access_token().expose(), "access-3", "{what}");
        assert_eq!(
            setting.provider.presented(),
            ["refresh-1", "refresh-2"],
            "{what}: the rotated token was kept"
        );
    }
}

#[tokio::test]
async fn an_answer_without_any_token_counts_as_lost() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.next_token_act(Act::Status(200, "", json!({"token_type": "Bearer"})));
    assert_eq!(failure_code(setting.engine.refresh(key, DEADLINE).await), "answer_rejected");
    // The token may have been rotated by it: a refusal says no more than that.
    setting.provider.forget_refresh_tokens();
    let answer = setting.engine.refresh(key, DEADLINE).await;
    assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::OutcomeUnknown))), "{answer:?}");
}

#[tokio::test]
async fn what_is_no_token_answer_at_all_signs_nobody_out() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    for _ in 0..4 {
        setting.provider.next_token_act(Act::Status(200, "", json!("under maintenance")));
        assert_eq!(failure_code(setting.engine.refresh(key, DEADLINE).await), "provider_unavailable");
    }
    setting.engine.refresh(key, DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_refusal_without_a_word_is_believed_after_a_while() {
    let bare = || Act::Status(400, "", json!({"message": "Bad Request"}));
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    let refresh = async |act| {
        setting.provider.next_token_act(act);
        setting.engine.refresh(key, DEADLINE).await
    };
    // Often, and for a moment only: a firewall's page, perhaps.
    for _ in 0..5 {
        assert_eq!(failure_code(refresh(bare()).await), "provider_unavailable");
    }
    setting.engine.refresh(key, DEADLINE).await.unwrap();
    // For long, and not often since the last answer.
    assert_eq!(failure_code(refresh(bare()).await), "provider_unavailable");
    setting.clock.advance(Duration::from_secs(600));
    assert_eq!(failure_code(refresh(bare()).await), "provider_unavailable");
    let answer = refresh(bare()).await;
    assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::Refused))), "{answer:?}");
}

#[tokio::test]
async fn a_refresh_token_that_is_not_good_yet_is_not_sent() {
    let setting = Setting::new();
    setting.provider.issue_for_later(270);
    let key = setting.signed_in().await.key();
    setting.clock.advance(Duration::from_secs(250));
    match setting.engine.refresh(key, DEADLINE).await {
        Err(RefreshError::TryLater(TryLater { retry_after, failure })) => {
            assert_eq!((failure.code(), retry_after), ("not_yet_valid", Duration::from_secs(20)));
        }
        other => panic!("{other:?}"),
    }
    let read = async || setting.engine.fresh(key, Some(Duration::from_secs(60)), DEADLINE).await;
    let (session, outcome) = read().await.unwrap();
    let kept = RefreshOutcome::Kept { retry_after: Duration::from_secs(20), reason: "not_yet_valid" };
    assert_eq!((session.access_token().expose(), outcome), ("access-1", kept), "it lives");
    assert_eq!(setting.provider.presented().len(), 0);
    setting.clock.advance(Duration::from_secs(20));
    let (session, outcome) = read().await.unwrap();
    assert_eq!((session.access_token().expose(), outcome), ("access-2", RefreshOutcome::Refreshed));
}

#[tokio::test]
async fn a_refusal_that_may_have_come_too_early_ends_nothing() {
    let refused = || Act::Status(400, "", json!({"error": "invalid_grant"}));
    let setting = Setting::new();
    setting.provider.issue_for_later(200);
    let key = setting.signed_in().await.key();
    setting.clock.advance(Duration::from_secs(200));
    // The provider's clock is a little behind.
    setting.provider.next_token_act(refused());
    assert_eq!(failure_code(setting.engine.refresh(key, DEADLINE).await), "not_yet_valid");
    setting.clock.advance(Duration::from_secs(42));
    setting.provider.next_token_act(refused());
    let (session, outcome) =
        setting.engine.fresh(key, Some(Duration::from_secs(60)), DEADLINE).await.unwrap();
    assert_eq!((session.access_token().expose(), outcome.reason()), ("access-1", Some("not_yet_valid")));
    // No clock is as far behind as that.
    setting.clock.advance(Duration::from_secs(18));
    setting.provider.next_token_act(refused());
    let answer = setting.engine.refresh(key, DEADLINE).await;
    assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::Refused))), "{answer:?}");
}

#[tokio::test]
async fn an_answer_that_names_somebody_else_ends_the_session() {
    type Script = fn(&Setting);
    let scripts: [(&str, Script); 2] = [
        ("ID token", |setting| {
            setting.provider.next_token_act(Act::IdToken(|claims| claims["sub"] = json!("mallory")))
        }),
        ("userinfo", |setting| {
            setting.provider.next_userinfo_act(Act::Status(
                200,
                "",
                json!({"sub": "mallory", "name": "Mallory"}),
            ));
        }),
    ];
    for (what, script) in scripts {
        let setting = Setting::new();
        let key = setting.signed_in().await.key();
        script(&setting);
        let answer = setting.engine.refresh(key, DEADLINE).await;
        assert!(
            matches!(answer, Err(RefreshError::SignInAgain(EndReason::IdentityChanged))),
            "{what}: {answer:?}"
        );
        let opened = setting.engine.open(key).await.unwrap();
        assert!(matches!(opened, Opened::Ended(EndReason::IdentityChanged)), "{what}: {opened:?}");
    }
}

#[tokio::test]
async fn without_an_id_token_the_claims_come_from_userinfo() {
    let setting = Setting::new();
    let before = setting.signed_in().await;
    setting.provider.next_token_act(Act::NoIdToken);
    setting.provider.set_claim("name", json!("Alice Cooper"));
    let (session, _) = setting.engine.refresh(before.key(), DEADLINE).await.unwrap();
    assert_eq!(session.access_token().expose(), "access-2");
    assert_eq!(session.session().claims()["name"], "Alice Cooper");
    assert_eq!(session.session().claims()["iss"], before.claims()["iss"]);
    assert_eq!(session.session().tokens().id_token, before.tokens().id_token, "kept for the logout hint");
}

#[tokio::test]
async fn who_gets_new_tokens_and_no_claims_is_told_so() {
    let setting = Setting::new();
    let (clock, transport, store) = (setting.clock.clone(), setting.provider.clone(), setting.store.clone());
    let engine = engine_with(clock, transport, store, |config| config.userinfo = false);
    let before = sign_in(&engine, &setting.provider).await;
    setting.provider.next_token_act(Act::NoIdToken);

    let (session, outcome) = engine.refresh(before.key(), DEADLINE).await.unwrap();

    assert_eq!((session.access_token().expose(), outcome), ("access-2", RefreshOutcome::TokensOnly));
    assert_eq!(session.session().claims(), before.claims());
    setting.clock.advance(Duration::from_secs(400));
    setting.provider.next_token_act(Act::NoIdToken);
    let (session, outcome) = engine.fresh(before.key(), None, DEADLINE).await.unwrap();
    assert_eq!((session.access_token().expose(), outcome), ("access-3", RefreshOutcome::TokensOnly));
    let (_, outcome) = engine.refresh(before.key(), DEADLINE).await.unwrap();
    assert_eq!(outcome, RefreshOutcome::Refreshed, "its answer has an ID token");
}

#[tokio::test]
async fn claims_that_could_not_be_asked_for_are_not_given_to_a_forced_caller_but_the_tokens_are_kept() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    for (status, token) in [(503, "access-2"), (403, "access-3")] {
        setting.provider.next_userinfo_act(Act::Status(status, "", json!({})));
        let answer = setting.engine.refresh(key, DEADLINE).await;
        assert_eq!(failure_code(answer), "provider_unavailable", "{status}");
        let after = setting.open(key).await;
        assert_eq!(after.tokens().access_token.expose(), token, "{status}");
        assert_eq!(after.claims()["email"], "alice@example.test", "{status}: of the last userinfo");
    }
}

#[tokio::test]
async fn a_refusal_ends_the_session() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    let mut events = setting.engine.events();
    setting.provider.forget_refresh_tokens();
    let answer = setting.engine.refresh(key, DEADLINE).await;
    assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::Refused))), "{answer:?}");
    assert!(matches!(events.try_recv(), Ok(SessionEvent::Ended { reason: EndReason::Refused, .. })));
    let again = setting.engine.fresh(key, None, DEADLINE).await;
    assert!(matches!(again, Err(RefreshError::SignInAgain(EndReason::Refused))), "{again:?}");
    assert_eq!(setting.provider.presented().len(), 1, "an ended session asks nobody");
}

#[tokio::test]
async fn a_provider_that_is_away_costs_nobody_a_session() {
    let away = [
        ("503", "provider_unavailable", Act::Status(503, "", json!({}))),
        ("429", "provider_unavailable", Act::Status(429, "", json!({}))),
        ("a firewall's page", "provider_unavailable", Act::Status(403, "", json!("no"))),
        ("not reached", "provider_unreachable", Act::NotReached),
        ("wrong secret", "misconfigured", Act::Status(401, "", json!({"error": "invalid_client"}))),
    ];
    for (what, code, act) in away {
        let setting = Setting::new();
        let before = setting.signed_in().await;
        setting.provider.next_token_act(act);
        let answer = setting.engine.refresh(before.key(), DEADLINE).await;
        assert_eq!(failure_code(answer), code, "{what}");
        assert_eq!(setting.open(before.key()).await.claims(), before.claims(), "{what}: the session is kept");
        let (session, _) = setting.engine.refresh(before.key(), DEADLINE).await.unwrap();
        assert_eq!(session.access_token().expose(), "access-2", "{what}: and recovers");
    }
}

#[tokio::test]
async fn after_a_failure_readers_leave_the_provider_alone_for_a_while() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.clock.advance(Duration::from_secs(290));
    setting.provider.next_token_act(Act::Status(503, "", json!({})));
    let fresh = async || setting.engine.fresh(key, None, DEADLINE).await;
    assert_eq!(kept_because(fresh().await), "provider_unavailable");
    assert_eq!(kept_because(fresh().await), "backing_off");
    assert_eq!(setting.provider.presented().len(), 1, "the second was not sent");
    setting.clock.advance(Duration::from_secs(1));
    assert_eq!(fresh().await.unwrap().1, RefreshOutcome::Refreshed);
}

/// Why a token that lives was served although it could not be refreshed.
fn kept_because(answer: Answer) -> &'static str {
    match answer {
        Ok((session, RefreshOutcome::Kept { retry_after, reason })) => {
            assert_eq!(session.access_token().expose(), "access-1");
            assert!(!retry_after.is_zero());
            reason
        }
        other => panic!("not kept: {other:?}"),
    }
}

#[tokio::test]
async fn a_token_that_lives_is_served_while_the_provider_is_away_and_never_a_dead_one() {
    type Script = fn() -> Act;
    let away: [(&str, Script); 4] = [
        ("provider_unavailable", || Act::Status(503, "", json!({}))),
        ("provider_unavailable", || Act::Status(429, "3600", json!({}))),
        ("provider_unreachable", || Act::NotReached),
        ("misconfigured", || Act::Status(401, "", json!({"error": "invalid_client"}))),
    ];
    for (code, act) in away {
        let setting = Setting::new();
        let key = setting.signed_in().await.key();
        setting.clock.advance(Duration::from_secs(275));
        setting.provider.next_token_act(act());
        assert_eq!(kept_because(setting.engine.fresh(key, None, DEADLINE).await), code);
        setting.provider.next_token_act(act());
        failure_code(setting.engine.refresh(key, DEADLINE).await);
        setting.clock.advance(Duration::from_secs(25));
        setting.provider.next_token_act(act());
        failure_code(setting.engine.fresh(key, None, DEADLINE).await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_token_that_lives_is_served_when_the_callers_deadline_passes() {
    let setting = Setting::in_tokio_time();
    let key = setting.signed_in().await.key();
    tokio::time::sleep(Duration::from_secs(275)).await;
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let ask = async |seconds| setting.engine.fresh(key, None, Duration::from_secs(seconds)).await;
    assert_eq!(kept_because(ask(5).await), "deadline");
    // It is over before that deadline passes.
    assert_eq!(failure_code(ask(21).await), "deadline");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_ended_meanwhile_is_not_kept() {
    let setting = Setting::in_tokio_time();
    let key = setting.signed_in().await.key();
    tokio::time::sleep(Duration::from_secs(275)).await;
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let engine = setting.engine.clone();
    let reader = tokio::spawn(async move { engine.fresh(key, None, Duration::from_secs(5)).await });
    tokio::time::sleep(Duration::from_secs(1)).await;
    setting.engine.end(key, EndReason::Logout).await.unwrap();
    let answer = reader.await.unwrap();
    assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::Logout))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_lives_is_served_while_the_engine_stops() {
    let setting = Setting::in_tokio_time();
    let key = setting.signed_in().await.key();
    tokio::time::sleep(Duration::from_secs(275)).await;
    setting.engine.finish().await;
    assert_eq!(kept_because(setting.engine.fresh(key, None, DEADLINE).await), "interrupted");
}

/// A refresh whose request is on the wire when the store goes down, and whose answer comes then.
async fn answered_while_the_store_is_down() -> (Setting, Arc<FaultyStore>, SessionKey, JoinHandle<Answer>) {
    let store = FaultyStore::on(Arc::new(MemoryStore::new()));
    let setting = Setting::on(store.clone());
    let key = setting.signed_in().await.key();
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let engine = setting.engine.clone();
    let refresh = tokio::spawn(async move { engine.refresh(key, Duration::from_secs(3600)).await });
    while setting.provider.on_the_wire() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    store.set_down(true);
    setting.provider.wire.add_permits(100);
    tokio::time::sleep(Duration::from_secs(1)).await;
    (setting, store, key, refresh)
}

#[tokio::test(start_paused = true)]
async fn a_rotated_token_is_saved_however_long_the_store_is_down() {
    let (setting, store, key, refresh) = answered_while_the_store_is_down().await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert!(!refresh.is_finished(), "while the engine runs it does not give up");
    store.set_down(false);
    let (session, outcome) = refresh.await.unwrap().unwrap();
    assert_eq!((session.access_token().expose(), outcome), ("access-2", RefreshOutcome::Refreshed));
    setting.another_engine().refresh(key, DEADLINE).await.unwrap();
    assert_eq!(setting.provider.presented(), ["refresh-1", "refresh-2"], "it is in the store");
}

#[tokio::test]
async fn a_rotated_token_that_was_saved_although_the_store_said_not_costs_no_second_request() {
    let store = FaultyStore::on(Arc::new(MemoryStore::new()));
    let setting = Setting::on(store.clone());
    let key = setting.signed_in().await.key();
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let refresh = spawn_refresh(&setting, key);
    until("the request is on the wire", || setting.provider.on_the_wire() == 1).await;
    store.next(Operation::Replace, Fault::FailsAfterwards);
    // Nor can it be asked whether it has.
    store.next(Operation::Read, Fault::Fails);
    setting.provider.wire.add_permits(1);
    let (session, outcome) = refresh.await.unwrap().unwrap();
    assert_eq!((session.access_token().expose(), outcome), ("access-2", RefreshOutcome::Refreshed));
    assert_eq!(setting.provider.presented(), ["refresh-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_save_that_is_tried_again_leaves_the_intent_of_another_engine_alone() {
    let rows: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let failing = FaultyStore::on(rows.clone());
    let Setting { clock, provider, .. } = Setting::in_tokio_time();
    let refreshing = Refreshing { lost_answer: Some(LostAnswer::SignInAgain), ..Refreshing::default() };
    let one = engine_of(clock.clone(), provider.clone(), failing.clone(), refreshing);
    let other = engine_of(clock.clone(), provider.clone(), rows, refreshing);
    let key = sign_in(&one, &provider).await.key();
    let refresh = |engine: Engine| tokio::spawn(async move { engine.refresh(key, 60 * DEADLINE).await });
    provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let slow = refresh(one);
    until("the first is on the wire", || provider.on_the_wire() == 1).await;
    failing.next(Operation::Replace, Fault::FailsAfterwards);
    provider.wire.add_permits(1);
    until("the first is answered", || provider.on_the_wire() == 0).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    failing.set_down(true);
    // The other takes it for dead, and has the token that it saved.
    clock.advance(Duration::from_secs(100));
    let takes_over = refresh(other);
    until("the other is on the wire", || provider.presented().len() == 2).await;
    failing.set_down(false);
    tokio::time::sleep(Duration::from_secs(10)).await;
    provider.next_token_act(Act::LoseAnswer);
    provider.wire.add_permits(100);

    let answer = takes_over.await.unwrap();
    assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::OutcomeUnknown))), "{answer:?}");
    let _ = slow.await.unwrap();
    assert_eq!(provider.presented(), ["refresh-1", "refresh-2"], "nothing is sent twice");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_another_engine_hears_of_the_end_and_flies_no_more() {
    let setting = Setting::in_tokio_time();
    let key = setting.signed_in().await.key();
    let other = setting.another_engine();
    tokio::time::sleep(Duration::from_secs(400)).await;
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let _flies = spawn_refresh(&setting, key);
    until("the first is on the wire", || setting.provider.on_the_wire() == 1).await;
    let reader = other.clone();
    let reader = tokio::spawn(async move { reader.fresh(key, None, DEADLINE).await });
    // Waiting for the lease, for somebody who does not insist; then somebody does.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let forced = other.clone();
    let forced = tokio::spawn(async move { forced.refresh(key, DEADLINE).await });
    tokio::time::sleep(Duration::from_millis(1)).await;

    setting.engine.end(key, EndReason::Operator).await.unwrap();

    for answer in [reader.await.unwrap(), forced.await.unwrap()] {
        assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::Operator))), "{answer:?}");
    }
    until("no flight is left", || other.refreshes_under_way() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_was_written_although_the_store_said_not_is_no_answer_that_was_lost() {
    let store = FaultyStore::on(Arc::new(MemoryStore::new()));
    let (clock, provider) = {
        let setting = Setting::in_tokio_time();
        (setting.clock, setting.provider)
    };
    let refreshing = Refreshing { lost_answer: Some(LostAnswer::SignInAgain), ..Refreshing::default() };
    let engine = engine_of(clock, provider.clone(), store.clone(), refreshing);
    let key = sign_in(&engine, &provider).await.key();
    store.next(Operation::Replace, Fault::FailsAfterwards);
    let refresh = tokio::spawn({
        let engine = engine.clone();
        async move { engine.refresh(key, DEADLINE).await }
    });
    // Before it asks what was written.
    tokio::time::sleep(Duration::from_millis(50)).await;
    store.set_down(true);
    assert_eq!(failure_code(refresh.await.unwrap()), "store");
    // Nor is it after an attempt that did not come as far.
    assert_eq!(failure_code(engine.refresh(key, DEADLINE).await), "store");
    assert!(provider.presented().is_empty());
    store.set_down(false);

    let (_, outcome) = engine.refresh(key, DEADLINE).await.unwrap();

    assert_eq!(outcome, RefreshOutcome::Refreshed);
    assert_eq!(provider.presented(), ["refresh-1"]);
}

/// An engine whose store fails at the worst of moments: an intent is written, the store says that it is not, and is down
/// then. And another engine on the same rows.
async fn with_an_unsent_intent() -> (Setting, Engine, Engine, Arc<FaultyStore>, SessionKey) {
    let rows: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let store = FaultyStore::on(rows.clone());
    let setting = Setting::in_tokio_time();
    let refreshing = Refreshing { lost_answer: Some(LostAnswer::SignInAgain), ..Refreshing::default() };
    let engine_on = |store| engine_of(setting.clock.clone(), setting.provider.clone(), store, refreshing);
    let (one, other) = (engine_on(store.clone()), engine_on(rows));
    let key = sign_in(&one, &setting.provider).await.key();
    store.next(Operation::Replace, Fault::FailsAfterwards);
    let refresh = tokio::spawn({
        let engine = one.clone();
        async move { engine.refresh(key, DEADLINE).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    store.set_down(true);
    assert_eq!(failure_code(refresh.await.unwrap()), "store");
    (setting, one, other, store, key)
}

#[tokio::test(start_paused = true)]
async fn an_intent_under_which_nothing_was_sent_is_given_back_when_the_store_answers() {
    let (setting, _one, other, store, key) = with_an_unsent_intent().await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    store.set_down(false);
    tokio::time::sleep(Duration::from_secs(10)).await;
    setting.clock.advance(Duration::from_secs(100));

    let (_, outcome) = other.refresh(key, DEADLINE).await.unwrap();

    assert_eq!(outcome, RefreshOutcome::Refreshed, "nobody takes the refresh token for used");
    assert_eq!(setting.provider.presented(), ["refresh-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_repetition_that_was_not_sent_is_no_answer_that_was_lost() {
    let store = FaultyStore::on(Arc::new(MemoryStore::new()));
    let setting = Setting::on(store.clone());
    let key = setting.signed_in().await.key();
    setting.provider.stop_rotating();
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let refresh = spawn_refresh(&setting, key);
    until("the request is on the wire", || setting.provider.on_the_wire() == 1).await;
    setting.provider.next_token_act(Act::LoseAnswer);
    store.next(Operation::Replace, Fault::AnsweredLate);
    store.next(Operation::Replace, Fault::FailsAfterwards);
    setting.provider.wire.add_permits(100);
    until("the loss is noted", || store.waiting() == 1).await;
    store.release();
    // The lease is confirmed, and the store says that it is not. Before it is asked what it holds:
    tokio::time::sleep(Duration::from_millis(50)).await;
    store.set_down(true);
    assert_eq!(failure_code(refresh.await.unwrap()), "store");
    assert_eq!(setting.provider.presented(), ["refresh-1"]);
    store.set_down(false);

    let (_, outcome) = setting.engine.refresh(key, DEADLINE).await.unwrap();

    assert_eq!(outcome, RefreshOutcome::Refreshed, "one answer was lost, so it may be asked for once more");
    assert_eq!(setting.provider.presented(), ["refresh-1", "refresh-1"]);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_stops_gives_back_what_it_did_not_send_if_the_store_answers_soon() {
    // (how long the store stays down, whether that is too long)
    for (down_for, lost) in [(4, false), (60, true)] {
        let (setting, one, other, store, key) = with_an_unsent_intent().await;
        let began = tokio::time::Instant::now();
        let stopping = tokio::spawn(async move {
            one.finish().await;
            began.elapsed()
        });
        tokio::time::sleep(Duration::from_secs(down_for)).await;
        store.set_down(false);
        let took = stopping.await.unwrap();
        assert!(took < Duration::from_secs(if lost { 15 } else { 6 }), "{took:?}");
        setting.clock.advance(Duration::from_secs(100));

        let next = other.refresh(key, DEADLINE).await;

        match (lost, next) {
            (false, Ok(_)) | (true, Err(RefreshError::SignInAgain(EndReason::OutcomeUnknown))) => {}
            (_, next) => panic!("lost: {lost}, and then {next:?}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_stops_saves_a_rotated_token_for_as_long_as_its_patience_lasts() {
    // (how long the store stays down, whether that is too long)
    for (down_for, lost) in [(4, false), (60, true)] {
        let (setting, store, key, refresh) = answered_while_the_store_is_down().await;
        let began = tokio::time::Instant::now();
        let stopping = setting.engine.clone();
        let stopping = tokio::spawn(async move {
            stopping.finish().await;
            began.elapsed()
        });
        tokio::time::sleep(Duration::from_secs(down_for)).await;
        store.set_down(false);
        let took = stopping.await.unwrap();
        let answer = refresh.await.unwrap();
        if lost {
            assert!((10..20).contains(&took.as_secs()), "its last patience, and one more try: {took:?}");
            assert_eq!(failure_code(answer), "store");
        } else {
            assert!(took < Duration::from_secs(10), "{took:?}");
            answer.unwrap();
        }
        let next = setting.another_engine().refresh(key, DEADLINE).await;
        // Where it was lost the provider was asked with the old token, which is the one that it has taken back.
        let presented = if lost { ["refresh-1", "refresh-1"] } else { ["refresh-1", "refresh-2"] };
        assert_eq!(setting.provider.presented(), presented);
        match (lost, next) {
            (false, Ok(_)) | (true, Err(RefreshError::SignInAgain(EndReason::OutcomeUnknown))) => {}
            (_, next) => panic!("lost: {lost}, and then {next:?}"),
        }
    }
}

#[tokio::test]
async fn retry_after_is_heeded_by_forced_callers_too_but_not_without_bounds() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.next_token_act(Act::Status(429, "86400", json!({})));
    assert_eq!(failure_code(setting.engine.refresh(key, DEADLINE).await), "provider_unavailable");
    setting.clock.advance(Duration::from_secs(599));
    match setting.engine.refresh(key, DEADLINE).await {
        Err(RefreshError::TryLater(try_later)) => assert_eq!(try_later.retry_after, Duration::from_secs(1)),
        other => panic!("{other:?}"),
    }
    setting.clock.advance(Duration::from_secs(1));
    setting.engine.refresh(key, DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_provider_that_asks_for_no_rest_is_left_alone_for_a_moment() {
    for at_once in ["0", "Thu, 01 Jan 1970 00:00:00 GMT"] {
        let setting = Setting::new();
        let key = setting.signed_in().await.key();
        setting.provider.next_token_act(Act::Status(503, at_once, json!({})));
        match setting.engine.refresh(key, DEADLINE).await {
            Err(RefreshError::TryLater(try_later)) => {
                assert!(try_later.retry_after >= Duration::from_millis(250), "{at_once}: {try_later:?}");
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn who_waits_forever_is_answered_too() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.engine.fresh(key, None, Duration::MAX).await.unwrap();
    setting.engine.refresh(key, Duration::MAX).await.unwrap();
}

#[tokio::test]
async fn a_rest_until_long_after_is_of_a_wrong_clock_and_not_kept() {
    const DAY: Duration = Duration::from_secs(86_400);
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.clock.advance(DAY);
    setting.provider.next_token_act(Act::Status(429, "10", json!({})));
    assert_eq!(failure_code(setting.engine.refresh(key, DEADLINE).await), "provider_unavailable");
    setting.clock.set_back(DAY);
    setting.engine.refresh(key, DEADLINE).await.unwrap();
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_once_more_with_the_same_token() {
    // It never arrived: the same token is still good.
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.next_token_act(Act::LoseAnswer);
    let answer = setting.engine.refresh(key, DEADLINE).await;
    assert_eq!(setting.provider.presented(), ["refresh-1", "refresh-1"]);
    // It was used, and this provider has no grace window: nobody can know the new token.
    assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::OutcomeUnknown))), "{answer:?}");
}

/// Whatever else an answer holds, it may hold a new refresh token.
#[tokio::test]
async fn an_answer_is_read_up_to_its_limit_and_lost_beyond() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.next_token_act(Act::Padded(3 << 20));
    setting.engine.refresh(key, DEADLINE).await.unwrap();
    setting.engine.refresh(key, DEADLINE).await.unwrap();
    assert_eq!(setting.provider.presented(), ["refresh-1", "refresh-2"], "the rotated one was kept");
    setting.provider.next_token_act(Act::Padded(4 << 20));
    let answer = setting.engine.refresh(key, DEADLINE).await;
    assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::OutcomeUnknown))), "{answer:?}");
    assert_eq!(setting.provider.presented()[2..], ["refresh-3", "refresh-3"]);
}

/// Signs in, and has the whole runtime die while a refresh is on the wire.
fn interrupted_refresh() -> (Setting, SessionKey) {
    let process = tokio::runtime::Runtime::new().unwrap();
    let (setting, key) = process.block_on(async {
        let setting = Setting::new();
        let key = setting.signed_in().await.key();
        setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
        spawn_refresh(&setting, key);
        until("the request is on the wire", || setting.provider.on_the_wire() == 1).await;
        (setting, key)
    });
    process.shutdown_timeout(Duration::from_secs(10));
    setting.provider.wire.add_permits(100);
    // Long enough for its lease to be dead by any clock.
    setting.clock.advance(Duration::from_secs(71));
    (setting, key)
}

#[test]
fn an_intent_whose_request_did_not_arrive_is_settled_by_the_same_token_after_a_restart() {
    let (setting, key) = interrupted_refresh();
    let restarted = setting.another_engine();
    let answer = tokio::runtime::Runtime::new().unwrap().block_on(restarted.refresh(key, DEADLINE));
    assert_eq!(answer.unwrap().0.access_token().expose(), "access-2");
    assert_eq!(setting.provider.presented(), ["refresh-1", "refresh-1"]);
}

#[test]
fn an_intent_whose_request_was_used_ends_as_unknown_after_a_restart() {
    let (setting, key) = interrupted_refresh();
    setting.provider.forget_refresh_tokens();
    let restarted = setting.another_engine();
    let answer = tokio::runtime::Runtime::new().unwrap().block_on(restarted.refresh(key, DEADLINE));
    assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::OutcomeUnknown))), "{answer:?}");
}

#[tokio::test]
async fn an_end_beats_a_refresh_in_flight() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let caller = spawn_refresh(&setting, key);
    until("the request is on the wire", || setting.provider.on_the_wire() == 1).await;
    setting.engine.end(key, EndReason::Logout).await.unwrap();
    setting.provider.wire.add_permits(100);
    let answer = caller.await.unwrap();
    assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::Logout))), "{answer:?}");
    assert!(matches!(setting.engine.open(key).await.unwrap(), Opened::Ended(EndReason::Logout)));
}

#[tokio::test]
async fn engines_on_one_store_send_one_request_at_a_time() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    let engines = [setting.engine.clone(), setting.another_engine(), setting.another_engine()];
    let callers: Vec<_> = (0..30)
        .map(|number| {
            let engine = engines[number % engines.len()].clone();
            tokio::spawn(async move { engine.refresh(key, DEADLINE).await })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(setting.provider.most_on_the_wire(), 1);
    let presented = setting.provider.presented();
    let distinct: std::collections::BTreeSet<_> = presented.iter().collect();
    assert_eq!(distinct.len(), presented.len(), "no refresh token was sent twice: {presented:?}");
    assert!(presented.len() <= 2 * engines.len(), "{presented:?}");
}

#[tokio::test]
async fn readers_on_another_engine_share_what_the_first_brings() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.clock.advance(Duration::from_secs(400));
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let (one, other) = (setting.engine.clone(), setting.another_engine());
    let first = tokio::spawn(async move { one.fresh(key, None, DEADLINE).await });
    until("the request is on the wire", || setting.provider.on_the_wire() == 1).await;
    let second = tokio::spawn(async move { other.fresh(key, None, DEADLINE).await });
    tokio::time::sleep(Duration::from_millis(120)).await;
    setting.provider.wire.add_permits(100);
    assert_eq!(first.await.unwrap().unwrap().1, RefreshOutcome::Refreshed);
    let (session, outcome) = second.await.unwrap().unwrap();
    assert_eq!((session.access_token().expose(), outcome), ("access-2", RefreshOutcome::Shared));
    assert_eq!(setting.provider.presented(), ["refresh-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_renewed_while_a_slow_provider_answers() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let slow = setting.engine.clone();
    let slow = tokio::spawn(async move { slow.refresh(key, Duration::from_secs(120)).await });
    while setting.provider.on_the_wire() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let other = setting.another_engine();
    let waiting = tokio::spawn(async move { other.refresh(key, Duration::from_secs(120)).await });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(setting.provider.presented(), ["refresh-1"], "nobody takes over from one who lives");
    setting.provider.wire.add_permits(100);
    slow.await.unwrap().unwrap();
    waiting.await.unwrap().unwrap();
    assert_eq!(setting.provider.presented(), ["refresh-1", "refresh-2"]);
}

#[tokio::test(start_paused = true)]
async fn where_nothing_rotates_an_older_answer_does_not_take_the_place_of_a_newer_one() {
    let setting = Setting::new();
    setting.provider.stop_rotating();
    let key = setting.signed_in().await.key();
    setting.provider.next_userinfo_act(Act::Hold);
    let slow = spawn_refresh(&setting, key);
    while setting.provider.presented().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The clock of the other engine is far ahead: to it, the lease is dead at once.
    setting.clock.advance(Duration::from_secs(100));
    let (session, _) = setting.another_engine().refresh(key, DEADLINE).await.unwrap();
    assert_eq!(session.access_token().expose(), "access-3");
    setting.provider.release();
    // The slow one has `access-2` in its hands. It throws that away and asks again: its caller wants what is new.
    let (session, _) = slow.await.unwrap().unwrap();
    assert_eq!(session.access_token().expose(), "access-4");
}

#[tokio::test(start_paused = true)]
async fn a_flight_that_was_taken_for_dead_still_saves_what_it_brings() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let slow = setting.engine.clone();
    let slow = tokio::spawn(async move { slow.refresh(key, Duration::from_secs(120)).await });
    while setting.provider.on_the_wire() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // The clock of the other engine is far ahead: to it, the lease is dead at once.
    setting.clock.advance(Duration::from_secs(100));
    let other = setting.another_engine();
    let other = tokio::spawn(async move { other.refresh(key, Duration::from_secs(120)).await });
    while setting.provider.on_the_wire() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(setting.provider.presented(), ["refresh-1", "refresh-1"]);
    // The first is answered, and the second refused: the token was used. Neither may end the session.
    setting.provider.wire.add_permits(100);
    slow.await.unwrap().unwrap();
    let (session, _) = other.await.unwrap().unwrap();
    assert_eq!(session.access_token().expose(), "access-3", "from the token that the first had saved");
    assert_eq!(setting.provider.presented(), ["refresh-1", "refresh-1", "refresh-2"]);
}
