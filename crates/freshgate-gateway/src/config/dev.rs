//! The configuration of `freshgate dev`: the gate and a provider that know each other, with nothing to write down.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use freshgate::{
    clock::Entropy,
    provider::{ProviderConfig, TransportOptions},
    session::SessionPolicy,
};
use freshgate_devidp::{DevClient, DevProviderConfig, DevUser, Rotation};
use freshgate_oidc::{ClientCredential, ExpectedIssuer, Issuer, Secret};
use url::Url;

use super::{
    Access, AppConfig, Config, ConfiguredProvider, ExposedTokens, KeysConfig, Limits, LogConfig,
    PublicAddress, auth, basics, client_kwargs,
    environment::Environment,
    keys, listen,
    provider::DEFAULT_CLOCK_LEEWAY,
    python,
    report::{Report, StartupProblem},
    run,
    setting::{
        DEV_GRACE, DEV_PROVIDER_LISTEN, DEV_ROTATION, DEV_TOKEN_LIFETIME, DEV_USERS, Given, LISTEN, Sources,
    },
    sources, state_folder,
    store_location::StoreLocation,
    streamlit_options,
};
use crate::listener::{Tls, TrustedProxies};

/// Where the development provider listens unless told otherwise.
const DEFAULT_PROVIDER_PORT: u16 = 8510;
/// The gate's name at the development provider.
const CLIENT_ID: &str = "freshgate-dev";
/// Who can sign in unless told otherwise.
const DEFAULT_USERS: [&str; 2] = ["ada", "grace"];

/// What `freshgate dev` was told, checked. [`DevConfig::provider`] and [`DevConfig::gate`] make the rest of it, once the
/// listeners are bound.
#[derive(Clone, Debug)]
pub struct DevConfig {
    /// Where the gate listens for browsers.
    pub listen: SocketAddr,
    /// Where operators ask how the gate is, if anywhere.
    pub operator_listen: Option<SocketAddr>,
    /// Where the provider listens; a loopback address.
    pub provider_listen: SocketAddr,
    /// How long the provider's access tokens live.
    pub token_lifetime: Duration,
    /// Whether a refresh replaces the refresh token.
    pub rotation: Rotation,
    /// Who can sign in.
    pub users: Vec<String>,
    /// What is logged.
    pub log: LogConfig,
    /// The app.
    pub app: AppConfig,
    store: StoreLocation,
    session: SessionPolicy,
    access: Access,
    limits: Limits,
    tls: Option<Tls>,
    proxies: TrustedProxies,
    public: PublicAddress,
    keys: KeysConfig,
    state_folder: PathBuf,
}

/// Reads the configuration of `freshgate dev`. `[auth]` in secrets.toml is not read.
///
/// With the configuration comes a report of warnings and notes, which may be empty.
///
/// # Errors
/// A report of everything that is wrong; nothing was changed or started.
pub fn load_dev(dev: &crate::cli::Dev, environment: &Environment) -> Result<(DevConfig, Report), Report> {
    let mut report = Report::default();
    let config = read(dev, environment, &mut report);
    if report.has_errors() { Err(report) } else { Ok((config, report)) }
}

fn read(dev: &crate::cli::Dev, environment: &Environment, report: &mut Report) -> DevConfig {
    let app = dev.app.as_deref().unwrap_or(Path::new("streamlit_app.py"));
    let script = run::script(app, environment, report);
    let script_folder = script.parent().unwrap_or(environment.current_folder());
    let flags = [
        ("token-lifetime", dev.token_lifetime.clone()),
        ("rotation", dev.rotation.clone()),
        ("grace", dev.grace.clone()),
        ("provider-listen", dev.provider_listen.clone()),
        ("user", (!dev.users.is_empty()).then(|| dev.users.join(","))),
    ];
    let flags = flags.into_iter().filter_map(|(name, text)| Some((name, PathBuf::from(text?))));
    let flags = flags.chain(dev.app_options.flags()).collect();
    let sources = sources(&dev.common, flags, environment, report);
    run::warn_of_settings_of_serve(&sources, report);
    let streamlit = streamlit_options::read(&dev.app_options.streamlit, script_folder, environment, report);
    let basics = basics(&sources, &streamlit, report);
    run::refuse_rules_of_hosts(&basics.access, report);
    loopback_only(&sources, basics.listen, streamlit.address.as_ref(), report);
    let tell_secrets =
        run::secrets_files(&sources, &streamlit, script_folder, environment, report).to_tell_streamlit();
    let state_folder = state_folder::path(environment.current_folder());
    let dev_folder = state_folder.join("dev");
    let store = basics.store.unwrap_or_else(|| StoreLocation::Sqlite(dev_folder.join("sessions.db")));
    let keys = keys::read(&sources, store.folder().unwrap_or(&dev_folder), report);
    DevConfig {
        listen: basics.listen,
        operator_listen: basics.operator_listen,
        provider_listen: provider_listen(&sources, report),
        token_lifetime: sources
            .find(DEV_TOKEN_LIFETIME, report)
            .and_then(|given| given.duration(Duration::from_secs(1)..=Duration::from_secs(24 * 3600), report))
            .unwrap_or(Duration::from_secs(300)),
        rotation: rotation(&sources, report),
        users: users(&sources, report),
        log: basics.log,
        store,
        session: basics.session,
        access: basics.access.access,
        limits: basics.limits,
        app: AppConfig {
            script: script.clone(),
            arguments: streamlit.arguments_behind_the_gate(!tell_secrets.is_empty()),
            python: python(&sources, report),
            trusted_user_headers: streamlit.trusted_user_headers.clone(),
            secrets_files: tell_secrets,
        },
        public: PublicAddress::on_this_machine(basics.listen, basics.tls.is_some(), &streamlit.base_path),
        tls: basics.tls.map(|tls| tls.tls),
        proxies: basics.proxies,
        keys,
        state_folder,
    }
}

/// Anyone who reaches the gate can sign in as anyone, whoever said where it listens.
fn loopback_only(
    sources: &Sources<'_>,
    listen: SocketAddr,
    of_streamlit: Option<&Given>,
    report: &mut Report,
) {
    if listen.ip().is_loopback() {
        return;
    }
    if let Some(given) = sources.find(LISTEN, report).as_ref().or(of_streamlit) {
        let loopback = listen::loopback(listen.port());
        let help = format!(
            "listen on a loopback address, such as `--listen {loopback}`: whoever reaches the gate can sign in as anyone"
        );
        given.refuse::<()>("reaches beyond this machine", &help, report);
    }
}

fn provider_listen(sources: &Sources<'_>, report: &mut Report) -> SocketAddr {
    let default = listen::loopback(DEFAULT_PROVIDER_PORT);
    let Some(given) = sources.find(DEV_PROVIDER_LISTEN, report) else { return default };
    match listen::read(&given, report) {
        Some(address) if !address.ip().is_loopback() => {
            let help = format!(
                "choose a loopback address, such as {default}: whoever reaches the provider can sign in"
            );
            given.refuse("reaches beyond this machine", &help, report).unwrap_or(default)
        }
        address => address.unwrap_or(default),
    }
}

fn rotation(sources: &Sources<'_>, report: &mut Report) -> Rotation {
    let rotates =
        sources.find(DEV_ROTATION, report).and_then(|given| given.yes_or_no(report)).unwrap_or(true);
    let grace = sources
        .find(DEV_GRACE, report)
        .and_then(|given| given.duration(Duration::ZERO..=Duration::from_secs(3600), report))
        .unwrap_or_default();
    if rotates { Rotation::On { grace } } else { Rotation::Off }
}

fn users(sources: &Sources<'_>, report: &mut Report) -> Vec<String> {
    let default = || DEFAULT_USERS.map(str::to_owned).to_vec();
    let Some(given) = sources.find(DEV_USERS, report) else { return default() };
    let Some(text) = given.text(report) else { return default() };
    let mut users: Vec<String> = Vec::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        // A subject is at most 255 ASCII characters (OpenID Connect Core section 2).
        if name.len() > 255 || !name.chars().all(|character| character.is_ascii_graphic() || character == ' ')
        {
            given.refuse::<()>("not a name for a user", "use plain ASCII letters, such as ada", report);
        } else if !users.iter().any(|user| user == name) {
            users.push(name.to_owned());
        }
    }
    users
}

impl DevConfig {
    /// Says where the gate's listener really is; needed where `listen` has port 0.
    pub fn bound_to(&mut self, listener: SocketAddr) {
        self.listen = listener;
        self.public.bound_to(listener);
    }

    /// The provider. Its keys, its sessions and the gate's secret there stay in `.freshgate/dev/`, so that users stay
    /// signed in over a restart.
    ///
    /// # Errors
    /// If `.freshgate/dev/` cannot be written.
    pub fn provider(&self, entropy: &dyn Entropy) -> Result<DevProviderConfig, StartupProblem> {
        let folder = self.prepare_folder()?;
        let secret = kept_secret(&folder.join("client-secret"), entropy)?;
        let mut client = DevClient::confidential(CLIENT_ID, secret, self.public.redirect_uri().as_str());
        client.post_logout_redirect_uris =
            vec![self.public.redirect_uri().to_string(), self.public.start().to_string()];
        client.backchannel_logout_uri = self.public.start().join("auth/backchannel-logout").ok();
        Ok(DevProviderConfig {
            clients: vec![client],
            users: self.users.iter().map(DevUser::named).collect(),
            access_token_lifetime: self.token_lifetime,
            id_token_lifetime: self.token_lifetime,
            rotation: self.rotation,
            state_file: Some(folder.join("provider.json")),
            ..DevProviderConfig::new(self.provider_listen)
        })
    }

    /// The gate's configuration, with the provider of this issuer as its only one.
    ///
    /// # Errors
    /// If `.freshgate/dev/` cannot be written.
    pub fn gate(&self, issuer: &str, entropy: &dyn Entropy) -> Result<Config, StartupProblem> {
        let folder = self.prepare_folder()?;
        let issuer = issuer.trim_end_matches('/');
        let metadata_url =
            Url::parse(&format!("{issuer}/.well-known/openid-configuration")).map_err(|error| {
                StartupProblem::new("the development provider has no usable address")
                    .at(issuer)
                    .because(&error)
                    .mend(
                        "choose another loopback address for it, such as `--provider-listen 127.0.0.1:8520`",
                    )
            })?;
        let secret = kept_secret(&folder.join("client-secret"), entropy)?;
        let secret = ClientCredential::Secret(secret);
        let provider = ProviderConfig {
            issuer: ExpectedIssuer::Exactly(Issuer::new(issuer)),
            scope: "openid email profile".to_owned(),
            authorize_parameters: client_kwargs::default_parameters(),
            clock_leeway: DEFAULT_CLOCK_LEEWAY,
            ..ProviderConfig::new(auth::DEFAULT, metadata_url, CLIENT_ID, secret)
        };
        Ok(Config {
            listen: self.listen,
            operator_listen: self.operator_listen,
            tls: self.tls.clone(),
            proxies: self.proxies.clone(),
            public: self.public.clone(),
            store: self.store.clone(),
            session: self.session.clone(),
            cookie_secret: kept_secret(&folder.join("cookie-secret"), entropy)?,
            keys: self.keys.clone(),
            providers: vec![ConfiguredProvider { provider, transport: TransportOptions::default() }],
            exposed_tokens: ExposedTokens { id: true, access: true },
            access: self.access.clone(),
            limits: self.limits,
            cookie_domain: None,
            log: self.log.clone(),
            state_folder: self.state_folder.clone(),
        })
    }

    fn prepare_folder(&self) -> Result<PathBuf, StartupProblem> {
        let folder = self.state_folder.join("dev");
        state_folder::prepare(&self.state_folder, &folder)?;
        Ok(folder)
    }
}

fn kept_secret(file: &Path, entropy: &dyn Entropy) -> Result<Secret, StartupProblem> {
    state_folder::kept_secret(file, entropy).map_err(|error| {
        StartupProblem::new("cannot keep a secret of the development provider")
            .at(file.display().to_string())
            .because(&error)
            .mend("make the file readable, or delete it: a new one is made")
    })
}
