//! What policies read of requests, for the targets in `fuzz/`.

use http::{HeaderMap, HeaderValue, header::COOKIE};

use super::{
    cookies,
    query::{QueryKey, QueryRule, percent},
};
use crate::http::vary::Buffer;

/// Makes a key of the query in the second line by the rule in the first: a letter for its kind, `s` where it sorts, and
/// names divided by commas.
pub fn queries(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    let (rule, query) = text.split_once('\n').unwrap_or((text, ""));
    let mut letters = rule.chars();
    let (kind, sort) = (letters.next(), letters.next() == Some('s'));
    let names = letters.as_str().split(',').map(str::to_owned).collect();
    let key = match kind {
        Some('n') => QueryKey::None,
        Some('o') => QueryKey::Only(names),
        Some('i') => QueryKey::Ignore(names),
        _ => QueryKey::All,
    };
    let rule = QueryRule { key, sort };
    let written = |query: &str| {
        let mut text = String::new();
        let drops = rule.write(query, |part| text.push_str(part));
        (text, drops)
    };
    let (text, drops) = written(query);
    let is_dropped = |parameter: &str| !parameter.is_empty() && !rule.keeps(parameter);
    assert_eq!(drops, query.split('&').any(is_dropped), "{rule}: {query}");
    let kept = text.strip_prefix('?');
    assert!(kept.is_some() || text.is_empty(), "{rule}: {query}");
    assert!(!rule.is_plain() || kept == Some(query), "{rule}: {query}");
    if let Some(kept) = kept {
        assert_eq!(written(kept), (text.clone(), false), "{rule}: {query}");
    }
    // A handler that looks at nothing else finds in the key what it finds in the request.
    for reader in Reader::ALL {
        let (sent, kept) = (
            reader.read(&rule, query),
            reader.read(&rule, kept.unwrap_or("")),
        );
        assert_eq!(sent, kept, "{rule}: {query}");
    }
}

/// One of the ways in which handlers read a query.
#[derive(Clone, Copy)]
struct Reader {
    /// A semicolon ends a parameter.
    by_semicolons: bool,
    /// `a[]` and `a[b]` are of `a`.
    by_stems: bool,
}

impl Reader {
    const ALL: [Self; 4] = [
        Self::of(false, false),
        Self::of(false, true),
        Self::of(true, false),
        Self::of(true, true),
    ];

    const fn of(by_semicolons: bool, by_stems: bool) -> Self {
        Self {
            by_semicolons,
            by_stems,
        }
    }

    /// The parameters that a rule says a handler looks at; those of one name are in their order.
    fn read(self, rule: &QueryRule, query: &str) -> Vec<(Vec<u8>, String)> {
        let ends = |letter: char| letter == '&' || letter == ';' && self.by_semicolons;
        let parameters = query.split(ends).filter(|parameter| !parameter.is_empty());
        let looks_at = |name: &[u8], stem: &[u8]| {
            let is_among = |names: &[String], name: &[u8]| {
                let mut names = names.iter();
                names.any(|known| known.as_bytes() == name)
            };
            match &rule.key {
                QueryKey::All => true,
                QueryKey::None => false,
                QueryKey::Only(names) => is_among(names, stem),
                QueryKey::Ignore(names) => !is_among(names, name),
            }
        };
        let read = parameters.filter_map(|parameter| {
            let name = parameter.split('=').next().unwrap_or_default();
            let name = decoded(name.replace('+', " ").as_bytes());
            let mut stem = name.clone();
            if self.by_stems {
                stem.truncate(
                    name.iter()
                        .position(|&byte| byte == b'[')
                        .unwrap_or(name.len()),
                );
            }
            looks_at(&name, &stem).then(|| (stem, parameter.to_owned()))
        });
        let mut read: Vec<_> = read.collect();
        if rule.sort {
            read.sort_by(|(one, _), (other, _)| one.cmp(other));
        }
        read
    }
}

/// Selects by cookies of two requests.
///
/// The names are in the first line, divided by commas; lines of cookies follow, those of the second request after an
/// empty one.
pub fn cookies(text: &[u8]) {
    let mut lines = text.split(|&byte| byte == b'\n');
    let names = lines.next().unwrap_or_default().split(|&byte| byte == b',');
    let names = names.filter_map(|name| std::str::from_utf8(name).ok());
    let names = names.filter(|name| cookies::is_name(name) && *name != STRANGER);
    let names: Vec<Box<str>> = names.map(Into::into).collect();
    let cookie = |line: &[u8]| Some((COOKIE, HeaderValue::from_bytes(line).ok()?));
    let one: HeaderMap = lines
        .by_ref()
        .take_while(|line| !line.is_empty())
        .filter_map(cookie)
        .collect();
    let other: HeaderMap = lines.filter_map(cookie).collect();
    let selected = |request: &HeaderMap| {
        let mut selection = Buffer::new();
        cookies::select(&names, request, &mut selection);
        selection
    };
    if selected(&one) == selected(&other) {
        assert_eq!(cookies::keep(&names, &one), cookies::keep(&names, &other));
        assert_eq!(read(&names, &one), read(&names, &other));
    }
    let with_stranger = |line: &HeaderValue| {
        let line = [STRANGER.as_bytes(), b"=1; ", line.as_bytes()].concat();
        Some((COOKIE, HeaderValue::from_bytes(&line).ok()?))
    };
    let strangers = one.get_all(COOKIE).iter().filter_map(with_stranger);
    let strangers: HeaderMap = strangers.collect();
    let is_read_by_all = |line: &HeaderValue| line.as_bytes().is_ascii();
    if one.get_all(COOKIE).iter().all(is_read_by_all) {
        assert_eq!(selected(&one), selected(&strangers));
    }
    assert!(one.is_empty() || !cookies::has_no_other(&names, &strangers));
    if cookies::has_no_other(&names, &one) {
        let pairs = |request: &HeaderMap| {
            let lines = request.get_all(COOKIE).iter();
            let text: Vec<_> = lines.map(|line| line.as_bytes().to_vec()).collect();
            let text = text.join(&b';');
            let pairs = text.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
            let pairs = pairs.filter(|pair| !pair.is_empty());
            pairs.map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let kept = cookies::keep(&names, &one).into_iter();
        let kept: HeaderMap = kept.map(|line| (COOKIE, line)).collect();
        assert_eq!(pairs(&one), pairs(&kept), "a cookie got lost");
    }
}

/// A cookie that nothing is selected by.
const STRANGER: &str = "stranger";

/// What handlers find under these names: whether in the first line, the name and the value, in order.
fn read(names: &[Box<str>], request: &HeaderMap) -> Vec<(bool, Vec<u8>, Vec<u8>)> {
    let lines = request.get_all(COOKIE).iter().enumerate();
    let pairs = lines.flat_map(|(at, line)| {
        let pairs = line.as_bytes().split(|&byte| byte == b';');
        pairs.map(move |pair| (at == 0, pair.trim_ascii()))
    });
    let read = pairs.map(|(is_first, pair)| {
        let at = pair.iter().position(|&byte| byte == b'=');
        let (name, value) = pair.split_at(at.unwrap_or(pair.len()));
        (is_first, name.trim_ascii().to_vec(), value.to_vec())
    });
    let is_one_of = |name: &[u8]| {
        let decoded = decoded(name);
        let mut names = names.iter().map(|known| known.as_bytes());
        names.any(|known| known == name || known == decoded)
    };
    read.filter(|(_, name, _)| is_one_of(name)).collect()
}

fn decoded(mut text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some((byte, rest)) = percent(text) {
        bytes.push(byte);
        text = rest;
    }
    bytes
}
