//! A rotation that is killed in the midst of its work.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::Duration,
};

use freshgate::{
    keyring::{Key, KeyId, Keyring, Purpose},
    store::{Found, Index, SqliteStore, Store},
};
use freshgate_oidc::{Secret, Timestamp};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    COOKIE_SECRET, Ended, keys, new_key, said, secret,
    sessions::{fill, in_order, is_sealed_with, key, sealed_with},
    until,
};

const SESSIONS: u32 = 40_000;

fn plain(number: u32) -> Vec<u8> {
    number.to_be_bytes().repeat(256)
}

/// Where nobody sits at a terminal, too: its next word is a line, once five seconds are over, which it sleeps here.
fn tells_of_what_takes_long(rotating: &mut Ended) {
    let process = Pid::from_child(&rotating.0);
    kill_process(process, Signal::STOP).unwrap();
    std::thread::sleep(Duration::from_secs(5));
    kill_process(process, Signal::CONT).unwrap();
    let mut line = String::new();
    BufReader::new(rotating.0.stderr.take().unwrap()).read_line(&mut line).unwrap();
    let (done, rest) = line.split_once(" sessions sealed anew, ").unwrap_or_else(|| panic!("{line:?}"));
    assert!(done.parse::<usize>().is_ok() && rest.ends_with(" %\n"), "{line:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_loses_nothing_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("sessions.db")).unwrap();
    let cookie = Secret::new(COOKIE_SECRET);
    let ends_at = Timestamp::from_unix_seconds(4_000_000_000);
    let index = Index { subject: [1; 32], provider_session: None, ends_at };
    fill(&store, SESSIONS, &Keyring::from_secret(&cookie), index, plain).await;
    let id = new_key(folder.path());
    let new = KeyId::parse(&id).unwrap();
    let in_order = in_order(SESSIONS);

    let mut before = 0;
    for kill_after in [0, 500, 5_000, 15_000] {
        let mut rotate = keys(folder.path(), &["rotate"]);
        let mut rotating = Ended(rotate.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
        if kill_after == 0 {
            // The file is changed, and no session is sealed anew yet.
            let mut line = String::new();
            BufReader::new(rotating.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, format!("{id} seals from now on.\n"));
        } else {
            until("it goes on", async || is_sealed_with(&store, in_order[kill_after - 1], new).await).await;
        }
        if kill_after == 15_000 {
            tells_of_what_takes_long(&mut rotating);
        }
        drop(rotating);

        let (done, all) = sealed_with(&store, new).await;
        assert!(done >= kill_after && done >= before, "{done} done, after {before}");
        assert!(done < all, "it was killed in the midst of its work");
        before = done;
        assert_eq!(done + sealed_with(&store, Key::from_secret(&cookie).id()).await.0, SESSIONS as usize);
    }
    let last = said(folder.path(), &["rotate"]);
    let left = SESSIONS as usize - before;
    assert_eq!(
        last,
        format!("{left} sessions were sealed anew with {id}.\n"),
        "it did the rest, and nothing twice"
    );

    // Each holds what it held, and is read with the new key alone.
    let ring = Keyring::from_secret(&Secret::new(secret(folder.path(), &id)));
    for number in 0..SESSIONS {
        let key = key(number);
        let Found::Live(row, 1) = store.read(key).await.unwrap() else { panic!("it lives, at revision 1") };
        let opened = ring.open(Purpose::SessionRecord, key.as_bytes(), &row.sealed).unwrap();
        assert_eq!(*opened, plain(number));
    }
    store.close().await;
}
