//! Our own routes: signing in, signing out, and what the page's own scripts may ask.
//!
//! Each is one step: it reads the request, asks the engine, and says where to go next. Failures travel up to the layer,
//! which answers all of them in one place.

mod back_channel;
mod callback;
mod form;
mod front_channel;
mod login;
mod logout;
mod refresh;
mod user;

use std::sync::Arc;

use freshgate::{Engine, engine::Opened, session::OpenSession, store::StoreError};
use http::{Method, StatusCode, request::Parts};
use http_body::Body;

use crate::{
    admitted::Absence,
    arrival::Arrival,
    config::Site,
    cookies::Offered,
    counting,
    failure::Failure,
    origin::Sender,
    page::{Action, Page},
    rates::Rates,
    respond::{Answer, page, redirect},
    route::{Ours, is_speculative},
};

/// What our routes are made of.
pub(crate) struct Routes {
    pub(crate) engine: Engine,
    pub(crate) site: Site,
    pub(crate) rates: Arc<Rates>,
}

/// Who a browser says it is, and what became of it.
#[derive(Debug)]
pub(crate) enum Session {
    /// It offers none that is open.
    Absent(Absence),
    /// It offers one that is open.
    Open(OpenSession),
}

impl Session {
    /// The session of a request that needs one.
    pub(crate) fn needed(self) -> Result<OpenSession, Failure> {
        match self {
            Self::Open(session) => Ok(session),
            Self::Absent(absence) => Err(absence.into()),
        }
    }
}

impl Routes {
    /// Answers a request for a route of ours. The body is read by the one that takes any.
    pub(crate) async fn answer(
        &self,
        ours: Ours,
        request: &Parts,
        body: impl Body,
    ) -> Result<Answer, Failure> {
        if !ours.allowed().split(", ").any(|allowed| request.method == allowed) {
            return Err(Failure::method_not_allowed(ours.allowed()));
        }
        if is_speculative(request) {
            return Err(Failure::speculative());
        }
        // A page of another site can send a POST, with the user's cookies if it is a sibling.
        if request.method == Method::POST
            && matches!(ours, Ours::Logout | Ours::Refresh)
            && self.site.origins.sender(request) != Sender::SameOrigin
        {
            return Err(Failure::cross_origin());
        }
        self.take_turn(ours, request)?;
        if ours == Ours::Login && request.method == Method::POST {
            return self.posted_login(request, body).await;
        }
        match ours {
            Ours::Login => self.login(request).await,
            Ours::Callback => self.callback(request).await,
            Ours::Logout => self.logout(request).await,
            Ours::Refresh => self.refresh(request).await,
            Ours::User => self.user(request).await,
            Ours::BackChannelLogout => self.back_channel_logout(request, body).await,
            Ours::FrontChannelLogout => self.front_channel_logout(request).await,
            // The layer answers it: what is asked about is another request.
            Ours::Verify => Err(Failure::not_for_proxies()),
        }
    }

    /// Refuses a client that asks too often, before that costs anything.
    fn take_turn(&self, ours: Ours, request: &Parts) -> Result<(), Failure> {
        let Some(arrival) = Arrival::of(request) else { return Ok(()) };
        self.rates.take(ours, arrival, self.engine.clock().now()).map_err(|too_often| {
            counting::too_often(ours);
            let failure = Failure::too_often(too_often);
            if ours == Ours::Login { failure.offering(self.same_login(request)) } else { failure }
        })
    }

    /// Looks up the session that a browser offers.
    pub(crate) async fn session(&self, request: &Parts) -> Result<Session, StoreError> {
        Ok(match self.site.cookies.session(&request.headers) {
            Offered::Nothing | Offered::Malformed => Session::Absent(Absence::NotSignedIn),
            Offered::Conflicting => Session::Absent(Absence::Conflicting),
            Offered::WellFormed(id) => match self.engine.open(id.key()).await? {
                Opened::Open(session) => {
                    self.engine.used(session.key());
                    Session::Open(session)
                }
                Opened::Ended(reason) => Session::Absent(Absence::Over(reason)),
                Opened::Unknown => Session::Absent(Absence::NotSignedIn),
            },
        })
    }

    /// Where a user lands who signed out: the app's start, unless that would sign in again at once.
    fn signed_out(&self) -> Answer {
        self.signed_out_to(&self.site.start(), self.site.start_needs_login())
    }

    fn signed_out_to(&self, start: &str, needs_login: bool) -> Answer {
        if !needs_login {
            return redirect(start);
        }
        page(
            StatusCode::OK,
            &Page {
                heading: "You are signed out",
                message: "You can close this page now.",
                action: Some(Action::Link { label: "Sign in again", to: start }),
                quote: None,
            },
        )
    }
}
