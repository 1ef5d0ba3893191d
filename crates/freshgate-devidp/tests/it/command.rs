//! The program.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use crate::setting::http;

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_freshgate-devidp"))
}

#[tokio::test]
async fn it_says_when_it_is_ready() {
    let mut child = program()
        .args(["--listen", "127.0.0.1:0", "--client", "app:s3cret:http://localhost:8501/oauth2callback"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let _running = Running(child);
    let line = tokio::task::spawn_blocking(move || BufReader::new(stdout).lines().next().unwrap().unwrap());
    let line = line.await.unwrap();
    let issuer = line.strip_prefix("ready ").unwrap();
    let metadata = http().get(format!("{issuer}/.well-known/openid-configuration")).send().await.unwrap();
    assert!(metadata.text().await.unwrap().contains(issuer));
}

#[test]
fn bad_configuration_is_exit_code_2() {
    for (arguments, reason) in [
        (&["--listen", "0.0.0.0:0"][..], "is not a loopback address"),
        (&["--listen", "nowhere"], "invalid value"),
        (&["--client", "app:secret"], "ID:SECRET:REDIRECT_URI"),
        (&["--client", "app:secret:not an address"], "is not an address"),
        (&["--listen", "127.0.0.1:0", "--issuer", "ftp://x"], "neither http nor https"),
        (&["--access-token-lifetime", "0s"], "the lifetime of access tokens"),
        (&["--backchannel-logout-uri", "app=http://x/"], "there is no --client"),
    ] {
        let output = program().args(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains(reason), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn an_address_in_use_is_no_bad_configuration() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = program().args(["--listen", &taken.local_addr().unwrap().to_string()]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
