//! Every error of this backend. A server's own words stay out: they can hold a key.

use std::io;

use rustls::{AlertDescription, CertificateError};

use super::protocol::{Dialect, Status};
use crate::{Error, ErrorKind};

/// The connection was there, and broke.
pub(super) fn broken(cause: io::Error) -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the connection to the server broke before it had answered",
    )
    .caused_by(cause)
}

pub(super) fn closed_by_server() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the server closed the connection before it had answered",
    )
}

pub(super) fn silent() -> Error {
    Error::new(ErrorKind::Timeout, "the server did not answer in time")
}

pub(super) fn out_of_step() -> Error {
    Error::new(
        ErrorKind::Unavailable,
        "the server's answer is not one of memcached's, and the connection was given up",
    )
}

/// An answer that is not of the kind that the command has.
pub(super) fn unexpected() -> Error {
    Error::new(
        ErrorKind::Backend,
        "the server's answer is not of the kind that the command has",
    )
}

pub(super) fn restless() -> Error {
    Error::new(
        ErrorKind::Backend,
        "the namespace is cleared faster than it can be used, or the server has no room for the 8 bytes of its marker",
    )
}

pub(super) fn contended() -> Error {
    Error::new(
        ErrorKind::Backend,
        "others changed the key at every attempt",
    )
}

pub(super) fn no_room() -> Error {
    Error::new(
        ErrorKind::TooLarge,
        "the server is out of memory and evicts nothing: see its options -m and -M",
    )
}

/// An answer by which something was not done.
pub(super) fn refused(status: Status) -> Error {
    match status {
        Status::NoRoom => no_room(),
        Status::TooLarge => Error::new(
            ErrorKind::TooLarge,
            "the value is over the server's limit for an item: see its option -I",
        ),
        Status::NotANumber => {
            Error::new(ErrorKind::WrongType, "the key holds a value, not a counter")
        }
        Status::Unauthenticated => unauthenticated(),
        Status::Failed => Error::new(
            ErrorKind::Backend,
            "the server says that it could not do it",
        ),
        _ => unexpected(),
    }
}

pub(super) fn unauthenticated() -> Error {
    Error::new(
        ErrorKind::Backend,
        "the server does not know this user and password: see CACHE_MEMCACHED_USERNAME and \
         CACHE_MEMCACHED_PASSWORD",
    )
}

/// Why there is no connection.
pub(super) fn connecting(cause: io::Error, tls: bool) -> Error {
    if let Some(of_tls) = cause.get_ref().and_then(|it| it.downcast_ref()) {
        return refused_by_tls(of_tls);
    }
    let message = match cause.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => {
            "nobody listens there; is the server running, and is it the address of CACHE_MEMCACHED_SERVERS?"
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset if tls => {
            "the server closed the connection instead of agreeing on TLS; a port without it needs \
             CACHE_MEMCACHED_TLS=false"
        }
        _ => "the server cannot be reached at the address of CACHE_MEMCACHED_SERVERS",
    };
    Error::new(ErrorKind::Unavailable, message).caused_by(cause)
}

/// The connection was made, and closed instead of an answer.
pub(super) fn hung_up(tls: bool, dialect: Dialect) -> Error {
    let message = match (tls, dialect) {
        (true, _) => {
            "the server closed the connection instead of answering; it may want a certificate of the client \
             (CACHE_MEMCACHED_CLIENT_CERT_FILE), be spoken to by the wrong protocol (CACHE_MEMCACHED_PROTOCOL), or have too \
             many connections (its option -c)"
        }
        (false, Dialect::Text) => {
            "the server closed the connection instead of answering; a port with TLS needs CACHE_MEMCACHED_TLS=true, a \
             server with SASL (-S) CACHE_MEMCACHED_PROTOCOL=binary, and one that has too many connections its option -c"
        }
        (false, Dialect::Binary) => {
            "the server closed the connection instead of answering; a port with TLS needs CACHE_MEMCACHED_TLS=true, a \
             server of text alone CACHE_MEMCACHED_PROTOCOL=meta, and one that has too many connections its option -c"
        }
    };
    Error::new(ErrorKind::Unavailable, message)
}

pub(super) fn slow_to_connect(tls: bool, dialect: Dialect) -> Error {
    let message = match (tls, dialect) {
        (true, Dialect::Text) => {
            "no connection within CACHE_MEMCACHED_CONNECT_TIMEOUT; a port without TLS is silent too when it is \
             greeted with TLS, and needs CACHE_MEMCACHED_TLS=false; and so is a server with SASL (-S), which needs \
             CACHE_MEMCACHED_PROTOCOL=binary"
        }
        (true, Dialect::Binary) => {
            "no connection within CACHE_MEMCACHED_CONNECT_TIMEOUT; a port without TLS is silent too when it is \
             greeted with TLS, and needs CACHE_MEMCACHED_TLS=false; and so is a server with a file of passwords (-Y), \
             which needs CACHE_MEMCACHED_PROTOCOL=meta"
        }
        (false, Dialect::Text) => {
            "no connection within CACHE_MEMCACHED_CONNECT_TIMEOUT; a server with SASL (-S) is silent too, because it \
             speaks the binary protocol alone: it needs CACHE_MEMCACHED_PROTOCOL=binary"
        }
        (false, Dialect::Binary) => {
            "no connection within CACHE_MEMCACHED_CONNECT_TIMEOUT; a server with a file of passwords (-Y) is silent \
             too, because it speaks text alone: it needs CACHE_MEMCACHED_PROTOCOL=meta"
        }
    };
    Error::new(ErrorKind::Timeout, message)
}

pub(super) fn no_memcached(dialect: Dialect) -> Error {
    let message = match dialect {
        Dialect::Text => {
            "what answers there is no memcached; a port with TLS needs CACHE_MEMCACHED_TLS=true"
        }
        Dialect::Binary => {
            "what answers there does not speak memcached's binary protocol; a server of text alone needs \
             CACHE_MEMCACHED_PROTOCOL=meta, and a port with TLS CACHE_MEMCACHED_TLS=true"
        }
    };
    Error::new(ErrorKind::Backend, message)
}

pub(super) fn without_sasl() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the server has no SASL, so there is nothing to tell a user and a password to: start it with -S, or leave \
         out CACHE_MEMCACHED_USERNAME and CACHE_MEMCACHED_PASSWORD",
    )
}

pub(super) fn without_plain() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the server does not take SASL PLAIN, by which CACHE_MEMCACHED_USERNAME and CACHE_MEMCACHED_PASSWORD are \
         told: see mech_list in its memcached.conf",
    )
}

pub(super) fn too_old() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the server does not know meta commands: it is older than memcached 1.6, or a proxy without them",
    )
}

pub(super) fn without_cas() -> Error {
    Error::new(
        ErrorKind::Unsupported,
        "the server was started with -C, which switches off the cas that larder needs",
    )
}

pub(super) fn wants_password() -> Error {
    Error::new(
        ErrorKind::Backend,
        "the server wants to know who asks: set CACHE_MEMCACHED_USERNAME and CACHE_MEMCACHED_PASSWORD",
    )
}

pub(super) fn settings(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Settings, message)
}

fn refused_by_tls(error: &rustls::Error) -> Error {
    use rustls::Error as Tls;
    let message = match error {
        Tls::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature,
        ) => "the server's certificate is of none of the authorities of CACHE_MEMCACHED_CA_FILE",
        Tls::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another host than that of CACHE_MEMCACHED_SERVERS",
        Tls::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the server's certificate has expired",
        Tls::InvalidCertificate(_) => "the server's certificate is not valid",
        Tls::AlertReceived(
            AlertDescription::CertificateRequired | AlertDescription::HandshakeFailure,
        ) => {
            "the server wants a certificate of the client: name one by CACHE_MEMCACHED_CLIENT_CERT_FILE and \
             CACHE_MEMCACHED_CLIENT_KEY_FILE"
        }
        Tls::AlertReceived(
            AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError,
        ) => "the server does not accept the certificate of CACHE_MEMCACHED_CLIENT_CERT_FILE",
        Tls::InvalidMessage(_) => {
            "the port answers without TLS: it needs CACHE_MEMCACHED_TLS=false"
        }
        _ => "TLS could not be agreed on with the server",
    };
    Error::new(ErrorKind::Unavailable, message).caused_by(error.clone())
}
