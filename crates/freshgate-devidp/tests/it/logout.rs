//! Signing out at the provider, and what the clients hear of it.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use url::form_urlencoded;

use crate::browser::{Browser, hidden_request};
use crate::jwt::Jwt;
use crate::setting::{SIGNED_OUT, Setting, text};

/// A client that keeps the logout tokens posted to it.
struct Receiver {
    address: String,
    tokens: mpsc::UnboundedReceiver<String>,
    server: tokio::task::JoinHandle<()>,
}

impl Receiver {
    async fn start() -> Receiver {
        async fn receive(
            State(sender): State<mpsc::UnboundedSender<String>>,
            body: String,
        ) -> [(&'static str, &'static str); 1] {
            let (name, token) = form_urlencoded::parse(body.as_bytes()).next().unwrap();
            assert_eq!(name, "logout_token");
            sender.send(token.into_owned()).unwrap();
            [("cache-control", "no-store")]
        }
        let (sender, tokens) = mpsc::unbounded_channel();
        let routes = Router::new().route("/backchannel", post(receive)).with_state(sender);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}/backchannel", listener.local_addr().unwrap());
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Receiver { address, tokens, server }
    }

    /// What has been received by now: the provider answers only after everyone was told.
    fn received(&mut self) -> Vec<Jwt> {
        std::iter::from_fn(|| self.tokens.try_recv().ok()).map(|token| Jwt::read(&token)).collect()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn setting_with(receiver: &Receiver) -> Setting {
    Setting::with(|config| {
        config.clients[0].backchannel_logout_uri = Some(receiver.address.parse().unwrap());
        config.scripting = freshgate_devidp::Scripting::On;
    })
    .await
}

fn end_session(parameters: &[(&str, &str)]) -> String {
    let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish();
    format!("/end_session?{query}")
}

async fn signed_in(setting: &Setting, browser: &Browser, user: &str) -> Value {
    let (_, query) = browser.sign_in(&setting.authorize(&[("prompt", "login")]), user).await.redirect();
    setting.redeem(&query["code"]).await.json()
}

#[tokio::test]
async fn a_relying_party_signs_a_browser_out_and_is_told() {
    let mut receiver = Receiver::start().await;
    let setting = setting_with(&receiver).await;
    let browser = Browser::new(&setting);
    let tokens = signed_in(&setting, &browser, "alice").await;
    let id_token = Jwt::read(text(&tokens, "id_token"));
    // An expired hint is as good as any.
    setting.json(Method::POST, "/_script/clock", json!({"offset_ms": 400_000})).await;
    let parameters = [
        ("id_token_hint", text(&tokens, "id_token")),
        ("post_logout_redirect_uri", SIGNED_OUT),
        ("state", "the-state"),
    ];
    let (address, query) = browser.get(&end_session(&parameters)).await.redirect();
    assert_eq!(address, format!("{SIGNED_OUT}/"));
    assert_eq!(query["state"], "the-state");

    let received = receiver.received();
    let [token] = &received[..] else { panic!("{} logout tokens", received.len()) };
    assert!(token.is_genuine(&setting).await);
    assert_eq!(token.header["typ"], "logout+jwt");
    for claim in ["iss", "aud", "sub", "sid"] {
        assert_eq!(token.claims[claim], id_token.claims[claim], "{claim}");
    }
    assert_eq!(token.claims["events"], json!({"http://schemas.openid.net/event/backchannel-logout": {}}));
    assert!(token.claims.get("nonce").is_none() && !text(&token.claims, "jti").is_empty());
    assert!(token.claims["exp"].as_i64() > token.claims["iat"].as_i64());

    let silent = browser.get(&setting.authorize(&[("prompt", "none")])).await;
    assert_eq!(silent.redirect().1["error"], "login_required");
    // Offline access is meant to outlive the session.
    assert_eq!(setting.refresh(text(&tokens, "refresh_token")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn tokens_without_offline_access_end_with_the_session() {
    let setting = Setting::start().await;
    let browser = Browser::new(&setting);
    let (_, query) = browser.sign_in(&setting.authorize(&[("scope", "openid")]), "alice").await.redirect();
    let tokens = setting.redeem(&query["code"]).await.json();
    browser.get(&end_session(&[("id_token_hint", text(&tokens, "id_token"))])).await;
    assert_eq!(
        setting.get_as("/userinfo", text(&tokens, "access_token")).await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn without_a_hint_the_person_is_asked() {
    let mut receiver = Receiver::start().await;
    let setting = setting_with(&receiver).await;
    let browser = Browser::new(&setting);
    signed_in(&setting, &browser, "alice").await;
    let wanted = [("client_id", "app"), ("post_logout_redirect_uri", SIGNED_OUT), ("state", "x")];
    let page = browser.get(&end_session(&wanted)).await;
    assert!(page.body.contains("id=\"sign-out\""), "{}", page.body);
    let request = hidden_request(&page);
    let stay = browser.post("/end_session/confirm", &[("request", &request), ("decision", "stay")]).await;
    assert!(stay.body.contains("Still signed in"));
    let form = [("request", request.as_str()), ("decision", "sign_out")];
    let foreign = browser.post_from("http://evil.example", "/end_session/confirm", &form).await;
    assert_eq!(foreign.status, StatusCode::FORBIDDEN);
    assert!(receiver.received().is_empty());
    assert!(browser.get(&setting.authorize(&[])).await.redirect().1.contains_key("code"));

    let (_, query) = browser.post("/end_session/confirm", &form).await.redirect();
    assert_eq!(query["state"], "x");
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(browser.get(&setting.authorize(&[])).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_hint_of_somebody_else_does_not_sign_out_at_once() {
    let setting = Setting::start().await;
    let browser = Browser::new(&setting);
    signed_in(&setting, &browser, "alice").await;
    let bobs = setting.tokens("bob").await;
    let page = browser.get(&end_session(&[("id_token_hint", text(&bobs, "id_token"))])).await;
    assert!(page.body.contains("Alice Example"));
    assert!(browser.get(&setting.authorize(&[])).await.redirect().1.contains_key("code"));
}

#[tokio::test]
async fn nobody_is_sent_to_an_address_that_is_not_registered() {
    let setting = Setting::start().await;
    let tokens = setting.tokens("alice").await;
    let hint = ("id_token_hint", text(&tokens, "id_token"));
    let evil = ("post_logout_redirect_uri", "http://evil.example/");
    let registered = ("post_logout_redirect_uri", SIGNED_OUT);
    let cases: [&[(&str, &str)]; 7] = [
        &[hint, evil],
        &[("client_id", "app"), evil],
        &[registered],
        &[("client_id", "public"), registered],
        &[("client_id", "stranger"), registered],
        &[hint, ("client_id", "public"), registered],
        &[("id_token_hint", "a.b.c")],
    ];
    for parameters in cases {
        let answer = setting.get(&end_session(parameters)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{parameters:?}");
        assert_eq!(answer.header("location"), "");
    }
    assert_eq!(setting.get(&end_session(&[hint, registered])).await.status, StatusCode::SEE_OTHER);
    assert!(setting.get("/end_session").await.body.contains("Signed out"));
}

#[tokio::test]
async fn signing_out_everywhere_ends_sessions_and_grants_and_tells_the_clients() {
    let mut receiver = Receiver::start().await;
    let setting = setting_with(&receiver).await;
    let (laptop, phone, other) = (Browser::new(&setting), Browser::new(&setting), Browser::new(&setting));
    let tokens = [signed_in(&setting, &laptop, "alice").await, signed_in(&setting, &phone, "alice").await];
    let bobs = signed_in(&setting, &other, "bob").await;
    let answer = laptop.post("/users/sign-out", &[("sub", "alice")]).await;
    assert_eq!(answer.header("location"), "/users?signed_out=alice");

    let mut told: Vec<Value> =
        receiver.received().into_iter().map(|token| token.claims["sid"].clone()).collect();
    let mut sids: Vec<Value> =
        tokens.iter().map(|tokens| Jwt::read(text(tokens, "id_token")).claims["sid"].clone()).collect();
    told.sort_by_key(Value::to_string);
    sids.sort_by_key(Value::to_string);
    assert_eq!(told, sids);
    for tokens in &tokens {
        assert_eq!(setting.refresh(text(tokens, "refresh_token")).await.json()["error"], "invalid_grant");
    }
    for browser in [&laptop, &phone] {
        assert_eq!(browser.get(&setting.authorize(&[])).await.status, StatusCode::OK);
    }
    assert_eq!(setting.refresh(text(&bobs, "refresh_token")).await.status, StatusCode::OK);

    laptop.post("/users/sign-out", &[("everyone", "yes")]).await;
    assert_eq!(receiver.received().len(), 1);
    assert_eq!(other.get(&setting.authorize(&[])).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_script_sends_logout_tokens_with_faults() {
    let mut receiver = Receiver::start().await;
    let setting = setting_with(&receiver).await;
    let browser = Browser::new(&setting);
    signed_in(&setting, &browser, "alice").await;
    type IsAsWanted = fn(&Jwt) -> bool;
    let cases: [(Value, IsAsWanted); 6] = [
        (json!({}), |token| token.header["typ"] == "logout+jwt" && token.signature_length() == 256),
        (json!({"set": {"nonce": "x"}, "omit": ["sid"]}), |token| {
            token.claims["nonce"] == "x" && token.claims.get("sid").is_none()
        }),
        (json!({"set": {"events": {}}}), |token| token.claims["events"] == json!({})),
        (json!({"signature": "alg_none"}), |token| {
            token.header["alg"] == "none" && token.signature_length() == 0
        }),
        (json!({"typ": "JWT"}), |token| token.header["typ"] == "JWT"),
        (json!({"shift": {"exp": -1000}}), |token| {
            token.claims["exp"].as_i64() < token.claims["iat"].as_i64()
        }),
    ];
    for (fault, is_as_wanted) in cases {
        let wanted = json!({"sub": "alice", "token": fault});
        let answer = setting.json(Method::POST, "/_script/backchannel_logout", wanted).await.json();
        let delivery = json!({"client_id": "app", "status": 200, "cache_control": "no-store"});
        assert_eq!(answer, json!({"deliveries": [delivery]}));
        let received = receiver.received();
        assert!(received.len() == 1 && is_as_wanted(&received[0]), "{fault}");
    }
    // It told the client and did nothing here.
    assert!(browser.get(&setting.authorize(&[])).await.redirect().1.contains_key("code"));
    drop(receiver);
}

/// Front-Channel Logout 2 and 3.
#[tokio::test]
async fn the_page_of_a_logout_has_a_frame_of_each_client_that_took_part() {
    let setting = Setting::with(|config| {
        config.clients[0].frontchannel_logout_uri = Some("http://app.test/out?kept=1".parse().unwrap());
        config.clients[1].frontchannel_logout_uri = Some("http://public.test/out".parse().unwrap());
    })
    .await;
    let metadata = setting.get("/.well-known/openid-configuration").await.json();
    assert_eq!(metadata["frontchannel_logout_session_supported"], true);
    let browser = Browser::new(&setting);
    let tokens = signed_in(&setting, &browser, "alice").await;
    let sid = Jwt::read(text(&tokens, "id_token")).claims["sid"].as_str().unwrap().to_owned();
    let wanted = [
        ("id_token_hint", text(&tokens, "id_token")),
        ("post_logout_redirect_uri", SIGNED_OUT),
        ("state", "the-state"),
    ];
    let page = browser.get(&end_session(&wanted)).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);
    let query = form_urlencoded::Serializer::new("kept=1".to_owned())
        .extend_pairs([("iss", setting.provider.issuer()), ("sid", &sid)])
        .finish();
    let frame = format!("src=\"http://app.test/out?{}\"", query.replace('&', "&#38;"));
    assert!(page.body.contains(&frame), "{frame} in {}", page.body);
    assert_eq!(page.body.matches("<iframe").count(), 1, "the other client took no part");
    assert!(page.body.contains(&format!("content=\"2;url={SIGNED_OUT}/?state=the-state\"")), "{}", page.body);
    assert!(page.header("content-security-policy").ends_with("; frame-src http://app.test"));

    let nobody = browser.get(&end_session(&wanted)).await;
    assert_eq!(nobody.redirect().1["state"], "the-state", "there is nobody to tell any more");
}

#[tokio::test]
async fn a_script_changes_the_way_back_from_a_logout() {
    let setting = Setting::scripted().await;
    let table = [
        (json!({"set": {"state": "another"}}), Some("another")),
        (json!({"omit": ["state"]}), None),
        (json!({}), Some("the-state")),
    ];
    for (action, state) in table {
        let rule = json!({"endpoint": "end_session", "times": 1, "action": action});
        setting.json(Method::POST, "/_script", rule).await;
        let tokens = setting.tokens("alice").await;
        let wanted = [
            ("id_token_hint", text(&tokens, "id_token")),
            ("post_logout_redirect_uri", SIGNED_OUT),
            ("state", "the-state"),
        ];
        let (address, query) = setting.get(&end_session(&wanted)).await.redirect();
        assert_eq!(address, format!("{SIGNED_OUT}/"));
        assert_eq!(query.get("state").map(String::as_str), state);
    }
}
