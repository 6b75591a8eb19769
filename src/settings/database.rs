//! The sections of the database servers, `CACHE_POSTGRES_*` and `CACHE_MYSQL_*`, and what that of SQLite shares with them.

use std::time::Duration;

use super::{
    Secret,
    parse::{Choice, Refusal, at_least_one, duration, flag},
    table::{Form, Setting},
};
use crate::Migrate;

/// How to get to a PostgreSQL, MySQL or MariaDB server, and what to keep there: the `CACHE_POSTGRES_*` and
/// `CACHE_MYSQL_*` settings.
///
/// # Examples
///
/// ```
/// use larder::Settings;
///
/// let settings = Settings::from_pairs([
///     ("CACHE_POSTGRES_URL", "postgres://shop@db.example/shop"),
///     ("CACHE_POSTGRES_TLS", "true"),
/// ])?;
/// assert!(settings.postgres.tls);
/// assert_eq!(settings.postgres.table, "larder");
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DatabaseSettings {
    /// Where the database is; secret, because it may hold a password (`…_URL`).
    pub url: Option<Secret>,
    /// The user's password, beside a URL (`…_PASSWORD`).
    pub password: Option<Secret>,
    /// Whether the connection is by TLS; the URL may say so too (`…_TLS`).
    pub tls: bool,
    /// The file with the certificates of the authorities that the server's may be of (`…_CA_FILE`).
    pub ca_file: Option<String>,
    /// The file with the certificate that the client shows (`…_CLIENT_CERT_FILE`).
    pub client_cert_file: Option<String>,
    /// The file with that certificate's private key (`…_CLIENT_KEY_FILE`).
    pub client_key_file: Option<String>,
    /// The name of the table (`…_TABLE`).
    pub table: String,
    /// Whether tables that are missing are made (`…_MIGRATE`).
    pub migrate: Migrate,
    /// The most connections (`…_POOL_SIZE`).
    pub pool_size: usize,
    /// How long connecting may take, and how long a call waits for a connection (`…_CONNECT_TIMEOUT`).
    pub connect_timeout: Duration,
    /// How often what has ended is removed; `None` for never (`…_SWEEP_INTERVAL`).
    pub sweep_interval: Option<Duration>,
}

impl Default for DatabaseSettings {
    fn default() -> Self {
        Self {
            url: None,
            password: None,
            tls: false,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            table: "larder".to_owned(),
            migrate: Migrate::Apply,
            pool_size: 10,
            connect_timeout: Duration::from_secs(5),
            sweep_interval: Some(Duration::from_secs(60)),
        }
    }
}

pub(super) const TABLE: &str =
    "a name of small letters, digits and underscores that begins with no digit";
pub(super) const MIGRATE: &str = "apply or check";
pub(super) const CONNECTIONS: &str = "a whole number of connections, at least 1";
pub(super) const DURATION: &str = "a whole number with ms or s, at least 1ms";
pub(super) const INTERVAL: &str = "a whole number with ms or s, at least 1ms, or off";

pub(super) fn table(text: &str) -> Result<String, Refusal> {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    let is_name = text.bytes().next().is_some_and(is_letter)
        && text
            .bytes()
            .all(|byte| is_letter(byte) || byte.is_ascii_digit());
    is_name.then(|| text.to_owned()).ok_or(Refusal::Malformed)
}

pub(super) fn migrate(text: &str) -> Result<Migrate, Refusal> {
    let choices = [
        Choice(Migrate::Apply, Migrate::Apply.name(), &[]),
        Choice(Migrate::Check, Migrate::Check.name(), &[]),
    ];
    Choice::find(&choices, text)
}

pub(super) fn connections(text: &str) -> Result<usize, Refusal> {
    usize::try_from(at_least_one(text)?).map_err(|_| Refusal::Malformed)
}

pub(super) fn interval(text: &str) -> Result<Option<Duration>, Refusal> {
    match text.eq_ignore_ascii_case("off") {
        true => Ok(None),
        false => duration(text).map(Some),
    }
}

/// A PEM file.
const FILE: &str = "the path of a PEM file";

/// One setting: its field of the settings, its variable, what it expects, its default, its form, and how it is read.
macro_rules! setting {
    ($field:ident, $variable:expr, $expects:expr, $default:expr, $form:ident, $read:expr) => {
        Setting {
            variable: $variable,
            expects: $expects,
            default: $default,
            form: Form::$form,
            read: |settings, text| {
                let read: fn(&mut DatabaseSettings, &str) -> Result<(), Refusal> = $read;
                read(&mut settings.$field, text)
            },
        }
    };
}

/// The section of one server, which differs from the others in its names alone.
macro_rules! section {
    ($table:ident, $field:ident, $prefix:literal, url: $url:literal, schemes: $schemes:expr) => {
        pub(super) static $table: [Setting; 11] = [
            setting!(
                $field,
                concat!($prefix, "_URL"),
                $url,
                None,
                Secret,
                |its, text| {
                    let schemes: &[&str] = $schemes;
                    if !schemes.iter().any(|scheme| text.starts_with(scheme)) {
                        return Err(Refusal::Malformed);
                    }
                    its.url = Some(Secret::new(text));
                    Ok(())
                }
            ),
            setting!(
                $field,
                concat!($prefix, "_PASSWORD"),
                "a text",
                None,
                Secret,
                |its, text| {
                    its.password = Some(Secret::new(text));
                    Ok(())
                }
            ),
            setting!(
                $field,
                concat!($prefix, "_TLS"),
                "true or false",
                Some("false"),
                Word,
                |its, text| { flag(text).map(|on| its.tls = on) }
            ),
            setting!(
                $field,
                concat!($prefix, "_CA_FILE"),
                FILE,
                None,
                Text,
                |its, text| {
                    its.ca_file = Some(text.to_owned());
                    Ok(())
                }
            ),
            setting!(
                $field,
                concat!($prefix, "_CLIENT_CERT_FILE"),
                FILE,
                None,
                Text,
                |its, text| {
                    its.client_cert_file = Some(text.to_owned());
                    Ok(())
                }
            ),
            setting!(
                $field,
                concat!($prefix, "_CLIENT_KEY_FILE"),
                FILE,
                None,
                Text,
                |its, text| {
                    its.client_key_file = Some(text.to_owned());
                    Ok(())
                }
            ),
            setting!(
                $field,
                concat!($prefix, "_TABLE"),
                TABLE,
                Some("larder"),
                Word,
                |its, text| { table(text).map(|name| its.table = name) }
            ),
            setting!(
                $field,
                concat!($prefix, "_MIGRATE"),
                MIGRATE,
                Some("apply"),
                Word,
                |its, text| { migrate(text).map(|to| its.migrate = to) }
            ),
            setting!(
                $field,
                concat!($prefix, "_POOL_SIZE"),
                CONNECTIONS,
                Some("10"),
                Word,
                |its, text| { connections(text).map(|most| its.pool_size = most) }
            ),
            setting!(
                $field,
                concat!($prefix, "_CONNECT_TIMEOUT"),
                DURATION,
                Some("5s"),
                Word,
                |its, text| { duration(text).map(|limit| its.connect_timeout = limit) }
            ),
            setting!(
                $field,
                concat!($prefix, "_SWEEP_INTERVAL"),
                INTERVAL,
                Some("60s"),
                Word,
                |its, text| { interval(text).map(|time| its.sweep_interval = time) }
            ),
        ];
    };
}

section!(
    POSTGRES,
    postgres,
    "CACHE_POSTGRES",
    url: "a URL such as postgres://user:password@host:5432/database",
    schemes: &["postgres://", "postgresql://"]
);
section!(
    MYSQL,
    mysql,
    "CACHE_MYSQL",
    url: "a URL such as mysql://user:password@host:3306/database",
    schemes: &["mysql://", "mariadb://"]
);

/// What is wrong with settings that are right one by one; `set` tells which of them are set at all.
pub(super) fn contradictions(set: impl Fn(&'static str) -> bool) -> Vec<String> {
    let pairs = [
        (
            "CACHE_POSTGRES_CLIENT_CERT_FILE",
            "CACHE_POSTGRES_CLIENT_KEY_FILE",
        ),
        (
            "CACHE_MYSQL_CLIENT_CERT_FILE",
            "CACHE_MYSQL_CLIENT_KEY_FILE",
        ),
    ];
    let both_ways = pairs
        .into_iter()
        .flat_map(|(one, other)| [(one, other), (other, one)]);
    let alone = both_ways.filter(|(one, other)| set(one) && !set(other));
    let sentence = |(one, other)| {
        format!("{one} is set and {other} is not; a certificate and its private key go together")
    };
    alone.map(sentence).collect()
}
