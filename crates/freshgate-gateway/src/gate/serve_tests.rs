//! The whole gate in front of several apps: which of them gets a request, and what it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use freshgate::{
    Engine, Timestamp,
    clock::{Clock, SystemClock},
    engine::Opened,
    session::{EndReason, SessionKey},
};
use freshgate_web::AccessRule;
use tokio::net::TcpListener;

use crate::{
    config::{Config, Told, Upstream, changed_apps},
    gate::{GateParts, OpenGate},
    listener::tests::raw::{App, Raw},
    session_api::UpstreamSecrets,
    test_gate::{self, TestGate},
};

/// A clock that is ahead of the machine's.
struct Ahead(Duration);

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now() + self.0
    }
}

/// Apps behind a gate, and a user who is signed in at it.
pub(super) struct World {
    gate: TestGate,
    pub(super) open: OpenGate,
    config: Config,
    engine: Engine,
    pub(super) address: std::net::SocketAddr,
    pub(super) cookie: String,
    pub(super) key: SessionKey,
}

impl World {
    /// The gate's clock is so far ahead of the provider's.
    pub(super) async fn start(
        upstreams: Vec<Upstream>,
        ahead: Duration,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::start_at(None, upstreams, ahead, change).await
    }

    /// The same with a public port that the provider knows, whichever is listened on.
    pub(super) async fn start_at(
        public_port: Option<u16>,
        upstreams: Vec<Upstream>,
        ahead: Duration,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        let mut gate = TestGate::new().await;
        let (cookie, session) = gate.sign_in_with_cookie("ada").await;
        let mut config = gate.config.clone();
        change(&mut config);
        let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = public.local_addr().unwrap();
        let public_address = public_port.map(|port| ([127, 0, 0, 1], port).into());
        config.bound_to(public_address.unwrap_or(address));
        let engine = test_gate::engine_on(&config, Arc::new(gate.store.clone()), Arc::new(Ahead(ahead)));
        let parts = GateParts {
            engine: engine.clone(),
            config: config.clone(),
            upstreams,
            upstream_secrets: UpstreamSecrets::new([]),
            operator: None,
        };
        let open = parts.open(public, None, std::future::ready(())).unwrap();
        Self { gate, open, config, engine, address, cookie, key: session.key() }
    }

    /// Sends a request to the gate; `more` are header lines.
    async fn ask(&self, path: &str, more: &str) -> Raw {
        self.ask_at("localhost", path, more).await
    }

    /// The same at a host.
    pub(super) async fn ask_at(&self, host: &str, path: &str, more: &str) -> Raw {
        let mut client = Raw::connect(self.address).await;
        let host = format!("{host}:{}", self.config.public.origin().port().unwrap());
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")).await;
        client
    }

    /// The same by the user who is signed in.
    async fn ask_signed_in(&self, path: &str, more: &str) -> Raw {
        self.ask(path, &format!("Cookie: freshgate={}\r\n{more}", self.cookie)).await
    }

    async fn access_token(&self) -> String {
        match self.engine.open(self.key).await.unwrap() {
            Opened::Open(session) => session.tokens().access_token.expose().to_owned(),
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn at(app: &App, path: &str) -> Upstream {
    Upstream { path: path.into(), ..Upstream::new(app.address.to_string()) }
}

const HEADERS_AND_BEARER: Told = Told { headers: true, bearer: true, assertion: false };

/// What the app reads of the next request: its first line, and its headers.
pub(super) async fn told(app: &App) -> (String, BTreeMap<String, String>) {
    let mut connection = app.accept().await;
    let head = connection.head().await;
    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok").await;
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next().unwrap().to_owned();
    let headers = lines.map(|line| line.split_once(": ").unwrap());
    (first, headers.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

#[tokio::test]
async fn each_app_gets_what_is_for_its_path() {
    let (reports, wiki) = (App::start().await, App::start().await);
    let upstreams = vec![at(&reports, "/reports"), Upstream { strip_path: true, ..at(&wiki, "/wiki") }];
    let world = World::start(upstreams, Duration::ZERO, |_| {}).await;

    let (mut client, (first, headers)) =
        tokio::join!(world.ask_signed_in("/reports/1?x=2", ""), told(&reports));
    assert_eq!(first, "GET /reports/1?x=2 HTTP/1.1");
    assert_eq!(headers["freshgate-session"], world.key.to_string());
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));

    let forged = "X-Forwarded-Prefix: /admin\r\nX_Forwarded_Prefix: /admin\r\n";
    let (_client, (first, headers)) = tokio::join!(world.ask_signed_in("/wiki?x", forged), told(&wiki));
    assert_eq!(first, "GET /?x HTTP/1.1");
    assert_eq!(headers["x-forwarded-prefix"], "/wiki");
    assert!(!headers.contains_key("x_forwarded_prefix"));
    assert_eq!(headers["freshgate-session"], world.key.to_string(), "one login is for both");

    let head = world.ask_signed_in("/elsewhere", "").await.head().await;
    assert!(head.starts_with("HTTP/1.1 404 Not Found\r\n"), "{head}");
    world.open.close().await;
}

#[tokio::test]
async fn an_app_is_told_its_user_and_no_lies() {
    let (app, plain) = (App::start().await, App::start().await);
    let upstreams = vec![Upstream { told: HEADERS_AND_BEARER, ..at(&app, "/told") }, at(&plain, "")];
    let world = World::start(upstreams, Duration::ZERO, |config| config.access.unverified_email = true).await;
    let forged = "Authorization: Bearer forged\r\nAUTHORIZATION: Bearer again\r\nX-Forwarded-User: root\r\n\
                  X_Forwarded_User: root\r\nX-Forwarded-Groups: admin\r\nX-Forwarded-Access-Token: forged\r\n\
                  X-Auth-Request-User: root\r\nRemote_User: root\r\n";

    let (_client, (_, headers)) = tokio::join!(world.ask_signed_in("/told/x", forged), told(&app));
    assert_eq!(headers["authorization"], format!("Bearer {}", world.access_token().await));
    assert_eq!(headers["x-forwarded-user"], "ada");
    assert!(headers["x-forwarded-email"].starts_with("ada@"), "{headers:?}");
    assert!(!headers.values().any(|value| value.contains("root") || value.contains("forged")), "{headers:?}");
    assert!(!headers.values().any(|value| value.contains("again")), "{headers:?}");

    // Who is not signed in has no word to say there either.
    let (_client, (_, headers)) = tokio::join!(world.ask("/told/x", forged), told(&app));
    let about_users = |headers: &BTreeMap<String, String>| -> Vec<String> {
        headers.keys().filter(|name| name.contains("auth") || name.contains("user")).cloned().collect()
    };
    assert_eq!(about_users(&headers), Vec::<String>::new());

    // An app that is handed nothing keeps its own ways of signing in.
    let (_client, (_, headers)) = tokio::join!(world.ask_signed_in("/plain", forged), told(&plain));
    assert_eq!(about_users(&headers), ["authorization"]);
    assert!(headers["authorization"].ends_with("again"), "{headers:?}");
    world.open.close().await;
}

/// Tokens live for 300 seconds in the world of `freshgate dev`.
const ABOUT_TO_EXPIRE: Duration = Duration::from_secs(290);
const EXPIRED: Duration = Duration::from_secs(310);

#[tokio::test]
async fn a_token_that_is_about_to_expire_is_refreshed_before_the_app_gets_it() {
    let app = App::start().await;
    let upstreams = vec![Upstream { told: HEADERS_AND_BEARER, ..at(&app, "") }];
    let world = World::start(upstreams, ABOUT_TO_EXPIRE, |_| {}).await;
    let before = world.access_token().await;
    let (_client, (_, headers)) = tokio::join!(world.ask_signed_in("/", ""), told(&app));
    let after = world.access_token().await;
    assert_ne!(before, after);
    assert_eq!(headers["authorization"], format!("Bearer {after}"));
    world.open.close().await;
}

#[tokio::test]
async fn while_the_provider_is_away_a_token_that_lives_is_good_and_no_other() {
    let app = App::start().await;
    let upstreams = || vec![Upstream { told: HEADERS_AND_BEARER, ..at(&app, "") }];
    let world = World::start(upstreams(), ABOUT_TO_EXPIRE, |_| {}).await;
    let World { gate, open, cookie, .. } = world;
    let TestGate { provider, store, config, folder, .. } = gate;
    provider.shutdown().await;
    open.close().await;
    for (ahead, is_good) in [(ABOUT_TO_EXPIRE, true), (EXPIRED, false)] {
        let public = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = public.local_addr().unwrap();
        let engine = test_gate::engine_on(&config, Arc::new(store.clone()), Arc::new(Ahead(ahead)));
        let upstream_secrets = UpstreamSecrets::new([]);
        let config = config.clone();
        let parts = GateParts { engine, config, upstreams: upstreams(), upstream_secrets, operator: None };
        let open = parts.open(public, None, std::future::ready(())).unwrap();
        let mut client = Raw::connect(address).await;
        let request = format!("GET / HTTP/1.1\r\nHost: localhost:8501\r\nCookie: freshgate={cookie}\r\n\r\n");
        client.send(request).await;
        if is_good {
            let (_, headers) = told(&app).await;
            assert!(headers["authorization"].starts_with("Bearer "));
        }
        let head = client.head().await;
        if is_good {
            assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        } else {
            assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{head}");
            assert!(head.contains("\r\nretry-after: "), "{head}");
        }
        drop(client);
        open.close().await;
    }
    drop(folder);
}

#[tokio::test]
async fn where_only_a_login_helps_a_page_leads_to_it() {
    let app = App::start().await;
    let upstreams = vec![Upstream { told: HEADERS_AND_BEARER, ..at(&app, "") }];
    let world = World::start(upstreams, ABOUT_TO_EXPIRE, |_| {}).await;
    world.gate.revoke_at_provider("ada").await;
    let page = "Accept: text/html\r\n";
    let head = world.ask_signed_in("/reports?x=1", page).await.head().await;
    assert!(head.starts_with("HTTP/1.1 303 See Other\r\n"), "{head}");
    assert!(head.contains("\r\nlocation: /auth/login?next=%2Freports%3Fx%3D1\r\n"), "{head}");
    match world.engine.open(world.key).await.unwrap() {
        Opened::Ended(EndReason::Refused) => {}
        other => panic!("{other:?}"),
    }
    world.open.close().await;
}

#[tokio::test]
async fn a_reload_changes_the_apps_and_drops_no_connection() {
    let (old, new) = (App::start().await, App::start().await);
    let world = World::start(vec![at(&old, "")], Duration::ZERO, |_| {}).await;

    // A request that the old app has not finished to answer, and after it another on the same connection.
    let mut client = world.ask_signed_in("/slow", "").await;
    let mut connection = old.accept().await;
    connection.head().await;
    connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    client.expect("first").await;
    world.open.reload(&world.config, &[at(&new, "")], Vec::new(), &BTreeSet::new()).unwrap();
    connection.send("later").await;
    client.expect("later").await;

    let host = format!("localhost:{}", world.address.port());
    client.send(format!("GET /next HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let (first, _) = told(&new).await;
    assert_eq!(first, "GET /next HTTP/1.1");
    assert!(client.head().await.starts_with("HTTP/1.1 200 OK\r\n"));
    world.open.close().await;
}

#[tokio::test]
async fn a_reload_closes_the_sockets_of_apps_that_changed_and_no_others() {
    let (one, two, new) = (App::start().await, App::start().await, App::start().await);
    let before = vec![at(&one, "/one"), at(&two, "/two")];
    let world = World::start(before.clone(), Duration::ZERO, |_| {}).await;
    let handshake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                     Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let agreed = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let mut sockets = Vec::new();
    for (app, path) in [(&one, "/one/ws"), (&two, "/two/ws")] {
        let mut client = world.ask_signed_in(path, handshake).await;
        let mut upstream = app.accept().await;
        upstream.head().await;
        upstream.send(agreed).await;
        assert!(client.head().await.starts_with("HTTP/1.1 101 "));
        sockets.push((client, upstream));
    }
    let mut download = world.ask_signed_in("/one/large", "").await;
    let mut serving = one.accept().await;
    serving.head().await;
    serving.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await;
    assert!(download.head().await.starts_with("HTTP/1.1 200 OK\r\n"));

    let after = vec![at(&one, "/one"), at(&new, "/two")];
    let changed = changed_apps((&world.config, &before), (&world.config, &after));
    world.open.reload(&world.config, &after, Vec::new(), &changed).unwrap();
    let [(one_client, one_upstream), (two_client, _)] = &mut sockets[..] else { panic!("two") };
    two_client.expect_end().await;
    one_client.send("hello").await;
    one_upstream.expect("hello").await;
    one_upstream.send("there").await;
    one_client.expect("there").await;
    serving.send("later").await;
    download.expect("firstlater").await;
    world.open.close().await;
}

/// What changes, and at which of three apps sockets are closed.
#[tokio::test]
async fn an_app_changes_with_its_rules_too() {
    type Change = fn(&mut Config, &mut Vec<Upstream>);
    let rule = |path: &str| AccessRule { path: path.into(), conditions: Vec::new() };
    let apps = || {
        let app = |host: Option<&str>, path: &str| Upstream {
            host: host.map(str::to_owned),
            path: path.into(),
            ..Upstream::new("127.0.0.1:1")
        };
        vec![app(None, ""), app(None, "/two"), app(Some("wiki.localhost"), "")]
    };
    let all: &[&str] = &["/", "/two", "wiki.localhost/"];
    let table: &[(&str, Change, &[&str])] = &[
        ("nothing", |_, _| {}, &[]),
        ("the order", |_, apps| apps.reverse(), &[]),
        ("limits", |config, _| config.limits.sockets_per_session = 1, &[]),
        ("an address", |_, apps| apps[1].address = "127.0.0.1:2".into(), &["/two"]),
        ("an app is gone", |_, apps| drop(apps.remove(1)), &["/", "/two"]),
        (
            "an app takes a path",
            |_, apps| apps.push(Upstream { path: "/two/x".into(), ..apps[1].clone() }),
            &["/", "/two"],
        ),
        ("a login of one", |_, apps| apps[2].require_login = Some(true), &["wiki.localhost/"]),
        ("a login of all", |config, _| config.access.require_login = true, all),
        ("an address counts", |config, _| config.access.unverified_email = true, all),
        ("the domain", |config, _| config.cookie_domain = Some("localhost".into()), all),
    ];
    let gate = TestGate::new().await;
    for (what, change, expected) in table {
        let (mut config, mut now) = (gate.config.clone(), apps());
        change(&mut config, &mut now);
        let changed = changed_apps((&gate.config, &apps()), (&config, &now));
        assert_eq!(changed.iter().map(String::as_str).collect::<Vec<_>>(), *expected, "{what}");
    }
    for (path, host, expected) in [
        ("/two/x", None, &["/", "/two"][..]),
        ("/three", None, &["/"]),
        ("/", Some("wiki.localhost"), &["wiki.localhost/"]),
    ] {
        let mut config = gate.config.clone();
        match host {
            Some(host) => config.access.rules_of_hosts.push((host.to_owned(), rule(path))),
            None => config.access.rules.push(rule(path)),
        }
        let changed = changed_apps((&gate.config, &apps()), (&config, &apps()));
        let expected: Vec<&str> =
            if host.is_none() { [expected, &["wiki.localhost/"]].concat() } else { expected.to_vec() };
        assert_eq!(changed.iter().map(String::as_str).collect::<Vec<_>>(), expected, "{path}");
    }
}

#[tokio::test]
async fn an_assertion_is_for_one_app_and_a_minute() {
    let (wiki, plain) = (App::start().await, App::start().await);
    let told_by_assertion = Told { assertion: true, ..Told::default() };
    let upstreams = vec![Upstream { told: told_by_assertion, ..at(&wiki, "/wiki") }, at(&plain, "")];
    let world = World::start(upstreams, Duration::ZERO, |_| {}).await;
    let forged = "Freshgate-Assertion: forged\r\nFreshgate_Assertion: forged\r\n";
    let (_client, (_, headers)) = tokio::join!(world.ask_signed_in("/wiki/", forged), told(&wiki));
    let payload = headers["freshgate-assertion"].split('.').nth(1).unwrap().to_owned();
    let claims: serde_json::Value =
        serde_json::from_slice(&freshgate_oidc::from_base64url(&payload).unwrap()).unwrap();
    let origin = format!("http://localhost:{}", world.address.port());
    assert_eq!((claims["iss"].as_str(), claims["sub"].as_str()), (Some(&*origin), Some("ada")));
    assert_eq!(claims["aud"], format!("{origin}/wiki"));
    assert_eq!(claims["sid"], world.key.to_string());
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    assert_eq!(claims["email"], "ada@example.com");
    assert!(!headers.values().any(|value| value == "forged"));
    // Who is not signed in, and an app that asked for none, get none.
    for (path, app) in [("/wiki/", &wiki), ("/", &plain)] {
        let (_client, (_, headers)) = tokio::join!(world.ask(path, forged), told(app));
        assert!(!headers.keys().any(|name| name.contains("assertion")), "{headers:?}");
    }
    let mut keys = world.ask("/.well-known/freshgate/jwks.json", "").await;
    let head = keys.head().await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.contains("application/json"), "{head}");
    world.open.close().await;
}

/// A browser that speaks HTTP/2 to the gate: the app reads what it would read by HTTP/1.1, and what ends with the session ends by
/// itself.
#[tokio::test]
async fn a_browser_may_speak_http_2() {
    use crate::listener::tests::{
        http2::{Client, empty, text},
        tls::{FIRST, Files},
    };
    use http_body_util::BodyExt as _;
    let app = App::start().await;
    let files = Files::with(FIRST);
    let tls = files.load().unwrap();
    let world = World::start(vec![at(&app, "")], Duration::ZERO, |config| config.tls = Some(tls)).await;
    let mut client = Client::connect(world.address).await;
    let port = world.address.port();
    let request = |path: &str| {
        http::Request::builder()
            .uri(format!("https://localhost:{port}{path}"))
            .header("cookie", "theme=dark")
            .header("cookie", format!("freshgate={}", world.cookie))
            .header("cookie", "x=1")
            .header("x_forwarded_user", "root")
            .header("freshgate-session", "forged")
            .body(empty())
            .unwrap()
    };
    let (answer, (first, headers)) = tokio::join!(client.send(request("/page?x=1")), told(&app));
    assert_eq!(text(answer.unwrap()).await, "ok");
    assert_eq!(first, "GET /page?x=1 HTTP/1.1");
    assert_eq!(headers["host"], format!("localhost:{port}"));
    assert_eq!(headers["cookie"], "theme=dark; x=1");
    assert_eq!(headers["freshgate-session"], world.key.to_string());
    assert!(!headers.values().any(|value| value == "root" || value == "forged"), "{headers:?}");

    // Nothing but the stream of events ends with the session.
    let (events, mut connection) = tokio::join!(client.send(request("/events")), async {
        let mut connection = app.accept().await;
        connection.head().await;
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n";
        connection.send(head).await;
        connection
    });
    let mut events = events.unwrap();
    assert_eq!(events.frame().await.unwrap().unwrap().into_data().unwrap(), "data: 1\n\n");
    let (download, mut slow) = tokio::join!(client.send(request("/download")), async {
        let mut connection = app.accept().await;
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst").await;
        connection
    });
    world.engine.end(world.key, EndReason::Logout).await.unwrap();
    let cut = crate::listener::tests::raw::in_time("it is cut off", events.frame()).await;
    assert!(cut.unwrap().is_err());
    connection.expect_end().await;
    slow.send("later").await;
    assert_eq!(text(download.unwrap()).await, "firstlater");
    let answer = client.send(request("/auth/user")).await.unwrap();
    assert_eq!(answer.status(), http::StatusCode::UNAUTHORIZED);
    drop(client);
    world.open.close().await;
}
