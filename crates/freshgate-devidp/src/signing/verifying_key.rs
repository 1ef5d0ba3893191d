//! Keys of others, by which their signatures are verified.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
    RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde_json::Value;

use super::jws::Parts;
use crate::random::from_base64url;

/// The algorithms by which others may sign (RFC 7518 3.1, RFC 8037 3.1). Neither `none` nor HMAC is among them.
pub(crate) const ALGORITHMS: [&str; 10] =
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"];

/// A public key.
pub(crate) struct VerifyingKey {
    kid: Option<String>,
    /// The one algorithm it is for, if it says so.
    alg: Option<String>,
    material: Material,
}

enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Point { curve: String, point: Vec<u8> },
}

impl VerifyingKey {
    /// Reads a public JWK; `None` if it is none that signs, or if its private part is there.
    pub(crate) fn of_jwk(jwk: &Value) -> Option<VerifyingKey> {
        if jwk.get("d").is_some() || jwk.get("k").is_some() {
            return None;
        }
        let bytes = |name: &str| jwk[name].as_str().and_then(from_base64url);
        let text = |name: &str| jwk[name].as_str().map(str::to_owned);
        let material = match jwk["kty"].as_str()? {
            "RSA" => Material::Rsa { n: bytes("n")?, e: bytes("e")? },
            "EC" => {
                // An uncompressed point: 0x04, then both coordinates (SEC 1, 2.3.3).
                let point = [vec![4], bytes("x")?, bytes("y")?].concat();
                Material::Point { curve: text("crv")?, point }
            }
            "OKP" => Material::Point { curve: text("crv")?, point: bytes("x")? },
            _ => return None,
        };
        Some(VerifyingKey { kid: text("kid"), alg: text("alg"), material })
    }

    /// The keys of a JWK set.
    pub(crate) fn of_set(set: &Value) -> Vec<VerifyingKey> {
        set["keys"].as_array().into_iter().flatten().filter_map(VerifyingKey::of_jwk).collect()
    }

    /// Whether a token is signed by this key, as its header says.
    pub(crate) fn signed(&self, token: &Parts<'_>) -> bool {
        let header = &token.header;
        // A key without a name may be meant by any name.
        let meant = header.kid.is_none() || self.kid.is_none() || header.kid == self.kid;
        meant
            && self.alg.as_ref().is_none_or(|alg| *alg == header.alg)
            && self.verifies(&header.alg, token.message, &token.signature)
    }

    pub(super) fn verifies(&self, alg: &str, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Rsa { n, e } => rsa(alg).is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
            }),
            Material::Point { curve, point } => point_algorithm(curve, alg).is_some_and(|algorithm| {
                UnparsedPublicKey::new(algorithm, point).verify(message, signature).is_ok()
            }),
        }
    }
}

fn rsa(alg: &str) -> Option<&'static RsaParameters> {
    Some(match alg {
        "RS256" => &RSA_PKCS1_2048_8192_SHA256,
        "RS384" => &RSA_PKCS1_2048_8192_SHA384,
        "RS512" => &RSA_PKCS1_2048_8192_SHA512,
        "PS256" => &RSA_PSS_2048_8192_SHA256,
        "PS384" => &RSA_PSS_2048_8192_SHA384,
        "PS512" => &RSA_PSS_2048_8192_SHA512,
        _ => return None,
    })
}

fn point_algorithm(curve: &str, alg: &str) -> Option<&'static dyn VerificationAlgorithm> {
    Some(match (curve, alg) {
        ("P-256", "ES256") => &ECDSA_P256_SHA256_FIXED,
        ("P-384", "ES384") => &ECDSA_P384_SHA384_FIXED,
        ("P-521", "ES512") => &ECDSA_P521_SHA512_FIXED,
        ("Ed25519", "EdDSA") => &ED25519,
        _ => return None,
    })
}
