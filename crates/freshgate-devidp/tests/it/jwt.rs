//! Verifying signed tokens, with nothing of the provider's own.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::Value;

use crate::setting::{Setting, from_base64url};

pub(crate) struct Jwt {
    pub(crate) header: Value,
    pub(crate) claims: Value,
    message: String,
    signature: Vec<u8>,
}

impl Jwt {
    /// Takes a token apart.
    pub(crate) fn read(token: &str) -> Jwt {
        let parts: Vec<&str> = token.split('.').collect();
        let [header, claims, signature] = parts[..] else { panic!("{} parts", parts.len()) };
        Jwt {
            header: serde_json::from_slice(&from_base64url(header)).unwrap(),
            claims: serde_json::from_slice(&from_base64url(claims)).unwrap(),
            message: format!("{header}.{claims}"),
            signature: from_base64url(signature),
        }
    }

    /// Whether a published key that the header names has signed it.
    pub(crate) async fn is_genuine(&self, setting: &Setting) -> bool {
        let published = setting.get("/jwks").await.json();
        let keys = published["keys"].as_array().unwrap();
        keys.iter().filter(|key| key["kid"] == self.header["kid"]).any(|key| self.is_signed_by(key))
    }

    pub(crate) fn is_signed_by(&self, key: &Value) -> bool {
        let bytes = |name: &str| from_base64url(key[name].as_str().unwrap());
        let (message, signature) = (self.message.as_bytes(), &self.signature);
        match self.header["alg"].as_str().unwrap() {
            "RS256" if key["kty"] == "RSA" => RsaPublicKeyComponents { n: bytes("n"), e: bytes("e") }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            "ES256" if key["kty"] == "EC" => {
                let point = [vec![4], bytes("x"), bytes("y")].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            _ => false,
        }
    }

    pub(crate) fn signature_length(&self) -> usize {
        self.signature.len()
    }
}
