//! Stands in for the codec of values when no feature brings one.

use bytes::Bytes;

use crate::{Error, ErrorKind, Result};

pub(crate) fn encode<T: ?Sized>(_: &T) -> Result<Bytes> {
    Err(Error::new(ErrorKind::Unsupported, OFF))
}

pub(crate) fn decode<T>(_: &[u8]) -> Result<T> {
    Err(Error::new(ErrorKind::Unsupported, OFF))
}

const OFF: &str = "this build of larder has no codec for values; switch its feature `json` on";
