//! A code for tokens (RFC 6749 4.1.3, Core 3.1.3).

use axum::response::Response;

use super::answer::{Handed, answer};
use super::dpop::Thumbprint;
use super::error::TokenError;
use super::seal::{AccessToken, RefreshToken};
use crate::config::DevClient;
use crate::parameters::Parameters;
use crate::provider::Provider;
use crate::random::{base64url, sha256};
use crate::state::{Grant, Redeemed, RefreshChain};

pub(super) fn redeem(
    provider: &Provider,
    client: &DevClient,
    form: &Parameters,
    key: Option<Thumbprint>,
) -> Result<Response, TokenError> {
    let text = form.get("code").ok_or(TokenError::Missing("code"))?;
    let now = provider.now();
    let code = match provider.ledger.change(|state| state.redeem_code(text, &client.id, now)) {
        Redeemed::Now(code) => code,
        Redeemed::Unknown => return Err(TokenError::Grant("the code is unknown or has expired")),
        Redeemed::Replayed => {
            tracing::warn!(client = %client.id, "a code came twice: revoked what it had yielded");
            return Err(TokenError::Grant("the code was used before"));
        }
    };
    if form.get("redirect_uri") != Some(&code.redirect_uri) {
        return Err(TokenError::Grant("redirect_uri is not the one of the authorization request"));
    }
    let verifier = form.get("code_verifier").ok_or(TokenError::Grant("code_verifier is missing"))?;
    if !verifies(verifier, &code.code_challenge) {
        return Err(TokenError::Grant("code_verifier does not match the code_challenge"));
    }

    if code.dpop_jkt.is_some() && code.dpop_jkt != key {
        return Err(TokenError::Grant("the code is bound to another key"));
    }

    let access_ends = now.after(provider.config.access_token_lifetime);
    let wants_refresh = code.scope.iter().any(|word| word == "offline_access"); // Core 11
    let grant = Grant {
        client_id: code.client_id,
        sub: code.sub,
        sid: code.sid,
        auth_time: code.auth_time,
        scope: code.scope,
        refresh: wants_refresh.then(|| RefreshChain::new(now, provider.config.refresh_token_lifetime)),
        access_ends,
        dpop_jkt: key.filter(|_| client.is_public()),
    };
    let id = provider.ledger.change(|state| {
        let id = state.add_grant(grant.clone());
        state.code_yielded(text, id);
        id
    });
    Ok(answer(
        provider,
        &grant,
        Handed {
            access: AccessToken::new(id, access_ends, key),
            refresh: wants_refresh.then_some(RefreshToken { grant: id, number: RefreshChain::FIRST }),
            scope: &grant.scope,
            nonce: code.nonce.as_deref(),
            now,
        },
    ))
}

/// RFC 7636 4.1 and 4.6.
fn verifies(verifier: &str, challenge: &str) -> bool {
    let well_formed = (43..=128).contains(&verifier.len())
        && verifier.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    well_formed && base64url(&sha256(verifier.as_bytes())) == challenge
}

#[cfg(test)]
mod tests {
    use super::verifies;

    #[test]
    fn pkce() {
        // The example of RFC 7636, appendix B.
        let (verifier, challenge) =
            ("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert!(verifies(verifier, challenge));
        assert!(!verifies(challenge, challenge));
        assert!(!verifies(&verifier[1..], challenge));
        assert!(!verifies("", challenge));
    }
}
