use std::{path::PathBuf, time::Duration};

use super::{
    Secret,
    parse::{Refusal, at_least_one, duration, flag},
    table::{Form, Setting},
};

/// What `CACHE_TYPE=aerospike` needs to know; read by the builder of the same name, `larder::Aerospike`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AerospikeSettings {
    /// The nodes to begin with: `host:port` or `host:tls-name:port`, several with commas between
    /// (`CACHE_AEROSPIKE_HOSTS`).
    pub hosts: Option<String>,
    /// The namespace of the cluster (`CACHE_AEROSPIKE_NAMESPACE`).
    pub namespace: String,
    /// The set within the namespace; `None` for the one without a name (`CACHE_AEROSPIKE_SET`).
    pub set: Option<String>,
    /// The user to log in as (`CACHE_AEROSPIKE_USER`).
    pub user: Option<String>,
    /// The user's password (`CACHE_AEROSPIKE_PASSWORD`).
    pub password: Option<Secret>,
    /// Whether connections are encrypted (`CACHE_AEROSPIKE_TLS`).
    pub tls: bool,
    /// The certificates of the authorities to trust (`CACHE_AEROSPIKE_CA_FILE`).
    pub ca_file: Option<PathBuf>,
    /// The certificate to show to the cluster (`CACHE_AEROSPIKE_CLIENT_CERT_FILE`).
    pub client_cert_file: Option<PathBuf>,
    /// The key of that certificate (`CACHE_AEROSPIKE_CLIENT_KEY_FILE`).
    pub client_key_file: Option<PathBuf>,
    /// The time for one call (`CACHE_AEROSPIKE_TIMEOUT`).
    pub timeout: Duration,
    /// The time to make a connection and log in (`CACHE_AEROSPIKE_CONNECT_TIMEOUT`).
    pub connect_timeout: Duration,
    /// The most connections to one node (`CACHE_AEROSPIKE_MAX_CONNS`).
    pub max_conns: usize,
    /// Whether only these hosts are talked to, and not the nodes that they tell of (`CACHE_AEROSPIKE_SEED_ONLY`).
    pub seed_only: bool,
}

impl Default for AerospikeSettings {
    fn default() -> Self {
        Self {
            hosts: None,
            namespace: "cache".to_owned(),
            set: None,
            user: None,
            password: None,
            tls: false,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(1),
            max_conns: 256,
            seed_only: false,
        }
    }
}

fn name(text: &str, most: usize) -> Result<String, Refusal> {
    (text.len() <= most)
        .then(|| text.to_owned())
        .ok_or(Refusal::Malformed)
}

pub(super) static SETTINGS: [Setting; 13] = [
    Setting {
        variable: "CACHE_AEROSPIKE_HOSTS",
        expects: "host:port or host:tls-name:port, several with commas between",
        default: None,
        form: Form::Word,
        read: |settings, text| {
            settings.aerospike.hosts = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: "CACHE_AEROSPIKE_NAMESPACE",
        expects: "a name of at most 31 bytes",
        default: Some("cache"),
        form: Form::Text,
        read: |settings, text| {
            settings.aerospike.namespace = name(text, 31)?;
            Ok(())
        },
    },
    Setting {
        variable: "CACHE_AEROSPIKE_SET",
        expects: "a name of at most 63 bytes",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.aerospike.set = Some(name(text, 63)?);
            Ok(())
        },
    },
    Setting {
        variable: "CACHE_AEROSPIKE_USER",
        expects: "a text",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.aerospike.user = Some(text.to_owned());
            Ok(())
        },
    },
    Setting {
        variable: "CACHE_AEROSPIKE_PASSWORD",
        expects: "a text",
        default: None,
        form: Form::Secret,
        read: |settings, text| {
            settings.aerospike.password = Some(Secret::new(text));
            Ok(())
        },
    },
    Setting {
        variable: "CACHE_AEROSPIKE_TLS",
        expects: "true or false",
        default: Some("false"),
        form: Form::Word,
        read: |settings, text| flag(text).map(|on| settings.aerospike.tls = on),
    },
    Setting {
        variable: "CACHE_AEROSPIKE_CA_FILE",
        expects: "a path",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.aerospike.ca_file = Some(text.into());
            Ok(())
        },
    },
    Setting {
        variable: "CACHE_AEROSPIKE_CLIENT_CERT_FILE",
        expects: "a path",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.aerospike.client_cert_file = Some(text.into());
            Ok(())
        },
    },
    Setting {
        variable: "CACHE_AEROSPIKE_CLIENT_KEY_FILE",
        expects: "a path",
        default: None,
        form: Form::Text,
        read: |settings, text| {
            settings.aerospike.client_key_file = Some(text.into());
            Ok(())
        },
    },
    Setting {
        variable: "CACHE_AEROSPIKE_TIMEOUT",
        expects: "a whole number with ms or s, at least 1ms",
        default: Some("250ms"),
        form: Form::Word,
        read: |settings, text| duration(text).map(|limit| settings.aerospike.timeout = limit),
    },
    Setting {
        variable: "CACHE_AEROSPIKE_CONNECT_TIMEOUT",
        expects: "a whole number with ms or s, at least 1ms",
        default: Some("1s"),
        form: Form::Word,
        read: |settings, text| {
            duration(text).map(|limit| settings.aerospike.connect_timeout = limit)
        },
    },
    Setting {
        variable: "CACHE_AEROSPIKE_MAX_CONNS",
        expects: "a whole number of connections, at least 1",
        default: Some("256"),
        form: Form::Word,
        read: |settings, text| {
            let most = at_least_one(text)?;
            settings.aerospike.max_conns = usize::try_from(most).unwrap_or(usize::MAX);
            Ok(())
        },
    },
    Setting {
        variable: "CACHE_AEROSPIKE_SEED_ONLY",
        expects: "true or false",
        default: Some("false"),
        form: Form::Word,
        read: |settings, text| flag(text).map(|on| settings.aerospike.seed_only = on),
    },
];
