//! Who waits for which refresh: at most one flight a session, and one that waits for it to land.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::refresh::{RefreshError, RefreshOutcome, Settled};
use crate::session::SessionKey;

/// What a caller asks of a flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// Tokens and claims no older than the call.
    Forced,
    /// A token that lives for this long yet.
    IfExpiring(Duration),
    /// A refresh ahead of time, if it is time for that. Then it is time, or later, for every `IfExpiring` too.
    Ahead,
    /// No refresh: that an intent under which nothing was sent is given back.
    GiveBack,
}

impl Ask {
    /// The ask that serves both.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Forced, _) | (_, Self::Forced) => Self::Forced,
            (Self::Ahead, _) | (_, Self::Ahead) => Self::Ahead,
            (Self::GiveBack, ask) | (ask, Self::GiveBack) => ask,
            (Self::IfExpiring(one), Self::IfExpiring(other)) => Self::IfExpiring(one.max(other)),
        }
    }
}

/// The flights of all sessions.
#[derive(Default)]
pub(super) struct Flights {
    slots: Mutex<HashMap<SessionKey, Slot>>,
    unsent: Mutex<Unsent>,
}

/// The intents that may be in the store and under which nothing was sent.
#[derive(Default)]
struct Unsent {
    /// The names of their flights.
    holders: HashMap<SessionKey, String>,
    /// A task is giving them back.
    is_tended: bool,
}

/// How many of those are kept. It takes a store that fails for so many sessions at the worst of moments.
const UNSENT_KEPT: usize = 10_000;

struct Slot {
    running: Flight,
    /// What it was asked for when it last decided, if it has.
    considered: Option<Ask>,
    /// Its token request is on the wire: claims that come back may be older than a call made from now on.
    sent: bool,
    /// Forced callers who came after that share this one; it starts when `running` lands.
    next: Option<Flight>,
}

struct Flight {
    ask: Ask,
    land: watch::Sender<Option<Settled>>,
}

impl Flight {
    fn new(ask: Ask) -> Self {
        Self { ask, land: watch::channel(None).0 }
    }
}

/// A place on a flight.
pub(super) struct Seat {
    landed: watch::Receiver<Option<Settled>>,
    /// Whether this caller's ask started the flight (or is the one that the next flight starts for).
    pub(super) first: bool,
}

impl Seat {
    /// Waits for the result. Leaving cancels nobody.
    pub(super) async fn landed(mut self) -> Settled {
        match self.landed.wait_for(Option::is_some).await {
            Ok(settled) => settled.clone().unwrap_or_else(|| Err(RefreshError::interrupted())),
            Err(_gone) => Err(RefreshError::interrupted()),
        }
    }
}

impl Flights {
    /// Takes a place on the flight that may answer `ask`. The flag says whether the caller must start a task that runs
    /// flights for this session until none is left ([`Flights::crew`]).
    pub(super) fn board(&self, key: SessionKey, ask: Ask) -> (Seat, bool) {
        let mut slots = self.lock();
        let Some(slot) = slots.get_mut(&key) else {
            let running = Flight::new(ask);
            let seat = Seat { landed: running.land.subscribe(), first: true };
            slots.insert(key, Slot { running, considered: None, sent: false, next: None });
            return (seat, true);
        };
        let seat = match ask {
            Ask::Forced if slot.sent => {
                let first = slot.next.is_none();
                let next = slot.next.get_or_insert_with(|| Flight::new(ask));
                Seat { landed: next.land.subscribe(), first }
            }
            _ => {
                // If it is not on the wire yet, the request that it will send serves this caller too.
                slot.running.ask = slot.running.ask.and(ask);
                Seat { landed: slot.running.land.subscribe(), first: false }
            }
        };
        (seat, false)
    }

    /// The task that flies: lands every flight whatever happens, even if it panics.
    pub(super) fn crew(self: &Arc<Self>, key: SessionKey) -> Crew {
        Crew { flights: self.clone(), key, landed: false }
    }

    /// How many sessions have a refresh under way.
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// The sessions that may have an intent under which nothing was sent. None: whoever gives them back may stop, and will be
    /// started anew for the next ([`Crew::note_unsent_intent`]).
    pub(super) fn with_unsent_intents(&self) -> Vec<SessionKey> {
        let mut unsent = self.unsent();
        unsent.is_tended = !unsent.holders.is_empty();
        unsent.holders.keys().copied().collect()
    }

    /// Whoever gives them back has given up.
    pub(super) fn stop_giving_back(&self) {
        self.unsent().is_tended = false;
    }

    fn unsent(&self) -> MutexGuard<'_, Unsent> {
        self.unsent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SessionKey, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Flies the flights of one session, one after the other.
pub(super) struct Crew {
    flights: Arc<Flights>,
    key: SessionKey,
    landed: bool,
}

impl Crew {
    /// The name of the last flight, if it may have left an intent in the store and sent nothing.
    pub(super) fn unsent_intent(&self) -> Option<String> {
        self.flights.unsent().holders.remove(&self.key)
    }

    /// Keeps the name of a flight that may have left an intent in the store and sent nothing. `true`: the caller must start a
    /// task that gives such intents back until there are none.
    pub(super) fn note_unsent_intent(&self, holder: String) -> bool {
        let mut unsent = self.flights.unsent();
        if unsent.holders.len() >= UNSENT_KEPT
            && let Some(any) = unsent.holders.keys().next().copied()
        {
            unsent.holders.remove(&any);
        }
        unsent.holders.insert(self.key, holder);
        !std::mem::replace(&mut unsent.is_tended, true)
    }

    /// What the flight must do, asked at the last moment before it decides.
    pub(super) fn ask(&self) -> Ask {
        let mut slots = self.flights.lock();
        let Some(slot) = slots.get_mut(&self.key) else { return Ask::IfExpiring(Duration::ZERO) };
        *slot.considered.insert(slot.running.ask)
    }

    /// From now on no forced caller may join: the token request goes out.
    pub(super) fn sent(&self) {
        if let Some(slot) = self.flights.lock().get_mut(&self.key) {
            slot.sent = true;
        }
    }

    /// Lands the flight. `true`: another waits, fly on.
    pub(super) fn land(&mut self, settled: Settled) -> bool {
        let mut slots = self.flights.lock();
        let Some(slot) = slots.get_mut(&self.key) else { return false };
        let is_new = |outcome| matches!(outcome, RefreshOutcome::Refreshed | RefreshOutcome::TokensOnly);
        let refreshed = settled.as_ref().is_ok_and(|landed| is_new(landed.outcome));
        // Once: a flight that never comes to decide anything lands all the same.
        let for_others = slot.considered.take().is_some_and(|considered| considered != slot.running.ask);
        if slot.running.ask == Ask::Forced && for_others && !slot.sent && !refreshed {
            // A forced caller boarded after it was decided, for others, that no request of ours is needed or may be made.
            return true;
        }
        let next = slot.next.take();
        let flown = match next {
            Some(next) => {
                slot.sent = false;
                slot.considered = None;
                std::mem::replace(&mut slot.running, next)
            }
            None => match slots.remove(&self.key) {
                Some(slot) => {
                    self.landed = true;
                    slot.running
                }
                None => return false,
            },
        };
        drop(slots);
        flown.land.send_replace(Some(settled));
        !self.landed
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        if !self.landed {
            // A panic, or the runtime going down: dropping the senders wakes everyone with "interrupted".
            self.flights.lock().remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::refresh::{RefreshFailure, TryLater},
        *,
    };
    use crate::session::EndReason;

    fn key() -> SessionKey {
        SessionKey::from_bytes([7; 32])
    }

    fn result(reason: EndReason) -> Settled {
        Err(RefreshError::SignInAgain(reason))
    }

    #[tokio::test]
    async fn a_forced_ask_never_joins_a_request_on_the_wire() {
        let flights = Arc::new(Flights::default());
        let (first, start) = flights.board(key(), Ask::IfExpiring(Duration::from_secs(30)));
        assert!(start && first.first);
        let mut crew = flights.crew(key());

        let (early, start) = flights.board(key(), Ask::Forced);
        assert!(!start && !early.first, "not on the wire yet: shares the first flight");
        assert_eq!(crew.ask(), Ask::Forced, "and makes it a forced one");

        crew.sent();
        let (unforced, _) = flights.board(key(), Ask::IfExpiring(Duration::from_secs(30)));
        let (late_1, start) = flights.board(key(), Ask::Forced);
        assert!(!start && late_1.first);
        let (late_2, start) = flights.board(key(), Ask::Forced);
        assert!(!start && !late_2.first, "all that wait share the next");

        assert!(crew.land(result(EndReason::Refused)), "another waits");
        for seat in [first, early, unforced] {
            assert_eq!(format!("{:?}", seat.landed().await), format!("{:?}", result(EndReason::Refused)));
        }
        assert!(!crew.land(result(EndReason::Operator)));
        for seat in [late_1, late_2] {
            assert_eq!(format!("{:?}", seat.landed().await), format!("{:?}", result(EndReason::Operator)));
        }
        assert_eq!(flights.len(), 0);
    }

    #[tokio::test]
    async fn a_flight_that_decides_nothing_lands_all_the_same() {
        let flights = Arc::new(Flights::default());
        let (unforced, _) = flights.board(key(), Ask::IfExpiring(Duration::from_secs(30)));
        let mut crew = flights.crew(key());
        crew.ask();
        let (forced, _) = flights.board(key(), Ask::Forced);
        assert!(crew.land(result(EndReason::Operator)), "it was decided without the forced caller");
        assert!(!crew.land(result(EndReason::Operator)), "there was nothing to decide any more");
        for seat in [unforced, forced] {
            assert_eq!(format!("{:?}", seat.landed().await), format!("{:?}", result(EndReason::Operator)));
        }
    }

    #[tokio::test]
    async fn what_was_decided_without_a_forced_caller_is_decided_anew() {
        let backing_off = || -> Settled {
            let failure = RefreshFailure::BackingOff;
            Err(TryLater { retry_after: Duration::from_secs(1), failure }.into())
        };
        let flights = Arc::new(Flights::default());
        let (unforced, _) = flights.board(key(), Ask::IfExpiring(Duration::from_secs(30)));
        let mut crew = flights.crew(key());
        crew.ask();
        let (forced, _) = flights.board(key(), Ask::Forced);
        assert!(crew.land(backing_off()), "an unforced ask backs off, and this one need not");
        assert_eq!(crew.ask(), Ask::Forced);
        assert!(!crew.land(backing_off()), "the provider wants even a forced caller to wait");
        for seat in [unforced, forced] {
            assert_eq!(format!("{:?}", seat.landed().await), format!("{:?}", backing_off()));
        }

        // One whose request was sent after the forced caller boarded has asked for that one too.
        let _unforced = flights.board(key(), Ask::IfExpiring(Duration::from_secs(30)));
        let mut crew = flights.crew(key());
        crew.ask();
        let _forced = flights.board(key(), Ask::Forced);
        crew.sent();
        assert!(!crew.land(backing_off()), "nothing is sent twice for it");
    }

    #[test]
    fn one_task_gives_back_what_was_not_sent_and_another_once_it_has_given_up() {
        let flights = Arc::new(Flights::default());
        let crew = flights.crew(key());
        let note = || crew.note_unsent_intent("one".into());
        assert_eq!([note(), note()], [true, false], "one task at a time");
        flights.stop_giving_back();
        assert_eq!([note(), note()], [true, false]);
        assert_eq!(flights.with_unsent_intents(), [key()]);
        assert!(!note());
        assert_eq!((crew.unsent_intent(), crew.unsent_intent()), (Some("one".into()), None));
        assert!(flights.with_unsent_intents().is_empty(), "it may stop");
        assert!(note());
    }

    #[tokio::test]
    async fn a_crew_that_panics_leaves_nobody_waiting() {
        let flights = Arc::new(Flights::default());
        let (seat, _) = flights.board(key(), Ask::Forced);
        let crew = flights.crew(key());
        crew.sent();
        let (next, _) = flights.board(key(), Ask::Forced);
        drop(crew);
        assert!(matches!(seat.landed().await, Err(RefreshError::TryLater(_))));
        assert!(matches!(next.landed().await, Err(RefreshError::TryLater(_))));
        assert_eq!(flights.len(), 0);
    }
}
