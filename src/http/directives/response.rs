//! The directives of a response (RFC 9111 §5.2.2).

use http::{HeaderMap, HeaderName, header::CACHE_CONTROL};

use super::{
    lexer::{Directive, Directives, Value},
    targeted::Targets,
};
use crate::http::{
    fields::is_essential,
    text::{members, unescape},
};

/// More names than this in one list, and the list is taken for the whole response.
const MAX_FIELDS: usize = 32;

/// What a response says to shared caches. `no-transform` is left out: nothing here transforms.
///
/// Of duplicates the strictest reading wins, and a number that is none is 0: caches are encouraged to take such a
/// response for stale (RFC 9111 §4.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResponseDirectives {
    pub(crate) no_store: bool,
    /// The whole response is to be validated before each reuse.
    pub(crate) no_cache: bool,
    /// `no-cache="…"`: the fields that are not kept.
    pub(crate) no_cache_fields: Vec<HeaderName>,
    /// The whole response is for one user.
    pub(crate) private: bool,
    /// `private="…"`: the fields that are not kept.
    pub(crate) private_fields: Vec<HeaderName>,
    pub(crate) public: bool,
    pub(crate) max_age: Option<u32>,
    pub(crate) s_maxage: Option<u32>,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    /// For clients only: it says nothing about a stale response (RFC 8246 §2).
    pub(crate) immutable: bool,
    pub(crate) stale_while_revalidate: Option<u32>,
    pub(crate) stale_if_error: Option<u32>,
    /// Whether these directives came from a field meant for caches like this one: then neither `Cache-Control` nor
    /// `Expires` counts (RFC 9213 §2.2).
    pub(crate) targeted: bool,
}

impl ResponseDirectives {
    /// Reads the first valid field of the targeted ones, or else `Cache-Control`.
    pub(crate) fn read(headers: &HeaderMap, targets: &Targets) -> Self {
        let targeted = targets.read(headers);
        targeted.unwrap_or_else(|| Self::of_cache_control(headers))
    }

    /// Reads every line of `Cache-Control` as one list.
    pub(super) fn of_cache_control(headers: &HeaderMap) -> Self {
        let mut directives = Self::default();
        let mut is_broken = false;
        for line in headers.get_all(CACHE_CONTROL) {
            let mut line = Directives::new(line.as_bytes());
            line.by_ref()
                .for_each(|directive| directives.add(&directive));
            is_broken |= line.is_broken;
        }
        if is_broken {
            // A freshness may have been inside the string that has no end, or outside it: it is not relied on.
            directives.max_age = Some(0);
            directives.s_maxage = directives.s_maxage.and(Some(0));
        }
        directives
    }

    /// Whether a lifetime is given here. `Expires` is not looked at.
    pub(crate) const fn has_lifetime(&self) -> bool {
        self.s_maxage.is_some() || self.max_age.is_some()
    }

    fn add(&mut self, directive: &Directive<'_>) {
        let seconds = |known: &mut Option<u32>| {
            let new = directive.seconds().unwrap_or(0);
            *known = Some(known.map_or(new, |known| known.min(new)));
        };
        // What permits something is taken at its word only when it has the form it is defined with.
        let is_plain = directive.value == Value::None;
        if directive.is("max-age") {
            seconds(&mut self.max_age);
        } else if directive.is("s-maxage") {
            seconds(&mut self.s_maxage);
        } else if directive.is("public") {
            self.public |= is_plain;
        } else if directive.is("private") {
            self.private |= !add_fields(&mut self.private_fields, directive.value);
        } else if directive.is("no-cache") {
            self.no_cache |= !add_fields(&mut self.no_cache_fields, directive.value);
        } else if directive.is("no-store") {
            self.no_store = true;
        } else if directive.is("must-revalidate") {
            self.must_revalidate = true;
        } else if directive.is("proxy-revalidate") {
            self.proxy_revalidate = true;
        } else if directive.is("stale-while-revalidate") {
            seconds(&mut self.stale_while_revalidate);
        } else if directive.is("stale-if-error") {
            seconds(&mut self.stale_if_error);
        } else if directive.is("immutable") {
            self.immutable |= is_plain;
        } else if directive.is("must-understand") {
            self.must_understand |= is_plain;
        }
    }
}

/// Adds the fields that `value` names; `false` when the directive is about the whole response.
///
/// A list that is empty, too long, malformed, or that names a field which a stored response cannot do without, is
/// taken for the whole response.
pub(super) fn add_fields(fields: &mut Vec<HeaderName>, value: Value<'_>) -> bool {
    let unescaped: Vec<u8>;
    let list = match value {
        Value::None | Value::Malformed => return false,
        Value::Token(token) => token,
        Value::Quoted(quoted) if quoted.contains(&b'\\') => {
            unescaped = unescape(quoted).collect();
            &unescaped
        }
        Value::Quoted(quoted) => quoted,
    };
    let before = fields.len();
    for member in members(list).filter(|member| !member.is_empty()) {
        match HeaderName::from_bytes(member) {
            // An apostrophe may stand in a name, but stands here for a quote that is none.
            _ if member.contains(&b'\'') => return false,
            Ok(name) if !is_essential(&name) && fields.len() < MAX_FIELDS => fields.push(name),
            _ => return false,
        }
    }
    fields.len() > before
}
