//! GET `/auth/user`: who is signed in, for the page's own scripts.

use http::{StatusCode, request::Parts};

use super::{Routes, Session};
use crate::{
    failure::Failure,
    respond::{Answer, json},
};

impl Routes {
    pub(super) async fn user(&self, request: &Parts) -> Result<Answer, Failure> {
        match self.session(request).await? {
            Session::Open(session) => Ok(json(StatusCode::OK, session.claims())),
            Session::Over(Some(reason)) => Err(Failure::session_over(reason)),
            Session::Conflicting => Err(Failure::conflicting_sessions()),
            Session::Over(None) | Session::None => Err(Failure::not_signed_in()),
        }
    }
}
