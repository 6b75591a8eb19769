//! The layer against two independent readings of RFC 9111: one of the tests' own, and `http-cache-semantics`.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;
mod support_oracle;

use std::time::{Duration, SystemTime};
use std::{
    panic::catch_unwind,
    sync::{Arc, Mutex},
};

use http::{Request, Response, request, response};
use http_cache_semantics::{BeforeRequest, CacheOptions, CachePolicy};
use larder::{StatusDetail, Timestamp};
use support::{Answer, App, Origin, answer, date};
use support_oracle::{Dice, Exchange, Fields, Verdict, borrowed, directives, lines, may_reuse};

/// What is asked twice, and how the layer answers the second time.
struct Pair {
    exchange: Exchange,
    second: Fields,
    now: u64,
    answer: Answer,
}

impl Pair {
    fn is_hit(&self) -> bool {
        self.answer.told().starts_with("larder; hit")
    }
}

fn now() -> u64 {
    Timestamp::now().as_millis()
}

/// Asks for `count` URIs twice each. The clock is the machine's moved by the paused one, so a pair for which the machine
/// took a millisecond of its own is left out: nobody can tell at which side of a boundary the layer looked. For the same
/// reason a disagreement has to repeat.
async fn pairs(seed: u64, count: usize, mut check: impl FnMut(&Pair) -> Result<(), String>) {
    type Next = (u16, Fields, u64, u64);
    let next: Arc<Mutex<Next>> = Arc::default();
    let origin = Origin::new({
        let next = next.clone();
        move |_| {
            let next = next.clone();
            async move {
                let (status, fields, delay, _) = next.lock().unwrap().clone();
                tokio::time::advance(Duration::from_millis(delay)).await;
                next.lock().unwrap().3 = now();
                Ok(answer(status, &borrowed(&fields), "the body"))
            }
        }
    });
    let app = App::changed(origin, |layer| layer.status_detail(StatusDetail::All));
    let mut dice = Dice::new(seed);
    for number in 0..count {
        let (status, delay) = (dice.status(), dice.pick(&[0, 0, 0, 1, 700, 20_000]));
        let (request, response) = (dice.request(), dice.response(date));
        let pause = dice.pause();
        let second = match dice.once_in(2) {
            true => request.clone(),
            false => dice.request(),
        };
        let mut disagreements = Vec::new();
        for attempt in 0..ATTEMPTS {
            *next.lock().unwrap() = (status, response.clone(), delay, 0);
            let uri = format!("/{number}/{attempt}");
            let requested = now();
            app.get_with(&uri, &borrowed(&request)).await;
            let received = next.lock().unwrap().3;
            // Nobody was asked where the request wanted no one to be.
            if received == 0 || now() != requested + delay {
                break;
            }
            tokio::time::advance(Duration::from_millis(pause)).await;
            let (asked, calls) = (now(), app.calls());
            let answer = app.get_with(&uri, &borrowed(&second)).await;
            let taken = if app.calls() > calls { delay } else { 0 };
            if asked != requested + delay + pause || now() != asked + taken {
                break;
            }
            let exchange = Exchange {
                request: request.clone(),
                status,
                response: response.clone(),
                requested,
                received,
            };
            match check(&Pair {
                exchange,
                second: second.clone(),
                now: asked,
                answer,
            }) {
                Ok(()) => break,
                Err(disagreement) => disagreements.push(disagreement),
            }
        }
        assert!(disagreements.len() < ATTEMPTS, "{}", disagreements[0]);
    }
}

/// So often in a row a pair is disagreed about when it is not the clock's doing.
const ATTEMPTS: usize = 3;

async fn agrees_with_the_rfc(seed: u64) {
    let (mut hits, mut others) = (0, 0);
    pairs(seed, 12_500, |pair| {
        let verdict = may_reuse(&pair.exchange, &pair.second, pair.now);
        let told = || {
            let Pair {
                exchange,
                second,
                now,
                answer,
            } = pair;
            format!(
                "{verdict:?}, but {}\n{exchange:#?}\n{second:?} at {now}",
                answer.told()
            )
        };
        let (is_hit, age) = (pair.is_hit(), pair.answer.age());
        let agrees = match verdict {
            Verdict::Fresh(expected) => is_hit && age == Some(expected),
            // It may be gone by then.
            Verdict::Stale(expected) => !is_hit || age == Some(expected),
            Verdict::No => !is_hit,
        };
        if !agrees {
            return Err(told());
        }
        *if is_hit { &mut hits } else { &mut others } += 1;
        Ok(())
    })
    .await;
    assert!(hits > 1_000 && others > 1_000, "{hits} {others}");
}

#[tokio::test(start_paused = true)]
async fn the_layer_reuses_what_the_rfc_lets_it_and_nothing_else() {
    agrees_with_the_rfc(1).await;
}

#[tokio::test(start_paused = true)]
async fn the_layer_reuses_what_the_rfc_lets_it_and_nothing_else_again() {
    agrees_with_the_rfc(2).await;
}

// http-cache-semantics

fn head(fields: &Fields) -> request::Parts {
    let mut request = Request::builder().uri("http://test.example/");
    for (name, value) in fields {
        request = request.header(name, value);
    }
    request.body(()).unwrap().into_parts().0
}

fn response(status: u16, fields: &Fields) -> response::Parts {
    let mut response = Response::builder().status(status);
    for (name, value) in fields {
        response = response.header(name, value);
    }
    response.body(()).unwrap().into_parts().0
}

fn time(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(millis)
}

/// Whether the other cache would answer the second request.
fn other_reuses(exchange: &Exchange, second: &Fields, now: u64) -> bool {
    let policy = CachePolicy::new_options(
        &head(&exchange.request),
        &response(exchange.status, &exchange.response),
        time(exchange.received),
        CacheOptions::default(),
    );
    let answer = policy.before_request(&head(second), time(now));
    policy.is_storable() && matches!(answer, BeforeRequest::Fresh(_))
}

/// Where the other cache is wrong, stricter, or of another opinion: with the clause that decides.
type Exception = (&'static str, fn(&Exchange, &Fields) -> bool);

fn control(fields: &Fields) -> String {
    lines(fields, "cache-control").join(", ")
}

fn says(fields: &Fields, name: &str) -> bool {
    directives(fields).iter().any(|(own, _)| own == name)
}

fn is_repeated(fields: &Fields) -> bool {
    let mut names: Vec<_> = directives(fields)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    let count = names.len();
    names.sort();
    names.dedup();
    names.len() < count
}

const EXCEPTIONS: [Exception; 20] = [
    (
        "RFC 9111 §5.2: names of directives are in any letter case",
        |exchange, second| {
            let is_upper = |text: String| text.bytes().any(|byte| byte.is_ascii_uppercase());
            is_upper(control(&exchange.response)) || is_upper(control(second))
        },
    ),
    (
        "RFC 9111 §5.2: a comma in a quoted string does not end a directive",
        |exchange, second| {
            let has_quotes = |fields| control(fields).contains('"');
            has_quotes(&exchange.response) || has_quotes(&exchange.request) || has_quotes(second)
        },
    ),
    (
        "RFC 9111 §4.2.1: of contradicting directives the strictest, not the first",
        |exchange, second| is_repeated(&exchange.response) || is_repeated(second),
    ),
    (
        "RFC 9111 §1.2.2: too large a number is 2^31, not 0, and no panic",
        |exchange, _| {
            control(&exchange.response).contains("99999")
                || lines(&exchange.response, "age").contains(&"4294967296")
        },
    ),
    (
        "RFC 9111 §4.2.1: max-age without a number is stale, not absent",
        |exchange, second| {
            let is_odd = |fields| {
                control(fields).contains('\'')
                    || control(fields).contains("=x")
                    || control(fields).contains("=-")
            };
            is_odd(&exchange.response)
                || is_odd(second)
                || directives(&exchange.response).contains(&("max-age".into(), None))
        },
    ),
    (
        "RFC 9111 §4.2.3: Date makes a response old",
        |exchange, _| !lines(&exchange.response, "date").is_empty(),
    ),
    (
        "RFC 9111 §4.2.3: the time that a handler takes makes a response old",
        |exchange, _| exchange.received > exchange.requested,
    ),
    (
        "RFC 9111 §5.1: the first member of Age counts",
        |exchange, _| {
            lines(&exchange.response, "age")
                .iter()
                .any(|age| age.contains(','))
        },
    ),
    (
        "RFC 9111 §3: any final status may be stored that says how long it is fresh",
        |exchange, _| {
            ![200, 203, 204, 300, 301, 302, 308, 404, 405, 410, 414, 501].contains(&exchange.status)
        },
    ),
    (
        "RFC 9111 §5.2.2.3: must-understand overrides no-store",
        |exchange, _| says(&exchange.response, "must-understand"),
    ),
    (
        "RFC 9111 §5.2.2.8: proxy-revalidate forbids stale reuse only",
        |exchange, _| says(&exchange.response, "proxy-revalidate"),
    ),
    (
        "RFC 9111 §5.2.2.10: s-maxage forbids stale reuse",
        |exchange, second| says(&exchange.response, "s-maxage") && says(second, "max-stale"),
    ),
    (
        "RFC 9111 §5.4: Pragma counts in requests without Cache-Control only",
        |exchange, second| {
            !lines(&exchange.response, "pragma").is_empty()
                || !lines(second, "pragma").is_empty() && !lines(second, "cache-control").is_empty()
        },
    ),
    (
        "RFC 9111 §4.1: values that mean the same are the same",
        |exchange, _| {
            let vary = lines(&exchange.response, "vary")
                .join(",")
                .to_ascii_lowercase();
            vary.contains("x-a") || vary.contains("accept-language")
        },
    ),
    (
        "RFC 8246 §2: immutable makes nothing fresh",
        |exchange, _| says(&exchange.response, "immutable"),
    ),
    ("RFC 5861 §3: stale-while-revalidate", |exchange, _| {
        says(&exchange.response, "stale-while-revalidate")
    }),
    (
        "RFC 9110 §5.6.7: a zone other than GMT is no date",
        |exchange, _| {
            let has_zone = |name| {
                lines(&exchange.response, name)
                    .iter()
                    .any(|date| date.ends_with("+0100"))
            };
            has_zone("expires") || has_zone("last-modified")
        },
    ),
    (
        "ours: what is stale is not kept for long, RFC 9111 §4.2.4",
        |_, second| says(second, "max-stale"),
    ),
    (
        "ours: cookies and credentials, RFC 9111 §3.5 and §7.3",
        |exchange, second| {
            let is_personal = |fields| {
                !lines(fields, "cookie").is_empty() || !lines(fields, "authorization").is_empty()
            };
            let sets = !lines(&exchange.response, "set-cookie").is_empty();
            sets || is_personal(&exchange.request) || is_personal(second)
        },
    ),
    (
        "ours: requests for max-age=0 or no-store are forwarded; a guess is a day at most",
        |exchange, second| {
            control(second).contains("max-age=0")
                || says(second, "no-store")
                || !lines(&exchange.response, "last-modified").is_empty()
        },
    ),
];

#[tokio::test(start_paused = true)]
async fn the_layer_and_http_cache_semantics_agree_but_for_what_is_listed() {
    let (mut same, mut hits) = (0, 0);
    let mut used = [0; EXCEPTIONS.len()];
    pairs(3, 40_000, |pair| {
        let Pair {
            exchange,
            second,
            now,
            ..
        } = pair;
        let excused = EXCEPTIONS
            .iter()
            .position(|(_, applies)| applies(exchange, second));
        if let Some(at) = excused {
            used[at] += 1;
            return Ok(());
        }
        let other = other_reuses(exchange, second, *now);
        let told = pair.answer.told();
        if pair.is_hit() != other {
            return Err(format!("{told}\n{exchange:#?}\n{second:?} at {now}"));
        }
        same += 1;
        hits += usize::from(other);
        Ok(())
    })
    .await;
    assert!(same > 1_000 && hits > 200, "{same} {hits}");
    assert!(used.iter().all(|count| *count > 0), "{used:?}");
}

/// What the exceptions above are for: here it would give out what it must not, or end the program.
#[tokio::test(start_paused = true)]
async fn the_faults_that_are_listed_are_not_the_layer_s() {
    let (past, long_ago) = (date(-1), date(-3_600));
    let minute = ("cache-control", "max-age=60");
    let faults: [&[(&str, &str)]; 5] = [
        &[("cache-control", "max-age=60, Private")],
        &[("cache-control", "x=\", max-age=60, y\"")],
        &[("cache-control", "max-age=60, max-age=0")],
        &[minute, ("date", &long_ago)],
        &[
            ("cache-control", "immutable"),
            ("expires", &past),
            ("etag", "\"a\""),
        ],
    ];
    for fields in faults {
        let app = App::new(Origin::with(fields));
        app.get("/").await;
        assert!(!app.get("/").await.is_hit(), "{fields:?}");
        assert!(
            other_reuses(&exchanged(fields), &Fields::new(), now()),
            "{fields:?}"
        );
    }
    let huge = [minute, ("age", "18446744073709551615")];
    let app = App::new(Origin::with(&huge));
    app.get("/").await;
    assert!(!app.get("/").await.is_hit());
    let later = now() + 1_000;
    assert!(catch_unwind(|| other_reuses(&exchanged(&huge), &Fields::new(), later)).is_err());
}

/// An exchange of this moment.
fn exchanged(fields: &[(&str, &str)]) -> Exchange {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Exchange {
        request: Fields::new(),
        status: 200,
        response: fields.iter().map(owned).collect(),
        requested: now(),
        received: now(),
    }
}
