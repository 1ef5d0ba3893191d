//! Keeping the state file up to date.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::provider::SharedProvider;
use crate::state::{self, StateFileError};

/// Changes come in bursts; one file for a burst is enough. What is lost if we are killed in between costs a sign-in at
/// most: refresh tokens that the file has not heard of are recognised by their seal.
const GATHER: Duration = Duration::from_millis(50);

/// Writes the state file after every change until told to stop, and once more then.
pub(super) async fn keep_saved(provider: SharedProvider, path: PathBuf, stop: CancellationToken) {
    let mut changes = provider.ledger.changes();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = changes.changed() => {}
        }
        tokio::select! {
            () = stop.cancelled() => break,
            () = tokio::time::sleep(GATHER) => {}
        }
        changes.mark_unchanged();
        report(save_now(&provider, &path).await);
    }
    report(save_now(&provider, &path).await);
}

/// Writes the state file.
pub(super) async fn save_now(provider: &SharedProvider, path: &Path) -> Result<(), StateFileError> {
    let (provider, path) = (Arc::clone(provider), path.to_owned());
    let saved = tokio::task::spawn_blocking(move || state::save(&path, &provider.saved_state())).await;
    saved.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

fn report(saved: Result<(), StateFileError>) {
    if let Err(error) = saved {
        let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        tracing::error!(%error, source, "the state is not saved");
    }
}
