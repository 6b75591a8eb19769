//! The tags that were invalidated last, for loads whose tags are known only when they end.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Key;

/// So many invalidations are remembered; a load that lasts longer than that many is not kept.
const REMEMBERED: usize = 256;

/// The invalidations of this process.
#[derive(Debug)]
pub(crate) struct TagLog(Mutex<Ring>);

#[derive(Debug)]
struct Ring {
    /// How many there were.
    sequence: u64,
    recent: [u64; REMEMBERED],
}

impl Default for TagLog {
    fn default() -> Self {
        Self(Mutex::new(Ring {
            sequence: 0,
            recent: [0; REMEMBERED],
        }))
    }
}

impl TagLog {
    /// How many invalidations there were, for a load that begins.
    pub(crate) fn sequence(&self) -> u64 {
        self.lock().sequence
    }

    pub(super) fn note(&self, markers: &[Key]) {
        let mut ring = self.lock();
        for marker in markers {
            let place = ring.sequence as usize % REMEMBERED;
            ring.recent[place] = digest(marker);
            ring.sequence += 1;
        }
    }

    /// Whether one of these tags was invalidated, or may have been, since `sequence`.
    pub(crate) fn has_changed(&self, sequence: u64, markers: &[Key]) -> bool {
        let ring = self.lock();
        let since = ring.sequence - sequence;
        if since == 0 || markers.is_empty() {
            return false;
        }
        let recent = (sequence..ring.sequence).map(|at| ring.recent[at as usize % REMEMBERED]);
        since > REMEMBERED as u64 || meet(recent, markers)
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands for a marker in a log: the same in every process. Two that meet there cost a load, and no more.
pub(super) fn digest(marker: &Key) -> u64 {
    let hash = blake3::hash(marker.encoded());
    let first = hash.as_bytes().first_chunk();
    u64::from_be_bytes(*first.expect("a hash has 32 bytes"))
}

/// Whether one of the markers is among the digests.
pub(super) fn meet(mut digests: impl Iterator<Item = u64>, markers: &[Key]) -> bool {
    let markers: Vec<_> = markers.iter().map(digest).collect();
    digests.any(|digest| markers.contains(&digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marker(number: usize) -> Key {
        Key::new("shop", None, number.to_string())
    }

    #[test]
    fn a_load_learns_of_its_own_tags_since_it_began() {
        let log = TagLog::default();
        log.note(&[marker(1)]);
        let began = log.sequence();
        log.note(&[marker(2), marker(3)]);
        assert!(!log.has_changed(began, &[marker(1)]));
        assert!(log.has_changed(began, &[marker(1), marker(3)]));
        assert!(!log.has_changed(log.sequence(), &[marker(3)]));
    }

    #[test]
    fn what_was_forgotten_counts_as_invalidated() {
        let log = TagLog::default();
        let others: Vec<_> = (0..REMEMBERED).map(marker).collect();
        log.note(&others);
        assert!(!log.has_changed(0, &[marker(9_999)]));
        log.note(&others[..1]);
        assert!(log.has_changed(0, &[marker(9_999)]));
        assert!(!log.has_changed(1, &[marker(9_999)]));
    }
}
