//! The section of SQLite: `CACHE_SQLITE_*`.

use std::{path::PathBuf, time::Duration};

use super::{
    database,
    parse::duration,
    table::{Form, Setting},
};
use crate::Migrate;

/// What `CACHE_TYPE=sqlite` needs to know; read by the builder of the same name, `larder::Sqlite`.
///
/// # Examples
///
/// ```
/// use larder::Settings;
///
/// let settings = Settings::from_pairs([("CACHE_SQLITE_PATH", "/var/lib/shop/cache.sqlite3")])?;
/// assert_eq!(settings.sqlite.path.as_deref(), Some("/var/lib/shop/cache.sqlite3".as_ref()));
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SqliteSettings {
    /// The file (`CACHE_SQLITE_PATH`).
    pub path: Option<PathBuf>,
    /// The name of the table (`CACHE_SQLITE_TABLE`).
    pub table: String,
    /// Whether tables that are missing are made (`CACHE_SQLITE_MIGRATE`).
    pub migrate: Migrate,
    /// How many calls read at the same time (`CACHE_SQLITE_POOL_SIZE`).
    pub pool_size: usize,
    /// How long a write waits for those of other processes (`CACHE_SQLITE_BUSY_TIMEOUT`).
    pub busy_timeout: Duration,
    /// How often what has ended is removed; `None` for never (`CACHE_SQLITE_SWEEP_INTERVAL`).
    pub sweep_interval: Option<Duration>,
}

impl Default for SqliteSettings {
    fn default() -> Self {
        Self {
            path: None,
            table: "larder".to_owned(),
            migrate: Migrate::Apply,
            pool_size: 4,
            busy_timeout: Duration::from_secs(2),
            sweep_interval: Some(Duration::from_secs(60)),
        }
    }
}

pub(super) static SETTINGS: [Setting; 6] = [
    Setting {
        variable: "CACHE_SQLITE_PATH",
        expects: "a path",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.sqlite.path = Some(text.into());
            Ok(())
        },
    },
    Setting {
        variable: "CACHE_SQLITE_TABLE",
        expects: database::TABLE,
        default: Some("larder"),
        form: Form::Word,
        read: |settings, text| database::table(text).map(|name| settings.sqlite.table = name),
    },
    Setting {
        variable: "CACHE_SQLITE_MIGRATE",
        expects: database::MIGRATE,
        default: Some("apply"),
        form: Form::Word,
        read: |settings, text| database::migrate(text).map(|to| settings.sqlite.migrate = to),
    },
    Setting {
        variable: "CACHE_SQLITE_POOL_SIZE",
        expects: database::CONNECTIONS,
        default: Some("4"),
        form: Form::Word,
        read: |settings, text| {
            database::connections(text).map(|most| settings.sqlite.pool_size = most)
        },
    },
    Setting {
        variable: "CACHE_SQLITE_BUSY_TIMEOUT",
        expects: database::DURATION,
        default: Some("2s"),
        form: Form::Word,
        read: |settings, text| duration(text).map(|limit| settings.sqlite.busy_timeout = limit),
    },
    Setting {
        variable: "CACHE_SQLITE_SWEEP_INTERVAL",
        expects: database::INTERVAL,
        default: Some("60s"),
        form: Form::Word,
        read: |settings, text| {
            database::interval(text).map(|time| settings.sqlite.sweep_interval = time)
        },
    },
];
