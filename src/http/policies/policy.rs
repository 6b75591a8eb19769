//! One policy, checked, and what it makes of requests and responses.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header, request, response,
};

use super::{
    cache_policy::CachePolicy,
    check,
    lifetimes::Said,
    parts::{KeyParts, KeyedBy},
};
use crate::{CacheTags, Reason, http::asked::Asked};

/// A policy of a route, checked.
pub(crate) struct Policy {
    /// The route as it was written, for logs.
    pub(super) route: Box<str>,
    pub(super) said: CachePolicy,
    pub(crate) parts: KeyParts,
    fingerprint: u64,
    is_secret: bool,
    hit_header: Option<HeaderName>,
    /// The log has it that a parameter of a query was left out of the key.
    told_of_query: AtomicBool,
    /// The log has it that a part of the key was not there.
    told_of_parts: AtomicBool,
}

/// What a policy makes of a request that may be looked up.
#[derive(Debug)]
pub(crate) struct Met {
    pub(crate) policy: Arc<Policy>,
    pub(crate) keyed: KeyedBy,
    /// The handler is asked anew whatever is stored.
    pub(crate) forced: bool,
}

impl Policy {
    pub(in crate::http) fn new(route: &str, said: CachePolicy, problems: &mut Vec<String>) -> Self {
        let (parts, hit_header) = check::compile(&said, problems);
        Self {
            route: route.into(),
            fingerprint: parts.fingerprint(),
            is_secret: parts.is_secret(),
            said,
            parts,
            hit_header,
            told_of_query: AtomicBool::new(false),
            told_of_parts: AtomicBool::new(false),
        }
    }

    /// Decides whether a request is looked up, and by what among the variants of its URI.
    ///
    /// `asked` loses what is in the key by the word of the policy: such credentials keep nothing from being stored.
    pub(in crate::http) fn meet<B>(
        self: &Arc<Self>,
        request: Request<B>,
        asked: &mut Asked,
    ) -> (Request<B>, Result<Met, Reason>) {
        let (parts, body) = request.into_parts();
        let met = self.weigh(&parts, asked);
        (Request::from_parts(parts, body), met)
    }

    fn weigh(self: &Arc<Self>, request: &request::Parts, asked: &mut Asked) -> Result<Met, Reason> {
        let said = &self.said;
        if said.no_store {
            return Err(Reason::PolicyNoStore);
        }
        if said.unless.as_ref().is_some_and(|picks| picks(request)) {
            return Err(Reason::Unless);
        }
        let selection = self.parts.select(&request.headers, &request.extensions);
        let selection = selection.inspect_err(|reason| self.tell_of_parts(*reason))?;
        if self.parts.identity.is_some() {
            (asked.authorization, asked.cookie) = (false, false);
        }
        let is_known = || said.ignore_cookies || !self.parts.leaves_cookies_out(&request.headers);
        if asked.cookie && is_known() {
            asked.cookie = false;
        }
        let keyed = KeyedBy {
            fingerprint: self.fingerprint,
            selection,
            is_secret: self.is_secret,
        };
        let forced = said
            .force_update
            .as_ref()
            .is_some_and(|picks| picks(request));
        Ok(Met {
            policy: self.clone(),
            keyed,
            forced,
        })
    }

    /// Whether the answer to a POST may be stored for later GETs: whether that says enough of them.
    pub(crate) fn takes_posts(&self) -> bool {
        let said = &self.said;
        self.fingerprint == 0
            && !said.is_about_requests()
            && !said.no_store
            && said.store_if.is_none()
            && said.tags.is_empty()
    }

    /// Whether its handlers see only what is in the key.
    pub(crate) fn is_strict(&self) -> bool {
        self.said.strict
    }

    /// How many variants of a URI are kept, where the layer keeps so many.
    pub(crate) fn max_variants(&self, of_layer: usize) -> usize {
        const OF_EXTENSIONS: usize = 256;
        let by_extension = self.parts.identity.is_some() || !self.parts.extensions.is_empty();
        match self.said.max_variants {
            Some(most) => most,
            None if by_extension => of_layer.max(OF_EXTENSIONS),
            None => of_layer,
        }
    }

    /// Names the tags of the policy in the extensions of a response, as its handler could have.
    pub(crate) fn tag<R>(&self, response: &mut Response<R>) {
        if !self.said.tags.is_empty() {
            let tags = response
                .extensions_mut()
                .get_or_insert_default::<CacheTags>();
            tags.extend(&self.said.tags);
        }
    }

    /// Marks an answer that came from the store.
    pub(crate) fn mark_hit(&self, headers: &mut HeaderMap) {
        if let Some(name) = &self.hit_header {
            // A map that is full has no room to tell in; adding to it would panic.
            let _ = headers.try_insert(name.clone(), HeaderValue::from_static("HIT"));
        }
    }

    /// Tells once that the key has less than the query.
    pub(crate) fn tell_of_query(&self) {
        if is_first(&self.told_of_query) {
            tracing::warn!(
                route = &*self.route,
                "a policy leaves parameters of the query out of the key: the handler must not go by them"
            );
        }
    }

    fn tell_of_parts(&self, reason: Reason) {
        if is_first(&self.told_of_parts) {
            let route = &*self.route;
            let reason = reason.as_str();
            tracing::warn!(
                route,
                reason,
                "a request lacks an extension that its policy keys by: the layer that sets it has to be outside CacheLayer"
            );
        }
    }
}

/// In the extensions of a response on its way out to another layer of the same cache, which does not know of the policy
/// that the response came through, and whose key has not what that asks for.
#[derive(Clone, Copy)]
pub(crate) struct FromInside;

fn is_first(told: &AtomicBool) -> bool {
    !told.load(Ordering::Relaxed) && !told.swap(true, Ordering::Relaxed)
}

/// What is said of a response with this status: by its handler first, then by the policy of its route.
pub(crate) fn said(
    route: Option<&Policy>,
    handler: Option<&CachePolicy>,
    status: StatusCode,
) -> Said {
    let policies = handler.into_iter().chain(route.map(|route| &route.said));
    let given = |policy: &CachePolicy| {
        let lifetime = policy.lifetimes.of(status)?;
        Some((lifetime, policy.lifetimes.override_own))
    };
    let given = policies.into_iter().find_map(given);
    let parts = route.map(|route| &route.parts);
    let per_user = parts.is_some_and(|parts| parts.identity.is_some());
    let by_cookie =
        |parts: &KeyParts| !parts.cookies.is_empty() || parts.headers.contains(&header::COOKIE);
    Said {
        lifetime: given.map(|(lifetime, _)| lifetime),
        overrides: given.is_some_and(|(_, overrides)| overrides),
        per_user,
        tells_visitors_apart: per_user || parts.is_some_and(by_cookie),
        fingerprint: route.map_or(0, |route| route.fingerprint),
    }
}

/// Why a response is not stored by the word of its handler or of the policy of its route.
///
/// A handler's policy that says what comes too late is refused as a whole: it was meant to keep something out of the
/// hands of others, perhaps.
pub(crate) fn refusal(
    route: Option<&Policy>,
    handler: Option<&CachePolicy>,
    response: &response::Parts,
) -> Option<Reason> {
    let filters = |policy: &CachePolicy| {
        let picks = policy.store_if.as_ref();
        picks.is_some_and(|picks| !picks(response))
    };
    if let Some(handler) = handler {
        if handler.is_about_requests() {
            return Some(Reason::PolicyTooLate);
        }
        if !check::lifetimes(handler).is_empty() {
            return Some(Reason::PolicyInvalid);
        }
        if handler.no_store {
            return Some(Reason::PolicyNoStore);
        }
    }
    let policies = handler.into_iter().chain(route.map(|route| &route.said));
    policies.into_iter().any(filters).then_some(Reason::StoreIf)
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.said.fmt(f)
    }
}
