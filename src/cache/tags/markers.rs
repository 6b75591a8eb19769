//! Whether an entry has ended by its tags.

use std::cmp::Reverse;

use bytes::Bytes;

use super::super::Cache;
use crate::{CodecId, Entry, Key, KeyRef, Peek, Result, TagStamp, Timestamp};

/// What a marker holds: a hard id, and a soft one.
#[derive(Clone, Copy)]
pub(super) struct Ids([u8; 16]);

impl Ids {
    /// Ids that no marker has had before.
    pub(super) fn random() -> Self {
        let mut ids = [0; 16];
        getrandom::fill(&mut ids).expect("the operating system has a source of random numbers");
        Self(ids)
    }

    pub(super) fn with_hard_of(mut self, ids: [u8; 16]) -> Self {
        self.0[..8].copy_from_slice(&ids[..8]);
        self
    }

    pub(super) fn bytes(self) -> [u8; 16] {
        self.0
    }

    /// The marker.
    pub(super) fn entry(self, now: Timestamp) -> Entry {
        Entry::new(CodecId::MARKER, Bytes::copy_from_slice(&self.0), now)
    }
}

/// The ids of a marker; `None` for what is no marker.
pub(super) fn read_ids(entry: &Entry) -> Option<[u8; 16]> {
    let is_marker = entry.codec() == CodecId::MARKER;
    let ids = entry.payload().as_ref().try_into();
    is_marker.then(|| ids.ok()).flatten()
}

/// What the marker of a tag says of an entry. The worst of its tags counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Live,
    /// Since that time at the latest.
    Outdated(Reverse<Timestamp>),
    Ended,
}

impl Standing {
    pub(super) fn of(stamp: &TagStamp, marker: Option<&Entry>) -> Self {
        let Some((marker, ids)) = marker.and_then(|marker| Some((marker, read_ids(marker)?)))
        else {
            return Self::Ended;
        };
        match stamp.ids() {
            seen if *seen == ids => Self::Live,
            seen if seen[..8] == ids[..8] => Self::Outdated(Reverse(marker.created_at())),
            _ => Self::Ended,
        }
    }
}

impl Cache {
    /// Looks without waiting, where the backend can. An entry that has ended by its tags is none; a stale one
    /// [says so](Entry::is_outdated).
    #[inline]
    pub(crate) fn peek(&self, key: KeyRef<'_>, now: Timestamp) -> Peek {
        match self.backend().peek(key, now) {
            Peek::Hit(entry) if entry.has_tags() => self.peek_tagged(entry, now),
            found => found,
        }
    }

    /// [`peek`](Self::peek) for values, which are absent where a response is stale.
    #[inline]
    pub(in crate::cache) fn peek_value(&self, key: KeyRef<'_>, now: Timestamp) -> Peek {
        match self.backend().peek(key, now) {
            Peek::Hit(entry) if entry.has_tags() => match self.peek_tagged(entry, now) {
                Peek::Hit(entry) if entry.is_outdated() => Peek::Miss,
                found => found,
            },
            found => found,
        }
    }

    fn peek_tagged(&self, entry: Entry, now: Timestamp) -> Peek {
        let mut standing = Standing::Live;
        for stamp in entry.tags() {
            let marker = match self.backend().peek(stamp.marker().as_key_ref(), now) {
                Peek::Hit(marker) => Some(marker),
                Peek::Miss => None,
                Peek::Ask => return Peek::Ask,
            };
            standing = standing.max(Standing::of(stamp, marker.as_ref()));
        }
        self.judged(entry, standing).map_or(Peek::Miss, Peek::Hit)
    }

    /// What is left of a found entry when its tags are looked at, which takes another question to a server.
    pub(in crate::cache) async fn check(&self, entry: Entry) -> Result<Option<Entry>> {
        if !entry.has_tags() {
            return Ok(Some(entry));
        }
        let checked = Box::pin(self.check_all(vec![Some(entry)])).await?;
        Ok(checked.into_iter().flatten().next())
    }

    /// [`check`](Self::check) for several entries, with one question for all.
    pub(in crate::cache) async fn check_all(
        &self,
        mut found: Vec<Option<Entry>>,
    ) -> Result<Vec<Option<Entry>>> {
        let tagged = found.iter().flatten().flat_map(Entry::tags);
        let mut keys: Vec<Key> = tagged.map(|stamp| stamp.marker().clone()).collect();
        if keys.is_empty() {
            return Ok(found);
        }
        keys.sort_unstable();
        keys.dedup();
        let markers = self.fetch_raw_many(&keys).await?;
        for place in &mut found {
            let Some(entry) = place.take_if(|entry| entry.has_tags()) else {
                continue;
            };
            let standings = entry.tags().iter().map(|stamp| {
                let at = keys.binary_search(stamp.marker()).ok();
                Standing::of(stamp, at.and_then(|at| markers[at].as_ref()))
            });
            let standing = standings.max().unwrap_or(Standing::Live);
            *place = self.judged(entry, standing);
        }
        Ok(found)
    }

    fn judged(&self, entry: Entry, standing: Standing) -> Option<Entry> {
        match standing {
            Standing::Live => {
                self.collect(&entry);
                Some(entry)
            }
            Standing::Outdated(Reverse(since)) => Some(entry.outdated(since)),
            Standing::Ended => None,
        }
    }
}
