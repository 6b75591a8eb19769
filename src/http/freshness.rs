//! How long a stored response is fresh, how old it is, and what may be done with it afterwards (RFC 9111 §4.2).

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};

use super::{
    conditional::has_validator,
    date::{self, DateField},
    directives::ResponseDirectives,
    policy::Rules,
    storable::{RequestFacts, is_heuristically_cacheable, may_imply_freshness},
    text::{MAX_SECONDS, delta_seconds, trim},
};
use crate::Timestamp;

const DAY: Duration = Duration::from_secs(86_400);
/// A response with a validator stays this long after its freshness at least: validating costs less than anew.
const VALIDATION_PERIOD: Duration = Duration::from_secs(600);

/// When a response was asked for, and when its fields were there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Times {
    pub(crate) request: Timestamp,
    pub(crate) response: Timestamp,
}

/// All that reusing a stored response depends on, read from its fields once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ResponsePolicy {
    pub(super) fresh_until: Timestamp,
    pub(super) received: Timestamp,
    /// In milliseconds, like what follows from it: a hit computes its age.
    pub(super) initial_age: u64,
    pub(super) lifetime: Duration,
    pub(super) stale_while_revalidate: u32,
    pub(super) stale_if_error: Option<u32>,
    /// `no-cache`: validated before every reuse, fresh or not.
    pub(super) no_cache: bool,
    /// `must-revalidate` or `proxy-revalidate`: never reused stale.
    pub(super) must_revalidate: bool,
    pub(super) s_maxage: bool,
    pub(super) has_validator: bool,
    /// Neither the freshness nor that the response is for everyone is the handler's own word.
    pub(super) is_implied: bool,
}

impl ResponsePolicy {
    /// Reads a response that came at `times.response`; after a 304, the response with its fields brought up to date.
    pub(crate) fn new(
        request: &RequestFacts,
        status: StatusCode,
        headers: &HeaderMap,
        directives: &ResponseDirectives,
        times: Times,
        rules: &Rules,
    ) -> Self {
        // RFC 9110 §6.6.1: a response without a valid Date is of the time it came.
        let received = times.response;
        let date = date::single(headers, &header::DATE, received)
            .valid()
            .unwrap_or(received);
        let explicit = explicit_lifetime(headers, directives, date, received);
        let given = request.said.lifetime;
        let implied = || match may_imply_freshness(request, headers, directives) {
            true => {
                given.unwrap_or_else(|| implied_lifetime(status, headers, directives, date, rules))
            }
            false => Duration::ZERO,
        };
        let overriding = given.filter(|_| request.said.overrides);
        // Ours: who says that a response is never fresh does not say that it is for everyone.
        let is_own_word =
            explicit.is_some_and(|own| overriding.is_none() || !own.is_zero() || directives.public);
        let lifetime = match (explicit, overriding) {
            (Some(_), Some(given)) if is_own_word => given,
            (Some(explicit), None) => explicit,
            _ => implied(),
        };
        let lifetime = lifetime.min(seconds(MAX_SECONDS));
        let initial_age = millis(initial_age(headers, date, times));
        Self {
            fresh_until: minus(received + lifetime, initial_age),
            received,
            initial_age,
            lifetime,
            stale_while_revalidate: directives.stale_while_revalidate.unwrap_or(0),
            stale_if_error: directives.stale_if_error,
            no_cache: directives.no_cache,
            must_revalidate: directives.must_revalidate || directives.proxy_revalidate,
            s_maxage: directives.s_maxage.is_some(),
            has_validator: has_validator(headers),
            is_implied: !is_own_word && !directives.public,
        }
    }

    /// The value of `Age` at `now` (RFC 9111 §4.2.3).
    #[inline]
    pub(crate) fn age(&self, now: Timestamp) -> u32 {
        let age = self.age_millis(now) / 1_000;
        u32::try_from(age).map_or(MAX_SECONDS, |age| age.min(MAX_SECONDS))
    }

    #[inline]
    pub(super) fn age_millis(&self, now: Timestamp) -> u64 {
        let in_store = now.as_millis().saturating_sub(self.received.as_millis());
        self.initial_age.saturating_add(in_store)
    }

    /// The first point in time at which the response is stale. It may lie before the response came.
    pub(crate) const fn fresh_until(&self) -> Timestamp {
        self.fresh_until
    }

    /// Seconds of freshness left at `now`, a part of one counting; negative for a stale response, as `ttl` of
    /// `Cache-Status` has it.
    pub(crate) fn ttl(&self, now: Timestamp) -> i64 {
        let (until, now) = (self.fresh_until.as_millis(), now.as_millis());
        let whole = until.abs_diff(now).div_ceil(1_000);
        let whole = i64::try_from(whole).unwrap_or(i64::MAX);
        if until < now { -whole } else { whole }
    }

    /// The same, stale from `at` on if not before: what was purged softly.
    pub(crate) fn stale_from(mut self, at: Timestamp) -> Self {
        self.fresh_until = self.fresh_until.min(at);
        self
    }

    /// Whether every reuse has to be validated, of a fresh response too.
    pub(crate) const fn must_be_validated(&self) -> bool {
        self.no_cache
    }

    /// Whether larder or a heuristic made the response fresh, and not the handler. Such a response is no answer to a
    /// request with `Cookie` or `Authorization`, as little as it would have been stored from one (ours).
    pub(crate) const fn is_implied(&self) -> bool {
        self.is_implied
    }

    /// Whether a request could ever be answered with the response.
    pub(super) fn is_worth_storing(&self) -> bool {
        let outlives = self
            .stale_while_revalidate()
            .max(seconds(self.stale_if_error.unwrap_or(0)));
        let is_reusable = !self.no_cache && !self.lifetime.max(outlives).is_zero();
        self.has_validator || is_reusable
    }

    /// How long the stale response is served while a new one is fetched (RFC 5861 §3).
    ///
    /// Here and in [`stale_if_error`](Self::stale_if_error), `s-maxage` does not forbid what the same response permits
    /// in so many words, "regardless of other freshness information" (RFC 5861 §4). `must-revalidate`,
    /// `proxy-revalidate` and `no-cache` do (RFC 9111 §4.2.4).
    pub(super) fn stale_while_revalidate(&self) -> Duration {
        let is_forbidden = self.must_revalidate || self.no_cache;
        if is_forbidden {
            Duration::ZERO
        } else {
            seconds(self.stale_while_revalidate)
        }
    }

    /// How long the stale response is served when the handler fails (RFC 5861 §4).
    pub(super) fn stale_if_error(&self, rules: &Rules) -> Duration {
        match self.stale_if_error {
            _ if self.must_revalidate || self.no_cache => Duration::ZERO,
            Some(window) => seconds(window),
            // RFC 9111 §5.2.2.10: s-maxage has the meaning of proxy-revalidate, and ours is not the handler's word.
            None if self.s_maxage => Duration::ZERO,
            None => rules.stale_if_error,
        }
    }

    /// Till when the response is worth its place in the store.
    ///
    /// That is the end of its freshness and of the times in which it may be served stale; with a validator it is at
    /// least once more its lifetime, between ten minutes and a day, because validating it saves making it anew.
    pub(crate) fn keep_until(&self, rules: &Rules) -> Timestamp {
        let stale = self
            .stale_while_revalidate()
            .max(self.stale_if_error(rules));
        let served = self.fresh_until + stale;
        if !self.has_validator {
            return served;
        }
        let period = self.lifetime.clamp(VALIDATION_PERIOD, DAY);
        served.max(self.fresh_until.max(self.received) + period)
    }
}

/// RFC 9111 §4.2.1: s-maxage before max-age before Expires. An invalid Expires is in the past (§5.3).
fn explicit_lifetime(
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    date: Timestamp,
    received: Timestamp,
) -> Option<Duration> {
    if let Some(lifetime) = directives.s_maxage.or(directives.max_age) {
        return Some(seconds(lifetime));
    }
    if directives.targeted {
        return None;
    }
    match date::single(headers, &header::EXPIRES, received) {
        DateField::At(expires) => Some(expires.since(date)),
        DateField::Invalid => Some(Duration::ZERO),
        DateField::Absent => None,
    }
}

/// The lifetime of a response that does not give one.
fn implied_lifetime(
    status: StatusCode,
    headers: &HeaderMap,
    directives: &ResponseDirectives,
    date: Timestamp,
    rules: &Rules,
) -> Duration {
    let is_cacheable = is_heuristically_cacheable(status);
    let is_silent = !directives.targeted && !headers.contains_key(header::CACHE_CONTROL);
    if let Some(lifetime) = rules.default_ttl.filter(|_| is_silent && is_cacheable) {
        return lifetime;
    }
    // RFC 9111 §4.2.2: a tenth of the time since the last change.
    if !rules.heuristics || !is_cacheable && !directives.public {
        return Duration::ZERO;
    }
    let modified = date::single(headers, &header::LAST_MODIFIED, date).valid();
    modified.map_or(Duration::ZERO, |modified| {
        (date.since(modified) / 10).min(DAY)
    })
}

/// RFC 9111 §4.2.3: how old the response was when it came. The time the handler took counts.
fn initial_age(headers: &HeaderMap, date: Timestamp, times: Times) -> Duration {
    // Date has whole seconds, and a response made within this one is not old.
    let apparent = Timestamp::from_secs(times.response.as_secs()).since(date);
    let delay = times.response.since(times.request);
    apparent.max(age_field(headers).saturating_add(delay))
}

/// RFC 9111 §5.1: the first member of the first line counts, and what is not a number is ignored.
fn age_field(headers: &HeaderMap) -> Duration {
    let first = headers
        .get(header::AGE)
        .and_then(|line| line.as_bytes().split(|&byte| byte == b',').next());
    let age = first.and_then(|first| delta_seconds(trim(first).iter().copied()));
    seconds(age.unwrap_or(0))
}

const fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds as u64)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

const fn minus(at: Timestamp, millis: u64) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_sub(millis))
}

#[cfg(test)]
mod tests;
