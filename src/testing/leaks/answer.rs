//! An answer, read to its end, and how answers are compared.

use std::{collections::BTreeSet, fmt};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName,
    header::{AGE, CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    /// 0 where the service failed; the body is its error then.
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// What says how an answer came about and how it is sent, and nothing of what it is.
const NOT_COMPARED: [HeaderName; 6] = [
    AGE,
    CACHE_STATUS,
    CONNECTION,
    CONTENT_LENGTH,
    DATE,
    TRANSFER_ENCODING,
];

/// What is made anew for one visitor, and must never be seen with two.
pub(super) const PERSONAL: [HeaderName; 5] = [
    http::header::SET_COOKIE,
    HeaderName::from_static("x-csrf-token"),
    HeaderName::from_static("x-xsrf-token"),
    HeaderName::from_static("x-auth-token"),
    HeaderName::from_static("x-session-id"),
];

impl Answer {
    pub(super) fn failed(error: String) -> Self {
        Self {
            body: error.into(),
            ..Self::default()
        }
    }

    /// Whether a cache says that it answered: by `Cache-Status` (RFC 9211 §2.1), or by an `Age` without it.
    pub(super) fn is_hit(&self) -> bool {
        let mut told = self.headers.get_all(CACHE_STATUS).iter().peekable();
        match told.peek() {
            None => self.headers.contains_key(AGE),
            Some(_) => told.any(|line| {
                let line = String::from_utf8_lossy(line.as_bytes());
                line.split([';', ',']).any(|part| part.trim() == "hit")
            }),
        }
    }

    /// Whether a cache says that nobody but the handler has answered.
    pub(super) fn is_forwarded(&self) -> bool {
        let mut told = self.headers.get_all(CACHE_STATUS).iter().peekable();
        told.peek().is_some()
            && told.all(|line| {
                let line = String::from_utf8_lossy(line.as_bytes());
                line.contains("fwd=") && !line.contains("collapsed")
            })
    }

    /// The first of all fields that contains `marker`, in any letter case.
    pub(super) fn place_of(&self, marker: &str) -> Option<Field> {
        let contains = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            text.contains(marker) || text.to_ascii_lowercase().contains(marker)
        };
        if contains(&self.body) {
            return Some(Field::Body);
        }
        let mut headers = self.headers.iter();
        let found = headers.find(|(_, value)| contains(value.as_bytes()));
        found.map(|(name, _)| Field::Header(name.clone()))
    }

    pub(super) fn fields(&self) -> BTreeSet<Field> {
        let compared = |name: &&HeaderName| !NOT_COMPARED.contains(name);
        let headers = self.headers.keys().filter(compared);
        headers
            .map(|name| Field::Header(name.clone()))
            .chain([Field::Body, Field::Status])
            .collect()
    }

    /// What the answer has there; nothing where it has no such field.
    pub(super) fn get(&self, field: &Field) -> Vec<u8> {
        match field {
            Field::Body => self.body.to_vec(),
            Field::Status => self.status.to_string().into_bytes(),
            Field::Header(name) => {
                let lines = self.headers.get_all(name).iter();
                let lines: Vec<_> = lines.map(|line| line.as_bytes()).collect();
                lines.join(&b'\n')
            }
        }
    }

    pub(super) fn lines(&self, name: &HeaderName) -> Vec<&[u8]> {
        let lines = self.headers.get_all(name).iter();
        lines.map(|line| line.as_bytes()).collect()
    }
}

/// A part of an answer. The body tells most, so it is looked at first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Body,
    Header(HeaderName),
    Status,
}

impl Field {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Body => "body",
            Self::Header(name) => name.as_str(),
            Self::Status => "status",
        }
    }

    fn rank(&self) -> (u8, &str) {
        match self {
            Self::Body => (0, ""),
            Self::Header(name) => (1, name.as_str()),
            Self::Status => (2, ""),
        }
    }
}

impl PartialOrd for Field {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Field {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

/// So much of a body is shown.
const SHOWN: usize = 600;

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.status {
            0 => writeln!(f, "the service failed")?,
            status => writeln!(f, "HTTP/1.1 {status}")?,
        }
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        let (shown, rest) = self.body.split_at(self.body.len().min(SHOWN));
        if !shown.is_empty() {
            writeln!(f, "\n{}", String::from_utf8_lossy(shown).trim_end())?;
        }
        if !rest.is_empty() {
            writeln!(f, "... and {} bytes more", rest.len())?;
        }
        Ok(())
    }
}
