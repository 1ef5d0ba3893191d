//! GET `/auth/frontchannel-logout`: a page of the provider has a frame here, by which it says that a session there has
//! ended (OpenID Connect Front-Channel Logout 1.0).
//!
//! Our cookie is `SameSite=Lax`, so a frame in a page of another site comes without it: whose session is meant is looked
//! up by the provider's own name for it. Nothing of the request is signed. It can end a session, and no more.

use freshgate::session::EndReason;
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
                self.engine.front_channel_logout(issuer, session_id).await?;
                Ok(framable())
            }
            Some(FrontChannelLogout::Unnamed) => self.end_unnamed(request).await,
            None => Err(Failure::logout_not_carried_out(
                Fault::Browser,
                "the request names not one issuer and one session",
            )),
        }
    }

    /// A provider that gives its sessions no names can mean the browser's own alone, where the cookie comes along: it
    /// does if the provider is of the same site. Where it gives names it must use them, or any page of this site could
    /// sign users out behind their backs.
    async fn end_unnamed(&self, request: &Parts) -> Result<Answer, Failure> {
        match self.session(request).await? {
            Session::Open(session) if session.provider_session().is_none() && is_frame(request) => {
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
