//! `freshgate keys rotate` as a process of its own, killed in the midst of its work.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use freshgate::{
    clock::SystemEntropy,
    keyring::{Key, KeyId, Keyring, Purpose},
    session::SessionKey,
    store::{Index, Listed, Row, SqliteStore, Store},
};
use freshgate_oidc::{Secret, Timestamp, sha256};

const COOKIE_SECRET: &str = "a cookie secret that is long enough";
const SESSIONS: u32 = 20_000;

fn freshgate(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_freshgate"));
    command.current_dir(folder).args(["keys"]).args(arguments).args(["--store", "sqlite:sessions.db"]);
    command.env("FRESHGATE_COOKIE_SECRET", COOKIE_SECRET).stdin(Stdio::null());
    command
}

fn said(folder: &Path, arguments: &[&str]) -> String {
    let output = freshgate(folder, arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(
        output.stderr.is_empty(),
        "quiet where nobody looks: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn session(number: u32) -> SessionKey {
    SessionKey::from_bytes(sha256(&number.to_be_bytes()))
}

async fn fill(store: &SqliteStore) {
    let ring = Keyring::from_secret(&Secret::new(COOKIE_SECRET));
    let keep = async |number: u32| {
        let key = session(number);
        let plain = number.to_be_bytes().repeat(256);
        let sealed = ring.seal(&SystemEntropy, Purpose::SessionRecord, key.as_bytes(), &plain);
        let ends_at = Timestamp::from_unix_seconds(4_000_000_000);
        let index = Index { subject: [1; 32], provider_session: None, ends_at };
        store.insert(key, Row { sealed, index }).await.unwrap();
    };
    for first in (0..SESSIONS).step_by(500) {
        futures_util::future::join_all((first..first + 500).map(keep)).await;
    }
}

/// How many sessions this key seals, of the first or of all.
async fn sealed_with(store: &SqliteStore, id: KeyId, how_many: usize) -> usize {
    let mut found = 0;
    let mut seen = 0;
    let mut last = None;
    while seen < how_many {
        let page = store.list(last, 1000.min(how_many - seen)).await.unwrap();
        let Some((key, _)) = page.last() else { break };
        last = Some(*key);
        seen += page.len();
        let live = |listed: &Listed| match listed {
            Listed::Live(row, 1) => KeyId::of_sealed(&row.sealed) == Some(id),
            other => panic!("it lives, at revision 1: {other:?}"),
        };
        found += page.iter().filter(|(_, listed)| live(listed)).count();
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_killed_loses_nothing_and_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path().join("sessions.db")).unwrap();
    fill(&store).await;
    let id = said(folder.path(), &["new"])[..16].to_owned();
    let new = KeyId::parse(&id).unwrap();

    let mut before = 0;
    for kill_after in [0, 500, 5_000, 15_000] {
        let mut rotating = freshgate(folder.path(), &["rotate"]).stdout(Stdio::piped()).spawn().unwrap();
        if kill_after == 0 {
            // The file is changed, and no session is sealed anew yet.
            let mut line = String::new();
            BufReader::new(rotating.stdout.take().unwrap()).read_line(&mut line).unwrap();
            assert_eq!(line, format!("{id} seals from now on.\n"));
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while sealed_with(&store, new, kill_after + 1).await < kill_after {
            assert!(Instant::now() < deadline, "it goes on");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        rotating.kill().unwrap();
        rotating.wait().unwrap();

        let done = sealed_with(&store, new, usize::MAX).await;
        assert!(done >= kill_after && done >= before, "{done} done, after {before}");
        assert!(done < SESSIONS as usize, "it was killed in the midst of its work");
        before = done;
        let cookie = Key::from_secret(&Secret::new(COOKIE_SECRET)).id();
        assert_eq!(done + sealed_with(&store, cookie, usize::MAX).await, SESSIONS as usize);
    }
    let last = said(folder.path(), &["rotate"]);
    let left = SESSIONS as usize - before;
    assert_eq!(
        last,
        format!("{left} sessions were sealed anew with {id}.\n"),
        "it did the rest, and nothing twice"
    );

    // Each holds what it held, and is read with the new key alone.
    let file = std::fs::read_to_string(folder.path().join("keys.toml")).unwrap();
    let secret = file.lines().find_map(|line| line.strip_prefix("secret = ")).unwrap().trim_matches('"');
    let ring = Keyring::from_secret(&Secret::new(secret));
    for number in 0..SESSIONS {
        let key = session(number);
        let page = store.read(key).await.unwrap();
        let freshgate::store::Found::Live(row, 1) = page else { panic!("{page:?}") };
        let plain = ring.open(Purpose::SessionRecord, key.as_bytes(), &row.sealed).unwrap();
        assert_eq!(*plain, number.to_be_bytes().repeat(256));
    }
    store.close().await;
}
