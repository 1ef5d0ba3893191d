//! The API as a program speaks it. What it answers is held against the examples in `docs/session-api-examples.json`, which
//! the Python client's tests read too.

use std::sync::atomic::{AtomicI64, Ordering};

use axum::{body::Body, http::Request};
use bytes::Bytes;
use freshgate::{
    Timestamp,
    clock::{Clock, SystemClock, SystemEntropy},
    engine::{EngineParts, LoginRequest},
    keyring::Keyring,
    provider::{
        HttpTransport, Provider, ProviderAnswer, ProviderConfig, ProviderRequest, Transport, TransportOptions,
    },
    session::SessionPolicy,
    store::SqliteStore,
};
use freshgate_devidp::{
    DevClient, DevProvider, DevProviderConfig, DevUser, RunningProvider, Scripting, SigningAlgorithm,
};
use freshgate_oidc::{AuthorizationParameters, CallbackParameters, ClientCredential};
use http::{HeaderMap, HeaderValue, Method};
use http_body_util::BodyExt as _;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use url::Url;

use super::*;

const SECRET: &str = "the upstream's secret, 43 characters of it.";
const CALLBACK: &str = "http://localhost:8501/oauth2callback";
const BOTH: ExposedTokens = ExposedTokens { id: true, access: true };
const DOCS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/session-api.md"));
const EXAMPLES: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/session-api-examples.json"));

/// A provider that does as it is told, and sessions in a file.
struct World {
    provider: RunningProvider,
    store: SqliteStore,
    clock: Arc<TestClock>,
    _folder: tempfile::TempDir,
}

/// The machine's clock, which tests move on.
#[derive(Default)]
struct TestClock(AtomicI64);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        SystemClock.now() + Duration::from_secs(self.0.load(Ordering::SeqCst).unsigned_abs())
    }
}

impl World {
    async fn new() -> Self {
        let mut provider = DevProviderConfig::new("127.0.0.1:0".parse().unwrap());
        provider.clients.push(DevClient::confidential("app", Secret::new("client secret"), CALLBACK));
        provider.users.push(DevUser::named("ada"));
        provider.signing_algorithm = SigningAlgorithm::Es256;
        provider.scripting = Scripting::On;
        let folder = tempfile::tempdir().unwrap();
        Self {
            provider: DevProvider::bind(provider).await.unwrap(),
            store: SqliteStore::open(folder.path().join("sessions.db")).unwrap(),
            clock: Arc::default(),
            _folder: folder,
        }
    }

    /// A gate on the store that has read nothing of it yet, and knows of no trouble at the provider.
    fn api(&self) -> Api {
        let metadata_url = Url::parse(&self.provider.metadata_url()).unwrap();
        let secret = ClientCredential::Secret(Secret::new("client secret"));
        let provider = ProviderConfig {
            scope: "openid email".to_owned(),
            authorize_parameters: AuthorizationParameters::of([("auto_login", "ada")]).unwrap(),
            ..ProviderConfig::new("default", metadata_url, "app", secret)
        };
        let transport = Arc::new(HttpTransport::new(&TransportOptions::default()).unwrap());
        let engine = Engine::new(EngineParts {
            store: Arc::new(self.store.clone()),
            keyring: Arc::new(Keyring::from_secret(&Secret::new("a cookie secret that is long enough"))),
            clock: self.clock.clone(),
            entropy: Arc::new(SystemEntropy),
            providers: vec![Provider::new(provider, transport, self.clock.clone())],
            policy: SessionPolicy::default(),
        });
        Api { engine, expose_tokens: BOTH }
    }

    /// Everyone's clock: ours and the provider's.
    async fn advance(&self, seconds: i64) {
        let ahead = seconds + self.clock.0.fetch_add(seconds, Ordering::SeqCst);
        let url = Url::parse(&format!("{}/_script/clock", self.provider.issuer())).unwrap();
        let answer = send(Method::POST, url, json!({"offset_ms": ahead * 1000}).to_string()).await;
        assert_eq!(answer.status, StatusCode::NO_CONTENT);
    }

    async fn script(&self, rule: Value) {
        let url = Url::parse(&format!("{}/_script", self.provider.issuer())).unwrap();
        let answer = send(Method::POST, url, rule.to_string()).await;
        assert_eq!(answer.status, StatusCode::CREATED, "{rule}");
    }
}

async fn send(method: Method, url: Url, body: String) -> ProviderAnswer {
    let headers =
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    let request = ProviderRequest {
        method,
        url,
        headers,
        body: body.into(),
        answer_limit: 1 << 20,
        connection: freshgate::provider::Connection::Kept,
    };
    HttpTransport::new(&TransportOptions::default()).unwrap().send(request).await.unwrap()
}

/// The API of one gate.
struct Api {
    engine: Engine,
    expose_tokens: ExposedTokens,
}

impl Api {
    async fn sign_in(&self) -> SessionKey {
        let request = LoginRequest {
            provider: "default".to_owned(),
            redirect_uri: Url::parse(CALLBACK).unwrap(),
            next: "/".to_owned(),
            parameters: AuthorizationParameters::default(),
        };
        let started = self.engine.begin_login(request).await.unwrap();
        let sent_back =
            send(Method::GET, Url::parse(started.authorize.expose()).unwrap(), String::new()).await;
        let callback = Url::parse(sent_back.header(header::LOCATION).unwrap()).unwrap();
        let callback = CallbackParameters::parse(callback.query().unwrap()).unwrap();
        let completed = self.engine.complete_login(&callback, Some(started.sealed_flow.expose())).await;
        completed.unwrap().session.key()
    }

    /// A request with the secret.
    async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answered {
        let bearer = format!("Bearer {SECRET}");
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        self.ask_as_it_is(method, target, &headers).await
    }

    async fn ask_about(&self, key: SessionKey, method: &str, target: &str) -> Answered {
        self.ask(method, target, &[(SESSION_HEADER, &key.to_string())]).await
    }

    async fn post_about(&self, key: SessionKey, target: &str, body: &Value) -> Answered {
        let (bearer, key) = (format!("Bearer {SECRET}"), key.to_string());
        let headers = [
            ("authorization", &*bearer),
            (SESSION_HEADER, &*key),
            (header::CONTENT_TYPE.as_str(), "application/json"),
        ];
        Answered::of(self.respond_to("POST", target, &headers, Body::from(body.to_string())).await).await
    }

    async fn ask_as_it_is(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Answered {
        Answered::of(self.respond(method, target, headers).await).await
    }

    async fn respond(&self, method: &str, target: &str, headers: &[(&str, &str)]) -> Response {
        self.respond_to(method, target, headers, Body::empty()).await
    }

    async fn respond_to(&self, method: &str, target: &str, headers: &[(&str, &str)], body: Body) -> Response {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let api = SessionApi {
            engine: self.engine.clone(),
            upstream_secrets: UpstreamSecrets::new([Secret::new(SECRET)]),
            expose_tokens: self.expose_tokens,
            login_path: "/auth/login".to_owned(),
        };
        api.into_router().oneshot(request.body(body).unwrap()).await.unwrap()
    }

    async fn events(&self) -> Events {
        let bearer = format!("Bearer {SECRET}");
        let response = self.respond("GET", "/v1/events", &[("authorization", &bearer)]).await;
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Events(response.into_body())
    }
}

struct Answered {
    status: StatusCode,
    body: Bytes,
}

impl Answered {
    async fn of(response: Response) -> Self {
        let (status, body) = (response.status(), response.into_body().collect().await.unwrap().to_bytes());
        Self { status, body }
    }

    #[track_caller]
    fn document(&self) -> Value {
        let document = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(self.status, StatusCode::OK, "{document}");
        document
    }

    /// Fails unless it is this example, letter by letter.
    #[track_caller]
    fn assert_is(&self, when: &str, what: &str) {
        let examples = examples();
        let errors = examples["errors"].as_array().unwrap();
        let example = errors.iter().find(|example| example["when"] == when).expect("there is an example");
        assert_eq!(self.status.as_u16(), example["status"], "{what}");
        assert_eq!(serde_json::from_slice::<Value>(&self.body).unwrap(), example["body"], "{what}");
    }
}

struct Events(Body);

impl Events {
    /// The next event; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Value> {
        let frame = tokio::time::timeout(Duration::from_secs(10), self.0.frame()).await.expect("in time")?;
        let text = String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap();
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        Some(
            json!({"event": field("event:"), "data": serde_json::from_str::<Value>(field("data:")).unwrap()}),
        )
    }
}

fn examples() -> Value {
    serde_json::from_str(EXAMPLES).unwrap()
}

/// The same with every value replaced by its kind. What claims and tokens there are is not the API's to say.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| match name.as_str() {
                "claims" | "tokens" => (name.clone(), json!({})),
                "event" => (name.clone(), value.clone()),
                _ => (name.clone(), shape(value)),
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "text".into(),
        Value::Bool(_) => "yes or no".into(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn without_the_secret_there_is_nothing() {
    let world = World::new().await;
    let api = world.api();
    let handle = api.sign_in().await.to_string();
    for (method, target) in [
        ("GET", "/v1/session"),
        ("DELETE", "/v1/session"),
        ("GET", "/v1/session/token"),
        ("POST", "/v1/session/refresh"),
        ("GET", "/v1/events"),
        // Nor is anything told of what there is.
        ("PUT", "/v1/session"),
        ("GET", "/v1/nothing"),
        ("GET", "/"),
    ] {
        let short = format!("Bearer {}", &SECRET[1..]);
        let long = format!("Bearer {SECRET}x");
        let other_scheme = format!("Basic {SECRET}");
        let lacks_space = format!("Bearer{SECRET}");
        let table: [&[(&str, &str)]; 9] = [
            &[],
            &[("authorization", "")],
            &[("authorization", "Bearer ")],
            &[("authorization", &short)],
            &[("authorization", &long)],
            &[("authorization", &other_scheme)],
            &[("authorization", &lacks_space)],
            &[("authorization", "Bearer \u{e4}")],
            &[("authorization", SECRET)],
        ];
        for headers in table {
            let headers = [headers, &[(SESSION_HEADER, &*handle)]].concat();
            let response = api.respond(method, target, &headers).await;
            let challenge = response.headers()[header::WWW_AUTHENTICATE].clone();
            let wrong =
                headers.iter().any(|(name, value)| *name == "authorization" && value.starts_with("Bearer "));
            // RFC 6750, section 3.1: who has shown nothing is told no error.
            let expected = if wrong {
                r#"Bearer realm="freshgate", error="invalid_token""#
            } else {
                r#"Bearer realm="freshgate""#
            };
            assert_eq!(challenge, expected, "{headers:?}");
            let answered = Answered::of(response).await;
            answered.assert_is("secret", &format!("{method} {target} {headers:?}"));
        }
    }
    let still_there = api.ask("GET", "/v1/session", &[(SESSION_HEADER, &handle)]).await;
    assert_eq!(still_there.document()["generation"], 1, "and nothing was done");
}

#[tokio::test]
async fn what_cannot_be_read_is_said() {
    let world = World::new().await;
    let api = world.api();
    let handle = &*api.sign_in().await.to_string();
    let long = format!("{handle}A");
    for (method, target) in [
        ("GET", "/v1/session"),
        ("DELETE", "/v1/session"),
        ("GET", "/v1/session/token"),
        ("POST", "/v1/session/refresh"),
    ] {
        for bad in [None, Some(""), Some("x"), Some(&handle[1..]), Some(&*long), Some("ä"), Some("../../x")]
        {
            let headers: Vec<_> = bad.iter().map(|bad| (SESSION_HEADER, *bad)).collect();
            let answered = api.ask(method, target, &headers).await;
            answered.assert_is("handle", &format!("{method} {target} {bad:?}"));
        }
    }
    for bad in ["x", "", "-1", "NaN", "inf", "1e40", "30s", "30&min_validity=60"] {
        let target = format!("/v1/session/token?min_validity={bad}");
        api.ask("GET", &target, &[(SESSION_HEADER, handle)]).await.assert_is("min_validity", bad);
    }
    for (method, target) in [("GET", "/v1/session/token"), ("POST", "/v1/session/refresh")] {
        for bad in ["x", "", "-1", "NaN", "inf", "1e40", "20s"] {
            let headers = [(SESSION_HEADER, handle), ("freshgate-timeout", bad)];
            api.ask(method, target, &headers).await.assert_is("timeout", &format!("{method} {bad}"));
        }
    }
    for (method, target) in [
        ("POST", "/v1/session"),
        ("DELETE", "/v1/session/token"),
        ("GET", "/v1/session/refresh"),
        ("POST", "/v1/events"),
    ] {
        api.ask(method, target, &[(SESSION_HEADER, handle)]).await.assert_is("method", target);
    }
    for target in ["/", "/v1", "/v1/", "/v1/session/", "/v1/session/other", "/v2/session"] {
        api.ask("GET", target, &[(SESSION_HEADER, handle)]).await.assert_is("path", target);
    }
}

#[tokio::test]
async fn the_document_of_a_session() {
    let world = World::new().await;
    let mut api = world.api();
    let key = api.sign_in().await;
    let examples = examples();
    let [full, bare] = &examples["documents"].as_array().unwrap()[..] else { panic!("two examples") };

    let document = api.ask_about(key, "GET", "/v1/session").await.document();
    assert_eq!(shape(&document), shape(full));
    assert_eq!(document["session"], key.to_string());
    assert_eq!((&document["provider"], &document["generation"]), (&"default".into(), &1.into()));
    assert_eq!(document["claims"]["sub"], "ada");
    assert_eq!(document["outcome"], "not_needed");
    let (expires_at, fresh_until) = (&document["expires_at"], &document["fresh_until"]);
    assert_eq!(expires_at.as_f64().unwrap() - fresh_until.as_f64().unwrap(), 30.0);

    for expose_tokens in [(false, false), (true, false), (false, true), (true, true)]
        .map(|(id, access)| ExposedTokens { id, access })
    {
        api.expose_tokens = expose_tokens;
        for (method, target) in
            [("GET", "/v1/session"), ("GET", "/v1/session/token"), ("POST", "/v1/session/refresh")]
        {
            let document = api.ask_about(key, method, target).await.document();
            let freshgate::engine::Opened::Open(session) = api.engine.open(key).await.unwrap() else {
                panic!("open")
            };
            let mut expected = json!({});
            if expose_tokens.access {
                expected["access"] = session.tokens().access_token.expose().into();
            }
            if expose_tokens.id {
                expected["id"] = session.tokens().id_token.as_ref().unwrap().expose().into();
            }
            assert_eq!(document["tokens"], expected, "{expose_tokens:?} {target}");
        }
    }

    // A token of no known end that cannot be renewed.
    world
        .script(json!({"endpoint": "token:code", "times": 1, "action": {"omit": ["refresh_token", "expires_in"]}}))
        .await;
    let key = api.sign_in().await;
    let document = api.ask_about(key, "GET", "/v1/session/token").await.document();
    assert_eq!(shape(&document), shape(bare));
}

#[tokio::test]
async fn a_token_is_refreshed_when_it_lives_less_than_was_asked_for() {
    let world = World::new().await;
    let api = world.api();
    let key = api.sign_in().await;
    // Tokens live five minutes. What is left of them, what is asked for, and what comes of it.
    let table = [
        (300, "", "not_needed"),
        (300, "?min_validity=0", "not_needed"),
        // Never more than a fifth of the lifetime.
        (300, "?min_validity=250", "not_needed"),
        (50, "", "not_needed"),
        (50, "?min_validity=40.5", "not_needed"),
        (50, "?min_validity=55", "refreshed"),
        (50, "?min_validity=250", "refreshed"),
        (20, "?min_validity=0", "not_needed"),
        (20, "", "refreshed"),
    ];
    for (left, query, outcome) in table {
        api.engine.refresh(key, DEFAULT_TIMEOUT).await.unwrap();
        world.advance(300 - left).await;
        let before = api.ask_about(key, "GET", "/v1/session").await.document();
        let after = api.ask_about(key, "GET", &format!("/v1/session/token{query}")).await.document();
        assert_eq!(after["outcome"], outcome, "{left} s left, {query}");
        assert_eq!(before["tokens"] == after["tokens"], outcome == "not_needed", "{left} s left, {query}");
        assert_eq!(before["outcome"], "not_needed", "this one never asks the provider");
    }
}

#[tokio::test]
async fn a_token_that_lives_is_served_while_the_provider_is_away() {
    let world = World::new().await;
    let api = world.api();
    let key = api.sign_in().await;
    world.advance(280).await;
    let answer = json!({"respond": {"status": 429, "headers": {"Retry-After": "7"}}});
    world.script(json!({"endpoint": "token:refresh", "times": 1, "action": answer})).await;
    let before = api.ask_about(key, "GET", "/v1/session").await.document();
    for (reason, longest) in [("provider_unavailable", 7.0), ("backing_off", 7.0)] {
        let now = world.clock.now().as_unix_seconds_f64();
        let kept = api.ask_about(key, "GET", "/v1/session/token").await.document();
        assert_eq!((&kept["outcome"], &kept["reason"]), (&"kept".into(), &reason.into()));
        assert_eq!(kept["tokens"], before["tokens"]);
        let fresh_until = kept["fresh_until"].as_f64().unwrap();
        assert!(now < fresh_until, "it is not asked for at each read");
        // Whatever the machine takes, it is from then on that it counts.
        assert!(fresh_until <= world.clock.now().as_unix_seconds_f64() + longest);
        assert!(fresh_until <= kept["expires_at"].as_f64().unwrap());
    }
    let forced = api.ask_about(key, "POST", "/v1/session/refresh").await;
    assert_eq!(forced.status, StatusCode::SERVICE_UNAVAILABLE);

    // It may be tried again later than the token lives.
    let answer = json!({"respond": {"status": 429, "headers": {"Retry-After": "500"}}});
    world.script(json!({"endpoint": "token:refresh", "times": 1, "action": answer})).await;
    world.advance(8).await;
    let kept = api.ask_about(key, "GET", "/v1/session/token").await.document();
    assert_eq!((&kept["outcome"], &kept["fresh_until"]), (&"kept".into(), &kept["expires_at"]));
    world.advance(20).await;
    let over = api.ask_about(key, "GET", "/v1/session/token").await;
    assert_eq!(over.status, StatusCode::SERVICE_UNAVAILABLE, "never a dead one");
}

#[tokio::test]
async fn a_token_that_cannot_be_renewed_serves_as_long_as_it_lives() {
    let world = World::new().await;
    let api = world.api();
    world.script(json!({"endpoint": "token:code", "times": 1, "action": {"omit": ["refresh_token"]}})).await;
    let key = api.sign_in().await;
    let signed_in = api.ask_about(key, "GET", "/v1/session").await.document();
    world.advance(290).await;
    let living = api.ask_about(key, "GET", "/v1/session/token").await.document();
    assert_eq!((&living["tokens"], &living["outcome"]), (&signed_in["tokens"], &"not_needed".into()));
    world.advance(20).await;
    let over = api.ask_about(key, "GET", "/v1/session/token").await;
    assert_eq!(over.status, StatusCode::CONFLICT, "never a dead one");
}

#[tokio::test]
async fn every_refusal_is_the_documented_one() {
    let world = World::new().await;
    let mut shown = vec!["secret", "handle", "min_validity", "timeout", "method", "path"];
    let refreshed = ("POST", "/v1/session/refresh");
    let answer = |status: u16| json!({"respond": {"status": status, "headers": {"Retry-After": "7"}}});
    let table = [
        ("unknown", None, ("GET", "/v1/session")),
        ("unknown", None, ("GET", "/v1/session/token")),
        ("unknown", None, refreshed),
        ("logout", None, ("GET", "/v1/session")),
        ("logout", None, ("GET", "/v1/session/token")),
        ("logout", None, refreshed),
        ("refused", Some(json!({"respond": {"status": 400, "body": {"error": "invalid_grant"}}})), refreshed),
        ("no_refresh_token", None, refreshed),
        ("unavailable", Some(answer(503)), refreshed),
        ("unavailable", Some(answer(429)), refreshed),
        ("deadline", Some(json!({"delay_after_ms": 500})), refreshed),
    ];
    for (when, fault, (method, target)) in table {
        let api = world.api();
        if when == "no_refresh_token" {
            world
                .script(json!({"endpoint": "token:code", "times": 1, "action": {"omit": ["refresh_token"]}}))
                .await;
        }
        let key = match when {
            "unknown" => SessionKey::from_bytes([7; 32]),
            _ => api.sign_in().await,
        };
        if when == "logout" {
            let answered = api.ask_about(key, "DELETE", "/v1/session").await;
            assert_eq!((answered.status, &answered.body[..]), (StatusCode::NO_CONTENT, &b""[..]));
        }
        if let Some(fault) = fault {
            world.script(json!({"endpoint": "token:refresh", "times": 1, "action": fault})).await;
        }
        let timeout = if when == "deadline" { "0.05" } else { "20" };
        let headers = [(SESSION_HEADER, &*key.to_string()), ("freshgate-timeout", timeout)];
        api.ask(method, target, &headers).await.assert_is(when, &format!("{when} {method} {target}"));
        api.engine.finish().await;
        shown.push(when);
    }
    for (when, target, body) in [
        ("parameter", "/v1/login", json!({"provider": "default", "parameters": {"state": "x"}})),
        ("provider", "/v1/login", json!({"provider": "nobody"})),
        (
            "not_exposed",
            "/v1/session/authorization",
            json!({"method": "GET", "url": "https://api.example.com"}),
        ),
    ] {
        let mut api = world.api();
        let key = api.sign_in().await;
        api.expose_tokens = ExposedTokens::default();
        api.post_about(key, target, &body).await.assert_is(when, target);
        shown.push(when);
    }
    // Ending what has ended, or was never there, is no failure: it is over.
    let key = SessionKey::from_bytes([8; 32]);
    assert_eq!(world.api().ask_about(key, "DELETE", "/v1/session").await.status, StatusCode::NO_CONTENT);

    world.store.close().await;
    for (method, target) in [("GET", "/v1/session"), ("DELETE", "/v1/session")] {
        world.api().ask_about(key, method, target).await.assert_is("store", method);
    }
    shown.push("store");

    // No example is left out, and the documentation lists the same statuses and codes.
    let examples = examples();
    let examples = examples["errors"].as_array().unwrap();
    let mut documented: Vec<String> =
        DOCS.lines().filter(|line| line.starts_with("| 4") || line.starts_with("| 5")).map(code_of).collect();
    let mut given: Vec<String> = Vec::new();
    for example in examples {
        assert!(shown.contains(&example["when"].as_str().unwrap()), "{} is not shown", example["when"]);
        given.push(format!("{} {}", example["status"], example["body"]["error"].as_str().unwrap()));
    }
    documented.sort();
    given.sort();
    given.dedup();
    assert_eq!(given, documented);
}

/// `| 404 | `not_found` | …` as `404 not_found`.
fn code_of(row: &str) -> String {
    let mut cells = row.split('|').map(|cell| cell.trim().trim_matches('`'));
    cells.next();
    [cells.next().unwrap(), cells.next().unwrap()].join(" ")
}

#[tokio::test]
async fn events_tell_what_happens_and_end_when_some_were_missed() {
    let world = World::new().await;
    let api = world.api();
    let key = api.sign_in().await;
    let examples = examples();
    let [ready, changed, ended] = &examples["events"].as_array().unwrap()[..] else { panic!("three") };
    let mut events = api.events().await;
    assert_eq!(events.next().await.as_ref(), Some(ready));

    api.ask_about(key, "POST", "/v1/session/refresh").await.document();
    let event = events.next().await.unwrap();
    assert_eq!(shape(&event), shape(changed));
    assert_eq!(
        (&event["data"]["session"], &event["data"]["generation"]),
        (&key.to_string().into(), &2.into())
    );

    api.ask_about(key, "DELETE", "/v1/session").await;
    let event = events.next().await.unwrap();
    assert_eq!(shape(&event), shape(ended));
    assert_eq!(event["data"], json!({"session": key.to_string(), "reason": "logout"}));

    // Who begins to follow the store's changes may have missed some.
    api.sign_in().await;
    tokio::spawn(api.engine.clone().watch_neighbours(CancellationToken::new()));
    assert_eq!(events.next().await, None, "the stream ends, and the app reads its sessions again");
    let mut again = api.events().await;
    assert_eq!(again.next().await.as_ref(), Some(ready));
}
