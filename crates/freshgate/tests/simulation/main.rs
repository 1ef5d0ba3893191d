//! The deterministic simulation: several engines on one store, one provider, virtual time, and every fault we know.
//!
//! One seed is one run, and the same each time. `make simulate SEED=123` replays one and prints what happens.
//!
//! - `world.rs`: time, chance and the verdict; `executor.rs`: who goes next
//! - `provider.rs`, `store.rs`: what the engines talk to
//! - `crash.rs`: one scenario, and every point at which an engine can die in it
//! - `scenario.rs`: callers and what befalls them; `book.rs`: the checks on tokens and rows

mod book;
mod chance;
mod crash;
mod executor;
mod provider;
mod scenario;
mod store;
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    time::Instant,
};

use crash::Crash;
use freshgate::{landmark::Landmark, sabotage::Sabotage};
use scenario::Outcome;
use world::Broken;

/// How many runs without a mistake, unless told otherwise.
const SEEDS: u64 = 10_000;
/// Each run of these is made twice, and must be the same.
const REPLAYED: u64 = 20;
/// A mistake must show within so many runs.
const SEEDS_PER_MISTAKE: u64 = 5_000;

struct Wanted {
    seeds: u64,
    from: u64,
    one: Option<u64>,
    mistake: Option<Sabotage>,
    crash: Option<Crash>,
}

fn wanted() -> Result<Wanted, String> {
    let mut wanted = Wanted { seeds: SEEDS, from: 0, one: None, mistake: None, crash: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} wants a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text} is no number"));
        match argument.as_str() {
            "--seeds" => wanted.seeds = number(value()?)?,
            "--from" => wanted.from = number(value()?)?,
            "--seed" => wanted.one = Some(number(value()?)?),
            "--crash" => wanted.crash = Some(value()?.parse()?),
            "--mistake" => {
                let name = value()?;
                let found = Sabotage::ALL.into_iter().find(|mistake| format!("{mistake:?}") == name);
                wanted.mistake = Some(found.ok_or(format!("no mistake is called {name}"))?);
            }
            // Those of the usual test harness, which cargo may pass.
            _ => {}
        }
    }
    Ok(wanted)
}

fn main() -> ExitCode {
    let wanted = match wanted() {
        Ok(wanted) => wanted,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    if let Some(crash) = wanted.crash {
        return report_crash(crash, &scenario::run_crash(crash, true));
    }
    if let Some(seed) = wanted.one {
        let outcome = scenario::run(seed, wanted.mistake, true);
        return report_seed(seed, wanted.mistake, &outcome);
    }
    if let Some(mistake) = wanted.mistake {
        return seek(mistake, wanted.from..wanted.from + wanted.seeds);
    }
    let started = Instant::now();
    let crashes = match crash::everywhere() {
        Ok(crashes) => crashes,
        Err(failed) => return report_crash(failed.0, &failed.1),
    };
    println!(
        "crashes: at {} steps and {} calls of one refresh, each with the same promises kept",
        crashes.steps, crashes.calls
    );
    let total = match run_all(wanted.from..wanted.from + wanted.seeds) {
        Ok(total) => total,
        Err(failed) => return report_seed(failed.0, None, &failed.1),
    };
    let noticed = notice_all();
    let caught = noticed.iter().filter(|(_, seen)| seen.is_some()).count();
    for (mistake, seen) in noticed {
        match seen {
            Some((seed, broken)) => println!("{mistake:?}: noticed by seed {seed} ({})", broken.check),
            None => println!("{mistake:?}: NOT noticed by {SEEDS_PER_MISTAKE} seeds"),
        }
    }
    let faults: Vec<String> = total.faults.iter().map(|(name, count)| format!("{name} {count}")).collect();
    println!("faults: {}", faults.join(", "));
    let passed = |landmark| total.landmarks.get(&landmark).copied().unwrap_or_default();
    let landmarks: Vec<String> =
        Landmark::ALL.iter().map(|mark| format!("{mark:?} {}", passed(*mark))).collect();
    println!("landmarks: {}", landmarks.join(", "));
    // Of few seeds that is not asked.
    let missed = |mark: &Landmark| wanted.seeds >= SEEDS_PER_MISTAKE && passed(*mark) == 0;
    let has_passed_all = !Landmark::ALL.iter().any(missed);
    let different = total.prints.len() as u64;
    println!("replayed: {} runs, all the same; {different} of {} seeds differ", total.replayed, wanted.seeds);
    println!(
        "simulation: {} seeds, {} steps, {} faults, {} crash points, no promise broken; {caught} of {} deliberate mistakes noticed ({} s)",
        wanted.seeds,
        total.steps,
        total.faults.values().sum::<u64>(),
        crashes.steps + crashes.calls,
        Sabotage::ALL.len(),
        started.elapsed().as_secs(),
    );
    let is_good = caught == Sabotage::ALL.len() && different == wanted.seeds && has_passed_all;
    if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Makes one mistake until a run shows it, and prints that run.
fn seek(mistake: Sabotage, seeds: std::ops::Range<u64>) -> ExitCode {
    for seed in seeds.clone() {
        let outcome = scenario::run(seed, Some(mistake), false);
        if outcome.broken.is_some() {
            return report_seed(seed, Some(mistake), &outcome);
        }
    }
    println!("{mistake:?}: NOT noticed by {} seeds", seeds.end - seeds.start);
    ExitCode::SUCCESS
}

/// Makes each mistake until a run shows it.
fn notice_all() -> Vec<(Sabotage, Option<(u64, Broken)>)> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut noticed = Vec::new();
        while let Some(&mistake) = Sabotage::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
            let seen = (0..SEEDS_PER_MISTAKE).find_map(|seed| {
                scenario::run(seed, Some(mistake), false).broken.map(|broken| (seed, broken))
            });
            noticed.push((mistake, seen));
        }
        noticed
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a run does not panic")).collect()
    })
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[derive(Default)]
struct Total {
    steps: u64,
    faults: BTreeMap<&'static str, u64>,
    landmarks: BTreeMap<Landmark, u64>,
    replayed: u64,
    prints: BTreeSet<u64>,
}

fn add<K: Ord>(all: &mut BTreeMap<K, u64>, counts: BTreeMap<K, u64>) {
    for (name, count) in counts {
        *all.entry(name).or_default() += count;
    }
}

/// A seed is one run, or else none that fails could be looked into.
fn compare(outcome: &mut Outcome, again: &Outcome) {
    if outcome.print == again.print {
        return;
    }
    let differ = outcome.trace.iter().zip(&again.trace).find(|(one, other)| one != other);
    let what = format!("steps: {} and {}; where they part: {differ:?}", outcome.steps, again.steps);
    outcome.broken.get_or_insert(Broken { check: "a seed is one run", step: outcome.steps, what });
}

/// Runs all seeds, on as many threads as there are cores. The first seed that breaks a promise ends it.
fn run_all(seeds: std::ops::Range<u64>) -> Result<Total, Box<(u64, Outcome)>> {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let work = || {
        let mut total = Total::default();
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                break;
            }
            let mut outcome = scenario::run(seed, None, false);
            total.prints.insert(outcome.print);
            if seed.is_multiple_of(REPLAYED) {
                total.replayed += 1;
                compare(&mut outcome, &scenario::run(seed, None, false));
            }
            if outcome.broken.is_some() {
                stop.store(true, Ordering::Relaxed);
                return Err(Box::new((seed, outcome)));
            }
            total.steps += outcome.steps;
            add(&mut total.faults, outcome.faults);
            add(&mut total.landmarks, outcome.landmarks);
        }
        Ok(total)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads()).map(|_| scope.spawn(work)).collect();
        let mut all = Total::default();
        for worker in workers {
            let total = worker.join().expect("a run does not panic")?;
            all.steps += total.steps;
            all.replayed += total.replayed;
            all.prints.extend(total.prints);
            add(&mut all.faults, total.faults);
            add(&mut all.landmarks, total.landmarks);
        }
        Ok(all)
    })
}

/// Says what was broken and how to see it again.
fn report_seed(seed: u64, mistake: Option<Sabotage>, outcome: &Outcome) -> ExitCode {
    let mistake = mistake.map(|mistake| format!(" MISTAKE={mistake:?}")).unwrap_or_default();
    report(&format!("seed {seed}"), &format!("SEED={seed}{mistake}"), outcome)
}

/// The same of a crash.
fn report_crash(crash: Crash, outcome: &Outcome) -> ExitCode {
    report(&format!("crash {crash}"), &format!("CRASH={crash}"), outcome)
}

fn report(run: &str, replay: &str, outcome: &Outcome) -> ExitCode {
    let Some(broken) = &outcome.broken else {
        println!("{run}: {} steps, no promise broken", outcome.steps);
        return ExitCode::SUCCESS;
    };
    println!("the last of what happened with {run}:");
    for line in &outcome.trace {
        println!("  {line}");
    }
    println!("dealt: {}", outcome.dealt);
    println!("{run}, step {}: broken: {}: {}", broken.step, broken.check, broken.what);
    println!("replay it with: make simulate {replay}");
    ExitCode::FAILURE
}
