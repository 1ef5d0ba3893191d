//! Who waits for a session to change: sockets and streams of an app, by the thousand.
//!
//! One task listens to the engine and wakes those alone whom an event is about. What happened is not handed on: whoever
//! wakes looks at the session itself, so nothing is missed however many events there are.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use freshgate::{events::SessionEvent, session::SessionKey};
use tokio::sync::{
    broadcast::{Receiver, error::RecvError},
    watch,
};

/// The sessions that somebody waits for.
#[derive(Debug, Default)]
pub(crate) struct Watched(Mutex<HashMap<SessionKey, watch::Sender<()>>>);

impl Watched {
    /// Wakes whoever waits, until the engine is gone.
    pub(crate) async fn follow(self: Arc<Self>, mut events: Receiver<SessionEvent>) {
        loop {
            match events.recv().await {
                Ok(SessionEvent::Changed { key, .. } | SessionEvent::Ended { key, .. }) => {
                    if let Some(waiting) = self.sessions().get(&key) {
                        waiting.send_replace(());
                    }
                }
                Ok(SessionEvent::Missed) | Err(RecvError::Lagged(_)) => {
                    for waiting in self.sessions().values() {
                        waiting.send_replace(());
                    }
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Everything that happens to the session from now on wakes the one that this is for.
    pub(crate) fn watch(self: &Arc<Self>, key: SessionKey) -> Watching {
        let told = self.sessions().entry(key).or_default().subscribe();
        Watching { key, told, watched: self.clone() }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionKey, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits.
pub(crate) struct Watching {
    key: SessionKey,
    told: watch::Receiver<()>,
    watched: Arc<Watched>,
}

impl Watching {
    /// Waits for the next thing that happens to the session. Dropping the future is safe.
    pub(crate) async fn told(&mut self) {
        // The sender is there as long as somebody waits.
        let _ = self.told.changed().await;
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut sessions = self.watched.sessions();
        if sessions.get(&self.key).is_some_and(|waiting| waiting.receiver_count() == 1) {
            sessions.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::broadcast;

    use super::*;

    #[tokio::test]
    async fn wakes_those_whom_it_is_about() {
        let (events, receiver) = broadcast::channel(4);
        let watched = Arc::<Watched>::default();
        tokio::spawn(watched.clone().follow(receiver));
        let [one, other] = [1, 2].map(|byte| SessionKey::from_bytes([byte; 32]));
        let mut watching = [watched.watch(one), watched.watch(one), watched.watch(other)];

        events.send(SessionEvent::Changed { key: one, generation: 2, claims_changed: false }).unwrap();
        watching[0].told().await;
        watching[1].told().await;
        assert!(!watching[2].told.has_changed().unwrap());

        events.send(SessionEvent::Missed).unwrap();
        for one in &mut watching {
            one.told().await;
        }

        drop(watching);
        assert!(watched.sessions().is_empty(), "nobody waits, and something is kept");
    }
}
