//! Names that are good for one use: of client assertions and of proofs.

use std::time::Duration;

use super::{Hashed, State};
use crate::clock::UnixTime;

impl State {
    /// Whether this name is used for the first time. It is remembered for as long as it could be used again.
    pub(crate) fn use_once(&mut self, kind: &str, name: &str, now: UnixTime, remembered: Duration) -> bool {
        self.prune(now);
        self.used.insert(Hashed::of(&format!("{kind} {name}")), now.after(remembered)).is_none()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::clock::UnixTime;
    use crate::state::State;

    #[test]
    fn a_name_is_good_once_in_its_time() {
        let mut state = State::default();
        let at = |second: i64| UnixTime::from_millis(second * 1000);
        let mut first_use =
            |kind, name, second| state.use_once(kind, name, at(second), Duration::from_secs(100));
        assert!(first_use("proof", "a", 0));
        assert!(!first_use("proof", "a", 50));
        assert!(first_use("assertion", "a", 50));
        assert!(first_use("proof", "b", 50));
        assert!(first_use("proof", "a", 300), "it is long over");
    }
}
