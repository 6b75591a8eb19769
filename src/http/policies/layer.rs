use super::{cache_policy::CachePolicy, routes::Policies};
use crate::{CacheLayer, Error, ErrorKind, Result};

impl CacheLayer {
    /// Caches everything in the layer by one policy: on one `MethodRouter`, say.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) with everything in the policy that contradicts itself, this
    /// layer or its cache, and where the layer has policies already. Say the rest of the layer first.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use larder::{Cache, CacheLayer, CachePolicy};
    ///
    /// # fn main() -> larder::Result<()> {
    /// let policy = CachePolicy::new().ttl(Duration::from_secs(60)).ignore_cookies();
    /// let layer = CacheLayer::new(Cache::memory()).policy(policy)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn policy(self, policy: CachePolicy) -> Result<Self> {
        self.policies(Policies::builder().others(policy).build()?)
    }

    /// Caches each route by its policy.
    ///
    /// A layer of the same cache further in does nothing, with policies or without: give them to the outermost.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`](crate::ErrorKind::Settings) with everything in the policies that contradicts this layer or
    /// its cache, and where the layer has policies already. Say the rest of the layer first.
    pub fn policies(self, policies: Policies) -> Result<Self> {
        let config = self.config();
        if config.policies.is_some() {
            let message = "the layer has policies already; say them all in one `Policies`";
            return Err(Error::new(ErrorKind::Settings, message));
        }
        policies.check(&config.cache, config.rules.set_cookie)?;
        policies.register(&config.cache);
        drop(config);
        let layer = match policies.name_tags() {
            true => self.expect_tags(),
            false => self,
        };
        Ok(layer.change(|config| config.policies = Some(policies)))
    }
}
