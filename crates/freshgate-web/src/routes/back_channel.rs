//! POST `/auth/backchannel-logout`: a provider says who signed out there (OpenID Connect Back-Channel Logout 1.0).
//!
//! Anyone can send such a request. What it may cost is bounded here (size and time of the body) and in the engine (how
//! often a provider is asked for its keys); what it may do is decided by the token that it brings, and by nothing else of
//! it: no cookie is read.

use std::{pin::pin, time::Duration};

use bytes::{Buf as _, Bytes};
use freshgate_oidc::RawLogoutToken;
use http::{HeaderMap, header, request::Parts};
use http_body::Body;
use http_body_util::BodyExt as _;
use url::form_urlencoded;

use super::Routes;
use crate::{
    failure::{Failure, Fault},
    respond::Answer,
};

/// The largest form that is read. A logout token has no claims of the user, and is a fraction of this.
const LARGEST: usize = 32 * 1024;
/// How long the form may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no logout token (section 2.5).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NoLogoutToken {
    #[error("the request is not a form")]
    NotAForm,
    #[error("the form is larger than {LARGEST} bytes")]
    TooLarge,
    #[error("the form did not arrive within {} s", PATIENCE.as_secs())]
    TooSlow,
    #[error("the form was cut short")]
    CutShort,
    #[error("the form has not one logout_token")]
    NotOne,
}

impl Routes {
    pub(super) async fn back_channel_logout(
        &self,
        request: &Parts,
        body: impl Body,
    ) -> Result<Answer, Failure> {
        let token = logout_token(&request.headers, body)
            .await
            .map_err(|error| Failure::logout_not_carried_out(Fault::Browser, error))?;
        self.engine.back_channel_logout(&token).await?;
        // Whether there was anybody to sign out is none of its business (section 2.7).
        Ok(Answer::new(Bytes::new()))
    }
}

async fn logout_token(headers: &HeaderMap, body: impl Body) -> Result<RawLogoutToken, NoLogoutToken> {
    if !is_form(headers) {
        return Err(NoLogoutToken::NotAForm);
    }
    let form = tokio::time::timeout(PATIENCE, read(body)).await.unwrap_or(Err(NoLogoutToken::TooSlow))?;
    let mut tokens = form_urlencoded::parse(&form).filter(|(name, _)| name == "logout_token");
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => Ok(RawLogoutToken::new(token)),
        _ => Err(NoLogoutToken::NotOne),
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).map(|kind| kind.as_bytes());
    let kind = kind.and_then(|kind| kind.split(|byte| *byte == b';').next());
    kind.is_some_and(|kind| kind.trim_ascii().eq_ignore_ascii_case(b"application/x-www-form-urlencoded"))
}

async fn read(body: impl Body) -> Result<Vec<u8>, NoLogoutToken> {
    let mut body = pin!(body);
    let mut form = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| NoLogoutToken::CutShort)?.into_data() else { continue };
        if data.remaining() > LARGEST - form.len() {
            return Err(NoLogoutToken::TooLarge);
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

    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::Full;

    use super::*;

    const FORM: &str = "application/x-www-form-urlencoded";

    fn headers(kind: Option<&str>) -> HeaderMap {
        let kind = kind.map(|kind| (header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap()));
        kind.into_iter().collect()
    }

    #[tokio::test]
    async fn the_form_holds_one_token() {
        use NoLogoutToken::{NotAForm, NotOne, TooLarge};
        let full = |size: usize| format!("logout_token={}", "a".repeat(size - "logout_token=".len()));
        let table = [
            (Some(FORM), "logout_token=a.b.c".to_owned(), None),
            (Some("Application/X-WWW-Form-Urlencoded; charset=utf-8"), "logout_token=a.b.c".to_owned(), None),
            (Some(FORM), "x=y&logout_token=a.b.c&z".to_owned(), None),
            (Some(FORM), full(LARGEST), None),
            (Some(FORM), full(LARGEST + 1), Some(TooLarge)),
            (Some(FORM), String::new(), Some(NotOne)),
            (Some(FORM), "token=a.b.c".to_owned(), Some(NotOne)),
            (Some(FORM), "logout_token=a&logout_token=b".to_owned(), Some(NotOne)),
            (Some(FORM), "logout_token=a&logout%5ftoken=b".to_owned(), Some(NotOne)),
            (Some("application/json"), "logout_token=a.b.c".to_owned(), Some(NotAForm)),
            (Some("application/x-www-form-urlencoded-not"), "logout_token=a.b.c".to_owned(), Some(NotAForm)),
            (Some("multipart/form-data; boundary=x"), "logout_token=a.b.c".to_owned(), Some(NotAForm)),
            (None, "logout_token=a.b.c".to_owned(), Some(NotAForm)),
        ];
        for (kind, form, expected) in table {
            let shown = form.get(..40).unwrap_or(&form).to_owned();
            let read = logout_token(&headers(kind), Full::new(Bytes::from(form))).await;
            assert_eq!(read.map(|_| ()).err(), expected, "{kind:?} {shown}");
        }
    }

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
        let read = logout_token(&headers(Some(FORM)), dribble).await;
        assert_eq!(read.map(|_| ()).err(), Some(NoLogoutToken::TooSlow));
        assert_eq!(started.elapsed(), PATIENCE);
        let read = logout_token(&headers(Some(FORM)), Cut).await;
        assert_eq!(read.map(|_| ()).err(), Some(NoLogoutToken::CutShort));
    }
}
