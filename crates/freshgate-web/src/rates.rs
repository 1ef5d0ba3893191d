//! How often one client may ask for what costs something: a login, a refresh, a logout.
//!
//! A client is its network ([`ClientNetwork`]). Each has a bucket for each route, which holds as many requests as a minute
//! allows and fills evenly.

use std::{
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use freshgate::Timestamp;
use quick_cache::unsync::Cache;

use crate::{
    arrival::{Arrival, ClientNetwork},
    route::Ours,
};

/// How many requests a client may send within a minute; `None`: as many as it likes.
///
/// Whoever is on this very machine is not limited: an operator, or a proxy that nobody named, behind which one client could
/// lock out all others. Who comes by a proxy that is named is limited always, were it under the proxy's own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// To the login, and as many to the callback.
    pub logins: Option<NonZeroU32>,
    /// To `/auth/refresh`.
    pub refreshes: Option<NonZeroU32>,
    /// To each of the routes that end sessions; providers tell of many logouts from one address.
    pub logouts: Option<NonZeroU32>,
}

impl Default for RateLimits {
    fn default() -> Self {
        // Enough for an office behind one address on a Monday morning.
        Self { logins: NonZeroU32::new(120), refreshes: NonZeroU32::new(600), logouts: NonZeroU32::new(600) }
    }
}

impl RateLimits {
    fn of(&self, route: Ours) -> Option<NonZeroU32> {
        match route {
            Ours::Login | Ours::Callback => self.logins,
            Ours::Refresh => self.refreshes,
            Ours::Logout | Ours::BackChannelLogout | Ours::FrontChannelLogout => self.logouts,
            // Costs no more than any page.
            Ours::User | Ours::Verify => None,
        }
    }
}

/// A client asks more often than it may.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{client} may ask {per_minute} times a minute; if that is a proxy in front of the gate, the gate must know it as one"
)]
pub(crate) struct TooOften {
    client: ClientNetwork,
    per_minute: NonZeroU32,
    /// When it may ask again.
    pub(crate) retry_after: Duration,
}

/// As many buckets are remembered: some MB. Who asks seldom is forgotten first, and a forgotten bucket is a full one.
const REMEMBERED: usize = 16 * 1024;

const MINUTE_MICROS: i64 = 60_000_000;

/// Who asked how often.
#[derive(Debug)]
pub(crate) struct Rates {
    limits: RateLimits,
    /// When each bucket will be full again, in microseconds since the epoch. One that is not here is full.
    full_at: Mutex<Cache<(Ours, ClientNetwork), i64>>,
}

impl Rates {
    pub(crate) fn new(limits: RateLimits) -> Self {
        Self { limits, full_at: Mutex::new(Cache::new(REMEMBERED)) }
    }

    /// Takes one request out of a client's bucket for a route.
    pub(crate) fn take(&self, route: Ours, arrival: &Arrival, now: Timestamp) -> Result<(), TooOften> {
        let Some(per_minute) = self.limits.of(route).filter(|_| !arrival.is_local()) else {
            return Ok(());
        };
        let client = ClientNetwork::of(arrival.client);
        let now = now.as_unix_millis().saturating_mul(1000);
        let one = MINUTE_MICROS / i64::from(per_minute.get());
        let mut buckets = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        // No bucket is less than empty, though the clock may have been set back.
        let full_at = buckets.get(&(route, client)).map_or(now, |&at| at.clamp(now, now + MINUTE_MICROS));
        let over = full_at + one - now - MINUTE_MICROS;
        if over > 0 {
            return Err(TooOften {
                client,
                per_minute,
                retry_after: Duration::from_micros(over.unsigned_abs()),
            });
        }
        buckets.insert((route, client), full_at + one);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT: &str = "192.0.2.7";

    fn rates(per_minute: u32) -> Rates {
        let limit = NonZeroU32::new(per_minute);
        Rates::new(RateLimits { logins: limit, refreshes: limit, logouts: limit })
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_unix_millis(1_700_000_000_000 + millis)
    }

    /// `None`: it may; else the milliseconds to wait.
    fn ask(rates: &Rates, route: Ours, client: &str, millis: i64) -> Option<u128> {
        let asked = rates.take(route, &Arrival::direct(client.parse().expect("an address")), at(millis));
        asked.err().map(|too_often| too_often.retry_after.as_millis())
    }

    #[test]
    fn a_bucket_empties_at_once_and_fills_evenly() {
        let rates = rates(3);
        let table = [
            (0, None),
            (0, None),
            (0, None),
            (0, Some(20_000)),
            (1, Some(19_999)),
            (19_999, Some(1)),
            // What was refused took nothing.
            (20_000, None),
            (20_000, Some(20_000)),
            (59_999, None),
            (60_000, None),
            (60_000, Some(20_000)),
            // Never more than a minute's worth.
            (3_600_000, None),
            (3_600_000, None),
            (3_600_000, None),
            (3_600_000, Some(20_000)),
            // The clock was set back: it must wait as if it had just asked too often, and no longer.
            (0, Some(20_000)),
            (19_999, Some(20_000)),
        ];
        for (step, (millis, expected)) in table.into_iter().enumerate() {
            assert_eq!(ask(&rates, Ours::Login, CLIENT, millis), expected, "step {step} at {millis}");
        }
    }

    #[test]
    fn each_number_is_met_exactly() {
        for per_minute in [1, 2, 7, 60, 61, 120, 999, 100_000] {
            let rates = rates(per_minute);
            let granted = (0..per_minute + 1).filter(|_| ask(&rates, Ours::Login, CLIENT, 0).is_none());
            assert_eq!(granted.count(), per_minute as usize);
            let again = (0..per_minute + 1).filter(|_| ask(&rates, Ours::Login, CLIENT, 60_000).is_none());
            assert_eq!(again.count(), per_minute as usize);
        }
    }

    #[test]
    fn a_client_is_its_network() {
        let table = [
            ("192.0.2.7", "192.0.2.8", false),
            ("192.0.2.7", "::ffff:192.0.2.7", true),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
        ];
        for (first, second, same) in table {
            let rates = rates(1);
            assert_eq!(ask(&rates, Ours::Login, first, 0), None);
            assert_eq!(ask(&rates, Ours::Login, second, 0).is_some(), same, "{first} {second}");
        }
    }

    #[test]
    fn each_route_has_a_bucket_of_its_own_or_none() {
        let strict = rates(1);
        for (route, limited) in [
            (Ours::Login, true),
            (Ours::Callback, true),
            (Ours::Refresh, true),
            (Ours::Logout, true),
            (Ours::BackChannelLogout, true),
            (Ours::FrontChannelLogout, true),
            (Ours::User, false),
            (Ours::Verify, false),
        ] {
            assert_eq!(ask(&strict, route, CLIENT, 0), None, "{route:?}");
            assert_eq!(ask(&strict, route, CLIENT, 0).is_some(), limited, "{route:?}");
            for here in ["127.0.0.1", "127.1.2.3", "::1"] {
                assert!((0..3).all(|_| ask(&strict, route, here, 0).is_none()), "{here}");
            }
            let lax = Rates::new(RateLimits { logins: None, refreshes: None, logouts: None });
            assert!((0..3).all(|_| ask(&lax, route, CLIENT, 0).is_none()), "{route:?}");
        }
    }

    #[test]
    fn many_clients_take_no_more_room() {
        let rates = rates(1);
        for client in 0..u32::try_from(REMEMBERED).expect("a small number") * 4 {
            let address = std::net::Ipv4Addr::from(0x0b00_0000 + client);
            assert_eq!(ask(&rates, Ours::Login, &address.to_string(), 0), None);
        }
        assert!(rates.full_at.lock().unwrap().len() <= REMEMBERED);
    }

    #[test]
    fn the_log_says_whom_and_what_to_do() {
        let rates = rates(1);
        let client = Arrival::direct("2001:db8:0:1::7".parse().unwrap());
        rates.take(Ours::Login, &client, at(0)).unwrap();
        let refused = rates.take(Ours::Login, &client, at(0)).unwrap_err().to_string();
        assert!(refused.starts_with("2001:db8:0:1::/64 may ask 1 times a minute"), "{refused}");
    }
}
