//! How many connections each client holds, so that none holds them all.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
};

use freshgate_web::ClientNetwork;

/// The connections of one listener, counted by client. What is remembered of a client goes with its last connection.
#[derive(Debug)]
pub(super) struct ClientPlaces {
    /// `None`: as many as it likes.
    limit: Option<NonZeroUsize>,
    held: Mutex<HashMap<ClientNetwork, usize>>,
}

/// The place of one connection among its client's. Given back when dropped.
#[derive(Debug)]
pub(super) struct ClientPlace {
    among: Arc<ClientPlaces>,
    client: ClientNetwork,
}

/// A client holds as many connections as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMany {
    pub(super) client: ClientNetwork,
    pub(super) limit: NonZeroUsize,
}

impl ClientPlaces {
    pub(super) fn new(limit: Option<NonZeroUsize>) -> Arc<Self> {
        Arc::new(Self { limit, held: Mutex::default() })
    }

    /// Takes a place for one more connection of a client; none is needed where nothing is counted.
    pub(super) fn take(self: &Arc<Self>, client: ClientNetwork) -> Result<Option<ClientPlace>, TooMany> {
        let Some(limit) = self.limit else { return Ok(None) };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = held.entry(client).or_default();
        if *of_client >= limit.get() {
            return Err(TooMany { client, limit });
        }
        *of_client += 1;
        Ok(Some(ClientPlace { among: Arc::clone(self), client }))
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut held = self.among.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(of_client) = held.get_mut(&self.client) {
            *of_client -= 1;
            if *of_client == 0 {
                held.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> ClientNetwork {
        ClientNetwork::of(address.parse().expect("an address"))
    }

    #[test]
    fn a_client_holds_so_many_and_no_more() {
        let places = ClientPlaces::new(NonZeroUsize::new(2));
        let mut first =
            vec![places.take(client("2001:db8::1")).unwrap(), places.take(client("2001:db8::2")).unwrap()];
        assert_eq!(places.take(client("2001:db8::3")).unwrap_err().client, client("2001:db8::1"));
        let other = places.take(client("192.0.2.7")).unwrap();
        first.pop();
        first.push(places.take(client("2001:db8::4")).unwrap());
        assert!(places.take(client("2001:db8::1")).is_err());
        drop((first, other));
        assert!(places.held.lock().unwrap().is_empty(), "nothing is left of who has gone");
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let places = ClientPlaces::new(None);
        let held: Vec<_> = (0..3).map(|_| places.take(client("192.0.2.7")).unwrap()).collect();
        assert!(held.iter().all(Option::is_none) && places.held.lock().unwrap().is_empty());
    }
}
