//! A gate that serves, as a process of its own, and operators' commands on its store, as large as that may get. Providers are
//! in this process.

mod algorithms;
mod gate;
mod killed;
mod rotation;
mod sessions;

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

/// What nothing here takes, even on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(120);

const COOKIE_SECRET: &str = "a cookie secret that is long enough";

/// `freshgate keys` in a folder, on the store that is in it.
fn keys(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = freshgate(folder);
    command.arg("keys").args(arguments).args(["--store", "sqlite:sessions.db"]);
    command
}

fn freshgate(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshgate"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("FRESHGATE") {
            command.env_remove(name);
        }
    }
    command.current_dir(folder).env("FRESHGATE_COOKIE_SECRET", COOKIE_SECRET).stdin(Stdio::null());
    command
}

/// What a command says that does what it is told.
fn said(folder: &Path, arguments: &[&str]) -> String {
    let output = keys(folder, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", told(&output));
    // What takes long tells how far it is, on a machine that is slow enough.
    let expected = |line: &str| line.contains(" sessions sealed anew, ") && line.ends_with(" %");
    assert!(told(&output).lines().all(expected), "{}", told(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What it wrote to standard error.
fn told(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Makes a key, and gives its id.
fn new_key(folder: &Path) -> String {
    said(folder, &["new"])[..16].to_owned()
}

/// The secret of a key of the file.
fn secret(folder: &Path, id: &str) -> String {
    let file = std::fs::read_to_string(folder.join("keys.toml")).unwrap();
    let key = file.split("[[key]]").find(|key| key.contains(id)).unwrap();
    key.lines().find_map(|line| line.strip_prefix("secret = ")).unwrap().trim_matches('"').to_owned()
}

/// Ends the process at the end of a test, whatever came of it.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
