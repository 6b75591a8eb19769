//! Cookies of a request by name, read so that no handler can see another value than the key has.

use http::{HeaderMap, HeaderValue, header::COOKIE};

use super::query::percent;
use crate::http::{
    text::trim,
    vary::{Buffer, feed},
};

/// Writes down what a request has in the cookies of these names, in a form that no other request has.
///
/// Every pair of one of the names is written as it was sent, in order, and whether it stood in the first line: handlers
/// differ in which of several they take, whether they decode names and values (RFC 6265 §4.1.1), and whether they look
/// beyond the first line.
pub(super) fn select(names: &[Box<str>], request: &HeaderMap, into: &mut Buffer) {
    each(names, request, |part, text| {
        into.push(1 + u8::from(!part.is_in_first_line) + 2 * u8::from(part.is_whole));
        feed(text, into);
    });
    into.push(0);
}

/// The lines of cookies that a handler may see of a request: what [`select`] writes down, and nothing that it does not.
///
/// Pairs that are told apart by nothing in the key come in one line.
pub(super) fn keep(names: &[Box<str>], request: &HeaderMap) -> Vec<HeaderValue> {
    let mut lines: Vec<(Part, Vec<u8>)> = Vec::new();
    each(names, request, |part, text| match lines.last_mut() {
        Some((last, line)) if *last == part && !part.is_whole => {
            line.extend_from_slice(b"; ");
            line.extend_from_slice(text);
        }
        _ => lines.push((part, text.to_vec())),
    });
    let lines = lines.iter();
    // Parts of a field are fit for one.
    lines
        .filter_map(|(_, line)| HeaderValue::from_bytes(line).ok())
        .collect()
}

/// What is known of a piece of the cookies beside its text.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Part {
    is_in_first_line: bool,
    /// A whole line, which some read and others leave out.
    is_whole: bool,
}

fn each(names: &[Box<str>], request: &HeaderMap, mut take: impl FnMut(Part, &[u8])) {
    for (at, line) in request.get_all(COOKIE).iter().enumerate() {
        let line = line.as_bytes();
        let part = Part {
            is_in_first_line: at == 0,
            is_whole: !is_plain(line),
        };
        if part.is_whole {
            take(part, line);
            continue;
        }
        for pair in pairs(line).filter(|pair| names.iter().any(|name| is_of(pair, name))) {
            take(part, pair);
        }
    }
}

/// Whether a request has no cookie but those of these names.
pub(super) fn has_no_other(names: &[Box<str>], request: &HeaderMap) -> bool {
    request.get_all(COOKIE).iter().all(|line| {
        let is_known = |pair: &[u8]| names.iter().any(|name| is_of(pair, name));
        is_plain(line.as_bytes()) && pairs(line.as_bytes()).all(is_known)
    })
}

/// Whether a cookie's name can be told from what is around it (RFC 6265 §4.1.1: a token).
pub(super) fn is_name(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}

fn is_plain(line: &[u8]) -> bool {
    line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'))
}

fn pairs(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|&byte| byte == b';')
        .map(trim)
        .filter(|pair| !pair.is_empty())
}

/// Whether a pair is of a name, read as it is or percent-decoded.
fn is_of(pair: &[u8], name: &str) -> bool {
    let sent = pair.split(|&byte| byte == b'=').next().unwrap_or_default();
    let sent = trim(sent);
    let mut rest = sent;
    let decoded = std::iter::from_fn(|| {
        let (byte, after) = percent(rest)?;
        rest = after;
        Some(byte)
    });
    sent == name.as_bytes() || decoded.eq(name.bytes())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn request(lines: &[&str]) -> HeaderMap {
        let line = |line: &&str| (COOKIE, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        lines.iter().map(line).collect()
    }

    fn selected(lines: &[&str]) -> Vec<u8> {
        let mut into = Buffer::new();
        select(&["theme".into()], &request(lines), &mut into);
        into.to_vec()
    }

    #[test]
    fn only_the_value_of_the_cookie_counts() {
        let dark = selected(&["theme=dark"]);
        for same in ["a=1; theme=dark", "theme=dark;b=2", " theme=dark ;; c"] {
            assert_eq!(selected(&[same]), dark, "{same}");
        }
        for other in [
            "theme=light",
            "theme=",
            "theme",
            "Theme=dark",
            "themes=dark",
            "a=theme=dark",
            "theme=dark; theme=light",
            "theme=light; theme=dark",
            "th%65me=dark",
            "theme=d%61rk",
            "theme=\"dark\"",
        ] {
            assert_ne!(selected(&[other]), dark, "{other}");
        }
        assert_ne!(selected(&["th%65me=dark"]), selected(&[]));
        assert_eq!(selected(&["a=theme=dark; b"]), selected(&[]));
    }

    #[test]
    fn a_cookie_beyond_the_first_line_is_another_selection() {
        assert_ne!(selected(&["a=1", "theme=dark"]), selected(&["theme=dark"]));
        assert_ne!(selected(&["a=1", "theme=dark"]), selected(&[]));
    }

    #[test]
    fn a_line_that_some_cannot_read_counts_as_a_whole() {
        assert_ne!(
            selected(&["a=\u{e9}; theme=dark"]),
            selected(&["theme=dark"])
        );
        assert_ne!(selected(&["a=\u{e9}"]), selected(&["a=\u{e8}"]));
    }

    #[test]
    fn it_tells_whether_there_are_other_cookies() {
        let none = |lines: &[&str]| has_no_other(&["theme".into()], &request(lines));
        assert!(none(&[]) && none(&["theme=dark"]) && none(&["theme=a;", "th%65me=b"]));
        assert!(!none(&["theme=dark; sid=1"]) && !none(&["theme=dark", "sid"]));
        assert!(!none(&["theme=\u{e9}"]));
    }

    #[test]
    fn a_name_is_a_token() {
        assert!(is_name("__Host-sid") && is_name("a"));
        assert!(!is_name("") && !is_name("a b") && !is_name("a=b") && !is_name("\u{e9}"));
    }

    proptest! {
        #[test]
        fn selections_meet_only_where_the_pairs_are_the_same(
            one in "[te=; ]{0,8}", other in "[te=; ]{0,8}",
        ) {
            let pairs_of = |line: &str| -> Vec<String> {
                let parts = line.split(';').map(|part| part.trim().to_owned());
                parts.filter(|part| part.split('=').next().unwrap().trim() == "t").collect()
            };
            let selected = |line: &str| {
                let mut into = Buffer::new();
                select(&["t".into()], &request(&[line]), &mut into);
                into.to_vec()
            };
            prop_assert_eq!(
                selected(&one) == selected(&other),
                pairs_of(&one) == pairs_of(&other)
            );
        }
    }
}
