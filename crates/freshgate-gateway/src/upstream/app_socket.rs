//! A socket to the app that lets the app have the last word.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::AppTransport;

/// An app that refuses a large body answers and hangs up, and what is still on its way to it then fails to be sent. That
/// failure is kept quiet: what can be read tells how the exchange ended, with an answer or without one.
#[derive(Debug)]
pub(super) struct AppSocket {
    stream: AppTransport,
    hung_up: bool,
}

impl AppSocket {
    pub(super) fn new(stream: AppTransport) -> Self {
        Self { stream, hung_up: false }
    }

    pub(super) fn into_transport(self) -> AppTransport {
        self.stream
    }

    fn quietly(
        &mut self,
        length: usize,
        write: impl FnOnce(Pin<&mut AppTransport>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if self.hung_up {
            return Poll::Ready(Ok(length));
        }
        match write(Pin::new(&mut self.stream)) {
            Poll::Ready(Err(error)) if says_hung_up(&error) => {
                self.hung_up = true;
                Poll::Ready(Ok(length))
            }
            outcome => outcome,
        }
    }
}

fn says_hung_up(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted
    )
}

impl AsyncRead for AppSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for AppSocket {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.get_mut().quietly(bytes.len(), |stream| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        self.get_mut().quietly(length, |stream| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
