//! What an app's request to an API carries: the access token, and, if it is bound to the session's key, the proof of
//! holding it.

use freshgate_oidc::{DpopNonce, DpopProof, Secret};
use url::Url;

use super::Engine;
use crate::session::FreshSession;

/// The header fields of one request to an API.
#[derive(Clone, Debug)]
pub struct ResourceAuthorization {
    /// `Authorization` (RFC 6750, section 2.1; RFC 9449, section 7.1).
    pub authorization: Secret,
    /// `DPoP`, if the token is bound to a key. It is for this one request, at once.
    pub dpop: Option<Secret>,
}

impl Engine {
    /// What a request of this method to this address carries. `nonce` is what the API has handed out in `DPoP-Nonce`.
    ///
    /// The key itself leaves the engine for nobody: an app that calls an API with a bound token asks for each request.
    pub fn authorization(
        &self,
        session: &FreshSession,
        method: &str,
        url: &Url,
        nonce: Option<&DpopNonce>,
    ) -> ResourceAuthorization {
        let token = session.session().0.usable_token();
        let key = token.key.filter(|_| token.token_type == "DPoP");
        let scheme = if key.is_some() { "DPoP" } else { "Bearer" };
        let dpop = key.map(|key| {
            let (now, id) = (self.0.clock.now(), self.0.entropy.token());
            let access_token = Some(token.access_token);
            key.prove(&DpopProof { method, url, access_token, nonce, now, id: &id })
        });
        let authorization = Secret::new(format!("{scheme} {}", token.access_token.expose()));
        ResourceAuthorization { authorization, dpop }
    }
}
