//! Sessions end when their time is over, although nobody looks. Time is tokio's, paused: it passes when nothing else
//! happens.

use std::time::Duration;

use freshgate::{
    Engine,
    engine::{HistoryEvent, Known, Opened},
    events::SessionEvent,
    session::{EndReason, OpenSession, SessionPolicy},
    store::{Found, Row},
};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::setting::{DEADLINE, Setting};

fn keeping_house(engine: &Engine) -> DropGuard {
    let stop = CancellationToken::new();
    tokio::spawn(engine.clone().keep_house(stop.clone()));
    stop.drop_guard()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Until a second before the session ends.
async fn nearly_the_end_of(session: &OpenSession, setting: &Setting) {
    sleep(session.ends_at().saturating_since(setting.now()) - seconds(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_uses_ends_like_any_other_when_its_time_is_over() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counted_here = metrics::set_default_local_recorder(&recorder);
    let setting = Setting::in_tokio_time();
    let _house = keeping_house(&setting.engine);
    let session = setting.signed_in().await;
    setting.engine.refresh(session.key(), DEADLINE).await.unwrap();
    nearly_the_end_of(&session, &setting).await;
    let mut events = setting.engine.events();
    assert!(matches!(setting.engine.open(session.key()).await.unwrap(), Opened::Open(_)));

    sleep(seconds(2)).await;
    let told = events.try_recv();
    assert!(
        matches!(&told, Ok(SessionEvent::Ended { key, reason: EndReason::Lifetime }) if *key == session.key()),
        "{told:?}"
    );
    let reports = setting.engine.reports(None, 10).await.unwrap();
    let [report] = reports.as_slice() else { panic!("something is left of it: {reports:?}") };
    let ended = report.ended.expect("it ended");
    assert_eq!(ended.reason, EndReason::Lifetime);
    assert!(ended.ended_at.saturating_since(session.ends_at()) < seconds(1), "at its moment: {ended:?}");
    let Known::All(facts) = &report.known else { panic!("nothing is known: {report:?}") };
    assert_eq!(facts.user, "alice@example.test");
    assert_eq!(facts.history.back().map(|entry| &entry.what), Some(&HistoryEvent::Refreshed));
    let figures = recorder.handle().render();
    assert!(figures.contains(r#"freshgate_sessions_ended_total{reason="lifetime"} 1"#), "{figures}");

    // What is left of it is forgotten like that of any other.
    sleep(SessionPolicy::default().ended_kept + seconds(120)).await;
    assert!(setting.engine.reports(None, 10).await.unwrap().is_empty());
    assert!(events.try_recv().is_err(), "once");
}

#[tokio::test(start_paused = true)]
async fn what_ended_while_no_gate_ran_ends_at_the_start_however_much_it_is() {
    const SESSIONS: usize = 1200;
    let setting = Setting::in_tokio_time();
    let mut keys = Vec::new();
    for _ in 0..SESSIONS {
        keys.push(setting.signed_in().await.key());
    }
    sleep(SessionPolicy::default().absolute_lifetime).await;
    let gate = setting.another_engine();
    let mut events = gate.events();
    let _house = keeping_house(&gate);
    sleep(seconds(1)).await;
    let mut told = 0;
    while let Ok(event) = events.try_recv() {
        assert!(matches!(event, SessionEvent::Ended { reason: EndReason::Lifetime, .. }), "{event:?}");
        told += 1;
    }
    assert_eq!(told, SESSIONS, "each once");
    for key in keys {
        assert!(matches!(setting.store.read(key).await.unwrap(), Found::Ended(_)));
    }
}

#[tokio::test(start_paused = true)]
async fn gates_that_share_a_store_end_a_session_once() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let _counted_here = metrics::set_default_local_recorder(&recorder);
    let setting = Setting::in_tokio_time();
    let other = setting.another_engine();
    let _houses = [keeping_house(&setting.engine), keeping_house(&other)];
    let session = setting.signed_in().await;
    nearly_the_end_of(&session, &setting).await;
    let mut events = [setting.engine.events(), other.events()];
    sleep(seconds(2)).await;
    for events in &mut events {
        assert!(matches!(events.try_recv(), Ok(SessionEvent::Ended { reason: EndReason::Lifetime, .. })));
        assert!(events.try_recv().is_err(), "each gate tells of it once");
    }
    let figures = recorder.handle().render();
    assert!(figures.contains(r#"freshgate_sessions_ended_total{reason="lifetime"} 1"#), "{figures}");
}

#[tokio::test(start_paused = true)]
async fn what_ended_for_another_reason_keeps_it() {
    let setting = Setting::in_tokio_time();
    let _house = keeping_house(&setting.engine);
    let session = setting.signed_in().await;
    nearly_the_end_of(&session, &setting).await;
    setting.engine.end(session.key(), EndReason::Logout).await.unwrap();
    sleep(seconds(2)).await;
    assert!(matches!(setting.engine.open(session.key()).await.unwrap(), Opened::Ended(EndReason::Logout)));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_does_not_open_keeps_nobody_from_ending() {
    let setting = Setting::in_tokio_time();
    let session = setting.signed_in().await;
    let Found::Live(row, revision) = setting.store.read(session.key()).await.unwrap() else { panic!("live") };
    let unreadable = Row { sealed: b"nobody reads this".to_vec(), ..row };
    setting.store.replace(session.key(), revision, unreadable).await.unwrap();
    let gate = setting.another_engine();
    let _house = keeping_house(&gate);
    sleep(SessionPolicy::default().absolute_lifetime + seconds(61)).await;
    let Found::Ended(tombstone) = setting.store.read(session.key()).await.unwrap() else {
        panic!("not ended")
    };
    assert_eq!(tombstone.reason, EndReason::Lifetime);
}
