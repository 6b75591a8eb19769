/// Random numbers that are the same for the same seed, on every machine (SplitMix64). They guard nothing.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Numbers that depend on `part` too.
    pub(super) fn with(&self, part: impl AsRef<[u8]>) -> Self {
        let mut random = self.clone();
        for &byte in part.as_ref() {
            random.0 ^= u64::from(byte) + 1;
            random.next();
            random.0 = random.0.rotate_left(23);
        }
        Self(random.next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, or 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end.max(1)
    }

    /// Whether something happens that does so `of` times out of a hundred.
    pub(super) fn percent(&mut self, of: usize) -> bool {
        self.below(100) < of
    }

    /// One of `items`, of which there is one at least.
    pub(super) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len())]
    }

    pub(super) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end + 1));
        }
    }

    /// A text that nobody guesses and nothing else contains: fit for a header, a cookie, a query and a host.
    pub(super) fn marker(&mut self) -> String {
        let mut rest = self.next();
        let mut marker = String::from("zq");
        for _ in 0..12 {
            marker.push(char::from(
                b"abcdefghijklmnopqrstuvwxyz234567"[(rest % 32) as usize],
            ));
            rest /= 32;
        }
        marker
    }
}
