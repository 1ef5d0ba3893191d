//! Where an engine's own work runs: refreshes and fetches that no caller may cancel.

use std::{pin::Pin, sync::Arc};

/// A piece of an engine's own work.
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Starts tasks. The simulation puts its own scheduler here, which picks who goes next and can kill an engine with all
/// that it does; everyone else runs on tokio.
pub trait Tasks: Send + Sync + 'static {
    /// Starts `task` and lets it run to its end. Does not wait for it.
    fn start(&self, task: Task);
}

/// Tasks of the tokio runtime that the engine is used in.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioTasks;

impl Tasks for TokioTasks {
    fn start(&self, task: Task) {
        tokio::spawn(task);
    }
}

impl TokioTasks {
    pub(crate) fn shared() -> Arc<dyn Tasks> {
        Arc::new(Self)
    }
}
