//! What the process was started in: variables, the current folder, the home folder.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

/// What the process was started in. Tests make their own; nothing below reads the process itself.
pub struct Environment {
    variables: BTreeMap<String, OsString>,
    current_folder: PathBuf,
    home: Option<PathBuf>,
}

impl Environment {
    /// That of this process. Fails if the current folder is gone or may not be read.
    pub fn of_process() -> io::Result<Self> {
        let variables =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        Ok(Self::new(std::env::current_dir()?, std::env::home_dir(), variables))
    }

    /// One made up of these parts.
    pub fn new(
        current_folder: PathBuf,
        home: Option<PathBuf>,
        variables: impl IntoIterator<Item = (String, OsString)>,
    ) -> Self {
        Self { variables: variables.into_iter().collect(), current_folder, home }
    }

    /// The folder that relative paths start from.
    pub fn current_folder(&self) -> &Path {
        &self.current_folder
    }

    /// The user's home folder, if there is one.
    pub(super) fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// A variable that is set. One that is empty counts as not set, as container tools cannot leave a variable out.
    pub(super) fn variable(&self, name: &str) -> Option<&OsString> {
        self.variables.get(name).filter(|value| !value.is_empty())
    }

    /// The names of all variables that start so.
    pub(super) fn names_starting(&self, prefix: &str) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str).filter(move |name| name.starts_with(prefix))
    }

    /// The path from the current folder.
    pub(super) fn absolute(&self, path: &Path) -> PathBuf {
        self.current_folder.join(path)
    }

    /// The path as a person would write it here: relative within the current folder, with `~` within the home folder.
    pub(super) fn shown(&self, path: &Path) -> String {
        let path = self.absolute(path);
        if let Ok(inside) = path.strip_prefix(&self.current_folder) {
            return if inside.as_os_str().is_empty() { ".".to_owned() } else { inside.display().to_string() };
        }
        match self.home.as_ref().and_then(|home| path.strip_prefix(home).ok()) {
            Some(inside) => Path::new("~").join(inside).display().to_string(),
            None => path.display().to_string(),
        }
    }
}
