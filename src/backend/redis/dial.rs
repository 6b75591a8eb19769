//! Where servers are, and how they are greeted.

use std::fmt;

use redis::{
    Client, ConnectionAddr, ConnectionInfo, ProtocolVersion, TlsCertificates,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

use super::{errors, tls};
use crate::{Error, ErrorKind, Result};

/// The address of a server on a network.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Node {
    pub(super) host: String,
    pub(super) port: u16,
}

impl Node {
    /// From `host:port`, or a host alone; an IPv6 address is in brackets where a port follows.
    pub(super) fn read(text: &str, port: u16) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, digits)) if !host.contains(':') || host.ends_with(']') => {
                (host, digits.parse().ok().filter(|port| *port > 0)?)
            }
            _ => (text, port),
        };
        let host = host
            .strip_prefix('[')
            .map_or(host, |rest| rest.trim_end_matches(']'));
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-._:%".contains(letter);
        let fine = !host.is_empty() && host.chars().all(plain);
        fine.then(|| Self {
            host: host.to_owned(),
            port,
        })
    }
}

/// Shown as `host:port`; addresses are no secrets.
impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// How servers are greeted, wherever they are: user, database, TLS and its certificates.
#[derive(Clone)]
pub(super) struct Dial {
    /// With the address of the server, where there is one alone.
    pub(super) info: ConnectionInfo,
    pub(super) tls: Option<TlsCertificates>,
}

impl Dial {
    /// A client of the server that the settings name.
    pub(super) fn client(&self) -> Result<Client> {
        self.open(self.info.clone())
    }

    /// A client of another server, which is greeted in the same way.
    pub(super) fn client_of(&self, node: &Node) -> Result<Client> {
        self.open(self.info.clone().set_addr(self.address(node)))
    }

    fn address(&self, node: &Node) -> ConnectionAddr {
        match self.tls {
            Some(_) => ConnectionAddr::TcpTls {
                host: node.host.clone(),
                port: node.port,
                insecure: false,
                tls_params: None,
            },
            None => ConnectionAddr::Tcp(node.host.clone(), node.port),
        }
    }

    fn open(&self, info: ConnectionInfo) -> Result<Client> {
        let Some(certificates) = &self.tls else {
            return Client::open(info).map_err(|_| errors::not_a_url());
        };
        tls::provide();
        Client::build_with_tls(info, certificates.clone()).map_err(|_| {
            Error::new(
                ErrorKind::Settings,
                "the certificates of CACHE_REDIS_CA_FILE or CACHE_REDIS_CLIENT_CERT_FILE cannot be used",
            )
        })
    }
}

/// A client of the same server that greets it as servers were greeted before `HELLO` was known.
pub(super) fn by_resp2(client: &Client) -> Result<Client> {
    let info = client.get_connection_info().clone();
    let user = info.redis_settings().clone();
    let info = info.set_redis_settings(user.set_protocol(ProtocolVersion::RESP2));
    // What is known of TLS is in the address.
    Client::open(info).map_err(|_| errors::not_a_url())
}

/// Where a connection is made to.
#[derive(Clone)]
pub(super) enum Way {
    /// The one server that there is.
    Server(Client),
    /// A replica of it; in a cluster it has to be told that it may answer.
    Replica { client: Client, of_cluster: bool },
    /// Whichever server is the primary, as sentinels know, or one of its replicas.
    Sentinels(Sentinels),
}

impl Way {
    /// A client of the server that is to be asked now.
    pub(super) async fn client(&self) -> Result<Client> {
        match self {
            Self::Server(client) | Self::Replica { client, .. } => Ok(client.clone()),
            Self::Sentinels(sentinels) => sentinels.server().await,
        }
    }

    pub(super) fn has_tls(&self) -> bool {
        match self {
            Self::Server(client) | Self::Replica { client, .. } => {
                let address = client.get_connection_info().addr();
                matches!(address, ConnectionAddr::TcpTls { .. })
            }
            Self::Sentinels(sentinels) => sentinels.dial.tls.is_some(),
        }
    }
}

/// Those who know which server is the primary of a name, and how they are asked.
#[derive(Clone)]
pub(super) struct Sentinels {
    pub(super) nodes: Vec<Node>,
    pub(super) name: String,
    pub(super) username: Option<String>,
    pub(super) password: Option<String>,
    /// How the primary is greeted; sentinels have TLS if it does.
    pub(super) dial: Dial,
    /// Whether they are asked for a replica.
    pub(super) of_replicas: bool,
}

impl Sentinels {
    /// Asks the sentinels, several at once, for a primary or a replica that says of itself that it is one.
    async fn server(&self) -> Result<Client> {
        // A client for each question: what it would remember is of no use after a fail-over.
        let mut client = self.client().map_err(|_| errors::not_a_url())?;
        let found = client.async_get_client().await;
        let found = found.map_err(|error| errors::sentinels(&error, self.dial.tls.is_some()))?;
        let node = match found.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => Node {
                host: host.clone(),
                port: *port,
            },
            _ => return Err(errors::unexpected()),
        };
        self.dial.client_of(&node)
    }

    fn client(&self) -> redis::RedisResult<SentinelClient> {
        let nodes = self.nodes.iter().map(|node| self.dial.address(node));
        let kind = match self.of_replicas {
            true => SentinelServerType::Replica,
            false => SentinelServerType::Master,
        };
        let user = self.dial.info.redis_settings();
        let mut builder = SentinelClientBuilder::new(nodes, &self.name, kind)?
            // They are asked for their role and no more, which every server answers like this.
            .set_client_to_redis_protocol(ProtocolVersion::RESP2);
        if let Some(name) = user.username() {
            builder = builder.set_client_to_redis_username(name);
        }
        if let Some(password) = user.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(name) = &self.username {
            builder = builder.set_client_to_sentinel_username(name);
        }
        if let Some(password) = &self.password {
            builder = builder.set_client_to_sentinel_password(password);
        }
        if let Some(certificates) = &self.dial.tls {
            tls::provide();
            builder = builder
                .set_client_to_redis_tls_mode(redis::TlsMode::Secure)
                .set_client_to_redis_certificates(certificates.clone())
                .set_client_to_sentinel_tls_mode(redis::TlsMode::Secure)
                .set_client_to_sentinel_certificates(certificates.clone());
        }
        builder.build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_are_hosts_with_ports() {
        for (text, expected) in [
            ("cache.example:7000", "cache.example:7000"),
            ("10.0.0.7", "10.0.0.7:6379"),
            ("[::1]:7000", "[::1]:7000"),
            ("::1", "[::1]:6379"),
            ("[::1]", "[::1]:6379"),
        ] {
            let node = Node::read(text, 6379).map(|node| format!("{node:?}"));
            assert_eq!(node.as_deref(), Some(expected), "{text}");
        }
        for text in [
            "",
            ":7000",
            "host:",
            "host:0",
            "host:70000",
            "redis://host",
            "a b:1",
            "u@h",
        ] {
            assert!(Node::read(text, 6379).is_none(), "{text}");
        }
    }
}
