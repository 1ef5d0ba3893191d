//! ID tokens (Core 2), and which claims about a user a scope gives out.

use aws_lc_rs::digest::{SHA256, SHA384, SHA512, digest};
use serde_json::{Map, Value};

use super::answer::Handed;
use crate::config::{DevUser, SigningAlgorithm};
use crate::provider::Provider;
use crate::random::base64url;
use crate::signing::signed;
use crate::state::Grant;

pub(super) fn id_token(
    provider: &Provider,
    grant: &Grant,
    handed: &Handed<'_>,
    access_token: &str,
) -> String {
    let user = provider.ledger.read(|state| state.user(&grant.sub).cloned());
    // The user's claims first: none of them may take the place of what the protocol says.
    let mut claims = user.map(|user| released_claims(&user, handed.scope)).unwrap_or_default();
    let now = handed.now.seconds();
    let lifetime = i64::try_from(provider.config.id_token_lifetime.as_secs()).unwrap_or(i64::MAX);
    let mut say = |name: &str, value: Value| claims.insert(name.to_owned(), value);
    say("iss", provider.issuer.as_str().into());
    say("sub", grant.sub.as_str().into());
    say("aud", grant.client_id.as_str().into());
    say("iat", now.into());
    say("exp", now.saturating_add(lifetime).into());
    say("auth_time", grant.auth_time.seconds().into());
    say("sid", grant.sid.as_str().into());
    let key = provider.keyring.current();
    say("at_hash", at_hash(key.algorithm(), access_token).into());
    match handed.nonce {
        Some(nonce) => say("nonce", nonce.into()),
        None => claims.remove("nonce"),
    };
    signed(&key, "JWT", &Value::Object(claims))
}

/// The left half of the token's hash (Core 3.1.3.6), which is that of the algorithm that signs. EdDSA on Ed25519 has SHA-512.
pub(crate) fn at_hash(algorithm: SigningAlgorithm, access_token: &str) -> String {
    let name = algorithm.name();
    let hash = match name.get(2..) {
        Some("256") => &SHA256,
        Some("384") => &SHA384,
        _ => &SHA512,
    };
    let hash = digest(hash, access_token.as_bytes());
    base64url(&hash.as_ref()[..hash.as_ref().len() / 2])
}

/// What is told about a user: the claims of the granted scopes (Core 5.4) and those that belong to no scope.
pub(crate) fn released_claims(user: &DevUser, scope: &[String]) -> Map<String, Value> {
    let granted = |name: &str| scope_of(name).is_none_or(|needed| scope.iter().any(|word| word == needed));
    user.claims
        .iter()
        .filter(|(name, _)| granted(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// The scope that a standard claim belongs to (Core 5.4).
fn scope_of(claim: &str) -> Option<&'static str> {
    match claim {
        "name" | "family_name" | "given_name" | "middle_name" | "nickname" | "preferred_username"
        | "profile" | "picture" | "website" | "gender" | "birthdate" | "zoneinfo" | "locale"
        | "updated_at" => Some("profile"),
        "email" | "email_verified" => Some("email"),
        "address" => Some("address"),
        "phone_number" | "phone_number_verified" => Some("phone"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::{at_hash, released_claims};
    use crate::config::{DevUser, SigningAlgorithm};

    #[test]
    fn scopes_release_claims() {
        let user = DevUser::named("alice");
        for (scope, expected) in [
            (&["openid"][..], &["groups"][..]),
            (&["openid", "email"], &["email", "email_verified", "groups"]),
            (
                &["openid", "profile"],
                &["family_name", "given_name", "groups", "locale", "name", "preferred_username"],
            ),
        ] {
            let scope: Vec<String> = scope.iter().map(ToString::to_string).collect();
            let mut released: Vec<String> =
                released_claims(&user, &scope).into_iter().map(|(name, _)| name).collect();
            released.sort();
            assert_eq!(released, expected);
        }
    }

    #[test]
    fn at_hash_is_the_left_half() {
        // SHA-256 of "": e3b0c44298fc1c149afbf4c8996fb924 …
        assert_eq!(at_hash(SigningAlgorithm::Es256, ""), "47DEQpj8HBSa-_TImW-5JA");
    }
}
