//! `.freshgate/`: what freshgate keeps between runs, next to the app, out of its repository.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use freshgate::clock::Entropy;
use freshgate_oidc::Secret;

use super::{report::StartupProblem, store_location::StoreLocation};

/// The folder's name.
const NAME: &str = ".freshgate";

/// The state folder of a current folder.
pub(super) fn path(current_folder: &Path) -> PathBuf {
    current_folder.join(NAME)
}

/// Makes the folder that a store is in, if it is the state folder or within it. Any other folder is the operator's to
/// make: a mistyped path shall not become a folder.
pub(super) fn prepare_for(store: &StoreLocation, state_folder: &Path) -> Result<(), StartupProblem> {
    let StoreLocation::Sqlite(path) = store else { return Ok(()) };
    match path.parent().filter(|parent| parent.starts_with(state_folder)) {
        Some(parent) => prepare(state_folder, parent),
        None => Ok(()),
    }
}

/// Makes a folder within the state folder, for this user alone, and keeps it all out of git.
pub(super) fn prepare(state_folder: &Path, folder: &Path) -> Result<(), StartupProblem> {
    let unwritable = |path: &Path, error: &io::Error| {
        StartupProblem::new("cannot write freshgate's own folder")
            .at(path.display().to_string())
            .because(error)
            .mend("start freshgate in a folder that it may write to, or say `--store sqlite:PATH`")
    };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder).map_err(|error| unwritable(folder, &error))?;
    let ignore = state_folder.join(".gitignore");
    match fs::OpenOptions::new().write(true).create_new(true).open(&ignore) {
        Ok(mut file) => file.write_all(b"*\n").map_err(|error| unwritable(&ignore, &error)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(unwritable(&ignore, &error)),
    }
}

/// The secret that a file of the state folder keeps; made and kept there if it is not there yet. Two processes that
/// start at once agree on one.
pub(crate) fn kept_secret(file: &Path, entropy: &dyn Entropy) -> io::Result<Secret> {
    match read_secret(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        secret => return secret,
    }
    let folder = file.parent().unwrap_or(Path::new("."));
    // Written whole beside its place first, and for this user alone, as temporary files are.
    let mut made = tempfile::NamedTempFile::new_in(folder)?;
    made.write_all(entropy.token().expose().as_bytes())?;
    made.as_file().sync_all()?;
    match made.persist_noclobber(file) {
        Err(error) if error.error.kind() != io::ErrorKind::AlreadyExists => Err(error.error),
        _ => read_secret(file),
    }
}

/// The secret in a file.
pub(super) fn read_secret(file: &Path) -> io::Result<Secret> {
    let text = Secret::new(fs::read_to_string(file)?);
    match text.expose().trim() {
        "" => Err(io::Error::new(io::ErrorKind::InvalidData, "the file is empty")),
        secret => Ok(Secret::new(secret)),
    }
}

#[cfg(test)]
mod tests {
    use freshgate::clock::SystemEntropy;

    use super::*;

    #[test]
    fn the_state_folder_is_made_and_ignored_by_git() {
        let folder = tempfile::tempdir().unwrap();
        let state = path(folder.path());
        let store = StoreLocation::Sqlite(state.join("dev/sessions.db"));
        prepare_for(&store, &state).unwrap();
        assert!(state.join("dev").is_dir());
        assert_eq!(fs::read_to_string(state.join(".gitignore")).unwrap(), "*\n");
        fs::write(state.join(".gitignore"), "mine").unwrap();
        prepare_for(&store, &state).unwrap();
        assert_eq!(fs::read_to_string(state.join(".gitignore")).unwrap(), "mine", "what is there stays");
    }

    #[test]
    fn a_folder_of_the_operator_is_not_made() {
        let folder = tempfile::tempdir().unwrap();
        let store = StoreLocation::Sqlite(folder.path().join("typo/sessions.db"));
        prepare_for(&store, &path(folder.path())).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way_is_a_problem() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), "").unwrap();
        let state = path(folder.path());
        let problem = prepare(&state, &state).unwrap_err();
        assert_eq!(problem.to_string(), "cannot write freshgate's own folder");
    }

    #[test]
    fn a_kept_secret_stays() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let first = kept_secret(&file, &SystemEntropy).unwrap();
        assert_eq!(first.expose().len(), 43);
        assert_eq!(kept_secret(&file, &SystemEntropy).unwrap(), first);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        }
        fs::write(&file, " \n").unwrap();
        assert!(kept_secret(&file, &SystemEntropy).is_err(), "an empty file is not a secret");
    }
}
