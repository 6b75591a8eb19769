//! The directives of a request (RFC 9111 §5.2.1).

use http::{
    HeaderMap,
    header::{CACHE_CONTROL, PRAGMA},
};

use super::lexer::{Directive, Directives};
use crate::http::text::{MAX_SECONDS, tokens};

/// What a request asks of caches.
///
/// Unknown directives are ignored. Of duplicates, and of numbers that are none, the reading that asks for most wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestDirectives {
    any: bool,
    pub(crate) no_store: bool,
    pub(crate) no_cache: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age: Option<u32>,
    pub(crate) min_fresh: Option<u32>,
    pub(crate) max_stale: MaxStale,
}

/// How stale a response the client takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum MaxStale {
    /// Not stale at all: the directive is absent.
    #[default]
    None,
    /// Stale by at most these seconds.
    Secs(u32),
    /// However stale.
    Any,
}

impl RequestDirectives {
    /// What a request without `Cache-Control` and `Pragma` asks: nothing.
    pub(crate) const NONE: Self = Self {
        any: false,
        no_store: false,
        no_cache: false,
        only_if_cached: false,
        max_age: None,
        min_fresh: None,
        max_stale: MaxStale::None,
    };

    /// Reads `Cache-Control`, and `Pragma` where there is none.
    pub(crate) fn parse(headers: &HeaderMap) -> Self {
        let mut directives = Self::NONE;
        let mut lines = headers.get_all(CACHE_CONTROL).iter().peekable();
        if lines.peek().is_none() {
            // RFC 9111 §5.4: `Pragma: no-cache` counts in a request without Cache-Control only.
            directives.no_cache =
                tokens(headers, &PRAGMA).any(|token| token.eq_ignore_ascii_case(b"no-cache"));
            directives.any = directives.no_cache;
        }
        for line in lines {
            Directives::new(line.as_bytes()).for_each(|directive| directives.add(&directive));
        }
        directives
    }

    /// Whether the request asks for nothing, so that freshness alone decides.
    pub(crate) const fn is_empty(&self) -> bool {
        !self.any
    }

    fn add(&mut self, directive: &Directive<'_>) {
        let longest =
            |known: Option<u32>, new: u32| Some(known.map_or(new, |known| known.max(new)));
        let shortest =
            |known: Option<u32>, new: u32| Some(known.map_or(new, |known| known.min(new)));
        if directive.is("no-cache") {
            self.no_cache = true;
        } else if directive.is("max-age") {
            self.max_age = shortest(self.max_age, directive.seconds().unwrap_or(0));
        } else if directive.is("no-store") {
            self.no_store = true;
        } else if directive.is("only-if-cached") {
            self.only_if_cached = true;
        } else if directive.is("min-fresh") {
            self.min_fresh = longest(self.min_fresh, directive.seconds().unwrap_or(MAX_SECONDS));
        } else if directive.is("max-stale") {
            self.max_stale = self.max_stale.and(MaxStale::read(directive));
        } else {
            return;
        }
        self.any = true;
    }
}

impl MaxStale {
    fn read(directive: &Directive<'_>) -> Self {
        if directive.value == super::lexer::Value::None {
            return Self::Any;
        }
        Self::Secs(directive.seconds().unwrap_or(0))
    }

    fn and(self, new: Self) -> Self {
        match (self, new) {
            (Self::Secs(known), Self::Secs(new)) => Self::Secs(known.min(new)),
            (known @ Self::Secs(_), Self::Any) => known,
            (_, new) => new,
        }
    }
}
