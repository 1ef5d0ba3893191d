//! Limits on what browsers may ask of the gate.

use super::{
    report::Report,
    setting::{CONNECTIONS, LOGINS_IN_FLIGHT, REQUEST_HEADER_BYTES, SOCKETS_PER_SESSION, Setting, Sources},
};

/// Limits on what browsers may ask of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// This many connections may be open at once; further ones wait.
    pub connections: usize,
    /// The header of a request may be this large, in bytes.
    pub request_header_bytes: usize,
    /// A session may have this many WebSockets open at once.
    pub sockets_per_session: usize,
    /// A browser may have this many logins under way at once.
    pub logins_in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8_192,
            request_header_bytes: 64 * 1024,
            sockets_per_session: 64,
            logins_in_flight: 8,
        }
    }
}

pub(super) fn read(sources: &Sources<'_>, report: &mut Report) -> Limits {
    let mut read = |setting: Setting, limits, default: usize| {
        let number = sources.find(setting, report).and_then(|given| given.number(limits, report));
        number.and_then(|number| usize::try_from(number).ok()).unwrap_or(default)
    };
    let default = Limits::default();
    Limits {
        connections: read(CONNECTIONS, 1..=1_000_000, default.connections),
        request_header_bytes: read(
            REQUEST_HEADER_BYTES,
            8 * 1024..=1024 * 1024,
            default.request_header_bytes,
        ),
        sockets_per_session: read(SOCKETS_PER_SESSION, 1..=10_000, default.sockets_per_session),
        logins_in_flight: read(LOGINS_IN_FLIGHT, 1..=32, default.logins_in_flight),
    }
}
