//! Sealing: what leaves the process (to a store, to a cookie) leaves it encrypted and bound to where it belongs.

use std::{fmt, sync::Arc};

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, MAX_TAG_LEN, NONCE_LEN, Nonce, UnboundKey},
    hkdf,
};
use freshgate_oidc::Secret;
use zeroize::Zeroizing;

use crate::clock::Entropy;

/// The keys that seal and open. The first seals; all open what they sealed.
///
/// Sealed bytes are `format (1) | key id (8) | nonce (12) | ciphertext | tag (16)`, sealed with AES-256-GCM-SIV (RFC 8452):
/// nonces are random, and with SIV even a repeated one reveals no more than that two plaintexts are equal. Everything
/// before the ciphertext, the [`Purpose`] and the caller's context are authenticated with it, so what was sealed for one
/// place does not open in another.
///
/// Cheap to clone.
#[derive(Clone)]
pub struct Keyring(Arc<[Key]>);

/// What the sealed bytes are for. Those of one purpose do not open for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A session's record in a store. Context: the bytes of its [`SessionKey`](crate::session::SessionKey).
    SessionRecord,
    /// What is left to read of a session that ended, in a store. Context: the bytes of its key.
    EndedSession,
    /// A login in progress, in a cookie. Context: its flow's name.
    LoginFlow,
    /// A login that an app has prepared, in an address. Context: none.
    PreparedLogin,
}

impl Purpose {
    /// Part of the format: never change or reuse a number.
    fn number(self) -> u8 {
        match self {
            Self::SessionRecord => 1,
            Self::LoginFlow => 2,
            Self::EndedSession => 3,
            Self::PreparedLogin => 4,
        }
    }
}

/// Why sealed bytes do not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Sealed with a key that is not, or no longer, on the ring.
    #[error("sealed with an unknown key")]
    UnknownKey,
    /// Altered, or sealed for another purpose or context.
    #[error("altered, or sealed for another place")]
    Tampered,
    /// Not in our format, or in that of a later version.
    #[error("not sealed by this version of freshgate")]
    Malformed,
}

const FORMAT: u8 = 1;
const KEY_ID_LENGTH: usize = 8;
const HEADER_LENGTH: usize = 1 + KEY_ID_LENGTH + NONCE_LEN;

impl Keyring {
    /// A ring with one key, derived from a secret of the configuration (`cookie_secret`).
    pub fn from_secret(secret: &Secret) -> Self {
        Self::new(Key::from_secret(secret), [])
    }

    /// A ring that seals with one key, and opens with this and others: those of former times, and, while several gates
    /// are given a new key one after the other, the one to come.
    pub fn new(seals: Key, opens: impl IntoIterator<Item = Key>) -> Self {
        Self(std::iter::once(seals).chain(opens).collect())
    }

    /// Seals `plain`. It opens for the same purpose and context alone.
    pub fn seal(&self, entropy: &dyn Entropy, purpose: Purpose, context: &[u8], plain: &[u8]) -> Vec<u8> {
        let key = &self.0[0];
        let mut nonce = [0; NONCE_LEN];
        entropy.fill(&mut nonce);

        let mut sealed = Vec::with_capacity(HEADER_LENGTH + plain.len() + MAX_TAG_LEN);
        sealed.push(FORMAT);
        sealed.extend_from_slice(&key.id);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);

        let authenticated = authenticated(&sealed[..HEADER_LENGTH], purpose, context);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let text = &mut sealed[HEADER_LENGTH..];
        let tag = key.cipher.seal_in_place_separate_tag(nonce, Aad::from(authenticated), text);
        let tag = tag.expect("only a plaintext of gigabytes cannot be sealed");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens what [`Keyring::seal`] sealed for this purpose and context. The plaintext is wiped when dropped.
    pub fn open(
        &self,
        purpose: Purpose,
        context: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let (header, text) = sealed.split_at_checked(HEADER_LENGTH).ok_or(OpenError::Malformed)?;
        if header[0] != FORMAT || text.len() < MAX_TAG_LEN {
            return Err(OpenError::Malformed);
        }
        let (id, nonce) = header[1..].split_at(KEY_ID_LENGTH);
        let key = self.0.iter().find(|key| key.id == id).ok_or(OpenError::UnknownKey)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenError::Malformed)?;

        let authenticated = authenticated(header, purpose, context);
        let mut plain = Zeroizing::new(text.to_vec());
        let length = key
            .cipher
            .open_in_place(nonce, Aad::from(authenticated), &mut plain)
            .map_err(|_| OpenError::Tampered)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    /// Whether these bytes were sealed with the key that seals now. If not, they are worth sealing anew.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        sealed.get(1..=KEY_ID_LENGTH).is_some_and(|id| id == self.0[0].id)
    }
}

/// All parts but the last have a fixed length, so that no two combinations read the same.
fn authenticated(header: &[u8], purpose: Purpose, context: &[u8]) -> Vec<u8> {
    [header, &[purpose.number()], context].concat()
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter()).finish()
    }
}

/// One key of a [`Keyring`].
pub struct Key {
    /// Derived from the same secret, and reveals nothing of it: gates that share a secret agree on the id.
    id: [u8; KEY_ID_LENGTH],
    // "Less safe" for letting the caller choose nonces. Ours are random, from the entropy that tests replace.
    cipher: LessSafeKey,
}

impl Key {
    /// Derives a key from a secret of any length (HKDF-SHA256, RFC 5869). The key is as hard to guess as the secret: the
    /// derivation does not make up for a weak one.
    pub fn from_secret(secret: &Secret) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"freshgate keyring");
        let derived = salt.extract(secret.expose().as_bytes());
        let mut id = [0; KEY_ID_LENGTH];
        let cipher = derived
            .expand(&[b"AES-256-GCM-SIV key"], &AES_256_GCM_SIV)
            .map(|material| LessSafeKey::new(UnboundKey::from(material)));
        let id_filled = derived.expand(&[b"key id"], IdLength).and_then(|material| material.fill(&mut id));
        match (cipher, id_filled) {
            (Ok(cipher), Ok(())) => Self { id, cipher },
            _ => unreachable!("HKDF-SHA256 yields up to 8160 bytes"),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", freshgate_oidc::base64url(&self.id))
    }
}

struct IdLength;

impl hkdf::KeyType for IdLength {
    fn len(&self) -> usize {
        KEY_ID_LENGTH
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemEntropy;

    const CONTEXT: &[u8] = &[7; 32];
    const PLAIN: &[u8] = b"a refresh token and all the rest";

    fn key(secret: &str) -> Key {
        Key::from_secret(&Secret::new(secret))
    }

    fn ring(secret: &str) -> Keyring {
        Keyring::new(key(secret), [])
    }

    fn seal(ring: &Keyring) -> Vec<u8> {
        ring.seal(&SystemEntropy, Purpose::SessionRecord, CONTEXT, PLAIN)
    }

    fn open(ring: &Keyring, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        ring.open(Purpose::SessionRecord, CONTEXT, sealed)
    }

    #[test]
    fn what_was_sealed_opens() {
        let ring = ring("secret");
        for plain in [&b""[..], b"x", PLAIN, &[0; 1 << 20]] {
            let sealed = ring.seal(&SystemEntropy, Purpose::LoginFlow, CONTEXT, plain);
            assert_eq!(sealed.len(), plain.len() + HEADER_LENGTH + MAX_TAG_LEN);
            assert_eq!(*ring.open(Purpose::LoginFlow, CONTEXT, &sealed).unwrap(), plain);
        }
    }

    #[test]
    fn no_two_seals_are_alike_and_none_shows_the_plaintext() {
        let ring = ring("secret");
        let (one, other) = (seal(&ring), seal(&ring));
        assert_ne!(one[HEADER_LENGTH..], other[HEADER_LENGTH..]);
        assert!(!one.windows(8).any(|window| PLAIN.windows(8).any(|plain| plain == window)));
    }

    #[test]
    fn it_opens_in_its_own_place_alone() {
        let ring = ring("secret");
        let sealed = seal(&ring);
        for (purpose, context) in [
            (Purpose::LoginFlow, CONTEXT),
            (Purpose::EndedSession, CONTEXT),
            (Purpose::SessionRecord, &[8; 32]),
            (Purpose::SessionRecord, &CONTEXT[..31]),
            (Purpose::SessionRecord, &[7; 33]),
            (Purpose::SessionRecord, &[]),
        ] {
            assert_eq!(ring.open(purpose, context, &sealed).unwrap_err(), OpenError::Tampered, "{purpose:?}");
        }
    }

    #[test]
    fn it_opens_with_its_own_key_alone() {
        let sealed = seal(&ring("secret"));
        assert_eq!(open(&ring("other secret"), &sealed).unwrap_err(), OpenError::UnknownKey);
        // Even where the ids are the same by chance.
        let namesake = Key { id: key("secret").id, ..key("other secret") };
        assert_eq!(open(&Keyring::new(namesake, []), &sealed).unwrap_err(), OpenError::Tampered);
    }

    #[test]
    fn any_flipped_bit_is_noticed() {
        let ring = ring("secret");
        let sealed = seal(&ring);
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let expected = match bit / 8 {
                0 => OpenError::Malformed,
                1..=KEY_ID_LENGTH => OpenError::UnknownKey,
                _ => OpenError::Tampered,
            };
            assert_eq!(open(&ring, &altered).unwrap_err(), expected, "bit {bit}");
        }
    }

    #[test]
    fn any_missing_or_added_byte_is_noticed() {
        let ring = ring("secret");
        let sealed = seal(&ring);
        for length in 0..sealed.len() {
            assert!(open(&ring, &sealed[..length]).is_err(), "{length} bytes");
        }
        let longer = [sealed.as_slice(), &[0]].concat();
        assert_eq!(open(&ring, &longer).unwrap_err(), OpenError::Tampered);
    }

    #[test]
    fn keys_are_rotated() {
        let old = ring("old");
        let sealed_before = seal(&old);
        assert!(old.is_current(&sealed_before));

        // First every gate learns to open with the new key, then to seal with it, then the old one goes.
        let learning = Keyring::new(key("old"), [key("new")]);
        let rotated = Keyring::new(key("new"), [key("old")]);
        let sealed_after = seal(&rotated);
        for ring in [&learning, &rotated] {
            assert_eq!(*open(ring, &sealed_before).unwrap(), PLAIN);
            assert_eq!(*open(ring, &sealed_after).unwrap(), PLAIN);
        }
        assert!(!rotated.is_current(&sealed_before));
        assert!(rotated.is_current(&sealed_after));

        let finished = ring("new");
        assert_eq!(open(&finished, &sealed_before).unwrap_err(), OpenError::UnknownKey);
        assert_eq!(*open(&finished, &sealed_after).unwrap(), PLAIN);
    }

    #[test]
    fn one_secret_is_one_key_in_every_process_and_version() {
        struct Sevens;
        impl Entropy for Sevens {
            fn fill(&self, bytes: &mut [u8]) {
                bytes.fill(7);
            }
        }
        // A change that makes this differ signs everyone out: give it another format number and read both.
        let sealed = ring("secret").seal(&Sevens, Purpose::SessionRecord, CONTEXT, b"plain");
        assert_eq!(
            freshgate_oidc::base64url(&sealed),
            "AXLYWEp058A-BwcHBwcHBwcHBwcHgclycQIECI62h6x3m8UD4uOnEvuC"
        );
    }

    #[test]
    fn debug_shows_no_secret() {
        let secret = "a very secret secret";
        let shown = format!("{:?} {:?}", ring(secret), key(secret));
        assert!(shown.contains(&freshgate_oidc::base64url(&key(secret).id)));
        assert!(!shown.contains(secret));
    }
}
