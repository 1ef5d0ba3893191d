//! The configuration of `freshgate serve`: the gate, and the apps that it stands in front of.

use std::path::PathBuf;

use super::{
    Config, auth, basics,
    environment::Environment,
    hosts::{self, Hosts},
    keys,
    public_address::{self, Listening},
    report::Report,
    run,
    secrets::{self, Locations},
    session_api::{self, SessionApiAddress},
    setting::{PUBLIC_URL, SECRETS},
    sources, state_folder,
    store_location::StoreLocation,
    streamlit_options::StreamlitOptions,
    upstream::{self, Upstream},
};

/// What `freshgate serve` was told, checked.
#[derive(Clone, Debug)]
pub struct ServeConfig {
    /// The gate.
    pub gate: Config,
    /// The apps behind it; at least one.
    pub upstreams: Vec<Upstream>,
    /// Where they ask about their sessions, if one of them may.
    pub session_api: Option<SessionApiAddress>,
}

/// Reads the configuration of `freshgate serve`. Nothing of Streamlit's own is looked at, but for the secrets.toml that is
/// named.
///
/// With the configuration comes a report of warnings and notes, which may be empty.
///
/// # Errors
/// A report of everything that is wrong; nothing was changed or started.
pub fn load_serve(
    serve: &crate::cli::Serve,
    environment: &Environment,
) -> Result<(ServeConfig, Report), Report> {
    let mut report = Report::default();
    match read(serve, environment, &mut report) {
        Some(config) if !report.has_errors() => Ok((config, report)),
        _ => Err(report),
    }
}

fn read(serve: &crate::cli::Serve, environment: &Environment, report: &mut Report) -> Option<ServeConfig> {
    let flags = serve.session_api.iter().map(|address| ("session-api", PathBuf::from(address))).collect();
    let sources = sources(&serve.common, flags, environment, report);
    let basics = basics(&sources, &StreamlitOptions::none(), report);
    let files = sources.find(SECRETS, report).map_or(Locations::FreshgateToml, Locations::Here);
    let secrets = secrets::read(&files, &sources.file, environment, report);
    let overrides = |provider: &str, report: &mut Report| run::overrides(&sources, provider, report);
    let auth = auth::read(&secrets, environment, &overrides, report);
    run::check_providers(&sources, &auth, report);

    let public_url = sources.find(PUBLIC_URL, report);
    let listening = Listening {
        address: basics.listen,
        given: basics.listen_given.as_ref(),
        tls: basics.tls.as_ref().map(|tls| &tls.given),
    };
    let public = auth
        .redirect_uri
        .as_ref()
        .and_then(|given| public_address::read(given, &listening, None, public_url.as_ref(), report));
    let hosts = Hosts::read(&sources, public.as_ref(), report);
    let (upstreams, cookie_domain) = upstream::read(&sources, hosts, report);
    let session_api = session_api::read(&sources, &upstreams, report);
    let access = basics.access;
    hosts::check_rule_hosts(&access.hosts, public.as_ref(), &upstreams, report);
    let state_folder = state_folder::path(environment.current_folder());
    let store = basics.store.unwrap_or_else(|| StoreLocation::Sqlite(state_folder.join("sessions.db")));
    let keys = keys::read(&sources, store.folder().unwrap_or(&state_folder), report);
    let gate = Config {
        listen: basics.listen,
        operator_listen: basics.operator_listen,
        tls: basics.tls.map(|tls| tls.tls),
        proxies: basics.proxies,
        public: public?,
        store,
        session: basics.session,
        cookie_secret: auth.cookie_secret?,
        keys,
        providers: auth.providers,
        exposed_tokens: auth.exposed_tokens,
        cookie_domain,
        access: access.access,
        limits: basics.limits,
        log: basics.log,
        state_folder,
    };
    Some(ServeConfig { gate, upstreams, session_api })
}
