use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::CodecId;
#[cfg(feature = "json")]
use super::json;
#[cfg(feature = "msgpack")]
use super::msgpack;
#[cfg(not(all(feature = "json", feature = "msgpack", feature = "postcard")))]
use super::off;
#[cfg(feature = "postcard")]
use super::postcard;
use crate::Result;

/// The format that values are kept in, as `CACHE_CODEC` names it.
///
/// The default is the first of them whose feature is on. Which to take: [`codec`](crate::codec) says what each is good
/// for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CodecKind {
    /// `json`: the codec [`Json`](crate::codec), under the feature `json`. Alias: `orjson`.
    Json,
    /// `msgpack`: the codec [`MsgPack`](crate::codec), under the feature `msgpack`. Alias: `messagepack`.
    MsgPack,
    /// `postcard`: the codec [`Postcard`](crate::codec), under the feature `postcard`.
    Postcard,
}

impl CodecKind {
    pub(crate) const ALL: [Self; 3] = [Self::Json, Self::MsgPack, Self::Postcard];

    /// The first codec that this build has.
    pub(crate) const FIRST: Option<Self> = {
        let [json, msgpack, postcard] = Self::ALL;
        if json.is_on() {
            Some(json)
        } else if msgpack.is_on() {
            Some(msgpack)
        } else if postcard.is_on() {
            Some(postcard)
        } else {
            None
        }
    };

    /// The name in settings, and of the feature.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::MsgPack => "msgpack",
            Self::Postcard => "postcard",
        }
    }

    /// Other names in settings, in lower case without hyphens.
    pub(crate) const fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Json => &["orjson"],
            Self::MsgPack => &["messagepack"],
            Self::Postcard => &[],
        }
    }

    /// Whether this build has the codec.
    pub(crate) const fn is_on(self) -> bool {
        match self {
            Self::Json => cfg!(feature = "json"),
            Self::MsgPack => cfg!(feature = "msgpack"),
            Self::Postcard => cfg!(feature = "postcard"),
        }
    }

    pub(crate) const fn id(self) -> CodecId {
        match self {
            Self::Json => CodecId::JSON,
            Self::MsgPack => CodecId::MSGPACK,
            Self::Postcard => CodecId::POSTCARD,
        }
    }

    pub(crate) fn encode<T: Serialize + ?Sized>(self, value: &T) -> Result<Bytes> {
        match self {
            #[cfg(feature = "json")]
            Self::Json => json::encode(value),
            #[cfg(feature = "msgpack")]
            Self::MsgPack => msgpack::encode(value),
            #[cfg(feature = "postcard")]
            Self::Postcard => postcard::encode(value),
            #[cfg(not(all(feature = "json", feature = "msgpack", feature = "postcard")))]
            absent => off::encode(absent, value),
        }
    }

    pub(crate) fn decode<T: DeserializeOwned>(self, bytes: &[u8]) -> Result<T> {
        match self {
            #[cfg(feature = "json")]
            Self::Json => json::decode(bytes),
            #[cfg(feature = "msgpack")]
            Self::MsgPack => msgpack::decode(bytes),
            #[cfg(feature = "postcard")]
            Self::Postcard => postcard::decode(bytes),
            #[cfg(not(all(feature = "json", feature = "msgpack", feature = "postcard")))]
            absent => off::decode(absent, bytes),
        }
    }
}

impl Default for CodecKind {
    fn default() -> Self {
        Self::FIRST.unwrap_or(Self::Json)
    }
}
