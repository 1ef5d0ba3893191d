//! How far two clocks may be apart.

use freshgate::provider::ProviderConfig;

use crate::check::{facts::Skew, finding::Finding};

/// The provider's clock by its answers, against what is allowed for.
pub(super) fn skew(config: &ProviderConfig, skew: Skew) -> Finding {
    let far = skew.seconds.abs();
    let by = format!("{far:.0} s {}", if skew.seconds > 0.0 { "ahead of" } else { "behind" });
    let leeway = config.clock_leeway.as_secs_f64();
    let mends = |finding: Finding| {
        finding.mend("have both machines keep their clocks by NTP; this one's may be the wrong one")
    };
    // What cannot be told apart from no difference at all is none.
    if far <= skew.give_or_take.max(2.0) {
        Finding::ok("clock", "agrees with this machine's")
    } else if far - skew.give_or_take > leeway {
        mends(Finding::problem(
            "clock",
            format!(
                "the provider's is {by} this machine's, and {leeway} s are allowed for: ID tokens are refused"
            ),
        ))
        .mend(format!("or allow for more, up to 5m: [provider.{}] clock_leeway", config.name))
    } else {
        mends(Finding::warning(
            "clock",
            format!("the provider's is {by} this machine's; {leeway} s are allowed for"),
        ))
    }
}
