//! From the client's errors to larder's.

use aerospike::{ErrorKind as Client, ResultCode};

use super::connection::Connection;
use crate::{Error, ErrorKind};

/// Why something was not done.
pub(super) enum Failure {
    /// The server, or the client on the way there, says so.
    Client(aerospike::Error),
    /// larder itself says so.
    Ours(Error),
}

impl From<aerospike::Error> for Failure {
    fn from(error: aerospike::Error) -> Self {
        Self::Client(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}

/// Whether the server refused because of what is under the key.
pub(super) fn is_refusal(error: &aerospike::Error) -> bool {
    matches!(
        error.server_result_code(),
        Some(ResultCode::KeyNotFoundError | ResultCode::KeyExistsError | ResultCode::FilteredOut)
    )
}

/// Whether so many write to one record that the server turned this one away, without having done anything.
pub(super) fn is_busy(error: &aerospike::Error) -> bool {
    error.server_result_code() == Some(ResultCode::KeyBusy)
}

pub(super) fn is_too_large(error: &aerospike::Error) -> bool {
    error.server_result_code() == Some(ResultCode::RecordTooBig)
}

/// Whether the namespace has no room for any write. It still removes records.
pub(super) fn is_full(error: &aerospike::Error) -> bool {
    error.server_result_code() == Some(ResultCode::ServerMemError)
}

impl Connection {
    /// What larder says of a failure.
    pub(super) fn explain(&self, operation: &'static str, failure: impl Into<Failure>) -> Error {
        // After close() the client says that it knows no namespace.
        if let Err(closed) = self.open(operation) {
            return closed;
        }
        let error = match failure.into() {
            Failure::Client(error) => self.translate(error),
            Failure::Ours(error) => error,
        };
        error.on("aerospike", operation)
    }

    fn translate(&self, error: aerospike::Error) -> Error {
        let (kind, mut message) = match error.server_result_code() {
            Some(code) => self.of_server(code),
            None => self.of_client(&error),
        };
        if error.in_doubt() {
            message.push_str("; it may have been done all the same");
        }
        Error::new(kind, message).caused_by(error)
    }

    fn of_server(&self, code: ResultCode) -> (ErrorKind, String) {
        let namespace = self.namespace();
        let unavailable = |message: &str| (ErrorKind::Unavailable, message.to_owned());
        let other = |message: String| (ErrorKind::Backend, message);
        match code {
            ResultCode::FailForbidden => other(format!(
                "the server forbids it (error 22), as it does with every TTL where nothing removes what has expired: \
                 set nsup-period of the namespace {namespace:?} to more than 0 in the server's configuration"
            )),
            // It answers, and everything else works: no reason to go on without it.
            ResultCode::ServerMemError => (
                ErrorKind::TooLarge,
                format!(
                    "the namespace {namespace:?} is full and stops writes (error 8): give it more room, or let it evict"
                ),
            ),
            ResultCode::Timeout => (
                ErrorKind::Timeout,
                "the server did not do it in time".to_owned(),
            ),
            ResultCode::KeyBusy => (
                ErrorKind::Timeout,
                "too many write to this key at once (error 14)".to_owned(),
            ),
            ResultCode::DeviceOverload => unavailable("the server's devices are overloaded"),
            ResultCode::PartitionUnavailable => {
                unavailable("the cluster has no node for this key yet (error 11)")
            }
            ResultCode::RecordTooBig => (
                ErrorKind::TooLarge,
                format!("it is over max-record-size of the namespace {namespace:?}"),
            ),
            ResultCode::BinTypeError => (
                ErrorKind::WrongType,
                "the key holds a value, not a counter".to_owned(),
            ),
            ResultCode::InvalidNamespace => other(format!(
                "the cluster has no namespace {namespace:?} (CACHE_AEROSPIKE_NAMESPACE)"
            )),
            ResultCode::SecurityNotSupported | ResultCode::SecurityNotEnabled => (
                ErrorKind::Settings,
                "the server knows no users (Community Edition never does): unset CACHE_AEROSPIKE_USER"
                    .to_owned(),
            ),
            ResultCode::InvalidUser
            | ResultCode::InvalidPassword
            | ResultCode::ExpiredPassword
            | ResultCode::InvalidCredential
            | ResultCode::NotAuthenticated
            | ResultCode::RoleViolation => other(format!(
                "the server refuses this user (error {}); see CACHE_AEROSPIKE_USER and CACHE_AEROSPIKE_PASSWORD",
                u8::from(code)
            )),
            code => other(format!("the server reports error {}", u8::from(code))),
        }
    }

    fn of_client(&self, error: &aerospike::Error) -> (ErrorKind, String) {
        let mut causes = std::iter::successors(Some(error), |error| error.cause());
        let lost = causes.any(|cause| {
            matches!(
                cause.kind(),
                Client::Connection
                    | Client::Io(_)
                    | Client::InvalidNode
                    | Client::NoMoreConnections
                    | Client::ConnectionPoolEmpty
                    | Client::MaxErrorRate
            )
        });
        match error.kind() {
            _ if lost => (
                ErrorKind::Unavailable,
                "the connection to the node is lost or cannot be made".to_owned(),
            ),
            Client::Timeout => {
                let limit = self.timeout();
                (ErrorKind::Timeout, format!("no answer within {limit:?}"))
            }
            // The client says so too when it knows no node at all.
            Client::InvalidNamespace if self.is_connected() => {
                self.of_server(ResultCode::InvalidNamespace)
            }
            Client::InvalidNamespace => (
                ErrorKind::Unavailable,
                "no node of the cluster can be reached".to_owned(),
            ),
            _ => (ErrorKind::Backend, "the client failed".to_owned()),
        }
    }
}
