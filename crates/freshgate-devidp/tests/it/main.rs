//! The provider as relying parties, browsers and tests meet it: over real sockets.

mod browser;
mod client_assertion;
mod command;
mod dpop;
mod jwt;
mod login;
mod logout;
mod pages;
mod pushed;
mod restart;
mod script;
mod setting;
mod signer;
mod tokens;
