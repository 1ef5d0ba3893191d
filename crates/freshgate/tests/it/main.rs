//! The engine against a provider that does as it is told.

mod ahead;
mod changed;
mod counting;
#[cfg(target_os = "linux")]
mod dead;
mod dpop;
mod faulty_store;
mod history;
mod house;
mod idle;
mod login;
mod logout;
#[cfg(target_os = "linux")]
mod many;
mod neighbours;
mod provider;
mod reads;
mod refresh;
mod revocation;
mod setting;
mod storm;
mod trial;
