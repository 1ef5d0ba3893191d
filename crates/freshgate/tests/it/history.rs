use std::{sync::Arc, time::Duration};

use freshgate::{
    Engine,
    clock::SystemEntropy,
    engine::{EngineParts, HistoryEvent, Known, RefreshError, SessionFacts, SessionReport},
    keyring::Keyring,
    provider::{LostAnswer, Refreshing},
    session::{EndReason, SessionKey, SessionPolicy},
};
use freshgate_oidc::Secret;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::{
    provider::Act,
    setting::{DEADLINE, Setting, engine_of, sign_in, until},
};

async fn report(setting: &Setting, key: SessionKey) -> SessionReport {
    let page = setting.engine.reports(None, 100).await.unwrap();
    page.into_iter().find(|report| report.key == key).expect("the session is there")
}

fn facts(report: &SessionReport) -> &SessionFacts {
    match &report.known {
        Known::All(facts) => facts,
        other => panic!("not known: {other:?}"),
    }
}

fn events(facts: &SessionFacts) -> Vec<(HistoryEvent, u32)> {
    facts.history.iter().map(|entry| (entry.what.clone(), entry.attempts)).collect()
}

fn failed(code: &str) -> HistoryEvent {
    HistoryEvent::RefreshFailed(code.to_owned())
}

#[tokio::test]
async fn a_session_and_what_is_left_of_it_tell_what_happened() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.engine.refresh(key, DEADLINE).await.unwrap();
    setting.provider.next_token_act(Act::NotReached);
    setting.engine.refresh(key, DEADLINE).await.unwrap_err();

    let live = report(&setting, key).await;
    let expected =
        [(HistoryEvent::SignedIn, 1), (HistoryEvent::Refreshed, 1), (failed("provider_unreachable"), 1)];
    assert!(live.ended.is_none());
    assert_eq!(events(facts(&live)), expected);
    assert_eq!(facts(&live).user, "alice@example.test");
    assert_eq!(facts(&live).last_refresh().unwrap().what, failed("provider_unreachable"));
    let more = facts(&live).live.as_ref().unwrap();
    assert_eq!((more.failures, more.answers_lost), (1, 0));
    assert_eq!(more.access_token_bytes, "access-2".len());
    assert_eq!(more.refresh_token_bytes, Some("refresh-2".len()));

    setting.engine.end(key, EndReason::Operator).await.unwrap();
    let ended = report(&setting, key).await;
    assert_eq!(ended.ended.unwrap().reason, EndReason::Operator);
    assert_eq!(events(facts(&ended)), expected);
    assert_eq!((facts(&ended).user.as_str(), facts(&ended).generation), ("alice@example.test", 2));
    assert!(facts(&ended).live.is_none());

    for shown in [format!("{live:?}"), format!("{ended:?}")] {
        for token in ["access-1", "access-2", "refresh-1", "refresh-2"] {
            assert!(!shown.contains(token), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_refusal_is_the_last_thing_that_happened() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.next_token_act(Act::Status(400, "", json!({"error": "invalid_grant"})));
    setting.engine.refresh(key, DEADLINE).await.unwrap_err();
    let ended = report(&setting, key).await;
    assert_eq!(ended.ended.unwrap().reason, EndReason::Refused);
    assert_eq!(events(facts(&ended)), [(HistoryEvent::SignedIn, 1), (failed("refused"), 1)]);
}

#[tokio::test]
async fn a_lost_answer_shows_as_a_second_request() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.next_token_act(Act::LoseAnswer);
    let _ = setting.engine.refresh(key, DEADLINE).await;
    let report = report(&setting, key).await;
    assert_eq!(facts(&report).last_refresh().unwrap().attempts, 2);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_nobody_finished_shows_as_abandoned() {
    let setting = Setting::new();
    let refreshing = Refreshing { lost_answer: Some(LostAnswer::SignInAgain), ..Refreshing::default() };
    let engine =
        || engine_of(setting.clock.clone(), setting.provider.clone(), setting.store.clone(), refreshing);
    let (killed, other) = (engine(), engine());
    let key = sign_in(&killed, &setting.provider).await.key();
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let refresh = tokio::spawn(async move { killed.refresh(key, DEADLINE).await });
    until("the request is on the wire", || setting.provider.on_the_wire() == 1).await;
    // By now its lease is over by any clock.
    setting.clock.advance(Duration::from_secs(100));

    let answer = other.refresh(key, DEADLINE).await;

    assert!(matches!(answer, Err(RefreshError::SignInAgain(EndReason::OutcomeUnknown))), "{answer:?}");
    let ended = report(&setting, key).await;
    let expected = [(HistoryEvent::SignedIn, 1), (failed("abandoned"), 1), (failed("outcome_unknown"), 0)];
    assert_eq!(events(facts(&ended)), expected);
    assert_eq!(facts(&ended).history[1].millis, 100_000);
    refresh.abort();
}

#[tokio::test]
async fn what_is_left_stays_for_as_long_as_the_policy_says() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.engine.end(key, EndReason::Logout).await.unwrap();
    let kept = SessionPolicy::default().ended_kept;
    assert!(kept >= Duration::from_secs(7 * 24 * 3600));
    setting.clock.advance(kept - Duration::from_secs(1));
    assert_eq!(setting.store.sweep(setting.engine.clock().now(), 10).await.unwrap(), 0);
    assert_eq!(report(&setting, key).await.ended.unwrap().reason, EndReason::Logout);
    setting.clock.advance(Duration::from_secs(1));
    assert_eq!(setting.store.sweep(setting.engine.clock().now(), 10).await.unwrap(), 1);
}

#[tokio::test]
async fn a_session_whose_lifetime_is_over_shows_as_ended() {
    let setting = Setting::new();
    let session = setting.signed_in().await;
    setting.clock.advance(SessionPolicy::default().absolute_lifetime);
    let ended = report(&setting, session.key()).await.ended.expect("it is over");
    assert_eq!((ended.reason, ended.ended_at), (EndReason::Lifetime, session.ends_at()));
}

#[tokio::test]
async fn another_keyring_reads_nothing_and_can_end_all_the_same() {
    let setting = Setting::new();
    let (live, ended) = (setting.signed_in().await.key(), setting.signed_in().await.key());
    setting.engine.end(ended, EndReason::Logout).await.unwrap();
    let stranger = Engine::new(EngineParts {
        store: setting.store.clone(),
        keyring: Arc::new(Keyring::from_secret(&Secret::new("another secret, just as long as it"))),
        clock: setting.clock.clone(),
        entropy: Arc::new(SystemEntropy),
        providers: Vec::new(),
        policy: SessionPolicy::default(),
    });
    let reports = stranger.reports(None, 10).await.unwrap();
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(|report| matches!(report.known, Known::Unreadable)), "{reports:?}");
    stranger.end(live, EndReason::Operator).await.unwrap();
    assert_eq!(report(&setting, live).await.ended.unwrap().reason, EndReason::Operator);
}
