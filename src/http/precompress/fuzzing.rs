//! What is read of requests for compressed forms, for a target in `fuzz/`.

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{ACCEPT_ENCODING, CACHE_CONTROL, ETAG, IF_MATCH},
};

use super::coding::{Coding, encoded_tag, may_encode, negotiate, restore_tags};
use crate::http::fuzzing::lines;

/// Chooses a coding for a request, and names the response in it.
pub fn codings(text: &[u8]) {
    let headers = lines(text);
    let both = [Coding::Brotli, Coding::Gzip];
    let swapped = [Coding::Gzip, Coding::Brotli];
    let chosen = negotiate(&both, &headers);
    if let Some(coding) = chosen {
        let names = match coding {
            Coding::Brotli => ["br", "*"],
            Coding::Gzip => ["gzip", "*"],
        };
        let values = headers.get_all(ACCEPT_ENCODING).iter();
        let mut values = values.map(|value| value.as_bytes().to_ascii_lowercase());
        let is_in = |value: &[u8], name: &str| {
            let mut places = value.windows(name.len());
            places.any(|place| place == name.as_bytes())
        };
        let is_named = values.any(|value| names.iter().any(|name| is_in(&value, name)));
        assert!(is_named, "a coding that nobody asked for");
        assert_eq!(negotiate(&[coding], &headers), chosen);
    }
    // An order of preference decides between equal wishes and nothing else.
    assert_eq!(negotiate(&swapped, &headers).is_some(), chosen.is_some());
    assert_eq!(negotiate(&[], &headers), None);
    for (at, coding) in both.into_iter().enumerate() {
        let other = both[1 - at];
        let refused = in_front(&headers, &format!("{};q=0", coding.as_str()));
        assert_eq!(negotiate(&both, &refused), negotiate(&[other], &headers));
        let wanted = in_front(&headers, coding.as_str());
        let alone = negotiate(&[coding], &wanted);
        assert_eq!(alone, Some(coding), "what is wanted most is not given");
        tags(&headers, coding, &both);
    }
    let mut fixed = headers.clone();
    fixed.append(CACHE_CONTROL, HeaderValue::from_static("no-transform"));
    assert!(!may_encode(StatusCode::OK, &fixed));
}

/// The same fields with a first line of `Accept-Encoding`: the first mention of a coding counts.
fn in_front(headers: &HeaderMap, line: &str) -> HeaderMap {
    let mut headers = headers.clone();
    let lines: Vec<_> = headers.get_all(ACCEPT_ENCODING).iter().cloned().collect();
    let line = HeaderValue::from_str(line).expect("names are fit for a field");
    headers.insert(ACCEPT_ENCODING, line);
    for line in lines {
        headers.append(ACCEPT_ENCODING, line);
    }
    headers
}

/// A handler is asked by the entity tag that it gave, unless that ends as larder's own do.
fn tags(headers: &HeaderMap, coding: Coding, offered: &[Coding]) {
    let Some(tag) = encoded_tag(headers, coding) else {
        return;
    };
    let own = &headers[ETAG];
    assert_ne!(tag, own);
    let has_ending = |name: &str| {
        let ending = format!("--{name}\"");
        let mut places = own.as_bytes().windows(ending.len());
        places.any(|place| place == ending.as_bytes())
    };
    let mut request = HeaderMap::from_iter([(IF_MATCH, tag)]);
    restore_tags(offered, &mut request, &IF_MATCH);
    if !offered.iter().any(|coding| has_ending(coding.as_str())) {
        assert_eq!(request[IF_MATCH], own);
    }
}
