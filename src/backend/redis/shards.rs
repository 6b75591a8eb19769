//! How a namespace is spread over a cluster: in 256 shards, each of which is in one slot with all that its verbs need.
//!
//! A step on several keys is one step on the server only where all of them are in one slot. So each shard has a marker of
//! its own and the counters of its own keys, and everything that one verb does to one key is done in one slot. On a single
//! server there is one shard, and its keys have no tag.

use std::sync::LazyLock;

use crate::{Key, KeyRef};

/// Deletions are counted in so many counters a namespace: few enough to be cheap on the server, and enough that a deletion
/// seldom ends the lease of a load of another key.
pub(super) const COUNTERS: u16 = 1024;

/// The fields of one bucket share so many of them: few enough that the end of the bucket can raise them all.
const COUNTERS_OF_BUCKET: u16 = 16;

/// How many shards a namespace has in a cluster: enough that they are spread evenly over some dozens of nodes, and few
/// enough that clearing, which changes the marker of each, is quick.
pub(super) const SHARDS: u16 = 256;

/// The slots of a cluster.
const SLOTS: u16 = 16_384;

/// What a cluster finds the slot of each shard by: for each the least number whose slot is among those of the shard, which
/// are all next to each other. The same in every process and every version.
static TAGS: LazyLock<Box<[(u16, String)]>> = LazyLock::new(|| {
    let mut tags: Vec<Option<(u16, String)>> = vec![None; usize::from(SHARDS)];
    let mut missing = SHARDS;
    for number in 0_u32.. {
        let tag = number.to_string();
        let slot = slot_of(tag.as_bytes());
        let place = &mut tags[usize::from(slot / (SLOTS / SHARDS))];
        if place.is_none() {
            *place = Some((slot, tag));
            missing -= 1;
        }
        if missing == 0 {
            break;
        }
    }
    tags.into_iter().flatten().collect()
});

/// How a namespace is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// One server has all of it.
    Whole,
    /// A cluster has it in shards.
    Sharded,
}

/// One shard of a namespace: where it is, and how its keys begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shard {
    number: u16,
    layout: Layout,
}

impl Layout {
    pub(super) fn shards(self) -> impl Iterator<Item = Shard> {
        let count = match self {
            Self::Whole => 1,
            Self::Sharded => SHARDS,
        };
        (0..count).map(move |number| Shard {
            number,
            layout: self,
        })
    }

    /// The number of the shard that a key is in.
    pub(super) fn shard_of(self, key: &Key) -> usize {
        match self {
            Self::Whole => 0,
            // A bucket is in one shard, because a hash is in one slot.
            Self::Sharded => {
                let key = key.as_key_ref();
                usize::from(number_of(key.bucket_key().unwrap_or(key)) / (COUNTERS / SHARDS))
            }
        }
    }

    /// The number of the shard that a key of the server is in, if it begins as one of this namespace does, and how long
    /// that beginning is.
    pub(super) fn find(self, encoded: &[u8], stored: &[u8]) -> Option<usize> {
        match self {
            Self::Whole => stored.starts_with(&self.beginning(encoded)).then_some(0),
            Self::Sharded => {
                let rest = stored.strip_prefix(&self.beginning(encoded)[..])?;
                let end = rest.iter().position(|byte| *byte == b'}')?;
                let slot = slot_of(&rest[..end]);
                let number = usize::from(slot / (SLOTS / SHARDS));
                (TAGS[number].1.as_bytes() == &rest[..end]).then_some(number)
            }
        }
    }

    /// What the keys of all shards of a namespace begin with.
    pub(super) fn beginning(self, encoded: &[u8]) -> Vec<u8> {
        match self {
            Self::Whole => [encoded, b":"].concat(),
            Self::Sharded => {
                let mut beginning = Vec::with_capacity(encoded.len() + 2);
                for &byte in encoded {
                    match byte {
                        // The first brace has to be that of the tag. A per cent sign of the name is encoded as well, so
                        // that no two names meet.
                        b'{' => beginning.extend_from_slice(b"%7B"),
                        byte => beginning.push(byte),
                    }
                }
                beginning.extend_from_slice(b":{");
                beginning
            }
        }
    }
}

impl Shard {
    /// What all of its keys begin with.
    pub(super) fn head(self, encoded: &[u8]) -> Vec<u8> {
        let mut head = self.layout.beginning(encoded);
        if self.layout == Layout::Sharded {
            head.extend_from_slice(TAGS[usize::from(self.number)].1.as_bytes());
            head.push(b'}');
        }
        head
    }

    /// The slot that all of its keys are in.
    pub(super) fn slot(self) -> u16 {
        match self.layout {
            Layout::Whole => 0,
            Layout::Sharded => TAGS[usize::from(self.number)].0,
        }
    }
}

/// The number of the counter that deletions of `key` raise. The same in every process.
pub(super) fn counter_of(key: &Key) -> u16 {
    let key = key.as_key_ref();
    match key.bucket_key() {
        Some(bucket) => first_counter_of(bucket) + number_of(key) % COUNTERS_OF_BUCKET,
        None => number_of(key),
    }
}

/// The numbers of the counters that deletions of the fields of a bucket raise.
pub(super) fn counters_of_bucket(bucket: KeyRef<'_>) -> impl Iterator<Item = u16> {
    let first = first_counter_of(bucket);
    first..first + COUNTERS_OF_BUCKET
}

fn first_counter_of(bucket: KeyRef<'_>) -> u16 {
    number_of(bucket) / COUNTERS_OF_BUCKET * COUNTERS_OF_BUCKET
}

fn number_of(key: KeyRef<'_>) -> u16 {
    let hash = blake3::hash(key.encoded());
    let [low, high, ..] = *hash.as_bytes();
    u16::from_le_bytes([low, high]) % COUNTERS
}

/// The slot of a tag, or of a key without one: CRC16 (XMODEM), as the cluster computes it.
fn slot_of(tag: &[u8]) -> u16 {
    const POLYNOMIAL: u16 = 0x1021;
    let crc = tag.iter().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte) << 8, |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => (crc << 1) ^ POLYNOMIAL,
        })
    });
    crc % SLOTS
}

#[cfg(test)]
mod tests {
    use redis::cluster_routing::{Route, Slot, SlotAddr};

    use super::*;

    #[test]
    fn slots_are_those_of_the_client() {
        for tag in ["", "0", "123456789", "{", "\u{e9}"] {
            let slot = Slot::new(slot_of(tag.as_bytes())).unwrap();
            let expected = Route::with_key(tag, SlotAddr::Master);
            assert_eq!(Route::with_slot(slot, SlotAddr::Master), expected, "{tag}");
        }
    }

    #[test]
    fn shards_are_spread_evenly_and_everything_of_one_is_in_its_slot() {
        for (number, shard) in Layout::Sharded.shards().enumerate() {
            assert_eq!(usize::from(shard.slot()) / 64, number);
            for namespace in ["shop", "", "{}", "a{b}c", "}{"] {
                let head = shard.head(namespace.as_bytes());
                let key = [&head[..], b"generation{1}"].concat();
                let slot = Slot::new(shard.slot()).unwrap();
                let expected = Route::with_key(&key, SlotAddr::Master);
                assert_eq!(Route::with_slot(slot, SlotAddr::Master), expected);
                let found = Layout::Sharded.find(namespace.as_bytes(), &key);
                assert_eq!(found, Some(number));
            }
        }
    }

    #[test]
    fn the_fields_of_a_bucket_are_in_one_shard_and_share_its_counters() {
        for bucket in 0..200 {
            let field = |name: usize| Key::new("shop", Some(&bucket.to_string()), name.to_string());
            let whole = field(0);
            let bucket = whole.as_key_ref().bucket_key().unwrap();
            let counters: Vec<_> = counters_of_bucket(bucket).collect();
            let mut used = Vec::new();
            for name in 0..300 {
                let key = field(name);
                assert_eq!(
                    Layout::Sharded.shard_of(&key),
                    Layout::Sharded.shard_of(&whole)
                );
                used.push(counter_of(&key));
            }
            used.sort_unstable();
            used.dedup();
            assert_eq!(used, counters);
        }
    }

    /// Other versions have to find what this one put.
    #[test]
    fn tags_stay_what_they_are() {
        let head = |shard: Shard| String::from_utf8(shard.head(b"shop")).unwrap();
        let heads: Vec<_> = Layout::Sharded.shards().map(head).collect();
        assert_eq!(heads.len(), 256);
        assert_eq!(
            [heads[0].as_str(), &heads[1], &heads[255]],
            ["shop:{460}", "shop:{14}", "shop:{430}"]
        );
    }

    #[test]
    fn keys_of_others_are_in_no_shard() {
        for key in [
            "shop:{",
            "shop:{}",
            "shop:{x}a",
            "shop:generation",
            "shopping:{0}a",
        ] {
            assert_eq!(Layout::Sharded.find(b"shop", key.as_bytes()), None, "{key}");
        }
        assert_eq!(Layout::Whole.find(b"shop", b"shop:generation"), Some(0));
        assert_eq!(Layout::Whole.find(b"shop", b"shops:generation"), None);
    }
}
