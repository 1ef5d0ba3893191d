//! Mistakes that the simulation makes on purpose, to show that it would notice them.
//!
//! Without the feature `simulation` nobody can make one: [`Engine::sabotaged`](crate::Engine) is `false` then, and what it
//! guards is compiled away.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Sabotage {
    /// A write does not look whether the session still has the refresh token that its flight started from.
    LockWithoutFence,
    /// The rotated refresh token is saved with the rest, once everything is verified.
    SaveAfterVerify,
    /// Forced callers join a request that is on the wire already.
    JoinOnTheWire,
    /// The lease is not renewed while the request runs.
    LeaseNotRenewed,
    /// A caller that leaves takes the flight that it started with it.
    CancelWithCaller,
    /// Identity and access token of an answer are taken over although a check refused it.
    RejectedCommitted,
    /// An end is written to the store, but what is in memory is served on.
    TombstoneIgnored,
    /// Who is refused signs the session out without looking whether another has refreshed it.
    LosersSignedOut,
    /// A flight that was taken for dead ends the session although the one that took over is about to refresh it.
    DisplacedEnds,
    /// An engine that stops leaves what is on the wire to itself.
    FinishDoesNotWait,
    /// Nobody takes a lease: whoever wants to, sends.
    NoLease,
    /// What other engines do to a session is never looked up.
    NeighboursIgnored,
    /// A login does not look whether its user signed out meanwhile.
    LogoutOvertaken,
    /// A logout token is taken as often as it comes.
    ReplayIgnored,
    /// Sessions whose time is over are left until somebody looks for them.
    HouseNotKept,
    /// The intent of an engine that died does not count as a request that may have been sent.
    DeadIntentForgotten,
    /// A refresh token whose answers were lost is sent again, whatever the provider's policy says.
    PolicyIgnored,
    /// Claims that a refresh did not bring are taken for its own.
    OldClaimsAsNew,
    /// A change that another engine made is noted and told to nobody.
    ChangeNotTold,
    /// A refresh token is sent before the time from which on it is good.
    NotBeforeIgnored,
    /// Where a refresh fails, a token is served that is over.
    DeadTokenServed,
    /// A provider that says when to come back (Retry-After) is asked again earlier.
    RetryAfterIgnored,
    /// What an engine's own refresh brings is told to nobody else.
    OwnCommitNotTold,
    /// An intent counts as one under which nothing was sent, although something was.
    SentTakenForUnsent,
    /// A save that the store did, and said that it had failed, is done again over another engine's intent.
    SaveOverIntent,
    /// Whether a session ended is not looked at again after waiting for a turn to ask the provider.
    TurnTrusted,
}

impl Sabotage {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::LockWithoutFence,
        Self::SaveAfterVerify,
        Self::JoinOnTheWire,
        Self::LeaseNotRenewed,
        Self::CancelWithCaller,
        Self::RejectedCommitted,
        Self::TombstoneIgnored,
        Self::LosersSignedOut,
        Self::DisplacedEnds,
        Self::FinishDoesNotWait,
        Self::NoLease,
        Self::NeighboursIgnored,
        Self::LogoutOvertaken,
        Self::ReplayIgnored,
        Self::HouseNotKept,
        Self::DeadIntentForgotten,
        Self::PolicyIgnored,
        Self::OldClaimsAsNew,
        Self::ChangeNotTold,
        Self::NotBeforeIgnored,
        Self::DeadTokenServed,
        Self::RetryAfterIgnored,
        Self::OwnCommitNotTold,
        Self::SentTakenForUnsent,
        Self::SaveOverIntent,
        Self::TurnTrusted,
    ];
}
