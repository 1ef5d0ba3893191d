//! Signing in: discovery, the authorization endpoint, its pages.

use freshgate_devidp::{DevProvider, DevProviderError};
use reqwest::StatusCode;

use crate::browser::{Browser, hidden_request};
use crate::jwt::Jwt;
use crate::setting::{CALLBACK, Setting, config, text};

#[tokio::test]
async fn a_whole_login() {
    let setting = Setting::start().await;
    let issuer = setting.provider.issuer();
    let metadata = setting.get("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["issuer"], issuer);
    assert_eq!(setting.provider.metadata_url(), format!("{issuer}/.well-known/openid-configuration"));
    for endpoint in ["authorization", "token", "userinfo", "revocation", "end_session"] {
        assert!(text(&metadata, &format!("{endpoint}_endpoint")).starts_with(issuer));
    }

    let browser = Browser::new(&setting);
    let (address, query) = browser.sign_in(&setting.authorize(&[]), "alice").await.redirect();
    assert_eq!(address, CALLBACK);
    assert_eq!(query["state"], "the-state");
    assert_eq!(query["iss"], issuer);

    let answer = setting.redeem(&query["code"]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    assert_eq!(answer.header("cache-control"), "no-store");
    let tokens = answer.json();
    assert_eq!(tokens["token_type"], "Bearer");
    assert_eq!(tokens["expires_in"], 300);
    assert_eq!(tokens["scope"], "openid profile email offline_access");

    let id_token = Jwt::read(text(&tokens, "id_token"));
    assert_eq!(id_token.header["alg"], "RS256");
    assert!(id_token.is_genuine(&setting).await);
    let claims = &id_token.claims;
    assert_eq!(claims["iss"], issuer);
    assert_eq!(claims["aud"], "app");
    assert_eq!(claims["sub"], "alice");
    assert_eq!(claims["nonce"], "the-nonce");
    assert_eq!(claims["email"], "alice@example.com");
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    assert!(claims["auth_time"].as_i64().unwrap() <= claims["iat"].as_i64().unwrap());
    assert!(!text(claims, "sid").is_empty());
    let hash =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text(&tokens, "access_token").as_bytes());
    assert_eq!(claims["at_hash"], crate::setting::base64url(&hash.as_ref()[..16]));
}

#[tokio::test]
async fn es256_signs_when_it_is_chosen() {
    let setting =
        Setting::with(|config| config.signing_algorithm = freshgate_devidp::SigningAlgorithm::Es256).await;
    let tokens = setting.tokens("alice").await;
    let id_token = Jwt::read(text(&tokens, "id_token"));
    assert_eq!(id_token.header["alg"], "ES256");
    assert!(id_token.is_genuine(&setting).await);
}

#[tokio::test]
async fn any_algorithm_signs_when_it_is_chosen() {
    for algorithm in freshgate_devidp::SigningAlgorithm::ALL {
        let setting = Setting::with(|config| config.signing_algorithm = algorithm).await;
        let tokens = setting.tokens("alice").await;
        let id_token = Jwt::read(text(&tokens, "id_token"));
        assert_eq!(id_token.header["alg"], algorithm.name());
        let published = setting.get("/jwks").await.json();
        let mut keys = published["keys"].as_array().unwrap().iter();
        assert!(keys.any(|key| key["kid"] == id_token.header["kid"] && key["alg"] == algorithm.name()));
        let metadata = setting.get("/.well-known/openid-configuration").await.json();
        let listed = metadata["id_token_signing_alg_values_supported"].as_array().unwrap();
        assert!(listed.iter().any(|listed| listed == algorithm.name()));
    }
}

#[tokio::test]
async fn an_issuer_with_a_path_is_in_front_of_everything() {
    let setting = Setting::start().await;
    let address = setting.provider.addr();
    setting.provider.shutdown().await;
    let issuer = format!("http://localhost:{}/tenant", address.port());
    let setting = Setting::with(|config| {
        config.listen = address;
        config.issuer = Some(issuer.clone());
    })
    .await;
    assert_eq!(setting.provider.issuer(), issuer);
    assert_eq!(setting.get("/.well-known/openid-configuration").await.json()["issuer"], issuer);
    let tokens = setting.tokens("alice").await;
    assert_eq!(Jwt::read(text(&tokens, "id_token")).claims["iss"], issuer);
}

#[tokio::test]
async fn no_answer_goes_to_an_address_that_is_not_registered() {
    let setting = Setting::start().await;
    for more in [
        ("client_id", "stranger"),
        ("client_id", ""),
        ("redirect_uri", "http://localhost:8501/oauth2callback/"),
        ("redirect_uri", "http://localhost:8501/oauth2callback?x=1"),
        ("redirect_uri", "http://evil.example/"),
        ("redirect_uri", ""),
    ] {
        let page = setting.get(&setting.authorize(&[more])).await;
        assert_eq!(page.status, StatusCode::BAD_REQUEST, "{more:?}");
        assert_eq!(page.header("location"), "");
    }
    let twice = setting.get(&format!("{}&state=again", setting.authorize(&[]))).await;
    assert_eq!(twice.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_bad_request_is_told_to_the_relying_party() {
    let setting = Setting::start().await;
    let cases: [(&[(&str, &str)], &str); 13] = [
        (&[("response_type", "token")], "unsupported_response_type"),
        (&[("response_type", "")], "invalid_request"),
        (&[("response_mode", "fragment")], "invalid_request"),
        (&[("scope", "email")], "invalid_scope"),
        (&[("code_challenge", "")], "invalid_request"),
        (&[("code_challenge", "short")], "invalid_request"),
        (&[("code_challenge_method", "plain")], "invalid_request"),
        (&[("code_challenge_method", "")], "invalid_request"),
        (&[("prompt", "none login")], "invalid_request"),
        (&[("max_age", "soon")], "invalid_request"),
        (&[("request", "e30")], "request_not_supported"),
        (&[("id_token_hint", "a.b.c")], "invalid_request"),
        (&[("prompt", "none")], "login_required"),
    ];
    for (more, error) in cases {
        let (address, query) = setting.get(&setting.authorize(more)).await.redirect();
        assert_eq!(address, CALLBACK);
        assert_eq!(query["error"], error, "{more:?}");
        assert_eq!(query["state"], "the-state");
        assert_eq!(query["iss"], setting.provider.issuer());
        assert!(!query.contains_key("code"));
    }
}

#[tokio::test]
async fn the_browser_stays_signed_in() {
    let setting = Setting::start().await;
    let browser = Browser::new(&setting);
    let asks = |answer: &crate::setting::Answer| answer.status == StatusCode::OK;
    let first = browser.sign_in(&setting.authorize(&[]), "alice").await.redirect().1;
    let again = browser.get(&setting.authorize(&[])).await.redirect().1;
    let silent = browser.get(&setting.authorize(&[("prompt", "none")])).await.redirect().1;
    let sids: Vec<_> = {
        let mut sids = Vec::new();
        for query in [&first, &again, &silent] {
            let tokens = setting.redeem(&query["code"]).await.json();
            sids.push(Jwt::read(text(&tokens, "id_token")).claims["sid"].clone());
        }
        sids
    };
    assert!(sids.iter().all(|sid| *sid == sids[0]), "{sids:?}");

    assert!(asks(&browser.get(&setting.authorize(&[("prompt", "login")])).await));
    assert!(asks(&browser.get(&setting.authorize(&[("prompt", "select_account")])).await));
    assert!(!asks(&browser.get(&setting.authorize(&[("max_age", "3600")])).await));
    assert!(asks(&Browser::new(&setting).get(&setting.authorize(&[])).await));

    // Someone else is signed in than the relying party expects.
    let bobs = text(&setting.tokens("bob").await, "id_token").to_owned();
    let silent = setting.authorize(&[("prompt", "none"), ("id_token_hint", &bobs)]);
    assert_eq!(browser.get(&silent).await.redirect().1["error"], "login_required");
    assert!(asks(&browser.get(&setting.authorize(&[("id_token_hint", &bobs)])).await));
}

#[tokio::test]
async fn max_age_asks_again_when_the_login_is_old() {
    let setting = Setting::scripted().await;
    let browser = Browser::new(&setting);
    browser.sign_in(&setting.authorize(&[]), "alice").await;
    setting.json(reqwest::Method::POST, "/_script/clock", serde_json::json!({"offset_ms": 61_000})).await;
    let silent = |max_age| setting.authorize(&[("prompt", "none"), ("max_age", max_age)]);
    assert_eq!(browser.get(&silent("60")).await.redirect().1["error"], "login_required");
    assert!(browser.get(&silent("70")).await.redirect().1.contains_key("code"));

    let page = browser.sign_in(&setting.authorize(&[("max_age", "60")]), "alice").await;
    let tokens = setting.redeem(&page.redirect().1["code"]).await.json();
    let claims = Jwt::read(text(&tokens, "id_token")).claims;
    assert!(claims["iat"].as_i64().unwrap() - claims["auth_time"].as_i64().unwrap() <= 1);
}

#[tokio::test]
async fn consent_is_asked_for_and_can_be_refused() {
    let setting = Setting::start().await;
    let browser = Browser::new(&setting);
    let page = browser.sign_in(&setting.authorize(&[("prompt", "consent")]), "alice").await;
    assert!(page.body.contains("id=\"allow\"") && page.body.contains("keep its access while you are away"));
    let request = hidden_request(&page);
    let denied = browser.post("/consent", &[("request", &request), ("decision", "deny")]).await;
    assert_eq!(denied.redirect().1["error"], "access_denied");
    let allowed = browser.post("/consent", &[("request", &request), ("decision", "allow")]).await;
    assert!(allowed.redirect().1.contains_key("code"));
    // Consent of a browser in which nobody is signed in is worth nothing.
    let stranger =
        Browser::new(&setting).post("/consent", &[("request", &request), ("decision", "allow")]).await;
    assert!(stranger.body.contains("id=\"user-alice\""));
}

#[tokio::test]
async fn turning_back_is_told_to_the_relying_party() {
    let setting = Setting::start().await;
    let browser = Browser::new(&setting);
    let request = hidden_request(&browser.get(&setting.authorize(&[])).await);
    let answer = browser.post("/sign-in", &[("request", &request), ("cancel", "yes")]).await;
    assert_eq!(answer.redirect().1["error"], "access_denied");
}

#[tokio::test]
async fn a_user_can_be_typed_in_and_nothing_is_lost_on_bad_input() {
    let setting = Setting::start().await;
    let browser = Browser::new(&setting);
    let request = hidden_request(&browser.get(&setting.authorize(&[])).await);
    let bad = "{\"sub\": \"carol\", \"note\": \"<b>\",}";
    let page = browser.post("/sign-in", &[("request", &request), ("claims", bad)]).await;
    assert_eq!(page.status, StatusCode::BAD_REQUEST);
    assert!(page.body.contains("trailing comma at line 1 column"), "{}", page.body);
    assert!(page.body.contains("&#34;carol&#34;") && page.body.contains("&#60;b&#62;"), "{}", page.body);
    assert_eq!(hidden_request(&page), request);

    let good = "{\"sub\": \"carol\", \"teams\": [\"red\"]}";
    let answer = browser.post("/sign-in", &[("request", &request), ("claims", good)]).await;
    let tokens = setting.redeem(&answer.redirect().1["code"]).await.json();
    let claims = Jwt::read(text(&tokens, "id_token")).claims;
    assert_eq!((&claims["sub"], &claims["teams"][0]), (&"carol".into(), &"red".into()));
}

#[tokio::test]
async fn login_hint_comes_first() {
    let setting = Setting::start().await;
    let page = setting.get(&setting.authorize(&[("login_hint", "BOB@example.com")])).await.body;
    assert!(page.find("id=\"user-bob\"") < page.find("id=\"user-alice\""));
    let unknown = setting.get(&setting.authorize(&[("login_hint", "dora@example.org")])).await.body;
    assert!(unknown.contains("&#34;sub&#34;: &#34;dora&#34;") && unknown.contains("dora@example.org"));
}

#[tokio::test]
async fn only_this_machine_may_reach_it() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let mut config = config();
        config.listen = address.parse().unwrap();
        let refused = DevProvider::bind(config).await.unwrap_err();
        assert!(matches!(refused, DevProviderError::NotLoopback { .. }), "{refused}");
    }
}
