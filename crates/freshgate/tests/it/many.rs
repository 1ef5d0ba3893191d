//! What many active sessions cost: little memory each, and nothing in time while none of them is due.

use std::{process::Command, time::Duration};

use freshgate::{
    clock::{Entropy, SystemEntropy},
    engine::Opened,
    keyring::Purpose,
    session::SessionKey,
    store::{Found, Row},
};
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    reads::counted_in,
    setting::{Setting, keyring},
};

const SESSIONS: usize = 100_000;
/// What an active session may take, besides its record where that is kept opened. Measured: 160 bytes.
const BYTES_EACH: usize = 250;
/// What the records that are kept opened may take, however many sessions there are: their limit is 128 MiB as written, and
/// opened they are larger. Measured: 3.5 times that.
const OPENED_BYTES: usize = 5 * 128 * 1024 * 1024;
/// Set for the process that measures: in one that runs other tests too, what it finds is not of its own doing.
const ALONE: &str = "FRESHGATE_TEST_ALONE";

#[test]
fn a_hundred_thousand_active_sessions_cost_little() {
    if std::env::var_os(ALONE).is_some() {
        return measure();
    }
    let name = "many::a_hundred_thousand_active_sessions_cost_little";
    let alone = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let (told, errors) = (String::from_utf8_lossy(&alone.stdout), String::from_utf8_lossy(&alone.stderr));
    assert!(alone.status.success(), "{told}\n{errors}");
    let found = told.lines().find(|line| line.contains("bytes each")).expect("it was run");
    println!("{found}");
}

/// In paused time, which passes while nothing else happens.
fn measure() {
    let paused = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    paused.unwrap().block_on(tokio::task::unconstrained(activate_all()));
}

async fn activate_all() {
    let (setting, engine, counted) = counted_in(Setting::in_tokio_time());
    let keys = copies_of_a_session(&setting).await;
    let stop = CancellationToken::new();
    tokio::spawn(engine.clone().refresh_ahead(stop.clone()));
    tokio::spawn(engine.clone().keep_house(stop.clone()));
    tokio::spawn(engine.clone().watch_neighbours(stop.clone()));
    let _stop: DropGuard = stop.drop_guard();
    sleep(Duration::from_secs(1)).await;

    let at_first = resident();
    for key in &keys {
        assert!(matches!(engine.open(*key).await.unwrap(), Opened::Open(_)));
    }
    let opened = resident();
    counted.cost();
    for key in &keys {
        engine.used(*key);
    }
    sleep(Duration::from_secs(1)).await;
    let active = resident();
    assert_eq!(engine.active_sessions(), SESSIONS);
    let planned = counted.cost();
    assert!(planned.reads <= SESSIONS, "each is looked at once: {planned:?}");
    assert_eq!((planned.searches, planned.provider), (0, 0), "{planned:?}");

    // Nothing is due.
    sleep(Duration::from_secs(120)).await;
    let idle = counted.cost();
    // Once a minute it is asked, with a question to an index, what ends next, and what is to be forgotten.
    assert!(
        idle.reads == 0 && idle.provider == 0 && idle.searches <= 3 && idle.writes <= 3,
        "nobody looks through the store: {idle:?}"
    );

    let (each, all) = (active.saturating_sub(opened) / SESSIONS, active.saturating_sub(at_first));
    println!("{SESSIONS} active sessions: {each} bytes each, {} MB with those kept opened", all / 1_000_000);
    assert!(each <= BYTES_EACH, "{each} bytes for an active session");
    assert!(all <= OPENED_BYTES + SESSIONS * BYTES_EACH, "{all} bytes for {SESSIONS} sessions");
}

/// Many sessions in the store, with the record of one.
async fn copies_of_a_session(setting: &Setting) -> Vec<SessionKey> {
    let key = setting.signed_in().await.key();
    let Found::Live(row, _) = setting.store.read(key).await.unwrap() else { panic!("it is not there") };
    let plain = keyring().open(Purpose::SessionRecord, key.as_bytes(), &row.sealed).unwrap();
    let mut keys = Vec::with_capacity(SESSIONS);
    for _ in 0..SESSIONS {
        let mut bytes = [0; 32];
        SystemEntropy.fill(&mut bytes);
        let sealed = keyring().seal(&SystemEntropy, Purpose::SessionRecord, &bytes, &plain);
        let key = SessionKey::from_bytes(bytes);
        setting.store.insert(key, Row { sealed, index: row.index.clone() }).await.unwrap();
        keys.push(key);
    }
    keys
}

/// The bytes of memory that this process has.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}
