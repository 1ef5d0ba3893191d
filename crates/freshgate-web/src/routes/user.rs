//! GET `/auth/user`: who is signed in, for the page's own scripts.

use http::{StatusCode, request::Parts};

use super::Routes;
use crate::{
    failure::Failure,
    respond::{Answer, json},
};

impl Routes {
    pub(super) async fn user(&self, request: &Parts) -> Result<Answer, Failure> {
        let session = self.session(request).await?.needed()?;
        Ok(json(StatusCode::OK, session.claims()))
    }
}
