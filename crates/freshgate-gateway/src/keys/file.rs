//! The file with the keys: how it looks, how it is read, and how it is written whole.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::UNIX_EPOCH,
};

use freshgate::keyring::{Key, KeyId};
use freshgate_oidc::{Secret, Timestamp};
use serde::Deserialize;

/// What the file holds.
#[derive(Debug, Default)]
pub(crate) struct KeyFile {
    pub(super) keys: Vec<FileKey>,
}

/// One of its keys.
#[derive(Debug)]
pub(super) struct FileKey {
    pub(super) id: KeyId,
    pub(super) made: Timestamp,
    pub(super) state: State,
    /// Since when it is in this state.
    pub(super) since: Timestamp,
    secret: Secret,
}

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// It opens, and is to seal once every gate knows it.
    New,
    /// It seals.
    Seals,
    /// It sealed once, and opens.
    Former,
}

/// Why the file cannot be used. No message quotes it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyFileError {
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    #[error("it cannot be written")]
    Write(#[source] io::Error),
    #[error("line {line} is not what `freshgate keys` writes there")]
    Syntax { line: usize },
    #[error("it has version {0}, and this freshgate knows version {VERSION}")]
    Version(u32),
    #[error("the `made` or `since` of a key is no time")]
    NoTime,
    #[error("a key has another id than its secret says: it was edited")]
    Edited,
    #[error("the key {0} is in it twice")]
    Twice(KeyId),
    #[error("two keys are said to seal: {0} and {1}")]
    TwoSeal(KeyId, KeyId),
}

const VERSION: u32 = 1;

const HEAD: &str = "\
# The keys that seal freshgate's sessions. Whoever can read this file can read every session: keep it like a password,
# and back it up with the session store, which is worth nothing without it.
#
# Written by `freshgate keys`; see docs/keys.md. A running gate takes up changes by itself.
";

/// Which file, in which version, was read: another one has another stamp, as the file is only ever replaced whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    modified: (i64, i64),
    length: u64,
}

impl Stamp {
    /// That of the file which is there now, if one is.
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Self::from(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl From<&fs::Metadata> for Stamp {
    fn from(metadata: &fs::Metadata) -> Self {
        Self {
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.size(),
        }
    }
}

impl FileKey {
    pub(super) fn new(secret: Secret, now: Timestamp) -> Self {
        Self { id: Key::from_secret(&secret).id(), made: now, state: State::New, since: now, secret }
    }

    pub(super) fn key(&self) -> Key {
        Key::from_secret(&self.secret)
    }

    pub(super) fn becomes(&mut self, state: State, now: Timestamp) {
        (self.state, self.since) = (state, now);
    }
}

impl KeyFile {
    /// Reads the file; `None` if there is none. With it comes the stamp of what was read.
    pub(super) fn read(path: &Path) -> Result<Option<(Self, Stamp)>, KeyFileError> {
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(KeyFileError::Read(error)),
        };
        let stamp = file.metadata().map(|metadata| Stamp::from(&metadata)).map_err(KeyFileError::Read)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(KeyFileError::Read)?;
        Ok(Some((Self::parse(&Secret::new(text))?, stamp)))
    }

    fn parse(text: &Secret) -> Result<Self, KeyFileError> {
        let text = text.expose();
        let form: Form = toml::from_str(text).map_err(|error| {
            // Its own text quotes the line, or a value of it, which may be a secret.
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count() + 1;
            KeyFileError::Syntax { line }
        })?;
        if form.version != VERSION {
            return Err(KeyFileError::Version(form.version));
        }
        let mut keys: Vec<FileKey> = Vec::with_capacity(form.key.len());
        for form in form.key {
            let key = form.into_key()?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(KeyFileError::Twice(key.id));
            }
            let sealing = |other: &&FileKey| other.state == State::Seals && key.state == State::Seals;
            if let Some(other) = keys.iter().find(sealing) {
                return Err(KeyFileError::TwoSeal(other.id, key.id));
            }
            keys.push(key);
        }
        Ok(Self { keys })
    }

    /// The one that seals; none if that is still left to the key of `cookie_secret`.
    pub(super) fn seals(&self) -> Option<&FileKey> {
        self.keys.iter().find(|key| key.state == State::Seals)
    }

    /// Changes the file as `change` wants it, whatever others do to it meanwhile, and puts it in its place at once and
    /// whole. Where there is none it is made, for its folder's owner alone.
    pub(super) fn change<T, E: From<KeyFileError>>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The folder and not the file is locked: it is the file that is replaced.
        let lock = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
        let lock = lock.map_err(KeyFileError::Write)?;
        let (mut file, _) = match Self::read(path)? {
            Some((file, stamp)) => (file, Some(stamp)),
            None => (Self::default(), None),
        };
        let changed = change(&mut file)?;
        file.write(path, folder).map_err(KeyFileError::Write)?;
        lock.sync_all().map_err(KeyFileError::Write)?;
        Ok(changed)
    }

    fn write(&self, path: &Path, folder: &Path) -> io::Result<()> {
        // For this user alone, as temporary files are.
        let mut new = tempfile::Builder::new().prefix(".keys-").tempfile_in(folder)?;
        new.write_all(self.to_text().expose().as_bytes())?;
        // Made by root for a gate that runs as another user, it must be that user's. Only root may give it away.
        let owner = fs::metadata(path).or_else(|_| fs::metadata(folder))?;
        if owner.uid() != new.as_file().metadata()?.uid() {
            std::os::unix::fs::fchown(new.as_file(), Some(owner.uid()), Some(owner.gid()))?;
        }
        new.as_file().sync_all()?;
        new.persist(path)?;
        Ok(())
    }

    fn to_text(&self) -> Secret {
        let mut text = format!("{HEAD}version = {VERSION}\n");
        for FileKey { id, made, state, since, secret } in &self.keys {
            let state = state.name();
            // Writing to a text does not fail.
            let _ = write!(
                text,
                "\n[[key]]\nid = \"{id}\"\nmade = \"{}\"\nstate = \"{state}\"\nsince = \"{}\"\nsecret = \"{}\"\n",
                time(*made),
                time(*since),
                secret.expose()
            );
        }
        Secret::new(text)
    }
}

impl State {
    /// As it is written.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Seals => "seals",
            Self::Former => "former",
        }
    }
}

/// How the file is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    version: u32,
    #[serde(default)]
    key: Vec<KeyForm>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyForm {
    id: String,
    made: String,
    state: State,
    since: String,
    secret: Secret,
}

impl KeyForm {
    fn into_key(self) -> Result<FileKey, KeyFileError> {
        let key = FileKey::new(self.secret, moment(&self.made)?);
        if key.id.to_string() != self.id {
            return Err(KeyFileError::Edited);
        }
        Ok(FileKey { state: self.state, since: moment(&self.since)?, ..key })
    }
}

fn time(at: Timestamp) -> String {
    let seconds = u64::try_from(at.as_unix_millis() / 1000).unwrap_or_default();
    humantime::format_rfc3339_seconds(UNIX_EPOCH + std::time::Duration::from_secs(seconds)).to_string()
}

fn moment(text: &str) -> Result<Timestamp, KeyFileError> {
    let time = humantime::parse_rfc3339(text).ok();
    let seconds = time.and_then(|time| i64::try_from(time.duration_since(UNIX_EPOCH).ok()?.as_secs()).ok());
    seconds.map(Timestamp::from_unix_seconds).ok_or(KeyFileError::NoTime)
}

/// Whether others than its owner can read it.
pub(crate) fn is_open_to_others(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o077 != 0)
}
