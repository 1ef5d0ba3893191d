//! Authorization codes.

use std::time::Duration;

use super::grant::GrantId;
use super::session::Session;
use super::{Hashed, State};
use crate::authorize::AuthorizeRequest;
use crate::clock::UnixTime;
use crate::random::random_text;
use crate::token::Thumbprint;

/// RFC 6749 4.1.2 recommends ten minutes at most.
const CODE_LIFETIME: Duration = Duration::from_secs(60);
/// For how long a replay is still recognised as one.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What a code stands for.
#[derive(Clone, Debug)]
pub(crate) struct Code {
    pub(crate) client_id: String,
    pub(crate) redirect_uri: String,
    pub(crate) code_challenge: String,
    pub(crate) sub: String,
    pub(crate) sid: String,
    pub(crate) auth_time: UnixTime,
    pub(crate) nonce: Option<String>,
    pub(crate) scope: Vec<String>,
    /// The key that it is bound to (RFC 9449 10).
    pub(crate) dpop_jkt: Option<Thumbprint>,
    issued_at: UnixTime,
    spent: Option<Spent>,
}

#[derive(Clone, Copy, Debug)]
enum Spent {
    ForNothing,
    For(GrantId),
}

/// A client brought a code.
pub(crate) enum Redeemed {
    /// For the first time and in time.
    Now(Box<Code>),
    /// Not for the first time. What it had yielded is revoked.
    Replayed,
    /// It is not a code, it has expired, or it is another client's.
    Unknown,
}

impl Code {
    /// The code that answers a request in a session.
    pub(crate) fn new(request: &AuthorizeRequest<'_>, session: &Session, now: UnixTime) -> Code {
        Code {
            client_id: request.client.id.clone(),
            redirect_uri: request.redirect_uri.to_owned(),
            code_challenge: request.code_challenge.to_owned(),
            sub: session.sub.clone(),
            sid: session.sid.clone(),
            auth_time: session.auth_time,
            nonce: request.nonce.map(str::to_owned),
            scope: request.scope.clone(),
            dpop_jkt: request.dpop_jkt,
            issued_at: now,
            spent: None,
        }
    }

    pub(super) fn forgettable(&self, now: UnixTime) -> bool {
        now.since(self.issued_at) >= REMEMBERED
    }
}

impl State {
    /// Makes a code.
    pub(crate) fn issue_code(&mut self, code: Code) -> String {
        self.prune(code.issued_at);
        self.join_session(&code.sid, &code.client_id);
        let text = random_text::<32>();
        self.codes.insert(Hashed::of(&text), code);
        text
    }

    /// Spends a code at the first attempt of its own client, whatever becomes of that attempt.
    pub(crate) fn redeem_code(&mut self, text: &str, client_id: &str, now: UnixTime) -> Redeemed {
        let Some(code) = self.codes.get_mut(&Hashed::of(text)) else { return Redeemed::Unknown };
        if code.client_id != client_id {
            return Redeemed::Unknown;
        }
        match code.spent {
            None if now.since(code.issued_at) < CODE_LIFETIME => {
                code.spent = Some(Spent::ForNothing);
                Redeemed::Now(Box::new(code.clone()))
            }
            None => Redeemed::Unknown,
            Some(Spent::ForNothing) => Redeemed::Replayed,
            Some(Spent::For(grant)) => {
                self.revoke_grant(grant);
                Redeemed::Replayed
            }
        }
    }

    /// Notes what a code has yielded, so that a replay can take it back (RFC 6749 4.1.2).
    pub(crate) fn code_yielded(&mut self, text: &str, grant: GrantId) {
        if let Some(code) = self.codes.get_mut(&Hashed::of(text)) {
            code.spent = Some(Spent::For(grant));
        }
    }
}
