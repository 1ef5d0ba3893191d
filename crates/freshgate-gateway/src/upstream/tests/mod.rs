//! The proxy between two raw sockets: the test plays the browser and the app, byte by byte.

mod failures;
mod http2;
mod requests;
mod reuse;
mod sessions;
mod streaming;
mod stress;
mod tls;
mod transports;
mod websockets;

use std::{
    convert::Infallible,
    future,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use freshgate::session::SessionKey;
use http::{Response, uri::Scheme};
use http_body_util::{Either, Full};

use super::{Entrant, ProxyOptions, ReverseProxy, StillOpen, Tunnels, UpstreamOptions};
use crate::listener::{
    Listener, ListenerLimits,
    tests::{
        Served,
        raw::{App, Raw},
    },
};

/// The gate without a guard: every request is of the same visitor. A failure's page is its code.
struct Gate {
    served: Served,
    tunnels: Tunnels,
    still_open: Arc<AtomicBool>,
}

const SESSION: [u8; 32] = [7; 32];

fn session() -> SessionKey {
    SessionKey::from_bytes(SESSION)
}

impl Gate {
    async fn signed_in(app: &App) -> Self {
        Self::start(Some(session()), options(app.address), ListenerLimits::default()).await
    }

    async fn anonymous(app: &App) -> Self {
        Self::start(None, options(app.address), ListenerLimits::default()).await
    }

    async fn start(visitor: Option<SessionKey>, options: Options, limits: ListenerLimits) -> Self {
        Self::start_with(|listener| listener, visitor, options, limits).await
    }

    async fn start_with(
        set_up: impl FnOnce(Listener) -> Listener,
        visitor: Option<SessionKey>,
        options: Options,
        limits: ListenerLimits,
    ) -> Self {
        let still_open = Arc::new(AtomicBool::new(true));
        let tunnels = Tunnels::new();
        let proxy = ReverseProxy::new(
            options.proxy,
            vec![options.app],
            tunnels.clone(),
            Flag(Arc::clone(&still_open)),
        );
        let service = tower::service_fn(move |request| {
            let answer = proxy.forward(request, visitor.map(Entrant::unconditional));
            async move {
                Ok::<_, Infallible>(match answer.await {
                    Ok(answer) => answer.map(Either::Left),
                    Err(error) => {
                        let page = Either::Right(Full::<Bytes>::from(error.code()));
                        let mut page = Response::new(page);
                        *page.status_mut() = error.status();
                        page
                    }
                })
            }
        });
        let served = Served::start_with(set_up, service, limits, Duration::from_secs(5)).await;
        Self { served, tunnels, still_open }
    }

    async fn connect(&self) -> Raw {
        Raw::connect(self.served.address).await
    }
}

/// A proxy to one app.
#[derive(Clone)]
struct Options {
    proxy: ProxyOptions,
    app: UpstreamOptions,
}

fn options(app: SocketAddr) -> Options {
    // Long enough that no connection gets old during a test.
    let idle_timeout = Duration::from_secs(60);
    let app = UpstreamOptions { idle_timeout, ..UpstreamOptions::new(app.to_string()) };
    Options { proxy: ProxyOptions::new(Scheme::HTTP), app }
}

struct Flag(Arc<AtomicBool>);

impl StillOpen for Flag {
    fn still_open<'a>(&'a self, asked: &'a Entrant) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        assert_eq!(asked.session, session());
        Box::pin(future::ready(self.0.load(Ordering::SeqCst)))
    }
}

/// A head's lines, the first as it is and the others sorted: their order means nothing.
fn lines(head: &str) -> Vec<&str> {
    let mut lines: Vec<_> = head.trim_end().split("\r\n").collect();
    lines[1..].sort_unstable();
    lines
}
