//! A session tried out: what is told of the provider, and that no token is.

use std::time::Duration;

use freshgate::engine::{RefreshError, ReplacedToken, TriedRefresh, TriedUserInfo};
use serde_json::json;

use crate::{
    provider::Act,
    setting::{DEADLINE, Setting},
};

#[tokio::test]
async fn a_provider_that_rotates() {
    let setting = Setting::new();
    let session = setting.signed_in().await;
    let mut trial = setting.engine.trial(&session);
    let tokens = trial.tokens();
    assert_eq!((tokens.access_token_bytes, tokens.refresh_token_bytes), (8, Some(9)));
    assert_eq!(tokens.access_token_lifetime, session.tokens().expires_at.map(|_| Duration::from_secs(300)));
    assert_eq!(tokens.id_token_issued_at, Some(setting.now()));
    assert_eq!(tokens.id_token_expires_at, Some(setting.now() + Duration::from_secs(600)));
    assert!(matches!(trial.send_replaced_token().await, ReplacedToken::None), "nothing was replaced yet");
    assert!(matches!(trial.userinfo().await, TriedUserInfo::Agrees { claims: 2.. }));

    let tried = trial.refresh(DEADLINE).await.unwrap();
    let TriedRefresh { rotated, new_id_token, new_access_token, .. } = tried;
    assert_eq!((rotated, new_id_token, new_access_token), (true, true, true));
    // A provider that spends its refresh tokens: the one of before is refused, the one of now is good.
    let ReplacedToken::Refused(error) = trial.send_replaced_token().await else { panic!("it is spent") };
    assert!(error.to_string().contains("invalid_grant"), "{error}");
    assert_eq!(setting.provider.presented(), ["refresh-1", "refresh-1"]);
    setting.provider.next_token_act(Act::NoIdToken);
    assert!(!trial.refresh(DEADLINE).await.unwrap().new_id_token);
}

#[tokio::test]
async fn a_provider_that_keeps_its_refresh_tokens() {
    let setting = Setting::new();
    setting.provider.stop_rotating();
    let mut trial = setting.engine.trial(&setting.signed_in().await);
    assert!(!trial.refresh(DEADLINE).await.unwrap().rotated);
    assert!(matches!(trial.send_replaced_token().await, ReplacedToken::None));
    assert_eq!(setting.provider.presented().len(), 1, "nothing was sent");
}

#[tokio::test]
async fn a_provider_that_fails() {
    let setting = Setting::new();
    let mut trial = setting.engine.trial(&setting.signed_in().await);
    setting.provider.next_userinfo_act(Act::Status(403, "", json!({})));
    let TriedUserInfo::Failed(error) = trial.userinfo().await else { panic!("it is forbidden") };
    assert!(error.to_string().contains("status 403"), "{error}");
    setting.provider.set_claim("sub", json!("somebody else"));
    let TriedUserInfo::Failed(error) = trial.userinfo().await else { panic!("it is another's") };
    assert!(error.to_string().contains("refused"), "{error}");
    setting.provider.set_claim("sub", json!("alice"));

    trial.refresh(DEADLINE).await.unwrap();
    setting.provider.next_token_act(Act::Status(503, "", json!({})));
    assert!(matches!(trial.send_replaced_token().await, ReplacedToken::Unclear(_)));
    setting.provider.forget_refresh_tokens();
    assert!(matches!(trial.refresh(DEADLINE).await, Err(RefreshError::SignInAgain(_))));
}
