//! HTTP dates (RFC 9110 §5.6.7): the three formats, and nothing else.
//!
//! The crate `httpdate` formats, and does not read here: it refuses a wrong day of the week and other letter cases,
//! which senders get wrong without harm, and knows no present to place the two-digit years of RFC 850 by.

use http::{HeaderMap, HeaderName, HeaderValue};
use std::{
    sync::Mutex,
    time::{Duration, UNIX_EPOCH},
};

use super::text::trim;
use crate::Timestamp;

/// The last second of the year 9999, beyond which the format has no dates.
const LAST_SECOND: u64 = 253_402_300_799;
/// A mean year of the Gregorian calendar, in seconds.
const YEAR_SECONDS: i64 = 31_556_952;
/// Days from the first day of the year 1 to the Unix epoch.
const EPOCH_DAYS: i64 = 719_162;

const DAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// What a message says in a field that holds one date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DateField {
    /// The field is not there.
    Absent,
    /// The field is there with something that is not a date, or several times.
    Invalid,
    /// The field names this point in time.
    At(Timestamp),
}

impl DateField {
    /// The date, when there is a valid one.
    pub(crate) fn valid(self) -> Option<Timestamp> {
        match self {
            Self::At(date) => Some(date),
            Self::Absent | Self::Invalid => None,
        }
    }
}

/// The date in the field `name`, of which a message has one line at most (RFC 9110 §5.3).
pub(crate) fn single(headers: &HeaderMap, name: &HeaderName, now: Timestamp) -> DateField {
    let mut lines = headers.get_all(name).iter();
    match (lines.next(), lines.next()) {
        (None, _) => DateField::Absent,
        (Some(line), None) => parse(line.as_bytes(), now).map_or(DateField::Invalid, DateField::At),
        (Some(_), Some(_)) => DateField::Invalid,
    }
}

/// Reads a date in one of the three formats. `now` places the two-digit years of RFC 850.
///
/// Letter case does not matter, and neither does whether the day of the week is the right one. A date before 1970 is
/// taken for the start of 1970.
pub(crate) fn parse(value: &[u8], now: Timestamp) -> Option<Timestamp> {
    let value = trim(value);
    imf_fixdate(value)
        .or_else(|| rfc850(value, now))
        .or_else(|| asctime(value))
}

/// Writes a date as the fixed format asks; whatever lies beyond the year 9999 becomes its last second.
pub(crate) fn format(at: Timestamp) -> HeaderValue {
    // The responses of a second share one text.
    static LATEST: Mutex<Option<(u64, HeaderValue)>> = Mutex::new(None);
    let seconds = at.as_secs().min(LAST_SECOND);
    let latest = LATEST.try_lock();
    if let Ok(Some((of, text))) = latest.as_deref()
        && *of == seconds
    {
        return text.clone();
    }
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
    let text = HeaderValue::try_from(date).expect("a date is visible ASCII");
    if let Ok(mut latest) = latest {
        *latest = Some((seconds, text.clone()));
    }
    text
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(value: &[u8]) -> Option<Timestamp> {
    let (day, rest) = value.split_first_chunk::<3>()?;
    is_short_day(day).then_some(())?;
    let rest = rest.strip_prefix(b", ")?;
    let [
        d1,
        d2,
        b' ',
        m1,
        m2,
        m3,
        b' ',
        y1,
        y2,
        y3,
        y4,
        b' ',
        time @ ..,
        b' ',
        g,
        m,
        t,
    ] = rest
    else {
        return None;
    };
    is_gmt([*g, *m, *t]).then_some(())?;
    let date = Date {
        year: number(&[*y1, *y2, *y3, *y4])?,
        month: month([*m1, *m2, *m3])?,
        day: number(&[*d1, *d2])?,
    };
    date.at(time_of_day(time)?)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850(value: &[u8], now: Timestamp) -> Option<Timestamp> {
    let comma = value.iter().position(|&byte| byte == b',')?;
    let (day, rest) = value.split_at(comma);
    DAYS.iter()
        .any(|name| name.as_bytes().eq_ignore_ascii_case(day))
        .then_some(())?;
    let rest = rest.strip_prefix(b", ")?;
    let [
        d1,
        d2,
        b'-',
        m1,
        m2,
        m3,
        b'-',
        y1,
        y2,
        b' ',
        time @ ..,
        b' ',
        g,
        m,
        t,
    ] = rest
    else {
        return None;
    };
    is_gmt([*g, *m, *t]).then_some(())?;
    let (month, day) = (month([*m1, *m2, *m3])?, number(&[*d1, *d2])?);
    let (two_digits, time) = (number(&[*y1, *y2])?, time_of_day(time)?);
    // RFC 9110 §5.6.7: what seems more than 50 years ahead is the most recent past year with these digits.
    let horizon = i64::try_from(now.as_secs())
        .ok()?
        .saturating_add(50 * YEAR_SECONDS);
    let last = 1970 + horizon / YEAR_SECONDS + 1;
    let year = last - (last - two_digits).rem_euclid(100);
    let date = |year| Date { year, month, day }.seconds(time);
    let seconds = date(year)
        .filter(|&at| at <= horizon)
        .or_else(|| date(year - 100))?;
    Some(timestamp(seconds))
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime(value: &[u8]) -> Option<Timestamp> {
    let (day, rest) = value.split_first_chunk::<3>()?;
    is_short_day(day).then_some(())?;
    let [
        b' ',
        m1,
        m2,
        m3,
        b' ',
        d1,
        d2,
        b' ',
        time @ ..,
        b' ',
        y1,
        y2,
        y3,
        y4,
    ] = rest
    else {
        return None;
    };
    let date = Date {
        year: number(&[*y1, *y2, *y3, *y4])?,
        month: month([*m1, *m2, *m3])?,
        day: number(&[if *d1 == b' ' { b'0' } else { *d1 }, *d2])?,
    };
    date.at(time_of_day(time)?)
}

struct Date {
    year: i64,
    /// From 0 for January.
    month: usize,
    day: i64,
}

impl Date {
    fn at(&self, time_of_day: i64) -> Option<Timestamp> {
        self.seconds(time_of_day).map(timestamp)
    }

    /// Seconds from the Unix epoch; `None` for a day that its month does not have.
    fn seconds(&self, time_of_day: i64) -> Option<i64> {
        let leap = self.year % 4 == 0 && (self.year % 100 != 0 || self.year % 400 == 0);
        let mut lengths = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        lengths[1] += i64::from(leap);
        (1..=*lengths.get(self.month)?)
            .contains(&self.day)
            .then_some(())?;
        let before = self.year - 1;
        let leap_days = before.div_euclid(4) - before.div_euclid(100) + before.div_euclid(400);
        let days =
            before * 365 + leap_days + lengths[..self.month].iter().sum::<i64>() + self.day - 1;
        Some((days - EPOCH_DAYS) * 86_400 + time_of_day)
    }
}

fn timestamp(seconds: i64) -> Timestamp {
    Timestamp::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// `08:49:37`, with the sixtieth second that a leap second is.
fn time_of_day(time: &[u8]) -> Option<i64> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = time else {
        return None;
    };
    let (hour, minute) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
    let second = number(&[*s1, *s2])?;
    (hour < 24 && minute < 60 && second <= 60).then_some((hour * 60 + minute) * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + i64::from(digit - b'0'))
    })
}

fn month(name: [u8; 3]) -> Option<usize> {
    MONTHS
        .iter()
        .position(|month| month.as_bytes().eq_ignore_ascii_case(&name))
}

fn is_short_day(name: &[u8; 3]) -> bool {
    DAYS.iter()
        .any(|day| day.as_bytes()[..3].eq_ignore_ascii_case(name))
}

fn is_gmt(zone: [u8; 3]) -> bool {
    zone.eq_ignore_ascii_case(b"GMT")
}

#[cfg(test)]
mod tests;
