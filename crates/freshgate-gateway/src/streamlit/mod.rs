//! Streamlit as a child of the gate: which Python runs it, what is loaded into it, how it starts, stops and dies.

mod child;
mod module;
mod python;

pub use child::{Death, Launch, LaunchError, StreamlitProcess};
pub use module::{ModuleDirectory, ModuleError};
pub use python::{Python, PythonNotFound};
