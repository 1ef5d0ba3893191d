use std::{sync::Arc, time::Duration};

use freshgate::{
    engine::{FlowId, LoginError, LoginRequest, Opened},
    events::SessionEvent,
    session::EndReason,
    store::SqliteStore,
};
use freshgate_oidc::CallbackParameters;
use url::Url;

use crate::setting::Setting;

fn request() -> LoginRequest {
    LoginRequest {
        provider: "default".into(),
        redirect_uri: Url::parse("http://localhost:8501/oauth2callback").unwrap(),
        next: "/".into(),
        parameters: Vec::new(),
    }
}

#[tokio::test]
async fn a_login_yields_a_session_with_merged_claims() {
    let setting = Setting::new();
    let session = setting.signed_in().await;
    assert_eq!(session.claims()["email"], "alice@example.test", "from userinfo");
    assert_eq!(session.claims()["serial"], 1, "from the ID token");
    assert_eq!(session.tokens().access_token.expose(), "access-1");
    assert_eq!(session.generation(), 1);
    assert_eq!(setting.open(session.key()).await.claims(), session.claims());
}

#[tokio::test]
async fn the_request_asks_for_what_is_configured_and_for_offline_access_where_it_is_listed() {
    let setting = Setting::new();
    let started = setting.engine.begin_login(request()).await.unwrap();
    let authorize = Url::parse(started.authorize.expose()).unwrap();
    let parameters: std::collections::BTreeMap<_, _> = authorize.query_pairs().into_owned().collect();
    assert_eq!(parameters["scope"], "openid email offline_access");
    assert_eq!(parameters["prompt"], "select_account");
    assert_eq!(parameters["code_challenge_method"], "S256");
    assert_eq!(started.flow, FlowId::of_state(&freshgate::Secret::new(parameters["state"].as_str())));
}

#[tokio::test]
async fn a_callback_without_its_own_flow_signs_nobody_in() {
    let setting = Setting::new();
    let one = setting.engine.begin_login(request()).await.unwrap();
    let other = setting.engine.begin_login(request()).await.unwrap();
    let authorize = Url::parse(one.authorize.expose()).unwrap();
    let callback =
        CallbackParameters::parse(&setting.provider.authorize(authorize.query().unwrap())).unwrap();
    for flow in [None, Some(other.sealed_flow.expose()), Some("not-sealed-by-us"), Some("")] {
        let result = setting.engine.complete_login(&callback, flow).await;
        assert!(matches!(result, Err(LoginError::FlowUnknown)), "{result:?}");
    }
    setting.clock.advance(Duration::from_secs(601));
    let late = setting.engine.complete_login(&callback, Some(one.sealed_flow.expose())).await;
    assert!(matches!(late, Err(LoginError::FlowUnknown)), "{late:?}");
}

#[tokio::test]
async fn an_unknown_provider_is_named() {
    let setting = Setting::new();
    let result = setting.engine.begin_login(LoginRequest { provider: "nobody".into(), ..request() }).await;
    assert!(matches!(result, Err(LoginError::UnknownProvider(name)) if name == "nobody"));
}

#[tokio::test]
async fn an_ended_session_stays_ended_and_everyone_is_told_once() {
    let setting = Setting::new();
    let key = setting.signed_in().await.key();
    let mut events = setting.engine.events();
    assert!(setting.engine.end(key, EndReason::Logout).await.unwrap().is_some());
    assert!(
        setting.engine.end(key, EndReason::Operator).await.unwrap().is_none(),
        "the second call ends nothing"
    );
    assert!(matches!(setting.engine.open(key).await.unwrap(), Opened::Ended(EndReason::Logout)));
    assert!(matches!(events.try_recv().unwrap(), SessionEvent::Ended { reason: EndReason::Logout, .. }));
    assert!(events.try_recv().is_err());
}

#[tokio::test]
async fn a_session_ends_with_its_absolute_lifetime() {
    let setting = Setting::new();
    let session = setting.signed_in().await;
    setting
        .clock
        .advance(session.ends_at().saturating_since(session.signed_in_at()) - Duration::from_secs(1));
    setting.open(session.key()).await;
    setting.clock.advance(Duration::from_secs(1));
    let opened = setting.engine.open(session.key()).await.unwrap();
    assert!(matches!(opened, Opened::Ended(EndReason::Lifetime)), "{opened:?}");
}

#[tokio::test]
async fn a_session_whose_time_is_over_ends_at_the_next_look_for_those_who_hold_it() {
    let setting = Setting::new();
    let session = setting.signed_in().await;
    let mut events = setting.engine.events();
    setting.clock.advance(session.ends_at().saturating_since(session.signed_in_at()));
    let opened = setting.engine.open(session.key()).await.unwrap();
    assert!(matches!(opened, Opened::Ended(EndReason::Lifetime)), "{opened:?}");
    assert!(matches!(events.try_recv(), Ok(SessionEvent::Ended { reason: EndReason::Lifetime, .. })));
}

#[tokio::test]
async fn the_logout_address_carries_the_hint_and_a_state() {
    let setting = Setting::new();
    let session = setting.signed_in().await;
    let back = Url::parse("http://localhost:8501/oauth2callback").unwrap();
    let logout = setting.engine.provider_logout(&session, &back).await.unwrap();
    let url = Url::parse(logout.url.expose()).unwrap();
    let parameters: std::collections::BTreeMap<_, _> = url.query_pairs().into_owned().collect();
    assert_eq!(url.path(), "/logout");
    assert_eq!(parameters["post_logout_redirect_uri"], back.as_str());
    assert_eq!(parameters["id_token_hint"], session.tokens().id_token.as_ref().unwrap().expose());
    assert_eq!(parameters["state"], logout.state.expose());
}

#[tokio::test]
async fn a_session_survives_a_restart_and_nothing_of_it_is_readable_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sessions.db");
    let setting = Setting::on(Arc::new(SqliteStore::open(&path).unwrap()));
    let session = setting.signed_in().await;
    let restarted = setting.another_engine();
    let Opened::Open(again) = restarted.open(session.key()).await.unwrap() else { panic!("not open") };
    assert_eq!(again.claims(), session.claims());
    assert_eq!(again.tokens().access_token, session.tokens().access_token);

    let mut bytes = Vec::new();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        bytes.extend(std::fs::read(file.unwrap().path()).unwrap());
    }
    assert!(bytes.len() > 1000, "the store was written");
    for secret in ["access-1", "refresh-1", "alice@example.test", "client-secret"] {
        assert!(
            !bytes.windows(secret.len()).any(|window| window == secret.as_bytes()),
            "{secret} is readable"
        );
    }
}
