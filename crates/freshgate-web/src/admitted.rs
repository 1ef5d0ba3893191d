//! A request that passed the guard, and who sent it.

use freshgate::session::OpenSession;
use http::Request;

use crate::access::Permit;

/// Who sent a request, as the session layer found out.
#[derive(Clone, Debug)]
pub enum Visitor {
    /// Nobody: no session cookie, or one that opens no session.
    Anonymous,
    /// The user of an open session.
    SignedIn(OpenSession),
}

/// A request that the guard let through. Our cookies are taken out of it.
#[derive(Debug)]
pub struct Admitted<B> {
    request: Request<B>,
    visitor: Visitor,
    permit: Permit,
}

impl<B> Admitted<B> {
    /// Made by the layer alone: whoever holds one knows that the guard was asked.
    pub(crate) fn new(request: Request<B>, visitor: Visitor, permit: Permit) -> Self {
        Self { request, visitor, permit }
    }

    /// Who sent it.
    pub fn visitor(&self) -> &Visitor {
        &self.visitor
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
