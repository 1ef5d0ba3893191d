//! Through all that a store holds: which keys sealed it, and, where that is wanted, sealed anew with the current one.

use std::{collections::BTreeMap, sync::Arc};

use tokio::task::JoinSet;

use super::{KeyId, Keyring, OpenError, Purpose};
use crate::{
    clock::Entropy,
    session::SessionKey,
    store::{Listed, Resealed, Store, StoreError},
};

/// A way through all sessions of a store, live and ended, in the order of their keys.
///
/// Gates may serve from the store meanwhile: what they write wins, and nothing that they see changes. A way that is broken
/// off leaves every session readable, sealed with one key or the other; a new one finds what is left to do.
pub struct Resealing {
    store: Arc<dyn Store>,
    does: Does,
    last: Option<SessionKey>,
    counts: SealCounts,
}

enum Does {
    Count,
    Seal { keyring: Keyring, entropy: Arc<dyn Entropy> },
}

/// What was found so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SealCounts {
    /// By the key that seals them, as they are left behind.
    pub by_key: BTreeMap<KeyId, SealCount>,
    /// How many are not in a format that this version knows.
    pub in_no_format: u64,
    /// How many were sealed anew.
    pub resealed: u64,
    /// How many were written by somebody else meanwhile, and are counted as they were before.
    pub overtaken: u64,
    /// How many name a key that we have, and do not open with it: they are damaged.
    pub damaged: u64,
}

/// How many sessions a key seals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealCount {
    /// Those that live.
    pub live: u64,
    /// Those that ended and of which something is left to read.
    pub ended: u64,
}

impl SealCount {
    /// Both.
    pub fn all(self) -> u64 {
        self.live + self.ended
    }
}

impl Resealing {
    /// Counts, and changes nothing.
    pub fn counting(store: Arc<dyn Store>) -> Self {
        Self::new(store, Does::Count)
    }

    /// Seals with the ring's current key whatever another of its keys sealed.
    pub fn with(store: Arc<dyn Store>, keyring: Keyring, entropy: Arc<dyn Entropy>) -> Self {
        Self::new(store, Does::Seal { keyring, entropy })
    }

    fn new(store: Arc<dyn Store>, does: Does) -> Self {
        Self { store, does, last: None, counts: SealCounts::default() }
    }

    /// Takes the next sessions, `limit` at most; whether there were any. Those of one call may share a commit, which other
    /// writes wait for: some hundreds are a good number.
    ///
    /// Fails if the store does. Dropping the future is safe; what it was about may be done or not.
    pub async fn step(&mut self, limit: usize) -> Result<bool, StoreError> {
        let page = self.store.list(self.last, limit).await?;
        let Some((last, _)) = page.last() else { return Ok(false) };
        self.last = Some(*last);
        let mut at_work = JoinSet::new();
        for (key, listed) in page {
            let (purpose, sealed) = match listed {
                Listed::Live(row, _) => (Purpose::SessionRecord, row.sealed),
                Listed::Ended(_, Some(note)) => (Purpose::EndedSession, note),
                Listed::Ended(_, None) => continue,
            };
            let Some(by) = KeyId::of_sealed(&sealed) else {
                self.counts.in_no_format += 1;
                continue;
            };
            match self.does.seal(purpose, key, &sealed) {
                Sealed::Stays => self.counts.add(by, purpose),
                Sealed::IsDamaged => {
                    self.counts.damaged += 1;
                    self.counts.add(by, purpose);
                }
                Sealed::Anew(anew, with) => {
                    let store = self.store.clone();
                    at_work.spawn(async move { (by, with, purpose, store.reseal(key, sealed, anew).await) });
                }
            }
        }
        while let Some(done) = at_work.join_next().await {
            let Ok((by, with, purpose, done)) = done else { continue };
            match done? {
                Resealed::Done => {
                    self.counts.resealed += 1;
                    self.counts.add(with, purpose);
                }
                Resealed::Overtaken => {
                    self.counts.overtaken += 1;
                    self.counts.add(by, purpose);
                }
            }
        }
        Ok(true)
    }

    /// How much of the way is behind us, from 0 to 1: keys are hashes, so they lie evenly.
    pub fn fraction(&self) -> f64 {
        let Some(first) = self.last.as_ref().and_then(|key| key.as_bytes().first_chunk().copied()) else {
            return 0.0;
        };
        f64::from(u32::from_be_bytes(first)) / f64::from(u32::MAX)
    }

    /// What was found so far.
    pub fn counts(&self) -> &SealCounts {
        &self.counts
    }
}

/// What becomes of sealed bytes.
enum Sealed {
    Stays,
    IsDamaged,
    Anew(Vec<u8>, KeyId),
}

impl Does {
    fn seal(&self, purpose: Purpose, key: SessionKey, sealed: &[u8]) -> Sealed {
        let Self::Seal { keyring, entropy } = self else { return Sealed::Stays };
        if keyring.is_current(sealed) {
            return Sealed::Stays;
        }
        match keyring.open(purpose, key.as_bytes(), sealed) {
            Ok(plain) => {
                let anew = keyring.seal(&**entropy, purpose, key.as_bytes(), &plain);
                match KeyId::of_sealed(&anew) {
                    Some(with) => Sealed::Anew(anew, with),
                    None => Sealed::Stays,
                }
            }
            Err(OpenError::UnknownKey) => Sealed::Stays,
            Err(OpenError::Tampered | OpenError::Malformed) => Sealed::IsDamaged,
        }
    }
}

impl SealCounts {
    fn add(&mut self, by: KeyId, purpose: Purpose) {
        let count = self.by_key.entry(by).or_default();
        match purpose {
            Purpose::EndedSession => count.ended += 1,
            Purpose::SessionRecord | Purpose::LoginFlow | Purpose::PreparedLogin => count.live += 1,
        }
    }

    /// How many sessions this key seals.
    pub fn of(&self, key: KeyId) -> SealCount {
        self.by_key.get(&key).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use freshgate_oidc::{Secret, Timestamp};

    use super::*;
    use crate::{
        clock::SystemEntropy,
        keyring::{Key, Keys},
        session::EndReason,
        store::{Index, MemoryStore, Row, Tombstone},
    };

    fn key(secret: &str) -> Key {
        Key::from_secret(&Secret::new(secret))
    }

    fn ring(seals: &str, opens: &[&str]) -> Keyring {
        Keyring::new(Keys { seals: key(seals), opens: opens.iter().map(|secret| key(secret)).collect() })
    }

    fn session(number: u32) -> SessionKey {
        SessionKey::from_bytes(freshgate_oidc::sha256(&number.to_be_bytes()))
    }

    const NOW: Timestamp = Timestamp::from_unix_seconds(1_800_000_000);

    async fn keep(store: &MemoryStore, number: u32, sealed: Vec<u8>) {
        let index = Index { subject: [1; 32], provider_session: None, ends_at: NOW };
        store.insert(session(number), Row { sealed, index }).await.unwrap();
    }

    fn sealed(ring: &Keyring, purpose: Purpose, number: u32) -> Vec<u8> {
        ring.seal(&SystemEntropy, purpose, session(number).as_bytes(), &number.to_be_bytes())
    }

    /// Ten sessions under the old key, of which five ended; one that the new key seals; one of a stranger; one damaged, one
    /// in no format, and one that ended and left nothing to read.
    async fn store() -> MemoryStore {
        let store = MemoryStore::new();
        let old = ring("old", &[]);
        for number in 0..10 {
            keep(&store, number, sealed(&old, Purpose::SessionRecord, number)).await;
        }
        let tombstone = Tombstone { reason: EndReason::Logout, ended_at: NOW };
        for number in 5..10 {
            let note = sealed(&old, Purpose::EndedSession, number);
            store.end(session(number), tombstone, NOW, Some(note)).await.unwrap();
        }
        keep(&store, 10, sealed(&ring("new", &[]), Purpose::SessionRecord, 10)).await;
        keep(&store, 11, sealed(&ring("stranger", &[]), Purpose::SessionRecord, 11)).await;
        keep(&store, 12, sealed(&old, Purpose::SessionRecord, 99)).await;
        keep(&store, 13, b"something else".to_vec()).await;
        store.end(session(14), tombstone, NOW, None).await.unwrap();
        store
    }

    async fn all(mut way: Resealing) -> SealCounts {
        let mut before = 0.0;
        while way.step(3).await.unwrap() {
            assert!(way.fraction() > before && way.fraction() <= 1.0);
            before = way.fraction();
        }
        way.counts().clone()
    }

    fn count(live: u64, ended: u64) -> SealCount {
        SealCount { live, ended }
    }

    #[tokio::test]
    async fn counting_tells_which_key_seals_what() {
        let store: Arc<dyn Store> = Arc::new(store().await);
        let before = store.list(None, 100).await.unwrap();
        let counts = all(Resealing::counting(store.clone())).await;
        assert_eq!(counts.of(key("old").id()), count(6, 5));
        assert_eq!(counts.of(key("new").id()), count(1, 0));
        assert_eq!(counts.of(key("stranger").id()), count(1, 0));
        assert_eq!(counts.of(key("nobody").id()), count(0, 0));
        assert_eq!((counts.in_no_format, counts.resealed, counts.damaged), (1, 0, 0));
        assert_eq!(store.list(None, 100).await.unwrap(), before, "nothing has changed");
    }

    #[tokio::test]
    async fn whatever_opens_is_sealed_with_the_current_key() {
        let store: Arc<dyn Store> = Arc::new(store().await);
        let new = ring("new", &["old"]);
        let way = || Resealing::with(store.clone(), new.clone(), Arc::new(SystemEntropy));
        let counts = all(way()).await;
        assert_eq!(counts.of(key("new").id()), count(6, 5));
        assert_eq!(counts.of(key("old").id()), count(1, 0), "the damaged one");
        assert_eq!((counts.resealed, counts.overtaken, counts.damaged, counts.in_no_format), (10, 0, 1, 1));

        let alone = ring("new", &[]);
        for (key, listed) in store.list(None, 100).await.unwrap() {
            let (purpose, sealed) = match listed {
                Listed::Live(row, revision) => {
                    assert_eq!(revision, 1);
                    (Purpose::SessionRecord, row.sealed)
                }
                Listed::Ended(_, Some(note)) => (Purpose::EndedSession, note),
                Listed::Ended(_, None) => continue,
            };
            let number = (0..=10).find(|number| session(*number) == key);
            let opened = alone.open(purpose, key.as_bytes(), &sealed).ok().map(|plain| plain.to_vec());
            assert_eq!(opened, number.map(|number| number.to_be_bytes().to_vec()));
        }
        let again = all(way()).await;
        assert_eq!((again.resealed, again.by_key), (0, counts.by_key));
    }
}
