//! The keyring of a gate: the keys of the file and those that come from the configuration, followed while it runs.

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use freshgate::keyring::{Key, KeySource, Keyring, Keys};
use freshgate_oidc::Secret;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::file::{KeyFile, KeyFileError, Stamp, State};
use crate::config::{KeysConfig, StartupProblem};

/// How often a running gate looks whether the file was replaced. It also looks when it meets something that it cannot open.
const LOOK: Duration = Duration::from_secs(1);

/// The keyring that a configuration describes. It takes up a changed file when it is asked to; see [`watch`].
pub(crate) fn keyring(config: &KeysConfig, cookie_secret: &Secret) -> Result<Keyring, StartupProblem> {
    read(config, cookie_secret).map_err(|error| file_problem(config, &error))
}

pub(super) fn read(config: &KeysConfig, cookie_secret: &Secret) -> Result<Keyring, KeyFileError> {
    let configured = Configured {
        file: config.file.clone(),
        cookie_secret: cookie_secret.clone(),
        former: config.former_cookie_secrets.clone(),
    };
    let (file, stamp) = match KeyFile::read(&config.file)? {
        Some((file, stamp)) => (file, Some(stamp)),
        None => (KeyFile::default(), None),
    };
    let keys = configured.keys(&file);
    Ok(Keyring::following(
        keys,
        FileSource { configured, seen: Mutex::new(Seen { read: stamp, unreadable: None }) },
    ))
}

/// What to say of a file that cannot be used.
pub(super) fn file_problem(config: &KeysConfig, error: &KeyFileError) -> StartupProblem {
    let problem = StartupProblem::new("the file with the sealing keys cannot be used")
        .at(config.file.display().to_string())
        .because(error);
    match error {
        KeyFileError::Read(_) | KeyFileError::Write(_) => {
            problem.mend("let freshgate's user read and write it and its folder, or name another: `[keys] file = \"PATH\"`")
        }
        KeyFileError::Version(_) => problem.mend("run the freshgate that wrote it, or a later one"),
        _ => problem.mend("put back the file as `freshgate keys` wrote it, from a backup if need be: without its keys nobody stays signed in"),
    }
}

/// Takes up changes of the file until `stop`. Spawn it once.
pub(crate) async fn watch(keyring: Keyring, stop: CancellationToken) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(looks.tick()).await.is_some() {
        let keyring = keyring.clone();
        // A disk can be slow. If the runtime is stopping there is nothing left to look for.
        let _ = tokio::task::spawn_blocking(move || keyring.take_up_changes()).await;
    }
}

/// What does not change while a gate runs.
pub(super) struct Configured {
    pub(super) file: PathBuf,
    pub(super) cookie_secret: Secret,
    pub(super) former: Vec<Secret>,
}

impl Configured {
    /// All keys: the one of the file that seals or, where none does, that of `cookie_secret`, and all others open.
    fn keys(&self, file: &KeyFile) -> Keys {
        let cookie = Key::from_secret(&self.cookie_secret);
        let mut opens: Vec<Key> =
            file.keys.iter().filter(|key| key.state != State::Seals).map(|key| key.key()).collect();
        let seals = match file.seals() {
            Some(key) => {
                opens.push(cookie);
                key.key()
            }
            None => cookie,
        };
        opens.extend(self.former.iter().map(Key::from_secret));
        Keys { seals, opens }
    }
}

/// Reads the file again once it was replaced.
struct FileSource {
    configured: Configured,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The version of the file that was read last, whatever was in it.
    read: Option<Stamp>,
    /// The version that could not be read when it was tried last, and may be the next time.
    unreadable: Option<Stamp>,
}

impl KeySource for FileSource {
    fn changed(&self) -> Option<Keys> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let path = &self.configured.file;
        let there = Stamp::of(path).unwrap_or(seen.read);
        if there == seen.read {
            return None;
        }
        let read = KeyFile::read(path);
        if let Err(error @ KeyFileError::Read(_)) = &read {
            if seen.unreadable != there {
                seen.unreadable = there;
                let error = error as &dyn std::error::Error;
                tracing::error!(file = %path.display(), error, "the file with the sealing keys cannot be read; it is tried again every second, and the keys stay as they are");
            }
            return None;
        }
        *seen = Seen { read: there, unreadable: None };
        match read {
            Ok(Some((file, stamp))) => {
                seen.read = Some(stamp);
                let keys = self.configured.keys(&file);
                tracing::info!(seals = %keys.seals.id(), open = keys.opens.len(), "took up new sealing keys");
                Some(keys)
            }
            // Whoever takes it away by mistake signs nobody out, until the next start.
            Ok(None) => {
                tracing::error!(file = %path.display(), "the file with the sealing keys is gone; its keys stay in use until a restart");
                None
            }
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(file = %path.display(), error, "the file with the sealing keys cannot be used; the keys stay as they are");
                None
            }
        }
    }
}
