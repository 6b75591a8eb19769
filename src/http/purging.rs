//! Purging: ending what is stored for a URI, or making it stale, because somebody says so.

mod method;
mod options;

use std::{slice, sync::Arc};

use bytes::Bytes;
use http::Uri;

use super::{
    key::{self, Host},
    policies::Policies,
    policy::Rules,
    stored::StoredResponse,
    tags::CacheTags,
    variants::VariantRecord,
};
use crate::{
    Cache, CodecId, Entry, Error, ErrorKind, Key, PutMode, Result, Timestamp, cache::Event,
};

pub(super) use method::{Authoriser, answer, is_purge};
pub use options::PurgeOptions;

/// How often a response is tried to be made stale while others store it anew.
const ATTEMPTS: usize = 4;

impl Cache {
    /// Ends what [`CacheLayer`](crate::CacheLayer) has stored for `uri` in this namespace, all variants at once, and says
    /// whether anything was. A response that is being made at this moment will not be kept.
    ///
    /// The URI is the one that clients ask for: host, path and query count as they are sent, the host in any letter
    /// case. The scheme does not: behind a proxy that ends TLS the layer does not see `https`, so both are purged.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Settings`] for what is no URI of HTTP and for a URI without a host, which
    /// [`PurgeOptions::host`] gives; and the backend's. A purge that failed with the backend out of reach is made up for
    /// before anything is read from it again.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the response as it was, or ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// let was_stored = cache.purge("https://shop.example/items/7").await?;
    /// assert!(!was_stored);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn purge(&self, uri: &str) -> Result<bool> {
        Ok(self.purge_with(uri, PurgeOptions::new()).await? > 0)
    }

    /// Makes what is stored for `uri` stale from now on, all variants of it, and says whether anything was stored.
    ///
    /// A stale response is validated before it answers again. Until then it is still there for what it permits:
    /// `stale-while-revalidate`, `stale-if-error`, and a 304 that brings it back. So the next clients need not wait, and
    /// a handler that fails is covered. What may not be served any more is for [`purge`](Self::purge).
    ///
    /// A response that cannot be made stale, because others change it all the time or the backend fails, is ended.
    ///
    /// # Errors
    ///
    /// As [`purge`](Self::purge).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the response as it was, stale, or ended.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// cache.purge_soft("https://shop.example/items/7").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn purge_soft(&self, uri: &str) -> Result<bool> {
        Ok(self.purge_with(uri, PurgeOptions::new().soft()).await? > 0)
    }

    /// Ends what is stored for every URI that begins with `uri`, and says for how many something was.
    ///
    /// Characters count and not segments: `/items` is the beginning of `/items-of-old` too, and `/items/` is not. The
    /// cost grows with everything that the backend holds; it is for administrators, not for requests.
    ///
    /// # Errors
    ///
    /// As [`purge`](Self::purge), and [`ErrorKind::Unsupported`] where
    /// [`Capabilities::delete_prefix`](crate::Capabilities::delete_prefix) is not declared, as on most servers, where nobody
    /// can look for keys without looking at all of them; databases that keep keys in order can. Tags do everywhere what
    /// prefixes do there.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some of the responses ended and others not.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// let cache = larder::Cache::memory();
    /// assert_eq!(cache.purge_prefix("https://shop.example/items/").await?, 0);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn purge_prefix(&self, uri: &str) -> Result<usize> {
        self.purge_with(uri, PurgeOptions::new().prefix()).await
    }

    /// Purges `uri` as the options say, and says for how many URIs something was stored.
    ///
    /// # Errors
    ///
    /// As [`purge`](Self::purge); with [`PurgeOptions::prefix`] as [`purge_prefix`](Self::purge_prefix), and
    /// [`ErrorKind::Unsupported`] where it is to be soft too.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves some of the responses purged and others not.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> larder::Result<()> {
    /// use larder::PurgeOptions;
    ///
    /// let cache = larder::Cache::memory();
    /// let soft = PurgeOptions::new().host("shop.example").soft();
    /// cache.purge_with("/items/7", soft).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn purge_with(&self, uri: &str, options: PurgeOptions) -> Result<usize> {
        if options.is_prefix && options.is_soft {
            let message = "only a whole URI can be purged softly; leave PurgeOptions::soft or PurgeOptions::prefix out";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let policies = match options.is_prefix {
            // Where a query begins is not where it is normalised.
            true => Vec::new(),
            false => Policies::of(self),
        };
        let keys = keys_of(self, &policies, uri, options.host.as_deref())?;
        let purged = match options.is_prefix {
            true => self.purge_under(&keys).await,
            false => self.purge_keys(&keys, options.is_soft).await,
        };
        self.tolerate(purged, 0)
    }

    async fn purge_under(&self, prefixes: &[Key]) -> Result<usize> {
        if !self.capabilities().delete_prefix {
            return Err(Error::unsupported(self.backend().name(), "delete_prefix"));
        }
        let mut purged = 0;
        for prefix in prefixes {
            purged += self.end_responses_under(prefix).await?;
        }
        Ok(purged)
    }

    /// Purges what is under the keys of URIs, and says under how many something was.
    async fn purge_keys(&self, keys: &[Key], is_soft: bool) -> Result<usize> {
        if !is_soft {
            return self.end_responses_for_good(keys).await;
        }
        let mut purged = 0;
        for key in keys {
            purged += self.soften(key).await?;
        }
        Ok(purged)
    }

    async fn end_responses_for_good(&self, keys: &[Key]) -> Result<usize> {
        let ended = self.end_responses(keys).await;
        // Whoever asked meanwhile may have found what was there before.
        self.supersede_responses(keys).await;
        ended
    }

    async fn purge_tags(&self, tags: &CacheTags, is_soft: bool) -> Result<()> {
        if !is_soft {
            return self.invalidate_tags(tags.iter()).await;
        }
        for tag in tags.iter() {
            self.expire_tag(tag).await?;
        }
        Ok(())
    }

    async fn soften(&self, key: &Key) -> Result<usize> {
        let keys = slice::from_ref(key);
        self.supersede_responses(keys).await;
        for _ in 0..ATTEMPTS {
            let Ok(Some(entry)) = self.fetch(key).await else {
                break;
            };
            let Some(stale) = made_stale(&entry, Timestamp::now()) else {
                break;
            };
            let mode = match self.capabilities().versions {
                true => PutMode::IfVersion(entry.version()),
                false => PutMode::Always,
            };
            match self.observe(self.backend().put(key, stale, mode).await) {
                Ok(true) => {
                    // Nothing leads from the URI to its parts, so they are ended.
                    let parts = self.backend().delete(&key.of_parts()).await;
                    if self.observe(parts).is_err() {
                        break;
                    }
                    self.supersede_responses(keys).await;
                    self.count(Event::HttpInvalidated);
                    return Ok(1);
                }
                Ok(false) => {}
                Err(_) => break,
            }
        }
        // Also where nothing is: it ends the leases of loads elsewhere, and is remembered by a backend out of reach.
        self.end_responses_for_good(keys).await
    }
}

/// The entry, stale from `now` on; `None` for one that cannot be read.
fn made_stale(entry: &Entry, now: Timestamp) -> Option<Entry> {
    let same = |payload: Bytes, weight| {
        let same = Entry::new(entry.codec(), payload, entry.created_at())
            .with_expires_at(entry.expires_at())
            .with_decoded_weight(weight);
        same.with_tags(entry.tags()).ok()
    };
    if entry.codec() == CodecId::VARIANTS {
        let record = VariantRecord::decode(entry.payload()).ok()?.purged_at(now);
        return same(record.encode(), record.weight());
    }
    // What the layer's rules change about a response is not in the store.
    let mut stored = StoredResponse::decode(entry.payload(), &[], &Rules::default()).ok()?;
    Arc::make_mut(&mut stored.head).purged.get_or_insert(now);
    let trailers = stored.trailers().cloned().unwrap_or_default();
    let (payload, _) = stored.head.encode(slice::from_ref(&stored.body), &trailers);
    same(payload, stored.weight())
}

/// The keys that responses for a URI, or for those that begin with it, may be under.
fn keys_of(
    cache: &Cache,
    policies: &[Policies],
    uri: &str,
    host: Option<&str>,
) -> Result<Vec<Key>> {
    let wrong = |message| Error::new(ErrorKind::Settings, message);
    let parsed: Uri = uri.parse().map_err(|error| {
        let message =
            "what is to be purged is no URI; it has to look like https://shop.example/items/7";
        wrong(message).caused_by(error)
    })?;
    let scheme = parsed.scheme_str().unwrap_or("http");
    if !["http", "https"].contains(&scheme) {
        return Err(wrong(
            "the scheme of what is to be purged is neither http nor https",
        ));
    }
    let authority = match (parsed.authority(), host) {
        (Some(_), None) => key::authority(&parsed, Host::None),
        (None, Some(host)) => key::host_only(host.as_bytes()),
        (Some(_), Some(_)) => {
            return Err(wrong(
                "the URI that is to be purged has a host of its own; leave PurgeOptions::host out",
            ));
        }
        (None, None) => {
            return Err(wrong(
                "the URI that is to be purged has no host, and responses are stored by host; \
                 put https://host before it or name the host by PurgeOptions::host",
            ));
        }
    };
    let authority = authority.ok_or_else(|| wrong("the host of PurgeOptions::host is none"))?;
    let path_and_query = parsed.path_and_query().map_or("/", |path| path.as_str());
    Ok(keys(cache, policies, scheme, authority, path_and_query))
}

/// Under both schemes: which one a layer sees depends on where TLS ends, and purging too much only costs a miss. Under the
/// policies of every layer of the cache: they may leave something of the query out.
fn keys(
    cache: &Cache,
    policies: &[Policies],
    scheme: &str,
    authority: &[u8],
    path_and_query: &str,
) -> Vec<Key> {
    let authority = key::without_default_port(scheme, authority);
    let policies: Vec<_> = std::iter::once(None)
        .chain(policies.iter().map(Some))
        .collect();
    let mut keys = Vec::new();
    for scheme in ["http", "https"] {
        for policies in &policies {
            let head = cache.responses();
            let keyed = key::of(head, *policies, Some(scheme), authority, path_and_query);
            let key = keyed.key.to_key();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}
