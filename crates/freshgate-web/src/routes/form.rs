//! The form that a POST brings: what reading it may cost is bounded here, in size and time.

use std::{pin::pin, time::Duration};

use bytes::Buf as _;
use http::{HeaderMap, header};
use http_body::Body;
use http_body_util::BodyExt as _;

/// The largest form that is read. What is sent to us is a fraction of this: a logout token, which has no claims of the user,
/// or the names of a provider, a user and a page.
pub(super) const LARGEST: usize = 32 * 1024;
/// How long the form may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no form.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoForm {
    #[error("the request is not a form")]
    NotAForm,
    #[error("the form is larger than {LARGEST} bytes")]
    TooLarge,
    #[error("the form did not arrive within {} s", PATIENCE.as_secs())]
    TooSlow,
    #[error("the form was cut short")]
    CutShort,
}

/// Reads a form, as it was sent.
pub(super) async fn form(headers: &HeaderMap, body: impl Body) -> Result<Vec<u8>, NoForm> {
    if !is_form(headers) {
        return Err(NoForm::NotAForm);
    }
    tokio::time::timeout(PATIENCE, read(body)).await.unwrap_or(Err(NoForm::TooSlow))
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    let kind = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
    kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded"))
}

async fn read(body: impl Body) -> Result<Vec<u8>, NoForm> {
    let mut body = pin!(body);
    let mut form = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| NoForm::CutShort)?.into_data() else { continue };
        if data.remaining() > LARGEST - form.len() {
            return Err(NoForm::TooLarge);
        }
        let mut data = data;
        while data.has_remaining() {
            let chunk = data.chunk();
            form.extend_from_slice(chunk);
            let taken = chunk.len();
            data.advance(taken);
        }
    }
    Ok(form)
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use bytes::Bytes;
    use http::HeaderValue;
    use http_body::Frame;

    use super::*;

    /// Sends a byte now and then, for ever.
    struct Dribble(Pin<Box<tokio::time::Sleep>>);

    impl Body for Dribble {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            std::task::ready!(self.0.as_mut().poll(context));
            self.0 = Box::pin(tokio::time::sleep(Duration::from_millis(100)));
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"a")))))
        }
    }

    /// Comes to nothing.
    struct Cut;

    impl Body for Cut {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
            Poll::Ready(Some(Err("the connection is gone")))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_waited_for_long() {
        let started = tokio::time::Instant::now();
        let dribble = Dribble(Box::pin(tokio::time::sleep(Duration::ZERO)));
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, form_type)]);
        assert_eq!(form(&headers, dribble).await, Err(NoForm::TooSlow));
        assert_eq!(started.elapsed(), PATIENCE);
        assert_eq!(form(&headers, Cut).await, Err(NoForm::CutShort));
    }
}
