//! freshgate's own settings: their names, and which source of a value wins.

use std::path::PathBuf;

use super::{
    environment::Environment,
    item::{Item, Table},
    report::{Problem, Report},
    source::Place,
};

/// A setting and its names.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Its key in freshgate.toml, dotted.
    pub key: Option<&'static str>,
    /// Its flag, without the dashes.
    pub flag: Option<&'static str>,
    /// Its variable.
    pub variable: Option<&'static str>,
}

impl Setting {
    const fn new(key: &'static str, flag: &'static str, variable: &'static str) -> Self {
        Self { key: Some(key), flag: Some(flag), variable: Some(variable) }
    }

    const fn without_flag(key: &'static str, variable: &'static str) -> Self {
        Self { key: Some(key), flag: None, variable: Some(variable) }
    }

    const fn file_only(key: &'static str) -> Self {
        Self { key: Some(key), flag: None, variable: None }
    }

    const fn without_key(flag: &'static str, variable: &'static str) -> Self {
        Self { key: None, flag: Some(flag), variable: Some(variable) }
    }

    const fn variable_only(variable: &'static str) -> Self {
        Self { key: None, flag: None, variable: Some(variable) }
    }
}

macro_rules! settings {
    ($($name:ident = $setting:expr;)*) => {
        $(pub(super) const $name: Setting = $setting;)*
        /// Every setting, in the order of docs/configuration.md.
        pub const SETTINGS: &[Setting] = &[$($name),*];
    };
}

settings! {
    CONFIG = Setting::without_key("config", "FRESHGATE_CONFIG");
    LISTEN = Setting::new("listen", "listen", "FRESHGATE_LISTEN");
    STORE = Setting::new("store", "store", "FRESHGATE_STORE");
    SECRETS = Setting::new("secrets", "secrets", "FRESHGATE_SECRETS");
    PYTHON = Setting::new("python", "python", "FRESHGATE_PYTHON");
    OPERATOR_LISTEN = Setting::new("operator.listen", "operator-listen", "FRESHGATE_OPERATOR_LISTEN");
    PUBLIC_URL = Setting::without_flag("public_url", "FRESHGATE_PUBLIC_URL");
    TRUSTED_PROXIES = Setting::without_flag("trusted_proxies", "FRESHGATE_TRUSTED_PROXIES");
    FORWARDED_HEADER = Setting::without_flag("forwarded_header", "FRESHGATE_FORWARDED_HEADER");
    TLS_CERTIFICATE = Setting::new("tls.certificate", "tls-certificate", "FRESHGATE_TLS_CERTIFICATE");
    TLS_KEY = Setting::new("tls.key", "tls-key", "FRESHGATE_TLS_KEY");
    LOG_FILTER = Setting::new("log.filter", "log", "FRESHGATE_LOG");
    LOG_FORMAT = Setting::new("log.format", "log-format", "FRESHGATE_LOG_FORMAT");
    ABSOLUTE_LIFETIME = Setting::without_flag("session.absolute_lifetime", "FRESHGATE_SESSION_ABSOLUTE_LIFETIME");
    IDLE_TIMEOUT = Setting::without_flag("session.idle_timeout", "FRESHGATE_SESSION_IDLE_TIMEOUT");
    ENDED_KEPT = Setting::without_flag("session.ended_kept", "FRESHGATE_SESSION_ENDED_KEPT");
    MIN_VALIDITY = Setting::without_flag("session.min_validity", "FRESHGATE_SESSION_MIN_VALIDITY");
    REFRESH_AHEAD = Setting::without_flag("session.refresh_ahead", "FRESHGATE_SESSION_REFRESH_AHEAD");
    ACTIVE_FOR = Setting::without_flag("session.active_for", "FRESHGATE_SESSION_ACTIVE_FOR");
    KEYS_FILE = Setting::without_flag("keys.file", "FRESHGATE_KEYS_FILE");
    FORMER_COOKIE_SECRETS = Setting::file_only("keys.former_cookie_secrets");
    FORMER_COOKIE_SECRETS_FILE = Setting::variable_only("FRESHGATE_FORMER_COOKIE_SECRETS_FILE");
    CONNECTIONS = Setting::without_flag("limits.connections", "FRESHGATE_LIMITS_CONNECTIONS");
    CONNECTIONS_PER_CLIENT = Setting::without_flag("limits.connections_per_client", "FRESHGATE_LIMITS_CONNECTIONS_PER_CLIENT");
    REQUEST_HEADER_BYTES = Setting::without_flag("limits.request_header_bytes", "FRESHGATE_LIMITS_REQUEST_HEADER_BYTES");
    SOCKETS_PER_SESSION = Setting::without_flag("limits.sockets_per_session", "FRESHGATE_LIMITS_SOCKETS_PER_SESSION");
    LOGINS_IN_FLIGHT = Setting::without_flag("limits.logins_in_flight", "FRESHGATE_LIMITS_LOGINS_IN_FLIGHT");
    LOGINS_PER_MINUTE = Setting::without_flag("limits.logins_per_minute", "FRESHGATE_LIMITS_LOGINS_PER_MINUTE");
    REFRESHES_PER_MINUTE = Setting::without_flag("limits.refreshes_per_minute", "FRESHGATE_LIMITS_REFRESHES_PER_MINUTE");
    LOGOUTS_PER_MINUTE = Setting::without_flag("limits.logouts_per_minute", "FRESHGATE_LIMITS_LOGOUTS_PER_MINUTE");
    SESSION_API = Setting::new("session_api", "session-api", "FRESHGATE_SESSION_API");
    COOKIE_DOMAIN = Setting::without_flag("cookie_domain", "FRESHGATE_COOKIE_DOMAIN");
    UPSTREAM = Setting::file_only("upstream");
    REQUIRE_LOGIN = Setting::new("access.require_login", "require-login", "FRESHGATE_ACCESS_REQUIRE_LOGIN");
    ACCESS_EMAILS = Setting::without_flag("access.emails", "FRESHGATE_ACCESS_EMAILS");
    ACCESS_EMAIL_DOMAINS = Setting::without_flag("access.email_domains", "FRESHGATE_ACCESS_EMAIL_DOMAINS");
    ACCESS_GROUPS = Setting::without_flag("access.groups", "FRESHGATE_ACCESS_GROUPS");
    ACCESS_CLAIMS = Setting::file_only("access.claims");
    UNVERIFIED_EMAIL = Setting::without_flag("access.unverified_email", "FRESHGATE_ACCESS_UNVERIFIED_EMAIL");
    ACCESS_RULE = Setting::file_only("access.rule");
    FORWARD_AUTH_PROXY = Setting::without_flag("forward_auth.proxy", "FRESHGATE_FORWARD_AUTH_PROXY");
    FORWARD_AUTH_TOKENS = Setting::without_flag("forward_auth.tokens", "FRESHGATE_FORWARD_AUTH_TOKENS");
    CLIENT_KEY_FILE = Setting::without_flag("provider.NAME.client_key_file", "FRESHGATE_CLIENT_KEY_FILE");
    CLIENT_KEY_ALGORITHM = Setting::file_only("provider.NAME.client_key_algorithm");
    CLIENT_KEY_ID = Setting::file_only("provider.NAME.client_key_id");
    ASSERTION_AUDIENCE = Setting::file_only("provider.NAME.assertion_audience");
    PAR = Setting::file_only("provider.NAME.par");
    DPOP = Setting::file_only("provider.NAME.dpop");
    ISSUER = Setting::file_only("provider.NAME.issuer");
    CA_FILE = Setting::file_only("provider.NAME.ca_file");
    TIMEOUT = Setting::file_only("provider.NAME.timeout");
    CLOCK_LEEWAY = Setting::file_only("provider.NAME.clock_leeway");
    TRUSTED_AUDIENCES = Setting::file_only("provider.NAME.trusted_audiences");
    OFFLINE_ACCESS = Setting::file_only("provider.NAME.offline_access");
    USERINFO = Setting::file_only("provider.NAME.userinfo");
    LOST_ANSWER = Setting::file_only("provider.NAME.lost_answer");
    GRACE = Setting::file_only("provider.NAME.grace");
    REFRESHES_IN_FLIGHT = Setting::file_only("provider.NAME.refreshes_in_flight");
    REDIRECT_URI = Setting::variable_only("FRESHGATE_REDIRECT_URI");
    COOKIE_SECRET = Setting::variable_only("FRESHGATE_COOKIE_SECRET");
    COOKIE_SECRET_FILE = Setting::variable_only("FRESHGATE_COOKIE_SECRET_FILE");
    EXPOSE_TOKENS = Setting::variable_only("FRESHGATE_EXPOSE_TOKENS");
    CLIENT_ID = Setting::variable_only("FRESHGATE_CLIENT_ID");
    CLIENT_SECRET = Setting::variable_only("FRESHGATE_CLIENT_SECRET");
    CLIENT_SECRET_FILE = Setting::variable_only("FRESHGATE_CLIENT_SECRET_FILE");
    SERVER_METADATA_URL = Setting::variable_only("FRESHGATE_SERVER_METADATA_URL");
    SCOPE = Setting::variable_only("FRESHGATE_SCOPE");
    DEV_TOKEN_LIFETIME = Setting::without_key("token-lifetime", "FRESHGATE_DEV_TOKEN_LIFETIME");
    DEV_ROTATION = Setting::without_key("rotation", "FRESHGATE_DEV_ROTATION");
    DEV_GRACE = Setting::without_key("grace", "FRESHGATE_DEV_GRACE");
    DEV_USERS = Setting::without_key("user", "FRESHGATE_DEV_USERS");
    DEV_PROVIDER_LISTEN = Setting::without_key("provider-listen", "FRESHGATE_DEV_PROVIDER_LISTEN");
}

/// Where values come from, the first that has one wins: flags, variables, freshgate.toml.
pub(super) struct Sources<'a> {
    /// The flags that were given, by name without the dashes.
    pub(super) flags: Vec<(&'static str, PathBuf)>,
    pub(super) environment: &'a Environment,
    /// What freshgate.toml holds; empty if there is none.
    pub(super) file: Table,
    /// The folder of freshgate.toml: paths in it start there.
    pub(super) file_folder: PathBuf,
}

/// A value that was given.
#[derive(Clone)]
pub(super) struct Given {
    /// What to call it: `--listen`, `FRESHGATE_LISTEN`, `listen`.
    pub(super) name: String,
    pub(super) item: Item,
    pub(super) written: Written,
    /// The folder that a relative path in it starts from.
    pub(super) folder: PathBuf,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// As TOML: numbers are numbers.
    Toml,
    /// As bare text, in a flag or a variable: numbers are digits.
    Bare,
}

impl Sources<'_> {
    /// The value that wins, if one was given. A flag or variable that is not UTF-8 goes into the report.
    pub(super) fn find(&self, setting: Setting, report: &mut Report) -> Option<Given> {
        let folder = self.environment.current_folder().to_owned();
        if let Some((name, value)) = self.flags.iter().find(|(name, _)| Some(*name) == setting.flag) {
            let name = format!("--{name}");
            return match value.to_str() {
                Some(text) => {
                    let item = Item::text(text, Place::of_flag(&name, text));
                    Some(Given { name, item, written: Written::Bare, folder })
                }
                None => {
                    report.add(Problem::error(format!("`{name}` is not UTF-8 text")));
                    None
                }
            };
        }
        if let Some(given) =
            setting.variable.and_then(|name| variable(self.environment, name, Shown::Yes, report))
        {
            return Some(given);
        }
        let entry = setting.key.and_then(|key| self.file.entry_at(key))?;
        Some(Given {
            name: setting.key.unwrap_or_default().to_owned(),
            item: entry.item.clone(),
            written: Written::Toml,
            folder: self.file_folder.clone(),
        })
    }
}

/// Whether a report may show a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Yes,
    /// It is a secret.
    No,
}

/// A variable that is set.
pub(super) fn variable(
    environment: &Environment,
    name: &str,
    shown: Shown,
    report: &mut Report,
) -> Option<Given> {
    let Some(text) = environment.variable(name)?.to_str() else {
        report.add(Problem::error(format!("`{name}` is not UTF-8 text")));
        return None;
    };
    Some(Given {
        name: name.to_owned(),
        item: Item::text(text, Place::of_variable(name, text, shown == Shown::No)),
        written: Written::Bare,
        folder: environment.current_folder().to_owned(),
    })
}
