//! `/auth/logout`: ends the session here, then at the provider.
//!
//! No `Clear-Site-Data`: what an app keeps in the browser's storage is the app's to clear, and clearing cookies would
//! reach those of every app on the same domain.

use freshgate::session::{EndReason, OpenSession};
use http::{HeaderValue, Method, StatusCode, request::Parts};

use super::{Routes, Session};
use crate::{
    failure::Failure,
    origin::Sender,
    page::{Action, Page},
    respond::{Answer, page, redirect, with_cookies},
    route::{Asked, Ours, is_top_level},
};

/// Who signed out at another host than the one that the provider leads back to, and where that starts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SignedOutElsewhere {
    pub(super) start: String,
    /// Whether the start leads to the login at once.
    pub(super) needs_login: bool,
}

impl SignedOutElsewhere {
    /// As it is kept in a cookie.
    fn to_text(&self) -> String {
        format!("{}{}", if self.needs_login { "!" } else { "" }, self.start)
    }

    pub(super) fn of_text(text: &str) -> Self {
        let start = text.strip_prefix('!');
        Self { start: start.unwrap_or(text).to_owned(), needs_login: start.is_some() }
    }
}

impl Routes {
    pub(super) async fn logout(&self, request: &Parts) -> Result<Answer, Failure> {
        if request.method == Method::POST {
            // Its origin was checked on the way here.
            return self.sign_out(request).await;
        }
        // By GET only where a tab goes there from this site. An image in a page of the app's own, or a link anywhere
        // else, would sign users out behind their backs.
        if Asked::of(request) != Asked::Page {
            return Err(Failure::cross_origin());
        }
        match self.site.origins.sender(request) {
            Sender::SameOrigin | Sender::SameSite if is_top_level(request) => self.sign_out(request).await,
            _ => Ok(self.ask_whether_to_sign_out()),
        }
    }

    async fn sign_out(&self, request: &Parts) -> Result<Answer, Failure> {
        let cookies = &self.site.cookies;
        // Only what is open is ended: an end leaves a row in the store, and anyone can make up a cookie.
        let ended = match self.session(request).await? {
            Session::Open(session) => self.engine.end(session.key(), EndReason::Logout).await?,
            _ => None,
        };
        // Logins under way in other tabs go too: after this, nothing here signs in by itself.
        Ok(self.leave(ended.as_ref(), cookies.clear_flows(&request.headers)).await)
    }

    /// Clears the session's cookie, and sends the browser on to the provider if that can sign the user out.
    pub(crate) async fn leave(&self, ended: Option<&OpenSession>, mut cleared: Vec<HeaderValue>) -> Answer {
        let cookies = &self.site.cookies;
        cleared.extend(cookies.clear_session());
        let at_provider = match ended {
            Some(session) => self.engine.provider_logout(session, &self.site.redirect_uri).await,
            None => None,
        };
        match at_provider {
            Some(logout) => {
                cleared.extend(
                    cookies.set_logout_state(logout.state.expose(), self.start_elsewhere().as_deref()),
                );
                with_cookies(redirect(logout.url.expose()), cleared)
            }
            None => with_cookies(self.signed_out(), cleared),
        }
    }

    /// Where the user comes to after the provider's logout, if it leads back to another host: that does not know this one's
    /// start.
    fn start_elsewhere(&self) -> Option<String> {
        self.site.login_origin.as_ref()?;
        let start = self.site.origins.public().join(&self.site.start()).ok()?;
        Some(SignedOutElsewhere { start: start.into(), needs_login: self.site.start_needs_login() }.to_text())
    }

    fn ask_whether_to_sign_out(&self) -> Answer {
        let to = self.site.path_of(Ours::Logout);
        page(
            StatusCode::OK,
            &Page {
                heading: "Sign out?",
                message: "You are about to sign out of this app.",
                action: Some(Action::Button { label: "Sign out", to: &to }),
                quote: None,
            },
        )
    }
}
