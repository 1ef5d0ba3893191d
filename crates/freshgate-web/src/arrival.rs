//! How a request arrived: what the layer cannot see for itself, as the server around it tells.

use std::net::IpAddr;

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
    /// The client's address: of the browser, not of a proxy.
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
}
