//! What is known of a client's connection, and the way to end it from elsewhere.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
    task::{Context, Poll},
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
    /// Where several are at work at a time (HTTP/2): how many are, and how many the client has taken back so far.
    at_work: AtomicU32,
    taken_back: AtomicU32,
    /// The connection that this is one request of.
    request_of: Option<ClientConnection>,
    /// The number of the request whose head is bad, and what is wrong with it.
    bad_head: OnceLock<(u32, BadHead)>,
    signal: AtomicU8,
    /// Who runs the connection: its own task, then, after an upgrade, the tunnel.
    runner: AtomicWaker,
    _place: Option<Place>,
    /// What this one request takes besides.
    _slot: Option<Slot>,
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
        Self::new(peer, forwarded_for(peer), (None, None), None)
    }

    /// One of several requests that are at work at a time (HTTP/2). It can be cut off by itself, and keeps the place of the
    /// connection that it is on.
    pub(super) fn request(&self, slot: Option<Slot>) -> Self {
        Self::new(self.0.peer, self.0.forwarded_for.clone(), (None, slot), Some(self.clone()))
    }

    fn new(
        peer: SocketAddr,
        forwarded_for: HeaderValue,
        (place, slot): (Option<Place>, Option<Slot>),
        request_of: Option<Self>,
    ) -> Self {
        Self(Arc::new(State {
            peer,
            forwarded_for,
            in_flight: AtomicBool::new(false),
            requests: AtomicU32::new(0),
            at_work: AtomicU32::new(0),
            taken_back: AtomicU32::new(0),
            request_of,
            bad_head: OnceLock::new(),
            signal: AtomicU8::new(0),
            runner: AtomicWaker::new(),
            _place: place,
            _slot: slot,
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
        if let Some(connection) = &self.0.request_of {
            connection.0.requests.fetch_add(1, Ordering::Relaxed);
            connection.0.at_work.fetch_add(1, Ordering::Relaxed);
        }
        InFlight { connection: self.clone(), number }
    }

    pub(super) fn has_request_in_flight(&self) -> bool {
        self.0.in_flight.load(Ordering::Relaxed)
    }

    /// How many requests there were, and how many of them are at work (HTTP/2). Who runs the connection is woken when there
    /// are none left.
    pub(super) fn requests(&self) -> (u32, u32) {
        (self.0.requests.load(Ordering::Relaxed), self.0.at_work.load(Ordering::Relaxed))
    }

    /// How many requests the client has taken back.
    pub(super) fn taken_back(&self) -> u32 {
        self.0.taken_back.load(Ordering::Relaxed)
    }

    pub(super) fn note_taken_back(&self) {
        self.0.taken_back.fetch_add(1, Ordering::Relaxed);
        self.0.runner.wake();
    }

    /// There is one at most: nothing after it on the connection is read as a request.
    pub(super) fn mark_bad_head(&self, request: u32, what: BadHead) {
        let _ = self.0.bad_head.set((request, what));
    }
}

fn forwarded_for(peer: SocketAddr) -> HeaderValue {
    HeaderValue::try_from(peer.ip().to_canonical().to_string()).expect("an address is plain ASCII")
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

    /// Ready once this request alone is to be cut off. One that has its connection for itself is cut off with that.
    pub(super) fn poll_cut_off(&self, context: &Context<'_>) -> Poll<()> {
        let is_one_of_several = self.connection.0.request_of.is_some();
        match is_one_of_several && self.connection.poll_signal(context) == Some(Signal::Abort) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.connection.0.in_flight.store(false, Ordering::Relaxed);
        if let Some(connection) = &self.connection.0.request_of
            && connection.0.at_work.fetch_sub(1, Ordering::Relaxed) == 1
        {
            connection.0.runner.wake();
        }
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
        let connection = ClientConnection::new(peer, forwarded_for(peer), (Some(place), None), None);
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
