//! How many sessions each key seals: through all of the store, as it holds nothing but sealed bytes.

use freshgate::keyring::{Resealing, SealCount, SealCounts};

use super::{Failed, Operator};
use crate::progress::Progress;

/// How many sessions are taken at once: few enough that a gate which writes waits for some milliseconds at most.
pub(super) const PAGE: usize = 200;

pub(super) async fn count(keys: &Operator<'_>, progress: &mut Progress) -> Result<SealCounts, Failed> {
    let mut way = Resealing::counting(keys.store.clone());
    let mut seen = 0_usize;
    while way.step(PAGE).await? {
        seen += PAGE;
        progress.tell(|| format!("{seen} sessions counted, {}", percent(way.fraction())));
    }
    progress.clear();
    Ok(way.counts().clone())
}

/// A part of the whole, as people say it.
pub(super) fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}

/// Sessions in words.
pub(super) fn sessions(count: SealCount) -> String {
    let live = match count.live {
        1 => "1 session".to_owned(),
        live => format!("{live} sessions"),
    };
    match count.ended {
        0 => live,
        ended => format!("{live} and {ended} that ended"),
    }
}
