//! What a request with a fresh session costs: one read of the store when nothing of it is in memory, none when it is, and
//! never a request to the provider.

use std::{
    ops::AddAssign,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use freshgate::{
    Engine, Timestamp,
    engine::{Opened, RefreshOutcome},
    events::SessionEvent,
    provider::{ProviderAnswer, ProviderRequest, Refreshing, Transport, TransportError},
    session::{EndReason, SessionKey},
    store::{
        Changes, Ended, EndedAt, Found, Inserted, Listed, Note, Position, Replaced, Resealed, Revision, Row,
        Store, StoreError, Tombstone,
    },
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    provider::ScriptedProvider,
    setting::{DEADLINE, Setting, engine_of, until},
};

/// What an engine asked of others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cost {
    pub(crate) reads: usize,
    pub(crate) writes: usize,
    pub(crate) searches: usize,
    pub(crate) provider: usize,
}

const NOTHING: Cost = Cost { reads: 0, writes: 0, searches: 0, provider: 0 };
const ONE_READ: Cost = Cost { reads: 1, ..NOTHING };

/// A store and a provider that count who asks.
pub(crate) struct Counted {
    store: Arc<dyn Store>,
    provider: Arc<ScriptedProvider>,
    cost: Mutex<Cost>,
    /// How often somebody asked what others had written: once in a while, and for no request.
    followed: Mutex<usize>,
}

impl Counted {
    fn count(&self, what: fn(&mut Cost) -> &mut usize) {
        what(&mut self.cost.lock().unwrap()).add_assign(1);
    }

    /// What it came to since the last time.
    pub(crate) fn cost(&self) -> Cost {
        std::mem::take(&mut self.cost.lock().unwrap())
    }
}

#[async_trait]
impl Store for Counted {
    async fn insert(&self, key: SessionKey, row: Row) -> Result<Inserted, StoreError> {
        self.count(|cost| &mut cost.writes);
        self.store.insert(key, row).await
    }

    async fn read(&self, key: SessionKey) -> Result<Found, StoreError> {
        self.count(|cost| &mut cost.reads);
        // Others get their turn, as they do while a disk is at work.
        tokio::task::yield_now().await;
        self.store.read(key).await
    }

    async fn replace(&self, key: SessionKey, expected: Revision, row: Row) -> Result<Replaced, StoreError> {
        self.count(|cost| &mut cost.writes);
        self.store.replace(key, expected, row).await
    }

    async fn end(
        &self,
        key: SessionKey,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<Ended, StoreError> {
        self.count(|cost| &mut cost.writes);
        self.store.end(key, tombstone, keep_until, note).await
    }

    async fn end_at(
        &self,
        key: SessionKey,
        expected: Revision,
        tombstone: Tombstone,
        keep_until: Timestamp,
        note: Note,
    ) -> Result<EndedAt, StoreError> {
        self.count(|cost| &mut cost.writes);
        self.store.end_at(key, expected, tombstone, keep_until, note).await
    }

    async fn reseal(
        &self,
        key: SessionKey,
        before: Vec<u8>,
        sealed: Vec<u8>,
    ) -> Result<Resealed, StoreError> {
        self.count(|cost| &mut cost.writes);
        self.store.reseal(key, before, sealed).await
    }

    async fn list(
        &self,
        after: Option<SessionKey>,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Listed)>, StoreError> {
        self.count(|cost| &mut cost.searches);
        self.store.list(after, limit).await
    }

    async fn of_subject(&self, subject: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        self.count(|cost| &mut cost.searches);
        self.store.of_subject(subject).await
    }

    async fn of_provider_session(&self, sid: [u8; 32]) -> Result<Vec<SessionKey>, StoreError> {
        self.count(|cost| &mut cost.searches);
        self.store.of_provider_session(sid).await
    }

    async fn mark(
        &self,
        name: [u8; 32],
        at: Timestamp,
        keep_until: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        self.count(|cost| &mut cost.writes);
        self.store.mark(name, at, keep_until).await
    }

    async fn marked(&self, name: [u8; 32]) -> Result<Option<Timestamp>, StoreError> {
        self.count(|cost| &mut cost.reads);
        self.store.marked(name).await
    }

    async fn ending(
        &self,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<(SessionKey, Timestamp)>, StoreError> {
        self.count(|cost| &mut cost.searches);
        self.store.ending(until, limit).await
    }

    async fn sweep(&self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.count(|cost| &mut cost.writes);
        self.store.sweep(now, limit).await
    }

    async fn changes_since(&self, position: Option<Position>) -> Result<Changes, StoreError> {
        self.followed.lock().unwrap().add_assign(1);
        self.store.changes_since(position).await
    }
}

#[async_trait]
impl Transport for Counted {
    async fn send(&self, request: ProviderRequest) -> Result<ProviderAnswer, TransportError> {
        self.count(|cost| &mut cost.provider);
        self.provider.send(request).await
    }
}

/// An engine that changes sessions, and another on the same store of which every question is counted.
fn counted() -> (Setting, Engine, Arc<Counted>) {
    counted_in(Setting::new())
}

pub(crate) fn counted_in(setting: Setting) -> (Setting, Engine, Arc<Counted>) {
    let counted = Arc::new(Counted {
        store: setting.store.clone(),
        provider: setting.provider.clone(),
        cost: Mutex::default(),
        followed: Mutex::default(),
    });
    let engine = engine_of(setting.clock.clone(), counted.clone(), counted.clone(), Refreshing::default());
    (setting, engine, counted)
}

async fn ask(engine: &Engine, key: SessionKey) {
    assert!(matches!(engine.open(key).await.unwrap(), Opened::Open(_)));
    let (_, outcome) = engine.fresh(key, None, DEADLINE).await.unwrap();
    assert_eq!(outcome, RefreshOutcome::NotNeeded);
}

#[tokio::test]
async fn a_fresh_session_costs_one_read_and_then_none() {
    let (setting, engine, counted) = counted();
    let key = setting.signed_in().await.key();
    ask(&engine, key).await;
    assert_eq!(counted.cost(), ONE_READ, "cold");
    for _ in 0..100 {
        ask(&engine, key).await;
    }
    assert_eq!(counted.cost(), NOTHING, "warm");

    let key = setting.signed_in().await.key();
    let together = (0..20).map(|_| {
        let engine = engine.clone();
        tokio::spawn(async move { ask(&engine, key).await })
    });
    for one in together.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    assert_eq!(counted.cost(), ONE_READ, "cold, and twenty at once");
}

#[tokio::test(start_paused = true)]
async fn a_change_by_another_engine_costs_one_read() {
    let (setting, engine, counted) = counted();
    let (key, other) = (setting.signed_in().await.key(), setting.signed_in().await.key());
    tokio::spawn(engine.clone().watch_neighbours(CancellationToken::new()));
    until("it follows", || *counted.followed.lock().unwrap() > 1).await;
    ask(&engine, key).await;
    ask(&engine, other).await;
    assert_eq!(counted.cost(), Cost { reads: 2, ..NOTHING });

    let mut events = engine.events();
    setting.provider.set_claim("name", json!("Alice Cooper"));
    let (refreshed, _) = setting.engine.refresh(key, DEADLINE).await.unwrap();
    // Within a second, and not at some time.
    let told = tokio::time::timeout(Duration::from_secs(1), async {
        loop {
            match events.recv().await.unwrap() {
                SessionEvent::Changed { key: changed, generation: 2, .. } if changed == key => return,
                _ => {}
            }
        }
    });
    told.await.unwrap();
    let Opened::Open(session) = engine.open(key).await.unwrap() else { panic!("not open") };
    assert_eq!(session.claims()["name"], "Alice Cooper");
    assert_eq!(session.tokens().access_token, *refreshed.access_token());
    assert_eq!(counted.cost(), ONE_READ, "what was changed is read once");
    for _ in 0..10 {
        ask(&engine, key).await;
        ask(&engine, other).await;
    }
    assert_eq!(counted.cost(), NOTHING, "and what was not is in memory still");

    setting.engine.end(key, EndReason::Logout).await.unwrap();
    let told = async { while !matches!(events.recv().await.unwrap(), SessionEvent::Ended { .. }) {} };
    tokio::time::timeout(Duration::from_secs(1), told).await.unwrap();
    assert!(matches!(engine.open(key).await.unwrap(), Opened::Ended(EndReason::Logout)));
    assert_eq!(counted.cost(), ONE_READ);
}
