//! Sessions that nobody uses end. Time is tokio's, paused: it passes when nothing else happens.

use std::{sync::Arc, time::Duration};

use freshgate::{
    Engine,
    engine::{Known, Opened, RefreshError},
    events::SessionEvent,
    session::{EndReason, SessionKey, SessionPolicy},
    store::{Change, SqliteStore},
};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::setting::{DEADLINE, Setting};

const MINUTE: Duration = Duration::from_secs(60);
const IDLE: Duration = Duration::from_secs(1800);

fn policy(idle_timeout: Duration) -> SessionPolicy {
    SessionPolicy { idle_timeout: Some(idle_timeout), ..SessionPolicy::default() }
}

async fn is_open(engine: &Engine, key: SessionKey) -> bool {
    match engine.open(key).await.unwrap() {
        Opened::Open(_) => true,
        Opened::Ended(EndReason::Idle) => false,
        other => panic!("{other:?}"),
    }
}

/// What requests do: open, then use. Lets the write of the use happen.
async fn request(engine: &Engine, key: SessionKey) -> bool {
    let open = is_open(engine, key).await;
    if open {
        engine.used(key);
        sleep(Duration::from_millis(10)).await;
    }
    open
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_uses_ends_neither_early_nor_much_later() {
    for idle in [Duration::from_secs(10), MINUTE, IDLE, 24 * 60 * MINUTE] {
        let setting = Setting::with_policy(policy(idle));
        let key = setting.signed_in().await.key();
        // Used a while after the login, and shortly after that: the second time is not written.
        sleep(idle / 2).await;
        assert!(request(&setting.engine, key).await);
        sleep((idle / 11).min(MINUTE - Duration::from_secs(1))).await;
        let last_used = Instant::now();
        assert!(request(&setting.engine, key).await);
        let mut events = setting.engine.events();
        sleep(idle - last_used.elapsed() - Duration::from_millis(1)).await;
        assert!(is_open(&setting.engine, key).await, "{idle:?}: not early");
        sleep((idle / 10).min(MINUTE) + Duration::from_millis(1)).await;
        assert!(!is_open(&setting.engine, key).await, "{idle:?}: not much later");
        let told = events.try_recv().unwrap();
        assert!(matches!(told, SessionEvent::Ended { reason: EndReason::Idle, .. }), "{told:?}");
        assert!(events.try_recv().is_err(), "once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_used_lives_on_for_a_write_a_minute() {
    let setting = Setting::with_policy(policy(IDLE));
    let key = setting.signed_in().await.key();
    let before = setting.store.changes_since(None).await.unwrap().position;
    let started = Instant::now();
    while started.elapsed() < 3 * IDLE {
        // A page and all that belongs to it, several times a minute.
        for _ in 0..20 {
            setting.engine.used(key);
        }
        assert!(request(&setting.engine, key).await);
        sleep(Duration::from_secs(7)).await;
    }
    let changes = setting.store.changes_since(Some(before)).await.unwrap().list;
    assert!(changes.iter().all(|change| matches!(change, Change::Written(..))));
    let minutes = usize::try_from(started.elapsed().as_secs() / 60).unwrap();
    assert!((minutes * 8 / 10..=minutes + 1).contains(&changes.len()), "{} in {minutes}", changes.len());
}

#[tokio::test(start_paused = true)]
async fn without_an_idle_timeout_use_costs_nothing_and_ends_nothing() {
    let setting = Setting::in_tokio_time();
    let key = setting.signed_in().await.key();
    let before = setting.store.changes_since(None).await.unwrap().position;
    for _ in 0..10 {
        sleep(24 * 60 * MINUTE).await;
        assert!(request(&setting.engine, key).await);
    }
    assert_eq!(setting.store.changes_since(Some(before)).await.unwrap().list, []);
}

#[tokio::test(start_paused = true)]
async fn an_open_page_and_an_app_that_reads_its_token_are_no_use() {
    let setting = Setting::with_policy(policy(IDLE));
    let stop = CancellationToken::new();
    tokio::spawn(setting.engine.clone().refresh_ahead(stop.clone()));
    let key = setting.signed_in().await.key();
    let _page = setting.engine.hold(key);
    let started = Instant::now();
    let ended = loop {
        match setting.engine.fresh(key, None, DEADLINE).await {
            Ok(_) => sleep(MINUTE).await,
            Err(RefreshError::SignInAgain(reason)) => break reason,
            Err(other) => panic!("{other:?}"),
        }
    };
    assert_eq!(ended, EndReason::Idle);
    assert!((IDLE..=IDLE + 3 * MINUTE).contains(&started.elapsed()), "{:?}", started.elapsed());
    let refreshes = setting.provider.presented().len();
    assert!(refreshes >= 5, "it was kept fresh as long as it lived: {refreshes}");
    sleep(IDLE).await;
    assert_eq!(setting.provider.presented().len(), refreshes, "and no longer");
    stop.cancel();
}

#[tokio::test(start_paused = true)]
async fn a_refresh_of_an_idle_session_ends_it_and_asks_nobody() {
    let setting = Setting::with_policy(policy(IDLE));
    let key = setting.signed_in().await.key();
    sleep(IDLE + MINUTE).await;
    let refreshed = setting.engine.refresh(key, DEADLINE).await;
    assert!(matches!(refreshed, Err(RefreshError::SignInAgain(EndReason::Idle))), "{refreshed:?}");
    assert!(setting.provider.presented().is_empty());
}

#[tokio::test]
async fn a_use_on_one_engine_holds_on_all_of_them_and_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let setting = Setting::on(Arc::new(SqliteStore::open(&path).unwrap())).restarted_with(policy(IDLE));
    let key = setting.signed_in().await.key();
    let store = || Arc::new(SqliteStore::open(&path).unwrap()) as Arc<dyn freshgate::store::Store>;
    let other = setting.another_engine_living_by(&store(), policy(IDLE));
    // It has the session in memory from now on, and follows nobody.
    assert!(is_open(&other, key).await);
    for _ in 0..4 {
        setting.clock.advance(IDLE - 3 * MINUTE);
        assert!(is_open(&setting.engine, key).await);
        setting.engine.used(key);
        setting.engine.finish().await;
        setting.clock.advance(2 * MINUTE);
        assert!(is_open(&other, key).await, "what it remembers is older than what the store knows");
    }
    let restarted = setting.another_engine_living_by(&store(), policy(IDLE));
    setting.clock.advance(IDLE - 2 * MINUTE);
    assert!(is_open(&restarted, key).await);
    setting.clock.advance(MINUTE);
    assert!(!is_open(&restarted, key).await);
    assert!(!is_open(&setting.engine, key).await, "and to all of them when it is over");
}

#[tokio::test(start_paused = true)]
async fn sessions_from_before_the_idle_timeout_count_from_now_on() {
    let setting = Setting::in_tokio_time();
    let key = setting.signed_in().await.key();
    sleep(100 * IDLE).await;
    let setting = setting.restarted_with(policy(IDLE));
    // Looked at, not used.
    assert!(is_open(&setting.engine, key).await);
    sleep(IDLE - MINUTE).await;
    assert!(is_open(&setting.engine, key).await);
    sleep(2 * MINUTE).await;
    assert!(!is_open(&setting.engine, key).await);
}

#[tokio::test(start_paused = true)]
async fn an_idle_timeout_that_was_away_does_not_count_from_long_ago() {
    let setting = Setting::with_policy(policy(IDLE));
    let key = setting.signed_in().await.key();
    let setting = setting.restarted_with(SessionPolicy::default());
    sleep(100 * IDLE).await;
    setting.engine.refresh(key, DEADLINE).await.unwrap();
    let setting = setting.restarted_with(policy(IDLE));
    assert!(is_open(&setting.engine, key).await);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_under_way_does_not_forget_a_use() {
    let setting = Setting::with_policy(policy(IDLE));
    let key = setting.signed_in().await.key();
    sleep(IDLE - MINUTE).await;
    setting.provider.wire.forget_permits(usize::MAX);
    let engine = setting.engine.clone();
    let refresh = tokio::spawn(async move { engine.refresh(key, DEADLINE).await });
    sleep(Duration::from_millis(100)).await;
    assert_eq!(setting.provider.on_the_wire(), 1);
    assert!(request(&setting.engine, key).await);
    setting.provider.wire.add_permits(1);
    refresh.await.unwrap().unwrap();
    sleep(IDLE - MINUTE).await;
    assert!(is_open(&setting.engine, key).await, "used and refreshed");
    let session = setting.open(key).await;
    assert_eq!(session.tokens().access_token.expose(), "access-2");
}

#[tokio::test(start_paused = true)]
async fn a_session_in_use_keeps_the_lease_of_its_refresh() {
    let short = policy(Duration::from_secs(10));
    let setting = Setting::with_policy(short.clone());
    let other = setting.another_engine_living_by(&setting.store, short);
    let key = setting.signed_in().await.key();
    setting.provider.wire.forget_permits(usize::MAX);
    let refreshes = [&setting.engine, &other].map(|engine| {
        let engine = engine.clone();
        tokio::spawn(async move { engine.refresh(key, 2 * MINUTE).await })
    });
    // Each use is a write to the session between two renewals of the lease.
    for _ in 0..120 {
        assert!(request(&setting.engine, key).await);
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(setting.provider.presented(), ["refresh-1"], "nobody takes over from one who lives");
    setting.provider.wire.add_permits(10);
    for refresh in refreshes {
        refresh.await.unwrap().unwrap();
    }
    assert_eq!(setting.provider.presented(), ["refresh-1", "refresh-2"]);
}

#[tokio::test(start_paused = true)]
async fn a_report_tells_that_a_session_is_over_before_anybody_looks() {
    let setting = Setting::with_policy(policy(IDLE));
    setting.signed_in().await;
    sleep(IDLE + 2 * MINUTE).await;
    let reports = setting.engine.reports(None, 10).await.unwrap();
    let ended = reports[0].ended.expect("it is over");
    assert_eq!((ended.reason, ended.ended_at), (EndReason::Idle, setting.now() - MINUTE));
    assert!(matches!(reports[0].known, Known::All(_)));
}
