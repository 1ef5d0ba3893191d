//! What was learnt by asking, before anybody judges it. No secret is in it.

use std::{path::PathBuf, time::Duration};

use freshgate::{
    engine::{TokenFacts, TriedRefresh},
    provider::ConnectionTrouble,
    store::StoreInspection,
};
use freshgate_oidc::{ClientAuthMethod, JwkSet, MetadataError, ProviderMetadata, Timestamp};
use http::StatusCode;

/// What a question over HTTP brought.
#[derive(Debug)]
pub(super) enum Asked<T> {
    Answered(T),
    Unreached(Unreached),
}

/// There is no answer.
#[derive(Clone, Debug)]
pub(super) struct Unreached {
    pub(super) trouble: Trouble,
    /// All that is known of it, in one line.
    pub(super) why: String,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The name of the host cannot be looked up.
    NoSuchHost,
    Connection(ConnectionTrouble),
}

/// What a provider is like.
#[derive(Debug)]
pub(super) struct ProviderFacts {
    pub(super) document: Asked<DocumentFacts>,
    /// The rest only where there is metadata to go by.
    pub(super) known: Option<KnownProvider>,
}

/// What the metadata address answers.
#[derive(Debug)]
pub(super) struct DocumentFacts {
    pub(super) status: StatusCode,
    pub(super) location: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) took: Duration,
    pub(super) skew: Option<Skew>,
    /// Over TLS: what it showed.
    pub(super) certificate: Option<CertificateFacts>,
    /// Where the status is 200: what it says, or why that cannot be used.
    pub(super) metadata: Option<Result<(), MetadataError>>,
}

/// A certificate, with those that vouch for it as far as they were shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CertificateFacts {
    Unreadable(String),
    Read {
        /// When all of them are good.
        from: Timestamp,
        to: Timestamp,
        /// Whether the first is of the host that it was shown for.
        is_for_host: bool,
        /// The names that it is for.
        names: Vec<String>,
    },
}

/// How far the clock of a provider is ahead of ours (negative: behind), and how exactly that is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Skew {
    pub(super) seconds: f64,
    pub(super) give_or_take: f64,
}

/// A provider whose metadata can be used.
#[derive(Debug)]
pub(super) struct KnownProvider {
    pub(super) metadata: ProviderMetadata,
    /// The scope that a login asks for.
    pub(super) scopes: Vec<String>,
    pub(super) keys: Asked<KeyFacts>,
    pub(super) client: ClientFacts,
    pub(super) login: LoginRequestFacts,
}

/// What the keys' address answers.
#[derive(Debug)]
pub(super) enum KeyFacts {
    Status(StatusCode),
    Unusable(String),
    Set(JwkSet),
}

/// Whether the provider takes us for its client.
#[derive(Debug)]
pub(super) enum ClientFacts {
    /// We have no way to prove ourselves that it takes.
    NoMethod(String),
    /// It does not take us for the client we say we are.
    Refused {
        method: ClientAuthMethod,
        why: String,
        /// Whether it is about proofs of holding a key.
        wants_proof: bool,
    },
    /// It did not refuse us.
    NotRefused { method: ClientAuthMethod },
}

/// What became of the request that a login begins with.
#[derive(Debug)]
pub(super) enum LoginRequestFacts {
    /// It could not be made.
    NotMade(String),
    Unreached(Unreached),
    /// The browser would be sent back at once, with this error.
    SentBack(String),
    /// The browser would see what comes with this status.
    Answered(StatusCode),
}

/// What answers at an address of the gate.
#[derive(Debug)]
pub(super) enum GateProbe {
    /// A freshgate, and the app behind it with this status.
    Gate {
        app: Asked<StatusCode>,
    },
    /// Something else.
    SomethingElse(StatusCode),
    Unreached(Unreached),
}

/// Where sessions are kept.
#[derive(Debug)]
pub(super) enum StoreFacts {
    Memory,
    /// There is no file yet.
    Absent {
        path: PathBuf,
        folder: FolderFacts,
    },
    There {
        path: PathBuf,
        inspection: StoreInspection,
        open_to_others: bool,
    },
    Unusable {
        path: PathBuf,
        why: String,
    },
}

/// A folder in which something is to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FolderFacts {
    Writable,
    NotWritable,
    /// It is not there, and is made at the start.
    IsMade,
    Missing,
}

/// What sessions are sealed with.
#[derive(Debug)]
pub(super) enum SealFacts {
    Unusable(String),
    Ring {
        /// The key that seals, and whether it is the one that is made from cookie_secret.
        seals: String,
        of_cookie_secret: bool,
        /// How many sessions were looked at, and how many of them no key opens.
        looked_at: u64,
        unreadable: u64,
        /// The key file, if there is one that others can read.
        open_to_others: Option<PathBuf>,
    },
}

/// What runs the app.
#[derive(Debug)]
pub(super) enum PythonFacts {
    NotFound,
    Failed {
        path: PathBuf,
        why: String,
    },
    Told {
        path: PathBuf,
        python: String,
        streamlit: Option<String>,
        newest_known: String,
        problem: Option<String>,
    },
}

/// A login that somebody made.
#[derive(Debug)]
pub(super) struct LoginFacts {
    /// What the gate calls the user.
    pub(super) user: String,
    pub(super) tokens: TokenFacts,
    /// When the answer with the ID token was there.
    pub(super) answered_at: Timestamp,
    pub(super) scopes: Vec<String>,
    pub(super) userinfo: UserInfoFacts,
    /// `None`: there is no refresh token to try.
    pub(super) refresh: Option<Result<TriedRefresh, String>>,
    pub(super) replaced_token: ReplacedTokenFacts,
}

/// What userinfo answered.
#[derive(Debug)]
pub(super) enum UserInfoFacts {
    NotAsked,
    Agrees { claims: usize },
    Failed(String),
}

/// What became of a refresh token that was replaced and sent again.
#[derive(Debug)]
pub(super) enum ReplacedTokenFacts {
    /// Nobody wanted that to be tried.
    NotTried,
    /// No refresh token was replaced.
    NoneReplaced,
    /// It was accepted, and whether the session could be refreshed afterwards.
    Accepted {
        alive: bool,
    },
    Refused {
        alive: bool,
    },
    Unclear(String),
}
