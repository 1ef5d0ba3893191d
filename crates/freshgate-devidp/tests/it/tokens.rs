//! The token endpoint, what its tokens open, and taking them back.

use std::time::Duration;

use freshgate_devidp::Rotation;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::jwt::Jwt;
use crate::setting::{CALLBACK, CLIENT, SECRET, Setting, VERIFIER, from_base64url, text};

#[tokio::test]
async fn a_code_needs_its_verifier_its_address_and_its_client() {
    let setting = Setting::start().await;
    let good =
        [("grant_type", "authorization_code"), ("redirect_uri", CALLBACK), ("code_verifier", VERIFIER)];
    for (name, value) in [
        ("code_verifier", "another-verifier-that-is-long-enough-to-be-one"),
        ("code_verifier", ""),
        ("redirect_uri", "http://localhost:8501/"),
        ("redirect_uri", ""),
    ] {
        let code = setting.code("alice", &[]).await;
        let mut form: Vec<_> = good.iter().copied().filter(|(other, _)| *other != name).collect();
        form.extend([("code", code.as_str()), (name, value)]);
        let answer = setting.form("/token", &form).await;
        assert_eq!(
            (answer.status, text(&answer.json(), "error")),
            (StatusCode::BAD_REQUEST, "invalid_grant"),
            "{name}"
        );
        // A code is spent at the first attempt.
        assert_eq!(setting.redeem(&code).await.json()["error"], "invalid_grant");
    }
    let code = setting.code("alice", &[("client_id", "public")]).await;
    assert_eq!(setting.redeem(&code).await.json()["error"], "invalid_grant");
    let mut form = good.to_vec();
    form.extend([("code", code.as_str()), ("client_id", "public")]);
    assert_eq!(setting.bare_form("/token", &form).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_replayed_code_takes_back_what_it_gave() {
    let setting = Setting::start().await;
    let code = setting.code("alice", &[]).await;
    let tokens = setting.redeem(&code).await.json();
    assert_eq!(setting.get_as("/userinfo", text(&tokens, "access_token")).await.status, StatusCode::OK);
    assert_eq!(setting.redeem(&code).await.json()["error"], "invalid_grant");
    assert_eq!(
        setting.get_as("/userinfo", text(&tokens, "access_token")).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(setting.refresh(text(&tokens, "refresh_token")).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn a_code_lives_a_minute() {
    let setting = Setting::scripted().await;
    let code = setting.code("alice", &[]).await;
    setting.json(Method::POST, "/_script/clock", json!({"offset_ms": 60_000})).await;
    assert_eq!(setting.redeem(&code).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn clients_prove_themselves_in_one_way() {
    let setting = Setting::start().await;
    let refresh =
        |token: &str| [("grant_type", "refresh_token".to_owned()), ("refresh_token", token.to_owned())];
    let tokens = setting.tokens("alice").await;
    let form = refresh(text(&tokens, "refresh_token"));
    for (more, status, error) in [
        (vec![], 401, "invalid_client"),
        (vec![("client_id", CLIENT)], 401, "invalid_client"),
        (vec![("client_id", CLIENT), ("client_secret", "wrong")], 401, "invalid_client"),
        (vec![("client_id", "public"), ("client_secret", SECRET)], 401, "invalid_client"),
        (vec![("client_id", "public")], 400, "invalid_grant"),
        (
            vec![("client_id", CLIENT), ("client_secret", SECRET), ("client_id", CLIENT)],
            400,
            "invalid_request",
        ),
    ] {
        let mut form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
        form.extend(&more);
        let answer = setting.bare_form("/token", &form).await;
        assert_eq!((answer.status.as_u16(), text(&answer.json(), "error")), (status, error), "{more:?}");
        assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
    }
    let mut both: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    both.push(("client_secret", SECRET));
    assert_eq!(setting.form("/token", &both).await.json()["error"], "invalid_request");
    both.push(("client_id", CLIENT));
    assert_eq!(setting.bare_form("/token", &both).await.status, StatusCode::OK);

    let other = setting.form("/token", &[("grant_type", "password")]).await;
    assert_eq!(other.json()["error"], "unsupported_grant_type");
    let json = setting.json(Method::POST, "/token", json!({"grant_type": "refresh_token"})).await;
    assert_eq!(json.json()["error"], "invalid_request");
}

#[tokio::test]
async fn a_refresh_replaces_the_refresh_token() {
    let setting = Setting::start().await;
    let first = setting.tokens("alice").await;
    let second = setting.refresh(text(&first, "refresh_token")).await.json();
    assert_ne!(text(&second, "refresh_token"), text(&first, "refresh_token"));
    assert_ne!(text(&second, "access_token"), text(&first, "access_token"));
    for tokens in [&first, &second] {
        assert_eq!(setting.get_as("/userinfo", text(tokens, "access_token")).await.status, StatusCode::OK);
    }
    let (before, after) = (Jwt::read(text(&first, "id_token")), Jwt::read(text(&second, "id_token")));
    assert!(after.is_genuine(&setting).await);
    for claim in ["iss", "sub", "aud", "auth_time", "sid"] {
        assert_eq!(after.claims[claim], before.claims[claim], "{claim}");
    }
    assert!(after.claims.get("nonce").is_none());
    assert_ne!(after.claims["at_hash"], before.claims["at_hash"]);
}

#[tokio::test]
async fn reuse_ends_the_whole_grant() {
    let setting = Setting::scripted().await;
    let (alice, other) = (setting.tokens("alice").await, setting.tokens("alice").await);
    let second = setting.refresh(text(&alice, "refresh_token")).await.json();
    let reused = setting.refresh(text(&alice, "refresh_token")).await;
    assert_eq!((reused.status, text(&reused.json(), "error")), (StatusCode::BAD_REQUEST, "invalid_grant"));
    assert_eq!(setting.refresh(text(&second, "refresh_token")).await.json()["error"], "invalid_grant");
    for tokens in [&alice, &second] {
        let answer = setting.get_as("/api/whoami", text(tokens, "access_token")).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(setting.log().await["reuse_detected"], 1);
    // Another sign-in of the same user is another grant.
    assert_eq!(setting.refresh(text(&other, "refresh_token")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn of_many_refreshes_at_once_one_wins() {
    let setting = Setting::scripted().await;
    let tokens = setting.tokens("alice").await;
    let refresh = text(&tokens, "refresh_token");
    let answers = futures_join(4, || setting.refresh(refresh)).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1);
    assert_eq!(setting.log().await["reuse_detected"], 1);
}

async fn futures_join<F: Future>(count: usize, make: impl Fn() -> F) -> Vec<F::Output> {
    let mut pending: Vec<_> = (0..count).map(|_| Box::pin(make())).collect();
    let mut done = Vec::new();
    std::future::poll_fn(move |context| {
        pending.retain_mut(|future| match future.as_mut().poll(context) {
            std::task::Poll::Ready(output) => {
                done.push(output);
                false
            }
            std::task::Poll::Pending => true,
        });
        match pending.is_empty() {
            true => std::task::Poll::Ready(std::mem::take(&mut done)),
            false => std::task::Poll::Pending,
        }
    })
    .await
}

#[tokio::test]
async fn in_the_grace_the_same_successor_comes_again() {
    let setting = Setting::with(|config| {
        config.rotation = Rotation::On { grace: Duration::from_secs(10) };
        config.scripting = freshgate_devidp::Scripting::On;
    })
    .await;
    let first = setting.tokens("alice").await;
    let answers = futures_join(4, || setting.refresh(text(&first, "refresh_token"))).await;
    let successors: Vec<String> =
        answers.iter().map(|answer| text(&answer.json(), "refresh_token").to_owned()).collect();
    assert!(successors.iter().all(|token| *token == successors[0]));
    for answer in &answers {
        let access = answer.json();
        assert_eq!(setting.get_as("/userinfo", text(&access, "access_token")).await.status, StatusCode::OK);
    }
    setting.json(Method::POST, "/_script/clock", json!({"offset_ms": 10_000})).await;
    assert_eq!(setting.refresh(text(&first, "refresh_token")).await.json()["error"], "invalid_grant");
    assert_eq!(setting.refresh(&successors[0]).await.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn a_refresh_token_that_is_sent_too_early_is_refused_and_stays_good() {
    let setting = Setting::with(|config| {
        config.refresh_token_not_before = Some(Duration::from_secs(60));
        config.scripting = freshgate_devidp::Scripting::On;
    })
    .await;
    let first = setting.tokens("alice").await;
    let refresh_token = text(&first, "refresh_token");
    let said_in = |token: &str| {
        let claims = from_base64url(token.split('.').nth(1).expect("a JWT"));
        serde_json::from_slice::<serde_json::Value>(&claims).unwrap()["nbf"].as_i64().unwrap()
    };
    let not_before = said_in(refresh_token);
    let issued_at = Jwt::read(text(&first, "id_token")).claims["iat"].as_i64().unwrap();
    assert!((59..=61).contains(&(not_before - issued_at)), "{not_before} and {issued_at}");
    for _ in 0..2 {
        assert_eq!(setting.refresh(refresh_token).await.json()["error"], "invalid_grant");
    }
    setting.json(Method::POST, "/_script/clock", json!({"offset_ms": 60_000})).await;
    let second = setting.refresh(refresh_token).await.json();
    let later = said_in(text(&second, "refresh_token"));
    assert!(later >= not_before + 60, "{later} after {not_before}");
}

#[tokio::test]
async fn without_rotation_the_refresh_token_stays() {
    let setting = Setting::with(|config| config.rotation = Rotation::Off).await;
    let first = setting.tokens("alice").await;
    for _ in 0..2 {
        let answer = setting.refresh(text(&first, "refresh_token")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.json().get("refresh_token").is_none());
    }
}

#[tokio::test]
async fn no_offline_access_no_refresh_token() {
    let setting = Setting::start().await;
    let tokens = setting.redeem(&setting.code("alice", &[("scope", "openid")]).await).await.json();
    assert!(tokens.get("refresh_token").is_none());
    let claims = Jwt::read(text(&tokens, "id_token")).claims;
    assert!(claims.get("email").is_none() && claims.get("name").is_none());
}

#[tokio::test]
async fn a_refresh_may_narrow_the_scope_and_not_widen_it() {
    let setting = Setting::start().await;
    let code = setting.code("alice", &[("scope", "openid email offline_access")]).await;
    let first = setting.redeem(&code).await.json();
    let refresh = |token: String, scope: &'static str| {
        let setting = &setting;
        async move {
            let form = [("grant_type", "refresh_token"), ("refresh_token", token.as_str()), ("scope", scope)];
            setting.form("/token", &form).await.json()
        }
    };
    let token = text(&first, "refresh_token").to_owned();
    assert_eq!(refresh(token.clone(), "openid profile").await["error"], "invalid_scope");
    let narrowed = refresh(token, "openid").await;
    assert_eq!(narrowed["scope"], "openid");
    assert!(Jwt::read(text(&narrowed, "id_token")).claims.get("email").is_none());
    let whole = setting.refresh(text(&narrowed, "refresh_token")).await.json();
    assert_eq!(whole["scope"], "openid email offline_access");
}

#[tokio::test]
async fn an_access_token_expires_to_the_moment() {
    let setting = Setting::scripted().await;
    let tokens = setting.tokens("alice").await;
    let access = text(&tokens, "access_token");
    let answer = setting.get_as("/api/whoami", access).await;
    assert_eq!(answer.status, StatusCode::OK);
    let whoami = answer.json();
    assert_eq!((&whoami["sub"], &whoami["name"]), (&"alice".into(), &"Alice Example".into()));
    let remaining = whoami["token_remaining_seconds"].as_f64().unwrap();
    assert!((200.0..=300.0).contains(&remaining), "{remaining}");
    let quote = setting.get_as("/api/quote", access).await.json();
    assert!(quote["price"].is_f64() && quote["server_time"].is_f64() && quote["sub"] == "alice", "{quote}");

    setting.json(Method::POST, "/_script/clock", json!({"offset_ms": 300_000})).await;
    for path in ["/api/whoami", "/api/quote", "/userinfo"] {
        let answer = setting.get_as(path, access).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert!(answer.header("www-authenticate").starts_with("Bearer error=\"invalid_token\""));
        assert!(setting.get(path).await.header("www-authenticate").starts_with("Bearer"));
        let refresh_token = text(&tokens, "refresh_token");
        assert_eq!(setting.get_as(path, refresh_token).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn userinfo_tells_how_things_are_now() {
    let setting = Setting::scripted().await;
    let tokens = setting.tokens("alice").await;
    let access = text(&tokens, "access_token");
    let before = setting.get_as("/userinfo", access).await.json();
    assert_eq!((&before["sub"], &before["email"]), (&"alice".into(), &"alice@example.com".into()));
    let edited = json!({"sub": "alice", "claims": {"email": "new@example.com"}});
    assert_eq!(setting.json(Method::POST, "/_script/users", edited).await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        setting.get_as("/userinfo", access).await.json(),
        json!({"sub": "alice", "email": "new@example.com"})
    );
    let refreshed = setting.refresh(text(&tokens, "refresh_token")).await.json();
    assert_eq!(Jwt::read(text(&refreshed, "id_token")).claims["email"], "new@example.com");
}

#[tokio::test]
async fn tokens_can_be_taken_back() {
    let setting = Setting::start().await;
    let tokens = setting.tokens("alice").await;
    let (access, refresh) = (text(&tokens, "access_token"), text(&tokens, "refresh_token"));
    assert_eq!(setting.bare_form("/revoke", &[("token", refresh)]).await.status, StatusCode::UNAUTHORIZED);
    let foreign = setting.bare_form("/revoke", &[("token", refresh), ("client_id", "public")]).await;
    assert_eq!(foreign.status, StatusCode::BAD_REQUEST);
    assert_eq!(setting.form("/revoke", &[("token", "no such token")]).await.status, StatusCode::OK);

    assert_eq!(setting.form("/revoke", &[("token", access)]).await.status, StatusCode::OK);
    assert_eq!(setting.get_as("/userinfo", access).await.status, StatusCode::UNAUTHORIZED);
    let second = setting.refresh(refresh).await.json();
    assert_eq!(setting.get_as("/userinfo", text(&second, "access_token")).await.status, StatusCode::OK);

    let newest = text(&second, "refresh_token");
    assert_eq!(setting.form("/revoke", &[("token", newest)]).await.status, StatusCode::OK);
    assert_eq!(
        setting.get_as("/userinfo", text(&second, "access_token")).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(setting.refresh(newest).await.json()["error"], "invalid_grant");
}
