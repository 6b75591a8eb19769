//! Bytes of field values: optional white space, lists, quoted strings and numbers.
//!
//! Everything works on bytes, because a field value may hold any byte above 127.

use http::{HeaderMap, HeaderName};

/// RFC 9111 §1.2.2: a cache that cannot represent a number of seconds takes it for 2^31.
pub(super) const MAX_SECONDS: u32 = 1 << 31;

const fn is_ows(byte: &u8) -> bool {
    matches!(*byte, b' ' | b'\t')
}

/// `bytes` without the optional white space around them (RFC 9110 §5.6.3).
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_ows(byte));
    let end = bytes.iter().rposition(|byte| !is_ows(byte));
    match (start, end) {
        (Some(start), Some(end)) => &bytes[start..=end],
        _ => &[],
    }
}

/// A non-negative number of seconds: digits only, leading zeros allowed, saturating at [`MAX_SECONDS`].
pub(super) fn delta_seconds(digits: impl IntoIterator<Item = u8>) -> Option<u32> {
    let mut seconds = None;
    for byte in digits {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        let so_far: u32 = seconds.unwrap_or(0);
        seconds = Some(so_far.saturating_mul(10).saturating_add(digit));
    }
    seconds.map(|seconds| seconds.min(MAX_SECONDS))
}

/// The length of the quoted string at the start of `bytes`, quotes included; `None` when it has no end.
///
/// A backslash takes the byte after it along (RFC 9110 §5.6.4).
pub(super) fn quoted_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// What quoted text stands for, without its escapes.
pub(super) fn unescape(quoted: &[u8]) -> impl Iterator<Item = u8> {
    let mut bytes = quoted.iter().copied();
    std::iter::from_fn(move || match bytes.next() {
        Some(b'\\') => bytes.next(),
        byte => byte,
    })
}

/// The members of a list, trimmed; commas inside quoted strings do not divide. Empty members are there too.
pub(super) fn members(list: &[u8]) -> impl Iterator<Item = &[u8]> {
    split(list, b',')
}

/// The parts between `separator`s, trimmed; those inside quoted strings do not divide.
///
/// A quoted string without an end reaches to the end of the text.
pub(super) fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut at = 0;
        while let Some(&byte) = text.get(at) {
            match byte {
                b'"' => at += quoted_len(&text[at..]).unwrap_or(text.len() - at),
                _ if byte == separator => break,
                _ => at += 1,
            }
        }
        rest = text.get(at + 1..);
        Some(trim(&text[..at]))
    })
}

/// The members of a list of tokens that several field lines may make up (RFC 9110 §5.3), without empty ones.
pub(super) fn tokens<'a>(
    headers: &'a HeaderMap,
    name: &HeaderName,
) -> impl Iterator<Item = &'a [u8]> {
    let lines = headers.get_all(name).into_iter();
    lines
        .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
        .map(trim)
        .filter(|token| !token.is_empty())
}

/// The weight of `q=…` in thousandths; what is malformed is not wanted.
pub(super) fn quality(parameter: &[u8]) -> Option<u16> {
    let parameter = trim(parameter);
    let (name, value) = parameter.split_at(parameter.iter().position(|&byte| byte == b'=')?);
    if !trim(name).eq_ignore_ascii_case(b"q") {
        return None;
    }
    let value = trim(&value[1..]);
    let (whole, rest) = value.split_first()?;
    let digits = match rest.split_first() {
        None => &[][..],
        Some((b'.', digits)) if digits.len() <= 3 => digits,
        Some(_) => return Some(0),
    };
    let is_number = digits.iter().all(u8::is_ascii_digit);
    let thousandths = [100, 10, 1].iter().zip(digits);
    let fraction: u16 = thousandths
        .map(|(unit, digit)| unit * u16::from(digit.wrapping_sub(b'0') % 10))
        .sum();
    Some(match whole {
        b'0' if is_number => fraction,
        b'1' if is_number && fraction == 0 => 1_000,
        _ => 0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_are_digits_and_saturate() {
        let read = |text: &str| delta_seconds(text.bytes());
        assert_eq!(read("0"), Some(0));
        assert_eq!(read("003600"), Some(3600));
        assert_eq!(read("2147483647"), Some(2_147_483_647));
        for huge in [
            "2147483648",
            "2147483649",
            "99999999999",
            "18446744073709551616",
        ] {
            assert_eq!(read(huge), Some(MAX_SECONDS), "{huge}");
        }
        for wrong in [
            "", "-1", "+1", "1.0", "a1", "1a", " 1", "'1'", "0x1", "1;a=b",
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn commas_in_quoted_strings_do_not_divide() {
        let read = |text: &'static str| members(text.as_bytes()).collect::<Vec<_>>();
        assert_eq!(read("a , \"b, c\" ,d"), [&b"a"[..], b"\"b, c\"", b"d"]);
        assert_eq!(read(r#""a\", b", c"#), [&br#""a\", b""#[..], b"c"]);
        assert_eq!(read("a, \"b, c"), [&b"a"[..], b"\"b, c"]);
        assert_eq!(read(",a,"), [&b""[..], b"a", b""]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes: Vec<u8>) {
            members(&bytes).for_each(drop);
            unescape(&bytes).for_each(drop);
            let _ = (trim(&bytes), quoted_len(&bytes), delta_seconds(bytes.iter().copied()));
        }
    }
}
