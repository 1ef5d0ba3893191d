//! Leaving an authorization request with the provider before the browser goes there (PAR, RFC 9126).

use freshgate_oidc::{
    AuthorizationRequest, NoUsableClientAuthentication, ProviderMetadata, PushedAnswer, RequestUri,
    TokenRefusal, parse_pushed_answer,
};

use super::{Connection, Provider, TransportError, form, token_outcome::said};

/// The largest answer that is read.
const ANSWER_LIMIT: usize = 64 * 1024;

/// An authorization request was not left with the provider.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PushError {
    /// It has no endpoint for it.
    #[error("it has no endpoint for pushed authorization requests")]
    NoEndpoint,
    /// It takes no client authentication that we have. Nothing was sent.
    #[error("we cannot prove to it who we are")]
    ClientAuthentication(#[source] NoUsableClientAuthentication),
    /// On the way there or back.
    #[error("its endpoint for pushed authorization requests did not answer")]
    Transport(#[source] TransportError),
    /// It could not answer now.
    #[error("its endpoint for pushed authorization requests answered with status {0}")]
    Unavailable(u16),
    /// It does not take the request.
    #[error("it refused the pushed authorization request with status {}{}", .0.status, said(.0))]
    Refused(TokenRefusal),
    /// Its answer has no reference to the request.
    #[error("its answer to a pushed authorization request cannot be used")]
    Malformed,
}

impl PushError {
    /// Whether another try may go better, with nothing changed.
    pub(crate) fn is_of_the_moment(&self) -> bool {
        matches!(self, Self::Transport(_) | Self::Unavailable(_))
    }
}

impl Provider {
    /// Leaves an authorization request with the provider. Like a login's other requests it waits for no turn.
    pub(crate) async fn push_authorization(
        &self,
        metadata: &ProviderMetadata,
        request: &AuthorizationRequest,
    ) -> Result<RequestUri, PushError> {
        let endpoint =
            metadata.pushed_authorization_request_endpoint.as_ref().ok_or(PushError::NoEndpoint)?;
        let proof = self.client_proof(metadata).map_err(PushError::ClientAuthentication)?;
        let request = form(endpoint, &request.to_pushed(proof), ANSWER_LIMIT, Connection::Kept);
        let answer = self.transport.send(request).await.map_err(PushError::Transport)?;
        match parse_pushed_answer(answer.status.as_u16(), &answer.body) {
            PushedAnswer::Accepted(request_uri) => Ok(request_uri),
            PushedAnswer::Refused(refusal) => Err(PushError::Refused(refusal)),
            PushedAnswer::Unavailable { status } => Err(PushError::Unavailable(status)),
            _ => Err(PushError::Malformed),
        }
    }
}
