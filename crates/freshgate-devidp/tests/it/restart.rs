//! What is there after a restart.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use freshgate_devidp::{DevProvider, DevProviderError, StateFileError};
use reqwest::StatusCode;

use crate::browser::Browser;
use crate::setting::{Setting, config, text};

async fn start(state_file: &Path) -> Setting {
    Setting::with(|config| config.state_file = Some(state_file.to_owned())).await
}

#[tokio::test]
async fn everyone_is_still_signed_in() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    let setting = start(&path).await;
    let address = setting.provider.addr();
    let browser = Browser::new(&setting);
    let (_, query) = browser.sign_in(&setting.authorize(&[]), "alice").await.redirect();
    let first = setting.redeem(&query["code"]).await.json();
    let second = setting.refresh(text(&first, "refresh_token")).await.json();
    browser.post("/users/edit?sub=bob", &[("claims", "{\"sub\": \"bob\", \"edited\": true}")]).await;
    let revoked = setting.tokens("bob").await;
    setting.form("/revoke", &[("token", text(&revoked, "access_token"))]).await;
    let keys = setting.get("/jwks").await.json();
    setting.provider.shutdown().await;

    let saved = std::fs::read_to_string(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    for token in [text(&second, "refresh_token"), text(&second, "access_token"), &query["code"]] {
        assert!(!saved.contains(token));
    }
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");

    let setting = Setting::with(|config| {
        config.state_file = Some(path.clone());
        config.listen = address;
    })
    .await;
    assert_eq!(setting.get("/jwks").await.json(), keys);
    assert_eq!(setting.get_as("/userinfo", text(&second, "access_token")).await.status, StatusCode::OK);
    assert_eq!(
        setting.get_as("/userinfo", text(&revoked, "access_token")).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert!(browser.get(&setting.authorize(&[("prompt", "none")])).await.redirect().1.contains_key("code"));
    let third = setting.refresh(text(&second, "refresh_token")).await;
    assert_eq!(third.status, StatusCode::OK);
    let bob = setting.tokens("bob").await;
    assert_eq!(setting.get_as("/userinfo", text(&bob, "access_token")).await.json()["edited"], true);
    // Reuse is still reuse.
    assert_eq!(setting.refresh(text(&first, "refresh_token")).await.json()["error"], "invalid_grant");
    assert_eq!(setting.refresh(text(&third.json(), "refresh_token")).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn a_token_handed_out_just_before_it_was_killed_is_still_good() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    let setting = start(&path).await;
    let first = setting.tokens("alice").await;
    setting.provider.shutdown().await;
    let before = std::fs::read(&path).unwrap();

    let setting = start(&path).await;
    let second = setting.refresh(text(&first, "refresh_token")).await.json();
    setting.provider.shutdown().await;
    std::fs::write(&path, before).unwrap();

    let setting = start(&path).await;
    let third = setting.refresh(text(&second, "refresh_token")).await;
    assert_eq!(third.status, StatusCode::OK, "{}", third.body);
    assert_eq!(setting.refresh(text(&second, "refresh_token")).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn the_file_is_kept_up_to_date_while_running() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    let setting = start(&path).await;
    assert!(path.exists());
    setting.tokens("alice").await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !std::fs::read_to_string(&path).unwrap().contains("\"client_id\":\"app\"") {
        assert!(std::time::Instant::now() < deadline, "the grant was never saved");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_file_that_is_none_of_ours_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    for content in ["", "{}", "{\"version\": 1, \"seal\": \"private\"}"] {
        std::fs::write(&path, content).unwrap();
        let mut config = config();
        config.state_file = Some(path.clone());
        let error = DevProvider::bind(config).await.unwrap_err();
        assert!(matches!(error, DevProviderError::StateFile(StateFileError::NotOurs { .. })), "{error}");
        assert!(!error.to_string().contains("private"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
    }
    let mut config = config();
    config.state_file = Some(directory.path().join("no/such/directory/state.json"));
    let error = DevProvider::bind(config).await.unwrap_err();
    assert!(matches!(error, DevProviderError::StateFile(StateFileError::Write { .. })), "{error}");
}
