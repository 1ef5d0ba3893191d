//! Sign in once, stay signed in: what an axum app gets from freshgate.
//!
//! ```sh
//! examples/axum/run
//! ```
//!
//! The app itself is what any app is: routes and handlers. A handler that takes a `User` is reached by signed-in users
//! alone, and no token that it reads is ever stale.

use std::{env, error::Error, net::SocketAddr};

use askama::Template;
use axum::{
    Json, Router,
    extract::{
        State, WebSocketUpgrade,
        ws::{CloseFrame, Message, WebSocket},
    },
    response::{Html, Response},
    routing::{get, post},
};
use freshgate::{Secret, store::SqliteStore};
use freshgate_web::{AppGate, Failure, Fault, Role, User, UserWith};
use http::{Method, StatusCode, header};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use url::Url;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt().init();
    let issuer = setting("ISSUER", "http://127.0.0.1:9400");
    let api = Url::parse(&setting("API", &format!("{issuer}/api/quote")))?;

    let gate = AppGate::at(setting("PUBLIC_ADDRESS", "http://localhost:8501"))
        .sign_in_at(issuer, setting("CLIENT_ID", "app"), Secret::new(setting("CLIENT_SECRET", "secret")))
        .sessions_in(
            SqliteStore::open(setting("SESSIONS", "sessions.db"))?,
            Secret::new(setting("SESSION_SECRET", "for development: 32 characters or more")),
        )
        .reached_directly()
        .open()?;
    gate.ask_providers().await?;

    let app = Router::new()
        .route("/", get(home))
        .route("/analysts", get(analysts))
        .route("/refresh", post(refresh))
        .route("/quote", get(quote))
        .route("/live", get(live))
        .with_state(api);
    let app = gate.protect(app).into_make_service_with_connect_info::<SocketAddr>();
    let listener = TcpListener::bind(setting("LISTEN", "127.0.0.1:8501")).await?;
    axum::serve(listener, app).with_graceful_shutdown(stopped()).await?;
    gate.close().await;
    Ok(())
}

#[derive(Template)]
#[template(path = "home.html")]
struct Home {
    user: Option<User>,
}

/// For everybody: who is not signed in finds a link to the login here.
async fn home(user: Option<User>) -> Result<Html<String>, Failure> {
    Ok(Html(Home { user }.render().map_err(broken)?))
}

struct Analyst;

impl Role for Analyst {
    fn is_held_by(user: &User) -> bool {
        user.has("groups", "analysts")
    }
}

/// For one group alone. Who is not signed in is sent to the login first, and comes back here.
async fn analysts(user: UserWith<Analyst>) -> String {
    format!("Only analysts read this, and {} is one.", name(&user))
}

/// New tokens and claims, without a redirect or a reload.
async fn refresh(mut user: User) -> Result<Json<Value>, Failure> {
    let before = name(&user).to_owned();
    user.refresh().await?;
    Ok(Json(json!({ "before": before, "name": name(&user), "token": user.session().generation() })))
}

/// Calls an API with the user's access token, which is fresh whenever it is read.
async fn quote(user: User, State(api): State<Url>) -> Result<(StatusCode, String), Failure> {
    let carried = user.authorization(&Method::GET, &api).await?;
    let mut request = reqwest::Client::new().get(api);
    request = request.header(header::AUTHORIZATION, carried.authorization.expose());
    if let Some(proof) = &carried.dpop {
        request = request.header("DPoP", proof.expose());
    }
    let answer = request.send().await.map_err(unreachable)?;
    Ok((answer.status(), answer.text().await.map_err(unreachable)?))
}

/// Tells a page of changed claims, and of the end of the session.
async fn live(user: User, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(move |socket| tell_changes(user, socket))
}

async fn tell_changes(mut user: User, mut socket: WebSocket) {
    loop {
        tokio::select! {
            changed = user.changed() => {
                let message = match changed {
                    Ok(()) => {
                        let shown = json!({ "name": name(&user), "token": user.session().generation() });
                        Message::text(shown.to_string())
                    }
                    Err(_) => Message::Close(Some(CloseFrame { code: 4401, reason: "signed out".into() })),
                };
                if socket.send(message).await.is_err() || changed.is_err() {
                    return;
                }
            }
            received = socket.recv() => match received {
                Some(Ok(_)) => user.is_active(),
                Some(Err(_)) | None => return,
            },
        }
    }
}

fn name(user: &User) -> &str {
    let claims = user.claims();
    claims.get("name").or(claims.get("sub")).and_then(Value::as_str).unwrap_or_default()
}

fn broken(error: askama::Error) -> Failure {
    Failure::new(Fault::Us, StatusCode::INTERNAL_SERVER_ERROR, "page", "This page is broken", "Tell us.")
        .caused_by(error)
}

fn unreachable(error: reqwest::Error) -> Failure {
    Failure::new(
        Fault::Upstream,
        StatusCode::BAD_GATEWAY,
        "api",
        "The API does not answer",
        "Try again later.",
    )
    .caused_by(error)
}

fn setting(name: &str, otherwise: &str) -> String {
    env::var(name).unwrap_or_else(|_| otherwise.to_owned())
}

/// Until Ctrl-C, or until whoever started this wants it to end.
async fn stopped() {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
        .expect("a Unix system that knows SIGTERM");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated.recv() => {}
    }
}
