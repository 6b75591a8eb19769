//! The backend in a SQLite file.

use std::{
    fmt,
    fs::OpenOptions,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{
    ConnectOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::{
    Dialect, backend, common_methods,
    driver::{Engine, Outcome, Statement},
    errors::Failure,
    pool::{Pool, SILENCE},
    shared::{Common, Sql},
};
use crate::{Error, ErrorKind, Result};

/// The longest payload. SQLite takes a row of 10^9 bytes.
const MAX_VALUE_LEN: usize = 512 << 20;

/// Connections that read, where nobody says otherwise.
const READERS: usize = 4;

/// The least time that a call waits for its turn in this process.
const TURN: Duration = Duration::from_secs(5);

/// A write-ahead log that grew beyond this, by a reader that held it up, is cut back.
const LOG_LEN: u64 = 64 << 20;

/// Keeps entries in a SQLite file, for one process or for several on one machine.
///
/// It is the backend to choose where entries are to survive a restart and there is no server: SQLite is part of the
/// program.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use larder::{Cache, Sqlite};
///
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("cache.sqlite3");
/// let cache = Cache::new(Sqlite::builder(&path).connect().await?);
/// cache.put("answer", 42).await?;
/// cache.close().await?;
///
/// let cache = Cache::new(Sqlite::builder(&path).connect().await?);
/// assert_eq!(cache.get("answer").await?, Some(42));
/// # Ok(())
/// # }
/// ```
///
/// # What it can do
///
/// Everything that a backend can: counters, conditions, versions, leases, `touch`, `clear`, `delete_prefix` and
/// `remove_expired`, each atomic for every process on the file. TTLs are exact to a millisecond, values may have 512 MiB.
/// Several processes may have the file open, on one machine: SQLite's locks do not work on a network's file system.
///
/// # What is in the file
///
/// The tables `larder`, `larder_namespaces` and `larder_meta`, or others by the name of
/// [`table`](SqliteBuilder::table); [`sql::schema`](crate::sql::schema) shows them. An entry is a row with a key of at most
/// 1024 bytes, of which longer ones are a beginning and a hash, 16 bytes before the payload, and five numbers. A counter is
/// a row with its number. Who opens the file may read all of it: it is made for its owner alone (mode 0600), beside
/// `-wal` and `-shm`, SQLite's own, which belong to it.
///
/// # What a verb costs
///
/// One statement, which is one transaction, and no call to the operating system's `fsync`. Calls wait for threads of
/// SQLite's and block none of tokio's. Reads go on beside each other and beside a write; writes are one at a time for all
/// processes. `get_many` takes 256 keys a statement, `put_many` and `delete_many` 128 and about a mebibyte. `clear`
/// writes one row, however much there is. A deletion leaves a row without a value until the next sweep, by which loads
/// elsewhere find out about it.
///
/// # What stays and what comes back
///
/// What was put, deleted or cleared is in the file when the call returns, and outlives this process however it ends. When
/// the *machine* ends without warning, the last changes before that may be undone, deletions too (SQLite's
/// `synchronous=NORMAL`); the file is sound all the same. A sweep removes what ended, every minute or so, and its room in
/// the file is used again; the file does not get smaller.
///
/// A full disk refuses to put ([`ErrorKind::TooLarge`]), and what a put would have replaced is removed; where there is no
/// room for that either, the error is one of [`ErrorKind::Backend`], and a [`Cache`](crate::Cache) leaves the file alone
/// until it works. Do not remove the file while a process has it open: that process would go on with the old one.
#[derive(Clone)]
pub struct Sqlite(Arc<Sql>);

backend!(Sqlite);

impl Sqlite {
    /// Begins with the path of the file, which is made where it is missing (`CACHE_SQLITE_PATH`). Its folder has to be
    /// there.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use larder::{Backend, Sqlite};
    ///
    /// # let folder = tempfile::tempdir()?;
    /// # let path = folder.path().join("cache.sqlite3");
    /// let sqlite = Sqlite::builder(path).table("shop_cache").connect().await?;
    /// assert_eq!(sqlite.name(), "sqlite");
    /// # Ok(())
    /// # }
    /// ```
    pub fn builder(path: impl Into<PathBuf>) -> SqliteBuilder {
        SqliteBuilder {
            path: path.into(),
            busy_timeout: Duration::from_secs(2),
            common: Common {
                pool_size: READERS,
                ..Common::default()
            },
        }
    }
}

/// Sets up a [`Sqlite`] backend. Begun with [`Sqlite::builder`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct SqliteBuilder {
    path: PathBuf,
    busy_timeout: Duration,
    common: Common,
}

impl SqliteBuilder {
    common_methods!(
        "CACHE_SQLITE",
        pool: "How many calls read at the same time, 4 by default; each has a thread, and one more writes"
    );

    /// How long a write waits for those of other processes, two seconds by default (`CACHE_SQLITE_BUSY_TIMEOUT`).
    pub fn busy_timeout(mut self, timeout: Duration) -> Self {
        self.busy_timeout = timeout;
        self
    }

    /// Opens the file, and sees to it that it has the tables.
    ///
    /// Call it on the runtime that lives as long as the cache: the sweeper runs there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] for the name of a table that is none, and for tables that are missing under
    /// [`Migrate::Check`](crate::Migrate::Check) or of a later version of larder;
    /// [`ErrorKind::Unavailable`] for a path that cannot be opened; [`ErrorKind::Backend`] for a file that can only be
    /// read, is damaged, or is no SQLite database.
    pub async fn connect(self) -> Result<Sqlite> {
        let sqlite = self.connect_lazily()?;
        match sqlite.0.named(sqlite.0.ping().await, "connect") {
            Ok(()) => Ok(sqlite),
            Err(error) => {
                let _ = sqlite.0.close().await;
                Err(error)
            }
        }
    }

    /// A backend that opens the file when it is first used.
    ///
    /// Call it on the runtime that lives as long as the cache: the sweeper runs there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] for a path that is empty or the name of a table that is none.
    pub fn connect_lazily(self) -> Result<Sqlite> {
        if self.path.as_os_str().is_empty() {
            let message =
                "CACHE_SQLITE_PATH is not set: it is the path of the file to keep entries in";
            return Err(Error::new(ErrorKind::Settings, message).on("sqlite", "connect"));
        }
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(
                self.busy_timeout
                    .min(Duration::from_millis(i32::MAX as u64)),
            )
            .pragma("journal_size_limit", LOG_LEN.to_string())
            .disable_statement_logging();
        let turn = TURN.max(2 * self.busy_timeout);
        let silence = SILENCE + self.busy_timeout;
        let pool = |size| Pool::new(Dialect::Sqlite, options.clone(), size, turn, silence);
        let file = File {
            readers: pool(self.common.pool_size),
            writer: pool(1),
        };
        let sql = Sql::new(Dialect::Sqlite, Box::new(file), &self.common, MAX_VALUE_LEN)?;
        Ok(Sqlite(sql))
    }
}

impl fmt::Debug for SqliteBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteBuilder")
            .field("path", &self.path)
            .field("busy_timeout", &self.busy_timeout)
            .field("common", &self.common)
            .finish()
    }
}

/// Makes the file, for its owner alone, where there is none: SQLite itself would let others read it.
pub(super) fn create(options: &SqliteConnectOptions) -> Result<()> {
    let path = options.get_filename();
    match new_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => {
            let message = "the file of CACHE_SQLITE_PATH cannot be made: its folder has to exist, and this user has to \
                           be allowed to write there";
            Err(Error::new(ErrorKind::Unavailable, message).caused_by(error))
        }
    }
}

fn new_file(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map(drop)
}

/// One connection that writes, so that those who write wait for each other in a queue and not by trying again, and some
/// that read meanwhile.
struct File {
    readers: Pool<sqlx::Sqlite>,
    writer: Pool<sqlx::Sqlite>,
}

#[async_trait]
impl Engine for File {
    async fn run(&self, statements: &[Statement]) -> Result<Vec<Outcome>, Failure> {
        match statements.iter().any(|statement| statement.writes) {
            true => self.writer.run(statements).await,
            false => self.readers.run(statements).await,
        }
    }

    async fn close(&self) {
        self.readers.close().await;
        // The last to close the file takes the log into it.
        self.writer.close().await;
    }
}
