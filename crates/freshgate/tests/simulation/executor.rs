//! Polls one task at a time, and the seed says which. Every await point of the engine is a place where another task may
//! go first, where the engine may stand still for a while, or where it may be killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::poll_fn,
    hash::{DefaultHasher, Hash, Hasher},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

use freshgate::tasks::{Task, Tasks};

use crate::chance::Chance;

/// Whose a task is: the world's, or that of one engine, counted from 1 and anew at each restart.
pub(crate) type Owner = u32;
pub(crate) const WORLD: Owner = 0;

pub(crate) struct Executor {
    chance: Arc<Chance>,
    state: Mutex<State>,
    ready: Arc<Ready>,
}

#[derive(Default)]
struct State {
    tasks: BTreeMap<u64, Entry>,
    last: u64,
    steps: u64,
    /// Of who went when.
    print: DefaultHasher,
    frozen: BTreeSet<Owner>,
    /// Engines that die after so many more steps of theirs.
    fuses: BTreeMap<Owner, u64>,
    /// Known before anything of theirs is dropped: what falls then is no fault of theirs.
    dead: BTreeSet<Owner>,
}

struct Entry {
    owner: Owner,
    /// None while it is polled.
    task: Option<Task>,
}

#[derive(Default)]
struct Ready {
    woken: Mutex<BTreeSet<u64>>,
    driver: Mutex<Option<Waker>>,
}

struct Alarm {
    id: u64,
    ready: Arc<Ready>,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.ready.wake(self.id);
    }
}

impl Ready {
    fn wake(&self, id: u64) {
        lock(&self.woken).insert(id);
        if let Some(driver) = lock(&self.driver).take() {
            driver.wake();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a step was about, for those who watch.
pub(crate) enum Stepped {
    Polled,
    Killed(Owner),
}

impl Executor {
    pub(crate) fn new(chance: Arc<Chance>) -> Arc<Self> {
        Arc::new(Self { chance, state: Mutex::default(), ready: Arc::default() })
    }

    pub(crate) fn spawn(&self, owner: Owner, task: Task) {
        let mut state = lock(&self.state);
        state.last += 1;
        let id = state.last;
        state.tasks.insert(id, Entry { owner, task: Some(task) });
        drop(state);
        self.ready.wake(id);
    }

    /// Where an engine's own tasks go.
    pub(crate) fn tasks_of(self: &Arc<Self>, owner: Owner) -> Arc<dyn Tasks> {
        Arc::new(Runner { executor: self.clone(), owner })
    }

    /// Drops everything that the engine does, wherever it waits.
    fn kill(&self, owner: Owner) {
        let mut state = lock(&self.state);
        state.dead.insert(owner);
        let (dead, alive) =
            std::mem::take(&mut state.tasks).into_iter().partition(|(_, entry)| entry.owner == owner);
        state.tasks = alive;
        state.fuses.remove(&owner);
        drop(state);
        // Outside the lock: what is dropped may wake others.
        let dead: BTreeMap<u64, Entry> = dead;
        drop(dead);
    }

    /// Drops everything that anybody does: the run is over, and what is held by a task that holds it would stay for ever.
    pub(crate) fn clear(&self) {
        loop {
            let mut state = lock(&self.state);
            let left = std::mem::take(&mut state.tasks);
            let owners: Vec<Owner> = left.values().map(|entry| entry.owner).collect();
            state.dead.extend(owners);
            drop(state);
            if left.is_empty() {
                return;
            }
            // Outside the lock: what is dropped may start another.
            drop(left);
        }
    }

    /// Kills the engine after some more steps of its own.
    pub(crate) fn light_fuse(&self, owner: Owner, steps: u64) {
        lock(&self.state).fuses.insert(owner, steps);
    }

    /// It is not killed after all.
    pub(crate) fn cut_fuse(&self, owner: Owner) {
        lock(&self.state).fuses.remove(&owner);
    }

    pub(crate) fn freeze(&self, owner: Owner) {
        lock(&self.state).frozen.insert(owner);
    }

    pub(crate) fn thaw(&self, owner: Owner) {
        lock(&self.state).frozen.remove(&owner);
        if let Some(driver) = lock(&self.ready.driver).take() {
            driver.wake();
        }
    }

    pub(crate) fn is_dead(&self, owner: Owner) -> bool {
        lock(&self.state).dead.contains(&owner)
    }

    pub(crate) fn print(&self) -> u64 {
        lock(&self.state).print.finish()
    }

    pub(crate) fn steps(&self) -> u64 {
        lock(&self.state).steps
    }

    /// Runs until `done`. `after` is asked after each step.
    pub(crate) async fn run(&self, mut after: impl FnMut(Stepped), mut done: impl FnMut() -> bool) {
        poll_fn(|context| {
            // Some steps at a time, so that timers get their turn.
            for _ in 0..64 {
                if done() {
                    return Poll::Ready(());
                }
                *lock(&self.ready.driver) = Some(context.waker().clone());
                match self.step() {
                    Some(stepped) => after(stepped),
                    None => return Poll::Pending,
                }
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn step(&self) -> Option<Stepped> {
        let mut state = lock(&self.state);
        let id = {
            let mut woken = lock(&self.ready.woken);
            woken.retain(|id| state.tasks.contains_key(id));
            let candidates: Vec<u64> =
                woken.iter().copied().filter(|id| !state.frozen.contains(&state.tasks[id].owner)).collect();
            if candidates.is_empty() {
                return None;
            }
            let id = candidates[self.chance.below(candidates.len() as u64) as usize];
            woken.remove(&id);
            id
        };
        state.steps += 1;
        id.hash(&mut state.print);
        let entry = state.tasks.get_mut(&id)?;
        let owner = entry.owner;
        let mut task = entry.task.take()?;
        if let Some(fuse) = state.fuses.get_mut(&owner) {
            if *fuse == 0 {
                drop(state);
                self.kill(owner);
                drop(task);
                return Some(Stepped::Killed(owner));
            }
            *fuse -= 1;
        }
        drop(state);
        let waker = Waker::from(Arc::new(Alarm { id, ready: self.ready.clone() }));
        let polled = Pin::new(&mut task).poll(&mut Context::from_waker(&waker));
        let mut state = lock(&self.state);
        match polled {
            Poll::Ready(()) => {
                state.tasks.remove(&id);
            }
            Poll::Pending => {
                // Gone if it was killed meanwhile.
                if let Some(entry) = state.tasks.get_mut(&id) {
                    entry.task = Some(task);
                    return Some(Stepped::Polled);
                }
            }
        }
        drop(state);
        Some(Stepped::Polled)
    }
}

struct Runner {
    executor: Arc<Executor>,
    owner: Owner,
}

impl Tasks for Runner {
    fn start(&self, task: Task) {
        self.executor.spawn(self.owner, task);
    }
}

/// Lets others go first, this many times.
pub(crate) async fn give_way(times: u64) {
    for _ in 0..times {
        let mut yielded = false;
        poll_fn(|context| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}
