//! What the engine tells everyone: a session changed, a session ended.

use crate::session::{EndReason, SessionKey};

/// Something happened to a session.
#[derive(Clone, Debug)]
pub enum SessionEvent {
    /// New tokens, and perhaps new claims, were committed.
    Changed {
        /// The session.
        key: SessionKey,
        /// Its new generation.
        generation: u64,
        /// Whether the claims differ from those before.
        claims_changed: bool,
    },
    /// The session is over: nothing may be served in its name any more.
    Ended {
        /// The session.
        key: SessionKey,
        /// Why.
        reason: EndReason,
    },
    /// More happened than can be told. Read every session that matters again.
    Missed,
}
