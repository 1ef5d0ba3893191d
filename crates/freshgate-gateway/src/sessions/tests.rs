//! The commands on a store that a real engine and the development provider filled: stopped, and running.

use std::{path::PathBuf, time::Duration};

use clap::Parser as _;
use freshgate::{
    clock::Clock,
    engine::Opened,
    events::SessionEvent,
    provider::{Connection, HttpTransport, ProviderRequest, Transport as _, TransportOptions},
    session::{EndReason, SessionKey},
    store::{Store, Tombstone},
};
use freshgate_oidc::{ClientCredential, Secret, Timestamp};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::*;
use crate::{
    cli::{Cli, Command},
    config::{self, Environment, Look},
    test_gate::TestGate,
};

/// What commands say of a gate's sessions.
struct World(TestGate);

impl std::ops::Deref for World {
    type Target = TestGate;

    fn deref(&self) -> &TestGate {
        &self.0
    }
}

impl std::ops::DerefMut for World {
    fn deref_mut(&mut self) -> &mut TestGate {
        &mut self.0
    }
}

impl World {
    async fn new() -> Self {
        Self(TestGate::new().await)
    }

    /// What a command says, or why it fails.
    async fn say(&self, arguments: &[&str]) -> Result<String, String> {
        self.say_answered(arguments, None).await
    }

    async fn say_answered(&self, arguments: &[&str], answer: Option<bool>) -> Result<String, String> {
        let command = parse(arguments);
        let (config, _) = config::load_sessions(command.which(), &self.environment())
            .map_err(|report| format!("{report:?}"))?;
        let store = SqliteStore::open(&config.store).unwrap();
        let engine = engine_of(store.clone(), &config);
        let mut out = Vec::new();
        let done = match &command {
            Sessions::End(end) => end::end(&engine, end, &mut Person(answer), &mut out).await,
            _ => carry_out(&command, &engine, &mut out).await,
        };
        store.close().await;
        let said = String::from_utf8(out).unwrap();
        for token in &self.tokens {
            assert!(!said.contains(token.as_str()), "a token shows:\n{said}");
        }
        done.map(|()| said).map_err(|failed| failed.problem().render(Look::Plain))
    }

    /// Ends a session, with a configuration that describes the provider.
    async fn end_there_too(&self, key: SessionKey) -> String {
        let provider = &self.config.providers[0].provider;
        let ClientCredential::Secret(secret) = &provider.credential else { panic!("it has a secret") };
        let secrets = format!(
            "[auth]\ncookie_secret = '{}'\nclient_id = '{}'\nclient_secret = '{}'\nserver_metadata_url = '{}'\n",
            self.config.cookie_secret.expose(),
            provider.client_id,
            secret.expose(),
            provider.metadata_url,
        );
        let folder = self.folder.path().join(".streamlit");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("secrets.toml"), secrets).unwrap();
        let store = format!("sqlite:{}", self.store.location().display());
        let handle = start_of(key);
        // Last, after two dashes: one in 64 begins with a dash itself.
        let arguments = ["freshgate", "sessions", "end", "--yes", "--store", &store, "--", &handle];
        let Ok(Cli { command: Command::Sessions(command) }) = Cli::try_parse_from(arguments) else {
            panic!("good")
        };
        let (config, _) = config::load_sessions(command.which(), &self.environment())
            .unwrap_or_else(|report| panic!("{report:?}"));
        let engine = engine_of(self.store.clone(), &config);
        let mut out = Vec::new();
        carry_out(&command, &engine, &mut out).await.unwrap();
        String::from_utf8(out).unwrap()
    }

    async fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.say(arguments).await.unwrap()).expect("one JSON document")
    }
}

/// Whoever sits at the terminal answers so; `None`: nobody does.
struct Person(Option<bool>);

impl end::Ask for Person {
    fn ask(&mut self, _: &str) -> io::Result<Option<bool>> {
        Ok(self.0)
    }
}

fn engine_of(store: SqliteStore, config: &SessionsConfig) -> Engine {
    let keyring = keys::keyring(&config.keys, &config.cookie_secret).unwrap();
    let providers = config.providers.iter().map(|each| gate::provider(each).unwrap()).collect();
    engine(store, keyring, config, providers)
}

fn parse(arguments: &[&str]) -> Sessions {
    // Handles come last, after two dashes: one in 64 begins with a dash itself.
    let (name, arguments) = arguments.split_first().unwrap();
    let all = ["freshgate", "sessions", name, "--dev"].into_iter().chain(arguments.iter().copied());
    match Cli::try_parse_from(all) {
        Ok(Cli { command: Command::Sessions(sessions) }) => sessions,
        Ok(_) => panic!("another command"),
        Err(error) => panic!("{error}"),
    }
}

fn start_of(key: SessionKey) -> String {
    key.to_string()[..8].to_owned()
}

#[tokio::test]
async fn the_sessions_of_a_gate_that_stopped_are_listed_and_shown() {
    let mut world = World::new().await;
    let ada = world.sign_in("ada").await.key();
    let grace = world.sign_in("grace").await.key();
    let over = world.sign_in("ada").await.key();
    world.refresh(ada).await;
    world.engine.end(over, EndReason::Logout).await.unwrap();
    world.stop().await;

    let listed = world.say(&["list"]).await.unwrap();
    assert_eq!(listed.lines().count(), 3, "{listed}");
    assert!(
        listed.contains("ada@") && listed.contains("grace@") && listed.contains("expires in"),
        "{listed}"
    );
    assert!(listed.contains("refreshed, ") && listed.contains("none yet"), "{listed}");
    let of_ada = world.say(&["list", "--user", "ADA", "--ended"]).await.unwrap();
    assert!(of_ada.contains("ended: logout, ") && !of_ada.contains("grace"), "{of_ada}");
    assert_eq!(world.say(&["list", "--provider", "other"]).await.unwrap(), "No such session.\n");
    assert_eq!(world.say(&["list", "--limit", "1"]).await.unwrap().lines().count(), 2);

    let shown = world.say(&["show", &start_of(ada)]).await.unwrap();
    for expected in
        [&*ada.to_string(), "live", "a lifetime of 5 min", "signed in, after", "refreshed, after", "email"]
    {
        assert!(shown.contains(expected), "{expected} in:\n{shown}");
    }
    assert!(!shown.contains("email: \""), "{shown}");
    let claims = world.say(&["show", &start_of(ada), "--claims"]).await.unwrap();
    assert!(claims.contains("  email: \"ada@"), "{claims}");
    let shown = world.say(&["show", &start_of(over)]).await.unwrap();
    assert!(shown.contains("the user signed out [logout]") && shown.contains("ada@"), "{shown}");
    assert!(shown.contains("signed in, after"), "its history is kept:\n{shown}");

    let all = world.json(&["list", "--ended", "--json"]).await;
    let sessions = all["sessions"].as_array().unwrap();
    assert_eq!(sessions.len(), 3);
    let of = |key: SessionKey| {
        let handle = key.to_string();
        sessions.iter().find(|session| session["session"] == *handle).unwrap()
    };
    assert_eq!((&of(grace)["state"], &of(grace)["ended"]), (&"live".into(), &Value::Null));
    assert_eq!(of(over)["ended"]["reason"], "logout");
    assert_eq!(of(ada)["last_refresh"]["what"], "refreshed");
    assert_eq!(world.json(&["list", "--user", "nobody", "--json"]).await["sessions"], Value::Array(vec![]));
    let one = world.json(&["show", &ada.to_string(), "--json", "--claims"]).await;
    assert_eq!(one["claims"]["sub"], one["sub"]);
    assert!(
        one["tokens"]["refresh_bytes"].is_number() && one["history"].as_array().unwrap().len() == 2,
        "{one}"
    );
    world.0.provider.shutdown().await;
}

#[tokio::test]
async fn a_running_gate_learns_of_an_end_within_a_second() {
    let mut world = World::new().await;
    let stop = CancellationToken::new();
    let watch = tokio::spawn(world.engine.clone().watch_neighbours(stop.clone()));
    let (ada, grace) = (world.sign_in("ada").await.key(), world.sign_in("grace").await.key());
    let mut events = world.engine.events();
    let said = world.say(&["end", "--yes", "--", &start_of(ada)]).await.unwrap();
    assert!(said.ends_with(" is ended\n") && said.contains("ada@"), "{said}");
    let told = async {
        loop {
            if let SessionEvent::Ended { key, reason } = events.recv().await.unwrap() {
                break (key, reason);
            }
        }
    };
    // Generous, for a machine that is busy: the promise is a second.
    let told = tokio::time::timeout(Duration::from_secs(10), told).await.expect("the gate is told");
    assert_eq!(told, (ada, EndReason::Operator));
    assert!(matches!(world.engine.open(ada).await.unwrap(), Opened::Ended(EndReason::Operator)));
    assert!(matches!(world.engine.open(grace).await.unwrap(), Opened::Open(_)));
    let shown = world.say(&["show", &start_of(ada)]).await.unwrap();
    assert!(shown.contains("an operator ended it [operator]"), "{shown}");
    stop.cancel();
    watch.await.unwrap();
    world.stop().await;
    world.0.provider.shutdown().await;
}

#[tokio::test]
async fn an_end_is_asked_for_and_means_one_user() {
    let mut world = World::new().await;
    let (one, two) = (world.sign_in("ada").await.key(), world.sign_in("ada").await.key());
    let grace = world.sign_in("grace").await.key();
    let user =
        match world.say(&["show", &start_of(one), "--json"]).await.map(|text| serde_json::from_str(&text)) {
            Ok(Ok(Value::Object(session))) => session["user"].as_str().unwrap().to_owned(),
            other => panic!("{other:?}"),
        };
    let refused = world.say_answered(&["end", "--user", &user], None).await.unwrap_err();
    assert!(refused.contains("no terminal to ask at") && refused.contains("--yes"), "{refused}");
    let refused = world.say_answered(&["end", "--user", &user], Some(false)).await.unwrap_err();
    assert!(refused.contains("nothing was ended"), "{refused}");
    let refused = world.say(&["end", "--user", "da", "--yes"]).await.unwrap_err();
    assert!(refused.contains("there is no live session of da"), "{refused}");
    for key in [one, two, grace] {
        assert!(matches!(world.engine.open(key).await.unwrap(), Opened::Open(_)));
    }

    let said = world.say_answered(&["end", "--user", &user.to_uppercase()], Some(true)).await.unwrap();
    assert_eq!(said.lines().count(), 2, "{said}");
    world.stop().await;
    let left = world.json(&["list", "--json"]).await;
    assert_eq!(left["sessions"].as_array().unwrap().len(), 1);
    assert_eq!(left["sessions"][0]["session"], *grace.to_string());
    let again = world.say(&["end", "--yes", "--", &start_of(one), &start_of(one)]).await.unwrap();
    assert!(again.ends_with("had ended before: operator\n") && again.lines().count() == 1, "{again}");
    world.0.provider.shutdown().await;
}

#[tokio::test]
async fn a_handle_that_means_none_or_several_is_refused() {
    let world = World::new().await;
    let key = |last: u8| {
        let mut bytes = [7; 32];
        bytes[31] = last;
        SessionKey::from_bytes(bytes)
    };
    let now = Timestamp::from_unix_seconds(1_900_000_000);
    let tombstone = Tombstone { reason: EndReason::Idle, ended_at: now };
    for last in [4, 8] {
        world.store.end(key(last), tombstone, now, None).await.unwrap();
    }
    let whole = key(4).to_string();
    let refused = world.say(&["show", &whole[..20]]).await.unwrap_err();
    assert!(refused.contains("more than one session begins with"), "{refused}");
    assert!(refused.contains(&whole[..42]), "it says how to go on: {refused}");
    let shown = world.say(&["show", &whole]).await.unwrap();
    assert!(shown.contains("idle timeout") && shown.contains("nothing is known of it"), "{shown}");
    let listed = world.say(&["list", "--ended"]).await.unwrap();
    let handles: Vec<_> = listed.lines().skip(1).filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(handles.len(), 2);
    assert!(handles[0] != handles[1] && handles[0].len() >= 42, "{listed}");

    for (handle, expected) in [
        ("zzzz", "there is no session that begins with zzzz"),
        ("a b", "`a b` is no handle"),
        ("", "is no handle"),
    ] {
        let refused = world.say(&["show", handle]).await.unwrap_err();
        assert!(refused.contains(expected), "{refused}");
        let refused = world.say(&["end", &whole, handle, "--yes"]).await.unwrap_err();
        assert!(refused.contains(expected), "nothing is ended if one is wrong: {refused}");
    }
    world.stop().await;
    world.0.provider.shutdown().await;
}

#[tokio::test]
async fn a_long_list_is_read_in_pages() {
    let mut world = World::new().await;
    world.sign_in("ada").await;
    let now = SystemClock.now();
    for number in 0..1_200_u32 {
        let key = SessionKey::from_bytes(freshgate_oidc::sha256(&number.to_be_bytes()));
        let tombstone = Tombstone { reason: EndReason::Logout, ended_at: now };
        world.store.end(key, tombstone, now + Duration::from_secs(60), None).await.unwrap();
    }
    assert_eq!(world.say(&["list", "--ended"]).await.unwrap().lines().count(), 1_202);
    assert_eq!(world.json(&["list", "--ended", "--json"]).await["sessions"].as_array().unwrap().len(), 1_201);
    assert_eq!(world.say(&["list", "--ended", "--limit", "700"]).await.unwrap().lines().count(), 701);
    assert_eq!(world.say(&["list"]).await.unwrap().lines().count(), 2);
    world.stop().await;
    world.0.provider.shutdown().await;
}

#[test]
fn what_cannot_be_found_is_a_bad_configuration_with_a_mend() {
    let folder = tempfile::tempdir().unwrap();
    let environment = Environment::new(folder.path().to_owned(), None, []);
    let refused = |arguments: &[&str]| {
        let all = ["freshgate", "sessions", "list"].iter().chain(arguments);
        let Ok(Cli { command: Command::Sessions(sessions) }) = Cli::try_parse_from(all) else {
            panic!("good")
        };
        config::load_sessions(sessions.which(), &environment).unwrap_err().render(Look::Plain)
    };
    let in_memory = refused(&["--store", "memory:"]);
    assert!(in_memory.contains("only the gate itself sees sessions in its memory"), "{in_memory}");
    assert!(in_memory.contains("--store sqlite:PATH"), "{in_memory}");
    let absent = refused(&[]);
    assert!(absent.contains("there is no session store `.freshgate/sessions.db`"), "{absent}");
    assert!(absent.contains("`auth.cookie_secret` is missing") && absent.contains("--dev"), "{absent}");
    let dev = refused(&["--dev"]);
    assert!(
        dev.contains(".freshgate/dev/sessions.db") && dev.contains(".freshgate/dev/cookie-secret"),
        "{dev}"
    );
    let named = refused(&["--store", "sqlite:other.db"]);
    assert!(named.contains("there is no such file"), "{named}");
    assert!(!folder.path().join(".freshgate").exists(), "nothing is made");
}

#[test]
fn a_cookie_secret_is_all_that_is_needed() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("sessions.db"), "").unwrap();
    let secret = "hunter2-0123456789-0123456789-0123456789";
    let variables = [("FRESHGATE_COOKIE_SECRET".to_owned(), secret.into())];
    let environment = Environment::new(folder.path().to_owned(), None, variables);
    let all = ["freshgate", "sessions", "list", "--store", "sqlite:sessions.db"];
    let Ok(Cli { command: Command::Sessions(sessions) }) = Cli::try_parse_from(all) else { panic!("good") };
    let (config, notes) = config::load_sessions(sessions.which(), &environment).unwrap();
    assert_eq!(config.cookie_secret, Secret::new(secret));
    assert_eq!(config.store, PathBuf::from(folder.path()).join("sessions.db"));
    assert!(!format!("{config:?}{notes:?}").contains("hunter2"));
}

#[tokio::test]
async fn an_operator_ends_a_session_at_the_provider_too() {
    let mut world = World::new().await;
    let ada = world.sign_in("ada").await;
    let answers = async || {
        let authorization = format!("Bearer {}", ada.tokens().access_token.expose());
        let request = ProviderRequest {
            method: http::Method::GET,
            url: Url::parse(&format!("{}/userinfo", world.provider.issuer())).unwrap(),
            headers: http::HeaderMap::from_iter([(
                http::header::AUTHORIZATION,
                http::HeaderValue::from_str(&authorization).unwrap(),
            )]),
            body: bytes::Bytes::new(),
            answer_limit: 1 << 20,
            connection: Connection::Kept,
        };
        HttpTransport::new(&TransportOptions::default()).unwrap().send(request).await.unwrap().status
    };
    assert_eq!(answers().await, http::StatusCode::OK);
    let said = world.end_there_too(ada.key()).await;
    assert!(said.ends_with(" is ended\n1 refresh token revoked at the provider\n"), "{said}");
    assert_eq!(answers().await, http::StatusCode::UNAUTHORIZED, "its grant is gone");
}
