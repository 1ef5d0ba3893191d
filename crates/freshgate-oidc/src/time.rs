//! Points in time, as rules take them.

use std::{
    ops::{Add, Sub},
    time::Duration,
};

/// A point in time: milliseconds since the Unix epoch. All arithmetic saturates, so no number that a provider sends
/// can overflow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

impl Timestamp {
    /// So many seconds after the Unix epoch.
    pub const fn from_unix_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// So many milliseconds after the Unix epoch.
    pub const fn from_unix_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_unix_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down: what a token says (RFC 7519 section 2).
    pub const fn as_unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Seconds since the Unix epoch, with the milliseconds as a fraction.
    #[expect(clippy::cast_precision_loss, reason = "exact for any date within 285,000 years")]
    pub fn as_unix_seconds_f64(self) -> f64 {
        self.0 as f64 / 1000.0
    }

    /// How long this is after `other`; zero if it is not.
    pub fn saturating_since(self, other: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(other.0)).unwrap_or(0))
    }

    /// A `NumericDate` (RFC 7519 section 2): seconds, perhaps with a fraction. `None` for what is no finite number.
    pub(crate) fn from_numeric_date(value: &serde_json::Value) -> Option<Self> {
        if let Some(seconds) = value.as_i64() {
            return Some(Self::from_unix_seconds(seconds));
        }
        let seconds = value.as_f64().filter(|seconds| seconds.is_finite())?;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a float cast saturates, which is what is wanted"
        )]
        Some(Self((seconds * 1000.0) as i64))
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }
}

impl Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let (first, last) = (Timestamp::from_unix_millis(i64::MIN), Timestamp::from_unix_millis(i64::MAX));
        assert_eq!(last + Duration::MAX, last);
        assert_eq!(first - Duration::MAX, first);
        assert_eq!(Timestamp::from_unix_seconds(i64::MAX), last);
        assert_eq!(Timestamp::from_unix_seconds(i64::MIN), first);
        assert_eq!(first.saturating_since(last), Duration::ZERO);
        assert_eq!(last.saturating_since(first), Duration::from_millis(i64::MAX.unsigned_abs()));
    }

    #[test]
    fn time_goes_on() {
        let noon = Timestamp::from_unix_seconds(1_795_435_200);
        let later = noon + Duration::from_millis(1500);
        assert!(later > noon);
        assert_eq!(later.as_unix_millis(), 1_795_435_201_500);
        assert_eq!(later.saturating_since(noon), Duration::from_millis(1500));
        assert_eq!(later - Duration::from_millis(1500), noon);
        assert!((later.as_unix_seconds_f64() - 1_795_435_201.5).abs() < f64::EPSILON);
    }

    #[test]
    fn it_is_stored_as_whole_milliseconds() {
        let at = Timestamp::from_unix_millis(-5);
        assert_eq!(serde_json::to_value(at).unwrap(), json!(-5));
        assert_eq!(serde_json::from_value::<Timestamp>(json!(-5)).unwrap(), at);
    }

    #[test]
    fn numeric_dates() {
        for (value, millis) in [
            (json!(1), Some(1000)),
            (json!(1.5), Some(1500)),
            (json!(0), Some(0)),
            (json!(-1), Some(-1000)),
            (json!(1e300), Some(i64::MAX)),
            (json!(-1e300), Some(i64::MIN)),
            (json!(u64::MAX), Some(i64::MAX)),
            (json!(i64::MAX), Some(i64::MAX)),
            (json!("1"), None),
            (json!(null), None),
            (json!([1]), None),
            (json!(true), None),
        ] {
            assert_eq!(
                Timestamp::from_numeric_date(&value).map(Timestamp::as_unix_millis),
                millis,
                "{value}"
            );
        }
    }
}
