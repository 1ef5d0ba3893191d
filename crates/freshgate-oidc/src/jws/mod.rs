//! Signed tokens (RFC 7515) and the algorithms they may be signed with (RFC 7518, RFC 8037).
//!
//! `docs/decisions/0001-jws.md` says why this is a module of our own.

mod algorithm;
mod signing;
#[cfg(test)]
mod tests;

pub use algorithm::{AllowedAlgorithms, SigningAlgorithm};
pub(crate) use signing::{CURVES, KeyPair, ecdsa};

use serde_json::{Map, Value};

use crate::{
    json,
    jwk::JwkSet,
    operator_text::one_line,
    secret::{Secret, from_base64url},
};

/// A token in JWS compact serialization, taken apart. Nothing in it is proved.
pub(crate) struct UnverifiedJws {
    pub(crate) header: Header,
    payload: Vec<u8>,
    signed: Secret,
    signature: Vec<u8>,
}

/// What a header says. `jwk`, `jku`, `x5c` and `x5u` are not read: keys come from the provider's key set alone.
pub(crate) struct Header {
    pub(crate) algorithm: String,
    pub(crate) key_id: Option<String>,
    pub(crate) media_type: Option<String>,
    /// Whether it demands extensions to be understood (`crit`, or `b64` without it). We understand none.
    pub(crate) demands_extensions: bool,
}

/// Why a signed token is refused before its claims matter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JwsError {
    /// It is larger than any token.
    #[error("the token is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// It is encrypted, which the client's registration at the provider can turn off.
    #[error("the token is encrypted, which is not supported")]
    Encrypted,
    /// It is not a JWS in compact serialization with a JSON object in its header.
    #[error("the token is not a signed token: {what}")]
    Malformed {
        /// What is wrong.
        what: &'static str,
    },
    /// Its header demands extensions to be understood (RFC 7515 section 4.1.11, RFC 7797).
    #[error("the token's header demands an extension that is not known")]
    UnknownExtension,
    /// It is signed with an algorithm that is not allowed, or not signed at all.
    #[error("the token is signed with {algorithm}, which is not allowed")]
    AlgorithmNotAllowed {
        /// The algorithm that it names.
        algorithm: String,
    },
    /// No key of the set fits. The provider may have new keys: fetch them again, but not without limit.
    #[error("the provider's keys have none {}", key_wanted(.key_id.as_deref()))]
    UnknownKey {
        /// The key that it names, if it names one.
        key_id: Option<String>,
    },
    /// The key that it names is not for this algorithm.
    #[error("the key that the token names is not for {algorithm}")]
    KeyNotForAlgorithm {
        /// The algorithm that it names.
        algorithm: String,
    },
    /// Its signature is wrong.
    #[error("the token's signature is wrong")]
    WrongSignature {
        /// Whether it names its key. If not, its key may be one that the provider has added since.
        names_its_key: bool,
    },
}

fn key_wanted(key_id: Option<&str>) -> String {
    match key_id {
        Some(key_id) => format!("named {key_id:?}"),
        None => "that fits the token".to_owned(),
    }
}

impl JwsError {
    /// Whether the same token might pass with keys fetched anew (Core section 10.1.1). Limit the rate of doing so.
    pub fn wants_newer_keys(&self) -> bool {
        matches!(self, Self::UnknownKey { .. } | Self::WrongSignature { names_its_key: false })
    }
}

impl UnverifiedJws {
    /// More than this is no token. Groups by the hundred fit in.
    pub(crate) const MAX_BYTES: usize = 1024 * 1024;
    const MAX_HEADER_BYTES: usize = 16 * 1024;

    /// Takes a compact serialization apart (RFC 7515 section 5.2, steps 1 to 7).
    pub(crate) fn parse(token: &str) -> Result<Self, JwsError> {
        if token.len() > Self::MAX_BYTES {
            return Err(JwsError::TooLarge { limit: Self::MAX_BYTES });
        }
        let parts: Vec<&str> = token.splitn(6, '.').collect();
        let [header, payload, signature] = parts[..] else {
            return Err(if parts.len() == 5 {
                JwsError::Encrypted
            } else {
                malformed("it has not three parts")
            });
        };
        if header.len() > Self::MAX_HEADER_BYTES {
            return Err(malformed("its header is too large"));
        }
        Ok(Self {
            header: Header::parse(&from_base64url(header).ok_or(malformed("its header is not base64url"))?)?,
            payload: from_base64url(payload).ok_or(malformed("its payload is not base64url"))?,
            signature: from_base64url(signature).ok_or(malformed("its signature is not base64url"))?,
            signed: Secret::new(&token[..header.len() + 1 + payload.len()]),
        })
    }

    /// The payload as claims (RFC 7519 section 7.2, step 10).
    pub(crate) fn claims(&self) -> Result<Map<String, Value>, JwsError> {
        json::object_without_duplicates(&self.payload)
            .ok_or(malformed("its payload is not a JSON object without duplicate members"))
    }

    /// Every rule for the token as such: extensions, algorithm, signature.
    pub(crate) fn verify(&self, keys: &JwkSet, allowed: &AllowedAlgorithms) -> Result<(), JwsError> {
        self.demands_no_extensions()?;
        self.algorithm_is_allowed(allowed)?;
        self.a_key_verifies_the_signature(keys)
    }

    /// RFC 7515 section 4.1.11: what `crit` names must be understood, and we understand nothing. RFC 7797 section 6:
    /// `b64` has to be named there; one that is not is refused just the same.
    pub(crate) fn demands_no_extensions(&self) -> Result<(), JwsError> {
        if self.header.demands_extensions { Err(JwsError::UnknownExtension) } else { Ok(()) }
    }

    /// RFC 8725 section 3.1: the caller says which algorithms there are.
    pub(crate) fn algorithm_is_allowed(&self, allowed: &AllowedAlgorithms) -> Result<(), JwsError> {
        match self.algorithm() {
            Ok(algorithm) if allowed.contains(algorithm) => Ok(()),
            _ => Err(self.algorithm_refused()),
        }
    }

    /// RFC 7515 section 5.2, step 8. A key that the token names must be the one. Of a token that names none, any key
    /// that fits its algorithm may be.
    pub(crate) fn a_key_verifies_the_signature(&self, keys: &JwkSet) -> Result<(), JwsError> {
        let algorithm = self.algorithm()?;
        let key_id = self.header.key_id.as_deref();
        let mut named = false;
        let mut tried = false;
        for key in keys.iter().filter(|key| key_id.is_none() || key.key_id() == key_id) {
            named = true;
            if key.fits(algorithm) {
                tried = true;
                if key.verifies(algorithm, self.signed.expose().as_bytes(), &self.signature) {
                    return Ok(());
                }
            }
        }
        Err(match (tried, named && key_id.is_some()) {
            (true, _) => JwsError::WrongSignature { names_its_key: key_id.is_some() },
            (false, true) => JwsError::KeyNotForAlgorithm { algorithm: algorithm.name().to_owned() },
            (false, false) => JwsError::UnknownKey { key_id: key_id.map(|key_id| one_line(key_id, 100)) },
        })
    }

    /// The algorithm that the token names, if it is one at all.
    pub(crate) fn algorithm(&self) -> Result<SigningAlgorithm, JwsError> {
        SigningAlgorithm::from_name(&self.header.algorithm).ok_or_else(|| self.algorithm_refused())
    }

    fn algorithm_refused(&self) -> JwsError {
        JwsError::AlgorithmNotAllowed { algorithm: one_line(&self.header.algorithm, 40) }
    }
}

impl Header {
    fn parse(json: &[u8]) -> Result<Self, JwsError> {
        let mut members = json::object_without_duplicates(json)
            .ok_or(malformed("its header is not a JSON object without duplicate members"))?;
        let demands_extensions = members.contains_key("crit") || members.contains_key("b64");
        if members.contains_key("enc") {
            return Err(JwsError::Encrypted);
        }
        let mut text = |name: &str, wrong: &'static str| match members.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(malformed(wrong)),
        };
        Ok(Self {
            algorithm: text("alg", "its `alg` is not text")?.ok_or(malformed("it names no algorithm"))?,
            key_id: text("kid", "its `kid` is not text")?,
            media_type: text("typ", "its `typ` is not text")?,
            demands_extensions,
        })
    }

    /// What `typ` says, without the `application/` that may be left out (RFC 7515 section 4.1.9), in lower case.
    pub(crate) fn media_type(&self) -> Option<String> {
        let media_type = self.media_type.as_deref()?.to_ascii_lowercase();
        Some(media_type.strip_prefix("application/").unwrap_or(&media_type).to_owned())
    }

    /// The kind of token that it says it is, if that is another one than `own` (RFC 8725 section 3.11); fit for a log. Many
    /// tokens write `JWT` or nothing, which is no kind.
    pub(crate) fn another_kind_than(&self, own: &str) -> Option<String> {
        let kind = self.media_type().filter(|kind| kind.contains("+jwt") && kind != own)?;
        Some(one_line(&kind, 40))
    }
}

fn malformed(what: &'static str) -> JwsError {
    JwsError::Malformed { what }
}
