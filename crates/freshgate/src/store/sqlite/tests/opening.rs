//! How the file is made, opened, refused and closed.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn a_file_opened_again_holds_all_it_held() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sessions.db");
    let store = open(&path);
    let position = store.changes_since(None).await.unwrap().position;
    for number in 0..10 {
        store.insert(key(number), row(vec![7; 5000])).await.unwrap();
    }
    store.replace(key(1), 1, row("new")).await.unwrap();
    store.end(key(2), TOMBSTONE, at(2000), None).await.unwrap();
    store.close().await;

    let store = open(&path);
    assert_eq!(store.read(key(0)).await.unwrap(), Found::Live(row(vec![7; 5000]), 1));
    assert_eq!(store.read(key(1)).await.unwrap(), Found::Live(row("new"), 2));
    assert_eq!(store.read(key(2)).await.unwrap(), Found::Ended(TOMBSTONE));
    assert_eq!(store.of_subject([1; 32]).await.unwrap().len(), 9);
    assert_eq!(store.changes_since(Some(position)).await.unwrap().list.len(), 12);
}

#[tokio::test]
async fn closing_leaves_one_file_and_refuses_what_comes_later() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path().join("sessions.db"));
    let clone = store.clone();
    // Asked before the close, and not waited for.
    let pending: Vec<_> = (0..50)
        .map(|number| {
            tokio::spawn({
                let store = store.clone();
                async move { store.insert(key(number), row("row")).await }
            })
        })
        .collect();
    tokio::task::yield_now().await;
    tokio::join!(store.close(), clone.close());
    store.close().await;

    let mut kept = 0;
    for pending in pending {
        match pending.await.unwrap() {
            Ok(inserted) => {
                assert_eq!(inserted, Inserted::Done);
                kept += 1;
            }
            Err(error) => assert_eq!(messages(&error), "the session store failed: the store is closed"),
        }
    }
    let error = clone.read(key(0)).await.unwrap_err();
    assert_eq!(messages(&error), "the session store failed: the store is closed");

    let files: Vec<_> =
        directory.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["sessions.db"]);
    assert_eq!(ask::<i64>(store.location(), "SELECT count(*) FROM session"), kept);
}

#[tokio::test]
async fn a_dropped_store_still_does_what_was_asked() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sessions.db");
    let store = open(&path);
    {
        let asked = store.insert(key(1), row("row"));
        let mut asked = std::pin::pin!(asked);
        std::future::poll_fn(|context| std::task::Poll::Ready(asked.as_mut().poll(context).is_ready())).await;
    }
    drop(store);

    let other = open(&path);
    let found = async {
        while other.read(key(1)).await.unwrap() == Found::Unknown {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), found).await.expect("the row comes");
}

#[test]
fn many_may_make_one_file_at_once() {
    for _ in 0..10 {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("deep").join("sessions.db");
        std::thread::scope(|scope| {
            let opening: Vec<_> = (0..8).map(|_| scope.spawn(|| open(&path))).collect();
            opening.into_iter().for_each(|store| drop(store.join().unwrap()));
        });
    }
}

#[cfg(unix)]
#[tokio::test]
async fn only_this_user_can_read_what_is_made() {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;

    let directory = TempDir::new().unwrap();
    let (outer, inner) = (directory.path().join("outer"), directory.path().join("outer").join("inner"));
    let path = inner.join("sessions.db");
    let store = open(&path);
    store.insert(key(1), row("row")).await.unwrap();
    assert_eq!((mode(&outer), mode(&inner)), (0o700, 0o700));
    let files: Vec<_> = inner.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 3, "the file, its log and the log's index");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
    store.close().await;

    // What an owner has chosen stays.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let store = open(&path);
    assert_eq!(mode(&path), 0o640);
    store.close().await;
}

#[tokio::test]
async fn a_path_that_reads_like_a_uri_is_a_path() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("file:sessions.db?mode=memory");
    let store = open(&path);
    store.insert(key(1), row("row")).await.unwrap();
    store.close().await;
    assert_eq!(ask::<i64>(&path, "SELECT count(*) FROM session"), 1);
}

#[tokio::test]
async fn a_later_schema_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sessions.db");
    open(&path).close().await;
    {
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
    }
    let before = std::fs::read(&path).unwrap();

    let error = SqliteStore::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 99, known: 4, .. }), "{error:?}");
    let location = path.display();
    assert_eq!(
        error.to_string(),
        format!("the session store {location} has schema 99, this version knows up to 4")
    );
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_file_of_the_first_schema_is_brought_up_to_date() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sessions.db");
    {
        // As the first version made it, with a session and a tombstone in it.
        let connection = rusqlite::Connection::open(&path).unwrap();
        connection.execute_batch(include_str!("../schema_1.sql")).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        connection.pragma_update(None, "application_id", schema::APPLICATION_ID).unwrap();
        let live =
            "INSERT INTO session (key, forget_at, revision, subject, provider_session, refresh_due, sealed)
                    VALUES (?1, ?2, 3, ?3, ?4, ?5, ?6)";
        let (ends_at, due) = (at(1000).as_unix_millis(), at(100).as_unix_millis());
        let (key_1, sealed) = (key(1), vec![7_u8; 5000]);
        let values = rusqlite::params![key_1.as_bytes(), ends_at, [1_u8; 32], [2_u8; 32], due, sealed];
        connection.execute(live, values).unwrap();
        let ended =
            "INSERT INTO session (key, forget_at, end_reason, ended_at) VALUES (?1, ?2, 'logout', ?3)";
        let ended_at = TOMBSTONE.ended_at.as_unix_millis();
        connection.execute(ended, rusqlite::params![key(2).as_bytes(), ends_at, ended_at]).unwrap();
    }

    let store = open(&path);
    assert_eq!(ask::<i32>(&path, "PRAGMA user_version"), 4);
    let indexes = "SELECT count(*) FROM sqlite_schema WHERE name = 'session_by_refresh_due'";
    assert_eq!(ask::<i64>(&path, indexes), 0);
    assert_eq!(store.read(key(1)).await.unwrap(), Found::Live(row(vec![7; 5000]), 3));
    assert_eq!(store.read(key(2)).await.unwrap(), Found::Ended(TOMBSTONE));
    store.end(key(1), TOMBSTONE, at(2000), Some(b"note".to_vec())).await.unwrap();
    let listed: Vec<_> = store.list(None, 10).await.unwrap().into_iter().map(|(_, listed)| listed).collect();
    assert!(listed.contains(&Listed::Ended(TOMBSTONE, None)), "{listed:?}");
    assert!(listed.contains(&Listed::Ended(TOMBSTONE, Some(b"note".to_vec()))), "{listed:?}");
    assert_eq!(store.mark([1; 32], at(5), at(2000)).await.unwrap(), None);
    store.close().await;
}

#[test]
fn what_is_no_session_store_is_refused_and_left_alone() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("letter.txt"), "Dear all, this is a letter. ".repeat(100)).unwrap();
    rusqlite::Connection::open(path("other.db"))
        .unwrap()
        .execute_batch("CREATE TABLE other (value)")
        .unwrap();
    rusqlite::Connection::open(path("marked.db"))
        .unwrap()
        .execute_batch("PRAGMA application_id = 5; CREATE TABLE a (b)")
        .unwrap();
    std::fs::create_dir(path("directory")).unwrap();

    for (name, expected) in [
        ("letter.txt", "file is not a database"),
        ("other.db", "a database of another program"),
        ("marked.db", "a database of another program"),
        ("directory", "unable to open database file"),
        ("letter.txt/sessions.db", "not a directory"),
    ] {
        let before = std::fs::read(path(name)).ok();
        let error = SqliteStore::open(path(name)).unwrap_err();
        assert!(matches!(error, StoreError::Open { .. }), "{error:?}");
        let text = messages(&error);
        assert!(
            text.starts_with(&format!("cannot open the session store {}", path(name).display())),
            "{text}"
        );
        assert!(text.contains(expected), "{text}");
        assert_eq!(std::fs::read(path(name)).ok(), before);
    }
}

#[cfg(unix)]
#[test]
fn an_unwritable_place_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = TempDir::new().unwrap();
    let locked = directory.path().join("locked");
    std::fs::create_dir(&locked).unwrap();
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o500)).unwrap();
    if std::fs::write(locked.join("probe"), "").is_ok() {
        // The superuser writes anywhere, but not here: nobody can make a file in it.
        let error = SqliteStore::open("/proc/freshgate/sessions.db").unwrap_err();
        assert!(messages(&error).starts_with("cannot open the session store /proc/freshgate/sessions.db: "));
        return;
    }
    let error = SqliteStore::open(locked.join("sessions.db")).unwrap_err();
    let expected =
        format!("cannot open the session store {}/sessions.db: Permission denied", locked.display());
    assert!(messages(&error).starts_with(&expected), "{}", messages(&error));
}

#[tokio::test]
async fn an_inspection_counts_and_leaves_everything_as_it_was() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sessions.db");
    assert!(matches!(SqliteStore::inspect(&path), Err(StoreError::Open { .. })), "nothing is made");
    let files = || -> Vec<_> {
        let entries = directory.path().read_dir().unwrap().map(|entry| entry.unwrap());
        let mut files: Vec<_> = entries
            .map(|entry| (entry.file_name(), freshgate_oidc::sha256(&std::fs::read(entry.path()).unwrap())))
            .collect();
        files.sort();
        files
    };
    assert_eq!(files(), []);

    let store = open(&path);
    for number in 0..5 {
        store.insert(key(number), row("row")).await.unwrap();
    }
    store.end(key(0), TOMBSTONE, at(2000), None).await.unwrap();
    let expected = StoreInspection { schema: 4, known_schema: 4, live: 4, ended: 1 };
    assert_eq!(SqliteStore::inspect(&path).unwrap(), expected, "while a gate has it open");
    store.close().await;
    let before = files();
    assert_eq!(SqliteStore::inspect(&path).unwrap(), expected);
    assert_eq!(files(), before);

    let change = |name: &str, value: i32| {
        rusqlite::Connection::open(&path).unwrap().pragma_update(None, name, value).unwrap();
    };
    change("user_version", 1);
    assert_eq!(SqliteStore::inspect(&path).unwrap(), StoreInspection { schema: 1, ..expected });
    change("user_version", 99);
    let error = SqliteStore::inspect(&path).unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 99, known: 4, .. }), "{error:?}");
    change("application_id", 7);
    let error = SqliteStore::inspect(&path).unwrap_err();
    assert!(messages(&error).ends_with("a database of another program"), "{error:?}");
    std::fs::write(&path, "").unwrap();
    let empty = StoreInspection { schema: 0, live: 0, ended: 0, ..expected };
    assert_eq!(SqliteStore::inspect(&path).unwrap(), empty);
    assert_eq!(files(), [("sessions.db".into(), freshgate_oidc::sha256(b""))]);
}
