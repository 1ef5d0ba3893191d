//! Signing out everywhere at once.

use super::backchannel::{notices, tell};
use crate::provider::Provider;
use crate::state::Whose;

/// What has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SignedOut {
    pub(crate) sessions: usize,
    pub(crate) grants: usize,
}

/// Ends the sessions and the grants of a user, or of everyone, and tells the clients. Unlike an ordinary logout it
/// takes the refresh tokens along, offline access or not: that is what "everywhere" means to people.
pub(crate) async fn everywhere(provider: &Provider, whose: &Whose) -> SignedOut {
    let (sessions, grants) =
        provider.ledger.change(|state| (state.end_sessions_of(whose), state.revoke_grants_of(whose)));
    tracing::info!(?whose, sessions = sessions.len(), grants = grants.len(), "signed out everywhere");
    tell(provider, notices(provider, &sessions, &grants)).await;
    SignedOut { sessions: sessions.len(), grants: grants.len() }
}
