//! A request that passed the guard, and who sent it.

use freshgate::session::{EndReason, OpenSession};
use http::Request;

use crate::{access::Permit, failure::Failure, routes::Session};

/// Who sent a request, as the session layer found out.
#[derive(Clone, Debug)]
pub enum Visitor {
    /// Nobody: no session cookie, or one that opens no session.
    Anonymous,
    /// The user of an open session.
    SignedIn(OpenSession),
}

/// Why a request comes from nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Absence {
    /// It offers no session, what cannot be one of ours, or one that nobody knows.
    NotSignedIn,
    /// It offers several that differ; see [`Offered::Conflicting`](crate::cookies::Offered::Conflicting).
    Conflicting,
    /// It offers one that is over.
    Over(EndReason),
}

/// What who needs a session is told.
impl From<Absence> for Failure {
    fn from(absence: Absence) -> Self {
        match absence {
            Absence::NotSignedIn => Self::not_signed_in(),
            // The login could not mend this, and would send the browser round in circles.
            Absence::Conflicting => Self::conflicting_sessions(),
            Absence::Over(reason) => Self::session_over(reason),
        }
    }
}

/// A request that the guard let through. Our cookies are taken out of it.
#[derive(Debug)]
pub struct Admitted<B> {
    request: Request<B>,
    visitor: Visitor,
    absence: Absence,
    permit: Permit,
}

impl<B> Admitted<B> {
    /// Made by the layer alone: whoever holds one knows that the guard was asked.
    pub(crate) fn new(request: Request<B>, sender: Session, permit: Permit) -> Self {
        let (visitor, absence) = match sender {
            Session::Open(session) => (Visitor::SignedIn(session), Absence::NotSignedIn),
            Session::Absent(absence) => (Visitor::Anonymous, absence),
        };
        Self { request, visitor, absence, permit }
    }

    /// Who sent it.
    pub fn visitor(&self) -> &Visitor {
        &self.visitor
    }

    /// Why nobody did, of an anonymous visitor.
    pub(crate) fn absence(&self) -> Absence {
        self.absence
    }

    /// By which rules the sender was let in. To be kept by whoever keeps something open: when the session's claims change,
    /// it may hold no longer.
    pub fn permit(&self) -> &Permit {
        &self.permit
    }

    /// The request and who sent it.
    pub fn into_parts(self) -> (Request<B>, Visitor) {
        (self.request, self.visitor)
    }
}
