//! Checks against the development provider in all the states that it can be told to be in.

use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf, sync::Mutex};

use clap::Parser as _;
use freshgate::provider::{Connection, ProviderAnswer, ProviderRequest, Transport as _};
use freshgate_devidp::{
    DevClient, DevProvider, DevProviderConfig, DevUser, Rotation, RunningProvider, Scripting,
};
use freshgate_oidc::Secret;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::*;
use crate::{
    cli::{Cli, Command},
    config::{self, Environment},
    listener::tests::tls::FIRST,
};

/// A folder with a configuration, and a provider that can be told to be otherwise.
struct World {
    folder: TempDir,
    provider: RunningProvider,
    port: u16,
    /// Holds the port, so that nobody else is given it, until something is to listen there.
    reserved: Mutex<Option<TcpSocket>>,
    variables: Vec<(&'static str, String)>,
}

impl World {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut DevProviderConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let reserved = TcpSocket::new_v4().unwrap();
        reserved.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = reserved.local_addr().unwrap().port();
        let mut config = DevProviderConfig {
            clients: vec![DevClient::confidential(
                "app",
                Secret::new("hunter2-of-the-client"),
                format!("http://localhost:{port}/oauth2callback"),
            )],
            users: vec![DevUser::named("ada")],
            scripting: Scripting::On,
            ..DevProviderConfig::new("127.0.0.1:0".parse().unwrap())
        };
        change(&mut config);
        let provider = DevProvider::bind(config).await.unwrap();
        let world =
            Self { folder, provider, port, reserved: Mutex::new(Some(reserved)), variables: Vec::new() };
        world.python(r#"{"python": "3.12.1", "streamlit": "1.67.0", "newest_known_streamlit": "1.67.0", "problem": null}"#)
    }

    /// A Python that says this of itself.
    fn python(self, says: &str) -> Self {
        let path = self.path("python");
        fs::write(&path, format!("#!/bin/sh\ncat <<'END'\n{says}\nEND\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        self
    }

    fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.path(name), text).unwrap();
        self
    }

    fn variable(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((name, value.into()));
        self
    }

    /// The socket at the gate's address: once.
    fn socket(&self) -> TcpSocket {
        self.reserved.lock().unwrap().take().expect("nothing has listened there")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Tells the provider to be otherwise.
    async fn script(self, path: &str, what: Value) -> Self {
        let url = format!("{}{path}", self.provider.issuer());
        let answer = send(Method::POST, &url, Some(what)).await;
        assert!(answer.status.is_success(), "{}", String::from_utf8_lossy(&answer.body));
        self
    }

    async fn rule(self, endpoint: &str, action: Value) -> Self {
        self.script("/_script", json!({"endpoint": endpoint, "action": action})).await
    }

    /// Of this document.
    async fn says(self, endpoint: &str, set: Value) -> Self {
        self.rule(endpoint, json!({"set": set})).await
    }

    async fn omits(self, endpoint: &str, members: Value) -> Self {
        self.rule(endpoint, json!({"omit": members})).await
    }

    fn environment(&self) -> Environment {
        let issuer = self.provider.issuer();
        let mut variables = vec![
            ("FRESHGATE_LISTEN", format!("127.0.0.1:{}", self.port)),
            ("FRESHGATE_REDIRECT_URI", format!("http://localhost:{}/oauth2callback", self.port)),
            ("FRESHGATE_COOKIE_SECRET", "hunter2-0123456789-0123456789-0123456789".to_owned()),
            ("FRESHGATE_CLIENT_ID", "app".to_owned()),
            ("FRESHGATE_CLIENT_SECRET", "hunter2-of-the-client".to_owned()),
            ("FRESHGATE_SERVER_METADATA_URL", format!("{issuer}/.well-known/openid-configuration")),
            ("FRESHGATE_PYTHON", self.path("python").display().to_string()),
        ];
        variables.retain(|(name, _)| self.variables.iter().all(|(other, _)| other != name));
        variables.extend(self.variables.iter().cloned());
        let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.into()));
        Environment::new(self.folder.path().to_owned(), None, variables)
    }

    async fn check(&self, arguments: &[&str]) -> Outcome {
        self.check_with(arguments, &mut Nobody).await.unwrap_or_else(|problem| panic!("{problem:?}"))
    }

    async fn check_with(
        &self,
        arguments: &[&str],
        person: &mut dyn Person,
    ) -> Result<Outcome, Vec<StartupProblem>> {
        let all = ["freshgate", "check"].iter().chain(arguments);
        let Ok(Cli { command: Command::Check(command) }) = Cli::try_parse_from(all) else { panic!("good") };
        let (config, notes) =
            config::load_check(&command, &self.environment()).unwrap_or_else(|report| panic!("{report:?}"));
        let asker = Asker { progress: Progress::to(io::sink()), clock: Arc::new(SystemClock) };
        Checking { command: &command, config, asker }.check(&notes, person).await
    }

    /// What a check says, as text in which nothing changes from run to run.
    async fn says_check(&self, arguments: &[&str]) -> String {
        self.normal(&text::render(&self.check(arguments).await, Look::Plain))
    }

    fn normal(&self, text: &str) -> String {
        assert!(!text.contains("hunter2"), "a secret shows:\n{text}");
        let text = text
            .replace(self.provider.issuer(), "http://PROVIDER")
            .replace(self.provider.issuer().trim_start_matches("http://"), "PROVIDER")
            .replace(&format!(":{}", self.port), ":GATE")
            .replace(&self.folder.path().display().to_string(), "/folder");
        // How long something took, and how far a clock is off, to the second.
        let words: Vec<&str> = text.split(' ').collect();
        let shown = words.iter().enumerate().map(|(at, word)| {
            let around = (at.checked_sub(1).map(|at| words[at]), words.get(at + 1), words.get(at + 2));
            let varies = match around {
                (Some("after"), Some(&"ms,"), _) => true,
                (_, Some(&"s"), Some(&then)) => ["ahead", "behind", "after", "before"].contains(&then),
                _ => false,
            };
            if varies && word.parse::<u32>().is_ok() { "N" } else { word }
        });
        shown.collect::<Vec<_>>().join(" ")
    }

    async fn end(self) {
        self.provider.shutdown().await;
    }
}

/// Nobody is there to sign in.
struct Nobody;

impl Person for Nobody {
    fn sign_in_at(&mut self, _: &Url, _: &str) {
        panic!("nobody is to be asked");
    }
}

async fn send(method: Method, url: &str, body: Option<Value>) -> ProviderAnswer {
    let request = ProviderRequest {
        method,
        url: Url::parse(url).unwrap(),
        headers: HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))]),
        body: body.map(|body| body.to_string()).unwrap_or_default().into(),
        answer_limit: 1 << 20,
        connection: Connection::Kept,
    };
    // And the certificate that the tests have for `localhost`.
    let options = TransportOptions { extra_roots: vec![FIRST.0.into()], ..TransportOptions::default() };
    HttpTransport::new(&options).unwrap().send(request).await.unwrap()
}

/// The part of a check that is about the provider.
fn of_provider(text: &str) -> &str {
    let start = text.find("The provider `").unwrap();
    &text[start..]
}

macro_rules! snapshot {
    ($name:ident, $world:expr) => {
        #[tokio::test]
        async fn $name() {
            let world = $world;
            let said = world.says_check(&[]).await;
            insta::assert_snapshot!(of_provider(&said));
            world.end().await;
        }
    };
}

#[tokio::test]
async fn all_is_good() {
    let world = World::new().await;
    let said = world.says_check(&[]).await;
    insta::assert_snapshot!(said);
    assert_eq!(fs::read_dir(world.folder.path()).unwrap().count(), 1, "nothing is made");
    let outcome = world.check(&[]).await;
    insta::assert_snapshot!("all_is_good_in_json", world.normal(&format!("{:#}", json::document(&outcome))));
    world.end().await;
}

snapshot!(
    wrong_issuer,
    World::new().await.says("discovery", json!({"issuer": "https://id.example.com/realms/other"})).await
);
snapshot!(
    no_refresh_tokens,
    World::new()
        .await
        .says(
            "discovery",
            json!({"grant_types_supported": ["authorization_code"], "scopes_supported": ["openid", "email"]})
        )
        .await
);
snapshot!(
    offline_access_is_not_listed,
    World::new().await.says("discovery", json!({"scopes_supported": ["openid", "email"]})).await
);
snapshot!(
    offline_access_is_not_wanted,
    World::new().await.file("freshgate.toml", "[provider.default]\noffline_access = \"never\"\n")
);
snapshot!(
    no_s256,
    World::new().await.says("discovery", json!({"code_challenge_methods_supported": ["plain"]})).await
);
snapshot!(
    nothing_is_listed,
    World::new()
        .await
        .omits(
            "discovery",
            json!([
                "code_challenge_methods_supported",
                "grant_types_supported",
                "scopes_supported",
                "token_endpoint_auth_methods_supported",
                "userinfo_endpoint",
                "end_session_endpoint",
                "backchannel_logout_supported",
                "backchannel_logout_session_supported",
                "id_token_signing_alg_values_supported",
                "revocation_endpoint"
            ])
        )
        .await
);
snapshot!(skewed_clock, World::new().await.script("/_script/clock", json!({"offset_ms": 240_000})).await);
snapshot!(
    slightly_skewed_clock,
    World::new().await.script("/_script/clock", json!({"offset_ms": -20_000})).await
);
snapshot!(keys_missing, World::new().await.says("jwks", json!({"keys": []})).await);
snapshot!(
    keys_for_something_else,
    World::new()
        .await
        .says("jwks", json!({"keys": [{"kty": "oct", "k": "AAAA"}, {"kty": "RSA", "use": "enc", "n": "AAAA", "e": "AQAB"}]}))
        .await
);
snapshot!(keys_refused, World::new().await.rule("jwks", json!({"respond": {"status": 403}})).await);
snapshot!(
    algorithms_that_are_not_accepted,
    World::new()
        .await
        .says("discovery", json!({"id_token_signing_alg_values_supported": ["none", "HS256"]}))
        .await
);
snapshot!(
    moved,
    World::new()
        .await
        .rule("discovery", json!({"respond": {"status": 301, "headers": {"Location": "https://id.example.com/.well-known/openid-configuration"}}}))
        .await
);
snapshot!(
    something_else,
    World::new()
        .await
        .rule(
            "discovery",
            json!({"respond": {"status": 200, "headers": {"Content-Type": "text/html"}, "body": "<p>hello"}})
        )
        .await
);
snapshot!(no_metadata, World::new().await.rule("discovery", json!({"respond": {"status": 404}})).await);
snapshot!(down, World::new().await.rule("discovery", json!({"respond": {"status": 503}})).await);
snapshot!(
    insecure_endpoints,
    World::new().await.says("discovery", json!({"token_endpoint": "http://id.example.com/token"})).await
);
snapshot!(wrong_client_secret, World::new().await.variable("FRESHGATE_CLIENT_SECRET", "another"));
snapshot!(
    no_way_to_authenticate,
    World::new()
        .await
        .says("discovery", json!({"token_endpoint_auth_methods_supported": ["tls_client_auth"]}))
        .await
);
snapshot!(
    redirect_uri_is_not_registered,
    World::with(|config| config.clients[0].redirect_uris =
        vec!["https://other.example.com/oauth2callback".to_owned()])
    .await
);
#[tokio::test]
async fn an_error_that_browsers_are_sent_back_with() {
    let world = World::new().await;
    let location = format!(
        "http://localhost:{}/oauth2callback?error=invalid_scope&error_description=the+scope+%1B%5B31mgroups&state=hunter2",
        world.port
    );
    let world =
        world.rule("authorize", json!({"respond": {"status": 302, "headers": {"Location": location}}})).await;
    let said = world.says_check(&[]).await;
    assert!(said.contains("sends browsers back at once: invalid_scope: the scope"), "{said}");
    assert!(!said.contains('\x1b'), "{said:?}");
    world.end().await;
}

#[tokio::test]
async fn a_provider_that_is_not_there() {
    let world = World::new().await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let world = world
        .variable("FRESHGATE_SERVER_METADATA_URL", format!("http://{gone}/.well-known/openid-configuration"));
    let said = world.says_check(&[]).await.replace(&gone.to_string(), "GONE");
    let said = said.replace(&gone.port().to_string(), "GONE");
    insta::assert_snapshot!("unreachable", of_provider(&said));
    assert_eq!(world.check(&[]).await.verdict(), Verdict::Problem);
    let named = "https://name.invalid/.well-known/openid-configuration";
    let world = World { variables: Vec::new(), ..world }.variable("FRESHGATE_SERVER_METADATA_URL", named);
    let said = world.says_check(&[]).await;
    assert!(said.contains("the name name.invalid cannot be looked up"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn plain_http_where_https_is_expected() {
    let world = World::new().await;
    let issuer = world.provider.issuer().replace("http://", "https://");
    let world =
        world.variable("FRESHGATE_SERVER_METADATA_URL", format!("{issuer}/.well-known/openid-configuration"));
    let said = world.says_check(&[]).await;
    assert!(said.contains("speaks no TLS at port"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn a_browser_address_with_a_proxy_in_front() {
    let world = World::new()
        .await
        .variable("FRESHGATE_REDIRECT_URI", "https://app.invalid/oauth2callback")
        .variable("FRESHGATE_LISTEN", "0.0.0.0:0");
    let said = world.says_check(&[]).await;
    for expected in [
        "for the proxy that ends TLS: it must pass on Host as it is, WebSockets",
        "whoever is on the way from the proxy to it reads them",
        "https://app.invalid/ is not reached from this machine: the name app.invalid cannot be",
    ] {
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(expected), "{expected} in:\n{said}");
    }
    world.end().await;
}

#[tokio::test]
async fn what_listens_in_the_gates_place() {
    let world = World::new().await;
    let listener = world.socket().listen(16).unwrap();
    let app = axum::Router::new().fallback(|| async { (StatusCode::IM_A_TEAPOT, "not a gate") });
    let serving = tokio::spawn(axum::serve(listener, app).into_future());
    let said = world.says_check(&[]).await;
    assert!(said.contains("something else than a gate listens on 127.0.0.1:GATE: status 418"), "{said}");
    let words = world.says_check(&["--login"]).await.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("the address 127.0.0.1:GATE is taken"), "{words}");
    serving.abort();
    world.end().await;
}

#[tokio::test]
async fn a_python_that_will_not_do() {
    let world = World::new().await.python(
        r#"{"python": "3.12.1", "streamlit": "1.40.0", "newest_known_streamlit": "1.67.0",
            "problem": "Streamlit 1.40.0 is too old: 1.50 or newer is needed. Update it: python -m pip install --upgrade streamlit"}"#
            .replace('\n', " ")
            .as_str(),
    );
    let said = world.says_check(&[]).await;
    assert!(
        said.contains("problem  python     Streamlit 1.40.0 is too old: 1.50 or newer is needed"),
        "{said}"
    );
    assert!(said.contains("mend: Update it: python -m pip install"), "{said}");
    let world = world.python("Traceback (most recent call last):\nSyntaxError: something");
    let said = world.says_check(&[]).await;
    assert!(said.contains("cannot tell what it has: SyntaxError: something"), "{said}");
    let world = world.python(
        r#"{"python": "3.12.1", "streamlit": "1.99.0", "newest_known_streamlit": "1.67.0", "problem": null}"#,
    );
    let said = world.says_check(&[]).await;
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("warning python") && words.contains("newer than 1.67.0"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn a_store_that_will_not_do() {
    let world = World::new().await.file("notes.txt", "these are notes, and no database\n");
    for (store, expected) in [
        ("memory:", "warning  store      is in memory"),
        ("sqlite:notes.txt", "problem  store      cannot open the session store"),
        (
            "sqlite:nowhere/sessions.db",
            "problem  store      there is no folder for /folder/nowhere/sessions.db",
        ),
        ("sqlite:sessions.db", "ok       store      /folder/sessions.db is made at the start"),
    ] {
        let said = world.says_check(&["--store", store]).await;
        assert!(said.contains(expected), "{store}: {said}");
    }
    let world = world.file("keys.toml", "nonsense");
    let said = world.says_check(&["--store", "sqlite:sessions.db"]).await;
    assert!(said.contains("problem  keys       the file with the sealing keys cannot be used"), "{said}");
    world.end().await;
}

/// A browser that goes where it is sent, and a provider that signs in whoever comes.
struct Browser {
    socket: Option<TcpSocket>,
    browsing: Option<tokio::task::JoinHandle<(StatusCode, String)>>,
}

impl Person for Browser {
    fn socket(&mut self) -> Option<TcpSocket> {
        self.socket.take()
    }

    fn sign_in_at(&mut self, start: &Url, _: &str) {
        let start = start.to_string();
        self.browsing = Some(tokio::spawn(async move {
            let mut at = start;
            loop {
                let answer = send(Method::GET, &at, None).await;
                match answer.header(header::LOCATION) {
                    Some(location) => at = location.to_owned(),
                    None => break (answer.status, String::from_utf8_lossy(&answer.body).into_owned()),
                }
            }
        }));
    }
}

impl World {
    /// What a check with a login says of it, and what the browser sees last.
    async fn says_login(&self, arguments: &[&str]) -> (String, StatusCode, String) {
        let mut browser = Browser { socket: Some(self.socket()), browsing: None };
        let all: Vec<&str> = ["--login"].iter().chain(arguments).copied().collect();
        let outcome =
            self.check_with(&all, &mut browser).await.unwrap_or_else(|problem| panic!("{problem:?}"));
        let (status, page) = browser.browsing.expect("it was asked").await.unwrap();
        let text = self.normal(&text::render(&outcome, Look::Plain));
        let start = text.find("A login at `").unwrap();
        let end = text[start..].find("\n\n").map_or(text.len(), |end| start + end + 1);
        (text[start..end].to_owned(), status, page)
    }

    async fn signs_in_at_once(self) -> Self {
        self.rule("authorize", json!({"auto_login": "ada"})).await
    }
}

#[tokio::test]
async fn a_login_that_goes_well() {
    let world = World::new().await.signs_in_at_once().await;
    let (said, status, page) = world.says_login(&[]).await;
    insta::assert_snapshot!(said);
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("Signed in."), "{page}");
    // The listener is gone, and no session is left.
    TcpStream::connect(("127.0.0.1", world.port)).await.unwrap_err();
    assert_eq!(fs::read_dir(world.folder.path()).unwrap().count(), 1);
    world.end().await;
}

/// The provider sends the browser to an https address, so that is what must be there.
#[tokio::test]
async fn a_login_where_the_gate_speaks_tls() {
    let with_tls = |config: &mut DevProviderConfig| {
        for address in &mut config.clients[0].redirect_uris {
            *address = address.replace("http://", "https://");
        }
    };
    let world = World::with(with_tls).await.signs_in_at_once().await;
    let world = world.file("cert.pem", FIRST.0).file("key.pem", FIRST.1);
    let (certificate, key) = (world.path("cert.pem"), world.path("key.pem"));
    let redirect_uri = format!("https://localhost:{}/oauth2callback", world.port);
    let world = world
        .variable("FRESHGATE_REDIRECT_URI", redirect_uri)
        .variable("FRESHGATE_TLS_CERTIFICATE", certificate.display().to_string())
        .variable("FRESHGATE_TLS_KEY", key.display().to_string());
    let (said, status, page) = world.says_login(&[]).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    assert!(page.contains("Signed in."), "{page}");
    world.end().await;
}

#[tokio::test]
async fn grace_is_probed_where_that_is_asked_for() {
    let grace = |grace| move |config: &mut DevProviderConfig| config.rotation = Rotation::On { grace };
    let none = World::with(grace(Duration::ZERO)).await.signs_in_at_once().await;
    let (said, ..) = none.says_login(&["--probe-grace"]).await;
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("was refused, and all tokens of this login were revoked"), "{said}");
    none.end().await;

    let some = World::with(grace(Duration::from_secs(60))).await.signs_in_at_once().await;
    let (said, ..) = some.says_login(&["--probe-grace"]).await;
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("was accepted a second time, and the session lives"), "{said}");
    some.end().await;
    let some = World::with(grace(Duration::from_secs(60))).await.signs_in_at_once().await;
    let (said, ..) = some.says_login(&[]).await;
    assert!(!said.contains("grace"), "it is not probed without a word: {said}");
    some.end().await;

    let off = World::with(|config| config.rotation = Rotation::Off).await.signs_in_at_once().await;
    let (said, ..) = off.says_login(&["--probe-grace"]).await;
    assert!(said.contains("the refresh token stays the same") && !said.contains("grace"), "{said}");
    off.end().await;
}

#[tokio::test]
async fn a_login_without_a_refresh_token_and_other_shortcomings() {
    let world = World::new().await.signs_in_at_once().await;
    let world = world
        .rule("token:code", json!({"omit": ["refresh_token", "expires_in"], "set": {"scope": "openid"}}))
        .await;
    let world = world.rule("userinfo", json!({"respond": {"status": 403}})).await;
    let world = world.script("/_script/clock", json!({"offset_ms": 20_000})).await;
    let (said, ..) = world.says_login(&[]).await;
    insta::assert_snapshot!(said);
    world.end().await;
}

#[tokio::test]
async fn a_login_that_does_not_go_well() {
    for (endpoint, action, expected) in [
        ("token:code", json!({"id_token": {"signature": "bad"}}), "was refused"),
        ("userinfo", json!({"set": {"sub": "somebody else"}}), "was refused"),
        ("token:code", json!({"respond": {"status": 503}}), "status 503"),
        (
            "callback",
            json!({"omit": ["code"], "set": {"error": "access_denied"}}),
            "the provider answered access_denied",
        ),
    ] {
        let world = World::new().await.signs_in_at_once().await.rule(endpoint, action).await;
        let (said, status, page) = world.says_login(&[]).await;
        let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("problem sign-in") && words.contains(expected), "{expected} in:\n{said}");
        assert_eq!(status, StatusCode::BAD_GATEWAY);
        assert!(page.contains("did not work"), "{page}");
        world.end().await;
    }
    let world = World::new()
        .await
        .signs_in_at_once()
        .await
        .rule("token:refresh", json!({"respond": {"status": 400, "body": {"error": "invalid_grant"}}}))
        .await;
    let (said, ..) = world.says_login(&[]).await;
    assert!(said.contains("problem  refresh") && said.contains("but a refresh failed"), "{said}");
    world.end().await;
}

#[tokio::test]
async fn a_provider_that_is_not_configured_cannot_be_chosen() {
    let world = World::new().await;
    let problems = world.check_with(&["--login", "--provider", "google"], &mut Nobody).await.unwrap_err();
    assert!(problems[0].render(Look::Plain).contains("there is no provider `google`"), "{problems:?}");
    assert!(problems[0].render(Look::Plain).contains("choose from default"), "{problems:?}");
    world.end().await;
}

#[tokio::test]
async fn it_says_what_it_asks_to_whoever_looks() {
    #[derive(Clone, Default)]
    struct Told(Arc<std::sync::Mutex<Vec<u8>>>);
    impl Write for Told {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let world = World::new().await;
    let Ok(Cli { command: Command::Check(command) }) = Cli::try_parse_from(["freshgate", "check"]) else {
        panic!()
    };
    let (config, notes) = config::load_check(&command, &world.environment()).unwrap();
    let told = Told::default();
    let asker = Asker { progress: Progress::to(told.clone()), clock: Arc::new(SystemClock) };
    Checking { command: &command, config, asker }.check(&notes, &mut Nobody).await.unwrap();
    let told = String::from_utf8(told.0.lock().unwrap().clone()).unwrap();
    let told = world.normal(&told.replace("\r\x1b[K", "\n"));
    insta::assert_snapshot!(told);
    assert!(!told.contains("state="), "{told}");
    world.end().await;
}
