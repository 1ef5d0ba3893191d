//! Logout tokens: those that pass name somebody, and are from whom they were expected.

use std::time::Duration;

use freshgate_oidc::{Issuer, LogoutTokenExpectations, LogoutWho, RawLogoutToken};

use crate::signing::{ALGORITHMS, CLIENT, ISSUER, KEYS, NOW, token};

pub(crate) fn run(bytes: &[u8]) {
    let Some(token) = token(bytes) else { return };
    let issuer = Issuer::new(ISSUER);
    let leeway = Duration::from_secs(60);
    let expect = LogoutTokenExpectations {
        issuer: &issuer,
        client_id: CLIENT,
        algorithms: &ALGORITHMS,
        now: NOW,
        leeway,
    };
    let raw = RawLogoutToken::new(token);
    let claimed = raw.claimed_issuer();
    match raw.verify(&KEYS, &expect) {
        Ok(verified) => {
            assert_eq!(verified.issuer(), &issuer);
            assert_eq!(claimed.as_ref(), Some(&issuer), "whom it claims to be from is whom it is from");
            assert!(!verified.token_id().is_empty());
            assert!(verified.expires_at() + leeway > NOW);
            match verified.who() {
                LogoutWho::Session { session_id, .. } => assert!(!session_id.is_empty()),
                LogoutWho::Subject(subject) => assert!(!subject.is_empty()),
            }
        }
        Err(error) => assert!(error.to_string().len() < 1000, "an error fits on a line: {error}"),
    }
}
