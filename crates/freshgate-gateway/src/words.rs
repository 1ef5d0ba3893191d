//! Times, durations and others' words, as they are said to people at a terminal.

use std::time::{Duration, UNIX_EPOCH};

use freshgate_oidc::{Timestamp, is_unprintable};

/// Text that a provider or a user chose, fit for a terminal: what could steer it is replaced.
pub(crate) fn printable(text: &str) -> String {
    printable_up_to(200, text)
}

/// The same, cut after so many characters.
pub(crate) fn printable_up_to(longest: usize, text: &str) -> String {
    let mut shown: String =
        text.chars().map(|c| if is_unprintable(c) { '\u{fffd}' } else { c }).take(longest).collect();
    if text.chars().nth(longest).is_some() {
        shown.push('…');
    }
    shown
}

/// A point in time, such as `2026-11-23 14:00:05Z`.
pub(crate) fn date(at: Timestamp) -> String {
    // From 1970 to 9999; no other date means anything here.
    let seconds = (at.as_unix_millis() / 1000).clamp(0, 253_402_300_799);
    let date = UNIX_EPOCH + Duration::from_secs(seconds.unsigned_abs());
    humantime::format_rfc3339_seconds(date).to_string().replace('T', " ")
}

/// How far a point in time is from now, such as `in 5 min` or `3 h ago`.
pub(crate) fn relative(at: Timestamp, now: Timestamp) -> String {
    if at > now {
        format!("in {}", rough(at.saturating_since(now)))
    } else {
        format!("{} ago", rough(now.saturating_since(at)))
    }
}

/// A duration in one unit.
pub(crate) fn rough(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7_200 => format!("{} min", seconds / 60),
        seconds @ 7_200..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// How long something took.
pub(crate) fn took(millis: u64) -> String {
    match millis {
        0..1_000 => format!("{millis} ms"),
        _ => format!("{}.{} s", millis / 1_000, millis % 1_000 / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let now = Timestamp::from_unix_seconds(1_795_442_400);
        assert_eq!(date(now), "2026-11-23 14:00:00Z");
        assert_eq!(date(Timestamp::from_unix_millis(i64::MAX)), "9999-12-31 23:59:59Z");
        assert_eq!(date(Timestamp::from_unix_millis(i64::MIN)), "1970-01-01 00:00:00Z");
        for (seconds, expected) in [
            (0, "0 s ago"),
            (-119, "119 s ago"),
            (-120, "2 min ago"),
            (300, "in 5 min"),
            (7_200, "in 2 h"),
            (-172_800, "2 days ago"),
        ] {
            let at = Timestamp::from_unix_millis(now.as_unix_millis() + seconds * 1000);
            assert_eq!(relative(at, now), expected);
        }
        assert_eq!(
            (took(999).as_str(), took(1_000).as_str(), took(15_250).as_str()),
            ("999 ms", "1.0 s", "15.2 s")
        );
    }

    #[test]
    fn what_steers_a_terminal_is_replaced() {
        assert_eq!(printable("ada\x1b[2J\n\u{202e}x"), "ada\u{fffd}[2J\u{fffd}\u{fffd}x");
        assert_eq!(printable(&"x".repeat(300)).chars().count(), 201);
    }
}
