//! What each problem looks like, and what good configurations come to.

mod dev;
mod docs;
mod good;
mod pages;
mod problems;
mod serve;

use std::{fs, path::PathBuf};

use clap::Parser as _;
use freshgate::provider::ProviderConfig;
use freshgate_oidc::{ClientCredential, Secret};

use super::{
    AppConfig, Config, DevConfig, Environment, Look, Report, RunConfig, ServeConfig, load_dev, load_run,
    load_serve,
};
use crate::cli::{Cli, Command};

/// A good `[auth]`, for cases to spoil.
pub(super) const GOOD: &str = r#"[auth]
redirect_uri = "http://localhost:8501/oauth2callback"
cookie_secret = "hunter2-0123456789-0123456789-0123456789"
client_id = "reports"
client_secret = "hunter2-of-the-client"
server_metadata_url = "https://id.example.com/.well-known/openid-configuration"
"#;

/// The secret by which the gate proves itself at a provider.
pub(super) fn client_secret(provider: &ProviderConfig) -> &Secret {
    match &provider.credential {
        ClientCredential::Secret(secret) => secret,
        other => panic!("no secret but {other:?}"),
    }
}

/// A folder with an app, a home folder, variables and arguments.
pub(super) struct Case {
    folder: tempfile::TempDir,
    variables: Vec<(String, std::ffi::OsString)>,
}

impl Case {
    /// An app and no configuration.
    pub(super) fn new() -> Self {
        let case = Self { folder: tempfile::tempdir().unwrap(), variables: Vec::new() };
        fs::create_dir_all(case.folder.path().join("home")).unwrap();
        case.file("app.py", "")
    }

    /// An app and this secrets.toml.
    pub(super) fn with_secrets(text: &str) -> Self {
        Self::new().file(".streamlit/secrets.toml", text)
    }

    /// A good secrets.toml in which one text is replaced.
    pub(super) fn with_auth(from: &str, to: &str) -> Self {
        assert!(GOOD.contains(from), "{from} is there to be replaced");
        Self::with_secrets(&GOOD.replace(from, to))
    }

    /// A good secrets.toml and this freshgate.toml.
    pub(super) fn with_freshgate_toml(text: &str) -> Self {
        Self::with_secrets(GOOD).file("freshgate.toml", text)
    }

    pub(super) fn file(self, path: &str, text: &str) -> Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(super) fn without_app(self) -> Self {
        fs::remove_file(self.path("app.py")).unwrap();
        self
    }

    pub(super) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    /// A path from the current folder.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join("work").join(path)
    }

    pub(super) fn environment(&self) -> Environment {
        let home = self.folder.path().join("home");
        Environment::new(self.path(""), Some(home), self.variables.clone())
    }

    /// What `freshgate run app.py` with these further arguments comes to.
    pub(super) fn run(&self, arguments: &[&str]) -> Result<(RunConfig, Report), Report> {
        let all = ["freshgate", "run", "app.py"].iter().chain(arguments);
        match Cli::try_parse_from(all) {
            Ok(Cli { command: Command::Run(run) }) => load_run(&run, &self.environment()),
            _ => panic!("the arguments are good"),
        }
    }

    /// What `freshgate dev` with these arguments comes to.
    pub(super) fn dev(&self, arguments: &[&str]) -> Result<(DevConfig, Report), Report> {
        let all = ["freshgate", "dev"].iter().chain(arguments);
        match Cli::try_parse_from(all) {
            Ok(Cli { command: Command::Dev(dev) }) => load_dev(&dev, &self.environment()),
            _ => panic!("the arguments are good"),
        }
    }

    /// The report of `freshgate run app.py` with these arguments, be it errors or warnings.
    pub(super) fn report(&self, arguments: &[&str]) -> String {
        let report = match self.run(arguments) {
            Ok((_, report)) | Err(report) => report,
        };
        self.shown(&report)
    }

    /// The report of `freshgate serve` with these arguments.
    pub(super) fn report_of_serve(&self, arguments: &[&str]) -> String {
        let report = match self.serve(arguments) {
            Ok((_, report)) | Err(report) => report,
        };
        self.shown(&report)
    }

    fn shown(&self, report: &Report) -> String {
        let report = report.render(Look::Plain);
        assert!(!report.contains("hunter2"), "a secret shows:\n{report}");
        let folder = self.folder.path().display().to_string();
        report.replace(&folder, "/folder")
    }

    /// The configuration that `freshgate run app.py` with these arguments comes to.
    pub(super) fn config(&self, arguments: &[&str]) -> Config {
        self.run(arguments).unwrap_or_else(|report| panic!("{report:?}")).0.gate
    }

    /// The app that `freshgate run app.py` with these arguments is told to run.
    pub(super) fn app(&self, arguments: &[&str]) -> AppConfig {
        self.run(arguments).unwrap_or_else(|report| panic!("{report:?}")).0.app
    }

    /// What `freshgate serve` with these arguments comes to.
    pub(super) fn serve(&self, arguments: &[&str]) -> Result<(ServeConfig, Report), Report> {
        let all = ["freshgate", "serve"].iter().chain(arguments);
        match Cli::try_parse_from(all) {
            Ok(Cli { command: Command::Serve(serve) }) => load_serve(&serve, &self.environment()),
            _ => panic!("the arguments are good"),
        }
    }
}
