//! POST `/auth/refresh`: fresh tokens and claims for the session. The answer holds neither.

use std::time::Duration;

use http::{StatusCode, request::Parts};
use serde::Serialize;

use super::Routes;
use crate::{
    failure::Failure,
    respond::{Answer, json},
};

/// How long a page waits. The refresh goes on when it is over.
const DEADLINE: Duration = Duration::from_secs(20);

#[derive(Serialize)]
struct Refreshed {
    outcome: &'static str,
    generation: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<f64>,
}

impl Routes {
    pub(super) async fn refresh(&self, request: &Parts) -> Result<Answer, Failure> {
        let key = self.session(request).await?.needed()?.key();
        let (fresh, outcome) = self.engine.refresh(key, DEADLINE).await?;
        let session = fresh.session();
        Ok(json(
            StatusCode::OK,
            &Refreshed {
                outcome: outcome.code(),
                generation: session.generation(),
                expires_at: session.tokens().expires_at.map(freshgate::Timestamp::as_unix_seconds_f64),
            },
        ))
    }
}
