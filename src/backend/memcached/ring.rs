//! Which server has which keys: consistent hashing.

use super::address::Address;

/// So many points of the ring belong to each server: enough that the shares differ by a few per cent.
const POINTS: u32 = 160;

/// A ring of all 64-bit numbers, on which every server has points. A key belongs to the server whose point is the first
/// at or after the key's own.
///
/// Points and keys are the first eight bytes of BLAKE3 hashes: of `address#number` for a server, as the address is shown
/// in its settled form (`host:port`, the port always), and of the encoded key, without its generation. So the order in
/// which the servers are named does not matter, and one that is added takes from each of the others its share and moves
/// nothing else.
#[derive(Debug)]
pub(super) struct Ring(Vec<(u64, usize)>);

impl Ring {
    pub(super) fn new(servers: &[Address]) -> Self {
        let mut points = Vec::new();
        if servers.len() > 1 {
            for (number, address) in servers.iter().enumerate() {
                let name = |point| format!("{address}#{point}");
                points.extend((0..POINTS).map(|point| (hash(name(point).as_bytes()), number)));
            }
            points.sort_unstable();
        }
        Self(points)
    }

    /// The number of the server that has this key.
    pub(super) fn place(&self, key: &[u8]) -> usize {
        if self.0.is_empty() {
            return 0;
        }
        let own = hash(key);
        let next = self.0.partition_point(|(point, _)| *point < own);
        let (_, server) = self.0.get(next).unwrap_or(&self.0[0]);
        *server
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let hash = blake3::hash(bytes);
    let first = hash.as_bytes().first_chunk();
    u64::from_be_bytes(*first.expect("it has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(list: &str) -> Vec<Address> {
        Address::list(list).unwrap()
    }

    fn keys() -> impl Iterator<Item = String> {
        (0..10_000).map(|number| format!("shop:{number}"))
    }

    #[test]
    fn every_process_finds_the_same_server_whatever_the_order() {
        let (one, two) = (servers("a,b:7,/c"), servers("/c,a:11211,B:7"));
        let (first, second) = (Ring::new(&one), Ring::new(&two));
        for key in keys() {
            let key = key.as_bytes();
            assert_eq!(one[first.place(key)], two[second.place(key)]);
        }
        let places = ["shop:1", "shop:2", "shop:3", "shop:4"];
        let places = places.map(|key| one[first.place(key.as_bytes())].to_string());
        assert_eq!(
            places,
            ["b:7", "/c", "b:7", "b:7"],
            "another version finds them elsewhere"
        );
    }

    #[test]
    fn each_server_has_its_share() {
        let ring = Ring::new(&servers("a,b,c"));
        let mut counts = [0; 3];
        keys().for_each(|key| counts[ring.place(key.as_bytes())] += 1);
        assert!(
            counts.iter().all(|count| (2_600..4_200).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_server_that_is_added_takes_its_share_and_moves_nothing_else() {
        let (before, after) = (servers("a,b,c"), servers("a,b,c,d"));
        let (first, second) = (Ring::new(&before), Ring::new(&after));
        let mut moved = 0;
        for key in keys() {
            let (old, new) = (first.place(key.as_bytes()), second.place(key.as_bytes()));
            if old != new {
                assert_eq!(new, 3);
                moved += 1;
            }
        }
        assert!((1_800..3_300).contains(&moved), "{moved}");
    }
}
