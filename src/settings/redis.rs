//! The section of Redis: `CACHE_REDIS_*`.

use std::time::Duration;

use super::{
    Secret,
    parse::{Refusal, duration, flag, port, whole},
    table::{Form, Setting},
};

/// How to get to a Redis or Valkey server: the `CACHE_REDIS_*` settings.
///
/// Either [`url`](Self::url) says where the server is, or the fields for host, port, database and TLS do. User and
/// password may stand beside a URL, and win over those in it.
///
/// # Examples
///
/// ```
/// use larder::Settings;
///
/// let settings = Settings::from_pairs([
///     ("CACHE_REDIS_HOST", "cache.example"),
///     ("CACHE_REDIS_TLS", "true"),
/// ])?;
/// assert_eq!(settings.redis.host, "cache.example");
/// assert!(settings.redis.tls);
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisSettings {
    /// Where the server is, as `redis://`, `rediss://` or `unix://`; secret, because it may hold a password
    /// (`CACHE_REDIS_URL`).
    pub url: Option<Secret>,
    /// The server's name or address (`CACHE_REDIS_HOST`).
    pub host: String,
    /// The server's port (`CACHE_REDIS_PORT`).
    pub port: u16,
    /// The number of the database (`CACHE_REDIS_DATABASE`).
    pub database: u32,
    /// The user that the server's ACL knows; `default` where none is named (`CACHE_REDIS_USERNAME`).
    pub username: Option<String>,
    /// The user's password (`CACHE_REDIS_PASSWORD`).
    pub password: Option<Secret>,
    /// The path of a Unix socket, in place of host and port (`CACHE_REDIS_SOCKET`).
    pub socket: Option<String>,
    /// Whether the connection is by TLS (`CACHE_REDIS_TLS`).
    pub tls: bool,
    /// The file with the certificates of the authorities that the server's may be of (`CACHE_REDIS_CA_FILE`).
    pub ca_file: Option<String>,
    /// The file with the certificate that the client shows (`CACHE_REDIS_CLIENT_CERT_FILE`).
    pub client_cert_file: Option<String>,
    /// The file with that certificate's private key (`CACHE_REDIS_CLIENT_KEY_FILE`).
    pub client_key_file: Option<String>,
    /// How long connecting may take (`CACHE_REDIS_CONNECT_TIMEOUT`).
    pub connect_timeout: Duration,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            url: None,
            host: "127.0.0.1".to_owned(),
            port: 6379,
            database: 0,
            username: None,
            password: None,
            socket: None,
            tls: false,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            connect_timeout: Duration::from_secs(5),
        }
    }
}

const URL: &str = "CACHE_REDIS_URL";
const HOST: &str = "CACHE_REDIS_HOST";
const PORT: &str = "CACHE_REDIS_PORT";
const DATABASE: &str = "CACHE_REDIS_DATABASE";
const USERNAME: &str = "CACHE_REDIS_USERNAME";
const PASSWORD: &str = "CACHE_REDIS_PASSWORD";
const SOCKET: &str = "CACHE_REDIS_SOCKET";
const TLS: &str = "CACHE_REDIS_TLS";
const CA_FILE: &str = "CACHE_REDIS_CA_FILE";
const CLIENT_CERT_FILE: &str = "CACHE_REDIS_CLIENT_CERT_FILE";
const CLIENT_KEY_FILE: &str = "CACHE_REDIS_CLIENT_KEY_FILE";
const CONNECT_TIMEOUT: &str = "CACHE_REDIS_CONNECT_TIMEOUT";

impl RedisSettings {
    /// What is wrong with settings that are right one by one; `set` tells which of them are set at all.
    pub(super) fn contradictions(&self, set: impl Fn(&'static str) -> bool) -> Vec<String> {
        let mut found = Vec::new();
        let mut both = |one: &'static str, other: &'static str, why: &str| {
            if set(one) && set(other) {
                found.push(format!("{one} and {other} are both set; {why}"));
            }
        };
        for part in [HOST, PORT, DATABASE, SOCKET, TLS] {
            both(URL, part, "the URL says it already, leave one of them out");
        }
        for part in [HOST, PORT] {
            both(SOCKET, part, "leave out the one that is not meant");
        }
        if self.tls {
            both(SOCKET, TLS, "a Unix socket has no TLS");
        }

        let mut needs = |one: &'static str, other: &'static str, why: &str| {
            if set(one) && !set(other) {
                found.push(format!("{one} is set and {other} is not; {why}"));
            }
        };
        let pair = "a certificate and its private key go together";
        needs(CLIENT_CERT_FILE, CLIENT_KEY_FILE, pair);
        needs(CLIENT_KEY_FILE, CLIENT_CERT_FILE, pair);
        let url = self.url.as_ref().map(Secret::expose);
        if url.is_none() {
            needs(USERNAME, PASSWORD, "a user needs a password");
        }
        let schemes = ["rediss:", "valkeys:"];
        let by_url = url.is_some_and(|url| schemes.iter().any(|scheme| url.starts_with(scheme)));
        if !self.tls && !by_url {
            let files = [CA_FILE, CLIENT_CERT_FILE];
            let alone = files.into_iter().filter(|file| set(file));
            found.extend(alone.map(|file| match url {
                Some(_) => format!("{file} is for TLS, and {URL} does not begin with rediss://"),
                None => format!("{file} is for TLS, and {TLS} is not true"),
            }));
        }
        found
    }
}

/// A file whose path counts to the letter.
const FILE: &str = "the path of a PEM file";

pub(super) static SETTINGS: [Setting; 12] = [
    Setting {
        variable: URL,
        expects: "a URL such as redis://user:password@host:6379/0",
        default: None,
        form: Form::Secret,
        read: |settings, text| {
            let schemes = [
                "redis:",
                "rediss:",
                "valkey:",
                "valkeys:",
                "unix:",
                "redis+unix:",
            ];
            if !schemes.iter().any(|scheme| text.starts_with(scheme)) {
                return Err(Refusal::Malformed);
            }
            settings.redis.url = Some(Secret::new(text));
            Ok(())
        },
    },
    Setting {
        variable: HOST,
        expects: "a name or an address",
        default: Some("127.0.0.1"),
        form: Form::Word,
        read: |settings, text| {
            settings.redis.host = text.to_owned();
            Ok(())
        },
    },
    Setting {
        variable: PORT,
        expects: "a port, 1 to 65535",
        default: Some("6379"),
        form: Form::Word,
        read: |settings, text| port(text).map(|port| settings.redis.port = port),
    },
    Setting {
        variable: DATABASE,
        expects: "the number of a database",
        default: Some("0"),
        form: Form::Word,
        read: |settings, text| {
            let number = u32::try_from(whole(text)?).map_err(|_| Refusal::Malformed)?;
            settings.redis.database = number;
            Ok(())
        },
    },
    Setting {
        variable: USERNAME,
        expects: "a text",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.redis.username = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: PASSWORD,
        expects: "a text",
        default: None,
        form: Form::Secret,
        read: |settings, text| {
            settings.redis.password = Some(Secret::new(text));
            Ok(())
        },
    },
    Setting {
        variable: SOCKET,
        expects: "the path of a Unix socket",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.redis.socket = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: TLS,
        expects: "true or false",
        default: Some("false"),
        form: Form::Word,
        read: |settings, text| flag(text).map(|on| settings.redis.tls = on),
    },
    Setting {
        variable: CA_FILE,
        expects: FILE,
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.redis.ca_file = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: CLIENT_CERT_FILE,
        expects: FILE,
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.redis.client_cert_file = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: CLIENT_KEY_FILE,
        expects: FILE,
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.redis.client_key_file = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: CONNECT_TIMEOUT,
        expects: "a whole number with ms or s, at least 1ms",
        default: Some("5s"),
        form: Form::Word,
        read: |settings, text| duration(text).map(|limit| settings.redis.connect_timeout = limit),
    },
];

/// What other programs call these settings.
pub(super) const OTHER_NAMES: [(&str, &str); 11] = [
    ("CACHE_REDIS_DB", DATABASE),
    ("CACHE_REDIS_USER", USERNAME),
    ("CACHE_REDIS_PASS", PASSWORD),
    ("CACHE_REDIS_SERVER", HOST),
    ("CACHE_REDIS_ADDRESS", HOST),
    ("CACHE_REDIS_SSL", TLS),
    ("CACHE_REDIS_UNIX_SOCKET_PATH", SOCKET),
    ("CACHE_REDIS_SSL_CA_CERTS", CA_FILE),
    ("CACHE_REDIS_SSL_CERTFILE", CLIENT_CERT_FILE),
    ("CACHE_REDIS_SSL_KEYFILE", CLIENT_KEY_FILE),
    ("CACHE_REDIS_SOCKET_CONNECT_TIMEOUT", CONNECT_TIMEOUT),
];
