//! Tokens: the token endpoint, what it hands out, and taking it back.
//!
//! Owns client authentication, proofs of possession, the grants of RFC 6749, ID tokens, and revocation. Which refresh token is good is
//! decided in `state::refresh_chain`.

mod access;
mod answer;
mod assertion;
mod authorization_code;
mod client;
mod dpop;
mod endpoint;
mod error;
mod id_token;
mod refresh;
mod revoke;
mod seal;

pub(crate) use access::{Bearer, NoAccess, Resource, bearer};
pub(crate) use client::authenticate;
pub(crate) use dpop::{Nonces, Proven, Thumbprint, hand_out_nonce};
pub(crate) use endpoint::token;
pub(crate) use error::TokenError;
pub(crate) use id_token::{at_hash, released_claims};
pub(crate) use revoke::revoke;
pub(crate) use seal::Seal;
