//! What is logged, and how it looks.

use tracing_subscriber::EnvFilter;

use super::{
    report::Report,
    setting::{LOG_FILTER, LOG_FORMAT, Sources},
};

/// What is logged, and how it looks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A filter that `tracing_subscriber::EnvFilter` takes; it was tried.
    pub filter: String,
    /// How lines look.
    pub format: LogFormat,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

pub(super) fn read(sources: &Sources<'_>, report: &mut Report) -> LogConfig {
    let filter = sources.find(LOG_FILTER, report).and_then(|given| {
        let filter = given.text(report)?;
        if EnvFilter::try_new(filter).is_ok() {
            return Some(filter.to_owned());
        }
        let help = "write error, warn, info, debug or trace, or a filter such as info,freshgate=debug";
        given.refuse("not a filter", help, report)
    });
    let format = sources
        .find(LOG_FORMAT, report)
        .and_then(|given| given.one_of(&[("text", LogFormat::Text), ("json", LogFormat::Json)], report));
    LogConfig {
        filter: filter.unwrap_or_else(|| "info".to_owned()),
        format: format.unwrap_or(LogFormat::Text),
    }
}
