//! `freshgate keys list|new|rotate|remove`: the keys that seal sessions, and their change while gates run.
//!
//! - `file.rs`: the file that they are in; `ring.rs`: the keyring that a gate makes of it, and follows
//! - `list.rs`, `new.rs`, `rotate.rs`, `remove.rs`: the commands
//! - `entry.rs`: every key there is, wherever it comes from; `count.rs`: how many sessions each of them seals

mod count;
mod entry;
mod file;
mod list;
mod new;
mod remove;
mod ring;
mod rotate;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Write},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use freshgate::{
    clock::{Clock, Entropy, SystemClock, SystemEntropy},
    keyring::KeyId,
    store::{Store, StoreError},
};

use self::file::KeyFileError;
pub(crate) use self::{
    file::is_open_to_others,
    ring::{keyring, watch},
};
use crate::{
    cli::Keys,
    config::{EXIT_BAD_CONFIGURATION, SessionsConfig, StartupProblem},
    gate,
    progress::Progress,
    sessions::EXIT_FAILED,
    signals::Signals,
};

/// How long running gates are given to take up a key that seals from now on: they look every second.
const SETTLING: Duration = Duration::from_secs(2);
/// What takes no longer needs no word on how far it is.
const SHORT: Duration = Duration::from_secs(1);
/// The exit code of who was told to stop, as shells have it for Ctrl-C.
const EXIT_STOPPED: u8 = 130;

/// Carries out a command, and yields the exit code.
pub fn run(command: &Keys, config: &SessionsConfig) -> ExitCode {
    let done = gate::on_store(&config.store, async |store| {
        let mut signals = Signals::listen()?;
        let keys = Operator {
            config,
            store: Arc::new(store),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            settling: SETTLING,
        };
        let mut progress = Progress::after(SHORT);
        if matches!(command, Keys::Rotate(_)) {
            progress = progress.or_in_lines();
        }
        let out = &mut io::stdout().lock();
        Ok(tokio::select! {
            done = carry_out(command, &keys, &mut progress, out) => done,
            // What was on its way to the store still arrives there before that is closed.
            () = signals.told_to_stop() => Err(Failed::Stopped),
        })
    });
    match done.flatten() {
        Ok(Ok(())) => ExitCode::SUCCESS,
        // Who reads our output has seen enough.
        Ok(Err(Failed::Output(error))) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Ok(Err(Failed::Stopped)) if !matches!(command, Keys::Rotate(_)) => ExitCode::from(EXIT_STOPPED),
        Ok(Err(failed)) => {
            failed.problem(config).print();
            ExitCode::from(if matches!(failed, Failed::Stopped) { EXIT_STOPPED } else { EXIT_FAILED })
        }
        Err(problem) => {
            problem.print();
            ExitCode::from(EXIT_BAD_CONFIGURATION)
        }
    }
}

async fn carry_out(
    command: &Keys,
    keys: &Operator<'_>,
    progress: &mut Progress,
    out: &mut dyn Write,
) -> Result<(), Failed> {
    match command {
        Keys::List(arguments) => list::list(keys, arguments.json, progress, out).await,
        Keys::New(_) => new::new(keys, out),
        Keys::Rotate(arguments) => rotate::rotate(keys, arguments.drop_old, progress, out).await,
        Keys::Remove(arguments) => remove::remove(keys, arguments, progress, out).await,
    }
}

/// What the commands work on.
struct Operator<'a> {
    config: &'a SessionsConfig,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    settling: Duration,
}

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("there is no key that begins with {0}")]
    NoKey(String),
    #[error("more than one key begins with {0}")]
    Ambiguous(String),
    #[error("the key {0} seals: without it nothing can be sealed")]
    Seals(KeyId),
    #[error("the key {0} is not in the file: it comes from {1}")]
    OfConfiguration(KeyId, &'static str),
    #[error("the key {0} is needed for {1}")]
    Needed(KeyId, String),
    #[error("the key {0} sealed until a moment ago")]
    SealedLately(KeyId),
    #[error("sessions are still being sealed with {0}")]
    StillSealing(String),
    #[error("stopped before all sessions were sealed anew; each can be read, and no key is gone")]
    Stopped,
    #[error(transparent)]
    File(#[from] KeyFileError),
    #[error("the session store failed")]
    Store(#[from] StoreError),
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}

impl Failed {
    fn problem(&self, config: &SessionsConfig) -> StartupProblem {
        let problem = StartupProblem::new(self.to_string());
        match self {
            Self::NoKey(_) | Self::Ambiguous(_) => problem.mend("`freshgate keys list` shows them"),
            Self::Seals(_) => problem.mend("make another seal first: `freshgate keys new`, then `freshgate keys rotate`"),
            Self::OfConfiguration(..) => problem.mend(
                "a former cookie_secret goes by taking it out of `former_cookie_secrets`, that of today stays: Streamlit needs it too",
            ),
            Self::Needed(..) => problem.mend("seal them anew: `freshgate keys rotate`"),
            Self::SealedLately(_) => problem
                .mend("wait for ten minutes: logins that are under way carry what it sealed")
                .mend("or add `--now`: who is just signing in must begin again"),
            Self::StillSealing(_) => problem
                .mend("a gate on this store does not know the key that seals now: see its log, and whether it reads the same key file")
                .mend("then rotate again: it goes on where it stopped"),
            Self::Stopped => {
                problem.mend("start it again at any time, it goes on where it stopped: `freshgate keys rotate`")
            }
            Self::File(error) => ring::file_problem(&config.keys, error),
            Self::Store(error) => because_of_source(problem, error)
                .mend("look at the disk and at who else uses the file; then try again: a rotation goes on where it stopped"),
            Self::Output(error) => because_of_source(problem, error),
        }
    }
}

fn because_of_source(problem: StartupProblem, error: &(dyn std::error::Error + 'static)) -> StartupProblem {
    match error.source() {
        Some(source) => problem.because(source),
        None => problem,
    }
}
