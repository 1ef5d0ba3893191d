//! Active sessions are refreshed before anybody has to wait. Time is tokio's, paused: it passes when nothing else happens.

use std::{collections::HashSet, sync::Arc, time::Duration};

use freshgate::{
    Engine,
    engine::{InUse, Opened, RefreshOutcome},
    provider::Provider,
    session::{EndReason, SessionKey, SessionPolicy},
    store::MemoryStore,
};
use freshgate_oidc::Timestamp;
use serde_json::json;
use tokio::{sync::Semaphore, time::sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    provider::{Act, ScriptedProvider},
    setting::{DEADLINE, Setting, TestClock, engine_at, provider_config, sign_in_at},
};

/// How long the provider's access tokens live.
const LIFETIME: Duration = Duration::from_secs(300);
/// A while after which every session has been refreshed ahead once, and none twice.
const ONCE: Duration = Duration::from_secs(250);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn refreshing_ahead(engine: &Engine) -> DropGuard {
    let stop = CancellationToken::new();
    tokio::spawn(engine.clone().refresh_ahead(stop.clone()));
    stop.drop_guard()
}

async fn left(setting: &Setting, key: SessionKey) -> Duration {
    let expires_at = setting.open(key).await.tokens().expires_at.unwrap();
    expires_at.saturating_since(setting.now())
}

#[tokio::test(start_paused = true)]
async fn an_active_session_is_refreshed_although_nobody_asks() {
    let setting = Setting::in_tokio_time();
    let _ahead = refreshing_ahead(&setting.engine);
    let key = setting.signed_in().await.key();
    for lifetime in 1..=3 {
        for _ in 0..25 {
            setting.engine.used(key);
            sleep(seconds(10)).await;
            assert!(left(&setting, key).await > LIFETIME / 5, "nobody ever finds it about to expire");
        }
        assert_eq!(setting.provider.presented().len(), lifetime);
        let (_, outcome) = setting.engine.fresh(key, Some(LIFETIME), DEADLINE).await.unwrap();
        assert_eq!(outcome, RefreshOutcome::NotNeeded);
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_session_is_left_to_its_next_use() {
    let setting = Setting::in_tokio_time();
    let _ahead = refreshing_ahead(&setting.engine);
    let key = setting.signed_in().await.key();
    setting.engine.used(key);
    sleep(3 * LIFETIME).await;
    // Used once, it was active for ten minutes: two refreshes of tokens of five minutes.
    assert_eq!(setting.provider.presented().len(), 2);
    assert_eq!(setting.engine.active_sessions(), 0, "then it was forgotten");
    sleep(100 * LIFETIME).await;
    assert_eq!(setting.provider.presented().len(), 2);

    setting.engine.used(key);
    sleep(seconds(1)).await;
    assert_eq!(setting.provider.presented().len(), 3, "somebody is back: refreshed at once");
}

#[tokio::test(start_paused = true)]
async fn to_open_a_session_is_no_use_of_it_and_to_read_its_token_is() {
    let setting = Setting::in_tokio_time();
    let _ahead = refreshing_ahead(&setting.engine);
    let key = setting.signed_in().await.key();
    for _ in 0..60 {
        // As an app does that follows events: a refresh must not keep itself going.
        setting.open(key).await;
        sleep(seconds(10)).await;
    }
    assert_eq!(setting.engine.active_sessions(), 0);
    assert!(setting.provider.presented().is_empty());
    setting.engine.fresh(key, None, DEADLINE).await.unwrap();
    assert_eq!(setting.engine.active_sessions(), 1);
    sleep(ONCE).await;
    assert_eq!(setting.provider.presented().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_open_socket_keeps_a_session_active() {
    let setting = Setting::in_tokio_time();
    let _ahead = refreshing_ahead(&setting.engine);
    let key = setting.signed_in().await.key();
    let tabs = [setting.engine.hold(key), setting.engine.hold(key)];
    sleep(10 * LIFETIME).await;
    let [first, second] = tabs;
    drop(first);
    sleep(10 * LIFETIME).await;
    let so_far = setting.provider.presented().len();
    assert!((24..=29).contains(&so_far), "once for each 70 to 80 % of 20 lifetimes: {so_far}");
    drop(second);
    sleep(10 * LIFETIME).await;
    let after = setting.provider.presented().len() - so_far;
    assert!((2..=3).contains(&after), "ten minutes longer: {after}");
    assert_eq!(setting.engine.active_sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_by_anybody_is_planned_for() {
    let setting = Setting::in_tokio_time();
    let _ahead = refreshing_ahead(&setting.engine);
    let key = setting.signed_in().await.key();
    let _tab = setting.engine.hold(key);
    for _ in 0..20 {
        sleep(seconds(200)).await;
        setting.engine.refresh(key, DEADLINE).await.unwrap();
    }
    assert_eq!(setting.provider.presented().len(), 20, "the user's own refreshes, and none beside them");
}

#[tokio::test(start_paused = true)]
async fn engines_that_share_a_store_ask_once() {
    let setting = Setting::in_tokio_time();
    let other = setting.another_engine();
    let _ahead = [refreshing_ahead(&setting.engine), refreshing_ahead(&other)];
    let keys = [setting.signed_in().await.key(), setting.signed_in().await.key()];
    let _tabs: Vec<InUse> =
        keys.iter().flat_map(|key| [setting.engine.hold(*key), other.hold(*key)]).collect();
    for lifetime in 1..=5 {
        sleep(ONCE).await;
        let presented = setting.provider.presented();
        // Between 210 and 240 seconds each, so that the fifth is over after 1,200 at the latest.
        assert_eq!(presented.len(), 2 * lifetime);
        assert_eq!(presented.iter().collect::<HashSet<_>>().len(), presented.len());
        for key in keys {
            let Opened::Open(session) = other.open(key).await.unwrap() else { panic!("not open") };
            assert!(session.tokens().expires_at.unwrap() > setting.now() + seconds(50));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_provider_is_not_hammered_and_asked_again_when_it_may_be_back() {
    let setting = Setting::in_tokio_time();
    let _ahead = refreshing_ahead(&setting.engine);
    let key = setting.signed_in().await.key();
    let _tab = setting.engine.hold(key);
    const OUTAGES: usize = 20;
    for _ in 0..OUTAGES {
        setting.provider.next_token_act(Act::Status(503, "", json!({})));
    }
    sleep(ONCE + seconds(50)).await;
    let soon = setting.provider.presented().len();
    assert!((3..=10).contains(&soon), "in the first minutes: {soon}");
    sleep(seconds(3600)).await;
    assert!(left(&setting, key).await > seconds(50), "and it is fresh again");
    let presented = setting.provider.presented();
    assert_eq!(presented.iter().filter(|token| *token == "refresh-1").count(), OUTAGES + 1);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_asks_for_patience_gets_it() {
    let setting = Setting::in_tokio_time();
    let _ahead = refreshing_ahead(&setting.engine);
    let key = setting.signed_in().await.key();
    let _tab = setting.engine.hold(key);
    setting.provider.next_token_act(Act::Status(429, "120", json!({})));
    sleep(ONCE).await;
    assert_eq!(setting.provider.presented().len(), 1);
    sleep(seconds(79)).await;
    assert_eq!(setting.provider.presented().len(), 1);
    sleep(seconds(60)).await;
    assert_eq!(setting.provider.presented().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn sessions_that_are_over_are_forgotten() {
    let setting = Setting::in_tokio_time();
    let _ahead = refreshing_ahead(&setting.engine);
    let [ended, refused] = [setting.signed_in().await.key(), setting.signed_in().await.key()];
    let unknown = SessionKey::from_bytes([7; 32]);
    let _tabs = [ended, refused, unknown].map(|key| setting.engine.hold(key));
    setting.engine.end(ended, EndReason::Logout).await.unwrap();
    setting.provider.forget_refresh_tokens();
    sleep(ONCE).await;
    assert!(matches!(setting.engine.open(refused).await.unwrap(), Opened::Ended(EndReason::Refused)));
    assert_eq!(setting.provider.presented().len(), 1, "only the one that was thought to be open");
    assert_eq!(setting.engine.active_sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_stopped_tracks_nothing_and_asks_nobody() {
    let setting = Setting::in_tokio_time();
    let key = setting.signed_in().await.key();
    setting.engine.used(key);
    assert_eq!(setting.engine.active_sessions(), 0, "nobody looks after active sessions yet");
    let ahead = refreshing_ahead(&setting.engine);
    let tab = setting.engine.hold(key);
    assert_eq!(setting.engine.active_sessions(), 1);
    drop(ahead);
    sleep(10 * LIFETIME).await;
    assert_eq!(setting.engine.active_sessions(), 0);
    drop(tab);
    assert!(setting.provider.presented().is_empty());
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_that_expire_in_the_same_second_cost_ten_thousand_requests() {
    const SESSIONS: usize = 10_000;
    let setting = Setting::in_tokio_time();
    let _ahead = refreshing_ahead(&setting.engine);
    let mut tabs = Vec::new();
    let mut ends = HashSet::new();
    for _ in 0..SESSIONS {
        let session = setting.signed_in().await;
        ends.insert(session.tokens().expires_at.map(|at: Timestamp| at.as_unix_millis() / 1000));
        tabs.push(setting.engine.hold(session.key()));
    }
    assert_eq!(ends.len(), 1, "all in the same second");
    sleep(seconds(210)).await;
    assert!(setting.provider.presented().len() < SESSIONS / 20);
    let mut most = 0;
    let mut before = setting.provider.presented().len();
    for _ in 0..32 {
        sleep(seconds(1)).await;
        let now = setting.provider.presented().len();
        most = most.max(now - before);
        before = now;
    }
    assert!(most < SESSIONS / 20, "spread over thirty seconds: {most} in the fullest");
    let presented = setting.provider.presented();
    assert_eq!(presented.len(), SESSIONS);
    assert_eq!(presented.into_iter().collect::<HashSet<_>>().len(), SESSIONS);
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_takes_its_time_keeps_nobody_from_the_others() {
    let clock = TestClock::running();
    let [slow, quick] = [(); 2].map(|()| ScriptedProvider::new(clock.clone()));
    let at = |name, provider: &Arc<ScriptedProvider>| {
        Provider::new(provider_config(name), provider.clone(), clock.clone())
    };
    let providers = vec![at("slow", &slow), at("quick", &quick)];
    let store = Arc::new(MemoryStore::new());
    let engine = engine_at(providers, SessionPolicy::default(), clock.clone(), store);
    let _ahead = refreshing_ahead(&engine);
    let mut tabs = Vec::new();
    for _ in 0..1000 {
        tabs.push(engine.hold(sign_in_at(&engine, "slow", &slow).await.key()));
    }
    sleep(seconds(30)).await;
    let key = sign_in_at(&engine, "quick", &quick).await.key();
    tabs.push(engine.hold(key));
    slow.wire.forget_permits(Semaphore::MAX_PERMITS);

    sleep(ONCE).await;

    assert_eq!(quick.presented().len(), 1, "refreshed when it was due");
    assert!(slow.on_the_wire() > 0);
    // Once it is quick again nobody was forgotten.
    slow.wire.add_permits(Semaphore::MAX_PERMITS);
    sleep(seconds(30)).await;
    assert_eq!(slow.presented().len(), 1000);
}
