//! A response under way, for those who wait for the same.

use std::sync::{Arc, OnceLock};

use http::HeaderValue;

use super::{
    asked::Asked,
    commit::Commit,
    freshness::ResponsePolicy,
    layer::Config,
    policy::Rules,
    reuse::{Reuse, reuse},
    stored::{StoredHead, StoredResponse},
    stream::{Reader, Stream},
    variants::{Selector, Variant, VariantRecord},
};
use crate::{
    Key, Timestamp,
    cache::{Collected, Watch},
};

/// The head of a response that is being stored, and its body as it comes.
pub(super) struct Sharing {
    head: Arc<StoredHead>,
    policy: ResponsePolicy,
    /// By whose [rules](Rules::view) all this is.
    view: u64,
    /// The length of the body, where it is known.
    len: Option<u64>,
    /// What `Trailer` announces.
    trailer: Option<HeaderValue>,
    variant: Option<(Variant, VariantRecord)>,
    watch: Watch,
    /// The markers of the tags that the handler named, and what it reads.
    tags: Option<Arc<[Key]>>,
    collected: Option<Arc<Collected>>,
    stream: Arc<Stream>,
    /// Made for the first who shares it.
    answer: OnceLock<Box<StoredResponse>>,
}

/// Whether a response under way answers a request.
pub(super) enum Share {
    Yes(Reader),
    /// The request selects another variant.
    OtherVariant,
    /// The response is not for this one.
    No,
    /// The response is not for anybody any more: it broke off, was invalidated, or is stale.
    Over,
}

impl Sharing {
    pub(super) fn new(commit: &Commit, stream: Arc<Stream>, len: Option<u64>) -> Self {
        Self {
            head: commit.head.clone(),
            policy: commit.policy,
            view: commit.config.view,
            len,
            trailer: commit.trailer.clone(),
            variant: commit.variant.clone(),
            watch: commit.load.watch(),
            tags: commit.tags.shared(),
            collected: commit.collected.clone(),
            stream,
            answer: OnceLock::new(),
        }
    }

    /// Judges the response as one that was stored just now would be.
    pub(super) async fn share(
        &self,
        config: &Config,
        asked: &Asked,
        request: Selector<'_>,
        now: Timestamp,
    ) -> Share {
        // Who begins after an invalidation gets nothing from before; one by another process is told of by leases, which
        // nobody is asked for here.
        let has_leases = config.cache.capabilities().leases;
        let shared_for = now.since(self.head.times.response);
        let is_old = has_leases && shared_for > config.follower_wait;
        if is_old || now >= self.policy.fresh_until() || self.is_late().await {
            return Share::Over;
        }
        // Another policy's response, or one by the rules of another layer of the same cache, is not for this request.
        if self.head.facts.said.fingerprint != request.keyed.fingerprint || self.view != config.view
        {
            return Share::No;
        }
        if let Some((variant, record)) = &self.variant {
            let chosen = record.choose(&config.cache, request);
            if chosen.is_none_or(|chosen| chosen.variant != *variant) {
                return Share::OtherVariant;
            }
        }
        let is_personal = self.policy.is_implied() && asked.is_personal();
        let reuse = reuse(&self.policy, &asked.directives, now, &config.rules);
        if is_personal || !matches!(reuse, Reuse::Fresh { .. }) {
            return Share::No;
        }
        match self.stream.join() {
            Some(reader) => Share::Yes(reader),
            None => Share::Over,
        }
    }

    /// Whether this process has invalidated the response since it began to be made, by its key or by one of its tags.
    async fn is_late(&self) -> bool {
        let named = self.tags.as_deref().unwrap_or_default();
        if self.watch.is_late().await || self.watch.have_tags_changed(named) {
            return true;
        }
        let Some(collected) = &self.collected else {
            return false;
        };
        // Of what has more tags than are known, nobody can tell.
        collected.stamps().is_none_or(|stamps| {
            let markers: Vec<_> = stamps.iter().map(|stamp| stamp.marker().clone()).collect();
            self.watch.have_tags_changed(&markers)
        })
    }

    /// The response without its body.
    pub(super) fn answer(&self, rules: &Rules) -> &StoredResponse {
        self.answer.get_or_init(|| {
            let (head, trailer) = (self.head.clone(), self.trailer.clone());
            let answer = StoredResponse::begun(head, self.policy, self.len, trailer, rules);
            Box::new(answer)
        })
    }
}
