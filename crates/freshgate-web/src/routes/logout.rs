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
        let cookies = self.site.cookies;
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
        let cookies = self.site.cookies;
        cleared.extend(cookies.clear_session());
        let at_provider = match ended {
            Some(session) => self.engine.provider_logout(session, &self.site.redirect_uri).await,
            None => None,
        };
        match at_provider {
            Some(logout) => {
                cleared.extend(cookies.set_logout_state(logout.state.expose()));
                with_cookies(redirect(logout.url.expose()), cleared)
            }
            None => with_cookies(self.signed_out(), cleared),
        }
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
