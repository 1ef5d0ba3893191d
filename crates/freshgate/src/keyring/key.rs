//! One key, and its name.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey},
    hkdf,
};
use freshgate_oidc::Secret;

use super::FORMAT;

/// One key of a [`Keyring`](super::Keyring).
pub struct Key {
    /// Derived from the same secret, and reveals nothing of it: gates that share a secret agree on the id.
    id: KeyId,
    // "Less safe" for letting the caller choose nonces. Ours are random, from the entropy that tests replace.
    cipher: LessSafeKey,
}

/// The name of a key. What is sealed carries that of the key that sealed it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; KeyId::LENGTH]);

impl Key {
    /// Derives a key from a secret of any length (HKDF-SHA256, RFC 5869). The key is as hard to guess as the secret: the
    /// derivation does not make up for a weak one.
    pub fn from_secret(secret: &Secret) -> Self {
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"freshgate keyring");
        let derived = salt.extract(secret.expose().as_bytes());
        let mut id = [0; KeyId::LENGTH];
        let cipher = derived
            .expand(&[b"AES-256-GCM-SIV key"], &AES_256_GCM_SIV)
            .map(|material| LessSafeKey::new(UnboundKey::from(material)));
        let id_filled = derived.expand(&[b"key id"], IdLength).and_then(|material| material.fill(&mut id));
        match (cipher, id_filled) {
            (Ok(cipher), Ok(())) => Self { id: KeyId(id), cipher },
            _ => unreachable!("HKDF-SHA256 yields up to 8160 bytes"),
        }
    }

    /// Its name.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(super) fn cipher(&self) -> &LessSafeKey {
        &self.cipher
    }

    /// The same key by another name.
    #[cfg(test)]
    pub(super) fn called(self, id: KeyId) -> Self {
        Self { id, ..self }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.id)
    }
}

impl KeyId {
    pub(super) const LENGTH: usize = 8;

    /// The key that sealed these bytes; `None` if they are not in our format.
    pub fn of_sealed(sealed: &[u8]) -> Option<Self> {
        let (format, rest) = sealed.split_first()?;
        let id = rest.first_chunk().copied().map(Self);
        id.filter(|_| *format == FORMAT)
    }

    /// Takes the text form. `None` if it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let hexadecimal = text.len() == 2 * Self::LENGTH && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u64::from_str_radix(text, 16).ok().filter(|_| hexadecimal)?;
        Some(Self(number.to_be_bytes()))
    }

    pub(super) fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

struct IdLength;

impl hkdf::KeyType for IdLength {
    fn len(&self) -> usize {
        KeyId::LENGTH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for secret in ["one", "two", "three"] {
            let id = Key::from_secret(&Secret::new(secret)).id();
            assert_eq!(KeyId::parse(&id.to_string()), Some(id));
        }
        assert_eq!(KeyId::parse("00000000000000ff"), Some(KeyId([0, 0, 0, 0, 0, 0, 0, 255])));
        for other in
            ["", "ff", "00000000000000fg", "+0000000000000ff", "00000000000000ff0", "ä000000000000ff"]
        {
            assert_eq!(KeyId::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn sealed_bytes_name_their_key() {
        assert_eq!(KeyId::of_sealed(&[1, 0, 0, 0, 0, 0, 0, 0, 255, 7]), KeyId::parse("00000000000000ff"));
        assert_eq!(KeyId::of_sealed(&[2, 0, 0, 0, 0, 0, 0, 0, 255, 7]), None, "another format");
        assert_eq!(KeyId::of_sealed(&[1, 0, 0]), None);
        assert_eq!(KeyId::of_sealed(&[]), None);
    }
}
