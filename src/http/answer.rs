//! Answers made from a stored response, and what every answer tells.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{AGE, CONTENT_LENGTH},
};

use super::{
    asked::Asked,
    body::CacheBody,
    conditional,
    layer::Config,
    status::{CACHE_STATUS, Forward, Outcome},
    stored::StoredResponse,
};
use crate::Timestamp;

/// What an answer tells of itself in `Cache-Status`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling {
    pub(super) outcome: Outcome,
    pub(super) detail: Option<&'static str>,
}

impl Telling {
    pub(super) fn hit(ttl: i64) -> Self {
        Self {
            outcome: Outcome::Hit { ttl },
            detail: None,
        }
    }

    pub(super) fn forwarded(reason: Forward, detail: Option<&'static str>) -> Self {
        Self {
            outcome: Outcome::forwarded(reason),
            detail,
        }
    }

    pub(super) fn value(self, config: &Config) -> Option<HeaderValue> {
        Some(config.status.as_ref()?.value(self.outcome, self.detail))
    }

    pub(super) fn append(self, config: &Config, headers: &mut HeaderMap) {
        if let Some(value) = self.value(config) {
            headers.append(CACHE_STATUS, value);
        }
    }
}

/// The answer that a stored response gives to a request: the response, its head, or a 304 (RFC 9110 §13.2.2).
pub(super) fn from_store<R>(
    config: &Config,
    stored: &StoredResponse,
    asked: &Asked,
    client: &HeaderMap,
    now: Timestamp,
    telling: Telling,
) -> Response<CacheBody<R>> {
    let status = stored.head.status;
    let received = stored.head.times.response;
    let not_modified = asked.conditional
        && conditional::not_modified(client, status, &stored.head.headers, received);
    let mut headers = match not_modified {
        true => stored.not_modified().clone(),
        false => stored.answer.clone(),
    };
    let age = age_value(stored.policy.age(now));
    match headers.get_mut(AGE) {
        Some(slot) => *slot = age,
        None => drop(headers.insert(AGE, age)),
    }
    tell(config, stored, &mut headers, telling);
    let body = match (not_modified, asked.is_head) {
        (true, _) => CacheBody::empty(),
        (false, true) => {
            if !headers.contains_key(CONTENT_LENGTH) && status != StatusCode::NO_CONTENT {
                headers.insert(CONTENT_LENGTH, HeaderValue::from(stored.body.len()));
            }
            CacheBody::empty()
        }
        (false, false) => CacheBody::stored(stored.body.clone()),
    };
    let mut response = Response::new(body);
    *response.status_mut() = if not_modified {
        StatusCode::NOT_MODIFIED
    } else {
        status
    };
    *response.headers_mut() = headers;
    response
}

/// Writes into the slot of the stored headers, or behind what upstream caches told.
fn tell(config: &Config, stored: &StoredResponse, headers: &mut HeaderMap, telling: Telling) {
    let value = config.status.as_ref().map(|writer| match telling {
        Telling {
            outcome: Outcome::Hit { ttl },
            detail: None,
        } => stored.hit_status(writer, ttl),
        telling => writer.value(telling.outcome, telling.detail),
    });
    match value {
        Some(value) if stored.has_status_slot => match headers.get_mut(CACHE_STATUS) {
            Some(slot) => *slot = value,
            None => drop(headers.insert(CACHE_STATUS, value)),
        },
        Some(value) => drop(headers.append(CACHE_STATUS, value)),
        None if stored.has_status_slot => drop(headers.remove(CACHE_STATUS)),
        None => {}
    }
}

/// RFC 9111 §5.2.1.7: nothing stored answers, and the client did not want anybody else asked.
pub(super) fn only_if_cached<R>(config: &Config) -> Response<CacheBody<R>> {
    let mut response = Response::new(CacheBody::stored(Bytes::new()));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    Telling::forwarded(Forward::Request, Some("only-if-cached"))
        .append(config, response.headers_mut());
    response
}

/// Ages up to this many seconds are slices of one static text and cost no allocation.
const TABLE: usize = 1000;

static DIGITS: [u8; TABLE * 3] = {
    let mut digits = [0; TABLE * 3];
    let mut number = 0;
    while number < TABLE {
        digits[number * 3] = b'0' + (number / 100) as u8;
        digits[number * 3 + 1] = b'0' + (number / 10 % 10) as u8;
        digits[number * 3 + 2] = b'0' + (number % 10) as u8;
        number += 1;
    }
    digits
};

fn age_value(age: u32) -> HeaderValue {
    let number = age as usize;
    if number >= TABLE {
        return HeaderValue::from(age);
    }
    let leading_zeros = usize::from(number < 100) + usize::from(number < 10);
    let digits = &DIGITS[number * 3 + leading_zeros..number * 3 + 3];
    match HeaderValue::from_maybe_shared(Bytes::from_static(digits)) {
        Ok(value) => value,
        Err(_) => HeaderValue::from(age),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_written_in_decimal_digits() {
        for age in [0, 1, 9, 10, 99, 100, 101, 999, 1000, u32::MAX] {
            assert_eq!(age_value(age), age.to_string());
        }
    }
}
