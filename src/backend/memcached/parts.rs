//! Values over the server's limit, in several items.
//!
//! Under the key is a head that says how long the whole is and by which random number its parts are known. Each put has
//! another number, so the parts of two values are never mixed; and what is not there as a whole is not there.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    item_key::ItemKey,
    link::Live,
    protocol::{Command, Condition, Verb},
    space::Space,
    stored::Stored,
};
use crate::{Result, Timestamp, backend::generation::Generation};

/// The first byte of a head. An entry has another one, and a counter begins with a digit.
const MAGIC: u8 = 0xC6;
const FORMAT: u8 = 1;

/// A value is at most so many times as long as what one item holds.
pub(super) const PARTS: usize = 16;

type Id = [u8; 16];

/// What a head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    id: Id,
    len: u32,
    part: u32,
    /// When the entry ends, in milliseconds.
    end: u64,
}

/// Stands in a head for an entry that does not end.
const NEVER: u64 = u64::MAX;

impl Head {
    const LEN: usize = 2 + size_of::<Id>() + 4 + 4 + 8;

    /// Whether these bytes are those of a head, of any format.
    pub(super) fn is_in(bytes: &[u8]) -> bool {
        bytes.first() == Some(&MAGIC)
    }

    fn read(mut bytes: &[u8]) -> Option<Self> {
        let [MAGIC, FORMAT, ..] = bytes else {
            return None;
        };
        if bytes.len() != Self::LEN {
            return None;
        }
        bytes.advance(2);
        let mut id = Id::default();
        bytes.copy_to_slice(&mut id);
        let (len, part, end) = (bytes.get_u32(), bytes.get_u32(), bytes.get_u64());
        let head = Self { id, len, part, end };
        (part > 0 && part < len && head.count() <= PARTS).then_some(head)
    }

    fn to_bytes(self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(Self::LEN);
        bytes.put_slice(&[MAGIC, FORMAT]);
        bytes.put_slice(&self.id);
        bytes.put_u32(self.len);
        bytes.put_u32(self.part);
        bytes.put_u64(self.end);
        bytes.freeze()
    }

    /// How many parts there are, which may be more than there can be: it is not known to be a head yet.
    fn count(self) -> usize {
        self.len.div_ceil(self.part.max(1)) as usize
    }

    /// How long each of the parts is.
    fn lens(self) -> impl Iterator<Item = usize> {
        let (len, part) = (self.len as usize, self.part.max(1) as usize);
        (0..len)
            .step_by(part)
            .map(move |start| part.min(len - start))
    }

    fn keys(self, space: &Space, generation: Generation) -> impl Iterator<Item = ItemKey> {
        let id: String = self.id.iter().map(|byte| format!("{byte:02x}")).collect();
        (0..self.count()).map(move |number| space.part(generation, &format!("{id}.{number}")))
    }
}

/// A value that is to be put in parts.
#[derive(Clone, Debug)]
pub(super) struct Split {
    head: Head,
    whole: Bytes,
}

impl Split {
    /// `whole`, an entry that ends then, in parts of this length; `None` where they would be too many.
    pub(super) fn new(whole: Bytes, part: usize, end: Option<Timestamp>) -> Option<Self> {
        if part == 0 || whole.len().div_ceil(part) > PARTS {
            return None;
        }
        let mut id = Id::default();
        getrandom::fill(&mut id).expect("the operating system has a source of random numbers");
        let head = Head {
            id,
            len: u32::try_from(whole.len()).ok()?,
            part: u32::try_from(part).ok()?,
            end: end.map_or(NEVER, Timestamp::as_millis),
        };
        Some(Self { head, whole })
    }

    pub(super) fn head(&self) -> Bytes {
        self.head.to_bytes()
    }

    /// Puts the parts. The head comes last, so that nobody finds it before them.
    pub(super) fn put(&self, space: &Space, generation: Generation, ttl: i32) -> Vec<Command> {
        let mut rest = self.whole.clone();
        let parts = self.head.lens().zip(self.head.keys(space, generation));
        parts
            .map(|(len, key)| {
                let verb = Verb::Set {
                    condition: Condition::Always,
                    value: rest.split_to(len),
                    mark: 0,
                    ttl,
                };
                Command::new(&key, verb)
            })
            .collect()
    }

    /// Removes the parts, of which nobody knows.
    pub(super) fn remove(&self, space: &Space, generation: Generation) -> Vec<Command> {
        let keys = self.head.keys(space, generation);
        keys.map(|key| Command::new(&key, Verb::Delete(None)))
            .collect()
    }
}

/// When the entry ends that these bytes are the head of; `None` where they are no head that can be read.
pub(super) fn end(bytes: &[u8]) -> Option<Option<Timestamp>> {
    let head = Head::read(bytes)?;
    Some((head.end != NEVER).then(|| Timestamp::from_millis(head.end)))
}

/// What was found with the whole of its value, in one more round trip where that is in parts; `None` where some of them
/// are missing.
pub(super) async fn whole(
    found: Stored,
    space: &Space,
    generation: Generation,
    live: &Live,
) -> Result<Option<Stored>> {
    if !Head::is_in(found.bytes()) {
        return Ok(Some(found));
    }
    let Some(head) = Head::read(found.bytes()) else {
        // Damaged, or of a format to come; as any other value that cannot be read.
        return Ok(Some(found));
    };
    let keys = head.keys(space, generation);
    let commands: Vec<_> = keys.map(|key| Command::new(&key, Verb::Get)).collect();
    let replies = live.ask(&commands, None).await?;
    let mut parts = Vec::with_capacity(replies.len());
    for (len, reply) in head.lens().zip(replies) {
        match Stored::of(reply)? {
            Some(part) if part.bytes().len() == len => parts.push(part),
            _ => return Ok(None),
        }
    }
    // Not before all of it is there: a damaged head may promise whatever it likes.
    let mut value = BytesMut::with_capacity(head.len as usize);
    parts
        .iter()
        .for_each(|part| value.extend_from_slice(part.bytes()));
    Ok(Some(found.with_bytes(value.freeze())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(len: u32, part: u32) -> Head {
        Head {
            id: [7; 16],
            len,
            part,
            end: NEVER,
        }
    }

    proptest! {
        #[test]
        fn a_head_reads_as_it_was_written(part in 1..1_000_u32, over in 1..15_000_u32) {
            let head = head(part + over % (15 * part), part);
            prop_assume!(head.len > part);
            prop_assert_eq!(Head::read(&head.to_bytes()), Some(head));
            prop_assert_eq!(head.lens().sum::<usize>(), head.len as usize);
            prop_assert!(head.lens().all(|len| len > 0 && len <= part as usize));
        }

        #[test]
        fn what_is_no_head_is_refused_without_a_panic(bytes: Vec<u8>, rest: [u8; 32]) {
            Head::read(&bytes);
            if let Some(head) = Head::read(&[&[MAGIC, FORMAT][..], &rest].concat()) {
                prop_assert!(head.lens().count() <= PARTS && head.count() == head.lens().count());
            }
        }
    }

    #[test]
    fn a_head_promises_no_more_than_there_can_be() {
        for wrong in [
            // Counted one by one they would take seconds.
            head(u32::MAX, 1),
            head(10, 0),
            head(10, 10),
            head(0, 0),
            head(1_600_001, 100_000),
        ] {
            assert_eq!(Head::read(&wrong.to_bytes()), None, "{wrong:?}");
        }
        assert!(Head::read(&head(1_600_000, 100_000).to_bytes()).is_some());
        assert!(Split::new(Bytes::from_static(&[0; 160]), 10, None).is_some());
        assert!(Split::new(Bytes::from_static(&[0; 161]), 10, None).is_none());
    }
}
