//! What happens to each request while scripting is on.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts as RequestParts;
use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Script;
use super::alter::{alter, alter_callback, callback_location, canned, redirect_location};
use super::log::{Fate, OnTheWire};
use super::rule::{CannedAnswer, Fault, When};
use super::seen::{Endpoint, Seen};
use crate::config::DevUser;
use crate::parameters::Parameters;
use crate::provider::SharedProvider;
use crate::serve::CutSwitch;

const LARGEST_BODY: usize = 2 * 1024 * 1024;

/// How a request ends.
enum Outcome {
    Answer(Response),
    Cut,
}

/// A provider whose clock is wrong says so in `Date`, unless a rule has an answer with another one. The server would take
/// the machine's clock.
pub(super) async fn date_by_own_clock(
    State(provider): State<SharedProvider>,
    mut response: Response,
) -> Response {
    let seconds = u64::try_from(provider.now().seconds()).unwrap_or(0);
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    if let Ok(date) = HeaderValue::try_from(date) {
        response.headers_mut().entry(header::DATE).or_insert(date);
    }
    response
}

/// The layer around the honest provider.
pub(super) async fn carry_out(State(script): State<Arc<Script>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, LARGEST_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let Some(seen) = Seen::of(&script.provider, &parts, &body) else {
        return next.run(Request::from_parts(parts, Body::from(body))).await;
    };
    let cut = parts.extensions.get::<CutSwitch>().cloned();
    let wire = OnTheWire::begin(&script, &seen);
    let seq = wire.seq();
    // In its own task: a provider goes on with what it has begun when the client hangs up.
    let handling = tokio::spawn({
        let script = Arc::clone(&script);
        async move {
            let faults = script.rules.faults_for(&seen);
            let outcome = handle(&script, &seen, &faults, parts, body, next).await;
            match outcome {
                Outcome::Answer(response) => {
                    Outcome::Answer(script.log.handled(seq, &script.provider, response).await)
                }
                Outcome::Cut => Outcome::Cut,
            }
        }
    });
    match handling.await {
        Ok(Outcome::Answer(response)) => {
            wire.end(Fate::Answered);
            response
        }
        Ok(Outcome::Cut) => {
            wire.end(Fate::Cut);
            match cut {
                Some(cut) => cut.cut(),
                None => tracing::error!("there is no connection to cut"),
            }
            // The connection takes this with it when it goes.
            std::future::pending().await
        }
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

async fn handle(
    script: &Arc<Script>,
    seen: &Seen,
    faults: &[Fault],
    parts: RequestParts,
    body: Bytes,
    next: Next,
) -> Outcome {
    wait(faults.iter().map(|fault| fault.delay_before_ms)).await;
    for old_keys in faults.iter().filter_map(|fault| fault.rotate_keys) {
        script.rotate_keys(old_keys).await;
    }
    if cuts(faults, When::BeforeHandling) {
        return Outcome::Cut;
    }
    let response = match canned_answer(faults, When::BeforeHandling) {
        Some(answer) => canned(answer),
        None => {
            let request = signed_in_at_once(script, seen, faults, parts, body);
            changed(script, seen, faults, next.run(request).await).await
        }
    };
    let response = canned_answer(faults, When::AfterHandling).map(canned).unwrap_or(response);
    wait(faults.iter().map(|fault| fault.delay_after_ms)).await;
    if cuts(faults, When::AfterHandling) { Outcome::Cut } else { Outcome::Answer(response) }
}

async fn wait(delays: impl Iterator<Item = u64>) {
    let milliseconds = delays.sum();
    if milliseconds > 0 {
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
    }
}

fn cuts(faults: &[Fault], when: When) -> bool {
    faults.iter().any(|fault| fault.cut == Some(when))
}

fn canned_answer(faults: &[Fault], when: When) -> Option<&CannedAnswer> {
    faults.iter().filter_map(|fault| fault.respond.as_ref()).find(|answer| answer.when == when)
}

/// Turns an authorization request into what the sign-in page would send, if a user is to be signed in at once: by a
/// rule, or by the parameter `auto_login` of the request itself.
fn signed_in_at_once(
    script: &Script,
    seen: &Seen,
    faults: &[Fault],
    mut parts: RequestParts,
    body: Bytes,
) -> Request {
    let as_it_is = |parts, body| Request::from_parts(parts, Body::from(body));
    if seen.endpoint != Endpoint::Authorize || parts.uri.path() != "/authorize" {
        return as_it_is(parts, body);
    }
    let encoded = match parts.method {
        Method::POST => body.as_ref(),
        _ => parts.uri.query().unwrap_or_default().as_bytes(),
    };
    let Ok(parameters) = Parameters::parse(encoded) else { return as_it_is(parts, body) };
    let by_rule = faults.iter().rev().find_map(|fault| fault.auto_login.as_deref());
    let Some(sub) = by_rule.or(parameters.get("auto_login")) else { return as_it_is(parts, body) };

    script.provider.ledger.change(|state| state.seed_user(DevUser::named(sub)));
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("request", &parameters.encoded())
        .append_pair("user", sub)
        .finish();
    parts.method = Method::POST;
    parts.uri = Uri::from_static("/sign-in");
    parts.headers.remove(header::ORIGIN);
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    Request::from_parts(parts, Body::from(form))
}

/// Changes the answer of the honest provider.
async fn changed(script: &Arc<Script>, seen: &Seen, faults: &[Fault], response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    if seen.endpoint == Endpoint::Authorize {
        if let Some(mut location) = callback_location(&parts) {
            for fault in script.rules.faults_for_callback() {
                alter_callback(&fault, &mut location);
            }
            let location = HeaderValue::try_from(location.as_str()).expect("an address is plain ASCII");
            parts.headers.insert(header::LOCATION, location);
        }
        return Response::from_parts(parts, body);
    }
    if faults.is_empty() {
        return Response::from_parts(parts, body);
    }
    if let Some(mut location) = redirect_location(&parts).filter(|_| seen.endpoint == Endpoint::EndSession) {
        faults.iter().for_each(|fault| alter_callback(fault, &mut location));
        let location = HeaderValue::try_from(location.as_str()).expect("an address is plain ASCII");
        parts.headers.insert(header::LOCATION, location);
        return Response::from_parts(parts, body);
    }
    let body = to_bytes(body, usize::MAX).await.map(Vec::from).unwrap_or_default();
    let (script, seen, faults) = (Arc::clone(script), seen.clone(), faults.to_vec());
    // Signing with another key may first have to make one.
    let altering = tokio::task::spawn_blocking(move || {
        let body = faults.iter().fold(body, |body, fault| alter(&script, &seen, fault, &mut parts, body));
        Response::from_parts(parts, Body::from(body))
    });
    altering.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}
