//! Keys that are used, and keys that are passed over.

use serde_json::json;

use super::*;
use crate::{
    secret::base64url,
    test_provider::{TestKey, key_set, p256, rsa},
};

fn with(mut jwk: Value, member: &str, value: Value) -> Value {
    jwk[member] = value;
    jwk
}

fn number_of(jwk: &Value, member: &str) -> Vec<u8> {
    from_base64url(jwk[member].as_str().unwrap()).unwrap()
}

#[test]
fn which_keys_are_used() {
    use WhySkipped::{Malformed, NotForSignatures, Private, Size, UnsupportedType};
    let (rsa, ec, ed) = (rsa().jwk(), p256().jwk(), TestKey::new("ed", SigningAlgorithm::EdDsa).jwk());
    let p384 = TestKey::new("p384", SigningAlgorithm::Es384).jwk();
    let p521 = TestKey::new("p521", SigningAlgorithm::Es512).jwk();
    let n = number_of(&rsa, "n");
    let x = number_of(&ec, "x");
    let of_bits = |bits: usize| {
        let mut n = vec![0xff; bits / 8];
        if !bits.is_multiple_of(8) {
            n.insert(0, (1 << (bits % 8)) - 1);
        }
        with(rsa.clone(), "n", json!(base64url(&n)))
    };
    for (what, jwk, outcome) in [
        ("RSA", rsa.clone(), None),
        ("EC", ec.clone(), None),
        ("P-384", p384, None),
        ("P-521", p521, None),
        ("Ed25519", ed.clone(), None),
        ("for signatures", with(rsa.clone(), "use", json!("sig")), None),
        ("for verifying", with(rsa.clone(), "key_ops", json!(["sign", "verify"])), None),
        ("for an algorithm", with(rsa.clone(), "alg", json!("PS512")), None),
        ("members that are null", with(with(rsa.clone(), "use", json!(null)), "alg", json!(null)), None),
        ("members that we do not know", with(rsa.clone(), "x5c", json!(["AA"])), None),
        ("a zero byte in front", with(rsa.clone(), "n", json!(base64url(&[&[0][..], &n].concat()))), None),
        ("a longer exponent", with(rsa.clone(), "e", json!(base64url(&[0, 1, 0, 1]))), None),
        ("for encryption", with(rsa.clone(), "use", json!("enc")), Some(NotForSignatures)),
        ("use is no text", with(rsa.clone(), "use", json!(["sig"])), Some(NotForSignatures)),
        ("for signing alone", with(rsa.clone(), "key_ops", json!(["sign"])), Some(NotForSignatures)),
        ("for nothing", with(rsa.clone(), "key_ops", json!([])), Some(NotForSignatures)),
        ("for an encryption algorithm", with(rsa.clone(), "alg", json!("RSA-OAEP")), Some(NotForSignatures)),
        ("for HMAC", with(rsa.clone(), "alg", json!("HS256")), Some(NotForSignatures)),
        ("for none", with(rsa.clone(), "alg", json!("none")), Some(NotForSignatures)),
        ("a shared secret", json!({"kty": "oct", "k": "AA", "alg": "HS256"}), Some(UnsupportedType)),
        ("no type", json!({}), Some(UnsupportedType)),
        ("a type of tomorrow", json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}), Some(UnsupportedType)),
        ("secp256k1", with(ec.clone(), "crv", json!("secp256k1")), Some(UnsupportedType)),
        ("X25519", with(ed.clone(), "crv", json!("X25519")), Some(UnsupportedType)),
        ("Ed448", with(ed.clone(), "crv", json!("Ed448")), Some(UnsupportedType)),
        ("private RSA", with(rsa.clone(), "d", json!("AQ")), Some(Private)),
        ("private EC", with(ec.clone(), "d", json!("AQ")), Some(Private)),
        ("private Ed25519", with(ed.clone(), "d", json!("AQ")), Some(Private)),
        ("1024 bits", of_bits(1024), Some(Size)),
        ("2047 bits", of_bits(2047), Some(Size)),
        ("8193 bits", of_bits(8193), Some(Size)),
        ("no modulus", with(rsa.clone(), "n", json!("")), Some(Size)),
        ("an even exponent", with(rsa.clone(), "e", json!("BA")), Some(Malformed)),
        ("an exponent of one", with(rsa.clone(), "e", json!("AQ")), Some(Malformed)),
        ("an exponent of zero", with(rsa.clone(), "e", json!("AA")), Some(Malformed)),
        ("a long exponent", with(rsa.clone(), "e", json!("AQAAAAE")), Some(Malformed)),
        ("padding", with(rsa.clone(), "e", json!("AQAB====")), Some(Malformed)),
        ("a number that is none", with(rsa.clone(), "n", json!(7)), Some(Malformed)),
        ("kid is a number", with(rsa.clone(), "kid", json!(7)), Some(Malformed)),
        ("a short coordinate", with(ec.clone(), "x", json!(base64url(&x[1..]))), Some(Malformed)),
        ("a point off the curve", with(ec.clone(), "y", json!(base64url(&x))), Some(Malformed)),
        (
            "the point at infinity",
            with(with(ec.clone(), "x", json!(base64url(&[0; 32]))), "y", json!(base64url(&[0; 32]))),
            Some(Malformed),
        ),
        ("a short Ed25519 key", with(ed, "x", json!("AAAA")), Some(Malformed)),
        ("no object", json!("key"), Some(Malformed)),
    ] {
        let set = key_set([jwk]);
        assert_eq!(set.skipped().first().map(|skipped| skipped.why), outcome, "{what}");
        assert_eq!(set.iter().count(), usize::from(outcome.is_none()), "{what}");
    }
}

#[test]
fn a_key_that_was_written_with_leading_zeros_still_verifies() {
    let jwk = rsa().jwk();
    let n = base64url(&[&[0, 0][..], &number_of(&jwk, "n")].concat());
    let set = key_set([with(jwk, "n", json!(n))]);
    let signature = rsa().signature_by(SigningAlgorithm::Rs256, b"message");
    let key = set.iter().next().unwrap();
    assert!(key.verifies(SigningAlgorithm::Rs256, b"message", &signature));
    assert!(!key.verifies(SigningAlgorithm::Rs256, b"massage", &signature));
    assert!(!key.verifies(SigningAlgorithm::Ps256, b"message", &signature));
    assert!(!key.verifies(SigningAlgorithm::Es256, b"message", &signature));
}

#[test]
fn one_bad_key_spoils_no_other() {
    let set =
        key_set([json!(1), with(rsa().jwk(), "use", json!("enc")), p256().jwk(), json!({"kid": "x\ny"})]);
    assert_eq!(set.iter().map(Jwk::key_id).collect::<Vec<_>>(), [Some("p256")]);
    let names: Vec<_> = set.skipped().iter().map(|skipped| skipped.key_id.as_deref()).collect();
    assert_eq!(names, [None, Some("rsa"), Some("x y")]);
}

#[test]
fn a_key_that_is_there_twice_counts_once() {
    let mut renamed = rsa().jwk();
    renamed["kid"] = json!("another");
    let set = key_set([rsa().jwk(), rsa().jwk(), p256().jwk(), p256().jwk(), renamed]);
    assert_eq!(set.iter().filter_map(Jwk::key_id).collect::<Vec<_>>(), ["rsa", "p256", "another"]);
    assert!(set.skipped().is_empty());
}

#[test]
fn there_is_an_end_to_keys() {
    let many = (0..500).map(|number| with(p256().jwk(), "kid", json!(format!("{number}"))));
    let set = key_set(many);
    assert_eq!(set.iter().count(), JwkSet::MAX_KEYS);
    assert_eq!(set.skipped().len(), JwkSet::MAX_KEYS);
    assert!(set.skipped().iter().all(|skipped| skipped.why == WhySkipped::TooMany));
}

#[test]
fn what_is_a_key_set() {
    assert!(JwkSet::parse(br#"{"keys":[],"x":1}"#).unwrap().is_empty());
    for bad in [&b""[..], b"[]", b"null", b"<html>", b"\xff", &b"[".repeat(1000)] {
        assert!(matches!(JwkSet::parse(bad), Err(JwkSetError::NotJson(_))));
    }
    for bad in [&b"{}"[..], br#"{"keys":{}}"#, br#"{"keys":null}"#] {
        assert!(matches!(JwkSet::parse(bad), Err(JwkSetError::NoKeys)));
    }
    let huge = vec![b' '; JwkSet::MAX_BYTES + 1];
    assert!(matches!(JwkSet::parse(&huge), Err(JwkSetError::TooLarge { .. })));
}
