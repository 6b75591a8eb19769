use std::fmt;

/// The tags of a response, for handlers to say: what the response is made of, and ends with.
///
/// In axum it is a response part, `(CacheTags::new(["user:7"]), Json(user))`; elsewhere it goes into the extensions of the
/// response. The fields `Cache-Tag` and `Surrogate-Key` say the same and count too.
///
/// A tag is any bytes, and upper and lower case differ. A response with more than 64 tags, or with one of more than 256
/// bytes, is not stored, because it could not be purged by all of them.
///
/// # Examples
///
/// ```
/// use larder::CacheTags;
///
/// let mut tags = CacheTags::new(["user:7", "users", "user:7"]);
/// tags.extend(["front-page"]);
/// assert_eq!(tags.iter().len(), 3);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
#[must_use = "`CacheTags` do nothing until they are put into a response"]
pub struct CacheTags(Vec<Box<[u8]>>);

impl CacheTags {
    /// These tags, each once; an empty one is none.
    ///
    /// ```
    /// assert_eq!(larder::CacheTags::new(["", "a", "a"]).iter().len(), 1);
    /// ```
    pub fn new(tags: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Self {
        tags.into_iter().collect()
    }

    /// The tags, in the order in which they were named.
    ///
    /// ```
    /// assert_eq!(larder::CacheTags::new(["a", "b"]).iter().last(), Some(&b"b"[..]));
    /// ```
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.iter().map(|tag| &**tag)
    }
}

impl<T: AsRef<[u8]>> Extend<T> for CacheTags {
    fn extend<I: IntoIterator<Item = T>>(&mut self, tags: I) {
        for tag in tags {
            let tag = tag.as_ref();
            if !tag.is_empty() && !self.0.iter().any(|known| **known == *tag) {
                self.0.push(tag.into());
            }
        }
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for CacheTags {
    fn from_iter<I: IntoIterator<Item = T>>(tags: I) -> Self {
        let mut all = Self::default();
        all.extend(tags);
        all
    }
}

/// Shows how many there are: a tag can hold what must not reach a log.
impl fmt::Debug for CacheTags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CacheTags({})", self.0.len())
    }
}
