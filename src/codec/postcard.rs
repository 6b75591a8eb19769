use bytes::Bytes;
use postcard::Deserializer;
use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, CodecId, bounded};
use crate::{Error, ErrorKind, Result};

/// postcard: the fewest bytes, and nothing in them but the values of fields, one after the other.
///
/// The bytes do not say what they are. **Reading them as another type may succeed with nonsense**: a pair of numbers
/// reads as any other pair, and after a field was added, removed or moved, old values are misread or are misses. Give
/// keys a version, or [`clear`](crate::Cache::clear) when a type changes; or use `MsgPack`, which survives that.
///
/// What asks the bytes for their type cannot be used: serde's `untagged`, `tag`, `flatten` and `skip_serializing_if`,
/// and types such as `serde_json::Value`. A value that nests deeper than 256 levels, or has more than 65,536 elements
/// that take no bytes such as `()`, is written and cannot be read.
///
/// # Examples
///
/// ```
/// use larder::codec::{Codec, Postcard};
///
/// let bytes = Postcard.encode(&(String::from("Ada"), 36))?;
/// assert_eq!(bytes, b"\x03Ada\x48".as_slice());
/// let value: (String, i32) = Postcard.decode(&bytes)?;
/// assert_eq!(value, (String::from("Ada"), 36));
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Postcard;

impl<T: Serialize + DeserializeOwned> Codec<T> for Postcard {
    fn id(&self) -> CodecId {
        CodecId::POSTCARD
    }

    fn encode(&self, value: &T) -> Result<Bytes> {
        encode(value)
    }

    fn decode(&self, bytes: &Bytes) -> Result<T> {
        decode(bytes)
    }
}

pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes> {
    postcard::to_stdvec(value)
        .map(Bytes::from)
        .map_err(|error| {
            let message = "the value cannot be written as postcard";
            Error::new(ErrorKind::Encode, message).caused_by(error)
        })
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    let refused = |error| {
        let message = "the stored postcard is not of the type asked for";
        Error::new(ErrorKind::Decode, message).caused_by(error)
    };
    let mut rest = Deserializer::from_bytes(bytes);
    let value = bounded::read(&mut rest, bytes.len()).map_err(refused)?;
    match rest.finalize().map_err(refused)? {
        [] => Ok(value),
        _ => {
            let message = "something follows the stored postcard";
            Err(Error::new(ErrorKind::Decode, message))
        }
    }
}
