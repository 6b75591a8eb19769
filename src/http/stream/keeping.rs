use std::task::Context;

use bytes::Bytes;
use http::HeaderMap;

use crate::{
    Reason,
    http::{commit::Commit, trailers},
};

/// A body that is to be stored when it has come whole.
pub(in crate::http) struct Keeping {
    commit: Box<Commit>,
    limit: u64,
    /// What `Content-Length` promised.
    expected: Option<u64>,
}

/// What the bytes so far say of storing them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Open,
    Whole,
    Refused(Reason),
    Broken,
}

/// What is to be done about a kept response, without holding a lock.
pub(super) enum Fate {
    Open,
    Store(Keeping, Vec<Bytes>, HeaderMap),
    GiveUp(Keeping, Reason),
    Broken(Keeping),
}

impl Keeping {
    pub(in crate::http) fn new(commit: Box<Commit>, expected: Option<u64>) -> Self {
        let most = commit.config.max_body;
        Self {
            limit: expected.unwrap_or(most).min(most),
            commit,
            expected,
        }
    }

    /// Goes by the bytes so far, and by whether they are all.
    pub(super) fn weigh(&self, len: u64, trailers: Option<&HeaderMap>, ends: bool) -> Verdict {
        if len > self.limit {
            return Verdict::Refused(Reason::TooLarge);
        }
        if !trailers.is_none_or(trailers::are_few) {
            return Verdict::Refused(Reason::Trailers);
        }
        if !self.commit.reserved.raise(len) {
            return Verdict::Refused(Reason::InFlight);
        }
        // Servers do not poll a body beyond its length, unless something is to come behind it.
        let is_full = self.expected == Some(len) && self.commit.trailer.is_none();
        if !ends && !is_full {
            return Verdict::Open;
        }
        match self.expected.is_none_or(|expected| expected == len) {
            true => Verdict::Whole,
            false => Verdict::Broken,
        }
    }

    /// The body broke off.
    pub(super) fn broken(self) {
        self.commit.broken();
    }
}

impl Fate {
    pub(super) fn come(self, cx: &mut Context<'_>) {
        match self {
            Self::Open => {}
            Self::Store(keeping, body, trailers) => keeping.commit.store(body, trailers, Some(cx)),
            Self::GiveUp(keeping, reason) => keeping.commit.give_up(reason),
            Self::Broken(keeping) => keeping.commit.broken(),
        }
    }
}
