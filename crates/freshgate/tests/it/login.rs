use std::{sync::Arc, time::Duration};

use freshgate::{
    engine::{FlowId, LoginError, LoginRequest, Opened, PrepareError, PreparedLogin},
    events::SessionEvent,
    session::EndReason,
    store::SqliteStore,
};
use freshgate_oidc::{AuthorizationParameters, CallbackParameters};
use url::Url;

use crate::{
    provider::Act,
    setting::{DEADLINE, Setting, sign_in_with},
};

fn request() -> LoginRequest {
    LoginRequest {
        provider: "default".into(),
        redirect_uri: Url::parse("http://localhost:8501/oauth2callback").unwrap(),
        next: "/".into(),
        parameters: AuthorizationParameters::default(),
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
async fn a_login_asks_for_what_it_is_told_on_top_of_what_is_configured() {
    let setting = Setting::new();
    let asked = async |parameters: &[(&str, &str)]| -> std::collections::BTreeMap<String, String> {
        let parameters = AuthorizationParameters::of(parameters.iter().copied()).unwrap();
        let started = setting.engine.begin_login(LoginRequest { parameters, ..request() }).await.unwrap();
        Url::parse(started.authorize.expose()).unwrap().query_pairs().into_owned().collect()
    };
    let asked_for = asked(&[("prompt", "login"), ("scope", "openid drive"), ("acr_values", "mfa")]).await;
    assert_eq!(asked_for["prompt"], "login");
    assert_eq!(asked_for["scope"], "openid drive offline_access");
    assert_eq!(asked_for["acr_values"], "mfa");
    let asked_for = asked(&[("prompt", ""), ("scope", "")]).await;
    assert!(!asked_for.contains_key("prompt"));
    assert_eq!(asked_for["scope"], "openid offline_access");
}

#[tokio::test]
async fn the_authentication_must_be_as_it_was_asked_for() {
    fn is_mfa(claims: &mut serde_json::Value) {
        claims["acr"] = "mfa".into();
    }
    fn is_recent(claims: &mut serde_json::Value) {
        claims["auth_time"] = (claims["iat"].as_i64().unwrap() - 60).into();
    }
    fn as_it_is(_: &mut serde_json::Value) {}
    let too_old = "too old";
    type Case<'a> = (&'a [(&'a str, &'a str)], fn(&mut serde_json::Value), Option<&'a str>);
    let table: [Case<'_>; 8] = [
        (&[("acr_values", "mfa")], is_mfa, None),
        (&[("acr_values", "phr mfa")], is_mfa, None),
        (&[("acr_values", "phr")], is_mfa, Some("not of the requested class")),
        (&[("acr_values", "mfa")], as_it_is, Some("not of the requested class")),
        (&[("acr_values", "idp:google")], as_it_is, None),
        (&[("max_age", "0")], is_recent, None),
        (&[("max_age", "3600")], as_it_is, Some(too_old)),
        (&[("max_age", "3600"), ("acr_values", "mfa")], is_mfa, Some(too_old)),
    ];
    for (parameters, claims, refused) in table {
        let setting = Setting::new();
        setting.provider.next_token_act(Act::IdToken(claims));
        let result = sign_in_with(&setting.engine, &setting.provider, parameters).await;
        match (result, refused) {
            (Ok(_), None) => {}
            (Err(error @ LoginError::UnmetAuthenticationRequirements { .. }), Some(said)) => {
                let cause = std::error::Error::source(&error).unwrap().to_string();
                assert!(cause.contains(said), "{parameters:?}: {cause}");
            }
            (result, _) => panic!("{parameters:?}: {result:?}"),
        }
    }
}

#[tokio::test]
async fn a_session_keeps_asking_for_the_resource_of_its_login() {
    let folder = tempfile::tempdir().unwrap();
    let setting = Setting::on(Arc::new(SqliteStore::open(folder.path().join("sessions.db")).unwrap()));
    let resources = [("resource", "https://api.example urn:b")];
    let session = sign_in_with(&setting.engine, &setting.provider, &resources).await.unwrap();
    setting.engine.refresh(session.key(), DEADLINE).await.unwrap();
    setting.another_engine().refresh(session.key(), DEADLINE).await.unwrap();
    let other = setting.signed_in().await;
    setting.engine.refresh(other.key(), DEADLINE).await.unwrap();
    let both = vec!["https://api.example".to_owned(), "urn:b".to_owned()];
    let asked_for = setting.provider.asked_for("resource");
    assert_eq!(asked_for, [both.clone(), both.clone(), both, Vec::new(), Vec::new()]);
}

#[tokio::test]
async fn how_the_user_signed_in_is_still_known_after_a_refresh_that_does_not_say_it() {
    let setting = Setting::new();
    setting.provider.next_token_act(Act::IdToken(|claims| claims["acr"] = "mfa".into()));
    let session = setting.signed_in().await;
    setting.engine.refresh(session.key(), DEADLINE).await.unwrap();
    let claims = setting.open(session.key()).await.claims().clone();
    assert_eq!((claims["acr"].as_str(), claims["serial"].as_i64()), (Some("mfa"), Some(2)));
}

#[tokio::test]
async fn a_prepared_login_opens_for_two_minutes_and_only_as_it_was_sealed() {
    let setting = Setting::new();
    let session = setting.signed_in().await.key();
    let parameters = AuthorizationParameters::of([("acr_values", "mfa"), ("login_hint", "alice@x")]).unwrap();
    let login =
        PreparedLogin { provider: "default".into(), parameters: parameters.clone(), session: Some(session) };
    let sealed = setting.engine.prepare_login(&login).unwrap();
    assert!(!format!("{login:?} {sealed:?}").contains("alice@x"));

    setting.clock.advance(Duration::from_secs(119));
    let opened = setting.another_engine().open_prepared_login(sealed.expose()).unwrap();
    assert_eq!((opened.provider.as_str(), opened.session), ("default", Some(session)));
    assert_eq!(opened.parameters, parameters);
    let flow = setting.engine.begin_login(request()).await.unwrap().sealed_flow;
    let cut = &sealed.expose()[1..];
    for other in ["", "x", cut, &format!("{}A", sealed.expose()), flow.expose()] {
        assert!(setting.engine.open_prepared_login(other).is_none(), "{other}");
    }
    setting.clock.advance(Duration::from_secs(1));
    assert!(setting.engine.open_prepared_login(sealed.expose()).is_none());
}

#[tokio::test]
async fn what_cannot_be_carried_or_is_not_configured_is_not_prepared() {
    let setting = Setting::new();
    let prepare = |provider: &str, value: &str| {
        let parameters = AuthorizationParameters::of([("claims", value)]).unwrap();
        let login = PreparedLogin { provider: provider.into(), parameters, session: None };
        setting.engine.prepare_login(&login).map(|_| ())
    };
    assert_eq!(prepare("nobody", "x"), Err(PrepareError::UnknownProvider("nobody".into())));
    let limit = 1536;
    assert_eq!(prepare("default", &"x".repeat(limit - 6)), Ok(()));
    let length = limit + 1;
    assert_eq!(prepare("default", &"x".repeat(limit - 5)), Err(PrepareError::TooLong { length, limit }));
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
async fn whoever_looks_too_late_is_told_the_first_reason() {
    let setting = Setting::new();
    let other = setting.another_engine();
    let session = setting.signed_in().await;
    // In its memory, and it follows nobody.
    assert!(matches!(other.open(session.key()).await.unwrap(), Opened::Open(_)));
    setting.engine.end(session.key(), EndReason::Logout).await.unwrap();
    setting.clock.advance(session.ends_at().saturating_since(session.signed_in_at()));
    let opened = other.open(session.key()).await.unwrap();
    assert!(matches!(opened, Opened::Ended(EndReason::Logout)), "{opened:?}");
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
