//! Whether a configuration can be used at all.

use std::collections::HashSet;
use std::time::Duration;

use url::Url;

use super::DevProviderError;
use crate::config::{DevClient, DevProviderConfig};
use crate::signing::VerifyingKey;

/// Long enough for anything, and short enough that adding it to the time of day stays in range.
const LONGEST: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

pub(super) fn check(config: &DevProviderConfig) -> Result<(), DevProviderError> {
    if !config.listen.ip().is_loopback() {
        return Err(DevProviderError::NotLoopback { address: config.listen });
    }
    for (name, lifetime) in [
        ("the lifetime of access tokens", config.access_token_lifetime),
        ("the lifetime of ID tokens", config.id_token_lifetime),
        ("the lifetime of refresh tokens", config.refresh_token_lifetime),
    ] {
        if lifetime.is_zero() || lifetime > LONGEST {
            return Err(DevProviderError::BadLifetime { name });
        }
    }
    let mut ids = HashSet::new();
    for client in &config.clients {
        let bad = |reason| DevProviderError::BadClient { client: client.id.clone(), reason };
        if client.id.is_empty() || !ids.insert(&client.id) {
            return Err(bad("its id must be one of a kind".to_owned()));
        }
        check_client(client).map_err(bad)?;
    }
    Ok(())
}

fn check_client(client: &DevClient) -> Result<(), String> {
    if client.secret.as_ref().is_some_and(|secret| secret.expose().is_empty()) {
        return Err("its secret is empty".to_owned());
    }
    if let Some(jwks) = &client.jwks {
        if client.secret.is_some() {
            return Err("it has both a secret and keys".to_owned());
        }
        if VerifyingKey::of_set(jwks).is_empty() {
            return Err("its JWK set has no public key that signs".to_owned());
        }
    }
    let logout = client.backchannel_logout_uri.iter().chain(&client.frontchannel_logout_uri).map(Url::as_str);
    let others = client.redirect_uris.iter().chain(&client.post_logout_redirect_uris).map(String::as_str);
    for uri in logout.chain(others) {
        match Url::parse(uri) {
            Err(_) => return Err(format!("{uri:?} is not an address")),
            Ok(url) if url.fragment().is_some() => return Err(format!("{uri:?} has a fragment")), // RFC 6749 3.1.2
            Ok(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use freshgate_oidc::Secret;

    use super::check;
    use crate::config::{DevClient, DevProviderConfig};

    fn with(change: impl FnOnce(&mut DevProviderConfig)) -> Option<String> {
        let mut config = DevProviderConfig::new("127.0.0.1:0".parse().unwrap());
        config.clients.push(DevClient::public("app", "http://localhost/callback"));
        change(&mut config);
        check(&config).err().map(|error| error.to_string())
    }

    #[test]
    fn what_cannot_be_used() {
        type Change = fn(&mut DevProviderConfig);
        let cases: [(Option<&str>, Change); 11] = [
            (None, |_| {}),
            (None, |config| config.listen = "[::1]:0".parse().unwrap()),
            (Some("is not a loopback address"), |config| config.listen = "0.0.0.0:0".parse().unwrap()),
            (Some("is not a loopback address"), |config| config.listen = "192.0.2.1:80".parse().unwrap()),
            (Some("one of a kind"), |config| config.clients.push(config.clients[0].clone())),
            (Some("secret is empty"), |config| config.clients[0].secret = Some(Secret::new(""))),
            (Some("both a secret and keys"), |config| {
                config.clients[0].secret = Some(Secret::new("s3cret"));
                config.clients[0].jwks = Some(serde_json::json!({"keys": []}));
            }),
            (Some("no public key"), |config| {
                // Its private part is there.
                let key = serde_json::json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "d": "AAAA"});
                config.clients[0].jwks = Some(serde_json::json!({"keys": [key]}));
            }),
            (Some("is not an address"), |config| {
                config.clients[0].redirect_uris.push("/callback".to_owned())
            }),
            (Some("has a fragment"), |config| {
                config.clients[0].redirect_uris.push("http://localhost/#a".to_owned())
            }),
            (Some("the lifetime of access tokens"), |config| config.access_token_lifetime = Duration::ZERO),
        ];
        for (expected, change) in cases {
            let error = with(change);
            assert_eq!(error.is_some(), expected.is_some(), "{error:?}");
            assert!(error.unwrap_or_default().contains(expected.unwrap_or_default()), "{expected:?}");
        }
    }
}
