use std::time::Duration;

use super::WINDOW;
use crate::Timestamp;

/// How far each reader is, and for how long those ahead have waited for those behind.
pub(super) struct Readers {
    /// By number: the bytes read. Numbers are used again.
    read: Vec<Read>,
    count: usize,
    /// What is left of the time that those ahead wait, all their waiting together.
    patience: Duration,
    /// Since when somebody waits.
    waiting: Option<Timestamp>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Read {
    Nobody,
    To(u64),
    /// It was too slow, and is to learn that.
    CutOff,
}

impl Readers {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            read: Vec::new(),
            count: 0,
            patience,
            waiting: None,
        }
    }

    pub(super) fn add(&mut self) -> usize {
        self.count += 1;
        // Where as many are there as have ever been, there is no need to look.
        let free = match self.count > self.read.len() {
            true => None,
            false => self.read.iter().position(|read| *read == Read::Nobody),
        };
        match free {
            Some(id) => {
                self.read[id] = Read::To(0);
                id
            }
            None => {
                self.read.push(Read::To(0));
                self.read.len() - 1
            }
        }
    }

    pub(super) fn remove(&mut self, id: usize) {
        self.read[id] = Read::Nobody;
        self.count -= 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn is_one(&self) -> bool {
        self.count == 1
    }

    pub(super) fn advance(&mut self, id: usize, read: u64) {
        self.read[id] = Read::To(read);
    }

    pub(super) fn is_cut_off(&self, id: usize) -> bool {
        self.read[id] == Read::CutOff
    }

    /// By how much of `len` the slowest reader is behind.
    pub(super) fn most_behind(&self, len: u64) -> u64 {
        let behind = self.read.iter().map(|read| match read {
            Read::To(read) => len - read,
            Read::Nobody | Read::CutOff => 0,
        });
        behind.max().unwrap_or(0)
    }

    /// Cuts off those for whom the others have waited long enough.
    pub(super) fn cut_off(&mut self, len: u64) {
        self.patience = Duration::ZERO;
        for read in &mut self.read {
            if matches!(read, Read::To(read) if len - *read >= WINDOW) {
                *read = Read::CutOff;
            }
        }
    }

    /// For how much longer to wait for those behind; begins to count.
    pub(super) fn patience(&mut self) -> Duration {
        let now = Timestamp::now();
        let begun = *self.waiting.get_or_insert(now);
        self.patience.saturating_sub(now.since(begun))
    }

    /// Whether somebody has waited, and need not any more.
    pub(super) fn makes_room(&mut self, len: u64) -> bool {
        if self.waiting.is_none() || self.most_behind(len) >= WINDOW {
            return false;
        }
        let waited = self
            .waiting
            .take()
            .map(|begun| Timestamp::now().since(begun));
        self.patience = self.patience.saturating_sub(waited.unwrap_or_default());
        true
    }
}
