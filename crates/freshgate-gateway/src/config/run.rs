//! The configuration of `freshgate run`.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use freshgate::session::SessionPolicy;

use super::{
    AppConfig, Config,
    access::AccessRead,
    auth, basics,
    client_key::ClientKeySettings,
    environment::Environment,
    keys, listen,
    provider::Overrides,
    public_address::{self, Listening},
    python,
    report::{Problem, Report},
    secrets::{self, Locations},
    setting::{
        ABSOLUTE_LIFETIME, ACTIVE_FOR, CLIENT_KEY_FILE, COOKIE_DOMAIN, ENDED_KEPT, Given, IDLE_TIMEOUT,
        LISTEN, MIN_VALIDITY, PUBLIC_URL, REFRESH_AHEAD, SECRETS, SESSION_API, Shown, Sources, UPSTREAM,
        Written, variable,
    },
    sources, state_folder,
    store_location::StoreLocation,
    streamlit_options::{self, StreamlitOptions, streamlit_files},
    suggest,
};

/// What `freshgate run` was told, checked.
#[derive(Clone, Debug)]
pub struct RunConfig {
    /// The gate.
    pub gate: Config,
    /// The app behind it.
    pub app: AppConfig,
}

/// Reads the configuration of `freshgate run`.
///
/// With the configuration comes a report of warnings and notes, which may be empty.
///
/// # Errors
/// A report of everything that is wrong; nothing was changed or started.
pub fn load_run(run: &crate::cli::Run, environment: &Environment) -> Result<(RunConfig, Report), Report> {
    load(Some(&run.app), &run.common, &run.app_options, environment)
}

/// Reads the same for `freshgate check`. Without an app the current folder is where it would be.
///
/// # Errors
/// As [`load_run`].
pub fn load_check(
    check: &crate::cli::Check,
    environment: &Environment,
) -> Result<(RunConfig, Report), Report> {
    load(check.app.as_deref(), &check.common, &check.app_options, environment)
}

fn load(
    app: Option<&Path>,
    common: &crate::cli::Common,
    options: &crate::cli::AppOptions,
    environment: &Environment,
) -> Result<(RunConfig, Report), Report> {
    let mut report = Report::default();
    let script = match app {
        Some(app) => script(app, environment, &mut report),
        None => environment.absolute(Path::new("streamlit_app.py")),
    };
    let config = read(script, common, options, environment, &mut report);
    match config {
        Some(config) if !report.has_errors() => Ok((config, report)),
        _ => Err(report),
    }
}

fn read(
    script: PathBuf,
    common: &crate::cli::Common,
    options: &crate::cli::AppOptions,
    environment: &Environment,
    report: &mut Report,
) -> Option<RunConfig> {
    let script_folder = script.parent().unwrap_or(environment.current_folder()).to_owned();
    let sources = sources(common, options.flags(), environment, report);
    warn_of_settings_of_serve(&sources, report);
    let streamlit = streamlit_options::read(&options.streamlit, &script_folder, environment, report);
    let basics = basics(&sources, &streamlit, report);
    refuse_rules_of_hosts(&basics.access, report);

    let secrets_files = secrets_files(&sources, &streamlit, &script_folder, environment, report);
    let secrets = secrets::read(&secrets_files, &sources.file, environment, report);
    let auth =
        auth::read(&secrets, environment, &|provider, report| overrides(&sources, provider, report), report);
    check_providers(&sources, &auth, report);

    let public_url = sources.find(PUBLIC_URL, report);
    let listening = Listening {
        address: basics.listen,
        given: basics.listen_given.as_ref(),
        tls: basics.tls.as_ref().map(|tls| &tls.given),
    };
    let public = auth.redirect_uri.as_ref().and_then(|given| {
        let base_path = Some(&streamlit.base_path);
        public_address::read(given, &listening, base_path, public_url.as_ref(), report)
    });
    let state_folder = state_folder::path(environment.current_folder());
    let tell_secrets = secrets_files.to_tell_streamlit();
    let store = basics.store.unwrap_or_else(|| StoreLocation::Sqlite(state_folder.join("sessions.db")));
    let keys = keys::read(&sources, store.folder().unwrap_or(&state_folder), report);
    let python = python(&sources, report);
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
        cookie_domain: None,
        access: basics.access.access,
        limits: basics.limits,
        log: basics.log,
        state_folder,
    };
    let app = AppConfig {
        script,
        arguments: streamlit.arguments_behind_the_gate(!tell_secrets.is_empty()),
        python,
        trusted_user_headers: streamlit.trusted_user_headers.clone(),
        secrets_files: tell_secrets,
    };
    Some(RunConfig { gate, app })
}

/// The apps of `serve` are none of `run` and `dev`.
pub(super) fn warn_of_settings_of_serve(sources: &Sources<'_>, report: &mut Report) {
    for setting in [UPSTREAM, SESSION_API, COOKIE_DOMAIN] {
        if let Some(entry) = setting.key.and_then(|key| sources.file.entry(key)) {
            report.add(
                Problem::warning(format!("`{}` has no effect", entry.key))
                    .at(&entry.key_place, "is for `freshgate serve`")
                    .help("start the gate with `freshgate serve`, or remove it"),
            );
        }
    }
}

/// Where there is one host, a rule for another would never count.
pub(super) fn refuse_rules_of_hosts(access: &AccessRead, report: &mut Report) {
    for (_, given) in &access.hosts {
        given.refuse::<()>(
            "is for `freshgate serve`: here is one host alone",
            "remove it from the rule, which then holds for the app",
            report,
        );
    }
}

/// Where secrets are: as we were told, else where Streamlit was told to look, else where it looks by itself.
pub(super) fn secrets_files(
    sources: &Sources<'_>,
    streamlit: &StreamlitOptions,
    script_folder: &Path,
    environment: &Environment,
    report: &mut Report,
) -> Locations {
    match sources.find(SECRETS, report) {
        Some(given) => Locations::Here(given),
        None if !streamlit.secrets_files.is_empty() => {
            Locations::OfStreamlit(streamlit.secrets_files.clone())
        }
        None => Locations::Usual(streamlit_files("secrets.toml", script_folder, environment)),
    }
}

/// The script: the file itself, or `streamlit_app.py` of a folder, as Streamlit has it.
pub(super) fn script(app: &Path, environment: &Environment, report: &mut Report) -> PathBuf {
    let mut path = environment.absolute(app);
    if path.is_dir() {
        path.push("streamlit_app.py");
    }
    if app.to_str().is_some_and(|text| text.starts_with("https://") || text.starts_with("http://")) {
        report.add(Problem::error("the app is an address").help("download the script, and name the file"));
    } else if !path.is_file() {
        report.add(
            Problem::error(format!("there is no app `{}`", environment.shown(&path)))
                .help("name your Streamlit script, such as app.py"),
        );
    }
    path
}

/// Where the gate listens: as it was told itself, else where Streamlit was told to listen.
pub(super) fn listen(
    sources: &Sources<'_>,
    streamlit: &StreamlitOptions,
    report: &mut Report,
) -> (SocketAddr, Option<Given>) {
    let default = listen::loopback(listen::DEFAULT_PORT);
    if let Some(given) = sources.find(LISTEN, report) {
        return (listen::read(&given, report).unwrap_or(default), Some(given));
    }
    let mut address = default;
    let mut by = None;
    if let Some(given) = &streamlit.port
        && let Some(port) = given.number(1..=65535, report).and_then(|port| u16::try_from(port).ok())
    {
        address.set_port(port);
        by = Some(given);
    }
    if let Some(given) = &streamlit.address {
        match given.item.as_text() {
            Some("localhost") => {}
            Some(text) if text.parse::<std::net::IpAddr>().is_ok() => {
                address.set_ip(text.parse().unwrap_or(address.ip()));
                by = by.or(Some(given));
            }
            _ => report.add(
                Problem::warning(format!("`{}` has no effect", given.name))
                    .at(&given.item.place, "not an address of this machine")
                    .help("say where the gate listens with `--listen ADDRESS:PORT`"),
            ),
        }
    }
    (address, by.cloned())
}

pub(super) fn session(sources: &Sources<'_>, report: &mut Report) -> SessionPolicy {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let mut policy = SessionPolicy::default();
    if let Some(lifetime) = sources
        .find(ABSOLUTE_LIFETIME, report)
        // Browsers keep no cookie longer than 400 days (RFC 6265bis section 5.5).
        .and_then(|given| given.duration(Duration::from_secs(60)..=DAY * 400, report))
    {
        policy.absolute_lifetime = lifetime;
    }
    policy.idle_timeout = sources
        .find(IDLE_TIMEOUT, report)
        .and_then(|given| given.duration(Duration::from_secs(10)..=DAY * 400, report));
    if let Some(kept) =
        sources.find(ENDED_KEPT, report).and_then(|given| given.duration(DAY..=DAY * 400, report))
    {
        policy.ended_kept = kept;
    }
    if let Some(validity) = sources
        .find(MIN_VALIDITY, report)
        .and_then(|given| given.duration(Duration::ZERO..=Duration::from_secs(600), report))
    {
        policy.min_validity = validity;
    }
    if let Some(ahead) = sources.find(REFRESH_AHEAD, report).and_then(|given| given.yes_or_no(report)) {
        policy.refresh_ahead = ahead;
    }
    if let Some(active_for) =
        sources.find(ACTIVE_FOR, report).and_then(|given| given.duration(Duration::ZERO..=DAY, report))
    {
        policy.active_for = active_for;
    }
    policy
}

/// What `[provider.NAME]` says of a provider.
pub(super) fn overrides(sources: &Sources<'_>, provider: &str, report: &mut Report) -> Overrides {
    let table = sources.file.get("provider").and_then(|item| item.as_table()?.get(provider)?.as_table());
    let given = |key: &str| {
        Some(Given {
            name: format!("provider.{provider}.{key}"),
            item: table?.get(key)?.clone(),
            written: Written::Toml,
            folder: sources.file_folder.clone(),
        })
    };
    let in_environment = match CLIENT_KEY_FILE.variable {
        Some(name) if provider == auth::DEFAULT => variable(sources.environment, name, Shown::Yes, report),
        _ => None,
    };
    Overrides {
        client_key: ClientKeySettings {
            file: in_environment.or_else(|| given("client_key_file")),
            algorithm: given("client_key_algorithm"),
            id: given("client_key_id"),
            audience: given("assertion_audience"),
        },
        par: given("par"),
        dpop: given("dpop"),
        issuer: given("issuer"),
        ca_file: given("ca_file"),
        timeout: given("timeout"),
        clock_leeway: given("clock_leeway"),
        trusted_audiences: given("trusted_audiences"),
        offline_access: given("offline_access"),
        userinfo: given("userinfo"),
        lost_answer: given("lost_answer"),
        grace: given("grace"),
        refreshes_in_flight: given("refreshes_in_flight"),
    }
}

/// A `[provider.NAME]` without an `[auth.NAME]` is a slip of the pen.
pub(super) fn check_providers(sources: &Sources<'_>, auth: &auth::Auth, report: &mut Report) {
    let Some(table) = sources.file.get("provider").and_then(|item| item.as_table()) else { return };
    if auth.described.is_empty() {
        return;
    }
    for entry in table.entries.iter().filter(|entry| !auth.described.contains(&entry.key)) {
        let names: Vec<&str> = auth.described.iter().map(String::as_str).collect();
        report.add(
            Problem::error(format!("there is no provider `{}`", entry.key))
                .at(&entry.key_place, "not among the providers of `[auth]`")
                .help(suggest::choice(&entry.key, &names)),
        );
    }
}
