//! `freshgate dev`.

use std::time::Duration;

use freshgate::clock::SystemEntropy;
use freshgate_devidp::Rotation;

use super::{super::*, Case, client_secret};

#[test]
fn nothing_needs_to_be_written_down() {
    let case = Case::new();
    let (dev, report) = case.dev(&["app.py"]).unwrap();
    assert!(report.is_empty(), "{report:?}");
    assert_eq!(dev.listen.to_string(), "127.0.0.1:8501");
    assert_eq!(dev.provider_listen.to_string(), "127.0.0.1:8510");
    assert_eq!(dev.token_lifetime, Duration::from_secs(300));
    assert_eq!(dev.rotation, Rotation::On { grace: Duration::ZERO });
    assert_eq!(dev.users, ["ada", "grace"]);
    assert!(!case.path(".freshgate").exists(), "reading the configuration changes nothing");
}

#[test]
fn its_flags_and_variables() {
    let case = Case::new().variable("FRESHGATE_DEV_USERS", "ada,lin").variable("FRESHGATE_DEV_GRACE", "5s");
    let (dev, _) = case
        .dev(&[
            "app.py",
            "--token-lifetime",
            "10s",
            "--provider-listen",
            "[::1]:9",
            "--user",
            "b",
            "--user",
            "c",
        ])
        .unwrap();
    assert_eq!(dev.token_lifetime, Duration::from_secs(10));
    assert_eq!(dev.provider_listen.to_string(), "[::1]:9");
    assert_eq!(dev.rotation, Rotation::On { grace: Duration::from_secs(5) });
    assert_eq!(dev.users, ["b", "c"]);
    let (dev, _) = case.dev(&["app.py", "--rotation", "off"]).unwrap();
    assert_eq!(dev.rotation, Rotation::Off);
    assert_eq!(dev.users, ["ada", "lin"]);
}

#[test]
fn gate_and_provider_know_each_other_and_remember_it() {
    let case = Case::new();
    let (mut dev, _) =
        case.dev(&["app.py", "--listen", "127.0.0.1:0", "--", "--server.baseUrlPath=x"]).unwrap();
    dev.bound_to("127.0.0.1:1234".parse().unwrap());
    let provider = dev.provider(&SystemEntropy).unwrap();
    let issuer = "http://127.0.0.1:8510";
    let gate = dev.gate(issuer, &SystemEntropy).unwrap();
    let at_gate = &gate.providers[0].provider;
    let at_provider = &provider.clients[0];
    assert_eq!(at_gate.client_id, at_provider.id);
    assert_eq!(Some(client_secret(at_gate)), at_provider.secret.as_ref());
    assert_eq!(at_provider.redirect_uris, [gate.public.redirect_uri().to_string()]);
    assert_eq!(gate.public.redirect_uri().as_str(), "http://localhost:1234/x/oauth2callback");
    assert_eq!(at_gate.issuer.to_string(), "http://127.0.0.1:8510");
    assert_eq!(at_gate.metadata_url.as_str(), "http://127.0.0.1:8510/.well-known/openid-configuration");
    assert_eq!(gate.store, StoreLocation::Sqlite(case.path(".freshgate/dev/sessions.db")));

    let (again, _) = case.dev(&["app.py"]).unwrap();
    let again = again.gate(issuer, &SystemEntropy).unwrap();
    assert_eq!(again.cookie_secret, gate.cookie_secret);
    assert_eq!(client_secret(&again.providers[0].provider), client_secret(at_gate));
    assert_eq!(std::fs::read_to_string(case.path(".freshgate/.gitignore")).unwrap(), "*\n");
}

#[test]
fn it_listens_on_loopback_whoever_says_where() {
    let in_config = |text| Case::new().file(".streamlit/config.toml", text);
    insta::assert_snapshot!(
        [
            Case::new().dev(&["app.py", "--listen", "0.0.0.0:8501"]),
            Case::new().variable("FRESHGATE_LISTEN", "192.0.2.1:80").dev(&["app.py"]),
            Case::new().file("freshgate.toml", "listen = \"[::]:8501\"\n").dev(&["app.py"]),
            Case::new().dev(&["app.py", "--", "--server.address=0.0.0.0"]),
            in_config("[server]\naddress = \"0.0.0.0\"\nport = 9000\n").dev(&["app.py"]),
        ]
        .map(|report| report.unwrap_err().render(Look::Plain))
        .join("\n")
    );
    // A port alone says nothing of the address.
    assert!(in_config("[server]\nport = 9000\n").dev(&["app.py"]).is_ok());
}

#[test]
fn problems() {
    let report = Case::new().dev(&[
        "--token-lifetime",
        "300",
        "--rotation",
        "maybe",
        "--provider-listen",
        "0.0.0.0:8510",
        "--user",
        "jörg",
    ]);
    let report = report.unwrap_err().render(Look::Plain);
    insta::assert_snapshot!(report);
}
