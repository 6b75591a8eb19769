//! An independent reading of RFC 9111, and exchanges to hold the layer against it: plain and slow, and without a line of
//! the crate.

#![allow(
    dead_code,
    unused_imports,
    reason = "every test file uses a part of it"
)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod dice;
mod rules;

pub(crate) use dice::Dice;
pub(crate) use rules::{Exchange, Verdict, directives, lines, may_reuse};

/// Field lines in their order.
pub(crate) type Fields = Vec<(String, String)>;

pub(crate) fn borrowed(fields: &Fields) -> Vec<(&str, &str)> {
    fields
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect()
}
