//! Measures the SQLite store: `cargo run --release -p freshgate --example measure_store -- [DIRECTORY [SESSIONS]]`.
//!
//! Rates depend on the disk above all; put the directory on the disk in question.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use freshgate::{
    Timestamp,
    session::{EndReason, SessionKey},
    store::{Found, Index, Row, SqliteStore, Store, StoreError, Tombstone},
};
use tokio::task::JoinSet;

const RECORD: usize = 4096;
const LASTS: Duration = Duration::from_secs(3);

static SESSIONS: AtomicU64 = AtomicU64::new(0);

trait Work<F>: Fn(SqliteStore, u64) -> F + Clone + Send + 'static {}
impl<F, W: Fn(SqliteStore, u64) -> F + Clone + Send + 'static> Work<F> for W {}

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let directory =
        arguments.next().map_or_else(std::env::temp_dir, PathBuf::from).join("freshgate-measure-store");
    let sessions: u64 = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let _ = std::fs::remove_dir_all(&directory);
    let path = directory.join("sessions.db");
    let store = SqliteStore::open(&path)?;
    SESSIONS.store(sessions, Ordering::Relaxed);

    let started = Instant::now();
    spread(&store, 256, sessions, |store, number| async move {
        store.insert(key(number), row(number)).await.map(drop)
    })
    .await?;
    println!(
        "{sessions} sessions of {RECORD} bytes: {:.0} inserts/s",
        sessions as f64 / started.elapsed().as_secs_f64()
    );

    for tasks in [1, 8, 64, 256] {
        measure(&store, &format!("reads, {tasks} at a time"), tasks, read).await?;
    }
    for tasks in [1, 8, 64, 256, 1024] {
        measure(&store, &format!("durable updates, {tasks} at a time"), tasks, update).await?;
    }
    let (reads, updates) = tokio::join!(
        measure(&store, "reads, 64 at a time, while 64 update", 64, read),
        measure(&store, "durable updates, 64 at a time, while 64 read", 64, update),
    );
    reads.and(updates)?;
    let other = SqliteStore::open(&path)?;
    let (here, there) = tokio::join!(
        measure(&store, "durable updates, 64 at a time, one of two instances", 64, update),
        measure(&other, "durable updates, 64 at a time, the other", 64, update),
    );
    here.and(there)?;
    other.close().await;
    let log = std::fs::metadata(directory.join("sessions.db-wal"))?.len();
    println!("log {} MiB", log >> 20);

    let started = Instant::now();
    let position = store.changes_since(None).await?.position;
    for _ in 0..1000 {
        store.changes_since(Some(position)).await?;
    }
    println!("asked for changes in {:?}", started.elapsed() / 1000);
    let started = Instant::now();
    let tombstone = Tombstone { reason: EndReason::Logout, ended_at: Timestamp::from_unix_seconds(0) };
    spread(&store, 256, sessions / 2, move |store, number| async move {
        store.end(key(number), tombstone, Timestamp::from_unix_seconds(1), None).await.map(drop)
    })
    .await?;
    println!("{:.0} ends/s", sessions as f64 / 2.0 / started.elapsed().as_secs_f64());
    let (started, mut swept) = (Instant::now(), 0);
    loop {
        match store.sweep(Timestamp::from_unix_millis(i64::MAX), 500).await? {
            0 => break,
            some => swept += some,
        }
    }
    println!("{:.0} swept/s", swept as f64 / started.elapsed().as_secs_f64());
    println!("file {} MiB", std::fs::metadata(&path)?.len() >> 20);
    store.close().await;
    std::fs::remove_dir_all(&directory)?;
    Ok(())
}

async fn read(store: SqliteStore, number: u64) -> Result<(), StoreError> {
    store.read(key(number)).await.map(drop)
}

async fn update(store: SqliteStore, number: u64) -> Result<(), StoreError> {
    if let Found::Live(_, revision) = store.read(key(number)).await? {
        store.replace(key(number), revision, row(number)).await?;
    }
    Ok(())
}

fn key(number: u64) -> SessionKey {
    SessionKey::from_bytes(freshgate_oidc::sha256(&number.to_be_bytes()))
}

fn row(number: u64) -> Row {
    let index = Index {
        subject: freshgate_oidc::sha256(&(number / 3).to_be_bytes()),
        provider_session: Some(freshgate_oidc::sha256(&(number + 1).to_be_bytes())),
        ends_at: Timestamp::from_unix_seconds(1_900_000_000 + number as i64),
    };
    Row { sealed: vec![number as u8; RECORD], index }
}

/// Does it for each number, so many at a time.
async fn spread<F>(store: &SqliteStore, tasks: u64, until: u64, work: impl Work<F>) -> Outcome<()>
where
    F: Future<Output = Result<(), StoreError>> + Send,
{
    let mut set = JoinSet::new();
    for task in 0..tasks {
        let (work, store) = (work.clone(), store.clone());
        set.spawn(async move {
            for number in (task..until).step_by(tasks as usize) {
                work(store.clone(), number).await?;
            }
            Ok::<_, StoreError>(())
        });
    }
    set.join_all().await.into_iter().collect::<Result<(), StoreError>>()?;
    Ok(())
}

/// Does it over and over, so many at a time, and prints how often and how long one takes.
async fn measure<F>(store: &SqliteStore, what: &str, tasks: u64, work: impl Work<F>) -> Outcome<()>
where
    F: Future<Output = Result<(), StoreError>> + Send,
{
    let sessions = SESSIONS.load(Ordering::Relaxed);
    let started = Instant::now();
    let mut set = JoinSet::new();
    for task in 0..tasks {
        let (work, store) = (work.clone(), store.clone());
        set.spawn(async move {
            let mut random = task + 1;
            let mut took = Vec::new();
            while started.elapsed() < LASTS {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let one = Instant::now();
                work(store.clone(), (random >> 20) % sessions).await?;
                took.push(one.elapsed());
            }
            Ok::<_, StoreError>(took)
        });
    }
    let mut took = Vec::new();
    for one in set.join_all().await {
        took.extend(one?);
    }
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    let rate = took.len() as f64 / started.elapsed().as_secs_f64();
    println!("{what}: {rate:.0}/s; median {:?}, 99% {:?}, longest {:?}", at(0.5), at(0.99), at(1.0));
    Ok(())
}
