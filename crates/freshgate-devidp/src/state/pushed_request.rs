//! Authorization requests that clients have left here (RFC 9126).

use std::time::Duration;

use super::{Hashed, State};
use crate::clock::UnixTime;
use crate::random::random_text;

/// RFC 9126 2.2 recommends five to 600 seconds.
pub(crate) const REQUEST_LIFETIME: Duration = Duration::from_secs(60);

/// One such request.
#[derive(Clone, Debug)]
pub(super) struct PushedRequest {
    client_id: String,
    /// Its parameters, as a query.
    parameters: String,
    expires: UnixTime,
}

impl PushedRequest {
    pub(super) fn is_over(&self, now: UnixTime) -> bool {
        self.expires <= now
    }
}

impl State {
    /// Keeps a request; yields its name, which nobody can guess.
    pub(crate) fn keep_request(&mut self, client_id: &str, parameters: String, now: UnixTime) -> String {
        self.prune(now);
        let reference = format!("urn:ietf:params:oauth:request_uri:{}", random_text::<32>());
        let expires = now.after(REQUEST_LIFETIME);
        let request = PushedRequest { client_id: client_id.to_owned(), parameters, expires };
        self.pushed_requests.insert(Hashed::of(&reference), request);
        reference
    }

    /// The parameters of a request that this client has left here, and that was not answered yet.
    pub(crate) fn kept_request(&self, reference: &str, client_id: &str, now: UnixTime) -> Option<&str> {
        let request = self.pushed_requests.get(&Hashed::of(reference))?;
        (request.client_id == client_id && !request.is_over(now)).then_some(request.parameters.as_str())
    }

    /// Forgets a request because it is answered. Whether it was there: of two answers the first counts.
    pub(crate) fn answer_request(&mut self, reference: &str) -> bool {
        self.pushed_requests.remove(&Hashed::of(reference)).is_some()
    }
}
