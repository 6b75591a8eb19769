//! Divides one line of `Cache-Control` into directives.

use crate::http::text::{delta_seconds, quoted_len, trim, unescape};

/// One member of the list: a name, and what follows its `=`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Directive<'a> {
    pub(super) name: &'a [u8],
    pub(super) value: Value<'a>,
}

/// RFC 9111 §5.2: recipients ought to accept the token and the quoted form of every argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    None,
    Token(&'a [u8]),
    /// What stands between the quotes, escapes included.
    Quoted(&'a [u8]),
    /// White space around the `=`, or something behind the closing quote.
    Malformed,
}

impl<'a> Directive<'a> {
    pub(super) fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    pub(super) fn seconds(&self) -> Option<u32> {
        match self.value {
            Value::Token(token) => delta_seconds(token.iter().copied()),
            Value::Quoted(quoted) => delta_seconds(unescape(quoted)),
            Value::None | Value::Malformed => None,
        }
    }
}

/// The directives of one field line. Empty members are skipped.
#[derive(Clone, Debug)]
pub(super) struct Directives<'a> {
    rest: &'a [u8],
    /// Whether a quoted string without an end was met. Its text is then read as more directives, so that a restriction
    /// in it is not overlooked.
    pub(super) is_broken: bool,
}

impl<'a> Directives<'a> {
    pub(super) fn new(line: &'a [u8]) -> Self {
        Self {
            rest: line,
            is_broken: false,
        }
    }

    /// Takes everything up to the first byte that `ends` accepts, without looking into quoted strings.
    fn take_until(&mut self, ends: impl Fn(u8) -> bool) -> &'a [u8] {
        let mut at = 0;
        while let Some(&byte) = self.rest.get(at) {
            if ends(byte) {
                break;
            }
            at += if byte == b'"' {
                self.quoted(at).unwrap_or(1)
            } else {
                1
            };
        }
        let (taken, rest) = self.rest.split_at(at);
        self.rest = rest;
        taken
    }

    fn quoted(&mut self, at: usize) -> Option<usize> {
        // A quote behind one without an end was escaped there, so the text behind it was looked through already.
        if self.is_broken {
            return None;
        }
        let len = quoted_len(&self.rest[at..]);
        self.is_broken = len.is_none();
        len
    }
}

impl<'a> Iterator for Directives<'a> {
    type Item = Directive<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let name = self.take_until(|byte| byte == b'=' || byte == b',');
            let value = if let Some(after) = self.rest.strip_prefix(b"=") {
                self.rest = after;
                let value = self.take_until(|byte| byte == b',');
                match (value.first(), name.last()) {
                    (Some(b' ' | b'\t'), _) | (_, Some(b' ' | b'\t')) => Value::Malformed,
                    (Some(b'"'), _) => quoted(trim(value)),
                    _ => Value::Token(trim(value)),
                }
            } else {
                Value::None
            };
            let is_last = self.rest.is_empty();
            self.rest = self.rest.get(1..).unwrap_or_default();
            let name = trim(name);
            if !name.is_empty() {
                return Some(Directive { name, value });
            }
            if is_last {
                return None;
            }
        }
    }
}

fn quoted(value: &[u8]) -> Value<'_> {
    match quoted_len(value) {
        Some(len) if len == value.len() => Value::Quoted(&value[1..len - 1]),
        _ => Value::Malformed,
    }
}
