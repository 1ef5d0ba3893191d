//! Sign in once, stay signed in: the session library.
//!
//! The [`Engine`] signs users in, keeps their tokens, refreshes tokens and claims, and ends sessions. It speaks to one
//! [`store::Store`] and to the [`provider`]s; it knows nothing of HTTP servers, cookies or pages (see `freshgate-web`).

pub mod clock;
pub mod counting;
pub mod engine;
pub mod events;
pub mod freshness;
pub mod keyring;
pub mod landmark;
pub mod provider;
pub mod sabotage;
pub mod session;
pub mod store;
pub mod tasks;

pub use engine::Engine;
pub use freshgate_oidc::{Secret, Timestamp};
