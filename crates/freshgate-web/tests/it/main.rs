//! Stories: a browser with a cookie jar, the layer with a real engine, the development provider.

mod access;
#[cfg(feature = "axum")]
mod app;
mod bridge;
mod browser;
mod channels;
mod client;
mod failures;
mod forward_auth;
mod guard;
mod log;
mod login;
mod logout;
mod page_scripts;
mod prepared;
mod rates;
mod refused_answers;
mod world;
