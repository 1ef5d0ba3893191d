//! How it is said to programs. The names of fields stay; new ones may come. Times are seconds since 1970.

use freshgate::engine::{HistoryEntry, Known, SessionFacts, SessionReport};
use freshgate_oidc::Timestamp;
use serde_json::{Value, json};

use super::{scan::facts, words};

/// A session, as `list` tells it.
pub(super) fn session(report: &SessionReport) -> Value {
    let facts = facts(report);
    let text = |of: fn(&SessionFacts) -> &String| facts.map(of);
    json!({
        "session": report.key.to_string(),
        "state": if report.ended.is_some() { "ended" } else { "live" },
        "ended": report.ended.map(|tombstone| json!({
            "reason": tombstone.reason.code(),
            "at": seconds(tombstone.ended_at),
        })),
        "readable": !matches!(report.known, Known::Unreadable),
        "user": text(|facts| &facts.user),
        "sub": text(|facts| &facts.subject),
        "provider": text(|facts| &facts.provider),
        "issuer": text(|facts| &facts.issuer),
        "signed_in_at": facts.map(|facts| seconds(facts.signed_in_at)),
        "ends_at": facts.map(|facts| seconds(facts.ends_at)),
        "token_expires_at": facts.and_then(|facts| facts.token_expires_at).map(seconds),
        "generation": facts.map(|facts| facts.generation),
        "last_refresh": facts.and_then(SessionFacts::last_refresh).map(entry),
    })
}

/// The same with everything else that `show` tells.
pub(super) fn everything(report: &SessionReport, with_claims: bool) -> Value {
    let mut session = session(report);
    let Some(facts) = facts(report) else { return session };
    session["history"] = facts.history.iter().map(entry).collect();
    let Some(live) = &facts.live else { return session };
    session["claim_names"] = live.claims.keys().map(String::as_str).collect();
    if with_claims {
        session["claims"] = Value::Object(live.claims.clone());
    }
    session["provider_session"] = live.provider_session.as_deref().into();
    session["tokens"] = json!({
        "type": live.token_type,
        "scope": live.scope,
        "obtained_at": seconds(live.token_obtained_at),
        "access_bytes": live.access_token_bytes,
        "id_bytes": live.id_token_bytes,
        "refresh_bytes": live.refresh_token_bytes,
    });
    session["refresh"] = json!({
        "under_way_until": live.refreshing_until.map(seconds),
        "failures": live.failures,
        "answers_lost": live.answers_lost,
        "not_before": live.not_before.map(seconds),
    });
    session
}

fn entry(entry: &HistoryEntry) -> Value {
    json!({
        "at": seconds(entry.at),
        "what": words::code(&entry.what),
        "millis": entry.millis,
        "requests": entry.attempts,
    })
}

fn seconds(at: Timestamp) -> f64 {
    at.as_unix_seconds_f64()
}
