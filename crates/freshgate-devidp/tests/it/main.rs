//! The provider as relying parties, browsers and tests meet it: over real sockets.

mod browser;
mod command;
mod jwt;
mod login;
mod logout;
mod pages;
mod restart;
mod script;
mod setting;
mod tokens;
