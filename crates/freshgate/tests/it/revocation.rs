//! Refresh tokens of ended sessions are taken back at the provider, and nobody waits for it.

use std::{sync::Arc, time::Duration};

use freshgate::{
    engine::{RefreshError, RevocationCounts},
    session::EndReason,
    store::MemoryStore,
};
use serde_json::json;

use crate::{
    faulty_store::{Fault, FaultyStore, Operation},
    provider::Act,
    setting::{DEADLINE, Setting, until},
};

fn counts(revoked: u64, failed: u64) -> RevocationCounts {
    RevocationCounts { revoked, failed }
}

#[tokio::test(start_paused = true)]
async fn the_reason_of_an_end_says_whether_a_token_is_revoked() {
    let table = [
        (EndReason::Logout, true),
        (EndReason::Operator, true),
        (EndReason::Replaced, false),
        (EndReason::ProviderLogout, false),
        (EndReason::Refused, false),
        (EndReason::IdentityChanged, false),
        (EndReason::OutcomeUnknown, false),
        (EndReason::Lifetime, false),
        (EndReason::Idle, false),
    ];
    for (reason, revokes) in table {
        let setting = Setting::new();
        let key = setting.signed_in().await.key();
        // The token that is good now, not the one of the login.
        setting.engine.refresh(key, DEADLINE).await.unwrap();
        setting.engine.end(key, reason).await.unwrap();
        setting.engine.end(key, reason).await.unwrap();
        setting.engine.revocations_settled().await;
        let expected = if revokes { vec!["refresh-2".to_owned()] } else { Vec::new() };
        assert_eq!(setting.provider.asked_to_revoke(), expected, "{reason:?}");
        assert_eq!(setting.engine.revocations(), counts(u64::from(revokes), 0), "{reason:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_was_written_although_the_store_said_not_revokes_all_the_same() {
    let store = FaultyStore::on(Arc::new(MemoryStore::new()));
    let setting = Setting::on(store.clone());
    let key = setting.signed_in().await.key();
    store.next(Operation::End, Fault::FailsAfterwards);
    assert!(setting.engine.end(key, EndReason::Logout).await.unwrap().is_some(), "it ended by this");
    setting.engine.revocations_settled().await;
    assert_eq!(setting.provider.asked_to_revoke(), ["refresh-1"]);

    let key = setting.signed_in().await.key();
    store.next(Operation::End, Fault::Fails);
    setting.engine.end(key, EndReason::Logout).await.unwrap_err();
    setting.engine.revocations_settled().await;
    assert_eq!(setting.provider.asked_to_revoke().len(), 1, "what goes on keeps its token");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_revocation() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    setting.provider.next_revocation_act(Act::Hold);
    let started = tokio::time::Instant::now();
    assert!(setting.engine.end(key, EndReason::Logout).await.unwrap().is_some());
    assert_eq!(started.elapsed(), Duration::ZERO);
    until("the provider is asked", || setting.provider.asked_to_revoke().len() == 1).await;
    setting.provider.release();
    setting.engine.revocations_settled().await;
    assert_eq!(setting.engine.revocations(), counts(1, 0));
}

/// RFC 7009, section 2.2.1: 503 means that the token still lives.
#[tokio::test(start_paused = true)]
async fn rfc_7009_2_2_1_a_token_that_may_still_be_good_is_revoked_again_a_few_times() {
    let status = |status, retry_after| Act::Status(status, retry_after, json!({}));
    let refusal = || Act::Status(400, "", json!({"error": "unsupported_token_type"}));
    // (what the provider does, how often it is asked, how it ends, how many seconds it takes)
    let table = [
        (vec![], 1, counts(1, 0), 0),
        (vec![status(204, "")], 1, counts(1, 0), 0),
        (vec![status(503, "")], 2, counts(1, 0), 1),
        (vec![status(503, "2")], 2, counts(1, 0), 2),
        (vec![status(503, "3600")], 2, counts(1, 0), 5),
        (vec![status(429, "1"), status(500, "")], 3, counts(1, 0), 4),
        (vec![Act::NotReached, Act::LoseAnswer], 3, counts(1, 0), 4),
        (vec![Act::Hold, Act::NotReached], 3, counts(1, 0), 9),
        (vec![status(503, ""), status(503, ""), status(503, "")], 3, counts(0, 1), 4),
        // What is refused would be refused again.
        (vec![refusal()], 1, counts(0, 1), 0),
        (vec![status(401, "")], 1, counts(0, 1), 0),
    ];
    for (acts, attempts, expected, seconds) in table {
        let setting = Setting::in_tokio_time();
        let key = setting.signed_in().await.key();
        acts.into_iter().for_each(|act| setting.provider.next_revocation_act(act));
        let started = tokio::time::Instant::now();
        setting.engine.end(key, EndReason::Operator).await.unwrap();
        setting.engine.revocations_settled().await;
        let asked = setting.provider.asked_to_revoke();
        assert_eq!((asked.len(), setting.engine.revocations()), (attempts, expected));
        assert!(asked.iter().all(|token| token == "refresh-1"));
        assert_eq!(started.elapsed().as_secs(), seconds);
    }
}

#[tokio::test]
async fn a_token_that_comes_home_after_the_end_is_revoked_too() {
    for (reason, expected) in
        [(EndReason::Logout, vec!["refresh-1", "refresh-2"]), (EndReason::ProviderLogout, vec![])]
    {
        let setting = Setting::new();
        let key = setting.signed_in().await.key();
        setting.provider.wire.forget_permits(usize::MAX);
        let engine = setting.engine.clone();
        let refresh = tokio::spawn(async move { engine.refresh(key, DEADLINE).await });
        until("the refresh is on the wire", || setting.provider.on_the_wire() == 1).await;
        setting.engine.end(key, reason).await.unwrap();
        setting.provider.wire.add_permits(1);
        let refreshed = refresh.await.unwrap();
        assert!(matches!(refreshed, Err(RefreshError::SignInAgain(it)) if it == reason), "{refreshed:?}");
        setting.engine.revocations_settled().await;
        assert_eq!(setting.provider.asked_to_revoke(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_stops_waits_for_one_attempt() {
    let setting = Setting::in_tokio_time();
    let key = setting.signed_in().await.key();
    for _ in 0..3 {
        setting.provider.next_revocation_act(Act::Hold);
    }
    setting.engine.end(key, EndReason::Logout).await.unwrap();
    let started = tokio::time::Instant::now();
    setting.engine.finish().await;
    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(setting.engine.revocations(), counts(0, 1));
}
