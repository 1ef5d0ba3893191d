//! The Python module that the binary carries: written to a private directory, from where the app's process loads it.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rust_embed::Embed;

/// `python/src/freshgate`, as it was when the program was built. The link in this crate is what makes it a part of the
/// crate when it is packaged.
#[derive(Embed)]
#[folder = "python/freshgate"]
#[include = "*.py"]
#[include = "py.typed"]
struct Module;

/// A directory that only this user can enter: the module for `PYTHONPATH`, and the session API's socket. It goes with
/// this value.
pub struct ModuleDirectory {
    directory: tempfile::TempDir,
}

/// The module could not be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the Python module to {path}")]
pub struct ModuleError {
    /// Where to.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl ModuleDirectory {
    /// Makes the directory under the system's temporary one and writes the module into it.
    pub fn create() -> Result<Self, ModuleError> {
        let directory = tempfile::Builder::new()
            .prefix("freshgate-")
            // Said here: by itself it would be as open as the umask leaves it.
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir()
            .map_err(|source| ModuleError { path: std::env::temp_dir(), source })?;
        let path = directory.path().join("python").join("freshgate");
        write_module(&path).map_err(|source| ModuleError { path, source })?;
        Ok(Self { directory })
    }

    /// What goes first on `PYTHONPATH`.
    pub fn python_path(&self) -> PathBuf {
        self.directory.path().join("python")
    }

    /// Where the session API listens.
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("session-api.sock")
    }
}

fn write_module(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    for name in Module::iter() {
        let file = Module::get(&name).ok_or(io::ErrorKind::NotFound)?;
        let target = path.join(&*name);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(target, file.data)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_has_the_version_of_the_program() {
        let source = Module::get("__init__.py").unwrap().data;
        let version = concat!("__version__ = \"", env!("CARGO_PKG_VERSION"), "\"");
        let found = str::from_utf8(&source).unwrap().lines().any(|line| line == version);
        assert!(found, "python/src/freshgate/__init__.py lacks `{version}`");
    }

    #[test]
    fn the_module_is_carried_whole_and_private() {
        let directory = ModuleDirectory::create().unwrap();
        let root = directory.python_path().join("freshgate");
        for name in ["__init__.py", "__main__.py", "py.typed"] {
            assert!(root.join(name).is_file(), "{name} is missing");
        }
        let mode = fs::metadata(directory.directory.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others can enter");
    }
}
