//! Signing with keys of our own: client assertions, DPoP proofs, and what apps are told of their users.

use aws_lc_rs::{
    agreement::{self, ECDH_P256},
    rand::SystemRandom,
    signature::{
        self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RsaEncoding, RsaKeyPair,
    },
};
use serde_json::{Value, json};

use super::SigningAlgorithm;
use crate::secret::{Secret, base64url};

/// A private key. aws-lc wipes it when it is dropped.
pub(crate) enum KeyPair {
    Rsa(Box<RsaKeyPair>),
    /// On the curve that goes with this algorithm.
    Ec(SigningAlgorithm, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// The curves, each with the algorithm that goes with it and its name in a JWK.
pub(crate) const CURVES: [(SigningAlgorithm, &str); 3] = [
    (SigningAlgorithm::Es256, "P-256"),
    (SigningAlgorithm::Es384, "P-384"),
    (SigningAlgorithm::Es512, "P-521"),
];

impl KeyPair {
    /// What everybody may know of it.
    pub(crate) fn public_part(&self) -> &[u8] {
        match self {
            Self::Rsa(pair) => pair.public_key().as_ref(),
            Self::Ec(_, pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }

    /// The key that these 32 bytes make, for ES256 and EdDSA. `None` for any other algorithm, and for one in four billion.
    pub(crate) fn of_seed(algorithm: SigningAlgorithm, seed: &[u8]) -> Option<Self> {
        match algorithm {
            SigningAlgorithm::Es256 => {
                let public = agreement::PrivateKey::from_private_key(&ECDH_P256, seed).ok()?;
                let public = public.compute_public_key().ok()?;
                let curve = ecdsa(algorithm)?;
                let pair =
                    EcdsaKeyPair::from_private_key_and_public_key(curve, seed, public.as_ref()).ok()?;
                Some(Self::Ec(algorithm, pair))
            }
            SigningAlgorithm::EdDsa => Ed25519KeyPair::from_seed_unchecked(seed).ok().map(Self::Ed25519),
            _ => None,
        }
    }

    /// The public part of a key that was made of a seed, as a JWK with what its thumbprint is made of (RFC 7638).
    pub(crate) fn public_jwk_of_seed(&self) -> Value {
        let public = self.public_key();
        match self {
            // An uncompressed point: 0x04, then both coordinates.
            Self::Ec(..) => {
                let (x, y) = public[1..].split_at(public.len() / 2);
                json!({"kty": "EC", "crv": "P-256", "x": base64url(x), "y": base64url(y)})
            }
            _ => json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(public)}),
        }
    }

    /// Whether it can make signatures of this algorithm.
    pub(crate) fn fits(&self, algorithm: SigningAlgorithm) -> bool {
        match self {
            Self::Rsa(_) => rsa_encoding(algorithm).is_some(),
            Self::Ec(own, _) => *own == algorithm,
            Self::Ed25519(_) => algorithm == SigningAlgorithm::EdDsa,
        }
    }

    /// A token with this header and these claims (RFC 7515 section 5.1), signed by `algorithm`, which must fit.
    pub(crate) fn token(&self, algorithm: SigningAlgorithm, header: &Value, claims: &Value) -> Secret {
        let signed = format!(
            "{}.{}",
            base64url(header.to_string().as_bytes()),
            base64url(claims.to_string().as_bytes())
        );
        let signature = base64url(&self.sign(algorithm, signed.as_bytes()));
        Secret::new(format!("{signed}.{signature}"))
    }

    /// A signature. The algorithm must fit.
    pub(crate) fn sign(&self, algorithm: SigningAlgorithm, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(pair) => {
                let encoding = rsa_encoding(algorithm).expect("the algorithm was chosen to fit the key");
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(encoding, &random, message, &mut signature).expect("an RSA key of 2048 bits signs");
                signature
            }
            Self::Ec(_, pair) => {
                pair.sign(&random, message).expect("an elliptic curve key signs").as_ref().to_vec()
            }
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// Its public part: a DER `RSAPublicKey`, an uncompressed point, or an Ed25519 key.
    pub(crate) fn public_key(&self) -> &[u8] {
        match self {
            Self::Rsa(pair) => pair.public_key().as_ref(),
            Self::Ec(_, pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
        }
    }
}

/// How a curve's keys sign: by fixed-length signatures, as JOSE has them (RFC 7518 section 3.4). `None` for what is no
/// algorithm of a curve.
pub(crate) fn ecdsa(algorithm: SigningAlgorithm) -> Option<&'static EcdsaSigningAlgorithm> {
    Some(match algorithm {
        SigningAlgorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        SigningAlgorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
        SigningAlgorithm::Es512 => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
        _ => return None,
    })
}

fn rsa_encoding(algorithm: SigningAlgorithm) -> Option<&'static dyn RsaEncoding> {
    Some(match algorithm {
        SigningAlgorithm::Rs256 => &signature::RSA_PKCS1_SHA256,
        SigningAlgorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
        SigningAlgorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
        SigningAlgorithm::Ps256 => &signature::RSA_PSS_SHA256,
        SigningAlgorithm::Ps384 => &signature::RSA_PSS_SHA384,
        SigningAlgorithm::Ps512 => &signature::RSA_PSS_SHA512,
        SigningAlgorithm::Es256
        | SigningAlgorithm::Es384
        | SigningAlgorithm::Es512
        | SigningAlgorithm::EdDsa => return None,
    })
}
