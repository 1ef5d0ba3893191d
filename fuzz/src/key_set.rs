//! Key sets: whatever keys are in one, no signature is good that nobody made.

use std::sync::LazyLock;

use freshgate_oidc::{
    AccessTokenBinding, AllowedAlgorithms, ExpectedNonce, IdTokenError, IdTokenExpectations, Issuer, JwkSet,
    RawIdToken, SigningAlgorithm, base64url,
};

use crate::signing::{CLIENT, ISSUER, NOW};

/// A token of each algorithm that is good but for its signature.
static TOKENS: LazyLock<Vec<RawIdToken>> = LazyLock::new(|| {
    let claims = format!(r#"{{"iss":"{ISSUER}","aud":"{CLIENT}","sub":"s","exp":2000000,"iat":1000000}}"#);
    let token = |algorithm: SigningAlgorithm| {
        let header = format!(r#"{{"alg":"{}"}}"#, algorithm.name());
        let length = match algorithm {
            SigningAlgorithm::EdDsa | SigningAlgorithm::Es256 => 64,
            SigningAlgorithm::Es384 => 96,
            SigningAlgorithm::Es512 => 132,
            _ => 256,
        };
        let parts = [header.as_bytes(), claims.as_bytes(), &vec![1; length]].map(base64url);
        RawIdToken::new(parts.join("."))
    };
    SigningAlgorithm::ALL.map(token).into()
});

pub(crate) fn run(bytes: &[u8]) {
    let keys = match JwkSet::parse(bytes) {
        Ok(keys) => keys,
        Err(error) => {
            assert!(error.to_string().len() < 1000, "an error fits on a line: {error}");
            return;
        }
    };
    assert!(keys.iter().count() <= JwkSet::MAX_KEYS);
    assert_eq!(keys.is_empty(), keys.iter().next().is_none());
    let issuer = Issuer::new(ISSUER);
    let algorithms = AllowedAlgorithms::only(SigningAlgorithm::ALL);
    let (nonce, access_token) = (ExpectedNonce::NotSent, AccessTokenBinding::NoneIssued);
    let expect = IdTokenExpectations::new(&issuer, CLIENT, &algorithms, nonce, access_token, NOW);
    for token in TOKENS.iter() {
        assert!(matches!(token.verify(&keys, &expect), Err(IdTokenError::Jws(_))), "nobody signed it");
    }
}
