//! The program `freshgate-devidp`: a development OpenID provider on its own.

mod arguments;

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use freshgate_devidp::{DevProvider, DevProviderConfig, DevProviderError};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use arguments::Arguments;

/// The exit code for a configuration that cannot be used; also what clap ends with.
const BAD_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let outcome = arguments.into_config().map_err(Failure::Arguments).and_then(serve);
    outcome.map_or_else(|failure| failure.report(), |()| ExitCode::SUCCESS)
}

enum Failure {
    Arguments(arguments::BadArgument),
    Provider(DevProviderError),
    Runtime(std::io::Error),
}

#[tokio::main]
async fn serve(config: DevProviderConfig) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Runtime)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Runtime)?;
    let provider = DevProvider::bind(config).await.map_err(Failure::Provider)?;
    {
        // Whoever waits for the line may read it through a pipe.
        let mut stdout = std::io::stdout().lock();
        let _ = writeln!(stdout, "ready {}", provider.issuer());
        let _ = stdout.flush();
    }
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    provider.shutdown().await;
    Ok(())
}

impl Failure {
    fn report(&self) -> ExitCode {
        let (error, code): (&dyn Error, _) = match self {
            Failure::Arguments(error) => (error, BAD_CONFIGURATION),
            Failure::Provider(error @ (DevProviderError::Listen { .. } | DevProviderError::Outgoing(_))) => {
                (error, 1)
            }
            Failure::Provider(error) => (error, BAD_CONFIGURATION),
            Failure::Runtime(error) => (error, 1),
        };
        let mut line = format!("error: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            line.push_str(&format!(": {error}"));
            cause = error.source();
        }
        eprintln!("{line}");
        ExitCode::from(code)
    }
}
