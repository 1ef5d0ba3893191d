//! Changing answers on their way out.

use axum::http::response::Parts;
use axum::http::{HeaderName, HeaderValue, Response as HttpResponse, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};
use url::Url;

use super::Script;
use super::jwt_fault::JwtFault;
use super::rule::{CannedAnswer, Fault};
use super::seen::{Endpoint, Seen};
use crate::clock::UnixTime;
use crate::token::at_hash;

/// Changes a successful JSON answer. Anything else stays as it is.
pub(super) fn alter(
    script: &Script,
    seen: &Seen,
    fault: &Fault,
    parts: &mut Parts,
    body: Vec<u8>,
) -> Vec<u8> {
    if !parts.status.is_success() {
        return body;
    }
    let Ok(Value::Object(mut answer)) = serde_json::from_slice(&body) else { return body };
    if matches!(seen.endpoint, Endpoint::TokenCode | Endpoint::TokenRefresh) {
        alter_tokens(script, fault, &mut answer);
    }
    answer.extend(fault.set.clone());
    answer.retain(|name, _| !fault.omit.contains(name));
    if fault.pad_bytes > 0 {
        answer.insert("padding".to_owned(), "x".repeat(fault.pad_bytes).into());
    }
    let body = match (seen.endpoint, &fault.signed) {
        (Endpoint::Userinfo, Some(fault)) => {
            parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwt"));
            signed_userinfo(script, seen, fault, answer)
        }
        _ => Value::Object(answer).to_string(),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    body.into_bytes()
}

fn alter_tokens(script: &Script, fault: &Fault, answer: &mut Map<String, Value>) {
    let access_token = other_access_token(script, fault, answer);
    let good = JwtFault::default();
    let id_token_fault = match (&fault.id_token, &access_token) {
        (None, None) => return,
        (fault, _) => fault.as_ref().unwrap_or(&good),
    };
    if let Some(Value::Object(mut claims)) = answer
        .get("id_token")
        .and_then(Value::as_str)
        .and_then(|token| script.provider.keyring.claims_of_own(token))
    {
        if let Some(access_token) = access_token.as_ref().filter(|_| !id_token_fault.decides("at_hash")) {
            let algorithm = script.provider.keyring.current().algorithm();
            claims.insert("at_hash".to_owned(), at_hash(algorithm, access_token).into());
        }
        let id_token = id_token_fault.sign(claims, "JWT", &script.provider.keyring, &script.strangers);
        answer.insert("id_token".to_owned(), id_token.into());
    }
    if let Some(access_token) = access_token {
        answer.insert("access_token".to_owned(), access_token.into());
    }
}

/// The access token in place of the one in the answer, if it is to be another; it opens what that one opens.
fn other_access_token(script: &Script, fault: &Fault, answer: &mut Map<String, Value>) -> Option<String> {
    let provider = &script.provider;
    let now = provider.now();
    let mut access_token = answer.get("access_token")?.as_str()?.to_owned();
    let ends = fault.access_token_ends_at_ms.map(UnixTime::from_millis).filter(|ends| *ends > now);
    if let Some(ends) = ends {
        let token = provider.seal.read_access_token(&access_token)?;
        access_token = provider.seal.access_token(token.ending(ends));
        answer.insert("expires_in".to_owned(), ends.since(now).as_secs().into());
    }
    let missing = fault.access_token_bytes.saturating_sub(access_token.len() + 1);
    if missing > 0 {
        access_token = format!("{access_token}~{}", "x".repeat(missing));
    }
    (ends.is_some() || missing > 0).then_some(access_token)
}

/// Core 5.3.2: a signed answer says who it is from and for.
fn signed_userinfo(script: &Script, seen: &Seen, fault: &JwtFault, mut claims: Map<String, Value>) -> String {
    let provider = &script.provider;
    let client =
        seen.grant.and_then(|id| provider.ledger.read(|state| Some(state.grant(id)?.client_id.clone())));
    claims.entry("iss").or_insert_with(|| provider.issuer.as_str().into());
    claims.entry("aud").or_insert_with(|| client.into());
    fault.sign(claims, "JWT", &provider.keyring, &script.strangers)
}

/// Whether this is the redirect back to the relying party. Its `iss` gives it away (RFC 9207).
pub(super) fn callback_location(parts: &Parts) -> Option<Url> {
    redirect_location(parts).filter(|location| location.query_pairs().any(|(name, _)| name == "iss"))
}

/// Where a redirect leads.
pub(super) fn redirect_location(parts: &Parts) -> Option<Url> {
    Url::parse(parts.headers.get(header::LOCATION)?.to_str().ok()?).ok()
}

/// Changes the parameters of such a redirect.
pub(super) fn alter_callback(fault: &Fault, location: &mut Url) {
    let kept: Vec<(String, String)> = location
        .query_pairs()
        .filter(|(name, _)| {
            !fault.omit.iter().any(|omit| *omit == **name) && !fault.set.contains_key(&**name)
        })
        .map(|(name, value)| (name.into_owned(), value.into_owned()))
        .collect();
    let set = fault.set.iter().map(|(name, value)| match value {
        Value::String(text) => (name.clone(), text.clone()),
        other => (name.clone(), other.to_string()),
    });
    location.query_pairs_mut().clear().extend_pairs(kept).extend_pairs(set);
}

/// An answer word for word.
pub(super) fn canned(answer: &CannedAnswer) -> Response {
    let (content_type, body) = match &answer.body {
        Value::Null => (None, String::new()),
        Value::String(text) => (Some("text/plain"), text.clone()),
        json => (Some("application/json"), json.to_string()),
    };
    let mut response = HttpResponse::new(body.into());
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(content_type) = content_type {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    for (name, value) in &answer.headers {
        match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            (Ok(name), Ok(value)) => drop(response.headers_mut().insert(name, value)),
            _ => return (StatusCode::INTERNAL_SERVER_ERROR, "the script has a bad header").into_response(),
        }
    }
    response
}
