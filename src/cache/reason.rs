use std::{fmt, ops::Index};

macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident => $name:literal),* $(,)?) => {
        /// Why the layer did not look, did not reuse, did not store, or reused what is stale.
        ///
        /// There is one for each of its decisions, and there are no others: what is counted in
        /// [`Stats::reasons`](crate::Stats::reasons), logged, and told in `Cache-Status` is one of these names, never
        /// anything of a request.
        ///
        /// # Examples
        ///
        /// ```
        /// use larder::Reason;
        ///
        /// assert_eq!(Reason::SetCookie.as_str(), "set-cookie");
        /// assert!(Reason::ALL.contains(&Reason::SetCookie));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $reason),* }

        impl Reason {
            /// All reasons there are.
            pub const ALL: &'static [Self] = &[$(Self::$reason),*];

            /// The name in logs, statistics and `Cache-Status`: a token.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$reason => $name),* }
            }
        }
    };
}

reasons! {
    /// Not looked up: the request has `If-Match` or `If-Unmodified-Since`, which are for the handler (RFC 9111 §4.3.2).
    Precondition => "precondition",
    /// Not looked up: the request has content, which is not in the key.
    Content => "content",
    /// Not looked up: the request is to become another protocol.
    Upgrade => "upgrade",
    /// Not looked up: which host the request is for cannot be told.
    Host => "host",
    /// Not looked up, or not stored: the method is not GET or HEAD.
    Method => "method",
    /// Not looked up and not stored: the request says `no-store` (RFC 9111 §5.2.1.5).
    RequestNoStore => "request-no-store",
    /// Not looked up: `CachePolicy::unless` picked the request.
    Unless => "unless",
    /// Not looked up: the request lacks an extension that its policy keys by.
    NoKeyPart => "no-key-part",
    /// Not looked up: nobody is named by the extension that a policy for each user goes by.
    NoIdentity => "no-identity",

    /// Not reused: nothing is stored for the URI.
    NothingStored => "nothing-stored",
    /// Not reused: what is stored for the URI was selected by other request fields (RFC 9111 §4.1).
    OtherVariant => "other-variant",
    /// Not reused: of the whole only parts are stored, and not what the request asks for (RFC 9111 §3.3).
    OtherPart => "other-part",
    /// Not reused: what is stored is stale (RFC 9111 §4.2).
    Stale => "stale",
    /// Not reused without validation: the stored response says `no-cache` (RFC 9111 §5.2.2.4).
    NoCache => "no-cache",
    /// Not reused without validation: the request says `no-cache` (RFC 9111 §5.2.1.4).
    RequestNoCache => "request-no-cache",
    /// Not reused: the request's `max-age` is shorter than the age of the stored response (RFC 9111 §5.2.1.1).
    RequestMaxAge => "request-max-age",
    /// Not reused: the request's `min-fresh` is longer than the stored response stays fresh (RFC 9111 §5.2.1.3).
    RequestMinFresh => "request-min-fresh",
    /// Not reused: the request has credentials, and the stored response does not say that it is for everyone.
    Personal => "personal",
    /// Not reused: what is stored for the URI was stored under other key parts, by another policy.
    OtherPolicy => "other-policy",
    /// Not reused: `CachePolicy::force_update` picked the request.
    ForceUpdate => "force-update",
    /// Not reused: the stored bytes could not be read.
    Damaged => "damaged",
    /// Not reused: the layer is in shadow mode, and the store would have answered.
    Shadow => "shadow",
    /// Not forwarded: the request says `only-if-cached`, and nothing stored answers it (RFC 9111 §5.2.1.7).
    OnlyIfCached => "only-if-cached",

    /// Not stored: a handler may have taken the request for one with another host, URI or method than the key has.
    Ambiguous => "ambiguous-request",
    /// Not stored: the status is not cacheable without a word about freshness, or answers one request alone.
    Status => "status",
    /// Not stored: the handler saw that the request asks for ranges, and answered with something else than a part.
    Range => "range",
    /// Not stored: a part of a response that does not say in one honest `Content-Range` which part it is, or of which
    /// version by a strong validator (RFC 9111 §3.3, §3.4).
    Partial => "partial",
    /// Not stored: the response says `no-store` (RFC 9111 §5.2.2.5).
    NoStore => "no-store",
    /// Not stored: the response says `must-understand`, and its status is not understood (RFC 9111 §5.2.2.3).
    NotUnderstood => "must-understand",
    /// Not stored: the response says `private` (RFC 9111 §5.2.2.7).
    Private => "private",
    /// Not stored: the response says `Vary: *` (RFC 9111 §4.1).
    Vary => "vary",
    /// Not stored: in strict mode, the response names a field in `Vary` that its policy does not declare.
    UndeclaredVary => "undeclared-vary",
    /// Not stored: a stream of events has no end.
    EventStream => "event-stream",
    /// Not stored: the request has `Authorization`, and the response does not say that it is for everyone (RFC 9111 §3.5).
    Authorization => "authorization",
    /// Not stored: the response sets a cookie, and does not say that it is for everyone.
    SetCookie => "set-cookie",
    /// Not stored: the request or the response has credentials, and the handler says nothing about caching.
    Credentials => "credentials",
    /// Not stored: the response is stale when it comes, and cannot be validated.
    NoFreshness => "no-freshness",
    /// Not looked up or not stored: a `CachePolicy` says `no_store`.
    PolicyNoStore => "policy-no-store",
    /// Not stored: `CachePolicy::store_if` did not pick the response.
    StoreIf => "store-if",
    /// Not stored: the handler's `CachePolicy` says what can only be said before a request is looked up.
    PolicyTooLate => "policy-too-late",
    /// Not stored: the handler's `CachePolicy` contradicts itself.
    PolicyInvalid => "policy-invalid",
    /// Not stored: a layer of the same cache further in has a policy for the response, and this one has not.
    PolicyInside => "policy-inside",
    /// Not stored: the body is larger than the layer or the backend takes.
    TooLarge => "too-large",
    /// Not stored: other bodies on their way into the store take all the memory that there is for them.
    InFlight => "in-flight",
    /// Not stored: the response has more fields than a header map takes.
    TooManyFields => "too-many-fields",
    /// Not stored: the response varies by credentials, whose hash needs `CACHE_HASH_KEY` on a shared backend.
    VaryBySecret => "vary-by-secret",
    /// Not stored: the response has more trailers, or longer ones, than are kept.
    Trailers => "trailers",
    /// Not stored: the body broke off, or its client left.
    Broken => "broken",
    /// Not stored: the URI was invalidated, or somebody else was quicker, while the handler ran.
    Late => "late",
    /// Not stored: the response has more tags, or longer ones, than can be kept, and could not be purged by each.
    Tags => "tags",
    /// Not stored: others changed the URI's variants again and again.
    Contention => "contention",
    /// Not looked up or not stored: the backend failed, or is out of reach.
    Backend => "backend",
    /// Not trusted: the handler answered 304 with a validator that it was not asked about.
    Contradicting => "contradicting-304",

    /// Reused although stale, because the handler failed (RFC 5861 §4).
    StaleIfError => "stale-if-error",
    /// Reused although stale, while a new response is fetched (RFC 5861 §3).
    StaleWhileRevalidate => "stale-while-revalidate",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How often there was each [`Reason`].
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "memory")] {
/// use larder::{Cache, Reason};
///
/// let stats = Cache::memory().stats();
/// assert_eq!(stats.reasons[Reason::SetCookie], 0);
/// assert_eq!(stats.reasons.iter().count(), 0);
/// # }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reasons([u64; Reason::ALL.len()]);

impl Reasons {
    pub(super) fn read(count: impl Fn(Reason) -> u64) -> Self {
        let mut reasons = Self::default();
        for &reason in Reason::ALL {
            reasons.0[reason as usize] = count(reason);
        }
        reasons
    }

    /// The reasons there were, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        let all = Reason::ALL.iter().map(|&reason| (reason, self[reason]));
        all.filter(|&(_, count)| count > 0)
    }
}

impl Index<Reason> for Reasons {
    type Output = u64;

    fn index(&self, reason: Reason) -> &u64 {
        &self.0[reason as usize]
    }
}

impl Default for Reasons {
    fn default() -> Self {
        Self([0; Reason::ALL.len()])
    }
}

/// Shows the reasons there were.
impl fmt::Debug for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}
