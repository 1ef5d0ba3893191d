//! A development OpenID provider.
//!
//! A whole provider in one process on a loopback port: discovery, keys, the authorization code flow with PKCE, ID
//! tokens, userinfo, rotating refresh tokens with reuse detection, revocation, logout with back-channel
//! and front-channel notification, and a small API that wants an access token. Nothing has to be registered anywhere to try an app
//! that signs people in: **anyone can sign in as anyone**, which is why it serves loopback addresses only.
//!
//! It is used twice: `freshgate dev` starts it in its own process, and tests start it with scripting on, where it can
//! be told to fail in all the ways that real providers fail (see [`Scripting`]).
//!
//! It shares no verification code with the relying party it is tested against: if both had the same bug, no test
//! would see it.
//!
//! ```
//! # tokio_test(async {
//! use freshgate_devidp::{DevClient, DevProvider, DevProviderConfig, DevUser};
//!
//! let mut config = DevProviderConfig::new("127.0.0.1:0".parse()?);
//! config.clients.push(DevClient::public("app", "http://localhost:8501/oauth2callback"));
//! config.users.push(DevUser::named("alice"));
//! let provider = DevProvider::bind(config).await?;
//! println!("register {} with the app", provider.metadata_url());
//! provider.shutdown().await;
//! # Ok(()) });
//! # fn tokio_test(test: impl Future<Output = Result<(), Box<dyn std::error::Error>>>) {
//! #     tokio::runtime::Runtime::new().unwrap().block_on(test).unwrap();
//! # }
//! ```

mod authorize;
mod browser;
mod clock;
mod config;
mod demo_api;
mod discovery;
mod issuer;
mod logout;
mod pages;
mod parameters;
mod provider;
mod random;
mod routes;
mod script;
mod serve;
mod signing;
mod state;
mod token;
mod userinfo;

pub use config::{
    DevClient, DevProviderConfig, DevUser, Dpop, DpopNonces, NoSubject, PushedRequests, Rotation, Scripting,
    SigningAlgorithm,
};
pub use serve::{DevProvider, DevProviderError, RunningProvider};
pub use state::StateFileError;
