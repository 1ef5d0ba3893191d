//! Proofs of holding a session's key (DPoP, RFC 9449), and what the provider wants to see in them.

use std::sync::{Mutex, MutexGuard};

use freshgate_oidc::{
    DpopKey, DpopNonce, DpopProof, ExpectedTokenType, ProviderMetadata, Secret, SigningAlgorithm,
};
use url::Url;
use zeroize::Zeroizing;

use super::{DpopUse, Provider, ProviderAnswer};
use crate::clock::Entropy;

/// The header that carries a proof.
pub(super) const PROOF: &str = "dpop";
/// The header by which a server hands out a nonce (RFC 9449, section 8.1).
const NONCE: http::HeaderName = http::HeaderName::from_static("dpop-nonce");

/// The provider takes no proofs that we can make.
#[derive(Debug, thiserror::Error)]
#[error("the provider takes no DPoP proofs that we can sign, it lists: {}", .listed.join(", "))]
pub(crate) struct NoDpopAlgorithm {
    listed: Vec<String>,
}

/// The nonce that each of the provider's servers has handed out last. The next proof carries it, whose session's it is.
#[derive(Default)]
pub(super) struct Nonces {
    token: Mutex<Option<DpopNonce>>,
    userinfo: Mutex<Option<DpopNonce>>,
}

/// Which server a proof is for: each has nonces of its own (RFC 9449, section 9).
#[derive(Clone, Copy)]
pub(super) enum Server {
    Token,
    UserInfo,
}

impl Nonces {
    pub(super) fn of(&self, server: Server) -> Option<DpopNonce> {
        self.lock(server).clone()
    }

    /// Takes the nonce that an answer hands out, if there is one. Whether it is another than `used`.
    pub(super) fn learn(&self, server: Server, answer: &ProviderAnswer, used: Option<&DpopNonce>) -> bool {
        let Some(handed_out) = answer.header(NONCE).and_then(DpopNonce::parse) else { return false };
        let is_another = used != Some(&handed_out);
        *self.lock(server) = Some(handed_out);
        is_another
    }

    fn lock(&self, server: Server) -> MutexGuard<'_, Option<DpopNonce>> {
        let nonce = match server {
            Server::Token => &self.token,
            Server::UserInfo => &self.userinfo,
        };
        nonce.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// A key for the tokens of one session.
pub(crate) fn new_key(entropy: &dyn Entropy, algorithm: SigningAlgorithm) -> DpopKey {
    loop {
        let mut seed = Zeroizing::new([0; DpopKey::SEED_LENGTH]);
        entropy.fill(&mut *seed);
        if let Some(key) = DpopKey::from_seed(algorithm, &seed) {
            return key;
        }
    }
}

impl Provider {
    /// How the key of a new session signs. `None`: its tokens are bound to no key.
    pub(crate) fn dpop_algorithm(
        &self,
        metadata: &ProviderMetadata,
    ) -> Result<Option<SigningAlgorithm>, NoDpopAlgorithm> {
        let listed = DpopKey::algorithm_for(metadata);
        match (self.config.dpop, &metadata.dpop_signing_alg_values_supported) {
            (DpopUse::Never, _) => Ok(None),
            (DpopUse::IfListed, _) => Ok(listed),
            // What it does not list it may do.
            (DpopUse::Always, None) => Ok(Some(SigningAlgorithm::Es256)),
            (DpopUse::Always, Some(names)) => match listed {
                Some(algorithm) => Ok(Some(algorithm)),
                None => Err(NoDpopAlgorithm { listed: names.iter().take(20).cloned().collect() }),
            },
        }
    }

    /// The type of tokens that will do for a session with or without a key.
    pub(super) fn expected_token_type(&self, key: Option<&DpopKey>) -> ExpectedTokenType {
        match (key, self.config.dpop) {
            (None, _) => ExpectedTokenType::Bearer,
            (Some(_), DpopUse::Always) => ExpectedTokenType::Dpop,
            (Some(_), DpopUse::IfListed | DpopUse::Never) => ExpectedTokenType::Either,
        }
    }

    /// A proof for one request.
    pub(super) fn dpop_proof(
        &self,
        key: &DpopKey,
        method: &str,
        url: &Url,
        access_token: Option<&Secret>,
        nonce: Option<&DpopNonce>,
    ) -> Secret {
        let id = self.entropy.token();
        key.prove(&DpopProof { method, url, access_token, nonce, now: self.clock.now(), id: &id })
    }
}
