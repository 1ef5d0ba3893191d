//! What people read when the parts cannot be put together: of real failures, not of made-up ones.

use std::fs;

use freshgate::provider::{ProviderConfig, TransportOptions};
use freshgate_devidp::{
    DevClient, DevProvider, DevProviderConfig, Dpop, RunningProvider, Scripting, SigningAlgorithm,
};
use freshgate_oidc::ClientCredential;
use serde_json::{Value, json};

use super::*;
use crate::config::Look;

const CALLBACK: &str = "http://localhost:8501/oauth2callback";

/// The problem as people read it, with names that are another each time replaced.
#[track_caller]
fn shown(problem: &StartupProblem, names: &[(&str, &str)]) -> String {
    let text = problem.render(Look::Plain);
    assert!(text.contains("= help: "), "there is no mend:\n{text}");
    names.iter().fold(text, |text, (found, name)| text.replace(found, name))
}

#[tokio::test]
async fn addresses_that_cannot_be_listened_on() {
    let taken = bind("127.0.0.1:0".parse().unwrap(), "--listen").await.unwrap();
    let address = taken.local_addr().unwrap();
    let problem = bind(address, "--operator-listen").await.unwrap_err();
    insta::assert_snapshot!("address_is_taken", shown(&problem, &[(&address.to_string(), "127.0.0.1:PORT")]));
    // An address for documentation (RFC 5737): no machine's.
    let problem = bind("192.0.2.1:8501".parse().unwrap(), "--listen").await.unwrap_err();
    insta::assert_snapshot!("address_is_not_this_machines", shown(&problem, &[]));
    // Who runs the tests may be allowed to, or have no such trouble.
    for (name, kind) in [
        ("address_is_reserved", io::ErrorKind::PermissionDenied),
        ("address_fails_otherwise", io::ErrorKind::OutOfMemory),
    ] {
        let problem = bind_problem("127.0.0.1:80".parse().unwrap(), "--listen", &kind.into());
        insta::assert_snapshot!(name, shown(&problem, &[]));
    }
}

#[test]
fn stores_that_cannot_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let inside = |name: &str| folder.path().join(name);
    fs::write(inside("notes.txt"), "these are notes, and no database\n".repeat(100)).unwrap();
    fs::create_dir(inside("folder")).unwrap();
    let folder_name = folder.path().display().to_string();
    let names = [(folder_name.as_str(), "/folder")];
    for (name, path) in [
        ("store_is_something_else", "notes.txt"),
        ("store_is_a_folder", "folder"),
        ("store_is_in_a_file", "notes.txt/sessions.db"),
    ] {
        let path = inside(path);
        let Err(error) = SqliteStore::open(&path) else { panic!("{name}: it opens") };
        insta::assert_snapshot!(name, shown(&store_problem(&path, &error), &names));
    }
    let newer = StoreError::NewerSchema { location: "/folder/sessions.db".to_owned(), found: 9, known: 1 };
    insta::assert_snapshot!(
        "store_is_newer",
        shown(&store_problem(Path::new("/folder/sessions.db"), &newer), &names)
    );
}

async fn provider() -> RunningProvider {
    provider_with(Dpop::Taken).await
}

async fn provider_with(dpop: Dpop) -> RunningProvider {
    let mut config = DevProviderConfig::new("127.0.0.1:0".parse().unwrap());
    config.clients.push(DevClient::confidential("app", Secret::new("client secret"), CALLBACK));
    config.signing_algorithm = SigningAlgorithm::Es256;
    config.scripting = Scripting::On;
    config.dpop = dpop;
    DevProvider::bind(config).await.unwrap()
}

/// A provider whose metadata is said to be there.
fn configured(metadata_url: &str) -> ConfiguredProvider {
    let metadata_url = Url::parse(metadata_url).unwrap();
    let secret = ClientCredential::Secret(Secret::new("client secret"));
    let scope = "openid".to_owned();
    let provider = ProviderConfig { scope, ..ProviderConfig::new("work", metadata_url, "app", secret) };
    ConfiguredProvider { provider, transport: TransportOptions::default() }
}

async fn script(at: &RunningProvider, rule: Value) {
    let request = freshgate::provider::ProviderRequest {
        method: http::Method::POST,
        url: Url::parse(&format!("{}/_script", at.issuer())).unwrap(),
        headers: http::HeaderMap::from_iter([(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        )]),
        body: rule.to_string().into(),
        answer_limit: 1 << 20,
        connection: freshgate::provider::Connection::Kept,
    };
    let transport = HttpTransport::new(&TransportOptions::default()).unwrap();
    let answer = freshgate::provider::Transport::send(&transport, request).await.unwrap();
    assert_eq!(answer.status, http::StatusCode::CREATED, "{rule}");
}

#[tokio::test]
async fn providers_that_cannot_be_used() {
    let running = provider().await;
    let wants_proofs = provider_with(Dpop::Required).await;
    let issuer = running.issuer().to_owned();
    let good = configured(&running.metadata_url());
    let names = [(issuer.as_str(), "http://127.0.0.1:PORT")];
    let ask = async |configured: &ConfiguredProvider| {
        ask_providers(&[super::provider(configured).unwrap()], &Url::parse(CALLBACK).unwrap()).await
    };
    ask(&good).await.unwrap();

    let elsewhere = configured(&format!("{issuer}/realm/.well-known/openid-configuration"));
    let by_name = running.metadata_url().replace("127.0.0.1", "localhost");
    let mut wrong_secret = good.clone();
    wrong_secret.provider.credential = ClientCredential::Secret(Secret::new("hunter2"));
    let metadata = |action: Value| Some(json!({"endpoint": "discovery", "times": 1, "action": action}));
    for (name, configured, rule) in [
        ("provider_is_not_there", elsewhere, None),
        ("provider_has_another_issuer", configured(&by_name), None),
        ("provider_refuses_this_client", wrong_secret, None),
        (
            "provider_shows_a_page",
            good.clone(),
            metadata(json!({"respond": {"status": 200, "body": "<p>hello</p>"}})),
        ),
        ("provider_wants_proofs", configured(&wants_proofs.metadata_url()), None),
        ("provider_breaks_the_specification", good.clone(), metadata(json!({"omit": ["token_endpoint"]}))),
    ] {
        if let Some(rule) = rule {
            script(&running, rule).await;
        }
        let problems = ask(&configured).await.unwrap_err();
        let [problem] = &problems[..] else { panic!("{name}: {problems:?}") };
        let by_name = names[0].0.replace("127.0.0.1", "localhost");
        let names = [names[0], (by_name.as_str(), "http://localhost:PORT")];
        let shown = shown(problem, &names);
        assert!(!shown.contains("hunter2") && !shown.contains("client secret"), "{shown}");
        insta::assert_snapshot!(name, shown);
    }
    // One that is merely away is no reason not to start.
    running.shutdown().await;
    ask(&good).await.unwrap();
}

#[test]
fn connections_to_a_provider_that_cannot_be_set_up() {
    let mut configured = configured("https://id.example.com/.well-known/openid-configuration");
    configured.transport.extra_roots =
        vec![b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec()];
    let Err(problem) = super::provider(&configured) else { panic!("it is set up") };
    insta::assert_snapshot!("provider_has_a_bad_certificate", shown(&problem, &[]));
}
