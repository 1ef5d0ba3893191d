//! A relying party's key, with nothing of the provider's own.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

use crate::setting::base64url;

pub(crate) struct Signer(EcdsaKeyPair);

impl Signer {
    pub(crate) fn new() -> Signer {
        Signer(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(crate) fn public_jwk(&self) -> Value {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)})
    }

    /// A token with this header and these claims; `alg` is this key's unless the header has one.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        let mut all = json!({"alg": "ES256"});
        all.as_object_mut().unwrap().extend(header.as_object().unwrap().clone());
        let message =
            format!("{}.{}", base64url(all.to_string().as_bytes()), base64url(claims.to_string().as_bytes()));
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", base64url(signature.as_ref()))
    }
}
