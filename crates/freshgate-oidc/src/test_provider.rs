//! A provider for tests: keys of every kind, and tokens signed with them.

use std::sync::LazyLock;

use aws_lc_rs::{
    rsa::KeySize,
    signature::{EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair},
};
use serde_json::{Value, json};

use crate::{
    discovery::{ExpectedIssuer, Issuer, ProviderMetadata},
    jwk::JwkSet,
    jws::{KeyPair, SigningAlgorithm, ecdsa},
    secret::base64url,
};

pub(crate) struct TestKey {
    pub(crate) key_id: &'static str,
    pub(crate) algorithm: SigningAlgorithm,
    pair: KeyPair,
}

static RSA: LazyLock<TestKey> = LazyLock::new(|| TestKey::rsa("rsa", SigningAlgorithm::Rs256));
static OTHER_RSA: LazyLock<TestKey> = LazyLock::new(|| TestKey::rsa("other", SigningAlgorithm::Rs256));
static P256: LazyLock<TestKey> = LazyLock::new(|| TestKey::new("p256", SigningAlgorithm::Es256));

/// The RSA key that most tests sign with: made once, because making one takes long.
pub(crate) fn rsa() -> &'static TestKey {
    &RSA
}

/// Another RSA key.
pub(crate) fn other_rsa() -> &'static TestKey {
    &OTHER_RSA
}

/// An ECDSA key.
pub(crate) fn p256() -> &'static TestKey {
    &P256
}

impl TestKey {
    fn rsa(key_id: &'static str, algorithm: SigningAlgorithm) -> Self {
        let pair = KeyPair::Rsa(Box::new(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()));
        Self { key_id, algorithm, pair }
    }

    pub(crate) fn new(key_id: &'static str, algorithm: SigningAlgorithm) -> Self {
        let pair = match (algorithm, ecdsa(algorithm)) {
            (_, Some(curve)) => KeyPair::Ec(algorithm, EcdsaKeyPair::generate(curve).unwrap()),
            (SigningAlgorithm::EdDsa, _) => KeyPair::Ed25519(Ed25519KeyPair::generate().unwrap()),
            _ => return Self::rsa(key_id, algorithm),
        };
        Self { key_id, algorithm, pair }
    }

    /// Its public part, with `kid` and without `alg` and `use`.
    pub(crate) fn jwk(&self) -> Value {
        match &self.pair {
            KeyPair::Rsa(pair) => {
                let [n, e] = rsa_numbers(pair.public_key().as_ref());
                json!({"kty": "RSA", "kid": self.key_id, "n": base64url(n), "e": base64url(e)})
            }
            KeyPair::Ec(_, pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = match x.len() {
                    32 => "P-256",
                    48 => "P-384",
                    _ => "P-521",
                };
                json!({"kty": "EC", "kid": self.key_id, "crv": curve, "x": base64url(x), "y": base64url(y)})
            }
            KeyPair::Ed25519(pair) => {
                json!({"kty": "OKP", "kid": self.key_id, "crv": "Ed25519", "x": base64url(pair.public_key().as_ref())})
            }
        }
    }

    /// A token with this header and this payload, signed as `self.algorithm` says, whatever the header says.
    pub(crate) fn sign(&self, header: &Value, payload: &[u8]) -> String {
        let signed = format!("{}.{}", base64url(header.to_string().as_bytes()), base64url(payload));
        format!("{signed}.{}", base64url(&self.signature_by(self.algorithm, signed.as_bytes())))
    }

    /// A token with the usual header.
    pub(crate) fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"alg": self.algorithm.name(), "kid": self.key_id}), claims.to_string().as_bytes())
    }

    pub(crate) fn signature_by(&self, algorithm: SigningAlgorithm, message: &[u8]) -> Vec<u8> {
        self.pair.sign(algorithm, message)
    }
}

/// Metadata with what every provider has, and nothing besides.
pub(crate) fn metadata() -> ProviderMetadata {
    let document = json!({
        "issuer": "https://idp.example",
        "authorization_endpoint": "https://idp.example/authorize",
        "token_endpoint": "https://idp.example/token",
        "jwks_uri": "https://idp.example/jwks",
    });
    let expected = ExpectedIssuer::Exactly(Issuer::new("https://idp.example"));
    ProviderMetadata::parse(document.to_string().as_bytes(), &expected).unwrap()
}

/// A key set of these JWKs.
pub(crate) fn key_set(keys: impl IntoIterator<Item = Value>) -> JwkSet {
    JwkSet::parse(json!({"keys": keys.into_iter().collect::<Vec<_>>()}).to_string().as_bytes()).unwrap()
}

/// Modulus and exponent from a DER `RSAPublicKey` (RFC 8017 appendix A.1.1).
fn rsa_numbers(der: &[u8]) -> [&[u8]; 2] {
    fn element(der: &[u8]) -> (&[u8], &[u8]) {
        let (length, start) = match der[1] {
            0x82 => (usize::from(der[2]) << 8 | usize::from(der[3]), 4),
            0x81 => (usize::from(der[2]), 3),
            short => (usize::from(short), 2),
        };
        (&der[start..start + length], &der[start + length..])
    }
    let (sequence, _) = element(der);
    let (n, rest) = element(sequence);
    let (e, _) = element(rest);
    [n, e].map(|number| &number[number.iter().take_while(|byte| **byte == 0).count()..])
}
