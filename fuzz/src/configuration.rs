//! Files that configure: each comes to a configuration or a report, and the report shows no secret.

use std::{fs, path::Path};

use clap::Parser as _;
use freshgate_gateway::{
    cli::{Cli, Command},
    config::{Environment, Look, load_run},
};
use tempfile::TempDir;

const FILES: [&str; 3] = [".streamlit/secrets.toml", "freshgate.toml", ".streamlit/config.toml"];

thread_local! {
    static FOLDER: TempDir = folder();
}

/// In memory, where there is such a folder.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a folder");
    fs::create_dir_all(folder.path().join(".streamlit")).expect("a folder");
    fs::create_dir_all(folder.path().join("home")).expect("a folder");
    fs::write(folder.path().join("app.py"), "").expect("a file");
    folder
}

/// secrets.toml, freshgate.toml and Streamlit's config.toml, with lines `%%` between them.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    FOLDER.with(|folder| {
        let mut texts = text.split("\n%%\n");
        for file in FILES {
            let path = folder.path().join(file);
            match texts.next() {
                Some(text) => fs::write(path, text).expect("a file"),
                None => _ = fs::remove_file(path),
            }
        }
        let environment = Environment::new(folder.path().to_owned(), Some(folder.path().join("home")), []);
        let Ok(Cli { command: Command::Run(run) }) = Cli::try_parse_from(["freshgate", "run", "app.py"])
        else {
            unreachable!("the arguments are good")
        };
        let (config, report) = match load_run(&run, &environment) {
            Ok((config, report)) => {
                assert!(!report.has_errors());
                assert!(!config.gate.providers.is_empty());
                (Some(config), report)
            }
            Err(report) => {
                assert!(report.has_errors());
                (None, report)
            }
        };
        let shown = [report.render(Look::Plain), report.render(Look::Coloured), format!("{config:?}")];
        for secret in secrets(text) {
            for shown in &shown {
                assert!(!shown.contains(secret), "a secret shows: {secret:?} in\n{shown}");
            }
        }
    });
}

/// What is a secret for sure: long enough, in quotes after its key, and nowhere else.
fn secrets(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(move |line| {
        let (key, value) = line.split_once('=')?;
        let secret = value.trim().strip_prefix('"')?.strip_suffix('"')?;
        let plain = secret.len() >= 16 && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let once = text.matches(secret).count() == 1;
        (["client_secret", "cookie_secret"].contains(&key.trim()) && plain && once).then_some(secret)
    })
}
