use std::{fmt, net::IpAddr, path::PathBuf, time::Duration};

use aerospike::{
    Client, Host, ResultCode,
    policy::{AuthMode, ClientPolicy, TEND_INTERVAL_MIN_MS},
};

use super::{Aerospike, connection::Connection, hosts, tls};
use crate::{Error, ErrorKind, Result};

/// The longest name of a namespace and of a set, in bytes, by the server's rules.
const NAMESPACE_LEN: usize = 31;
const SET_LEN: usize = 63;

/// Connections that lie idle are closed before the server does so after a minute; a write that finds one closed fails.
const IDLE: Duration = Duration::from_secs(50);

/// Where an [`Aerospike`] keeps its entries and how it gets there. Begun with [`Aerospike::builder`].
#[derive(Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct AerospikeBuilder {
    hosts: String,
    client: Option<Client>,
    namespace: String,
    set: String,
    user: Option<String>,
    password: Option<String>,
    tls: bool,
    ca_file: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    timeout: Duration,
    connect_timeout: Duration,
    tend_interval: Duration,
    max_conns: usize,
    seed_only: bool,
}

impl AerospikeBuilder {
    pub(super) fn new(hosts: String) -> Self {
        Self {
            hosts,
            client: None,
            namespace: "cache".to_owned(),
            set: String::new(),
            user: None,
            password: None,
            tls: false,
            ca_file: None,
            certificate: None,
            key: None,
            timeout: Duration::from_millis(250),
            connect_timeout: Duration::from_secs(1),
            tend_interval: Duration::from_millis(250),
            max_conns: 256,
            seed_only: false,
        }
    }

    /// Uses a client that is there already, whatever the hosts are (no setting). Its namespace and set are those of
    /// this builder, its connections are its own business: [`Backend::close`](crate::Backend::close) does not close it.
    ///
    /// What it was made with stays as it is; only the time-out of this builder is given with every call.
    pub fn client(mut self, client: Client) -> Self {
        self.client = Some(client);
        self
    }

    /// The namespace of the cluster that entries are kept in, `cache` by default (`CACHE_AEROSPIKE_NAMESPACE`).
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// The set within the namespace; none by default, which is the set without a name (`CACHE_AEROSPIKE_SET`).
    pub fn set(mut self, set: impl Into<String>) -> Self {
        self.set = set.into();
        self
    }

    /// The user to log in as, on an Enterprise Edition with security (`CACHE_AEROSPIKE_USER`).
    pub fn username(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// The user's password (`CACHE_AEROSPIKE_PASSWORD`).
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Whether connections are encrypted (`CACHE_AEROSPIKE_TLS`). Each host has a TLS name then, which its certificate
    /// is checked against: `host:tls-name:port`, or the host's own name.
    pub fn tls(mut self, tls: bool) -> Self {
        self.tls = tls;
        self
    }

    /// The file with the certificates of the authorities to trust, in PEM form (`CACHE_AEROSPIKE_CA_FILE`).
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// The file with the certificate to show to the cluster, in PEM form (`CACHE_AEROSPIKE_CLIENT_CERT_FILE`).
    pub fn client_certificate(mut self, path: impl Into<PathBuf>) -> Self {
        self.certificate = Some(path.into());
        self
    }

    /// The file with the key of that certificate, in PEM form (`CACHE_AEROSPIKE_CLIENT_KEY_FILE`).
    pub fn client_key(mut self, path: impl Into<PathBuf>) -> Self {
        self.key = Some(path.into());
        self
    }

    /// The time for one call, 250 milliseconds by default (`CACHE_AEROSPIKE_TIMEOUT`).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The time to make a connection and log in, one second by default (`CACHE_AEROSPIKE_CONNECT_TIMEOUT`).
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How often the client looks which nodes there are, every 250 milliseconds by default and no more often (no
    /// setting). A node that died is waited for until then.
    pub fn tend_interval(mut self, interval: Duration) -> Self {
        self.tend_interval = interval;
        self
    }

    /// The most connections to one node, 256 by default (`CACHE_AEROSPIKE_MAX_CONNS`).
    pub fn max_conns_per_node(mut self, connections: usize) -> Self {
        self.max_conns = connections;
        self
    }

    /// Whether only the hosts given are talked to, and not the nodes that they tell of, as behind a proxy
    /// (`CACHE_AEROSPIKE_SEED_ONLY`).
    pub fn seed_only(mut self, seed_only: bool) -> Self {
        self.seed_only = seed_only;
        self
    }

    /// Connects, and makes sure that the cluster has the namespace.
    ///
    /// Call it on the runtime that lives as long as the cache: the client's own task runs there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] for what cannot be right, by the name of its setting, and for a namespace that the
    /// cluster does not have; [`ErrorKind::Unavailable`] where no host can be reached, with each of them.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> larder::Result<()> {
    /// use larder::{Aerospike, Cache};
    ///
    /// let aerospike = Aerospike::builder("db1:3000,db2:3000").set("pages").connect().await?;
    /// let cache = Cache::new(aerospike);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(self) -> Result<Aerospike> {
        let aerospike = self.start(true).await?;
        match aerospike.0.know("connect").await {
            Ok(()) => Ok(aerospike),
            Err(error) => {
                // What was opened is of no use to anybody.
                let _ = aerospike.0.close().await;
                Err(error)
            }
        }
    }

    /// Connects as soon as the cluster can be reached, which need not be now: every verb is an
    /// [`ErrorKind::Unavailable`] error until then, without waiting.
    ///
    /// Call it on the runtime that lives as long as the cache: the client's own task runs there.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] for what cannot be right, by the name of its setting. A namespace that the cluster does
    /// not have is found out by the first verb that reaches it.
    pub async fn connect_lazily(self) -> Result<Aerospike> {
        self.start(false).await
    }

    async fn start(mut self, at_once: bool) -> Result<Aerospike> {
        self.check()?;
        let given = self.client.take();
        let (client, given) = match given {
            Some(client) => (client, true),
            None => (self.open(at_once).await?, false),
        };
        let max_conns = match client.nodes().first() {
            Some(node) if given => node.client_policy().max_conns_per_node,
            _ => self.max_conns,
        };
        let connection = Connection::new(
            client,
            given,
            self.namespace,
            self.set,
            self.timeout,
            self.connect_timeout,
            max_conns,
        );
        Ok(Aerospike(connection.into()))
    }

    fn check(&self) -> Result<()> {
        if self.client.is_none() && self.hosts.trim().is_empty() {
            return Err(wrong(
                "CACHE_AEROSPIKE_HOSTS is not set and no client was given",
            ));
        }
        if self.namespace.is_empty() {
            return Err(wrong("CACHE_AEROSPIKE_NAMESPACE is empty"));
        }
        for (setting, name, most) in [
            ("CACHE_AEROSPIKE_NAMESPACE", &self.namespace, NAMESPACE_LEN),
            ("CACHE_AEROSPIKE_SET", &self.set, SET_LEN),
        ] {
            if name.len() > most {
                let len = name.len();
                return Err(wrong(format!(
                    "{setting} has {len} bytes, and at most {most} are allowed"
                )));
            }
            // They are part of the server's own lists.
            if let Some(mark) = name.chars().find(|c| c.is_control() || ":;,=".contains(*c)) {
                return Err(wrong(format!(
                    "{setting} has {mark:?} in it, which the server does not allow"
                )));
            }
        }
        if self.timeout.is_zero() {
            return Err(wrong("CACHE_AEROSPIKE_TIMEOUT is no time at all"));
        }
        Ok(())
    }

    async fn open(&self, at_once: bool) -> Result<Client> {
        let hosts =
            hosts::parse(&self.hosts).map_err(|it| wrong(format!("CACHE_AEROSPIKE_HOSTS {it}")))?;
        let policy = self.policy(&hosts, at_once)?;
        Client::new(&policy, &hosts)
            .await
            .map_err(|error| refused(&hosts, error))
    }

    fn policy(&self, hosts: &[Host], at_once: bool) -> Result<ClientPolicy> {
        let interval = millis(self.tend_interval);
        if interval < TEND_INTERVAL_MIN_MS {
            return Err(wrong(format!(
                "tend_interval is below {TEND_INTERVAL_MIN_MS} ms"
            )));
        }
        let connect = millis(self.connect_timeout).max(1);
        let mut policy = ClientPolicy {
            timeout: connect,
            connect_timeout: connect,
            tend_interval: interval,
            idle_timeout: millis(IDLE),
            max_conns_per_node: self.max_conns.max(1),
            fail_if_not_connected: at_once,
            seed_only_cluster: self.seed_only,
            // Too many writes to one key would count as errors and shut out the whole node; the cache has a circuit
            // breaker of its own.
            max_error_rate: 0,
            ..ClientPolicy::default()
        };
        policy.auth_mode = match (&self.user, &self.password) {
            (None, None) => AuthMode::None,
            (Some(user), password) => {
                let password = password.clone().unwrap_or_default();
                AuthMode::Internal(user.clone(), password)
            }
            (None, Some(_)) => {
                return Err(wrong(
                    "CACHE_AEROSPIKE_PASSWORD is set, and CACHE_AEROSPIKE_USER is not",
                ));
            }
        };
        if self.tls {
            let nameless = hosts
                .iter()
                .find(|host| host.tls_name.is_none() && host.name.parse::<IpAddr>().is_ok());
            if let Some(host) = nameless {
                return Err(wrong(format!(
                    "CACHE_AEROSPIKE_HOSTS: with TLS the address {} needs a TLS name, as in host:tls-name:port",
                    host.name
                )));
            }
            let Some(ca) = &self.ca_file else {
                return Err(wrong("CACHE_AEROSPIKE_TLS needs CACHE_AEROSPIKE_CA_FILE"));
            };
            let certificate = match (&self.certificate, &self.key) {
                (Some(certificate), Some(key)) => Some((certificate.as_path(), key.as_path())),
                (None, None) => None,
                _ => {
                    return Err(wrong(
                        "CACHE_AEROSPIKE_CLIENT_CERT_FILE and CACHE_AEROSPIKE_CLIENT_KEY_FILE go together",
                    ));
                }
            };
            let tls = tls::policy(ca, certificate);
            policy.tls_policy = Some(tls.map_err(|error| error.on("aerospike", "connect"))?);
        } else if self.ca_file.is_some() || self.certificate.is_some() || self.key.is_some() {
            return Err(wrong(
                "certificates are set for Aerospike, and CACHE_AEROSPIKE_TLS is not true",
            ));
        }
        Ok(policy)
    }
}

/// Shows names, never a secret.
impl fmt::Debug for AerospikeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AerospikeBuilder")
            .field("hosts", &self.hosts)
            .field("client", &self.client.is_some())
            .field("namespace", &self.namespace)
            .field("set", &self.set)
            .field("user", &self.user)
            .field("password", &self.password.is_some())
            .field("tls", &self.tls)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

fn wrong(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Settings, message).on("aerospike", "connect")
}

fn refused(hosts: &[Host], error: aerospike::Error) -> Error {
    let no_users = [
        ResultCode::SecurityNotSupported,
        ResultCode::SecurityNotEnabled,
    ];
    let shown = error.to_string();
    let error = if error.matches(&no_users) || shown.contains("Security not supported") {
        wrong(
            "the server knows no users (Community Edition never does): unset CACHE_AEROSPIKE_USER",
        )
        .caused_by(error)
    } else {
        let hosts: Vec<_> = hosts.iter().map(Host::address).collect();
        let message = format!(
            "none of CACHE_AEROSPIKE_HOSTS can be reached: {}",
            hosts.join(", ")
        );
        Error::new(ErrorKind::Unavailable, message).caused_by(error)
    };
    error.on("aerospike", "connect")
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
