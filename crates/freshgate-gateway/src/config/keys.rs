//! The keys that seal sessions, besides the one that is made from `cookie_secret`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use freshgate_oidc::Secret;

use super::{
    item::Value,
    report::Report,
    setting::{FORMER_COOKIE_SECRETS, FORMER_COOKIE_SECRETS_FILE, Given, KEYS_FILE, Sources},
};

/// What the file with the keys is called, beside the store: who names the same store means the same keys.
const FILE_NAME: &str = "keys.toml";

/// What there is besides the key that is made from `cookie_secret`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysConfig {
    /// The file that `freshgate keys` writes. It need not be there; unless told otherwise, it is beside the store.
    pub file: PathBuf,
    /// What `cookie_secret` was before: what was sealed with it still opens.
    pub former_cookie_secrets: Vec<Secret>,
}

/// `folder` is where the store is, or the state folder if it is in memory.
pub(super) fn read(sources: &Sources<'_>, folder: &Path, report: &mut Report) -> KeysConfig {
    let file = sources.find(KEYS_FILE, report).and_then(|given| given.path(report));
    let mut former = Vec::new();
    if let Some(given) = sources.find(FORMER_COOKIE_SECRETS, report) {
        former.extend(listed(&given, report));
    }
    if let Some(given) = sources.find(FORMER_COOKIE_SECRETS_FILE, report) {
        former.extend(in_file(&given, report));
    }
    KeysConfig { file: file.unwrap_or_else(|| folder.join(FILE_NAME)), former_cookie_secrets: former }
}

fn listed(given: &Given, report: &mut Report) -> Vec<Secret> {
    let items = match &given.item.value {
        Value::List(items) => items.clone(),
        Value::Text(_) => vec![given.item.clone()],
        _ => return given.expected("a list of texts", report).unwrap_or_default(),
    };
    let each = items.into_iter().map(|item| Given { item, ..given.clone() });
    each.filter_map(|each| each.text(report).map(Secret::new)).collect()
}

fn in_file(given: &Given, report: &mut Report) -> Vec<Secret> {
    let Some(path) = given.path(report) else { return Vec::new() };
    match fs::read_to_string(path).map(Secret::new) {
        Ok(text) => {
            let lines = text.expose().lines().filter(|line| !line.trim().is_empty());
            lines.map(Secret::new).collect()
        }
        Err(error) => {
            let problem = given.unusable("the file cannot be read").note(error.to_string());
            report
                .add(problem.help("name a file that freshgate may read, with a former secret on each line"));
            Vec::new()
        }
    }
}
