use std::{sync::Arc, time::Duration};

use freshgate::{
    Engine,
    engine::Opened,
    events::SessionEvent,
    session::EndReason,
    store::{SqliteStore, Store},
};
use serde_json::json;
use tokio::sync::broadcast::Receiver;
use tokio_util::sync::CancellationToken;

use crate::setting::{DEADLINE, Setting};

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
