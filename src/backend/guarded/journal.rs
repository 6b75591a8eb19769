//! Invalidations that the backend has not got yet.

use std::{collections::HashSet, sync::Arc};

use foldhash::fast::RandomState;

use crate::{Key, KeySpace};

/// More keys than these are not worth remembering one by one: their namespaces are cleared.
const MOST_KEYS: usize = 10_000;

/// How many keys are replayed by one call.
const BATCH: usize = 1_000;

/// Something that is not to be read any more.
#[derive(Clone, Copy)]
pub(super) enum Invalidation<'a> {
    Keys(&'a [Key]),
    /// The entry of this version, and not one that was put since.
    Version(&'a Key, u64),
    Namespace(&'a str),
    /// What is under keys that begin with this one.
    Prefix(&'a Key),
    /// What is in the bucket of this key.
    Bucket(&'a Key),
}

/// What one call to the backend replays.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Batch {
    Keys(Arc<[Key]>),
    Version(Key, u64),
    Namespace(Arc<str>),
    Prefix(Key),
    Bucket(Key),
}

impl From<Invalidation<'_>> for Batch {
    fn from(what: Invalidation<'_>) -> Self {
        match what {
            Invalidation::Keys(keys) => Self::Keys(keys.into()),
            Invalidation::Version(key, version) => Self::Version(key.clone(), version),
            Invalidation::Namespace(namespace) => Self::Namespace(namespace.into()),
            Invalidation::Prefix(key) => Self::Prefix(key.clone()),
            Invalidation::Bucket(key) => Self::Bucket(key.clone()),
        }
    }
}

impl Batch {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Keys(keys) => keys.len(),
            Self::Version(..) | Self::Namespace(_) | Self::Prefix(_) | Self::Bucket(_) => 1,
        }
    }
}

/// Invalidations to replay, each once however often it was asked for, and in no order but that of tags: nothing is written by
/// this process before all of them are done.
#[derive(Default)]
pub(super) struct Journal {
    keys: HashSet<Key, RandomState>,
    versions: HashSet<(Key, u64), RandomState>,
    namespaces: HashSet<Arc<str>, RandomState>,
    prefixes: HashSet<Key, RandomState>,
    buckets: HashSet<Key, RandomState>,
    /// What is being replayed. It is apart from the rest, because what is asked for meanwhile has to be replayed after
    /// it, and stays here until it has succeeded, so that a replay that breaks off loses nothing.
    current: Option<Batch>,
}

impl Journal {
    /// Remembers `what`. Where the backend cannot clear, namespaces are not remembered, and keys without a limit.
    pub(super) fn note(&mut self, what: Invalidation<'_>, can_clear: bool) {
        match what {
            Invalidation::Keys(keys) => {
                for key in keys {
                    if !self.covers(key) {
                        self.keys.insert(key.clone());
                    }
                }
            }
            Invalidation::Version(key, version) if !self.covers(key) => {
                self.versions.insert((key.clone(), version));
            }
            Invalidation::Namespace(namespace) if can_clear => {
                self.keys.retain(|key| key.namespace() != namespace);
                self.versions
                    .retain(|(key, _)| key.namespace() != namespace);
                self.prefixes.retain(|key| key.namespace() != namespace);
                self.buckets.retain(|key| key.namespace() != namespace);
                self.namespaces.insert(namespace.into());
            }
            Invalidation::Prefix(key) if !self.covers(key) => {
                self.prefixes.insert(key.clone());
            }
            Invalidation::Bucket(key) if !self.covers(key) => {
                self.buckets.insert(key.clone());
            }
            Invalidation::Version(..)
            | Invalidation::Namespace(_)
            | Invalidation::Prefix(_)
            | Invalidation::Bucket(_) => {}
        }
        if can_clear && self.single() > MOST_KEYS {
            let versioned = self.versions.drain().map(|(key, _)| key);
            let wide = self.prefixes.drain().chain(self.buckets.drain());
            for key in self.keys.drain().chain(versioned).chain(wide) {
                if !self.namespaces.contains(&*key.namespace()) {
                    self.namespaces.insert(key.namespace().into());
                }
            }
        }
    }

    fn covers(&self, key: &Key) -> bool {
        !self.namespaces.is_empty() && self.namespaces.contains(&*key.namespace())
    }

    /// What is to be replayed now: the same again until it is [`done`](Self::done).
    pub(super) fn next(&mut self) -> Option<Batch> {
        if self.current.is_none() {
            self.current = self.take();
        }
        self.current.clone()
    }

    fn take(&mut self) -> Option<Batch> {
        if let Some(namespace) = self.namespaces.iter().next().cloned() {
            self.namespaces.remove(&namespace);
            return Some(Batch::Namespace(namespace));
        }
        if let Some((key, version)) = self.versions.iter().next().cloned() {
            self.versions.remove(&(key.clone(), version));
            return Some(Batch::Version(key, version));
        }
        if let Some(prefix) = self.prefixes.iter().next().cloned() {
            self.prefixes.remove(&prefix);
            return Some(Batch::Prefix(prefix));
        }
        if let Some(bucket) = self.buckets.iter().next().cloned() {
            self.buckets.remove(&bucket);
            return Some(Batch::Bucket(bucket));
        }
        // A log of tags goes before the markers that it tells of: what is put with new markers asks for the log then.
        let logs = self.keys.iter().filter(|key| is_tag_log(key));
        let mut keys: Arc<[Key]> = logs.take(BATCH).cloned().collect();
        if keys.is_empty() {
            keys = self.keys.iter().take(BATCH).cloned().collect();
        }
        for key in &*keys {
            self.keys.remove(key);
        }
        (!keys.is_empty()).then_some(Batch::Keys(keys))
    }

    /// Forgets what was replayed.
    pub(super) fn done(&mut self) {
        self.current = None;
    }

    pub(super) fn len(&self) -> usize {
        let current = self.current.as_ref().map_or(0, Batch::len);
        self.single() + self.namespaces.len() + current
    }

    /// How much there is beside whole namespaces.
    fn single(&self) -> usize {
        self.keys.len() + self.versions.len() + self.prefixes.len() + self.buckets.len()
    }

    /// Forgets everything, and says how much that was.
    pub(super) fn give_up(&mut self) -> usize {
        std::mem::take(self).len()
    }
}

/// No tag has a name of no bytes; the log of a namespace's tags is there.
fn is_tag_log(key: &Key) -> bool {
    key.space() == KeySpace::Tag && key.name().is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::KeyHead;

    fn keys(count: usize) -> Vec<Key> {
        (0..count)
            .map(|name| Key::new("one", None, name.to_string()))
            .collect()
    }

    fn drain(journal: &mut Journal) -> Vec<Batch> {
        let mut batches = Vec::new();
        while let Some(batch) = journal.next() {
            journal.done();
            batches.push(batch);
        }
        batches
    }

    #[test]
    fn keys_are_replayed_once_each_and_a_thousand_at_a_time() {
        let mut journal = Journal::default();
        journal.note(Invalidation::Keys(&keys(2_500)), true);
        journal.note(Invalidation::Keys(&keys(2_500)), true);
        assert_eq!(journal.len(), 2_500);
        let lengths: Vec<_> = drain(&mut journal).iter().map(Batch::len).collect();
        assert_eq!(lengths, [1_000, 1_000, 500]);
        assert_eq!(journal.len(), 0);
    }

    #[test]
    fn a_batch_is_given_again_until_it_is_done() {
        let mut journal = Journal::default();
        journal.note(Invalidation::Keys(&keys(1_500)), true);
        let batch = journal.next();
        assert_eq!(journal.next(), batch);
        assert_eq!(journal.len(), 1_500);
        journal.done();
        assert_ne!(journal.next(), batch);
        assert_eq!(journal.len(), 500);
    }

    #[test]
    fn what_is_asked_for_while_it_is_replayed_is_replayed_again() {
        let mut journal = Journal::default();
        journal.note(Invalidation::Keys(&keys(1)), true);
        assert!(journal.next().is_some());
        journal.note(Invalidation::Keys(&keys(1)), true);
        journal.done();
        assert_eq!(journal.len(), 1);
    }

    #[test]
    fn the_namespaces_of_too_many_keys_are_cleared_instead() {
        let mut journal = Journal::default();
        journal.note(Invalidation::Version(&Key::new("two", None, "k"), 7), true);
        journal.note(Invalidation::Keys(&keys(MOST_KEYS)), true);
        assert_eq!(journal.len(), 2);
        journal.note(Invalidation::Keys(&keys(3)), true);
        let mut batches = drain(&mut journal);
        batches.sort_by_key(|batch| format!("{batch:?}"));
        let namespaces = ["one", "two"].map(|name| Batch::Namespace(name.into()));
        assert_eq!(batches, namespaces);
    }

    #[test]
    fn a_bucket_is_replayed_once_and_not_where_its_namespace_is() {
        let mut journal = Journal::default();
        let buckets = ["a", "b"].map(|bucket| Key::new("one", Some(bucket), ""));
        for bucket in buckets.iter().chain(&buckets) {
            journal.note(Invalidation::Bucket(bucket), true);
        }
        assert_eq!(journal.len(), 2);
        let mut batches = drain(&mut journal);
        batches.sort_by_key(|batch| format!("{batch:?}"));
        assert_eq!(batches.len(), 2);
        for bucket in &buckets {
            assert!(batches.contains(&Batch::Bucket(bucket.clone())));
            journal.note(Invalidation::Bucket(bucket), true);
        }
        journal.note(Invalidation::Namespace("one"), true);
        journal.note(Invalidation::Bucket(&buckets[0]), true);
        assert_eq!(drain(&mut journal), [Batch::Namespace("one".into())]);
    }

    #[test]
    fn the_log_of_tags_is_deleted_before_their_markers() {
        let head = KeyHead::new("one", KeySpace::Tag, None);
        let tags = (0..100).map(|number| head.key(number.to_string().as_bytes()).to_key());
        let log = head.key(b"").to_key();
        let mut journal = Journal::default();
        journal.note(Invalidation::Keys(&tags.collect::<Vec<_>>()), true);
        journal.note(Invalidation::Keys(std::slice::from_ref(&log)), true);
        let batches = drain(&mut journal);
        assert_eq!(batches[0], Batch::Keys(Arc::from([log])));
        assert_eq!(batches[1].len(), 100);
    }

    #[test]
    fn keys_stay_where_nothing_can_be_cleared() {
        let mut journal = Journal::default();
        journal.note(Invalidation::Namespace("one"), false);
        journal.note(Invalidation::Keys(&keys(MOST_KEYS + 1)), false);
        assert_eq!(journal.len(), MOST_KEYS + 1);
    }

    #[test]
    fn a_namespace_stands_for_its_keys_and_no_other() {
        let mut journal = Journal::default();
        journal.note(Invalidation::Keys(&keys(3)), true);
        let other = [Key::new("two", None, "0")];
        journal.note(Invalidation::Keys(&other), true);
        journal.note(Invalidation::Namespace("one"), true);
        assert_eq!(
            drain(&mut journal),
            [
                Batch::Namespace("one".into()),
                Batch::Keys(Arc::from(other))
            ]
        );
    }
}
