//! A rotation, stopped and started again, on the store of a gate that serves and refreshes all the while.

use std::{
    io::Read as _,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use freshgate::{
    keyring::{KeyId, Keyring, Purpose},
    session::SessionId,
    store::{Found, SqliteStore, Store},
};
use freshgate_oidc::Secret;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    Ended,
    gate::{Browser, Gate},
    keys, new_key, said, secret,
    sessions::{fill, id, in_order, is_sealed_with, sealed_with},
    told, until,
};

/// How many, unless `FRESHGATE_TEST_SESSIONS` says so.
const SESSIONS: u32 = 50_000;

fn how_many() -> u32 {
    std::env::var("FRESHGATE_TEST_SESSIONS").map_or(SESSIONS, |number| number.parse().unwrap())
}

/// What somebody does with the gate all the while, and how long they waited at most.
async fn works(gate: Arc<Gate>, user: &str, browser: Browser, over: Arc<AtomicBool>) -> (usize, Duration) {
    let (mut refreshes, mut longest) = (0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let began = Instant::now();
        gate.refresh(&browser).await;
        assert_eq!(gate.user(&browser).await.as_deref(), Some(user), "signed out:\n{}", gate.log());
        longest = longest.max(began.elapsed());
        refreshes += 1;
        // As fast as people are, more or less: the machine has something else to do.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    (refreshes, longest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_stopped_goes_on_and_signs_nobody_out() {
    let sessions = how_many();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let gate = Arc::new(Gate::start(folder).await);
    let old = new_key(folder);
    said(folder, &["rotate"]);
    until("the gate takes it up", async || gate.log().contains(&format!("seals={old}"))).await;
    let ada = gate.sign_in("ada").await;
    let grace = gate.sign_in("grace").await;

    // As many sessions as there are to be, each a real one: a copy of Ada's, under another id.
    let store = SqliteStore::open(folder.join("sessions.db")).unwrap();
    let ring = Keyring::from_secret(&Secret::new(secret(folder, &old)));
    let adas = SessionId::parse(&ada.id).unwrap().key();
    let Found::Live(row, _) = store.read(adas).await.unwrap() else { panic!("she is signed in") };
    let record = ring.open(Purpose::SessionRecord, adas.as_bytes(), &row.sealed).unwrap();
    let began = Instant::now();
    fill(&store, sessions, &ring, row.index, |_| record.to_vec()).await;
    eprintln!("{sessions} sessions of {} bytes kept within {:?}", record.len(), began.elapsed());
    let in_order = in_order(sessions);
    let every_so_often = || (0..sessions).step_by((sessions / 40).max(1) as usize);
    let all_are_signed_in = async || {
        for number in every_so_often() {
            let browser = Browser { id: id(number).as_secret().expose().to_owned() };
            assert_eq!(gate.user(&browser).await.as_deref(), Some("ada"), "{number}:\n{}", gate.log());
        }
    };

    let over = Arc::new(AtomicBool::new(false));
    let at_work = [("ada", ada), ("grace", grace)]
        .map(|(user, browser)| tokio::spawn(works(gate.clone(), user, browser, over.clone())));
    let new = new_key(folder);
    let new_id = KeyId::parse(&new).unwrap();

    // Ctrl-C, in the midst of it.
    let mut rotate = keys(folder, &["rotate"]);
    let mut rotating = Ended(rotate.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let a_third = in_order[in_order.len() / 3];
    until("a third is done", async || is_sealed_with(&store, a_third, new_id).await).await;
    kill_process(Pid::from_child(&rotating.0), Signal::INT).unwrap();
    let stopped = rotating.0.wait().unwrap();
    let mut why = String::new();
    rotating.0.stderr.take().unwrap().read_to_string(&mut why).unwrap();
    assert_eq!(stopped.code(), Some(130), "{why}");
    assert!(why.contains("stopped before all sessions were sealed anew"), "{why}");
    assert!(why.contains("it goes on where it stopped: `freshgate keys rotate`"), "{why}");
    let (done, all) = sealed_with(&store, new_id).await;
    assert!(done > in_order.len() / 3 && done < all, "{done} of {all}");
    assert_eq!(
        done + sealed_with(&store, KeyId::parse(&old).unwrap()).await.0,
        all,
        "with the one or the other"
    );
    all_are_signed_in().await;
    let refused = keys(folder, &["remove", &old, "--now"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(told(&refused).contains(&format!("the key {old} is needed for ")), "{}", told(&refused));

    // A second run does the rest, however long it takes.
    let began = Instant::now();
    let last = said(folder, &["rotate"]);
    eprintln!("the {} that were left were sealed anew within {:?}", all - done, began.elapsed());
    let anew: usize = last.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("{last}"));
    assert!(anew <= all - done, "nothing twice: {anew} of {}, {last}", all - done);
    assert!(last.contains(&format!("{old} may go in ten minutes")), "{last}");
    let (done, all) = sealed_with(&store, new_id).await;
    assert_eq!(done, all);
    all_are_signed_in().await;

    // Without the old key, too.
    said(folder, &["remove", &old, "--now"]);
    until("the gate forgets it", async || gate.log().contains(&format!("seals={new} open=1"))).await;
    all_are_signed_in().await;
    over.store(true, Ordering::Relaxed);
    for at_work in at_work {
        let (refreshes, longest) = at_work.await.unwrap();
        assert!(refreshes > 0);
        eprintln!("{refreshes} refreshes meanwhile, of which one took {longest:?}, none longer");
    }
    store.close().await;
    Arc::into_inner(gate).unwrap().end().await;
}
