//! Whoever may hold something of a session is told of each change once, although nothing of the session is in memory.

use std::{sync::Arc, time::Duration};

use freshgate::{
    Engine,
    engine::Opened,
    events::SessionEvent,
    session::{SessionKey, SessionPolicy},
    store::{MemoryStore, Store},
};
use serde_json::json;
use tokio::{sync::broadcast::Receiver, task::JoinHandle, time::sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    faulty_store::{Fault, FaultyStore, Operation},
    provider::Act,
    setting::{DEADLINE, Setting},
};

/// Time is tokio's, paused: by then everything that is under way has happened.
const A_WHILE: Duration = Duration::from_secs(1);

fn noting_use(engine: &Engine) -> DropGuard {
    let stop = CancellationToken::new();
    tokio::spawn(engine.clone().refresh_ahead(stop.clone()));
    stop.drop_guard()
}

/// The user is there, and what the engine does about that is done.
async fn used(engine: &Engine, key: SessionKey) {
    assert!(matches!(engine.open(key).await.unwrap(), Opened::Open(_)));
    engine.used(key);
    sleep(A_WHILE).await;
}

/// Empties the memory of the engine, as it does when it begins to follow its neighbours. It follows from then on.
async fn empty_memory(engine: &Engine) -> DropGuard {
    let stop = CancellationToken::new();
    let mut events = engine.events();
    tokio::spawn(engine.clone().watch_neighbours(stop.clone()));
    assert!(matches!(events.recv().await, Ok(SessionEvent::Missed)));
    stop.drop_guard()
}

/// The answer to the next refresh says nothing new, unless userinfo does.
fn same_claims(setting: &Setting) {
    setting.provider.next_token_act(Act::NoIdToken);
}

/// A refresh that has saved the rotated token and waits for userinfo: what is left is the commit.
async fn about_to_commit(setting: &Setting, key: SessionKey) -> JoinHandle<()> {
    same_claims(setting);
    setting.provider.next_userinfo_act(Act::Hold);
    let engine = setting.engine.clone();
    let refresh = tokio::spawn(async move {
        engine.refresh(key, DEADLINE).await.unwrap();
    });
    sleep(A_WHILE).await;
    assert!(!refresh.is_finished());
    refresh
}

/// What was told of changes: generations, and whether claims changed.
async fn told(events: &mut Receiver<SessionEvent>, of: SessionKey) -> Vec<(u64, bool)> {
    sleep(5 * A_WHILE).await;
    let mut told = Vec::new();
    while let Ok(event) = events.try_recv() {
        match event {
            SessionEvent::Changed { key, generation, claims_changed } if key == of => {
                told.push((generation, claims_changed));
            }
            SessionEvent::Changed { .. } | SessionEvent::Missed => {}
            SessionEvent::Ended { key, reason } => panic!("{key:?} ended: {reason:?}"),
        }
    }
    told
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_although_the_session_was_evicted() {
    for (name, claims_changed) in [("Alice", false), ("Alice Cooper", true)] {
        let setting = Setting::in_tokio_time();
        let _noting = noting_use(&setting.engine);
        let key = setting.signed_in().await.key();
        used(&setting.engine, key).await;
        let mut events = setting.engine.events();
        setting.provider.set_claim("name", json!(name));
        let refresh = about_to_commit(&setting, key).await;
        let _following = empty_memory(&setting.engine).await;
        setting.provider.release();
        refresh.await.unwrap();
        assert_eq!(told(&mut events, key).await, [(2, claims_changed)], "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_although_the_store_said_that_it_failed() {
    let store = FaultyStore::on(Arc::new(MemoryStore::new()));
    let setting = Setting::on(store.clone());
    let _noting = noting_use(&setting.engine);
    let key = setting.signed_in().await.key();
    used(&setting.engine, key).await;
    let mut events = setting.engine.events();
    let refresh = about_to_commit(&setting, key).await;
    store.next(Operation::Replace, Fault::FailsAfterwards);
    setting.provider.release();
    refresh.await.unwrap();
    assert_eq!(told(&mut events, key).await, [(2, true)], "what changed is unknown: it may be the claims");
    same_claims(&setting);
    setting.engine.refresh(key, DEADLINE).await.unwrap();
    assert_eq!(told(&mut events, key).await, [(3, false)], "and of the next it is known again");
}

#[tokio::test(start_paused = true)]
async fn a_change_by_a_neighbour_is_told_where_the_session_is_active_and_not_in_memory() {
    for refresh_ahead in [true, false] {
        let setting = Setting::in_tokio_time();
        let store: Arc<dyn Store> = setting.store.clone();
        let policy = SessionPolicy { refresh_ahead, ..SessionPolicy::default() };
        let follower = setting.another_engine_living_by(&store, policy);
        let _noting = noting_use(&follower);
        let (key, unused) = (setting.signed_in().await.key(), setting.signed_in().await.key());
        used(&follower, key).await;
        follower.open(unused).await.unwrap();
        let _following = empty_memory(&follower).await;
        let mut events = follower.events();
        setting.engine.refresh(key, DEADLINE).await.unwrap();
        setting.engine.refresh(unused, DEADLINE).await.unwrap();
        assert_eq!(told(&mut events, key).await, [(2, true)], "ahead: {refresh_ahead}");
        same_claims(&setting);
        setting.engine.refresh(key, DEADLINE).await.unwrap();
        assert_eq!(told(&mut events, key).await, [(3, false)], "ahead: {refresh_ahead}");
        assert!(setting.provider.presented().len() == 3, "the follower asked nobody");
    }
}

#[tokio::test(start_paused = true)]
async fn without_refreshes_ahead_an_active_session_is_known_and_left_alone() {
    let policy = SessionPolicy { refresh_ahead: false, ..SessionPolicy::default() };
    let setting = Setting::with_policy(policy.clone());
    let _noting = noting_use(&setting.engine);
    let key = setting.signed_in().await.key();
    setting.engine.used(key);
    sleep(policy.active_for / 2).await;
    assert_eq!(setting.engine.active_sessions(), 1);
    sleep(2 * policy.active_for).await;
    assert_eq!(setting.engine.active_sessions(), 0, "and idle, it is forgotten");
    assert!(setting.provider.presented().is_empty());
}
