//! Clients that prove themselves by a signed assertion, `private_key_jwt` (Core 9, RFC 7523 3).

use std::time::Duration;

use serde_json::{Map, Value};

use super::error::TokenError;
use crate::config::DevClient;
use crate::parameters::Parameters;
use crate::provider::Provider;
use crate::signing::{Parts, VerifyingKey};

const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// An assertion that is good for longer than this was not made for one request.
const LONGEST: Duration = Duration::from_secs(300);
/// How far ahead of ours the client's clock may be.
const LEEWAY: Duration = Duration::from_secs(10);

/// The client that the assertion of a form proves.
pub(super) fn client_of<'p>(
    provider: &'p Provider,
    assertion: &str,
    form: &Parameters,
) -> Result<&'p DevClient, TokenError> {
    const BAD: fn(&'static str) -> TokenError = TokenError::Assertion;
    if form.get("client_assertion_type") != Some(TYPE) {
        return Err(BAD("client_assertion_type is not that of a JWT"));
    }
    let token = Parts::of(assertion).ok_or(BAD("it is not a signed JWT"))?;
    let claims: Map<String, Value> =
        serde_json::from_slice(&token.claims).map_err(|_| BAD("its claims are no JSON object"))?;
    let text = |name: &str| claims.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let seconds = |name: &str| claims.get(name).and_then(Value::as_i64);

    let id = text("iss").ok_or(BAD("iss is missing"))?;
    if text("sub") != Some(id) {
        return Err(BAD("sub is not the same as iss"));
    }
    if form.get("client_id").is_some_and(|in_form| in_form != id) {
        return Err(BAD("client_id is another client's"));
    }
    let client = provider.client(id).ok_or(TokenError::Client)?;
    let keys = client.jwks.as_ref().ok_or(BAD("the client has no keys here"))?;
    if !VerifyingKey::of_set(keys).iter().any(|key| key.signed(&token)) {
        return Err(BAD("no key of the client has signed it"));
    }
    // One text: a list could name another provider too, which could then use it here.
    let token_endpoint = provider.issuer.endpoint("/token");
    if text("aud").is_none_or(|aud| aud != provider.issuer.as_str() && aud != token_endpoint) {
        return Err(BAD("aud is neither the issuer nor the token endpoint"));
    }
    let now = provider.now();
    let expires = seconds("exp").ok_or(BAD("exp is missing"))?;
    if expires <= now.seconds() {
        return Err(BAD("it has expired"));
    }
    if expires > now.after(LONGEST + LEEWAY).seconds() {
        return Err(BAD("it is good for too long"));
    }
    let latest = now.after(LEEWAY).seconds();
    if ["iat", "nbf"].iter().any(|name| seconds(name).is_some_and(|from| from > latest)) {
        return Err(BAD("it is from the future"));
    }
    let jti = text("jti").ok_or(BAD("jti is missing"))?;
    if !provider.ledger.change(|state| state.use_once("assertion", &format!("{id} {jti}"), now, LONGEST * 2))
    {
        return Err(BAD("it was used before"));
    }
    Ok(client)
}
