use serde_json::{Value, json};

use super::*;
use SigningAlgorithm::{EdDsa, Es256, Es384, Es512, Ps256, Rs256, Rs384};

macro_rules! testdata {
    ($name:literal) => {
        include_str!(concat!("testdata/", $name))
    };
}

/// The RSA key of RFC 7515, appendix A.2.1.
pub(in crate::client_auth) const RSA: &str = testdata!("rsa.json");
/// The P-256 key of RFC 7515, appendix A.3.1.
pub(in crate::client_auth) const P256: &str = testdata!("p256.json");
/// The Ed25519 key of RFC 8037, appendix A.1.
pub(in crate::client_auth) const ED25519: &str = testdata!("ed25519.json");
const P256_PEM: &str = testdata!("p256-pkcs8.pem");
const CERTIFICATE: &str = testdata!("certificate.pem");
const RSA_PEM: &str = testdata!("rsa-pkcs8.pem");
const RSA_CERTIFICATE: &str = testdata!("rsa-certificate.pem");

pub(in crate::client_auth) fn parse(text: &str) -> Result<ClientKey, ClientKeyError> {
    ClientKey::parse(&Secret::new(text))
}

fn changed(jwk: &str, change: impl FnOnce(&mut Value)) -> String {
    let mut value: Value = serde_json::from_str(jwk).unwrap();
    change(&mut value);
    value.to_string()
}

#[test]
fn every_form_of_a_key_is_read() {
    for (what, text, algorithm) in [
        ("PKCS #8 RSA", RSA_PEM, Rs256),
        ("PKCS #1", testdata!("rsa-pkcs1.pem"), Rs256),
        ("PKCS #8 P-256", P256_PEM, Es256),
        ("SEC 1 P-256 after its parameters", testdata!("p256-sec1.pem"), Es256),
        ("SEC 1 P-384", testdata!("p384-sec1.pem"), Es384),
        ("PKCS #8 P-521", testdata!("p521-pkcs8.pem"), Es512),
        ("PKCS #8 Ed25519", testdata!("ed25519.pem"), EdDsa),
        ("a JWK, RSA", RSA, Rs256),
        ("a JWK, P-256", P256, Es256),
        ("a JWK, Ed25519", ED25519, EdDsa),
        ("a JWK set of one", &format!("\n{{\"keys\":[{P256}]}}"), Es256),
        ("text around the PEM", &format!("Bag Attributes\n{P256_PEM}\nafter"), Es256),
    ] {
        let key = parse(text).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(key.algorithm_for(None), Some(algorithm), "{what}");
        assert_eq!(key.key_id, None, "{what}");
    }
}

#[test]
fn a_jwk_signs_what_the_specifications_say_it_signs() {
    for (jwk, algorithm, signed, signature) in [
        (
            RSA,
            Rs256,
            "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1\
             dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwu\
             sC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            ED25519,
            EdDsa,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        ),
    ] {
        let key = parse(jwk).unwrap();
        assert_eq!(base64url(&key.pair.sign(algorithm, signed.as_bytes())), signature);
    }
}

#[test]
fn what_is_no_key_is_refused_with_the_reason() {
    let with = |jwk: &str, name: &str, value: Value| changed(jwk, |jwk| jwk[name] = value);
    let without = |jwk: &str, name: &str| changed(jwk, |jwk| drop(jwk.as_object_mut().unwrap().remove(name)));
    let another_d = "jpsQnnGQmL-YBIffH1136cspYG6-0iY7X1fCE9-E9LJ";
    let is_malformed = |error: &ClientKeyError| matches!(error, ClientKeyError::Malformed { .. });
    for (what, text, refused) in [
        ("nothing", String::new(), Some(ClientKeyError::NotAKey)),
        ("something else", "hunter2".into(), Some(ClientKeyError::NotAKey)),
        ("a certificate alone", CERTIFICATE.into(), Some(ClientKeyError::NotAKey)),
        ("a public key", testdata!("public.pem").into(), Some(ClientKeyError::Public)),
        ("with a password", testdata!("encrypted.pem").into(), Some(ClientKeyError::Encrypted)),
        ("two keys", format!("{P256_PEM}{RSA_PEM}"), Some(ClientKeyError::Several)),
        ("another curve", testdata!("secp256k1.pem").into(), Some(ClientKeyError::UnsupportedType)),
        ("a small RSA key", testdata!("rsa-1024.pem").into(), Some(ClientKeyError::UnsupportedType)),
        ("PEM cut short", P256_PEM[..60].into(), None),
        ("PEM of nonsense", P256_PEM.replace('M', "N"), Some(ClientKeyError::UnsupportedType)),
        (
            "another key's certificate",
            format!("{P256_PEM}{RSA_CERTIFICATE}"),
            Some(ClientKeyError::Certificate),
        ),
        ("too large", " ".repeat(ClientKey::MAX_BYTES + 1), Some(ClientKeyError::TooLarge { limit: 65536 })),
        ("JSON cut short", RSA[..200].into(), None),
        ("another JSON", "{}".into(), None),
        ("an empty set", r#"{"keys":[]}"#.into(), Some(ClientKeyError::NotAKey)),
        ("a set of two", format!(r#"{{"keys":[{P256},{RSA}]}}"#), Some(ClientKeyError::Several)),
        ("a public JWK", without(P256, "d"), Some(ClientKeyError::Public)),
        ("a shared secret", r#"{"kty":"oct","k":"AAAA"}"#.into(), Some(ClientKeyError::UnsupportedType)),
        (
            "a JWK on another curve",
            with(P256, "crv", "secp256k1".into()),
            Some(ClientKeyError::UnsupportedType),
        ),
        ("X25519", with(ED25519, "crv", "X25519".into()), Some(ClientKeyError::UnsupportedType)),
        ("for encryption", with(P256, "use", "enc".into()), Some(ClientKeyError::NotForSigning)),
        ("for verifying", with(P256, "key_ops", json!(["verify"])), Some(ClientKeyError::NotForSigning)),
        (
            "for another algorithm",
            with(P256, "alg", "ES384".into()),
            Some(ClientKeyError::Algorithm { algorithm: "ES384".into() }),
        ),
        (
            "for HMAC",
            with(RSA, "alg", "HS256".into()),
            Some(ClientKeyError::Algorithm { algorithm: "HS256".into() }),
        ),
        ("parts of two keys", with(P256, "d", another_d.into()), None),
        ("parts of two Ed25519 keys", with(ED25519, "d", another_d.into()), None),
        ("RSA without its primes", without(RSA, "p"), None),
        ("RSA with a wrong prime", with(RSA, "q", "AQAB".into()), None),
        ("RSA of three primes", with(RSA, "oth", json!([])), None),
        ("padded base64", with(P256, "x", "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU=".into()), None),
        ("a number for a text", with(P256, "d", json!(5)), None),
        ("a member twice", P256.replacen('{', r#"{"d":"AAAA","#, 1), None),
    ] {
        let error = parse(&text).map(|_| ()).expect_err(what);
        match refused {
            Some(expected) => assert_eq!(error, expected, "{what}"),
            None => assert!(is_malformed(&error) || error == ClientKeyError::NotAKey, "{what}: {error}"),
        }
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("jpsQ"), "{what}: {shown}");
    }
}

#[test]
fn a_key_says_what_it_is_called_and_by_what_it_signs() {
    let jwk = changed(RSA, |jwk| {
        jwk["kid"] = "ours".into();
        jwk["alg"] = "PS256".into();
        jwk["use"] = "sig".into();
        jwk["key_ops"] = json!(["sign", "verify"]);
        jwk["x5t#S256"] = "thumbprint".into();
    });
    let key = parse(&jwk).unwrap();
    assert_eq!(key.key_id.as_deref(), Some("ours"));
    assert_eq!(key.certificate.as_deref(), Some("thumbprint"));
    assert_eq!(key.algorithm_for(None), Some(Ps256));
    let renamed = key.clone().with_key_id("other").with_algorithm(Rs384).unwrap();
    assert_eq!((renamed.key_id.as_deref(), renamed.algorithm_for(None)), (Some("other"), Some(Rs384)));
    assert!(key.with_algorithm(Es256).is_err());

    // Its certificate, whichever comes first; others vouch for it.
    for text in [
        format!("{P256_PEM}{CERTIFICATE}{RSA_CERTIFICATE}"),
        format!("{CERTIFICATE}{RSA_CERTIFICATE}{P256_PEM}"),
    ] {
        let thumbprint = "KNMV30xDlo8Is0eEUaDZ2-N04M0a25lHVqxaa1ahhqk";
        assert_eq!(parse(&text).unwrap().certificate.as_deref(), Some(thumbprint), "as OpenSSL has it");
    }
    let thumbprint = "bkzD8Kk-O8sCSJE5k9Tdd-np7uYnL0S-vvlZnHMGAgE";
    let key = parse(&format!("{RSA_PEM}{RSA_CERTIFICATE}")).unwrap();
    assert_eq!(key.certificate.as_deref(), Some(thumbprint), "as OpenSSL has it");
}

#[test]
fn the_algorithm_is_set_or_what_the_provider_lists() {
    let rsa = || parse(RSA).unwrap();
    for (key, listed, algorithm) in [
        (rsa(), None, Some(Rs256)),
        (rsa(), Some(&["ES256", "PS256", "RS256"][..]), Some(Rs256)),
        (rsa(), Some(&["ES256", "PS256"]), Some(Ps256)),
        (rsa(), Some(&["ES256", "HS256", "none"]), None),
        (rsa(), Some(&[]), None),
        (rsa().with_algorithm(Ps256).unwrap(), Some(&["RS256"]), Some(Ps256)),
        (parse(P256).unwrap(), Some(&["RS256"]), None),
        (parse(P256).unwrap(), Some(&["RS256", "ES256"]), Some(Es256)),
        (parse(ED25519).unwrap(), Some(&["Ed25519"]), Some(EdDsa)),
    ] {
        let listed = listed.map(|names| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert_eq!(key.algorithm_for(listed.as_deref()), algorithm, "{key:?} {listed:?}");
    }
}

#[test]
fn a_key_is_not_shown() {
    for text in [RSA, P256, ED25519, P256_PEM] {
        let shown = format!("{:?}", parse(text).unwrap().with_key_id("ours"));
        assert_eq!(shown, "ClientKey { key_id: Some(\"ours\"), algorithm: None, .. }");
    }
}
