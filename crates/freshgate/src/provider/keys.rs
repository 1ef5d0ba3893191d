//! A provider's signing keys: fetched at first use, and again when a token names one that is not known.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use freshgate_oidc::{JwkSet, JwkSetError, Timestamp};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::{Connection, ProviderRequest, Transport, TransportError, single::SingleRun};
use crate::{clock::Clock, tasks::Tasks};

/// How long keys are taken as they are. A key that the provider withdrew is trusted no longer than this.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Tokens with an unknown key make us ask at most this often, whatever comes of it: they may come from anyone. The first
/// fetch is not one of these: keys may be replaced a moment after it.
const REFETCH_PAUSE: Duration = Duration::from_secs(5);
/// A provider that did not yield its keys is asked again after this long.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// The largest key set that is read.
const LIMIT: usize = 512 * 1024;

/// Why there are no keys.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeysUnavailable {
    /// The provider does not answer.
    #[error("its keys cannot be fetched")]
    Unreachable(#[source] Arc<TransportError>),
    /// It answers with something else.
    #[error("its keys cannot be fetched: status {0}")]
    Status(StatusCode),
    /// What it says is no key set.
    #[error("its keys cannot be used")]
    Unusable(#[source] Arc<JwkSetError>),
    /// The fetch was interrupted.
    #[error("fetching its keys was interrupted")]
    Interrupted,
    /// Where the keys are could not be learnt.
    #[error("where its keys are is not known")]
    NoMetadata(#[source] super::MetadataUnavailable),
}

type Fetched = Result<Arc<JwkSet>, KeysUnavailable>;

/// The keys of one provider.
#[derive(Default)]
pub(super) struct Keys {
    state: Arc<Mutex<State>>,
    fetching: Arc<SingleRun<Fetched>>,
}

#[derive(Clone, Default)]
struct State {
    known: Option<Known>,
    /// When a token with an unknown key last made us ask.
    refetched_at: Option<Timestamp>,
    /// The last attempt, if it failed.
    failed: Option<(Timestamp, KeysUnavailable)>,
}

#[derive(Clone)]
struct Known {
    keys: Arc<JwkSet>,
    fetched_at: Timestamp,
}

/// How new the keys must be.
#[derive(Clone, Copy)]
pub(super) enum Wanted<'a> {
    /// Those at hand will do.
    Known,
    /// These did not have the key; others, if it is not too soon to ask.
    OtherThan(&'a Arc<JwkSet>),
}

impl State {
    /// What serves without asking. `None`: ask.
    fn serves(&self, wanted: Wanted<'_>, now: Timestamp) -> Option<Fetched> {
        let failed_within = |pause| {
            let recent = |(at, _): &&(Timestamp, _)| now.saturating_since(*at) < pause;
            self.failed.as_ref().filter(recent).map(|(_, error)| error.clone())
        };
        if let Some(known) = &self.known {
            let age = now.saturating_since(known.fetched_at);
            let refetched = |at| now.saturating_since(at) < REFETCH_PAUSE;
            let serves = match wanted {
                Wanted::Known => age < LIFETIME,
                Wanted::OtherThan(tried) => {
                    !Arc::ptr_eq(tried, &known.keys)
                        || self.refetched_at.is_some_and(refetched)
                        || failed_within(REFETCH_PAUSE).is_some()
                }
            };
            if serves {
                return Some(Ok(known.keys.clone()));
            }
        }
        failed_within(FAILURE_PAUSE).map(Err)
    }
}

impl Keys {
    pub(super) async fn get(
        &self,
        wanted: Wanted<'_>,
        jwks_uri: &Url,
        transport: &Arc<dyn Transport>,
        clock: &Arc<dyn Clock>,
        runner: &Arc<dyn Tasks>,
    ) -> Fetched {
        let serves = lock(&self.state).serves(wanted, clock.now());
        if let Some(fetched) = serves {
            return fetched;
        }
        let (jwks_uri, transport, clock, state) =
            (jwks_uri.clone(), transport.clone(), clock.clone(), self.state.clone());
        let is_refetch = matches!(wanted, Wanted::OtherThan(_));
        let fetch = async move {
            let fetched = fetch(jwks_uri, &*transport).await;
            let (now, mut state) = (clock.now(), lock(&state));
            if is_refetch {
                state.refetched_at = Some(now);
            }
            match &fetched {
                Ok(keys) => {
                    state.known = Some(Known { keys: keys.clone(), fetched_at: now });
                    state.failed = None;
                }
                Err(error) => state.failed = Some((now, error.clone())),
            }
            fetched
        };
        self.fetching.join(runner, fetch).await.unwrap_or(Err(KeysUnavailable::Interrupted))
    }
}

async fn fetch(jwks_uri: Url, transport: &dyn Transport) -> Fetched {
    let request = ProviderRequest {
        method: Method::GET,
        url: jwks_uri,
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
        answer_limit: LIMIT,
        connection: Connection::Kept,
    };
    let answer =
        transport.send(request).await.map_err(|error| KeysUnavailable::Unreachable(Arc::new(error)))?;
    if answer.status != StatusCode::OK {
        return Err(KeysUnavailable::Status(answer.status));
    }
    JwkSet::parse(&answer.body).map(Arc::new).map_err(|error| KeysUnavailable::Unusable(Arc::new(error)))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_often_a_provider_is_asked_for_its_keys() {
        fn at(millis: i64) -> Timestamp {
            Timestamp::from_unix_millis(1_000_000_000 + millis)
        }
        let keys = Arc::new(JwkSet::parse(br#"{"keys":[]}"#).unwrap());
        let before = Arc::new(JwkSet::parse(br#"{"keys":[]}"#).unwrap());
        let (known, other) = (Wanted::Known, Wanted::OtherThan(&keys));
        #[derive(Debug, PartialEq)]
        enum Answer {
            Keys,
            Error,
            Ask,
        }
        use Answer::{Ask, Error, Keys};
        // (when they were fetched, when again for an unknown key, when a fetch failed last, what is wanted, what serves at
        // 0 ms)
        let hour = 3_600_000;
        let table = [
            (None, None, None, known, Ask),
            (None, None, Some(-999), known, Error),
            (None, None, Some(-1_000), known, Ask),
            (Some(1 - hour), None, None, known, Keys),
            (Some(-hour), None, None, known, Ask),
            (Some(1 - hour), None, Some(-1), known, Keys),
            (Some(-hour), None, Some(-1), known, Error),
            // A token names a key that they do not have.
            (Some(-1), None, None, other, Ask),
            (Some(-4_999), Some(-4_999), None, other, Keys),
            (Some(-5_000), Some(-5_000), None, other, Ask),
            (Some(-5_000), None, Some(-4_999), other, Keys),
            (Some(-9_999), Some(-9_999), Some(-5_000), other, Ask),
            // Newer ones than those that were tried are there already.
            (Some(-hour), None, None, Wanted::OtherThan(&before), Keys),
        ];
        for (fetched, refetched, failed, wanted, expected) in table {
            let state = State {
                known: fetched.map(|millis| Known { keys: keys.clone(), fetched_at: at(millis) }),
                refetched_at: refetched.map(at),
                failed: failed.map(|millis| (at(millis), KeysUnavailable::Interrupted)),
            };
            let answer = match state.serves(wanted, at(0)) {
                Some(Ok(_)) => Keys,
                Some(Err(_)) => Error,
                None => Ask,
            };
            let when = format!("fetched {fetched:?}, again {refetched:?}, failed {failed:?}");
            assert_eq!(answer, expected, "{when}");
        }
    }
}
