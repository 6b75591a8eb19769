//! The section of Redis: `CACHE_REDIS_*`.

use std::time::Duration;

use super::{
    Secret,
    parse::{Refusal, duration, flag, fold, port, whole},
    table::{Form, Setting},
};

/// How to get to a Redis or Valkey server: the `CACHE_REDIS_*` settings.
///
/// Either [`url`](Self::url) says where the server is, or the fields for host, port, database and TLS do; or there are
/// several servers, a cluster ([`cluster_nodes`](Self::cluster_nodes)) or a primary that sentinels know
/// ([`sentinels`](Self::sentinels)). User and password may stand beside a URL, and win over those in it.
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
    /// Nodes of a Redis Cluster to begin with, each `host:port` (`CACHE_REDIS_CLUSTER_NODES`).
    pub cluster_nodes: Vec<String>,
    /// The sentinels that know which server is the primary, each `host:port` (`CACHE_REDIS_SENTINELS`).
    pub sentinels: Vec<String>,
    /// The name that the sentinels know the primary by (`CACHE_REDIS_SENTINEL_MASTER`).
    pub sentinel_master: Option<String>,
    /// The user that the sentinels know (`CACHE_REDIS_SENTINEL_USERNAME`).
    pub sentinel_username: Option<String>,
    /// The password of the sentinels, which is not that of the servers (`CACHE_REDIS_SENTINEL_PASSWORD`).
    pub sentinel_password: Option<Secret>,
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
    /// A replica of the server, which answers in its place where that can do no harm; secret, because it may hold a password
    /// (`CACHE_REDIS_READ_URL`).
    pub read_url: Option<Secret>,
    /// Whether replicas of the cluster, or of the primary behind sentinels, answer in its place where that can do no harm
    /// (`CACHE_REDIS_READ_FROM_REPLICAS`).
    pub read_from_replicas: bool,
    /// How long connecting may take (`CACHE_REDIS_CONNECT_TIMEOUT`).
    pub connect_timeout: Duration,
    /// The variable for the servers that `CACHE_TYPE` asks for by its name, as `RedisClusterCache` does.
    pub(super) named_by_type: Option<&'static str>,
}

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            url: None,
            host: "127.0.0.1".to_owned(),
            port: 6379,
            database: 0,
            cluster_nodes: Vec::new(),
            sentinels: Vec::new(),
            sentinel_master: None,
            sentinel_username: None,
            sentinel_password: None,
            username: None,
            password: None,
            socket: None,
            tls: false,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            read_url: None,
            read_from_replicas: false,
            connect_timeout: Duration::from_secs(5),
            named_by_type: None,
        }
    }
}

const URL: &str = "CACHE_REDIS_URL";
const HOST: &str = "CACHE_REDIS_HOST";
const PORT: &str = "CACHE_REDIS_PORT";
const DATABASE: &str = "CACHE_REDIS_DATABASE";
const CLUSTER_NODES: &str = "CACHE_REDIS_CLUSTER_NODES";
const SENTINELS: &str = "CACHE_REDIS_SENTINELS";
const SENTINEL_MASTER: &str = "CACHE_REDIS_SENTINEL_MASTER";
const SENTINEL_USERNAME: &str = "CACHE_REDIS_SENTINEL_USERNAME";
const SENTINEL_PASSWORD: &str = "CACHE_REDIS_SENTINEL_PASSWORD";
const USERNAME: &str = "CACHE_REDIS_USERNAME";
const PASSWORD: &str = "CACHE_REDIS_PASSWORD";
const SOCKET: &str = "CACHE_REDIS_SOCKET";
const TLS: &str = "CACHE_REDIS_TLS";
const CA_FILE: &str = "CACHE_REDIS_CA_FILE";
const CLIENT_CERT_FILE: &str = "CACHE_REDIS_CLIENT_CERT_FILE";
const CLIENT_KEY_FILE: &str = "CACHE_REDIS_CLIENT_KEY_FILE";
const READ_URL: &str = "CACHE_REDIS_READ_URL";
const READ_FROM_REPLICAS: &str = "CACHE_REDIS_READ_FROM_REPLICAS";
const CONNECT_TIMEOUT: &str = "CACHE_REDIS_CONNECT_TIMEOUT";

impl RedisSettings {
    /// Takes note of what a name of `CACHE_TYPE` says beside that it is Redis.
    pub(super) fn named(&mut self, kind: &str) {
        let folded = fold(kind);
        if folded.contains("sentinel") {
            self.named_by_type = Some(SENTINELS);
        } else if folded.contains("cluster") {
            self.named_by_type = Some(CLUSTER_NODES);
        }
    }

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
        for part in [URL, HOST, PORT, SOCKET] {
            let why = "a cluster and sentinels are named by their nodes alone";
            both(CLUSTER_NODES, part, why);
            both(SENTINELS, part, why);
        }
        both(
            CLUSTER_NODES,
            SENTINELS,
            "leave out the one that is not meant",
        );
        both(CLUSTER_NODES, DATABASE, "a cluster has one database alone");
        for several in [CLUSTER_NODES, SENTINELS] {
            let why = "replicas there are asked by CACHE_REDIS_READ_FROM_REPLICAS=true";
            both(several, READ_URL, why);
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
        let why = "sentinels are asked for a primary by its name";
        needs(SENTINELS, SENTINEL_MASTER, why);
        for part in [SENTINEL_MASTER, SENTINEL_USERNAME, SENTINEL_PASSWORD] {
            needs(part, SENTINELS, "it is for sentinels");
        }
        needs(
            SENTINEL_USERNAME,
            SENTINEL_PASSWORD,
            "a user needs a password",
        );
        let url = self.url.as_ref().map(Secret::expose);
        if url.is_none() {
            needs(USERNAME, PASSWORD, "a user needs a password");
        }
        let schemes = ["rediss:", "valkeys:"];
        let by_url = url.is_some_and(|url| schemes.iter().any(|scheme| url.starts_with(scheme)));
        if let Some(servers) = self.named_by_type.filter(|servers| !set(servers)) {
            found.push(format!("CACHE_TYPE asks for {servers}, which is not set"));
        }
        if self.read_from_replicas && !set(CLUSTER_NODES) && !set(SENTINELS) {
            found.push(format!(
                "{READ_FROM_REPLICAS} is set and neither {CLUSTER_NODES} nor {SENTINELS} is; the replica of a single \
                 server is named by {READ_URL}"
            ));
        }
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

/// A server, and what else a URL says.
const SERVER: &str = "a URL such as redis://user:password@host:6379/0";

/// The URL of a server, by its scheme alone; the rest is for whoever connects, who shows nothing of it.
fn url(text: &str) -> Result<Secret, Refusal> {
    let schemes = [
        "redis:",
        "rediss:",
        "valkey:",
        "valkeys:",
        "unix:",
        "redis+unix:",
    ];
    match schemes.iter().any(|scheme| text.starts_with(scheme)) {
        true => Ok(Secret::new(text)),
        false => Err(Refusal::Malformed),
    }
}

/// Servers of one kind.
const NODES: &str = "host:port, or several of them with commas between";

/// The servers of a list, each of which has a host and may have a port.
fn nodes(text: &str) -> Result<Vec<String>, Refusal> {
    let node = |node: &str| {
        let node = node.trim();
        let (host, digits) = match node.rsplit_once(':') {
            Some((host, digits)) if !host.contains(':') || host.ends_with(']') => {
                (host, Some(digits))
            }
            _ => (node, None),
        };
        digits.map(port).transpose()?;
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._:%[]".contains(letter);
        match !host.is_empty() && host.chars().all(plain) {
            true => Ok(node.to_owned()),
            false => Err(Refusal::Malformed),
        }
    };
    text.split(',').map(node).collect()
}

pub(super) static SETTINGS: [Setting; 19] = [
    Setting {
        variable: URL,
        expects: SERVER,
        default: None,
        form: Form::Secret,
        read: |settings, text| url(text).map(|url| settings.redis.url = Some(url)),
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
        variable: CLUSTER_NODES,
        expects: NODES,
        default: None,
        form: Form::Word,
        read: |settings, text| nodes(text).map(|nodes| settings.redis.cluster_nodes = nodes),
    },
    Setting {
        variable: SENTINELS,
        expects: NODES,
        default: None,
        form: Form::Word,
        read: |settings, text| nodes(text).map(|nodes| settings.redis.sentinels = nodes),
    },
    Setting {
        variable: SENTINEL_MASTER,
        expects: "a name",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.redis.sentinel_master = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: SENTINEL_USERNAME,
        expects: "a text",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.redis.sentinel_username = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: SENTINEL_PASSWORD,
        expects: "a text",
        default: None,
        form: Form::Secret,
        read: |settings, text| {
            settings.redis.sentinel_password = Some(Secret::new(text));
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
        variable: READ_URL,
        expects: SERVER,
        default: None,
        form: Form::Secret,
        read: |settings, text| url(text).map(|url| settings.redis.read_url = Some(url)),
    },
    Setting {
        variable: READ_FROM_REPLICAS,
        expects: "true or false",
        default: Some("false"),
        form: Form::Word,
        read: |settings, text| flag(text).map(|on| settings.redis.read_from_replicas = on),
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
pub(super) const OTHER_NAMES: [(&str, &str); 21] = [
    ("CACHE_REDIS_CLUSTER", CLUSTER_NODES),
    ("CACHE_REDIS_STARTUP_NODES", CLUSTER_NODES),
    ("CACHE_REDIS_NODES", CLUSTER_NODES),
    ("CACHE_REDIS_SENTINEL_HOSTS", SENTINELS),
    ("CACHE_REDIS_SERVICE_NAME", SENTINEL_MASTER),
    ("CACHE_REDIS_SENTINEL_SERVICE_NAME", SENTINEL_MASTER),
    ("CACHE_REDIS_READER_URL", READ_URL),
    ("CACHE_REDIS_REPLICA_URL", READ_URL),
    ("CACHE_REDIS_READ_FROM", READ_FROM_REPLICAS),
    ("CACHE_REDIS_READ_REPLICAS", READ_FROM_REPLICAS),
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
