//! How a provider is asked for refreshes by many sessions: by few at a time, and by hardly any while it is away.
//!
//! ```text
//! Closed -- many failures in a row, or "come back later" --> Open -- the rest is over --> HalfOpen (one request)
//!    ^                                                        ^                             |          |
//!    |                                                        +---------- it failed --------+          |
//!    +---------------- answered: 2, then 4, ... requests at a time up to the cap ----------------------+
//! ```
//!
//! [`Breaker`] decides; [`Turns`] has those who must wait wait, in the order they came. A refusal counts as an answer: the
//! provider is up.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use crate::counting;

/// So many failures in a row, and the provider is left alone.
const FAILURES_TO_OPEN: u32 = 5;
/// How many requests may be in flight at first, and after a pause. Each answer makes it one more, which doubles it with
/// every round; so when a provider goes away unnoticed, few find out.
const FIRST_LIMIT: usize = 8;
/// How long the provider is left alone at first; then for twice as long, …
const FIRST_REST: Duration = Duration::from_secs(1);
/// … up to this long: it is one request, and whoever waits wants it soon.
const LONGEST_REST: Duration = Duration::from_secs(16);
/// A provider may ask to be left alone (Retry-After), but not for longer than this.
const LONGEST_WANTED_REST: Duration = Duration::from_secs(120);
/// While one request finds out whether it is back, others may ask again after this long.
const PROBE_PAUSE: Duration = Duration::from_secs(1);

/// How a request went, as far as it says something about the provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It answered, whatever it said.
    Answered,
    /// It could not be reached, could not answer, or its answer was lost.
    Failed {
        /// It said when to come back.
        wanted: Option<Duration>,
        /// … and meant everyone.
        everyone: bool,
    },
    /// Nothing was asked after all.
    NotAsked,
}

impl Verdict {
    /// A failure of which no more is known.
    pub(crate) const FAILED: Self = Self::Failed { wanted: None, everyone: false };
}

/// Who may ask: a pure function of what happened and the time.
#[derive(Debug)]
struct Breaker {
    state: State,
    /// How many requests may be in flight at the most.
    cap: usize,
    /// How many may be now.
    limit: usize,
    in_flight: usize,
    /// Requests that were in flight when the provider was given up: what becomes of them says nothing new.
    left_over: usize,
    /// Counts how often it was given up.
    era: u32,
    /// How long it was left alone the last time; zero once it is well again.
    rest: Duration,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// It answers.
    Closed { failures: u32 },
    /// It is left alone until then.
    Open { until: Instant },
    /// One request finds out whether it is back.
    HalfOpen,
}

/// The answer to a request to ask.
#[derive(Debug, PartialEq, Eq)]
enum Admission {
    Go(Ticket),
    /// Others are at it.
    Wait,
    /// It is left alone for this long.
    Rest(Duration),
}

/// A request in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticket {
    era: u32,
}

/// What an operator wants to know.
#[derive(Debug, PartialEq, Eq)]
enum Turned {
    Open(Duration),
    Closed,
}

impl Breaker {
    fn new(cap: usize) -> Self {
        let cap = cap.max(1);
        let limit = FIRST_LIMIT.min(cap);
        let state = State::Closed { failures: 0 };
        Self { state, cap, limit, in_flight: 0, left_over: 0, era: 0, rest: Duration::ZERO }
    }

    fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Open { until } if now < until => return Admission::Rest(until - now),
            State::HalfOpen => return Admission::Rest(PROBE_PAUSE),
            _ if self.in_flight + self.left_over >= self.cap => return Admission::Wait,
            State::Open { .. } => self.state = State::HalfOpen,
            State::Closed { .. } if self.in_flight >= self.limit => return Admission::Wait,
            State::Closed { .. } => {}
        }
        self.in_flight += 1;
        Admission::Go(Ticket { era: self.era })
    }

    /// A request is over. `spread`, from 0 to 1, keeps gates that failed together from coming back together.
    fn settle(&mut self, ticket: Ticket, verdict: Verdict, now: Instant, spread: f64) -> Option<Turned> {
        if ticket.era != self.era {
            self.left_over -= 1;
            return None;
        }
        self.in_flight -= 1;
        let turned = self.judge(verdict, now, spread);
        if self.in_flight == 0 {
            self.limit = self.limit.min(FIRST_LIMIT);
        }
        turned
    }

    /// An answer was lost: whether the same request may be sent again in its place. Else it is over.
    fn repeat(&mut self, ticket: Ticket, now: Instant, spread: f64) -> (bool, Option<Turned>) {
        if ticket.era != self.era {
            self.left_over -= 1;
            return (false, None);
        }
        let turned = self.judge(Verdict::FAILED, now, spread);
        if self.era == ticket.era {
            return (true, turned);
        }
        self.left_over -= 1;
        (false, turned)
    }

    fn judge(&mut self, verdict: Verdict, now: Instant, spread: f64) -> Option<Turned> {
        match (&mut self.state, verdict) {
            (State::Closed { failures }, Verdict::Answered) => {
                *failures = 0;
                self.limit = (self.limit + 1).min(self.cap);
                if self.limit >= FIRST_LIMIT.min(self.cap) {
                    self.rest = Duration::ZERO;
                }
                None
            }
            (State::Closed { failures }, Verdict::Failed { wanted, everyone }) => {
                *failures += 1;
                let enough = *failures >= FAILURES_TO_OPEN || (everyone && wanted.is_some());
                self.limit = (self.limit / 2).max(1);
                enough.then(|| self.open(wanted, now, spread))
            }
            (State::HalfOpen, Verdict::Answered) => {
                self.state = State::Closed { failures: 0 };
                self.limit = 2.min(self.cap);
                Some(Turned::Closed)
            }
            (State::HalfOpen, Verdict::Failed { wanted, .. }) => Some(self.open(wanted, now, spread)),
            (State::HalfOpen, Verdict::NotAsked) => {
                self.state = State::Open { until: now };
                None
            }
            // Open: all that were in flight are left over, and settled before.
            (State::Closed { .. }, Verdict::NotAsked) | (State::Open { .. }, _) => None,
        }
    }

    fn open(&mut self, wanted: Option<Duration>, now: Instant, spread: f64) -> Turned {
        self.rest = (self.rest * 2).clamp(FIRST_REST, LONGEST_REST);
        // Half of it is certain, the other half spreads.
        let rest = self.rest / 2 + (self.rest / 2).mul_f64(spread.clamp(0.0, 1.0));
        let rest = rest.max(wanted.unwrap_or_default().min(LONGEST_WANTED_REST));
        self.state = State::Open { until: now + rest };
        self.left_over += std::mem::take(&mut self.in_flight);
        self.era = self.era.wrapping_add(1);
        Turned::Open(rest)
    }

    /// Somebody who does not go through here had an answer: it need not be left alone any longer.
    fn heard_of(&mut self, now: Instant) {
        match &mut self.state {
            State::Closed { failures } => *failures = 0,
            State::Open { until } => *until = now.min(*until),
            State::HalfOpen => {}
        }
    }
}

/// The provider is left alone for now, and nothing was asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LeftAlone {
    /// How long yet.
    pub(crate) rest: Duration,
}

/// The turns of all sessions that want to ask one provider.
pub(crate) struct Turns {
    provider: String,
    queue: Mutex<Queue>,
}

struct Queue {
    breaker: Breaker,
    waiting: VecDeque<oneshot::Sender<Result<Turn, LeftAlone>>>,
}

/// The right to send one request. Dropping it without a word gives it back.
pub(crate) struct Turn {
    turns: Arc<Turns>,
    ticket: Option<Ticket>,
}

impl Turns {
    /// At most `cap` requests in flight.
    pub(crate) fn new(provider: &str, cap: usize) -> Arc<Self> {
        let queue = Queue { breaker: Breaker::new(cap), waiting: VecDeque::new() };
        Arc::new(Self { provider: provider.to_owned(), queue: Mutex::new(queue) })
    }

    /// Waits for a turn, in the order of arrival. Fails at once while the provider is left alone, and as soon as it is given
    /// up. Dropping the future gives up the place.
    pub(crate) async fn take(self: &Arc<Self>) -> Result<Turn, LeftAlone> {
        let turn = {
            let mut queue = self.lock();
            let admission = match queue.waiting.is_empty() {
                true => queue.breaker.admit(Instant::now()),
                false => Admission::Wait,
            };
            match admission {
                Admission::Go(ticket) => return Ok(self.turn(ticket)),
                Admission::Rest(rest) => return Err(LeftAlone { rest }),
                Admission::Wait => {
                    let (sender, turn) = oneshot::channel();
                    queue.waiting.push_back(sender);
                    turn
                }
            }
        };
        // The sender is kept until it has sent.
        turn.await.unwrap_or(Err(LeftAlone { rest: PROBE_PAUSE }))
    }

    /// Somebody who takes no turn had an answer from it.
    pub(crate) fn heard_of(self: &Arc<Self>) {
        let mut queue = self.lock();
        queue.breaker.heard_of(Instant::now());
        self.call_next(queue);
    }

    fn turn(self: &Arc<Self>, ticket: Ticket) -> Turn {
        Turn { turns: self.clone(), ticket: Some(ticket) }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets those go who may, and sends those away who wait in vain.
    fn call_next(self: &Arc<Self>, mut queue: MutexGuard<'_, Queue>) {
        let mut gone = Vec::new();
        while let Some(next) = queue.waiting.pop_front() {
            if next.is_closed() {
                continue;
            }
            let answer = match queue.breaker.admit(Instant::now()) {
                Admission::Go(ticket) => Ok(self.turn(ticket)),
                Admission::Rest(rest) => Err(LeftAlone { rest }),
                Admission::Wait => {
                    queue.waiting.push_front(next);
                    break;
                }
            };
            gone.extend(next.send(answer).err());
        }
        drop(queue);
        // A turn whose taker left just now gives itself back, which takes the lock.
        drop(gone);
    }

    fn tell(&self, turned: Option<Turned>) {
        let provider = &self.provider;
        if let Some(turned) = &turned {
            counting::provider_left_alone(provider, matches!(turned, Turned::Open(_)));
        }
        match turned {
            Some(Turned::Open(rest)) => {
                tracing::warn!(
                    provider,
                    seconds = rest.as_secs_f32(),
                    "the provider fails and is left alone"
                );
            }
            Some(Turned::Closed) => tracing::info!(provider, "the provider is back"),
            None => {}
        }
    }
}

impl Turn {
    /// The request is over. `spread` is a random number from 0 to 1.
    pub(crate) fn settle(mut self, verdict: Verdict, spread: f64) {
        self.give_back(verdict, spread);
    }

    /// The answer was lost: whether the same request may be sent again at once, in this turn.
    pub(crate) fn repeat(&mut self, spread: f64) -> bool {
        let Some(ticket) = self.ticket else { return false };
        let mut queue = self.turns.lock();
        let (may, turned) = queue.breaker.repeat(ticket, Instant::now(), spread);
        if !may {
            self.ticket = None;
        }
        self.turns.call_next(queue);
        self.turns.tell(turned);
        may
    }

    fn give_back(&mut self, verdict: Verdict, spread: f64) {
        let Some(ticket) = self.ticket.take() else { return };
        let mut queue = self.turns.lock();
        let turned = queue.breaker.settle(ticket, verdict, Instant::now(), spread);
        self.turns.call_next(queue);
        self.turns.tell(turned);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.give_back(Verdict::NotAsked, 0.0);
    }
}

#[cfg(test)]
mod tests;
