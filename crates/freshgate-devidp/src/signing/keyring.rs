//! The keys that sign now and those that did.

use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::jws::{JwsHeader, Parts};
use super::key::{BadKey, SavedKey, SigningKey};
use crate::config::SigningAlgorithm;

/// Signs with the newest key of an algorithm and remembers the older ones.
pub(crate) struct Keyring {
    algorithm: SigningAlgorithm,
    keys: RwLock<Keys>,
}

#[derive(Clone)]
struct Keys {
    rs256: Arc<SigningKey>,
    es256: Arc<SigningKey>,
    /// Of the algorithm that signs, if that is another.
    other: Option<Arc<SigningKey>>,
    retired: Vec<Retired>,
}

impl Keys {
    /// Those that sign, or could.
    fn signing(&self) -> impl Iterator<Item = &Arc<SigningKey>> {
        [&self.rs256, &self.es256].into_iter().chain(&self.other)
    }
}

/// A new key, if there is none of the algorithm in any case.
fn other(algorithm: SigningAlgorithm) -> Option<Arc<SigningKey>> {
    match algorithm {
        SigningAlgorithm::Rs256 | SigningAlgorithm::Es256 => None,
        other => Some(Arc::new(SigningKey::generate(other))),
    }
}

#[derive(Clone)]
struct Retired {
    key: Arc<SigningKey>,
    published: OldKeys,
}

/// What becomes of the keys that a rotation replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OldKeys {
    /// They stay published, so that what they signed can still be verified.
    Keep,
    /// They are published no longer.
    Withdraw,
}

/// The keyring as it stands in the state file.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SavedKeyring {
    rs256: SavedKey,
    es256: SavedKey,
    #[serde(default)]
    other: Option<SavedKey>,
    retired: Vec<SavedRetired>,
}

#[derive(Clone, Serialize, Deserialize)]
struct SavedRetired {
    key: SavedKey,
    published: OldKeys,
}

impl Keyring {
    /// Makes new keys; see [`SigningKey::generate`] for the time it takes.
    pub(crate) fn generate(algorithm: SigningAlgorithm) -> Keyring {
        let keys = Keys {
            rs256: Arc::new(SigningKey::generate(SigningAlgorithm::Rs256)),
            es256: Arc::new(SigningKey::generate(SigningAlgorithm::Es256)),
            other: other(algorithm),
            retired: Vec::new(),
        };
        Keyring { algorithm, keys: RwLock::new(keys) }
    }

    /// The key that signs now.
    pub(crate) fn current(&self) -> Arc<SigningKey> {
        self.current_of(self.algorithm)
    }

    /// The key that would sign if `algorithm` were the one in use.
    pub(crate) fn current_of(&self, algorithm: SigningAlgorithm) -> Arc<SigningKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.signing().find(|key| key.algorithm() == algorithm);
        Arc::clone(key.expect("there is a key of the algorithm that signs, and of the two that could"))
    }

    /// The names of the algorithms of which there are keys.
    pub(crate) fn algorithms(&self) -> Vec<&'static str> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.signing().map(|key| key.algorithm().name()).collect()
    }

    /// Replaces all keys by new ones; see [`SigningKey::generate`] for the time it takes.
    pub(crate) fn rotate(&self, old: OldKeys) {
        let rs256 = Arc::new(SigningKey::generate(SigningAlgorithm::Rs256));
        let es256 = Arc::new(SigningKey::generate(SigningAlgorithm::Es256));
        let other = other(self.algorithm);
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        let replaced: Vec<_> =
            keys.signing().map(|key| Retired { key: Arc::clone(key), published: old }).collect();
        (keys.rs256, keys.es256, keys.other) = (rs256, es256, other);
        keys.retired.extend(replaced);
    }

    /// The published keys as a JWK set (RFC 7517 5).
    pub(crate) fn jwk_set(&self) -> Value {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let kept = keys
            .retired
            .iter()
            .filter(|retired| retired.published == OldKeys::Keep)
            .map(|retired| &retired.key);
        let published: Vec<Value> = keys.signing().chain(kept).map(|key| key.public_jwk()).collect();
        json!({ "keys": published })
    }

    /// The claims of a token that we signed ourselves, expired or not; `None` if we did not.
    ///
    /// For the hints that relying parties send back to us, where the specifications want expired ID tokens accepted.
    pub(crate) fn claims_of_own(&self, token: &str) -> Option<Value> {
        let Parts { header: JwsHeader { alg, kid, .. }, claims, message, signature } = Parts::of(token)?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let signer = keys
            .signing()
            .chain(keys.retired.iter().map(|retired| &retired.key))
            .find(|key| kid.as_deref() == Some(key.kid()) && alg == key.algorithm().name())?;
        if !signer.verifies(message, &signature) {
            return None;
        }
        serde_json::from_slice(&claims).ok()
    }

    pub(crate) fn save(&self) -> SavedKeyring {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        SavedKeyring {
            rs256: keys.rs256.save(),
            es256: keys.es256.save(),
            other: keys.other.as_ref().map(|key| key.save()),
            retired: keys
                .retired
                .iter()
                .map(|retired| SavedRetired { key: retired.key.save(), published: retired.published })
                .collect(),
        }
    }

    pub(crate) fn restore(saved: &SavedKeyring, algorithm: SigningAlgorithm) -> Result<Keyring, BadKey> {
        let restore = |key| SigningKey::restore(key).map(Arc::new);
        let keys = Keys {
            rs256: restore(&saved.rs256)?,
            es256: restore(&saved.es256)?,
            other: match &saved.other {
                Some(key) if key.algorithm == algorithm => Some(restore(key)?),
                _ => other(algorithm),
            },
            retired: saved
                .retired
                .iter()
                .map(|retired| Ok(Retired { key: restore(&retired.key)?, published: retired.published }))
                .collect::<Result<_, BadKey>>()?,
        };
        Ok(Keyring { algorithm, keys: RwLock::new(keys) })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Keyring, OldKeys};
    use crate::config::SigningAlgorithm;
    use crate::signing::signed;

    #[test]
    fn recognises_its_own_signature_over_a_rotation_and_a_restart() {
        let keyring = Keyring::generate(SigningAlgorithm::Es384);
        let token = signed(&keyring.current(), "JWT", &json!({"sub": "alice", "exp": 1}));
        keyring.rotate(OldKeys::Withdraw);
        let restored = Keyring::restore(&keyring.save(), SigningAlgorithm::Rs256).unwrap();
        assert_eq!(restored.algorithms(), ["RS256", "ES256"]);
        for keyring in [&keyring, &restored] {
            assert_eq!(keyring.claims_of_own(&token), Some(json!({"sub": "alice", "exp": 1})));
        }
        let stranger = Keyring::generate(SigningAlgorithm::Es256);
        assert_eq!(stranger.claims_of_own(&token), None);
        let (signed_part, _) = token.rsplit_once('.').unwrap();
        for forged in [format!("{signed_part}."), format!("{signed_part}.AAAA"), signed_part.to_owned()] {
            assert_eq!(keyring.claims_of_own(&forged), None);
        }
    }

    #[test]
    fn withdrawn_keys_are_not_published() {
        let keyring = Keyring::generate(SigningAlgorithm::Rs256);
        let first = keyring.current().kid().to_owned();
        keyring.rotate(OldKeys::Keep);
        let second = keyring.current().kid().to_owned();
        keyring.rotate(OldKeys::Withdraw);
        let published = keyring.jwk_set().to_string();
        assert!(published.contains(&first) && published.contains(keyring.current().kid()));
        assert!(!published.contains(&second));
    }
}
