//! A refresh token is taken back at the provider (RFC 7009).

use std::{error::Error, time::Duration};

use freshgate_oidc::{Secret, TokenAnswer, TokenRequest, parse_token_answer};
use http::header;

use super::{Connection, Provider, form};

/// The largest answer that is read: there is nothing in it but an error.
const ANSWER_LIMIT: usize = 64 * 1024;

/// What became of a request to revoke a token.
pub(crate) enum Revocation {
    /// The token is good no longer, if it ever was.
    Done,
    /// The provider has no revocation endpoint.
    NotOffered,
    /// The token may still be good (RFC 7009, section 2.2.1). Ask again, perhaps when the provider says.
    NotNow(Box<dyn Error + Send + Sync>, Option<Duration>),
    /// The provider refuses, and would do so again.
    Refused(Box<dyn Error + Send + Sync>),
}

impl Provider {
    /// Revokes a refresh token, and with it what was issued on it (RFC 7009, section 2.1). Waits for no turn: whoever
    /// revokes many bounds how many at once.
    pub(crate) async fn revoke(&self, refresh_token: &Secret) -> Revocation {
        let metadata = match self.metadata().await {
            Ok(metadata) => metadata,
            Err(error) => return Revocation::NotNow(error.into(), None),
        };
        let Some(endpoint) = metadata.revocation_endpoint.clone() else { return Revocation::NotOffered };
        let proof = match self.client_proof(&metadata) {
            Ok(proof) => proof,
            Err(error) => return Revocation::Refused(error.into()),
        };
        let request = TokenRequest::revoke_refresh_token(proof, refresh_token);
        let request = form(&endpoint, &request, ANSWER_LIMIT, Connection::Kept);
        let answer = match self.transport.send(request).await {
            Ok(answer) => answer,
            Err(error) => return Revocation::NotNow(error.into(), None),
        };
        let status = answer.status;
        if status.is_success() {
            // What it says besides is of no interest (section 2.2).
            return Revocation::Done;
        }
        let said = |what: &str| format!("its revocation endpoint answers with status {status}{what}").into();
        // Errors are those of the token endpoint (section 2.2.1).
        match parse_token_answer(
            status.as_u16(),
            answer.header(header::CONTENT_TYPE),
            answer.header(header::RETRY_AFTER),
            &answer.body,
            self.clock.now(),
        ) {
            TokenAnswer::Unavailable { retry_after, .. } => Revocation::NotNow(said(""), retry_after),
            TokenAnswer::Refused(refusal) => {
                let code = refusal.code.map(|code| format!(", {code}")).unwrap_or_default();
                Revocation::Refused(said(&code))
            }
            _ => Revocation::Refused(said("")),
        }
    }
}
