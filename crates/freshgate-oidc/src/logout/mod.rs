//! Signing out: at the provider when the user signs out here, and here when the user signs out at the provider.
//!
//! What a logout means for sessions is left to the caller.

mod back_channel;
mod end_session;
mod front_channel;

pub use back_channel::{
    LogoutTokenError, LogoutTokenExpectations, LogoutWho, RawLogoutToken, VerifiedLogoutToken,
};
pub use end_session::EndSessionRequest;
pub use front_channel::FrontChannelLogout;
