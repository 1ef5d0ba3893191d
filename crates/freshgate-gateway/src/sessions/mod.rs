//! `freshgate sessions list|show|end`: what an operator needs. It reads the store itself, past any gate that runs on it,
//! and learns nothing that opens a session: reports hold no token ([`freshgate::engine::SessionReport`]).
//!
//! - `find.rs`: from the start of a handle to the session; `scan.rs`: through all of them, a page at a time
//! - `list.rs`, `show.rs`, `end.rs`: the commands
//! - `words.rs`, `json.rs`: how it is said to people, and to programs

mod end;
mod find;
mod json;
mod list;
mod scan;
mod show;
#[cfg(test)]
mod tests;
mod words;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
};

use freshgate::{
    Engine,
    clock::{SystemClock, SystemEntropy},
    engine::EngineParts,
    keyring::Keyring,
    provider::Provider,
    store::{SqliteStore, StoreError},
};

use crate::{
    cli::Sessions,
    config::{EXIT_BAD_CONFIGURATION, SessionsConfig, StartupProblem},
    gate, keys,
};

/// The exit code where what was asked for could not be done: no such session, a store that fails.
pub(crate) const EXIT_FAILED: u8 = 1;

/// Carries out a command, and yields the exit code.
pub fn run(command: &Sessions, config: &SessionsConfig) -> ExitCode {
    // To look at sessions nobody is asked.
    let providers = if matches!(command, Sessions::End(_)) { config.providers.as_slice() } else { &[] };
    let providers = providers.iter().map(gate::provider).collect::<Result<_, _>>();
    let done = keys::keyring(&config.keys, &config.cookie_secret).and_then(|keyring| {
        let providers = providers?;
        gate::on_store(&config.store, async |store| {
            let engine = engine(store, keyring, config, providers);
            carry_out(command, &engine, &mut io::stdout().lock()).await
        })
    });
    match done {
        Ok(Ok(())) => ExitCode::SUCCESS,
        // Who reads our output has seen enough.
        Ok(Err(Failed::Output(error))) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Ok(Err(failed)) => {
            failed.problem().print();
            ExitCode::from(EXIT_FAILED)
        }
        Err(problem) => {
            problem.print();
            ExitCode::from(EXIT_BAD_CONFIGURATION)
        }
    }
}

async fn carry_out(command: &Sessions, engine: &Engine, out: &mut dyn Write) -> Result<(), Failed> {
    match command {
        Sessions::List(arguments) => list::list(engine, arguments, out).await,
        Sessions::Show(arguments) => show::show(engine, arguments, out).await,
        Sessions::End(arguments) => end::end(engine, arguments, &mut end::Terminal, out).await,
    }
}

/// An engine that reads sessions and ends them. It knows the providers only to take refresh tokens back there.
fn engine(store: SqliteStore, keyring: Keyring, config: &SessionsConfig, providers: Vec<Provider>) -> Engine {
    Engine::new(EngineParts {
        store: Arc::new(store),
        keyring: Arc::new(keyring),
        providers,
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        policy: config.session.clone(),
    })
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("`{}` is no handle", words::printable(.0))]
    NotAHandle(String),
    #[error("there is no session that begins with {0}")]
    NoSession(String),
    #[error("more than one session begins with {0}")]
    Ambiguous(String, Vec<String>),
    #[error("there is no live session of {0}")]
    NoUser(String),
    #[error("nothing was ended: there is no terminal to ask at")]
    NobodyToAsk,
    #[error("nothing was ended")]
    Declined,
    #[error("the session store failed")]
    Store(#[from] StoreError),
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}

impl Failed {
    fn problem(&self) -> StartupProblem {
        let problem = StartupProblem::new(self.to_string());
        let remembered = "sessions that ended are remembered for a while: `freshgate sessions list --ended`";
        match self {
            Self::NotAHandle(_) => problem.mend(
                "a handle has letters, digits, - and _, 43 at most: `freshgate sessions list` shows them",
            ),
            Self::NoSession(_) => problem.mend(remembered),
            Self::Ambiguous(_, handles) => problem.mend(format!("say more of it: {}", handles.join(", "))),
            Self::NoUser(_) => problem.mend(
                "name the user in full, as `freshgate sessions list` does: by email, user name or subject",
            ),
            Self::NobodyToAsk => problem.mend("add `--yes` to end sessions without being asked"),
            Self::Declined => problem,
            Self::Store(error) => error_sources(problem, error)
                .mend("look at the disk and at who else uses the file; then try again"),
            Self::Output(error) => error_sources(problem, error),
        }
    }
}

fn error_sources(problem: StartupProblem, error: &(dyn std::error::Error + 'static)) -> StartupProblem {
    match error.source() {
        Some(source) => problem.because(source),
        None => problem,
    }
}
