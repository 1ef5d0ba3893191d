//! What each method of the store does, in SQL. The writing ones run inside the writer's transaction, and only their last
//! statement writes.

use freshgate_oidc::Timestamp;
use rusqlite::{Connection, OptionalExtension, params, types::Type};
use serde::{Deserialize, de::IntoDeserializer};

use crate::{
    session::{EndReason, SessionKey},
    store::{
        Change, Changes, Ended, EndedAt, Found, Index, Inserted, KEPT_CHANGES, Listed, Position, Replaced,
        Resealed, Revision, Row, Tombstone,
    },
};

type Result<T> = rusqlite::Result<T>;

pub(super) fn insert(connection: &Connection, key: SessionKey, row: &Row) -> Result<Inserted> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO session (key, forget_at, revision, subject, provider_session, sealed)
         VALUES (?1, ?2, 1, ?3, ?4, ?5) ON CONFLICT (key) DO NOTHING",
    )?;
    let Row { sealed, index } = row;
    let inserted = insert.execute(params![
        key.as_bytes(),
        index.ends_at.as_unix_millis(),
        index.subject,
        index.provider_session,
        sealed,
    ])?;
    if inserted == 1 {
        return Ok(Inserted::Done);
    }
    Ok(match read(connection, key)? {
        Found::Ended(tombstone) => Inserted::Ended(tombstone),
        Found::Live(..) | Found::Unknown => Inserted::Exists,
    })
}

pub(super) fn read(connection: &Connection, key: SessionKey) -> Result<Found> {
    let mut read = connection.prepare_cached(
        "SELECT forget_at, revision, subject, provider_session, end_reason, ended_at, sealed
         FROM session WHERE key = ?1",
    )?;
    let found = read.query_row([key.as_bytes()], found);
    Ok(found.optional()?.unwrap_or(Found::Unknown))
}

/// What the columns say that [`read`] asks for.
fn found(columns: &rusqlite::Row<'_>) -> Result<Found> {
    let Some(revision) = columns.get::<_, Option<i64>>(1)? else {
        let tombstone = Tombstone { reason: end_reason(columns, 4)?, ended_at: time(columns, 5)? };
        return Ok(Found::Ended(tombstone));
    };
    let index =
        Index { subject: columns.get(2)?, provider_session: columns.get(3)?, ends_at: time(columns, 0)? };
    Ok(Found::Live(Row { sealed: columns.get(6)?, index }, unsigned(revision)))
}

pub(super) fn replace(
    connection: &Connection,
    key: SessionKey,
    expected: Revision,
    row: &Row,
) -> Result<Replaced> {
    let Row { sealed, index } = row;
    // Nearly every update leaves the user, the provider's session and the end as they were. SQLite writes to the indexes
    // of all columns that an UPDATE names, changed or not, so the usual one names none of these.
    let mut usual = connection.prepare_cached(
        "UPDATE session SET revision = revision + 1, sealed = ?3
         WHERE key = ?1 AND revision = ?2 AND subject = ?4 AND provider_session IS ?5 AND forget_at = ?6",
    )?;
    let mut any = connection.prepare_cached(
        "UPDATE session SET revision = revision + 1, sealed = ?3,
                subject = ?4, provider_session = ?5, forget_at = ?6
         WHERE key = ?1 AND revision = ?2",
    )?;
    let values = params![
        key.as_bytes(),
        signed(expected),
        sealed,
        index.subject,
        index.provider_session,
        index.ends_at.as_unix_millis(),
    ];
    if usual.execute(values)? == 1 || any.execute(values)? == 1 {
        return Ok(Replaced::Done(expected + 1));
    }
    Ok(match read(connection, key)? {
        Found::Live(row, revision) => Replaced::Conflict(row, revision),
        Found::Ended(tombstone) => Replaced::Ended(tombstone),
        Found::Unknown => Replaced::Unknown,
    })
}

pub(super) fn end(
    connection: &Connection,
    key: SessionKey,
    tombstone: Tombstone,
    keep_until: Timestamp,
    note: Option<&[u8]>,
) -> Result<Ended> {
    let found = read(connection, key)?;
    if let Found::Ended(first) = found {
        connection
            .prepare_cached("UPDATE session SET forget_at = ?2 WHERE key = ?1 AND forget_at < ?2")?
            .execute(params![key.as_bytes(), keep_until.as_unix_millis()])?;
        return Ok(Ended::Before(first));
    }
    let mut end = connection.prepare_cached(
        "INSERT INTO session (key, forget_at, end_reason, ended_at, note) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (key) DO UPDATE SET
             forget_at = excluded.forget_at, end_reason = excluded.end_reason, ended_at = excluded.ended_at,
             note = excluded.note, revision = NULL, subject = NULL, provider_session = NULL, refresh_due = NULL, sealed = NULL",
    )?;
    end.execute(params![
        key.as_bytes(),
        keep_until.as_unix_millis(),
        tombstone.reason.code(),
        tombstone.ended_at.as_unix_millis(),
        note,
    ])?;
    Ok(match found {
        Found::Live(row, _) => Ended::Now(row),
        Found::Ended(_) | Found::Unknown => Ended::Unknown,
    })
}

pub(super) fn end_at(
    connection: &Connection,
    key: SessionKey,
    expected: Revision,
    tombstone: Tombstone,
    keep_until: Timestamp,
    note: Option<&[u8]>,
) -> Result<EndedAt> {
    Ok(match read(connection, key)? {
        Found::Live(_, revision) if revision == expected => {
            end(connection, key, tombstone, keep_until, note)?;
            EndedAt::Now
        }
        Found::Live(row, revision) => EndedAt::Conflict(row, revision),
        Found::Ended(first) => EndedAt::Before(first),
        Found::Unknown => EndedAt::Unknown,
    })
}

pub(super) fn reseal(
    connection: &Connection,
    key: SessionKey,
    before: &[u8],
    sealed: &[u8],
) -> Result<Resealed> {
    // A row has one of the two. No statement names `revision`, whose trigger would tell of a change.
    let mut record =
        connection.prepare_cached("UPDATE session SET sealed = ?3 WHERE key = ?1 AND sealed = ?2")?;
    let mut note = connection.prepare_cached("UPDATE session SET note = ?3 WHERE key = ?1 AND note = ?2")?;
    let values = params![key.as_bytes(), before, sealed];
    let done = record.execute(values)? == 1 || note.execute(values)? == 1;
    Ok(if done { Resealed::Done } else { Resealed::Overtaken })
}

pub(super) const LIST: &str =
    "SELECT forget_at, revision, subject, provider_session, end_reason, ended_at, sealed, key, note
     FROM session WHERE key > ?1 ORDER BY key LIMIT ?2";
pub(super) const OF_SUBJECT: &str = "SELECT key FROM session WHERE subject = ?1";
pub(super) const OF_PROVIDER_SESSION: &str = "SELECT key FROM session WHERE provider_session = ?1";
// What has a subject lives, what has a reason has ended. The revision would say so too, but an index that depended on it
// would be written at each update.
pub(super) const ENDING: &str = "SELECT key, forget_at FROM session
    WHERE subject IS NOT NULL AND forget_at <= ?1 ORDER BY forget_at LIMIT ?2";
pub(super) const SWEEP: &str = "DELETE FROM session WHERE rowid IN (SELECT rowid FROM session
    WHERE end_reason IS NOT NULL AND forget_at <= ?1 ORDER BY forget_at LIMIT ?2)";
pub(super) const SWEEP_MARKS: &str = "DELETE FROM mark WHERE name IN
    (SELECT name FROM mark WHERE forget_at <= ?1 ORDER BY forget_at LIMIT ?2)";

pub(super) fn list(
    connection: &Connection,
    after: Option<SessionKey>,
    limit: usize,
) -> Result<Vec<(SessionKey, Listed)>> {
    let mut list = connection.prepare_cached(LIST)?;
    // An empty text of bytes comes before all others.
    let after = after.as_ref().map_or(&[][..], |key| key.as_bytes());
    let mut rows = list.query(params![after, signed(limit as u64)])?;
    let mut page = Vec::new();
    while let Some(columns) = rows.next()? {
        let listed = match found(columns)? {
            Found::Live(row, revision) => Listed::Live(row, revision),
            Found::Ended(tombstone) => Listed::Ended(tombstone, columns.get(8)?),
            Found::Unknown => continue,
        };
        page.push((session_key(columns, 7)?, listed));
    }
    Ok(page)
}

pub(super) fn of_subject(connection: &Connection, subject: &[u8; 32]) -> Result<Vec<SessionKey>> {
    connection.prepare_cached(OF_SUBJECT)?.query_map([subject], |columns| session_key(columns, 0))?.collect()
}

pub(super) fn of_provider_session(connection: &Connection, sid: &[u8; 32]) -> Result<Vec<SessionKey>> {
    connection
        .prepare_cached(OF_PROVIDER_SESSION)?
        .query_map([sid], |columns| session_key(columns, 0))?
        .collect()
}

pub(super) fn mark(
    connection: &Connection,
    name: &[u8; 32],
    at: Timestamp,
    keep_until: Timestamp,
) -> Result<Option<Timestamp>> {
    let before = marked(connection, name)?;
    let mut mark = connection.prepare_cached(
        "INSERT INTO mark (name, at, forget_at) VALUES (?1, ?2, ?3) ON CONFLICT (name) DO UPDATE SET
             at = max(at, excluded.at), forget_at = max(forget_at, excluded.forget_at)",
    )?;
    mark.execute(params![name, at.as_unix_millis(), keep_until.as_unix_millis()])?;
    Ok(before)
}

pub(super) fn marked(connection: &Connection, name: &[u8; 32]) -> Result<Option<Timestamp>> {
    let mut marked = connection.prepare_cached("SELECT at FROM mark WHERE name = ?1")?;
    marked.query_row([name], |columns| time(columns, 0)).optional()
}

pub(super) fn ending(
    connection: &Connection,
    until: Timestamp,
    limit: usize,
) -> Result<Vec<(SessionKey, Timestamp)>> {
    let mut ending = connection.prepare_cached(ENDING)?;
    let ending = ending.query_map(params![until.as_unix_millis(), signed(limit as u64)], |columns| {
        Ok((session_key(columns, 0)?, time(columns, 1)?))
    })?;
    ending.collect()
}

/// The one operation with two statements that write: each is whole by itself.
pub(super) fn sweep(connection: &Connection, now: Timestamp, limit: usize) -> Result<usize> {
    let swept =
        connection.prepare_cached(SWEEP)?.execute(params![now.as_unix_millis(), signed(limit as u64)])?;
    let rest = signed(limit.saturating_sub(swept) as u64);
    Ok(swept + connection.prepare_cached(SWEEP_MARKS)?.execute(params![now.as_unix_millis(), rest])?)
}

pub(super) fn changes_since(connection: &Connection, position: Option<Position>) -> Result<Changes> {
    let last = connection
        .prepare_cached("SELECT max(position) FROM change")?
        .query_row([], |columns| columns.get::<_, Option<i64>>(0))?
        .map_or(0, unsigned);
    let nothing = |missed| Changes { list: Vec::new(), missed, position: Position(last) };
    let Some(Position(position)) = position.filter(|position| position.0 != last) else {
        return Ok(nothing(false));
    };

    let mut changes = connection
        .prepare_cached("SELECT position, key, revision FROM change WHERE position > ?1 ORDER BY position")?;
    let changes = changes.query_map([signed(position)], |columns| {
        let key = session_key(columns, 1)?;
        let change = match columns.get::<_, Option<i64>>(2)? {
            Some(revision) => Change::Written(key, unsigned(revision)),
            None => Change::Ended(key),
        };
        Ok((unsigned(columns.get(0)?), change))
    })?;
    let (positions, list): (Vec<_>, Vec<_>) = changes.collect::<Result<Vec<_>>>()?.into_iter().unzip();
    match (positions.first(), positions.last()) {
        (Some(first), Some(last)) if *first == position + 1 => {
            Ok(Changes { list, missed: false, position: Position(*last) })
        }
        _ => Ok(nothing(true)),
    }
}

/// Keeps the list of changes short. Part of each batch: that way few go at a time.
pub(super) fn forget_old_changes(connection: &Connection) -> Result<()> {
    connection
        .prepare_cached("DELETE FROM change WHERE position <= (SELECT max(position) FROM change) - ?1")?
        .execute([signed(KEPT_CHANGES)])?;
    Ok(())
}

fn session_key(columns: &rusqlite::Row<'_>, column: usize) -> Result<SessionKey> {
    columns.get(column).map(SessionKey::from_bytes)
}

fn time(columns: &rusqlite::Row<'_>, column: usize) -> Result<Timestamp> {
    columns.get(column).map(Timestamp::from_unix_millis)
}

fn end_reason(columns: &rusqlite::Row<'_>, column: usize) -> Result<EndReason> {
    let code: String = columns.get(column)?;
    EndReason::deserialize(code.as_str().into_deserializer()).map_err(|error: serde::de::value::Error| {
        rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
    })
}

// SQLite counts in i64. What is beyond it is further than anything there is.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
