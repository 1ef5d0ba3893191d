//! Misbehaviour on demand: each action once, and the log.

use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use freshgate_devidp::Scripting;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::jwt::Jwt;
use crate::setting::{CALLBACK, Setting, base64url, text};

/// A provider, and the refresh token of someone signed in.
async fn signed_in() -> (Setting, String) {
    let setting = Setting::scripted().await;
    let refresh = text(&setting.tokens("alice").await, "refresh_token").to_owned();
    setting.json(Method::DELETE, "/_log", Value::Null).await;
    (setting, refresh)
}

fn fingerprint(token: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Signs in without a page.
async fn auto_login(setting: &Setting) -> Value {
    let code = setting.get(&setting.authorize(&[("auto_login", "alice")])).await.redirect().1["code"].clone();
    setting.redeem(&code).await.json()
}

#[tokio::test]
async fn canned_answers_come_instead_of_handling_or_after_it() {
    let (setting, refresh) = signed_in().await;
    setting
        .script(json!({"rules": [
            {"endpoint": "token:refresh", "times": 1,
             "action": {"respond": {"status": 429, "headers": {"Retry-After": "7"}, "body": {"error": "slow_down"}}}},
            {"endpoint": "token", "skip": 1, "times": 1,
             "action": {"respond": {"status": 400, "body": {"error": "invalid_grant"}}}},
            {"endpoint": "token:refresh", "skip": 2, "times": 1,
             "action": {"respond": {"status": 503, "headers": {"content-type": "text/html"}, "body": "<p>busy</p>"}}},
        ]}))
        .await;
    let slow = setting.refresh(&refresh).await;
    assert_eq!((slow.status.as_u16(), slow.header("retry-after")), (429, "7"));
    assert_eq!(slow.json()["error"], "slow_down");
    assert_eq!(setting.refresh(&refresh).await.json(), json!({"error": "invalid_grant"}));
    let busy = setting.refresh(&refresh).await;
    assert_eq!(
        (busy.status.as_u16(), busy.header("content-type"), busy.body.as_str()),
        (503, "text/html", "<p>busy</p>")
    );
    // None of them was handled: the token is still good.
    let second = setting.refresh(&refresh).await.json();

    let lost = json!({"status": 502, "when": "after_handling"});
    setting.script(json!({"endpoint": "token:refresh", "times": 1, "action": {"respond": lost}})).await;
    let token = text(&second, "refresh_token");
    assert_eq!(setting.refresh(token).await.status, StatusCode::BAD_GATEWAY);
    assert_eq!(setting.refresh(token).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn a_cut_connection_may_have_been_handled() {
    let (setting, refresh) = signed_in().await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    setting
        .script(json!({"endpoint": "token:refresh", "times": 1, "action": {"cut": "before_handling"}}))
        .await;
    assert!(setting.try_form("/token", &form).await.is_err());
    setting
        .script(json!({"endpoint": "token:refresh", "times": 1, "action": {"cut": "after_handling"}}))
        .await;
    assert!(setting.try_form("/token", &form).await.is_err());
    // The first was not handled, the second was.
    assert_eq!(setting.refresh(&refresh).await.json()["error"], "invalid_grant");
    let log = setting.log().await;
    let seen: Vec<(&str, &Value)> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (text(entry, "fate"), &entry["refresh_presented"]))
        .collect();
    let presented = json!(fingerprint(&refresh));
    assert_eq!(seen, [("cut", &presented), ("cut", &presented), ("answered", &presented)]);
    assert_eq!(log["reuse_detected"], 1);
}

#[tokio::test]
async fn delays_come_before_or_after_handling() {
    let (setting, refresh) = signed_in().await;
    for delay in ["delay_before_ms", "delay_after_ms"] {
        setting.script(json!({"endpoint": "userinfo", "times": 1, "action": {(delay): 60}})).await;
        let start = Instant::now();
        setting.get("/userinfo").await;
        assert!(start.elapsed() >= Duration::from_millis(60));
    }
    // A client that leaves does not undo what it has asked for.
    setting
        .script(json!({"endpoint": "token:refresh", "times": 1, "action": {"delay_before_ms": 300}}))
        .await;
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    tokio::select! {
        answer = setting.try_form("/token", &form) => panic!("answered before the delay was over: {answer:?}"),
        _ = until(&setting, |entry| entry["endpoint"] == "token:refresh") => {}
    }
    let entry = until(&setting, |entry| entry["endpoint"] == "token:refresh" && entry["status"] == 200).await;
    assert_eq!(entry["fate"], "client_left");
    assert_eq!(setting.refresh(&refresh).await.json()["error"], "invalid_grant");
}

/// The first log entry for which this holds, as soon as there is one.
async fn until(setting: &Setting, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let log = setting.log().await;
        if let Some(entry) = log["entries"].as_array().unwrap().iter().find(|entry| holds(entry)) {
            return entry.clone();
        }
        assert!(Instant::now() < deadline, "{log}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn members_of_answers_can_be_left_out_set_and_padded() {
    let (setting, refresh) = signed_in().await;
    let action = json!({"omit": ["id_token", "expires_in", "scope", "refresh_token"], "set": {"token_type": "bEARER"}});
    setting.script(json!({"endpoint": "token:refresh", "times": 1, "action": action})).await;
    let answer = setting.refresh(&refresh).await.json();
    let mut names: Vec<&String> = answer.as_object().unwrap().keys().collect();
    names.sort();
    assert_eq!(names, ["access_token", "token_type"]);
    assert_eq!(answer["token_type"], "bEARER");

    let access = text(&answer, "access_token");
    let action = json!({"set": {"sub": "mallory", "email": "x@example.com"}, "pad_bytes": 50_000});
    setting.script(json!({"endpoint": "userinfo", "times": 1, "action": action})).await;
    let userinfo = setting.get_as("/userinfo", access).await.json();
    assert_eq!((&userinfo["sub"], &userinfo["email"]), (&"mallory".into(), &"x@example.com".into()));
    assert_eq!(text(&userinfo, "padding").len(), 50_000);
    assert_eq!(setting.get_as("/userinfo", access).await.json()["sub"], "alice");

    let action = json!({"set": {"issuer": "http://evil.example"}, "omit": ["end_session_endpoint"]});
    setting.script(json!({"endpoint": "discovery", "times": 1, "action": action})).await;
    let metadata = setting.get("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["issuer"], "http://evil.example");
    assert!(metadata.get("end_session_endpoint").is_none());
    setting.script(json!({"endpoint": "jwks", "times": 1, "action": {"set": {"keys": []}}})).await;
    assert_eq!(setting.get("/jwks").await.json(), json!({"keys": []}));
}

#[tokio::test]
async fn claims_of_id_tokens_can_be_set_left_out_and_shifted() {
    let setting = Setting::scripted().await;
    let fault = json!({
        "set": {"iss": "http://evil.example", "sub": "mallory", "aud": ["app", "other"], "azp": "other", "nonce": 5},
        "omit": ["iat", "at_hash"],
        "shift": {"exp": -3600, "auth_time": 10},
    });
    setting.script(json!({"endpoint": "token:code", "times": 1, "action": {"id_token": fault}})).await;
    let (altered, honest) = (auto_login(&setting).await, auto_login(&setting).await);
    let (altered, honest) = (Jwt::read(text(&altered, "id_token")), Jwt::read(text(&honest, "id_token")));
    assert!(altered.is_genuine(&setting).await, "only the claims are wrong");
    let claims = &altered.claims;
    assert_eq!((&claims["iss"], &claims["sub"]), (&"http://evil.example".into(), &"mallory".into()));
    assert_eq!(
        (&claims["aud"], &claims["azp"], &claims["nonce"]),
        (&json!(["app", "other"]), &"other".into(), &5.into())
    );
    assert!(claims.get("iat").is_none() && claims.get("at_hash").is_none());
    assert!(claims["exp"].as_i64().unwrap() < honest.claims["exp"].as_i64().unwrap() - 3000);
    assert!(claims["auth_time"].as_i64() > honest.claims["auth_time"].as_i64());
    assert_eq!(honest.claims["sub"], "alice");
}

#[tokio::test]
async fn signatures_can_be_wrong_in_many_ways() {
    let (setting, mut refresh) = signed_in().await;
    let published = setting.get("/jwks").await.json();
    let rsa_key =
        published["keys"].as_array().unwrap().iter().find(|key| key["kty"] == "RSA").unwrap().clone();
    let cases: [(Value, &str, bool, bool); 9] = [
        // fault, alg, does a published key verify it, does the header name that key
        (json!({}), "RS256", true, true),
        (json!({"signature": "bad"}), "RS256", false, true),
        (json!({"signature": "empty"}), "RS256", false, true),
        (json!({"signature": "alg_none"}), "none", false, true),
        (json!({"signature": "hs256_public_key"}), "HS256", false, true),
        (json!({"signature": "another_key"}), "RS256", false, true),
        (json!({"kid": "wrong"}), "RS256", true, false),
        (json!({"kid": "omit"}), "RS256", true, false),
        (json!({"signature": "rs256"}), "RS256", true, true),
    ];
    for (fault, alg, is_signed, is_named) in cases {
        setting.script(json!({"endpoint": "token:refresh", "times": 1, "action": {"id_token": fault}})).await;
        let tokens = setting.refresh(&refresh).await.json();
        refresh = text(&tokens, "refresh_token").to_owned();
        let token = Jwt::read(text(&tokens, "id_token"));
        assert_eq!(token.header["alg"], alg, "{fault}");
        assert_eq!(token.is_signed_by(&rsa_key), is_signed, "{fault}");
        assert_eq!(token.header["kid"] == rsa_key["kid"], is_named, "{fault}");
        assert_eq!(token.claims["sub"], "alice");
    }
    for (signature, is_genuine) in [("bad_es256", false), ("es256", true)] {
        let fault = json!({"signature": signature, "header": {"crit": ["exp"]}});
        setting.script(json!({"endpoint": "token:refresh", "times": 1, "action": {"id_token": fault}})).await;
        let tokens = setting.refresh(&refresh).await.json();
        refresh = text(&tokens, "refresh_token").to_owned();
        let token = Jwt::read(text(&tokens, "id_token"));
        assert_eq!((&token.header["alg"], &token.header["crit"]), (&"ES256".into(), &json!(["exp"])));
        assert_eq!(token.is_genuine(&setting).await, is_genuine);
    }
}

#[tokio::test]
async fn hs256_is_keyed_with_the_published_key() {
    let (setting, refresh) = signed_in().await;
    let fault = json!({"signature": "hs256_public_key"});
    setting.script(json!({"endpoint": "token:refresh", "action": {"id_token": fault}})).await;
    let tokens = setting.refresh(&refresh).await.json();
    let (message, signature) = text(&tokens, "id_token").rsplit_once('.').unwrap();
    let published = setting.get("/jwks").await.json();
    let rsa_key = published["keys"].as_array().unwrap().iter().find(|key| key["kty"] == "RSA").unwrap();
    let modulus = crate::setting::from_base64url(text(rsa_key, "n"));
    // SubjectPublicKeyInfo of a 2048-bit key with exponent 65537: fixed bytes around the modulus.
    let der = [
        &STANDARD.decode("MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA").unwrap(),
        &modulus[..],
        &[2, 3, 1, 0, 1],
    ];
    let pem =
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der.concat()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, pem.as_bytes()), message.as_bytes());
    assert_eq!(signature, base64url(tag.as_ref()));
}

#[tokio::test]
async fn keys_rotate() {
    let (setting, refresh) = signed_in().await;
    let kids = async || -> Vec<String> {
        let keys = setting.get("/jwks").await.json();
        keys["keys"].as_array().unwrap().iter().map(|key| text(key, "kid").to_owned()).collect()
    };
    let before = kids().await;
    let action = json!({"rotate_keys": "withdraw"});
    setting.script(json!({"endpoint": "token:refresh", "times": 1, "action": action})).await;
    let tokens = setting.refresh(&refresh).await.json();
    let after = kids().await;
    assert!(after.iter().all(|kid| !before.contains(kid)));
    assert!(Jwt::read(text(&tokens, "id_token")).is_genuine(&setting).await);
    let kept = setting.json(Method::POST, "/_script/rotate_keys", json!({"old": "keep"})).await;
    assert_eq!(kept.status, StatusCode::NO_CONTENT);
    assert!(after.iter().all(|kid| before.len() == 2 && !before.contains(kid)));
    let newest = kids().await;
    assert!(newest.len() == 4 && after.iter().all(|kid| newest.contains(kid)));
}

#[tokio::test]
async fn access_tokens_can_be_large_and_still_open() {
    let setting = Setting::scripted().await;
    setting.script(json!({"endpoint": "token", "action": {"access_token_bytes": 100_000}})).await;
    let tokens = auto_login(&setting).await;
    let access = text(&tokens, "access_token");
    assert_eq!(access.len(), 100_000);
    assert_eq!(setting.get_as("/userinfo", access).await.json()["sub"], "alice");
    let id_token = Jwt::read(text(&tokens, "id_token"));
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, access.as_bytes());
    assert_eq!(id_token.claims["at_hash"], base64url(&hash.as_ref()[..16]));
    assert!(id_token.is_genuine(&setting).await);
}

#[tokio::test]
async fn access_tokens_can_end_at_one_moment() {
    let setting = Setting::with(|config| {
        config.scripting = Scripting::On;
        config.access_token_lifetime = Duration::from_secs(600);
    })
    .await;
    let access = text(&auto_login(&setting).await, "access_token").to_owned();
    let now_ms = async || {
        let answer = setting.get_as("/api/whoami", &access).await.json();
        (answer["server_time"].as_f64().unwrap() * 1000.0) as i64
    };
    let in_a_minute = now_ms().await + 60_000;
    let ends_at =
        |ms: i64| json!({"endpoint": "token", "times": 2, "action": {"access_token_ends_at_ms": ms}});
    setting.script(ends_at(in_a_minute)).await;
    let tokens = auto_login(&setting).await;
    let refreshed = setting.refresh(text(&tokens, "refresh_token")).await.json();
    for tokens in [&tokens, &refreshed] {
        assert!((55..=60).contains(&tokens["expires_in"].as_u64().unwrap()), "{}", tokens["expires_in"]);
        let id_token = Jwt::read(text(tokens, "id_token"));
        let access = text(tokens, "access_token");
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, access.as_bytes());
        assert_eq!(id_token.claims["at_hash"], base64url(&hash.as_ref()[..16]));
        assert!(id_token.is_genuine(&setting).await);
        // It is the token itself that ends then: the provider says so when it comes back.
        let answer = setting.get_as("/api/whoami", access).await.json();
        let ends =
            answer["server_time"].as_f64().unwrap() + answer["token_remaining_seconds"].as_f64().unwrap();
        assert!((ends * 1000.0 - in_a_minute as f64).abs() < 2.0, "{answer}");
    }
    assert_ne!(tokens["access_token"], refreshed["access_token"]);

    // The moment is past: nothing changes.
    setting.script(ends_at(now_ms().await - 1)).await;
    assert_eq!(auto_login(&setting).await["expires_in"], 600);

    // And one that ends is over.
    setting.script(ends_at(now_ms().await + 50)).await;
    let tokens = auto_login(&setting).await;
    let access = text(&tokens, "access_token");
    let deadline = Instant::now() + Duration::from_secs(10);
    while setting.get_as("/api/whoami", access).await.status != StatusCode::UNAUTHORIZED {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn userinfo_can_be_signed() {
    let setting = Setting::scripted().await;
    let tokens = setting.tokens("alice").await;
    let action = json!({"signed": {}, "set": {"email": "x@example.com"}});
    setting.script(json!({"endpoint": "userinfo", "times": 1, "action": action})).await;
    let answer = setting.get_as("/userinfo", text(&tokens, "access_token")).await;
    assert_eq!(answer.header("content-type"), "application/jwt");
    let token = Jwt::read(&answer.body);
    assert!(token.is_genuine(&setting).await);
    assert_eq!(token.claims["iss"], setting.provider.issuer());
    assert_eq!((&token.claims["aud"], &token.claims["sub"]), (&"app".into(), &"alice".into()));
    assert_eq!(token.claims["email"], "x@example.com");
    let action = json!({"signed": {"signature": "bad", "omit": ["aud"]}});
    setting.script(json!({"endpoint": "userinfo", "times": 1, "action": action})).await;
    let bad = Jwt::read(&setting.get_as("/userinfo", text(&tokens, "access_token")).await.body);
    assert!(!bad.is_genuine(&setting).await && bad.claims.get("aud").is_none());
}

#[tokio::test]
async fn logins_need_no_page() {
    let setting = Setting::scripted().await;
    // By a parameter, with a user that was not there before.
    let path = setting.authorize(&[("auto_login", "zoe"), ("prompt", "login")]);
    let (address, query) = setting.get(&path).await.redirect();
    assert_eq!((address.as_str(), query["state"].as_str()), (CALLBACK, "the-state"));
    let tokens = setting.redeem(&query["code"]).await.json();
    assert_eq!(Jwt::read(text(&tokens, "id_token")).claims["sub"], "zoe");
    // By a rule, and the browser is signed in afterwards.
    setting.script(json!({"endpoint": "authorize", "times": 1, "action": {"auto_login": "bob"}})).await;
    let browser = Browser::new(&setting);
    assert!(browser.get(&setting.authorize(&[])).await.redirect().1.contains_key("code"));
    let (_, query) = browser.get(&setting.authorize(&[("prompt", "none")])).await.redirect();
    let tokens = setting.redeem(&query["code"]).await.json();
    assert_eq!(Jwt::read(text(&tokens, "id_token")).claims["sub"], "bob");
}

#[tokio::test]
async fn callbacks_can_be_changed() {
    let setting = Setting::scripted().await;
    let login = async || setting.get(&setting.authorize(&[("auto_login", "alice")])).await.redirect().1;
    setting.script(json!({"endpoint": "callback", "times": 1, "action": {"omit": ["iss"]}})).await;
    assert!(!login().await.contains_key("iss"));
    let action = json!({"set": {"iss": "http://evil.example", "state": "another", "extra": 1}});
    setting.script(json!({"endpoint": "callback", "times": 1, "action": action})).await;
    let changed = login().await;
    assert_eq!((changed["iss"].as_str(), changed["state"].as_str()), ("http://evil.example", "another"));
    assert!(changed.contains_key("code") && changed["extra"] == "1");
    assert_eq!(login().await["iss"], setting.provider.issuer());
}

#[tokio::test]
async fn a_rule_can_be_for_one_user() {
    let setting = Setting::scripted().await;
    let (alice, bob) = (setting.tokens("alice").await, setting.tokens("bob").await);
    let action = json!({"respond": {"status": 503}});
    setting.script(json!({"endpoint": "token:refresh", "sub": "alice", "action": action})).await;
    assert_eq!(setting.refresh(text(&alice, "refresh_token")).await.status.as_u16(), 503);
    assert_eq!(setting.refresh(text(&bob, "refresh_token")).await.status.as_u16(), 200);
}

#[tokio::test]
async fn rules_can_be_looked_at_and_taken_back() {
    let setting = Setting::scripted().await;
    setting.script(json!({"endpoint": "userinfo", "action": {"respond": {"status": 500}}})).await;
    setting.script(json!({"endpoint": "end_session", "action": {"respond": {"status": 500}}})).await;
    assert_eq!(setting.get("/end_session").await.status.as_u16(), 500);
    let rules = setting.get("/_script").await.json()["rules"].clone();
    assert_eq!((&rules[0]["matched"], &rules[1]["matched"]), (&0.into(), &1.into()));
    let first = rules[0]["id"].as_u64().unwrap();
    let remove =
        async || setting.json(Method::DELETE, &format!("/_script/{first}"), Value::Null).await.status;
    assert_eq!((remove().await, remove().await), (StatusCode::NO_CONTENT, StatusCode::NOT_FOUND));
    assert_eq!(setting.get("/userinfo").await.status, StatusCode::UNAUTHORIZED);
    setting.json(Method::DELETE, "/_script", Value::Null).await;
    assert_eq!(setting.get("/end_session").await.status, StatusCode::OK);
    let bad =
        setting.json(Method::POST, "/_script", json!({"endpoint": "token", "action": {"dealy": 1}})).await;
    assert_eq!(bad.status, StatusCode::BAD_REQUEST);
    assert!(text(&bad.json(), "error").contains("dealy"));
}

#[tokio::test]
async fn grants_can_be_revoked_without_a_word() {
    let setting = Setting::scripted().await;
    let (alice, bob) = (setting.tokens("alice").await, setting.tokens("bob").await);
    let answer = setting.json(Method::POST, "/_script/revoke", json!({"sub": "alice"})).await;
    assert_eq!(answer.json(), json!({"revoked": 1}));
    assert_eq!(setting.refresh(text(&alice, "refresh_token")).await.json()["error"], "invalid_grant");
    assert_eq!(setting.refresh(text(&bob, "refresh_token")).await.status, StatusCode::OK);
    let answer = setting.json(Method::POST, "/_script/sign_out", json!({"sub": "bob"})).await;
    assert_eq!(answer.json(), json!({"sessions": 1, "grants": 1}));
}

#[tokio::test]
async fn the_log_tells_what_happened_and_no_secret() {
    let (setting, refresh) = signed_in().await;
    let second = setting.refresh(&refresh).await.json();
    setting.get_as("/userinfo", text(&second, "access_token")).await;
    setting.refresh(&refresh).await;
    let log = setting.log().await;
    let entries = log["entries"].as_array().unwrap();
    let [refreshed, userinfo, reused] = &entries[..] else { panic!("{log}") };
    assert_eq!(refreshed["endpoint"], "token:refresh");
    assert_eq!(refreshed["grant_type"], "refresh_token");
    assert_eq!(
        (&refreshed["client_id"], &refreshed["client_auth"]),
        (&"app".into(), &"client_secret_basic".into())
    );
    assert_eq!((&refreshed["sub"], &refreshed["status"]), (&"alice".into(), &200.into()));
    assert_eq!(text(refreshed, "refresh_presented"), fingerprint(&refresh));
    assert_eq!(text(refreshed, "refresh_issued"), fingerprint(text(&second, "refresh_token")));
    assert!(refreshed["start_ms"].as_i64() <= refreshed["end_ms"].as_i64());
    assert_eq!((&userinfo["endpoint"], &userinfo["grant"]), (&"userinfo".into(), &refreshed["grant"]));
    assert_eq!((&reused["error"], &reused["status"]), (&"invalid_grant".into(), &400.into()));
    assert_eq!(log["requests"], json!({"token:refresh": 2, "userinfo": 1}));
    assert_eq!(log["reuse_detected"], 1);
    assert_eq!(log["max_in_flight_per_grant"], 1);
    for secret in [refresh.as_str(), text(&second, "access_token"), text(&second, "refresh_token"), "s3cret"]
    {
        assert!(!log.to_string().contains(secret));
    }
    let after = setting.get(&format!("/_log?after={}", refreshed["seq"])).await.json();
    assert_eq!(after["entries"].as_array().unwrap().len(), 2);

    setting.json(Method::DELETE, "/_log", Value::Null).await;
    let cleared = setting.log().await;
    assert_eq!((&cleared["entries"], &cleared["reuse_detected"]), (&json!([]), &0.into()));
    setting.get("/jwks").await;
    assert_eq!(setting.log().await["entries"][0]["endpoint"], "jwks");
}

#[tokio::test]
async fn the_log_counts_what_is_on_the_wire_at_once() {
    let (setting, refresh) = signed_in().await;
    let other = text(&setting.tokens("bob").await, "refresh_token").to_owned();
    setting.script(json!({"endpoint": "token:refresh", "action": {"delay_before_ms": 300}})).await;
    let form =
        |token: &str| [("grant_type", "refresh_token".to_owned()), ("refresh_token", token.to_owned())];
    let ask = async |token: &str| {
        let form = form(token);
        let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        setting.form("/token", &form).await
    };
    tokio::join!(ask(&refresh), ask(&refresh), ask(&other));
    let log = setting.log().await;
    assert_eq!(log["in_flight"]["token:refresh"], json!({"now": 0, "high_water": 3}));
    assert_eq!(log["max_in_flight_per_grant"], 2);
    assert!(log["connections"]["high_water"].as_u64() >= Some(3), "{}", log["connections"]);
    assert!(log["connections"]["now"].as_u64() >= Some(1), "{}", log["connections"]);
}
