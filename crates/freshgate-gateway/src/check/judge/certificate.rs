//! How long a certificate is good, and whose it is.

use std::time::Duration;

use freshgate_oidc::Timestamp;
use url::Url;

use crate::{
    check::{facts::CertificateFacts, finding::Finding},
    words::{date, rough},
};

/// Who renews in time does it long before. Of what lives for days alone it is a fifth.
const SOON: Duration = Duration::from_secs(14 * 24 * 3600);

/// The one that the gate shows to browsers.
pub(super) fn own(start: &Url, facts: &CertificateFacts, now: Timestamp) -> Finding {
    const RENEW: &str = "renew it: a running gate takes up the new files by itself";
    let (from, to, is_for_host, names) = match facts {
        CertificateFacts::Unreadable(why) => {
            return Finding::problem(
                "certificate",
                format!("the certificate of [tls] is none that browsers take: {why}"),
            )
            .mend("have one made for the address that browsers use");
        }
        CertificateFacts::Read { from, to, is_for_host, names } => (*from, *to, is_for_host, names),
    };
    let host = start.host_str().unwrap_or_default();
    if to <= now {
        Finding::problem(
            "certificate",
            format!("the certificate of [tls], or one that vouches for it, is over since {}", date(to)),
        )
        .mend(RENEW)
    } else if from > now {
        Finding::problem(
            "certificate",
            format!("the certificate of [tls], or one that vouches for it, is good from {} on", date(from)),
        )
        .mend("look at this machine's clock, which is behind if the certificate is good")
    } else if !is_for_host {
        let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
        Finding::problem(
            "certificate",
            format!("the certificate of [tls] is for {names}, and browsers come by {host}: they refuse it"),
        )
        .mend(format!("have one made for {host}, or name another address that leads here: redirect_uri"))
    } else if is_soon(from, to, now) {
        Finding::warning(
            "certificate",
            format!("the certificate of [tls] is good for {} more, {}", left(to, now), until(to)),
        )
        .mend(RENEW)
    } else {
        Finding::ok(
            "certificate",
            format!(
                "the certificate of [tls] is for {host}, and good for {} more, {}",
                left(to, now),
                until(to)
            ),
        )
    }
}

/// One that passed every check now: how long it will. `whose`: who shows it, and who renews it.
pub(super) fn others(whose: &str, who: &str, facts: &CertificateFacts, now: Timestamp) -> Finding {
    match facts {
        CertificateFacts::Unreadable(why) => Finding::warning(
            "certificate",
            format!("how long the certificate of {whose} is good cannot be told: {why}"),
        ),
        CertificateFacts::Read { from, to, .. } if is_soon(*from, *to, now) => Finding::warning(
            "certificate",
            format!("the certificate of {whose} is good for {} more, {}", left(*to, now), until(*to)),
        )
        .mend(format!("tell {who}: once it is over, nobody signs in any more")),
        CertificateFacts::Read { to, .. } => {
            Finding::ok("certificate", format!("is good for {} more, {}", left(*to, now), until(*to)))
        }
    }
}

fn is_soon(from: Timestamp, to: Timestamp, now: Timestamp) -> bool {
    to.saturating_since(now) < SOON.min(to.saturating_since(from) / 5)
}

fn left(to: Timestamp, now: Timestamp) -> String {
    rough(to.saturating_since(now))
}

fn until(to: Timestamp) -> String {
    format!("until {}", date(to))
}
