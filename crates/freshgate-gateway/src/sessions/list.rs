//! `freshgate sessions list`.

use std::io::Write;

use freshgate::{
    Engine,
    engine::{HistoryEvent, Known, SessionReport},
    session::SessionKey,
};
use freshgate_oidc::Timestamp;

use super::{
    Failed,
    find::{in_common, short},
    json,
    scan::{Scan, facts},
    words::{code, date, printable, relative},
};
use crate::cli::ListSessions;

pub(super) async fn list(
    engine: &Engine,
    arguments: &ListSessions,
    out: &mut dyn Write,
) -> Result<(), Failed> {
    let mut listing = Listing::new(arguments, engine.clock().now());
    let mut scan = Scan::new(engine);
    loop {
        let page = scan.page().await?;
        let over = page.is_empty();
        for report in page {
            listing.meet(report);
        }
        if over {
            listing.meet_the_end();
        }
        scan.make_way();
        listing.write(over, out)?;
        if over || listing.is_full() {
            break;
        }
    }
    scan.make_way();
    listing.finish(out)
}

/// What was found so far.
struct Listing<'a> {
    arguments: &'a ListSessions,
    wanted_user: Option<String>,
    now: Timestamp,
    /// The last two sessions met: how much of a handle is shown depends on both its neighbours.
    before: Option<SessionKey>,
    here: Option<SessionReport>,
    rows: Vec<(String, SessionReport)>,
    found: usize,
    written: usize,
    unreadable: usize,
    widths: Option<[usize; COLUMNS]>,
}

const COLUMNS: usize = 7;
const HEADINGS: [&str; COLUMNS] =
    ["SESSION", "USER", "PROVIDER", "SIGNED IN", "ACCESS TOKEN", "LAST REFRESH", "STATE"];

impl<'a> Listing<'a> {
    fn new(arguments: &'a ListSessions, now: Timestamp) -> Self {
        Self {
            arguments,
            wanted_user: arguments.user.as_deref().map(str::to_lowercase),
            now,
            before: None,
            here: None,
            rows: Vec::new(),
            found: 0,
            written: 0,
            unreadable: 0,
            widths: None,
        }
    }

    /// Takes the next session, and settles the one before it.
    fn meet(&mut self, next: SessionReport) {
        let key = next.key;
        if let Some(here) = self.here.replace(next) {
            self.settle(here, Some(key));
        }
    }

    fn meet_the_end(&mut self) {
        if let Some(here) = self.here.take() {
            self.settle(here, None);
        }
    }

    fn settle(&mut self, report: SessionReport, after: Option<SessionKey>) {
        let shared = |other: Option<SessionKey>| other.map_or(0, |other| in_common(report.key, other));
        let handle = short(report.key, shared(self.before).max(shared(after)));
        self.before = Some(report.key);
        if matches!(report.known, Known::Unreadable) {
            self.unreadable += 1;
        }
        if self.is_wanted(&report) && !self.is_full() {
            self.found += 1;
            self.rows.push((handle, report));
        }
    }

    fn is_wanted(&self, report: &SessionReport) -> bool {
        let facts = facts(report);
        let user = |wanted: &String| {
            facts.is_some_and(|facts| facts.names().any(|name| name.to_lowercase().contains(wanted)))
        };
        let provider = |wanted: &String| facts.is_some_and(|facts| facts.provider == *wanted);
        (self.arguments.ended || report.ended.is_none())
            && self.wanted_user.as_ref().is_none_or(user)
            && self.arguments.provider.as_ref().is_none_or(provider)
    }

    fn is_full(&self) -> bool {
        self.arguments.limit.is_some_and(|limit| self.found >= limit)
    }

    /// Writes what was found, once it fills a screen or two: the columns are made for it.
    fn write(&mut self, over: bool, out: &mut dyn Write) -> Result<(), Failed> {
        const ENOUGH: usize = 100;
        if self.rows.is_empty() || (self.rows.len() < ENOUGH && !over && !self.is_full()) {
            return Ok(());
        }
        let rows = std::mem::take(&mut self.rows);
        if self.arguments.json {
            for (_, report) in rows {
                let start = if self.written == 0 { "{\"sessions\":[\n" } else { ",\n" };
                write!(out, "{start}{}", json::session(&report))?;
                self.written += 1;
            }
            return Ok(());
        }
        let rows: Vec<_> = rows.iter().map(|(handle, report)| cells(handle, report, self.now)).collect();
        let widths = *self.widths.get_or_insert_with(|| widths(&rows));
        if self.written == 0 {
            write_row(&HEADINGS.map(str::to_owned), &widths, out)?;
        }
        for row in &rows {
            write_row(row, &widths, out)?;
        }
        self.written += rows.len();
        Ok(())
    }

    fn finish(self, out: &mut dyn Write) -> Result<(), Failed> {
        match (self.arguments.json, self.written) {
            (true, 0) => writeln!(out, "{{\"sessions\":[]}}")?,
            (true, _) => writeln!(out, "\n]}}")?,
            (false, 0) => writeln!(out, "No such session.")?,
            (false, _) => {}
        }
        out.flush()?;
        if self.unreadable > 0 {
            anstream::eprintln!(
                "{} of the sessions are sealed with another cookie_secret, and cannot be read with this one",
                self.unreadable
            );
        }
        Ok(())
    }
}

fn cells(handle: &str, report: &SessionReport, now: Timestamp) -> [String; COLUMNS] {
    let state = match report.ended {
        None => "live".to_owned(),
        Some(tombstone) => {
            format!("ended: {}, {}", tombstone.reason.code(), relative(tombstone.ended_at, now))
        }
    };
    let Some(facts) = facts(report) else {
        let unknown = if matches!(report.known, Known::Unreadable) { "(sealed)" } else { "-" };
        return [handle, unknown, "-", "-", "-", "-", &state].map(str::to_owned);
    };
    let token = match facts.token_expires_at {
        _ if report.ended.is_some() => "-".to_owned(),
        None => "no known end".to_owned(),
        Some(at) if at > now => format!("expires {}", relative(at, now)),
        Some(at) => format!("expired {}", relative(at, now)),
    };
    let refresh = match facts.last_refresh() {
        None => "none yet".to_owned(),
        Some(entry) => {
            let failed = if entry.what == HistoryEvent::Refreshed { "" } else { "failed: " };
            format!("{failed}{}, {}", printable(code(&entry.what)), relative(entry.at, now))
        }
    };
    [
        handle.to_owned(),
        printable(&facts.user),
        printable(&facts.provider),
        format!("{} ({})", date(facts.signed_in_at), relative(facts.signed_in_at, now)),
        token,
        refresh,
        state,
    ]
}

fn widths(rows: &[[String; COLUMNS]]) -> [usize; COLUMNS] {
    // One long name shall not push everything else out of sight.
    const WIDEST: usize = 40;
    std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count().min(WIDEST));
        cells.chain([HEADINGS[column].len()]).max().unwrap_or(0)
    })
}

fn write_row(row: &[String; COLUMNS], widths: &[usize; COLUMNS], out: &mut dyn Write) -> Result<(), Failed> {
    let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    Ok(writeln!(out, "{}", cells.join("  ").trim_end())?)
}
