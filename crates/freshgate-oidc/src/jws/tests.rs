//! Tokens of every algorithm, and what is wrong with tokens.

use serde_json::json;

use super::*;
use crate::{
    secret::base64url,
    test_provider::{TestKey, key_set, other_rsa, p256, rsa},
};

fn verify(token: &str, keys: &JwkSet, allowed: &AllowedAlgorithms) -> Result<(), JwsError> {
    UnverifiedJws::parse(token)?.verify(keys, allowed)
}

fn all() -> AllowedAlgorithms {
    AllowedAlgorithms::only(SigningAlgorithm::ALL)
}

#[test]
fn rfc_7518_3_1_every_algorithm_verifies_what_it_signed_and_nothing_else() {
    for algorithm in SigningAlgorithm::ALL {
        let key = TestKey::new("k", algorithm);
        let keys = key_set([key.jwk()]);
        let token = key.token(&json!({"a": 1}));
        let name = algorithm.name();
        assert_eq!(verify(&token, &keys, &AllowedAlgorithms::only([algorithm])), Ok(()), "{name}");

        let (signed, signature) = token.rsplit_once('.').unwrap();
        let mut bytes = from_base64url(signature).unwrap();
        bytes[10] ^= 1;
        for wrong in [base64url(&bytes), String::new(), base64url(&bytes[1..]), base64url(&[0; 64])] {
            assert_eq!(
                verify(&format!("{signed}.{wrong}"), &keys, &all()),
                Err(JwsError::WrongSignature { names_its_key: true }),
                "{name}"
            );
        }

        let others =
            AllowedAlgorithms::only(SigningAlgorithm::ALL.into_iter().filter(|other| *other != algorithm));
        assert_eq!(
            verify(&token, &keys, &others),
            Err(JwsError::AlgorithmNotAllowed { algorithm: name.to_owned() })
        );
    }
}

#[test]
fn rfc_8725_3_1_unsigned_and_hmac_tokens_are_refused_whatever_is_allowed() {
    let keys = key_set([rsa().jwk(), p256().jwk()]);
    // HMAC keyed with what everyone knows: the modulus, and the JWK itself.
    let modulus = from_base64url(rsa().jwk()["n"].as_str().unwrap()).unwrap();
    let document = rsa().jwk().to_string().into_bytes();
    let hmac = |algorithm: &str, with: &[u8]| {
        let header = json!({"alg": algorithm, "kid": "rsa"}).to_string();
        let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(b"{}"));
        let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, with);
        format!("{signed}.{}", base64url(aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref()))
    };
    let unsigned = |algorithm: &str| {
        let header = json!({"alg": algorithm}).to_string();
        format!("{}.{}.", base64url(header.as_bytes()), base64url(b"{}"))
    };
    for token in [
        hmac("HS256", &modulus),
        hmac("HS256", &document),
        hmac("HS512", &document),
        unsigned("none"),
        unsigned("None"),
        unsigned("nOnE"),
        unsigned(""),
    ] {
        let error = verify(&token, &keys, &all()).unwrap_err();
        assert!(matches!(error, JwsError::AlgorithmNotAllowed { .. }), "{error}");
        // Each rule stands on its own.
        let jws = UnverifiedJws::parse(&token).unwrap_or_else(|error| panic!("{error}"));
        assert!(jws.algorithm_is_allowed(&all()).is_err());
        assert!(jws.a_key_verifies_the_signature(&keys).is_err());
    }
    // The same HMAC under the name of an algorithm that is allowed.
    for algorithm in ["RS256", "PS256"] {
        assert_eq!(
            verify(&hmac(algorithm, &modulus), &keys, &all()),
            Err(JwsError::WrongSignature { names_its_key: true })
        );
    }
}

#[test]
fn rfc_8725_3_1_a_key_is_used_for_its_own_algorithms_alone() {
    let confused = json!({"alg": "ES256", "kid": "rsa"});
    assert_eq!(
        verify(&p256().sign(&confused, b"{}"), &key_set([rsa().jwk(), p256().jwk()]), &all()),
        Err(JwsError::KeyNotForAlgorithm { algorithm: "ES256".to_owned() })
    );
    // The key says what it is for, and is taken at its word.
    let mut only_ps256 = rsa().jwk();
    only_ps256["alg"] = json!("PS256");
    assert_eq!(
        verify(&rsa().token(&json!({})), &key_set([only_ps256]), &all()),
        Err(JwsError::KeyNotForAlgorithm { algorithm: "RS256".to_owned() })
    );
    let p384 = TestKey::new("p384", SigningAlgorithm::Es384);
    assert_eq!(
        verify(&p384.sign(&json!({"alg": "ES256", "kid": "p384"}), b"{}"), &key_set([p384.jwk()]), &all()),
        Err(JwsError::KeyNotForAlgorithm { algorithm: "ES256".to_owned() })
    );
}

#[test]
fn core_10_1_which_key_is_tried() {
    let without = |mut jwk: Value| {
        jwk.as_object_mut().unwrap().remove("kid");
        jwk
    };
    let named = |key_id: &str, mut jwk: Value| {
        jwk["kid"] = json!(key_id);
        jwk
    };
    let names_rsa = json!({"alg": "RS256", "kid": "rsa"});
    let names_none = json!({"alg": "RS256"});
    let unknown = |key_id: Option<&str>| Err(JwsError::UnknownKey { key_id: key_id.map(str::to_owned) });
    let wrong = |names_its_key| Err(JwsError::WrongSignature { names_its_key });
    for (what, header, keys, outcome) in [
        ("named and there", &names_rsa, vec![other_rsa().jwk(), rsa().jwk()], Ok(())),
        ("named and absent", &names_rsa, vec![other_rsa().jwk()], unknown(Some("rsa"))),
        ("named, but the set names none", &names_rsa, vec![without(rsa().jwk())], unknown(Some("rsa"))),
        ("named, and another's name", &names_rsa, vec![named("rsa", other_rsa().jwk())], wrong(true)),
        (
            "named twice, the second is it",
            &names_rsa,
            vec![named("rsa", other_rsa().jwk()), rsa().jwk(), named("rsa", p256().jwk())],
            Ok(()),
        ),
        ("not named, one key", &names_none, vec![rsa().jwk()], Ok(())),
        ("not named, one without name", &names_none, vec![without(rsa().jwk())], Ok(())),
        ("not named, several keys", &names_none, vec![p256().jwk(), other_rsa().jwk(), rsa().jwk()], Ok(())),
        ("not named, none is it", &names_none, vec![p256().jwk(), other_rsa().jwk()], wrong(false)),
        ("not named, none fits", &names_none, vec![p256().jwk()], unknown(None)),
        ("no keys", &names_none, vec![], unknown(None)),
    ] {
        let found = verify(&rsa().sign(header, b"{}"), &key_set(keys), &all());
        assert_eq!(found, outcome, "{what}");
        let wants_newer_keys = matches!(what, "named and absent" | "named, but the set names none")
            || matches!(what, "not named, none is it" | "not named, none fits" | "no keys");
        assert_eq!(found.is_err_and(|error| error.wants_newer_keys()), wants_newer_keys, "{what}");
    }
}

#[test]
fn headers() {
    let keys = key_set([rsa().jwk()]);
    let malformed = |what| Err(JwsError::Malformed { what });
    let not_json = "its header is not a JSON object without duplicate members";
    for (header, outcome) in [
        (r#"{"alg":"RS256"}"#, Ok(())),
        (r#"{"alg":"RS256","kid":"rsa","typ":"JWT","x":{"y":[1]}}"#, Ok(())),
        // Keys that a token brings along are not looked at.
        (r#"{"alg":"RS256","jwk":{"kty":"oct","k":"AA"},"jku":"http://evil.example","x5c":["AA"]}"#, Ok(())),
        (r#"{"alg":"RS256","crit":["exp"],"exp":1}"#, Err(JwsError::UnknownExtension)),
        (r#"{"alg":"RS256","crit":["b64"],"b64":false}"#, Err(JwsError::UnknownExtension)),
        (r#"{"alg":"RS256","crit":["b64"],"b64":true}"#, Err(JwsError::UnknownExtension)),
        (r#"{"alg":"RS256","crit":[]}"#, Err(JwsError::UnknownExtension)),
        (r#"{"alg":"RS256","crit":null}"#, Err(JwsError::UnknownExtension)),
        (r#"{"alg":"RS256","b64":false}"#, Err(JwsError::UnknownExtension)),
        (r#"{"alg":"RS256","enc":"A128GCM"}"#, Err(JwsError::Encrypted)),
        (r#"{"alg":"RS256","alg":"RS256"}"#, malformed(not_json)),
        (r#"{"alg":"none","alg":"RS256"}"#, malformed(not_json)),
        (r#"{"kid":"rsa"}"#, malformed("it names no algorithm")),
        (r#"{"alg":null}"#, malformed("its `alg` is not text")),
        (r#"{"alg":["RS256"]}"#, malformed("its `alg` is not text")),
        (r#"{"alg":"RS256","kid":1}"#, malformed("its `kid` is not text")),
        (r#"{"alg":"RS256","typ":1}"#, malformed("its `typ` is not text")),
        (r#"["RS256"]"#, malformed(not_json)),
        (r#""RS256""#, malformed(not_json)),
        (r#"{"alg":"RS256"} "#, Ok(())),
        (r#"{"alg":"RS256"}x"#, malformed(not_json)),
        ("", malformed(not_json)),
    ] {
        let signed = format!("{}.{}", base64url(header.as_bytes()), base64url(b"{}"));
        let signature = rsa().signature_by(SigningAlgorithm::Rs256, signed.as_bytes());
        let token = format!("{signed}.{}", base64url(&signature));
        assert_eq!(verify(&token, &keys, &all()), outcome, "{header}");
    }
}

#[test]
fn shapes() {
    let good = rsa().token(&json!({}));
    let (header, rest) = good.split_once('.').unwrap();
    let (payload, signature) = rest.split_once('.').unwrap();
    let huge = "A".repeat(UnverifiedJws::MAX_BYTES);
    let bomb = base64url("{\"alg\":".repeat(2000).as_bytes());
    let not_utf8 = base64url(b"{\"alg\":\"\xff\"}");
    for bad in [
        "",
        ".",
        "..",
        "...",
        "....",
        ".....",
        &format!("{header}.{payload}"),
        &format!("{good}."),
        &format!(" {good}"),
        &format!("{good}\n"),
        &format!("{header}=.{payload}.{signature}"),
        &format!("{header}.{payload}=.{signature}"),
        &format!("{header}.{payload}.{signature}=="),
        &format!("{header}.{payload}.{signature}").replace(['-', '_'], "+"),
        &format!("{header}.{payload}.é"),
        &format!("{header}.{huge}.{signature}"),
        &format!("{huge}.{payload}.{signature}"),
        &format!("{}.{payload}.{signature}", "A".repeat(20_000)),
        &format!("{bomb}.{payload}.{signature}"),
        &format!("{not_utf8}.{payload}.{signature}"),
    ] {
        assert!(verify(bad, &key_set([rsa().jwk()]), &all()).is_err(), "{}", &bad[..bad.len().min(80)]);
    }
    assert_eq!(verify(&format!("{header}.a.b.c.d"), &key_set([]), &all()), Err(JwsError::Encrypted));
}

#[test]
fn errors_show_what_a_token_says_only_as_an_operator_may_read_it() {
    let header = json!({"alg": "X\n\u{1b}[31m", "kid": "rsa"});
    let error = verify(&rsa().sign(&header, b"{}"), &key_set([rsa().jwk()]), &all()).unwrap_err();
    assert_eq!(error.to_string(), "the token is signed with X [31m, which is not allowed");
    let header = json!({"alg": "RS256", "kid": "a\nb".repeat(1000)});
    let error = verify(&rsa().sign(&header, b"{}"), &key_set([rsa().jwk()]), &all()).unwrap_err().to_string();
    assert!(error.len() < 200 && !error.contains('\n'), "{error}");
}
