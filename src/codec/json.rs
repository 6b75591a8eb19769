use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Codec, CodecId};
use crate::{Error, ErrorKind, Result};

/// JSON by serde_json: readable by everything, the default.
///
/// JSON has one null, so `Some(None)` reads as `None`; a float that is not finite is written as null. All other floats
/// come back as they were.
///
/// # Examples
///
/// ```
/// use larder::codec::{Codec, Json};
///
/// let bytes = Json.encode(&vec![1, 2])?;
/// assert_eq!(bytes, "[1,2]");
/// let value: Vec<i32> = Json.decode(&bytes)?;
/// assert_eq!(value, [1, 2]);
/// # Ok::<(), larder::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl<T: Serialize + DeserializeOwned> Codec<T> for Json {
    fn id(&self) -> CodecId {
        CodecId::JSON
    }

    fn encode(&self, value: &T) -> Result<Bytes> {
        encode(value)
    }

    fn decode(&self, bytes: &Bytes) -> Result<T> {
        decode(bytes)
    }
}

pub(super) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| {
        Error::new(ErrorKind::Encode, "the value cannot be written as JSON").caused_by(error)
    })
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|error| {
        // serde_json quotes the input in some messages ("invalid type: string \"…\""), so only the place is kept.
        let place = format!(
            "the stored JSON is not of the type asked for (line {}, column {})",
            error.line(),
            error.column()
        );
        Error::new(ErrorKind::Decode, place)
    })
}
