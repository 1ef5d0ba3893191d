//! When an access token is refreshed: a pure function of (tokens, now, wish).

use std::time::Duration;

use freshgate_oidc::Timestamp;

use crate::session::{SessionKey, TokenSet};

/// Tokens that live for less are left to those who read them: keeping them fresh would be asking all the time.
const SHORTEST_KEPT_FRESH: Duration = Duration::from_secs(10);

/// How an access token stands towards a caller's wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// It lives long enough.
    Fresh,
    /// It still lives, but not as long as wished.
    Expiring,
    /// It is over.
    Expired,
}

/// Judges `tokens` at `now` for a caller who wants `validity` left.
///
/// A token whose end the provider did not say is taken to be fresh: only the provider can tell otherwise.
pub fn judge(tokens: &TokenSet, now: Timestamp, validity: Duration) -> Freshness {
    match tokens.expires_at {
        Some(expires_at) if now >= expires_at => Freshness::Expired,
        Some(_) if fresh_until(tokens, validity).is_some_and(|until| now >= until) => Freshness::Expiring,
        _ => Freshness::Fresh,
    }
}

/// From when on a caller who wants `validity` left must ask for a refresh. `None`: never.
///
/// The wish counts for a fifth of the token's own lifetime at most: a provider whose tokens live for 10 seconds would
/// otherwise be asked at every read.
pub fn fresh_until(tokens: &TokenSet, validity: Duration) -> Option<Timestamp> {
    let expires_at = tokens.expires_at?;
    let lifetime = expires_at.saturating_since(tokens.obtained_at);
    Some(expires_at - validity.min(lifetime / 5))
}

/// When the tokens of an active session are refreshed although nobody asks. `None`: never.
///
/// That is after 70 to 80 % of their lifetime: before any caller of [`judge`] could have to wait for it, however much
/// validity it wishes. Where between the two, `key` says: sessions that signed in together do not refresh together, and
/// engines that share a store agree on the moment.
///
/// A provider that refuses to refresh before `not_before` is asked between then and `min_validity` before the end.
pub fn refresh_ahead_at(
    tokens: &TokenSet,
    key: SessionKey,
    min_validity: Duration,
    not_before: Option<Timestamp>,
) -> Option<Timestamp> {
    let lifetime = tokens.expires_at?.saturating_since(tokens.obtained_at);
    if lifetime < SHORTEST_KEPT_FRESH {
        return None;
    }
    let mut earliest = tokens.obtained_at + lifetime / 10 * 7;
    let mut latest = tokens.obtained_at + lifetime / 10 * 8;
    if let Some(not_before) = not_before.filter(|not_before| *not_before > earliest) {
        earliest = not_before;
        if not_before > latest {
            latest = fresh_until(tokens, min_validity)?;
        }
    }
    Some(earliest + latest.saturating_since(earliest).mul_f64(place(key)))
}

/// A number from 0 to 1 that is as good as random among sessions, and always the same for one.
fn place(key: SessionKey) -> f64 {
    // A key is a hash already. Its first bytes choose the places of sessions in memory; these are independent of those.
    let [.., a, b, c, d] = *key.as_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use freshgate_oidc::Secret;

    use super::*;

    fn tokens(lifetime_seconds: Option<u64>) -> TokenSet {
        let obtained_at = Timestamp::from_unix_seconds(1_000_000);
        TokenSet {
            access_token: Secret::new("at"),
            token_type: "Bearer".to_owned(),
            id_token: None,
            scope: None,
            obtained_at,
            expires_at: lifetime_seconds.map(|seconds| obtained_at + Duration::from_secs(seconds)),
        }
    }

    #[test]
    fn judges_by_what_is_left() {
        use Freshness::{Expired, Expiring, Fresh};
        // (lifetime, wish, age, expected)
        let table = [
            (Some(3600), 30, 0, Fresh),
            (Some(3600), 30, 3569, Fresh),
            (Some(3600), 30, 3570, Expiring),
            (Some(3600), 30, 3599, Expiring),
            (Some(3600), 30, 3600, Expired),
            (Some(3600), 0, 3599, Fresh),
            (Some(3600), 600, 2999, Fresh),
            (Some(3600), 600, 3000, Expiring),
            // Wishes beyond a fifth of the lifetime count for a fifth.
            (Some(10), 30, 7, Fresh),
            (Some(10), 30, 8, Expiring),
            (Some(10), 30, 10, Expired),
            (Some(100), 3600, 79, Fresh),
            (Some(100), 3600, 80, Expiring),
            // A token that was over when it came.
            (Some(0), 30, 0, Expired),
            // An end that the provider did not say.
            (None, 30, 1_000_000, Fresh),
        ];
        for (lifetime, wish, age, expected) in table {
            let tokens = tokens(lifetime);
            let now = tokens.obtained_at + Duration::from_secs(age);
            let judged = judge(&tokens, now, Duration::from_secs(wish));
            assert_eq!(judged, expected, "lifetime {lifetime:?}, wish {wish}, age {age}");
        }
    }

    fn key(place: u32) -> SessionKey {
        let mut bytes = [7; 32];
        bytes[28..].copy_from_slice(&place.to_be_bytes());
        SessionKey::from_bytes(bytes)
    }

    #[test]
    fn refreshes_active_sessions_ahead() {
        // (lifetime, place of the key, min_validity, the provider's not-before, expected age), all in seconds
        let table = [
            (Some(3600), 0, 30, None, Some(2520)),
            (Some(3600), u32::MAX / 2, 30, None, Some(2700)),
            (Some(3600), u32::MAX, 30, None, Some(2880)),
            (Some(300), 0, 30, None, Some(210)),
            (Some(300), u32::MAX, 30, None, Some(240)),
            (Some(10), 0, 30, None, Some(7)),
            (Some(10), u32::MAX, 30, None, Some(8)),
            // Too short-lived, over when it came, an end that the provider did not say.
            (Some(9), 0, 30, None, None),
            (Some(0), 0, 30, None, None),
            (None, 0, 30, None, None),
            // A not-before earlier than that changes nothing; one within is where it begins.
            (Some(3600), 0, 30, Some(2519), Some(2520)),
            (Some(3600), u32::MAX, 30, Some(2519), Some(2880)),
            (Some(3600), 0, 30, Some(2600), Some(2600)),
            (Some(3600), u32::MAX, 30, Some(2600), Some(2880)),
            // A later one leaves the time from then until `min_validity` before the end, …
            (Some(3600), 0, 30, Some(3540), Some(3540)),
            (Some(3600), u32::MAX, 30, Some(3540), Some(3570)),
            // … or no choice at all.
            (Some(3600), 0, 30, Some(3580), Some(3580)),
            (Some(3600), u32::MAX, 30, Some(3580), Some(3580)),
            (Some(3600), u32::MAX, 30, Some(5000), Some(5000)),
        ];
        for (lifetime, place, min_validity, not_before, expected) in table {
            let tokens = tokens(lifetime);
            let age = |seconds| tokens.obtained_at + Duration::from_secs(seconds);
            let at =
                refresh_ahead_at(&tokens, key(place), Duration::from_secs(min_validity), not_before.map(age));
            // Where it lies is computed with fractions: a millisecond more or less is no difference.
            let off = match (at, expected.map(age)) {
                (Some(at), Some(expected)) => {
                    at.saturating_since(expected).max(expected.saturating_since(at))
                }
                (at, expected) => {
                    assert_eq!(at, expected, "lifetime {lifetime:?}, not before {not_before:?}");
                    Duration::ZERO
                }
            };
            let one = Duration::from_millis(1);
            assert!(off <= one, "lifetime {lifetime:?}, place {place}, not before {not_before:?}: {at:?}");
        }
    }

    #[test]
    fn ahead_is_before_anybody_has_to_wait() {
        for lifetime in [10, 11, 59, 300, 3600, 86_400, 10_000_000] {
            let tokens = tokens(Some(lifetime));
            for place in [0, 1, u32::MAX / 3, u32::MAX - 1, u32::MAX] {
                let at = refresh_ahead_at(&tokens, key(place), Duration::from_secs(30), None);
                assert!(at.is_some() && at <= fresh_until(&tokens, Duration::MAX), "{lifetime}, {place}");
            }
        }
    }

    #[test]
    fn sessions_are_spread() {
        let tokens = tokens(Some(3600));
        // How many of 3,600 sessions are refreshed in each of the 360 seconds that there are.
        let mut seconds = [0_u32; 361];
        for session in 0..3600_u32 {
            let key = SessionKey::from_bytes(freshgate_oidc::sha256(&session.to_be_bytes()));
            let at = refresh_ahead_at(&tokens, key, Duration::from_secs(30), None).unwrap();
            let second = at.saturating_since(tokens.obtained_at + Duration::from_secs(2520)).as_secs();
            seconds[usize::try_from(second).unwrap()] += 1;
        }
        assert!(seconds.iter().all(|sessions| *sessions <= 30), "ten on average: {seconds:?}");
    }
}
