//! Carries bytes between two sockets.
//!
//! An idle tunnel holds no buffer: both directions of all tunnels on a thread read into one buffer of that thread, and
//! only bytes that the other side does not take at once are put aside. While any are, that direction does not read: so a
//! slow reader slows its writer, and what is put aside never exceeds one read.

use std::{
    cell::RefCell,
    future, io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

/// Enough for a kernel to hand over what it has in few calls.
const SCRATCH: usize = 64 * 1024;

thread_local! {
    static SCRATCH_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// How long a tunnel goes on after one side said that it will send no more, if the other is silent too.
const HALF_CLOSED: Duration = Duration::from_secs(30);

/// One end, and what it had sent before the tunnel began.
#[derive(Debug)]
pub(super) struct End<S> {
    pub(super) socket: S,
    pub(super) early: Bytes,
}

/// Carries bytes both ways until both sides have finished, either fails, or one has finished and the other is silent
/// for long. A side that finishes is shut down on the other end, in order. Dropping the future closes both sockets.
///
/// `poll_stop` ends the tunnel when ready; it is asked whenever anything happens and must see to being woken. `watch` sees
/// what the client sends, as it comes.
pub(super) async fn run<C, U>(
    client: End<C>,
    upstream: End<U>,
    mut poll_stop: impl FnMut(&mut Context<'_>) -> Poll<()>,
    mut watch: impl FnMut(&[u8]),
) -> io::Result<()>
where
    C: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    watch(&client.early);
    let mut up = Direction::beginning_with(client.early);
    let mut down = Direction::beginning_with(upstream.early);
    let (mut client, mut upstream) = (client.socket, upstream.socket);
    let mut silence: Option<Pin<Box<Sleep>>> = None;
    future::poll_fn(|context| {
        if poll_stop(context).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let before = (up.carried, down.carried);
        let up_done = up.poll(&mut client, &mut upstream, context, &mut watch)?.is_ready();
        let down_done = down.poll(&mut upstream, &mut client, context, &mut |_| {})?.is_ready();
        match (up_done, down_done) {
            (true, true) => return Poll::Ready(Ok(())),
            (false, false) => return Poll::Pending,
            _ => {}
        }
        if before != (up.carried, down.carried) {
            silence = None;
        }
        silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(HALF_CLOSED)))
            .as_mut()
            .poll(context)
            .map(Ok)
    })
    .await
}

/// What flows one way.
struct Direction {
    state: State,
    carried: u64,
    /// Whether the writer may hold bytes back, as TLS does when its socket is full.
    unflushed: bool,
}

enum State {
    Reading,
    /// Read, and not yet taken by the other side.
    Writing(Bytes),
    ShuttingDown,
    Done,
}

impl Direction {
    fn beginning_with(early: Bytes) -> Self {
        let state = if early.is_empty() { State::Reading } else { State::Writing(early) };
        Self { state, carried: 0, unflushed: false }
    }

    /// Carries what can be carried. Ready when the reader has ended and the writer was told.
    fn poll<R, W>(
        &mut self,
        from: &mut R,
        to: &mut W,
        context: &mut Context<'_>,
        watch: &mut impl FnMut(&[u8]),
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            if self.unflushed && matches!(self.state, State::Reading) {
                // Before more is read: else the last bytes would wait for the next ones.
                ready!(Pin::new(&mut *to).poll_flush(context))?;
                self.unflushed = false;
            }
            self.state = match &mut self.state {
                State::Reading => match ready!(pass(from, to, context, watch))? {
                    Passed::Everything(length) => {
                        self.carried += length as u64;
                        self.unflushed = true;
                        State::Reading
                    }
                    Passed::AllBut(rest) => {
                        self.unflushed = true;
                        State::Writing(rest)
                    }
                    Passed::End => State::ShuttingDown,
                },
                State::Writing(rest) => {
                    let written = ready!(Pin::new(&mut *to).poll_write(context, rest))?;
                    if written == 0 {
                        return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
                    }
                    self.carried += written as u64;
                    self.unflushed = true;
                    let rest = rest.split_off(written);
                    if rest.is_empty() { State::Reading } else { State::Writing(rest) }
                }
                State::ShuttingDown => {
                    // A peer that has gone needs no goodbye.
                    let _ = ready!(Pin::new(&mut *to).poll_shutdown(context));
                    State::Done
                }
                State::Done => return Poll::Ready(Ok(())),
            };
        }
    }
}

enum Passed {
    Everything(usize),
    AllBut(Bytes),
    End,
}

/// Reads once and writes once, by way of the thread's buffer.
fn pass<R, W>(
    from: &mut R,
    to: &mut W,
    context: &mut Context<'_>,
    watch: &mut impl FnMut(&[u8]),
) -> Poll<io::Result<Passed>>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    SCRATCH_BUFFER.with_borrow_mut(|scratch| {
        let mut buffer = ReadBuf::new(scratch);
        ready!(Pin::new(from).poll_read(context, &mut buffer))?;
        let read = buffer.filled();
        if read.is_empty() {
            return Poll::Ready(Ok(Passed::End));
        }
        watch(read);
        let written = match Pin::new(to).poll_write(context, read) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        if written == read.len() {
            return Poll::Ready(Ok(Passed::Everything(written)));
        }
        Poll::Ready(Ok(Passed::AllBut(Bytes::copy_from_slice(&read[written..]))))
    })
}
