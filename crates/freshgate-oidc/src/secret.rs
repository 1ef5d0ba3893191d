//! What must not be seen, and the three encodings everything here is built on.

use std::fmt;

use aws_lc_rs::{constant_time, digest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroize as _;

/// A token, code, cookie, key or password: text that no log, error or page may show.
///
/// It has no `Display` and no `Serialize`, its `Debug` is redacted, it compares in constant time (for texts of one
/// length) and is wiped when dropped. [`Secret::expose`] is the one way to the text.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text. Search for the callers of this to find every place where secrets leave their type.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl Eq for Secret {}

impl Drop for Secret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// Base64url without padding (RFC 7515 section 2).
pub fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes behind base64url without padding. `None` for anything else: padding, white space, other alphabets, and
/// stray bits after the last byte, so that every value has exactly one text.
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// SHA-256, for names of things that must be recognised and not revealed.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("hunter2");
        assert!(!format!("{secret:?} {secret:#?} {:?}", Some(&secret)).contains("hunter2"));
        assert_eq!(secret.expose(), "hunter2");
    }

    #[test]
    fn secrets_compare_by_text() {
        for (left, right, equal) in
            [("a", "a", true), ("a", "b", false), ("a", "aa", false), ("", "", true), ("", "a", false)]
        {
            assert_eq!(Secret::new(left) == Secret::new(right), equal, "{left:?} {right:?}");
        }
    }

    #[test]
    fn a_secret_is_read_from_json_text_alone() {
        assert_eq!(serde_json::from_str::<Secret>(r#""x\ny""#).unwrap().expose(), "x\ny");
        for json in ["1", "null", "[]", "{}"] {
            assert!(serde_json::from_str::<Secret>(json).is_err(), "{json}");
        }
    }

    #[test]
    fn base64url_is_strict() {
        for bytes in [&b""[..], b"\0", b"\xff\xfe", b"\xfb\xff\xbf", b"hello"] {
            assert_eq!(from_base64url(&base64url(bytes)).as_deref(), Some(bytes));
        }
        for bad in ["A", "AA=", "AA==", "A A", "+/+/", "AB", "AA\n", "é", "AAAAA"] {
            assert_eq!(from_base64url(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn sha256_is_sha256() {
        assert_eq!(base64url(&sha256(b"")), "47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU");
    }
}
