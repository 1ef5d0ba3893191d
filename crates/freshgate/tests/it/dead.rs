//! A process that is killed while it refreshes, and whoever comes next.

use std::{
    env, fs, io,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use freshgate::store::{Found, Listed, SqliteStore, Store};
use tokio::sync::Semaphore;

use crate::setting::{DEADLINE, Setting, until};

/// Where the process that is to be killed keeps its sessions. Set for that process alone.
const FOLDER: &str = "FRESHGATE_TEST_DEAD";
/// There once its refresh is on the wire.
const SENT: &str = "sent";
/// Less than the ten seconds for which a lease is watched whose holder may be alive.
const WATCHED: Duration = Duration::from_secs(8);

#[tokio::test]
async fn the_lease_of_a_process_is_taken_when_it_is_dead_and_not_before() {
    if let Some(folder) = env::var_os(FOLDER) {
        return refresh_until_killed(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    let name = "dead::the_lease_of_a_process_is_taken_when_it_is_dead_and_not_before";
    let mut holder = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--test-threads=1"])
        .env(FOLDER, folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let patience = Instant::now() + Duration::from_secs(60);
    while !folder.path().join(SENT).exists() {
        assert!(Instant::now() < patience && holder.try_wait().unwrap().is_none(), "it sends nothing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // In a store that keeps no thread busy, time can stand still.
    let setting = Setting::new();
    setting.signed_in().await;
    let left = SqliteStore::open(folder.path().join("sessions.db")).unwrap().list(None, 1).await.unwrap();
    let [(key, Listed::Live(row, _))] = left.as_slice() else { panic!("{left:?}") };
    let key = *key;
    setting.store.insert(key, row.clone()).await.unwrap();
    tokio::time::pause();
    let engine = setting.engine.clone();
    let refresh = tokio::spawn(async move { engine.refresh(key, DEADLINE).await });

    tokio::time::sleep(WATCHED / 2).await;
    // The machine slept, or its clock was set. To go by that, the lease is long over.
    setting.clock.advance(Duration::from_secs(3600));
    tokio::time::sleep(WATCHED / 2).await;
    assert!(setting.provider.presented().is_empty(), "it lives, and may have its answer any moment");
    let found = setting.store.read(key).await.unwrap();
    assert!(matches!(&found, Found::Live(now, _) if now == row), "{found:?}");
    holder.kill().unwrap();
    holder.wait().unwrap();
    let killed = tokio::time::Instant::now();

    let (session, _) = refresh.await.unwrap().unwrap();
    assert!(killed.elapsed() < Duration::from_secs(1), "nobody waits for the lease of the dead");
    assert_eq!(session.access_token().expose(), "access-2");
    assert_eq!(setting.provider.presented(), ["refresh-1"]);
}

/// Signs in, sends a refresh, and has no answer. Ends by itself only if nobody is there any more to kill it.
async fn refresh_until_killed(folder: &Path) {
    let setting = Setting::on(Arc::new(SqliteStore::open(folder.join("sessions.db")).unwrap()));
    let key = setting.signed_in().await.key();
    setting.provider.wire.forget_permits(Semaphore::MAX_PERMITS);
    let engine = setting.engine.clone();
    let _refresh = tokio::spawn(async move { engine.refresh(key, DEADLINE).await });
    until("the request is on the wire", || setting.provider.on_the_wire() == 1).await;
    fs::write(folder.join(SENT), "").unwrap();
    io::copy(&mut io::stdin(), &mut io::sink()).unwrap();
}
