//! Frames by which the browser tells the clients (Front-Channel Logout 2 and 3).

use std::collections::BTreeSet;

use url::Url;

use crate::provider::Provider;
use crate::state::Session;

/// What the page of a logout has frames of: the address of every client that took part and wants to be told that way.
pub(crate) fn frames(provider: &Provider, sessions: &[Session]) -> BTreeSet<Url> {
    let took_part = sessions
        .iter()
        .flat_map(|session| session.clients.iter().map(|client| (client.as_str(), session.sid.as_str())));
    took_part
        .filter_map(|(client_id, sid)| {
            let mut uri = provider.client(client_id)?.frontchannel_logout_uri.clone()?;
            uri.query_pairs_mut().append_pair("iss", provider.issuer.as_str()).append_pair("sid", sid);
            Some(uri)
        })
        .collect()
}
