//! Which of a grant's refresh tokens is good: the rule of rotation.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::UnixTime;
use crate::config::Rotation;

/// The refresh tokens of one grant are numbered 0, 1, 2 …; only the newest is good, and for a moment the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RefreshChain {
    newest: u64,
    issued_at: UnixTime,
    expires: UnixTime,
}

/// What becomes of a refresh token that a client presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Presented {
    /// It is good and stays so.
    Kept,
    /// It is good; from now on the token of this number is, instead.
    ReplacedBy(u64),
    /// It was replaced long ago, or its successor has been used: somebody else has it too.
    Reused,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    TooEarly,
}

/// When the refresh tokens of a provider are good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lifetime {
    /// From how long after they were issued on.
    pub(crate) not_before: Duration,
    /// Until how long after that.
    pub(crate) ends: Duration,
}

impl RefreshChain {
    /// The number of a grant's first refresh token.
    pub(crate) const FIRST: u64 = 0;

    pub(crate) fn new(now: UnixTime, lifetime: Duration) -> RefreshChain {
        RefreshChain { newest: RefreshChain::FIRST, issued_at: now, expires: now.after(lifetime) }
    }

    pub(crate) fn has_expired(&self, now: UnixTime) -> bool {
        now >= self.expires
    }

    /// From when on the newest is good, in seconds, if that is `not_before` after it was issued.
    pub(crate) fn good_from(&self, not_before: Duration) -> i64 {
        self.issued_at.after(not_before).seconds()
    }

    /// Uses the token of this number, which is known to be one that we made.
    pub(crate) fn present(
        &mut self,
        number: u64,
        now: UnixTime,
        rotation: Rotation,
        lifetime: Lifetime,
    ) -> Presented {
        // Ahead of us: we were stopped after handing it out and before saving that we did.
        let is_newest = number >= self.newest;
        let is_one_before = number.checked_add(1) == Some(self.newest);
        if self.has_expired(now) {
            return Presented::Expired;
        }
        if is_newest && now.millis() < self.good_from(lifetime.not_before).saturating_mul(1000) {
            return Presented::TooEarly;
        }
        match rotation {
            Rotation::Off if is_newest => Presented::Kept,
            Rotation::On { .. } if is_newest => {
                let Some(newest) = number.checked_add(1) else { return Presented::Expired };
                *self = RefreshChain { newest, issued_at: now, expires: now.after(lifetime.ends) };
                Presented::ReplacedBy(newest)
            }
            Rotation::On { grace } if is_one_before && now.since(self.issued_at) < grace => {
                Presented::ReplacedBy(self.newest)
            }
            _ => Presented::Reused,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Lifetime, Presented, RefreshChain};
    use crate::clock::UnixTime;
    use crate::config::Rotation;

    const LIFETIME: Lifetime = Lifetime { not_before: Duration::ZERO, ends: Duration::from_secs(100) };
    const STRICT: Rotation = Rotation::On { grace: Duration::ZERO };
    const GRACE: Rotation = Rotation::On { grace: Duration::from_secs(10) };

    fn at(seconds: i64) -> UnixTime {
        UnixTime::from_millis(seconds * 1000)
    }

    /// Presents (number, second) in turn to one chain.
    fn story(rotation: Rotation, lifetime: Lifetime, presented: &[(u64, i64)]) -> Vec<Presented> {
        let mut chain = RefreshChain::new(at(0), lifetime.ends);
        presented
            .iter()
            .map(|&(number, second)| chain.present(number, at(second), rotation, lifetime))
            .collect()
    }

    #[test]
    fn rotation() {
        use Presented::{Expired, Kept, ReplacedBy, Reused};
        for (what, rotation, presented, expected) in [
            (
                "each replaces the one before",
                STRICT,
                &[(0, 1), (1, 2), (2, 3)][..],
                &[ReplacedBy(1), ReplacedBy(2), ReplacedBy(3)][..],
            ),
            ("a replaced one is reuse", STRICT, &[(0, 1), (0, 1)], &[ReplacedBy(1), Reused]),
            (
                "within the grace: the same successor",
                GRACE,
                &[(0, 1), (0, 5), (0, 10)],
                &[ReplacedBy(1), ReplacedBy(1), ReplacedBy(1)],
            ),
            ("the grace ends", GRACE, &[(0, 1), (0, 11)], &[ReplacedBy(1), Reused]),
            (
                "the grace ends when the successor is used",
                GRACE,
                &[(0, 1), (1, 2), (0, 3)],
                &[ReplacedBy(1), ReplacedBy(2), Reused],
            ),
            ("without rotation it stays good", Rotation::Off, &[(0, 1), (0, 2)], &[Kept, Kept]),
            ("it expires", Rotation::Off, &[(0, 100)], &[Expired]),
            (
                "the successor has a life of its own",
                STRICT,
                &[(0, 99), (1, 198), (2, 298)],
                &[ReplacedBy(1), ReplacedBy(2), Expired],
            ),
            ("one handed out but not saved", STRICT, &[(7, 1), (7, 2)], &[ReplacedBy(8), Reused]),
            ("the last number there is", STRICT, &[(u64::MAX, 1)], &[Expired]),
        ] {
            assert_eq!(story(rotation, LIFETIME, presented), expected, "{what}");
        }
    }

    #[test]
    fn each_has_a_time_before_which_it_is_refused() {
        use Presented::{Kept, ReplacedBy, Reused, TooEarly};
        let late = Lifetime { not_before: Duration::from_secs(60), ..LIFETIME };
        let presented = [(0, 0), (0, 59), (0, 60), (1, 61), (0, 62), (1, 119), (1, 120)];
        let expected = [TooEarly, TooEarly, ReplacedBy(1), TooEarly, ReplacedBy(1), TooEarly, ReplacedBy(2)];
        assert_eq!(story(GRACE, late, &presented), expected, "one that is sent too early stays as it is");
        assert_eq!(story(STRICT, late, &[(0, 60), (0, 61)]), [ReplacedBy(1), Reused]);
        assert_eq!(story(Rotation::Off, late, &[(0, 59), (0, 60), (0, 61)]), [TooEarly, Kept, Kept]);
    }
}
