//! One signing key.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::config::SigningAlgorithm;
use crate::random::{base64url, from_base64url, sha256};

/// A key pair with the name it is published under.
pub(crate) struct SigningKey {
    kid: String,
    private: Private,
}

enum Private {
    Rsa(Box<RsaKeyPair>),
    P256(EcdsaKeyPair),
}

impl SigningKey {
    /// Makes a new key. An RSA key takes a tenth of a second or more of a processor: keep it off the async threads.
    pub(crate) fn generate(algorithm: SigningAlgorithm) -> SigningKey {
        SigningKey::of(match algorithm {
            SigningAlgorithm::Rs256 => Private::Rsa(Box::new(
                RsaKeyPair::generate(KeySize::Rsa2048).expect("a 2048-bit key can be made"),
            )),
            SigningAlgorithm::Es256 => Private::P256(
                EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a P-256 key can be made"),
            ),
        })
    }

    fn of(private: Private) -> SigningKey {
        let public = match &private {
            Private::Rsa(pair) => pair.public_key().as_ref(),
            Private::P256(pair) => pair.public_key().as_ref(),
        };
        SigningKey { kid: base64url(&sha256(public)[..12]), private }
    }

    pub(crate) fn kid(&self) -> &str {
        &self.kid
    }

    pub(crate) fn algorithm(&self) -> SigningAlgorithm {
        match self.private {
            Private::Rsa(_) => SigningAlgorithm::Rs256,
            Private::P256(_) => SigningAlgorithm::Es256,
        }
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.private {
            Private::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .expect("the buffer fits the modulus");
                signature
            }
            Private::P256(pair) => {
                pair.sign(&random, message).expect("P-256 signs with system randomness").as_ref().to_vec()
            }
        }
    }

    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.private {
            Private::Rsa(pair) => {
                UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, pair.public_key().as_ref())
                    .verify(message, signature)
            }
            Private::P256(pair) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref())
                    .verify(message, signature)
            }
        }
        .is_ok()
    }

    /// The public half as a JWK (RFC 7517).
    pub(crate) fn public_jwk(&self) -> Value {
        match &self.private {
            Private::Rsa(pair) => {
                let public = pair.public_key();
                json!({
                    "kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid,
                    "n": base64url(public.modulus().big_endian_without_leading_zero()),
                    "e": base64url(public.exponent().big_endian_without_leading_zero()),
                })
            }
            Private::P256(pair) => {
                // An uncompressed point: 0x04, then both coordinates (SEC 1, 2.3.3).
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({
                    "kty": "EC", "use": "sig", "alg": "ES256", "kid": self.kid, "crv": "P-256",
                    "x": base64url(x), "y": base64url(y),
                })
            }
        }
    }

    /// The public half as PEM: what an attacker would try as an HMAC secret.
    pub(crate) fn public_pem(&self) -> String {
        let der: PublicKeyX509Der<'_> = match &self.private {
            Private::Rsa(pair) => pair.public_key().as_der(),
            Private::P256(pair) => pair.public_key().as_der(),
        }
        .expect("a public key can be written down");
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.as_ref()))
    }

    pub(crate) fn save(&self) -> SavedKey {
        let pkcs8 = match &self.private {
            Private::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().expect("a private key can be written down");
                base64url(der.as_ref())
            }
            Private::P256(pair) => {
                base64url(pair.to_pkcs8v1().expect("a private key can be written down").as_ref())
            }
        };
        SavedKey { algorithm: self.algorithm(), pkcs8 }
    }

    pub(crate) fn restore(saved: &SavedKey) -> Result<SigningKey, BadKey> {
        let pkcs8 = from_base64url(&saved.pkcs8).ok_or(BadKey)?;
        let private = match saved.algorithm {
            SigningAlgorithm::Rs256 => {
                Private::Rsa(Box::new(RsaKeyPair::from_pkcs8(&pkcs8).map_err(|_| BadKey)?))
            }
            SigningAlgorithm::Es256 => Private::P256(
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8).map_err(|_| BadKey)?,
            ),
        };
        Ok(SigningKey::of(private))
    }
}

/// A private key as it stands in the state file. No `Debug`: it must not end up in a log.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SavedKey {
    algorithm: SigningAlgorithm,
    pkcs8: String,
}

/// A saved key that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a signing key cannot be read")]
pub(crate) struct BadKey;

#[cfg(test)]
mod tests {
    use super::{BadKey, SavedKey, SigningKey};
    use crate::config::SigningAlgorithm::{Es256, Rs256};

    #[test]
    fn a_restored_key_is_the_same_key() {
        for algorithm in [Rs256, Es256] {
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
            let saved = SavedKey { algorithm: Es256, pkcs8: pkcs8.to_owned() };
            assert_eq!(SigningKey::restore(&saved).err(), Some(BadKey));
        }
    }
}
