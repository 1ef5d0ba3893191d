//! The options of Streamlit that the gate must know: from its arguments, the environment and `.streamlit/config.toml`,
//! in the order that Streamlit gives them.

use std::path::{Path, PathBuf};

use http::HeaderName;

use super::{
    environment::Environment,
    item::{Entry, Item, Table, Value},
    report::{Problem, Report},
    setting::{self, Given, Shown, Written},
    source::Place,
    toml_file,
};

const BASE_URL_PATH: &str = "server.baseUrlPath";
const PORT: &str = "server.port";
const ADDRESS: &str = "server.address";
const SSL_CERT_FILE: &str = "server.sslCertFile";
const SSL_KEY_FILE: &str = "server.sslKeyFile";
const SECRETS_FILES: &str = "secrets.files";
const TRUSTED_USER_HEADERS: &str = "server.trustedUserHeaders";

/// The options, and what is left of the arguments.
pub(super) struct StreamlitOptions {
    pub(super) base_path: BasePath,
    /// Where Streamlit was told to listen; the gate takes that place.
    pub(super) port: Option<Given>,
    pub(super) address: Option<Given>,
    /// The certificate and the key that Streamlit was to speak TLS with; the gate does that.
    pub(super) certificate: Option<Given>,
    pub(super) certificate_key: Option<Given>,
    /// Where Streamlit was told to look for secrets; empty: nowhere in particular.
    pub(super) secrets_files: Vec<Given>,
    /// The request headers that Streamlit takes for who the user is.
    pub(super) trusted_user_headers: Vec<HeaderName>,
    arguments: Vec<String>,
}

/// The path that the app lives under: empty, or with a `/` before and none after it.
pub(super) struct BasePath {
    path: String,
    given: Option<Given>,
}

impl BasePath {
    /// That of an address: a path as browsers send it.
    pub(super) fn of(path: &str) -> Self {
        Self { path: path.trim_end_matches('/').to_owned(), given: None }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.path
    }

    /// What says so; `None`: the default.
    pub(super) fn given(&self) -> Option<&Given> {
        self.given.as_ref()
    }
}

impl StreamlitOptions {
    /// Those of no Streamlit.
    pub(super) fn none() -> Self {
        Self {
            base_path: BasePath::of(""),
            port: None,
            address: None,
            certificate: None,
            certificate_key: None,
            secrets_files: Vec::new(),
            trusted_user_headers: Vec::new(),
            arguments: Vec::new(),
        }
    }

    /// The arguments for Streamlit, without those that say where it listens: the gate is there, and tells Streamlit a
    /// private place, where it speaks plain http. Where secrets are is not said twice either.
    pub(super) fn arguments_behind_the_gate(&self, secrets_are_told: bool) -> Vec<String> {
        let mut told = vec![PORT, ADDRESS, SSL_CERT_FILE, SSL_KEY_FILE];
        if secrets_are_told {
            told.push(SECRETS_FILES);
        }
        // Its own config.toml may say so too, and what is empty counts as not set.
        let given = [(SSL_CERT_FILE, &self.certificate), (SSL_KEY_FILE, &self.certificate_key)];
        let plain = given.into_iter().filter(|(_, given)| given.is_some());
        let plain = plain.map(|(option, _)| format!("--{option}="));
        plain.chain(without(&self.arguments, &told)).collect()
    }
}

/// Reads the options of a Streamlit that runs a script of this folder.
pub(super) fn read(
    arguments: &[String],
    script_folder: &Path,
    environment: &Environment,
    report: &mut Report,
) -> StreamlitOptions {
    let files = config_files(script_folder, environment, report);
    let find = |option: &str, report: &mut Report| {
        let flag = values_of(arguments, option).pop().map(|value| flag(option, value, environment));
        flag.or_else(|| variable(option, environment, report))
            .or_else(|| in_files(&files, option, environment))
    };
    StreamlitOptions {
        base_path: base_path(find(BASE_URL_PATH, report), report),
        port: find(PORT, report),
        address: find(ADDRESS, report),
        certificate: find(SSL_CERT_FILE, report),
        certificate_key: find(SSL_KEY_FILE, report),
        secrets_files: secrets_files(arguments, &files, environment, report),
        trusted_user_headers: trusted_user_headers(find(TRUSTED_USER_HEADERS, report), report),
        arguments: arguments.to_vec(),
    }
}

fn base_path(given: Option<Given>, report: &mut Report) -> BasePath {
    let mut base = BasePath { path: String::new(), given: None };
    let Some(given) = given else { return base };
    let path = match &given.item.value {
        Value::Text(text) => text.trim_matches('/').to_owned(),
        _ => {
            given.expected::<()>("a text in quotes", report);
            return base;
        }
    };
    let as_sent = url::Url::parse(&format!("http://localhost/{path}"));
    if path.contains("//") || as_sent.is_ok_and(|url| url.path().trim_start_matches('/') != path) {
        given.refuse::<()>(
            "not a path as browsers send it",
            "write a plain path such as `reports`: no spaces, `?`, `#`, `..` or empty parts",
            report,
        );
        return base;
    }
    if !path.is_empty() {
        base.path = format!("/{path}");
        base.given = Some(given);
    }
    base
}

/// The keys of a table, or of a JSON object in a text. What Streamlit would not start with is an error here already; a key
/// that is no name of a header is none that a browser could send.
fn trusted_user_headers(given: Option<Given>, report: &mut Report) -> Vec<HeaderName> {
    let Some(given) = given else { return Vec::new() };
    let names: Vec<String> = match &given.item.value {
        Value::Table(table) => table.entries.iter().map(|entry| entry.key.clone()).collect(),
        Value::Text(text) => match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) {
            Ok(object) => object.keys().cloned().collect(),
            Err(_) => {
                given.refuse::<()>(
                    "not a JSON object",
                    "write names of headers and of keys in st.user, such as {\"X-Team\": \"team\"}",
                    report,
                );
                return Vec::new();
            }
        },
        _ => {
            given.expected::<()>("a table", report);
            return Vec::new();
        }
    };
    if !names.is_empty() {
        report.add(
            Problem::warning(format!("`{}` has no effect behind the gate", given.name))
                .at(&given.item.place, "browsers could send these headers themselves")
                .note("the gate takes these headers out of every request")
                .help("take what you need from the claims in st.user"),
        );
    }
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

fn secrets_files(
    arguments: &[String],
    files: &[(PathBuf, Table)],
    environment: &Environment,
    report: &mut Report,
) -> Vec<Given> {
    let flags: Vec<_> = values_of(arguments, SECRETS_FILES)
        .into_iter()
        .map(|path| flag(SECRETS_FILES, path, environment))
        .collect();
    if !flags.is_empty() {
        return flags;
    }
    if let Some(variable) = variable(SECRETS_FILES, environment, report) {
        // Streamlit's flag library splits such variables at white space.
        let paths = variable.item.as_text().unwrap_or_default().split_whitespace();
        let given = |path: &str| Given {
            name: variable.name.clone(),
            item: Item::text(path, variable.item.place.clone()),
            written: Written::Bare,
            folder: variable.folder.clone(),
        };
        return paths.map(given).collect();
    }
    let Some(given) = in_files(files, SECRETS_FILES, environment) else { return Vec::new() };
    let Value::List(paths) = &given.item.value else {
        given.expected::<()>("a list of paths", report);
        return Vec::new();
    };
    let (name, folder) = (&given.name, &given.folder);
    let path = |item: &Item| Given {
        name: name.clone(),
        item: item.clone(),
        written: Written::Toml,
        folder: folder.clone(),
    };
    paths.iter().map(path).collect()
}

/// The config.toml files that there are, the strongest last: home, current folder, script's folder.
fn config_files(
    script_folder: &Path,
    environment: &Environment,
    report: &mut Report,
) -> Vec<(PathBuf, Table)> {
    let mut files = Vec::new();
    for path in streamlit_files("config.toml", script_folder, environment) {
        // Streamlit goes on without a file that it cannot parse, so this is a warning.
        let read = toml_file::read(&path, &environment.shown(&path), may_show, Problem::warning, report);
        files.extend(read.ok().map(|table| (path, table)));
    }
    files
}

/// Where Streamlit looks for a file of its own, the strongest last.
pub(super) fn streamlit_files(name: &str, script_folder: &Path, environment: &Environment) -> Vec<PathBuf> {
    let folders = [environment.home(), Some(environment.current_folder()), Some(script_folder)];
    let mut paths = Vec::new();
    for folder in folders.into_iter().flatten() {
        let path = folder.join(".streamlit").join(name);
        if !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

fn may_show(path: &[&str]) -> bool {
    let option = path.join(".");
    [BASE_URL_PATH, PORT, ADDRESS, SSL_CERT_FILE, SSL_KEY_FILE, SECRETS_FILES].contains(&option.as_str())
        || option.starts_with(TRUSTED_USER_HEADERS)
}

fn in_files(files: &[(PathBuf, Table)], option: &str, environment: &Environment) -> Option<Given> {
    let entry: &Entry = files.iter().rev().find_map(|(_, table)| table.entry_at(option))?;
    let mut item = entry.item.clone();
    // `env:NAME` stands for the variable's value, if it is set.
    let variable =
        item.as_text().and_then(|text| text.strip_prefix("env:")).and_then(|name| environment.variable(name));
    let mut written = Written::Toml;
    if let Some(value) = variable.and_then(|value| value.to_str()) {
        item.value = Value::Text(value.to_owned());
        written = Written::Bare;
    }
    // Streamlit opens relative paths from the current folder, wherever they are written.
    Some(Given { name: option.to_owned(), item, written, folder: environment.current_folder().to_owned() })
}

fn variable(option: &str, environment: &Environment, report: &mut Report) -> Option<Given> {
    setting::variable(environment, &variable_name(option), Shown::Yes, report)
}

/// `STREAMLIT_SERVER_BASE_URL_PATH` for `server.baseUrlPath`.
fn variable_name(option: &str) -> String {
    let mut name = "STREAMLIT_".to_owned();
    for character in option.chars() {
        match character {
            '.' => name.push('_'),
            _ if character.is_ascii_uppercase() => name.extend(['_', character]),
            _ => name.push(character.to_ascii_uppercase()),
        }
    }
    name
}

fn flag(option: &str, value: &str, environment: &Environment) -> Given {
    let name = format!("--{option}");
    let item = Item::text(value, Place::of_flag(&name, value));
    Given { name, item, written: Written::Bare, folder: environment.current_folder().to_owned() }
}

/// The values of an option among Streamlit's own arguments, which end at `--`.
fn values_of<'a>(arguments: &'a [String], option: &str) -> Vec<&'a str> {
    let flag = format!("--{option}");
    let mut values = Vec::new();
    let mut rest = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = rest.next() {
        match argument.strip_prefix(&flag) {
            Some("") => values.extend(rest.next().map(String::as_str)),
            Some(value) => values.extend(value.strip_prefix('=')),
            None => {}
        }
    }
    values
}

/// Streamlit's own arguments without these options; what follows `--` is the script's and stays.
fn without(arguments: &[String], options: &[&str]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        if argument == "--" {
            kept.push(argument.clone());
            kept.extend(rest.cloned());
            break;
        }
        let (name, value) = match argument.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (argument.as_str(), None),
        };
        if !name.strip_prefix("--").is_some_and(|name| options.contains(&name)) {
            kept.push(argument.clone());
        } else if value.is_none() {
            // Its value is the next argument.
            rest.next();
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(arguments: &[&str]) -> Vec<String> {
        arguments.iter().map(|argument| (*argument).to_owned()).collect()
    }

    #[test]
    fn variables_are_named_as_streamlit_names_them() {
        for (option, expected) in [
            (BASE_URL_PATH, "STREAMLIT_SERVER_BASE_URL_PATH"),
            (SSL_CERT_FILE, "STREAMLIT_SERVER_SSL_CERT_FILE"),
            (SECRETS_FILES, "STREAMLIT_SECRETS_FILES"),
        ] {
            assert_eq!(variable_name(option), expected);
        }
    }

    #[test]
    fn values_among_arguments() {
        for (arguments, expected) in [
            (&["--server.port", "1"][..], &["1"][..]),
            (&["--server.port=1", "--server.port", "2"], &["1", "2"]),
            (&["--server.portal=1", "x"], &[]),
            (&["--server.port"], &[]),
            (&["--", "--server.port=1"], &[]),
            (&["--server.port="], &[""]),
        ] {
            assert_eq!(values_of(&strings(arguments), PORT), expected, "{arguments:?}");
        }
    }

    #[test]
    fn the_listener_is_taken_out() {
        for (arguments, expected) in [
            (&["--server.port", "1", "--a", "b"][..], &["--a", "b"][..]),
            (&["--server.address=0.0.0.0", "--a=b"], &["--a=b"]),
            (&["--a", "--", "--server.port", "1"], &["--a", "--", "--server.port", "1"]),
            (&["--server.portal=1"], &["--server.portal=1"]),
        ] {
            assert_eq!(without(&strings(arguments), &[PORT, ADDRESS]), strings(expected), "{arguments:?}");
        }
    }
}
