//! Asks: the provider, the gate that may be running, this machine. What the answers mean is for `judge`.
//!
//! - `provider.rs`: a provider, as far as it can be asked without anybody signing in
//! - `certificate.rs`: what a certificate says of itself
//! - `gate.rs`: what answers at the gate's addresses
//! - `machine.rs`: the store, the keys, Python
//! - `login.rs`: a login that somebody makes, and what comes of it

mod certificate;
mod gate;
pub(super) mod login;
mod machine;
mod provider;

use std::{error::Error, sync::Arc};

use bytes::Bytes;
use freshgate::{
    clock::Clock,
    provider::{Connection, ConnectionTrouble, ProviderAnswer, ProviderRequest, Transport, TransportError},
};
use http::{HeaderMap, Method};
use url::Url;

pub(super) use self::{
    certificate::certificate,
    gate::probe,
    machine::{python, seal, store},
    provider::provider,
};
use super::facts::{Asked, Trouble, Unreached};
use crate::{progress::Progress, words::printable_up_to};

/// The largest answer that is read.
const ANSWER_LIMIT: usize = 1024 * 1024;

/// Who asks: says meanwhile what is being asked, and by which clock.
pub(super) struct Asker {
    pub(super) progress: Progress,
    pub(super) clock: Arc<dyn Clock>,
}

impl Asker {
    /// Says what is being asked.
    pub(super) fn tell(&mut self, what: &str) {
        self.progress.say(what);
    }

    /// Asks for a page or a document.
    async fn get(
        &mut self,
        transport: &dyn Transport,
        url: &Url,
        headers: HeaderMap,
    ) -> Asked<ProviderAnswer> {
        // The address of a login carries its state, which is nobody's business.
        let mut shown = url.clone();
        shown.set_query(None);
        self.tell(&format!("asking {shown}"));
        let request = ProviderRequest {
            method: Method::GET,
            url: url.clone(),
            headers,
            body: Bytes::new(),
            answer_limit: ANSWER_LIMIT,
            connection: Connection::Kept,
        };
        match transport.send(request).await {
            Ok(answer) => Asked::Answered(answer),
            Err(error) => Asked::Unreached(unreached(url, &error).await),
        }
    }
}

/// Why something was not reached, as far as it can be found out.
async fn unreached(url: &Url, error: &TransportError) -> Unreached {
    let trouble = match error.trouble() {
        ConnectionTrouble::Other if !is_found(url).await => Trouble::NoSuchHost,
        trouble => Trouble::Connection(trouble),
    };
    Unreached { trouble, why: chain(error) }
}

/// Whether the name of the host can be looked up.
async fn is_found(url: &Url) -> bool {
    match (url.host(), url.port_or_known_default()) {
        (Some(url::Host::Domain(name)), Some(port)) => tokio::net::lookup_host((name, port)).await.is_ok(),
        _ => true,
    }
}

/// An error and its causes in one line, fit for a terminal.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let cause = error.to_string();
        // Some errors say their cause themselves.
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        next = error.source();
    }
    printable_up_to(500, &text)
}
