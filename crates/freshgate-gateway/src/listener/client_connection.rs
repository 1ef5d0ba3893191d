//! What is known of a client's connection, and the way to end it from elsewhere.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
    task::Context,
};

use futures_util::task::AtomicWaker;
use http::HeaderValue;
use tokio::sync::{Notify, OwnedSemaphorePermit};

use super::{client_places::ClientPlace, framing::BadHead};

/// A client's connection, as every request on it carries it among its extensions. Cheap to clone.
///
/// It lives until its socket is closed, also after an upgrade; whoever keeps a clone keeps its place among the
/// connections taken.
#[derive(Clone, Debug)]
pub struct ClientConnection(Arc<State>);

/// What a connection is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// End after the request at hand. An upgraded socket ends at once.
    Finish = 1,
    /// End now.
    Abort = 2,
}

#[derive(Debug)]
struct State {
    peer: SocketAddr,
    /// Written out once for all its requests.
    forwarded_for: HeaderValue,
    in_flight: AtomicBool,
    /// Requests that were handed to the service so far.
    requests: AtomicU32,
    /// The number of the request whose head is bad, and what is wrong with it.
    bad_head: OnceLock<(u32, BadHead)>,
    signal: AtomicU8,
    /// Who runs the connection: its own task, then, after an upgrade, the tunnel.
    runner: AtomicWaker,
    _place: Option<Place>,
}

#[derive(Debug)]
struct Place {
    among: Arc<Connections>,
    number: u64,
    _slot: Slot,
}

/// What a connection takes, and gives back at its end.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) _of_all: OwnedSemaphorePermit,
    pub(super) _of_client: Option<ClientPlace>,
}

impl ClientConnection {
    /// A connection that no listener keeps, for services that are called in other ways.
    pub fn detached(peer: SocketAddr) -> Self {
        Self::new(peer, None)
    }

    fn new(peer: SocketAddr, place: Option<Place>) -> Self {
        let address = peer.ip().to_canonical().to_string();
        Self(Arc::new(State {
            peer,
            forwarded_for: HeaderValue::try_from(address).expect("an address is plain ASCII"),
            in_flight: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            bad_head: OnceLock::new(),
            signal: AtomicU8::new(0),
            runner: AtomicWaker::new(),
            _place: place,
        }))
    }

    /// Where the connection comes from: the client, or a proxy in front of us.
    pub fn peer(&self) -> SocketAddr {
        self.0.peer
    }

    /// The address of the peer, as `X-Forwarded-For` has it.
    pub fn forwarded_for(&self) -> &HeaderValue {
        &self.0.forwarded_for
    }

    /// Cuts the connection off, whatever it is doing. Its socket closes as soon as its task gets its turn.
    pub fn abort(&self) {
        self.signal(Signal::Abort);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.0.signal.fetch_max(signal as u8, Ordering::AcqRel);
        self.0.runner.wake();
    }

    /// What the connection was told, if anything. The task is woken when that changes; one task at a time can ask.
    pub(crate) fn poll_signal(&self, context: &Context<'_>) -> Option<Signal> {
        self.0.runner.register(context.waker());
        match self.0.signal.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Signal::Finish),
            _ => Some(Signal::Abort),
        }
    }

    /// Whether it was told to end, now or soon.
    #[cfg(test)]
    pub(crate) fn is_told_to_end(&self) -> bool {
        self.0.signal.load(Ordering::Acquire) != 0
    }

    pub(super) fn begin_request(&self) -> InFlight {
        // Everything here happens on the connection's own task; atomics only because that task may change threads.
        let number = self.0.requests.load(Ordering::Relaxed).wrapping_add(1);
        self.0.requests.store(number, Ordering::Relaxed);
        self.0.in_flight.store(true, Ordering::Relaxed);
        InFlight { connection: self.clone(), number }
    }

    pub(super) fn has_request_in_flight(&self) -> bool {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// There is one at most: nothing after it on the connection is read as a request.
    pub(super) fn mark_bad_head(&self, request: u32, what: BadHead) {
        let _ = self.0.bad_head.set((request, what));
    }
}

/// A request that is being answered. Dropped when its answer is sent.
#[derive(Debug)]
pub(super) struct InFlight {
    connection: ClientConnection,
    number: u32,
}

impl InFlight {
    /// What is wrong with its head, if the bytes of it were already enough to say so.
    pub(super) fn bad_head(&self) -> Option<BadHead> {
        let (request, what) = self.connection.0.bad_head.get()?;
        (*request == self.number).then_some(*what)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.connection.0.in_flight.store(false, Ordering::Relaxed);
    }
}

/// The connections of one listener.
#[derive(Debug, Default)]
pub(super) struct Connections {
    open: Mutex<Open>,
    emptied: Notify,
}

#[derive(Debug, Default)]
struct Open {
    by_number: HashMap<u64, Weak<State>>,
    last_number: u64,
}

impl Connections {
    pub(super) fn open(self: &Arc<Self>, peer: SocketAddr, slot: Slot) -> ClientConnection {
        let mut open = self.lock();
        open.last_number += 1;
        let number = open.last_number;
        let place = Place { among: Arc::clone(self), number, _slot: slot };
        let connection = ClientConnection::new(peer, Some(place));
        open.by_number.insert(number, Arc::downgrade(&connection.0));
        connection
    }

    /// Tells all of them. Yields how many there are.
    pub(super) fn signal(&self, signal: Signal) -> usize {
        // The clones are dropped without the lock: the last clone of a connection takes it.
        let open: Vec<_> =
            self.lock().by_number.values().filter_map(Weak::upgrade).map(ClientConnection).collect();
        for connection in &open {
            connection.signal(signal);
        }
        open.len()
    }

    /// Ready once there are none.
    pub(super) async fn all_closed(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock().by_number.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.among.lock();
        open.by_number.remove(&self.number);
        if open.by_number.is_empty() {
            self.among.emptied.notify_waiters();
        }
    }
}
