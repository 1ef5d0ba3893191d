//! A provider's signing keys: fetched at first use, and again when a token names one that is not known.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use freshgate_oidc::{JwkSet, JwkSetError, Timestamp};
use http::{HeaderMap, Method, StatusCode};
use url::Url;

use super::{ProviderRequest, Transport, TransportError, single::SingleRun};
use crate::{clock::Clock, tasks::Tasks};

/// How long keys are taken as they are. A key that the provider withdrew is trusted no longer than this.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Tokens with an unknown key make us ask at most this often: they may come from anyone.
const REFETCH_PAUSE: Duration = Duration::from_secs(5);
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
    known: Arc<Mutex<Option<Known>>>,
    fetching: Arc<SingleRun<Fetched>>,
}

#[derive(Clone)]
struct Known {
    keys: Arc<JwkSet>,
    fetched_at: Timestamp,
}

/// How new the keys must be.
pub(super) enum Wanted<'a> {
    /// Those at hand will do.
    Known,
    /// These did not have the key; others, if it is not too soon to ask.
    OtherThan(&'a Arc<JwkSet>),
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
        let known = lock(&self.known).clone();
        if let Some(known) = known {
            let age = clock.now().saturating_since(known.fetched_at);
            let serves = match wanted {
                Wanted::Known => age < LIFETIME,
                Wanted::OtherThan(tried) => !Arc::ptr_eq(tried, &known.keys) || age < REFETCH_PAUSE,
            };
            if serves {
                return Ok(known.keys);
            }
        }
        let (jwks_uri, transport, clock, known) =
            (jwks_uri.clone(), transport.clone(), clock.clone(), self.known.clone());
        let fetch = async move {
            let keys = fetch(jwks_uri, &*transport).await?;
            *lock(&known) = Some(Known { keys: keys.clone(), fetched_at: clock.now() });
            Ok(keys)
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
