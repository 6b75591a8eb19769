//! The fields that speak to some caches and not to others (RFC 9213).

use std::{borrow::Cow, convert::Infallible};

use http::{HeaderMap, HeaderName};
use sfv::{
    BareItemFromInput, KeyRef, Parser,
    visitor::{
        DictionaryVisitor, EntryVisitor, Ignored, InnerListVisitor, ItemVisitor, ParameterVisitor,
    },
};

use super::{ResponseDirectives, lexer::Value as Argument, response::add_fields};
use crate::{Error, ErrorKind, Result, http::text::MAX_SECONDS};

static CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");
const OWN: HeaderName = HeaderName::from_static("larder-cache-control");

/// What RFC 9213 §2 has the names of such fields end with.
const SUFFIX: &str = "-cache-control";

/// The fields that a layer listens to before `Cache-Control`: its target list (RFC 9213 §2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Targets {
    /// The field for this cache alone, which is not sent on.
    pub(crate) own: Option<HeaderName>,
    /// Whether `CDN-Cache-Control` counts. It is sent on, for the caches behind this one.
    pub(crate) cdn: bool,
}

impl Default for Targets {
    fn default() -> Self {
        Self {
            own: Some(OWN),
            cdn: true,
        }
    }
}

impl Targets {
    /// The name of a field for one cache alone.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] for a name that is none, that does not end in `-cache-control`, or that is everybody's.
    pub(crate) fn own_name(name: &str) -> Result<HeaderName> {
        let own = HeaderName::from_bytes(name.as_bytes()).ok();
        own.filter(|own| is_targeted(own) && *own != CDN_CACHE_CONTROL)
            .ok_or_else(|| {
                let message = "the field for CacheLayer::target_field must be a field name that ends in \
                               -cache-control and is not cdn-cache-control";
                Error::new(ErrorKind::Settings, message)
            })
    }

    /// The directives of the first field that has valid ones (RFC 9213 §2.2); `None` where `Cache-Control` and `Expires`
    /// count.
    pub(super) fn read(&self, headers: &HeaderMap) -> Option<ResponseDirectives> {
        let cdn = self.cdn.then_some(&CDN_CACHE_CONTROL);
        let mut names = self.own.iter().chain(cdn);
        // Most responses have none, and looking at each name costs less than looking for these two.
        if !headers.keys().any(is_targeted) {
            return None;
        }
        names.find_map(|name| read(headers, name))
    }

    /// Takes out what is for this cache alone.
    pub(crate) fn hide(&self, headers: &mut HeaderMap) {
        if let Some(own) = &self.own
            && headers.keys().any(|name| name == own)
        {
            headers.remove(own);
        }
    }
}

/// Whether a field says to some caches what `Cache-Control` says to all.
pub(crate) fn is_targeted(name: &HeaderName) -> bool {
    name.as_str().len() > SUFFIX.len() && name.as_str().ends_with(SUFFIX)
}

/// Reads a field as a dictionary; `None` where it is absent, empty or not a valid one (RFC 9213 §2.1).
fn read(headers: &HeaderMap, name: &HeaderName) -> Option<ResponseDirectives> {
    let mut lines = headers.get_all(name).iter().map(|line| line.as_bytes());
    let mut text = Cow::Borrowed(lines.next()?);
    for line in lines {
        // RFC 9651 §4.2: several lines are one dictionary.
        let text = text.to_mut();
        text.extend_from_slice(b", ");
        text.extend_from_slice(line);
    }
    let members = Members::default();
    let read = Parser::new(&*text).parse_dictionary_with_visitor(members);
    read.ok().flatten()
}

/// The members of a dictionary.
#[derive(Default)]
struct Members {
    /// Whether one was met, known or not.
    any: bool,
    directives: ResponseDirectives,
}

impl<'de> DictionaryVisitor<'de> for Members {
    type Out = Option<ResponseDirectives>;
    type Error = Infallible;

    fn entry(&mut self, key: &'de KeyRef) -> Result<impl EntryVisitor<'de>, Infallible> {
        self.any = true;
        Ok(Member {
            name: key.as_str(),
            directives: &mut self.directives,
        })
    }

    fn finish(self) -> Result<Self::Out, Infallible> {
        let directives = ResponseDirectives {
            targeted: true,
            ..self.directives
        };
        Ok(self.any.then_some(directives))
    }
}

/// The value of a directive, as far as directives have such (RFC 9213 §2.1).
enum Value<'a> {
    Flag(bool),
    Number(i64),
    Text(&'a str),
    Other,
}

struct Member<'a, 'de> {
    name: &'de str,
    directives: &'a mut ResponseDirectives,
}

impl Member<'_, '_> {
    /// Takes a member at its word. Of several of a name the last one counts (RFC 9651 §4.2.2).
    ///
    /// A value of a type that the directive does not have is not read (RFC 9213 §2.1): what restricts then restricts all
    /// the same, what permits does not, and a freshness that cannot be told is none (RFC 9111 §4.2.1).
    fn set(self, value: &Value<'_>) {
        let seconds = Some(match *value {
            Value::Number(number) if number >= 0 => {
                u32::try_from(number).map_or(MAX_SECONDS, |seconds| seconds.min(MAX_SECONDS))
            }
            _ => 0,
        });
        let restricts = !matches!(value, Value::Flag(false));
        let permits = matches!(value, Value::Flag(true));
        let fields = || {
            let mut fields = Vec::new();
            let is_qualified = match value {
                Value::Text(names) => add_fields(&mut fields, Argument::Token(names.as_bytes())),
                _ => false,
            };
            match is_qualified {
                true => (false, fields),
                false => (restricts, Vec::new()),
            }
        };
        let into = self.directives;
        match self.name {
            "max-age" => into.max_age = seconds,
            "s-maxage" => into.s_maxage = seconds,
            "stale-while-revalidate" => into.stale_while_revalidate = seconds,
            "stale-if-error" => into.stale_if_error = seconds,
            "no-store" => into.no_store = restricts,
            "must-revalidate" => into.must_revalidate = restricts,
            "proxy-revalidate" => into.proxy_revalidate = restricts,
            "private" => (into.private, into.private_fields) = fields(),
            "no-cache" => (into.no_cache, into.no_cache_fields) = fields(),
            "public" => into.public = permits,
            "must-understand" => into.must_understand = permits,
            "immutable" => into.immutable = permits,
            // RFC 9111 §5.2.3: unknown directives are ignored.
            _ => {}
        }
    }
}

impl<'de> EntryVisitor<'de> for Member<'_, 'de> {
    type Error = Infallible;

    fn item(self) -> Result<impl ItemVisitor<'de>, Infallible> {
        Ok(self)
    }

    fn inner_list(self) -> Result<impl InnerListVisitor<'de>, Infallible> {
        self.set(&Value::Other);
        Ok(Ignored)
    }
}

impl<'de> ItemVisitor<'de> for Member<'_, 'de> {
    type Out = ();
    type Error = Infallible;

    fn bare_item(
        self,
        item: BareItemFromInput<'de>,
    ) -> Result<impl ParameterVisitor<'de, Out = ()>, Infallible> {
        self.set(&match &item {
            BareItemFromInput::Boolean(flag) => Value::Flag(*flag),
            BareItemFromInput::Integer(number) => Value::Number((*number).into()),
            BareItemFromInput::String(text) => Value::Text(text.as_str()),
            _ => Value::Other,
        });
        // RFC 9213 §2.1: parameters are ignored.
        Ok(Ignored)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            let value = HeaderValue::from_str(value).unwrap();
            (HeaderName::from_static(name), value)
        };
        lines.iter().map(line).collect()
    }

    fn cdn(text: &str) -> Option<ResponseDirectives> {
        Targets::default().read(&headers(&[("cdn-cache-control", text)]))
    }

    fn targeted(change: impl FnOnce(&mut ResponseDirectives)) -> Option<ResponseDirectives> {
        let mut directives = ResponseDirectives {
            targeted: true,
            ..Default::default()
        };
        change(&mut directives);
        Some(directives)
    }

    #[test]
    fn every_directive_is_read() {
        let expected = targeted(|read| {
            *read = ResponseDirectives {
                no_store: true,
                no_cache: true,
                no_cache_fields: vec![],
                private: false,
                private_fields: vec![http::header::SET_COOKIE, HeaderName::from_static("a")],
                public: true,
                max_age: Some(1),
                s_maxage: Some(2),
                must_revalidate: true,
                proxy_revalidate: true,
                must_understand: true,
                immutable: true,
                stale_while_revalidate: Some(3),
                stale_if_error: Some(4),
                targeted: true,
            }
        });
        let text = "no-store, no-cache, private=\"Set-Cookie, a\", public, max-age=1, s-maxage=2, \
                    must-revalidate, proxy-revalidate, must-understand, immutable, \
                    stale-while-revalidate=3, stale-if-error=4, x=(a b), y=:aGk=:, z=@1;q";
        assert_eq!(cdn(text), expected);
    }

    #[test]
    fn numbers_are_integers_and_saturate() {
        for (text, expected) in [
            ("max-age=0", 0),
            ("max-age=003600", 3600),
            ("max-age=3600;x=1", 3600),
            ("max-age=2147483648", MAX_SECONDS),
            ("max-age=999999999999999", MAX_SECONDS),
            ("max-age=1, max-age=60", 60),
            ("max-age=60, max-age=1", 1),
        ] {
            assert_eq!(
                cdn(text),
                targeted(|read| read.max_age = Some(expected)),
                "{text}"
            );
        }
    }

    #[test]
    fn a_number_of_another_type_is_no_freshness() {
        for text in [
            "max-age",
            "max-age=?0",
            "max-age=\"3600\"",
            "max-age=3600.0",
            "max-age=a3600",
            "max-age=-3600",
            "max-age=@3600",
            "max-age=(3600)",
            "max-age=:aGk=:",
        ] {
            assert_eq!(cdn(text), targeted(|read| read.max_age = Some(0)), "{text}");
        }
    }

    #[test]
    fn a_restriction_of_another_type_restricts_and_a_permission_does_not_permit() {
        for text in [
            "private=1",
            "private=\"\"",
            "private=set-cookie",
            "private=(a)",
            "private=\"vary\"",
        ] {
            assert_eq!(cdn(text), targeted(|read| read.private = true), "{text}");
        }
        assert_eq!(cdn("no-store=\"x\""), targeted(|read| read.no_store = true));
        for text in [
            "no-store=?0",
            "private=?0",
            "public=1",
            "public=?0",
            "must-understand=x",
        ] {
            assert_eq!(cdn(text), targeted(|_| {}), "{text}");
        }
    }

    #[test]
    fn what_is_no_dictionary_or_an_empty_one_is_not_there() {
        for text in [
            "",
            "  ",
            "MaX-aGe=3600",
            "max-age=3600, &&&&&",
            "max-age =3600",
            "max-age= 3600",
            "max-age=3600,",
            "max-age=9999999999999999",
            "max-age='3600'",
            "max-age=3600; private",
            "private=\"a",
        ] {
            // The one with a parameter is valid: `private` is a parameter there, and ignored.
            let expected = text.contains(';').then_some(3600);
            assert_eq!(
                cdn(text).and_then(|read| read.max_age),
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn several_lines_are_one_dictionary() {
        let lines = [
            ("cdn-cache-control", "max-age=1"),
            ("cdn-cache-control", "private"),
        ];
        let read = Targets::default().read(&headers(&lines));
        assert_eq!(
            read,
            targeted(|read| {
                read.max_age = Some(1);
                read.private = true;
            })
        );
        let broken = [
            ("cdn-cache-control", "max-age=1"),
            ("cdn-cache-control", "&"),
        ];
        assert_eq!(Targets::default().read(&headers(&broken)), None);
    }

    #[test]
    fn the_first_field_of_the_list_that_is_valid_wins() {
        let max_age = |targets: &Targets, own| {
            let lines = headers(&[
                ("larder-cache-control", own),
                ("cdn-cache-control", "max-age=2"),
            ]);
            targets.read(&lines).and_then(|read| read.max_age)
        };
        let both = Targets::default();
        assert_eq!(max_age(&both, "max-age=1"), Some(1));
        assert_eq!(max_age(&both, "foo"), None);
        assert_eq!(max_age(&both, "&"), Some(2));
        assert_eq!(max_age(&both, ""), Some(2));
        let none = Targets {
            own: None,
            cdn: false,
        };
        assert_eq!(max_age(&none, "max-age=1"), None);
        assert_eq!(
            max_age(
                &Targets {
                    own: None,
                    ..both.clone()
                },
                "max-age=1"
            ),
            Some(2)
        );
        assert_eq!(max_age(&Targets { cdn: false, ..both }, "&"), None);
    }

    #[test]
    fn a_name_of_one_s_own_ends_as_such_names_do() {
        assert_eq!(
            Targets::own_name("Shop-Cache-Control").unwrap(),
            "shop-cache-control"
        );
        for name in [
            "",
            "cache-control",
            "-cache-control",
            "CDN-Cache-Control",
            "etag",
            "a b-cache-control",
        ] {
            let refused = Targets::own_name(name).map_err(|error| error.kind());
            assert_eq!(refused, Err(ErrorKind::Settings), "{name:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(lines: Vec<Vec<u8>>) {
            let headers: HeaderMap = lines
                .iter()
                .filter_map(|line| HeaderValue::from_bytes(line).ok())
                .map(|line| (CDN_CACHE_CONTROL.clone(), line))
                .collect();
            let _ = Targets::default().read(&headers);
        }
    }
}
