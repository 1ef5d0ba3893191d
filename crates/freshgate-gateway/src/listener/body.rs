//! The body of what the listener answers.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;

use super::client_connection::InFlight;

/// The service's body, or the listener's own.
#[derive(Debug)]
pub struct ListenerBody<B>(Kind<B>);

#[derive(Debug)]
enum Kind<B> {
    /// As long as it lives, the connection is not idle.
    Service {
        body: B,
        in_flight: InFlight,
    },
    Ours(Full<Bytes>),
}

impl<B> ListenerBody<B> {
    pub(super) fn of_service(body: B, in_flight: InFlight) -> Self {
        Self(Kind::Service { body, in_flight })
    }

    pub(super) fn ours(body: Bytes) -> Self {
        Self(Kind::Ours(Full::new(body)))
    }
}

/// Why a body of ours breaks off before its end.
#[derive(Debug, thiserror::Error)]
#[error("the session has ended")]
struct CutOff;

impl<B> Body for ListenerBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.get_mut().0 {
            Kind::Service { in_flight, .. } if in_flight.poll_cut_off(context).is_ready() => {
                Poll::Ready(Some(Err(CutOff.into())))
            }
            Kind::Service { body, .. } => {
                Pin::new(body).poll_frame(context).map(|frame| frame.map(|frame| frame.map_err(Into::into)))
            }
            Kind::Ours(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Service { body, .. } => body.is_end_stream(),
            Kind::Ours(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Service { body, .. } => body.size_hint(),
            Kind::Ours(body) => body.size_hint(),
        }
    }
}
