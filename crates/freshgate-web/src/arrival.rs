//! How a request arrived: what the layer cannot see for itself, as the server around it tells.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

use http::{
    request::Parts,
    uri::{Authority, Scheme},
};

/// How a request arrived, as the server around the layer knows it and puts among the request's extensions.
///
/// All of it counts as true: what a client could have made up must not be in it. Without it no client is told from another,
/// and none is limited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The client's address: of the browser, not of a proxy, unless that did not say whose it is.
    pub client: IpAddr,
    /// The scheme of the address that the client used; `None` if nobody says.
    pub scheme: Option<Scheme>,
    /// The host, perhaps with a port, of the address that the client used; `None`: as `Host` has it.
    pub host: Option<Authority>,
    /// Whether it was sent by a proxy that is trusted: what that says of another request counts (see
    /// [`ForwardAuth`](crate::ForwardAuth)).
    pub by_trusted_proxy: bool,
}

impl Arrival {
    /// That of a client that nothing stands before.
    pub fn direct(client: IpAddr) -> Self {
        Self { client: client.to_canonical(), scheme: None, host: None, by_trusted_proxy: false }
    }

    pub(crate) fn of(request: &Parts) -> Option<&Self> {
        request.extensions.get()
    }

    /// Whether it was sent from this very machine, and by nobody who sends for others: what a proxy says, or fails to say,
    /// makes nobody local.
    pub(crate) fn is_local(&self) -> bool {
        self.client.is_loopback() && !self.by_trusted_proxy
    }
}

/// What counts as one client: an IPv4 address, or the 64 bits of an IPv6 address that a subscriber gets at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientNetwork(IpAddr);

impl ClientNetwork {
    /// The one that an address belongs to.
    pub fn of(address: IpAddr) -> Self {
        // Its first address stands for it.
        Self(match address.to_canonical() {
            IpAddr::V4(address) => address.into(),
            IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
        })
    }
}

impl fmt::Display for ClientNetwork {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}{}", self.0, if self.0.is_ipv6() { "/64" } else { "" })
    }
}
