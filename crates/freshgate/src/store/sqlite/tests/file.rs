//! What is in the file, and what is no longer in it.

use super::*;

#[tokio::test]
async fn the_file_is_set_up_for_its_work() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path().join("sessions.db"));
    let pragma = async |name: &'static str| {
        let value = move |connection: &rusqlite::Connection| {
            connection.pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
        };
        (store.0.writer.run(value).await.unwrap(), store.0.readers.run(value).await.unwrap())
    };
    let full = rusqlite::types::Value::Integer(2);
    assert_eq!(pragma("synchronous").await, (full.clone(), full));
    let wal = rusqlite::types::Value::Text("wal".into());
    assert_eq!(pragma("journal_mode").await, (wal.clone(), wal));
    let page = rusqlite::types::Value::Integer(4096);
    assert_eq!(pragma("page_size").await, (page.clone(), page));
    assert_eq!(ask::<String>(store.location(), "PRAGMA integrity_check"), "ok");
}

#[test]
fn each_question_is_answered_from_its_index() {
    let directory = TempDir::new().unwrap();
    let (_, connection) = schema::open(&directory.path().join("sessions.db")).unwrap();
    for (question, index) in [
        (operations::LIST, "USING INDEX sqlite_autoindex_session_1"),
        (operations::OF_SUBJECT, "USING COVERING INDEX session_by_subject"),
        (operations::OF_PROVIDER_SESSION, "USING COVERING INDEX session_by_provider_session"),
        (operations::ENDING, "USING INDEX session_by_end"),
        (operations::SWEEP, "USING INDEX session_by_keep_until"),
        (operations::SWEEP_MARKS, "USING COVERING INDEX mark_by_forget_at"),
    ] {
        let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {question}")).unwrap();
        let parameters = vec![rusqlite::types::Null; explain.parameter_count()];
        let steps =
            explain.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3)).unwrap();
        let plan = steps.map(Result::unwrap).collect::<Vec<_>>().join("; ");
        assert!(
            plan.contains(index) && !plan.contains("SCAN") && !plan.contains("TEMP B-TREE"),
            "{question}: {plan}"
        );
    }
}

#[tokio::test]
async fn an_ended_session_is_overwritten() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("sessions.db");
    let store = open(&path);
    // Sizes that lie within a page, and across several.
    for (number, size) in [(1, 100), (2, 3000), (3, 10_000)] {
        let sealed = |mark: &[u8]| mark.repeat(size / mark.len());
        store.insert(key(number), row(sealed(b"first sealed record "))).await.unwrap();
        store.replace(key(number), 1, row(sealed(b"second sealed record "))).await.unwrap();
    }
    let holds = |mark: &[u8]| std::fs::read(&path).unwrap().windows(mark.len()).any(|window| window == mark);
    store.close().await;
    assert!(holds(b"second sealed record") && !holds(b"first sealed record"));

    let store = open(&path);
    store.end(key(1), TOMBSTONE, at(2000), None).await.unwrap();
    store.end(key(2), TOMBSTONE, at(2000), None).await.unwrap();
    store.end(key(3), TOMBSTONE, at(1000), None).await.unwrap();
    assert_eq!(store.sweep(at(1000), 10).await.unwrap(), 1);
    store.close().await;
    assert!(!holds(b"sealed record"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_log_stays_short_under_readers_that_never_pause() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path().join("sessions.db"));
    for number in 0..8 {
        store.insert(key(number), row("")).await.unwrap();
    }
    let readers: Vec<_> = (0..8)
        .map(|number| {
            let store = store.clone();
            tokio::spawn(async move { while store.read(key(number)).await.is_ok() {} })
        })
        .collect();
    // 200 MiB, in transactions of up to a megabyte.
    for round in 1..=200 {
        store
            .replace(key(round % 8), Revision::from(1 + (round - 1) / 8), row(vec![1; 1 << 20]))
            .await
            .unwrap();
    }
    let log = store.location().with_extension("db-wal").metadata().unwrap().len();
    assert!(log < 80 << 20, "{log} bytes");
    store.close().await;
    for reader in readers {
        reader.await.unwrap();
    }
}
