//! How to get to a server, as far as that is the same for all of them.

use super::{Dialect, tls};
use crate::{Error, ErrorKind, Result};

/// What a builder was told.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) url: String,
    pub(super) password: Option<String>,
    pub(super) tls: Option<bool>,
    pub(super) ca: Option<String>,
    pub(super) client_certificate: Option<(String, String)>,
}

/// How far the server is to prove that it is the right one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// There is no TLS.
    Nothing,
    /// A certificate of a known authority.
    Authority,
    /// One for the name of the host too.
    Host,
}

/// Certificates and key, as PEM.
#[derive(Default)]
pub(super) struct Pems {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl Server {
    pub(super) fn new(url: String) -> Self {
        Self {
            url,
            password: None,
            tls: None,
            ca: None,
            client_certificate: None,
        }
    }

    /// How much proof the URL and the builder ask for. The client library would be content with less.
    pub(super) fn proof(&self, dialect: Dialect) -> Result<Proof> {
        let settings = dialect.settings();
        let of_url = match self.mode_of_url() {
            None => None,
            Some(mode) => Some(match mode.as_str() {
                "disable" | "disabled" => Proof::Nothing,
                "verify-ca" | "verify_ca" => Proof::Authority,
                // A server that proves nothing could be anybody's.
                "require" | "required" | "verify-full" | "verify_full" | "verify_identity" => {
                    Proof::Host
                }
                _ => {
                    return Err(wrong(format!(
                        "the sslmode of {settings}_URL is neither with TLS nor without: say require, verify-ca or disable"
                    )));
                }
            }),
        };
        let proof = match (self.tls, of_url) {
            (Some(false), _) => Proof::Nothing,
            (Some(true), None | Some(Proof::Nothing)) => Proof::Host,
            (_, Some(proof)) => proof,
            (None, None) => Proof::Nothing,
        };
        if proof == Proof::Nothing && (self.ca.is_some() || self.client_certificate.is_some()) {
            return Err(wrong(format!(
                "certificates are for TLS: {settings}_CA_FILE, {settings}_CLIENT_CERT_FILE and \
                 {settings}_CLIENT_KEY_FILE need {settings}_TLS=true"
            )));
        }
        Ok(proof)
    }

    fn mode_of_url(&self) -> Option<String> {
        let (_, query) = self.url.split_once('?')?;
        let mode = query.split('&').rfind(|pair| is_mode(pair))?;
        let (_, mode) = mode.split_once('=')?;
        Some(mode.to_ascii_lowercase())
    }

    /// The URL without what it says of TLS, for which the servers have words of their own.
    pub(super) fn bare_url(&self) -> String {
        let Some((start, query)) = self.url.split_once('?') else {
            return self.url.clone();
        };
        let rest: Vec<_> = query.split('&').filter(|pair| !is_mode(pair)).collect();
        format!("{start}?{}", rest.join("&"))
    }

    pub(super) fn pems(&self, dialect: Dialect) -> Result<Pems> {
        let settings = dialect.settings();
        let ca = self
            .ca
            .as_deref()
            .map(|ca| tls::certificates(ca, &format!("{settings}_CA_FILE")));
        let client = self.client_certificate.as_ref().map(|(certificate, key)| {
            let certificate =
                tls::certificates(certificate, &format!("{settings}_CLIENT_CERT_FILE"))?;
            let key = tls::private_key(key, &format!("{settings}_CLIENT_KEY_FILE"))?;
            Ok::<_, Error>((certificate, key))
        });
        Ok(Pems {
            ca: ca.transpose()?,
            client: client.transpose()?,
        })
    }

    /// What the URL holds stays out: a password may stand where nobody looks for it.
    pub(super) fn not_a_url(dialect: Dialect, example: &str) -> Error {
        wrong(format!(
            "the URL is not one of such a server, as {example} ({}_URL); in a password, characters other than letters \
             and digits are written as %40 and the like, or it is given beside the URL",
            dialect.settings()
        ))
    }
}

fn is_mode(pair: &str) -> bool {
    let name = pair.split('=').next();
    matches!(name, Some("sslmode" | "ssl-mode"))
}

fn wrong(message: String) -> Error {
    Error::new(ErrorKind::Settings, message)
}

/// What the builders for servers have in common: they keep it in a field `server`.
macro_rules! server_methods {
    ($settings:literal) => {
        #[doc = concat!("The user's password, to the letter: unlike in a URL, nothing has to be escaped (`", $settings, "_PASSWORD`).")]
        pub fn password(mut self, password: impl Into<String>) -> Self {
            self.server.password = Some(password.into());
            self
        }

        #[doc = concat!("Whether the connection is by TLS, whatever the URL says (`", $settings, "_TLS`).")]
        ///
        /// The server then has to show a certificate of a known authority, for the name of its host; only `verify-ca`
        /// in the URL does without the name.
        pub fn tls(mut self, on: bool) -> Self {
            self.server.tls = Some(on);
            self
        }

        #[doc = concat!("The certificates of the authorities that the server's certificate may be of, beside those that this machine knows: as PEM, or the path of a file with them (`", $settings, "_CA_FILE`).")]
        pub fn ca(mut self, pem_or_path: impl Into<String>) -> Self {
            self.server.ca = Some(pem_or_path.into());
            self
        }

        #[doc = concat!("The certificate that the client shows, and its private key: as PEM, or the paths of files with them (`", $settings, "_CLIENT_CERT_FILE`, `", $settings, "_CLIENT_KEY_FILE`).")]
        pub fn client_certificate(
            mut self,
            certificate: impl Into<String>,
            key: impl Into<String>,
        ) -> Self {
            self.server.client_certificate = Some((certificate.into(), key.into()));
            self
        }

        #[doc = concat!("How long connecting may take, with the name's resolution, TLS and the password, and how long a call waits for a connection that is free; 5 seconds by default (`", $settings, "_CONNECT_TIMEOUT`).")]
        pub fn connect_timeout(mut self, timeout: std::time::Duration) -> Self {
            self.common.connect_timeout = timeout;
            self
        }

        /// Connects, and sees to it that the database has the tables.
        ///
        /// Call it on the runtime that lives as long as the cache: the sweeper runs there.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) as for [`connect_lazily`](Self::connect_lazily), and for
        /// tables that are missing under [`Migrate::Check`](crate::Migrate::Check) or of a later version of larder;
        /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) and
        /// [`ErrorKind::Timeout`](crate::ErrorKind::Timeout) where the server cannot be reached;
        /// [`ErrorKind::Backend`](crate::ErrorKind::Backend) where it refuses the user or the database.
        pub async fn connect(self) -> crate::Result<Backend> {
            let backend = self.connect_lazily()?;
            match backend.0.named(backend.0.ping().await, "connect") {
                Ok(()) => Ok(backend),
                Err(error) => {
                    let _ = backend.0.close().await;
                    Err(error)
                }
            }
        }

        /// A backend that contacts nobody yet, and connects when it is first used.
        ///
        /// Call it on the runtime that lives as long as the cache: the sweeper runs there.
        ///
        /// # Errors
        ///
        /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) for a URL that is none, a file that cannot be read,
        /// certificates without TLS, and the name of a table that is none.
        pub fn connect_lazily(self) -> crate::Result<Backend> {
            let options = self.options().map_err(|error| error.on(DIALECT.name(), "connect"))?;
            let common = &self.common;
            let pool = Pool::<Database>::new(DIALECT, options, common.pool_size, common.connect_timeout, SILENCE);
            let sql = Sql::new(DIALECT, Box::new(pool), common, MAX_VALUE_LEN)?;
            Ok(Backend(sql))
        }
    };
}

pub(super) use server_methods;
