//! A provider's metadata: fetched at first use, renewed in the background, kept while the provider is away.

use std::{
    error::Error,
    sync::{Arc, Mutex},
    time::Duration,
};

use freshgate_oidc::{MetadataError, ProviderMetadata, Timestamp};
use http::{HeaderMap, Method, StatusCode};

use super::{Connection, ProviderConfig, ProviderRequest, Transport, TransportError, single::SingleRun};
use crate::{clock::Clock, tasks::Tasks};

/// How long metadata is taken as it is.
const LIFETIME: Duration = Duration::from_secs(3600);
/// After a failed renewal, the next is tried after this long.
const RENEWAL_PAUSE: Duration = Duration::from_secs(30);
/// Where nothing is known yet, a provider that failed is asked again after this long: anyone can make us ask.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// The largest document that is read.
const LIMIT: usize = 512 * 1024;

/// Why there is no metadata.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MetadataUnavailable {
    /// The provider does not answer.
    #[error("its metadata cannot be fetched from {url}")]
    Unreachable {
        /// From where.
        url: String,
        /// Why.
        #[source]
        source: Arc<TransportError>,
    },
    /// It answers with something else.
    #[error("{url} answers with status {status}")]
    Status {
        /// What was asked.
        url: String,
        /// The answer.
        status: StatusCode,
    },
    /// What it says cannot be used.
    #[error("the metadata at {url} cannot be used")]
    Unusable {
        /// What was asked.
        url: String,
        /// Why.
        #[source]
        source: Arc<MetadataError>,
    },
    /// The fetch was interrupted.
    #[error("fetching its metadata was interrupted")]
    Interrupted,
}

impl MetadataUnavailable {
    /// Whether waiting will not help: the address or what is behind it is wrong.
    pub fn is_misconfiguration(&self) -> bool {
        match self {
            Self::Unusable { .. } => true,
            Self::Status { status, .. } => {
                !status.is_server_error()
                    && *status != StatusCode::TOO_MANY_REQUESTS
                    && *status != StatusCode::REQUEST_TIMEOUT
            }
            Self::Unreachable { .. } | Self::Interrupted => false,
        }
    }
}

type Fetched = Result<Arc<ProviderMetadata>, MetadataUnavailable>;

/// The metadata of one provider.
pub(super) struct Metadata {
    known: Arc<Mutex<Option<Known>>>,
    /// The last attempt, if it failed and nothing is known.
    failed: Arc<Mutex<Option<(Timestamp, MetadataUnavailable)>>>,
    fetching: SingleRun<Fetched>,
}

#[derive(Clone)]
struct Known {
    metadata: Arc<ProviderMetadata>,
    renew_at: Timestamp,
}

impl Metadata {
    pub(super) fn new() -> Self {
        Self { known: Arc::default(), failed: Arc::default(), fetching: SingleRun::default() }
    }

    /// What is known, or what the provider says now. Known metadata that is due for renewal is renewed in the background.
    pub(super) async fn get(
        &self,
        config: &Arc<ProviderConfig>,
        transport: &Arc<dyn Transport>,
        clock: &Arc<dyn Clock>,
        runner: &Arc<dyn Tasks>,
    ) -> Fetched {
        let (known, failed) = (lock(&self.known).clone(), lock(&self.failed).clone());
        let fetch = {
            let (config, transport, clock) = (config.clone(), transport.clone(), clock.clone());
            let (known, failed) = (self.known.clone(), self.failed.clone());
            async move {
                let fetched = fetch(&config, &*transport).await;
                let now = clock.now();
                let mut known = lock(&known);
                match (&fetched, known.as_mut()) {
                    (Ok(metadata), _) => {
                        *known = Some(Known { metadata: metadata.clone(), renew_at: now + LIFETIME });
                    }
                    (Err(error), Some(known)) => {
                        known.renew_at = now + RENEWAL_PAUSE;
                        let error = error as &dyn Error;
                        tracing::warn!(provider = config.name, error, "metadata could not be renewed");
                    }
                    (Err(error), None) => *lock(&failed) = Some((now, error.clone())),
                }
                fetched
            }
        };
        match known {
            Some(known) if clock.now() < known.renew_at => Ok(known.metadata),
            Some(known) => {
                let _nobody_waits = self.fetching.start(runner, fetch);
                Ok(known.metadata)
            }
            None => match failed {
                Some((at, error)) if clock.now().saturating_since(at) < FAILURE_PAUSE => Err(error),
                _ => self.fetching.join(runner, fetch).await.unwrap_or(Err(MetadataUnavailable::Interrupted)),
            },
        }
    }
}

async fn fetch(config: &ProviderConfig, transport: &dyn Transport) -> Fetched {
    let url = config.metadata_url.to_string();
    let request = ProviderRequest {
        method: Method::GET,
        url: config.metadata_url.clone(),
        headers: HeaderMap::new(),
        body: bytes::Bytes::new(),
        answer_limit: LIMIT,
        connection: Connection::Kept,
    };
    let answer = transport
        .send(request)
        .await
        .map_err(|source| MetadataUnavailable::Unreachable { url: url.clone(), source: Arc::new(source) })?;
    if answer.status != StatusCode::OK {
        return Err(MetadataUnavailable::Status { url, status: answer.status });
    }
    ProviderMetadata::parse(&answer.body, &config.issuer)
        .map(Arc::new)
        .map_err(|source| MetadataUnavailable::Unusable { url, source: Arc::new(source) })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

    use async_trait::async_trait;
    use freshgate_oidc::{ClientCredential, Secret};
    use tokio::sync::Semaphore;
    use url::Url;

    use super::*;
    use crate::{
        provider::ProviderAnswer,
        tasks::{Task, TokioTasks},
    };

    /// Answers as often as it has permits.
    struct Slow(Semaphore);

    #[async_trait]
    impl Transport for Slow {
        async fn send(&self, _: ProviderRequest) -> Result<ProviderAnswer, TransportError> {
            self.0.acquire().await.unwrap().forget();
            let document = serde_json::json!({
                "issuer": "https://idp.test",
                "authorization_endpoint": "https://idp.test/authorize",
                "token_endpoint": "https://idp.test/token",
                "jwks_uri": "https://idp.test/jwks",
            });
            let body = document.to_string().into();
            Ok(ProviderAnswer { status: StatusCode::OK, headers: HeaderMap::new(), body })
        }
    }

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Tasks for Counted {
        fn start(&self, task: Task) {
            self.0.fetch_add(1, Ordering::SeqCst);
            TokioTasks.start(task);
        }
    }

    #[derive(Default)]
    struct Set(AtomicI64);

    impl Clock for Set {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_seconds(self.0.load(Ordering::SeqCst))
        }
    }

    #[tokio::test]
    async fn renewal_is_one_task_however_many_ask() {
        let url = Url::parse("https://idp.test/.well-known/openid-configuration").unwrap();
        let credential = ClientCredential::Secret(Secret::new("hunter2"));
        let config = Arc::new(ProviderConfig::new("default", url, "app", credential));
        let (provider, tasks, clock) =
            (Arc::new(Slow(Semaphore::new(1))), Arc::new(Counted::default()), Arc::new(Set::default()));
        let transport: Arc<dyn Transport> = provider.clone();
        let (runner, shown): (Arc<dyn Tasks>, Arc<dyn Clock>) = (tasks.clone(), clock.clone());
        let metadata = Metadata::new();
        let ask = async || {
            metadata.get(&config, &transport, &shown, &runner).await.unwrap();
        };
        ask().await;
        clock.0.fetch_add(3600, Ordering::SeqCst);
        // It is due, and the provider takes its time.
        for _ in 0..100 {
            ask().await;
        }
        assert_eq!(tasks.0.load(Ordering::SeqCst), 2, "the first fetch, and one renewal");
        provider.0.add_permits(1);
        while metadata.fetching.is_running() {
            tokio::task::yield_now().await;
        }
        ask().await;
        assert_eq!(tasks.0.load(Ordering::SeqCst), 2, "it is renewed");
    }
}
