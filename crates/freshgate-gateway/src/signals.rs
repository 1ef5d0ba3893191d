//! The signals that the program heeds.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{MORE_RESOURCES, StartupProblem};

/// Ctrl-C, SIGTERM and SIGHUP: from the start on, so that none is missed while the parts come up.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// What a signal asks for, where SIGHUP does not ask to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// To stop.
    Stop,
    /// To read the configuration again.
    Reload,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, StartupProblem> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                StartupProblem::new("signals cannot be listened for").because(&error).mend(MORE_RESOURCES)
            })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hang_up: listen(SignalKind::hangup())?,
        })
    }

    /// Waits until it is told to stop: by any of them, as who hangs up closed the terminal.
    pub(crate) async fn told_to_stop(&mut self) {
        self.asked().await;
    }

    /// Waits for a signal, of which SIGHUP asks for a reload.
    pub(crate) async fn asked(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.hang_up.recv() => Asked::Reload,
        }
    }
}
