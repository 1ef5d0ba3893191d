//! The engine against a provider that does as it is told.

mod ahead;
mod counting;
mod history;
mod login;
mod neighbours;
mod provider;
mod refresh;
mod setting;
mod storm;
mod trial;
