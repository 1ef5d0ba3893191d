//! Finds `[auth]` where Streamlit finds it: in TOML files and in folders of secrets, the last one wins as a whole.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    environment::Environment,
    item::{Entry, Item, Table, Value},
    redact,
    report::{Problem, Report},
    setting::Given,
    source::{Place, file_source},
    suggest,
    toml_file::{self, NoTomlFile},
};

/// The key that matters.
pub(super) const AUTH: &str = "auth";

/// What was found.
pub(super) struct Secrets {
    /// The `auth` key that wins.
    pub(super) auth: Option<Entry>,
    /// The files that were read, as shown.
    pub(super) read: Vec<String>,
    /// Where was looked, as shown.
    pub(super) looked_in: Vec<String>,
    /// Whether a file was there and could not be read: then nothing is known to be missing.
    pub(super) unreadable: bool,
}

/// Where to look.
pub(super) enum Locations {
    /// In this place: the operator said so.
    Here(Given),
    /// Where Streamlit was told to look.
    OfStreamlit(Vec<Given>),
    /// Where Streamlit looks by itself.
    Usual(Vec<PathBuf>),
    /// In no other file than freshgate.toml.
    FreshgateToml,
}

impl Locations {
    /// The paths that Streamlit must be told; empty if it looks there by itself.
    pub(super) fn to_tell_streamlit(&self) -> Vec<PathBuf> {
        match self {
            Self::Here(given) => {
                given.item.as_text().map(|path| given.folder.join(path)).into_iter().collect()
            }
            Self::OfStreamlit(_) | Self::Usual(_) | Self::FreshgateToml => Vec::new(),
        }
    }
}

/// Reads them all. `[auth]` of freshgate.toml, if it is there, wins as a whole.
pub(super) fn read(
    locations: &Locations,
    freshgate_toml: &Table,
    environment: &Environment,
    report: &mut Report,
) -> Secrets {
    let mut secrets = Secrets { auth: None, read: Vec::new(), looked_in: Vec::new(), unreadable: false };
    match locations {
        Locations::FreshgateToml => {}
        Locations::Here(given) => secrets.read_given(given, true, environment, report),
        Locations::OfStreamlit(paths) => {
            paths.iter().for_each(|given| secrets.read_given(given, false, environment, report));
        }
        Locations::Usual(paths) => {
            for path in paths {
                secrets.read_toml(path, environment, report);
            }
        }
    }
    if let Some(ours) = freshgate_toml.entry(AUTH) {
        if let Some(other) = secrets.auth.replace(ours.clone()) {
            report.add(
                Problem::worth_knowing(
                    "`[auth]` of freshgate.toml is used instead of that of Streamlit's secrets",
                )
                .at(&ours.key_place, "is used")
                .beside(&other.key_place, "is not used"),
            );
        }
        secrets.unreadable = false;
    }
    secrets
}

impl Secrets {
    fn read_given(
        &mut self,
        given: &Given,
        must_exist: bool,
        environment: &Environment,
        report: &mut Report,
    ) {
        let Some(path) = given.path(report) else {
            self.unreadable = true;
            return;
        };
        if path.is_dir() {
            return self.read_folder(&path, environment, report);
        }
        if path.extension().is_none_or(|extension| extension != "toml") {
            self.unreadable = true;
            let help = "name a file that ends in .toml, or a folder with a folder per secret";
            given.refuse::<()>("not a place for Streamlit's secrets", help, report);
            return;
        }
        if self.read_toml(&path, environment, report).is_none() && must_exist && !self.unreadable {
            self.unreadable = true;
            report.add(
                Problem::error(format!("there is no `{}`", environment.shown(&path)))
                    .at(&given.item.place, "is not there")
                    .help("create it, or name the file that has `[auth]`"),
            );
        }
    }

    /// `None` if there is no such file, or it cannot be read.
    fn read_toml(&mut self, path: &Path, environment: &Environment, report: &mut Report) -> Option<()> {
        let shown = environment.shown(path);
        match toml_file::read(path, &shown, may_show, Problem::error, report) {
            Ok(table) => {
                self.take(shown, table);
                Some(())
            }
            Err(NoTomlFile::Missing) => {
                self.looked_in.push(shown);
                None
            }
            Err(NoTomlFile::Reported) => {
                self.unreadable = true;
                None
            }
        }
    }

    /// A folder with a folder per secret, as Kubernetes mounts them: `auth/client_id` and so on.
    fn read_folder(&mut self, path: &Path, environment: &Environment, report: &mut Report) {
        let auth = path.join("auth");
        let shown = environment.shown(&auth);
        match read_values(&auth, environment) {
            Ok(entries) => {
                // Streamlit takes a single value for the secret itself; then there is no `[auth]` worth the name.
                let table = Table { entries };
                let place = Place::top_of(&file_source(shown.clone(), String::new()));
                let item = Item { value: Value::Table(table), place: place.clone() };
                let entry = Entry { key: "auth".to_owned(), key_place: place, item };
                self.take(shown, Table { entries: vec![entry] });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.looked_in.push(shown),
            Err(error) => {
                self.unreadable = true;
                report.add(toml_file::unreadable(&shown, &error, Problem::error));
            }
        }
    }

    fn take(&mut self, shown: String, table: Table) {
        self.looked_in.push(shown.clone());
        self.read.push(shown);
        if let Some(auth) = table.entries.into_iter().find(|entry| entry.key == AUTH) {
            self.auth = Some(auth);
        }
    }

    /// What to say if there is no `[auth]` anywhere.
    pub(super) fn nowhere(&self) -> Problem {
        if self.looked_in.is_empty() {
            return Problem::error("there is no `[auth]` in freshgate.toml, so nobody can sign in")
                .help(format!("put this into it, with what your provider gave you:\n{EXAMPLE}"))
                .help("or name the secrets.toml that has it: `--secrets PATH`");
        }
        let problem = if self.read.is_empty() {
            Problem::error("there is no secrets.toml, so nobody can sign in")
                .note(format!("looked for {}", suggest::list(&self.looked_in)))
        } else {
            Problem::error("there is no `[auth]` in secrets.toml, so nobody can sign in")
                .note(format!("looked in {}", suggest::list(&self.read)))
        };
        problem
            .help(format!(
                "put this into .streamlit/secrets.toml, with what your provider gave you:\n{EXAMPLE}"
            ))
            .help("to try it without a provider: `freshgate dev app.py`")
    }
}

/// What a complete `[auth]` looks like.
const EXAMPLE: &str = "\
[auth]
redirect_uri = \"http://localhost:8501/oauth2callback\"
cookie_secret = \"…\"  # python3 -c 'import secrets; print(secrets.token_urlsafe(32))'
client_id = \"…\"
client_secret = \"…\"
server_metadata_url = \"https://accounts.google.com/.well-known/openid-configuration\"";

fn read_values(folder: &Path, environment: &Environment) -> io::Result<Vec<Entry>> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<io::Result<_>>()?;
    files.sort();
    let mut entries = Vec::new();
    for path in files.into_iter().filter(|path| !path.is_dir()) {
        let Some(key) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else { continue };
        let text = fs::read_to_string(&path)?;
        let text = text.trim();
        let shown = may_show(&["auth", &key]) && !redact::may_carry_password(text);
        let source =
            file_source(environment.shown(&path), if shown { text } else { redact::MASK }.to_owned());
        let place = Place::new(&source, 0..source.text().len());
        let item = Item::text(text, place);
        entries.push(Entry { key, key_place: Place::top_of(&source), item });
    }
    Ok(entries)
}

/// What of secrets.toml a report may show: what is no secret in `[auth]` and in its providers.
pub(super) fn may_show(path: &[&str]) -> bool {
    const KEYS: &[&str] = &["redirect_uri", "client_id", "server_metadata_url", "expose_tokens"];
    const CLIENT_KWARGS: &[&str] = &[
        "scope",
        "prompt",
        "response_mode",
        "response_type",
        "code_challenge_method",
        "token_endpoint_auth_method",
        "timeout",
        "leeway",
        "verify",
        "max_age",
        "acr_values",
        "ui_locales",
        "display",
        "audience",
        "resource",
    ];
    match path {
        ["auth", key] | ["auth", _, key] if KEYS.contains(key) => true,
        ["auth", "client_kwargs" | "authorize_params", key]
        | ["auth", _, "client_kwargs" | "authorize_params", key] => CLIENT_KWARGS.contains(key),
        _ => false,
    }
}
