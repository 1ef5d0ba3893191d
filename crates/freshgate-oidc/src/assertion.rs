//! Assertions: what a gate tells an app of its user, signed, so that nobody on the way can say otherwise (RFC 7519).

use std::fmt;

use aws_lc_rs::hkdf;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    dpop::thumbprint,
    jws::{KeyPair, SigningAlgorithm},
    secret::Secret,
};

const ALGORITHM: SigningAlgorithm = SigningAlgorithm::Es256;

/// The key by which a gate signs what it tells apps. Made from a secret, so that all who have it sign with the same key.
pub struct AssertionKey {
    pair: KeyPair,
    /// The public part, with its name.
    jwk: Value,
    key_id: String,
}

impl AssertionKey {
    /// Derives the key from a secret of any length (HKDF-SHA256, RFC 5869), as hard to guess as that. Other keys that are
    /// made of the same secret tell nothing of it.
    pub fn from_secret(secret: &Secret) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"freshgate assertions");
        let derived = salt.extract(secret.expose().as_bytes());
        // Of one in four billion seeds there is no key: then of the next.
        let pair = (0..u8::MAX).find_map(|count| {
            let mut seed = Zeroizing::new([0; 32]);
            let info: [&[u8]; 2] = [b"ES256 key", &[count]];
            derived.expand(&info, SeedLength).and_then(|material| material.fill(&mut *seed)).ok()?;
            KeyPair::of_seed(ALGORITHM, &*seed)
        });
        let pair = pair.expect("one of so many seeds makes a key");
        let mut jwk = pair.public_jwk_of_seed();
        let key_id = thumbprint(&jwk);
        jwk["kid"] = key_id.as_str().into();
        jwk["alg"] = ALGORITHM.name().into();
        jwk["use"] = "sig".into();
        Self { pair, jwk, key_id }
    }

    /// Signs claims.
    pub fn sign(&self, claims: &Value) -> Secret {
        let header = json!({"typ": "JWT", "alg": ALGORITHM.name(), "kid": self.key_id});
        self.pair.token(ALGORITHM, &header, claims)
    }

    /// The public part, for whoever verifies: a JWK Set (RFC 7517 section 5).
    pub fn jwk_set(&self) -> Value {
        json!({"keys": [self.jwk]})
    }
}

/// Shows the key's name alone.
impl fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AssertionKey").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

struct SeedLength;

impl hkdf::KeyType for SeedLength {
    fn len(&self) -> usize {
        32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        jwk::JwkSet,
        jws::{AllowedAlgorithms, UnverifiedJws},
    };

    #[test]
    fn one_secret_makes_one_key_which_verifies_what_it_signed() {
        let secret = Secret::new("hunter2, a long one");
        let (key, again) = (AssertionKey::from_secret(&secret), AssertionKey::from_secret(&secret));
        assert_eq!(key.jwk_set(), again.jwk_set());
        let other = AssertionKey::from_secret(&Secret::new("hunter3, a long one"));
        assert_ne!(key.jwk_set(), other.jwk_set());

        let claims = json!({"sub": "ada"});
        let signed = key.sign(&claims);
        let keys = |key: &AssertionKey| JwkSet::parse(key.jwk_set().to_string().as_bytes()).unwrap();
        let jws = UnverifiedJws::parse(signed.expose()).unwrap();
        let allowed = AllowedAlgorithms::only([SigningAlgorithm::Es256]);
        jws.verify(&keys(&again), &allowed).unwrap();
        assert_eq!(Value::Object(jws.claims().unwrap()), claims);
        assert!(jws.verify(&keys(&other), &allowed).is_err());

        let public = key.jwk_set()["keys"][0].clone();
        assert!(
            public.get("d").is_none() && public["kty"] == "EC" && public["kid"] == key.key_id,
            "{public}"
        );
        assert!(!format!("{key:?}").contains("hunter2"));
    }
}
