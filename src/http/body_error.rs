use std::{error::Error, fmt};

/// An error of any type.
pub(super) type BoxError = Box<dyn Error + Send + Sync>;

/// Why a [`CacheBody`](crate::CacheBody) broke off. What was read of it is not the whole.
///
/// The error of an inner service's body is the [`source`](Error::source) of this one, for the client whose own request
/// brought that body. Those who shared it learn only that it broke off, or that they read it too slowly for the others.
///
/// # Examples
///
/// ```
/// use std::error::Error;
/// use larder::BodyError;
///
/// fn log(error: &BodyError) {
///     match error.source() {
///         Some(cause) => eprintln!("the handler's body failed: {cause}"),
///         None => eprintln!("{error}"),
///     }
/// }
/// ```
#[derive(Debug)]
pub struct BodyError(Option<BoxError>);

impl BodyError {
    pub(super) fn inner(error: impl Into<BoxError>) -> Self {
        Self(Some(error.into()))
    }

    pub(super) fn broken_off() -> Self {
        Self(None)
    }

    /// The error of the inner service's body; `None` when the body was that of another request.
    pub fn into_inner(self) -> Option<Box<dyn Error + Send + Sync>> {
        self.0
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "the inner service's body failed",
            None => "the body shared with another request broke off",
        })
    }
}

impl Error for BodyError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&**self.0.as_ref()?)
    }
}
