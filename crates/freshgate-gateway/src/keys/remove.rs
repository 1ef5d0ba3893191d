//! `freshgate keys remove`.

use std::io::Write;

use freshgate::{
    engine::FLOW_LIFETIME,
    keyring::{KeyId, SealCounts},
};
use freshgate_oidc::Timestamp;

use super::{
    Failed, Operator,
    count::{count, sessions},
    entry::{Does, From},
    file::{FileKey, KeyFile, State},
};
use crate::{cli::RemoveKey, progress::Progress};

pub(super) async fn remove(
    keys: &Operator<'_>,
    arguments: &RemoveKey,
    progress: &mut Progress,
    out: &mut dyn Write,
) -> Result<(), Failed> {
    let id = find(keys, &arguments.id)?;
    let counts = count(keys, progress).await?;
    let now = keys.clock.now();
    KeyFile::change(&keys.config.keys.file, |file| {
        // Another command may have changed the file since.
        let key = file.keys.iter().find(|key| key.id == id).ok_or_else(|| Failed::NoKey(id.to_string()))?;
        match need(key, &counts, now) {
            Some(Need::Seals) => return Err(Failed::Seals(id)),
            Some(Need::Sessions) => return Err(Failed::Needed(id, sessions(counts.of(id)))),
            Some(Need::LoginsUnderWay) if !arguments.now => return Err(Failed::SealedLately(id)),
            Some(Need::LoginsUnderWay) | None => {}
        }
        file.keys.retain(|key| key.id != id);
        Ok(())
    })?;
    writeln!(out, "{id} is removed.")?;
    Ok(out.flush()?)
}

/// What a key is still needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// It seals.
    Seals,
    /// Sessions are sealed with it.
    Sessions,
    /// It sealed until a moment ago, and browsers may come back from the provider with what it sealed.
    LoginsUnderWay,
}

/// What a key of the file is needed for, if it is.
pub(super) fn need(key: &FileKey, counts: &SealCounts, now: Timestamp) -> Option<Need> {
    if key.state == State::Seals {
        Some(Need::Seals)
    } else if counts.of(key.id).all() > 0 {
        Some(Need::Sessions)
    } else if key.state == State::Former && now.saturating_since(key.since) < FLOW_LIFETIME {
        Some(Need::LoginsUnderWay)
    } else {
        None
    }
}

/// The key whose id begins so.
fn find(keys: &Operator<'_>, start: &str) -> Result<KeyId, Failed> {
    let entries = keys.entries(&keys.key_file()?);
    let mut meant = entries.iter().filter(|entry| entry.id.to_string().starts_with(&start.to_lowercase()));
    match (meant.next(), meant.next()) {
        (Some(entry), None) => match (entry.from, entry.does) {
            (From::File { .. }, _) => Ok(entry.id),
            (_, Does::Seals) => Err(Failed::Seals(entry.id)),
            (from, _) => Err(Failed::OfConfiguration(entry.id, from.name())),
        },
        (None, _) => Err(Failed::NoKey(crate::words::printable(start))),
        _ => Err(Failed::Ambiguous(crate::words::printable(start))),
    }
}
