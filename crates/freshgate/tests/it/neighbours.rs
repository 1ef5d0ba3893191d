use std::{sync::Arc, time::Duration};

use freshgate::{
    Engine,
    engine::Opened,
    events::SessionEvent,
    session::EndReason,
    store::{Found, Replaced, SqliteStore, Store},
};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;

use crate::{
    faulty_store::{
        Fault::{AnsweredLate, Fails},
        FaultyStore,
        Operation::{End, Read},
    },
    setting::{DEADLINE, Setting, until},
};

/// Two engines, each with its own handle on one SQLite file, as two gates of one machine have.
async fn two_gates(folder: &std::path::Path) -> (Setting, Engine) {
    let path = folder.join("sessions.db");
    let setting = Setting::on(Arc::new(SqliteStore::open(&path).unwrap()));
    let other: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).unwrap());
    let other = setting.another_engine_on(&other);
    for engine in [&setting.engine, &other] {
        tokio::spawn(engine.clone().watch_neighbours(CancellationToken::new()));
    }
    // The other gate follows from some moment on: it does when it hears of an end.
    let mut events = other.events();
    loop {
        let key = setting.signed_in().await.key();
        other.open(key).await.unwrap();
        setting.engine.end(key, EndReason::Operator).await.unwrap();
        let heard = async { while !matches!(events.recv().await, Ok(SessionEvent::Ended { .. })) {} };
        if tokio::time::timeout(Duration::from_millis(500), heard).await.is_ok() {
            break;
        }
    }
    (setting, other)
}

async fn next(events: &mut Receiver<SessionEvent>) -> SessionEvent {
    tokio::time::timeout(Duration::from_secs(10), events.recv()).await.expect("an event in time").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gate_ends_is_over_on_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (setting, other) = two_gates(folder.path()).await;
    let key = setting.signed_in().await.key();
    assert!(matches!(other.open(key).await.unwrap(), Opened::Open(_)), "and it is in its memory now");
    let mut events = other.events();
    setting.engine.end(key, EndReason::Logout).await.unwrap();
    loop {
        match next(&mut events).await {
            SessionEvent::Ended { key: ended, reason } => {
                assert_eq!((ended, reason), (key, EndReason::Logout));
                break;
            }
            // Of the login, if it was told late.
            SessionEvent::Changed { .. } => {}
            SessionEvent::Missed => panic!("nothing was missed"),
        }
    }
    assert!(matches!(other.open(key).await.unwrap(), Opened::Ended(EndReason::Logout)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_gate_refreshes_is_seen_and_told_by_the_other() {
    let folder = tempfile::tempdir().unwrap();
    let (setting, other) = two_gates(folder.path()).await;
    let key = setting.signed_in().await.key();
    assert!(matches!(other.open(key).await.unwrap(), Opened::Open(_)), "and it is in its memory now");
    let mut events = other.events();
    setting.provider.set_claim("name", json!("Alice Cooper"));
    let (refreshed, _) = setting.engine.refresh(key, DEADLINE).await.unwrap();
    loop {
        if let SessionEvent::Changed { generation: 2, claims_changed, .. } = next(&mut events).await {
            assert!(claims_changed);
            break;
        }
    }
    let Opened::Open(session) = other.open(key).await.unwrap() else { panic!("not open") };
    assert_eq!(session.claims()["name"], "Alice Cooper");
    assert_eq!(session.tokens().access_token, *refreshed.access_token());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gates_on_one_file_send_one_request_at_a_time() {
    let folder = tempfile::tempdir().unwrap();
    let (setting, other) = two_gates(folder.path()).await;
    let key = setting.signed_in().await.key();
    let engines = [setting.engine.clone(), other];
    let callers: Vec<_> = (0..20)
        .map(|number| {
            let engine = engines[number % 2].clone();
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
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_a_refresh_runs_into_is_told_like_any_other() {
    let setting = Setting::new();
    let other = setting.another_engine();
    let key = setting.signed_in().await.key();
    assert!(matches!(other.open(key).await.unwrap(), Opened::Open(_)), "and it is in its memory now");
    let mut events = other.events();
    setting.engine.end(key, EndReason::Logout).await.unwrap();
    other.refresh(key, DEADLINE).await.unwrap_err();
    assert!(matches!(events.try_recv(), Ok(SessionEvent::Ended { reason: EndReason::Logout, .. })));
    assert!(events.try_recv().is_err(), "once");
}

/// An engine that follows what the setting's own writes, through a store that does as the test wants.
async fn a_follower(setting: &Setting) -> (Engine, Arc<FaultyStore>) {
    let store = FaultyStore::on(setting.store.clone());
    let follower = setting.another_engine_on(&(store.clone() as Arc<dyn Store>));
    tokio::spawn(follower.clone().watch_neighbours(CancellationToken::new()));
    follows(setting, &follower).await;
    (follower, store)
}

/// Returns once the follower has seen all that was written before.
async fn follows(setting: &Setting, follower: &Engine) {
    loop {
        let mut events = follower.events();
        let key = setting.signed_in().await.key();
        setting.engine.end(key, EndReason::Operator).await.unwrap();
        let heard = async {
            while !matches!(events.recv().await, Ok(SessionEvent::Ended { key: ended, .. }) if ended == key) {
            }
        };
        if tokio::time::timeout(Duration::from_millis(500), heard).await.is_ok() {
            return;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_read_before_another_gate_wrote_is_not_kept() {
    let setting = Setting::new();
    let (follower, store) = a_follower(&setting).await;
    let key = setting.signed_in().await.key();
    store.next(Read, AnsweredLate);
    let reader = tokio::spawn({
        let follower = follower.clone();
        async move { follower.open(key).await }
    });
    until("the old row is on its way", || store.waiting() == 1).await;
    setting.engine.refresh(key, DEADLINE).await.unwrap();
    follows(&setting, &follower).await;
    store.release();
    for opened in [reader.await.unwrap().unwrap(), follower.open(key).await.unwrap()] {
        let Opened::Open(session) = opened else { panic!("not open: {opened:?}") };
        assert_eq!(session.generation(), 2, "the new row is known, and nothing older is served");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_cannot_be_read_hides_no_other() {
    let setting = Setting::new();
    let (follower, store) = a_follower(&setting).await;
    let (damaged, ended) = (setting.signed_in().await.key(), setting.signed_in().await.key());
    for key in [damaged, ended] {
        assert!(matches!(follower.open(key).await.unwrap(), Opened::Open(_)), "and it is in its memory now");
    }
    store.damage(damaged);
    let mut events = follower.events();

    setting.engine.refresh(damaged, DEADLINE).await.unwrap();
    setting.engine.end(ended, EndReason::Logout).await.unwrap();

    let told = next(&mut events).await;
    assert!(matches!(told, SessionEvent::Ended { key, .. } if key == ended), "{told:?}");
    assert!(matches!(follower.open(ended).await.unwrap(), Opened::Ended(EndReason::Logout)));
    follower.open(damaged).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_row_that_was_read_before_all_was_forgotten_is_not_kept() {
    let setting = Setting::new();
    let store = FaultyStore::on(setting.store.clone());
    let other = setting.another_engine_on(&(store.clone() as Arc<dyn Store>));
    let key = setting.signed_in().await.key();
    store.next(Read, AnsweredLate);
    let reader = tokio::spawn({
        let other = other.clone();
        async move { other.open(key).await }
    });
    until("the old row is on its way", || store.waiting() == 1).await;
    setting.engine.refresh(key, DEADLINE).await.unwrap();
    // It follows from here on, and hears nothing of what was before.
    tokio::spawn(other.clone().watch_neighbours(CancellationToken::new()));
    follows(&setting, &other).await;
    store.release();
    reader.await.unwrap().unwrap();
    let opened = other.open(key).await.unwrap();
    assert!(matches!(&opened, Opened::Open(session) if session.generation() == 2), "{opened:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_brings_no_ended_session_back() {
    let setting = Setting::new();
    let store = FaultyStore::on(setting.store.clone());
    let engine = setting.another_engine_on(&(store.clone() as Arc<dyn Store>));
    let key = setting.signed_in().await.key();
    store.next(Read, AnsweredLate);
    let reader = tokio::spawn({
        let engine = engine.clone();
        async move { engine.open(key).await }
    });
    until("the old row is on its way", || store.waiting() == 1).await;
    engine.end(key, EndReason::Logout).await.unwrap();
    store.next(End, Fails);
    engine.end(key, EndReason::Operator).await.unwrap_err();
    store.release();
    for opened in [reader.await.unwrap().unwrap(), engine.open(key).await.unwrap()] {
        assert!(matches!(opened, Opened::Ended(EndReason::Logout)), "{opened:?}");
    }
}

/// More changes than the store can tell of, before the follower asks again.
async fn write_more_than_is_told_of(setting: &Setting) {
    let key = setting.signed_in().await.key();
    let Found::Live(row, mut revision) = setting.store.read(key).await.unwrap() else {
        panic!("it is not there")
    };
    for _ in 0..20_000 {
        let Replaced::Done(next) = setting.store.replace(key, revision, row.clone()).await.unwrap() else {
            panic!("nobody else writes it")
        };
        revision = next;
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_holds_anything_is_told_that_changes_were_missed() {
    for holds_any in [true, false] {
        let setting = Setting::new();
        let (follower, _store) = a_follower(&setting).await;
        let key = setting.signed_in().await.key();
        // What it began with is forgotten.
        write_more_than_is_told_of(&setting).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        if holds_any {
            follower.open(key).await.unwrap();
        }
        let mut events = follower.events();
        setting.engine.end(key, EndReason::Logout).await.unwrap();
        write_more_than_is_told_of(&setting).await;
        tokio::time::sleep(Duration::from_secs(1)).await;

        let told = events.try_recv().ok();
        assert_eq!(matches!(told, Some(SessionEvent::Missed)), holds_any, "{told:?}");
        let opened = follower.open(key).await.unwrap();
        assert!(matches!(opened, Opened::Ended(EndReason::Logout)), "what it held is forgotten: {opened:?}");
    }
}
