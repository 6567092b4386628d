//! Where rooms are kept: an SQLite database in the data directory.
//!
//! SQLite, because nothing that keeps data in a file is tested as much, its format is documented and stable, and its
//! write-ahead log has both of what is wanted: a commit is one write to a file, which survives the process, and,
//! if asked for, one `fdatasync`, which survives the machine.
//!
//! Each room has a checkpoint, which is the whole room, and after it the records of what happened since: one for
//! each turn of its loop in which something did. The commits of all loops are grouped: whoever holds the database
//! writes what the others have ready too.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{params, Connection, OpenFlags, TransactionBehavior};

use crate::core::error::{Error, ErrorCode};
use crate::core::journal::{self, FORMAT};
use crate::core::limits::Limits;
use crate::core::room::{Room, Time};

use super::keeper::{Found, Keep, Kept, What};
use super::wal;

/// The files of a data directory.
const DATABASE_FILE: &str = "rooms.db";
const FORMAT_FILE: &str = "format";
const LOCK_FILE: &str = "lock.db";

/// What the format file says, before the number.
const FORMAT_WORDS: &str = "SessionStore data, format ";

/// So many bytes of the write-ahead log are moved into the database at once: as many as SQLite does by default, in
/// pages of 4 KiB.
const LOG_BYTES: usize = 4 << 20;

/// When the log could not be begun anew for so long that it has so many bytes, commits wait until it is.
const MAX_LOG_BYTES: u64 = 64 << 20;

/// How long a commit waits for the log to be begun anew, in milliseconds; far longer than that takes.
const BUSY_TIMEOUT_MS: u64 = 60_000;

/// The journal of a server, shared by its loops.
pub(super) struct Journal {
    directory: PathBuf,
    waiting: Mutex<Waiting>,
    database: Mutex<Database>,
    next_id: AtomicI64,
    upkeep: Arc<Upkeep>,
    /// There as long as no other server may use the directory.
    in_use: Mutex<Option<Connection>>,
}

/// What the loops have handed in and nobody has written.
#[derive(Default)]
struct Waiting {
    keeps: Vec<Keep>,
    /// Counts the groups that were handed in.
    through: u64,
}

struct Database {
    connection: Option<Connection>,
    /// Groups that are written.
    through: u64,
    failure: Option<Error>,
}

/// The thread that moves the log into the database.
#[derive(Default)]
struct Upkeep {
    state: Mutex<UpkeepState>,
    changed: Condvar,
}

#[derive(Default)]
struct UpkeepState {
    written: usize,
    stopping: bool,
}

/// A fault elsewhere must not take the journal with it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unusable(directory: &Path, reason: impl std::fmt::Display) -> Error {
    let message = format!("the data directory {}: {reason}", directory.display());
    Error::new(ErrorCode::DataDirectoryUnusable, message)
}

/// What SQLite says, in terms of the directory.
fn failed(directory: &Path) -> impl Fn(rusqlite::Error) -> Error + '_ {
    move |error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            let database = directory.join(DATABASE_FILE);
            Error::new(ErrorCode::DataDamaged, format!("{} is damaged: {error}", database.display()))
        }
        _ => unusable(directory, error),
    }
}

/// With its checksum before it: SQLite has one for what is in its log, but not for what is in the database.
fn sealed(parts: [&[u8]; 2]) -> Vec<u8> {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    let mut sealed = Vec::with_capacity(4 + parts[0].len() + parts[1].len());
    sealed.extend_from_slice(&hasher.finalize().to_le_bytes());
    parts.iter().for_each(|part| sealed.extend_from_slice(part));
    sealed
}

fn unsealed(bytes: &[u8]) -> Option<&[u8]> {
    let (checksum, bytes) = bytes.split_first_chunk::<4>()?;
    (crc32fast::hash(bytes) == u32::from_le_bytes(*checksum)).then_some(bytes)
}

/// The key of a record: those of a room are in one place, in their order.
fn record_key(id: i64, sequence: u32) -> i64 {
    (id << 32) | i64::from(sequence)
}

/// Which start of this machine it is, where the system tells.
fn boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

impl Journal {
    /// Opens the directory, which is made if it is not there, and rebuilds the rooms that are in it: they go on at
    /// `now`, or at the latest time they know of.
    ///
    /// With `fsync` a commit is on the disk when it returns.
    ///
    /// Errors: `DATA_DIRECTORY_UNUSABLE`, `DATA_NEWER` and `DATA_DAMAGED`, with the reason. Nothing is changed by
    /// then.
    pub fn open(directory: &Path, fsync: bool, now: Time, limits: &Arc<Limits>) -> Result<(Journal, Found), Error> {
        create_directory(directory).map_err(|error| match directory.is_file() {
            true => unusable(directory, "it is a file"),
            false => unusable(directory, error),
        })?;
        let is_new = check_format(directory)?;
        let in_use = take(directory)?;
        if is_new {
            let text = format!("{FORMAT_WORDS}{FORMAT}\n");
            write_whole(&directory.join(FORMAT_FILE), &text).map_err(|error| unusable(directory, error))?;
        } else {
            check_database(directory)?;
        }
        let log = wal::check(&directory.join(format!("{DATABASE_FILE}-wal"))).map_err(|e| unusable(directory, e))?;
        let mut connection = open_database(directory).map_err(failed(directory))?;
        let (found, next_id) = recover(&mut connection, directory, fsync, now, limits, log)?;
        set_synchronous(&connection, fsync).map_err(failed(directory))?;
        let upkeep = Arc::new(Upkeep::default());
        let (shared, path) = (upkeep.clone(), directory.to_owned());
        let thread = std::thread::Builder::new().name("sstore-journal".into());
        thread.spawn(move || shared.run(&path)).map_err(|error| unusable(directory, error))?;
        let journal = Journal {
            directory: directory.to_owned(),
            waiting: Mutex::default(),
            database: Mutex::new(Database { connection: Some(connection), through: 0, failure: None }),
            next_id: AtomicI64::new(next_id),
            upkeep,
            in_use: Mutex::new(Some(in_use)),
        };
        Ok((journal, found))
    }

    /// A number for a session that begins.
    pub fn next_id(&self) -> i64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Keeps what is handed in. When this returns it survives the process, and with `fsync` the machine.
    ///
    /// After a failure nothing is kept any more: every later call fails too.
    pub fn commit(&self, keeps: &mut Vec<Keep>) -> Result<(), Error> {
        let own = {
            let mut waiting = lock(&self.waiting);
            waiting.keeps.append(keeps);
            waiting.through += 1;
            waiting.through
        };
        let mut database = lock(&self.database);
        if let Some(failure) = &database.failure {
            return Err(failure.clone());
        }
        if database.through >= own {
            // Another loop had the database, and took this along.
            return Ok(());
        }
        let (keeps, through) = {
            let mut waiting = lock(&self.waiting);
            (std::mem::take(&mut waiting.keeps), waiting.through)
        };
        let Some(connection) = &mut database.connection else { return Err(ErrorCode::Closed.into()) };
        match write(connection, &keeps) {
            Ok(bytes) => {
                database.through = through;
                drop(database);
                self.upkeep.add(bytes);
                Ok(())
            }
            Err(error) => {
                let error = failed(&self.directory)(error);
                database.failure = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Everything is written and nothing will follow: the next to open the directory finds it complete.
    pub fn close(&self) {
        self.upkeep.stop();
        let mut database = lock(&self.database);
        if let Some(connection) = database.connection.take().filter(|_| database.failure.is_none()) {
            close(&connection);
        }
        *lock(&self.in_use) = None;
    }
}

fn close(connection: &Connection) {
    let close = || {
        set_synchronous(connection, true)?;
        set_meta(connection, "clean", "1")?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
    };
    if let Err(error) = close() {
        tracing::error!(%error, "the journal was not closed properly; it is looked through at the next start");
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.upkeep.stop();
    }
}

fn create_directory(directory: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    // It holds the secrets of peers.
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// Whether the directory has no data yet. Looks at one small file and touches nothing.
fn check_format(directory: &Path) -> Result<bool, Error> {
    let path = directory.join(FORMAT_FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let database = directory.join(DATABASE_FILE);
            return match database.try_exists() {
                Ok(false) => Ok(true),
                Ok(true) => {
                    let message = format!("{} is there, but {} is not", database.display(), path.display());
                    Err(Error::new(ErrorCode::DataDamaged, message))
                }
                Err(error) => Err(unusable(directory, error)),
            };
        }
        Err(error) => return Err(unusable(directory, error)),
    };
    match text.trim_end().strip_prefix(FORMAT_WORDS).and_then(|number| number.parse::<u32>().ok()) {
        Some(FORMAT) => Ok(false),
        Some(newer) if newer > FORMAT => {
            let message = format!("{} has format {newer}; this version reads {FORMAT}", directory.display());
            Err(Error::new(ErrorCode::DataNewer, message))
        }
        _ => {
            let message = format!("{} does not say \"{FORMAT_WORDS}{FORMAT}\"", path.display());
            Err(Error::new(ErrorCode::DataDamaged, message))
        }
    }
}

/// Looks whether a directory that was used before still has its database.
fn check_database(directory: &Path) -> Result<(), Error> {
    let size = |name: &str| std::fs::metadata(directory.join(name)).map_or(0, |file| file.len());
    if size(DATABASE_FILE) > 0 {
        return Ok(());
    }
    let database = directory.join(DATABASE_FILE);
    if size(&format!("{DATABASE_FILE}-wal")) > 0 {
        let message = format!("{} is missing or empty, but its log {DATABASE_FILE}-wal is not", database.display());
        return Err(Error::new(ErrorCode::DataDamaged, message));
    }
    // The first start may have been cut short, so that it is no reason to refuse.
    tracing::warn!(
        "{} is missing or empty, so that there are no rooms; if it had some, stop this server and put the file back",
        database.display()
    );
    Ok(())
}

/// There is all of it, or nothing.
fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let draft = path.with_extension("new");
    let mut file = std::fs::File::create(&draft)?;
    io::Write::write_all(&mut file, text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

/// Takes the directory for this server alone: by a lock that the system frees with the process, which SQLite knows
/// how to take on every system.
fn take(directory: &Path) -> Result<Connection, Error> {
    let attempt = || {
        let connection = Connection::open(directory.join(LOCK_FILE))?;
        connection.busy_timeout(Duration::ZERO)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.execute_batch("BEGIN EXCLUSIVE")?;
        Ok(connection)
    };
    attempt().map_err(|error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked) => {
            unusable(directory, "another server uses it")
        }
        _ => unusable(directory, error),
    })
}

/// Opens it so that what is written waits for the disk: that the journal is in use must be known after a power cut too.
fn open_database(directory: &Path) -> rusqlite::Result<Connection> {
    let connection = open_connection(directory, OpenFlags::SQLITE_OPEN_CREATE)?;
    // The log is moved by a thread of its own; see `Upkeep`.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    set_synchronous(&connection, true)?;
    // What is deleted is overwritten, so that no value outlives its session in a free page.
    connection.pragma_update(None, "secure_delete", true)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
         CREATE TABLE IF NOT EXISTS room (id INTEGER PRIMARY KEY, name TEXT NOT NULL, checkpoint BLOB NOT NULL);
         CREATE TABLE IF NOT EXISTS record (key INTEGER PRIMARY KEY, body BLOB NOT NULL);",
    )?;
    Ok(connection)
}

fn set_synchronous(connection: &Connection, fsync: bool) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", if fsync { "FULL" } else { "NORMAL" })?;
    // On macOS only this reaches the disk.
    connection.pragma_update(None, "fullfsync", fsync)
}

fn open_connection(directory: &Path, more: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX | more;
    let connection = Connection::open_with_flags(directory.join(DATABASE_FILE), flags)?;
    connection.busy_timeout(Duration::from_millis(BUSY_TIMEOUT_MS))?;
    Ok(connection)
}

fn meta(connection: &Connection, name: &str) -> rusqlite::Result<String> {
    let mut found = connection.prepare("SELECT value FROM meta WHERE name = ?1")?;
    let mut rows = found.query([name])?;
    rows.next()?.map_or(Ok(String::new()), |row| row.get(0))
}

fn set_meta(connection: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?1, ?2)", [name, value]).map(drop)
}

/// Writes everything or nothing. Returns about how many bytes.
fn write(connection: &mut Connection, keeps: &[Keep]) -> rusqlite::Result<usize> {
    let mut bytes = 0;
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut append = transaction.prepare_cached("INSERT INTO record VALUES (?1, ?2)")?;
        let mut checkpoint = transaction.prepare_cached("INSERT OR REPLACE INTO room VALUES (?1, ?2, ?3)")?;
        let mut cut = transaction.prepare_cached("DELETE FROM record WHERE key >= ?1 AND key < ?2")?;
        let mut end = transaction.prepare_cached("DELETE FROM room WHERE id = ?1")?;
        for Keep { id, what } in keeps {
            // Each write touches a page at least.
            bytes += 4_096;
            match what {
                What::Checkpoint { name, bytes: checkpointed } => {
                    bytes += checkpointed.len();
                    checkpoint.execute(params![id, &**name, sealed([&[], checkpointed])])?;
                    cut.execute([record_key(*id, 0), record_key(id + 1, 0)])?;
                }
                What::Record { sequence, revision, entries } => {
                    bytes += entries.len();
                    append.execute(params![record_key(*id, *sequence), sealed([&revision.to_le_bytes(), entries])])?;
                }
                What::End => {
                    end.execute([id])?;
                    cut.execute([record_key(*id, 0), record_key(id + 1, 0)])?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(bytes)
}

/// Rebuilds all rooms, lets them go on, and begins the journal anew with them. Returns the next free number too.
fn recover(
    connection: &mut Connection,
    directory: &Path,
    fsync: bool,
    now: Time,
    limits: &Arc<Limits>,
    log: wal::Check,
) -> Result<(Found, i64), Error> {
    let failed = failed(directory);
    let boot = boot();
    let was_clean = meta(connection, "clean").map_err(&failed)? == "1";
    let was_synced = meta(connection, "fsync").map_err(&failed)? == "1";
    let same_boot = !boot.is_empty() && meta(connection, "boot").map_err(&failed)? == boot;
    if log.dropped > 0 {
        tracing::warn!(
            directory = %directory.display(),
            "the end of the journal is damaged: its last {} bytes were dropped, with what was written in them",
            log.dropped
        );
    }
    // What the system had not yet written when the machine stopped is gone; nothing tells how much it was.
    let stopped_hard = !was_clean && !was_synced && !same_boot;
    let tail_lost = stopped_hard || log.is_damaged || (log.dropped > 0 && !same_boot);
    let mut found = Found { rooms: Vec::new(), at: now };
    let mut keeps = Vec::new();
    let mut next_id = 1;
    for (id, name, checkpoint) in rooms(connection).map_err(&failed)? {
        next_id = next_id.max(id + 1);
        let rebuilt = rebuild(connection, id, &name, &checkpoint, u32::MAX).map_err(&failed)?;
        let Some(Rebuilt { mut room, at, is_cut }) = rebuilt else {
            keeps.push(Keep { id, what: What::End });
            continue;
        };
        found.at = found.at.max(at);
        let fresh = if tail_lost || is_cut { Some(crate::ids::uuid()?) } else { None };
        // Nobody is told: whoever comes back asks.
        room.resume(found.at, limits.clone(), fresh.as_deref(), &mut Vec::new());
        match room.checkpoint() {
            Some(bytes) => {
                keeps.push(Keep { id, what: What::Checkpoint { name: name.into(), bytes } });
                found.rooms.push(Kept { id, room, is_new_session: fresh.is_some() });
            }
            None => keeps.push(Keep { id, what: What::End }),
        }
    }
    if stopped_hard && !found.rooms.is_empty() {
        tracing::warn!(
            rooms = found.rooms.len(),
            "the machine stopped without fsync: the last changes may be lost, so these rooms begin new sessions with \
             what is known of them"
        );
    }
    write(connection, &keeps).map_err(&failed)?;
    let begin = || {
        set_meta(connection, "boot", &boot)?;
        set_meta(connection, "fsync", if fsync { "1" } else { "0" })?;
        set_meta(connection, "clean", "0")
    };
    begin().map_err(&failed)?;
    Ok((found, next_id))
}

fn rooms(connection: &Connection) -> rusqlite::Result<Vec<(i64, String, Vec<u8>)>> {
    let mut rooms = connection.prepare("SELECT id, name, checkpoint FROM room ORDER BY id")?;
    let rooms = rooms.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rooms.collect()
}

struct Rebuilt {
    room: Room,
    at: Time,
    /// Whether not everything that was kept of it could be used.
    is_cut: bool,
}

/// A room from its checkpoint and its first records, as far as they are whole.
fn rebuild(
    connection: &Connection,
    id: i64,
    name: &str,
    checkpoint: &[u8],
    most: u32,
) -> rusqlite::Result<Option<Rebuilt>> {
    let damaged = || Error::from(ErrorCode::DataDamaged);
    let restored = unsealed(checkpoint).ok_or_else(damaged).and_then(|bytes| Room::restore(name, bytes));
    let mut room = match restored {
        Ok(room) => room,
        Err(error) => {
            tracing::warn!(room = name, %error, "this room is dropped: its checkpoint is damaged");
            return Ok(None);
        }
    };
    let (mut at, mut whole) = (0, 0);
    let mut records = connection.prepare("SELECT key, body FROM record WHERE key >= ?1 AND key < ?2 ORDER BY key")?;
    let mut rows = records.query([record_key(id, 0), record_key(id + 1, 0)])?;
    while let Some(row) = rows.next()?.filter(|_| whole < most) {
        let (key, body): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
        let record = unsealed(&body).filter(|_| key == record_key(id, whole));
        match record.ok_or_else(damaged).and_then(|record| replay(&mut room, record)) {
            Ok(time) => at = time,
            Err(error) => {
                let mut dropped = 1;
                while rows.next()?.is_some() {
                    dropped += 1;
                }
                tracing::warn!(
                    room = name,
                    %error,
                    "of {} records of this room the last {dropped} are dropped, as the first of them is damaged; \
                     it begins a new session with what was before them",
                    whole + dropped
                );
                // Some of the record may have been applied.
                let rebuilt = rebuild(connection, id, name, checkpoint, whole)?;
                return Ok(rebuilt.map(|rebuilt| Rebuilt { is_cut: true, ..rebuilt }));
            }
        }
        whole += 1;
    }
    Ok(Some(Rebuilt { room, at, is_cut: false }))
}

/// Applies a record to the room it follows.
fn replay(room: &mut Room, record: &[u8]) -> Result<Time, Error> {
    let Some((revision, entries)) = record.split_first_chunk::<8>() else { return Err(ErrorCode::DataDamaged.into()) };
    let replayed = journal::replay(room, entries)?;
    if room.revision() != u64::from_le_bytes(*revision) {
        return Err(Error::new(ErrorCode::DataDamaged, "the room is not what it was after this record"));
    }
    Ok(replayed.at)
}

impl Upkeep {
    fn add(&self, bytes: usize) {
        let mut state = lock(&self.state);
        state.written += bytes;
        if state.written >= LOG_BYTES {
            self.changed.notify_one();
        }
    }

    fn stop(&self) {
        lock(&self.state).stopping = true;
        self.changed.notify_one();
    }

    fn run(&self, directory: &Path) {
        let mut connection = None;
        loop {
            let mut state = lock(&self.state);
            while state.written < LOG_BYTES && !state.stopping {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.stopping {
                return;
            }
            state.written = 0;
            drop(state);
            if let Err(error) = move_log(directory, &mut connection) {
                // The log grows meanwhile; nothing is lost.
                tracing::warn!(%error, "the log of the journal could not be moved into the database");
            }
        }
    }
}

fn move_log(directory: &Path, connection: &mut Option<Connection>) -> rusqlite::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(open_connection(directory, OpenFlags::empty())?),
    };
    // Commits go on meanwhile, so as a rule the log cannot be begun anew, and is the next time.
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
    let log = std::fs::metadata(directory.join(format!("{DATABASE_FILE}-wal"))).map_or(0, |log| log.len());
    if log > MAX_LOG_BYTES {
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    Ok(())
}
