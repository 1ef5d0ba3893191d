//! POST `/auth/backchannel-logout`: a provider says who signed out there (OpenID Connect Back-Channel Logout 1.0).
//!
//! Anyone can send such a request. What it may cost is bounded in `form.rs` (size and time of the body) and in the engine
//! (how often a provider is asked for its keys); what it may do is decided by the token that it brings, and by nothing else
//! of it: no cookie is read.

use bytes::Bytes;
use freshgate_oidc::RawLogoutToken;
use http::{HeaderMap, request::Parts};
use http_body::Body;
use url::form_urlencoded;

use super::{
    Routes,
    form::{NoForm, form},
};
use crate::{
    failure::{Failure, Fault},
    respond::Answer,
};

/// Why there is no logout token (section 2.5).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum NoLogoutToken {
    #[error(transparent)]
    NoForm(#[from] NoForm),
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
    let form = form(headers, body).await?;
    let mut tokens = form_urlencoded::parse(&form).filter(|(name, _)| name == "logout_token");
    match (tokens.next(), tokens.next()) {
        (Some((_, token)), None) => Ok(RawLogoutToken::new(token)),
        _ => Err(NoLogoutToken::NotOne),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, header};
    use http_body_util::Full;

    use super::{super::form::LARGEST, *};

    const FORM: &str = "application/x-www-form-urlencoded";

    fn headers(kind: Option<&str>) -> HeaderMap {
        let kind = kind.map(|kind| (header::CONTENT_TYPE, HeaderValue::from_str(kind).unwrap()));
        kind.into_iter().collect()
    }

    #[tokio::test]
    async fn the_form_holds_one_token() {
        use NoLogoutToken::NotOne;
        let (not_a_form, too_large) =
            (NoLogoutToken::NoForm(NoForm::NotAForm), NoLogoutToken::NoForm(NoForm::TooLarge));
        let full = |size: usize| format!("logout_token={}", "a".repeat(size - "logout_token=".len()));
        let table = [
            (Some(FORM), "logout_token=a.b.c".to_owned(), None),
            (Some("Application/X-WWW-Form-Urlencoded; charset=utf-8"), "logout_token=a.b.c".to_owned(), None),
            (Some(FORM), "x=y&logout_token=a.b.c&z".to_owned(), None),
            (Some(FORM), full(LARGEST), None),
            (Some(FORM), full(LARGEST + 1), Some(&too_large)),
            (Some(FORM), String::new(), Some(&NotOne)),
            (Some(FORM), "token=a.b.c".to_owned(), Some(&NotOne)),
            (Some(FORM), "logout_token=a&logout_token=b".to_owned(), Some(&NotOne)),
            (Some(FORM), "logout_token=a&logout%5ftoken=b".to_owned(), Some(&NotOne)),
            (Some("application/json"), "logout_token=a.b.c".to_owned(), Some(&not_a_form)),
            (
                Some("application/x-www-form-urlencoded-not"),
                "logout_token=a.b.c".to_owned(),
                Some(&not_a_form),
            ),
            (Some("multipart/form-data; boundary=x"), "logout_token=a.b.c".to_owned(), Some(&not_a_form)),
            (None, "logout_token=a.b.c".to_owned(), Some(&not_a_form)),
        ];
        for (kind, form, expected) in table {
            let shown = form.get(..40).unwrap_or(&form).to_owned();
            let read = logout_token(&headers(kind), Full::new(Bytes::from(form))).await;
            assert_eq!(read.map(|_| ()).err().as_ref(), expected, "{kind:?} {shown}");
        }
    }
}
