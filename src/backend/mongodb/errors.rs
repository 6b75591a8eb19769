//! From the client's errors to larder's. The server's own words stay out: it repeats the command that it refuses, with
//! keys and values.

use std::{error::Error as StdError, fmt, io};

use mongodb::error::{Error as ClientError, ErrorKind as Client, WriteFailure};

use super::{NAME, link::Link};
use crate::{Error, ErrorKind};

/// Why something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// The client says so, or the server of a whole command.
    Client(ClientError),
    /// The server says so of a part of a command.
    Server(i32),
    /// It was done, and not by as many nodes as were to.
    Unacknowledged(i32),
    /// larder itself says so.
    Ours(Error),
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Client(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

impl Failure {
    /// The number that the server gave, if it is what refused.
    pub(super) fn code(&self) -> Option<i32> {
        match self {
            Self::Client(error) => match error.kind.as_ref() {
                Client::Command(refusal) => Some(refusal.code),
                _ => None,
            },
            Self::Server(code) | Self::Unacknowledged(code) => Some(*code),
            Self::Ours(_) => None,
        }
    }

    /// Whether there is no server to be asked, as far as the client knows.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(self, Self::Client(error) if matches!(error.kind.as_ref(), Client::ServerSelection { .. }))
    }
}

impl Link {
    /// What larder says of a failure.
    pub(super) fn explain(&self, operation: &'static str, failure: impl Into<Failure>) -> Error {
        if let Err(closed) = self.open(operation) {
            return closed;
        }
        let error = match failure.into() {
            Failure::Client(error) => of_client(&error),
            Failure::Server(code) => of_server(code),
            Failure::Unacknowledged(code) => unacknowledged(code),
            Failure::Ours(error) => error,
        };
        error.on(NAME, operation)
    }
}

fn of_client(error: &ClientError) -> Error {
    let unavailable = |message| Error::new(ErrorKind::Unavailable, message);
    match error.kind.as_ref() {
        Client::Command(refusal) => of_server(refusal.code),
        Client::Write(WriteFailure::WriteError(refusal)) => of_server(refusal.code),
        Client::Write(WriteFailure::WriteConcernError(refusal)) => unacknowledged(refusal.code),
        Client::Authentication { .. } => Error::new(
            ErrorKind::Backend,
            "the server does not know this user and password: see CACHE_MONGODB_USERNAME and \
             CACHE_MONGODB_PASSWORD, or those in CACHE_MONGODB_URL, and its authSource",
        ),
        // Only these have nothing of a command in them, nor of the URL.
        Client::ServerSelection { message, .. } => {
            unavailable(unreachable(message)).caused_by(Cause(message.clone()))
        }
        Client::DnsResolve { message, .. } => {
            unavailable("the name of CACHE_MONGODB_URL cannot be resolved")
                .caused_by(Cause(message.clone()))
        }
        Client::Io(cause) if cause.kind() == io::ErrorKind::TimedOut => {
            Error::new(ErrorKind::Timeout, "the server did not answer in time")
        }
        Client::Io(cause) => {
            unavailable("the connection to the server broke").caused_by(Cause(cause.to_string()))
        }
        Client::ConnectionPoolCleared { .. } => {
            unavailable("the connection to the server broke while others were waiting for it")
        }
        Client::InvalidTlsConfig { .. } => Error::new(
            ErrorKind::Settings,
            "the files of CACHE_MONGODB_CA_FILE or CACHE_MONGODB_CLIENT_CERT_KEY_FILE cannot be used",
        ),
        Client::InvalidArgument { .. } => not_a_url(),
        Client::IncompatibleServer { .. } | Client::SessionsNotSupported => Error::new(
            ErrorKind::Unsupported,
            "the server is of a version that the client does not work with",
        ),
        Client::Shutdown => Error::new(ErrorKind::Closed, "the client was closed"),
        _ => Error::new(ErrorKind::Backend, "the client failed"),
    }
}

/// What the client's account of all servers amounts to.
fn unreachable(message: &str) -> &'static str {
    if message.contains("certificate") {
        "the server's certificate is not one that is trusted, or is of another name: see CACHE_MONGODB_CA_FILE and the \
         host in CACHE_MONGODB_URL"
    } else if message.contains("Connection refused") {
        "nobody listens there; is the server running, and is it the address of CACHE_MONGODB_URL?"
    } else if message.contains("ReplicaSetNoPrimary") {
        "the replica set has no primary at the moment"
    } else {
        "no server of CACHE_MONGODB_URL can be reached, or none that can be written to"
    }
}

fn of_server(code: i32) -> Error {
    let (kind, message) = match code {
        13 => (
            ErrorKind::Backend,
            "the user may not do this: it needs the role readWrite on the database of CACHE_MONGODB_DATABASE",
        ),
        18 => (
            ErrorKind::Backend,
            "the server does not know this user and password: see CACHE_MONGODB_USERNAME and CACHE_MONGODB_PASSWORD",
        ),
        50 | 262 => (ErrorKind::Timeout, "the server did not do it in time"),
        79 | 100 => (
            ErrorKind::Backend,
            "the w of CACHE_MONGODB_URL is more nodes than the replica set has, or a name that it does not know",
        ),
        91 | 11_600 | 11_602 => (ErrorKind::Unavailable, "the server is shutting down"),
        189 | 10_058 | 10_107 | 13_435 | 13_436 => (
            ErrorKind::Unavailable,
            "the server that was asked is not the primary any more",
        ),
        10_334 | 17_419 | 17_420 => (ErrorKind::TooLarge, "it is over 16 MB with its key"),
        14_031 => (
            ErrorKind::Backend,
            "the server has no room left on its disk",
        ),
        _ => {
            let message = format!("the server reports error {code}");
            return Error::new(ErrorKind::Backend, message);
        }
    };
    Error::new(kind, message)
}

fn unacknowledged(code: i32) -> Error {
    match code {
        64 => Error::new(
            ErrorKind::Timeout,
            "it was done, and too few nodes of the replica set said in time that they have it",
        ),
        _ => of_server(code),
    }
}

/// What the URL holds stays out: a password may stand where nobody looks for it.
pub(super) fn not_a_url() -> Error {
    Error::new(
        ErrorKind::Settings,
        "the URL is not one of MongoDB, such as mongodb://user:password@host:27017/?tls=true or \
         mongodb+srv://host (CACHE_MONGODB_URL), or an option in it is unknown or has a wrong value; in a password, \
         characters other than letters and digits are written as %40 and the like",
    )
}

/// The client's words, where they have no key, value or secret in them.
#[derive(Debug)]
struct Cause(String);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Cause {}
