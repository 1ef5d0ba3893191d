//! What a killed process leaves, and what several processes do to one file.

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use super::*;

/// The other process of the tests below: this test binary, run again for one "test" that does its work only when asked.
fn child(role: &str, path: &Path) -> Command {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "--nocapture", &format!("store::sqlite::tests::survival::{role}")]);
    child.env("FRESHGATE_TEST_STORE", path).stdin(Stdio::null()).stdout(Stdio::piped());
    child
}

fn store_of_parent() -> Option<SqliteStore> {
    std::env::var_os("FRESHGATE_TEST_STORE").map(open)
}

/// What the child tells it was told, in the order of the life of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Told {
    Inserted,
    Replaced,
    Ended,
}

fn content(number: u32, revision: Revision) -> Vec<u8> {
    let line = format!("session {number} at revision {revision};");
    line.repeat(1 + number as usize % 200).into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_killed_process_loses_nothing_it_was_told() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sessions.db");
    let mut told = HashMap::new();
    for enough in [1, 150, 400, 800] {
        let mut writing = child("child_writes_until_killed", &path).spawn().unwrap();
        let lines = BufReader::new(writing.stdout.take().unwrap()).lines();
        let mut count = 0;
        for line in lines {
            let line = line.unwrap();
            let Some((number, what)) = line.strip_prefix("told ").and_then(|line| line.split_once(' '))
            else {
                continue;
            };
            let what = match what {
                "inserted" => Told::Inserted,
                "replaced" => Told::Replaced,
                "ended" => Told::Ended,
                other => panic!("{other}"),
            };
            told.insert(number.parse::<u32>().unwrap(), what);
            count += 1;
            if count == enough {
                // In the midst of it. What is in the pipe already still counts.
                writing.kill().unwrap();
            }
        }
        writing.wait().unwrap();
        assert!(count >= enough, "the child wrote until it was killed");

        let store = open(&path);
        let mut live = 0;
        for (&number, &what) in &told {
            // It may have got one step further than it could tell.
            match store.read(key(number)).await.unwrap() {
                Found::Live(row, revision) => {
                    live += 1;
                    assert_eq!(row.sealed, content(number, revision));
                    assert!(
                        what == Told::Inserted && revision <= 2 || what == Told::Replaced && revision == 2
                    );
                }
                Found::Ended(tombstone) => {
                    assert_eq!(tombstone, TOMBSTONE);
                    assert!(what >= Told::Replaced, "{what:?}");
                }
                Found::Unknown => panic!("session {number} was {what:?} and is lost"),
            }
        }
        assert!(store.of_subject([1; 32]).await.unwrap().len() >= live);
        assert_eq!(ask::<String>(&path, "PRAGMA integrity_check"), "ok");
    }
    assert!(told.values().any(|what| *what == Told::Ended), "all kinds of writes were told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn child_writes_until_killed() {
    let Some(store) = store_of_parent() else { return };
    // Goes on where the one before was killed.
    let start = u32::try_from(store.of_subject([1; 32]).await.unwrap().len()).unwrap() * 10;
    let tell = |number: u32, what: &str| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "told {number} {what}").and_then(|()| out.flush()).expect("the parent listens");
    };
    let writers = (0..8).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            for number in (start + writer..).step_by(8) {
                match store.insert(key(number), row(content(number, 1))).await.unwrap() {
                    Inserted::Done => tell(number, "inserted"),
                    Inserted::Exists | Inserted::Ended(_) => continue,
                }
                store.replace(key(number), 1, row(content(number, 2))).await.unwrap();
                tell(number, "replaced");
                if number % 3 == 0 {
                    store.end(key(number), TOMBSTONE, at(2000), None).await.unwrap();
                    tell(number, "ended");
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_lose_no_update() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sessions.db");
    let store = open(&path);
    store.insert(key(1), row("")).await.unwrap();
    let position = store.changes_since(None).await.unwrap().position;

    let children: Vec<_> = (0..2).map(|_| child("child_counts", &path).spawn().unwrap()).collect();
    count_to_200(&store).await;
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    assert_eq!(store.read(key(1)).await.unwrap(), Found::Live(row(vec![b'x'; 600]), 601));
    let changes = store.changes_since(Some(position)).await.unwrap();
    assert_eq!((changes.list.len(), changes.missed), (600, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn child_counts() {
    if let Some(store) = store_of_parent() {
        count_to_200(&store).await;
    }
}

async fn count_to_200(store: &SqliteStore) {
    let Found::Live(mut there, mut revision) = store.read(key(1)).await.unwrap() else {
        panic!("it is there")
    };
    let mut count = 0;
    while count < 200 {
        let next = row([there.sealed.as_slice(), b"x"].concat());
        (there, revision) = match store.replace(key(1), revision, next.clone()).await.unwrap() {
            Replaced::Done(revision) => {
                count += 1;
                (next, revision)
            }
            Replaced::Conflict(there, revision) => (there, revision),
            other => panic!("{other:?}"),
        };
    }
}
