//! The number that an item bears beside its value, which the server keeps and does not look at.
//!
//! It says whether an entry is live to those who do not want its value, and when an item ends to those whom the server
//! does not tell. Two bits are for its kind, and thirty for an end without its upper bits, which are known from the time
//! that it is near to.

use std::time::Duration;

use super::stored::GRACE;
use crate::{Entry, Timestamp};

const KIND: u32 = 0b11 << END_BITS;
const END_BITS: u32 = 30;
const ENDS: u32 = 1 << END_BITS;

/// An entry that ends, in milliseconds, and its item some time after it.
const ENDING: u32 = 0b01 << END_BITS;

/// An entry that does not.
const ENDLESS: u32 = 0b10 << END_BITS;

/// A counter or a load, of which the item itself ends, in seconds.
const WITH_ITEM: u32 = 0b11 << END_BITS;

/// What has more seconds left on the server than these is live, and nothing stays for longer after its end.
const SURELY: u32 = 2 * GRACE.as_secs() as u32;

/// The number that the item of an entry bears.
pub(super) fn of_entry(entry: &Entry) -> u32 {
    match entry.expires_at() {
        None => ENDLESS,
        Some(end) => ENDING | lower_bits(end.as_millis()),
    }
}

/// The number that a counter or a load bears, of which the item ends when the server's TTL does.
pub(super) fn of_item(end: Option<Timestamp>) -> u32 {
    end.map_or(0, |end| WITH_ITEM | lower_bits(end.as_secs()))
}

/// Whether an item that bears this number, and has so many seconds left on the server, has not ended as an entry.
pub(super) fn is_live(mark: u32, left_on_server: Option<u32>, now: Timestamp) -> bool {
    match mark & KIND {
        ENDING if left_on_server.is_some_and(|left| left <= SURELY) => {
            // What has ended a moment ago seems to end in twelve days.
            (1..ENDS / 2).contains(&until(mark, now.as_millis()))
        }
        _ => true,
    }
}

/// The seconds that an item with this number has left on a server that is not known to have removed it; `None` where it
/// has no end, or the number does not tell.
pub(super) fn left(mark: u32, now: Timestamp) -> Option<u32> {
    match mark & KIND {
        ENDING => {
            let left = until(mark, now.as_millis());
            let ended = ENDS - left;
            let grace = GRACE.as_millis() as u32;
            Some(match ended <= SURELY * 1_000 {
                true => grace.saturating_sub(ended) / 1_000,
                false => (left + grace) / 1_000,
            })
        }
        WITH_ITEM => {
            let left = until(mark, now.as_secs());
            Some(if left < ENDS / 2 { left } else { 0 })
        }
        _ => None,
    }
}

/// When the item ends that was given this TTL of the server's at `now`.
pub(super) fn end_of(ttl: i32, longest_relative: u64, now: Timestamp) -> Option<Timestamp> {
    let seconds = u64::try_from(ttl).ok().filter(|seconds| *seconds > 0)?;
    Some(match seconds > longest_relative {
        true => Timestamp::from_secs(seconds),
        false => now + Duration::from_secs(seconds),
    })
}

fn lower_bits(time: u64) -> u32 {
    (time % u64::from(ENDS)) as u32
}

/// How far it is from `now` to the end, round the circle of thirty bits.
fn until(mark: u32, now: u64) -> u32 {
    (mark & !KIND).wrapping_sub(lower_bits(now)) % ENDS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::CodecId;

    fn entry(end: Option<Timestamp>) -> Entry {
        Entry::new(CodecId::RAW, "value", Timestamp::from_secs(1)).with_expires_at(end)
    }

    proptest! {
        #[test]
        fn a_mark_says_whether_an_entry_is_live(
            now in 1_700_000_000_000..2_000_000_000_000_u64, left in -30_000..100_000_000_000_i64,
        ) {
            let end = Timestamp::from_millis(now.checked_add_signed(left).unwrap());
            let now = Timestamp::from_millis(now);
            let kept = end.since(now).as_secs() + GRACE.as_secs() + 1;
            let on_server = u32::try_from(kept).ok().map(|kept| match left < 0 {
                true => kept - left.unsigned_abs().div_ceil(1_000) as u32,
                false => kept,
            });
            let entry = entry(Some(end));
            prop_assert_eq!(is_live(of_entry(&entry), on_server, now), !entry.is_expired(now));
        }

        #[test]
        fn a_mark_says_how_long_an_item_stays(now in 1_700_000_000..2_000_000_000_u64, ttl in 1..100_000_000_i32) {
            let now = Timestamp::from_secs(now);
            let end = now + Duration::from_secs(ttl as u64);
            let mark = of_item(Some(end));
            prop_assert_eq!(left(mark, now), Some(ttl as u32));
            prop_assert_eq!(left(mark, end), Some(0));
            prop_assert_eq!(left(mark, end + Duration::from_secs(3)), Some(0));
        }

        #[test]
        fn a_mark_says_how_long_an_entry_that_has_ended_stays(now in 1_700_000_000_000..2_000_000_000_000_u64, ago in 1..60_000_u64) {
            let (now, end) = (Timestamp::from_millis(now), Timestamp::from_millis(now - ago));
            let left = left(of_entry(&entry(Some(end))), now);
            prop_assert_eq!(left, Some((30_000_u64.saturating_sub(ago) / 1_000) as u32));
        }
    }

    #[test]
    fn what_is_live_stays_for_longer_than_the_grace() {
        let now = Timestamp::from_secs(1_800_000_000);
        for seconds in [1, 60, 600, 1_000_000] {
            let end = now + Duration::from_secs(seconds);
            let left = left(of_entry(&entry(Some(end))), now).unwrap();
            assert_eq!(u64::from(left), seconds + GRACE.as_secs());
        }
        assert_eq!(left(of_entry(&entry(None)), now), None);
        assert_eq!(left(of_item(None), now), None);
        assert_eq!(left(0, now), None, "others do not know of it");
    }
}
