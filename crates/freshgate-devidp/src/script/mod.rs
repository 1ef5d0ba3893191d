//! Misbehaviour on demand, for tests.
//!
//! A layer around the honest provider: it delays requests, keeps them from it, and changes its answers on their way
//! out. The provider itself knows nothing of it, so that without scripting there is nothing in it that could lie. Owns
//! the rules, the log of requests, and the `/_script` and `/_log` endpoints.

mod admin;
mod alter;
mod carry_out;
mod jwt_fault;
mod log;
mod rule;
mod seen;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn_with_state, map_response_with_state};
use axum::routing::{delete, get, post};

use crate::provider::SharedProvider;
use jwt_fault::Strangers;
use log::RequestLog;
use rule::Rules;

/// What has been asked for and what has been seen.
struct Script {
    provider: SharedProvider,
    rules: Rules,
    log: RequestLog,
    strangers: Strangers,
}

/// Puts scripting around the honest provider.
pub(crate) fn around(honest: Router, provider: &SharedProvider) -> Router {
    let script = Arc::new(Script {
        provider: Arc::clone(provider),
        rules: Rules::default(),
        log: RequestLog::default(),
        strangers: Strangers::default(),
    });
    // In front of the honest router's own routing: a script may turn one request into another.
    let scripted = Router::new()
        .fallback_service(honest)
        .layer(from_fn_with_state(Arc::clone(&script), carry_out::carry_out))
        .layer(map_response_with_state(Arc::clone(provider), carry_out::date_by_own_clock));
    Router::new()
        .route("/_script", get(admin::list_rules).post(admin::add_rules).delete(admin::clear_rules))
        .route("/_script/{id}", delete(admin::remove_rule))
        .route("/_script/users", post(admin::put_user))
        .route("/_script/revoke", post(admin::revoke))
        .route("/_script/sign_out", post(admin::sign_out))
        .route("/_script/backchannel_logout", post(admin::backchannel_logout))
        .route("/_script/rotate_keys", post(admin::rotate_keys))
        .route("/_script/replace_nonce", post(admin::replace_nonce))
        .route("/_script/clock", post(admin::clock))
        .route("/_log", get(admin::log).delete(admin::clear_log))
        .with_state(script)
        .fallback_service(scripted)
}
