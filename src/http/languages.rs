//! The languages that an application has, and which of them a request wants (RFC 9110 §12.5.4, RFC 4647).

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, header::ACCEPT_LANGUAGE};
use smallvec::SmallVec;

use super::text::{members, quality, split, trim};
use crate::{Error, ErrorKind, Result};

/// More languages than this are more variants than are kept.
const MAX_LANGUAGES: usize = 64;
/// Further wishes of a request are not looked at.
const MAX_RANGES: usize = 32;

/// The languages that an application has, the one that it likes best first; none unless it was told.
#[derive(Clone, Debug, Default)]
pub(super) struct Languages(Arc<[HeaderValue]>);

impl Languages {
    pub(super) fn new(tags: impl IntoIterator<Item: AsRef<str>>) -> Result<Self> {
        let wrong = |message| Error::new(ErrorKind::Settings, message);
        let mut languages = Vec::new();
        for tag in tags {
            let tag = tag.as_ref();
            let value = HeaderValue::from_str(tag).ok().filter(|_| is_tag(tag));
            languages.push(value.ok_or_else(|| {
                wrong("a language for CacheLayer::languages must be a tag such as en or pt-BR")
            })?);
        }
        if languages.len() > MAX_LANGUAGES {
            return Err(wrong("CacheLayer::languages takes 64 languages at most"));
        }
        Ok(Self(languages.into()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Leaves of `Accept-Language` the one language that is chosen by it, or nothing where there is none.
    pub(super) fn settle(&self, request: &mut HeaderMap) {
        if !request.contains_key(ACCEPT_LANGUAGE) {
            return;
        }
        match self.choose(request) {
            Some(language) => drop(request.insert(ACCEPT_LANGUAGE, language.clone())),
            None => drop(request.remove(ACCEPT_LANGUAGE)),
        }
    }

    fn choose(&self, request: &HeaderMap) -> Option<&HeaderValue> {
        let lines = request.get_all(ACCEPT_LANGUAGE).iter();
        let mut wishes: SmallVec<[(u16, &[u8]); MAX_RANGES]> = lines
            .flat_map(|line| members(line.as_bytes()))
            .filter(|member| !member.is_empty())
            .take(MAX_RANGES)
            .map(|member| {
                let mut parts = split(member, b';');
                let range = trim(parts.next().unwrap_or_default());
                (parts.find_map(quality).unwrap_or(1_000), range)
            })
            .collect();
        // Stable: of wishes that weigh the same the first one is the strongest.
        wishes.sort_by_key(|(weight, _)| u16::MAX - weight);
        let wanted = wishes.partition_point(|(weight, _)| *weight > 0);
        let (wanted, refused) = wishes.split_at(wanted);
        let is_refused = |tag: &[u8]| refused.iter().any(|(_, range)| is_within(tag, range));
        wanted
            .iter()
            .find_map(|(_, range)| self.best(range, is_refused))
    }

    /// The language for one range: that very one, or the next wider one (RFC 4647 §3.4), or one within it (§3.3.1).
    fn best(&self, range: &[u8], is_refused: impl Fn(&[u8]) -> bool) -> Option<&HeaderValue> {
        let find = |suits: &dyn Fn(&[u8]) -> bool| {
            let mut languages = self.0.iter();
            languages.find(|language| suits(language.as_bytes()))
        };
        if range == b"*" {
            return find(&|tag| !is_refused(tag));
        }
        let exact = find(&|tag| tag.eq_ignore_ascii_case(range));
        exact
            .or_else(|| {
                let mut wider = widened(range);
                std::iter::from_fn(|| {
                    let range = wider?;
                    wider = widened(range);
                    Some(range)
                })
                .find_map(|range| find(&|tag| tag.eq_ignore_ascii_case(range) && !is_refused(tag)))
            })
            .or_else(|| find(&|tag| is_within(tag, range) && !is_refused(tag)))
    }
}

/// A range without its last subtag, and without one letter that stood before it.
fn widened(range: &[u8]) -> Option<&[u8]> {
    let cut = |range: &[u8]| range.iter().rposition(|&byte| byte == b'-');
    let shorter = &range[..cut(range)?];
    match cut(shorter) {
        Some(at) if shorter.len() - at == 2 => Some(&shorter[..at]),
        _ => Some(shorter),
    }
}

fn is_within(tag: &[u8], range: &[u8]) -> bool {
    let Some((start, rest)) = tag.split_at_checked(range.len()) else {
        return false;
    };
    start.eq_ignore_ascii_case(range) && matches!(rest.first(), None | Some(b'-'))
}

/// RFC 5646 §2.1, as far as its outer form goes.
fn is_tag(tag: &str) -> bool {
    let is_subtag = |subtag: &str| {
        (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    tag.starts_with(|first: char| first.is_ascii_alphabetic()) && tag.split('-').all(is_subtag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settled(languages: &[&str], lines: &[&str]) -> Option<String> {
        let mut request: HeaderMap = lines
            .iter()
            .map(|line| (ACCEPT_LANGUAGE, HeaderValue::from_str(line).unwrap()))
            .collect();
        Languages::new(languages).unwrap().settle(&mut request);
        assert!(request.len() < 2);
        let settled = request.get(ACCEPT_LANGUAGE)?;
        Some(settled.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_heaviest_wish_that_can_be_met_wins() {
        let have = ["en", "de", "pt-BR", "zh-Hant"];
        for (wishes, expected) in [
            ("de", Some("de")),
            ("DE", Some("de")),
            ("fr, de", Some("de")),
            ("en;q=0.5, de", Some("de")),
            ("fr;q=0.5, de;q=1.0", Some("de")),
            ("de, en", Some("de")),
            ("de-AT, en", Some("de")),
            ("de-DE-u-co-phonebk", Some("de")),
            ("pt", Some("pt-BR")),
            ("zh-Hant-TW", Some("zh-Hant")),
            ("*", Some("en")),
            ("fr, *;q=0.1", Some("en")),
            ("en;q=0, *", Some("de")),
            ("pt, pt-BR;q=0", None),
            ("en;q=x, de;q=0.1", Some("de")),
            ("fr", None),
            ("d", None),
            ("dee", None),
            ("", None),
            ("de;q=0", None),
        ] {
            assert_eq!(settled(&have, &[wishes]).as_deref(), expected, "{wishes}");
        }
        assert_eq!(settled(&have, &["fr", "de;q=0.1"]).as_deref(), Some("de"));
        assert_eq!(settled(&have, &[]), None);
    }

    #[test]
    fn tags_that_are_none_are_refused() {
        for tag in ["", "*", "de_DE", "-de", "de-", "de;q=1", "abcdefghi", "d\n"] {
            let refused = Languages::new([tag]).map_err(|error| error.kind());
            assert_eq!(refused.map(drop), Err(ErrorKind::Settings), "{tag:?}");
        }
        assert!(Languages::new(vec!["de"; MAX_LANGUAGES + 1]).is_err());
    }

    proptest! {
        #[test]
        fn whatever_is_asked_for_one_of_the_languages_or_none_is_left(lines: Vec<Vec<u8>>) {
            let mut request: HeaderMap = lines
                .iter()
                .filter_map(|line| HeaderValue::from_bytes(line).ok())
                .map(|line| (ACCEPT_LANGUAGE, line))
                .collect();
            Languages::new(["en", "de-CH"]).unwrap().settle(&mut request);
            let left: Vec<_> = request.get_all(ACCEPT_LANGUAGE).iter().collect();
            prop_assert!(left.is_empty() || left == ["en"] || left == ["de-CH"]);
        }

        #[test]
        fn wishes_of_the_usual_form_are_survived(wishes in "[a-c*-]{0,6}(;q=[01.]{0,4})?(, ?[a-c-]{0,6}){0,3}") {
            settled(&["a", "b-c", "c-a-b"], &[&wishes]);
        }
    }
}
