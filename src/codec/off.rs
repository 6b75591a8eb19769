//! Stands in for codecs whose features are off.

use bytes::Bytes;

use super::CodecKind;
use crate::{Error, ErrorKind, Result};

pub(super) fn encode<T: ?Sized>(kind: CodecKind, _: &T) -> Result<Bytes> {
    Err(refusal(kind))
}

pub(super) fn decode<T>(kind: CodecKind, _: &[u8]) -> Result<T> {
    Err(refusal(kind))
}

fn refusal(kind: CodecKind) -> Error {
    let message = match CodecKind::FIRST {
        Some(_) => format!(
            "the codec {0} needs the feature \"{0}\" of larder, which is off in this build",
            kind.name()
        ),
        None => String::from(
            "this build of larder has no codec for values; switch its feature \"json\", \"msgpack\" or \"postcard\" on",
        ),
    };
    Error::new(ErrorKind::Unsupported, message)
}
