//! `client_kwargs` of a provider: what Streamlit hands to its OpenID Connect client.

use std::{path::PathBuf, time::Duration};

use freshgate_oidc::{AuthorizationParameters, ClientAuthMethod, ParameterError};

use super::{
    item::{Entry, Item, Table, Value},
    report::{Problem, Report},
    setting::{Given, Written},
};

/// What `client_kwargs` and `authorize_params` of a provider say.
pub(super) struct ClientKwargs {
    pub(super) scope: String,
    pub(super) authorize_parameters: AuthorizationParameters,
    /// Whether their `prompt` is the default.
    pub(super) prompt_is_default: bool,
    pub(super) auth_method: AuthMethod,
    pub(super) ca_file: Option<(Given, PathBuf)>,
    pub(super) timeout: Option<Duration>,
}

/// How we prove to the provider who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthMethod {
    /// As the provider lists it.
    Automatic,
    /// With the secret, this way.
    Secret(ClientAuthMethod),
    /// With a key, which freshgate.toml names.
    Key,
    /// Not at all: a public client.
    Public,
}

/// What Streamlit asks for unless told otherwise.
const DEFAULT_SCOPE: &str = "openid email profile";
const DEFAULT_PROMPT: &str = "select_account";

/// Settings of Streamlit's HTTP client that have no counterpart here.
const OF_ANOTHER_CLIENT: &[&str] = &[
    "auth",
    "base_url",
    "cert",
    "cookies",
    "default_encoding",
    "event_hooks",
    "follow_redirects",
    "grant_type",
    "headers",
    "http1",
    "http2",
    "limits",
    "max_redirects",
    "mounts",
    "params",
    "proxies",
    "proxy",
    "revocation_endpoint_auth_method",
    "token_placement",
    "transport",
    "trust_env",
];

impl Default for ClientKwargs {
    fn default() -> Self {
        Self {
            scope: DEFAULT_SCOPE.to_owned(),
            authorize_parameters: default_parameters(),
            prompt_is_default: true,
            auth_method: AuthMethod::Automatic,
            ca_file: None,
            timeout: None,
        }
    }
}

/// What is asked for besides unless told otherwise.
pub(super) fn default_parameters() -> AuthorizationParameters {
    AuthorizationParameters::of([("prompt", DEFAULT_PROMPT)]).expect("it is no parameter of the protocol")
}

/// Reads both tables of a provider. `name` is how to call the provider's section: `auth` or `auth.NAME`.
pub(super) fn read(provider: &Table, name: &str, folder: PathBuf, report: &mut Report) -> ClientKwargs {
    let mut kwargs = ClientKwargs::default();
    let mut reading = Reading { kwargs: &mut kwargs, report, folder };
    for entry in reading.table(provider, name, "client_kwargs") {
        reading.client_kwarg(&format!("{name}.client_kwargs"), &entry);
    }
    for entry in reading.table(provider, name, "authorize_params") {
        reading.authorize_parameter(&format!("{name}.authorize_params"), &entry);
    }
    kwargs
}

struct Reading<'a> {
    kwargs: &'a mut ClientKwargs,
    report: &'a mut Report,
    folder: PathBuf,
}

impl Reading<'_> {
    fn table(&mut self, provider: &Table, name: &str, key: &str) -> Vec<Entry> {
        let Some(item) = provider.get(key) else { return Vec::new() };
        match item.as_table() {
            Some(table) => table.entries.clone(),
            None => {
                let given = self.given(&format!("{name}.{key}"), item);
                given
                    .expected("a table such as { scope = \"openid email\" }", self.report)
                    .unwrap_or_default()
            }
        }
    }

    fn given(&self, name: &str, item: &Item) -> Given {
        Given {
            name: name.to_owned(),
            item: item.clone(),
            written: Written::Toml,
            folder: self.folder.clone(),
        }
    }

    fn client_kwarg(&mut self, table: &str, entry: &Entry) {
        let given = self.given(&format!("{table}.{}", entry.key), &entry.item);
        match entry.key.as_str() {
            "scope" => self.scope(&given),
            "token_endpoint_auth_method" => {
                let methods = [
                    ("client_secret_basic", AuthMethod::Secret(ClientAuthMethod::ClientSecretBasic)),
                    ("client_secret_post", AuthMethod::Secret(ClientAuthMethod::ClientSecretPost)),
                    ("private_key_jwt", AuthMethod::Key),
                    ("none", AuthMethod::Public),
                ];
                self.kwargs.auth_method =
                    given.one_of(&methods, self.report).unwrap_or(AuthMethod::Automatic);
            }
            // Always used, whether or not it is asked for.
            "code_challenge_method" => self.fixed(&given, "S256"),
            "response_type" => self.fixed(&given, "code"),
            "response_mode" => self.fixed(&given, "query"),
            "verify" => self.verify(&given),
            "timeout" => self.kwargs.timeout = self.seconds(&given),
            // How early Streamlit's client would refresh; here `session.min_validity` says that.
            "leeway" => _ = self.seconds(&given),
            key if OF_ANOTHER_CLIENT.contains(&key) => self.report.add(
                Problem::warning(format!("`{}` has no effect", given.name))
                    .at(&entry.key_place, "freshgate has no such setting"),
            ),
            _ => self.authorize_parameter(table, entry),
        }
    }

    /// A value that may be said and cannot be otherwise.
    fn fixed(&mut self, given: &Given, value: &str) {
        _ = given.one_of(&[(value, ())], self.report);
    }

    fn scope(&mut self, given: &Given) {
        let scope = match &given.item.value {
            Value::List(words) => {
                let words: Option<Vec<&str>> = words.iter().map(Item::as_text).collect();
                words.map(|words| words.join(" "))
            }
            Value::Text(text) => Some(text.clone()),
            _ => None,
        };
        let Some(scope) = scope else {
            given.expected::<()>("a text such as \"openid email profile\"", self.report);
            return;
        };
        let words: Vec<&str> = scope.split_whitespace().collect();
        if !words.contains(&"openid") {
            self.report.add(
                Problem::warning(format!("`{}` does not have `openid`", given.name))
                    .at(&given.item.place, "`openid` is asked for all the same")
                    .help("add `openid`: without it a provider does not say who signed in"),
            );
        }
        self.kwargs.scope = words.join(" ");
    }

    fn verify(&mut self, given: &Given) {
        match &given.item.value {
            Value::Boolean(true) => {}
            Value::Boolean(false) => self.report.add(
                Problem::warning("certificates are checked all the same")
                    .at(&given.item.place, "has no effect")
                    .help("for a provider with a certificate of your own, name the authority's file in `ca_file` below `[provider.NAME]` of freshgate.toml"),
            ),
            _ => {
                self.kwargs.ca_file =
                    given.path(self.report).map(|path| (self.given(&given.name, &given.item), path));
            }
        }
    }

    fn seconds(&mut self, given: &Given) -> Option<Duration> {
        let seconds = match &given.item.value {
            Value::Float(seconds) => *seconds,
            _ => given.number(0..=3600, self.report)? as f64,
        };
        match Duration::try_from_secs_f64(seconds) {
            Ok(duration) if duration <= Duration::from_secs(3600) => Some(duration),
            _ => given.refuse("out of range", "choose from 0 to 3600", self.report),
        }
    }

    fn authorize_parameter(&mut self, table: &str, entry: &Entry) {
        let given = self.given(&format!("{table}.{}", entry.key), &entry.item);
        if entry.key == "scope" {
            return self.scope(&given);
        }
        let text = match &entry.item.value {
            Value::Text(text) => text.clone(),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(value) => value.to_string(),
            Value::List(words) if words.iter().all(|word| word.as_text().is_some()) => {
                words.iter().filter_map(Item::as_text).collect::<Vec<_>>().join(" ")
            }
            _ => {
                given.expected::<()>("a text, a number or a list of texts", self.report);
                return;
            }
        };
        self.kwargs.prompt_is_default &= entry.key != "prompt";
        // `prompt = ""` leaves it to the provider.
        match self.kwargs.authorize_parameters.set(&entry.key, &text) {
            Ok(()) => {}
            Err(ParameterError::Malformed { expected, .. }) => {
                given.refuse::<()>(&format!("is not {expected}"), &format!("write {expected}"), self.report);
            }
            Err(_) => self.report.add(
                Problem::warning(format!("`{}` has no effect", given.name))
                    .at(&entry.key_place, "freshgate sets this itself"),
            ),
        }
    }
}
