//! `Vary`: which fields of the request a response was chosen by, and how their values are told apart (RFC 9111 §4.1).

mod normalise;

use http::{HeaderMap, HeaderName, header};

use super::text::tokens;

pub(crate) use normalise::Buffer;

/// More names than this, and a response is taken to vary by everything.
const MAX_FIELDS: usize = 16;

/// What a response says that it varies by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Vary {
    /// Nothing.
    None,
    /// Things that cannot be named, so that no stored response answers another request. Names that are not names and
    /// too many names are read as this too.
    Star,
    /// These request fields: sorted, each once.
    Fields(Vec<HeaderName>),
}

impl Vary {
    /// Reads every line of `Vary` as one list.
    pub(crate) fn parse(headers: &HeaderMap) -> Self {
        // Most responses have none, and looking at each name costs less than looking for this one.
        if !headers.keys().any(|name| *name == header::VARY) {
            return Self::None;
        }
        let mut fields = Vec::new();
        for token in tokens(headers, &header::VARY) {
            // `*` is a name by the grammar of names.
            let Ok(name) = HeaderName::from_bytes(token) else {
                return Self::Star;
            };
            if name == "*" {
                return Self::Star;
            }
            if let Err(at) =
                fields.binary_search_by(|known: &HeaderName| known.as_str().cmp(name.as_str()))
            {
                if fields.len() == MAX_FIELDS {
                    return Self::Star;
                }
                fields.insert(at, name);
            }
        }
        if fields.is_empty() {
            Self::None
        } else {
            Self::Fields(fields)
        }
    }
}

/// Writes down what a request has in `fields`, in a form that no other selection by the same fields has, to be hashed.
///
/// Values are preceded by their lengths, and an absent field differs from an empty one. Values that mean the
/// same are written as the same: lines combined, white space around commas left out, and for `Accept`, `Accept-Encoding`
/// and `Accept-Language` also order, letter case and the spelling of weights. `Cookie` and `Authorization` are taken
/// as they are; the hash of them is to be a keyed one.
pub(crate) fn select(fields: &[HeaderName], request: &HeaderMap, into: &mut Buffer) {
    for name in fields {
        let mut lines = request.get_all(name).iter();
        let Some(first) = lines.next() else {
            into.push(0);
            continue;
        };
        into.push(1);
        let first = first.as_bytes();
        let is_single = lines.next().is_none();
        if *name == header::ACCEPT
            || *name == header::ACCEPT_ENCODING
            || *name == header::ACCEPT_LANGUAGE
        {
            normalise::preferences(&normalise::combine(request, name, b", "), into);
        } else if *name == header::AUTHORIZATION {
            feed(&normalise::combine(request, name, b", "), into);
        } else if *name == header::COOKIE {
            // RFC 9113 §8.2.3: a cookie field that was split is one again with this between.
            feed(&normalise::combine(request, name, b"; "), into);
        } else if is_single && !first.contains(&b',') {
            feed(super::text::trim(first), into);
        } else {
            feed(
                &normalise::list(&normalise::combine(request, name, b", ")),
                into,
            );
        }
    }
}

/// Copies what a request has in `fields` as it is, in a form that no other has.
pub(crate) fn copy(fields: &[HeaderName], request: &HeaderMap, into: &mut Buffer) {
    for name in fields {
        for line in request.get_all(name) {
            into.push(1);
            feed(line.as_bytes(), into);
        }
        into.push(0);
    }
}

/// Writes bytes down behind their length.
pub(crate) fn feed(bytes: &[u8], into: &mut Buffer) {
    into.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    into.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests;
