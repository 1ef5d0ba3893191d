//! The program `freshgate`, run as a user runs it, with a stand-in for the Python that has Streamlit.

mod environment;
mod open_files;
mod problems;
mod processes;
mod program;
