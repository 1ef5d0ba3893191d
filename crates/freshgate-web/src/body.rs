//! The body of a response: ours, or the inner service's.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a response that went through the gate: one of the gate's own answers, or what the inner service
    /// answers. The latter passes as it is: nothing is boxed, copied or held back.
    #[derive(Debug)]
    pub struct GateBody<B> {
        #[pin]
        source: Source<B>,
    }
}

pin_project! {
    #[project = Project]
    #[derive(Debug)]
    enum Source<B> {
        Ours { #[pin] body: Full<Bytes> },
        Inner { #[pin] body: B },
    }
}

impl<B> GateBody<B> {
    pub(crate) fn ours(bytes: Bytes) -> Self {
        Self { source: Source::Ours { body: Full::new(bytes) } }
    }

    /// What the server around the gate answers itself, where no gate is asked.
    pub fn of_server(bytes: Bytes) -> Self {
        Self::ours(bytes)
    }

    pub(crate) fn inner(body: B) -> Self {
        Self { source: Source::Inner { body } }
    }
}

impl<B: Body<Data = Bytes>> Body for GateBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().source.project() {
            Project::Ours { body } => body.poll_frame(context).map_err(|never| match never {}),
            Project::Inner { body } => body.poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Ours { body } => body.is_end_stream(),
            Source::Inner { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Ours { body } => body.size_hint(),
            Source::Inner { body } => body.size_hint(),
        }
    }
}
