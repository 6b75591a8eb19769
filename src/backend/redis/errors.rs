//! From the client's errors to larder's. The server's own words stay out: they can hold a key, or a part of a command.

use std::{error::Error as StdError, io, sync::Arc};

use redis::{Client, ErrorKind as RedisErrorKind, RedisError, ServerError, ServerErrorKind};
use rustls::{AlertDescription, CertificateError};

use crate::{Error, ErrorKind};

/// Why a request had no answer.
pub(super) fn asking(error: &RedisError) -> Error {
    if error.is_timeout() {
        return Error::new(ErrorKind::Timeout, "the server did not answer in time");
    }
    match error.kind() {
        RedisErrorKind::Io => caused(
            ErrorKind::Unavailable,
            "the connection to the server broke",
            error,
        ),
        RedisErrorKind::Parse => Error::new(
            ErrorKind::Unavailable,
            "the connection to the server broke within an answer",
        ),
        _ => answered(error.code(), error.kind()),
    }
}

/// Whether a server refused `HELLO 3` because it does not know it: one before Redis 6, a proxy, or one where the command
/// was renamed. Some of them want a password before anything else.
pub(super) fn has_no_resp3(error: &RedisError, client: &Client) -> bool {
    if error.kind() == RedisErrorKind::RESP3NotSupported {
        return true;
    }
    match error.code() {
        Some("NOPROTO") => true,
        Some("NOAUTH") => {
            let user = client.get_connection_info().redis_settings();
            user.password().is_some()
        }
        Some("WRONGPASS") | None => false,
        Some(_) => {
            let text = error.to_string().to_ascii_lowercase();
            let of_hello = ["hello", "unknown command", "unsupported"];
            of_hello.iter().any(|words| text.contains(words))
        }
    }
}

/// Why there is no connection.
pub(super) fn connecting(error: &RedisError, tls: bool) -> Error {
    if error.is_timeout() {
        return slow_to_connect(tls);
    }
    if let Some(of_tls) = io_error(error).and_then(tls_error) {
        return refused_by_tls(of_tls);
    }
    match error.kind() {
        RedisErrorKind::Io if error.is_connection_refusal() => caused(
            ErrorKind::Unavailable,
            "nobody listens there; is the server running, and is it the address of CACHE_REDIS_URL, or of \
             CACHE_REDIS_HOST and CACHE_REDIS_PORT, or CACHE_REDIS_SOCKET?",
            error,
        ),
        RedisErrorKind::Io if error.is_connection_dropped() && !tls => caused(
            ErrorKind::Unavailable,
            "the server closed the connection instead of answering; a port with TLS needs rediss:// or \
             CACHE_REDIS_TLS=true",
            error,
        ),
        RedisErrorKind::Io => caused(
            ErrorKind::Unavailable,
            "the server cannot be reached at the address of CACHE_REDIS_URL, or of CACHE_REDIS_HOST and \
             CACHE_REDIS_PORT, or CACHE_REDIS_SOCKET",
            error,
        ),
        RedisErrorKind::InvalidClientConfig => Error::new(
            ErrorKind::Settings,
            "the certificate of CACHE_REDIS_CLIENT_CERT_FILE and the key of CACHE_REDIS_CLIENT_KEY_FILE do not belong \
             together",
        ),
        // The client says this of an answer to SELECT, whatever was wrong.
        RedisErrorKind::Server(ServerErrorKind::ResponseError)
            if error.to_string().contains("switch database") =>
        {
            Error::new(
                ErrorKind::Backend,
                "the server refuses the database of CACHE_REDIS_DATABASE, or of the path of CACHE_REDIS_URL: it has \
                 none of that number, or the user may not SELECT",
            )
        }
        RedisErrorKind::Parse => Error::new(
            ErrorKind::Backend,
            "what answers there is no Redis server; a port with TLS needs rediss:// or CACHE_REDIS_TLS=true",
        ),
        _ => answered(error.code(), error.kind()),
    }
}

pub(super) fn slow_to_connect(tls: bool) -> Error {
    let message = if tls {
        "no connection within CACHE_REDIS_CONNECT_TIMEOUT; a port without TLS is silent too when it is greeted \
         with TLS, and needs redis:// or CACHE_REDIS_TLS=false"
    } else {
        "no connection within CACHE_REDIS_CONNECT_TIMEOUT"
    };
    Error::new(ErrorKind::Timeout, message)
}

/// What the server refused.
pub(super) fn refused(error: &ServerError) -> Error {
    let kind = match error.kind() {
        Some(kind) => RedisErrorKind::Server(kind),
        None => RedisErrorKind::Extension,
    };
    answered(Some(error.code()), kind)
}

/// Why the sentinels led to no primary.
pub(super) fn sentinels(error: &RedisError, tls: bool) -> Error {
    match error.kind() {
        RedisErrorKind::MasterNameNotFoundBySentinel => Error::new(
            ErrorKind::Unavailable,
            "the sentinels know of no primary that is up; is its name that of CACHE_REDIS_SENTINEL_MASTER?",
        ),
        _ => {
            let what = connecting(error, tls);
            match what.kind() {
                ErrorKind::Unavailable | ErrorKind::Timeout => Error::new(
                    what.kind(),
                    "no sentinel of CACHE_REDIS_SENTINELS led to a primary that answers",
                )
                .caused_by(what),
                ErrorKind::Backend
                    if error.kind() == RedisErrorKind::AuthenticationFailed
                        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) =>
                {
                    Error::new(
                        ErrorKind::Backend,
                        "a sentinel or the primary refuses the user and password: see \
                         CACHE_REDIS_SENTINEL_PASSWORD for the sentinels, and CACHE_REDIS_USERNAME and \
                         CACHE_REDIS_PASSWORD for the primary",
                    )
                }
                _ => what,
            }
        }
    }
}

/// A slot that is not anybody's, as far as the nodes know.
pub(super) fn nobody_has_the_slot() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "no node of the cluster has the slot of this key",
    )
}

/// A slot whose keys are at two nodes at the moment.
pub(super) fn on_the_move() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the slot of this key is being moved to another node of the cluster",
    )
}

/// What the URL holds stays out: a password may stand where nobody looks for it.
pub(super) fn not_a_url() -> Error {
    Error::new(
        ErrorKind::Settings,
        "the URL is not one of a Redis server, such as redis://user:password@host:6379/0, rediss://host or \
         unix:///path?db=0 (CACHE_REDIS_URL); in a password, characters other than letters and digits are \
         written as %40 and the like",
    )
}

/// An answer that no server of the protocol gives.
pub(super) fn unexpected() -> Error {
    Error::new(
        ErrorKind::Backend,
        "the server's answer is not of the kind that the command has",
    )
}

fn answered(code: Option<&str>, kind: RedisErrorKind) -> Error {
    let code = code.unwrap_or_default();
    let (kind, message) = match code {
        "LOADING" => (
            ErrorKind::Unavailable,
            "the server is still loading its data",
        ),
        "MASTERDOWN" => (
            ErrorKind::Unavailable,
            "the server has no master at the moment",
        ),
        "CLUSTERDOWN" => (
            ErrorKind::Unavailable,
            "the cluster is down: too many of its nodes are away, or nobody has some of its slots",
        ),
        "TRYAGAIN" => return on_the_move(),
        "READONLY" => (
            ErrorKind::Unavailable,
            "the server is a replica, which cannot be written to",
        ),
        "BUSY" => (
            ErrorKind::Unavailable,
            "the server is busy with somebody's script",
        ),
        "NOAUTH" => (
            ErrorKind::Backend,
            "the server wants a password: set CACHE_REDIS_PASSWORD, or give one in CACHE_REDIS_URL",
        ),
        "WRONGPASS" => (
            ErrorKind::Backend,
            "the server does not know this user and password: see CACHE_REDIS_USERNAME and CACHE_REDIS_PASSWORD, \
             or those in CACHE_REDIS_URL",
        ),
        "NOPERM" => (
            ErrorKind::Backend,
            "the user may not do this: the server's ACL has to allow the keys under CACHE_KEY_PREFIX and the \
             commands that the documentation of larder::Redis names (CACHE_REDIS_USERNAME)",
        ),
        "MOVED" | "ASK" | "CROSSSLOT" => (
            ErrorKind::Backend,
            "the server is a node of a cluster: name some of its nodes by CACHE_REDIS_CLUSTER_NODES, in place of \
             CACHE_REDIS_URL",
        ),
        // It answers, and everything else works: no reason to go on without it.
        "OOM" => (
            ErrorKind::TooLarge,
            "the server is out of memory and evicts nothing: see its maxmemory and maxmemory-policy",
        ),
        "MISCONF" => (
            ErrorKind::Backend,
            "the server takes no writes because it cannot save its data; its log says why",
        ),
        "WRONGTYPE" => (
            ErrorKind::WrongType,
            "the key holds something that larder did not put there",
        ),
        _ => match kind {
            RedisErrorKind::AuthenticationFailed => return answered(Some("WRONGPASS"), kind),
            _ => (ErrorKind::Backend, "the server refused the command"),
        },
    };
    Error::new(kind, message)
}

/// The same with the operating system's words, or those of TLS, which know nothing of keys.
fn caused(kind: ErrorKind, message: &'static str, error: &RedisError) -> Error {
    let what = Error::new(kind, message);
    match io_error(error) {
        Some(cause) => what.caused_by(io::Error::new(cause.kind(), cause.to_string())),
        None => what,
    }
}

fn io_error(error: &RedisError) -> Option<&io::Error> {
    let cause: &Arc<dyn StdError + Send + Sync> = error.source()?.downcast_ref()?;
    cause.downcast_ref()
}

fn tls_error(error: &io::Error) -> Option<&rustls::Error> {
    error.get_ref()?.downcast_ref()
}

fn refused_by_tls(error: &rustls::Error) -> Error {
    use rustls::Error as Tls;
    let message = match error {
        Tls::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => {
            "the server's certificate is of an authority that this machine does not know: name its certificate by \
             CACHE_REDIS_CA_FILE"
        }
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => {
            "the server's certificate is for another host than that of CACHE_REDIS_URL or CACHE_REDIS_HOST"
        }
        Tls::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the server's certificate has expired",
        Tls::InvalidCertificate(_) => "the server's certificate is not valid",
        Tls::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => {
            "the server wants a certificate of the client: name one by CACHE_REDIS_CLIENT_CERT_FILE and \
             CACHE_REDIS_CLIENT_KEY_FILE"
        }
        Tls::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError,
        ) => "the server does not accept the certificate of CACHE_REDIS_CLIENT_CERT_FILE",
        Tls::InvalidMessage(_) => {
            "the port answers without TLS: it needs redis:// or CACHE_REDIS_TLS=false"
        }
        _ => "TLS could not be agreed on with the server",
    };
    Error::new(ErrorKind::Unavailable, message).caused_by(error.clone())
}
