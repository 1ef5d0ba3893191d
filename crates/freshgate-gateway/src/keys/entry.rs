//! Every key there is, wherever it comes from.

use freshgate::keyring::{Key, KeyId};
use freshgate_oidc::Timestamp;

use super::{
    Failed, Operator,
    file::{KeyFile, State},
};

/// A key, and what it is for.
pub(super) struct Entry {
    pub(super) id: KeyId,
    pub(super) from: From,
    pub(super) does: Does,
}

/// Where a key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    File { made: Timestamp, since: Timestamp },
    CookieSecret,
    FormerCookieSecret,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Does {
    Seals,
    /// And seals once the keys are rotated.
    OpensAlready,
    Opens,
}

impl From {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::File { .. } => "key file",
            Self::CookieSecret => "cookie_secret",
            Self::FormerCookieSecret => "former cookie_secret",
        }
    }
}

impl Does {
    /// In JSON.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Seals => "seals",
            Self::OpensAlready => "new",
            Self::Opens => "opens",
        }
    }

    /// For people.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OpensAlready => "opens, seals after a rotation",
            other => other.code(),
        }
    }
}

impl Operator<'_> {
    /// The keys of the file, if there is one.
    pub(super) fn key_file(&self) -> Result<KeyFile, Failed> {
        Ok(KeyFile::read(&self.config.keys.file)?.map(|(file, _)| file).unwrap_or_default())
    }

    /// All keys: those of the file as they were made, then those of the configuration.
    pub(super) fn entries(&self, file: &KeyFile) -> Vec<Entry> {
        let of_file = file.keys.iter().map(|key| Entry {
            id: key.id,
            from: From::File { made: key.made, since: key.since },
            does: match key.state {
                State::New => Does::OpensAlready,
                State::Seals => Does::Seals,
                State::Former => Does::Opens,
            },
        });
        let cookie = Entry {
            id: Key::from_secret(&self.config.cookie_secret).id(),
            from: From::CookieSecret,
            does: if file.seals().is_some() { Does::Opens } else { Does::Seals },
        };
        let former = self.config.keys.former_cookie_secrets.iter().map(|secret| Entry {
            id: Key::from_secret(secret).id(),
            from: From::FormerCookieSecret,
            does: Does::Opens,
        });
        of_file.chain([cookie]).chain(former).collect()
    }
}
