//! A refresh token for new tokens (RFC 6749 6, Core 12).

use axum::response::Response;

use super::answer::{Handed, answer};
use super::dpop::Thumbprint;
use super::error::TokenError;
use super::seal::{AccessToken, RefreshToken};
use crate::clock::UnixTime;
use crate::config::DevClient;
use crate::parameters::Parameters;
use crate::provider::Provider;
use crate::state::{Grant, Lifetime, Presented, State};

pub(super) fn refresh(
    provider: &Provider,
    client: &DevClient,
    form: &Parameters,
    key: Option<Thumbprint>,
) -> Result<Response, TokenError> {
    const UNKNOWN: TokenError = TokenError::Grant("the refresh token is unknown, has expired or was revoked");
    let text = form.get("refresh_token").ok_or(TokenError::Missing("refresh_token"))?;
    let token = provider.seal.read_refresh_token(text).ok_or(UNKNOWN)?;
    let now = provider.now();
    let access_ends = now.after(provider.config.access_token_lifetime);

    let (grant, presented, scope) = provider.ledger.change(|state| {
        let grant =
            state.grant_mut(token.grant).filter(|grant| grant.client_id == client.id).ok_or(UNKNOWN)?;
        if grant.dpop_jkt.is_some() && grant.dpop_jkt != key {
            return Err(TokenError::Grant("the refresh token is bound to another key"));
        }
        let scope = narrowed(&grant.scope, form)?;
        let presented = present(provider, grant, token.number, now).ok_or(UNKNOWN)?;
        grant.access_ends = grant.access_ends.max(access_ends);
        let grant = grant.clone();
        settle(state, token, presented);
        Ok::<_, TokenError>((grant, presented, scope))
    })?;

    let successor = match presented {
        Presented::Kept => None,
        Presented::ReplacedBy(number) => Some(RefreshToken { grant: token.grant, number }),
        Presented::Expired => return Err(UNKNOWN),
        Presented::TooEarly => return Err(TokenError::Grant("the refresh token is not good yet")),
        Presented::Reused => {
            tracing::warn!(client = %client.id, sub = %grant.sub, grant = %token.grant, "a replaced refresh token was used: ended the grant");
            return Err(TokenError::Grant("the refresh token was used before; the whole grant has ended"));
        }
    };
    Ok(answer(
        provider,
        &grant,
        Handed {
            access: AccessToken::new(token.grant, access_ends, key),
            refresh: successor,
            scope: &scope,
            // Core 12.2: an ID token from a refresh should have none.
            nonce: None,
            now,
        },
    ))
}

fn present(provider: &Provider, grant: &mut Grant, number: u64, now: UnixTime) -> Option<Presented> {
    let config = &provider.config;
    let not_before = config.refresh_token_not_before.unwrap_or_default();
    let lifetime = Lifetime { not_before, ends: config.refresh_token_lifetime };
    Some(grant.refresh.as_mut()?.present(number, now, config.rotation, lifetime))
}

fn settle(state: &mut State, token: RefreshToken, presented: Presented) {
    match presented {
        Presented::Reused => state.revoke_reused(token.grant),
        Presented::Expired => drop(state.revoke_grant(token.grant)),
        Presented::Kept | Presented::ReplacedBy(_) | Presented::TooEarly => {}
    }
}

/// A refresh may ask for less than was granted, for its own access token alone (RFC 6749 6).
fn narrowed(granted: &[String], form: &Parameters) -> Result<Vec<String>, TokenError> {
    if form.get("scope").is_none() {
        return Ok(granted.to_vec());
    }
    let wanted: Vec<String> = form.words("scope").map(str::to_owned).collect();
    if wanted.iter().all(|word| granted.contains(word)) { Ok(wanted) } else { Err(TokenError::Scope) }
}
