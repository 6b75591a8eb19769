//! What the layer looks at in a request, read in one pass over its fields.

use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Request, Uri, header};

#[cfg(feature = "compression")]
use super::precompress::Coding;
use super::{
    directives::RequestDirectives,
    key::{self, Host},
    policies::Said,
    range::RangeField,
    storable::RequestFacts,
};
use crate::Reason;

/// Fields by which frameworks take a request for one with another method.
static OTHER_METHOD: [HeaderName; 3] = [
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
];

/// Fields by which frameworks take a request for one for another URI. Proxies send them too, with the URI as it is.
static OTHER_URI: [HeaderName; 2] = [
    HeaderName::from_static("x-original-url"),
    HeaderName::from_static("x-rewrite-url"),
];

/// A request, as far as caching goes.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) is_head: bool,
    pub(super) directives: RequestDirectives,
    pub(super) authorization: bool,
    pub(super) cookie: bool,
    /// `If-None-Match` or `If-Modified-Since`: answered from the store, or against what the inner service answers.
    pub(super) conditional: bool,
    /// A handler may take the request for one with another host, URI or method than the key has. It is answered from the
    /// store all the same, but its answer is nobody else's.
    pub(super) is_ambiguous: bool,
    /// The coding that the client takes, where the layer makes it.
    #[cfg(feature = "compression")]
    pub(super) coding: Option<Coding>,
    pub(super) range: RangeField,
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
            is_ambiguous: false,
            #[cfg(feature = "compression")]
            coding: None,
            range: RangeField::None,
            bypass: None,
        };
        let (mut has_directives, mut has_range) = (false, false);
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
                has_range = true;
            } else if *name == header::UPGRADE {
                asked.bypass = Some(Reason::Upgrade);
            }
        }
        if has_directives {
            asked.directives = RequestDirectives::parse(headers);
        }
        if has_range && !is_head {
            asked.range = RangeField::read(headers);
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
            is_ambiguous: self.is_ambiguous,
            said: Said::NONE,
        }
    }
}

/// Whether a handler may take a request for another one than its key does. Asked only when something is to be stored.
pub(super) fn is_ambiguous<B>(request: &Request<B>) -> bool {
    let (uri, extensions) = (request.uri(), request.extensions());
    let mut host = Host::None;
    for (name, value) in request.headers() {
        if *name == header::HOST {
            host = host.and(value);
        } else if OTHER_METHOD.contains(name)
            || OTHER_URI.contains(name) && names_another_uri(uri, value, extensions)
        {
            return true;
        }
    }
    !key::is_plain(uri, host, extensions, request.version())
}

fn names_another_uri(uri: &Uri, named: &HeaderValue, extensions: &Extensions) -> bool {
    let uri = key::original_uri(extensions).unwrap_or(uri);
    named != uri.path_and_query().map_or("/", |path| path.as_str())
}
