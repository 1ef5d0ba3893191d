//! The provider's parts, as every endpoint gets them.

use std::sync::Arc;

use crate::clock::{Clock, UnixTime};
use crate::config::{DevClient, DevProviderConfig};
use crate::issuer::Issuer;
use crate::logout::Messenger;
use crate::serve::OpenConnections;
use crate::signing::Keyring;
use crate::state::{Ledger, SavedState};
use crate::token::{Nonces, Seal};

/// One running provider.
pub(crate) struct Provider {
    pub(crate) config: DevProviderConfig,
    pub(crate) issuer: Issuer,
    pub(crate) clock: Clock,
    pub(crate) keyring: Keyring,
    pub(crate) seal: Seal,
    pub(crate) nonces: Nonces,
    pub(crate) ledger: Ledger,
    pub(crate) messenger: Messenger,
    /// From whomever.
    pub(crate) connections: Arc<OpenConnections>,
    /// The session cookie's name. Cookies do not know ports, so it has the port in it.
    pub(crate) cookie_name: String,
}

/// How endpoints hold it.
pub(crate) type SharedProvider = Arc<Provider>;

impl Provider {
    pub(crate) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    pub(crate) fn client(&self, id: &str) -> Option<&DevClient> {
        self.config.clients.iter().find(|client| client.id == id)
    }

    /// Where a relying party starts (Discovery 4).
    pub(crate) fn metadata_url(&self) -> String {
        self.issuer.endpoint("/.well-known/openid-configuration")
    }

    /// What the state file is to hold.
    pub(crate) fn saved_state(&self) -> SavedState {
        SavedState::new(self.seal.save(), self.keyring.save(), self.ledger.read(Clone::clone))
    }
}
