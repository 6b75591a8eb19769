//! Making a connection: the way to the server, TLS, who asks, and what kind of server it is.

use std::{io, sync::Arc};

use bytes::BytesMut;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::TlsConnector;

use super::{
    address::Address,
    errors,
    protocol::{Dialect, Malformed, Reply, Status, binary, text},
};
use crate::Result;

/// Everything that can be talked through.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// How to get to a server.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) address: Address,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) credentials: Option<Credentials>,
    pub(super) dialect: Dialect,
}

/// Who asks.
#[derive(Clone)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

/// What a server says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// The most bytes that an item takes, with its key and what the server adds.
    pub(super) item_size: Option<usize>,
    /// Whether what it says of items tells their states apart.
    has_no_cas: bool,
}

impl Route {
    pub(super) async fn connect(&self) -> Result<(Box<dyn Stream>, Facts)> {
        let is_tls = self.tls.is_some();
        let stream = self.reach().await;
        let mut stream = stream.map_err(|error| errors::connecting(error, is_tls))?;
        let facts = self.greet(&mut stream).await?;
        Ok((stream, facts))
    }

    async fn reach(&self) -> io::Result<Box<dyn Stream>> {
        let (host, port) = match &self.address {
            Address::Unix(path) => return Ok(Box::new(UnixStream::connect(path).await?)),
            Address::Tcp { host, port } => (host.as_str(), *port),
        };
        let stream = TcpStream::connect((host, port)).await?;
        // Answers are awaited one by one, so that nothing is gained by waiting for more to send.
        stream.set_nodelay(true)?;
        let Some(config) = &self.tls else {
            return Ok(Box::new(stream));
        };
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(config.clone());
        Ok(Box::new(connector.connect(name, stream).await?))
    }

    /// Says who asks, and finds out what answers.
    async fn greet(&self, stream: &mut Box<dyn Stream>) -> Result<Facts> {
        let mut input = BytesMut::new();
        if let Some(credentials) = &self.credentials {
            match self.dialect {
                Dialect::Text => self.authenticate(credentials, stream, &mut input).await?,
                Dialect::Binary => {
                    self.authenticate_by_sasl(credentials, stream, &mut input)
                        .await?
                }
            }
        }
        match self.dialect {
            Dialect::Text => self.say(stream, text::HELLO).await?,
            Dialect::Binary => self.say(stream, &binary::hello()).await?,
        }
        let mut facts = Facts::default();
        loop {
            let line = self.hear(stream, &mut input).await?;
            match line.status {
                Status::Line => facts.learn(&line),
                Status::Done => break,
                // A proxy need not know it; what it leads to has the limits that servers have by default.
                Status::Unknown => break,
                Status::Unauthenticated => return Err(errors::wants_password()),
                _ => return Err(errors::no_memcached(self.dialect)),
            }
        }
        match self.hear(stream, &mut input).await?.status {
            Status::Done if facts.has_no_cas => Err(errors::without_cas()),
            Status::Done => Ok(facts),
            Status::Unauthenticated => Err(errors::wants_password()),
            _ if self.dialect == Dialect::Binary => Err(errors::no_memcached(self.dialect)),
            _ => Err(errors::too_old()),
        }
    }

    async fn authenticate(
        &self,
        Credentials { user, password }: &Credentials,
        stream: &mut Box<dyn Stream>,
        input: &mut BytesMut,
    ) -> Result<()> {
        self.say(stream, &text::authentication(user, password))
            .await?;
        match self.hear(stream, input).await?.status {
            Status::Done => Ok(()),
            Status::Unauthenticated => Err(errors::unauthenticated()),
            _ => Err(errors::no_memcached(self.dialect)),
        }
    }

    async fn authenticate_by_sasl(
        &self,
        Credentials { user, password }: &Credentials,
        stream: &mut Box<dyn Stream>,
        input: &mut BytesMut,
    ) -> Result<()> {
        self.say(stream, &binary::authentication(user, password))
            .await?;
        let mechanisms = self.hear(stream, input).await?;
        let names = mechanisms.value.unwrap_or_default();
        let mut names = names.split(|byte| *byte == b' ');
        let knows_plain = names.any(|name| name.eq_ignore_ascii_case(binary::PLAIN));
        match (mechanisms.status, self.hear(stream, input).await?.status) {
            (Status::Unknown, _) | (_, Status::Unknown) => Err(errors::without_sasl()),
            (_, Status::Done) => Ok(()),
            (Status::Done, _) if !knows_plain => Err(errors::without_plain()),
            (_, Status::Unauthenticated) => Err(errors::unauthenticated()),
            _ => Err(errors::no_memcached(self.dialect)),
        }
    }

    async fn say(&self, stream: &mut Box<dyn Stream>, bytes: &[u8]) -> Result<()> {
        let said = async {
            stream.write_all(bytes).await?;
            stream.flush().await
        };
        said.await.map_err(|error| self.lost(error))
    }

    async fn hear(&self, stream: &mut Box<dyn Stream>, input: &mut BytesMut) -> Result<Reply> {
        loop {
            match self.dialect.read(input) {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(Malformed) => return Err(errors::no_memcached(self.dialect)),
            }
            let read = stream.read_buf(input).await;
            if read.map_err(|error| self.lost(error))? == 0 {
                return Err(errors::hung_up(self.tls.is_some(), self.dialect));
            }
        }
    }

    /// A connection that ends while it is greeted. Without TLS, one that expects it does so.
    fn lost(&self, error: io::Error) -> crate::Error {
        match error.kind() {
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => {
                errors::hung_up(self.tls.is_some(), self.dialect).caused_by(error)
            }
            _ => errors::connecting(error, self.tls.is_some()),
        }
    }
}

impl Facts {
    /// Takes note of a line of the server's settings, which are a name and a value each.
    fn learn(&mut self, line: &Reply) {
        let said = line.value.as_deref().unwrap_or_default();
        let mut words = said.splitn(2, |byte| *byte == b' ');
        let (name, value) = (words.next(), words.next().unwrap_or_default());
        match name {
            Some(b"item_size_max") => {
                let size = text::number(value).and_then(|size| usize::try_from(size).ok());
                self.item_size = size.filter(|size| *size > 0);
            }
            Some(b"cas_enabled") => self.has_no_cas = value == b"no",
            _ => {}
        }
    }
}
