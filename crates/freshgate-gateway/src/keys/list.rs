//! `freshgate keys list`.

use std::io::Write;

use freshgate::keyring::{KeyId, SealCount, SealCounts};
use serde_json::{Value, json};

use super::{
    Failed, Operator,
    count::{count, sessions},
    entry::{Entry, From},
    file::is_open_to_others,
};
use crate::{
    progress::Progress,
    words::{date, relative},
};

pub(super) async fn list(
    keys: &Operator<'_>,
    as_json: bool,
    progress: &mut Progress,
    out: &mut dyn Write,
) -> Result<(), Failed> {
    let entries = keys.entries(&keys.key_file()?);
    let counts = count(keys, progress).await?;
    if as_json {
        writeln!(out, "{:#}", document(keys, &entries, &counts))?;
        return Ok(out.flush()?);
    }
    let now = keys.clock.now();
    let mut rows = vec![["KEY", "FROM", "DOES", "SINCE", "LIVE", "ENDED"].map(str::to_owned)];
    rows.extend(entries.iter().map(|entry| {
        let since = match entry.from {
            From::File { since, .. } => format!("{} ({})", date(since), relative(since, now)),
            From::CookieSecret | From::FormerCookieSecret => "-".to_owned(),
        };
        let SealCount { live, ended } = counts.of(entry.id);
        let (from, does) = (entry.from.name().to_owned(), entry.does.name().to_owned());
        [entry.id.to_string(), from, does, since, live.to_string(), ended.to_string()]
    }));
    let widths: [usize; 6] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].len()).max().unwrap_or_default());
    for row in &rows {
        let [id, from, does, since, live, ended] = row;
        let [w_id, w_from, w_does, w_since, w_live, w_ended] = widths;
        writeln!(
            out,
            "{id:w_id$}  {from:w_from$}  {does:w_does$}  {since:w_since$}  {live:>w_live$}  {ended:>w_ended$}"
        )?;
    }
    for (id, count) in strangers(&entries, &counts) {
        writeln!(out, "{id} is not here, so what it sealed cannot be read: {}.", sessions(count))?;
    }
    if counts.in_no_format > 0 {
        writeln!(out, "{} sessions are in a format that this freshgate does not know.", counts.in_no_format)?;
    }
    let file = &keys.config.keys.file;
    if is_open_to_others(file) {
        writeln!(out, "Others can read {0}: chmod 600 {0}", file.display())?;
    }
    Ok(out.flush()?)
}

/// Keys that seal something and that we do not have.
pub(super) fn strangers<'a>(
    entries: &'a [Entry],
    counts: &'a SealCounts,
) -> impl Iterator<Item = (KeyId, SealCount)> + 'a {
    let all = counts.by_key.iter().map(|(id, count)| (*id, *count));
    all.filter(|(id, _)| entries.iter().all(|entry| entry.id != *id))
}

fn document(keys: &Operator<'_>, entries: &[Entry], counts: &SealCounts) -> Value {
    let known = entries.iter().map(|entry| {
        let SealCount { live, ended } = counts.of(entry.id);
        let (made, since) = match entry.from {
            From::File { made, since } => (Some(made), Some(since)),
            From::CookieSecret | From::FormerCookieSecret => (None, None),
        };
        json!({
            "id": entry.id.to_string(),
            "from": entry.from.name().replace(' ', "_"),
            "state": entry.does.code(),
            "made_at": made.map(|at| at.as_unix_seconds_f64()),
            "since": since.map(|at| at.as_unix_seconds_f64()),
            "live": live,
            "ended": ended,
        })
    });
    let unknown = strangers(entries, counts)
        .map(|(id, SealCount { live, ended })| json!({"id": id.to_string(), "live": live, "ended": ended}));
    json!({
        "file": keys.config.keys.file,
        "keys": known.collect::<Vec<_>>(),
        "unknown_keys": unknown.collect::<Vec<_>>(),
        "in_no_format": counts.in_no_format,
    })
}
