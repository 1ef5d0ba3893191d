//! Browsers in which someone is signed in at the provider.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::grant::Whose;
use super::{Hashed, State};
use crate::clock::UnixTime;
use crate::random::random_text;

/// Long enough that nobody has to sign in again while working on something.
pub(crate) const SESSION_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// One browser's session.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    /// The identifier that ID tokens and logout tokens carry. It opens nothing: the cookie holds a secret besides.
    pub(crate) sid: String,
    pub(crate) sub: String,
    pub(crate) auth_time: UnixTime,
    /// Which clients got codes in this session: those to tell when it ends.
    pub(crate) clients: BTreeSet<String>,
    ends_at: UnixTime,
    secret: Hashed,
}

impl Session {
    pub(super) fn lives(&self, now: UnixTime) -> bool {
        now < self.ends_at
    }
}

/// Somebody has just signed in.
pub(crate) struct SignedIn {
    /// What the browser's cookie must hold from now on.
    pub(crate) cookie: String,
    pub(crate) session: Session,
}

impl State {
    /// Signs `sub` in, in the browser that sent `cookie` (if it sent any). A session of the same user goes on under the
    /// same `sid` with a new cookie and a new time of authentication; one of another user is over.
    pub(crate) fn sign_in(&mut self, sub: &str, cookie: Option<&str>, now: UnixTime) -> SignedIn {
        self.prune(now);
        let before = cookie.and_then(|cookie| self.session(cookie, now)).map(|session| session.sid.clone());
        let before = before.and_then(|sid| self.sessions.remove(&sid)).filter(|session| session.sub == sub);
        let (sid, clients) = match before {
            Some(session) => (session.sid, session.clients),
            None => (random_text::<16>(), BTreeSet::new()),
        };
        let secret = random_text::<32>();
        let cookie = format!("{sid}.{secret}");
        let session = Session {
            sid: sid.clone(),
            sub: sub.to_owned(),
            auth_time: now,
            clients,
            ends_at: now.after(SESSION_LIFETIME),
            secret: Hashed::of(&secret),
        };
        self.sessions.insert(sid, session.clone());
        SignedIn { cookie, session }
    }

    /// The live session of the browser that sent `cookie`.
    pub(crate) fn session(&self, cookie: &str, now: UnixTime) -> Option<&Session> {
        let (sid, secret) = cookie.split_once('.')?;
        self.sessions.get(sid).filter(|session| session.secret == Hashed::of(secret) && session.lives(now))
    }

    /// Notes that a client took part in a session.
    pub(super) fn join_session(&mut self, sid: &str, client_id: &str) {
        if let Some(session) = self.sessions.get_mut(sid) {
            session.clients.insert(client_id.to_owned());
        }
    }

    /// Live sessions.
    pub(crate) fn sessions_of(&self, whose: &Whose, now: UnixTime) -> impl Iterator<Item = &Session> {
        self.sessions.values().filter(move |session| session.lives(now) && whose.includes(&session.sub))
    }

    /// Ends the session with this `sid` and yields it.
    pub(crate) fn end_session(&mut self, sid: &str) -> Option<Session> {
        self.sessions.remove(sid)
    }

    /// Ends sessions and yields them.
    pub(crate) fn end_sessions_of(&mut self, whose: &Whose) -> Vec<Session> {
        self.sessions
            .extract_if(|_, session| whose.includes(&session.sub))
            .map(|(_, session)| session)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use crate::clock::UnixTime;
    use crate::state::State;

    const NOW: UnixTime = UnixTime::from_millis(1_000_000);

    #[test]
    fn the_sid_alone_opens_nothing() {
        let mut state = State::default();
        let signed_in = state.sign_in("alice", None, NOW);
        assert_eq!(state.session(&signed_in.cookie, NOW).unwrap().sub, "alice");
        for forged in ["", ".", &signed_in.session.sid, &format!("{}.guess", signed_in.session.sid)] {
            assert!(state.session(forged, NOW).is_none(), "{forged}");
        }
        assert!(state.session(&signed_in.cookie, NOW.after(super::SESSION_LIFETIME)).is_none());
    }

    #[test]
    fn signing_in_again_keeps_the_sid_but_not_the_cookie() {
        let mut state = State::default();
        let first = state.sign_in("alice", None, NOW);
        let again = state.sign_in("alice", Some(&first.cookie), NOW);
        assert_eq!(again.session.sid, first.session.sid);
        assert!(state.session(&first.cookie, NOW).is_none());
        let other = state.sign_in("bob", Some(&again.cookie), NOW);
        assert_ne!(other.session.sid, first.session.sid);
        assert!(state.session(&again.cookie, NOW).is_none());
    }
}
