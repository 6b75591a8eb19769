//! The one error type of the crate.

use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

/// A `Result` whose error is larder's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, in a form that code can match on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is missing, malformed or contradicts another.
    Settings,
    /// The backend, or this build of the crate, cannot do what was asked.
    Unsupported,
    /// The backend could not be reached.
    Unavailable,
    /// The backend did not answer in time.
    Timeout,
    /// A value could not be turned into bytes.
    Encode,
    /// Stored bytes could not be turned into the value asked for.
    Decode,
    /// A counter was read as a value, or a value was used as a counter.
    WrongType,
    /// A key or a value is over the backend's limit, or over the room that is left there.
    TooLarge,
    /// A counter would leave the range of `i64`.
    Overflow,
    /// A tag is empty or longer than 256 bytes, or an entry would have more than 64 of them.
    InvalidTag,
    /// The cache was closed before the call.
    Closed,
    /// The backend reported something else.
    Backend,
}

/// An error of the cache, its settings or its backend.
///
/// The type is opaque and cheap to clone; [`kind`](Self::kind) is what code matches on, [`source`](StdError::source)
/// leads to the client library's own error. The message says what to fix and never contains a key, a value or a secret.
///
/// # Examples
///
/// ```
/// use larder::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Timeout, "no answer within 250 ms").on("redis", "get");
/// assert_eq!(error.kind(), ErrorKind::Timeout);
/// assert_eq!(error.to_string(), "redis get: no answer within 250 ms");
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    place: Option<(Cow<'static, str>, &'static str)>,
    message: Cow<'static, str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind` with a message: lower-case, without a full stop, without secrets.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Arc::new(Inner {
            kind,
            place: None,
            message: message.into(),
            source: None,
        }))
    }

    /// The same error, saying which backend and which of its operations failed.
    #[must_use]
    pub fn on(mut self, backend: impl Into<Cow<'static, str>>, operation: &'static str) -> Self {
        Arc::make_mut(&mut self.0).place = Some((backend.into(), operation));
        self
    }

    /// The same error with the error that caused it, found again through [`source`](StdError::source).
    #[must_use]
    pub fn caused_by(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        Arc::make_mut(&mut self.0).source = Some(Arc::new(source));
        self
    }

    /// An [`ErrorKind::Unsupported`] error for an operation that `backend` does not have.
    pub fn unsupported(backend: impl Into<Cow<'static, str>>, operation: &'static str) -> Self {
        Self::new(
            ErrorKind::Unsupported,
            "this backend cannot do it; see its capabilities()",
        )
        .on(backend, operation)
    }

    /// What went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether the backend, rather than the call, is the trouble.
    pub(crate) fn is_outage(&self) -> bool {
        use ErrorKind::{Backend, Timeout, Unavailable};
        matches!(self.kind(), Unavailable | Timeout | Backend)
    }

    /// The backend that failed, if the error came from one.
    pub fn backend(&self) -> Option<&str> {
        self.0.place.as_ref().map(|(backend, _)| backend.as_ref())
    }

    /// The backend's operation that failed, if the error came from one.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.place.as_ref().map(|(_, operation)| *operation)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((backend, operation)) = &self.0.place {
            write!(f, "{backend} {operation}: ")?;
        }
        f.write_str(&self.0.message)
    }
}

/// As a person reads it, because `main` prints errors this way: the message as it is, and the causes behind it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}
