//! The generations of namespaces: each share of a namespace has one, in an item of its own.

use std::{future::Future, sync::Arc};

use futures_util::future::try_join_all;

use super::{
    connection::Connection,
    error::{Failure, changed_at_every_attempt},
    item::{self, Item},
    stored::{self, SHARES},
};
use crate::{
    Key, Result,
    backend::{
        generation::{Generation, Marker, Namespace},
        join::join,
    },
};

/// How often a verb is done again because its namespace is cleared meanwhile, or others write to its key.
pub(super) const ATTEMPTS: usize = 16;

/// A share of a namespace.
#[derive(Clone)]
pub(super) struct Share {
    pub(super) namespace: Arc<Namespace>,
    pub(super) number: usize,
}

impl Share {
    /// Under what its marker is stored.
    pub(super) fn marker(&self) -> Vec<u8> {
        stored::marker(&self.namespace, self.number)
    }

    pub(super) fn is(&self, other: &Self) -> bool {
        self.number == other.number && Arc::ptr_eq(&self.namespace, &other.namespace)
    }
}

impl Connection {
    /// The share that a key is in.
    pub(super) fn share(&self, key: &Key) -> Share {
        let number = stored::share(key.as_key_ref());
        let namespace = self.namespaces[number].of(key.as_key_ref());
        Share { namespace, number }
    }

    /// Does `act` with the item of `key`, and asks for the generation of its share in the same moment. Where that turns
    /// out to be another than was known, it is done again: what was done to an item that nobody can reach does not
    /// matter.
    pub(super) async fn keyed<T, F>(
        &self,
        operation: &'static str,
        key: &Key,
        act: impl Fn(Vec<u8>, Generation) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let done = self.in_generation(key, act).await;
        done.map_err(|failure| self.explain(operation, failure))
    }

    async fn in_generation<T, F>(
        &self,
        key: &Key,
        act: impl Fn(Vec<u8>, Generation) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.know().await?;
        let share = self.share(key);
        for _ in 0..ATTEMPTS {
            let generation = self.generation(&share, key).await?;
            let stored = stored::key(&share.namespace, generation, key.as_key_ref());
            let (done, marker) = join(act(stored, generation), self.get(share.marker())).await;
            if self.confirm(&share, generation, marker?.as_ref()).await? {
                return done;
            }
        }
        Err(changed_at_every_attempt())
    }

    /// The generation of a share as it is known, or else as the service says. Those of the namespace's other shares are
    /// asked for at once.
    pub(super) async fn generation(&self, share: &Share, key: &Key) -> Result<Generation, Failure> {
        if let Some(known) = share.namespace.generation() {
            return Ok(known);
        }
        let _alone = self.learning.lock().await;
        if let Some(known) = share.namespace.generation() {
            return Ok(known);
        }
        let shares = (0..SHARES).map(|number| match number == share.number {
            true => share.clone(),
            false => Share {
                namespace: self.namespaces[number].of(key.as_key_ref()),
                number,
            },
        });
        let shares: Vec<_> = shares.collect();
        let markers = self
            .get_all(shares.iter().map(Share::marker), false)
            .await?;
        let settled = shares.iter().map(|share| {
            let marker = markers.get(&share.marker());
            self.settle(share, marker)
        });
        try_join_all(settled).await?;
        let known = share.namespace.generation();
        known.ok_or_else(changed_at_every_attempt)
    }

    /// Whether `used` is the generation of the marker that was found. The right one is known afterwards.
    pub(super) async fn confirm(
        &self,
        share: &Share,
        used: Generation,
        marker: Option<&Item>,
    ) -> Result<bool, Failure> {
        match share
            .namespace
            .compare(used, marker.and_then(item::letters))
        {
            Marker::Same => Ok(true),
            Marker::Changed => Ok(false),
            Marker::Lost => {
                let _alone = self.learning.lock().await;
                if share.namespace.generation() == Some(used) {
                    self.renew(share, marker).await?;
                }
                Ok(false)
            }
        }
    }

    async fn settle(&self, share: &Share, marker: Option<&Item>) -> Result<(), Failure> {
        let read = marker.and_then(item::letters).and_then(Generation::read);
        match read.map(|generation| share.namespace.learn(generation)) {
            Some(Marker::Same | Marker::Changed) => Ok(()),
            Some(Marker::Lost) | None => self.renew(share, marker).await,
        }
    }

    /// Makes a new marker in the place of the one that was found, unless somebody else is faster.
    async fn renew(&self, share: &Share, found: Option<&Item>) -> Result<(), Failure> {
        let fresh = Generation::random();
        let condition = match found.and_then(item::letters) {
            Some(letters) => item::is_marker(letters),
            None => item::is_no_marker(),
        };
        let marker = item::marker(share.marker(), fresh);
        match self.put(marker, Some(condition)).await {
            Ok(true) => {
                share.namespace.begin(fresh);
                return Ok(());
            }
            Ok(false) | Err(Failure::Conflict(_)) => {}
            Err(failure) => return Err(failure),
        }
        // Whatever the winner wrote, or that it is lost again, is found out by the next attempt.
        let found = self.get(share.marker()).await?;
        let found = found.as_ref().and_then(item::letters);
        if let Some(generation) = found.and_then(Generation::read) {
            share.namespace.learn(generation);
        }
        Ok(())
    }

    pub(super) async fn clear(&self, name: &str) -> Result<(), Failure> {
        self.know().await?;
        let _alone = self.clearing.lock().await;
        let shares = (0..SHARES).map(|number| Share {
            namespace: self.namespaces[number].named(name),
            number,
        });
        let fresh: Vec<_> = shares.map(|share| (share, Generation::random())).collect();
        let markers = fresh.iter();
        let markers: Vec<_> = markers
            .map(|(share, generation)| item::marker(share.marker(), *generation))
            .collect();
        self.put_together(&markers).await?;
        for (share, generation) in fresh {
            share.namespace.begin(generation);
        }
        Ok(())
    }
}
