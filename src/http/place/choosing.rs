//! Under which key a response is stored: the URI's own, or that of a variant.

use std::{pin::pin, sync::Arc};

use http::HeaderName;

use super::{Lasts, Offer, Refused};
#[cfg(feature = "compression")]
use crate::http::precompress;
use crate::{
    CodecId, Entry, Key, Peek, PutMode, Reason, Timestamp,
    cache::{Joined, Leader, Load},
    http::{
        Landing,
        commit::Commit,
        lookup,
        variants::{self, Id, Selector, Variant, VariantRecord},
        vary::Vary,
    },
};

/// A key to store under, and which variant is there, with the record that has it.
type Place = (Key, Option<(Variant, VariantRecord)>);

/// How often a record of variants is tried to be changed while others change it too.
const ATTEMPTS: usize = 4;

impl Offer<'_> {
    /// Gives what is to be stored its key. That the backend is asked for it, and waited for, is the exception.
    pub(super) async fn settle(&self, commit: &mut Commit) -> Result<(), Refused> {
        let chosen = match self.choose_at_once(&commit.load) {
            Some(chosen) => chosen,
            None => Box::pin(self.choose_by_asking(commit)).await,
        };
        let (key, variant) =
            chosen.map_err(|refused| self.release(refused, commit.leader.as_ref()))?;
        if let Some((variant, _)) = &variant {
            commit.on_variant = Some(self.on_variant(variant.id));
            if variant.purged.is_some() {
                Arc::make_mut(&mut commit.head).purged = variant.purged;
            }
        }
        (commit.key, commit.variant) = (key, variant);
        self.hand_over(commit);
        Ok(())
    }

    /// Lets those go who cannot have the response, and those who ask from now on wait for the variant that it is.
    fn hand_over(&self, commit: &mut Commit) {
        let (unshared, received) = (&self.config.unshared, self.times.response);
        let policy = &commit.policy;
        let is_reusable = received < policy.fresh_until() && !policy.must_be_validated();
        match is_reusable {
            true => unshared.remove(self.base),
            false => unshared.insert(self.base, false, received),
        }
        let Some(leader) = commit.leader.take() else {
            return;
        };
        if !is_reusable {
            leader.announce(Landing::Unshared);
        } else if commit.variant.is_some() && *leader.key() != commit.key {
            let flights = &self.config.cache.shared().response_flights;
            if let Joined::Leader(of_variant) = flights.join(&commit.key) {
                commit.leader = Some(of_variant);
            }
            commit.before = Some(leader);
        } else {
            commit.leader = Some(leader);
        }
    }

    /// [`choose`](Self::choose), which a request waits for no longer than for the backend.
    async fn choose_by_asking(&self, commit: &Commit) -> Result<Place, Refused> {
        let asking = commit.leader.as_ref().map(Leader::ask);
        let keep_until = commit.policy.keep_until(&self.config.rules);
        let choosing = pin!(self.choose(&commit.load, keep_until));
        let chosen = self.patience.wait_for_all(choosing).await;
        drop(asking);
        chosen.unwrap_or(Err(Refused::BACKEND))
    }

    /// The condition to store a variant under. It hangs on the record under the URI's key and ends with it; where others
    /// store too, one that they have stored meanwhile is as good.
    fn on_variant(&self, id: Id) -> PutMode {
        let seen = self
            .stale
            .filter(|(_, stale)| stale.is_some_and(|stale| stale.id == id));
        match seen {
            _ if !self.config.cache.capabilities().leases => PutMode::Always,
            Some((entry, _)) => PutMode::IfVersion(entry.version()),
            None => PutMode::IfAbsent,
        }
    }

    /// The fields that select among the variants, and whether nothing does.
    fn selecting(&self) -> (Vec<HeaderName>, bool) {
        let fields = match Vary::parse(self.headers) {
            Vary::Fields(fields) => fields,
            Vary::None | Vary::Star => Vec::new(),
        };
        #[cfg(feature = "compression")]
        let fields = precompress::selecting(self.config, fields);
        let by_uri = fields.is_empty() && self.keyed.selection.is_none();
        (fields, by_uri)
    }

    /// [`choose`](Self::choose), where nobody has to be asked for it.
    fn choose_at_once(&self, load: &Load) -> Option<Result<Place, Refused>> {
        if load.is_given_up() {
            return Some(Err(Refused::BACKEND));
        }
        let is_plain = |entry: &Entry| entry.codec() != CodecId::VARIANTS;
        let has_no_record = match load.held() {
            // Should somebody put a record there meanwhile, the lease is over.
            Some(held) => held.entry.as_ref().is_none_or(is_plain),
            None => {
                let cache = &self.config.cache;
                match cache.peek(self.base.as_key_ref(), self.times.response) {
                    Peek::Hit(entry) => is_plain(&entry),
                    Peek::Miss => true,
                    Peek::Ask => false,
                }
            }
        };
        let is_chosen = has_no_record && self.selecting().1;
        is_chosen.then(|| Ok((self.base.clone(), None)))
    }

    /// The key to store under, and which variant that is.
    async fn choose(&self, load: &Load, keep_until: Timestamp) -> Result<Place, Refused> {
        let (fields, by_uri) = self.selecting();
        for _ in 0..ATTEMPTS {
            let (there, mode) = self.look(load).await?;
            let record = there
                .as_ref()
                .and_then(|entry| lookup::record(self.config, entry))
                // The variants of another policy are not added to.
                .filter(|record| record.is_for(self.keyed));
            let record = match record {
                None if by_uri => return Ok((self.base.clone(), None)),
                None => VariantRecord::new(fields.clone(), self.keyed.fingerprint),
                Some(record) => record.widened(&fields).unwrap_or_else(|| record.clone()),
            };
            if let Some(variant) = self.note(record.clone(), there, mode, keep_until).await? {
                let key = lookup::variant_key(self.config, &variant.id);
                return Ok((key, Some((variant, record))));
            }
        }
        Err(Refused::once(Reason::Contention))
    }

    fn max_variants(&self) -> usize {
        let of_layer = self.config.max_variants;
        let policy = self.policy;
        policy.map_or(of_layer, |policy| policy.max_variants(of_layer))
    }

    /// What is under the URI's key now, and the condition to replace it under.
    async fn look(&self, load: &Load) -> Result<(Option<Entry>, PutMode), Refused> {
        let cache = &self.config.cache;
        let Some(held) = load.held() else {
            let there = match cache.fetch(self.base).await {
                Err(error) if error.is_outage() => return Err(Refused::BACKEND),
                there => there.ok().flatten(),
            };
            let mode = match &there {
                _ if !cache.capabilities().versions => PutMode::Always,
                Some(entry) => PutMode::IfVersion(entry.version()),
                None => PutMode::IfAbsent,
            };
            return Ok((there, mode));
        };
        let leased = cache.observe(cache.backend().get_leased(self.base).await);
        let leased = leased.map_err(|_| Refused::BACKEND)?;
        // An invalidation ends a record, and the next one has another mark.
        let record =
            |entry: &Option<Entry>| Some(lookup::record(self.config, entry.as_ref()?)?.mark());
        let (before, now) = (record(&held.entry), record(&leased.entry));
        if leased.lease != held.lease && (before.is_none() || before != now) {
            return Err(Refused::LATE);
        }
        Ok((leased.entry, PutMode::IfUnchanged(leased.lease)))
    }

    /// Notes this response's variant in the record; `None` when somebody else changed the record meanwhile.
    async fn note(
        &self,
        mut record: VariantRecord,
        there: Option<Entry>,
        mode: PutMode,
        keep_until: Timestamp,
    ) -> Result<Option<Variant>, Refused> {
        let cache = &self.config.cache;
        let selector = Selector {
            headers: self.client,
            keyed: self.keyed,
        };
        let variant = record
            .choose(cache, selector)
            .ok_or(Refused {
                reason: Reason::VaryBySecret,
                lasts: Lasts::ForAll,
            })?
            .variant;
        let outlived = record.note(variant.id, self.max_variants());
        let ends = there.as_ref().and_then(Entry::expires_at);
        if outlived.is_none() && ends.is_some_and(|ends| ends >= keep_until) {
            return Ok(Some(variant));
        }
        let payload = record.encode();
        let weight = record.weight();
        let entry = Entry::new(CodecId::VARIANTS, payload, self.times.response)
            .with_decoded(Arc::new(record), weight)
            .with_expires_at(ends.max(Some(keep_until)));
        let kept = cache.observe(cache.put_beside_ended(self.base, entry, mode).await);
        let is_kept = kept.map_err(|_| Refused::BACKEND)?;
        if !is_kept {
            return Ok(None);
        }
        if let Some(outlived) = outlived.filter(|outlived| !outlived.is_empty()) {
            let keys = variants::keys(cache.responses(), &outlived);
            // What cannot be deleted ends by itself, and nothing leads to it any more.
            let _ = cache.observe(cache.backend().delete_many(&keys).await);
        }
        Ok(Some(variant))
    }
}
