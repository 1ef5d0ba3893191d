//! The program `freshgate` as a library: an OpenID Connect session gate for data apps.
//!
//! The binary assembles these parts; tests and the benchmark use them one by one.

pub mod app;
pub mod check;
pub mod cli;
pub mod config;
pub mod gate;
pub mod health;
pub mod keys;
pub mod listener;
pub mod logging;
pub mod not_started;
pub mod open_files;
pub mod operator;
mod progress;
pub mod serve;
pub mod session_api;
pub mod sessions;
mod signals;
pub mod streamlit;
#[cfg(test)]
mod test_gate;
pub mod upstream;
mod words;
