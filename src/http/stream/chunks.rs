use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Chunks below this many bytes are copied: each would hold on to a whole buffer of its connection.
const SMALL: usize = 1024;

/// As many bytes of small chunks become one.
const GATHERED: usize = 16 * 1024;

/// The bytes of a body from some point on, by reference.
#[derive(Default)]
pub(super) struct Chunks {
    whole: VecDeque<Bytes>,
    /// The number of the first one that is still there.
    first: u64,
    /// Small chunks since the last of them, copied.
    small: BytesMut,
    /// Where the first one begins.
    start: u64,
    /// The end, as seen from the beginning of the body.
    len: u64,
}

/// Where a reader is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    /// The number of a chunk; that behind the last is the small ones.
    chunk: u64,
    /// Where in it.
    offset: usize,
    /// Bytes since the beginning of the body.
    pub(super) read: u64,
}

impl Chunks {
    /// So many bytes have come, whether or not they are still here.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// How many bytes are here.
    pub(super) fn held(&self) -> u64 {
        self.len - self.start
    }

    pub(super) fn push(&mut self, data: &Bytes) {
        self.len += data.len() as u64;
        if data.len() >= SMALL {
            self.gather();
            self.whole.push_back(data.clone());
            return;
        }
        self.small.extend_from_slice(data);
        if self.small.len() >= GATHERED {
            self.gather();
        }
    }

    fn gather(&mut self) {
        if !self.small.is_empty() {
            self.whole.push_back(self.small.split().freeze());
        }
    }

    /// Notes bytes that nobody else will read. What is here had been read by everybody, and is let go.
    pub(super) fn skip(&mut self, len: usize) {
        self.first += self.whole.len() as u64;
        self.whole = VecDeque::new();
        self.small = BytesMut::new();
        self.len += len as u64;
        self.start = self.len;
    }

    /// The place of somebody who has read everything.
    pub(super) fn end(&self) -> Place {
        Place {
            chunk: self.first + self.whole.len() as u64,
            offset: self.small.len(),
            read: self.len,
        }
    }

    /// The next bytes from a place on, which moves behind them.
    pub(super) fn read(&self, place: &mut Place) -> Option<Bytes> {
        if place.chunk < self.first {
            // What was let go of had been read to its end.
            (place.chunk, place.offset) = (self.first, 0);
        }
        loop {
            let at = usize::try_from(place.chunk - self.first).ok()?;
            let Some(chunk) = self.whole.get(at) else {
                let rest = self.small.get(place.offset..)?;
                if rest.is_empty() {
                    return None;
                }
                place.offset = self.small.len();
                place.read += rest.len() as u64;
                return Some(Bytes::copy_from_slice(rest));
            };
            let rest = chunk.slice(place.offset.min(chunk.len())..);
            place.chunk += 1;
            place.offset = 0;
            if !rest.is_empty() {
                place.read += rest.len() as u64;
                return Some(rest);
            }
        }
    }

    /// Everything, and then `last`.
    pub(super) fn with(&self, last: Option<&Bytes>) -> Vec<Bytes> {
        let small = Some(&self.small).filter(|small| !small.is_empty());
        let mut all = Vec::with_capacity(self.whole.len() + 2);
        all.extend(self.whole.iter().cloned());
        all.extend(small.map(|small| Bytes::copy_from_slice(small)));
        all.extend(last.cloned());
        all
    }

    /// Lets go of chunks that end before `read`.
    pub(super) fn trim(&mut self, read: u64) {
        if read >= self.len {
            self.gather();
        }
        while let Some(chunk) = self.whole.front() {
            let end = self.start + chunk.len() as u64;
            if end > read {
                return;
            }
            self.start = end;
            self.first += 1;
            self.whole.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large(byte: u8) -> Bytes {
        vec![byte; SMALL].into()
    }

    fn rest(chunks: &Chunks, place: &mut Place) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(bytes) = chunks.read(place) {
            all.extend_from_slice(&bytes);
        }
        all
    }

    #[test]
    fn large_chunks_are_not_copied_and_small_ones_hold_on_to_nothing() {
        let mut chunks = Chunks::default();
        let (one, two) = (large(1), Bytes::from_static(b"small"));
        chunks.push(&one);
        chunks.push(&two);
        let mut place = Place::default();
        assert_eq!(chunks.read(&mut place).unwrap().as_ptr(), one.as_ptr());
        assert_ne!(chunks.read(&mut place).unwrap().as_ptr(), two.as_ptr());
        assert_eq!(place.read, chunks.len());
    }

    #[test]
    fn a_place_among_small_chunks_stays_right_when_they_become_one() {
        let mut chunks = Chunks::default();
        let mut place = Place::default();
        chunks.push(&Bytes::from_static(b"one "));
        assert_eq!(rest(&chunks, &mut place), b"one ");
        chunks.push(&Bytes::from_static(b"two"));
        chunks.push(&large(3));
        chunks.push(&Bytes::from_static(b"end"));
        let expected = [b"two", &large(3)[..], b"end"].concat();
        assert_eq!(rest(&chunks, &mut place), expected);
        assert_eq!(
            chunks.with(None).concat(),
            [b"one ", &expected[..]].concat()
        );
    }

    #[test]
    fn what_everybody_has_read_is_let_go() {
        let mut chunks = Chunks::default();
        (0..4).for_each(|byte| chunks.push(&large(byte)));
        chunks.push(&Bytes::from_static(b"end"));
        let mut place = Place::default();
        chunks.read(&mut place);
        chunks.read(&mut place);
        chunks.trim(place.read);
        assert_eq!(chunks.held(), 2 * SMALL as u64 + 3);
        assert_eq!(rest(&chunks, &mut place).len(), 2 * SMALL + 3);
        chunks.trim(place.read);
        assert_eq!(chunks.held(), 0);
        chunks.push(&Bytes::from_static(b"more"));
        assert_eq!(rest(&chunks, &mut place), b"more");
    }

    #[test]
    fn nothing_stays_before_what_is_skipped() {
        let mut chunks = Chunks::default();
        chunks.push(&large(1));
        chunks.push(&Bytes::from_static(b"small"));
        chunks.skip(10);
        assert!(chunks.whole.is_empty() && chunks.small.is_empty());
        assert_eq!((chunks.held(), chunks.len()), (0, SMALL as u64 + 15));
        let mut place = chunks.end();
        chunks.push(&Bytes::from_static(b"more"));
        assert_eq!(rest(&chunks, &mut place), b"more");
    }
}
