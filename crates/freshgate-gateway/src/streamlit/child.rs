//! The process: started on a private port, watched, stopped with the gate.

use std::{
    ffi::OsString,
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::Duration,
};

use bytes::Bytes;
use freshgate_oidc::Secret;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};
use tokio::{process::Child, time::Instant};

use super::{ModuleDirectory, Python};

/// How long Streamlit may take to say goodbye before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How long what the app itself has started may take after Streamlit's end.
const CHILDREN_GRACE: Duration = Duration::from_secs(1);
/// How often they are looked for.
const CHILDREN_POLL: Duration = Duration::from_millis(20);
/// How often a starting Streamlit is asked whether it is ready.
const READY_POLL: Duration = Duration::from_millis(50);

/// How long one such question may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// After this long, the user is told that Streamlit is slow to start.
const SLOW_START: Duration = Duration::from_secs(30);

/// What Streamlit is started with.
pub struct Launch<'a> {
    /// By which Python.
    pub python: &'a Python,
    /// The module it loads, and where the session API's socket is.
    pub module: &'a ModuleDirectory,
    /// The app's script.
    pub app: &'a Path,
    /// What the user gave after `--`.
    pub arguments: &'a [OsString],
    /// By what the app proves itself to the session API.
    pub upstream_secret: &'a Secret,
    /// The names that `st.login()` takes.
    pub providers: &'a [&'a str],
    /// Where pages go whose session has ended, if the app is behind the login: they cannot stay.
    pub signed_out: Option<String>,
    /// Where browsers find the gate; Streamlit prints it.
    pub public_host: &'a str,
    /// The port of it.
    pub public_port: u16,
    /// The path that the app lives under, such as `/reports`; empty for none.
    pub base_path: &'a str,
}

/// Streamlit was not started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No private port could be had.
    #[error("no free loopback port")]
    NoPort(#[source] io::Error),
    /// `PYTHONPATH` cannot be extended.
    #[error("PYTHONPATH cannot be extended")]
    PythonPath(#[source] std::env::JoinPathsError),
    /// The interpreter has no Streamlit that we can run.
    #[error("{what}")]
    Unusable {
        /// Which.
        python: PathBuf,
        /// What it lacks.
        what: String,
        /// How to mend that.
        mend: String,
    },
    /// The interpreter did not start.
    #[error("cannot start {python}")]
    Spawn {
        /// Which.
        python: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A running Streamlit, and the processes that the app has started: they are one process group. Dropping it kills them
/// all; [`StreamlitProcess::stop`] is the kind way.
pub struct StreamlitProcess {
    child: Child,
    group: Option<Group>,
    address: SocketAddr,
    health: String,
}

/// How the process ended.
#[derive(Clone, Copy, Debug)]
pub struct Death(ExitStatus);

impl Death {
    /// The exit code to pass on: its own, or 128 and the signal's number, as shells have it.
    pub fn exit_code(&self) -> u8 {
        let code = self.0.code().or_else(|| self.0.signal().map(|signal| 128 + signal)).unwrap_or(1);
        u8::try_from(code).unwrap_or(1)
    }
}

impl Launch<'_> {
    /// Starts Streamlit on a free loopback port. Its output is the gate's own.
    pub fn start(self) -> Result<StreamlitProcess, LaunchError> {
        let address = free_port().map_err(LaunchError::NoPort)?;
        let mut socket = OsString::from("unix:");
        socket.push(self.module.socket());
        let child = self
            .python
            .with_module(self.module)?
            .arg(self.app)
            .arg(format!("--server.port={}", address.port()))
            .arg(format!("--server.address={}", address.ip()))
            .arg("--server.headless=true")
            // What Streamlit prints for people to open, and accepts as an origin: the gate's address, not its own.
            .arg(format!("--browser.serverAddress={}", self.public_host))
            .arg(format!("--browser.serverPort={}", self.public_port))
            .args(self.arguments)
            .env("FRESHGATE_SESSION_API", socket)
            .env("FRESHGATE_UPSTREAM_SECRET", self.upstream_secret.expose())
            .env("FRESHGATE_PROVIDERS", self.providers.join(","))
            .env("FRESHGATE_GATE_PID", std::process::id().to_string())
            .envs(self.signed_out.map(|path| ("FRESHGATE_SIGNED_OUT", path)))
            // A group of its own: Ctrl-C reaches the gate alone, which then stops the whole group once.
            .process_group(0)
            .spawn()
            .map_err(|source| LaunchError::Spawn { python: self.python.path.clone(), source })?;
        let group = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).map(Group);
        Ok(StreamlitProcess { child, group, address, health: format!("{}/_stcore/health", self.base_path) })
    }
}

impl StreamlitProcess {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until it answers requests. It may die first: see [`StreamlitProcess::died`].
    pub fn ready(&self) -> impl Future<Output = ()> + use<> {
        let (address, health) = (self.address, self.health.clone());
        async move {
            let started = Instant::now();
            let mut warned = false;
            while !is_healthy(address, &health).await {
                if !warned && started.elapsed() >= SLOW_START {
                    warned = true;
                    tracing::warn!(address = %address, path = health, "Streamlit runs and does not answer yet");
                }
                tokio::time::sleep(READY_POLL).await;
            }
        }
    }

    /// Waits for its death. Dropping the future changes nothing.
    pub async fn died(&mut self) -> Death {
        match self.child.wait().await {
            Ok(status) => Death(status),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot wait for Streamlit");
                Death(ExitStatus::from_raw(1 << 8))
            }
        }
    }

    /// Asks Streamlit and all that the app has started to stop, kills Streamlit if it does not within ten seconds, and
    /// what is left of the others a second after it. To be called after its death too: the others may live.
    pub async fn stop(mut self) -> Death {
        self.signal(Signal::TERM);
        let death = match tokio::time::timeout(STOP_GRACE, self.died()).await {
            Ok(death) => death,
            Err(_) => {
                tracing::warn!("Streamlit does not stop, killing it");
                self.signal(Signal::KILL);
                self.died().await
            }
        };
        if let Some(group) = self.group.take()
            && tokio::time::timeout(CHILDREN_GRACE, group.emptied()).await.is_err()
        {
            tracing::warn!("processes that the app started do not stop, killing them");
            group.signal(Signal::KILL);
        }
        death
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = &self.group {
            group.signal(signal);
        }
    }
}

impl Drop for StreamlitProcess {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// The process group that Streamlit leads. It may outlive Streamlit, and keeps its number for as long as it has members.
struct Group(Pid);

impl Group {
    /// Sends a signal to every member. Fails only if there is none any more, which is as good.
    fn signal(&self, signal: Signal) {
        let _ = kill_process_group(self.0, signal);
    }

    /// Waits until it has no members.
    async fn emptied(&self) {
        while test_kill_process_group(self.0).is_ok() {
            tokio::time::sleep(CHILDREN_POLL).await;
        }
    }
}

/// A loopback port that is free now. Between this and Streamlit's own bind another could take it; Streamlit then says so
/// and ends, and the gate with it.
fn free_port() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

async fn is_healthy(address: SocketAddr, path: &str) -> bool {
    let ask = async {
        let stream = tokio::net::TcpStream::connect(address).await.ok()?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        let connection = tokio::spawn(connection);
        let request = hyper::Request::get(path)
            .header("host", address.to_string())
            .header("connection", "close")
            .body(Empty::<Bytes>::new())
            .ok()?;
        let answer = sender.send_request(request).await;
        connection.abort();
        Some(answer.ok()?.status().is_success())
    };
    tokio::time::timeout(PROBE_TIMEOUT, ask).await.ok().flatten().unwrap_or(false)
}
