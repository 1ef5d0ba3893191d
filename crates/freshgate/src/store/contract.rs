//! The rules that every store passes, whatever it is made of.
//!
//! A store's own tests call [`check`] with a way to open an empty store. Where a store can be shared (one file, one
//! server), they also call it with several handles on one: each operation of a rule then goes through the next of them.

use std::{
    collections::{HashMap, HashSet},
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
};

use freshgate_oidc::Timestamp;
use tokio::task::JoinSet;

use super::{
    Change, Ended, EndedAt, Found, Index, Inserted, KEPT_CHANGES, Listed, Replaced, Resealed, Revision, Row,
    Store, StoreError, Tombstone,
};
use crate::session::{EndReason, SessionKey};

/// Checks all rules, each on an empty store that `open` yields: as one handle or, for a store that can be shared, as
/// several on the same store. Panics at the first rule that does not hold; what it prints last names the rule.
///
/// Wants a runtime with several threads, so that the parallel rules are parallel.
pub async fn check<F, Opening>(open: F)
where
    F: Fn() -> Opening,
    Opening: Future<Output = Vec<Arc<dyn Store>>>,
{
    macro_rules! rules {
        ($($rule:ident)*) => {$(
            eprintln!("store contract: {}", stringify!($rule));
            $rule(Handles::new(open().await)).await;
        )*};
    }
    rules! {
        an_inserted_session_is_read_as_it_was
        an_unknown_session_is_unknown
        an_insert_writes_over_nothing
        the_revision_grows_by_one
        a_conflict_tells_what_is_there
        nothing_unknown_or_ended_is_replaced
        an_ended_session_leaves_a_tombstone
        the_first_tombstone_stays
        an_end_beats_the_insert_that_comes_later
        an_end_at_a_revision_ends_that_revision_alone
        an_end_at_a_revision_writes_nothing_else
        each_end_reason_is_kept
        a_note_stays_with_its_tombstone
        a_resealed_session_is_the_same_in_another_form
        a_reseal_writes_over_nothing_else
        a_resealed_note_stays_with_its_tombstone
        every_session_is_listed_once_in_order
        sessions_are_found_by_subject
        sessions_are_found_by_provider_session
        a_replace_moves_the_session_in_each_index
        an_end_takes_the_session_out_of_each_index
        sessions_that_end_come_in_order
        a_sweep_forgets_tombstones_alone
        a_sweep_keeps_to_its_limit
        a_tombstone_stays_until_the_latest_time_asked_for
        what_was_forgotten_can_be_kept_anew
        of_a_mark_the_latest_time_counts
        a_mark_is_no_session
        a_sweep_forgets_old_marks_within_its_limit
        rows_of_any_size_are_kept
        times_of_any_size_are_kept
        every_change_is_told_in_order
        changes_long_ago_are_missed_and_not_left_out
        of_parallel_inserts_one_wins
        of_parallel_ends_one_finds_the_session
        of_parallel_marks_one_is_the_first
        parallel_updates_lose_nothing
        an_end_beats_updates_in_flight
        a_reseal_overtakes_no_update
        parallel_sweeps_count_each_session_once
        what_one_task_was_told_all_others_see
        an_operation_dropped_midway_is_whole
    }
}

/// One store, through one or several handles in turn.
#[derive(Clone)]
struct Handles {
    handles: Arc<[Arc<dyn Store>]>,
    turn: Arc<AtomicUsize>,
}

impl Handles {
    fn new(handles: Vec<Arc<dyn Store>>) -> Self {
        assert!(!handles.is_empty(), "a store to check");
        Self { handles: handles.into(), turn: Arc::default() }
    }

    fn next(&self) -> &dyn Store {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        &*self.handles[turn % self.handles.len()]
    }

    async fn insert(&self, key: SessionKey, row: &Row) -> Inserted {
        self.next().insert(key, row.clone()).await.expect("the store works")
    }

    async fn read(&self, key: SessionKey) -> Found {
        self.next().read(key).await.expect("the store works")
    }

    async fn replace(&self, key: SessionKey, expected: Revision, row: &Row) -> Replaced {
        self.next().replace(key, expected, row.clone()).await.expect("the store works")
    }

    async fn end(&self, key: SessionKey, tombstone: Tombstone, keep_until: Timestamp) -> Ended {
        self.next().end(key, tombstone, keep_until, None).await.expect("the store works")
    }

    async fn end_at(&self, key: SessionKey, expected: Revision, tombstone: Tombstone) -> EndedAt {
        self.next().end_at(key, expected, tombstone, at(100), None).await.expect("end_at")
    }

    async fn reseal(&self, key: SessionKey, before: &[u8], sealed: &[u8]) -> Resealed {
        self.next().reseal(key, before.to_vec(), sealed.to_vec()).await.expect("the store works")
    }

    async fn list(&self, after: Option<SessionKey>, limit: usize) -> Vec<(SessionKey, Listed)> {
        self.next().list(after, limit).await.expect("the store works")
    }

    async fn of_subject(&self, subject: u8) -> HashSet<SessionKey> {
        let keys = self.next().of_subject([subject; 32]).await.expect("the store works");
        set_of(keys)
    }

    async fn of_provider_session(&self, sid: u8) -> HashSet<SessionKey> {
        let keys = self.next().of_provider_session([sid; 32]).await.expect("the store works");
        set_of(keys)
    }

    async fn mark(&self, name: u8, seconds: i64, keep_until: i64) -> Option<Timestamp> {
        let marked = self.next().mark([name; 32], at(seconds), at(keep_until)).await;
        marked.expect("the store works")
    }

    async fn marked(&self, name: u8) -> Option<Timestamp> {
        self.next().marked([name; 32]).await.expect("the store works")
    }

    async fn ending(&self, until: Timestamp, limit: usize) -> Vec<(SessionKey, Timestamp)> {
        self.next().ending(until, limit).await.expect("the store works")
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> usize {
        self.next().sweep(now, limit).await.expect("the store works")
    }

    /// Inserts what must be new.
    async fn keep(&self, key: SessionKey, row: &Row) {
        assert_eq!(self.insert(key, row).await, Inserted::Done);
    }
}

fn set_of(keys: Vec<SessionKey>) -> HashSet<SessionKey> {
    let count = keys.len();
    let set: HashSet<_> = keys.into_iter().collect();
    assert_eq!(set.len(), count, "each session is named once");
    set
}

fn key(number: u32) -> SessionKey {
    SessionKey::from_bytes(freshgate_oidc::sha256(&number.to_be_bytes()))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(1_800_000_000 + seconds)
}

/// A session of subject 1 and provider session 1, over at 1000, with this content.
fn row(content: &[u8]) -> Row {
    let index = Index { subject: [1; 32], provider_session: Some([1; 32]), ends_at: at(1000) };
    Row { sealed: content.to_vec(), index }
}

fn row_with(change: impl FnOnce(&mut Index)) -> Row {
    let mut row = row(b"row");
    change(&mut row.index);
    row
}

fn logout(seconds: i64) -> Tombstone {
    Tombstone { reason: EndReason::Logout, ended_at: at(seconds) }
}

async fn an_inserted_session_is_read_as_it_was(store: Handles) {
    let rows = [row(b"full"), row_with(|index| index.provider_session = None)];
    for (number, row) in (0..).zip(&rows) {
        store.keep(key(number), row).await;
    }
    for (number, row) in (0..).zip(&rows) {
        assert_eq!(store.read(key(number)).await, Found::Live(row.clone(), 1));
    }
}

async fn an_unknown_session_is_unknown(store: Handles) {
    store.keep(key(1), &row(b"another")).await;
    assert_eq!(store.read(key(2)).await, Found::Unknown);
    assert_eq!(store.of_subject(2).await, HashSet::new());
    assert_eq!(store.of_provider_session(2).await, HashSet::new());
}

async fn an_insert_writes_over_nothing(store: Handles) {
    store.keep(key(1), &row(b"first")).await;
    let second = Row { sealed: b"second".to_vec(), ..row_with(|index| index.subject = [2; 32]) };
    assert_eq!(store.insert(key(1), &second).await, Inserted::Exists);
    assert_eq!(store.read(key(1)).await, Found::Live(row(b"first"), 1));
    assert_eq!(store.of_subject(2).await, HashSet::new());

    store.end(key(1), logout(1), at(2000)).await;
    assert_eq!(store.insert(key(1), &second).await, Inserted::Ended(logout(1)));
    assert_eq!(store.read(key(1)).await, Found::Ended(logout(1)));
    assert_eq!(store.of_subject(2).await, HashSet::new());
}

async fn the_revision_grows_by_one(store: Handles) {
    store.keep(key(1), &row(b"1")).await;
    for revision in 1..=20 {
        let next = row((revision + 1).to_string().as_bytes());
        assert_eq!(store.replace(key(1), revision, &next).await, Replaced::Done(revision + 1));
        assert_eq!(store.read(key(1)).await, Found::Live(next, revision + 1));
    }
}

async fn a_conflict_tells_what_is_there(store: Handles) {
    store.keep(key(1), &row(b"1")).await;
    store.replace(key(1), 1, &row(b"2")).await;
    for stale in [0, 1, 3, u64::MAX] {
        let conflict = store.replace(key(1), stale, &row_with(|index| index.subject = [2; 32])).await;
        assert_eq!(conflict, Replaced::Conflict(row(b"2"), 2), "expected revision {stale}");
    }
    assert_eq!(store.read(key(1)).await, Found::Live(row(b"2"), 2));
    assert_eq!(store.of_subject(2).await, HashSet::new());
}

async fn nothing_unknown_or_ended_is_replaced(store: Handles) {
    for revision in [0, 1] {
        assert_eq!(store.replace(key(1), revision, &row(b"row")).await, Replaced::Unknown);
    }
    assert_eq!(store.read(key(1)).await, Found::Unknown);

    store.keep(key(2), &row(b"row")).await;
    store.end(key(2), logout(1), at(2000)).await;
    for revision in [0, 1, 2] {
        assert_eq!(store.replace(key(2), revision, &row(b"row")).await, Replaced::Ended(logout(1)));
    }
    assert_eq!(store.read(key(2)).await, Found::Ended(logout(1)));
}

async fn an_ended_session_leaves_a_tombstone(store: Handles) {
    store.keep(key(1), &row(b"1")).await;
    store.replace(key(1), 1, &row(b"2")).await;
    assert_eq!(store.end(key(1), logout(5), at(2000)).await, Ended::Now(row(b"2")));
    assert_eq!(store.read(key(1)).await, Found::Ended(logout(5)));
}

async fn the_first_tombstone_stays(store: Handles) {
    store.keep(key(1), &row(b"row")).await;
    store.end(key(1), logout(5), at(2000)).await;
    let second = Tombstone { reason: EndReason::Operator, ended_at: at(6) };
    assert_eq!(store.end(key(1), second, at(2000)).await, Ended::Before(logout(5)));
    assert_eq!(store.read(key(1)).await, Found::Ended(logout(5)));
}

async fn an_end_beats_the_insert_that_comes_later(store: Handles) {
    assert_eq!(store.end(key(1), logout(5), at(2000)).await, Ended::Unknown);
    assert_eq!(store.read(key(1)).await, Found::Ended(logout(5)));
    assert_eq!(store.insert(key(1), &row(b"row")).await, Inserted::Ended(logout(5)));
    assert_eq!(store.replace(key(1), 1, &row(b"row")).await, Replaced::Ended(logout(5)));
    assert_eq!(store.end(key(1), logout(6), at(2000)).await, Ended::Before(logout(5)));
    assert_eq!(store.of_subject(1).await, HashSet::new());
}

async fn an_end_at_a_revision_ends_that_revision_alone(store: Handles) {
    store.keep(key(1), &row(b"one")).await;
    assert_eq!(store.replace(key(1), 1, &row(b"two")).await, Replaced::Done(2));
    assert_eq!(store.end_at(key(1), 1, logout(5)).await, EndedAt::Conflict(row(b"two"), 2));
    assert_eq!(store.read(key(1)).await, Found::Live(row(b"two"), 2));
    assert_eq!(store.end_at(key(1), 2, logout(6)).await, EndedAt::Now);
    assert_eq!(store.read(key(1)).await, Found::Ended(logout(6)));
    assert_eq!(store.end_at(key(1), 2, logout(7)).await, EndedAt::Before(logout(6)));
}

async fn an_end_at_a_revision_writes_nothing_else(store: Handles) {
    assert_eq!(store.end_at(key(1), 1, logout(5)).await, EndedAt::Unknown);
    assert_eq!(store.read(key(1)).await, Found::Unknown);
    assert_eq!(store.insert(key(1), &row(b"one")).await, Inserted::Done);
}

async fn each_end_reason_is_kept(store: Handles) {
    use EndReason::{
        IdentityChanged, Idle, Lifetime, Logout, Operator, OutcomeUnknown, ProviderLogout, Refused, Replaced,
    };
    let reasons = [
        Logout,
        Replaced,
        ProviderLogout,
        Refused,
        IdentityChanged,
        OutcomeUnknown,
        Lifetime,
        Idle,
        Operator,
    ];
    for (number, reason) in (0..).zip(reasons) {
        let tombstone = Tombstone { reason, ended_at: at(i64::from(number)) };
        store.end(key(number), tombstone, at(2000)).await;
        assert_eq!(store.read(key(number)).await, Found::Ended(tombstone));
    }
}

async fn a_note_stays_with_its_tombstone(store: Handles) {
    let noted = async |key, note: &[u8]| {
        store.next().end(key, logout(5), at(2000), Some(note.to_vec())).await.expect("the store works")
    };
    for number in [1, 2, 3] {
        store.keep(key(number), &row(b"row")).await;
    }
    assert_eq!(noted(key(1), b"first").await, Ended::Now(row(b"row")));
    assert_eq!(noted(key(1), b"second").await, Ended::Before(logout(5)));
    let at_revision = store.next().end_at(key(2), 1, logout(6), at(2000), Some(b"at".to_vec()));
    assert_eq!(at_revision.await.expect("the store works"), EndedAt::Now);
    let at_another = store.next().end_at(key(3), 2, logout(6), at(2000), Some(b"not".to_vec()));
    assert_eq!(at_another.await.expect("the store works"), EndedAt::Conflict(row(b"row"), 1));
    assert_eq!(store.end(key(4), logout(7), at(2000)).await, Ended::Unknown);
    // One that ended without a note has none afterwards either.
    assert_eq!(noted(key(4), b"late").await, Ended::Before(logout(7)));
    // An empty note is not the absence of one.
    noted(key(5), b"").await;

    let listed: HashMap<_, _> = store.list(None, 10).await.into_iter().collect();
    let ended = |seconds, note: Option<&[u8]>| Listed::Ended(logout(seconds), note.map(<[u8]>::to_vec));
    let expected = HashMap::from([
        (key(1), ended(5, Some(b"first"))),
        (key(2), ended(6, Some(b"at"))),
        (key(3), Listed::Live(row(b"row"), 1)),
        (key(4), ended(7, None)),
        (key(5), ended(5, Some(b""))),
    ]);
    assert_eq!(listed, expected);
    assert_eq!(store.read(key(1)).await, Found::Ended(logout(5)));

    // It is forgotten with its tombstone.
    assert_eq!(store.sweep(at(2000), 10).await, 4);
    assert_eq!(store.list(None, 10).await, [(key(3), Listed::Live(row(b"row"), 1))]);
}

async fn a_resealed_session_is_the_same_in_another_form(store: Handles) {
    store.keep(key(1), &row(b"one")).await;
    store.replace(key(1), 1, &row(b"two")).await;
    let position = store.next().changes_since(None).await.expect("the store works").position;
    assert_eq!(store.reseal(key(1), b"two", b"another form of two").await, Resealed::Done);

    // The revision stays, so an update in flight goes through, and nobody is told.
    assert_eq!(store.read(key(1)).await, Found::Live(row(b"another form of two"), 2));
    let changes = store.next().changes_since(Some(position)).await.expect("the store works");
    assert_eq!((changes.list, changes.missed), (Vec::new(), false));
    assert_eq!(store.of_subject(1).await, HashSet::from([key(1)]));
    assert_eq!(store.ending(at(9999), 10).await, [(key(1), at(1000))]);
    assert_eq!(store.replace(key(1), 2, &row(b"three")).await, Replaced::Done(3));
    assert_eq!(store.end(key(1), logout(5), at(2000)).await, Ended::Now(row(b"three")));
}

async fn a_reseal_writes_over_nothing_else(store: Handles) {
    assert_eq!(store.reseal(key(1), b"one", b"new").await, Resealed::Overtaken);
    assert_eq!(store.read(key(1)).await, Found::Unknown);

    store.keep(key(1), &row(b"one")).await;
    store.replace(key(1), 1, &row(b"two")).await;
    for other in [&b"one"[..], b"tw", b"two!", b""] {
        assert_eq!(store.reseal(key(1), other, b"new").await, Resealed::Overtaken, "{other:?}");
    }
    assert_eq!(store.read(key(1)).await, Found::Live(row(b"two"), 2));

    // What ended without a note has nothing to be written anew.
    store.end(key(1), logout(5), at(2000)).await;
    for before in [&b"two"[..], b""] {
        assert_eq!(store.reseal(key(1), before, b"new").await, Resealed::Overtaken);
    }
    assert_eq!(store.read(key(1)).await, Found::Ended(logout(5)));
    assert_eq!(store.list(None, 10).await, [(key(1), Listed::Ended(logout(5), None))]);
}

async fn a_resealed_note_stays_with_its_tombstone(store: Handles) {
    store.keep(key(1), &row(b"row")).await;
    let noted = store.next().end(key(1), logout(5), at(2000), Some(b"note".to_vec()));
    assert_eq!(noted.await.expect("the store works"), Ended::Now(row(b"row")));
    let position = store.next().changes_since(None).await.expect("the store works").position;
    assert_eq!(store.reseal(key(1), b"row", b"new").await, Resealed::Overtaken);
    assert_eq!(store.reseal(key(1), b"note", b"another form").await, Resealed::Done);
    assert_eq!(store.reseal(key(1), b"note", b"a third").await, Resealed::Overtaken);

    let listed = Listed::Ended(logout(5), Some(b"another form".to_vec()));
    assert_eq!(store.list(None, 10).await, [(key(1), listed)]);
    assert_eq!(store.read(key(1)).await, Found::Ended(logout(5)));
    let changes = store.next().changes_since(Some(position)).await.expect("the store works");
    assert_eq!(changes.list, []);
    assert_eq!(store.sweep(at(1999), 10).await, 0, "it is kept for as long as before");
    assert_eq!(store.sweep(at(2000), 10).await, 1);
}

async fn every_session_is_listed_once_in_order(store: Handles) {
    assert_eq!(store.list(None, 10).await, []);
    let mut keys: Vec<_> = (0..25).map(key).collect();
    // The first and the last key that there can be, and two that differ in their last byte alone.
    keys.extend([[0; 32], [0xff; 32]].map(SessionKey::from_bytes));
    let mut neighbour = *key(0).as_bytes();
    neighbour[31] ^= 1;
    keys.push(SessionKey::from_bytes(neighbour));
    for (key, number) in keys.iter().zip(1..) {
        store.keep(*key, &row_with(|index| index.ends_at = at(number))).await;
    }
    store.end(keys[3], logout(5), at(2000)).await;
    keys.sort_unstable();

    for limit in [1, 7, 28, 100] {
        let mut listed = Vec::new();
        loop {
            let page = store.list(listed.last().copied(), limit).await;
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            for (key, entry) in page {
                let expected = match store.read(key).await {
                    Found::Live(row, revision) => Listed::Live(row, revision),
                    Found::Ended(tombstone) => Listed::Ended(tombstone, None),
                    Found::Unknown => panic!("what is listed is there"),
                };
                assert_eq!(entry, expected);
                listed.push(key);
            }
        }
        assert_eq!(listed, keys, "{limit} at a time");
    }
    // Any key is a place to start from, there or not.
    assert_eq!(store.list(Some(key(99)), 100).await.len(), keys.iter().filter(|it| **it > key(99)).count());
    assert_eq!(store.list(None, 0).await, []);
}

async fn sessions_are_found_by_subject(store: Handles) {
    for (number, subject) in [(1, 1), (2, 2), (3, 1), (4, 3)] {
        store.keep(key(number), &row_with(|index| index.subject = [subject; 32])).await;
    }
    assert_eq!(store.of_subject(1).await, HashSet::from([key(1), key(3)]));
    assert_eq!(store.of_subject(2).await, HashSet::from([key(2)]));
    assert_eq!(store.of_subject(4).await, HashSet::new());
}

async fn sessions_are_found_by_provider_session(store: Handles) {
    for (number, sid) in [(1, Some(1)), (2, None), (3, Some(1)), (4, Some(3))] {
        store.keep(key(number), &row_with(|index| index.provider_session = sid.map(|sid| [sid; 32]))).await;
    }
    assert_eq!(store.of_provider_session(1).await, HashSet::from([key(1), key(3)]));
    assert_eq!(store.of_provider_session(3).await, HashSet::from([key(4)]));
    // Having none is not a value that sessions share.
    assert_eq!(store.of_provider_session(0).await, HashSet::new());
}

async fn a_replace_moves_the_session_in_each_index(store: Handles) {
    let moves = [
        row_with(|index| index.provider_session = Some([2; 32])),
        row_with(|index| index.provider_session = None),
        row_with(|index| index.provider_session = Some([3; 32])),
        row_with(|index| index.subject = [2; 32]),
        row_with(|index| index.ends_at = at(1)),
        row_with(|index| index.ends_at = at(5000)),
    ];
    store.keep(key(1), &row(b"row")).await;
    for (revision, next) in (1..).zip(&moves) {
        assert_eq!(store.replace(key(1), revision, next).await, Replaced::Done(revision + 1));
        assert_eq!(store.read(key(1)).await, Found::Live(next.clone(), revision + 1));
        assert_eq!(store.ending(at(9999), 10).await, [(key(1), next.index.ends_at)]);
        for value in 0..4 {
            let here = |yes: bool| if yes { HashSet::from([key(1)]) } else { HashSet::new() };
            assert_eq!(store.of_subject(value).await, here(next.index.subject == [value; 32]));
            let sid = next.index.provider_session;
            assert_eq!(store.of_provider_session(value).await, here(sid == Some([value; 32])));
        }
    }
}

async fn an_end_takes_the_session_out_of_each_index(store: Handles) {
    store.keep(key(1), &row(b"row")).await;
    store.keep(key(2), &row(b"row")).await;
    store.end(key(1), logout(5), at(2000)).await;
    assert_eq!(store.of_subject(1).await, HashSet::from([key(2)]));
    assert_eq!(store.of_provider_session(1).await, HashSet::from([key(2)]));
    assert_eq!(store.ending(at(9999), 10).await, [(key(2), at(1000))]);
}

async fn sessions_that_end_come_in_order(store: Handles) {
    for (number, ends_at) in [(1, 30), (2, 10), (4, 20), (5, 40)] {
        store.keep(key(number), &row_with(|index| index.ends_at = at(ends_at))).await;
    }
    // One that has ended does not end again, whenever it is forgotten.
    store.keep(key(3), &row_with(|index| index.ends_at = at(15))).await;
    store.end(key(3), logout(5), at(15)).await;
    let all = [(key(2), at(10)), (key(4), at(20)), (key(1), at(30)), (key(5), at(40))];
    assert_eq!(store.ending(at(1000), 10).await, all);
    assert_eq!(store.ending(at(1000), 2).await, all[..2]);
    assert_eq!(store.ending(at(1000), 0).await, []);
    assert_eq!(store.ending(at(1000), usize::MAX).await, all);
    assert_eq!(store.ending(at(30), 10).await, all[..3], "what ends at `until` is among them");
    assert_eq!(store.ending(at(9), 10).await, []);
}

async fn a_sweep_forgets_tombstones_alone(store: Handles) {
    // A session lives until somebody ends it, however long ago it should have.
    for (number, ends_at) in [(1, 50), (2, 101), (3, 300)] {
        store.keep(key(number), &row_with(|index| index.ends_at = at(ends_at))).await;
    }
    store.keep(key(4), &row_with(|index| index.ends_at = at(300))).await;
    store.end(key(4), logout(5), at(100)).await;
    store.end(key(5), logout(5), at(101)).await;

    assert_eq!(store.sweep(at(99), 10).await, 0);
    assert_eq!(store.sweep(at(100), 10).await, 1);
    assert_eq!(store.sweep(at(100), 10).await, 0);
    assert_eq!(store.read(key(4)).await, Found::Unknown);
    for lives in [1, 2, 3] {
        assert!(matches!(store.read(key(lives)).await, Found::Live(..)));
    }
    assert_eq!(store.read(key(5)).await, Found::Ended(logout(5)));
    assert_eq!(store.sweep(at(9999), 10).await, 1);
    assert_eq!(store.of_subject(1).await, HashSet::from([key(1), key(2), key(3)]));
    assert_eq!(store.of_provider_session(1).await, HashSet::from([key(1), key(2), key(3)]));
}

async fn a_sweep_keeps_to_its_limit(store: Handles) {
    for number in 0..7 {
        store.end(key(number), logout(5), at(10)).await;
    }
    let mut swept = Vec::new();
    for limit in [3, 0, 3, 3] {
        swept.push(store.sweep(at(10), limit).await);
    }
    assert_eq!(swept, [3, 0, 3, 1]);
    assert_eq!(store.list(None, 10).await, []);
}

async fn a_tombstone_stays_until_the_latest_time_asked_for(store: Handles) {
    store.end(key(1), logout(5), at(100)).await;
    store.end(key(1), logout(6), at(300)).await;
    store.end(key(1), logout(7), at(200)).await;
    assert_eq!(store.sweep(at(299), 10).await, 0);
    assert_eq!(store.read(key(1)).await, Found::Ended(logout(5)));
    assert_eq!(store.sweep(at(300), 10).await, 1);
    assert_eq!(store.read(key(1)).await, Found::Unknown);
}

async fn what_was_forgotten_can_be_kept_anew(store: Handles) {
    store.keep(key(1), &row(b"1")).await;
    store.replace(key(1), 1, &row(b"2")).await;
    store.end(key(1), logout(5), at(1000)).await;
    store.end(key(2), logout(5), at(1000)).await;
    assert_eq!(store.sweep(at(1000), 10).await, 2);
    for number in [1, 2] {
        store.keep(key(number), &row(b"new")).await;
        assert_eq!(store.read(key(number)).await, Found::Live(row(b"new"), 1));
    }
}

async fn of_a_mark_the_latest_time_counts(store: Handles) {
    assert_eq!(store.marked(1).await, None);
    assert_eq!(store.mark(1, 20, 100).await, None);
    assert_eq!(store.marked(1).await, Some(at(20)));
    assert_eq!(store.mark(1, 30, 100).await, Some(at(20)));
    assert_eq!(store.mark(1, 10, 100).await, Some(at(30)));
    assert_eq!(store.marked(1).await, Some(at(30)));
    assert_eq!(store.marked(2).await, None);
}

async fn a_mark_is_no_session(store: Handles) {
    let start = store.next().changes_since(None).await.expect("the store works").position;
    let same_name = SessionKey::from_bytes([1; 32]);
    store.mark(1, 20, 100).await;
    assert_eq!(store.read(same_name).await, Found::Unknown);
    assert_eq!(store.list(None, 10).await, []);
    assert_eq!(store.next().changes_since(Some(start)).await.expect("the store works").list, []);

    store.keep(same_name, &row(b"row")).await;
    store.end(same_name, logout(5), at(2000)).await;
    assert_eq!(store.sweep(at(2000), 10).await, 2);
    assert_eq!((store.read(same_name).await, store.marked(1).await), (Found::Unknown, None));
}

async fn a_sweep_forgets_old_marks_within_its_limit(store: Handles) {
    for (name, keep_until) in [(1, 100), (2, 101), (3, 102)] {
        store.mark(name, 5, keep_until).await;
    }
    store.mark(1, 6, 50).await;
    store.keep(key(1), &row(b"row")).await;
    store.end(key(1), logout(5), at(100)).await;
    assert_eq!(store.sweep(at(99), 10).await, 0, "the latest time asked for counts");
    assert_eq!(store.sweep(at(101), 2).await, 2, "a tombstone and a mark");
    assert_eq!(store.read(key(1)).await, Found::Unknown);
    assert_eq!((store.marked(1).await, store.marked(2).await), (None, Some(at(5))));
    assert_eq!(store.sweep(at(101), 10).await, 1);
    assert_eq!((store.marked(2).await, store.marked(3).await), (None, Some(at(5))));
    assert_eq!(store.mark(1, 7, 200).await, None, "what was forgotten can be marked anew");
    assert_eq!(store.sweep(at(102), 10).await, 1);
    assert_eq!(store.marked(1).await, Some(at(7)));
}

async fn of_parallel_marks_one_is_the_first(store: Handles) {
    for name in 0..20 {
        let mut tasks = JoinSet::new();
        for racer in 0..8 {
            let store = store.clone();
            tasks.spawn(async move { store.mark(name, racer, 100).await });
        }
        let before = tasks.join_all().await;
        assert_eq!(before.iter().filter(|before| before.is_none()).count(), 1, "{before:?}");
        assert_eq!(store.marked(name).await, Some(at(7)));
    }
}

async fn rows_of_any_size_are_kept(store: Handles) {
    // Around the sizes of pages, and a megabyte of tokens. Each byte matters: sealed records do not compress.
    let mut revision = 0;
    for size in [0, 1, 100, 4000, 4095, 4096, 4097, 20_000, 1 << 20, 10] {
        let content: Vec<u8> =
            (0..size as u64).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        if revision == 0 {
            store.keep(key(1), &row(&content)).await;
        } else {
            assert_eq!(store.replace(key(1), revision, &row(&content)).await, Replaced::Done(revision + 1));
        }
        revision += 1;
        assert_eq!(store.read(key(1)).await, Found::Live(row(&content), revision));
    }
}

async fn times_of_any_size_are_kept(store: Handles) {
    // Arithmetic on a `Timestamp` saturates at these.
    let (first, last) = (Timestamp::from_unix_millis(i64::MIN), Timestamp::from_unix_millis(i64::MAX));
    let forever = row_with(|index| index.ends_at = last);
    store.keep(key(1), &forever).await;
    assert_eq!(store.read(key(1)).await, Found::Live(forever, 1));
    let never = row_with(|index| index.ends_at = first);
    store.keep(key(2), &never).await;
    assert!(matches!(store.read(key(2)).await, Found::Live(..)));
    assert_eq!(store.ending(last, 10).await, [(key(2), first), (key(1), last)]);
    assert_eq!(store.ending(first, 10).await, [(key(2), first)]);
}

async fn every_change_is_told_in_order(store: Handles) {
    let changes = async |position| store.next().changes_since(position).await.expect("the store works");
    let start = changes(None).await;
    assert_eq!((start.list.as_slice(), start.missed), (&[][..], false));
    assert_eq!(changes(Some(start.position)).await, start, "nothing was written yet");

    store.keep(key(1), &row(b"1")).await;
    store.keep(key(2), &row(b"1")).await;
    store.replace(key(1), 1, &row(b"2")).await;
    store.replace(key(1), 2, &row_with(|index| index.subject = [2; 32])).await;
    let middle = changes(Some(start.position)).await;
    let expected = [
        Change::Written(key(1), 1),
        Change::Written(key(2), 1),
        Change::Written(key(1), 2),
        Change::Written(key(1), 3),
    ];
    assert_eq!((middle.list.as_slice(), middle.missed), (&expected[..], false));

    store.end(key(2), logout(5), at(2000)).await;
    store.end(key(3), logout(5), at(2000)).await;
    // Nothing changes by these.
    store.insert(key(1), &row(b"1")).await;
    store.insert(key(2), &row(b"1")).await;
    store.replace(key(1), 1, &row(b"3")).await;
    store.replace(key(2), 1, &row(b"3")).await;
    store.replace(key(4), 1, &row(b"3")).await;
    store.end(key(2), logout(6), at(3000)).await;
    store.sweep(at(4000), 10).await;
    let end = changes(Some(middle.position)).await;
    let expected = [Change::Ended(key(2)), Change::Ended(key(3))];
    assert_eq!((end.list.as_slice(), end.missed), (&expected[..], false));

    // Whoever comes now starts here; whoever asks from before hears it again.
    assert_eq!(changes(None).await.position, end.position);
    assert_eq!(changes(Some(start.position)).await.list.len(), 6);
    assert_eq!(changes(Some(end.position)).await.list, []);
}

async fn changes_long_ago_are_missed_and_not_left_out(store: Handles) {
    let changes = async |position| store.next().changes_since(position).await.expect("the store works");
    let start = changes(None).await.position;
    store.end(key(0), logout(5), at(2000)).await;
    let one = changes(Some(start)).await.position;

    // As many as are kept at least, and a few more. In parallel, which a store may make use of.
    let (writers, each) = (64, KEPT_CHANGES as u32 / 64);
    let mut tasks = JoinSet::new();
    for writer in 0..writers {
        let store = store.clone();
        tasks.spawn(async move {
            for number in 0..each {
                store.end(key(1 + writer * each + number), logout(5), at(2000)).await;
            }
        });
    }
    tasks.join_all().await;
    let kept = changes(Some(one)).await;
    assert_eq!((kept.list.len() as u64, kept.missed), (KEPT_CHANGES, false));

    // A store may keep more; then it tells of all of them.
    store.end(key(u32::MAX), logout(5), at(2000)).await;
    let all = changes(Some(start)).await;
    assert!(all.missed && all.list.is_empty() || all.list.len() as u64 == KEPT_CHANGES + 2);
    assert_eq!(changes(Some(all.position)).await.list, []);
    assert_eq!(changes(Some(kept.position)).await.list, [Change::Ended(key(u32::MAX))]);
}

async fn of_parallel_inserts_one_wins(store: Handles) {
    for number in 0..20 {
        let mut tasks = JoinSet::new();
        for racer in 0_u8..8 {
            let store = store.clone();
            tasks.spawn(async move { (racer, store.insert(key(number), &row(&[racer])).await) });
        }
        let outcomes = tasks.join_all().await;
        let winners: Vec<u8> = outcomes
            .iter()
            .filter(|(_, inserted)| *inserted == Inserted::Done)
            .map(|(racer, _)| *racer)
            .collect();
        assert_eq!(winners.len(), 1);
        assert!(outcomes.iter().all(|(_, inserted)| matches!(inserted, Inserted::Done | Inserted::Exists)));
        assert_eq!(store.read(key(number)).await, Found::Live(row(&winners), 1));
    }
}

async fn of_parallel_ends_one_finds_the_session(store: Handles) {
    for number in 0..20 {
        store.keep(key(number), &row(b"row")).await;
        let mut tasks = JoinSet::new();
        for racer in 0..8 {
            let store = store.clone();
            tasks.spawn(async move { (racer, store.end(key(number), logout(racer), at(2000)).await) });
        }
        let outcomes = tasks.join_all().await;
        let winners: Vec<i64> = outcomes
            .iter()
            .filter(|(_, ended)| matches!(ended, Ended::Now(_)))
            .map(|(racer, _)| *racer)
            .collect();
        assert_eq!(winners.len(), 1);
        let tombstone = logout(winners[0]);
        for (racer, ended) in outcomes {
            assert!(racer == winners[0] || ended == Ended::Before(tombstone), "{ended:?}");
        }
        assert_eq!(store.read(key(number)).await, Found::Ended(tombstone));
    }
}

async fn parallel_updates_lose_nothing(store: Handles) {
    const TASKS: u64 = 8;
    const EACH: u64 = 100;
    let counter = |count: u64| Row {
        sealed: count.to_be_bytes().to_vec(),
        // Another index entry each time, so that the indexes keep step.
        ..row_with(|index| index.ends_at = at(i64::try_from(count).expect("a small number")))
    };
    store.keep(key(1), &counter(0)).await;
    let mut tasks = JoinSet::new();
    for _ in 0..TASKS {
        let store = store.clone();
        tasks.spawn(async move {
            let Found::Live(mut row, mut revision) = store.read(key(1)).await else { panic!("it is there") };
            for _ in 0..EACH {
                loop {
                    let count = u64::from_be_bytes(row.sealed.as_slice().try_into().expect("eight bytes"));
                    assert_eq!(revision, count + 1, "row and revision belong together");
                    let next = counter(count + 1);
                    match store.replace(key(1), revision, &next).await {
                        Replaced::Done(written) => {
                            assert_eq!(written, revision + 1);
                            (row, revision) = (next, written);
                            break;
                        }
                        Replaced::Conflict(there, at) => (row, revision) = (there, at),
                        other => panic!("{other:?}"),
                    }
                }
            }
        });
    }
    tasks.join_all().await;
    assert_eq!(store.read(key(1)).await, Found::Live(counter(TASKS * EACH), TASKS * EACH + 1));
    assert_eq!(store.ending(at(9999), 10).await, [(key(1), at(800))]);
}

async fn an_end_beats_updates_in_flight(store: Handles) {
    for number in 0..20 {
        store.keep(key(number), &row(b"row")).await;
        let mut updates = JoinSet::new();
        for _ in 0..4 {
            let store = store.clone();
            updates.spawn(async move {
                let mut revision = 1;
                loop {
                    match store.replace(key(number), revision, &row(b"updated")).await {
                        Replaced::Done(written) | Replaced::Conflict(_, written) => revision = written,
                        Replaced::Ended(tombstone) => return tombstone,
                        Replaced::Unknown => panic!("a session that was there is unknown"),
                    }
                    // A store that never waits would keep the end from having its turn.
                    tokio::task::yield_now().await;
                }
            });
        }
        let ender = store.clone();
        let ended = tokio::spawn(async move {
            tokio::task::yield_now().await;
            let ended = ender.end(key(number), logout(5), at(2000)).await;
            // From the moment of the answer on.
            (ended, ender.read(key(number)).await)
        });
        let (ended, after) = ended.await.expect("it ends");
        assert!(matches!(ended, Ended::Now(_)), "{ended:?}");
        assert_eq!(after, Found::Ended(logout(5)));
        for tombstone in updates.join_all().await {
            assert_eq!(tombstone, logout(5));
        }
        assert_eq!(store.read(key(number)).await, Found::Ended(logout(5)));
        assert_eq!(store.of_subject(1).await, HashSet::new());
    }
}

async fn a_reseal_overtakes_no_update(store: Handles) {
    // A writer counts up; whoever reseals puts what is there into another form (as if under another key) all the while.
    const UPDATES: u64 = 100;
    let form = |number: u64, form: u64| row(&[number.to_be_bytes(), form.to_be_bytes()].concat());
    store.keep(key(1), &form(1, 0)).await;
    let writer = store.clone();
    let counting = tokio::spawn(async move {
        for revision in 1..=UPDATES {
            let replaced = writer.replace(key(1), revision, &form(revision + 1, 0)).await;
            assert_eq!(replaced, Replaced::Done(revision + 1), "no reseal is in its way");
        }
    });
    let mut resealers = JoinSet::new();
    for number in 1..=4 {
        let store = store.clone();
        resealers.spawn(async move {
            let mut done = 0;
            // To the end of the count, and until each was in time once.
            loop {
                let Found::Live(there, revision) = store.read(key(1)).await else { panic!("it lives") };
                let sealed = [&there.sealed[..8], &u64::to_be_bytes(number)].concat();
                if store.reseal(key(1), &there.sealed, &sealed).await == Resealed::Done {
                    done += 1;
                }
                if revision == UPDATES + 1 && done > 0 {
                    break;
                }
                tokio::task::yield_now().await;
            }
        });
    }
    counting.await.expect("it counts to the end");
    resealers.join_all().await;
    let Found::Live(there, revision) = store.read(key(1)).await else { panic!("it lives") };
    assert_eq!((&there.sealed[..8], revision), (&(UPDATES + 1).to_be_bytes()[..], UPDATES + 1));
}

async fn parallel_sweeps_count_each_session_once(store: Handles) {
    for number in 0..100 {
        store.end(key(number), logout(5), at(10)).await;
    }
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let store = store.clone();
        tasks.spawn(async move { store.sweep(at(10), 20).await });
    }
    assert_eq!(tasks.join_all().await.into_iter().sum::<usize>(), 100);
}

async fn what_one_task_was_told_all_others_see(store: Handles) {
    store.keep(key(1), &row(b"row")).await;
    for revision in 1..=50 {
        assert_eq!(store.replace(key(1), revision, &row(b"row")).await, Replaced::Done(revision + 1));
        // As many readers as there may be connections, each a handle and a task of its own.
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let store = store.clone();
            tasks.spawn(async move { store.read(key(1)).await });
        }
        for found in tasks.join_all().await {
            assert_eq!(found, Found::Live(row(b"row"), revision + 1));
        }
    }
}

async fn an_operation_dropped_midway_is_whole(store: Handles) {
    // However far it got: an operation is not yet begun, in a queue, at work, or done and not yet answered.
    for polls in 0..12 {
        let key = key(polls);

        poll_then_drop(polls, store.next().insert(key, row(b"old"))).await;
        // Whole or not at all, now or soon: whichever it is, this one comes to the same.
        let inserted = store.insert(key, &row(b"old")).await;
        assert!(matches!(inserted, Inserted::Done | Inserted::Exists));
        assert_eq!(store.read(key).await, Found::Live(row(b"old"), 1));

        let new = Row { sealed: b"new".to_vec(), ..row_with(|index| index.subject = [2; 32]) };
        poll_then_drop(polls, store.next().replace(key, 1, new.clone())).await;
        match store.read(key).await {
            Found::Live(there, 1) => assert_eq!(there, row(b"old")),
            Found::Live(there, 2) => assert_eq!(there, new),
            other => panic!("{other:?}"),
        }
        let revision = match store.replace(key, 1, &new).await {
            Replaced::Done(revision) | Replaced::Conflict(_, revision) => revision,
            other => panic!("{other:?}"),
        };
        assert_eq!(store.read(key).await, Found::Live(new.clone(), revision));
        assert_eq!(revision, 2, "it was written once");
        assert!(store.of_subject(2).await.contains(&key));

        poll_then_drop(polls, store.next().reseal(key, b"new".to_vec(), b"NEW".to_vec())).await;
        store.reseal(key, b"new", b"NEW").await;
        let new = Row { sealed: b"NEW".to_vec(), ..new };
        assert_eq!(store.read(key).await, Found::Live(new.clone(), 2));

        poll_then_drop(polls, store.next().end(key, logout(1), at(2000), None)).await;
        let tombstone = match store.end(key, logout(2), at(2000)).await {
            Ended::Now(there) => {
                assert_eq!(there, new);
                logout(2)
            }
            Ended::Before(tombstone) => tombstone,
            Ended::Unknown => panic!("a session that was there is unknown"),
        };
        assert_eq!(store.read(key).await, Found::Ended(tombstone));
        assert_eq!(store.of_subject(2).await, HashSet::new());
        assert_eq!(store.of_provider_session(1).await, HashSet::new());
        assert_eq!(store.ending(at(9999), 10).await, []);
    }
}

async fn poll_then_drop<T>(polls: u32, operation: impl Future<Output = Result<T, StoreError>>) {
    let mut operation = pin!(operation);
    for _ in 0..polls {
        let done = poll_fn(|context| Poll::Ready(operation.as_mut().poll(context).is_ready())).await;
        if done {
            return;
        }
        tokio::task::yield_now().await;
    }
}
