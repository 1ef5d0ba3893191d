//! Sessions by the thousand.

use freshgate::{
    clock::SystemEntropy,
    keyring::{KeyId, Keyring, Purpose},
    session::{SessionId, SessionKey},
    store::{Found, Index, Listed, Row, SqliteStore, Store},
};

/// How many are written in one transaction.
const AT_ONCE: usize = 5_000;

/// The id of one of the sessions, as a browser has it.
pub(crate) fn id(number: u32) -> SessionId {
    SessionId::parse(&format!("{number:0>43}")).unwrap()
}

pub(crate) fn key(number: u32) -> SessionKey {
    id(number).key()
}

/// Keeps that many, each with what `plain` says.
pub(crate) async fn fill(
    store: &SqliteStore,
    how_many: u32,
    ring: &Keyring,
    index: Index,
    plain: impl Fn(u32) -> Vec<u8>,
) {
    let keep = |number: u32| {
        let key = key(number);
        let sealed = ring.seal(&SystemEntropy, Purpose::SessionRecord, key.as_bytes(), &plain(number));
        let row = Row { sealed, index: index.clone() };
        async move { store.insert(key, row).await.unwrap() }
    };
    for first in (0..how_many).step_by(AT_ONCE) {
        let last = how_many.min(first.saturating_add(u32::try_from(AT_ONCE).unwrap()));
        futures_util::future::join_all((first..last).map(keep)).await;
    }
}

/// How many live sessions this key seals, and how many there are.
pub(crate) async fn sealed_with(store: &SqliteStore, id: KeyId) -> (usize, usize) {
    let (mut found, mut seen, mut last) = (0, 0, None);
    loop {
        let page = store.list(last, 1000).await.unwrap();
        let Some((key, _)) = page.last() else { return (found, seen) };
        last = Some(*key);
        seen += page.len();
        let by = |listed: &Listed| match listed {
            Listed::Live(row, _) => KeyId::of_sealed(&row.sealed) == Some(id),
            Listed::Ended(..) => panic!("it ended"),
        };
        found += page.iter().filter(|(_, listed)| by(listed)).count();
    }
}

/// Whether this key seals this session.
pub(crate) async fn is_sealed_with(store: &SqliteStore, session: SessionKey, id: KeyId) -> bool {
    let Found::Live(row, _) = store.read(session).await.unwrap() else { panic!("it lives") };
    KeyId::of_sealed(&row.sealed) == Some(id)
}

/// The sessions in the order in which a rotation goes through them.
pub(crate) fn in_order(how_many: u32) -> Vec<SessionKey> {
    let mut keys: Vec<_> = (0..how_many).map(key).collect();
    keys.sort();
    keys
}
