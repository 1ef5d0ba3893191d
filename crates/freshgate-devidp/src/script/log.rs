//! The log of requests, for tests to look at.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::{Body, to_bytes};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::Script;
use super::seen::{Endpoint, Seen, fingerprint};
use crate::provider::Provider;
use crate::state::GrantId;

/// Older entries are dropped.
const LONGEST: usize = 100_000;

/// What has been seen since the log was last cleared.
#[derive(Default)]
pub(super) struct RequestLog(Mutex<Log>);

#[derive(Default)]
struct Log {
    /// Goes on over a clearing, so that what was under way then does not write into a later entry.
    last_seq: u64,
    first_seq: u64,
    entries: VecDeque<Entry>,
    requests: BTreeMap<Endpoint, u64>,
    in_flight: BTreeMap<Endpoint, InFlight>,
    refreshes_of_grant: HashMap<GrantId, usize>,
    most_refreshes_of_a_grant: usize,
}

#[derive(Clone, Copy, Default, Serialize)]
struct InFlight {
    now: usize,
    high_water: usize,
}

/// One request.
#[derive(Clone, Serialize)]
struct Entry {
    seq: u64,
    endpoint: &'static str,
    start_ms: i64,
    end_ms: Option<i64>,
    grant_type: Option<String>,
    client_id: Option<String>,
    client_auth: Option<&'static str>,
    grant: Option<GrantId>,
    sub: Option<String>,
    refresh_presented: Option<String>,
    refresh_issued: Option<String>,
    status: Option<u16>,
    error: Option<String>,
    fate: Fate,
}

/// What became of a request on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    InFlight,
    Answered,
    /// We closed the connection.
    Cut,
    /// The client did, before there was an answer.
    ClientLeft,
}

/// A request that is on the wire: a client waits for its answer.
pub(super) struct OnTheWire {
    script: Arc<Script>,
    seq: u64,
    endpoint: Endpoint,
    refreshes: Option<GrantId>,
    fate: Fate,
}

impl OnTheWire {
    pub(super) fn begin(script: &Arc<Script>, seen: &Seen) -> OnTheWire {
        let refreshes = seen.grant.filter(|_| seen.endpoint == Endpoint::TokenRefresh);
        let start_ms = script.provider.now().millis();
        let seq =
            script.log.0.lock().unwrap_or_else(PoisonError::into_inner).begin(seen, refreshes, start_ms);
        OnTheWire {
            script: Arc::clone(script),
            seq,
            endpoint: seen.endpoint,
            refreshes,
            fate: Fate::ClientLeft,
        }
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn end(mut self, fate: Fate) {
        self.fate = fate;
    }
}

impl Drop for OnTheWire {
    fn drop(&mut self) {
        let end_ms = self.script.provider.now().millis();
        let log = &mut *self.script.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = log.entry(self.seq) {
            entry.end_ms = Some(end_ms);
            entry.fate = self.fate;
        }
        if let Some(in_flight) = log.in_flight.get_mut(&self.endpoint) {
            in_flight.now = in_flight.now.saturating_sub(1);
        }
        if let Some(grant) = self.refreshes
            && let Some(count) = log.refreshes_of_grant.get_mut(&grant)
        {
            *count -= 1;
            if *count == 0 {
                log.refreshes_of_grant.remove(&grant);
            }
        }
    }
}

impl Log {
    fn begin(&mut self, seen: &Seen, refreshes: Option<GrantId>, start_ms: i64) -> u64 {
        self.last_seq += 1;
        let seq = self.last_seq;
        if self.entries.is_empty() {
            self.first_seq = seq;
        }
        if self.entries.len() == LONGEST {
            self.entries.pop_front();
            self.first_seq += 1;
        }
        self.entries.push_back(Entry {
            seq,
            endpoint: seen.endpoint.name(),
            start_ms,
            end_ms: None,
            grant_type: seen.grant_type.clone(),
            client_id: seen.client_id.clone(),
            client_auth: seen.client_auth,
            grant: seen.grant,
            sub: seen.sub.clone(),
            refresh_presented: seen.refresh_presented.clone(),
            refresh_issued: None,
            status: None,
            error: None,
            fate: Fate::InFlight,
        });
        *self.requests.entry(seen.endpoint).or_default() += 1;
        let in_flight = self.in_flight.entry(seen.endpoint).or_default();
        in_flight.now += 1;
        in_flight.high_water = in_flight.high_water.max(in_flight.now);
        if let Some(grant) = refreshes {
            let count = self.refreshes_of_grant.entry(grant).or_default();
            *count += 1;
            self.most_refreshes_of_a_grant = self.most_refreshes_of_a_grant.max(*count);
        }
        seq
    }

    fn entry(&mut self, seq: u64) -> Option<&mut Entry> {
        let index = usize::try_from(seq.checked_sub(self.first_seq)?).ok()?;
        self.entries.get_mut(index)
    }
}

impl RequestLog {
    /// Notes what the provider made of a request, whether or not the answer arrives.
    pub(super) async fn handled(&self, seq: u64, provider: &Provider, response: Response) -> Response {
        let (parts, body) = response.into_parts();
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let issued = answer["refresh_token"].as_str();
        let grant = issued.and_then(|token| provider.seal.read_refresh_token(token)).map(|token| token.grant);
        let sub = grant.and_then(|id| provider.ledger.read(|state| Some(state.grant(id)?.sub.clone())));
        if let Some(entry) = self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(seq) {
            entry.status = Some(parts.status.as_u16());
            entry.error = answer["error"].as_str().map(str::to_owned);
            entry.refresh_issued = issued.map(fingerprint);
            entry.grant = entry.grant.or(grant);
            entry.sub = entry.sub.take().or(sub);
        }
        Response::from_parts(parts, Body::from(body))
    }

    /// The entries after `after`, with the counters.
    pub(super) fn show(&self, after: u64, provider: &Provider) -> Value {
        let log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = |counts: &BTreeMap<Endpoint, u64>| -> BTreeMap<&str, u64> {
            counts.iter().map(|(endpoint, count)| (endpoint.name(), *count)).collect()
        };
        let in_flight: BTreeMap<&str, InFlight> =
            log.in_flight.iter().map(|(endpoint, in_flight)| (endpoint.name(), *in_flight)).collect();
        let entries: Vec<&Entry> = log.entries.iter().filter(|entry| entry.seq > after).collect();
        json!({
            "entries": entries,
            "requests": named(&log.requests),
            "in_flight": in_flight,
            "connections": InFlight {
                now: provider.connections.now(),
                high_water: provider.connections.high_water(),
            },
            "max_in_flight_per_grant": log.most_refreshes_of_a_grant,
            "reuse_detected": provider.ledger.read(|state| state.reuse_detected()),
        })
    }

    pub(super) fn clear(&self, provider: &Provider) {
        provider.ledger.change(|state| state.forget_reuse());
        provider.connections.forget();
        let log = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        log.entries.clear();
        log.first_seq = log.last_seq + 1;
        log.requests.clear();
        log.in_flight.values_mut().for_each(|in_flight| in_flight.high_water = in_flight.now);
        log.most_refreshes_of_a_grant = log.refreshes_of_grant.values().copied().max().unwrap_or(0);
    }
}
