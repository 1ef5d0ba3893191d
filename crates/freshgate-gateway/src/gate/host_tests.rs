//! The whole gate with several hosts: which of them gets a request, and one login for all of them.

use std::time::Duration;

use freshgate_web::{AccessRule, ForwardAuth, ToldBy};
use url::Url;

use super::serve_tests::{World, at, told};
use crate::{
    config::{Config, Told, Upstream},
    listener::{ForwardedHeader, TrustedProxies, tests::raw::App},
    test_gate::choose,
};

fn at_host(app: &App, host: &str) -> Upstream {
    Upstream { host: Some(host.into()), ..at(app, "") }
}

fn one_login(config: &mut Config) {
    config.cookie_domain = Some("localhost".into());
}

/// A header of an answer.
fn header<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.split("\r\n").filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

#[tokio::test]
async fn each_app_gets_what_is_for_its_host_and_path() {
    let (main, wiki, old) = (App::start().await, App::start().await, App::start().await);
    let upstreams = vec![
        at(&main, ""),
        Upstream { told: Told { assertion: true, ..Told::default() }, ..at_host(&wiki, "wiki.localhost") },
        Upstream { path: "/old".into(), ..at_host(&old, "wiki.localhost") },
    ];
    let world = World::start(upstreams, Duration::ZERO, one_login).await;
    let cookie = format!("Cookie: freshgate={}\r\n", world.cookie);
    let port = world.address.port();
    for (host, path, app) in [
        ("localhost", "/old/x", &main),
        ("127.0.0.1", "/x", &main),
        ("wiki.localhost", "/x", &wiki),
        ("WIKI.localhost", "/x", &wiki),
        ("wiki.localhost", "/old/x", &old),
        ("wiki.localhost", "/older", &wiki),
    ] {
        let (_client, (first, headers)) = tokio::join!(world.ask_at(host, path, &cookie), told(app));
        assert_eq!(first, format!("GET {path} HTTP/1.1"), "{host}");
        assert_eq!(headers["freshgate-session"], world.key.to_string(), "one login is for all: {host}");
        let public = if host.eq_ignore_ascii_case("wiki.localhost") { "wiki.localhost" } else { "localhost" };
        assert_eq!(headers["x-forwarded-host"], format!("{public}:{port}"));
        if std::ptr::eq(app, &wiki) {
            let payload = headers["freshgate-assertion"].split('.').nth(1).unwrap().to_owned();
            let claims: serde_json::Value =
                serde_json::from_slice(&freshgate_oidc::from_base64url(&payload).unwrap()).unwrap();
            assert_eq!(claims["iss"], format!("http://localhost:{port}"));
            assert_eq!(claims["aud"], format!("http://wiki.localhost:{port}"));
        }
    }
    for host in ["localhost", "wiki.localhost"] {
        let head = world.ask_at(host, "/.well-known/freshgate/jwks.json", "").await.head().await;
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "the keys are where the issuer is: {head}");
    }
    for host in ["evil.test", "localhost.evil.test", "xwiki.localhost", "wiki.localhost.", "10.0.0.1"] {
        let head = world.ask_at(host, "/auth/login", "Accept: text/html\r\n").await.head().await;
        assert!(head.starts_with("HTTP/1.1 421 Misdirected Request\r\n"), "{host}: {head}");
    }
    world.open.close().await;
}

#[tokio::test]
async fn who_names_two_hosts_gets_none() {
    let (main, wiki) = (App::start().await, App::start().await);
    let world =
        World::start(vec![at(&main, ""), at_host(&wiki, "wiki.localhost")], Duration::ZERO, |config| {
            one_login(config);
            config.proxies =
                TrustedProxies::new(["127.0.0.1/32".parse().unwrap()], ForwardedHeader::XForwarded);
        })
        .await;
    let misdirected = "HTTP/1.1 421 Misdirected Request\r\n";
    for (host, by_proxy, expected) in [
        // What some proxies pass on as a client wrote it.
        ("wiki.localhost", "localhost", Err(misdirected)),
        ("localhost", "WIKI.localhost:80", Err(misdirected)),
        ("localhost", "evil.test", Err(misdirected)),
        ("WIKI.localhost", "wiki.localhost", Ok(&wiki)),
        ("127.0.0.1", "localhost", Ok(&main)),
        // The name that the proxy has for us.
        ("freshgate.internal", "wiki.localhost", Ok(&wiki)),
    ] {
        let more = format!("X-Forwarded-Host: {by_proxy}\r\n");
        let client = world.ask_at(host, "/x", &more);
        match expected {
            Ok(app) => drop(tokio::join!(client, told(app))),
            Err(expected) => {
                let head = client.await.head().await;
                assert!(head.starts_with(expected), "{host} and {by_proxy}: {head}");
            }
        }
    }
    // Forward auth asks at our host for a request to another.
    let asked = world.ask_at("localhost", "/auth/verify", "X-Forwarded-Host: wiki.localhost\r\n");
    let (_client, (first, _)) = tokio::join!(asked, told(&wiki));
    assert_eq!(first, "GET /auth/verify HTTP/1.1", "nobody asks here, so it is the app's");
    world.open.close().await;
}

#[tokio::test]
async fn a_proxy_may_ask_where_no_app_is() {
    let world = World::start(Vec::new(), Duration::ZERO, |config| {
        config.proxies = TrustedProxies::new(["127.0.0.1/32".parse().unwrap()], ForwardedHeader::XForwarded);
        config.access.require_login = true;
        config.access.forward_auth = Some(ForwardAuth { told_by: ToldBy::Original, tokens: false });
    })
    .await;
    let question = "X-Original-URI: /page\r\nX-Original-Method: GET\r\nSec-Fetch-Mode: cors\r\n";
    let signed_in = format!("Cookie: freshgate={}\r\n", world.cookie);
    for (path, more, expected) in [
        ("/auth/verify", question.to_owned(), "HTTP/1.1 401 "),
        ("/auth/verify", format!("{question}{signed_in}"), "HTTP/1.1 200 "),
        ("/auth/login", "Accept: text/html\r\n".to_owned(), "HTTP/1.1 303 "),
        ("/page", signed_in, "HTTP/1.1 404 "),
    ] {
        let head = world.ask_at("localhost", path, &more).await.head().await;
        assert!(head.starts_with(expected), "{path}: {head}");
    }
    world.open.close().await;
}

#[tokio::test]
async fn rules_of_a_host_are_no_others() {
    let (main, wiki) = (App::start().await, App::start().await);
    let upstreams = vec![at(&main, ""), at_host(&wiki, "wiki.localhost")];
    let world = World::start(upstreams, Duration::ZERO, |config| {
        one_login(config);
        let rule = |path: &str| AccessRule { path: path.into(), conditions: Vec::new() };
        config.access.rules.push(rule("/both"));
        config.access.rules_of_hosts.push(("wiki.localhost".into(), rule("/wiki")));
        config.access.rules_of_hosts.push(("localhost".into(), rule("/main")));
    })
    .await;
    for (host, path) in [
        ("localhost", "/both"),
        ("wiki.localhost", "/both"),
        ("wiki.localhost", "/wiki"),
        ("localhost", "/main"),
    ] {
        let head = world.ask_at(host, path, "").await.head().await;
        assert!(head.starts_with("HTTP/1.1 401 "), "{host}{path}: {head}");
    }
    for (host, path, app) in [("localhost", "/wiki", &main), ("wiki.localhost", "/main", &wiki)] {
        let (_client, (first, _)) = tokio::join!(world.ask_at(host, path, ""), told(app));
        assert_eq!(first, format!("GET {path} HTTP/1.1"));
    }
    world.open.close().await;
}

#[tokio::test]
async fn a_login_at_one_host_is_for_all_and_so_is_a_logout() {
    let (main, wiki) = (App::start().await, App::start().await);
    let mut behind_login = at_host(&wiki, "wiki.localhost");
    behind_login.require_login = Some(true);
    let port = 8501;
    let upstreams = vec![at(&main, ""), behind_login];
    let world = World::start_at(Some(port), upstreams, Duration::ZERO, one_login).await;
    let wiki_origin = format!("http://wiki.localhost:{port}");

    // A page leads to the login of its own host, and that to the one that the provider knows.
    let page = "Accept: text/html\r\n";
    let head = world.ask_at("wiki.localhost", "/page?x=1", page).await.head().await;
    assert_eq!(header(&head, "location"), ["/auth/login?next=%2Fpage%3Fx%3D1"]);
    let head = world.ask_at("wiki.localhost", "/auth/login?next=%2Fpage%3Fx%3D1", page).await.head().await;
    let [moved] = header(&head, "location")[..] else { panic!("{head}") };
    assert!(
        moved.starts_with(&format!("http://localhost:{port}/auth/login?next=http%3A%2F%2Fwiki.")),
        "{moved}"
    );
    assert!(header(&head, "set-cookie").is_empty(), "{head}");
    let path = &moved[format!("http://localhost:{port}").len()..];
    let head = world.ask_at("localhost", path, page).await.head().await;
    let [authorize] = header(&head, "location")[..] else { panic!("{head}") };
    let [flow] = header(&head, "set-cookie")[..] else { panic!("{head}") };
    assert!(flow.starts_with("freshgate-login-") && !flow.contains("Domain"), "{flow}");
    let flow = flow.split_once(';').unwrap().0;

    let callback = choose(authorize, "ada").await;
    assert_eq!(callback.host_str(), Some("localhost"));
    let there = format!("{}?{}", callback.path(), callback.query().unwrap());
    let head = world.ask_at("localhost", &there, &format!("Cookie: {flow}\r\n{page}")).await.head().await;
    assert_eq!(header(&head, "location"), [format!("{wiki_origin}/page?x=1")]);
    let session =
        header(&head, "set-cookie").into_iter().find(|cookie| cookie.starts_with("freshgate=")).unwrap();
    assert!(session.contains("; Domain=localhost; "), "{session}");
    let cookie = format!("Cookie: {}\r\n", session.split_once(';').unwrap().0);
    let (_client, (_, headers)) =
        tokio::join!(world.ask_at("wiki.localhost", "/page?x=1", &cookie), told(&wiki));
    let session = headers["freshgate-session"].clone();
    let (_client, (_, headers)) = tokio::join!(world.ask_at("localhost", "/", &cookie), told(&main));
    assert_eq!(headers["freshgate-session"], session);
    assert!(!headers.contains_key("cookie"), "{headers:?}");

    // A page of one host can neither post to another, nor open its sockets.
    let logout = async |origin: &str| {
        let mut client = crate::listener::tests::raw::Raw::connect(world.address).await;
        let request = format!(
            "POST /auth/logout HTTP/1.1\r\nHost: wiki.localhost:{port}\r\nOrigin: {origin}\r\nContent-Length: 0\r\n{page}{cookie}\r\n"
        );
        client.send(request).await;
        client.head().await
    };
    let socket = format!(
        "Origin: http://localhost:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{cookie}"
    );
    let head = world.ask_at("wiki.localhost", "/ws", &socket).await.head().await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    let head = logout(&format!("http://localhost:{port}")).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");

    let head = logout(&wiki_origin).await;
    let [provider] = header(&head, "location")[..] else { panic!("{head}") };
    let provider = Url::parse(provider).unwrap();
    let parameter = |wanted: &str| {
        provider.query_pairs().find(|(name, _)| name == wanted).map(|(_, value)| value.into_owned()).unwrap()
    };
    assert_eq!(parameter("post_logout_redirect_uri"), format!("http://localhost:{port}/oauth2callback"));
    let cookies = header(&head, "set-cookie");
    assert!(
        cookies.iter().any(|cookie| cookie.starts_with("freshgate=; Path=/; Domain=localhost;")),
        "{head}"
    );
    let state = cookies.iter().find(|cookie| cookie.starts_with("freshgate-logout=")).unwrap();
    for (host, path) in [("localhost", "/auth/user"), ("wiki.localhost", "/page")] {
        let head = world.ask_at(host, path, &cookie).await.head().await;
        assert!(head.starts_with("HTTP/1.1 401 "), "{host}: {head}");
    }
    // The way back is by the host that the provider knows, to the one where the user was.
    let back = format!("/oauth2callback?state={}", parameter("state"));
    let cookie = format!("Cookie: {}\r\n{page}", state.split_once(';').unwrap().0);
    let mut client = world.ask_at("localhost", &back, &cookie).await;
    let head = client.head().await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let length = header(&head, "content-length")[0].parse().unwrap();
    let text = String::from_utf8(client.exactly(length).await).unwrap();
    assert!(text.contains("You are signed out") && text.contains(&format!("{wiki_origin}/")), "{text}");
    // A cookie that another host made up leads nowhere else.
    let forged = cookie.replace(&wiki_origin, "http://evil.test");
    let text = {
        let mut client = world.ask_at("localhost", &back, &forged).await;
        client.head().await
    };
    assert_eq!(header(&text, "location"), ["/"], "{text}");
    world.open.close().await;
}

#[tokio::test]
async fn hosts_that_share_no_login_have_one_each() {
    let (main, wiki) = (App::start().await, App::start().await);
    let upstreams = vec![at(&main, ""), at_host(&wiki, "wiki.localhost")];
    let world = World::start(upstreams, Duration::ZERO, |_| {}).await;
    let head = world.ask_at("wiki.localhost", "/auth/login", "Accept: text/html\r\n").await.head().await;
    let [authorize] = header(&head, "location")[..] else { panic!("{head}") };
    let authorize = Url::parse(authorize).unwrap();
    let redirect_uri =
        authorize.query_pairs().find(|(name, _)| name == "redirect_uri").unwrap().1.into_owned();
    assert_eq!(redirect_uri, format!("http://wiki.localhost:{}/oauth2callback", world.address.port()));
    world.open.close().await;
}
