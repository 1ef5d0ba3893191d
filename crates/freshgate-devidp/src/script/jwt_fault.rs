//! What can be wrong with a signed token.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::SigningAlgorithm;
use crate::signing::{JwsHeader, Keyring, SigningKey, compact};

/// A token that is not as it should be. Members that are absent are as they should be.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct JwtFault {
    /// Claims to put in or replace.
    set: Map<String, Value>,
    /// Claims to leave out.
    omit: Vec<String>,
    /// Seconds to add to numeric claims: `{"exp": -3600}`.
    shift: BTreeMap<String, i64>,
    signature: SignatureFault,
    kid: KidFault,
    /// The header's `typ`, if it is to be another one.
    typ: Option<String>,
    /// Further members of the header: `{"crit": ["exp"]}`.
    header: Map<String, Value>,
}

/// How the signature is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum SignatureFault {
    #[default]
    Good,
    /// With one bit wrong.
    Bad,
    /// There, but of no bytes.
    Empty,
    /// `alg: none` (RFC 7518 3.6).
    AlgNone,
    /// HMAC with the public key's PEM as the secret.
    Hs256PublicKey,
    /// With a key that is not published, under the name of the one that is.
    AnotherKey,
    /// With the published RSA key.
    Rs256,
    /// With the published P-256 key.
    Es256,
    /// With the published P-256 key, and one bit wrong.
    BadEs256,
}

/// What the header says about the key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum KidFault {
    #[default]
    Right,
    /// A name that no key has.
    Wrong,
    /// No name.
    Omit,
}

/// Keys that are published nowhere, made when they are first needed.
#[derive(Default)]
pub(super) struct Strangers {
    rs256: OnceLock<SigningKey>,
    es256: OnceLock<SigningKey>,
    /// Of the one further algorithm that a provider may sign with.
    other: OnceLock<SigningKey>,
}

impl Strangers {
    fn key(&self, algorithm: SigningAlgorithm) -> &SigningKey {
        let key = match algorithm {
            SigningAlgorithm::Rs256 => &self.rs256,
            SigningAlgorithm::Es256 => &self.es256,
            _ => &self.other,
        };
        key.get_or_init(|| SigningKey::generate(algorithm))
    }
}

impl JwtFault {
    /// Whether the fault itself says what a claim is to be.
    pub(super) fn decides(&self, claim: &str) -> bool {
        self.set.contains_key(claim) || self.omit.iter().any(|name| name == claim)
    }

    /// Makes a token of the claims with all that is wrong with it. May take as long as making a key does.
    pub(super) fn sign(
        &self,
        mut claims: Map<String, Value>,
        typ: &str,
        keyring: &Keyring,
        strangers: &Strangers,
    ) -> String {
        for (name, seconds) in &self.shift {
            if let Some(value) = claims.get(name).and_then(Value::as_i64) {
                claims.insert(name.clone(), value.saturating_add(*seconds).into());
            }
        }
        claims.extend(self.set.clone());
        claims.retain(|name, _| !self.omit.contains(name));

        let key = match self.signature {
            SignatureFault::Rs256 => keyring.current_of(SigningAlgorithm::Rs256),
            SignatureFault::Es256 | SignatureFault::BadEs256 => keyring.current_of(SigningAlgorithm::Es256),
            _ => keyring.current(),
        };
        let alg = match self.signature {
            SignatureFault::AlgNone => "none",
            SignatureFault::Hs256PublicKey => "HS256",
            _ => key.algorithm().name(),
        };
        let kid = match self.kid {
            KidFault::Right => Some(key.kid().to_owned()),
            KidFault::Wrong => Some("no-such-key".to_owned()),
            KidFault::Omit => None,
        };
        let typ = Some(self.typ.as_deref().unwrap_or(typ).to_owned());
        let header = JwsHeader { alg: alg.to_owned(), typ, kid, others: self.header.clone() };
        compact(&header, &Value::Object(claims), |message| match self.signature {
            SignatureFault::Good | SignatureFault::Rs256 | SignatureFault::Es256 => key.sign(message),
            SignatureFault::Bad | SignatureFault::BadEs256 => {
                let mut signature = key.sign(message);
                if let Some(last) = signature.last_mut() {
                    *last ^= 1;
                }
                signature
            }
            SignatureFault::Empty | SignatureFault::AlgNone => Vec::new(),
            SignatureFault::Hs256PublicKey => {
                let secret = hmac::Key::new(hmac::HMAC_SHA256, key.public_pem().as_bytes());
                hmac::sign(&secret, message).as_ref().to_vec()
            }
            SignatureFault::AnotherKey => strangers.key(key.algorithm()).sign(message),
        })
    }
}
