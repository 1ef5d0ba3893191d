//! What concerns SQLite alone: the file, its survival, its neighbours. The rules of every store are in `contract`.

mod failure;
mod file;
mod opening;
mod survival;

use std::{
    error::Error as _,
    sync::atomic::{AtomicUsize, Ordering},
};

use tempfile::TempDir;

use super::*;
use crate::{
    session::EndReason,
    store::{Index, contract},
};

fn key(number: u32) -> SessionKey {
    SessionKey::from_bytes(freshgate_oidc::sha256(&number.to_be_bytes()))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000 + seconds)
}

fn row(content: impl Into<Vec<u8>>) -> Row {
    let index = Index { subject: [1; 32], provider_session: Some([2; 32]), ends_at: at(1000) };
    Row { sealed: content.into(), index }
}

const TOMBSTONE: Tombstone =
    Tombstone { reason: EndReason::Logout, ended_at: Timestamp::from_unix_seconds(1_800_000_005) };

fn open(path: impl AsRef<Path>) -> SqliteStore {
    SqliteStore::open(path).expect("the store opens")
}

fn messages(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text += &format!(": {error}");
        source = error.source();
    }
    text
}

/// What SQLite itself says of a file.
fn ask<T: rusqlite::types::FromSql>(path: &Path, question: &str) -> T {
    let connection = rusqlite::Connection::open(path).expect("it is a database");
    connection.query_row(question, [], |row| row.get(0)).expect("it answers")
}

async fn check_contract(instances: usize) {
    let directory = TempDir::new().unwrap();
    let number = AtomicUsize::new(0);
    contract::check(async || {
        let path = directory.path().join(format!("{}.db", number.fetch_add(1, Ordering::Relaxed)));
        (0..instances).map(|_| Arc::new(open(&path)) as Arc<dyn Store>).collect()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_passes_the_contract() {
    check_contract(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_instances_on_one_file_pass_the_contract() {
    check_contract(2).await;
}
