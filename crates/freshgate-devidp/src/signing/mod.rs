//! Keys and what they sign.
//!
//! Owns the signing keys, their publication and rotation, and the compact form of a signed token. What a token says is
//! the business of whoever issues it.

mod jws;
mod key;
mod keyring;
mod verifying_key;

pub(crate) use jws::{JwsHeader, Parts, compact, signed};
pub(crate) use key::SigningKey;
pub(crate) use keyring::{Keyring, OldKeys, SavedKeyring};
pub(crate) use verifying_key::{ALGORITHMS, VerifyingKey};
