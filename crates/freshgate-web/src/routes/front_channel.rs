//! GET `/auth/frontchannel-logout`: a page of the provider has a frame here, by which it says that a session there has
//! ended (OpenID Connect Front-Channel Logout 1.0).
//!
//! Our cookie is `SameSite=Lax`, so a frame in a page of another site comes without it: whose session is meant is looked
//! up by the provider's own name for it. Nothing of the request is signed. It can end a session, and no more.

use freshgate::session::{EndReason, OpenSession};
use freshgate_oidc::FrontChannelLogout;
use http::request::Parts;

use super::{Routes, Session};
use crate::{
    failure::{Failure, Fault},
    respond::{Answer, framable, with_cookies},
};

impl Routes {
    pub(super) async fn front_channel_logout(&self, request: &Parts) -> Result<Answer, Failure> {
        let query = request.uri.query().unwrap_or_default();
        match FrontChannelLogout::parse(query) {
            Some(FrontChannelLogout::Session { issuer, session_id }) => {
                if self.engine.front_channel_logout(issuer.clone(), session_id).await? > 0 {
                    return Ok(framable());
                }
                // Some providers put something else into `sid` (the user's name), and no `sid` into their ID tokens.
                self.end_unnamed(request, |session| session.issuer() == &issuer).await
            }
            Some(FrontChannelLogout::Unnamed) => self.end_unnamed(request, |_| true).await,
            None => Err(Failure::logout_not_carried_out(
                Fault::Browser,
                "the request names not one issuer and one session",
            )),
        }
    }

    /// A provider that gives its sessions no names can mean the browser's own alone, where the cookie comes along: it
    /// does if the provider is of the same site. Where it gives names it must use them, or any page of this site could
    /// sign users out behind their backs. `is_meant` says what else must hold of the session.
    async fn end_unnamed(
        &self,
        request: &Parts,
        is_meant: impl Fn(&OpenSession) -> bool,
    ) -> Result<Answer, Failure> {
        match self.session(request).await? {
            Session::Open(session)
                if session.provider_session().is_none() && is_meant(&session) && is_frame(request) =>
            {
                self.engine.end(session.key(), EndReason::ProviderLogout).await?;
                Ok(with_cookies(framable(), self.site.cookies.clear_session()))
            }
            _ => Ok(framable()),
        }
    }
}

fn is_frame(request: &Parts) -> bool {
    let destination = request.headers.get("sec-fetch-dest");
    destination.is_some_and(|destination| destination == "iframe" || destination == "frame")
}
