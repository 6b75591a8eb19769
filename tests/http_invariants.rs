//! Whatever is asked and answered, in whatever order: what holds of every answer of the layer.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;
mod support_oracle;

use std::{
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::{HeaderName, HeaderValue, Request};
use larder::{Cache, CacheLayer, SetCookie};
use support::{Answer, App, Asking, Origin, answer, date, request, send};
use support_oracle::{Dice, Fields, directives, lines};

/// What the handler gave.
#[derive(Clone, Debug)]
struct Given {
    uri: String,
    method: String,
    status: u16,
    fields: Fields,
    /// The latest age that it was answered with from the store.
    age: u64,
}

/// What the handler is to answer next, and all that it did. The body is the place in the list.
#[derive(Default)]
struct Script {
    next: (u16, Fields),
    given: Vec<Given>,
}

/// What makes parsers stumble.
const SCRAPS: [&str; 24] = [
    "\"",
    "\\",
    ",",
    ";",
    "=",
    "*",
    "'",
    "%",
    "-1",
    "W/\"",
    "bytes=0-",
    "bytes 0-1/2",
    "max-age",
    "private=",
    "no-cache=\"",
    "gzip;q=",
    "close",
    "GMT",
    "18446744073709551616",
    "\u{e9}",
    "http://",
    "//",
    "..",
    "\t",
];

const NAMES: [&str; 23] = [
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "cookie",
    "date",
    "etag",
    "expires",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "last-modified",
    "location",
    "pragma",
    "set-cookie",
    "te",
    "trailer",
    "vary",
    "x-a",
];

fn scraps(dice: &mut Dice, fields: &mut Fields) {
    for _ in 0..dice.below(3) {
        let text: String = (0..dice.below(5)).map(|_| dice.pick(&SCRAPS)).collect();
        fields.push((dice.pick(&NAMES).into(), text));
    }
}

fn asked(dice: &mut Dice) -> (&'static str, Fields) {
    let method = dice.pick(&[
        "GET", "GET", "GET", "GET", "GET", "GET", "HEAD", "POST", "DELETE", "OPTIONS",
    ]);
    let mut fields = dice.request();
    for (name, values, times) in [
        (
            "if-none-match",
            &["\"a\"", "W/\"a\", \"c\"", "*", "\"c\""][..],
            5,
        ),
        (
            "if-modified-since",
            &[
                "Sun, 06 Nov 1994 08:49:37 GMT",
                "Fri, 31 Dec 9999 23:59:59 GMT",
            ],
            12,
        ),
        ("if-match", &["\"a\""], 30),
        (
            "range",
            &["bytes=0-0", "bytes=2-", "bytes=-6", "bytes=9-", "x"],
            12,
        ),
        ("content-length", &["0", "1"], 30),
        ("x-http-method-override", &["DELETE"], 30),
    ] {
        if dice.once_in(times) {
            fields.push((name.into(), dice.pick(values).into()));
        }
    }
    if dice.once_in(4) {
        scraps(dice, &mut fields);
    }
    (method, fields)
}

fn answered(dice: &mut Dice) -> (u16, Fields) {
    let status = match dice.once_in(12) {
        true => dice.pick(&[206, 304, 416, 500, 502, 503]),
        false => dice.status(),
    };
    let mut fields = dice.response(date);
    if dice.once_in(2) {
        fields.push(("cache-control".into(), "public, max-age=60".into()));
    }
    if dice.once_in(4) {
        scraps(dice, &mut fields);
    }
    if dice.once_in(6) {
        let target = dice.pick(&[
            "/",
            "/a",
            "/?q=1",
            "http://other.example/",
            "//test.example/a",
        ]);
        fields.push((
            dice.pick(&["location", "content-location"]).into(),
            target.into(),
        ));
    }
    (status, fields)
}

fn build(
    method: &str,
    uri: &str,
    host: &'static str,
    fields: &Fields,
) -> Request<axum::body::Body> {
    let mut request = request(method, uri, &[("host", host)]);
    add(request.headers_mut(), fields);
    request
}

fn add(headers: &mut http::HeaderMap, fields: &Fields) {
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
            headers.append(name, value);
        }
    }
}

/// All are of one length.
fn body(id: usize) -> String {
    format!("{id:08}")
}

/// Where the body of an answer is in the whole, if it is a part.
fn part(answer: &Answer) -> Option<Range<usize>> {
    let range = answer.headers.get("content-range")?.to_str().ok()?;
    let (first, last) = range
        .strip_prefix("bytes ")?
        .strip_suffix("/8")?
        .split_once('-')?;
    let range = first.parse().ok()?..last.parse::<usize>().ok()? + 1;
    (answer.status == 206 && range.len() == answer.body.len()).then_some(range)
}

fn is_for_one(given: &Given) -> bool {
    let directives = directives(&given.fields);
    let says = |name: &str| {
        directives
            .iter()
            .any(|(own, value)| own == name && value.is_none())
    };
    let understood = says("must-understand") && given.status != 599;
    says("private") || says("no-store") && !understood
}

struct Run {
    app: App,
    script: Arc<Mutex<Script>>,
    dice: Dice,
    round: usize,
    hits: usize,
}

impl Run {
    fn new(seed: u64, cache: Cache, layer: fn(CacheLayer) -> CacheLayer) -> Self {
        let script: Arc<Mutex<Script>> = Arc::default();
        let origin = Origin::now({
            let script = script.clone();
            move |call| {
                let mut script = script.lock().unwrap();
                let host = call.header("host").unwrap_or_default();
                let (status, fields) = script.next.clone();
                let given = Given {
                    uri: format!("{host} {}", call.request.uri),
                    method: call.request.method.to_string(),
                    status,
                    fields: fields.clone(),
                    age: 0,
                };
                let body = body(script.given.len());
                script.given.push(given);
                let mut response = answer(status, &[], body);
                add(response.headers_mut(), &fields);
                response
            }
        });
        let app = App::on(cache, origin, layer);
        Self {
            app,
            script,
            dice: Dice::new(seed),
            round: 0,
            hits: 0,
        }
    }

    /// Every so many steps the URIs are others, so that histories stay short.
    async fn step(&mut self, number: usize) {
        if number.is_multiple_of(40) {
            self.round += 1;
        }
        let host = self
            .dice
            .pick(&["test.example", "test.example", "other.example"]);
        let uri = format!("/{}{}", self.round, self.dice.pick(&["", "/a", "?q=1"]));
        let (method, fields) = asked(&mut self.dice);
        let before = {
            let mut script = self.script.lock().unwrap();
            script.next = answered(&mut self.dice);
            script.given.len()
        };
        let request = build(method, &uri, host, &fields);
        let answer = send(&self.app.service, request).await;
        self.app.cache.flush().await;
        let told = format!("step {number}: {method} {uri} {host} {fields:?}\n{answer:?}");
        self.check(
            before,
            method,
            &format!("{host} {uri}"),
            &fields,
            &answer,
            &told,
        );
        tokio::time::advance(Duration::from_millis(self.dice.pause() / 10)).await;
    }

    fn check(
        &mut self,
        before: usize,
        method: &str,
        uri: &str,
        fields: &Fields,
        answer: &Answer,
        told: &str,
    ) {
        let mut script = self.script.lock().unwrap();
        let called = script.given.len() > before;
        // What was given meanwhile: to this request, or to a revalidation behind it.
        let own = script.given.get(before).cloned();
        let has = |name: &str| !lines(fields, name).is_empty();

        let is_conditional = has("if-none-match") || has("if-modified-since");
        let is_own_304 = own.as_ref().is_some_and(|own| own.status == 304);
        assert!(
            answer.status != 304 || is_conditional || is_own_304,
            "a 304 to nobody's question\n{told}"
        );

        let has_body = method != "HEAD" && answer.status != 304;
        if answer.is_hit() {
            self.hits += 1;
            let age = answer.age();
            assert!(age.is_some(), "a hit without an age\n{told}");
            let len = answer.headers.get_all("content-length").iter().next();
            let len = len.and_then(|len| len.to_str().ok()?.parse().ok());
            let is_wrong = has_body && len.is_some_and(|len: usize| len != answer.body.len());
            assert!(!is_wrong, "a length that is not the body's\n{told}");
        }
        if !has_body || answer.body.is_empty() {
            return;
        }
        if let Some(part) = part(answer) {
            let is_it = |(id, given): (usize, &Given)| {
                given.uri == uri
                    && body(id).get(part.clone()) == Some(answer.text())
                    && (id >= before || !is_for_one(given))
            };
            let found = script.given.iter().enumerate().any(is_it);
            return assert!(found, "a part of nothing that was given\n{told}");
        }
        if answer.status == 416 && has("range") && !called {
            return;
        }
        let id: usize = answer.text().parse().unwrap();
        let is_own = id >= before && called;
        let given = &mut script.given[id];
        // The same for everyone: one URI, and a method that may answer a GET.
        assert_eq!(given.uri, uri, "another URI's body\n{told}\n{given:?}");
        assert_eq!(
            given.status, answer.status,
            "another status\n{told}\n{given:?}"
        );
        if is_own {
            return;
        }
        assert!(
            ["GET", "POST"].contains(&&*given.method),
            "{told}\n{given:?}"
        );
        assert!(!is_for_one(given), "somebody else's own\n{told}\n{given:?}");
        let was_validated = own.is_some_and(|own| own.status == 304);
        let age = answer.age().unwrap();
        assert!(
            was_validated || age >= given.age,
            "an age that goes back\n{told}\n{given:?}"
        );
        given.age = age;
        if was_validated {
            given.age = 0;
        }
    }
}

async fn holds(seed: u64, cache: Cache, layer: fn(CacheLayer) -> CacheLayer) {
    let mut run = Run::new(seed, cache, layer);
    for number in 0..25_000 {
        run.step(number).await;
    }
    assert!(run.hits > 2_000, "{}", run.hits);
}

#[tokio::test(start_paused = true)]
async fn every_answer_is_right_for_who_asked() {
    holds(1, Cache::memory(), |layer| layer).await;
}

#[tokio::test(start_paused = true)]
async fn and_where_larder_says_what_is_fresh() {
    holds(2, Cache::memory(), |layer| {
        layer
            .default_ttl(Duration::from_secs(60))
            .stale_if_error(Duration::from_secs(600))
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn and_where_everything_is_stored_that_may_be() {
    holds(3, Cache::memory(), |layer| {
        layer
            .set_cookie(SetCookie::Always)
            .ignore_client_directives(true)
            .max_variants(2)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn and_on_what_behaves_as_a_server() {
    let cache = Cache::builder(Asking::new())
        .hash_key(b"sixteen bytes or more")
        .build();
    holds(4, cache, |layer| layer).await;
}
