//! A login that somebody makes for the check: a listener in the gate's place, and everything that a login and a refresh
//! bring.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
};
use freshgate::{
    Engine, Secret,
    engine::{
        FlowId, LoginCompleted, LoginError, LoginRequest, RefreshError, ReplacedToken, Trial, TriedUserInfo,
    },
    provider::Provider,
    session::EndReason,
};
use freshgate_oidc::{AuthorizationParameters, CallbackParameters};
use hyper::body::Incoming;
use tokio::{net::TcpListener, sync::mpsc};
use tower::ServiceExt as _;
use url::Url;

use super::{Asker, chain};
use crate::{
    check::facts::{LoginFacts, ReplacedTokenFacts, UserInfoFacts},
    listener::{Listener, ListenerLimits, Tls},
    words::printable,
};

/// How long somebody may take to sign in.
const PATIENCE: Duration = Duration::from_secs(600);
/// After this long an ID token with a new `iat` is another one for sure.
const ANOTHER_SECOND: Duration = Duration::from_millis(1_100);
/// How long a refresh may take.
const REFRESH_DEADLINE: Duration = Duration::from_secs(60);

/// What is tried at a login.
pub(in crate::check) struct Wanted<'a> {
    pub(in crate::check) provider: &'a Provider,
    /// The app's start, and where the provider sends browsers back to.
    pub(in crate::check) start: Url,
    pub(in crate::check) redirect_uri: Url,
    /// With what certificate the gate shows itself, if it speaks TLS.
    pub(in crate::check) tls: Option<Tls>,
    /// Whether a refresh token that was replaced is sent again.
    pub(in crate::check) probe_grace: bool,
}

/// Why nobody signed in.
#[derive(Debug, thiserror::Error)]
pub(in crate::check) enum NoLogin {
    /// Nobody came.
    #[error("nobody signed in within {} minutes", PATIENCE.as_secs() / 60)]
    Nobody,
    /// It began, and did not end well.
    #[error(transparent)]
    Failed(#[from] LoginError),
}

/// Waits for somebody to sign in by way of `listener`, and tries out what the login brings. The session is ended afterwards.
pub(in crate::check) async fn login(
    asker: &mut Asker,
    engine: &Engine,
    wanted: &Wanted<'_>,
    listener: TcpListener,
) -> Result<LoginFacts, NoLogin> {
    let (arrived, mut arrivals) = mpsc::channel(8);
    let place = Arc::new(Place {
        engine: engine.clone(),
        provider: wanted.provider.name().to_owned(),
        start: wanted.start.clone(),
        redirect_uri: wanted.redirect_uri.clone(),
        flows: Mutex::default(),
        arrived,
    });
    asker.tell("waiting for somebody to sign in");
    let router = Router::new().fallback(answer).with_state(place);
    let service = tower::service_fn(move |request: http::Request<Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    let serving = Listener::new(listener, ListenerLimits::default()).with_tls(wanted.tls.clone()).serve(
        service,
        std::future::pending(),
        Duration::ZERO,
    );
    let arrival =
        async { tokio::time::timeout(PATIENCE, arrivals.recv()).await.ok().flatten().ok_or(NoLogin::Nobody) };
    // The listener goes on while the session is tried out, so that the browser gets its last page.
    let tried = async {
        let completed = arrival.await??;
        let facts = try_out(asker, engine, wanted, &completed).await;
        // An end that fails is no harm: the store is in memory.
        let _ = engine.end(completed.session.key(), EndReason::Operator).await;
        Ok(facts)
    };
    tokio::select! {
        tried = tried => tried,
        // A listener that serves does not end by itself.
        _ = serving => Err(NoLogin::Nobody),
    }
}

async fn try_out(
    asker: &mut Asker,
    engine: &Engine,
    wanted: &Wanted<'_>,
    completed: &LoginCompleted,
) -> LoginFacts {
    let answered_at = asker.clock.now();
    let session = &completed.session;
    let mut trial = engine.trial(session);
    let tokens = trial.tokens();
    asker.tell("asking userinfo");
    let userinfo = match trial.userinfo().await {
        TriedUserInfo::NotAsked => UserInfoFacts::NotAsked,
        TriedUserInfo::Agrees { claims } => UserInfoFacts::Agrees { claims },
        TriedUserInfo::Failed(error) => UserInfoFacts::Failed(chain(&*error)),
    };
    let refresh = match tokens.refresh_token_bytes {
        None => None,
        Some(_) => {
            asker.tell("refreshing");
            tokio::time::sleep(ANOTHER_SECOND).await;
            Some(trial.refresh(REFRESH_DEADLINE).await.map_err(|error: RefreshError| chain(&error)))
        }
    };
    let replaced_token = match &refresh {
        Some(Ok(_)) if wanted.probe_grace => replaced_token(asker, &mut trial).await,
        _ => ReplacedTokenFacts::NotTried,
    };
    let scopes = match wanted.provider.metadata().await {
        Ok(metadata) => {
            let config = wanted.provider.config();
            config.scopes_for(&metadata, config.authorize_parameters.scope())
        }
        Err(_) => Vec::new(),
    };
    let names = ["email", "preferred_username", "name", "sub"];
    let name = names.iter().find_map(|name| session.claims().get(*name)?.as_str());
    LoginFacts {
        user: printable(name.unwrap_or("somebody")),
        tokens,
        answered_at,
        scopes,
        userinfo,
        refresh,
        replaced_token,
    }
}

async fn replaced_token(asker: &mut Asker, trial: &mut Trial) -> ReplacedTokenFacts {
    asker.tell("sending the refresh token of before once more");
    let replaced = trial.send_replaced_token().await;
    let mut alive = async || trial.refresh(REFRESH_DEADLINE).await.is_ok();
    match replaced {
        ReplacedToken::None => ReplacedTokenFacts::NoneReplaced,
        ReplacedToken::Accepted => ReplacedTokenFacts::Accepted { alive: alive().await },
        ReplacedToken::Refused(_) => ReplacedTokenFacts::Refused { alive: alive().await },
        ReplacedToken::Unclear(error) => ReplacedTokenFacts::Unclear(chain(&*error)),
    }
}

/// What stands in the gate's place meanwhile.
struct Place {
    engine: Engine,
    provider: String,
    start: Url,
    redirect_uri: Url,
    /// The logins under way. A gate leaves them with the browser; here they are for this process alone.
    flows: Mutex<HashMap<FlowId, Secret>>,
    arrived: mpsc::Sender<Result<LoginCompleted, LoginError>>,
}

/// More logins than this are not begun: somebody plays.
const MOST_FLOWS: usize = 100;

async fn answer(State(place): State<Arc<Place>>, request: Request) -> Response {
    let path = request.uri().path();
    if path == place.start.path() {
        place.begin().await
    } else if path == place.redirect_uri.path() {
        place.end(request.uri().query().unwrap_or_default()).await
    } else {
        page(StatusCode::NOT_FOUND, "There is nothing here. freshgate checks a provider at this address.")
    }
}

impl Place {
    fn flows(&self) -> std::sync::MutexGuard<'_, HashMap<FlowId, Secret>> {
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the browser to the provider.
    async fn begin(&self) -> Response {
        let request = LoginRequest {
            provider: self.provider.clone(),
            redirect_uri: self.redirect_uri.clone(),
            next: "/".to_owned(),
            parameters: AuthorizationParameters::default(),
        };
        if self.flows().len() >= MOST_FLOWS {
            return page(StatusCode::TOO_MANY_REQUESTS, "Too many logins were begun.");
        }
        match self.engine.begin_login(request).await {
            Ok(started) => {
                self.flows().insert(started.flow, started.sealed_flow);
                let mut answer = Redirect::to(started.authorize.expose()).into_response();
                let headers = answer.headers_mut();
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
                answer
            }
            Err(error) => self.failed(error).await,
        }
    }

    /// Takes the browser back.
    async fn end(&self, query: &str) -> Response {
        const NOT_OURS: &str = "This answers no login of this check. Begin again.";
        let Ok(callback) = CallbackParameters::parse(query) else {
            return page(StatusCode::BAD_REQUEST, NOT_OURS);
        };
        // Each is good for one answer.
        let Some(sealed) = self.flows().remove(&FlowId::of_state(callback.state())) else {
            return page(StatusCode::BAD_REQUEST, NOT_OURS);
        };
        match self.engine.complete_login(&callback, Some(sealed.expose())).await {
            Ok(completed) => {
                // Whoever comes second is not waited for any more.
                let _ = self.arrived.send(Ok(completed)).await;
                page(StatusCode::OK, "Signed in. The terminal tells the rest; you can close this page.")
            }
            Err(error) => self.failed(error).await,
        }
    }

    async fn failed(&self, error: LoginError) -> Response {
        let _ = self.arrived.send(Err(error)).await;
        page(StatusCode::BAD_GATEWAY, "That did not work. The terminal tells why; you can close this page.")
    }
}

fn page(status: StatusCode, text: &'static str) -> Response {
    let html = format!("<!doctype html><meta charset=utf-8><title>freshgate check</title><p>{text}</p>");
    let headers = [
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (status, headers, Html(html)).into_response()
}
