//! How long responses are fresh by the word of a policy.

use std::time::Duration;

use http::StatusCode;

/// Lifetimes by status.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lifetimes {
    /// Of what succeeded or leads elsewhere.
    pub(crate) ttl: Option<Duration>,
    pub(crate) by_status: Vec<(StatusCode, Duration)>,
    /// Of what is not there.
    pub(crate) negative: Option<Duration>,
    /// They stand in for the handler's own too.
    pub(crate) override_own: bool,
}

/// What a policy says of one response, and what storing it depends on because of that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    /// How long it is fresh, unless it says so itself.
    pub(crate) lifetime: Option<Duration>,
    /// The lifetime holds also where the response says another one.
    pub(crate) overrides: bool,
    /// The key says whose response it is, so that what is private can be stored.
    pub(crate) per_user: bool,
    /// The key says something of who asks, so that a cookie set for one must not reach others who are alike.
    pub(crate) tells_visitors_apart: bool,
    /// Of the key parts; zero where there are none.
    pub(crate) fingerprint: u64,
}

/// The statuses that `negative_ttl` is for.
pub(super) const NEGATIVE: [u16; 5] = [404, 405, 410, 414, 501];

/// The statuses that `ttl` is for: those of RFC 9110 §15.1 that are not negative, without 206.
pub(super) const POSITIVE: [u16; 6] = [200, 203, 204, 300, 301, 308];

impl Said {
    /// Nothing.
    pub(crate) const NONE: Self = Self {
        lifetime: None,
        overrides: false,
        per_user: false,
        tells_visitors_apart: false,
        fingerprint: 0,
    };
}

impl Lifetimes {
    /// The lifetime of responses with this status.
    pub(crate) fn of(&self, status: StatusCode) -> Option<Duration> {
        let own = self.by_status.iter().find(|(known, _)| *known == status);
        let number = status.as_u16();
        match own {
            Some((_, lifetime)) => Some(*lifetime),
            None if POSITIVE.contains(&number) => self.ttl,
            None if NEGATIVE.contains(&number) => self.negative,
            None => None,
        }
    }

    /// Everything that was said, and for which responses.
    pub(super) fn all(&self) -> impl Iterator<Item = Duration> {
        let by_status = self.by_status.iter().map(|(_, lifetime)| *lifetime);
        self.ttl.into_iter().chain(self.negative).chain(by_status)
    }
}
