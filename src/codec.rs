//! Codecs: how values become bytes and come back.
//!
//! `CACHE_CODEC` or [`CacheBuilder::codec`](crate::CacheBuilder::codec) chooses one of these for the values of a cache;
//! each has a feature of its name.
//!
//! | Codec | `CACHE_CODEC` | Take it |
//! |---|---|---|
//! | `Json` | `json` | where people or other programs read what is stored |
//! | `MsgPack` | `msgpack` | where space and time count and types change |
//! | `Postcard` | `postcard` | where space counts most, and a change of a type comes with new keys |
//!
//! An entry remembers its codec. After a change of `CACHE_CODEC` what was stored before is a miss, and is replaced by the
//! next `put` or load.

#[cfg(any(feature = "msgpack", feature = "postcard"))]
mod bounded;
#[cfg(feature = "json")]
mod json;
mod kind;
#[cfg(feature = "msgpack")]
mod msgpack;
#[cfg(not(all(feature = "json", feature = "msgpack", feature = "postcard")))]
mod off;
#[cfg(feature = "postcard")]
mod postcard;

use std::fmt;

use bytes::Bytes;

use crate::Result;

#[cfg(feature = "json")]
pub use json::Json;
pub use kind::CodecKind;
#[cfg(feature = "msgpack")]
pub use msgpack::MsgPack;
#[cfg(feature = "postcard")]
pub use postcard::Postcard;

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
    /// JSON, by the codec `Json`.
    pub const JSON: Self = Self(1);
    /// MessagePack, by the codec `MsgPack`.
    pub const MSGPACK: Self = Self(2);
    /// postcard, by the codec `Postcard`.
    pub const POSTCARD: Self = Self(3);
    /// A stored HTTP response.
    pub const RESPONSE: Self = Self(32);
    /// The `Vary` names and variants of a URI.
    pub const VARIANTS: Self = Self(33);
    /// The marker of a tag.
    pub const MARKER: Self = Self(34);
    /// The tags of a namespace that were invalidated last.
    pub const TAG_LOG: Self = Self(35);
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
            Self::MSGPACK => f.write_str("msgpack"),
            Self::POSTCARD => f.write_str("postcard"),
            Self::RESPONSE => f.write_str("response"),
            Self::VARIANTS => f.write_str("variants"),
            Self::MARKER => f.write_str("marker"),
            Self::TAG_LOG => f.write_str("tag log"),
            Self::COUNTER => f.write_str("counter"),
            Self(other) => write!(f, "codec {other}"),
        }
    }
}
