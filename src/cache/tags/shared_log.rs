//! The tags that were invalidated last in any process, on a backend that several share.
//!
//! The log is one small entry of the namespace. It is written before a marker is deleted: a load that reads the ids of
//! the markers and then the log finds the invalidation in the log, or has ids that it will end.

#[cfg(fuzzing)]
pub(crate) mod fuzzing;

use bytes::{BufMut, Bytes, BytesMut};

use super::{
    super::Cache,
    ATTEMPTS,
    log::{digest, meet},
};
use crate::{CodecId, Entry, Key, PutMode, Timestamp};

/// So many invalidations are remembered; a load that lasts longer than that many is not kept.
const REMEMBERED: usize = 64;

/// A state of the log, by which a load finds out what was added since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    nonce: u64,
    sequence: u64,
}

/// The log as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Log {
    /// Tells this log from one that was lost.
    nonce: u64,
    sequence: u64,
    /// The latest ones, the very latest last.
    recent: Vec<u64>,
}

impl Log {
    fn new() -> Self {
        let mut nonce = [0; 8];
        getrandom::fill(&mut nonce).expect("the operating system has a source of random numbers");
        Self {
            nonce: u64::from_be_bytes(nonce),
            sequence: 0,
            recent: Vec::new(),
        }
    }

    fn seen(&self) -> Seen {
        Seen {
            nonce: self.nonce,
            sequence: self.sequence,
        }
    }

    fn note(&mut self, markers: &[Key]) {
        self.sequence = self.sequence.wrapping_add(markers.len() as u64);
        self.recent.extend(markers.iter().map(digest));
        let forgotten = self.recent.len().saturating_sub(REMEMBERED);
        self.recent.drain(..forgotten);
    }

    /// Whether one of these tags was invalidated, or may have been, since the log was seen.
    fn has_changed(&self, seen: Seen, markers: &[Key]) -> bool {
        let since = self.sequence.wrapping_sub(seen.sequence);
        let since = usize::try_from(since).unwrap_or(usize::MAX);
        if self.nonce != seen.nonce || since > self.recent.len() {
            return true;
        }
        let recent = self.recent.iter().rev().take(since).copied();
        meet(recent, markers)
    }

    fn entry(&self, now: Timestamp) -> Entry {
        let mut bytes = BytesMut::with_capacity(16 + 8 * self.recent.len());
        bytes.put_u64(self.nonce);
        bytes.put_u64(self.sequence);
        self.recent.iter().for_each(|digest| bytes.put_u64(*digest));
        Entry::new(CodecId::TAG_LOG, bytes, now)
    }

    fn read(entry: &Entry) -> Option<Self> {
        (entry.codec() == CodecId::TAG_LOG).then_some(())?;
        Self::decode(entry.payload())
    }

    fn decode(bytes: &Bytes) -> Option<Self> {
        let (numbers, rest) = bytes.as_chunks();
        let mut numbers = numbers.iter().map(|bytes| u64::from_be_bytes(*bytes));
        let log = Self {
            nonce: numbers.next()?,
            sequence: numbers.next()?,
            recent: numbers.collect(),
        };
        (rest.is_empty() && log.recent.len() <= REMEMBERED).then_some(log)
    }
}

impl Cache {
    /// Looks which tags were invalidated last, for a load that begins and whose tags will be known when it ends.
    /// `None` where that cannot be found out; what is loaded is not stored then, if it has tags.
    pub(crate) async fn see_tags(&self) -> Option<Seen> {
        match self.capabilities().shared {
            true => Box::pin(self.see_shared_log()).await,
            false => Some(Seen {
                nonce: 0,
                sequence: 0,
            }),
        }
    }

    async fn see_shared_log(&self) -> Option<Seen> {
        let key = self.log_key();
        for attempt in 0..ATTEMPTS {
            if let Some(log) = self
                .fetch_raw(&key)
                .await
                .ok()?
                .as_ref()
                .and_then(Log::read)
            {
                return Some(log.seen());
            }
            let log = Log::new();
            let mode = match self.capabilities().if_absent {
                true if attempt == 0 => PutMode::IfAbsent,
                // What is there is no log.
                _ => PutMode::Always,
            };
            let put = self.backend().put(&key, log.entry(Timestamp::now()), mode);
            if self.observe(put.await).ok()? {
                return Some(log.seen());
            }
        }
        None
    }

    /// Whether one of the markers was deleted since, by any process; also where that cannot be found out.
    pub(super) async fn have_others_changed(&self, seen: Seen, markers: &[Key]) -> bool {
        if !self.capabilities().shared || markers.is_empty() {
            return false;
        }
        let log = self.fetch_raw(&self.log_key()).await.ok().flatten();
        let log = log.as_ref().and_then(Log::read);
        log.is_none_or(|log| log.has_changed(seen, markers))
    }

    /// Notes invalidations for the loads of other processes. Where that fails the log goes, and nobody's load is kept.
    pub(super) async fn log_to_others(&self, markers: &[Key]) {
        if self.capabilities().shared && !self.try_log(markers).await {
            // One that cannot be deleted now is remembered, as every deletion is.
            let deleted = self.backend().delete(&self.log_key()).await;
            let _ = self.observe(deleted);
        }
    }

    async fn try_log(&self, markers: &[Key]) -> bool {
        let key = self.log_key();
        let can_compare = self.capabilities().versions;
        for _ in 0..ATTEMPTS {
            let entry = match self.fetch_raw(&key).await {
                Ok(Some(entry)) => entry,
                // Who finds no log does not store, or begins one, and then to load.
                Ok(None) => return true,
                Err(_) => return false,
            };
            let Some(mut log) = Log::read(&entry).filter(|_| can_compare) else {
                return false;
            };
            log.note(markers);
            let mode = PutMode::IfVersion(entry.version());
            let put = self.backend().put(&key, log.entry(Timestamp::now()), mode);
            match self.observe(put.await) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => return false,
            }
        }
        false
    }

    /// No tag has a name of no bytes.
    fn log_key(&self) -> Key {
        self.0.tags.key(b"").to_key()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marker(number: usize) -> Key {
        Key::new("shop", None, number.to_string())
    }

    #[test]
    fn a_log_tells_what_was_added_since_it_was_seen() {
        let mut log = Log::new();
        log.note(&[marker(1)]);
        let seen = log.seen();
        log.note(&[marker(2), marker(3)]);
        assert!(!log.has_changed(seen, &[marker(1)]));
        assert!(log.has_changed(seen, &[marker(1), marker(3)]));
    }

    #[test]
    fn what_a_log_has_forgotten_or_another_log_knows_counts_as_invalidated() {
        let mut log = Log::new();
        let seen = log.seen();
        let others: Vec<_> = (0..REMEMBERED).map(marker).collect();
        log.note(&others);
        assert!(!log.has_changed(seen, &[marker(9_999)]));
        log.note(&others[..1]);
        assert!(log.has_changed(seen, &[marker(9_999)]));
        assert!(Log::new().has_changed(seen, &[marker(9_999)]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_log_or_none(bytes: Vec<u8>) {
            let bytes = Bytes::from(bytes);
            if let Some(log) = Log::decode(&bytes) {
                let entry = log.entry(Timestamp::from_secs(7));
                prop_assert_eq!(entry.payload(), &bytes);
                let _ = log.has_changed(Log::new().seen(), &[marker(1)]);
            }
        }

        #[test]
        fn a_log_is_read_as_it_was_written(times in 0..100_usize) {
            let mut log = Log::new();
            (0..times).for_each(|number| log.note(&[marker(number)]));
            let entry = log.entry(Timestamp::from_secs(7));
            prop_assert_eq!(Log::read(&entry), Some(log));
        }
    }
}
