#![allow(
    clippy::single_range_in_vec_init,
    reason = "a list of one range is meant"
)]

use http::{HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;

const NOW: Timestamp = Timestamp::from_secs(1_763_640_000);

fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
    let line = |(name, value): &(&'static str, &str)| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    lines.iter().map(line).collect()
}

fn ranges(value: &str) -> Option<Ranges> {
    Ranges::parse(&headers(&[("range", value)]))
}

fn of(value: &str, len: u64) -> Wanted {
    ranges(value).map_or(Wanted::Whole, |ranges| ranges.of(len))
}

fn spans(spans: &[Range<u64>]) -> Wanted {
    Wanted::Spans(spans.iter().cloned().collect())
}

#[test]
fn ends_may_be_open_and_counted_from_behind() {
    for (value, span) in [
        ("bytes=0-4", 0..5),
        ("bytes=4-4", 4..5),
        ("bytes=5-", 5..10),
        ("bytes=0-", 0..10),
        ("bytes=-3", 7..10),
        ("bytes=-10", 0..10),
        ("bytes=-11", 0..10),
        ("bytes=8-99", 8..10),
        ("bytes=007-008", 7..9),
        ("BYTES=0-0", 0..1),
    ] {
        assert_eq!(of(value, 10), spans(&[span]), "{value}");
    }
}

#[test]
fn numbers_that_overflow_lie_beyond_every_end() {
    const HUGE: &str = "99999999999999999999999";
    assert_eq!(of(&format!("bytes=3-{HUGE}"), 10), spans(&[3..10]));
    assert_eq!(of(&format!("bytes=-{HUGE}"), 10), spans(&[0..10]));
    assert_eq!(of(&format!("bytes={HUGE}-"), 10), Wanted::Unsatisfiable);
    assert_eq!(
        of(&format!("bytes={HUGE}-{HUGE}"), 10),
        Wanted::Unsatisfiable
    );
    assert_eq!(
        of(&format!("bytes=0-{HUGE}"), u64::MAX),
        spans(&[0..u64::MAX])
    );
}

#[test]
fn white_space_and_empty_members_are_left_out_of_lists() {
    for value in ["bytes=0-1,4-5", "bytes= 0-1 ,\t4-5 ", "bytes=,0-1,,4-5,"] {
        assert_eq!(of(value, 10), spans(&[0..2, 4..6]), "{value}");
    }
}

#[test]
fn what_cannot_be_read_asks_for_nothing() {
    for value in [
        "",
        "bytes",
        "bytes=",
        "bytes=,",
        "bytes=-",
        "bytes=a-b",
        "bytes=0x1-2",
        "bytes=1",
        "bytes=5-4",
        "bytes=0-1,5-4",
        "bytes=0-1,x",
        "bytes=0 - 1",
        "bytes=+1-2",
        "bytes=1--2",
        "bytes=--1",
        "bytes =0-1",
        "bytes: 0-1",
        "bytes=0-1;2-3",
        "items=0-1",
        "bytess=0-1",
        "0-1",
    ] {
        assert_eq!(ranges(value), None, "{value:?}");
        assert_eq!(
            RangeField::read(&headers(&[("range", value)])),
            RangeField::Other
        );
    }
    let twice = headers(&[("range", "bytes=0-1"), ("range", "bytes=2-3")]);
    assert_eq!(RangeField::read(&twice), RangeField::Other);
    assert_eq!(RangeField::read(&HeaderMap::new()), RangeField::None);
}

#[test]
fn too_many_ranges_are_none() {
    let many = |count| {
        let list: Vec<_> = (0..count)
            .map(|at| format!("{}-{}", at * 3, at * 3))
            .collect();
        format!("bytes={}", list.join(","))
    };
    assert!(matches!(of(&many(32), 1000), Wanted::Spans(spans) if spans.len() == 32));
    assert_eq!(of(&many(33), 1000), Wanted::Whole);
}

#[test]
fn nothing_that_there_is_is_unsatisfiable() {
    for (value, len) in [
        ("bytes=10-", 10),
        ("bytes=10-20", 10),
        ("bytes=-0", 10),
        ("bytes=11-,12-13,-0", 10),
        ("bytes=0-", 0),
        ("bytes=0-0", 0),
    ] {
        assert_eq!(of(value, len), Wanted::Unsatisfiable, "{value} of {len}");
    }
    assert_eq!(of("bytes=10-,0-1", 10), spans(&[0..2]));
    assert_eq!(of("bytes=-1", 0), Wanted::Whole);
}

#[test]
fn ranges_that_touch_are_one_in_the_place_of_the_first() {
    for (value, expected) in [
        ("bytes=0-1,2-3", &[0..4][..]),
        ("bytes=0-5,3-8", &[0..9]),
        ("bytes=6-8,0-1,7-9", &[6..10, 0..2]),
        ("bytes=0-1,6-8,2-5", &[0..9]),
        ("bytes=8-9,0-0,4-5", &[8..10, 0..1, 4..6]),
        ("bytes=0-,0-,0-,0-", &[0..10]),
    ] {
        assert_eq!(of(value, 10), spans(expected), "{value}");
    }
}

#[test]
fn an_honest_content_range_is_read() {
    let read = |value: &str| ContentRange::parse(&headers(&[("content-range", value)]));
    for (value, span, len) in [
        ("bytes 0-4/10", 0..5, 10),
        ("BYTES 9-9/10", 9..10, 10),
        (" bytes 0-0/1 ", 0..1, 1),
    ] {
        assert_eq!(read(value), Some(ContentRange { span, len }), "{value}");
    }
    for value in [
        "bytes 0-4/*",
        "bytes */10",
        "bytes 4-0/10",
        "bytes 0-10/10",
        "bytes 10-11/10",
        "bytes 0-4",
        "bytes=0-4/10",
        "bytes  0-4/10",
        "items 0-4/10",
        "0-4/10",
        "bytes +0-4/10",
        "bytes -4/10",
        "bytes 0-/10",
        "bytes 0-4/",
        "bytes 0-18446744073709551615/18446744073709551616",
        "bytes 0-4/10, bytes 5-9/10",
        "",
    ] {
        assert_eq!(read(value), None, "{value:?}");
    }
    let twice = [
        ("content-range", "bytes 0-4/10"),
        ("content-range", "bytes 0-4/10"),
    ];
    assert_eq!(ContentRange::parse(&headers(&twice)), None);
}

#[test]
fn if_range_takes_the_same_strong_tag_only() {
    let holds = |condition: &str, etag: &str| {
        let (request, response) = ([("if-range", condition)], [("etag", etag)]);
        validator::if_range(&headers(&request), &headers(&response), NOW)
    };
    assert!(holds("\"a\"", "\"a\""));
    for (condition, etag) in [
        ("\"a\"", "\"b\""),
        ("W/\"a\"", "W/\"a\""),
        ("W/\"a\"", "\"a\""),
        ("\"a\"", "W/\"a\""),
        ("a", "a"),
        ("\"", "\""),
        ("\"a\", \"b\"", "\"a\""),
        ("*", "\"a\""),
        ("", "\"a\""),
    ] {
        assert!(!holds(condition, etag), "{condition} {etag}");
    }
    let none = HeaderMap::new();
    assert!(validator::if_range(&none, &none, NOW));
    assert!(!validator::if_range(
        &headers(&[("if-range", "\"a\"")]),
        &none,
        NOW
    ));
    let twice = headers(&[("if-range", "\"a\""), ("if-range", "\"a\"")]);
    assert!(!validator::if_range(
        &twice,
        &headers(&[("etag", "\"a\"")]),
        NOW
    ));
}

#[test]
fn if_range_takes_exactly_the_date_of_the_last_change_where_that_is_strong() {
    const MODIFIED: &str = "Thu, 20 Nov 2025 11:59:00 GMT";
    let holds = |condition: &str, response: &[(&'static str, &str)]| {
        let request = headers(&[("if-range", condition)]);
        validator::if_range(&request, &headers(response), NOW)
    };
    let modified = ("last-modified", MODIFIED);
    assert!(holds(MODIFIED, &[modified]));
    assert!(holds("Thursday, 20-Nov-25 11:59:00 GMT", &[modified]));
    assert!(holds(
        MODIFIED,
        &[modified, ("date", "Thu, 20 Nov 2025 11:59:01 GMT")]
    ));
    for response in [
        &[][..],
        &[modified, ("date", MODIFIED)],
        &[modified, ("date", "yesterday")],
        &[("last-modified", "Thu, 20 Nov 2025 11:58:59 GMT")],
        &[("last-modified", "Thu, 20 Nov 2025 12:00:00 GMT")],
    ] {
        assert!(!holds(MODIFIED, response), "{response:?}");
    }
    let later = "Thu, 20 Nov 2025 11:59:30 GMT";
    assert!(!holds(later, &[modified]), "later is not the same");
}

#[test]
fn a_handler_that_serves_no_ranges_is_believed() {
    let request = headers(&[("range", "bytes=0-1")]);
    let wanted = |value| wanted(&request, &headers(&[("accept-ranges", value)]), NOW, 10);
    assert_eq!(wanted("none"), Wanted::Whole);
    assert_eq!(wanted("bytes"), spans(&[0..2]));
    assert_eq!(wanted("items"), spans(&[0..2]));
}

#[test]
fn several_ranges_of_something_encoded_are_the_whole() {
    let of = |range, coding| {
        let (request, response) = ([("range", range)], [("content-encoding", coding)]);
        wanted(&headers(&request), &headers(&response), NOW, 10)
    };
    assert_eq!(of("bytes=0-1,5-6", "gzip"), Wanted::Whole);
    assert_eq!(of("bytes=0-1,2-6", "gzip"), spans(&[0..7]));
    assert_eq!(of("bytes=0-1,5-6", "identity"), spans(&[0..2, 5..7]));
}

/// What a range is by its definition: whether it has the byte at each position.
fn bytes_of(spec: &str, len: u64) -> Vec<bool> {
    let (first, last) = spec.split_once('-').unwrap();
    let has = |at: u64| match (first, last) {
        ("", count) => at + count.parse::<u64>().unwrap() >= len,
        (first, "") => at >= first.parse().unwrap(),
        (first, last) => (first.parse().unwrap()..=last.parse().unwrap()).contains(&at),
    };
    (0..len).map(has).collect()
}

proptest! {
    #[test]
    fn the_spans_are_exactly_the_bytes_asked_for_and_do_not_touch(
        specs in prop::collection::vec("[0-9]{1,2}-|-[0-9]{1,2}|[0-4][0-9]-[5-9][0-9]", 1..9),
        len in 1_u64..60,
    ) {
        let mut expected = vec![false; len as usize];
        for spec in &specs {
            for (at, has) in bytes_of(spec, len).into_iter().enumerate() {
                expected[at] |= has;
            }
        }
        let mut found = vec![false; len as usize];
        match of(&format!("bytes={}", specs.join(",")), len) {
            Wanted::Spans(spans) => {
                for span in &spans {
                    prop_assert!(span.start < span.end && span.end <= len);
                    found[span.start as usize..span.end as usize].fill(true);
                    let touching = spans.iter().filter(|other| other.start <= span.end && span.start <= other.end);
                    prop_assert_eq!(touching.count(), 1);
                }
            }
            Wanted::Unsatisfiable => {}
            Wanted::Whole => prop_assert!(false, "nothing is wrong with it"),
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_field_makes_the_readers_panic(value in "(bytes)?[ =]?[-0-9,/* a]{0,24}", len: u64) {
        let lines = [("range", &*value), ("content-range", &value), ("if-range", &value), ("etag", &value)];
        let headers = headers(&lines);
        wanted(&headers, &headers, NOW, len);
        if let Some(range) = ContentRange::parse(&headers) {
            prop_assert!(range.span.start < range.span.end && range.span.end <= range.len);
        }
    }

    #[test]
    fn a_content_range_is_read_as_it_is_written(first in 0_u64..1 << 40, more in 0_u64..1 << 40, rest in 0_u64..1 << 40) {
        let span = first..first + more + 1;
        let range = ContentRange { len: span.end + rest, span };
        let value = range.value();
        let read = ContentRange::parse(&headers(&[("content-range", value.to_str().unwrap())]));
        prop_assert_eq!(read, Some(range));
    }
}
