use std::{convert::Infallible, net::SocketAddr};

use axum::{extract::Request, response::Response};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::Service;

/// Serves on a free port of this machine for as long as the test runs.
pub(crate) async fn serve<M, S>(make: M) -> SocketAddr
where
    M: for<'a> Service<
            axum::serve::IncomingStream<'a, TcpListener>,
            Error = Infallible,
            Response = S,
            Future: Send,
        > + Send
        + 'static,
    S: Service<Request, Response = Response, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, make).await.unwrap() });
    address
}

/// A connection of HTTP/1.1, in plain text.
pub(crate) struct Wire {
    stream: TcpStream,
    unread: String,
}

impl Wire {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            unread: String::new(),
        }
    }

    /// Sends a request without a body; `fields` are whole lines.
    pub(crate) async fn ask(&mut self, line: &str, fields: &[&str]) {
        let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
        let text = format!("{line} HTTP/1.1\r\nHost: test.example\r\n{fields}\r\n");
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Reads up to this text and returns what was before it.
    pub(crate) async fn until(&mut self, text: &str) -> String {
        loop {
            if let Some((before, after)) = self.unread.split_once(text) {
                let before = before.to_owned();
                self.unread = after.to_owned();
                return before;
            }
            assert!(self.more().await, "the connection ended: {:?}", self.unread);
        }
    }

    /// The head of a response: its lines, lower-cased.
    pub(crate) async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await.to_ascii_lowercase() + "\r\n"
    }

    /// Exactly so many bytes.
    pub(crate) async fn bytes(&mut self, count: usize) -> String {
        while self.unread.len() < count {
            assert!(self.more().await, "the connection ended: {:?}", self.unread);
        }
        let rest = self.unread.split_off(count);
        std::mem::replace(&mut self.unread, rest)
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(mut self) -> String {
        while self.more().await {}
        self.unread
    }

    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.unread
                    .push_str(std::str::from_utf8(&buffer[..count]).unwrap());
                true
            }
        }
    }
}
