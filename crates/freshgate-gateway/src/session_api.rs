//! The session API for the app behind the gate: a private listener, never the public one. The contract is
//! `docs/session-api.md`, and `session_api/openapi.json` for programs; tests hold them against each other.

#[cfg(test)]
mod description_tests;
#[cfg(test)]
mod posted_tests;
#[cfg(test)]
mod tests;

use std::{
    convert::Infallible,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, FromRequestParts, OptionalFromRequestParts, Query, State,
        rejection::{JsonRejection, QueryRejection},
    },
    http::{Method, StatusCode, header, request::Parts},
    middleware::{self, Next},
    response::{IntoResponse, Response, Sse, sse},
    routing::{get, post},
};
use freshgate::{
    Engine,
    engine::{Opened, PrepareError, PreparedLogin, RefreshError, RefreshOutcome, TryLater},
    events::SessionEvent,
    freshness,
    session::{EndReason, OpenSession, SessionKey},
    store::StoreError,
};
use freshgate_oidc::{AuthorizationParameters, DpopNonce, Secret};
use futures_util::stream;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use url::Url;

use crate::config::ExposedTokens;

/// How long a caller waits for the provider unless it says otherwise.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a caller may wait at most.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a quiet event stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// The largest body of a request.
const LARGEST_REQUEST: usize = 16 * 1024;

/// The API as an OpenAPI 3.1 document.
const DESCRIPTION: &str = include_str!("session_api/openapi.json");

/// The header by which a request names its session.
pub const SESSION_HEADER: &str = "freshgate-session";

/// What the API answers from.
#[derive(Clone)]
pub struct SessionApi {
    /// The engine.
    pub engine: Engine,
    /// By what apps prove themselves.
    pub upstream_secrets: UpstreamSecrets,
    /// Which tokens the app may see.
    pub expose_tokens: ExposedTokens,
    /// The path of the public login route.
    pub login_path: String,
}

/// By what each app behind the gate proves itself. Cheap to clone; clones are one.
#[derive(Clone, Debug)]
pub struct UpstreamSecrets(Arc<RwLock<Vec<Secret>>>);

impl UpstreamSecrets {
    /// These and no others.
    pub fn new(secrets: impl IntoIterator<Item = Secret>) -> Self {
        Self(Arc::new(RwLock::new(secrets.into_iter().collect())))
    }

    /// From now on these and no others.
    pub(crate) fn replace_by(&self, secrets: Vec<Secret>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = secrets;
    }

    /// Whether it is one of them. Each is looked at, so that the time tells nothing of which.
    fn know(&self, offered: &Secret) -> bool {
        let secrets = self.0.read().unwrap_or_else(PoisonError::into_inner);
        secrets.iter().fold(false, |known, secret| known | (secret == offered))
    }
}

impl SessionApi {
    /// The API as a router.
    pub fn into_router(self) -> Router {
        Router::new()
            .route("/v1/session", get(session).delete(end))
            .route("/v1/session/token", get(token))
            .route("/v1/session/refresh", post(refresh))
            .route(
                "/v1/session/authorization",
                post(authorization).layer(DefaultBodyLimit::max(LARGEST_REQUEST)),
            )
            .route("/v1/login", post(login).layer(DefaultBodyLimit::max(LARGEST_REQUEST)))
            .route("/v1/events", get(events))
            .route("/v1/openapi.json", get(description))
            .fallback(|| async {
                Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such resource")
            })
            .method_not_allowed_fallback(|| async {
                Problem::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "bad_request",
                    "the resource does not take this method",
                )
            })
            .layer(middleware::from_fn_with_state(self.clone(), authorize))
            .with_state(self)
    }

    fn document(&self, session: &OpenSession, outcome: RefreshOutcome) -> Json<Value> {
        let tokens = session.tokens();
        let mut exposed = serde_json::Map::new();
        if self.expose_tokens.access {
            exposed.insert("access".to_owned(), tokens.access_token.expose().into());
        }
        if let (true, Some(id_token)) = (self.expose_tokens.id, &tokens.id_token) {
            exposed.insert("id".to_owned(), id_token.expose().into());
        }
        // Where nothing can be renewed, asking again would be in vain.
        let validity = self.engine.policy().min_validity;
        let fresh_until = match outcome {
            // Nor before it may be tried again; and a token that is over is not fresh, whatever comes of asking.
            RefreshOutcome::Kept { retry_after, .. } => {
                let again = self.engine.clock().now() + retry_after;
                Some(tokens.expires_at.map_or(again, |expires_at| again.min(expires_at)))
            }
            RefreshOutcome::Refreshed
            | RefreshOutcome::Shared
            | RefreshOutcome::TokensOnly
            | RefreshOutcome::NotNeeded => {
                session.can_refresh().then(|| freshness::fresh_until(tokens, validity)).flatten()
            }
        };
        Json(json!({
            "session": session.key().to_string(),
            "provider": session.provider(),
            "generation": session.generation(),
            "claims": session.claims(),
            "tokens": exposed,
            "token_type": tokens.token_type,
            "expires_at": tokens.expires_at.map(|at| at.as_unix_seconds_f64()),
            "fresh_until": fresh_until.map(|at| at.as_unix_seconds_f64()),
            "outcome": outcome.code(),
            "reason": outcome.reason(),
        }))
    }
}

/// Lets in who knows an upstream's secret.
async fn authorize(State(api): State<SessionApi>, request: axum::extract::Request, next: Next) -> Response {
    let offered = request.headers().get(header::AUTHORIZATION);
    let offered = offered.and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    let offered_one = offered.is_some();
    let offered = offered.and_then(|offered| str::from_utf8(offered).ok()).map(Secret::new);
    if offered.is_some_and(|offered| api.upstream_secrets.know(&offered)) {
        next.run(request).await
    } else {
        let message = "the upstream secret is missing or wrong";
        // RFC 9110 section 11.6.1. Who has shown nothing is told no error (RFC 6750 section 3.1).
        let challenge = match offered_one {
            true => r#"Bearer realm="freshgate", error="invalid_token""#,
            false => r#"Bearer realm="freshgate""#,
        };
        let problem = Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
        ([(header::WWW_AUTHENTICATE, challenge)], problem).into_response()
    }
}

async fn session(State(api): State<SessionApi>, Named(key): Named) -> Result<Json<Value>, Problem> {
    match api.engine.open(key).await? {
        Opened::Open(session) => Ok(api.document(&session, RefreshOutcome::NotNeeded)),
        Opened::Ended(reason) => Err(RefreshError::SignInAgain(reason).into()),
        Opened::Unknown => Err(RefreshError::NotSignedIn.into()),
    }
}

#[derive(Deserialize)]
struct TokenQuery {
    min_validity: Option<f64>,
}

async fn token(
    State(api): State<SessionApi>,
    Named(key): Named,
    Patience(deadline): Patience,
    query: Result<Query<TokenQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let malformed = || Problem::bad_request("min_validity is not a number of seconds");
    let Query(TokenQuery { min_validity }) = query.map_err(|_| malformed())?;
    let validity = match min_validity {
        Some(seconds) => Some(Duration::try_from_secs_f64(seconds).map_err(|_| malformed())?),
        None => None,
    };
    let (fresh, outcome) = api.engine.fresh(key, validity, deadline).await?;
    Ok(api.document(fresh.session(), outcome))
}

async fn refresh(
    State(api): State<SessionApi>,
    Named(key): Named,
    Patience(deadline): Patience,
) -> Result<Json<Value>, Problem> {
    let (fresh, outcome) = api.engine.refresh(key, deadline).await?;
    Ok(api.document(fresh.session(), outcome))
}

/// A request that an app is about to send to an API.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiRequest {
    method: String,
    url: Url,
    #[serde(default)]
    nonce: Option<String>,
}

/// The header fields of an app's request to an API, with a token that is refreshed first if it is about to expire.
async fn authorization(
    State(api): State<SessionApi>,
    Named(key): Named,
    Patience(deadline): Patience,
    body: Result<Json<ApiRequest>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let malformed =
        || Problem::bad_parameter("the body is not {\"method\": …, \"url\": …, \"nonce\": …}".to_owned());
    let Json(request) = body.map_err(|_| malformed())?;
    let is_method = Method::from_bytes(request.method.as_bytes()).is_ok();
    if !is_method || !matches!(request.url.scheme(), "http" | "https") {
        return Err(malformed());
    }
    let nonce = match &request.nonce {
        Some(nonce) => Some(DpopNonce::parse(nonce).ok_or_else(malformed)?),
        None => None,
    };
    if !api.expose_tokens.access {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "not_exposed",
            "The access token is not among those that `expose_tokens` names.",
        ));
    }
    let (fresh, _) = api.engine.fresh(key, None, deadline).await?;
    let carried = api.engine.authorization(&fresh, &request.method, &request.url, nonce.as_ref());
    let mut headers = serde_json::Map::new();
    headers.insert("Authorization".to_owned(), carried.authorization.expose().into());
    if let Some(proof) = carried.dpop {
        headers.insert("DPoP".to_owned(), proof.expose().into());
    }
    Ok(Json(json!({"headers": headers})))
}

async fn end(State(api): State<SessionApi>, Named(key): Named) -> Result<StatusCode, Problem> {
    api.engine.end(key, EndReason::Logout).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What an app wants to ask for in a login.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WantedLogin {
    provider: String,
    #[serde(default)]
    parameters: serde_json::Map<String, Value>,
}

/// Prepares a login for the browser whose session the request names, or for one that has none.
async fn login(
    State(api): State<SessionApi>,
    session: Option<Named>,
    body: Result<Json<WantedLogin>, JsonRejection>,
) -> Result<Json<Value>, Problem> {
    let Json(wanted) =
        body.map_err(|_| Problem::bad_request("the body is not {\"provider\": …, \"parameters\": {…}}"))?;
    let mut parameters = AuthorizationParameters::default();
    for (name, value) in &wanted.parameters {
        let text = parameter_text(value).ok_or_else(|| {
            Problem::bad_parameter(format!("the parameter {name:?} cannot be such a value"))
        })?;
        parameters.set(name, &text).map_err(|error| Problem::bad_parameter(error.to_string()))?;
    }
    let session = session.map(|Named(key)| key);
    let login = PreparedLogin { provider: wanted.provider, parameters, session };
    let prepared = api.engine.prepare_login(&login)?;
    Ok(Json(json!({"path": format!("{}?prepared={}", api.login_path, prepared.expose())})))
}

/// A value as it stands in an authorization request: words of a list are separated by spaces, as those of `scope` are, an
/// object is JSON, as `claims` is, and nothing takes the parameter away. `None` for a list of anything but texts.
fn parameter_text(value: &Value) -> Option<String> {
    Some(match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
        Value::Array(words) => words.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?.join(" "),
    })
}

async fn events(State(api): State<SessionApi>) -> impl IntoResponse {
    let ready = sse::Event::default().event("ready").data("{}");
    let events = stream::unfold((Some(ready), api.engine.events()), async |(ready, mut events)| {
        let event = match ready {
            Some(ready) => ready,
            None => next_event(&mut events).await?,
        };
        Some((Ok::<_, Infallible>(event), (None, events)))
    });
    Sse::new(events).keep_alive(sse::KeepAlive::new().interval(KEEP_ALIVE))
}

/// The next event. `None` ends the stream: the listener lagged, and reads its sessions again when it is back.
async fn next_event(events: &mut Receiver<SessionEvent>) -> Option<sse::Event> {
    let (name, data) = match events.recv().await {
        Ok(SessionEvent::Changed { key, generation, claims_changed }) => (
            "changed",
            json!({"session": key.to_string(), "generation": generation, "claims_changed": claims_changed}),
        ),
        Ok(SessionEvent::Ended { key, reason }) => {
            ("ended", json!({"session": key.to_string(), "reason": reason.code()}))
        }
        Ok(SessionEvent::Missed) | Err(RecvError::Lagged(_) | RecvError::Closed) => return None,
    };
    Some(sse::Event::default().event(name).data(data.to_string()))
}

async fn description() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DESCRIPTION)
}

/// The session that a request names.
struct Named(SessionKey);

impl<S: Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts
            .headers
            .get(SESSION_HEADER)
            .and_then(|value| SessionKey::parse(value.to_str().ok()?))
            .map(Self)
            .ok_or_else(|| Problem::bad_request("the header Freshgate-Session is missing or no handle"))
    }
}

impl<S: Sync> OptionalFromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, Problem> {
        match parts.headers.contains_key(SESSION_HEADER) {
            true => <Self as FromRequestParts<S>>::from_request_parts(parts, state).await.map(Some),
            false => Ok(None),
        }
    }
}

/// How long the caller waits.
struct Patience(Duration);

impl<S: Sync> FromRequestParts<S> for Patience {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("freshgate-timeout") else { return Ok(Self(DEFAULT_TIMEOUT)) };
        let seconds: Option<f64> = value.to_str().ok().and_then(|text| text.parse().ok());
        seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .map(|timeout| Self(timeout.min(LONGEST_TIMEOUT)))
            .ok_or_else(|| Problem::bad_request("the header Freshgate-Timeout is not a number of seconds"))
    }
}

/// An answer that is not a session.
struct Problem {
    status: StatusCode,
    error: &'static str,
    reason: Option<&'static str>,
    message: String,
    retry_after: Option<Duration>,
}

impl Problem {
    fn new(status: StatusCode, error: &'static str, message: impl Into<String>) -> Self {
        Self { status, error, reason: None, message: message.into(), retry_after: None }
    }

    fn bad_request(message: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    fn bad_parameter(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_parameter", message)
    }
}

impl From<RefreshError> for Problem {
    fn from(error: RefreshError) -> Self {
        let (status, message, retry_after) = match &error {
            RefreshError::SignInAgain(_) => {
                (StatusCode::GONE, "The session is over. Sign in again.".to_owned(), None)
            }
            RefreshError::TryLater(TryLater { retry_after, failure }) => {
                let message = format!("The session cannot be refreshed now: {failure}.");
                (StatusCode::SERVICE_UNAVAILABLE, message, Some(*retry_after))
            }
            RefreshError::NotSignedIn => {
                (StatusCode::NOT_FOUND, "There is no such session.".to_owned(), None)
            }
            RefreshError::NoRefreshToken => {
                let message = "The provider issued no refresh token, so the tokens cannot be renewed.";
                (StatusCode::CONFLICT, message.to_owned(), None)
            }
        };
        Self { status, error: error.code(), reason: error.reason(), message, retry_after }
    }
}

impl From<PrepareError> for Problem {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::UnknownProvider(_) => {
                Self::new(StatusCode::NOT_FOUND, "unknown_provider", error.to_string())
            }
            _ => Self::bad_parameter(error.to_string()),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the session API cannot answer");
        Self {
            reason: Some("store"),
            retry_after: Some(Duration::from_secs(1)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, "try_later", "The session store failed.")
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "error": self.error,
            "reason": self.reason,
            "message": self.message,
            "retry_after": self.retry_after.map(|duration| duration.as_secs_f64()),
        });
        (self.status, Json(body)).into_response()
    }
}
