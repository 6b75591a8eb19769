//! What becomes of a value that was loaded.

use std::{sync::Arc, time::Duration};

use serde::Serialize;

use super::{
    Cache, Event, Load, LoadError, PutOptions,
    tags::{Stamped, Tags},
};
use crate::Entry;

/// How what is loaded is kept.
pub(super) struct Keeping {
    pub(super) ttl: Option<Duration>,
    pub(super) tags: Tags,
}

impl Cache {
    /// How what is loaded will be kept.
    pub(super) fn keeping<E>(&self, options: PutOptions) -> Result<Keeping, LoadError<E>> {
        let tags = self.tags(&options.tags);
        Ok(Keeping {
            ttl: self.shared().ttl.resolve(options.ttl),
            tags: tags.map_err(|_| LoadError::InvalidTag)?,
        })
    }

    /// The tags of what is about to be loaded, with the ids of their markers. Where they cannot be found out, it will
    /// not be kept.
    pub(super) async fn stamp_before_load(&self, keeping: &Keeping) -> Stamped {
        if keeping.tags.is_empty() {
            return Stamped::Plain;
        }
        let stamped = Box::pin(self.stamp(&keeping.tags, keeping.ttl)).await;
        stamped.ok().flatten().unwrap_or(Stamped::Unknown)
    }

    /// What was loaded as an entry; a value that cannot be written is counted and logged, and returned all the same.
    pub(super) fn encode_loaded<T>(
        &self,
        value: &Arc<T>,
        keeping: &Keeping,
        stamped: &Stamped,
    ) -> Option<Entry>
    where
        T: Serialize + Send + Sync + 'static,
    {
        let entry = self.encode(value, keeping.ttl).inspect_err(|error| {
            self.count(Event::Error);
            tracing::warn!(%error, "a loaded value cannot be kept");
        });
        stamped.put_on(entry.ok()?)
    }

    /// Stores what was loaded, unless it comes too late; a failure is counted and logged.
    pub(super) async fn keep_loaded<T>(
        &self,
        load: &Load,
        value: &Arc<T>,
        keeping: &Keeping,
        stamped: &Stamped,
    ) where
        T: Serialize + Send + Sync + 'static,
    {
        if load.is_given_up() {
            return;
        }
        if load.have_tags_changed(keeping.tags.markers()) {
            return self.count(Event::LoadLate);
        }
        let Some(permit) = load.may_store().await else {
            return self.count(Event::LoadLate);
        };
        let Some(entry) = self.encode_loaded(value, keeping, stamped) else {
            return;
        };
        let kept = self.backend().put(load.key(), entry, permit.mode).await;
        match self.observe(kept) {
            Ok(true) => self.count(Event::Put),
            Ok(false) if load.held().is_some() => self.count(Event::LoadLate),
            Ok(false) | Err(_) => {}
        }
    }
}
