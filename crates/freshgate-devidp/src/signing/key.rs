//! One signing key.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_FIXED_SIGNING,
    EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
    RSA_PKCS1_SHA512, RSA_PSS_SHA256, RSA_PSS_SHA384, RSA_PSS_SHA512, RsaSignatureEncoding,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::verifying_key::VerifyingKey;
use crate::config::SigningAlgorithm;
use crate::random::{base64url, from_base64url, sha256};

/// A key pair for one algorithm, with the name it is published under.
pub(crate) struct SigningKey {
    kid: String,
    algorithm: SigningAlgorithm,
    private: Private,
}

enum Private {
    Rsa(Box<RsaKeyPair>, &'static RsaSignatureEncoding),
    Ec(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// What keys are made of.
enum Kind {
    Rsa(&'static RsaSignatureEncoding),
    Ec(&'static EcdsaSigningAlgorithm),
    Ed25519,
}

fn kind(algorithm: SigningAlgorithm) -> Kind {
    match algorithm {
        SigningAlgorithm::Rs256 => Kind::Rsa(&RSA_PKCS1_SHA256),
        SigningAlgorithm::Rs384 => Kind::Rsa(&RSA_PKCS1_SHA384),
        SigningAlgorithm::Rs512 => Kind::Rsa(&RSA_PKCS1_SHA512),
        SigningAlgorithm::Ps256 => Kind::Rsa(&RSA_PSS_SHA256),
        SigningAlgorithm::Ps384 => Kind::Rsa(&RSA_PSS_SHA384),
        SigningAlgorithm::Ps512 => Kind::Rsa(&RSA_PSS_SHA512),
        SigningAlgorithm::Es256 => Kind::Ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
        SigningAlgorithm::Es384 => Kind::Ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
        SigningAlgorithm::Es512 => Kind::Ec(&ECDSA_P521_SHA512_FIXED_SIGNING),
        SigningAlgorithm::EdDsa => Kind::Ed25519,
    }
}

impl SigningKey {
    /// Makes a new key. An RSA key takes a tenth of a second or more of a processor: keep it off the async threads.
    pub(crate) fn generate(algorithm: SigningAlgorithm) -> SigningKey {
        let private = match kind(algorithm) {
            Kind::Rsa(encoding) => Private::Rsa(
                Box::new(RsaKeyPair::generate(KeySize::Rsa2048).expect("a 2048-bit key can be made")),
                encoding,
            ),
            Kind::Ec(curve) => {
                Private::Ec(EcdsaKeyPair::generate(curve).expect("a key of this curve can be made"))
            }
            Kind::Ed25519 => {
                Private::Ed25519(Ed25519KeyPair::generate().expect("an Ed25519 key can be made"))
            }
        };
        SigningKey::of(algorithm, private)
    }

    fn of(algorithm: SigningAlgorithm, private: Private) -> SigningKey {
        let public = match &private {
            Private::Rsa(pair, _) => pair.public_key().as_ref(),
            Private::Ec(pair) => pair.public_key().as_ref(),
            Private::Ed25519(pair) => pair.public_key().as_ref(),
        };
        SigningKey { kid: base64url(&sha256(public)[..12]), algorithm, private }
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    pub(crate) fn algorithm(&self) -> SigningAlgorithm {
        self.algorithm
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.private {
            Private::Rsa(pair, encoding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*encoding, &random, message, &mut signature).expect("the buffer fits the modulus");
                signature
            }
            Private::Ec(pair) => {
                pair.sign(&random, message).expect("it signs with system randomness").as_ref().to_vec()
            }
            Private::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        VerifyingKey::of_jwk(&self.public_jwk())
            .is_some_and(|key| key.verifies(self.algorithm.name(), message, signature))
    }

    /// The public half as a JWK (RFC 7517, and RFC 8037 for Ed25519).
    pub(crate) fn public_jwk(&self) -> Value {
        let (alg, kid) = (self.algorithm.name(), &self.kid);
        match &self.private {
            Private::Rsa(pair, _) => {
                let public = pair.public_key();
                json!({
                    "kty": "RSA", "use": "sig", "alg": alg, "kid": kid,
                    "n": base64url(public.modulus().big_endian_without_leading_zero()),
                    "e": base64url(public.exponent().big_endian_without_leading_zero()),
                })
            }
            Private::Ec(pair) => {
                // An uncompressed point: 0x04, then both coordinates (SEC 1, 2.3.3).
                let coordinates = &pair.public_key().as_ref()[1..];
                let (x, y) = coordinates.split_at(coordinates.len() / 2);
                let curve = match self.algorithm {
                    SigningAlgorithm::Es384 => "P-384",
                    SigningAlgorithm::Es512 => "P-521",
                    _ => "P-256",
                };
                json!({
                    "kty": "EC", "use": "sig", "alg": alg, "kid": kid, "crv": curve,
                    "x": base64url(x), "y": base64url(y),
                })
            }
            Private::Ed25519(pair) => json!({
                "kty": "OKP", "use": "sig", "alg": alg, "kid": kid, "crv": "Ed25519",
                "x": base64url(pair.public_key().as_ref()),
            }),
        }
    }

    /// The public half as PEM: what an attacker would try as an HMAC secret.
    pub(crate) fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match &self.private {
            Private::Rsa(pair, _) => pair.public_key().as_der(),
            Private::Ec(pair) => pair.public_key().as_der(),
            Private::Ed25519(pair) => pair.public_key().as_der(),
        }
        .expect("a public key can be written down");
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()))
    }

    pub(crate) fn save(&self) -> SavedKey {
        let pkcs8 = match &self.private {
            Private::Rsa(pair, _) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().expect("a private key can be written down");
                base64url(der.as_ref())
            }
            Private::Ec(pair) => {
                base64url(pair.to_pkcs8v1().expect("a private key can be written down").as_ref())
            }
            Private::Ed25519(pair) => {
                base64url(pair.to_pkcs8v1().expect("a private key can be written down").as_ref())
            }
        };
        SavedKey { algorithm: self.algorithm, pkcs8 }
    }

    pub(crate) fn restore(saved: &SavedKey) -> Result<SigningKey, BadKey> {
        let pkcs8 = from_base64url(&saved.pkcs8).ok_or(BadKey)?;
        let private = match kind(saved.algorithm) {
            Kind::Rsa(encoding) => {
                Private::Rsa(Box::new(RsaKeyPair::from_pkcs8(&pkcs8).map_err(|_| BadKey)?), encoding)
            }
            Kind::Ec(curve) => Private::Ec(EcdsaKeyPair::from_pkcs8(curve, &pkcs8).map_err(|_| BadKey)?),
            Kind::Ed25519 => {
                Private::Ed25519(Ed25519KeyPair::from_pkcs8_maybe_unchecked(&pkcs8).map_err(|_| BadKey)?)
            }
        };
        Ok(SigningKey::of(saved.algorithm, private))
    }
}

/// A private key as it stands in the state file. No `Debug`: it must not end up in a log.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SavedKey {
    pub(super) algorithm: SigningAlgorithm,
    pkcs8: String,
}

/// A saved key that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signing key cannot be read")]
pub(crate) struct BadKey;

#[cfg(test)]
mod tests {
    use super::{BadKey, SavedKey, SigningKey};
    use crate::config::SigningAlgorithm;

    #[test]
    fn a_restored_key_is_the_same_key() {
        for algorithm in SigningAlgorithm::ALL {
            let key = SigningKey::generate(algorithm);
            let restored = SigningKey::restore(&key.save()).unwrap();
            assert_eq!(restored.public_jwk(), key.public_jwk());
            assert_eq!(restored.algorithm(), algorithm);
            let signature = restored.sign(b"message");
            assert!(key.verifies(b"message", &signature));
            assert!(!key.verifies(b"another", &signature));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for pkcs8 in ["", "%", "AAAA"] {
            let saved = SavedKey { algorithm: SigningAlgorithm::Es256, pkcs8: pkcs8.to_owned() };
            assert_eq!(SigningKey::restore(&saved).err(), Some(BadKey));
        }
    }
}
