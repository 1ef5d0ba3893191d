//! What other engines do to the sessions of a store that is shared: learnt from the store, a few times a second.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Engine, sessions::Lookup};
use crate::{
    events::SessionEvent,
    sabotage::Sabotage,
    store::{Change, Position, StoreError},
};

/// How often the store is asked. A session that another engine ended is served for this much longer at most.
const POLL: Duration = Duration::from_millis(100);
/// How many sessions that cannot be read are passed over, each time. More of them are a store that fails.
const UNREAD_AT_ONCE: usize = 3;
/// After the store failed it is asked less often.
const POLL_AFTER_FAILURE: Duration = Duration::from_secs(1);

impl Engine {
    /// Follows what other engines write until `stop`: forgets what is outdated and tells of it as of our own doing. Spawn
    /// it once, for a store that others may open too.
    pub async fn watch_neighbours(self, stop: CancellationToken) {
        let mut position = None;
        let mut pause = Duration::ZERO;
        while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
            if self.sabotaged(Sabotage::NeighboursIgnored) {
                return;
            }
            pause = match self.follow(position).await {
                Ok(reached) => {
                    position = Some(reached);
                    POLL
                }
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "cannot see what other gates do"
                    );
                    POLL_AFTER_FAILURE
                }
            };
        }
    }

    /// Takes note of every change since `position`, and yields where to go on.
    async fn follow(&self, position: Option<Position>) -> Result<Position, StoreError> {
        let changes = self.0.store.changes_since(position).await?;
        if changes.missed {
            tracing::warn!("more happened in the session store than it can tell of");
        }
        // Whatever was read before the first position, or changed since a forgotten one, may be outdated.
        if position.is_none() || changes.missed {
            let held_any = self.0.sessions.forget_all();
            // Of a session that is active somebody may hold something, in memory or not.
            if held_any || self.active_sessions() > 0 {
                self.0.sessions.tell(SessionEvent::Missed);
            }
        }
        let mut unread = Vec::new();
        for change in changes.list {
            if self.0.sessions.heard_of(change) && !self.sabotaged(Sabotage::ChangeNotTold) {
                let (Change::Written(key, _) | Change::Ended(key)) = change;
                // What is read is remembered, and what is new in it is told.
                match self.0.sessions.read_news(key).await {
                    // Who is at it may die in the middle of it.
                    Ok(Lookup::Live(record, _)) => self.plan_ahead(&record),
                    Ok(Lookup::Ended(_) | Lookup::Unknown) => {}
                    Err(error) => {
                        // It may be this one alone that cannot be read: the others are heard of all the same.
                        self.0.sessions.forget(key);
                        unread.push(error);
                        if unread.len() > UNREAD_AT_ONCE {
                            break;
                        }
                    }
                }
            }
        }
        // Once more from the same position: what is known by now is no news then.
        unread.into_iter().next().map_or(Ok(changes.position), Err)
    }
}
