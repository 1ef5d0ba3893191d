//! The program under test, in a folder of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// As long as anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const CLIENT_SECRET: &str = "client-secret-of-this-test";
pub(crate) const COOKIE_SECRET: &str = "cookie-secret-of-this-test-0123456789";

/// `freshgate run app.py`, about to start. Port 9 discards: the provider is away, which is no reason not to start.
pub(crate) struct Program {
    folder: tempfile::TempDir,
    command: Command,
}

impl Program {
    /// With the stand-in for Python pretending so; see `python.sh`.
    pub(crate) fn new(pretend: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("app.py"), "").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_freshgate"));
        command
            .args(["run", "app.py"])
            .current_dir(folder.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("PRETEND", pretend)
            .env("FRESHGATE_LISTEN", "127.0.0.1:0")
            .env("FRESHGATE_STORE", "memory:")
            .env("FRESHGATE_PYTHON", concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/python.sh"))
            .env("FRESHGATE_REDIRECT_URI", "http://localhost:{port}/oauth2callback")
            .env("FRESHGATE_SERVER_METADATA_URL", "http://127.0.0.1:9/.well-known/openid-configuration")
            .env("FRESHGATE_CLIENT_ID", "app")
            .env("FRESHGATE_CLIENT_SECRET", CLIENT_SECRET)
            .env("FRESHGATE_COOKIE_SECRET", COOKIE_SECRET)
            .stdin(Stdio::null());
        Self { folder, command }
    }

    /// With the shell's `commands` run before.
    pub(crate) fn after(mut self, commands: &str) -> Self {
        let program = self.command.get_program().to_owned();
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(format!("{commands}; exec \"$0\" \"$@\"")).arg(program);
        shell.args(self.command.get_args()).env_clear().stdin(Stdio::null());
        shell.envs(self.command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        shell.current_dir(self.folder.path());
        self.command = shell;
        self
    }

    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Where it will run.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it says when it does not start, without its log.
    pub(crate) fn refusal(mut self) -> String {
        let done = self.command.env("FRESHGATE_LOG", "off").output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(!self.folder.path().join("started").exists(), "the app was started:\n{said}");
        said.replace(&self.folder.path().display().to_string(), "/folder")
    }

    /// Starts it, and waits until the app's process is there.
    pub(crate) fn start(mut self) -> Running {
        let log = fs::File::create(self.folder.path().join("log")).unwrap();
        self.command.stdout(log.try_clone().unwrap()).stderr(log);
        let child = self.command.spawn().unwrap();
        let running = Running { child, folder: self.folder };
        running.until("the app starts", || running.file("started").exists());
        running
    }
}

/// The program while it runs. Dropping it ends it, and the processes that the app has started.
pub(crate) struct Running {
    child: Child,
    folder: tempfile::TempDir,
}

impl Running {
    /// A file in the folder that it runs in.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap_or_default()
    }

    /// The processes that the app has started.
    pub(crate) fn children(&self) -> Vec<Pid> {
        self.read("children").lines().map(|line| Pid::from_raw(line.parse().unwrap()).unwrap()).collect()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "it does not end:\n{}", self.read("log"));
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until `condition` holds.
    pub(crate) fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !condition() {
            assert!(Instant::now() < deadline, "never: {what}:\n{}", self.read("log"));
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for child in self.children() {
            let _ = kill_process(child, Signal::KILL);
        }
    }
}

/// Whether a process runs. One that has ended does not, though nobody may have collected it yet.
pub(crate) fn is_alive(process: Pid) -> bool {
    let path = Path::new("/proc").join(process.as_raw_nonzero().to_string()).join("stat");
    match fs::read_to_string(path) {
        // The name of the program, in parentheses, may hold spaces; the state follows it.
        Ok(stat) => !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X']),
        Err(_) => false,
    }
}
