//! `freshgate sessions show`.

use std::io::Write;

use freshgate::{
    Engine,
    engine::{Known, LiveFacts, SessionFacts, SessionReport},
};
use freshgate_oidc::Timestamp;

use super::{
    Failed,
    find::find,
    json,
    words::{date, happened, printable, relative, rough, why},
};
use crate::cli::ShowSession;

pub(super) async fn show(
    engine: &Engine,
    arguments: &ShowSession,
    out: &mut dyn Write,
) -> Result<(), Failed> {
    let report = find(engine, &arguments.handle).await?;
    if arguments.json {
        writeln!(out, "{:#}", json::everything(&report, arguments.claims))?;
    } else {
        out.write_all(text(&report, arguments.claims, engine.clock().now()).as_bytes())?;
    }
    Ok(out.flush()?)
}

fn text(report: &SessionReport, with_claims: bool, now: Timestamp) -> String {
    let mut page = Page { text: String::new(), now };
    page.line("Session", report.key.to_string());
    match report.ended {
        None => page.line("State", "live"),
        Some(tombstone) => {
            page.line("State", format!("ended {}", page.when(tombstone.ended_at)));
            page.line("Why", format!("{} [{}]", why(tombstone.reason), tombstone.reason.code()));
        }
    }
    match &report.known {
        Known::All(facts) => {
            page.facts(facts, report.ended.is_some());
            if let Some(live) = &facts.live {
                page.live(live, facts.token_expires_at, with_claims);
            }
            page.history(report, facts);
        }
        Known::Nothing => {
            page.line("More", "nothing is known of it: it ended before it began, or its history is gone")
        }
        Known::Unreadable => {
            page.line("More", "it is sealed with another cookie_secret, and cannot be read with this one");
        }
    }
    page.text
}

struct Page {
    text: String,
    now: Timestamp,
}

impl Page {
    fn line(&mut self, name: &str, value: impl AsRef<str>) {
        self.text += format!("{name:<15}{}", value.as_ref()).trim_end();
        self.text.push('\n');
    }

    fn when(&self, at: Timestamp) -> String {
        format!("{} ({})", date(at), relative(at, self.now))
    }

    fn facts(&mut self, facts: &SessionFacts, ended: bool) {
        self.line("User", format!("{} (sub {})", printable(&facts.user), printable(&facts.subject)));
        self.line("Provider", format!("{} ({})", printable(&facts.provider), printable(&facts.issuer)));
        self.line("Signed in", self.when(facts.signed_in_at));
        if !ended {
            self.line("Ends", format!("{} at the latest", self.when(facts.ends_at)));
        }
        let refreshes = facts.generation.saturating_sub(1);
        self.line("Generation", format!("{} (refreshed {refreshes} times)", facts.generation));
    }

    fn live(&mut self, live: &LiveFacts, expires_at: Option<Timestamp>, with_claims: bool) {
        let life = match expires_at {
            None => "the provider did not say how long it lives".to_owned(),
            Some(at) => {
                let lifetime = rough(at.saturating_since(live.token_obtained_at));
                let verb = if at > self.now { "expires" } else { "expired" };
                format!("{verb} {}, a lifetime of {lifetime}", self.when(at))
            }
        };
        self.line(
            "Access token",
            format!("{}, {} bytes; {life}", printable(&live.token_type), live.access_token_bytes),
        );
        if let Some(scope) = &live.scope {
            self.line("Scope", printable(scope));
        }
        self.line("ID token", bytes_or_none(live.id_token_bytes));
        self.line("Refresh token", bytes_or_none(live.refresh_token_bytes));
        self.line("Refresh", self.refresh(live));
        if let Some(sid) = &live.provider_session {
            self.line("At provider", format!("session {}", printable(sid)));
        }
        if with_claims {
            self.line("Claims", "");
            for (name, value) in &live.claims {
                self.text += &format!("  {}: {}\n", printable(name), printable(&value.to_string()));
            }
        } else {
            let names: Vec<_> = live.claims.keys().map(|name| printable(name)).collect();
            self.line("Claims", names.join(", "));
        }
    }

    fn refresh(&self, live: &LiveFacts) -> String {
        if live.refresh_token_bytes.is_none() {
            return "impossible: the provider issued no refresh token".to_owned();
        }
        let mut said = Vec::new();
        if let Some(until) = live.refreshing_until {
            let verb =
                if until > self.now { "under way" } else { "was under way, and its outcome is not known" };
            said.push(format!("{verb}; its lease ends {}", self.when(until)));
        }
        if live.failures > 0 {
            said.push(format!("the last {} attempts failed", live.failures));
        }
        if live.answers_lost > 0 {
            said.push(format!("{} requests were sent whose answers are lost", live.answers_lost));
        }
        if let Some(at) = live.not_before.filter(|at| *at > self.now) {
            said.push(format!("not before {}, unless an app insists", self.when(at)));
        }
        if said.is_empty() { "possible".to_owned() } else { said.join("; ") }
    }

    fn history(&mut self, report: &SessionReport, facts: &SessionFacts) {
        self.text += "\nHistory\n";
        for entry in &facts.history {
            self.text += &format!("  {}  {}\n", date(entry.at), happened(entry));
        }
        if let Some(tombstone) = report.ended {
            self.text += &format!(
                "  {}  ended: {} [{}]\n",
                date(tombstone.ended_at),
                why(tombstone.reason),
                tombstone.reason.code()
            );
        }
    }
}

fn bytes_or_none(bytes: Option<usize>) -> String {
    bytes.map_or_else(|| "none".to_owned(), |bytes| format!("{bytes} bytes"))
}
