//! Where servers are: `host:port`, `host`, or the path of a Unix socket.

use std::fmt;

use super::errors::settings;
use crate::Result;

/// The port where none is named.
const PORT: u16 = 11211;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp { host: String, port: u16 },
    Unix(String),
}

impl Address {
    /// One address for each of the texts with commas between.
    pub(super) fn list(text: &str) -> Result<Vec<Self>> {
        let parts = text.split(',').map(str::trim);
        let parts = parts.filter(|part| !part.is_empty());
        let list = parts.map(Self::parse).collect::<Result<Vec<_>>>()?;
        if list.is_empty() {
            return Err(settings(
                "CACHE_MEMCACHED_SERVERS names no server, such as 127.0.0.1:11211",
            ));
        }
        for (place, address) in list.iter().enumerate() {
            if list[..place].contains(address) {
                return Err(settings(format!(
                    "CACHE_MEMCACHED_SERVERS names {address} twice"
                )));
            }
        }
        Ok(list)
    }

    fn parse(text: &str) -> Result<Self> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.to_owned()));
        }
        // As several other clients write it.
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.to_owned())),
                false => Err(wrong(text)),
            };
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(|| wrong(text))?;
                (
                    host,
                    rest.strip_prefix(':').or(rest.is_empty().then_some("")),
                )
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, Some("")),
            },
        };
        let port = match port.ok_or_else(|| wrong(text))? {
            "" if !text.ends_with(':') => PORT,
            port if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().map_err(|_| wrong(text))?
            }
            _ => return Err(wrong(text)),
        };
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        if host.is_empty() || port == 0 || !host.bytes().all(is_host) {
            return Err(wrong(text));
        }
        Ok(Self::Tcp {
            host: host.to_ascii_lowercase(),
            port,
        })
    }
}

fn wrong(text: &str) -> crate::Error {
    // A URL may hold a password, where others have one.
    let shown = match text.contains('@') {
        true => String::new(),
        false => format!(" has {text:?}, which"),
    };
    settings(format!(
        "CACHE_MEMCACHED_SERVERS{shown} is not host:port or the path of a Unix socket, several with commas between; \
         an IPv6 address is in brackets"
    ))
}

/// The same for the same server, in every process: it decides which keys the server has.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_hosts_with_a_port_or_paths() {
        let list = "cache1, Cache2:11212,,10.0.0.1:1 ,[::1]:7,[fe80::1],/run/memcached.sock,unix:/a,unix:///b";
        let list = Address::list(list).unwrap();
        let texts: Vec<_> = list.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "cache1:11211",
                "cache2:11212",
                "10.0.0.1:1",
                "[::1]:7",
                "[fe80::1]:11211",
                "/run/memcached.sock",
                "/a",
                "/b"
            ]
        );
    }

    #[test]
    fn what_is_no_server_is_refused_without_a_secret() {
        for wrong in [
            "",
            " , ",
            ":11211",
            "host:",
            "host:0",
            "host:65536",
            "host:+1",
            "host:port",
            "::1",
            "[::1",
            "[::1]7",
            "unix:relative",
            "a b",
            "memcached://host",
            "host,host:11211",
            "user:s3cret@host",
        ] {
            let error = Address::list(wrong).unwrap_err().to_string();
            assert!(error.contains("CACHE_MEMCACHED_SERVERS"), "{error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }
}
