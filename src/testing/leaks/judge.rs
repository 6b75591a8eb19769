//! Whether one visitor was given what is another's.

use std::collections::BTreeSet;

use http::HeaderName;

use super::{
    answer::{Answer, Field, PERSONAL},
    ask::Ask,
    input::{Given, Place},
    served::{Served, both},
};

/// Two requests, of which the second is answered with something of the first.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) one: Ask,
    pub(super) other: Ask,
    /// Whether they are under way at the same time, as what collapses requests needs it.
    pub(super) together: bool,
}

/// What crossed, and how it was seen.
#[derive(Clone)]
pub(super) struct Evidence {
    pub(super) field: Field,
    pub(super) crossed: Crossed,
    pub(super) answers: (Answer, Answer),
    /// What a service that nobody has asked before answers to the second request.
    pub(super) alone: Answer,
}

#[derive(Clone)]
pub(super) enum Crossed {
    /// A value that the first visitor put into a request.
    Given(Given),
    /// A line that is made anew for each visitor.
    Personal(String),
    /// The answer that is right for the first visitor, and wrong for the second.
    Answer,
}

impl Pair {
    /// The same two requests, the other one first.
    pub(super) fn turned(&self) -> Self {
        Self {
            one: self.other.clone(),
            other: self.one.clone(),
            together: self.together,
        }
    }
}

/// A service that nobody has asked before.
pub(super) type Make = dyn Fn() -> Served + Send + Sync;

/// How often the reference is asked by each visitor.
const SAMPLES: usize = 3;

/// Sends the pair to a service of its own, and looks at the second answer.
pub(super) async fn judge(make: &Make, pair: &Pair) -> Option<Evidence> {
    let answers = send(make, pair).await;
    let (first, second) = (&answers.0, &answers.1);
    let crossing = match given(pair, first, second) {
        Some((field, given)) => Some((field, Crossed::Given(given))),
        None => {
            let (ones, others) = samples(make, pair).await;
            match personal(make, pair, first, second, &others).await {
                Some((field, line)) => Some((field, Crossed::Personal(line))),
                None => {
                    differing(first, second, &ones, &others).map(|field| (field, Crossed::Answer))
                }
            }
        }
    };
    let (field, crossed) = crossing?;
    Some(Evidence {
        field,
        crossed,
        answers,
        alone: make()(pair.other.request()).await,
    })
}

async fn send(make: &Make, pair: &Pair) -> (Answer, Answer) {
    let mut served = make();
    let one = served(pair.one.request());
    if pair.together {
        let other = served(pair.other.request());
        return both(one, other).await;
    }
    let one = one.await;
    (one, served(pair.other.request()).await)
}

/// A marker of the first visitor in the answer to the second.
///
/// What came in by a request that changes something may be what the application now has to show to everyone. It
/// crossed only where the second visitor was given the very answer to that request, and by a cache.
fn given(pair: &Pair, first: &Answer, second: &Answer) -> Option<(Field, Given)> {
    let is_change = !pair.one.is_safe();
    if is_change && (second.is_forwarded() || first.body != second.body || second.body.is_empty()) {
        return None;
    }
    // The cookie that both have says nothing of whose it is.
    let own = pair.other.to_string();
    pair.one.given.iter().find_map(|given| {
        let marker = given
            .marker
            .as_deref()
            .filter(|marker| !own.contains(marker))?;
        Some((second.place_of(marker)?, given.clone()))
    })
}

/// The same requests, each to a service of its own, where nothing can cross.
///
/// The order is that of Thue and Morse: neither a clock that goes on meanwhile nor something that takes turns can
/// answer one visitor always so and the other always otherwise.
async fn samples(make: &Make, pair: &Pair) -> (Vec<Answer>, Vec<Answer>) {
    let mut one = pair.one.clone();
    if one.is_reading() && pair.other.is_reading() {
        // GET and HEAD may differ in fields, and one may answer the other.
        one.method = pair.other.method.clone();
    }
    let (mut ones, mut others) = (Vec::new(), Vec::new());
    for turn in 0..2 * SAMPLES {
        match turn.count_ones() % 2 {
            0 => ones.push(make()(one.request()).await),
            _ => others.push(make()(pair.other.request()).await),
        }
    }
    (ones, others)
}

/// A line that both visitors got, though it is made anew for each: by chance, or by counting on.
async fn personal(
    make: &Make,
    pair: &Pair,
    first: &Answer,
    second: &Answer,
    others: &[Answer],
) -> Option<(Field, String)> {
    let shared = |name: &HeaderName| {
        let of_first = first.lines(name);
        let mut of_second = second.lines(name).into_iter();
        let line = of_second.find(|line| of_first.contains(line))?;
        Some((name.clone(), line.to_vec()))
    };
    let (name, line) = PERSONAL.iter().find_map(shared)?;
    let has = |answer: &Answer| answer.lines(&name).contains(&&*line);
    if others.iter().all(has) {
        // A service that begins to count anew gives everyone its first number. Asked for something that is in no cache,
        // it counts on.
        let mut served = make();
        served(pair.one.request()).await;
        let uncached = pair.other.clone().with(Given {
            place: Place::Query,
            name: "zqanew".into(),
            value: "1".into(),
            marker: None,
        });
        if has(&served(uncached.request()).await) {
            return None;
        }
    }
    let line = String::from_utf8_lossy(&line).into_owned();
    Some((Field::Header(name), line))
}

/// The field in which the second visitor was given what is right for the first one only.
fn differing(first: &Answer, second: &Answer, ones: &[Answer], others: &[Answer]) -> Option<Field> {
    let mut fields = second.fields();
    fields.extend(first.fields());
    fields.into_iter().find(|field| {
        let of = |answers: &[Answer]| -> Vec<Vec<u8>> {
            answers.iter().map(|answer| answer.get(field)).collect()
        };
        let (ones, others, got) = (of(ones), of(others), second.get(field));
        if others.contains(&got) {
            return false;
        }
        let is_first_s = got == first.get(field) || ones.contains(&got);
        is_first_s && (is_constant(&ones, &got, &others) || has_words_of(&ones, &got, &others))
    })
}

/// Whether one visitor always gets `got`, and the other one something else that is always the same.
fn is_constant(ones: &[Vec<u8>], got: &[u8], others: &[Vec<u8>]) -> bool {
    ones.iter().all(|one| one == got) && others.iter().all(|other| *other == others[0])
}

/// Whether `got` is made of the words that tell one visitor's answers from those of the other. Words that differ from
/// one answer to the next tell nothing.
fn has_words_of(ones: &[Vec<u8>], got: &[u8], others: &[Vec<u8>]) -> bool {
    let only = |these: &[Vec<u8>], those: &[Vec<u8>]| -> BTreeSet<Vec<u8>> {
        let mut words = words(&these[0]);
        for other in &these[1..] {
            let also = self::words(other);
            words.retain(|word| also.contains(word));
        }
        let without: BTreeSet<_> = those.iter().flat_map(|those| self::words(those)).collect();
        words.retain(|word| !without.contains(word));
        words
    };
    let (mine, theirs) = (only(ones, others), only(others, ones));
    let got = words(got);
    mine.is_subset(&got)
        && !theirs.iter().any(|word| got.contains(word))
        && !(mine.is_empty() && theirs.is_empty())
}

fn words(text: &[u8]) -> BTreeSet<Vec<u8>> {
    text.split(|byte| byte.is_ascii() && !byte.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}
