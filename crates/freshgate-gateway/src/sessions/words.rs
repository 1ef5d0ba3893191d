//! How it is said to people.

use freshgate::{
    engine::{HistoryEntry, HistoryEvent},
    session::EndReason,
};

pub(super) use crate::words::{date, printable, relative, rough, took};

/// Why a session ended, as the end of a sentence.
pub(super) fn why(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Logout => "the user signed out",
        EndReason::Replaced => "the same browser signed in again, and a new session took its place",
        EndReason::ProviderLogout => "the user signed out at the provider, which told the gate",
        EndReason::Refused => {
            "the provider refused the refresh token: it was revoked, it expired, or the provider saw it twice"
        }
        EndReason::IdentityChanged => "a refresh brought an answer that names another user",
        EndReason::OutcomeUnknown => {
            "the answer to a refresh was lost, and the provider did not take the same refresh token again"
        }
        EndReason::Lifetime => "the longest time that a session may last was over",
        EndReason::Idle => "nobody used it for longer than the idle timeout",
        EndReason::Operator => "an operator ended it",
        _ => "of a reason that this version has no words for",
    }
}

/// What happened, in a few words.
pub(super) fn happened(entry: &HistoryEntry) -> String {
    let requests = match entry.attempts {
        0 | 1 => String::new(),
        several => format!(" and {several} requests"),
    };
    let took = took(entry.millis);
    match &entry.what {
        HistoryEvent::SignedIn => format!("signed in, after {took}"),
        HistoryEvent::Refreshed => format!("refreshed, after {took}{requests}"),
        HistoryEvent::RefreshFailed(code) => {
            format!("not refreshed, after {took}{requests}: {} [{}]", meaning(code), printable(code))
        }
        _ => "something that this version has no words for".to_owned(),
    }
}

/// The code of what happened.
pub(super) fn code(event: &HistoryEvent) -> &str {
    match event {
        HistoryEvent::SignedIn => "signed_in",
        HistoryEvent::Refreshed => "refreshed",
        HistoryEvent::RefreshFailed(code) => code,
        _ => "unknown",
    }
}

/// What the code of a failure means.
fn meaning(code: &str) -> &'static str {
    match code {
        "provider_unreachable" => "the provider could not be reached",
        "provider_unavailable" => "the provider could not answer then",
        "answer_lost" => "the answer of the provider was lost on its way",
        "answer_rejected" => "the answer of the provider did not pass the checks",
        "misconfigured" => "the provider refuses this gate's client",
        "unknown_provider" => "the provider was not configured",
        "abandoned" => "the gate that ran it was killed or stood still, and its answer was never seen",
        "refused" => "the provider refused the refresh token",
        "outcome_unknown" => "the provider refused a refresh token that may have been used before",
        "identity_changed" => "the answer named another user",
        _ => "it failed",
    }
}
