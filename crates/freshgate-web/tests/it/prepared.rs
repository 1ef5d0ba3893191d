//! Logins that the app prepares: with parameters of its own, and for one browser.

use std::time::Duration;

use freshgate::{
    engine::PreparedLogin,
    session::{EndReason, SessionKey},
};
use freshgate_devidp::Scripting;
use freshgate_oidc::AuthorizationParameters;
use http::{Method, StatusCode};
use serde_json::json;
use url::Url;

use crate::world::{LOCALHOST, World};

/// The path of a login that the app has prepared.
fn prepared(world: &World, session: Option<SessionKey>, parameters: &[(&str, &str)]) -> String {
    let parameters = AuthorizationParameters::of(parameters.iter().copied()).unwrap();
    let login = PreparedLogin { provider: "google".into(), parameters, session };
    format!("/auth/login?prepared={}", world.engine.prepare_login(&login).unwrap().expose())
}

fn asked_for(authorize: &str, name: &str) -> Option<String> {
    let url = Url::parse(authorize).unwrap();
    url.query_pairs().find(|(found, _)| found == name).map(|(_, value)| value.into_owned())
}

#[tokio::test]
async fn the_provider_is_asked_as_the_app_wants_it() {
    let world = World::new().await;
    let mut browser = world.browser();
    let path = prepared(&world, None, &[("prompt", "login"), ("login_hint", "alice"), ("scope", "openid")]);
    // What the address says besides does not count.
    let path = format!("{path}&next=/page&provider=nowhere&prompt=none&acr_values=x");
    let authorize = browser.navigate(&path).await.location();
    assert!(authorize.starts_with(world.provider.issuer()), "{authorize}");
    for (name, value) in [
        ("prompt", Some("login")),
        ("login_hint", Some("alice")),
        ("scope", Some("openid offline_access")),
        ("acr_values", None),
    ] {
        assert_eq!(asked_for(&authorize, name).as_deref(), value, "{name}");
    }
    let callback = world.sign_in(&authorize, "alice").await;
    assert_eq!(browser.navigate(&callback).await.location(), "/page");
}

#[tokio::test]
async fn a_step_up_takes_the_place_of_the_session() {
    let world = World::new().await;
    let (mut browser, before) = world.signed_in("alice").await;
    let path = prepared(&world, Some(before), &[("max_age", "0")]);
    let callback = world.start_login(&mut browser, &path, "alice").await;
    assert_eq!(world.end_of(before).await, None, "until it is done, nothing changes");
    assert_eq!(browser.navigate(&callback).await.status(), StatusCode::SEE_OTHER);
    let after = world.session_key(&browser);
    assert_ne!(after, before);
    assert_eq!(world.end_of(before).await, Some(EndReason::Replaced));
    assert_eq!(world.end_of(after).await, None);
}

#[tokio::test]
async fn a_class_of_authentication_is_asked_for_and_met() {
    let world = World::at(|provider| provider.scripting = Scripting::On, |_| {}).await;
    let (mut browser, before) = world.signed_in("alice").await;
    let rule = json!({"endpoint": "token:code", "action": {"id_token": {"set": {"acr": "mfa"}}}});
    world.script("", rule).await;
    let path = prepared(&world, Some(before), &[("acr_values", "phr mfa")]);
    let authorize = browser.navigate(&path).await.location();
    assert_eq!(asked_for(&authorize, "acr_values").as_deref(), Some("phr mfa"));
    let callback = world.sign_in(&authorize, "alice").await;
    assert_eq!(browser.navigate(&callback).await.status(), StatusCode::SEE_OTHER);
    let user = browser.fetch(Method::GET, "/auth/user").send().await.json();
    assert_eq!(user["acr"], "mfa");
}

#[tokio::test]
async fn a_step_up_that_is_not_met_leaves_the_session_as_it_was() {
    let world = World::new().await;
    let (mut browser, before) = world.signed_in("alice").await;
    // The provider knows no classes of authentication.
    let path = prepared(&world, Some(before), &[("acr_values", "mfa")]);
    let callback = world.start_login(&mut browser, &path, "alice").await;
    let refused = browser.navigate(&callback).await;
    assert_eq!(refused.status(), StatusCode::FORBIDDEN);
    assert!(refused.is_page_of("unmet_authentication_requirements"), "{}", refused.text());
    assert_eq!(world.session_key(&browser), before);
    assert_eq!(world.end_of(before).await, None);
}

#[tokio::test]
async fn it_is_for_one_browser_and_for_two_minutes() {
    let world = World::new().await;
    let (mut alice, session) = world.signed_in("alice").await;
    let (mut mallory, _) = world.signed_in("mallory").await;
    let mut nobody = world.browser();
    let for_alice = prepared(&world, Some(session), &[("max_age", "0")]);
    let for_nobody = prepared(&world, None, &[("login_hint", "mallory")]);

    for (browser, path) in [(&mut mallory, &for_alice), (&mut nobody, &for_alice), (&mut alice, &for_nobody)]
    {
        let refused = browser.navigate(path).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST);
        assert!(refused.is_page_of("prepared_for_another"), "{}", refused.text());
        assert!(browser.flows().is_empty());
    }
    assert_eq!(nobody.navigate(&for_nobody).await.status(), StatusCode::SEE_OTHER);
    // Whose session is over meanwhile still gets there: it is the way to sign in again.
    world.engine.end(session, EndReason::Operator).await.unwrap();
    assert_eq!(alice.navigate(&for_alice).await.status(), StatusCode::SEE_OTHER);

    let made_up = for_alice.replace("prepared=", "prepared=A");
    for path in [made_up.as_str(), "/auth/login?prepared=", "/auth/login?prepared=x"] {
        assert!(alice.navigate(path).await.is_page_of("prepared_login_over"), "{path}");
    }
    world.clock.advance(Duration::from_secs(120));
    assert!(alice.navigate(&for_alice).await.is_page_of("prepared_login_over"));
}

#[tokio::test]
async fn it_stays_with_a_browser_that_moves_to_the_public_host() {
    let world = World::with(LOCALHOST, |_| {}).await;
    let mut browser = world.browser();
    let path = prepared(&world, None, &[("login_hint", "alice")]);
    let moved = browser.tab(&path, "none").with("host", "127.0.0.1:8501").send().await.location();
    assert!(moved.starts_with("http://localhost:8501/auth/login?prepared="), "{moved}");
    let authorize = browser.navigate(&moved).await.location();
    assert_eq!(asked_for(&authorize, "login_hint").as_deref(), Some("alice"));
}
