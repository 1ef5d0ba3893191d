//! The configuration of `freshgate serve`: the gate, and the apps that it stands in front of.

use std::path::PathBuf;

use freshgate::provider::DpopUse;

use super::{
    Config, auth, basics,
    environment::Environment,
    hosts::{self, Hosts},
    item::{Item, Value},
    keys,
    provider::ConfiguredProvider,
    public_address::{self, Listening},
    report::{Problem, Report},
    run,
    secrets::{self, Locations},
    session_api::{self, SessionApiAddress},
    setting::{PUBLIC_URL, SECRETS, Sources},
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
    /// The apps behind it; at least one, unless a proxy asks for those behind itself.
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

    refuse_bound_tokens(&sources, &auth.providers, report);

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

/// An app can do nothing with an access token that is bound to a key of ours (RFC 9449), and would be handed none.
fn refuse_bound_tokens(sources: &Sources<'_>, providers: &[ConfiguredProvider], report: &mut Report) {
    let Some(Value::List(apps)) = sources.file.get("upstream").map(|apps| &apps.value) else { return };
    let is_bearer = |item: &&Item| item.as_text() == Some("bearer");
    let handed = apps.iter().find_map(|app| match &app.as_table()?.get("hand_off")?.value {
        Value::List(ways) => ways.iter().find(is_bearer),
        _ => None,
    });
    let Some(handed) = handed else { return };
    for provider in providers.iter().filter(|one| one.provider.dpop != DpopUse::Never) {
        let name = &provider.provider.name;
        let dpop =
            sources.file.get("provider").and_then(|all| all.as_table()?.get(name)?.as_table()?.get("dpop"));
        let problem = Problem::error("an app is to be handed access tokens that it could not use")
            .at(&handed.place, "hands over the token alone");
        let problem = match dpop {
            Some(dpop) => problem.beside(&dpop.place, "binds it to a key that the gate keeps"),
            None => problem,
        };
        report.add(
            problem
                .help(format!("set `dpop = \"never\"` in [provider.{name}]"))
                .help("or take \"bearer\" away, and let the app ask the session API, which makes a proof for each request"),
        );
    }
}
