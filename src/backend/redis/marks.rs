//! Which keys this process changed, and what a replica has to have before it answers for them again.
//!
//! A replica tells how far it has come in what its primary did, and so does the primary. So whoever changed a key asks
//! the primary next, learns how far that is, and asks a replica again when it is as far: no clock decides it, and no
//! replica that lags behind shows a process less than what it did itself, or saw of others.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::shards::{COUNTERS, counter_of, counters_of_bucket};
use crate::Key;

/// What was changed, by a hash of the keys: those of one mark are asked of the primary together.
pub(super) struct Marks(Box<[Mutex<Mark>]>);

#[derive(Default)]
struct Mark {
    /// Changes that are being made.
    under_way: u32,
    /// Beginnings and ends of changes so far.
    changes: u64,
    needed: Needed,
}

/// How far a replica has to have come.
#[derive(Default)]
enum Needed {
    /// Nothing was changed, and the primary was not asked.
    #[default]
    Nothing,
    /// Something was changed, and the primary has not been asked since.
    Unknown,
    /// As far as the primary had come when it was asked by this connection.
    Offset { connection: u64, offset: u64 },
}

/// A mark as it was when the primary was asked.
pub(super) struct Seen {
    place: u16,
    changes: u64,
}

impl Default for Marks {
    fn default() -> Self {
        Self((0..COUNTERS).map(|_| Mutex::default()).collect())
    }
}

impl Marks {
    /// Keeps replicas from answering for these keys from now on, and from when this is dropped, until the primary has been
    /// asked. Where the change is given up half-way nobody knows when it happens: it counts as one.
    pub(super) fn changing<'a>(&self, keys: impl Iterator<Item = &'a Key>) -> Changing<'_> {
        self.changing_at(keys.map(counter_of).collect())
    }

    /// The same for all keys of a key's bucket.
    pub(super) fn changing_bucket(&self, key: &Key) -> Changing<'_> {
        let places = key.as_key_ref().bucket_key().map(counters_of_bucket);
        self.changing_at(places.into_iter().flatten().collect())
    }

    fn changing_at(&self, mut places: Vec<u16>) -> Changing<'_> {
        places.sort_unstable();
        places.dedup();
        for &place in &places {
            let mut mark = self.at(place);
            mark.under_way += 1;
            mark.changes += 1;
            mark.needed = Needed::Unknown;
        }
        Changing {
            marks: self,
            places,
        }
    }

    /// How far a replica of the server at the end of this connection has to have come to answer for a key; `None` where
    /// only the primary may.
    pub(super) fn needed(&self, key: &Key, of: u64) -> Option<u64> {
        match self.at(counter_of(key)).needed {
            Needed::Nothing => Some(0),
            Needed::Offset { connection, offset } if connection == of => Some(offset),
            Needed::Offset { .. } | Needed::Unknown => None,
        }
    }

    /// What is known before the primary is asked for a key.
    pub(super) fn seen(&self, key: &Key) -> Seen {
        let place = counter_of(key);
        Seen {
            place,
            changes: self.at(place).changes,
        }
    }

    /// Takes note of how far the primary had come when it was asked. What changed meanwhile needs another question. Where
    /// nothing was changed the answer may show what others did, and nobody is shown less after it.
    pub(super) fn settle(&self, seen: &Seen, connection: u64, offset: u64) {
        let mut mark = self.at(seen.place);
        let is_settled = mark.under_way == 0 && mark.changes == seen.changes;
        if is_settled {
            mark.needed = Needed::Offset { connection, offset };
        }
    }

    fn at(&self, place: u16) -> MutexGuard<'_, Mark> {
        let mark = self.0[usize::from(place)].lock();
        mark.unwrap_or_else(PoisonError::into_inner)
    }
}

/// A change that is being made.
pub(super) struct Changing<'a> {
    marks: &'a Marks,
    places: Vec<u16>,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        for &place in &self.places {
            let mut mark = self.marks.at(place);
            mark.under_way -= 1;
            mark.changes += 1;
            mark.needed = Needed::Unknown;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    fn key() -> Key {
        Key::new("shop", None, "key")
    }

    #[test]
    fn what_nobody_changed_any_replica_may_answer_for() {
        assert_eq!(Marks::default().needed(&key(), 1), Some(0));
    }

    #[test]
    fn what_was_changed_needs_the_primary_and_then_a_replica_as_far() {
        let (marks, key) = (Marks::default(), key());
        let changing = marks.changing(slice::from_ref(&key).iter());
        assert_eq!(marks.needed(&key, 1), None);
        // An answer of before the change was made tells nothing.
        marks.settle(&marks.seen(&key), 1, 7);
        assert_eq!(marks.needed(&key, 1), None);
        let before = marks.seen(&key);
        drop(changing);
        marks.settle(&before, 1, 7);
        assert_eq!(marks.needed(&key, 1), None);
        marks.settle(&marks.seen(&key), 1, 7);
        assert_eq!(marks.needed(&key, 1), Some(7));
        // Another server counts in another way.
        assert_eq!(marks.needed(&key, 2), None);
    }

    #[test]
    fn what_the_primary_showed_a_replica_has_to_have() {
        let (marks, key) = (Marks::default(), key());
        marks.settle(&marks.seen(&key), 1, 7);
        assert_eq!(marks.needed(&key, 1), Some(7));
    }

    #[test]
    fn of_two_changes_under_way_both_have_to_end() {
        let (marks, key) = (Marks::default(), key());
        let one = marks.changing([&key, &key].into_iter());
        let other = marks.changing(slice::from_ref(&key).iter());
        drop(one);
        marks.settle(&marks.seen(&key), 1, 7);
        assert_eq!(marks.needed(&key, 1), None);
        drop(other);
        marks.settle(&marks.seen(&key), 1, 8);
        assert_eq!(marks.needed(&key, 1), Some(8));
    }
}
