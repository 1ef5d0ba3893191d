//! `freshgate check` as a process: exit codes, and where what is said.

use std::process::{Command, Output, Stdio};

use freshgate_devidp::{DevClient, DevProvider, DevProviderConfig};
use freshgate_oidc::Secret;
use serde_json::Value;
use tempfile::TempDir;

struct World {
    folder: TempDir,
    issuer: String,
}

impl World {
    /// Runs the command, with these variables instead of good ones.
    async fn check(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshgate"));
        command.arg("check").args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FRESHGATE") {
                command.env_remove(name);
            }
        }
        command
            // A port that nobody listens on: it is reserved.
            .env("FRESHGATE_LISTEN", "127.0.0.1:1")
            .env("FRESHGATE_REDIRECT_URI", "http://localhost:1/oauth2callback")
            .env("FRESHGATE_COOKIE_SECRET", "hunter2-0123456789-0123456789-0123456789")
            .env("FRESHGATE_CLIENT_ID", "app")
            .env("FRESHGATE_CLIENT_SECRET", "hunter2-of-the-client")
            .env("FRESHGATE_SERVER_METADATA_URL", format!("{}/.well-known/openid-configuration", self.issuer))
            .env("FRESHGATE_PYTHON", self.folder.path().join("python"))
            .envs(variables.iter().copied());
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(!text.contains("hunter2"), "a secret shows:\n{text}");
    assert!(!text.contains('\x1b'), "nothing is coloured where nobody looks:\n{text}");
    text
}

#[tokio::test]
async fn exit_codes_and_where_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let says =
        r#"{"python": "3.12.1", "streamlit": "1.67.0", "newest_known_streamlit": "1.67.0", "problem": null}"#;
    let python = folder.path().join("python");
    std::fs::write(&python, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
    std::fs::set_permissions(&python, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let client = DevClient::confidential(
        "app",
        Secret::new("hunter2-of-the-client"),
        "http://localhost:1/oauth2callback",
    );
    let provider = DevProvider::bind(DevProviderConfig {
        clients: vec![client],
        ..DevProviderConfig::new("127.0.0.1:0".parse().unwrap())
    })
    .await
    .unwrap();
    let world = World { folder, issuer: provider.issuer().to_owned() };

    let good = world.check(&[], &[]).await;
    let said = text(&good.stdout);
    assert_eq!(good.status.code(), Some(0), "{said}");
    assert!(said.ends_with("Everything is as it should be.\n"), "{said}");
    assert_eq!(text(&good.stderr), "", "quiet where nobody looks");

    // A warning is no problem.
    let warned = world.check(&["--store", "memory:"], &[]).await;
    assert_eq!(warned.status.code(), Some(0));
    assert!(text(&warned.stdout).ends_with("1 warning, and no problem.\n"));

    let wrong = world.check(&["--json"], &[("FRESHGATE_CLIENT_SECRET", "another")]).await;
    assert_eq!(wrong.status.code(), Some(1));
    let document: Value = serde_json::from_str(&text(&wrong.stdout)).unwrap();
    assert_eq!((&document["verdict"], &document["problems"]), (&"problem".into(), &1.into()));
    let findings = document["sections"][1]["findings"].as_array().unwrap();
    let problem = findings.iter().find(|finding| finding["verdict"] == "problem").unwrap();
    assert_eq!(problem["topic"], "client");

    // What a proxy answers is not what listens on this machine.
    let proxy = world.issuer.as_str();
    let detour =
        world.check(&["--json"], &[("HTTP_PROXY", proxy), ("http_proxy", proxy), ("NO_PROXY", "")]).await;
    let document: Value = serde_json::from_str(&text(&detour.stdout)).unwrap();
    let findings = document["sections"][0]["findings"].as_array().unwrap();
    let running = findings.iter().find(|finding| finding["topic"] == "running").unwrap();
    assert_eq!(running["verdict"], "ok", "{running}");

    let bad = world.check(&[], &[("FRESHGATE_REDIRECT_URI", "http://app.example.com/oauth2callback")]).await;
    assert_eq!(bad.status.code(), Some(2));
    assert_eq!(text(&bad.stdout), "");
    assert!(text(&bad.stderr).contains("use https: give freshgate a certificate"), "{}", text(&bad.stderr));
    let bad = world.check(&["--login", "--provider", "other"], &[]).await;
    assert_eq!(bad.status.code(), Some(2));
    let bad = world.check(&["--probe-grace"], &[]).await;
    assert_eq!(bad.status.code(), Some(2), "without --login it is nothing");
    provider.shutdown().await;
}
