//! Whatever comes from outside, parsers answer: no panic, no overflow, and no claim of trust.

use freshgate_oidc::*;
use proptest::{prelude::*, sample::Index};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_795_435_200);

/// Documents that parsers take, to be damaged. What is nearly right gets further than noise.
const DOCUMENTS: &[&str] = &[
    r#"{"issuer":"https://a.example","authorization_endpoint":"https://a.example/a","token_endpoint":"https://a.example/t","jwks_uri":"https://a.example/j","scopes_supported":["openid"]}"#,
    r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"},{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#,
    r#"{"access_token":"a","token_type":"Bearer","expires_in":3600,"refresh_token":"r","id_token":"i"}"#,
    r#"{"error":"invalid_grant","error_description":"Session not active"}"#,
    r#"{"sub":"alice","email":"alice@example.com","_claim_names":{"a":"b"}}"#,
    r#"{"alg":"RS256","kid":"1","typ":"JWT"}"#,
    "code=c&state=s&iss=https%3A%2F%2Fa.example&error_description=x%0d%0a",
];

fn try_everything(bytes: &[u8], text: &str, status: u16) {
    let issuer = Issuer::new("https://a.example");
    for expected in [
        ExpectedIssuer::Exactly(issuer.clone()),
        ExpectedIssuer::OfMetadataUrl("https://a.example/.well-known/openid-configuration".parse().unwrap()),
    ] {
        let _ = ProviderMetadata::parse(bytes, &expected);
    }
    let keys = JwkSet::parse(bytes).unwrap_or_default();
    for content_type in [None, Some(text), Some("text/html")] {
        let _ = parse_token_answer(status, content_type, Some(text), bytes, NOW);
        let _ = parse_token_answer(200, content_type, None, bytes, NOW);
        if let Ok(userinfo) = parse_userinfo(content_type, bytes, "alice") {
            assert_eq!(userinfo.claims()["sub"], "alice");
        }
    }
    let _ = FrontChannelLogout::parse(text);
    if let Ok(callback) = CallbackParameters::parse(text) {
        let state = Secret::new("the state");
        let expect = ExpectedCallback {
            state: &state,
            issuer: &issuer,
            issuer_parameter: IssuerParameter::Advertised,
        };
        assert!(callback.check(&expect).is_err());
    }
    if let Some(decoded) = from_base64url(text) {
        assert_eq!(base64url(&decoded), text, "a value has one text");
    }

    let algorithms = AllowedAlgorithms::only(SigningAlgorithm::ALL);
    let (encoded, nonce) = (base64url(bytes), Secret::new("n"));
    let header = base64url(br#"{"alg":"ES256"}"#);
    for token in [
        text.to_owned(),
        format!("{encoded}.{encoded}.{encoded}"),
        format!("{header}.{encoded}.{encoded}"),
        format!("{encoded}.e30."),
    ] {
        let expect = IdTokenExpectations::new(
            &issuer,
            "client",
            &algorithms,
            ExpectedNonce::Exactly(&nonce),
            AccessTokenBinding::NoneIssued,
            NOW,
        );
        assert!(RawIdToken::new(token.as_str()).verify(&keys, &expect).is_err());
        let logout = RawLogoutToken::new(token.as_str());
        let _ = logout.claimed_issuer();
        let leeway = IdTokenExpectations::LEEWAY;
        let expect = LogoutTokenExpectations {
            issuer: &issuer,
            client_id: "client",
            algorithms: &algorithms,
            now: NOW,
            leeway,
        };
        assert!(logout.verify(&keys, &expect).is_err());
        let expect = SignedUserInfoExpectations {
            issuer: &issuer,
            client_id: "client",
            algorithms: &algorithms,
            subject: "alice",
            now: NOW,
            leeway,
        };
        assert!(verify_signed_userinfo(token.as_bytes(), &keys, &expect).is_err());
    }
}

proptest! {
    #[test]
    fn noise(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,200}", status in any::<u16>()) {
        try_everything(&bytes, &text, status);
    }

    #[test]
    fn damaged_documents(
        which in 0..DOCUMENTS.len(),
        damage in prop::collection::vec((any::<Index>(), any::<u8>(), 0..3), 0..6),
        status in prop::sample::select(vec![200_u16, 400, 401, 429, 503]),
    ) {
        let mut bytes = DOCUMENTS[which].as_bytes().to_vec();
        for (position, byte, kind) in damage {
            let at = position.index(bytes.len().max(1)).min(bytes.len().saturating_sub(1));
            match kind {
                0 if !bytes.is_empty() => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => bytes.truncate(at),
            }
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        try_everything(&bytes, &text, status);
    }
}

/// Small bytes that ask for much: depth, repetition, numbers without end.
#[test]
fn bombs() {
    for bomb in [
        "[".repeat(200_000),
        "{\"a\":".repeat(200_000),
        format!("{{\"keys\":{}", "[".repeat(200_000)),
        format!("{{\"keys\":[{}{{}}]}}", "{},".repeat(100_000)),
        format!("{{\"sub\":\"alice\",\"x\":{}}}", "9".repeat(200_000)),
        format!("{{\"expires_in\":1e{},\"access_token\":\"a\"}}", "9".repeat(1000)),
        format!("{{\"error\":\"{}\"}}", "\\u202e".repeat(100_000)),
        "code=c&".repeat(10_000),
        ".".repeat(200_000),
        "%".repeat(30_000),
        "\u{0}".repeat(10_000),
    ] {
        try_everything(bomb.as_bytes(), &bomb, 400);
    }
}
