//! A client's socket, with the time limits on what it sends.

use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep},
};

use super::{
    ClientConnection, ClientTransport, ListenerLimits,
    framing::{Framing, Place},
};

/// How long a connection may be silent before the kernel asks whether the other end is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// How long a client that is still sending when we close may go on, unheard.
const LINGER: Duration = Duration::from_secs(5);

/// Sets what every socket of a client needs: no waiting for more bytes to send, and an end to peers that vanished or
/// that no longer take what we send.
pub(super) fn tune(stream: &TcpStream, send_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 4))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(send_timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _ = send_timeout;
    Ok(())
}

/// A head that is too large is cut where the limit is, and ended there: hyper reads a request of it, which is refused.
///
/// Reads fail with `TimedOut` when the client takes too long over a head, a pause within a body or an idle spell. While
/// a request is being answered there is no limit.
///
/// A client that is answered before it has sent everything is read from for a while after our last byte. If the socket
/// were closed at once, the kernel would answer what still comes with a reset, and the client might never see why.
#[derive(Debug)]
pub(crate) struct ClientStream {
    stream: ClientTransport,
    framing: Framing,
    connection: ClientConnection,
    limits: TimeLimits,
    timer: Option<Timer>,
    bytes_read: u64,
    /// What is left to be read of the end of a head that was cut.
    ending: &'static [u8],
    lingering: Option<Pin<Box<Sleep>>>,
}

#[derive(Clone, Copy, Debug)]
struct TimeLimits {
    head: Duration,
    body_pause: Duration,
    idle: Duration,
}

#[derive(Debug)]
struct Timer {
    waits_for: Waiting,
    sleep: Pin<Box<Sleep>>,
}

/// What the client is waited for. The numbers tell one wait from the next of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    Request { after: u32 },
    RestOfHead { after: u32 },
    MoreOfBody { after_byte: u64 },
}

impl ClientStream {
    pub(super) fn new(
        stream: ClientTransport,
        connection: ClientConnection,
        limits: &ListenerLimits,
    ) -> Self {
        let head_limit = limits.request_head;
        let limits = TimeLimits {
            head: limits.head_timeout,
            body_pause: limits.body_pause,
            idle: limits.idle_timeout,
        };
        Self {
            stream,
            framing: Framing::new(head_limit),
            connection,
            limits,
            timer: None,
            bytes_read: 0,
            ending: &[],
            lingering: None,
        }
    }

    /// The socket itself, for a connection that no longer speaks HTTP.
    pub(crate) fn into_transport(self) -> ClientTransport {
        self.stream
    }

    fn waiting(&self) -> Option<(Waiting, Duration)> {
        let after = self.framing.heads();
        match self.framing.place() {
            Place::Head => Some((Waiting::RestOfHead { after }, self.limits.head)),
            Place::Body => {
                Some((Waiting::MoreOfBody { after_byte: self.bytes_read }, self.limits.body_pause))
            }
            Place::BetweenMessages | Place::Unknown if self.connection.has_request_in_flight() => None,
            // Who connects has something to ask; who has asked may come back.
            Place::BetweenMessages if after == 0 => Some((Waiting::Request { after }, self.limits.head)),
            Place::BetweenMessages | Place::Unknown => Some((Waiting::Request { after }, self.limits.idle)),
        }
    }

    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some((waits_for, limit)) = self.waiting() else { return Poll::Pending };
        let timer = match &mut self.timer {
            Some(timer) => {
                if timer.waits_for != waits_for {
                    timer.waits_for = waits_for;
                    timer.sleep.as_mut().reset(Instant::now() + limit);
                }
                timer
            }
            None => self.timer.insert(Timer { waits_for, sleep: Box::pin(tokio::time::sleep(limit)) }),
        };
        timer.sleep.as_mut().poll(context).map(|()| io::ErrorKind::TimedOut.into())
    }

    fn read_ending(&mut self, buffer: &mut ReadBuf<'_>) {
        let (now, later) = self.ending.split_at(self.ending.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.ending = later;
    }

    /// Ready when the client has stopped sending, or its time is over.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut bytes = [MaybeUninit::uninit(); 8 * 1024];
        loop {
            let mut unheard = ReadBuf::uninit(&mut bytes);
            match Pin::new(&mut self.stream).poll_read(context, &mut unheard) {
                Poll::Ready(Ok(())) if !unheard.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {
                    let lingering =
                        self.lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(LINGER)));
                    return lingering.as_mut().poll(context);
                }
            }
        }
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.ending.is_empty() {
            this.read_ending(buffer);
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.stream).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => {
                let read = &buffer.filled()[before..];
                this.bytes_read += read.len() as u64;
                let cut = this.framing.feed(read);
                if let Some((request, what)) = this.framing.bad_head() {
                    this.connection.mark_bad_head(request, what);
                }
                if let Some(cut) = cut {
                    buffer.set_filled(before + cut.at);
                    this.ending = cut.ending;
                    this.read_ending(buffer);
                }
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.poll_timeout(context).map(Err),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_shutdown(context))?;
        if this.framing.place() != Place::BetweenMessages {
            ready!(this.poll_discard(context));
        }
        Poll::Ready(Ok(()))
    }
}
