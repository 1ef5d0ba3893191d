//! Places in the engine that the simulation must come by: what it shows, it shows of them too.
//!
//! Without the feature `simulation` nobody counts them, and [`Engine::passes`](crate::Engine) is compiled away.

/// A place that only the worst of moments lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Landmark {
    /// The store failed for so long that a flight gave up asking what it holds, or telling it what is known.
    StoreGivenUp,
    /// A flight landed that sent nothing, and may have left an intent in the store; its name is kept.
    IntentLeftUnsent,
    /// An intent was found of which the store had said that it was not written: nothing was sent under it.
    UnsentIntentFound,
    /// A lease under which nothing was sent was given back.
    IntentGivenBack,
    /// The store failed to save a rotated refresh token, and was told once more.
    SaveRepeated,
    /// A rotated refresh token had been saved by a try that the store said had failed.
    SaveFoundDone,
    /// An engine that stops gave up saving a rotated refresh token.
    LastSaveGivenUp,
}

impl Landmark {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::StoreGivenUp,
        Self::IntentLeftUnsent,
        Self::UnsentIntentFound,
        Self::IntentGivenBack,
        Self::SaveRepeated,
        Self::SaveFoundDone,
        Self::LastSaveGivenUp,
    ];
}
