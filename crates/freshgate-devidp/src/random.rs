//! Unpredictable values.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// `N` random bytes.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    // A provider without randomness would hand out guessable codes: better that it stops.
    aws_lc_rs::rand::fill(&mut bytes).expect("the operating system yields randomness");
    bytes
}

/// `N` random bytes in base64url.
pub(crate) fn random_text<const N: usize>() -> String {
    base64url(&random_bytes::<N>())
}

/// Base64url without padding (RFC 7515 2).
pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes that [`base64url`] was given; `None` if it did not make `text`.
pub(crate) fn from_base64url(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// What is kept of a value that only has to be recognised.
pub(crate) fn sha256(value: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, value);
    digest.as_ref().try_into().expect("SHA-256 yields 32 bytes")
}
