//! The outcome of a check for programs. The names of fields stay; new ones may come.

use serde_json::{Value, json};

use super::finding::{About, Finding, Outcome, Registration, Section, Verdict};

/// The outcome as one document.
pub(super) fn document(outcome: &Outcome) -> Value {
    json!({
        "freshgate": env!("CARGO_PKG_VERSION"),
        "verdict": outcome.verdict().code(),
        "problems": outcome.count(Verdict::Problem),
        "warnings": outcome.count(Verdict::Warning),
        "sections": outcome.sections.iter().map(section).collect::<Vec<_>>(),
        "register": outcome.register.iter().map(registration).collect::<Vec<_>>(),
    })
}

fn section(section: &Section) -> Value {
    let (about, provider) = match &section.about {
        About::Gate => ("gate", None),
        About::Provider { name, .. } => ("provider", Some(name)),
        About::Login { provider } => ("login", Some(provider)),
    };
    let findings: Vec<_> = section.findings.iter().map(finding).collect();
    json!({"about": about, "provider": provider, "findings": findings})
}

fn finding(finding: &Finding) -> Value {
    json!({
        "topic": finding.topic,
        "verdict": finding.verdict.code(),
        "what": finding.what,
        "mends": finding.mends,
    })
}

fn registration(registration: &Registration) -> Value {
    json!({
        "provider": registration.provider,
        "redirect_uri": registration.redirect_uri,
        "post_logout_redirect_uri": registration.post_logout_redirect_uri,
        "backchannel_logout_uri": registration.backchannel_logout_uri,
        "frontchannel_logout_uri": registration.frontchannel_logout_uri,
    })
}
