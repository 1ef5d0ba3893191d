//! Answers of the token endpoint and of userinfo, with `Retry-After` and `DPoP-Nonce`.

use freshgate_oidc::{DpopNonce, ExpectedTokenType, TokenAnswer, parse_token_answer, parse_userinfo};

use crate::signing::{NOW, two_parts};

/// Three lines, `STATUS`, `CONTENT-TYPE` and the value of a header, and the body.
pub(crate) fn run(bytes: &[u8]) {
    let (status, rest) = two_parts(bytes);
    let (content_type, rest) = two_parts(rest);
    let (header, body) = two_parts(rest);
    let text = |bytes| str::from_utf8(bytes).ok().filter(|text: &&str| !text.is_empty());
    let status = text(status).and_then(|text| text.parse().ok()).unwrap_or(200);

    match parse_token_answer(status, text(content_type), text(header), body, NOW) {
        TokenAnswer::Granted(grant) => {
            assert!((200..300).contains(&status));
            // VSCHAR, which has the space (RFC 6749, appendix A.12).
            assert!(grant.access_token.expose().bytes().all(|byte| matches!(byte, b' '..=b'~')));
            assert!(["Bearer", "DPoP"].contains(&&*grant.token_type), "{}", grant.token_type);
            let (before, refresh_token) = (grant.token_type.clone(), grant.refresh_token.clone());
            match TokenAnswer::Granted(grant).expecting(ExpectedTokenType::Bearer) {
                TokenAnswer::Granted(_) => assert_eq!(before, "Bearer"),
                TokenAnswer::Malformed { refresh_token: kept, .. } => assert!(kept == refresh_token, "lost"),
                other => panic!("{other:?}"),
            }
        }
        TokenAnswer::Refused(refusal) => {
            let said = [refusal.code, refusal.description].into_iter().flatten();
            for said in said {
                assert!(!said.contains(char::is_control), "fit for a log: {said:?}");
                assert!(said.len() < 1000, "fit for a log: {said:?}");
            }
        }
        TokenAnswer::Unavailable { status: told, .. } => assert_eq!(told, status),
        TokenAnswer::Malformed { refresh_token, .. } => {
            assert!(refresh_token.is_none_or(|token| !token.is_empty()));
        }
        other => panic!("{other:?}"),
    }
    if let Ok(userinfo) = parse_userinfo(text(content_type), body, "s") {
        assert_eq!(userinfo.claims().get("sub").and_then(|sub| sub.as_str()), Some("s"));
    }
    if let Some(nonce) = text(header) {
        let _ = DpopNonce::parse(nonce);
    }
}
