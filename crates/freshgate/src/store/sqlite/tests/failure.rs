//! What callers hear when an operation, a batch or a thread fails.

use super::*;

#[tokio::test]
async fn an_operation_that_panics_is_rolled_back_and_answered() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path().join("sessions.db"));
    let writer = &store.0.writer;
    let (panicked, beside, after) = tokio::join!(
        writer.run::<(), _>(|connection| {
            operations::insert(connection, key(1), &row("row"))?;
            panic!("as asked")
        }),
        store.insert(key(2), row("row")),
        async {
            tokio::task::yield_now().await;
            store.insert(key(3), row("row")).await
        },
    );
    assert_eq!(messages(&panicked.unwrap_err()), "the session store failed: the operation broke off");
    assert_eq!(store.read(key(1)).await.unwrap(), Found::Unknown);
    // They shared its fate or not, as the batches fell; what counts is that the answer is true.
    for (number, answer) in [(2, beside), (3, after)] {
        let expected = if answer.is_ok() { Found::Live(row("row"), 1) } else { Found::Unknown };
        assert_eq!(store.read(key(number)).await.unwrap(), expected);
    }
    assert_eq!(store.insert(key(4), row("row")).await.unwrap(), Inserted::Done);

    let panicked = store.0.readers.run::<(), _>(|_| panic!("as asked")).await;
    assert_eq!(messages(&panicked.unwrap_err()), "the session store failed: the operation broke off");
    assert!(matches!(store.read(key(4)).await.unwrap(), Found::Live(..)));
}

#[tokio::test]
async fn a_failed_operation_is_its_callers_alone() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path().join("sessions.db"));
    let writer = &store.0.writer;
    let (before, failed, after) = tokio::join!(
        store.insert(key(1), row("row")),
        writer.run(
            |connection| connection.execute("INSERT INTO session (key, forget_at) VALUES (x'00', 0)", [])
        ),
        store.insert(key(2), row("row")),
    );
    assert_eq!((before.unwrap(), after.unwrap()), (Inserted::Done, Inserted::Done));
    assert!(messages(&failed.unwrap_err()).contains("CHECK constraint failed"));
    assert_eq!(store.of_subject([1; 32]).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_lost_transaction_fails_all_its_operations() {
    let directory = TempDir::new().unwrap();
    let store = open(directory.path().join("sessions.db"));
    let writer = &store.0.writer;
    // As SQLite does by itself when the disk is full.
    let (rolled_back, before, after) = tokio::join!(
        writer.run(|connection| connection.execute_batch("ROLLBACK; SELECT nothing")),
        store.insert(key(1), row("row")),
        store.insert(key(2), row("row")),
    );
    assert!(rolled_back.is_err());
    for (number, answer) in [(1, before), (2, after)] {
        let expected = if answer.is_ok() { Found::Live(row("row"), 1) } else { Found::Unknown };
        assert_eq!(store.read(key(number)).await.unwrap(), expected);
    }
    assert_eq!(store.insert(key(3), row("row")).await.unwrap(), Inserted::Done);
}
