//! One scenario, played again for each point at which an engine can die in it.
//!
//! Two engines are asked at once to refresh a session whose token rotates. Engine one is killed before its first step, then
//! before its second, and so on until the scenario ends without coming so far; then in the same way at each of its calls to
//! the store and to the provider, before it takes effect and after. A step is what a task does between two await points.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicUsize, Ordering},
};

use crate::{
    scenario::{self, Outcome},
    threads,
    world::Moment,
};

/// In so many orders is it drawn who goes when.
const SCHEDULES: u64 = 3;

/// Where an engine dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Crash {
    /// Who goes when follows from this.
    pub(crate) schedule: u64,
    /// The provider answers a spent token for a while; else that revokes all that came of it.
    pub(crate) grace: bool,
    pub(crate) place: Place,
    /// How many steps or calls go before.
    pub(crate) after: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Step,
    /// A call to the store or to the provider.
    Call(Moment),
}

const PLACES: [(&str, Place); 3] = [
    ("step", Place::Step),
    ("call", Place::Call(Moment::BeforeEffect)),
    ("answer", Place::Call(Moment::AfterEffect)),
];

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grace = if self.grace { "grace" } else { "revoke" };
        let place = PLACES.iter().find(|(_, place)| *place == self.place).map_or("", |(name, _)| name);
        write!(f, "{grace}/{place}/{}/{}", self.schedule, self.after)
    }
}

impl FromStr for Crash {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || format!("{text} is not of the form grace/step/0/17");
        let [grace, place, schedule, after] = text.split('/').collect::<Vec<_>>()[..] else {
            return Err(error());
        };
        let number = |text: &str| text.parse().map_err(|_| error());
        let (_, place) = PLACES.into_iter().find(|(name, _)| *name == place).ok_or_else(error)?;
        Ok(Self { schedule: number(schedule)?, grace: grace == "grace", place, after: number(after)? })
    }
}

/// How many points were tried.
#[derive(Clone, Copy, Default)]
pub(crate) struct Points {
    pub(crate) steps: u64,
    pub(crate) calls: u64,
}

/// Where an engine died, and what came of it.
type Broke = Box<(Crash, Outcome)>;

/// Kills at every point there is. The first that breaks a promise ends it.
pub(crate) fn everywhere() -> Result<Points, Broke> {
    let series: Vec<Crash> = (0..SCHEDULES)
        .flat_map(|schedule| [true, false].map(|grace| (schedule, grace)))
        .flat_map(|(schedule, grace)| PLACES.map(|(_, place)| Crash { schedule, grace, place, after: 0 }))
        .collect();
    let next = AtomicUsize::new(0);
    let work = || -> Result<Points, Broke> {
        let mut points = Points::default();
        while let Some(first) = series.get(next.fetch_add(1, Ordering::Relaxed)) {
            let tried = one_after_the_other(*first)?;
            match first.place {
                Place::Step => points.steps += tried,
                Place::Call(_) => points.calls += tried,
            }
        }
        Ok(points)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(work)).collect();
        let mut all = Points::default();
        for worker in workers {
            let points = worker.join().expect("a run does not panic")?;
            all.steps += points.steps;
            all.calls += points.calls;
        }
        Ok(all)
    })
}

fn one_after_the_other(first: Crash) -> Result<u64, Broke> {
    for after in first.after.. {
        let crash = Crash { after, ..first };
        let outcome = scenario::run_crash(crash, false);
        if outcome.broken.is_some() {
            return Err(Box::new((crash, outcome)));
        }
        if !outcome.faults.contains_key(scenario::DIED) {
            return Ok(after);
        }
    }
    unreachable!("the scenario ends")
}
