//! WebSockets: the handshake, and what follows it.
//!
//! `websocket` is the one protocol that a client may change to. A tunnel for any other (`h2c` is the known case) would
//! carry requests past the guard.

use http::{
    HeaderMap, HeaderName, Method, Request, Response, StatusCode, Version,
    header::{CONNECTION, SEC_WEBSOCKET_KEY, UPGRADE},
};
use http_body::Body;
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use std::{
    net::Ipv4Addr,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    Entrant, Proxy, ResponseBody, UpstreamError,
    body::Lease,
    connection::UpstreamConnection,
    exchange,
    frames::ClientFrames,
    headers,
    route::Upstream,
    transport::AppTransport,
    tunnel::{self, End},
    tunnels::Registration,
};
use crate::listener::{ClientConnection, ClientStream};

/// How long an app may take over a handshake: there is no work to be done for one.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// Whether this is a WebSocket handshake (RFC 6455 section 4.1). One that is not goes on as a plain request, without
/// its `Upgrade`.
pub(super) fn is_handshake<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    headers.contains_key(UPGRADE)
        && request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && lists(headers, &UPGRADE, b"websocket")
        && lists(headers, &CONNECTION, b"upgrade")
}

fn lists(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    headers
        .get_all(name)
        .iter()
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .any(|listed| listed.trim_ascii().eq_ignore_ascii_case(token))
}

/// Carries a handshake to the app, on a connection of its own. If the app agrees, a task carries the bytes from then on.
pub(super) async fn forward(
    proxy: &Proxy,
    upstream: &Upstream,
    request: Request<Incoming>,
    entrant: Option<Entrant>,
) -> Result<Response<ResponseBody>, UpstreamError> {
    if !request.body().is_end_stream() || !request.headers().contains_key(SEC_WEBSOCKET_KEY) {
        return Err(UpstreamError::Handshake);
    }
    let client = request
        .extensions()
        .get::<ClientConnection>()
        .cloned()
        .unwrap_or_else(|| ClientConnection::detached((Ipv4Addr::UNSPECIFIED, 0).into()));

    // First the entry, then the question: a session that ends after the answer finds the entry, and one that ended
    // before the entry shows in the answer.
    let registration = proxy.tunnels.register(entrant.clone(), client.clone());
    if let Some(entrant) = &entrant {
        if proxy.tunnels.count_of(&entrant.session) > proxy.options.sockets_per_session {
            return Err(UpstreamError::TooManySockets);
        }
        if !proxy.still_open.still_open(entrant).await {
            return Err(UpstreamError::SessionEnded);
        }
    }

    let told = upstream.told(entrant.as_ref()).await?;
    let (request, mut extensions) = proxy.prepare(upstream, request, entrant.as_ref(), told, true);
    let client_upgrade = extensions.remove::<OnUpgrade>().ok_or(UpstreamError::Handshake)?;
    let stream = upstream.pool.connect().await?;
    let mut connection = UpstreamConnection::open(stream).await.map_err(UpstreamError::of_exchange)?;
    let answer = exchange::within(Some(HANDSHAKE), connection.send(request))
        .await?
        .map_err(|failure| UpstreamError::of_exchange(failure.into_error()))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let lease = Lease { connection, home: std::sync::Arc::clone(&upstream.pool) };
        return exchange::receive(answer, Some(lease));
    }
    if !lists(answer.headers(), &UPGRADE, b"websocket") {
        return Err(UpstreamError::BadAnswer {
            source: "it changes to another protocol than asked for".into(),
        });
    }
    let Some((socket, early)) = connection.into_upgraded().await else {
        return Err(UpstreamError::BadAnswer { source: "it changes protocols and hangs up".into() });
    };
    let socket = Socket { client, registration, upstream: End { socket, early } };
    tokio::spawn(socket.serve(client_upgrade));

    let mut answer = answer.map(|body| ResponseBody::new(body, None));
    headers::prepare_response(answer.headers_mut(), StatusCode::SWITCHING_PROTOCOLS);
    Ok(answer)
}

/// A socket that the app has agreed to. Its task ends with either side, with the session, or with the listener; all of
/// these reach it through the client's connection.
struct Socket {
    client: ClientConnection,
    registration: Registration,
    upstream: End<AppTransport>,
}

impl Socket {
    async fn serve(self, client_upgrade: OnUpgrade) {
        let Ok(upgraded) = client_upgrade.await else {
            tracing::debug!("a client left during its WebSocket handshake");
            return;
        };
        // Boxed apart: the task keeps room for what follows, not for the handshake.
        let Self { client, registration, upstream } = self;
        let outcome = match upgraded.downcast::<TokioIo<ClientStream>>() {
            // The bare sockets, without the buffers that hyper had around them.
            Ok(parts) => {
                let end = End { socket: parts.io.into_inner().into_transport(), early: parts.read_buf };
                tunnel(end, upstream, client, &registration).await
            }
            Err(upgraded) => tunnel(wrapped(upgraded), upstream, client, &registration).await,
        };
        drop(registration);
        if let Err(error) = outcome {
            tracing::debug!(%error, "a WebSocket ended with an error");
        }
    }
}

fn wrapped(upgraded: Upgraded) -> End<TokioIo<Upgraded>> {
    End { socket: TokioIo::new(upgraded), early: bytes::Bytes::new() }
}

async fn tunnel<C>(
    client_end: End<C>,
    upstream: End<AppTransport>,
    client: ClientConnection,
    registration: &Registration,
) -> std::io::Result<()>
where
    C: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let poll_stop = |context: &mut Context<'_>| match client.poll_signal(context) {
        Some(_) => Poll::Ready(()),
        None => Poll::Pending,
    };
    let mut frames = registration.wants_to_know_of_use().then(ClientFrames::default);
    let watch = |sent: &[u8]| {
        if frames.as_mut().is_some_and(|frames| frames.bring_data(sent)) {
            registration.used();
        }
    };
    tunnel::run(client_end, upstream, poll_stop, watch).await
}
