//! `freshgate sessions end`.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write},
    time::Duration,
};

use freshgate::{
    Engine,
    engine::{RevocationCounts, SessionReport},
    session::EndReason,
};

use super::{
    Failed,
    find::{find, short},
    scan::{Scan, facts},
    words::printable,
};
use crate::cli::EndSessions;

/// Who is asked whether it shall be done.
pub(super) trait Ask {
    /// Yes or no; `None` if there is nobody.
    fn ask(&mut self, question: &str) -> io::Result<Option<bool>>;
}

/// The person at the terminal.
pub(super) struct Terminal;

impl Ask for Terminal {
    fn ask(&mut self, question: &str) -> io::Result<Option<bool>> {
        let mut error = io::stderr();
        if !io::stdin().is_terminal() || !error.is_terminal() {
            return Ok(None);
        }
        write!(error, "{question} [y/N] ")?;
        error.flush()?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok(Some(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")))
    }
}

pub(super) async fn end(
    engine: &Engine,
    arguments: &EndSessions,
    ask: &mut dyn Ask,
    out: &mut dyn Write,
) -> Result<(), Failed> {
    // All of them are found first: either each handle means a session, or nothing is ended.
    let meant = match &arguments.user {
        Some(user) => of_user(engine, user).await?,
        None => by_handle(engine, &arguments.handles).await?,
    };
    let (over, live): (Vec<_>, Vec<_>) = meant.into_iter().partition(|report| report.ended.is_some());
    for report in &over {
        let reason = report.ended.map_or("unknown", |tombstone| tombstone.reason.code());
        writeln!(out, "{} had ended before: {reason}", name(report))?;
    }
    if live.is_empty() {
        return Ok(out.flush()?);
    }
    if !arguments.yes {
        match ask.ask(&question(&live))? {
            None => return Err(Failed::NobodyToAsk),
            Some(false) => return Err(Failed::Declined),
            Some(true) => {}
        }
    }
    for report in &live {
        engine.end(report.key, EndReason::Operator).await?;
        writeln!(out, "{} is ended", name(report))?;
    }
    out.flush()?;
    tell_of_revocations(engine, out).await
}

/// How long is waited for the provider to take the refresh tokens back. The sessions are over by then.
const REVOCATIONS: Duration = Duration::from_secs(30);

async fn tell_of_revocations(engine: &Engine, out: &mut dyn Write) -> Result<(), Failed> {
    let in_time = tokio::time::timeout(REVOCATIONS, engine.revocations_settled()).await.is_ok();
    let RevocationCounts { revoked, failed } = engine.revocations();
    let tokens =
        |count| if count == 1 { "1 refresh token".to_owned() } else { format!("{count} refresh tokens") };
    if revoked > 0 {
        writeln!(out, "{} revoked at the provider", tokens(revoked))?;
    }
    if failed > 0 {
        writeln!(out, "{} could not be revoked, and may still be good at the provider", tokens(failed))?;
    }
    if !in_time {
        writeln!(out, "the provider is too slow to revoke the others: they may still be good there")?;
    }
    Ok(out.flush()?)
}

async fn by_handle(engine: &Engine, handles: &[String]) -> Result<Vec<SessionReport>, Failed> {
    let mut meant: Vec<SessionReport> = Vec::with_capacity(handles.len());
    for handle in handles {
        let report = find(engine, handle).await?;
        if meant.iter().all(|other| other.key != report.key) {
            meant.push(report);
        }
    }
    Ok(meant)
}

/// The live sessions of the user who has exactly this name: a part of it could be somebody else's too.
async fn of_user(engine: &Engine, user: &str) -> Result<Vec<SessionReport>, Failed> {
    let wanted = user.to_lowercase();
    let mut scan = Scan::new(engine);
    let mut meant = Vec::new();
    loop {
        let page = scan.page().await?;
        if page.is_empty() {
            break;
        }
        meant.extend(page.into_iter().filter(|report| {
            let named = |report| {
                facts(report).is_some_and(|facts| facts.names().any(|name| name.to_lowercase() == wanted))
            };
            report.ended.is_none() && named(report)
        }));
    }
    if meant.is_empty() { Err(Failed::NoUser(printable(user))) } else { Ok(meant) }
}

fn question(live: &[SessionReport]) -> String {
    const NAMED: usize = 5;
    let mut names: Vec<_> = live.iter().take(NAMED).map(name).collect();
    if live.len() > NAMED {
        names.push("…".to_owned());
    }
    match live.len() {
        1 => format!("End {}?", names[0]),
        several => format!("End {several} sessions: {}?", names.join(", ")),
    }
}

fn name(report: &SessionReport) -> String {
    let handle = short(report.key, 0);
    match facts(report) {
        Some(facts) => format!("{handle} of {}", printable(&facts.user)),
        None => handle,
    }
}
