//! From the client's errors to larder's. The database's own words stay out: they can hold a key.

use std::io;

use sqlx::error::DatabaseError;

use super::{Dialect, driver::Way};
use crate::{Error, ErrorKind};

/// Why a statement was not carried out.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    pub(super) error: Error,
}

/// What can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Somebody else was in the way: nothing was done, and again may do.
    Busy,
    /// The connection is of no use any more.
    Broken,
    /// The row has no generation, because its namespace has none.
    NoNamespace,
    /// The tables are not there.
    NoTable,
    Other,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self {
            cause: Cause::Other,
            error,
        }
    }
}

pub(super) fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the cache was closed")
}

/// An answer that the statement cannot have.
pub(super) fn unexpected() -> Error {
    Error::new(
        ErrorKind::Backend,
        "the database's answer is not of the kind that the statement has",
    )
}

/// Why a statement had no answer.
pub(super) fn asking(dialect: Dialect, error: &sqlx::Error) -> Failure {
    let broken = |message| Failure {
        cause: Cause::Broken,
        error: Error::new(ErrorKind::Unavailable, message),
    };
    match error {
        sqlx::Error::Database(error) => answered(dialect, &**error),
        sqlx::Error::Io(error) => Failure {
            cause: Cause::Broken,
            error: Error::new(
                ErrorKind::Unavailable,
                "the connection to the database broke",
            )
            .caused_by(words(error)),
        },
        sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            broken("the connection to the database broke within an answer")
        }
        sqlx::Error::BeginFailed => broken("the database began no transaction"),
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) => Error::new(
            ErrorKind::Backend,
            "a column of the tables is of another type than larder makes it: see larder::sql::schema",
        )
        .into(),
        _ => unexpected().into(),
    }
}

/// Why there is no connection by this way.
#[cfg_attr(
    not(feature = "mysql"),
    allow(
        unused_variables,
        reason = "the errors of the others mean the same by every way"
    )
)]
pub(super) fn connecting(dialect: Dialect, way: Way, error: &sqlx::Error) -> Failure {
    let settings = dialect.settings();
    let error = match error {
        // It took what was to ask for its public key for the password.
        #[cfg(feature = "mysql")]
        sqlx::Error::Database(error) if way == Way::Socket && mysql_number(&**error) == 1045 => {
            Error::new(
                ErrorKind::Backend,
                "the server does not let this user in with this password, which goes by TLS only where it is one of \
                 caching_sha2_password: see CACHE_MYSQL_URL, CACHE_MYSQL_TLS=true and CACHE_MYSQL_CA_FILE",
            )
        }
        sqlx::Error::Database(_) => return asking(dialect, error),
        // Without TLS there is one thing only that the client library refuses to do.
        #[cfg(feature = "mysql")]
        sqlx::Error::Configuration(_) if way != Way::Any => Error::new(
            ErrorKind::Backend,
            "the server wants this user's password by TLS (caching_sha2_password): set CACHE_MYSQL_TLS=true, and \
             CACHE_MYSQL_CA_FILE where the server made its certificates itself",
        ),
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        sqlx::Error::Io(io) if super::tls::within(io).is_some() => match super::tls::within(io) {
            Some(error) => super::tls::refused(settings, error),
            None => unexpected(),
        },
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => Error::new(
            ErrorKind::Unavailable,
            format!(
                "nobody listens there; is the server running, and is it the address of {settings}_URL?"
            ),
        )
        .caused_by(words(error)),
        sqlx::Error::Io(error) => Error::new(
            ErrorKind::Unavailable,
            format!("the server cannot be reached at the address of {settings}_URL"),
        )
        .caused_by(words(error)),
        sqlx::Error::Configuration(_) => Error::new(
            ErrorKind::Settings,
            format!("the certificates of {settings}_CA_FILE, {settings}_CLIENT_CERT_FILE or {settings}_CLIENT_KEY_FILE cannot be used"),
        ),
        #[cfg(any(feature = "postgres", feature = "mysql"))]
        sqlx::Error::Tls(error) => super::tls::refused(settings, &**error),
        sqlx::Error::Protocol(_) => Error::new(
            ErrorKind::Backend,
            format!(
                "what answers at the address of {settings}_URL is no such server, or wants proof of the user in a way that \
                 is not known here"
            ),
        ),
        _ => Error::new(
            ErrorKind::Unavailable,
            format!("no connection to the database of {settings}_URL"),
        ),
    };
    error.into()
}

/// The operating system's words, which know nothing of keys.
fn words(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

fn answered(dialect: Dialect, error: &dyn DatabaseError) -> Failure {
    let (cause, kind, message) = match dialect {
        Dialect::Sqlite => sqlite(error),
        Dialect::Postgres => postgres(error),
        Dialect::MySql => mysql(error),
    };
    Failure {
        cause,
        error: Error::new(kind, message),
    }
}

type Reading = (Cause, ErrorKind, String);

fn reading(cause: Cause, kind: ErrorKind, message: &str) -> Reading {
    (cause, kind, message.to_owned())
}

/// By the result codes of SQLite, whose lowest byte is the general one.
fn sqlite(error: &dyn DatabaseError) -> Reading {
    use Cause::{Busy, NoNamespace, NoTable, Other};
    const NOT_NULL: u32 = 1299;
    let code: u32 = error
        .code()
        .and_then(|code| code.parse().ok())
        .unwrap_or_default();
    match code & 0xff {
        _ if code == NOT_NULL => reading(NoNamespace, ErrorKind::Backend, "the namespace is gone"),
        // The one code for every mistake in a statement, of which larder makes one: asking before there are tables.
        1 if error.message().starts_with("no such table") => {
            reading(NoTable, ErrorKind::Backend, "the tables are gone")
        }
        5 | 6 => reading(
            Busy,
            ErrorKind::Timeout,
            "others held the file for longer than CACHE_SQLITE_BUSY_TIMEOUT",
        ),
        8 => reading(
            Other,
            ErrorKind::Backend,
            "the file of CACHE_SQLITE_PATH, or its folder, can only be read: larder needs to write both",
        ),
        10 => (
            Other,
            ErrorKind::Backend,
            format!(
                "the operating system failed to read or write the file of CACHE_SQLITE_PATH (SQLite's code {code})"
            ),
        ),
        11 => reading(
            Other,
            ErrorKind::Backend,
            "the file of CACHE_SQLITE_PATH is damaged: remove it, and the cache begins anew",
        ),
        13 => reading(
            Other,
            ErrorKind::TooLarge,
            "the disk of CACHE_SQLITE_PATH is full, or the file has grown to its limit",
        ),
        14 => reading(
            Other,
            ErrorKind::Unavailable,
            "the file of CACHE_SQLITE_PATH cannot be opened: its folder has to exist, and this user has to be \
             allowed to read and write both",
        ),
        18 => reading(
            Other,
            ErrorKind::TooLarge,
            "the value is longer than SQLite takes",
        ),
        26 => reading(
            Other,
            ErrorKind::Backend,
            "the file of CACHE_SQLITE_PATH is no SQLite database: name another one",
        ),
        _ => (
            Other,
            ErrorKind::Backend,
            format!("SQLite refused the statement with its code {code}"),
        ),
    }
}

/// By the SQLSTATE, of which the first two letters are the class.
fn postgres(error: &dyn DatabaseError) -> Reading {
    use Cause::{Broken, Busy, NoNamespace, NoTable, Other};
    let code = error.code().unwrap_or_default();
    match &*code {
        "23502" => reading(NoNamespace, ErrorKind::Backend, "the namespace is gone"),
        "42P01" => reading(NoTable, ErrorKind::Backend, "the tables are gone"),
        "40001" | "40P01" => reading(
            Busy,
            ErrorKind::Timeout,
            "other statements were in the way every time",
        ),
        "28P01" | "28000" => reading(
            Other,
            ErrorKind::Backend,
            "the server does not let this user in with this password: see CACHE_POSTGRES_URL and its pg_hba.conf",
        ),
        "3D000" => reading(
            Other,
            ErrorKind::Backend,
            "the server has no database of the name in CACHE_POSTGRES_URL",
        ),
        "42501" => reading(
            Other,
            ErrorKind::Backend,
            "the user may not do this: it needs SELECT, INSERT, UPDATE and DELETE on the tables of \
             CACHE_POSTGRES_TABLE, and CREATE on their schema for CACHE_POSTGRES_MIGRATE=apply",
        ),
        "25006" => reading(
            Other,
            ErrorKind::Unavailable,
            "the server is a replica, or only lets read",
        ),
        "53100" => reading(Other, ErrorKind::TooLarge, "the disk of the server is full"),
        "53300" => reading(
            Other,
            ErrorKind::Unavailable,
            "the server has no connection left: see its max_connections, and CACHE_POSTGRES_POOL_SIZE",
        ),
        "54000" => reading(
            Other,
            ErrorKind::TooLarge,
            "the value is longer than PostgreSQL takes",
        ),
        "55P03" => reading(
            Busy,
            ErrorKind::Timeout,
            "other statements were in the way for too long",
        ),
        "57014" => reading(
            Other,
            ErrorKind::Timeout,
            "the server ended the statement, because it took too long",
        ),
        "57P01" | "57P02" | "57P03" | "57P05" => reading(
            Broken,
            ErrorKind::Unavailable,
            "the server is starting or shutting down, or ended the connection",
        ),
        // What the server made of a statement is kept by the connection, and is out of date where tables were made anew.
        "26000" | "0A000" => reading(
            Broken,
            ErrorKind::Backend,
            "the server no longer knows the statement",
        ),
        code => (
            if code.starts_with("08") {
                Broken
            } else {
                Other
            },
            ErrorKind::Backend,
            format!("PostgreSQL refused the statement with SQLSTATE {code}"),
        ),
    }
}

#[cfg(feature = "mysql")]
fn mysql_number(error: &dyn DatabaseError) -> u16 {
    error
        .try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>()
        .map_or(0, sqlx::mysql::MySqlDatabaseError::number)
}

#[cfg(feature = "mysql")]
fn mysql(error: &dyn DatabaseError) -> Reading {
    use Cause::{Broken, Busy, NoNamespace, NoTable, Other};
    let number = mysql_number(error);
    match number {
        1048 => reading(NoNamespace, ErrorKind::Backend, "the namespace is gone"),
        1146 => reading(NoTable, ErrorKind::Backend, "the tables are gone"),
        1205 | 1213 | 1020 => reading(
            Busy,
            ErrorKind::Timeout,
            "other statements were in the way every time",
        ),
        1045 | 1698 => reading(
            Other,
            ErrorKind::Backend,
            "the server does not let this user in with this password: see CACHE_MYSQL_URL",
        ),
        1044 | 1142 | 1143 | 1227 => reading(
            Other,
            ErrorKind::Backend,
            "the user may not do this: it needs SELECT, INSERT, UPDATE and DELETE on the tables of \
             CACHE_MYSQL_TABLE, and CREATE and INDEX on their database for CACHE_MYSQL_MIGRATE=apply",
        ),
        1046 => reading(
            Other,
            ErrorKind::Backend,
            "CACHE_MYSQL_URL names no database: mysql://user:password@host:3306/database",
        ),
        1049 => reading(
            Other,
            ErrorKind::Backend,
            "the server has no database of the name in CACHE_MYSQL_URL",
        ),
        1153 | 1301 | 1406 => reading(
            Other,
            ErrorKind::TooLarge,
            "the value is longer than the server's max_allowed_packet",
        ),
        1021 | 1114 => reading(Other, ErrorKind::TooLarge, "the disk of the server is full"),
        1665 => reading(
            Other,
            ErrorKind::Backend,
            "the server keeps a log of statements, which does not go with READ COMMITTED: set its binlog_format to \
             ROW or MIXED",
        ),
        1290 | 1792 | 1836 => reading(
            Other,
            ErrorKind::Unavailable,
            "the server is a replica, or only lets read",
        ),
        1040 | 1203 | 1226 => reading(
            Other,
            ErrorKind::Unavailable,
            "the server has no connection left: see its max_connections, and CACHE_MYSQL_POOL_SIZE",
        ),
        1969 | 3024 => reading(
            Other,
            ErrorKind::Timeout,
            "the server ended the statement, because it took too long",
        ),
        1053 | 1077 | 1079 | 1152 | 1184 | 1317 | 1927 => reading(
            Broken,
            ErrorKind::Unavailable,
            "the server is shutting down, or ended the connection",
        ),
        _ => (
            Other,
            ErrorKind::Backend,
            format!("the server refused the statement with its error {number}"),
        ),
    }
}

#[cfg(not(feature = "mysql"))]
fn mysql(_: &dyn DatabaseError) -> Reading {
    reading(
        Cause::Other,
        ErrorKind::Backend,
        "the server refused the statement",
    )
}
