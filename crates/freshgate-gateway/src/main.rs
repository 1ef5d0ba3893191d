//! The program `freshgate`.

use std::process::ExitCode;

use clap::Parser;
use freshgate_gateway::{
    app, check,
    cli::{Cli, Command},
    config::{self, EXIT_BAD_CONFIGURATION, Environment, LogConfig, MORE_RESOURCES, Report, StartupProblem},
    health, keys, logging,
    not_started::NotStarted,
    serve, sessions,
};

fn main() -> ExitCode {
    let command = Cli::parse().command;
    let environment = match Environment::of_process() {
        Ok(environment) => environment,
        Err(error) => {
            let problem =
                StartupProblem::new("the current folder is gone, or may not be read").because(&error);
            return not_started(problem.mend("change to another folder, and start freshgate there"));
        }
    };
    match command {
        Command::Run(run) => match config::load_run(&run, &environment) {
            Ok((config, notes)) => go(&notes, &config.gate.log.clone(), app::run(config)),
            Err(report) => refused(&report),
        },
        Command::Dev(dev) => match config::load_dev(&dev, &environment) {
            Ok((config, notes)) => go(&notes, &config.log.clone(), app::dev(config)),
            Err(report) => refused(&report),
        },
        Command::Serve(serve) => match config::load_serve(&serve, &environment) {
            Ok((config, notes)) => {
                go(&notes, &config.gate.log.clone(), serve::serve(&serve, &environment, config))
            }
            Err(report) => refused(&report),
        },
        Command::Check(check) => match config::load_check(&check, &environment) {
            Ok((config, notes)) => {
                notes.print();
                if check.common.log.is_some() {
                    logging::start(&config.gate.log);
                }
                check::run(&check, config, &notes)
            }
            Err(report) => refused(&report),
        },
        Command::Sessions(sessions) => match config::load_sessions(sessions.which(), &environment) {
            Ok((config, notes)) => {
                notes.print();
                sessions::run(&sessions, &config)
            }
            Err(report) => refused(&report),
        },
        Command::Keys(keys) => match config::load_sessions(keys.which(), &environment) {
            Ok((config, notes)) => {
                notes.print();
                keys::run(&keys, &config)
            }
            Err(report) => refused(&report),
        },
        Command::Health(which) => match config::load_health(&which, &environment) {
            Ok(operators) => health::run(operators),
            Err(report) => refused(&report),
        },
    }
}

fn go(notes: &Report, log: &LogConfig, work: impl Future<Output = Result<ExitCode, NotStarted>>) -> ExitCode {
    notes.print();
    logging::start(log);
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work).unwrap_or_else(|not_started| not_started.report()),
        Err(error) => {
            not_started(StartupProblem::new("the runtime cannot start").because(&error).mend(MORE_RESOURCES))
        }
    }
}

fn refused(report: &Report) -> ExitCode {
    report.print();
    ExitCode::from(EXIT_BAD_CONFIGURATION)
}

fn not_started(problem: StartupProblem) -> ExitCode {
    NotStarted::from(problem).report()
}
