use std::{fmt, sync::Arc, time::Duration};

use super::{
    Memcached, NAME, Shared,
    address::Address,
    connecting::{Credentials, Route},
    errors::settings,
    link::Link,
    node::Node,
    protocol::Dialect,
    ring::Ring,
    tls,
};
use crate::Result;

/// How long connecting may take, where nobody says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long one of several servers is waited for, where nobody says otherwise.
const SERVER_TIMEOUT: Duration = Duration::from_millis(100);

/// A single server is waited for as long as the cache waits for its backend, so nothing is decided by its silence but
/// when the connection is given up.
const SILENCE: Duration = Duration::from_secs(1);

/// Sets up a [`Memcached`] backend.
///
/// # Examples
///
/// ```no_run
/// # async fn example() -> larder::Result<()> {
/// use std::time::Duration;
/// use larder::Memcached;
///
/// let memcached = Memcached::builder("cache1.example:11211,cache2.example:11211")
///     .username("shop")
///     .password("correct horse battery staple")
///     .tls(true)
///     .ca("/etc/ssl/private-ca.pem")
///     .connect_timeout(Duration::from_secs(2))
///     .connect()
///     .await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it connects"]
pub struct MemcachedBuilder {
    servers: String,
    username: Option<String>,
    password: Option<String>,
    binary_protocol: bool,
    tls: bool,
    ca: Option<String>,
    client_certificate: Option<(String, String)>,
    connect_timeout: Duration,
    server_timeout: Duration,
    split_large_values: bool,
}

impl MemcachedBuilder {
    pub(super) fn new(servers: String) -> Self {
        Self {
            servers,
            username: None,
            password: None,
            binary_protocol: false,
            tls: false,
            ca: None,
            client_certificate: None,
            connect_timeout: CONNECT_TIMEOUT,
            server_timeout: SERVER_TIMEOUT,
            split_large_values: true,
        }
    }

    /// The user, as the servers' authentication file (`-Y`) has it, or for SASL (`-S`) their `saslpasswd2`. It goes with a
    /// password.
    pub fn username(mut self, name: impl Into<String>) -> Self {
        self.username = Some(name.into());
        self
    }

    /// The user's password. Without TLS it goes over the network as it is.
    pub fn password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Whether the servers are spoken to by the binary protocol, in place of the meta commands of the text protocol; `false`
    /// where nobody says. It is for servers with SASL (`-S`), which speak no other: the user and the password are told them
    /// by SASL PLAIN. What it costs is [told of the backend](Memcached#the-binary-protocol-and-sasl).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> larder::Result<()> {
    /// use larder::Memcached;
    ///
    /// let memcached = Memcached::builder("cache1.example,cache2.example")
    ///     .binary_protocol(true)
    ///     .username("shop")
    ///     .password("correct horse battery staple")
    ///     .connect()
    ///     .await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn binary_protocol(mut self, on: bool) -> Self {
        self.binary_protocol = on;
        self
    }

    /// Whether the connections are by TLS (`-Z`). It needs [`ca`](Self::ca).
    pub fn tls(mut self, on: bool) -> Self {
        self.tls = on;
        self
    }

    /// The certificates of the authorities that the servers' may be of: as PEM, or the path of a file with them, such as
    /// the system's own `/etc/ssl/certs/ca-certificates.crt`.
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

    /// How long connecting to a server may take, with the name's resolution, TLS and the password; 5 seconds where nobody
    /// says. It goes on for so long in the background, also when nobody waits any more.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long one of several servers may take for a verb before it counts as away and its keys as misses; 100
    /// milliseconds where nobody says. It should be well below the time-out of the cache, which is for all of them
    /// together. With one server it means nothing.
    pub fn server_timeout(mut self, timeout: Duration) -> Self {
        self.server_timeout = timeout;
        self
    }

    /// Whether a value over the server's limit for an item (`-I`, a mebibyte by default) is put into several items, up to
    /// sixteen times as long; `true` where nobody says. It takes one more round trip to read, and is a miss when any of
    /// its parts was evicted. Otherwise such a value is not kept.
    pub fn split_large_values(mut self, on: bool) -> Self {
        self.split_large_values = on;
        self
    }

    /// Connects, and sees to it that the servers answer. With several, one is enough: the others are away until they
    /// come, and the log says so.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) for an address that is none, a file that cannot be read, and
    /// certificates without TLS; [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) and
    /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) where no server can be reached;
    /// [`ErrorKind::Backend`](crate::ErrorKind::Backend) where the user is refused, and
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a server that is older than 1.6, and for one that is
    /// to be told a user by SASL and does not take it.
    pub async fn connect(self) -> Result<Memcached> {
        let memcached = self.connect_lazily()?;
        let answer = memcached.0.meet().await;
        answer.map_err(|error| error.on(NAME, "connect"))?;
        Ok(memcached)
    }

    /// A backend that contacts nobody yet, and connects when it is first used.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) as for [`connect`](Self::connect).
    pub fn connect_lazily(self) -> Result<Memcached> {
        let nodes = self.nodes().map_err(|error| error.on(NAME, "connect"))?;
        Ok(nodes)
    }

    fn nodes(self) -> Result<Memcached> {
        let addresses = Address::list(&self.servers)?;
        let credentials = self.credentials()?;
        let tls = self.tls_config(&addresses)?;
        let silence = match addresses.len() {
            1 => SILENCE,
            _ => self.server_timeout,
        };
        let node = |address: &Address| {
            let route = Route {
                address: address.clone(),
                tls: tls.clone(),
                credentials: credentials.clone(),
                dialect: match self.binary_protocol {
                    true => Dialect::Binary,
                    false => Dialect::Text,
                },
            };
            let link = Link::new(route, self.connect_timeout, silence);
            let splits = self.split_large_values;
            Arc::new(Node::new(link, self.server_timeout, splits))
        };
        Ok(Memcached(Arc::new(Shared {
            ring: Ring::new(&addresses),
            nodes: addresses.iter().map(node).collect(),
        })))
    }

    fn credentials(&self) -> Result<Option<Credentials>> {
        let (user, password) = match (&self.username, &self.password) {
            (None, None) => return Ok(None),
            (Some(user), Some(password)) => (user.clone(), password.clone()),
            _ => {
                return Err(settings(
                    "a user and a password go together: one of CACHE_MEMCACHED_USERNAME and \
                     CACHE_MEMCACHED_PASSWORD is not set",
                ));
            }
        };
        if self.binary_protocol {
            // Both are texts of any letters, with a zero between.
            for (text, setting) in [
                (&user, "CACHE_MEMCACHED_USERNAME"),
                (&password, "CACHE_MEMCACHED_PASSWORD"),
            ] {
                if text.is_empty() || text.contains('\0') {
                    return Err(settings(format!("{setting} is empty, or has a zero byte")));
                }
            }
            return Ok(Some(Credentials { user, password }));
        }
        // The server takes what comes before the first space for the name.
        let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b':';
        if user.is_empty() || !user.bytes().all(is_plain) {
            return Err(settings(
                "CACHE_MEMCACHED_USERNAME is empty, or has a space, a colon or something beyond ASCII",
            ));
        }
        if password.bytes().any(|byte| byte.is_ascii_control()) {
            return Err(settings("CACHE_MEMCACHED_PASSWORD has a control character"));
        }
        Ok(Some(Credentials { user, password }))
    }

    fn tls_config(&self, addresses: &[Address]) -> Result<Option<Arc<rustls::ClientConfig>>> {
        if !self.tls {
            return match self.ca.is_some() || self.client_certificate.is_some() {
                false => Ok(None),
                true => Err(settings(
                    "certificates are for TLS: CACHE_MEMCACHED_CA_FILE, CACHE_MEMCACHED_CLIENT_CERT_FILE and \
                     CACHE_MEMCACHED_CLIENT_KEY_FILE need CACHE_MEMCACHED_TLS=true",
                )),
            };
        }
        if addresses.iter().any(|it| matches!(it, Address::Unix(_))) {
            return Err(settings(
                "a Unix socket has no TLS: leave it out of CACHE_MEMCACHED_SERVERS, or leave out CACHE_MEMCACHED_TLS",
            ));
        }
        let ca = self.ca.as_deref().ok_or_else(|| {
            settings(
                "TLS needs the authorities to trust: set CACHE_MEMCACHED_CA_FILE, for public ones to the system's own \
                 file, such as /etc/ssl/certs/ca-certificates.crt",
            )
        })?;
        let client = self.client_certificate.as_ref();
        let client = client.map(|(certificate, key)| (certificate.as_str(), key.as_str()));
        tls::config(ca, client).map(Some)
    }
}

/// Shows what was set, and neither the password nor the key.
impl fmt::Debug for MemcachedBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Something that is no list of servers may have a password in it.
        let servers = Address::list(&self.servers).ok();
        f.debug_struct("MemcachedBuilder")
            .field("servers", &servers)
            .field("username", &self.username)
            .field("binary_protocol", &self.binary_protocol)
            .field("tls", &self.tls)
            .field("connect_timeout", &self.connect_timeout)
            .field("server_timeout", &self.server_timeout)
            .field("split_large_values", &self.split_large_values)
            .finish_non_exhaustive()
    }
}
