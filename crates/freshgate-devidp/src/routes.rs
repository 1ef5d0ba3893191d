//! Which path leads where.

use axum::Router;
use axum::middleware::map_response_with_state;
use axum::response::Redirect;
use axum::routing::{get, post};

use crate::config::Scripting;
use crate::provider::SharedProvider;
use crate::{authorize, demo_api, discovery, logout, pages, script, token, userinfo};

/// All that the provider serves, under the issuer's path.
pub(crate) fn routes(provider: &SharedProvider) -> Router {
    let base_path = provider.issuer.base_path();
    let home = Redirect::to(&format!("{base_path}/users"));
    let with_proof = Router::new()
        .route("/par", post(authorize::push))
        .route("/token", post(token::token))
        .route("/userinfo", get(userinfo::userinfo).post(userinfo::userinfo))
        .route("/api/whoami", get(demo_api::whoami))
        .route("/api/quote", get(demo_api::quote))
        .route_layer(map_response_with_state(provider.clone(), token::hand_out_nonce));
    let honest = Router::new()
        .route("/.well-known/openid-configuration", get(discovery::metadata))
        .route("/jwks", get(discovery::keys))
        .route("/authorize", get(authorize::get).post(authorize::post))
        .route("/sign-in", post(authorize::sign_in))
        .route("/consent", post(authorize::consent))
        .route("/revoke", post(token::revoke))
        .route("/end_session", get(logout::get).post(logout::post))
        .route("/end_session/confirm", post(logout::confirm))
        .route("/users", get(pages::list_users))
        .route("/users/edit", get(pages::edit_user).post(pages::save_user))
        .route("/users/add", post(pages::add_user))
        .route("/users/sign-out", post(pages::sign_out))
        .route("/", get(|| async { home }))
        .merge(with_proof)
        .with_state(provider.clone());
    let served = match provider.config.scripting {
        Scripting::Off => honest,
        Scripting::On => script::around(honest, provider),
    };
    if base_path.is_empty() { served } else { Router::new().nest_service(base_path, served) }
}
