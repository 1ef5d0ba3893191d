//! `[auth]`: who signs users in, as Streamlit reads it, with what the environment says on top.

use std::{fs, path::PathBuf};

use freshgate_oidc::Secret;

use super::{
    client_kwargs::{self, AuthMethod, ClientKwargs},
    environment::Environment,
    item::{Entry, Item, Table, Value},
    provider::{self, ConfiguredProvider, Draft, Overrides},
    report::{Problem, Report},
    secrets::Secrets,
    setting::{
        CLIENT_ID, CLIENT_KEY_FILE, CLIENT_SECRET, CLIENT_SECRET_FILE, COOKIE_SECRET, COOKIE_SECRET_FILE,
        EXPOSE_TOKENS, Given, REDIRECT_URI, SCOPE, SERVER_METADATA_URL, Setting, Shown, Written, variable,
    },
    source::Place,
    suggest,
};

/// Which tokens apps may see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExposedTokens {
    /// The ID token, as `st.user.tokens["id"]`.
    pub id: bool,
    /// The access token, as `st.user.tokens["access"]`.
    pub access: bool,
}

/// What `[auth]` and the environment say.
pub(super) struct Auth {
    pub(super) redirect_uri: Option<Given>,
    pub(super) cookie_secret: Option<Secret>,
    pub(super) exposed_tokens: ExposedTokens,
    /// The default one first.
    pub(super) providers: Vec<ConfiguredProvider>,
    /// The names of all providers that someone meant to describe, also those that came to nothing.
    pub(super) described: Vec<String>,
}

/// The name of the provider that `st.login()` means.
pub(super) const DEFAULT: &str = "default";

/// With fewer characters a secret can be guessed. Streamlit takes any.
const GOOD_SECRET_LENGTH: usize = 32;

/// The keys by which Streamlit knows a provider among the tables of `[auth]`.
const MARKS_OF_A_PROVIDER: &[&str] = &[
    "client_id",
    "client_secret",
    "server_metadata_url",
    "authorize_url",
    "api_base_url",
    "request_token_url",
];
/// Tables of `[auth]` itself.
const TABLES: &[&str] = &["client_kwargs", "authorize_params"];
const KEYS: &[&str] = &[
    "redirect_uri",
    "cookie_secret",
    "expose_tokens",
    "client_id",
    "client_secret",
    "server_metadata_url",
    "client_kwargs",
    "authorize_params",
];
/// What Streamlit's client takes instead of the provider's metadata.
const INSTEAD_OF_METADATA: &[&str] = &[
    "authorize_url",
    "access_token_url",
    "access_token_params",
    "api_base_url",
    "request_token_url",
    "userinfo_endpoint",
];

/// Reads it all. What is missing and what is wrong goes into the report.
pub(super) fn read(
    secrets: &Secrets,
    environment: &Environment,
    overrides: &dyn Fn(&str, &mut Report) -> Overrides,
    report: &mut Report,
) -> Auth {
    let mut auth = Auth {
        redirect_uri: None,
        cookie_secret: None,
        exposed_tokens: ExposedTokens::default(),
        providers: Vec::new(),
        described: Vec::new(),
    };
    let section = match &secrets.auth {
        None => None,
        Some(entry) => match entry.item.as_table() {
            Some(table) => Some(Section { name: "auth".to_owned(), header: entry.key_place.clone(), table }),
            None => {
                given("auth", &entry.item, environment).expected::<()>("a table: `[auth]`", report);
                return auth;
            }
        },
    };
    let mut reading = Reading { environment, report, section: section.as_ref(), overrides };
    if section.is_none() {
        if secrets.unreadable {
            return auth;
        }
        if !reading.environment_names_a_provider() {
            reading.report.add(secrets.nowhere());
            return auth;
        }
    }
    auth.redirect_uri =
        reading.shared("redirect_uri", REDIRECT_URI, None, "\"http://localhost:8501/oauth2callback\"");
    auth.cookie_secret = reading.cookie_secret();
    auth.exposed_tokens = reading.exposed_tokens();
    for draft in reading.drafts() {
        auth.described.push(draft.name.clone());
        auth.providers.extend(provider::finish(draft, reading.report));
    }
    auth
}

/// Reads the cookie secret alone, for who opens sessions and signs nobody in.
pub(super) fn read_cookie_secret(
    secrets: &Secrets,
    environment: &Environment,
    report: &mut Report,
) -> Option<Secret> {
    let table = secrets.auth.as_ref().and_then(|entry| Some((entry, entry.item.as_table()?)));
    let section = table.map(|(entry, table)| Section {
        name: "auth".to_owned(),
        header: entry.key_place.clone(),
        table,
    });
    if section.is_none() && secrets.unreadable {
        return None;
    }
    let overrides = &|_: &str, _: &mut Report| Overrides::default();
    Reading { environment, report, section: section.as_ref(), overrides }.cookie_secret()
}

/// A section of secrets.toml: `[auth]`, or `[auth.NAME]`.
struct Section<'a> {
    name: String,
    header: Place,
    table: &'a Table,
}

struct Reading<'a> {
    environment: &'a Environment,
    report: &'a mut Report,
    section: Option<&'a Section<'a>>,
    /// What freshgate.toml says of a provider.
    overrides: &'a dyn Fn(&str, &mut Report) -> Overrides,
}

impl<'a> Reading<'a> {
    fn environment_names_a_provider(&self) -> bool {
        [CLIENT_ID, CLIENT_SECRET, CLIENT_SECRET_FILE, CLIENT_KEY_FILE, SERVER_METADATA_URL]
            .iter()
            .any(|setting| self.environment.variable(setting.variable.unwrap_or_default()).is_some())
    }

    /// A key of `[auth]` that every provider shares; reported if it is missing.
    fn shared(&mut self, key: &str, setting: Setting, file: Option<Setting>, example: &str) -> Option<Given> {
        let given = self.value(key, self.section, Some((setting, file)));
        if given.is_none() {
            let problem = self.missing(key, self.section, &format!("add {key} = {example}"), Some(setting));
            self.report.add(problem);
        }
        given
    }

    fn cookie_secret(&mut self) -> Option<Secret> {
        self.shared(
            "cookie_secret",
            COOKIE_SECRET,
            Some(COOKIE_SECRET_FILE),
            "\"…\", a long random text: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
        .and_then(|given| cookie_secret(&given, self.report))
    }

    /// The value of a key in a section, or what the environment says instead.
    fn value(
        &mut self,
        key: &str,
        section: Option<&Section<'_>>,
        variables: Option<(Setting, Option<Setting>)>,
    ) -> Option<Given> {
        let in_file = section.and_then(|section| {
            let item = section.table.get(key)?;
            Some(given(&format!("{}.{key}", section.name), item, self.environment))
        });
        let Some(in_environment) =
            variables.and_then(|(setting, file)| self.environment_value(setting, file))
        else {
            return in_file;
        };
        if let Some(in_file) = in_file {
            self.report.add(
                Problem::worth_knowing(format!(
                    "`{}` is used instead of `{}`",
                    in_environment.name, in_file.name
                ))
                .at(&in_environment.item.place, "is used")
                .beside(&in_file.item.place, "is not used"),
            );
        }
        Some(in_environment)
    }

    fn environment_value(&mut self, setting: Setting, file: Option<Setting>) -> Option<Given> {
        let shown = if file.is_some() { Shown::No } else { Shown::Yes };
        let value = variable(self.environment, setting.variable?, shown, self.report);
        let Some(path) =
            file.and_then(|file| variable(self.environment, file.variable?, Shown::Yes, self.report))
        else {
            return value;
        };
        if let Some(value) = value {
            self.report.add(
                Problem::error(format!("`{}` and `{}` are both set", value.name, path.name))
                    .at(&value.item.place, "holds the secret")
                    .at(&path.item.place, "names a file that holds it")
                    .help("unset one of them"),
            );
            return Some(value);
        }
        let read = path.path(self.report).map(fs::read_to_string)?;
        match read {
            Ok(text) if text.trim().is_empty() => {
                path.refuse("the file is empty", "write the secret into it", self.report)
            }
            Ok(text) => {
                let item = Item::text(text.trim_end_matches(['\r', '\n']), path.item.place.clone());
                Some(Given { item, ..path })
            }
            Err(error) => {
                let problem = path.unusable("the file cannot be read").note(error.to_string());
                self.report.add(problem.help("name a file that freshgate may read"));
                // It is not missing, so let nobody say so too.
                Some(Given { item: Item::text("unreadable", path.item.place.clone()), ..path })
            }
        }
    }

    /// What to say of a key that is missing. A key that looks like it is pointed out.
    fn missing(
        &self,
        key: &str,
        section: Option<&Section<'_>>,
        help: &str,
        setting: Option<Setting>,
    ) -> Problem {
        let name = section.map_or("auth", |section| section.name.as_str());
        let mut problem = Problem::error(format!("`{name}.{key}` is missing"));
        if let Some(section) = section {
            problem = problem.at(&section.header, format!("has no `{key}`"));
            let unknown = section.table.entries.iter().filter(|entry| !KEYS.contains(&entry.key.as_str()));
            let unknown: Vec<&Entry> = unknown.filter(|entry| entry.item.as_table().is_none()).collect();
            let alike = unknown.iter().find(|entry| suggest::nearest(&entry.key, [key]).is_some());
            if let Some(entry) = alike {
                problem = problem.beside(&entry.key_place, format!("did you mean `{key}`?"));
            }
        }
        match setting.and_then(|setting| setting.variable) {
            Some(variable) => problem.help(format!("{help}, or set {variable}")),
            None => problem.help(help),
        }
    }

    fn exposed_tokens(&mut self) -> ExposedTokens {
        let mut exposed = ExposedTokens::default();
        let Some(given) = self.value("expose_tokens", self.section, Some((EXPOSE_TOKENS, None))) else {
            return exposed;
        };
        let words: Vec<Item> = match (&given.item.value, given.written) {
            (Value::List(items), _) => items.clone(),
            (Value::Text(text), Written::Bare) => {
                text.split(',').map(|word| Item::text(word.trim(), given.item.place.clone())).collect()
            }
            (Value::Text(_), Written::Toml) => vec![given.item.clone()],
            _ => given.expected("\"id\", \"access\" or a list of both", self.report).unwrap_or_default(),
        };
        for word in words {
            let word = Given { item: word, ..given.clone() };
            match word.item.as_text() {
                Some("id") => exposed.id = true,
                Some("access") => exposed.access = true,
                Some("refresh") => {
                    let help = "write \"id\", \"access\" or both: a refresh token stays with freshgate, which uses it for the app";
                    word.refuse::<()>("cannot be exposed", help, self.report);
                }
                Some(_) => {
                    _ = word.refuse::<()>("unknown token", "write \"id\", \"access\" or both", self.report)
                }
                None => _ = word.expected::<()>("\"id\" or \"access\"", self.report),
            }
        }
        exposed
    }

    /// All providers that someone meant to describe, the default one first.
    fn drafts(&mut self) -> Vec<Draft> {
        let mut drafts = Vec::new();
        let named = self.named_sections();
        // `[auth.default]` is the default provider, whatever `[auth]` itself says.
        let default = named.iter().find(|section| section.name == "auth.default").or(self.section);
        let keys = ["client_id", "client_secret", "server_metadata_url"];
        let described =
            default.is_some_and(|section| keys.iter().any(|key| section.table.get(key).is_some()));
        if described || self.environment_names_a_provider() {
            drafts.push(self.draft(DEFAULT, default));
        } else if named.is_empty() {
            let problem = Problem::error("`[auth]` names no provider, so nobody can sign in");
            let problem = match self.section {
                Some(section) => problem.at(&section.header, "has neither a provider nor an `[auth.NAME]`"),
                None => problem,
            };
            self.report.add(problem.help(
                "add `client_id`, `client_secret` and `server_metadata_url`, as your provider gave them",
            ));
        }
        for section in named.iter().filter(|section| section.name != "auth.default") {
            let name = section.name.trim_start_matches("auth.").to_owned();
            if name.contains('_') {
                let dashed = name.replace('_', "-");
                self.report.add(
                    Problem::error(format!("a provider cannot be called `{name}`"))
                        .at(&section.header, "has an underscore")
                        .help(format!("call it `{dashed}`, also in `st.login(\"{dashed}\")`: Streamlit refuses underscores")),
                );
            }
            drafts.push(self.draft(&name, Some(section)));
        }
        drafts
    }

    /// The `[auth.NAME]` sections that describe a provider.
    fn named_sections(&mut self) -> Vec<Section<'a>> {
        let Some(section) = self.section else { return Vec::new() };
        let mut named = Vec::new();
        for entry in section.table.entries.iter().filter(|entry| !TABLES.contains(&entry.key.as_str())) {
            let Some(table) = entry.item.as_table() else { continue };
            if MARKS_OF_A_PROVIDER.iter().any(|key| table.get(key).is_some()) {
                named.push(Section {
                    name: format!("auth.{}", entry.key),
                    header: entry.key_place.clone(),
                    table,
                });
            } else {
                self.report.add(
                    Problem::warning(format!("`[auth.{}]` is not taken for a provider", entry.key))
                        .at(&entry.key_place, "has no `client_id`, `client_secret` or `server_metadata_url`")
                        .help("if it is one, give it all three"),
                );
            }
        }
        named
    }

    /// What was given of a provider. What is missing is reported.
    fn draft(&mut self, name: &str, section: Option<&Section<'_>>) -> Draft {
        let is_default = name == DEFAULT;
        let folder = self.environment.current_folder().to_owned();
        let mut client_kwargs = match section {
            Some(section) => client_kwargs::read(section.table, &section.name, folder, self.report),
            None => ClientKwargs::default(),
        };
        if let Some(section) = section {
            self.warn_of_keys_elsewhere(section);
        }
        if is_default
            && let Some(scope) =
                SCOPE.variable.and_then(|name| variable(self.environment, name, Shown::Yes, self.report))
            && let Some(scope) = scope.text(self.report)
        {
            client_kwargs.scope = scope.split_whitespace().collect::<Vec<_>>().join(" ");
        }
        let overrides = (self.overrides)(name, self.report);
        let needs_secret = match client_kwargs.auth_method {
            AuthMethod::Public => false,
            AuthMethod::Key => {
                self.key_is_there(name, &overrides);
                false
            }
            AuthMethod::Automatic | AuthMethod::Secret(_) => overrides.client_key.file.is_none(),
        };
        let mut draft = Draft {
            name: name.to_owned(),
            client_id: None,
            client_secret: None,
            server_metadata_url: None,
            client_kwargs,
            overrides,
        };
        let metadata_url = "\"https://…/.well-known/openid-configuration\"";
        for (key, example, setting, file, slot, needed) in [
            ("client_id", "\"…\"", CLIENT_ID, None, &mut draft.client_id, true),
            (
                "client_secret",
                "\"…\"",
                CLIENT_SECRET,
                Some(CLIENT_SECRET_FILE),
                &mut draft.client_secret,
                needs_secret,
            ),
            (
                "server_metadata_url",
                metadata_url,
                SERVER_METADATA_URL,
                None,
                &mut draft.server_metadata_url,
                true,
            ),
        ] {
            *slot = self.value(key, section, is_default.then_some((setting, file)));
            if slot.is_none() && needed {
                let help = format!("add {key} = {example}, as your provider gave it");
                let problem = self.missing(key, section, &help, is_default.then_some(setting));
                self.report.add(problem);
            }
        }
        draft
    }

    /// Reports it if there is no key for `private_key_jwt`.
    fn key_is_there(&mut self, provider: &str, overrides: &Overrides) {
        if overrides.client_key.file.is_none() {
            let problem = Problem::error(format!("`provider.{provider}.client_key_file` is missing"))
                .note("`token_endpoint_auth_method` of client_kwargs is private_key_jwt")
                .help(format!(
                    "add to freshgate.toml, below [provider.{provider}]: client_key_file = \"client-key.pem\""
                ));
            self.report.add(problem);
        }
    }

    fn warn_of_keys_elsewhere(&mut self, section: &Section<'_>) {
        for entry in &section.table.entries {
            let key = entry.key.as_str();
            if INSTEAD_OF_METADATA.contains(&key) {
                self.report.add(
                    Problem::warning(format!("`{}.{key}` has no effect", section.name))
                        .at(&entry.key_place, "freshgate takes this from the provider's metadata"),
                );
            } else if section.name != "auth"
                && ["redirect_uri", "cookie_secret", "expose_tokens"].contains(&key)
            {
                self.report.add(
                    Problem::warning(format!("`{}.{key}` has no effect", section.name))
                        .at(&entry.key_place, "all providers share the one in `[auth]`")
                        .help(format!("move `{key}` to `[auth]`")),
                );
            }
        }
    }
}

fn given(name: &str, item: &Item, environment: &Environment) -> Given {
    let folder: PathBuf = environment.current_folder().to_owned();
    Given { name: name.to_owned(), item: item.clone(), written: Written::Toml, folder }
}

fn cookie_secret(given: &Given, report: &mut Report) -> Option<Secret> {
    let text = given.text(report)?;
    if text.chars().count() < GOOD_SECRET_LENGTH {
        report.add(
            Problem::warning(format!("`{}` is short", given.name))
                .at(&given.item.place, format!("has fewer than {GOOD_SECRET_LENGTH} characters"))
                .note("the keys that seal sessions come from it: whoever guesses it reads them")
                .help("make a new one: python3 -c 'import secrets; print(secrets.token_urlsafe(32))'"),
        );
    }
    Some(Secret::new(text))
}
