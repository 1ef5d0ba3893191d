//! The configuration of `freshgate sessions`: where the sessions are, and what opens them.

use std::path::{Path, PathBuf};

use freshgate::session::SessionPolicy;
use freshgate_oidc::Secret;

use super::{
    ConfiguredProvider, KeysConfig, auth,
    environment::Environment,
    keys,
    report::{Problem, Report},
    run, secrets,
    setting::{STORE, Sources},
    sources, state_folder, store_location,
    store_location::StoreLocation,
    streamlit_options,
};

/// What `freshgate sessions` was told, checked.
#[derive(Clone, Debug)]
pub struct SessionsConfig {
    /// The SQLite file with the sessions.
    pub store: PathBuf,
    /// What the keys that open them are made from.
    pub cookie_secret: Secret,
    /// Which other keys open them.
    pub keys: KeysConfig,
    /// How long sessions live, and how long is kept what is known of one that ended.
    pub session: SessionPolicy,
    /// Who signed users in, as far as the configuration says it: where refresh tokens are revoked. Empty for `--dev`.
    pub providers: Vec<ConfiguredProvider>,
}

/// Reads what `freshgate sessions` needs, from where `run` (or `dev`) reads it. Nothing else has to be there: no app, no
/// client id, no address. Where a provider is described, sessions can be ended there too.
///
/// With the configuration comes a report of warnings and notes, which may be empty.
///
/// # Errors
/// A report of everything that is wrong.
pub fn load_sessions(
    which: &crate::cli::WhichStore,
    environment: &Environment,
) -> Result<(SessionsConfig, Report), Report> {
    let mut report = Report::default();
    let config = read(which, environment, &mut report);
    match config {
        Some(config) if !report.has_errors() => Ok((config, report)),
        _ => Err(report),
    }
}

fn read(
    which: &crate::cli::WhichStore,
    environment: &Environment,
    report: &mut Report,
) -> Option<SessionsConfig> {
    let common = crate::cli::Common {
        store: which.store.clone(),
        secrets: which.secrets.clone(),
        config: which.config.clone(),
        ..Default::default()
    };
    let sources = sources(&common, Vec::new(), environment, report);
    let session = run::session(&sources, report);
    let folder = state_folder::path(environment.current_folder());
    let folder = if which.dev { folder.join("dev") } else { folder };
    let store = store(&sources, folder.join("sessions.db"), which.dev, environment, report);
    let mut providers = Vec::new();
    let cookie_secret = if which.dev {
        dev_secret(&folder.join("cookie-secret"), environment, report)
    } else {
        let here = environment.current_folder();
        let streamlit = streamlit_options::read(&[], here, environment, report);
        let files = run::secrets_files(&sources, &streamlit, here, environment, report);
        let secrets = secrets::read(&files, &sources.file, environment, report);
        // What is missing or wrong there is in the way of signing in, and not of this.
        let mut unneeded = Report::default();
        let overrides = |provider: &str, report: &mut Report| run::overrides(&sources, provider, report);
        providers = auth::read(&secrets, environment, &overrides, &mut unneeded).providers;
        auth::read_cookie_secret(&secrets, environment, report)
    };
    let (store, cookie_secret) = (store?, cookie_secret?);
    let keys = keys::read(&sources, store.parent().unwrap_or(&folder), report);
    Some(SessionsConfig { store, cookie_secret, keys, session, providers })
}

fn store(
    sources: &Sources<'_>,
    default: PathBuf,
    dev: bool,
    environment: &Environment,
    report: &mut Report,
) -> Option<PathBuf> {
    let given = sources.find(STORE, report);
    let path = match &given {
        Some(given) => match store_location::read(given, report)? {
            StoreLocation::Sqlite(path) => path,
            StoreLocation::Memory => {
                let help = "start the gate with `--store sqlite:PATH`, and name the same here";
                return given.refuse("only the gate itself sees sessions in its memory", help, report);
            }
        },
        None => default,
    };
    if path.is_file() {
        return Some(path);
    }
    match &given {
        Some(given) => given.refuse("there is no such file", "name the store of the gate", report),
        None => {
            report.add(absent(&path, dev, environment));
            None
        }
    }
}

fn absent(path: &Path, dev: bool, environment: &Environment) -> Problem {
    let problem = Problem::error(format!("there is no session store `{}`", environment.shown(path))).help(
        "run this in the folder that the gate was started in, or name its store: `--store sqlite:PATH`",
    );
    if dev { problem } else { problem.help("for the sessions of `freshgate dev`, add `--dev`") }
}

/// The secret that `freshgate dev` made and kept. None is made here: a new one would open nothing.
fn dev_secret(file: &Path, environment: &Environment, report: &mut Report) -> Option<Secret> {
    match state_folder::read_secret(file) {
        Ok(secret) => Some(secret),
        Err(error) => {
            report.add(
                Problem::error(format!("cannot read `{}`", environment.shown(file)))
                    .note(error.to_string())
                    .help("run this in the folder that `freshgate dev` was started in"),
            );
            None
        }
    }
}
