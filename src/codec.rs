//! Codecs: how values become bytes and come back.

#[cfg(feature = "json")]
pub(crate) mod json;
#[cfg(not(feature = "json"))]
pub(crate) mod off;

use std::fmt;

use bytes::Bytes;

use crate::Result;

#[cfg(feature = "json")]
pub use json::Json;

/// Turns values of type `T` into bytes and back.
///
/// Decoding never trusts what it reads: whatever the bytes are, it answers with a value or an
/// [`ErrorKind::Decode`](crate::ErrorKind::Decode) error, and does not panic.
pub trait Codec<T>: Send + Sync {
    /// The number that entries of this codec carry in their header.
    fn id(&self) -> CodecId;

    /// Turns a value into bytes.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Encode`](crate::ErrorKind::Encode) for a value that the format cannot hold.
    fn encode(&self, value: &T) -> Result<Bytes>;

    /// Turns bytes back into a value.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Decode`](crate::ErrorKind::Decode) for bytes that are not a `T` in this format.
    fn decode(&self, bytes: &Bytes) -> Result<T>;
}

/// The codec of an entry, as the number its header carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct CodecId(u8);

impl CodecId {
    /// Bytes of the caller's own.
    pub const RAW: Self = Self(0);
    /// JSON, by the codec [`Json`].
    pub const JSON: Self = Self(1);
    /// A stored HTTP response.
    pub const RESPONSE: Self = Self(32);
    /// The `Vary` names and variants of a URI.
    pub const VARIANTS: Self = Self(33);
    /// A counter: the decimal digits of an `i64`.
    pub const COUNTER: Self = Self(255);

    /// The number in an entry's header. 64 to 127 are free for codecs of your own.
    pub const fn as_u8(self) -> u8 {
        self.0
    }

    /// The codec with this number, known or not.
    pub const fn from_u8(id: u8) -> Self {
        Self(id)
    }
}

impl fmt::Debug for CodecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::RAW => f.write_str("raw"),
            Self::JSON => f.write_str("json"),
            Self::RESPONSE => f.write_str("response"),
            Self::VARIANTS => f.write_str("variants"),
            Self::COUNTER => f.write_str("counter"),
            Self(other) => write!(f, "codec {other}"),
        }
    }
}
