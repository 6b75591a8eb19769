//! What of a request chooses among the variants of its URI by the word of a policy.

use std::{fmt, sync::Arc};

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, header};

use super::{cookies, query::QueryRule};
use crate::{
    Reason,
    http::vary::{self, Buffer, feed},
};

/// The parts of a key that a policy declares, checked.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyParts {
    pub(crate) query: QueryRule,
    /// Sorted, each once.
    pub(crate) headers: Vec<HeaderName>,
    /// Sorted, each once.
    pub(crate) cookies: Vec<Box<str>>,
    pub(crate) extensions: Vec<Extension>,
    /// Whose requests these are: nobody else is answered from what is stored for them.
    pub(crate) identity: Option<Extension>,
    /// What the application counts up when it means something else by the same parts.
    pub(crate) version: u32,
}

/// A part that is read from a request's extensions.
#[derive(Clone)]
pub(crate) struct Extension {
    /// The type, by its name.
    pub(crate) name: &'static str,
    read: Arc<Read>,
}

/// Writes the part down, and says whether the value is there.
type Read = dyn Fn(&Extensions, &mut Buffer) -> Found + Send + Sync;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Empty,
    Some,
}

impl Extension {
    pub(crate) fn new<T, R>(part: impl Fn(&T) -> R + Send + Sync + 'static) -> Self
    where
        T: Send + Sync + 'static,
        R: AsRef<[u8]>,
    {
        let read = move |extensions: &Extensions, into: &mut Buffer| {
            let Some(value) = extensions.get::<T>() else {
                return Found::Nothing;
            };
            let part = part(value);
            feed(part.as_ref(), into);
            match part.as_ref().is_empty() {
                true => Found::Empty,
                false => Found::Some,
            }
        };
        Self {
            name: std::any::type_name::<T>(),
            read: Arc::new(read),
        }
    }

    /// The name of the type alone, for people.
    pub(crate) fn short_name(&self) -> &'static str {
        let path = self.name.split('<').next().unwrap_or_default();
        let skip = path.rfind("::").map_or(0, |at| at + 2);
        &self.name[skip..]
    }
}

impl fmt::Debug for Extension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by function", self.short_name())
    }
}

/// What chooses among what is stored for a URI, beside the fields that responses name in `Vary`.
#[derive(Debug)]
pub(crate) struct KeyedBy {
    /// Of the parts that were declared; zero where none were. What is stored under another one is not for this request.
    pub(crate) fingerprint: u64,
    /// What the request has in them; `None` where the URI alone decides.
    pub(crate) selection: Option<Buffer>,
    /// The selection must not be written anywhere but as a keyed hash.
    pub(crate) is_secret: bool,
}

impl KeyedBy {
    /// Without a policy.
    pub(crate) const NONE: Self = Self {
        fingerprint: 0,
        selection: None,
        is_secret: false,
    };
}

/// [`KeyedBy::NONE`], to borrow.
pub(crate) static UNKEYED: KeyedBy = KeyedBy::NONE;

impl KeyParts {
    /// Whether the URI alone decides.
    pub(crate) fn select_nothing(&self) -> bool {
        self.headers.is_empty()
            && self.cookies.is_empty()
            && self.extensions.is_empty()
            && self.identity.is_none()
    }

    /// Whether the parts may hold what only a keyed hash may tell.
    pub(crate) fn is_secret(&self) -> bool {
        let is_secret = |name: &HeaderName| [header::AUTHORIZATION, header::COOKIE].contains(name);
        !self.cookies.is_empty()
            || !self.extensions.is_empty()
            || self.identity.is_some()
            || self.headers.iter().any(is_secret)
    }

    /// A number that parts declared differently do not have; zero for none.
    pub(crate) fn fingerprint(&self) -> u64 {
        if self.query.is_plain() && self.select_nothing() && self.version == 0 {
            return 0;
        }
        let Self {
            query,
            headers,
            cookies,
            extensions,
            identity,
            version,
        } = self;
        // The names are escaped in it, so that no two declarations are written alike.
        let text = format!(
            "{:?} {} {headers:?} {cookies:?} {:?} {:?} {version}",
            query.key,
            query.sort,
            extensions.iter().map(|part| part.name).collect::<Vec<_>>(),
            identity.as_ref().map(|part| part.name),
        );
        let hash = blake3::hash(text.as_bytes());
        let mut number = [0; 8];
        number.copy_from_slice(&hash.as_bytes()[..8]);
        u64::from_be_bytes(number).max(1)
    }

    /// What a request has in the parts.
    ///
    /// # Errors
    ///
    /// The reason why it is not for the cache: an extension that is declared is not there, or nobody is named by it.
    pub(crate) fn select(
        &self,
        headers: &HeaderMap,
        extensions: &Extensions,
    ) -> Result<Option<Buffer>, Reason> {
        if self.select_nothing() {
            return Ok(None);
        }
        let mut selection = Buffer::new();
        vary::select(&self.headers, headers, &mut selection);
        if !self.cookies.is_empty() {
            cookies::select(&self.cookies, headers, &mut selection);
        }
        for part in &self.extensions {
            if (part.read)(extensions, &mut selection) == Found::Nothing {
                return Err(Reason::NoKeyPart);
            }
        }
        // An empty name is nobody's: those who have none would share what is theirs alone.
        if let Some(part) = &self.identity
            && (part.read)(extensions, &mut selection) != Found::Some
        {
            return Err(Reason::NoIdentity);
        }
        Ok(Some(selection))
    }

    /// The lines of the cookies that are in the key by their names.
    pub(crate) fn cookies_of(&self, headers: &HeaderMap) -> Vec<HeaderValue> {
        match self.cookies.is_empty() {
            true => Vec::new(),
            false => cookies::keep(&self.cookies, headers),
        }
    }

    /// Whether a request has cookies that are not in the key.
    pub(crate) fn leaves_cookies_out(&self, headers: &HeaderMap) -> bool {
        !self.headers.contains(&header::COOKIE) && !cookies::has_no_other(&self.cookies, headers)
    }
}
