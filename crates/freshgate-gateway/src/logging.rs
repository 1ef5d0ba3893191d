//! What is logged, and how lines look.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogConfig, LogFormat};

/// Starts logging to standard error. Called once, before anything is worth a line.
pub fn start(config: &LogConfig) {
    // It was tried when the configuration was read.
    let filter = EnvFilter::new(&config.filter);
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false);
    match config.format {
        LogFormat::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
}
