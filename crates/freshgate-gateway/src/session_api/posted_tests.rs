//! What an app may prepare of a login, and what it may carry to an API.

use axum::{
    body::{Body, to_bytes},
    http::{Request, header},
};
use freshgate::{
    clock::{SystemClock, SystemEntropy},
    engine::EngineParts,
    keyring::Keyring,
    provider::{HttpTransport, Provider, ProviderConfig, TransportOptions},
    session::SessionPolicy,
    store::MemoryStore,
};
use freshgate_oidc::{ClientCredential, ResourceIndicator};
use tower::ServiceExt as _;

use super::*;

fn engine() -> Engine {
    let clock = Arc::new(SystemClock);
    let metadata_url = Url::parse("https://id.example.com/.well-known/openid-configuration").unwrap();
    let config = ProviderConfig::new("work", metadata_url, "app", ClientCredential::Public);
    let transport = Arc::new(HttpTransport::new(&TransportOptions::default()).unwrap());
    Engine::new(EngineParts {
        store: Arc::new(MemoryStore::new()),
        keyring: Arc::new(Keyring::from_secret(&Secret::new("a cookie secret"))),
        clock: clock.clone(),
        entropy: Arc::new(SystemEntropy),
        providers: vec![Provider::new(config, transport, clock)],
        policy: SessionPolicy::default(),
    })
}

/// What the API answers to a login that an app wants.
async fn ask(engine: &Engine, session: Option<&str>, body: &str) -> (StatusCode, Value) {
    post_to("/v1/login", engine, ExposedTokens::default(), session, body).await
}

async fn post_to(
    path: &str,
    engine: &Engine,
    expose_tokens: ExposedTokens,
    session: Option<&str>,
    body: &str,
) -> (StatusCode, Value) {
    let api = SessionApi {
        engine: engine.clone(),
        upstream_secrets: UpstreamSecrets::new([Secret::new("upstream")]),
        expose_tokens,
        login_path: "/reports/auth/login".to_owned(),
    };
    let mut request = Request::post(path)
        .header(header::AUTHORIZATION, "Bearer upstream")
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(session) = session {
        request = request.header(SESSION_HEADER, session);
    }
    let answer = api.into_router().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
    let status = answer.status();
    let body = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_login_is_prepared_for_the_session_that_is_named() {
    let engine = engine();
    let handle = SessionKey::from_bytes([7; 32]);
    for (named, session) in [(None, None), (Some(handle.to_string()), Some(handle))] {
        let body = r#"{"provider": "work", "parameters": {
            "max_age": 0, "prompt": null, "acr_values": ["phr", "mfa"], "claims": {"id_token": {"acr": null}},
            "resource": ["https://api.example.com", "urn:b"], "scope": ["openid", "drive"]}}"#;
        let (status, answer) = ask(&engine, named.as_deref(), body).await;
        assert_eq!(status, StatusCode::OK, "{answer}");
        let sealed = answer["path"].as_str().unwrap().strip_prefix("/reports/auth/login?prepared=").unwrap();
        let login = engine.open_prepared_login(sealed).unwrap();
        assert_eq!((login.provider.as_str(), login.session), ("work", session));
        let mut others: Vec<_> = login.parameters.others().collect();
        others.sort_unstable();
        let claims = r#"{"id_token":{"acr":null}}"#;
        assert_eq!(others, [("acr_values", "phr mfa"), ("claims", claims), ("max_age", "0")]);
        assert_eq!(login.parameters.scope().unwrap(), ["openid", "drive"]);
        let resources: Vec<_> = login.parameters.resources().iter().map(ResourceIndicator::as_str).collect();
        assert_eq!(resources, ["https://api.example.com", "urn:b"]);
    }
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused_with_the_reason() {
    let engine = engine();
    let parameter = |parameter: &str| format!(r#"{{"provider": "work", "parameters": {{{parameter}}}}}"#);
    let long = parameter(&format!(r#""login_hint": "{}""#, "x".repeat(2000)));
    let huge = parameter(&format!(r#""login_hint": "{}""#, "x".repeat(LARGEST_REQUEST)));
    for (body, status, error, said) in [
        (r#"{"provider": "nobody"}"#.to_owned(), 404, "unknown_provider", "nobody"),
        (parameter(r#""redirect_uri": "https://evil.example""#), 400, "bad_parameter", "redirect_uri"),
        (parameter(r#""state": "x""#), 400, "bad_parameter", "state"),
        (parameter(r#""max_age": "soon""#), 400, "bad_parameter", "whole number"),
        (parameter(r#""max_age": "+5""#), 400, "bad_parameter", "whole number"),
        (parameter(r#""max_age": 1.5"#), 400, "bad_parameter", "whole number"),
        (parameter(r#""resource": "/api""#), 400, "bad_parameter", "absolute URI"),
        (parameter(r#""acr_values": [1]"#), 400, "bad_parameter", "acr_values"),
        (long, 400, "bad_parameter", "may have"),
        (huge, 400, "bad_request", "provider"),
        ("{}".to_owned(), 400, "bad_request", "provider"),
        (r#"{"provider": "work", "params": {}}"#.to_owned(), 400, "bad_request", "provider"),
        ("[".to_owned(), 400, "bad_request", "provider"),
    ] {
        let (found, answer) = ask(&engine, None, &body).await;
        assert_eq!((found.as_u16(), answer["error"].as_str()), (status, Some(error)), "{answer}");
        assert!(answer["message"].as_str().unwrap().contains(said), "{answer}");
    }
    let (status, answer) = ask(&engine, Some("no handle"), r#"{"provider": "work"}"#).await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{answer}");
}

#[tokio::test]
async fn what_carries_no_request_to_an_api_is_refused() {
    let engine = engine();
    let handle = SessionKey::from_bytes([7; 32]).to_string();
    let good = r#"{"method": "GET", "url": "https://api.example.com/items", "nonce": "n"}"#;
    for (body, access, status, error) in [
        (good, true, 404, "not_signed_in"),
        (good, false, 403, "not_exposed"),
        (r#"{"method": "GET", "url": "/items"}"#, true, 400, "bad_parameter"),
        (r#"{"method": "GET", "url": "file:///etc/passwd"}"#, true, 400, "bad_parameter"),
        (r#"{"method": "GET /x", "url": "https://api.example.com"}"#, true, 400, "bad_parameter"),
        (
            r#"{"method": "GET", "url": "https://api.example.com", "nonce": "a b"}"#,
            true,
            400,
            "bad_parameter",
        ),
        (r#"{"url": "https://api.example.com"}"#, true, 400, "bad_parameter"),
        (r#"{"method": "GET", "url": "https://api.example.com", "key": 1}"#, true, 400, "bad_parameter"),
    ] {
        let expose = ExposedTokens { id: true, access };
        let path = "/v1/session/authorization";
        let (found, answer) = post_to(path, &engine, expose, Some(&handle), body).await;
        assert_eq!((found.as_u16(), answer["error"].as_str()), (status, Some(error)), "{body}: {answer}");
    }
}
