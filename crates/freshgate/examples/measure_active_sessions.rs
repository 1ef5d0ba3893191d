//! What it costs to know which sessions are active: memory for each, and time for each use.
//!
//! `cargo run --release -p freshgate --example measure_active_sessions [SESSIONS]`

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use freshgate::{
    Engine, Secret,
    clock::{SystemClock, SystemEntropy},
    engine::EngineParts,
    keyring::Keyring,
    session::{SessionKey, SessionPolicy},
    store::MemoryStore,
};
use tokio_util::sync::CancellationToken;

fn main() {
    let sessions = std::env::args().nth(1).map_or(100_000, |text| text.parse().expect("a number"));
    let engine = Engine::new(EngineParts {
        store: Arc::new(MemoryStore::new()),
        keyring: Arc::new(Keyring::from_secret(&Secret::new("for a measurement, nothing is sealed with it"))),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(SystemEntropy),
        providers: Vec::new(),
        policy: SessionPolicy::default(),
    });
    // Use is noted from here on. Nobody looks after the sessions as long as this is not polled.
    let ahead = engine.clone().refresh_ahead(CancellationToken::new());
    let keys: Vec<SessionKey> = (0_u64..sessions)
        .map(|session| SessionKey::from_bytes(freshgate_oidc::sha256(&session.to_be_bytes())))
        .collect();

    let before = resident_bytes();
    let first = timed(&keys, |key| engine.used(*key));
    let grown = resident_bytes().saturating_sub(before);
    let again = timed(&keys, |key| engine.used(*key));
    assert_eq!(engine.active_sessions(), keys.len());
    println!("{sessions} active sessions: {} bytes each", grown / sessions);
    println!("the first use of each takes {first:?}, every further one {again:?}");
    drop(ahead);
}

/// How long one of these takes.
fn timed(keys: &[SessionKey], each: impl FnMut(&SessionKey)) -> Duration {
    let start = Instant::now();
    keys.iter().for_each(each);
    start.elapsed() / u32::try_from(keys.len()).expect("not that many")
}

/// What the system counts for this process. Linux says so in pages.
fn resident_bytes() -> u64 {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.expect("the second number is the resident size") * PAGE
}
