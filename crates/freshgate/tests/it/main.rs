//! The engine against a provider that does as it is told.

mod ahead;
mod dpop;
mod history;
mod login;
mod neighbours;
mod provider;
mod refresh;
mod setting;
mod storm;
