//! A small API that wants an access token, for an app that has to show that its token is good.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::clock::UnixTime;
use crate::provider::{Provider, SharedProvider};
use crate::token::{Bearer, NoAccess, Resource, bearer};

/// GET `/api/whoami`: whose token it is and how long it lives.
pub(crate) async fn whoami(
    State(provider): State<SharedProvider>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, NoAccess> {
    let caller = bearer(&provider, &Resource { method: &method, path: "/api/whoami" }, &headers)?;
    let name = caller.user.display_name().to_owned();
    Ok(answer(&provider, &caller, &[("name", name.into())]))
}

/// GET `/api/quote`: a made-up share price that moves from second to second.
pub(crate) async fn quote(
    State(provider): State<SharedProvider>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, NoAccess> {
    let caller = bearer(&provider, &Resource { method: &method, path: "/api/quote" }, &headers)?;
    let price = price(provider.now());
    Ok(answer(
        &provider,
        &caller,
        &[("symbol", "FRSH".into()), ("price", price.into()), ("currency", "EUR".into())],
    ))
}

fn answer(provider: &Provider, caller: &Bearer, more: &[(&str, Value)]) -> Response {
    let now = provider.now();
    let mut body = json!({
        "sub": caller.user.sub,
        "token_remaining_seconds": caller.expires.since(now).as_millis() as f64 / 1000.0,
        "server_time": now.millis() as f64 / 1000.0,
    });
    for (name, value) in more {
        body[name] = value.clone();
    }
    ([(header::CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// Three waves over each other look like a market to the eye, and the same second always has the same price.
fn price(now: UnixTime) -> f64 {
    let second = now.seconds() as f64;
    let waves = 9.0 * (second / 311.0).sin() + 4.0 * (second / 47.0).sin() + 1.5 * (second / 7.0).sin();
    ((100.0 + waves) * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::price;
    use crate::clock::UnixTime;

    #[test]
    fn prices_stay_plausible_and_move() {
        let at = |second: i64| price(UnixTime::from_millis(second * 1000));
        assert!((0..10_000).map(at).all(|price| (85.0..115.0).contains(&price)));
        assert_ne!(at(1), at(8));
    }
}
