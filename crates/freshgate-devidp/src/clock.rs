//! What time the provider thinks it is.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The machine's clock, plus what a script has moved it by.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    moved_by_ms: AtomicI64,
}

impl Clock {
    pub(crate) fn now(&self) -> UnixTime {
        UnixTime(machine_time_ms().saturating_add(self.moved_by_ms.load(Ordering::Relaxed)))
    }

    /// Sets how far the provider's clock is off the machine's.
    pub(crate) fn move_by(&self, milliseconds: i64) {
        self.moved_by_ms.store(milliseconds, Ordering::Relaxed);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place of this crate that asks the machine for the time"
)]
fn machine_time_ms() -> i64 {
    let since_epoch =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX)
}

/// A moment, in milliseconds since 1970.
///
/// A type of this crate's own: arithmetic on time is among the things a provider and a relying party must not get
/// wrong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct UnixTime(i64);

impl UnixTime {
    pub(crate) const fn from_millis(milliseconds: i64) -> UnixTime {
        UnixTime(milliseconds)
    }

    pub(crate) fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds, rounded down, as `iat`, `exp` and `auth_time` are written.
    pub(crate) fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    pub(crate) fn after(self, duration: Duration) -> UnixTime {
        UnixTime(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub(crate) fn since(self, earlier: UnixTime) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}
