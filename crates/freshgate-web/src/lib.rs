//! A tower layer that signs users in: cookies, the `/auth` routes, the guard.
//!
//! An app in Rust begins with [`AppGate`]; the gateway, whose app is a reverse proxy, with [`GateLayer`].
//!
//! The layer does not know what it wraps. It hands the inner service an [`Admitted`] request, which only the layer can
//! make: a service that takes `Admitted` cannot be reached past the guard.
//!
//! ```
//! use freshgate_web::{Gate, GateConfig, GateConfigError, GateLayer};
//! use tower::Layer;
//!
//! /// Puts the gate in front of an app: a `tower::Service<Admitted<B>>` whose errors convert into a `Failure`.
//! fn guarded<App>(app: App, engine: freshgate::Engine) -> Result<Gate<App>, GateConfigError> {
//!     let public_origin = "https://app.example".parse().expect("an origin");
//!     let mut config = GateConfig::new(public_origin);
//!     config.require_login = true;
//!     Ok(GateLayer::new(engine, config)?.layer(app))
//! }
//! ```
//!
//! - `layer.rs`: the steps of a request
//! - `config.rs`, `route.rs`: whose a path is; `access.rs`, `guard.rs`: who is let through
//! - `arrival.rs`: what the server around the layer knows of a request
//! - `cookies.rs`, `origin.rs`, `next.rs`: what a browser sends, and how far it is trusted
//! - `routes/`: our own routes; `rates.rs`: how often one client may ask for them
//! - `forward_auth.rs`: what a proxy asks that does not pass requests through us
//! - `app/`: an app of one's own behind the layer, in one process
//! - `failure.rs`: what a failure tells whom; `respond.rs`: how it is told

#![cfg_attr(feature = "axum", doc = "\n# In short\n")]
#![cfg_attr(feature = "axum", doc = include_str!("../README.md"))]

mod access;
mod admitted;
mod app;
mod arrival;
mod body;
mod config;
mod cookies;
pub mod counting;
mod failure;
mod forward_auth;
mod guard;
mod layer;
mod next;
mod origin;
mod page;
mod provider_token;
mod rates;
mod request_id;
mod respond;
mod route;
mod routes;

pub use access::{AccessRule, Condition, Permit, is_email_verified};
pub use admitted::{Admitted, Visitor};
pub use app::{AppGate, AppGateBuilder, AppGateError, AppLayer, AppService, Ended, ProviderProblem, User};
#[cfg(feature = "axum")]
pub use app::{Role, UserWith};
pub use arrival::{Arrival, ClientNetwork};
pub use body::GateBody;
pub use config::{GateConfig, GateConfigError, SharedLogin};
pub use failure::{Failure, Fault};
pub use forward_auth::{ForwardAuth, ToldBy};
pub use layer::{Gate, GateLayer};
pub use rates::RateLimits;
pub use respond::refuse_unseen;

/// The examples of the guide compile.
#[cfg(all(doctest, feature = "axum"))]
#[doc = include_str!("../../../docs/rust.md")]
mod guide {}
