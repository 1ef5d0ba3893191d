//! Where the state stays over a restart.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::State;
use crate::signing::SavedKeyring;

const VERSION: u32 = 1;

/// The content of the state file. It holds private keys, so it has no `Debug`.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct SavedState {
    version: u32,
    /// What tokens are sealed with.
    pub(crate) seal: String,
    pub(crate) keyring: SavedKeyring,
    pub(crate) state: State,
}

impl SavedState {
    pub(crate) fn new(seal: String, keyring: SavedKeyring, state: State) -> SavedState {
        SavedState { version: VERSION, seal, keyring, state }
    }
}

/// Why the state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// It is there, but cannot be read.
    #[error("cannot read the state file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// It holds something else, or is damaged. It is left as it is.
    #[error("{} is not a state file of this program: {reason}", path.display())]
    NotOurs {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; never its content.
        reason: String,
    },
    /// It cannot be written.
    #[error("cannot write the state file {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
}

/// Reads a state file; `None` if there is no such file.
pub(crate) fn load(path: &Path) -> Result<Option<SavedState>, StateFileError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(StateFileError::Read { path: path.to_owned(), source }),
    };
    let not_ours = |reason: String| StateFileError::NotOurs { path: path.to_owned(), reason };
    // Only the place: serde_json's own message may quote a value.
    let saved: SavedState = serde_json::from_slice(&bytes).map_err(|error| {
        not_ours(format!("unexpected at line {}, column {}", error.line(), error.column()))
    })?;
    if saved.version != VERSION {
        return Err(not_ours(format!("it has version {}, not {VERSION}", saved.version)));
    }
    Ok(Some(saved))
}

/// Replaces the state file: whoever reads it sees the old content or the new, never half of one. Only the owner may
/// read it.
pub(crate) fn save(path: &Path, saved: &SavedState) -> Result<(), StateFileError> {
    let write = || -> io::Result<()> {
        let directory =
            path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // `NamedTempFile` makes the file with mode 0600.
        let mut temporary = tempfile::NamedTempFile::new_in(directory)?;
        serde_json::to_writer(io::BufWriter::new(temporary.as_file_mut()), saved)?;
        temporary.as_file().sync_all()?;
        temporary.persist(path)?;
        Ok(())
    };
    write().map_err(|source| StateFileError::Write { path: path.to_owned(), source })
}
