//! `freshgate serve`: the gate alone, in front of apps that run by themselves.

use std::{fs, io, os::unix::fs::FileTypeExt as _, path::Path, process::ExitCode};

use freshgate::clock::SystemEntropy;
use freshgate_oidc::Secret;
use sd_notify::NotifyState;
use tokio::net::UnixListener;

use crate::{
    app,
    cli::Serve,
    config::{
        self, Config, Environment, ServeConfig, SessionApiAddress, StartupProblem, Upstream, changed_apps,
    },
    gate::{self, GateParts, OpenGate, SessionApiListener},
    not_started::NotStarted,
    open_files,
    operator::OperatorListener,
    session_api::UpstreamSecrets,
    signals::{Asked, Signals},
};

/// Stands in front of the apps until it is told to stop. Yields the exit code.
///
/// `command` and `environment` are what the configuration was read from: on SIGHUP it is read from there again.
pub async fn serve(
    command: &Serve,
    environment: &Environment,
    mut config: ServeConfig,
) -> Result<ExitCode, NotStarted> {
    let mut signals = Signals::listen()?;
    let mut problems = NotStarted::default();
    let public = problems.keep(app::listen(config.gate.listen).await).map(|(listener, address)| {
        config.gate.bound_to(address);
        listener
    });
    let ServeConfig { gate: config, upstreams, session_api } = config;
    open_files::allow(config.limits.connections);
    let store = problems.keep(gate::open_store(&config));
    let operator = match config.operator_listen {
        Some(address) => problems.keep(OperatorListener::bind(address).await),
        None => None,
    };
    let keyring = problems.keep(gate::keyring(&config));
    let secrets = problems.keep(secrets(&upstreams));
    let private = match &session_api {
        Some(address) => problems.keep(listen_for_apps(address).await),
        None => None,
    };
    let providers = problems.keep(gate::providers(&config));
    let asking = gate::ask_providers(providers.as_deref().unwrap_or_default(), config.public.redirect_uri());
    let asked = tokio::select! {
        asked = asking => asked,
        () = signals.told_to_stop() => return Ok(ExitCode::SUCCESS),
    };
    problems.keep(asked);
    let (Some(public), Some(store), Some(keyring), Some(providers), Some(secrets), true) =
        (public, store, keyring, providers, secrets, problems.is_empty())
    else {
        return Err(problems);
    };
    let engine = gate::engine(&config, store, keyring, providers);
    let parts = GateParts {
        engine,
        config: config.clone(),
        upstreams: upstreams.clone(),
        upstream_secrets: UpstreamSecrets::new(secrets),
        operator,
    };
    let gate = parts.open(public, private, std::future::ready(()))?;
    let private = session_api.clone().map(RemovedAtTheEnd);
    let start = config.public.start();
    tracing::info!(address = %start, apps = upstreams.len(), "ready");
    tell_service_manager(&[NotifyState::Ready]);
    let mut running = Running { command, environment, config, upstreams, session_api, gate };
    while signals.asked().await == Asked::Reload {
        if let Ok(now) = NotifyState::monotonic_usec_now() {
            tell_service_manager(&[NotifyState::Reloading, now]);
        }
        running.reload();
        tell_service_manager(&[NotifyState::Ready]);
    }
    tell_service_manager(&[NotifyState::Stopping]);
    tracing::info!("stopping");
    let stopped = tokio::select! {
        () = running.gate.close() => ExitCode::SUCCESS,
        () = until_told_to_stop(&mut signals) => {
            tracing::warn!("told to stop a second time: leaving at once");
            ExitCode::FAILURE
        }
    };
    drop(private);
    Ok(stopped)
}

/// Tells systemd, if that started us as a `Type=notify` or `notify-reload` service.
fn tell_service_manager(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(error = &error as &dyn std::error::Error, "the service manager cannot be told");
    }
}

async fn until_told_to_stop(signals: &mut Signals) {
    while signals.asked().await != Asked::Stop {}
}

/// An open gate, and what it serves by.
struct Running<'a> {
    command: &'a Serve,
    environment: &'a Environment,
    config: Config,
    upstreams: Vec<Upstream>,
    session_api: Option<SessionApiAddress>,
    gate: OpenGate,
}

impl Running<'_> {
    /// Reads the configuration again. If anything is wrong with it, that is told, and what was before stays.
    fn reload(&mut self) {
        let (new, notes) = match config::load_serve(self.command, self.environment) {
            Ok(loaded) => loaded,
            Err(report) => {
                report.print();
                tracing::error!("the changed configuration is not taken: what was before stays");
                return;
            }
        };
        notes.print();
        let mut settled = settled_at_the_start(&self.config, &new.gate);
        // Where nobody could ask and now somebody can, or the other way.
        settled.extend((self.session_api != new.session_api).then_some("session_api"));
        if !settled.is_empty() {
            // All or nothing: a gate that serves by half of a file is one that nobody has described.
            tracing::error!(
                settings = settled.join(", "),
                "the changed configuration is not taken: what was before stays. These settings have changed, and need a \
                 restart"
            );
            return;
        }
        match self.take(&new) {
            Ok(()) => tracing::info!(apps = self.upstreams.len(), "the configuration was read again"),
            Err(problems) => {
                problems.report();
                tracing::error!("the changed configuration is not taken: what was before stays");
            }
        }
    }

    fn take(&mut self, new: &ServeConfig) -> Result<(), NotStarted> {
        let secrets = secrets(&new.upstreams)?;
        let mut config = self.config.clone();
        config.access = new.gate.access.clone();
        config.cookie_domain.clone_from(&new.gate.cookie_domain);
        config.limits = new.gate.limits;
        let changed = changed_apps((&self.config, &self.upstreams), (&config, &new.upstreams));
        self.gate.reload(&config, &new.upstreams, secrets, &changed)?;
        self.config = config;
        self.upstreams.clone_from(&new.upstreams);
        Ok(())
    }
}

/// The settings that differ and that a reload does not take up.
fn settled_at_the_start(old: &Config, new: &Config) -> Vec<&'static str> {
    let differ = [
        // Where it says port 0, the two never agree.
        ("listen", old.listen != new.listen && new.listen.port() != 0),
        ("operator.listen", old.operator_listen != new.operator_listen),
        ("redirect_uri", old.public != new.public && new.listen.port() != 0),
        ("store", old.store != new.store),
        ("cookie_secret", old.cookie_secret != new.cookie_secret),
        ("expose_tokens", old.exposed_tokens != new.exposed_tokens),
        ("limits.connections", old.limits.connections != new.limits.connections),
        (
            "limits.connections_per_client",
            old.limits.connections_per_client != new.limits.connections_per_client,
        ),
        ("limits.request_header_bytes", old.limits.request_header_bytes != new.limits.request_header_bytes),
        ("log", old.log != new.log),
        ("tls", !same_certificate(old, new)),
        ("trusted_proxies, forwarded_header", old.proxies != new.proxies),
        ("session", old.session != new.session),
        ("keys", old.keys != new.keys),
        ("auth and provider", old.providers != new.providers),
    ];
    differ.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
}

/// The files themselves are followed.
fn same_certificate(old: &Config, new: &Config) -> bool {
    match (&old.tls, &new.tls) {
        (Some(old), Some(new)) => old.follows_the_files_of(new),
        (old, new) => old.is_none() == new.is_none(),
    }
}

/// By what the apps prove themselves. A file that is not there is made, so that gate and app need to agree on its name alone.
fn secrets(upstreams: &[Upstream]) -> Result<Vec<Secret>, NotStarted> {
    let mut problems = NotStarted::default();
    let files = upstreams.iter().filter_map(|upstream| upstream.secret_file.as_deref());
    let secrets = files.filter_map(|file| problems.keep(secret(file))).collect();
    if problems.is_empty() { Ok(secrets) } else { Err(problems) }
}

fn secret(file: &Path) -> Result<Secret, StartupProblem> {
    let problem = |what: &str| StartupProblem::new(what).at(file.display().to_string());
    let secret = config::kept_secret(file, &SystemEntropy).map_err(|error| {
        problem("the secret of an app cannot be read or made")
            .because(&error)
            .mend("let freshgate read the file, or write to its folder; the app must be able to read it, too")
    })?;
    // What a header can hold, and nobody guesses.
    let is_good = secret.expose().len() >= 32 && secret.expose().bytes().all(|byte| byte.is_ascii_graphic());
    if is_good {
        Ok(secret)
    } else {
        Err(problem("the secret of an app cannot be used").mend(
            "at least 32 characters, plain ASCII without spaces; delete the file, and freshgate makes a good one",
        ))
    }
}

/// Binds the session API. A socket that nobody listens on any more is what a killed gate left behind.
async fn listen_for_apps(address: &SessionApiAddress) -> Result<SessionApiListener, StartupProblem> {
    let path = match address {
        SessionApiAddress::Tcp(address) => {
            return gate::bind(*address, "--session-api").await.map(SessionApiListener::Tcp);
        }
        SessionApiAddress::Unix(path) => path,
    };
    bind_socket(path).map(SessionApiListener::Unix).map_err(|error| {
        let mend = match error.kind() {
            io::ErrorKind::AddrInUse => {
                "stop the gate that listens there, or choose another place with `session_api`"
            }
            io::ErrorKind::NotFound => {
                "make its folder, or choose another place: `session_api = \"unix:/path/to/socket\"`"
            }
            io::ErrorKind::InvalidInput => "choose a shorter path: a socket's has 100 characters at most",
            _ => "choose a place that freshgate may write to: `session_api = \"unix:/path/to/socket\"`",
        };
        StartupProblem::new("the session API cannot listen")
            .at(address.to_string())
            .because(&error)
            .mend(mend)
    })
}

fn bind_socket(path: &Path) -> io::Result<UnixListener> {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err() {
        fs::remove_file(path)?;
    }
    UnixListener::bind(path)
}

/// The socket's name goes with the gate.
struct RemovedAtTheEnd(SessionApiAddress);

impl Drop for RemovedAtTheEnd {
    fn drop(&mut self) {
        if let SessionApiAddress::Unix(path) = &self.0 {
            // It may be gone already.
            let _ = fs::remove_file(path);
        }
    }
}
