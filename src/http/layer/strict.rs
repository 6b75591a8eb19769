use super::CacheLayer;

impl CacheLayer {
    /// Strict mode: a handler sees of a request only what is in the key, so that nothing else can be in its answer.
    ///
    /// Of `GET` and `HEAD` requests that the cache may store for or answer, everything is taken out that is not declared
    /// before the inner service is called:
    ///
    /// * header fields, `Authorization` and `Cache-Control` among them, but for `Host`, which is in the key, `Range`, whose
    ///   answers are not stored, and those that the policy of the route names by
    ///   [`vary_by_header`](crate::CachePolicy::vary_by_header);
    /// * cookies that it does not name by [`vary_by_cookie`](crate::CachePolicy::vary_by_cookie);
    /// * parameters of the query that it leaves out of the key by [`query`](crate::CachePolicy::query); without that
    ///   all are in the key, and are seen.
    ///
    /// A handler that is to see the language of a client needs a policy that says so. A response that names an undeclared
    /// field in `Vary` is not stored ([`Reason::UndeclaredVary`](crate::Reason::UndeclaredVary)), and the log has it once
    /// for each route; that goes for what layers inside this one add, such as those for CORS and compression. Nor is the
    /// answer to a `POST` stored for later `GET`s.
    ///
    /// Nothing is stored or answered that would not be without it: a request with cookies is one with cookies also where
    /// the handler does not see them.
    ///
    /// # What is seen all the same
    ///
    /// Requests that are not for the cache are left as they are: unsafe methods, requests with content or
    /// preconditions, those that say `no-store`, and what a policy takes out by `unless` or `no_store`. So are all in
    /// [shadow mode](Self::shadow), which changes no answer. **Extensions cannot be restricted**: what a layer outside
    /// puts there, such as a session or the peer's address, is seen by handlers, and has to be in the key
    /// ([`vary_by`](crate::CachePolicy::vary_by), [`per_user`](crate::CachePolicy::per_user)) where they go by it.
    ///
    /// Where two layers of one cache are around a handler, the outer one decides.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> larder::Result<()> {
    /// use larder::{Cache, CacheLayer, CachePolicy};
    ///
    /// let layer = CacheLayer::new(Cache::memory())
    ///     .strict()
    ///     .policy(CachePolicy::new().vary_by_header("accept-language").vary_by_cookie("theme"))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn strict(self) -> Self {
        self.change(|config| config.strict = true)
    }
}
