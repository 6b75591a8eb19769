//! The section of memcached: `CACHE_MEMCACHED_*`.

use std::time::Duration;

use super::{
    Secret,
    parse::{Choice, duration, flag},
    table::{Form, Setting},
};

/// How to get to memcached servers: the `CACHE_MEMCACHED_*` settings.
///
/// # Examples
///
/// ```
/// use larder::Settings;
///
/// let settings = Settings::from_pairs([
///     ("CACHE_MEMCACHED_SERVERS", "cache1.example,cache2.example:11212"),
///     ("CACHE_MEMCACHED_SERVER_TIMEOUT", "50ms"),
/// ])?;
/// assert_eq!(settings.memcached.servers, "cache1.example,cache2.example:11212");
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemcachedSettings {
    /// The servers: `host:port` or the path of a Unix socket, several with commas between
    /// (`CACHE_MEMCACHED_SERVERS`).
    pub servers: String,
    /// The user (`CACHE_MEMCACHED_USERNAME`).
    pub username: Option<String>,
    /// The user's password (`CACHE_MEMCACHED_PASSWORD`).
    pub password: Option<Secret>,
    /// Whether the servers are spoken to by the binary protocol, in which they are told the user by SASL, and not by meta
    /// commands (`CACHE_MEMCACHED_PROTOCOL`, or a `CACHE_TYPE` that implies it).
    pub binary_protocol: bool,
    /// Whether the connections are by TLS (`CACHE_MEMCACHED_TLS`).
    pub tls: bool,
    /// The file with the certificates of the authorities that the servers' may be of (`CACHE_MEMCACHED_CA_FILE`).
    pub ca_file: Option<String>,
    /// The file with the certificate that the client shows (`CACHE_MEMCACHED_CLIENT_CERT_FILE`).
    pub client_cert_file: Option<String>,
    /// The file with that certificate's private key (`CACHE_MEMCACHED_CLIENT_KEY_FILE`).
    pub client_key_file: Option<String>,
    /// How long connecting may take (`CACHE_MEMCACHED_CONNECT_TIMEOUT`).
    pub connect_timeout: Duration,
    /// How long one of several servers may take before its keys are misses (`CACHE_MEMCACHED_SERVER_TIMEOUT`).
    pub server_timeout: Duration,
    /// Whether a value over the server's limit is put into several items, and not refused
    /// (`CACHE_MEMCACHED_LARGE_VALUES`).
    pub split_large_values: bool,
}

impl Default for MemcachedSettings {
    fn default() -> Self {
        Self {
            servers: "127.0.0.1:11211".to_owned(),
            username: None,
            password: None,
            binary_protocol: false,
            tls: false,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            connect_timeout: Duration::from_secs(5),
            server_timeout: Duration::from_millis(100),
            split_large_values: true,
        }
    }
}

const SERVERS: &str = "CACHE_MEMCACHED_SERVERS";
const USERNAME: &str = "CACHE_MEMCACHED_USERNAME";
const PASSWORD: &str = "CACHE_MEMCACHED_PASSWORD";
const PROTOCOL: &str = "CACHE_MEMCACHED_PROTOCOL";
const TLS: &str = "CACHE_MEMCACHED_TLS";
const CA_FILE: &str = "CACHE_MEMCACHED_CA_FILE";
const CLIENT_CERT_FILE: &str = "CACHE_MEMCACHED_CLIENT_CERT_FILE";
const CLIENT_KEY_FILE: &str = "CACHE_MEMCACHED_CLIENT_KEY_FILE";
const CONNECT_TIMEOUT: &str = "CACHE_MEMCACHED_CONNECT_TIMEOUT";
const SERVER_TIMEOUT: &str = "CACHE_MEMCACHED_SERVER_TIMEOUT";
const LARGE_VALUES: &str = "CACHE_MEMCACHED_LARGE_VALUES";

impl MemcachedSettings {
    /// What is wrong with settings that are right one by one; `set` tells which of them are set at all.
    pub(super) fn contradictions(&self, set: impl Fn(&'static str) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        let mut needs = |one: &'static str, other: &'static str, why: &str| {
            if set(one) && !set(other) {
                found.push(format!("{one} is set and {other} is not; {why}"));
            }
        };
        let pair = "a certificate and its private key go together";
        needs(CLIENT_CERT_FILE, CLIENT_KEY_FILE, pair);
        needs(CLIENT_KEY_FILE, CLIENT_CERT_FILE, pair);
        let pair = "a user and a password go together";
        needs(USERNAME, PASSWORD, pair);
        needs(PASSWORD, USERNAME, pair);
        if self.tls {
            needs(TLS, CA_FILE, "TLS needs the authorities to trust");
        } else {
            let files = [CA_FILE, CLIENT_CERT_FILE];
            let alone = files.into_iter().filter(|file| set(file));
            found.extend(alone.map(|file| format!("{file} is for TLS, and {TLS} is not true")));
        }
        found
    }
}

/// A file whose path counts to the letter.
const FILE: &str = "the path of a PEM file";

pub(super) static SETTINGS: [Setting; 11] = [
    Setting {
        variable: SERVERS,
        expects: "host:port or the path of a Unix socket, several with commas between",
        default: Some("127.0.0.1:11211"),
        form: Form::Word,
        read: |settings, text| {
            settings.memcached.servers = text.to_owned();
            Ok(())
        },
    },
    Setting {
        variable: USERNAME,
        expects: "a text",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.memcached.username = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: PASSWORD,
        expects: "a text",
        default: None,
        form: Form::Secret,
        read: |settings, text| {
            settings.memcached.password = Some(Secret::new(text));
            Ok(())
        },
    },
    Setting {
        variable: PROTOCOL,
        expects: "meta or binary",
        default: None,
        form: Form::Word,
        read: |settings, text| {
            let choices = [
                Choice(false, "meta", &["text", "ascii"]),
                Choice(true, "binary", &["sasl"]),
            ];
            Choice::find(&choices, text).map(|on| settings.memcached.binary_protocol = on)
        },
    },
    Setting {
        variable: TLS,
        expects: "true or false",
        default: Some("false"),
        form: Form::Word,
        read: |settings, text| flag(text).map(|on| settings.memcached.tls = on),
    },
    Setting {
        variable: CA_FILE,
        expects: FILE,
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.memcached.ca_file = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: CLIENT_CERT_FILE,
        expects: FILE,
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.memcached.client_cert_file = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: CLIENT_KEY_FILE,
        expects: FILE,
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.memcached.client_key_file = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: CONNECT_TIMEOUT,
        expects: "a whole number with ms or s, at least 1ms",
        default: Some("5s"),
        form: Form::Word,
        read: |settings, text| {
            duration(text).map(|limit| settings.memcached.connect_timeout = limit)
        },
    },
    Setting {
        variable: SERVER_TIMEOUT,
        expects: "a whole number with ms or s, at least 1ms",
        default: Some("100ms"),
        form: Form::Word,
        read: |settings, text| {
            duration(text).map(|limit| settings.memcached.server_timeout = limit)
        },
    },
    Setting {
        variable: LARGE_VALUES,
        expects: "split or refuse",
        default: Some("split"),
        form: Form::Word,
        read: |settings, text| {
            let choices = [Choice(true, "split", &[]), Choice(false, "refuse", &[])];
            Choice::find(&choices, text).map(|on| settings.memcached.split_large_values = on)
        },
    },
];

/// What other programs call these settings: Flask-Caching above all.
pub(super) const OTHER_NAMES: [(&str, &str); 10] = [
    ("CACHE_MEMCACHED_HOSTS", SERVERS),
    ("CACHE_MEMCACHED_SERVER", SERVERS),
    ("CACHE_MEMCACHED_URL", SERVERS),
    ("CACHE_MEMCACHED_USER", USERNAME),
    ("CACHE_MEMCACHED_BINARY", PROTOCOL),
    ("CACHE_MEMCACHED_SASL", PROTOCOL),
    ("CACHE_MEMCACHED_SASL_USERNAME", USERNAME),
    ("CACHE_MEMCACHED_SASL_PASSWORD", PASSWORD),
    ("CACHE_MEMCACHED_SSL", TLS),
    ("CACHE_MEMCACHED_TIMEOUT", SERVER_TIMEOUT),
];
