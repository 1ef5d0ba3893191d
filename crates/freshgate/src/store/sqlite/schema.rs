//! How the file is made, opened and brought up to date.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use url::Url;

use super::{
    StoreError, StoreInspection,
    neighbours::{BUSY_TIMEOUT, wait_for_others},
};

/// What brings a file from one schema version (`PRAGMA user_version`) to the next. Only ever add to it.
const MIGRATIONS: &[&str] = &[
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
];

/// "FrGa": tells our files from those of other programs (`PRAGMA application_id`).
pub(super) const APPLICATION_ID: i32 = 0x4672_4761;

/// Held while a file is made and opened. SQLite's locks are POSIX locks, which a process loses on *every* descriptor of a
/// file as soon as it closes one of them: the descriptor that makes the file must be closed before SQLite opens it.
static OPENING: Mutex<()> = Mutex::new(());

/// Opens the file, or makes it, and brings it up to date. Gives back its absolute path as well: a relative one that
/// starts with `file:` would be a URI for SQLite.
pub(super) fn open(path: &Path) -> Result<(PathBuf, Connection), StoreError> {
    let location = std::path::absolute(path).map_err(|error| cannot_open(path, error))?;
    let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    make(&location).map_err(|error| cannot_open(&location, error))?;
    let mut connection = connect(&location).map_err(|error| cannot_open(&location, error))?;
    match bring_up_to_date(&mut connection) {
        Ok(()) => Ok((location, connection)),
        Err(outdated) => Err(outdated.into_error(&location)),
    }
}

/// Looks into a file that another process may have open, and leaves it as it is.
pub(super) fn inspect(path: &Path) -> Result<StoreInspection, StoreError> {
    let location = std::path::absolute(path).map_err(|error| cannot_open(path, error))?;
    let _opening = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    let look = || -> Result<StoreInspection, Outdated> {
        let mut connection = connect_to_read(&location)?;
        wait_for_others(&mut connection)?;
        let schema = version(&connection)?;
        let count = |which| {
            let question = format!("SELECT count(*) FROM session WHERE {which}");
            connection.query_row(&question, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs)
        };
        let (live, ended) = match schema {
            0 => (0, 0),
            _ => (count("revision IS NOT NULL")?, count("revision IS NULL")?),
        };
        Ok(StoreInspection { schema, known_schema: MIGRATIONS.len() as u32, live, ended })
    };
    look().map_err(|outdated| outdated.into_error(&location))
}

fn connect_to_read(location: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut log = location.as_os_str().to_owned();
    log.push("-wal");
    match Url::from_file_path(location) {
        // Nobody has it open. To read it as any other file keeps SQLite from making a log beside it, and leaving it there.
        Ok(mut url) if !Path::new(&log).exists() => {
            url.set_query(Some("immutable=1"));
            Connection::open_with_flags(url.as_str(), flags | OpenFlags::SQLITE_OPEN_URI)
        }
        _ => Connection::open_with_flags(location, flags),
    }
}

/// One more connection to a file that [`open`] made ready.
pub(super) fn connect(location: &Path) -> rusqlite::Result<Connection> {
    // Each connection stays on one thread at a time, so SQLite need not lock it.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(location, flags)?;
    wait_for_others(&mut connection)?;
    connection.set_prepared_statement_cache_capacity(32);
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "trusted_schema", false)?;
    // What an ended session held is overwritten, not merely unlinked: a page more per end, none per update.
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(connection)
}

pub(super) fn cannot_open(
    location: &Path,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> StoreError {
    StoreError::Open { location: location.display().to_string(), source: error.into() }
}

/// Makes the file where there is none, for this user alone. SQLite gives the log that it puts beside the file the file's
/// own permissions. Those of a file that is there are for its owner to choose.
fn make(location: &Path) -> io::Result<()> {
    if location.exists() {
        return Ok(());
    }
    let directory = location.parent().unwrap_or(Path::new("/"));
    let mut directories = std::fs::DirBuilder::new();
    let mut file = std::fs::OpenOptions::new();
    #[cfg(unix)]
    {
        std::os::unix::fs::DirBuilderExt::mode(&mut directories, 0o700);
        std::os::unix::fs::OpenOptionsExt::mode(&mut file, 0o600);
    }
    directories.recursive(true).create(directory).map_err(|error| {
        // "File exists" is what the system says if it is a file.
        if directory.exists() { io::ErrorKind::NotADirectory.into() } else { error }
    })?;
    match file.write(true).create_new(true).open(location) {
        Ok(_) => {}
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(error) => return Err(error),
    }
    // SQLite syncs the directory only for the files that it makes itself.
    #[cfg(unix)]
    std::fs::File::open(directory)?.sync_all()?;
    Ok(())
}

enum Outdated {
    Newer(u32),
    NotOurs(&'static str),
    Sqlite(rusqlite::Error),
}

impl Outdated {
    fn into_error(self, location: &Path) -> StoreError {
        match self {
            Self::Newer(found) => StoreError::NewerSchema {
                location: location.display().to_string(),
                found,
                known: MIGRATIONS.len() as u32,
            },
            Self::NotOurs(reason) => cannot_open(location, io::Error::other(reason)),
            Self::Sqlite(error) => cannot_open(location, error),
        }
    }
}

impl From<rusqlite::Error> for Outdated {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn bring_up_to_date(connection: &mut Connection) -> Result<(), Outdated> {
    // Before anything is written: a file that is not for us stays as it is.
    version(connection)?;
    // Has an effect on an empty file alone. SQLite's own default, which the measurements favour: with 8 KiB, a row of
    // 4 KiB takes twice the place.
    connection.pragma_update(None, "page_size", 4096)?;
    write_ahead(connection)?;

    // Only one process brings the file up to date; the others wait here and find it done. The transaction also proves
    // that the file can be written.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (number, migration) in MIGRATIONS.iter().enumerate().skip(version(&transaction)? as usize) {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", number as u32 + 1)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    }
    transaction.commit()?;
    Ok(())
}

/// The schema version of a file that is ours; 0 if it is empty.
fn version(connection: &Connection) -> Result<u32, Outdated> {
    let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
    let version = number("user_version")?;
    if number("application_id")? != APPLICATION_ID {
        let tables =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))?;
        return if tables == 0 && version == 0 {
            Ok(0)
        } else {
            Err(Outdated::NotOurs("a database of another program"))
        };
    }
    match u32::try_from(version) {
        Ok(version) if version as usize <= MIGRATIONS.len() => Ok(version),
        Ok(version) => Err(Outdated::Newer(version)),
        Err(_) => Err(Outdated::NotOurs("the schema version is negative")),
    }
}

/// Puts the file into WAL mode, in which it stays. When several processes do this to a new file at once, SQLite refuses
/// some of them at once, whatever the busy timeout.
fn write_ahead(connection: &Connection) -> Result<(), Outdated> {
    let give_up = Instant::now() + BUSY_TIMEOUT;
    loop {
        let mode =
            connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match mode {
            Ok(mode) if mode == "wal" => return Ok(()),
            // SQLite answers with the mode that it stays in.
            Ok(_) => return Err(Outdated::NotOurs("the file system cannot hold a write-ahead log")),
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && Instant::now() < give_up =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            Err(error) => return Err(error.into()),
        }
    }
}
