//! The value of `Age`.

use bytes::Bytes;
use http::HeaderValue;

/// Ages up to this many seconds are slices of one static text and cost no allocation.
const TABLE: usize = 1000;

static DIGITS: [u8; TABLE * 3] = {
    let mut digits = [0; TABLE * 3];
    let mut number = 0;
    while number < TABLE {
        digits[number * 3] = b'0' + (number / 100) as u8;
        digits[number * 3 + 1] = b'0' + (number / 10 % 10) as u8;
        digits[number * 3 + 2] = b'0' + (number % 10) as u8;
        number += 1;
    }
    digits
};

pub(super) fn age_value(age: u32) -> HeaderValue {
    let number = age as usize;
    if number >= TABLE {
        return HeaderValue::from(age);
    }
    let leading_zeros = usize::from(number < 100) + usize::from(number < 10);
    let digits = &DIGITS[number * 3 + leading_zeros..number * 3 + 3];
    match HeaderValue::from_maybe_shared(Bytes::from_static(digits)) {
        Ok(value) => value,
        Err(_) => HeaderValue::from(age),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_written_in_decimal_digits() {
        for age in [0, 1, 9, 10, 99, 100, 101, 999, 1000, u32::MAX] {
            assert_eq!(age_value(age), age.to_string());
        }
    }
}
