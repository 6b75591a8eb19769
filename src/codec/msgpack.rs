use bytes::Bytes;
use rmp_serde::{Deserializer, decode::Error as Refusal};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Codec, CodecId, bounded};
use crate::{Error, ErrorKind, Result};

/// MessagePack by rmp-serde: like JSON, in fewer bytes, and read faster.
///
/// Structures carry the names of their fields, so a value that was written before a field was added or removed reads
/// as it does from JSON: unknown fields are passed over, and `#[serde(default)]` fills in missing ones.
///
/// Like JSON it has one null, so `Some(None)` reads as `None`. A value that nests deeper than 256 levels is written and
/// cannot be read.
///
/// # Examples
///
/// ```
/// use larder::codec::{Codec, MsgPack};
///
/// let bytes = MsgPack.encode(&vec![1, 2])?;
/// assert_eq!(bytes, [0x92, 1, 2].as_slice());
/// let value: Vec<i32> = MsgPack.decode(&bytes)?;
/// assert_eq!(value, [1, 2]);
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct MsgPack;

impl<T: Serialize + DeserializeOwned> Codec<T> for MsgPack {
    fn id(&self) -> CodecId {
        CodecId::MSGPACK
    }

    fn encode(&self, value: &T) -> Result<Bytes> {
        encode(value)
    }

    fn decode(&self, bytes: &Bytes) -> Result<T> {
        decode(bytes)
    }
}

pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes> {
    rmp_serde::to_vec_named(value)
        .map(Bytes::from)
        .map_err(|error| {
            let message = "the value cannot be written as MessagePack";
            Error::new(ErrorKind::Encode, message).caused_by(error)
        })
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    // serde's messages quote the input ("invalid type: string \"…\""), so the cause is left out.
    let refused = |message: &'static str| Error::new(ErrorKind::Decode, message);
    let mut rest = Deserializer::from_read_ref(bytes);
    let value = bounded::read(&mut rest, bytes.len())
        .map_err(|_| refused("the stored MessagePack is not of the type asked for"))?;
    // The decoder does not say where it is. A flag begins with the one byte that is its marker, whatever that is.
    match bool::deserialize(&mut rest) {
        Err(Refusal::InvalidMarkerRead(_)) => Ok(value),
        _ => Err(refused("something follows the stored MessagePack")),
    }
}
