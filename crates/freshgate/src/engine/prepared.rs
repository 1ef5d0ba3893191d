//! Logins that an app prepares: with parameters of its own, in a form that a browser can carry and nobody can make or read.
//!
//! A link to the login is open to anyone, so nothing in its clear part may choose what is asked of the provider. An app that
//! wants more than a provider's name says so here; the engine seals it, and only what it sealed itself counts.

use std::time::Duration;

use freshgate_oidc::{AuthorizationParameters, Secret, Timestamp, base64url};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::Engine;
use crate::{keyring::Purpose, session::SessionKey};

/// How long a browser may take from the app to the login.
const LIFETIME: Duration = Duration::from_secs(120);
/// More than this is not asked for: the browser carries it in an address, and part of it in a cookie.
const LONGEST: usize = 1536;

/// What an app asks for in one login.
#[derive(Clone, Debug)]
pub struct PreparedLogin {
    /// The provider's name in the configuration.
    pub provider: String,
    /// What is asked for besides, on top of what is configured.
    pub parameters: AuthorizationParameters,
    /// The session of the browser that may use it; `None`: one that has no open session. So a user cannot be led into a
    /// login that was prepared for somebody else.
    pub session: Option<SessionKey>,
}

/// Why a login cannot be prepared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// No provider of this name is configured.
    #[error("no provider is called {0:?}")]
    UnknownProvider(String),
    /// It asks for more than a browser can carry.
    #[error("the parameters have {length} characters together, and may have {limit}")]
    TooLong {
        /// How many there are.
        length: usize,
        /// How many there may be.
        limit: usize,
    },
}

/// How it is written.
#[derive(Serialize, Deserialize)]
struct PreparedForm {
    provider: String,
    parameters: AuthorizationParameters,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<String>,
    expires_at: Timestamp,
}

impl Engine {
    /// Seals what an app asks for. It is good for two minutes, at any engine with this keyring.
    pub fn prepare_login(&self, login: &PreparedLogin) -> Result<Secret, PrepareError> {
        if !self.0.providers.contains_key(&login.provider) {
            return Err(PrepareError::UnknownProvider(login.provider.clone()));
        }
        let length = login.parameters.length();
        if length > LONGEST {
            return Err(PrepareError::TooLong { length, limit: LONGEST });
        }
        let form = PreparedForm {
            provider: login.provider.clone(),
            parameters: login.parameters.clone(),
            session: login.session.map(|key| key.to_string()),
            expires_at: self.0.clock.now() + LIFETIME,
        };
        let plain = Zeroizing::new(serde_json::to_vec(&form).expect("it has only string keys"));
        let sealed = self.0.keyring.seal(&*self.0.entropy, Purpose::PreparedLogin, b"", &plain);
        Ok(Secret::new(base64url(&sealed)))
    }

    /// What an app has asked for. `None` if it is over, or was not sealed by us.
    pub fn open_prepared_login(&self, sealed: &str) -> Option<PreparedLogin> {
        let sealed = freshgate_oidc::from_base64url(sealed)?;
        let plain = self.0.keyring.open(Purpose::PreparedLogin, b"", &sealed).ok()?;
        let form: PreparedForm = serde_json::from_slice(&plain).ok()?;
        let session = match form.session {
            Some(text) => Some(SessionKey::parse(&text)?),
            None => None,
        };
        let PreparedForm { provider, parameters, expires_at, .. } = form;
        (self.0.clock.now() < expires_at).then_some(PreparedLogin { provider, parameters, session })
    }
}
