//! The signed assertion of `private_key_jwt` (OpenID Connect Core section 9, RFC 7523 sections 2.2 and 3).

use std::time::Duration;

use serde_json::{Value, json};

use super::{ClientKey, ProofContext};
use crate::{jws::SigningAlgorithm, secret::Secret};

/// What `client_assertion_type` says (RFC 7523 section 2.2).
pub(super) const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How long an assertion is good. It is made for one request, which is sent at once.
const LIFETIME: Duration = Duration::from_secs(60);

/// Signs an assertion. The algorithm must be one of the key's.
pub(super) fn client_assertion(
    key: &ClientKey,
    algorithm: SigningAlgorithm,
    client_id: &str,
    context: &ProofContext<'_>,
) -> Secret {
    let mut header = json!({"alg": algorithm.name(), "typ": "JWT"});
    for (name, value) in [("kid", &key.key_id), ("x5t#S256", &key.certificate)] {
        if let Some(value) = value {
            header[name] = Value::from(value.as_str());
        }
    }
    let claims = json!({
        "iss": client_id,
        "sub": client_id,
        "aud": context.audience,
        "jti": context.id.expose(),
        "iat": context.now.as_unix_seconds(),
        "exp": (context.now + LIFETIME).as_unix_seconds(),
    });
    key.pair.token(algorithm, &header, &claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client_auth::key::tests::{ED25519, P256, RSA, parse},
        jws::{AllowedAlgorithms, UnverifiedJws},
        test_provider::key_set,
        time::Timestamp,
    };

    #[test]
    fn an_assertion_says_who_to_whom_until_when_and_once() {
        for (jwk, algorithm) in [
            (RSA, SigningAlgorithm::Rs256),
            (RSA, SigningAlgorithm::Ps384),
            (P256, SigningAlgorithm::Es256),
            (ED25519, SigningAlgorithm::EdDsa),
        ] {
            let mut public: Value = serde_json::from_str(jwk).unwrap();
            public["kid"] = "ours".into();
            public.as_object_mut().unwrap().remove("d");
            let key = parse(jwk).unwrap().with_key_id("ours");
            let context = ProofContext {
                audience: "https://idp.example",
                now: Timestamp::from_unix_millis(1_795_435_200_999),
                id: &Secret::new("once"),
            };
            let assertion = client_assertion(&key, algorithm, "client", &context);
            let jws = UnverifiedJws::parse(assertion.expose()).unwrap();
            assert_eq!(
                jws.verify(&key_set([public]), &AllowedAlgorithms::only([algorithm])),
                Ok(()),
                "{algorithm:?}"
            );
            assert_eq!(jws.header.key_id.as_deref(), Some("ours"));
            assert_eq!(jws.header.media_type.as_deref(), Some("JWT"));
            let claims = jws.claims().unwrap();
            assert_eq!(
                Value::from(claims),
                json!({
                    "iss": "client", "sub": "client", "aud": "https://idp.example", "jti": "once",
                    "iat": 1_795_435_200, "exp": 1_795_435_260,
                })
            );
        }
    }

    #[test]
    fn the_header_names_the_key_where_there_is_a_name() {
        let context = ProofContext {
            audience: "https://idp.example",
            now: Timestamp::from_unix_seconds(0),
            id: &Secret::new("once"),
        };
        let header = |key: &ClientKey| -> Value {
            let assertion = client_assertion(key, SigningAlgorithm::Es256, "client", &context);
            let header =
                assertion.expose().split('.').next().and_then(crate::secret::from_base64url).unwrap();
            serde_json::from_slice(&header).unwrap()
        };
        let mut key = parse(P256).unwrap();
        assert_eq!(header(&key), json!({"alg": "ES256", "typ": "JWT"}));
        key = key.with_key_id("ours");
        key.certificate = Some("thumbprint".to_owned());
        let named = json!({"alg": "ES256", "typ": "JWT", "kid": "ours", "x5t#S256": "thumbprint"});
        assert_eq!(header(&key), named);
    }
}
