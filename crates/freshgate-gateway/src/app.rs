//! `freshgate run` and `freshgate dev`: the gate and the app behind it start together, and stop together.

#[cfg(test)]
mod tests;

use std::{ffi::OsString, io, net::SocketAddr, process::ExitCode};

use freshgate::clock::{Entropy, SystemEntropy};
use freshgate_devidp::{DevProvider, DevProviderError, RunningProvider, StateFileError};
use tokio::net::{TcpListener, UnixListener};
use url::Url;

use crate::{
    config::{AppConfig, DevConfig, Framework, RunConfig, StartupProblem, Upstream},
    gate::{self, GateParts, SessionApiListener},
    not_started::NotStarted,
    open_files,
    operator::OperatorListener,
    session_api::UpstreamSecrets,
    signals::Signals,
    streamlit::{Launch, LaunchError, ModuleDirectory, ModuleError, Python},
};

/// Runs an app behind the gate until it ends, or until we are told to stop. Yields the exit code.
pub async fn run(mut config: RunConfig) -> Result<ExitCode, NotStarted> {
    let signals = Signals::listen()?;
    let mut problems = NotStarted::default();
    let public = problems.keep(listen(config.gate.listen).await).map(|(listener, address)| {
        config.gate.bound_to(address);
        listener
    });
    stage(config, public, problems, signals).await
}

/// The same with the development provider, which stops with them.
pub async fn dev(mut config: DevConfig) -> Result<ExitCode, NotStarted> {
    let signals = Signals::listen()?;
    let mut problems = NotStarted::default();
    let public = problems.keep(listen(config.listen).await).map(|(listener, address)| {
        config.bound_to(address);
        listener
    });
    let provider = problems.keep(start_provider(&config).await);
    // Without it nothing starts, and the rest is looked at all the same.
    let issuer = match &provider {
        Some(provider) => provider.issuer().to_owned(),
        None => format!("http://{}", config.provider_listen),
    };
    let ended = match problems.keep(config.gate(&issuer, &SystemEntropy)) {
        Some(mut gate) => {
            match &provider {
                Some(_) => {
                    let users = config.users.join(", ");
                    tracing::info!(
                        issuer,
                        users,
                        "the development provider is ready: anyone can sign in as anyone"
                    );
                }
                None => gate.providers.clear(),
            }
            let app = config.app.clone();
            stage(RunConfig { gate, app }, public, problems, signals).await
        }
        None => {
            problems.keep(Stage::set(&config.app).await);
            Err(problems)
        }
    };
    if let Some(provider) = provider {
        provider.shutdown().await;
    }
    ended
}

async fn start_provider(config: &DevConfig) -> Result<RunningProvider, StartupProblem> {
    DevProvider::bind(config.provider(&SystemEntropy)?).await.map_err(|error| {
        let problem = StartupProblem::new("the development provider cannot start").because(&error);
        match &error {
            DevProviderError::StateFile(
                StateFileError::Read { path, .. }
                | StateFileError::NotOurs { path, .. }
                | StateFileError::Write { path, .. },
            ) => {
                problem.at(path.display().to_string()).mend("make the file readable and writable, or delete it: a new one is made, and users sign in again")
            }
            _ => problem
                .at(format!("--provider-listen {}", config.provider_listen))
                .mend("choose another loopback address for it, such as `--provider-listen 127.0.0.1:8520`"),
        }
    })
}

/// Binds the address for browsers, and says which that is.
pub(crate) async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartupProblem> {
    let listener = gate::bind(address, "--listen").await?;
    let address = listener.local_addr().map_err(|error| gate::bind_problem(address, "--listen", &error))?;
    Ok((listener, address))
}

/// What Streamlit needs before it can start.
struct Stage {
    python: Python,
    module: ModuleDirectory,
    private: UnixListener,
}

impl Stage {
    /// Finds a Python that has Streamlit, and makes the place from where it loads our module and asks the gate.
    async fn set(app: &AppConfig) -> Result<Self, NotStarted> {
        let mut problems = NotStarted::default();
        let python = problems.keep(find_python(app));
        let module = problems.keep(ModuleDirectory::create().map_err(|error| module_problem(&error)));
        let private = module.as_ref().and_then(|module| problems.keep(listen_for_app(module)));
        if let (Some(python), Some(module)) = (&python, &module) {
            problems.keep(python.check_streamlit(module).await.map_err(|error| launch_problem(&error)));
        }
        match (python, module, private) {
            (Some(python), Some(module), Some(private)) if problems.is_empty() => {
                Ok(Self { python, module, private })
            }
            _ => Err(problems),
        }
    }
}

async fn stage(
    config: RunConfig,
    public: Option<TcpListener>,
    mut problems: NotStarted,
    mut signals: Signals,
) -> Result<ExitCode, NotStarted> {
    let RunConfig { gate: config, app } = config;
    open_files::allow(config.limits.connections);
    let store = problems.keep(gate::open_store(&config));
    let operator = match config.operator_listen {
        Some(address) => problems.keep(OperatorListener::bind(address).await),
        None => None,
    };
    let keyring = problems.keep(gate::keyring(&config));
    let providers = problems.keep(gate::providers(&config));
    let asking = gate::ask_providers(providers.as_deref().unwrap_or_default(), config.public.redirect_uri());
    let (stage, asked) = tokio::select! {
        both = async { tokio::join!(Stage::set(&app), asking) } => both,
        () = signals.told_to_stop() => return Ok(ExitCode::SUCCESS),
    };
    let stage = problems.keep(stage);
    problems.keep(asked);
    let (Some(public), Some(store), Some(keyring), Some(providers), Some(stage), true) =
        (public, store, keyring, providers, stage, problems.is_empty())
    else {
        return Err(problems);
    };
    let engine = gate::engine(&config, store, keyring, providers);
    let Stage { python, module, private } = stage;
    let upstream_secret = SystemEntropy.token();

    let start = config.public.start();
    let arguments = streamlit_arguments(&app);
    let providers: Vec<&str> =
        config.providers.iter().map(|configured| configured.provider.name.as_str()).collect();
    let mut streamlit = Launch {
        python: &python,
        module: &module,
        app: &app.script,
        arguments: &arguments,
        upstream_secret: &upstream_secret,
        providers: &providers,
        signed_out: config
            .access
            .start_needs_login()
            .then(|| format!("{}/auth/logout", config.public.base_path())),
        public_host: start.host_str().unwrap_or("localhost"),
        public_port: start.port_or_known_default().unwrap_or(config.listen.port()),
        base_path: config.public.base_path(),
    }
    .start()
    .map_err(|error| launch_problem(&error))?;
    let upstreams = vec![Upstream {
        framework: Framework::Streamlit,
        identity_headers: app.trusted_user_headers,
        ..Upstream::new(streamlit.address().to_string())
    }];
    let ready = streamlit.ready();
    let announced = async move {
        ready.await;
        announce(&start);
    };
    let upstream_secrets = UpstreamSecrets::new([upstream_secret]);
    let gate = GateParts { engine, config, upstreams, upstream_secrets, operator }.open(
        public,
        Some(SessionApiListener::Unix(private)),
        announced,
    )?;

    let death = tokio::select! {
        death = streamlit.died() => Some(death),
        () = signals.told_to_stop() => None,
    };
    let exit_code = match death {
        Some(death) => {
            tracing::warn!(exit_code = death.exit_code(), "Streamlit ended, and so does the gate");
            streamlit.stop().await;
            gate.close().await;
            death.exit_code()
        }
        None => {
            tracing::info!("stopping");
            let stop = async {
                gate.close().await;
                streamlit.stop().await;
            };
            tokio::select! {
                () = stop => 0,
                () = signals.told_to_stop() => {
                    tracing::warn!("told to stop a second time: leaving at once");
                    1
                }
            }
        }
    };
    Ok(ExitCode::from(exit_code))
}

fn announce(start: &Url) {
    tracing::info!(address = %start, "ready");
    eprintln!("\n  Open {start} in your browser. Ctrl-C stops.\n");
}

fn streamlit_arguments(app: &AppConfig) -> Vec<OsString> {
    let files = app.secrets_files.iter().map(|path| {
        let mut argument = OsString::from("--secrets.files=");
        argument.push(path);
        argument
    });
    files.chain(app.arguments.iter().map(OsString::from)).collect()
}

fn find_python(app: &AppConfig) -> Result<Python, StartupProblem> {
    Python::find(app.python.as_deref()).map_err(|error| {
        StartupProblem::new("Streamlit cannot be run")
            .because(&error)
            .mend("activate the environment that has Streamlit, or name its interpreter: `--python .venv/bin/python`")
    })
}

fn module_problem(error: &ModuleError) -> StartupProblem {
    StartupProblem::new("a private directory cannot be made")
        .because(error)
        .mend("set TMPDIR to a directory that you can write to")
}

fn listen_for_app(module: &ModuleDirectory) -> Result<UnixListener, StartupProblem> {
    let socket = module.socket();
    UnixListener::bind(&socket).map_err(|error| {
        let mend = match error.kind() {
            io::ErrorKind::InvalidInput => {
                "set TMPDIR to a directory with a shorter name: a socket's has 100 characters at most"
            }
            _ => "set TMPDIR to a directory in which sockets can be made",
        };
        StartupProblem::new("the session API cannot listen")
            .at(socket.display().to_string())
            .because(&error)
            .mend(mend)
    })
}

fn launch_problem(error: &LaunchError) -> StartupProblem {
    let problem = StartupProblem::new("Streamlit cannot be started").because(error);
    match error {
        LaunchError::Spawn { python, .. } => problem
            .at(python.display().to_string())
            .mend("name the interpreter that has Streamlit: `--python .venv/bin/python`"),
        LaunchError::Unusable { python, mend, .. } => problem.at(python.display().to_string()).mend(mend),
        LaunchError::PythonPath(_) => {
            problem.at("TMPDIR").mend("set TMPDIR to a directory without a colon in its name: PYTHONPATH cannot hold one")
        }
        LaunchError::NoPort(_) => problem
            .at("127.0.0.1")
            .mend("programs on this machine hold every port: close some, or allow more (net.ipv4.ip_local_port_range)"),
    }
}
