mod replicas;

use std::{
    fmt,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use redis::{
    ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo,
    TlsCertificates, io::tcp::TcpSettings,
};

use super::{
    Redis,
    cluster::Cluster,
    dial::{Dial, Node, Way},
    errors::not_a_url,
    link::Link,
    reach::Reach,
    replicas::Replicas,
    tls,
};
use crate::{Error, ErrorKind, Result};

/// The least time that connecting may take, where nobody says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets up a [`Redis`] backend.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> larder::Result<()> {
/// use std::time::Duration;
/// use larder::Redis;
///
/// let redis = Redis::builder("rediss://cache.example:6380")
///     .username("shop")
///     .password("correct horse battery staple")
///     .ca("/etc/ssl/private-ca.pem")
///     .connect_timeout(Duration::from_secs(2))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct RedisBuilder {
    url: String,
    servers: Servers,
    read_url: Option<String>,
    reads_from_replicas: bool,
    sentinel_username: Option<String>,
    sentinel_password: Option<String>,
    host: Option<String>,
    port: Option<u16>,
    socket: Option<String>,
    database: Option<u32>,
    username: Option<String>,
    password: Option<String>,
    tls: Option<bool>,
    ca: Option<String>,
    client_certificate: Option<(String, String)>,
    connect_timeout: Duration,
}

/// What kind of servers there are.
#[derive(Clone)]
enum Servers {
    /// One, at the URL.
    One,
    /// A cluster with these nodes.
    Cluster(Vec<String>),
    /// Those that sentinels know under a name.
    Sentinels(Vec<String>, String),
}

/// The ports that servers and sentinels have where nobody says otherwise.
const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26_379;

impl RedisBuilder {
    pub(super) fn of_cluster(nodes: Vec<String>) -> Self {
        let mut builder = Self::new("redis://127.0.0.1".to_owned());
        builder.servers = Servers::Cluster(nodes);
        builder
    }

    pub(super) fn of_sentinels(sentinels: Vec<String>, name: String) -> Self {
        let mut builder = Self::new("redis://127.0.0.1".to_owned());
        builder.servers = Servers::Sentinels(sentinels, name);
        builder
    }

    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            servers: Servers::One,
            read_url: None,
            reads_from_replicas: false,
            sentinel_username: None,
            sentinel_password: None,
            host: None,
            port: None,
            socket: None,
            database: None,
            username: None,
            password: None,
            tls: None,
            ca: None,
            client_certificate: None,
            connect_timeout: CONNECT_TIMEOUT,
        }
    }

    /// The server's name or address, in place of the URL's.
    pub fn host(mut self, host: impl Into<String>) -> Self {
        self.host = Some(host.into());
        self
    }

    /// The server's port, in place of the URL's.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// The path of a Unix socket, in place of host and port.
    pub fn socket(mut self, path: impl Into<String>) -> Self {
        self.socket = Some(path.into());
        self
    }

    /// The number of the database, in place of the URL's; 0 where neither says.
    pub fn database(mut self, number: u32) -> Self {
        self.database = Some(number);
        self
    }

    /// The user that the server's ACL knows; `default` where nobody says.
    pub fn username(mut self, name: impl Into<String>) -> Self {
        self.username = Some(name.into());
        self
    }

    /// The user's password, to the letter: unlike in a URL, nothing has to be escaped.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// A replica of the server, which answers in its place where that can do no harm:
    /// [what that means](Redis#reader-and-writer-apart). User and password are those of the server, unless this URL has
    /// some; the database is that of the server, and certificates are the same.
    ///
    /// # Examples
    ///
    /// ```
    /// use larder::Redis;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let redis = Redis::builder("redis://primary.example")
    ///     .read_url("redis://replica.example")
    ///     .connect_lazily()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_url(mut self, url: impl Into<String>) -> Self {
        self.read_url = Some(url.into());
        self
    }

    /// Whether the replicas of a [cluster](Redis::cluster), or of the primary behind [sentinels](Redis::sentinels), answer in
    /// its place where that can do no harm: [what that means](Redis#reader-and-writer-apart).
    pub fn read_from_replicas(mut self, on: bool) -> Self {
        self.reads_from_replicas = on;
        self
    }

    /// The user that the sentinels know, where they have one.
    pub fn sentinel_username(mut self, name: impl Into<String>) -> Self {
        self.sentinel_username = Some(name.into());
        self
    }

    /// The password of the sentinels, which is not that of the servers.
    pub fn sentinel_password(mut self, password: impl Into<String>) -> Self {
        self.sentinel_password = Some(password.into());
        self
    }

    /// Whether the connection is by TLS, whatever the URL's scheme says.
    pub fn tls(mut self, on: bool) -> Self {
        self.tls = Some(on);
        self
    }

    /// The certificates of the authorities that the server's certificate may be of, in place of those that this machine
    /// knows: as PEM, or the path of a file with them.
    pub fn ca(mut self, pem_or_path: impl Into<String>) -> Self {
        self.ca = Some(pem_or_path.into());
        self
    }

    /// The certificate that the client shows, and its private key: as PEM, or the paths of files with them.
    pub fn client_certificate(
        mut self,
        certificate: impl Into<String>,
        key: impl Into<String>,
    ) -> Self {
        self.client_certificate = Some((certificate.into(), key.into()));
        self
    }

    /// How long connecting may take, with the name's resolution, TLS and the password; 5 seconds where nobody says.
    /// It goes on for so long in the background, also when nobody waits any more.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Connects, and sees to it that the server answers this user.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) for a URL that is none, a file that cannot be read, and
    /// certificates without TLS; [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) and
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) where the server cannot be reached;
    /// [`ErrorKind::Backend`](crate::ErrorKind::Backend) where it refuses the user or the database.
    pub async fn connect(self) -> Result<Redis> {
        let redis = self.connect_lazily()?;
        let answer = async {
            redis.0.ping().await?;
            redis.0.check_replicas().await
        };
        answer
            .await
            .map_err(|error| error.on(super::NAME, "connect"))?;
        Ok(redis)
    }

    /// A backend that contacts nobody yet, and connects when it is first used.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) as for [`connect`](Self::connect).
    pub fn connect_lazily(self) -> Result<Redis> {
        let servers = self.servers();
        let (reach, replicas) = servers.map_err(|error| error.on(super::NAME, "connect"))?;
        Ok(Redis::new(reach, replicas))
    }

    fn servers(self) -> Result<(Reach, Option<Replicas>)> {
        let numbers = Arc::<AtomicU64>::default();
        let place = self.replicas(&numbers)?;
        let reach = self.reach(numbers)?;
        Ok((reach, place.map(Replicas::new)))
    }

    fn reach(self, numbers: Arc<AtomicU64>) -> Result<Reach> {
        let dial = self.dial()?;
        let elsewhere = self.host.is_some() || self.port.is_some() || self.socket.is_some();
        if elsewhere && !matches!(self.servers, Servers::One) {
            return Err(settings(
                "the servers of a cluster or behind sentinels are named by CACHE_REDIS_CLUSTER_NODES or \
                 CACHE_REDIS_SENTINELS: leave out CACHE_REDIS_HOST, CACHE_REDIS_PORT and CACHE_REDIS_SOCKET",
            ));
        }
        let way = match &self.servers {
            Servers::Cluster(nodes) => {
                if dial.info.redis_settings().db() != 0 {
                    return Err(settings(
                        "a cluster has one database alone: leave out CACHE_REDIS_DATABASE",
                    ));
                }
                let nodes = read_nodes(nodes, PORT, "CACHE_REDIS_CLUSTER_NODES")?;
                let cluster = Cluster::new(nodes, dial, self.connect_timeout, numbers);
                return Ok(Reach::Cluster(Arc::new(cluster)));
            }
            Servers::Sentinels(nodes, name) => Way::Sentinels(self.sentinels(nodes, name, false)?),
            Servers::One => Way::Server(dial.client()?),
        };
        Ok(Reach::Server(Link::new(way, self.connect_timeout, numbers)))
    }

    /// How the servers are greeted, whichever they are.
    fn dial(&self) -> Result<Dial> {
        let info = self.url.as_str().into_connection_info();
        let info = info.map_err(|_| not_a_url())?;
        let (address, tls) = self.address(info.addr())?;
        let user = self.user(info.redis_settings())?;
        let info = info
            .set_addr(address)
            .set_redis_settings(user)
            // Answers are awaited one by one, so that nothing is gained by waiting for more to send.
            .set_tcp_settings(TcpSettings::default().set_nodelay(true));
        if !tls && (self.ca.is_some() || self.client_certificate.is_some()) {
            return Err(settings(
                "certificates are for TLS: CACHE_REDIS_CA_FILE, CACHE_REDIS_CLIENT_CERT_FILE and \
                 CACHE_REDIS_CLIENT_KEY_FILE need rediss:// or CACHE_REDIS_TLS=true",
            ));
        }
        let tls = tls.then(|| self.certificates()).transpose()?;
        Ok(Dial { info, tls })
    }

    /// Where the server is, and whether it is reached by TLS.
    fn address(&self, of_url: &ConnectionAddr) -> Result<(ConnectionAddr, bool)> {
        let (host, port, of_url_tls) = match of_url {
            ConnectionAddr::Tcp(host, port) => (host.clone(), *port, false),
            ConnectionAddr::TcpTls { insecure: true, .. } => {
                return Err(settings(
                    "#insecure is not supported: name the certificate of the server's authority by \
                     CACHE_REDIS_CA_FILE",
                ));
            }
            ConnectionAddr::TcpTls { host, port, .. } => (host.clone(), *port, true),
            ConnectionAddr::Unix(path) if self.host.is_none() && self.socket.is_none() => {
                let by_tls = self.tls == Some(true);
                return match by_tls {
                    false => Ok((ConnectionAddr::Unix(path.clone()), false)),
                    true => Err(socket_by_tls()),
                };
            }
            _ => ("127.0.0.1".to_owned(), 6379, false),
        };
        let tls = self.tls.unwrap_or(of_url_tls);
        if let Some(path) = &self.socket {
            return match tls {
                false => Ok((ConnectionAddr::Unix(path.into()), false)),
                true => Err(socket_by_tls()),
            };
        }
        let host = self.host.clone().unwrap_or(host);
        let port = self.port.unwrap_or(port);
        let address = match tls {
            true => ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            },
            false => ConnectionAddr::Tcp(host, port),
        };
        Ok((address, tls))
    }

    fn user(&self, of_url: &RedisConnectionInfo) -> Result<RedisConnectionInfo> {
        let mut user = of_url
            .clone()
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("larder", env!("CARGO_PKG_VERSION"));
        if let Some(number) = self.database {
            user = user.set_db(number.into());
        }
        if let Some(name) = &self.username {
            user = user.set_username(name);
        }
        if let Some(password) = &self.password {
            user = user.set_password(password);
        }
        if user.username().is_some() && user.password().is_none() {
            return Err(settings(
                "a user needs a password: CACHE_REDIS_USERNAME is set, and CACHE_REDIS_PASSWORD is not",
            ));
        }
        Ok(user)
    }

    fn certificates(&self) -> Result<TlsCertificates> {
        let root_cert = self
            .ca
            .as_deref()
            .map(|ca| tls::certificates(ca, "CACHE_REDIS_CA_FILE"));
        let client_tls = self.client_certificate.as_ref().map(|(certificate, key)| {
            Ok(ClientTlsConfig {
                client_cert: tls::certificates(certificate, "CACHE_REDIS_CLIENT_CERT_FILE")?,
                client_key: tls::private_key(key, "CACHE_REDIS_CLIENT_KEY_FILE")?,
            })
        });
        Ok(TlsCertificates {
            client_tls: client_tls.transpose()?,
            root_cert: root_cert.transpose()?,
        })
    }
}

/// The addresses of servers, of which there has to be one; `setting` names the variable for errors.
fn read_nodes(nodes: &[String], port: u16, setting: &'static str) -> Result<Vec<Node>> {
    let wrong = || {
        let message = format!("{setting} is host:port, or several of them with commas between");
        Error::new(ErrorKind::Settings, message)
    };
    if nodes.is_empty() {
        return Err(wrong());
    }
    let nodes = nodes
        .iter()
        .map(|node| Node::read(node, port).ok_or_else(wrong));
    nodes.collect()
}

fn socket_by_tls() -> Error {
    settings("a Unix socket has no TLS: leave out CACHE_REDIS_SOCKET or CACHE_REDIS_TLS")
}

fn settings(message: &'static str) -> Error {
    Error::new(ErrorKind::Settings, message)
}

/// Shows what was set, and neither the URL nor the password nor the key.
impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (nodes, name) = match &self.servers {
            Servers::One => (None, None),
            Servers::Cluster(nodes) => (Some(nodes), None),
            Servers::Sentinels(nodes, name) => (Some(nodes), Some(name)),
        };
        f.debug_struct("RedisBuilder")
            .field("nodes", &nodes)
            .field("sentinel_name", &name)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("socket", &self.socket)
            .field("has_read_url", &self.read_url.is_some())
            .field("reads_from_replicas", &self.reads_from_replicas)
            .field("database", &self.database)
            .field("username", &self.username)
            .field("tls", &self.tls)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}
