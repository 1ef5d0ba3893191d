//! What token endpoints answer: as the specification says, and as they do.

use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(784_111_767);
const JSON: Option<&str> = Some("application/json;charset=UTF-8");

fn answer(status: u16, body: &[u8]) -> TokenAnswer {
    parse_token_answer(status, JSON, None, body, NOW)
}

fn grant(body: &Value) -> TokenGrant {
    match answer(200, body.to_string().as_bytes()) {
        TokenAnswer::Granted(grant) => grant,
        other => panic!("{body}: {other:?}"),
    }
}

fn malformed(body: &[u8]) -> (WhyMalformed, Option<String>) {
    match answer(200, body) {
        TokenAnswer::Malformed { what, refresh_token } => {
            (what, refresh_token.map(|token| token.expose().to_owned()))
        }
        other => panic!("{}: {other:?}", String::from_utf8_lossy(body)),
    }
}

fn refusal(status: u16, body: &str) -> TokenRefusal {
    match answer(status, body.as_bytes()) {
        TokenAnswer::Refused(refusal) => refusal,
        other => panic!("{status} {body}: {other:?}"),
    }
}

#[test]
fn rfc_6749_5_1_everything_granted() {
    let grant = grant(&json!({
        "access_token": "at", "token_type": "bearer", "expires_in": 3600, "refresh_token": "rt", "id_token": "it",
        "scope": "openid email", "not-before-policy": 0, "session_state": "x", "nested": {"access_token": "no"},
    }));
    assert_eq!(grant.access_token.expose(), "at");
    assert_eq!(grant.token_type, "Bearer");
    assert_eq!(grant.expires_in, Some(Duration::from_secs(3600)));
    assert_eq!(grant.refresh_token.unwrap().expose(), "rt");
    assert_eq!(grant.id_token.unwrap().as_secret().expose(), "it");
    assert_eq!(grant.scope.as_deref(), Some("openid email"));
}

#[test]
fn the_least_that_can_be_granted() {
    for body in [
        json!({"access_token": "at", "token_type": "Bearer"}),
        json!({"access_token": "at"}),
        json!({
            "access_token": "at", "token_type": null, "expires_in": null, "refresh_token": null, "id_token": null,
            "scope": null, "error": null,
        }),
        json!({"access_token": "at", "token_type": "", "refresh_token": "", "id_token": "", "scope": ""}),
        json!({"access_token": "at", "scope": ["openid"], "expires_in": {}}),
    ] {
        let grant = grant(&body);
        assert_eq!(grant.access_token.expose(), "at");
        assert_eq!(grant.token_type, "Bearer");
        assert!(grant.expires_in.is_none() && grant.refresh_token.is_none(), "{body}");
        assert!(grant.id_token.is_none() && grant.scope.is_none(), "{body}");
    }
}

#[test]
fn token_types() {
    for (token_type, found) in [
        (json!("bearer"), Some("Bearer")),
        (json!("BEARER"), Some("Bearer")),
        (json!("dpop"), Some("DPoP")),
        (json!("DPoP"), Some("DPoP")),
        (json!("mac"), None),
        (json!("N_A"), None),
        (json!("Bearer "), None),
        (json!(1), None),
    ] {
        let body = json!({"access_token": "at", "token_type": token_type});
        match found {
            Some(found) => assert_eq!(grant(&body).token_type, found),
            None => assert_eq!(malformed(body.to_string().as_bytes()).0, WhyMalformed::TokenType, "{body}"),
        }
    }
}

#[test]
fn a_token_of_another_type_is_not_used_and_its_refresh_token_is_kept() {
    use ExpectedTokenType::{Bearer, Dpop, Either};
    for (token_type, expected, used) in [
        ("Bearer", Bearer, true),
        ("Bearer", Either, true),
        ("Bearer", Dpop, false),
        ("DPoP", Bearer, false),
        ("DPoP", Either, true),
        ("dpop", Dpop, true),
    ] {
        let body = json!({"access_token": "at", "token_type": token_type, "refresh_token": "next"});
        match answer(200, body.to_string().as_bytes()).expecting(expected) {
            TokenAnswer::Granted(_) => assert!(used, "{token_type} {expected:?}"),
            TokenAnswer::Malformed { what: WhyMalformed::OtherTokenType, refresh_token: Some(token) } => {
                assert!(!used && token.expose() == "next", "{token_type} {expected:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(answer(400, b"{}").expecting(Dpop), TokenAnswer::Refused(_)));
}

#[test]
fn lifetimes() {
    for (expires_in, seconds) in [
        (json!(3600), Some(3600.0)),
        (json!(3599.5), Some(3599.5)),
        (json!("3600"), Some(3600.0)),
        (json!(" 3600.5 "), Some(3600.5)),
        (json!(0), Some(0.0)),
        (json!(-1), Some(0.0)),
        (json!("-inf"), Some(0.0)),
        (json!("never"), None),
        (json!("NaN"), None),
        (json!(""), None),
        (json!(true), None),
        (json!([3600]), None),
    ] {
        let found = grant(&json!({"access_token": "at", "expires_in": expires_in})).expires_in;
        assert_eq!(found.map(|duration| duration.as_secs_f64()), seconds, "{expires_in}");
    }
    for expires_in in [json!(1e300), json!(u64::MAX), json!("inf"), json!("1e999")] {
        let found = grant(&json!({"access_token": "at", "expires_in": expires_in})).expires_in.unwrap();
        assert!(found.as_secs() > u64::MAX / 2, "{expires_in}");
        assert_eq!(NOW + found, Timestamp::from_unix_millis(i64::MAX), "{expires_in}");
    }
}

/// Whatever is wrong with the rest, the rotated refresh token is found: the last one may be dead.
#[test]
fn the_refresh_token_is_salvaged() {
    let saved = |what| (what, Some("rt".to_owned()));
    for (body, outcome) in [
        (&br#"{"refresh_token":"rt"}"#[..], saved(WhyMalformed::AccessToken)),
        (br#"{"access_token":null,"refresh_token":"rt"}"#, saved(WhyMalformed::AccessToken)),
        (br#"{"access_token":1,"refresh_token":"rt"}"#, saved(WhyMalformed::AccessToken)),
        (br#"{"access_token":"","refresh_token":"rt"}"#, saved(WhyMalformed::AccessToken)),
        (br#"{"access_token":"a\r\nX: y","refresh_token":"rt"}"#, saved(WhyMalformed::AccessToken)),
        ("{\"access_token\":\"ä\",\"refresh_token\":\"rt\"}".as_bytes(), saved(WhyMalformed::AccessToken)),
        (br#"{"access_token":"at","token_type":"mac","refresh_token":"rt"}"#, saved(WhyMalformed::TokenType)),
        (br#"{"access_token":"at","id_token":{},"refresh_token":"rt"}"#, saved(WhyMalformed::IdToken)),
        (br#"{"access_token":"at","refresh_token":"rt","id_token":"ey"#, saved(WhyMalformed::NotJson)),
        (br#"{"refresh_token":"rt","access_token":"at"}}"#, saved(WhyMalformed::NotJson)),
        (b"{\"refresh_token\":\"rt\",\"access_token\":\"\xff\"}", saved(WhyMalformed::NotJson)),
        (br#"{"refresh_token":"rt","access_token":"a","access_token":"b"}"#, saved(WhyMalformed::NotJson)),
        (br#"{"refresh_token":"old","refresh_token":"rt","access_token":"a"}"#, saved(WhyMalformed::NotJson)),
        (br#"{"access_token":"at","refresh_token":"r"#, (WhyMalformed::NotJson, None)),
        (br#"{"access_token":"at","refresh_token":7}"#, (WhyMalformed::RefreshToken, None)),
        (br#"{"error":"x","refresh_token":"rt"}"#, saved(WhyMalformed::AccessToken)),
        // Cut short before anything could be read: it began as a token answer does.
        (br#"{"access_token":"a"#, (WhyMalformed::NotJson, None)),
        (b" {", (WhyMalformed::NotJson, None)),
        (br#"{"token_type":"Bearer"}"#, (WhyMalformed::AccessToken, None)),
    ] {
        assert_eq!(malformed(body), outcome, "{}", String::from_utf8_lossy(body));
    }
    let huge = format!(r#"{{"refresh_token":"rt","access_token":"{}"}}"#, "a".repeat(TokenAnswer::MAX_BYTES));
    assert_eq!(malformed(huge.as_bytes()), saved(WhyMalformed::TooLarge));
    let bomb = format!(r#"{{"refresh_token":"rt","x":{}"#, "[".repeat(1_000_000));
    assert_eq!(malformed(bomb.as_bytes()), saved(WhyMalformed::NotJson));
}

#[test]
fn a_large_token_is_a_token() {
    let token = "a".repeat(200_000);
    assert_eq!(grant(&json!({"access_token": token})).access_token.expose().len(), 200_000);
}

#[test]
fn rfc_6749_5_2_refusals() {
    use RefusalKind::{InvalidClient, InvalidGrant, Other};
    for (status, body, code, kind) in [
        (400, r#"{"error":"invalid_grant"}"#, Some("invalid_grant"), InvalidGrant),
        (401, r#"{"error":"invalid_grant"}"#, Some("invalid_grant"), InvalidGrant),
        (403, r#"{"error":"invalid_grant"}"#, Some("invalid_grant"), InvalidGrant),
        (400, r#"{"error":"interaction_required"}"#, Some("interaction_required"), InvalidGrant),
        (400, r#"{"error":"invalid_client"}"#, Some("invalid_client"), InvalidClient),
        (401, r#"{"error":"invalid_client"}"#, Some("invalid_client"), InvalidClient),
        (400, r#"{"error":"unauthorized_client"}"#, Some("unauthorized_client"), InvalidClient),
        (400, r#"{"error":"invalid_request"}"#, Some("invalid_request"), Other),
        (400, r#"{"error":"invalid_scope"}"#, Some("invalid_scope"), Other),
        (400, r#"{"error":"bad_luck"}"#, Some("bad_luck"), Other),
        (400, r#"{"error":"invalid_dpop_proof"}"#, Some("invalid_dpop_proof"), InvalidClient),
        (400, r#"{"error":"use_dpop_nonce"}"#, Some("use_dpop_nonce"), InvalidClient),
        (401, "", None, InvalidClient),
        (400, "", None, Other),
        (400, "{}", None, Other),
        (400, r#"{"error":""}"#, None, Other),
        (400, r#"{"error":{"code":"invalid_grant"}}"#, None, Other),
        (400, r#"{"error":"invalid_grant""#, None, Other),
        (404, "<html>not here</html>", None, Other),
        (400, "error=invalid_grant", None, Other),
        // Refused with 200.
        (200, r#"{"error":"invalid_grant","error_description":"x"}"#, Some("invalid_grant"), InvalidGrant),
        (200, r#"{"error":"invalid_grant","access_token":null}"#, Some("invalid_grant"), InvalidGrant),
    ] {
        let refusal = refusal(status, body);
        assert_eq!(
            (refusal.status, refusal.code.as_deref(), refusal.kind),
            (status, code, kind),
            "{status} {body}"
        );
    }
}

#[test]
fn a_description_is_fit_for_a_log() {
    let description = |text: &str| {
        refusal(400, &json!({"error": "invalid_grant", "error_description": text}).to_string()).description
    };
    assert_eq!(description("Session not active").as_deref(), Some("Session not active"));
    assert_eq!(description("a\r\nb\u{0}c").as_deref(), Some("a b c"));
    assert_eq!(
        description("Invalid refresh token: 5e0f3c1a-96d5-4d2c-8d35-1ff1d5a0a3c1").as_deref(),
        Some("Invalid refresh token: [removed]")
    );
    assert_eq!(description("").as_deref(), None);
    assert!(description(&"long ".repeat(1000)).unwrap().chars().count() <= 201);
    let code = refusal(400, &json!({"error": "x\ny".repeat(1000)}).to_string()).code.unwrap();
    assert!(code.chars().count() <= 61 && !code.contains('\n'), "{code}");
}

#[test]
fn not_now() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (status, retry_after, body, wait) in [
        (500, None, "", None),
        (502, None, "<html>", None),
        (503, Some("120"), "", seconds(120)),
        (429, Some(" 7 "), "{}", seconds(7)),
        (408, None, "", None),
        (503, Some("0"), "", seconds(0)),
        (503, Some("99999999999999999999999999"), "", seconds(u64::MAX)),
        (503, Some("-1"), "", None),
        (503, Some("1.5"), "", None),
        (503, Some("soon"), "", None),
        (503, Some(""), "", None),
        // RFC 9110 section 5.6.7: three forms of a date, one minute ahead and one in the past.
        (503, Some("Sun, 06 Nov 1994 08:50:27 GMT"), "", seconds(60)),
        (503, Some("Sunday, 06-Nov-94 08:50:27 GMT"), "", seconds(60)),
        (503, Some("Sun Nov  6 08:50:27 1994"), "", seconds(60)),
        (503, Some("Sun, 06 Nov 1994 08:49:00 GMT"), "", seconds(0)),
        (503, Some("Fri, 31 Dec 9999 23:59:59 GMT"), "", seconds(253_402_300_799 - 784_111_767)),
        (503, None, r#"{"error":"invalid_grant"}"#, None),
        (400, Some("5"), r#"{"error":"temporarily_unavailable"}"#, seconds(5)),
        (400, None, r#"{"error":"server_error"}"#, None),
        (302, None, "", None),
        (0, None, "", None),
        (100, None, "", None),
        (999, None, "", None),
    ] {
        match parse_token_answer(status, JSON, retry_after, body.as_bytes(), NOW) {
            TokenAnswer::Unavailable { status: found, retry_after: found_wait, .. } => {
                assert_eq!((found, found_wait), (status, wait), "{status} {retry_after:?}");
            }
            other => panic!("{status} {retry_after:?}: {other:?}"),
        }
    }
}

#[test]
fn whether_it_may_have_been_acted_upon() {
    for (status, body, expected) in [
        (500, "", true),
        (502, "<html>", true),
        (504, "", true),
        (520, "", true),
        (524, "", true),
        (400, r#"{"error":"server_error"}"#, true),
        (503, "", false),
        (429, "", false),
        (408, "", false),
        (302, "", false),
        (501, "", false),
        (521, "", false),
        (400, r#"{"error":"temporarily_unavailable"}"#, false),
    ] {
        let answer = answer(status, body.as_bytes());
        assert!(
            matches!(answer, TokenAnswer::Unavailable { may_have_acted, .. } if may_have_acted == expected),
            "{status} {body}: {answer:?}"
        );
    }
}

/// 200, and nothing of a token endpoint: it comes from something before the provider, or nobody knows from whom.
#[test]
fn what_is_no_token_answer() {
    for (content_type, body, expected) in [
        (Some("text/html"), "Welcome", false),
        (Some("text/html"), "", false),
        (None, "  <html>", false),
        (JSON, "<!DOCTYPE html><p>Back soon", false),
        (JSON, "<?xml version='1.0'?>", false),
        (JSON, "", true),
        (Some("text/plain"), "OK", true),
        (JSON, "null", true),
        (JSON, r#""text""#, true),
        (JSON, r#"["access_token"]"#, true),
        (JSON, "access_token=at&refresh_token=rt", true),
        (JSON, "{}", true),
        (JSON, r#"{"error":null}"#, true),
        (JSON, r#"{"access_token":null,"refresh_token":null}"#, true),
        (JSON, r#"{"message":"under maintenance"}"#, true),
        (JSON, "{{ page }}", true),
    ] {
        let answer = parse_token_answer(200, content_type, Some("5"), body.as_bytes(), NOW);
        assert!(
            matches!(
                answer,
                TokenAnswer::Unavailable { status: 200, may_have_acted, retry_after: None } if may_have_acted == expected
            ),
            "{body}: {answer:?}"
        );
    }
    // A wrong content type does not make tokens unusable.
    let answer = parse_token_answer(200, Some("text/html"), None, br#"{"access_token":"at"}"#, NOW);
    assert!(matches!(answer, TokenAnswer::Granted(_)));
}

#[test]
fn no_answer_shows_a_token() {
    for body in [
        r#"{"access_token":"s3cret","refresh_token":"s3cret","id_token":"s3cret"}"#,
        r#"{"refresh_token":"s3cret"}"#,
        r#"{"refresh_token":"s3cret","access_token":"s3cret","#,
    ] {
        let shown = format!("{:?}", answer(200, body.as_bytes()));
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}
