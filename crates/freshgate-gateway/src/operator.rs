//! The operator's listener: is the gate alive, is it ready, and what has it done so far. It is a listener of its own, so
//! that none of this is ever public by accident. It shows no user and no session, and asks for no password: bind it where
//! operators alone can reach it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use freshgate::{Engine, counting};
use metrics::{describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{config::StartupProblem, gate, upstream::Tunnels};

/// How often what was counted is put in order; between two scrapes it would pile up.
const UPKEEP: Duration = Duration::from_secs(5);
/// The upper bounds of the histogram of refreshes, in seconds: from a provider next door to one that times out.
const REFRESH_BUCKETS: &[f64] = &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0];

const UNDER_WAY: &str = "freshgate_refreshes_under_way";
const ACTIVE: &str = "freshgate_sessions_active";
const SOCKETS: &str = "freshgate_sockets_open";
const BUILD: &str = "freshgate_build_info";

/// A listener that is bound, with the recorder behind it: from here on everything is counted.
pub struct OperatorListener {
    listener: TcpListener,
    figures: PrometheusHandle,
}

impl OperatorListener {
    /// Binds the listener and starts to count. Once in a process.
    pub async fn bind(address: SocketAddr) -> Result<Self, StartupProblem> {
        let listener = gate::bind(address, "--operator-listen").await?;
        let figures = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), REFRESH_BUCKETS)
            .and_then(PrometheusBuilder::install_recorder)
            .map_err(|error| {
                StartupProblem::new("metrics cannot be kept")
                    .at("--operator-listen")
                    .because(&error)
                    .mend("start without `--operator-listen`, and report this: it is a defect of freshgate")
            })?;
        Ok(Self { listener, figures })
    }

    /// Where it listens.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `stop`.
    pub(crate) async fn serve(self, engine: Engine, tunnels: Tunnels, ready: Ready, stop: CancellationToken) {
        describe();
        gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1);
        let Self { listener, figures } = self;
        let upkeep = keep_up(figures.clone());
        let router = router(Operator { engine, tunnels, ready, figures });
        let ending = stop.clone();
        let serving = axum::serve(listener, router).with_graceful_shutdown(ending.cancelled_owned());
        tokio::select! {
            served = serving.into_future() => {
                if let Err(error) = served {
                    tracing::error!(error = &error as &dyn std::error::Error, "the operator's listener ended");
                }
            }
            () = upkeep => {}
            () = stop.cancelled() => {}
        }
    }
}

/// Whether requests are served: not before the app is there, and not while the gate stops.
#[derive(Clone)]
pub(crate) struct Ready {
    app: Arc<AtomicBool>,
    stopping: CancellationToken,
}

impl Ready {
    /// Not ready yet, and not any more once `stopping` is cancelled.
    pub(crate) fn until(stopping: CancellationToken) -> Self {
        Self { app: Arc::default(), stopping }
    }

    /// The app answers.
    pub(crate) fn app_is_there(&self) {
        self.app.store(true, Ordering::Release);
    }
}

#[derive(Clone)]
struct Operator {
    engine: Engine,
    tunnels: Tunnels,
    ready: Ready,
    figures: PrometheusHandle,
}

fn router(operator: Operator) -> Router {
    Router::new()
        .route("/health", get(|| async { "alive\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(figures))
        .with_state(operator)
}

async fn ready(State(operator): State<Operator>) -> impl IntoResponse {
    if operator.ready.stopping.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "stopping\n");
    }
    if !operator.ready.app.load(Ordering::Acquire) {
        return (StatusCode::SERVICE_UNAVAILABLE, "waiting for the app\n");
    }
    match operator.engine.check_store().await {
        Ok(()) => (StatusCode::OK, "ready\n"),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "not ready: the session store fails");
            (StatusCode::SERVICE_UNAVAILABLE, "the session store fails\n")
        }
    }
}

async fn figures(State(operator): State<Operator>) -> impl IntoResponse {
    // What is a state rather than an event is looked at now.
    #[expect(clippy::cast_precision_loss, reason = "as many as that are never counted here")]
    let set = |name: &'static str, number: usize| gauge!(name).set(number as f64);
    set(UNDER_WAY, operator.engine.refreshes_under_way());
    set(ACTIVE, operator.engine.active_sessions());
    set(SOCKETS, operator.tunnels.count());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], operator.figures.render())
}

fn describe() {
    counting::describe();
    freshgate_web::counting::describe();
    describe_gauge!(UNDER_WAY, "Sessions that are being refreshed now");
    describe_gauge!(
        ACTIVE,
        "Sessions that are refreshed ahead of time: used a moment ago, or with an open socket"
    );
    describe_gauge!(SOCKETS, "WebSockets that are open through the gate");
    describe_gauge!(BUILD, "1, with the version of the gate as a label");
}

async fn keep_up(figures: PrometheusHandle) {
    let mut ticks = tokio::time::interval(UPKEEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        figures.run_upkeep();
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use freshgate::{
        clock::{SystemClock, SystemEntropy},
        engine::EngineParts,
        keyring::Keyring,
        session::SessionPolicy,
        store::MemoryStore,
    };
    use freshgate_oidc::Secret;
    use http::Request;
    use tower::ServiceExt;

    use super::*;

    fn operator(stopping: &CancellationToken) -> Operator {
        let engine = Engine::new(EngineParts {
            store: Arc::new(MemoryStore::new()),
            keyring: Arc::new(Keyring::from_secret(&Secret::new("of the test"))),
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
            providers: Vec::new(),
            policy: SessionPolicy::default(),
        });
        let recorder = PrometheusBuilder::new().build_recorder();
        Operator {
            tunnels: Tunnels::of(engine.clone()),
            engine,
            ready: Ready::until(stopping.clone()),
            figures: recorder.handle(),
        }
    }

    async fn get(operator: &Operator, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(operator.clone()).oneshot(request).await.unwrap();
        let status = response.status();
        let body = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn it_is_ready_from_when_the_app_is_there_until_it_stops() {
        let stopping = CancellationToken::new();
        let operator = operator(&stopping);
        let unavailable = StatusCode::SERVICE_UNAVAILABLE;
        assert_eq!(get(&operator, "/ready").await, (unavailable, "waiting for the app\n".to_owned()));
        operator.ready.app_is_there();
        assert_eq!(get(&operator, "/ready").await, (StatusCode::OK, "ready\n".to_owned()));
        stopping.cancel();
        assert_eq!(get(&operator, "/ready").await, (unavailable, "stopping\n".to_owned()));
        assert_eq!(get(&operator, "/health").await.0, StatusCode::OK, "but it lives");
    }

    #[tokio::test]
    async fn figures_are_looked_at_when_they_are_asked_for() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let figures = recorder.handle();
        let _counted_here = metrics::set_default_local_recorder(&recorder);
        let operator = Operator { figures, ..operator(&CancellationToken::new()) };
        describe();
        let (status, text) = get(&operator, "/metrics").await;
        assert_eq!(status, StatusCode::OK);
        for line in [
            "# TYPE freshgate_sockets_open gauge",
            "freshgate_sockets_open 0",
            "freshgate_sessions_active 0",
            "freshgate_refreshes_under_way 0",
        ] {
            assert!(text.lines().any(|there| there == line), "{line}:\n{text}");
        }
    }
}
