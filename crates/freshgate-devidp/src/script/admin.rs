//! The endpoints by which a test directs the provider and looks at what it saw.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Script;
use super::jwt_fault::JwtFault;
use super::rule::Rule;
use crate::config::DevUser;
use crate::logout::{everywhere, logout_token_claims, notices};
use crate::parameters::Parameters;
use crate::signing::OldKeys;
use crate::state::Whose;

type Shared = State<Arc<Script>>;

/// A script that cannot be understood.
pub(super) struct BadScript(String);

impl IntoResponse for BadScript {
    fn into_response(self) -> Response {
        (StatusCode::BAD_REQUEST, Json(json!({"error": self.0}))).into_response()
    }
}

impl From<serde_json::Error> for BadScript {
    fn from(error: serde_json::Error) -> BadScript {
        BadScript(error.to_string())
    }
}

/// GET `/_script`: the rules and how often each has matched.
pub(super) async fn list_rules(State(script): Shared) -> Json<Value> {
    Json(json!({"rules": script.rules.list()}))
}

/// POST `/_script`: one rule, or `{"rules": […]}`.
pub(super) async fn add_rules(State(script): Shared, Json(body): Json<Value>) -> Result<Response, BadScript> {
    let rules = match body {
        Value::Object(mut object) if object.contains_key("rules") && object.len() == 1 => {
            serde_json::from_value::<Vec<Rule>>(object.remove("rules").unwrap_or_default())?
        }
        rule => vec![serde_json::from_value::<Rule>(rule)?],
    };
    let ids = script.rules.add(rules);
    Ok((StatusCode::CREATED, Json(json!({"ids": ids}))).into_response())
}

/// DELETE `/_script`: forgets all rules.
pub(super) async fn clear_rules(State(script): Shared) -> StatusCode {
    script.rules.clear();
    StatusCode::NO_CONTENT
}

/// DELETE `/_script/{id}`: forgets one.
pub(super) async fn remove_rule(State(script): Shared, Path(id): Path<u64>) -> StatusCode {
    if script.rules.remove(id) { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PutUser {
    sub: String,
    claims: Map<String, Value>,
}

/// POST `/_script/users` with `sub` and `claims`: adds a user or replaces all claims of one.
pub(super) async fn put_user(
    State(script): Shared,
    Json(mut put): Json<PutUser>,
) -> Result<StatusCode, BadScript> {
    put.claims.insert("sub".to_owned(), put.sub.into());
    let user = DevUser::from_claims(put.claims).map_err(|error| BadScript(error.to_string()))?;
    script.provider.ledger.change(|state| state.put_user(user));
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct OfUser {
    sub: String,
}

/// POST `/_script/revoke` with `sub`: ends all grants of a user and tells nobody.
pub(super) async fn revoke(State(script): Shared, Json(of): Json<OfUser>) -> Json<Value> {
    let revoked = script.provider.ledger.change(|state| state.revoke_grants_of(&Whose::User(of.sub)));
    Json(json!({"revoked": revoked.len()}))
}

/// POST `/_script/sign_out` with `sub`: what the button "sign out everywhere" does.
pub(super) async fn sign_out(State(script): Shared, Json(of): Json<OfUser>) -> Json<Value> {
    let ended = everywhere(&script.provider, &Whose::User(of.sub)).await;
    Json(json!({"sessions": ended.sessions, "grants": ended.grants}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BackchannelLogout {
    sub: String,
    /// What is wrong with the logout tokens.
    #[serde(default)]
    token: JwtFault,
}

/// POST `/_script/backchannel_logout` with `sub`, and what is wrong with the `token`: posts a logout token for each
/// session of the user to each of its clients, and ends nothing here.
pub(super) async fn backchannel_logout(
    State(script): Shared,
    Json(wanted): Json<BackchannelLogout>,
) -> Json<Value> {
    let provider = &script.provider;
    let now = provider.now();
    let whose = Whose::User(wanted.sub);
    let (sessions, grants) = provider.ledger.read(|state| {
        let sessions: Vec<_> = state.sessions_of(&whose, now).cloned().collect();
        let grants: Vec<_> = state.grants_of(&whose, now).cloned().collect();
        (sessions, grants)
    });
    let tokens: Vec<_> = notices(provider, &sessions, &grants)
        .into_iter()
        .map(|notice| {
            let Value::Object(claims) = logout_token_claims(provider, &notice, now) else {
                unreachable!("claims are an object")
            };
            let token = wanted.token.sign(claims, "logout+jwt", &provider.keyring, &script.strangers);
            (notice, token)
        })
        .collect();
    let deliveries: Vec<Value> = provider
        .messenger
        .deliver(tokens)
        .await
        .into_iter()
        .map(|delivery| {
            json!({
                "client_id": delivery.client_id,
                "status": delivery.status.ok().map(|status| status.as_u16()),
                "cache_control": delivery.cache_control,
            })
        })
        .collect();
    Json(json!({"deliveries": deliveries}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RotateKeys {
    old: OldKeys,
}

/// POST `/_script/rotate_keys` with `old`: `keep` or `withdraw`.
pub(super) async fn rotate_keys(State(script): Shared, Json(wanted): Json<RotateKeys>) -> StatusCode {
    script.rotate_keys(wanted.old).await;
    StatusCode::NO_CONTENT
}

impl Script {
    /// Replaces the signing keys.
    pub(super) async fn rotate_keys(&self, old: OldKeys) {
        let provider = Arc::clone(&self.provider);
        let rotation = tokio::task::spawn_blocking(move || provider.keyring.rotate(old));
        rotation.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        // The keys are saved with the state.
        self.provider.ledger.change(|_| ());
    }
}

/// POST `/_script/replace_nonce`: the nonce that was handed out so far is good no longer.
pub(super) async fn replace_nonce(State(script): Shared) -> StatusCode {
    script.provider.nonces.replace();
    StatusCode::NO_CONTENT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MoveClock {
    offset_ms: i64,
}

/// POST `/_script/clock` with `offset_ms`: how far the provider's clock is ahead of the machine's.
pub(super) async fn clock(State(script): Shared, Json(wanted): Json<MoveClock>) -> StatusCode {
    script.provider.clock.move_by(wanted.offset_ms);
    StatusCode::NO_CONTENT
}

/// GET `/_log`, with `?after=SEQ` only what came later.
pub(super) async fn log(State(script): Shared, RawQuery(query): RawQuery) -> Json<Value> {
    let query = Parameters::parse(query.unwrap_or_default().as_bytes()).unwrap_or_default();
    let after = query.get("after").and_then(|after| after.parse().ok()).unwrap_or(0);
    Json(script.log.show(after, &script.provider))
}

/// DELETE `/_log`: forgets entries and counters.
pub(super) async fn clear_log(State(script): Shared) -> StatusCode {
    script.log.clear(&script.provider);
    StatusCode::NO_CONTENT
}
