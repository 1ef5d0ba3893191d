//! Limits on what browsers may ask of the gate.

use std::num::{NonZeroU32, NonZeroUsize};

use freshgate_web::RateLimits;

use super::{
    report::Report,
    setting::{
        CONNECTIONS, CONNECTIONS_PER_CLIENT, LOGINS_IN_FLIGHT, LOGINS_PER_MINUTE, LOGOUTS_PER_MINUTE,
        REFRESHES_PER_MINUTE, REQUEST_HEADER_BYTES, SOCKETS_PER_SESSION, Setting, Sources,
    },
};
use crate::listener::ListenerLimits;

/// Limits on what browsers may ask of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// This many connections may be open at once; further ones wait.
    pub connections: usize,
    /// One client may have this many of them open at once; further ones are closed. `None`: as many as it likes.
    pub connections_per_client: Option<NonZeroUsize>,
    /// The header of a request may be this large, in bytes.
    pub request_header_bytes: usize,
    /// A session may have this many WebSockets open at once.
    pub sockets_per_session: usize,
    /// A browser may have this many logins under way at once.
    pub logins_in_flight: usize,
    /// How often one client may ask the gate's own routes.
    pub rates: RateLimits,
}

impl Default for Limits {
    fn default() -> Self {
        let listener = ListenerLimits::default();
        Self {
            connections: listener.connections,
            connections_per_client: listener.connections_per_client,
            request_header_bytes: listener.request_head,
            sockets_per_session: 64,
            logins_in_flight: 8,
            rates: RateLimits::default(),
        }
    }
}

pub(super) fn read(sources: &Sources<'_>, report: &mut Report) -> Limits {
    let rates = rates(sources, report);
    let mut read = |setting: Setting, limits, default: usize| {
        let number = sources.find(setting, report).and_then(|given| given.number(limits, report));
        number.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    };
    let default = Limits::default();
    Limits {
        connections: read(CONNECTIONS, 1..=1_000_000, default.connections),
        connections_per_client: NonZeroUsize::new(read(
            CONNECTIONS_PER_CLIENT,
            0..=1_000_000,
            default.connections_per_client.map_or(0, NonZeroUsize::get),
        )),
        request_header_bytes: read(
            REQUEST_HEADER_BYTES,
            8 * 1024..=1024 * 1024,
            default.request_header_bytes,
        ),
        sockets_per_session: read(SOCKETS_PER_SESSION, 1..=10_000, default.sockets_per_session),
        logins_in_flight: read(LOGINS_IN_FLIGHT, 1..=32, default.logins_in_flight),
        rates,
    }
}

/// Requests a minute; 0 for as many as anybody likes.
fn rates(sources: &Sources<'_>, report: &mut Report) -> RateLimits {
    let mut read = |setting: Setting, default: Option<NonZeroU32>| match sources
        .find(setting, report)
        .and_then(|given| given.number(0..=100_000, report))
    {
        Some(number) => u32::try_from(number).ok().and_then(NonZeroU32::new),
        None => default,
    };
    let default = RateLimits::default();
    RateLimits {
        logins: read(LOGINS_PER_MINUTE, default.logins),
        refreshes: read(REFRESHES_PER_MINUTE, default.refreshes),
        logouts: read(LOGOUTS_PER_MINUTE, default.logouts),
    }
}
