//! What answers at an address of the gate.

use freshgate::provider::{ProviderAnswer, Transport};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::Value;
use url::Url;

use super::Asker;
use crate::check::facts::{Asked, GateProbe};

/// Asks `start`, the app's start, who answers there. `host`: the host that browsers ask for, if that is another.
pub(in crate::check) async fn probe(
    asker: &mut Asker,
    transport: &dyn Transport,
    start: &Url,
    host: Option<&str>,
) -> GateProbe {
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    if let Some(host) = host.and_then(|host| HeaderValue::from_str(host).ok()) {
        headers.insert(header::HOST, host);
    }
    let Ok(user) = start.join("auth/user") else {
        return GateProbe::SomethingElse(StatusCode::NOT_FOUND);
    };
    let answer = match asker.get(transport, &user, headers.clone()).await {
        Asked::Unreached(unreached) => return GateProbe::Unreached(unreached),
        Asked::Answered(answer) if is_ours(&answer) => start.join("_stcore/health"),
        Asked::Answered(answer) => return GateProbe::SomethingElse(answer.status),
    };
    let app = match answer {
        Ok(health) => asker.get(transport, &health, headers).await,
        Err(_) => return GateProbe::SomethingElse(StatusCode::NOT_FOUND),
    };
    let app = match app {
        Asked::Answered(answer) => Asked::Answered(answer.status),
        Asked::Unreached(unreached) => Asked::Unreached(unreached),
    };
    GateProbe::Gate { app }
}

/// Whether this is what a freshgate says to somebody who is not signed in.
fn is_ours(answer: &ProviderAnswer) -> bool {
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    answer.status == StatusCode::UNAUTHORIZED
        && body.is_some_and(|body| body["error"] == "not_signed_in" && body["request_id"].is_string())
}
