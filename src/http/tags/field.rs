//! The two fields that name the tags of a response. No RFC defines them; both are what content delivery networks read.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::CacheTags;
use crate::http::{stored::MAX_FIELDS, text};

const CACHE_TAG: HeaderName = HeaderName::from_static("cache-tag");
const SURROGATE_KEY: HeaderName = HeaderName::from_static("surrogate-key");
static FIELDS: [HeaderName; 2] = [CACHE_TAG, SURROGATE_KEY];

/// The field that tells a cache downstream the tags of a response, for
/// [`CacheLayer::pass_tags`](crate::CacheLayer::pass_tags).
///
/// # Examples
///
/// ```
/// use larder::{Cache, CacheLayer, TagField};
///
/// let layer = CacheLayer::new(Cache::memory()).pass_tags(TagField::SurrogateKey);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TagField {
    /// `Cache-Tag`, whose tags have commas between them.
    CacheTag,
    /// `Surrogate-Key`, whose tags have spaces between them.
    SurrogateKey,
}

impl TagField {
    const fn name(self) -> HeaderName {
        match self {
            Self::CacheTag => CACHE_TAG,
            Self::SurrogateKey => SURROGATE_KEY,
        }
    }

    /// What divides the tags, and so cannot be in one.
    const fn separator(self) -> u8 {
        match self {
            Self::CacheTag => b',',
            Self::SurrogateKey => b' ',
        }
    }

    /// Whether the field has a way to say the tag.
    fn can_say(self, tag: &[u8]) -> bool {
        let is_fine = |byte: &u8| (b' '..=b'~').contains(byte) && *byte != self.separator();
        tag.iter().all(is_fine) && text::trim(tag).len() == tag.len()
    }

    /// Writes the field, in place of one that is there.
    pub(in crate::http) fn write(self, tags: &CacheTags, headers: &mut HeaderMap) {
        let said: Vec<_> = tags.iter().filter(|tag| self.can_say(tag)).collect();
        if said.is_empty() || headers.len() >= MAX_FIELDS {
            return;
        }
        let line = said.join(&self.separator());
        if let Ok(value) = HeaderValue::from_bytes(&line) {
            headers.insert(self.name(), value);
        }
    }
}

/// Takes both fields out of a response.
pub(super) fn take(headers: &mut HeaderMap) -> CacheTags {
    let mut tags = CacheTags::default();
    if is_there(headers) {
        tags = read(headers);
        strip_tags(headers);
    }
    tags
}

/// Removes both fields.
pub(in crate::http) fn strip_tags(headers: &mut HeaderMap) {
    headers.remove(CACHE_TAG);
    headers.remove(SURROGATE_KEY);
}

/// Whether a field names tags.
pub(in crate::http) fn names_tags(name: &HeaderName) -> bool {
    *name == CACHE_TAG || *name == SURROGATE_KEY
}

pub(super) fn is_there(headers: &HeaderMap) -> bool {
    // Most messages have neither, and looking at each name costs less than looking for both.
    headers.keys().any(|name| FIELDS.contains(name))
}

/// The tags of both fields; several lines of one are one list.
pub(super) fn read(headers: &HeaderMap) -> CacheTags {
    let mut tags: CacheTags = text::tokens(headers, &CACHE_TAG).collect();
    for line in headers.get_all(SURROGATE_KEY) {
        tags.extend(line.as_bytes().split(|byte| matches!(byte, b' ' | b'\t')));
    }
    tags
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&'static str, &[u8])]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &[u8])| {
            let value = HeaderValue::from_bytes(value).unwrap();
            (HeaderName::from_static(name), value)
        };
        lines.iter().map(line).collect()
    }

    #[test]
    fn commas_divide_one_field_and_spaces_the_other() {
        let mut headers = headers(&[
            ("cache-tag", b" a,b c ,, a"),
            ("cache-tag", b"d"),
            ("surrogate-key", b"  e  f\ta "),
            ("x", b"1"),
        ]);
        let expected = CacheTags::new(["a", "b c", "d", "e", "f"]);
        assert!(take(&mut headers) == expected);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn case_and_bytes_above_127_are_part_of_a_tag() {
        let headers = headers(&[("cache-tag", b"A,a,\xfc")]);
        assert!(read(&headers) == CacheTags::new([&b"A"[..], b"a", b"\xfc"]));
    }

    #[test]
    fn a_field_leaves_out_what_it_has_no_way_to_say() {
        let tags = CacheTags::new(["a", "b c", "d,e", " f", "g\n", "h\u{fc}", "i"]);
        for (field, name, line) in [
            (TagField::CacheTag, CACHE_TAG, "a,b c,i"),
            (TagField::SurrogateKey, SURROGATE_KEY, "a d,e i"),
        ] {
            let mut headers = HeaderMap::new();
            field.write(&tags, &mut headers);
            assert_eq!(headers[name], line);
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(tags: Vec<Vec<u8>>, is_cache_tag: bool) {
            let field = match is_cache_tag {
                true => TagField::CacheTag,
                false => TagField::SurrogateKey,
            };
            let mut headers = HeaderMap::new();
            field.write(&CacheTags::new(&tags), &mut headers);
            let said = tags.iter().filter(|tag| field.can_say(tag));
            prop_assert!(read(&headers) == CacheTags::new(said));
        }

        #[test]
        fn no_line_makes_the_reader_panic(line: Vec<u8>) {
            if let Ok(value) = HeaderValue::from_bytes(&line) {
                for name in [CACHE_TAG, SURROGATE_KEY] {
                    let _ = take(&mut HeaderMap::from_iter([(name, value.clone())]));
                }
            }
        }
    }
}
