use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{Entry, TagStamp};

/// The tags of what was read to make a response, with the ids as they were read: a response that carries them ends
/// with what it was made of, also where that has ended before it is stored.
#[derive(Debug, Default)]
pub(crate) struct Collected(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    stamps: Vec<TagStamp>,
    is_incomplete: bool,
}

impl Collected {
    pub(super) fn note(&self, stamps: &[TagStamp]) {
        let mut state = self.lock();
        // A bucket has a tag on some backends and none on others; what a response ends with had better not depend on that.
        for stamp in stamps.iter().filter(|stamp| !stamp.is_of_bucket()) {
            if state.stamps.contains(stamp) {
                continue;
            }
            if state.stamps.len() == Entry::MAX_TAGS {
                state.is_incomplete = true;
                return;
            }
            state.stamps.push(stamp.clone());
        }
    }

    /// Something has tags whose ids are not known.
    pub(super) fn lose(&self) {
        self.lock().is_incomplete = true;
    }

    /// The tags so far; `None` where there are more than an entry can have, or not all are known. A response of which
    /// that is so cannot be stored.
    pub(crate) fn stamps(&self) -> Option<Vec<TagStamp>> {
        let state = self.lock();
        (!state.is_incomplete).then(|| state.stamps.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(number: usize) -> TagStamp {
        TagStamp::new("shop", number.to_string(), [0; 16]).unwrap()
    }

    #[test]
    fn a_tag_is_noted_once_for_the_same_ids_and_again_for_others() {
        let collected = Collected::default();
        let other = TagStamp::new("shop", "1", [1; 16]).unwrap();
        collected.note(&[stamp(1), other.clone()]);
        collected.note(&[stamp(1)]);
        assert_eq!(collected.stamps(), Some(vec![stamp(1), other]));
    }

    #[test]
    fn the_tag_of_a_bucket_is_not_noted() {
        let collected = Collected::default();
        let marker = crate::Key::new("shop", Some("user:7"), "bucket");
        collected.note(&[stamp(1), TagStamp::of(marker, [0; 16])]);
        assert_eq!(collected.stamps(), Some(vec![stamp(1)]));
    }

    #[test]
    fn more_tags_than_an_entry_can_have_are_none_at_all() {
        let collected = Collected::default();
        let stamps: Vec<_> = (0..Entry::MAX_TAGS).map(stamp).collect();
        collected.note(&stamps);
        assert_eq!(collected.stamps().map(|stamps| stamps.len()), Some(64));
        collected.note(&[stamp(64)]);
        assert_eq!(collected.stamps(), None);
    }
}
