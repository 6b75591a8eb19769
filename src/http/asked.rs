//! What the layer looks at in a request, read in one pass over its fields.

use http::{HeaderMap, header};

use super::{directives::RequestDirectives, key::Host, storable::RequestFacts};
use crate::Reason;

/// A request, as far as caching goes.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) is_head: bool,
    pub(super) directives: RequestDirectives,
    pub(super) authorization: bool,
    pub(super) cookie: bool,
    /// `If-None-Match` or `If-Modified-Since`: answered from the store, or against what the inner service answers.
    pub(super) conditional: bool,
    /// Why the request is not for the cache at all.
    pub(super) bypass: Option<Reason>,
}

impl Asked {
    pub(super) fn read(is_head: bool, headers: &HeaderMap) -> (Self, Host<'_>) {
        let mut host = Host::None;
        let mut asked = Self {
            is_head,
            directives: RequestDirectives::NONE,
            authorization: false,
            cookie: false,
            conditional: false,
            bypass: None,
        };
        let mut has_directives = false;
        for (name, value) in headers {
            if *name == header::HOST {
                host = host.and(value);
            } else if *name == header::CACHE_CONTROL || *name == header::PRAGMA {
                has_directives = true;
            } else if *name == header::COOKIE {
                asked.cookie = true;
            } else if *name == header::AUTHORIZATION {
                asked.authorization = true;
            } else if *name == header::IF_NONE_MATCH || *name == header::IF_MODIFIED_SINCE {
                asked.conditional = true;
            } else if *name == header::IF_MATCH || *name == header::IF_UNMODIFIED_SINCE {
                // RFC 9111 §4.3.2: a cache does not evaluate these; they are for the handler.
                asked.bypass = Some(Reason::Precondition);
            } else if *name == header::TRANSFER_ENCODING
                || *name == header::CONTENT_LENGTH && value != "0"
            {
                // Ours: a handler may go by the content, which is not in the key.
                asked.bypass = asked.bypass.or(Some(Reason::Content));
            } else if *name == header::RANGE {
                asked.bypass = Some(Reason::Range);
            } else if *name == header::UPGRADE {
                asked.bypass = Some(Reason::Upgrade);
            }
        }
        if has_directives {
            asked.directives = RequestDirectives::parse(headers);
        }
        (asked, host)
    }

    /// Whether the answer may depend on who asks, although the key does not.
    pub(super) fn is_personal(&self) -> bool {
        self.cookie || self.authorization
    }

    pub(super) fn facts(&self) -> RequestFacts {
        RequestFacts {
            authorization: self.authorization,
            cookie: self.cookie,
            no_store: self.directives.no_store,
        }
    }
}
