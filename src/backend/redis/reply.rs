//! Answers of the server, taken apart.

use bytes::Bytes;
use redis::Value;

use super::errors;
use crate::{Error, ErrorKind, Result};

/// The elements of an array.
pub(super) fn array(value: Value) -> Result<Vec<Value>> {
    match value {
        Value::Array(values) => Ok(values),
        Value::ServerError(error) => Err(errors::refused(&error)),
        _ => Err(errors::unexpected()),
    }
}

/// A string as the server holds it, without a copy; `None` where there is none.
pub(super) fn bytes(value: Value) -> Result<Option<Bytes>> {
    match value {
        Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
        Value::Nil => Ok(None),
        Value::ServerError(error) => Err(errors::refused(&error)),
        _ => Err(errors::unexpected()),
    }
}

/// The bytes of an entry; something else than a string or a hash under its key is damage.
pub(super) fn entry(value: Value) -> Result<Option<Bytes>> {
    bytes(value).map_err(|error| match error.kind() {
        ErrorKind::WrongType => Error::new(
            ErrorKind::Decode,
            "the key on the server holds something that larder did not put there",
        ),
        _ => error,
    })
}

/// The milliseconds that are left, as of a key or of one field.
pub(super) fn ttl(value: &Value) -> Result<i64> {
    match value {
        Value::Array(of_field) if of_field.len() == 1 => integer(&of_field[0]),
        value => integer(value),
    }
}

pub(super) fn integer(value: &Value) -> Result<i64> {
    match value {
        Value::Int(number) => Ok(*number),
        Value::ServerError(error) => Err(errors::refused(error)),
        _ => Err(errors::unexpected()),
    }
}

/// A number of how many there were, as of keys removed.
pub(super) fn any(value: &Value) -> Result<bool> {
    integer(value).map(|count| count > 0)
}

/// Whether a `SET` or `HSETEX` was carried out; `NX` or `FNX` may forbid it.
pub(super) fn was_set(value: &Value) -> Result<bool> {
    match value {
        Value::Okay | Value::Int(1) => Ok(true),
        Value::Nil | Value::Int(0) => Ok(false),
        Value::ServerError(error) => Err(errors::refused(error)),
        _ => Err(errors::unexpected()),
    }
}

/// The number that a string holds.
pub(super) fn number(value: &Value) -> Option<i64> {
    match value {
        Value::BulkString(digits) => digits_of(digits),
        _ => None,
    }
}

/// The number that these bytes write as the server does: no sign but a minus, no zero in front, no space.
pub(super) fn digits_of(bytes: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(bytes).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == bytes).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_server_writes_is_a_number() {
        for number in [0, 7, -7, i64::MIN, i64::MAX] {
            assert_eq!(digits_of(number.to_string().as_bytes()), Some(number));
        }
        for text in [
            "",
            "-",
            "+7",
            "07",
            " 7",
            "7 ",
            "-0",
            "7.0",
            "9223372036854775808",
        ] {
            assert_eq!(digits_of(text.as_bytes()), None, "{text:?}");
        }
    }
}
