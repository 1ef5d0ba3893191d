//! Stories: a browser with a cookie jar, the layer with a real engine, the development provider.

mod browser;
mod client;
mod failures;
mod guard;
mod log;
mod login;
mod logout;
mod page_scripts;
mod prepared;
mod world;
