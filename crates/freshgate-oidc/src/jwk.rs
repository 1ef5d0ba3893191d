//! A provider's keys (RFC 7517).

use std::fmt;

use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, RsaPublicKeyComponents};
use serde_json::{Map, Value};

use crate::{jws::SigningAlgorithm, operator_text::one_line, secret::from_base64url};

/// A provider's keys, those of them that can verify a signature.
#[derive(Clone, Debug, Default)]
pub struct JwkSet {
    keys: Vec<Jwk>,
    skipped: Vec<SkippedKey>,
}

impl JwkSet {
    /// More than this is no key set.
    pub const MAX_BYTES: usize = 1024 * 1024;
    /// Keys beyond this many are skipped, so that a token that names no key costs no more than this many tries.
    pub const MAX_KEYS: usize = 100;

    /// Reads a key set (RFC 7517 section 5). Keys that are not for verifying, or that we cannot use, are skipped; a set
    /// in which none is left is still a set.
    pub fn parse(document: &[u8]) -> Result<Self, JwkSetError> {
        if document.len() > Self::MAX_BYTES {
            return Err(JwkSetError::TooLarge { limit: Self::MAX_BYTES });
        }
        let document: Map<String, Value> = serde_json::from_slice(document).map_err(JwkSetError::NotJson)?;
        let Some(Value::Array(keys)) = document.get("keys") else {
            return Err(JwkSetError::NoKeys);
        };
        let mut set = Self::default();
        for (position, key) in keys.iter().enumerate() {
            let parsed = if position < Self::MAX_KEYS { Jwk::parse(key) } else { Err(WhySkipped::TooMany) };
            match parsed {
                Ok(key) if set.keys.iter().any(|known| known.is_the_same_as(&key)) => {}
                Ok(key) => set.keys.push(key),
                Err(why) => set.skipped.push(SkippedKey {
                    key_id: key.get("kid").and_then(Value::as_str).map(|key_id| one_line(key_id, 100)),
                    why,
                }),
            }
        }
        set.skipped.truncate(Self::MAX_KEYS);
        Ok(set)
    }

    /// The keys that can verify a signature. Several may have one id (RFC 7517 section 4.5).
    pub fn iter(&self) -> impl Iterator<Item = &Jwk> {
        self.keys.iter()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys that were passed over, for the operator.
    pub fn skipped(&self) -> &[SkippedKey] {
        &self.skipped
    }
}

/// Why there is no key set.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwkSetError {
    /// It is larger than any key set.
    #[error("the provider's keys are larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It is no JSON object.
    #[error("the provider's keys are not a JSON object")]
    NotJson(#[source] serde_json::Error),
    /// It is a JSON object, but without an array `keys`.
    #[error("the provider's keys have no array `keys`")]
    NoKeys,
}

/// A key that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SkippedKey {
    /// Its id, if it has one.
    pub key_id: Option<String>,
    /// Why.
    pub why: WhySkipped,
}

/// Why a key was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WhySkipped {
    /// `use`, `key_ops` or `alg` say that it is for something else.
    #[error("it is not for verifying signatures")]
    NotForSignatures,
    /// Its type or curve is not known, or it is a shared secret.
    #[error("its type is not supported")]
    UnsupportedType,
    /// It is published with its private part, so anyone can sign with it.
    #[error("it is published with its private part")]
    Private,
    /// RSA with fewer than 2048 bits or more than 8192.
    #[error("its size is not between 2048 and 8192 bits")]
    Size,
    /// It is not a key.
    #[error("it is malformed")]
    Malformed,
    /// It comes after the last one that is read.
    #[error("there are too many keys")]
    TooMany,
}

/// A public key that can verify a signature.
#[derive(Clone)]
pub struct Jwk {
    key_id: Option<String>,
    /// The one algorithm that it is for, if it says so.
    algorithm: Option<SigningAlgorithm>,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// On the curve that goes with this algorithm.
    Curve(SigningAlgorithm, ParsedPublicKey),
}

impl Jwk {
    /// Its id, if it has one.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Whether it can verify signatures of this algorithm.
    pub fn fits(&self, algorithm: SigningAlgorithm) -> bool {
        self.algorithm.is_none_or(|only| only == algorithm)
            && match &self.material {
                Material::Rsa { .. } => rsa_parameters(algorithm).is_some(),
                Material::Curve(own, _) => *own == algorithm,
            }
    }

    /// Whether `signature` is one of this key over `message`.
    pub(crate) fn verifies(&self, algorithm: SigningAlgorithm, message: &[u8], signature: &[u8]) -> bool {
        self.fits(algorithm)
            && match (&self.material, rsa_parameters(algorithm)) {
                (Material::Rsa { n, e }, Some(parameters)) => {
                    RsaPublicKeyComponents { n, e }.verify(parameters, message, signature).is_ok()
                }
                (Material::Rsa { .. }, None) => false,
                (Material::Curve(_, key), _) => key.verify_sig(message, signature).is_ok(),
            }
    }

    fn parse(json: &Value) -> Result<Self, WhySkipped> {
        let members = json.as_object().ok_or(WhySkipped::Malformed)?;
        if !is_for_verifying(members) {
            return Err(WhySkipped::NotForSignatures);
        }
        let material = match members.get("kty").and_then(Value::as_str) {
            Some("RSA") => rsa(members)?,
            Some("EC") => elliptic_curve(members)?,
            Some("OKP") => ed25519(members)?,
            _ => return Err(WhySkipped::UnsupportedType),
        };
        if members.contains_key("d") {
            return Err(WhySkipped::Private);
        }
        let algorithm = match members.get("alg") {
            None | Some(Value::Null) => None,
            Some(name) => {
                let known = name.as_str().and_then(SigningAlgorithm::from_name);
                Some(known.ok_or(WhySkipped::NotForSignatures)?)
            }
        };
        let key_id = match members.get("kid") {
            None | Some(Value::Null) => None,
            Some(Value::String(key_id)) => Some(key_id.clone()),
            Some(_) => return Err(WhySkipped::Malformed),
        };
        Ok(Self { key_id, algorithm, material })
    }

    fn is_the_same_as(&self, other: &Self) -> bool {
        self.key_id == other.key_id
            && self.algorithm == other.algorithm
            && match (&self.material, &other.material) {
                (Material::Rsa { n, e }, Material::Rsa { n: other_n, e: other_e }) => {
                    n == other_n && e == other_e
                }
                (Material::Curve(curve, key), Material::Curve(other_curve, other_key)) => {
                    curve == other_curve && key.as_ref() == other_key.as_ref()
                }
                _ => false,
            }
    }
}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwk")
            .field("key_id", &self.key_id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// RFC 7517 sections 4.2 and 4.3: `use` and `key_ops`, where they are there, must both allow it.
fn is_for_verifying(members: &Map<String, Value>) -> bool {
    let purpose = match members.get("use") {
        None | Some(Value::Null) => true,
        Some(purpose) => purpose == "sig",
    };
    let operations = match members.get("key_ops") {
        None | Some(Value::Null) => true,
        Some(operations) => operations.as_array().is_some_and(|all| all.iter().any(|one| one == "verify")),
    };
    purpose && operations
}

/// RFC 7518 section 6.3.1.
fn rsa(members: &Map<String, Value>) -> Result<Material, WhySkipped> {
    // Some providers write the zero byte that ASN.1 puts before a number whose first bit is set.
    let n = without_leading_zeros(number(members, "n")?);
    let e = without_leading_zeros(number(members, "e")?);
    let bits = n.len() * 8 - n.first().map_or(0, |first| first.leading_zeros() as usize);
    if !(2048..=8192).contains(&bits) {
        return Err(WhySkipped::Size);
    }
    // An exponent of 1 makes every message its own signature; an even one is no RSA key.
    if e.is_empty() || e == [1] || e.len() > 4 || e.last().is_some_and(|last| last % 2 == 0) {
        return Err(WhySkipped::Malformed);
    }
    RsaPublicKeyComponents { n: &n, e: &e }
        .to_parsed_public_key(&signature::RSA_PKCS1_2048_8192_SHA256)
        .map_err(|_| WhySkipped::Malformed)?;
    Ok(Material::Rsa { n, e })
}

/// RFC 7518 section 6.2.1: coordinates have the full length of the curve.
fn elliptic_curve(members: &Map<String, Value>) -> Result<Material, WhySkipped> {
    use signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED};
    let (algorithm, verification, length) = match members.get("crv").and_then(Value::as_str) {
        Some("P-256") => (SigningAlgorithm::Es256, &ECDSA_P256_SHA256_FIXED, 32),
        Some("P-384") => (SigningAlgorithm::Es384, &ECDSA_P384_SHA384_FIXED, 48),
        Some("P-521") => (SigningAlgorithm::Es512, &ECDSA_P521_SHA512_FIXED, 66),
        _ => return Err(WhySkipped::UnsupportedType),
    };
    let (x, y) = (number(members, "x")?, number(members, "y")?);
    if x.len() != length || y.len() != length {
        return Err(WhySkipped::Malformed);
    }
    let point = [&[0x04], &x[..], &y[..]].concat();
    let key = ParsedPublicKey::new(verification, point).map_err(|_| WhySkipped::Malformed)?;
    Ok(Material::Curve(algorithm, key))
}

/// RFC 8037 section 2.
fn ed25519(members: &Map<String, Value>) -> Result<Material, WhySkipped> {
    if members.get("crv").and_then(Value::as_str) != Some("Ed25519") {
        return Err(WhySkipped::UnsupportedType);
    }
    let x = number(members, "x")?;
    if x.len() != signature::ED25519_PUBLIC_KEY_LEN {
        return Err(WhySkipped::Malformed);
    }
    let key = ParsedPublicKey::new(&signature::ED25519, x).map_err(|_| WhySkipped::Malformed)?;
    Ok(Material::Curve(SigningAlgorithm::EdDsa, key))
}

fn number(members: &Map<String, Value>, name: &str) -> Result<Vec<u8>, WhySkipped> {
    members.get(name).and_then(Value::as_str).and_then(from_base64url).ok_or(WhySkipped::Malformed)
}

fn without_leading_zeros(mut number: Vec<u8>) -> Vec<u8> {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.drain(..zeros);
    number
}

fn rsa_parameters(algorithm: SigningAlgorithm) -> Option<&'static RsaParameters> {
    Some(match algorithm {
        SigningAlgorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        SigningAlgorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        SigningAlgorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        SigningAlgorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
        SigningAlgorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
        SigningAlgorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
        SigningAlgorithm::Es256
        | SigningAlgorithm::Es384
        | SigningAlgorithm::Es512
        | SigningAlgorithm::EdDsa => {
            return None;
        }
    })
}

#[cfg(test)]
mod tests;
