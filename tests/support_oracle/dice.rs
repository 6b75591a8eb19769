use super::Fields;

/// Random choices that a seed repeats.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        // SplitMix64, by Steele, Lea and Flood.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Some directives, as one line or as several.
    fn control(&mut self, from: &[&str], fields: &mut Fields) {
        let count = self.pick(&[0, 1, 1, 2, 2, 3]);
        let mut line: Vec<&str> = Vec::new();
        for _ in 0..count {
            line.push(self.pick(from));
            if self.once_in(4) {
                fields.push(("cache-control".into(), line.join(", ")));
                line.clear();
            }
        }
        if !line.is_empty() {
            let between = self.pick(&[",", ", ", " ,\t"]);
            fields.push(("cache-control".into(), line.join(between)));
        }
    }

    /// The fields of a request.
    pub(crate) fn request(&mut self) -> Fields {
        let mut fields = Fields::new();
        if self.once_in(3) {
            self.control(&IN_REQUESTS, &mut fields);
        }
        for (name, values, times) in [
            ("x-a", &["1", "2", "1,2", "1, 2"][..], 3),
            ("accept-language", &["de, en;q=0.5", "en;q=0.5,DE", "en"], 4),
            ("cookie", &["sid=1", "sid=2"], 5),
            ("authorization", &["Basic MTox"], 8),
            ("pragma", &["no-cache", "x"], 12),
        ] {
            if self.once_in(times) {
                fields.push((name.into(), self.pick(values).into()));
            }
        }
        fields
    }

    /// The fields of a response; `date` gives the date that is so many seconds from now.
    pub(crate) fn response(&mut self, date: impl Fn(i64) -> String) -> Fields {
        let mut fields = Fields::new();
        if !self.once_in(8) {
            self.control(&IN_RESPONSES, &mut fields);
        }
        for (name, times) in [("date", 4), ("expires", 4), ("last-modified", 4)] {
            if self.once_in(times) {
                let seconds = match name {
                    "date" => self.pick(&[0, 0, 0, -5, -100, 50]),
                    "expires" => self.pick(&[0, 30, 60, 3_600, -1]),
                    _ => self.pick(&[0, -300, -600, -100_000, -100_000_000, 100]),
                };
                let value = match self.once_in(12) {
                    true => self
                        .pick(&["0", "-1", "", "Sun, 06 Nov 1994 08:49:37 +0100"])
                        .into(),
                    false => date(seconds),
                };
                fields.push((name.into(), value));
            }
        }
        for (name, values, times) in [
            (
                "age",
                &["0", "1", "30", "59", "1, 50", "x", "-1", "4294967296"][..],
                6,
            ),
            (
                "vary",
                &["x-a", "X-A , accept-language", "*", "cookie", "x-a, *", ","],
                4,
            ),
            ("vary", &["authorization", "x-b", ""], 12),
            ("set-cookie", &["sid=1", "a=b; Path=/"], 8),
            ("etag", &["\"a\"", "W/\"a\"", "\"b\""], 4),
            ("pragma", &["no-cache"], 20),
            ("x-a", &["of the response"], 4),
        ] {
            if self.once_in(times) {
                fields.push((name.into(), self.pick(values).into()));
            }
        }
        fields
    }

    pub(crate) fn status(&mut self) -> u16 {
        match self.once_in(3) {
            true => self.pick(&STATUSES),
            false => 200,
        }
    }

    /// Milliseconds that go by between two requests.
    pub(crate) fn pause(&mut self) -> u64 {
        self.pick(&[
            0, 0, 1, 500, 999, 1_000, 10_000, 29_500, 30_000, 59_999, 60_000, 61_000, 3_600_000,
        ])
    }
}

const STATUSES: [u16; 24] = [
    200, 201, 203, 204, 299, 300, 301, 302, 304, 308, 400, 401, 403, 404, 405, 410, 412, 414, 429,
    500, 501, 503, 599, 777,
];

const IN_REQUESTS: [&str; 16] = [
    "no-cache",
    "no-store",
    "max-age=0",
    "max-age=10",
    "Max-Age=60",
    "max-age=\"3600\"",
    "min-fresh=1",
    "min-fresh=50",
    "min-fresh=x",
    "max-stale",
    "max-stale=1",
    "max-stale=600",
    "max-stale=x",
    "only-if-cached",
    "x=\"no-store, max-age=0\"",
    "no-transform",
];

const IN_RESPONSES: [&str; 35] = [
    "max-age=60",
    "max-age=60",
    "max-age=30",
    "MAX-AGE=3600",
    "max-age=\"60\"",
    "max-age=0060",
    "max-age=0",
    "max-age=99999999999999999999",
    "max-age=x",
    "max-age=-1",
    "max-age='60'",
    "max-age",
    "s-maxage=30",
    "s-maxage=60",
    "s-maxage=x",
    "public",
    "public",
    "Public",
    "private",
    "no-store",
    "no-cache",
    "no-cache=\"x-a\"",
    "private=\"x-a, x-c\"",
    "private=\"set-cookie\"",
    "no-cache=\"Set-Cookie\"",
    "must-revalidate",
    "proxy-revalidate",
    "must-understand",
    "immutable",
    "stale-while-revalidate=30",
    "stale-if-error=30",
    "x=\"private, no-store\"",
    "x=\"a\\\"b, max-age=5\"",
    "max-age-x=5",
    "no-transform",
];
