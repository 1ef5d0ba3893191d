//! Tokens that are signed well, whatever they say: the rules after the signature are reached by these alone.

use std::sync::LazyLock;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use freshgate_oidc::{AllowedAlgorithms, JwkSet, SigningAlgorithm, Timestamp, base64url};

pub(crate) const ISSUER: &str = "https://id.example";
pub(crate) const CLIENT: &str = "reports";
pub(crate) const NOW: Timestamp = Timestamp::from_unix_seconds(1_000_000);

static PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("32 bytes are a seed"));

/// The key set of whoever signs here.
pub(crate) static KEYS: LazyLock<JwkSet> = LazyLock::new(|| {
    let x = base64url(PAIR.public_key().as_ref());
    let keys = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"k","x":"{x}"}}]}}"#);
    JwkSet::parse(keys.as_bytes()).expect("a key set")
});

/// What may sign: this, and one that there is no key for.
pub(crate) static ALGORITHMS: LazyLock<AllowedAlgorithms> =
    LazyLock::new(|| AllowedAlgorithms::only([SigningAlgorithm::EdDsa, SigningAlgorithm::Rs256]));

/// The token that the bytes are. Those that start with `!` are a header and claims with a line break between, which are
/// signed here; others are a token as it comes.
pub(crate) fn token(bytes: &[u8]) -> Option<String> {
    let Some(parts) = bytes.strip_prefix(b"!") else {
        return Some(str::from_utf8(bytes).ok()?.to_owned());
    };
    let (header, claims) = two_parts(parts);
    let signed = format!("{}.{}", base64url(header), base64url(claims));
    let signature = base64url(PAIR.sign(signed.as_bytes()).as_ref());
    Some(format!("{signed}.{signature}"))
}

/// What stands before the first line break, and after.
pub(crate) fn two_parts(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, b""),
    }
}
