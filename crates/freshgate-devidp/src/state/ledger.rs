//! The one place where the state is held.

use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use super::State;

/// The state, shared by all requests. Closures keep the lock from being held across an `.await`.
pub(crate) struct Ledger {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

impl Ledger {
    pub(crate) fn new(state: State) -> Ledger {
        Ledger { state: Mutex::new(state), changes: watch::Sender::new(0) }
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&State) -> R) -> R {
        look(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the state; what is watching hears of it afterwards.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let result = change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changes.send_modify(|count| *count += 1);
        result
    }

    /// Counts the changes, for whoever has to save them.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}
