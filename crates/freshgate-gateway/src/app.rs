//! `freshgate run` and `freshgate dev`: the gate and the app behind it start together, and stop together.

use std::{ffi::OsString, process::ExitCode, sync::Arc};

use freshgate::clock::{Entropy, SystemEntropy};
use freshgate_devidp::{DevProvider, DevProviderError, RunningProvider};
use tokio::{
    net::{TcpListener, UnixListener},
    signal::unix::{Signal, SignalKind, signal},
};
use url::Url;

use crate::{
    config::{Config, DevConfig, EXIT_BAD_CONFIGURATION, StartupProblem},
    gate::{self, GateParts},
    open_files,
    operator::OperatorListener,
    streamlit::{Launch, LaunchError, ModuleDirectory, Python},
};

/// What kept the program from starting, all of it.
pub struct NotStarted(Vec<StartupProblem>);

impl From<StartupProblem> for NotStarted {
    fn from(problem: StartupProblem) -> Self {
        Self(vec![problem])
    }
}

impl NotStarted {
    /// Tells the user; the exit code says that something must be mended.
    pub fn report(&self) -> ExitCode {
        for problem in &self.0 {
            problem.print();
        }
        ExitCode::from(EXIT_BAD_CONFIGURATION)
    }
}

/// Runs an app behind the gate until it ends, or until we are told to stop. Yields the exit code.
pub async fn run(mut config: Config) -> Result<ExitCode, NotStarted> {
    let signals = Signals::listen()?;
    let listener = gate::bind(config.listen, "--listen").await?;
    config.bound_to(address_of(&listener)?);
    serve(config, listener, signals).await
}

/// The same with the development provider, which stops with them.
pub async fn dev(mut config: DevConfig) -> Result<ExitCode, NotStarted> {
    let signals = Signals::listen()?;
    let listener = gate::bind(config.listen, "--listen").await?;
    config.bound_to(address_of(&listener)?);
    let provider = start_provider(&config).await?;
    let issuer = Url::parse(provider.issuer()).map_err(|error| {
        StartupProblem::new("the development provider has no usable address").because(&error)
    })?;
    tracing::info!(issuer = %issuer, users = config.users.join(", "), "the development provider is ready: anyone can sign in as anyone");
    let ended = serve(config.gate(&issuer, &SystemEntropy)?, listener, signals).await;
    provider.shutdown().await;
    ended
}

async fn start_provider(config: &DevConfig) -> Result<RunningProvider, StartupProblem> {
    DevProvider::bind(config.provider(&SystemEntropy)?).await.map_err(|error| {
        let problem = StartupProblem::new("the development provider cannot start")
            .at(format!("--provider-listen {}", config.provider_listen));
        match &error {
            DevProviderError::Listen { .. } => problem
                .because(&error)
                .mend("choose another loopback address for it, such as `--provider-listen 127.0.0.1:8520`"),
            _ => problem.because(&error),
        }
    })
}

fn address_of(listener: &TcpListener) -> Result<std::net::SocketAddr, StartupProblem> {
    listener
        .local_addr()
        .map_err(|error| StartupProblem::new("the listening socket has no address").because(&error))
}

async fn serve(config: Config, public: TcpListener, mut signals: Signals) -> Result<ExitCode, NotStarted> {
    open_files::allow(config.limits.connections);
    let store = gate::open_store(&config)?;
    let engine = gate::engine(&config, store)?;
    let problems = tokio::select! {
        problems = gate::ask_providers(&engine, config.public.redirect_uri()) => problems,
        () = signals.told_to_stop() => return Ok(ExitCode::SUCCESS),
    };
    if !problems.is_empty() {
        return Err(NotStarted(problems));
    }
    let operator = match config.operator_listen {
        Some(address) => Some(OperatorListener::bind(address).await?),
        None => None,
    };
    let python = find_python(&config)?;
    let module = ModuleDirectory::create().map_err(|error| {
        StartupProblem::new("a private directory cannot be made")
            .because(&error)
            .mend("set TMPDIR to a directory that you can write to")
    })?;
    let private = UnixListener::bind(module.socket()).map_err(|error| {
        StartupProblem::new("the session API cannot listen")
            .at(module.socket().display().to_string())
            .because(&error)
    })?;
    let upstream_secret = Arc::new(SystemEntropy.token());

    let start = config.public.start();
    let arguments = streamlit_arguments(&config);
    let providers: Vec<&str> =
        config.providers.iter().map(|configured| configured.provider.name.as_str()).collect();
    let mut streamlit = Launch {
        python: &python,
        module: &module,
        app: &config.app.script,
        arguments: &arguments,
        upstream_secret: &upstream_secret,
        providers: &providers,
        public_host: start.host_str().unwrap_or("localhost"),
        public_port: start.port_or_known_default().unwrap_or(config.listen.port()),
        base_path: config.public.base_path(),
    }
    .start()
    .map_err(|error| launch_problem(&error))?;
    let upstream = streamlit.address();
    let ready = streamlit.ready();
    let announced = async move {
        ready.await;
        announce(&start);
    };
    let gate =
        GateParts { engine, config, upstream_secret, operator }.open(public, private, upstream, announced)?;

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

fn streamlit_arguments(config: &Config) -> Vec<OsString> {
    let files = config.app.secrets_files.iter().map(|path| {
        let mut argument = OsString::from("--secrets.files=");
        argument.push(path);
        argument
    });
    files.chain(config.app.arguments.iter().map(OsString::from)).collect()
}

fn find_python(config: &Config) -> Result<Python, StartupProblem> {
    Python::find(config.app.python.as_deref()).map_err(|error| {
        StartupProblem::new("Streamlit cannot be run")
            .because(&error)
            .mend("activate the environment that has Streamlit, or name its interpreter: `--python .venv/bin/python`")
    })
}

fn launch_problem(error: &LaunchError) -> StartupProblem {
    let problem = StartupProblem::new("Streamlit cannot be started").because(error);
    match error {
        LaunchError::Spawn { python, .. } => problem
            .at(python.display().to_string())
            .mend("name the interpreter that has Streamlit: `--python .venv/bin/python`"),
        LaunchError::PythonPath(_) | LaunchError::NoPort(_) => problem,
    }
}

/// Ctrl-C, SIGTERM and SIGHUP: from the start on, so that none is missed while the parts come up.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> Result<Self, StartupProblem> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| StartupProblem::new("signals cannot be listened for").because(&error))
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    async fn told_to_stop(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
