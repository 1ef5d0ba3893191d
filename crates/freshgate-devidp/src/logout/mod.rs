//! Signing out, and telling the clients.
//!
//! Owns who has to be told when sessions end, the logout tokens, and the end-session endpoint. Relying parties are told
//! before the answer goes out, so that a browser that comes back finds them informed; those that want to be told by the
//! browser are told on its way.

mod backchannel;
mod end_session;
mod everywhere;
mod frontchannel;

pub(crate) use backchannel::{Messenger, logout_token_claims, notices};
pub(crate) use end_session::{EndSessionError, confirm, get, post};
pub(crate) use everywhere::everywhere;
