//! Whether a stored response answers a request (RFC 9111 §4).

use std::time::Duration;

use super::{
    directives::{MaxStale, RequestDirectives},
    freshness::ResponsePolicy,
    policy::Rules,
};
use crate::{Reason, Timestamp};

/// What is done with a stored response that was selected for a request. `age` is the value of `Age`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// It is fresh, and answers.
    Fresh { age: u32 },
    /// It is stale, and answers because the request takes stale responses.
    StaleAllowed { age: u32 },
    /// It is stale, and answers while a new response is fetched.
    WhileRevalidating { age: u32 },
    /// It has to be validated first.
    Revalidate(Reason),
}

/// Decides whether a stored response answers a request at `now`.
#[inline]
pub(crate) fn reuse(
    policy: &ResponsePolicy,
    request: &RequestDirectives,
    now: Timestamp,
    rules: &Rules,
) -> Reuse {
    let asks_for_nothing = request.is_empty() || rules.ignore_client_directives;
    if asks_for_nothing && now < policy.fresh_until && !policy.no_cache {
        return Reuse::Fresh {
            age: policy.age(now),
        };
    }
    let request = if asks_for_nothing {
        &RequestDirectives::NONE
    } else {
        request
    };
    weigh(policy, request, now)
}

fn weigh(policy: &ResponsePolicy, request: &RequestDirectives, now: Timestamp) -> Reuse {
    // RFC 9111 §5.2.2.4, §5.2.1.4.
    if policy.no_cache {
        return Reuse::Revalidate(Reason::NoCache);
    }
    if request.no_cache {
        return Reuse::Revalidate(Reason::RequestNoCache);
    }
    if is_too_old(policy, request, now) {
        return Reuse::Revalidate(Reason::RequestMaxAge);
    }
    let age = policy.age(now);
    if now < policy.fresh_until {
        // RFC 9111 §5.2.1.3.
        let left = policy.fresh_until.since(now);
        let is_fresh_enough = request
            .min_fresh
            .is_none_or(|seconds| left >= secs(seconds));
        return match is_fresh_enough {
            true => Reuse::Fresh { age },
            false => Reuse::Revalidate(Reason::RequestMinFresh),
        };
    }
    // RFC 9111 §5.2.1.1 and §5.2.1.3: with these, a client takes stale responses only when it says so too.
    if request.min_fresh.is_some() {
        return Reuse::Revalidate(Reason::RequestMinFresh);
    }
    if request.max_age.is_some() && request.max_stale == MaxStale::None {
        return Reuse::Revalidate(Reason::RequestMaxAge);
    }
    let staleness = now.since(policy.fresh_until);
    // RFC 5861 §3: not after the window.
    if staleness < policy.stale_while_revalidate() {
        return Reuse::WhileRevalidating { age };
    }
    // RFC 9111 §5.2.1.2; §4.2.4: not where the response forbids it.
    let is_allowed = match request.max_stale {
        MaxStale::None => false,
        MaxStale::Secs(seconds) => staleness <= secs(seconds),
        MaxStale::Any => true,
    };
    if is_allowed && !policy.must_revalidate && !policy.s_maxage {
        return Reuse::StaleAllowed { age };
    }
    Reuse::Revalidate(Reason::Stale)
}

/// Whether the response is older than the request's `max-age`; 0 asks for a validation, however new the response is.
fn is_too_old(policy: &ResponsePolicy, request: &RequestDirectives, now: Timestamp) -> bool {
    request
        .max_age
        .is_some_and(|seconds| seconds == 0 || policy.age_millis(now) > u64::from(seconds) * 1_000)
}

/// Whether a stored response answers for a handler that failed at `now`: by its error, or with a 500, 502, 503 or 504.
pub(crate) fn serve_on_error(policy: &ResponsePolicy, now: Timestamp, rules: &Rules) -> bool {
    if now < policy.fresh_until {
        return !policy.no_cache;
    }
    now.since(policy.fresh_until) < policy.stale_if_error(rules)
}

const fn secs(seconds: u32) -> Duration {
    Duration::from_secs(seconds as u64)
}

#[cfg(test)]
mod tests;
