//! An axum app in one process with its gate.

use std::time::Duration;

use axum::{
    Router,
    response::Html,
    routing::{get, post},
};
use freshgate::{engine::Opened, session::EndReason};
use freshgate_web::{
    AppGate, AppGateError, Condition, Ended, Failure, Fault, GateConfig, Role, User, UserWith,
};
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use serde_json::json;
use tower::ServiceExt;
use url::Url;

use crate::{
    browser::Browser,
    world::{HTTPS, World},
};

struct Analyst;

impl Role for Analyst {
    fn is_held_by(user: &User) -> bool {
        user.has("groups", "analysts")
    }
}

async fn hello(user: Option<User>) -> String {
    user.map_or("nobody".to_owned(), |user| user.claims()["sub"].to_string())
}

async fn mine(user: User) -> Result<Html<String>, Failure> {
    let token = user.access_token().await?;
    Ok(Html(format!("{} holds a token of {} bytes", user.claims()["sub"], token.expose().len())))
}

async fn rename(mut user: User) -> Result<String, Failure> {
    user.refresh().await?;
    Ok(user.claims()["name"].to_string())
}

async fn analysts(user: UserWith<Analyst>) -> String {
    user.into_user().claims()["sub"].to_string()
}

async fn broken() -> Failure {
    Failure::new(Fault::Upstream, StatusCode::BAD_GATEWAY, "api", "The API is away", "Try again later.")
}

/// The gate of an app around a story's engine.
fn app(world: &World, configure: impl FnOnce(&mut GateConfig)) -> (AppGate, Router) {
    let mut config = GateConfig::new(Url::parse(HTTPS).unwrap());
    configure(&mut config);
    let gate = AppGate::around(world.engine.clone(), config).unwrap();
    let routes = Router::new()
        .route("/", get(hello))
        .route("/mine", get(mine).post(mine))
        .route("/rename", post(rename))
        .route("/analysts", get(analysts))
        .route("/reports/{name}", get(hello))
        .route("/broken", get(broken));
    let protected = gate.protect(routes);
    (gate, protected)
}

enum By<'a> {
    Tab(Option<&'a Browser>),
    Script(Option<&'a Browser>),
}
use By::{Script, Tab};

struct Answered(Response<()>, String);

async fn ask(app: &Router, method: &str, path: &str, by: By<'_>) -> Answered {
    let (mode, browser) = match by {
        Tab(browser) => ("navigate", browser),
        Script(browser) => ("cors", browser),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "app.example")
        .header("sec-fetch-mode", mode)
        .header("sec-fetch-site", "same-origin");
    if let Some(browser) = browser {
        let cookies: Vec<String> =
            browser.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        request = request.header(header::COOKIE, cookies.join("; "));
    }
    let response = app.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
    let (parts, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answered(Response::from_parts(parts, ()), String::from_utf8(body.to_vec()).unwrap())
}

impl Answered {
    fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    fn location(&self) -> Option<&str> {
        Some(self.0.headers().get(header::LOCATION)?.to_str().unwrap())
    }
}

#[tokio::test]
async fn handlers_meet_whom_they_ask_for() {
    let world = World::new().await;
    world.change_user("alice", json!({ "groups": ["analysts"] })).await;
    let (_gate, app) = app(&world, |_| {});
    let (alice, _) = world.signed_in("alice").await;
    let (mallory, _) = world.signed_in("mallory").await;
    let mut two = alice.clone();
    two.jar.insert("x".into(), format!("y; __Host-freshgate={}", "z".repeat(43)));

    let to_login = Some("/auth/login?next=%2Fmine%3Fa%3Db");
    let table = [
        ("GET", "/", Tab(None), 200, None, "nobody"),
        ("GET", "/", Tab(Some(&alice)), 200, None, "alice"),
        ("GET", "/reports/of-today", Tab(Some(&alice)), 200, None, "alice"),
        ("GET", "/nothing", Tab(Some(&alice)), 404, None, ""),
        ("GET", "/mine?a=b", Tab(Some(&alice)), 200, None, "alice\" holds a token"),
        ("GET", "/mine?a=b", Tab(None), 303, to_login, ""),
        ("GET", "/mine?a=b", Script(None), 401, None, "not_signed_in"),
        // No redirect could bring the form back, and no login mends two cookies.
        ("POST", "/mine", Tab(None), 401, None, "You are not signed in"),
        ("GET", "/mine", Tab(Some(&two)), 400, None, "cookie_conflict"),
        ("GET", "/analysts", Tab(Some(&alice)), 200, None, "alice"),
        ("GET", "/analysts", Tab(None), 303, Some("/auth/login?next=%2Fanalysts"), ""),
        ("GET", "/analysts", Tab(Some(&mallory)), 403, None, "You are not allowed here"),
        ("GET", "/analysts", Script(Some(&mallory)), 403, None, "not_allowed"),
        ("GET", "/broken", Tab(None), 502, None, "The API is away"),
        ("GET", "/broken", Script(None), 502, None, "\"error\":\"api\""),
        // Our own routes are there, and no route of the app's is needed for them.
        ("GET", "/auth/user", Script(Some(&alice)), 200, None, "alice"),
        ("GET", "/auth/user", Script(None), 401, None, "not_signed_in"),
    ];
    for (method, path, by, status, location, text) in table {
        let answered = ask(&app, method, path, by).await;
        let told = format!("{method} {path}: {} {}", answered.status(), answered.1);
        assert_eq!((answered.status(), answered.location()), (status, location), "{told}");
        assert!(answered.1.contains(text), "{told}");
    }
}

#[tokio::test]
async fn rules_of_the_gate_hold_before_any_handler() {
    let world = World::new().await;
    let (_gate, app) = app(&world, |config| {
        let only_bob = Condition::Claim { name: "sub".into(), one_of: vec!["bob".into()] };
        config.access =
            vec![freshgate_web::AccessRule { path: "/reports".into(), conditions: vec![only_bob] }];
    });
    let (alice, _) = world.signed_in("alice").await;
    // Not hers, or not to be read in one way.
    let table = [("/reports/x", 403), ("/Reports/x", 403), ("/reports%2Fx", 403), ("//reports/x", 400)];
    for (path, status) in table {
        assert_eq!(ask(&app, "GET", path, Tab(Some(&alice))).await.status(), status, "{path}");
    }
    assert_eq!(ask(&app, "GET", "/", Tab(Some(&alice))).await.status(), 200);
}

#[tokio::test]
async fn a_refresh_shows_the_new_claims_in_the_same_handler() {
    let world = World::new().await;
    let (_gate, app) = app(&world, |_| {});
    let (alice, key) = world.signed_in("alice").await;
    world.change_user("alice", json!({ "family_name": "Renamed" })).await;

    assert_eq!(ask(&app, "POST", "/rename", Script(Some(&alice))).await.1, "\"alice\"");

    let Opened::Open(session) = world.engine.open(key).await.unwrap() else { panic!("the session is over") };
    assert_eq!(session.claims()["family_name"], "Renamed");
    world.engine.end(key, EndReason::Operator).await.unwrap();
    let over = ask(&app, "POST", "/rename", Script(Some(&alice))).await;
    assert_eq!(over.status(), 401);
    assert!(over.1.contains("\"reason\":\"operator\""), "{}", over.1);
}

/// A route that hands the user out, as a socket keeps it.
async fn user_of(gate: &AppGate, browser: &Browser) -> User {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let keep = move |user: User| async move { sender.send(user).await.map_err(|_| ()).unwrap() };
    let app = gate.protect(Router::new().route("/", get(keep)));
    assert_eq!(ask(&app, "GET", "/", Tab(Some(browser))).await.status(), 200);
    receiver.recv().await.unwrap()
}

/// Less than a user who waits sleeps at most: whoever is not woken is too late.
const PATIENCE: Duration = Duration::from_secs(25);

#[tokio::test]
async fn a_socket_learns_of_changed_claims_and_of_the_end() {
    let world = World::new().await;
    let (gate, _) = app(&world, |_| {});
    let (alice, key) = world.signed_in("alice").await;
    let mut user = user_of(&gate, &alice).await;
    let ended = tokio::spawn({
        let user = user.clone();
        async move { user.ended().await }
    });

    world.change_user("alice", json!({ "family_name": "Renamed" })).await;
    world.engine.refresh(key, PATIENCE).await.unwrap();
    tokio::time::timeout(PATIENCE, user.changed()).await.unwrap().unwrap();
    assert_eq!(user.claims()["family_name"], "Renamed");
    assert!(!ended.is_finished());

    let other = tokio::spawn(async move { user.changed().await });
    world.engine.end(key, EndReason::Operator).await.unwrap();
    let over = Ended::Over(Some(EndReason::Operator));
    assert_eq!(tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap(), over);
    assert_eq!(tokio::time::timeout(PATIENCE, other).await.unwrap().unwrap(), Err(over));
}

#[tokio::test]
async fn a_socket_ends_when_a_rule_lets_its_user_in_no_longer() {
    let world = World::new().await;
    world.change_user("alice", json!({ "groups": ["analysts"] })).await;
    let (gate, _) = app(&world, |config| {
        let analysts = Condition::Claim { name: "groups".into(), one_of: vec!["analysts".into()] };
        config.access = vec![freshgate_web::AccessRule { path: "/".into(), conditions: vec![analysts] }];
    });
    let (alice, key) = world.signed_in("alice").await;
    let user = user_of(&gate, &alice).await;
    let ended = tokio::spawn(async move { user.ended().await });

    world.change_user("alice", json!({ "groups": [] })).await;
    world.engine.refresh(key, PATIENCE).await.unwrap();

    assert_eq!(tokio::time::timeout(PATIENCE, ended).await.unwrap().unwrap(), Ended::NotAllowed);
}

#[tokio::test]
async fn a_handler_signs_its_user_out_here_and_at_the_provider() {
    let world = World::new().await;
    let (gate, _) = app(&world, |_| {});
    let (alice, key) = world.signed_in("alice").await;
    let user = user_of(&gate, &alice).await;

    let answer = user.sign_out().await.unwrap();

    assert_eq!(world.end_of(key).await, Some(EndReason::Logout));
    let location = answer.headers()[header::LOCATION].to_str().unwrap();
    assert!(location.starts_with(&format!("{}/end_session?", world.provider.issuer())));
    let cookies: Vec<&str> =
        answer.headers().get_all(header::SET_COOKIE).iter().map(|cookie| cookie.to_str().unwrap()).collect();
    assert!(cookies.iter().any(|cookie| cookie.starts_with("__Host-freshgate=; ")), "{cookies:?}");
}

#[tokio::test]
async fn a_handler_without_a_gate_lets_nobody_in() {
    let app = Router::new().route("/", get(mine));
    assert_eq!(ask(&app, "GET", "/", Tab(None)).await.status(), 401);
}

#[tokio::test]
async fn what_is_asked_of_a_gate_is_checked() {
    use freshgate::{Secret, store::MemoryStore};
    let secret = || Secret::new("a secret of thirty-two characters");
    let usual =
        || AppGate::at("https://app.example/app/").sign_in_at("https://id.example", "app", Secret::new("x"));
    type Told = fn(&AppGateError) -> bool;
    let table: [(_, Told); 7] = [
        (AppGate::at("https://app.example"), |error| matches!(error, AppGateError::NoProvider)),
        (
            AppGate::at("app.example").sign_in_at("https://id.example", "app", secret()),
            |error| matches!(error, AppGateError::NotAnAddress(text) if text == "app.example"),
        ),
        (
            AppGate::at("https://app.example").sign_in_at("id.example", "app", secret()),
            |error| matches!(error, AppGateError::NotAnAddress(text) if text == "id.example"),
        ),
        (AppGate::at("https://app.example").sign_in_at("http://id.example", "app", secret()), |error| {
            matches!(error, AppGateError::InsecureProvider(_))
        }),
        (
            usual().sign_in_at("https://other.example", "app", secret()),
            |error| matches!(error, AppGateError::ProviderNamedTwice(name) if name == "default"),
        ),
        (usual().sessions_in(MemoryStore::new(), Secret::new("short")), |error| {
            matches!(error, AppGateError::ShortSecret)
        }),
        (usual().allow("/a//b", []), |error| matches!(error, AppGateError::Gate(_))),
    ];
    for (number, (builder, is_told)) in table.into_iter().enumerate() {
        let error = builder.open().unwrap_err();
        assert!(is_told(&error), "{number}: {error:?}");
    }

    let gate = usual().sessions_in(MemoryStore::new(), secret()).require_login().open().unwrap();
    let provider = gate.engine().providers().next().unwrap();
    assert_eq!(
        provider.config().metadata_url.as_str(),
        "https://id.example/.well-known/openid-configuration"
    );
    let app = gate.protect(Router::new().route("/app/", get(hello)));
    assert_eq!(ask(&app, "GET", "/app/", Tab(None)).await.location(), Some("/app/auth/login?next=%2Fapp%2F"));
    gate.close().await;
}

#[tokio::test]
async fn a_provider_is_asked_whether_it_knows_the_app() {
    let world = World::new().await;
    let (gate, _) = app(&world, |_| {});
    // One of the world's providers is nowhere.
    let problem = gate.ask_providers().await.unwrap_err();
    assert!(problem.may_pass(), "{problem:?}");
    assert!(problem.to_string().contains("`nowhere`"), "{problem}");

    let at_home = |secret: &str| {
        AppGate::at(HTTPS).sign_in_at(world.provider.issuer(), "app", freshgate::Secret::new(secret))
    };
    at_home("client secret").open().unwrap().ask_providers().await.unwrap();
    let problem = at_home("another").open().unwrap().ask_providers().await.unwrap_err();
    assert!(!problem.may_pass(), "{problem:?}");
}
