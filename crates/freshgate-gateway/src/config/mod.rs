//! The configuration: reads flags, `FRESHGATE_*` variables, freshgate.toml and Streamlit's own files once, and yields
//! either values of the right types or one report with every problem, its place and its mend.
//!
//! It owns what may be said and what it means. Doing something about it (opening the store, asking the provider) is
//! others'; what goes wrong there they tell with a [`StartupProblem`], which looks the same.

mod access;
mod auth;
mod client_key;
mod client_kwargs;
mod dev;
mod environment;
mod freshgate_toml;
mod health;
mod hosts;
mod item;
mod keys;
mod limits;
mod listen;
mod log;
mod provider;
mod proxies;
mod public_address;
mod reading;
mod redact;
mod report;
mod run;
mod secrets;
mod serve;
mod session_api;
mod sessions;
mod setting;
mod source;
mod state_folder;
mod store_location;
mod streamlit_options;
mod suggest;
#[cfg(test)]
mod tests;
mod tls;
mod toml_file;
mod upstream;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use freshgate::session::SessionPolicy;
use freshgate_oidc::Secret;
use http::HeaderName;

use crate::listener::{Tls, TrustedProxies};

use access::AccessRead;

pub use access::Access;
pub use auth::ExposedTokens;
pub use dev::{DevConfig, load_dev};
pub use environment::Environment;
pub use health::load_health;
pub use hosts::{Host, changed_apps};
pub use keys::KeysConfig;
pub use limits::Limits;
pub use log::{LogConfig, LogFormat};
pub use provider::ConfiguredProvider;
pub use public_address::PublicAddress;
pub(crate) use public_address::is_loopback_name;
pub use report::{EXIT_BAD_CONFIGURATION, Look, MORE_RESOURCES, Problem, Report, Severity, StartupProblem};
pub use run::{RunConfig, load_check, load_run};
pub use serve::{ServeConfig, load_serve};
pub use session_api::SessionApiAddress;
pub use sessions::{SessionsConfig, load_sessions};
pub use setting::{SETTINGS, Setting};
pub use source::Place;
pub(crate) use state_folder::kept_secret;
pub use store_location::StoreLocation;
pub(crate) use upstream::as_sent;
pub use upstream::{AppScheme, Framework, Told, Upstream};

/// Everything that the gate is told, checked; but for the apps behind it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the gate listens for browsers.
    pub listen: SocketAddr,
    /// Where operators ask how the gate is, if anywhere.
    pub operator_listen: Option<SocketAddr>,
    /// The certificate that the gate shows to browsers, if it speaks TLS.
    pub tls: Option<Tls>,
    /// The proxies in front of the gate.
    pub proxies: TrustedProxies,
    /// The address that browsers use.
    pub public: PublicAddress,
    /// Where sessions are kept.
    pub store: StoreLocation,
    /// How long sessions live and how fresh their tokens are kept.
    pub session: SessionPolicy,
    /// What keys are derived from, and what Streamlit signs with.
    pub cookie_secret: Secret,
    /// Which other keys seal and open.
    pub keys: KeysConfig,
    /// Who signs users in; at least one. The one called `default`, if there is one, comes first.
    pub providers: Vec<ConfiguredProvider>,
    /// Which tokens the app may see.
    pub exposed_tokens: ExposedTokens,
    /// The domain of the session's cookie, if it is for several hosts.
    pub cookie_domain: Option<String>,
    /// Who may enter.
    pub access: Access,
    /// Limits on what browsers may ask.
    pub limits: Limits,
    /// What is logged.
    pub log: LogConfig,
    state_folder: PathBuf,
}

/// The Streamlit app, and how it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppConfig {
    /// The script.
    pub script: PathBuf,
    /// The arguments for `streamlit run`, without those that say where it listens: that is the gate's to say.
    pub arguments: Vec<String>,
    /// The interpreter that has Streamlit, if one was named.
    pub python: Option<PathBuf>,
    /// The request headers that the app takes for who the user is (`server.trustedUserHeaders`): nobody may send them.
    pub trusted_user_headers: Vec<HeaderName>,
    /// Where Streamlit must be told to look for secrets (`secrets.files`); empty: it looks there by itself.
    pub secrets_files: Vec<PathBuf>,
}

impl Config {
    /// Makes the folder that the store is in, if it is freshgate's own `.freshgate/`, which is kept out of git.
    pub fn prepare_store_folder(&self) -> Result<(), StartupProblem> {
        state_folder::prepare_for(&self.store, &self.state_folder)
    }

    /// Whether this folder is made at the start if it is not there: freshgate's own is.
    pub(crate) fn makes_folder(&self, folder: &Path) -> bool {
        folder.starts_with(&self.state_folder)
    }

    /// Says where the listener really is. Needed where `listen` has port 0, as in tests: `{port}` in `redirect_uri`
    /// becomes the port that was chosen.
    pub fn bound_to(&mut self, listener: SocketAddr) {
        self.listen = listener;
        self.public.bound_to(listener);
    }
}

/// What `run`, `dev` and `serve` have in common, read.
struct Basics {
    listen: SocketAddr,
    listen_given: Option<setting::Given>,
    operator_listen: Option<SocketAddr>,
    tls: Option<tls::GivenTls>,
    proxies: TrustedProxies,
    store: Option<StoreLocation>,
    session: SessionPolicy,
    access: AccessRead,
    limits: Limits,
    log: LogConfig,
}

/// The flags that were given, and what freshgate.toml says.
fn sources<'a>(
    common: &crate::cli::Common,
    mut more_flags: Vec<(&'static str, PathBuf)>,
    environment: &'a Environment,
    report: &mut Report,
) -> setting::Sources<'a> {
    let texts = [
        ("listen", &common.listen),
        ("operator-listen", &common.operator_listen),
        ("store", &common.store),
        ("log", &common.log),
        ("log-format", &common.log_format),
    ];
    let paths = [
        ("secrets", &common.secrets),
        ("config", &common.config),
        ("tls-certificate", &common.tls_certificate),
        ("tls-key", &common.tls_key),
    ];
    let mut flags: Vec<_> =
        texts.iter().filter_map(|(name, text)| Some((*name, PathBuf::from(text.as_ref()?)))).collect();
    flags.extend(paths.iter().filter_map(|(name, path)| Some((*name, path.as_ref()?.clone()))));
    if common.require_login {
        flags.push(("require-login", PathBuf::from("true")));
    }
    flags.append(&mut more_flags);
    let file_folder = environment.current_folder().to_owned();
    let mut sources = setting::Sources { flags, environment, file: item::Table::default(), file_folder };
    let named = sources.find(setting::CONFIG, report);
    sources.file = freshgate_toml::read(named.as_ref(), environment, report);
    if let Some(path) = named.as_ref().and_then(|given| Some(given.folder.join(given.item.as_text()?))) {
        sources.file_folder = path.parent().map_or_else(|| sources.file_folder.clone(), Path::to_owned);
    }
    warn_of_unknown_variables(environment, report);
    sources
}

fn basics(
    sources: &setting::Sources<'_>,
    streamlit: &streamlit_options::StreamlitOptions,
    report: &mut Report,
) -> Basics {
    let (listen, listen_given) = run::listen(sources, streamlit, report);
    Basics {
        listen,
        listen_given,
        operator_listen: sources
            .find(setting::OPERATOR_LISTEN, report)
            .and_then(|given| listen::read(&given, report)),
        tls: tls::read(sources, streamlit, report),
        proxies: proxies::read(sources, report),
        store: sources.find(setting::STORE, report).and_then(|given| store_location::read(&given, report)),
        session: run::session(sources, report),
        access: access::read(sources, report),
        limits: limits::read(sources, report),
        log: log::read(sources, report),
    }
}

/// The interpreter that has Streamlit, if one is named.
fn python(sources: &setting::Sources<'_>, report: &mut Report) -> Option<PathBuf> {
    sources.find(setting::PYTHON, report).and_then(|given| given.path(report))
}

/// A variable that is almost one of ours was meant to be one.
fn warn_of_unknown_variables(environment: &Environment, report: &mut Report) {
    let known = || SETTINGS.iter().filter_map(|setting| setting.variable);
    for name in environment.names_starting("FRESHGATE_") {
        if known().any(|known| known == name) {
            continue;
        }
        if let Some(meant) =
            suggest::nearest(name, known()).filter(|meant| strsim::levenshtein(name, meant) <= 2)
        {
            report.add(
                Problem::warning(format!("there is no variable `{name}`"))
                    .at(&Place::of_variable(name, redact::MASK, true), "has no effect")
                    .help(format!("did you mean `{meant}`?")),
            );
        }
    }
}
