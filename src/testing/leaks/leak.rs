use std::{error::Error, fmt};

use super::{
    answer::Field,
    ask::Ask,
    input::Place,
    judge::{Crossed, Evidence, Pair},
    report::LeakReport,
};

/// Why a [`LeakTest`](super::LeakTest) fails; displayed, it is a page with the two requests, both answers and how to
/// repeat it.
///
/// The requests, cookies and tokens on the page are made up by the test, but for what an
/// [`identity`](super::LeakTest::identity) adds.
pub struct Leak(Box<Inner>);

struct Inner {
    kind: LeakKind,
    path: String,
    field: String,
    inputs: Vec<String>,
    page: String,
}

/// What a [`Leak`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LeakKind {
    /// A visitor was given something of another one.
    Crossed,
    /// No answer came from a cache, so nothing was tested.
    NothingCached,
}

impl Leak {
    pub(super) fn crossed(pair: &Pair, evidence: &Evidence, how: &HowToRepeat) -> Self {
        Self(Box::new(Inner {
            kind: LeakKind::Crossed,
            path: pair.other.path.clone(),
            field: evidence.field.name().to_owned(),
            inputs: differences(&pair.one, &pair.other),
            page: page(pair, evidence, how),
        }))
    }

    pub(super) fn nothing_cached(report: &LeakReport) -> Self {
        let page = format!(
            "nothing was tested: no answer came from a cache\n\n{report}\n\n\
            A hit is told by `Cache-Status`, or by `Age`. Give paths that are cached, with `LeakTest::paths`, and look at\n\
            `Cache-Status` for why they are not stored. Where nothing is to be cached, say so by `LeakTest::allow_no_hits`.\n"
        );
        Self(Box::new(Inner {
            kind: LeakKind::NothingCached,
            path: String::new(),
            field: String::new(),
            inputs: Vec::new(),
            page,
        }))
    }

    /// What it is.
    pub fn kind(&self) -> LeakKind {
        self.0.kind
    }

    /// The path of the request whose answer had something of another visitor.
    pub fn path(&self) -> &str {
        &self.0.path
    }

    /// What of the answer crossed: `body`, `status`, or the name of a header field in lower case.
    pub fn field(&self) -> &str {
        &self.0.field
    }

    /// What the two requests differ in, such as `cookie sid`, `header x-forwarded-host`, `query parameter q`, `host`,
    /// `method POST` or `identity`: one of them is what the cache does not tell visitors apart by.
    pub fn inputs(&self) -> impl Iterator<Item = &str> {
        self.0.inputs.iter().map(String::as_str)
    }
}

/// Where in the test it was seen.
pub(super) struct HowToRepeat {
    pub(super) seed: u64,
    pub(super) round: usize,
    /// Whether the pair by itself shows it.
    pub(super) by_itself: bool,
}

fn differences(one: &Ask, other: &Ask) -> Vec<String> {
    let mut inputs = Vec::new();
    if one.method != other.method {
        let method = [&one.method, &other.method];
        let other_than_get = method.iter().find(|method| **method != "GET");
        inputs.extend(other_than_get.map(|method| format!("method {method}")));
    }
    let differs = |one: &Ask, other: &Ask, inputs: &mut Vec<String>| {
        for given in &one.given {
            let name = given.to_string();
            let same = other.value(given.place, &given.name) == Some(&given.value);
            if !same && !inputs.contains(&name) {
                inputs.push(name);
            }
        }
    };
    differs(one, other, &mut inputs);
    differs(other, one, &mut inputs);
    let has_identity = |ask: &Ask| ask.visitor.identity.is_some();
    if has_identity(one) || has_identity(other) {
        inputs.push("identity".into());
    }
    inputs
}

fn page(pair: &Pair, evidence: &Evidence, how: &HowToRepeat) -> String {
    let (one, other) = (&pair.one.visitor.name, &pair.other.visitor.name);
    let place = match &evidence.field {
        Field::Body => "the body".to_owned(),
        Field::Status => "the status".to_owned(),
        Field::Header(name) => format!("the field `{name}`"),
    };
    let what = match &evidence.crossed {
        Crossed::Given(given) => format!(
            "{place} of the answer to {other} has what {one} sent as {given}: {}",
            given.value
        ),
        Crossed::Personal(line) => {
            format!("{place} is made anew for everyone, and {one} and {other} got the same: {line}")
        }
        Crossed::Answer => {
            format!(
                "{place} of the answer to {other} is the one for {one}, and not the one for {other}"
            )
        }
    };
    let meanwhile = match pair.together {
        true => format!("while {one} waits, {other} asks"),
        false => format!("then {other} asks"),
    };
    let differences = differences(&pair.one, &pair.other);
    let mut page = format!(
        "a visitor was given what is another's\n\n{what}\n\n\
        {one} asks:\n\n{}\n{one} is answered:\n\n{}\n{meanwhile}:\n\n{}\n{other} is answered:\n\n{}\n\
        a service that nobody has asked before answers {other}:\n\n{}\n",
        Indented(&pair.one),
        Indented(&evidence.answers.0),
        Indented(&pair.other),
        Indented(&evidence.answers.1),
        Indented(&evidence.alone),
    );
    if !differences.is_empty() {
        page += &format!("They differ in: {}.\n", differences.join(", "));
    }
    if let Crossed::Personal(_) = evidence.crossed {
        page +=
            "Say `private` or `no-store` where an answer has in it what is one visitor's own.\n";
    } else {
        page += hint(pair);
    }
    if !how.by_itself {
        page += "The two requests alone did not show it again; the whole round did.\n";
    }
    page += &format!(
        "\nTo repeat it: LeakTest::seed({:#x}) and only_round({}).\n",
        how.seed, how.round
    );
    page
}

/// What to do about what tells the visitors apart.
fn hint(pair: &Pair) -> &'static str {
    let methods_differ = pair.one.is_reading() != pair.other.is_reading();
    let places = |place| {
        let given = pair.one.given.iter().chain(&pair.other.given);
        given.filter(|given| given.place == place).count() > 0
    };
    let authorization = |ask: &Ask| ask.value(Place::Header, "authorization").is_some();
    if methods_differ {
        return "The cache has to tell methods apart: only GET and HEAD may share an answer (RFC 9111 section 2).\n";
    }
    if authorization(&pair.one) || authorization(&pair.other) || places(Place::Cookie) {
        return "Say `private`, or name the field in `Vary`, where an answer depends on who asks.\n";
    }
    if places(Place::Header) {
        return "Name the header in `Vary`, declare it in the key, or do not read it.\n";
    }
    if places(Place::Query) {
        return "The query parameter has to be in the key.\n";
    }
    if places(Place::Host) {
        return "The host has to be in the key.\n";
    }
    "Say `private` where an answer depends on who asks.\n"
}

struct Indented<'a, T>(&'a T);

impl<T: fmt::Display> fmt::Display for Indented<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in self.0.to_string().lines() {
            match line {
                "" => writeln!(f)?,
                line => writeln!(f, "    {line}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.page)
    }
}

/// The page as it is, because `unwrap` and `main` print errors this way.
impl fmt::Debug for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Error for Leak {}
