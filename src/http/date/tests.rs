use http::header::{EXPIRES, HeaderMap, HeaderValue};
use proptest::prelude::*;

use super::*;

/// 2025-11-20.
const NOW: Timestamp = Timestamp::from_secs(1_763_640_000);

fn read(text: &str) -> Option<u64> {
    parse(text.as_bytes(), NOW).map(Timestamp::as_secs)
}

#[test]
fn the_three_formats_name_the_same_second() {
    for text in [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
        "Sun Nov 06 08:49:37 1994",
    ] {
        assert_eq!(read(text), Some(784_111_777), "{text}");
    }
}

#[test]
fn letter_case_does_not_matter() {
    for text in [
        "SUN, 06 Nov 1994 08:49:37 GMT",
        "Sun, 06 NOV 1994 08:49:37 GMT",
        "sun, 06 nov 1994 08:49:37 gMT",
        "SUNDAY, 06-nov-94 08:49:37 gmt",
        "sUn nOv  6 08:49:37 1994",
    ] {
        assert_eq!(read(text), Some(784_111_777), "{text}");
    }
}

#[test]
fn a_wrong_day_of_the_week_is_read_over() {
    assert_eq!(read("Mon, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
    assert_eq!(read("Thu Aug  8 02:01:18 2050"), Some(2_543_536_878));
}

#[test]
fn white_space_around_a_date_is_not_part_of_it() {
    assert_eq!(read(" Sun, 06 Nov 1994 08:49:37 GMT\t"), Some(784_111_777));
}

#[test]
fn dates_beyond_32_bits_are_read() {
    assert_eq!(read("Tue, 19 Jan 2038 14:14:08 GMT"), Some(2_147_523_248));
    assert_eq!(read("Sun, 21 Nov 2286 04:46:39 GMT"), Some(10_000_039_599));
    assert_eq!(read("Fri, 31 Dec 9999 23:59:59 GMT"), Some(LAST_SECOND));
}

#[test]
fn dates_before_1970_are_its_start() {
    assert_eq!(read("Wed, 31 Dec 1969 23:59:59 GMT"), Some(0));
    assert_eq!(read("Sat, 01 Jan 0000 00:00:00 GMT"), Some(0));
}

#[test]
fn a_leap_second_is_the_next_minute() {
    assert_eq!(read("Sat, 31 Dec 2016 23:59:60 GMT"), Some(1_483_228_800));
}

#[test]
fn anything_else_is_not_a_date() {
    for text in [
        "",
        "0",
        "-1",
        "Thu, 18 Aug 2050 02:01:18 UTC",
        "Thu, 18 Aug 2050 02:01:18 AEST",
        "Thu, 18 Aug 2050 02:01:18 +0000",
        "Thu, 18 Aug 2050 02:01:18",
        "Thu, 18 Aug 50 02:01:18 GMT",
        "Thu 18 Aug 2050 02:01:18 GMT",
        "Thu,18 Aug 2050 02:01:18 GMT",
        "Thu, 18  Aug  2050 02:01:18 GMT",
        "Thu, 18 Aug 2050  02:01:18 GMT",
        "Thu, 18-Aug-2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02.01.18 GMT",
        "Thu, 18 Aug 2050 2:01:18 GMT",
        "Thu, 8 Aug 2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 24:00:00 GMT",
        "Thu, 18 Aug 2050 02:60:18 GMT",
        "Thu, 18 Aug 2050 02:01:61 GMT",
        "Thu, 31 Jun 2050 02:01:18 GMT",
        "Thu, 29 Feb 2100 02:01:18 GMT",
        "Thu, 00 Aug 2050 02:01:18 GMT",
        "Tho, 18 Aug 2050 02:01:18 GMT",
        "Thu, 18 Agu 2050 02:01:18 GMT",
        "Thu, 18-Aug-50 02:01:18 GMT",
        "Thursday, 18 Aug 2050 02:01:18 GMT",
        "Thursday, 18-Aug-2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 02:01:18 GMT, Thu, 18 Aug 2050 02:01:18 GMT",
        "2050-08-18T02:01:18Z",
    ] {
        assert_eq!(read(text), None, "{text:?}");
    }
}

#[test]
fn two_digit_years_lie_at_most_fifty_years_ahead() {
    let year = |text: &str, now: &str| {
        let now = parse(now.as_bytes(), NOW).unwrap();
        format(parse(text.as_bytes(), now).unwrap())
            .to_str()
            .unwrap()[12..16]
            .to_owned()
    };
    let in_2025 = "Thu, 20 Nov 2025 12:00:00 GMT";
    assert_eq!(year("Thursday, 18-Aug-50 02:01:18 GMT", in_2025), "2050");
    assert_eq!(year("Thursday, 18-Aug-75 02:01:18 GMT", in_2025), "2075");
    assert_eq!(year("Thursday, 18-Aug-76 02:01:18 GMT", in_2025), "1976");
    assert_eq!(year("Thursday, 18-Aug-25 02:01:18 GMT", in_2025), "2025");
    assert_eq!(
        year(
            "Thursday, 18-Aug-10 02:01:18 GMT",
            "Mon, 01 Jan 2080 00:00:00 GMT"
        ),
        "2110"
    );
    assert_eq!(year("Tuesday, 29-Feb-00 02:01:18 GMT", in_2025), "2000");
}

#[test]
fn several_lines_of_one_date_field_are_invalid() {
    let mut headers = HeaderMap::new();
    assert_eq!(single(&headers, &EXPIRES, NOW), DateField::Absent);
    let date = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
    headers.append(EXPIRES, date.clone());
    let at = Timestamp::from_secs(784_111_777);
    assert_eq!(single(&headers, &EXPIRES, NOW), DateField::At(at));
    headers.append(EXPIRES, date);
    assert_eq!(single(&headers, &EXPIRES, NOW), DateField::Invalid);
}

#[test]
fn writing_goes_no_further_than_the_year_9999() {
    assert_eq!(
        format(Timestamp::from_secs(784_111_777)),
        "Sun, 06 Nov 1994 08:49:37 GMT"
    );
    assert_eq!(
        format(Timestamp::from_millis(u64::MAX)),
        "Fri, 31 Dec 9999 23:59:59 GMT"
    );
}

proptest! {
    #[test]
    fn what_was_written_is_read(seconds in 0..=LAST_SECOND) {
        let at = Timestamp::from_secs(seconds);
        prop_assert_eq!(parse(format(at).as_bytes(), NOW), Some(at));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, now: u64) {
        let _ = parse(&bytes, Timestamp::from_millis(now));
    }

    #[test]
    fn no_date_of_nearly_the_right_form_makes_the_reader_panic(
        text in "[A-Za-z]{3,9}(, | )[0-9 ]{2}[ -][A-Z][a-z]{2}[ -][0-9]{2,4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT",
        now: u64,
    ) {
        let _ = parse(text.as_bytes(), Timestamp::from_millis(now));
    }
}
