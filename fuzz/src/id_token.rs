//! ID tokens: those that pass say what was demanded.

use std::{sync::LazyLock, time::Duration};

use freshgate_oidc::{
    AccessTokenBinding, ExpectedNonce, IdTokenExpectations, Issuer, MaxAuthenticationAge, RawIdToken, Secret,
};

use crate::signing::{ALGORITHMS, CLIENT, ISSUER, KEYS, NOW, token};

static NONCE: LazyLock<Secret> = LazyLock::new(|| Secret::new("n"));
static ACCESS_TOKEN: LazyLock<Secret> = LazyLock::new(|| Secret::new("a"));

pub(crate) fn run(bytes: &[u8]) {
    let Some(token) = token(bytes) else { return };
    let issuer = Issuer::new(ISSUER);
    let expect = |nonce, access_token| {
        IdTokenExpectations::new(&issuer, CLIENT, &ALGORITHMS, nonce, access_token, NOW)
    };
    let mut strict = expect(ExpectedNonce::Exactly(&NONCE), AccessTokenBinding::IssuedWith(&ACCESS_TOKEN));
    let demanded = ["high".to_owned()];
    strict.acr = &demanded;
    strict.max_age = MaxAuthenticationAge::AtMost { age: Duration::from_secs(60), sent_at: NOW };
    let mild = expect(ExpectedNonce::NotSent, AccessTokenBinding::NoneIssued);

    for expect in [strict, mild] {
        let raw = RawIdToken::new(token.clone());
        match raw.verify(&KEYS, &expect) {
            Ok(verified) => {
                assert_eq!(verified.issuer(), &issuer);
                assert_eq!(verified.audience(), [CLIENT]);
                assert!(verified.expires_at() + expect.leeway > NOW);
                assert!((1..=255).contains(&verified.subject().len()));
                let nonce = verified.claims().get("nonce").and_then(|nonce| nonce.as_str());
                let sent = matches!(expect.nonce, ExpectedNonce::Exactly(_)).then(|| NONCE.expose());
                assert_eq!(nonce, sent);
                let again = RawIdToken::from(verified.raw().clone());
                assert!(again.verify(&KEYS, &expect).is_ok(), "what passes passes again");
            }
            Err(error) => assert!(error.to_string().len() < 1000, "an error fits on a line: {error}"),
        }
    }
}
