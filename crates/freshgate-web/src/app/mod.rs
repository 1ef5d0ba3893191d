//! An app of your own behind the gate, in one process with it: no reverse proxy, and no session API.
//!
//! [`AppGate`] puts the parts together and keeps them going. The layer that it makes wraps a service that takes ordinary
//! requests, such as an axum `Router`, and puts the [`User`] among a request's extensions.
//!
//! - `gate.rs`, `builder.rs`: from a few settings to a layer, and what goes on behind it
//! - `service.rs`: from an admitted request to one that any service takes
//! - `user.rs`: what an app can ask of its user; `watched.rs`: who waits for a session to change
//! - `extractors.rs`: the same for axum (feature `axum`)

mod builder;
#[cfg(feature = "axum")]
mod extractors;
mod gate;
mod service;
mod user;
mod watched;

pub use builder::{AppGateBuilder, AppGateError};
#[cfg(feature = "axum")]
pub use extractors::{Role, UserWith};
pub use gate::{AppGate, AppLayer, ProviderProblem};
pub use service::AppService;
pub use user::{Ended, User};
