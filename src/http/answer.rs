//! Answers made from a stored response, and what every answer tells.

use std::ops::Range;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

#[cfg(feature = "compression")]
use super::precompress;
use super::{
    asked::Asked,
    body::CacheBody,
    conditional,
    layer::Config,
    range::{self, RangeField, Slices, Wanted},
    status::{CACHE_STATUS, Forward, Outcome, StatusDetail},
    stored::{StoredResponse, judged},
    telling::explained,
};
use crate::{Reason, Timestamp};

/// What an answer tells of itself in `Cache-Status`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling {
    pub(super) outcome: Outcome,
    /// Why what is stored did not answer.
    pub(super) why: Option<Reason>,
    /// Why the answer was not stored, or answers although it is stale.
    pub(super) detail: Option<Reason>,
}

impl Telling {
    pub(super) fn hit(ttl: i64) -> Self {
        Self {
            outcome: Outcome::Hit { ttl },
            why: None,
            detail: None,
        }
    }

    pub(super) fn forwarded(reason: Forward, detail: Option<Reason>) -> Self {
        Self {
            outcome: Outcome::forwarded(reason),
            why: None,
            detail,
        }
    }

    /// An answer made from that to another request, which went to the inner service.
    pub(super) fn collapsed() -> Self {
        let outcome = Outcome::Fwd {
            reason: Forward::Miss,
            status: None,
            stored: false,
            collapsed: true,
        };
        Self {
            outcome,
            why: None,
            detail: None,
        }
    }

    pub(super) fn value(self, config: &Config) -> Option<HeaderValue> {
        let status = config.status.as_ref()?;
        let why = self
            .why
            .filter(|_| config.status_detail == StatusDetail::All);
        let detail = self
            .detail
            .filter(|_| config.status_detail != StatusDetail::None);
        Some(match (why, detail) {
            (Some(why), Some(detail)) if why != detail => {
                status.value(self.outcome, Some(&format!("{why}, {detail}")))
            }
            (why, detail) => status.value(self.outcome, detail.or(why).map(Reason::as_str)),
        })
    }

    /// Takes out of an answer of the inner service what is for this cache alone, and tells what was done.
    pub(super) fn append(self, config: &Config, headers: &mut HeaderMap) {
        config.rules.targets.hide(headers);
        if let Some(value) = self.value(config) {
            // A map that is full has no room to tell in; adding to it would panic.
            let _ = headers.try_append(CACHE_STATUS, value);
        }
    }
}

/// The answer that a stored response gives to a request: the response, its head, ranges of it, or a 304 (RFC 9110
/// §13.2.2).
pub(super) fn from_store<R>(
    config: &Config,
    stored: &StoredResponse,
    asked: &Asked,
    client: &HeaderMap,
    now: Timestamp,
    telling: Telling,
) -> Response<CacheBody<R>> {
    with_body(
        config,
        stored,
        asked,
        client,
        now,
        telling,
        || match stored.trailers() {
            None => CacheBody::stored(stored.body.clone()),
            Some(trailers) => CacheBody::trailed(stored.body.clone(), trailers.clone()),
        },
    )
}

/// [`from_store`] with a body of its own, where one is called for.
#[inline]
pub(super) fn with_body<R>(
    config: &Config,
    stored: &StoredResponse,
    asked: &Asked,
    client: &HeaderMap,
    now: Timestamp,
    telling: Telling,
    body: impl FnOnce() -> CacheBody<R>,
) -> Response<CacheBody<R>> {
    let status = stored.head.status;
    let received = stored.head.times.response;
    let not_modified = asked.conditional
        && conditional::not_modified(client, status, stored.plain_headers(false), received);
    let age = stored.policy.age(now);
    if asked.range == RangeField::Bytes
        && !not_modified
        && let Some(answer) = ranged(config, stored, client, age, telling)
    {
        return answer;
    }
    let headers = match telling {
        Telling {
            outcome: Outcome::Hit { ttl },
            why: None,
            detail: None,
        } => stored.hit_headers(not_modified, config.status.as_ref(), age, ttl),
        telling => {
            let mut headers = stored.plain_headers(not_modified).clone();
            stored.tell(&mut headers, age, telling.value(config));
            headers
        }
    };
    let body = match not_modified || asked.is_head {
        true => CacheBody::empty(),
        false => body(),
    };
    let mut response = Response::new(body);
    *response.status_mut() = if not_modified {
        StatusCode::NOT_MODIFIED
    } else {
        status
    };
    *response.headers_mut() = headers;
    response
}

/// The ranges that the request asks for, or a 416; `None` where it gets what it would get without them.
#[cold]
fn ranged<R>(
    config: &Config,
    stored: &StoredResponse,
    client: &HeaderMap,
    age: u32,
    telling: Telling,
) -> Option<Response<CacheBody<R>>> {
    // RFC 9110 §14.2: only in place of a 200.
    if judged(stored.head.status) != StatusCode::OK {
        return None;
    }
    #[cfg(feature = "compression")]
    if precompress::may_mix_with(config, client, stored) {
        return None;
    }
    let len = whole_len(stored);
    let told = || {
        let mut headers = stored.plain_headers(false).clone();
        stored.tell(&mut headers, age, telling.value(config));
        headers
    };
    match wanted(stored, client) {
        Wanted::Whole => None,
        Wanted::Unsatisfiable => Some(range::unsatisfiable(len, &told())),
        Wanted::Spans(spans) => {
            let slices = Slices::new(spans, len, |span| take(stored, span))?;
            Some(range::partial(slices, told(), client))
        }
    }
}

/// Whether the request gets what it asks for from what is stored: from a whole response it does, from parts where they
/// have all of it.
pub(super) fn has_ranges(stored: &StoredResponse, client: &HeaderMap) -> bool {
    stored.parts.is_none()
        || match wanted(stored, client) {
            Wanted::Whole => false,
            Wanted::Unsatisfiable => true,
            Wanted::Spans(spans) => spans.iter().all(|span| take(stored, span).is_some()),
        }
}

fn wanted(stored: &StoredResponse, client: &HeaderMap) -> Wanted {
    let received = stored.head.times.response;
    // With a tag that the layer made, which If-Range may name.
    let headers = stored.plain_headers(false);
    range::wanted(client, headers, received, whole_len(stored))
}

fn whole_len(stored: &StoredResponse) -> u64 {
    match &stored.parts {
        Some(parts) => parts.len(),
        None => stored.body.len() as u64,
    }
}

fn take(stored: &StoredResponse, span: &Range<u64>) -> Option<Bytes> {
    match &stored.parts {
        Some(parts) => parts.take(span),
        None => range::slice(&stored.body, span),
    }
}

/// RFC 9111 §5.2.1.7: nothing stored answers, and the client did not want anybody else asked.
pub(super) fn only_if_cached<R>(config: &Config) -> Response<CacheBody<R>> {
    let mut response = Response::new(CacheBody::stored(Bytes::new()));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    explained(config, None, Reason::OnlyIfCached);
    Telling::forwarded(Forward::Request, Some(Reason::OnlyIfCached))
        .append(config, response.headers_mut());
    response
}
