//! Those who wait for a response read its body while it comes.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::{
    error::Error,
    pin::Pin,
    sync::{Arc, LazyLock, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use axum::body::Body;
use bytes::Bytes;
use futures_util::FutureExt;
use http::Response;
use http_body::Frame;
use http_body_util::BodyExt;
use larder::{BodyError, Cache, CacheBody, CacheLayer, Reason};
use proptest::prelude::*;
use support::{App, Asking, BoxError, Feed, Origin, Step, answer, feed, settle};
use tokio::time::Instant;

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];
const COLLAPSED: &str = "larder; fwd=miss; collapsed";

/// Bytes of which no two stretches are the same.
static TEXT: LazyLock<&'static str> = LazyLock::new(|| {
    let words = (0..400_000).map(|number| format!("{number:06x} "));
    String::leak(words.collect())
});

/// An app whose first answer has a body that is steered from here; later ones are their number.
fn steered(
    fields: &'static [(&str, &str)],
    change: impl FnOnce(CacheLayer) -> CacheLayer,
) -> (Feed, App) {
    let (feed, body) = feed();
    let body = Mutex::new(Some(body));
    let origin = Origin::now(move |call| match body.lock().unwrap().take() {
        Some(body) => answer(200, fields, body),
        None => answer(200, fields, call.number.to_string()),
    });
    (feed, App::changed(origin, change))
}

fn told(response: &Response<CacheBody<Body>>) -> &str {
    response.headers()["cache-status"].to_str().unwrap()
}

async fn follow(app: &App) -> CacheBody<Body> {
    let response = app.open("/", &[]).await;
    assert_eq!(told(&response), COLLAPSED);
    response.into_body()
}

async fn frame(body: &mut CacheBody<Body>) -> Option<Result<String, BodyError>> {
    let frame = body.frame().await?;
    Some(frame.map(|frame| String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap()))
}

async fn data(body: &mut CacheBody<Body>) -> String {
    frame(body).await.unwrap().unwrap()
}

/// What can be read without waiting.
async fn there(body: &mut CacheBody<Body>) -> usize {
    let mut read = 0;
    // What reads more than its share at once is made to wait.
    tokio::task::yield_now().await;
    while let Some(Some(frame)) = body.frame().now_or_never() {
        read += frame.unwrap().into_data().unwrap().len();
        tokio::task::yield_now().await;
    }
    read
}

async fn text(body: CacheBody<Body>) -> String {
    let bytes = body.collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn is_stored(app: &App) -> bool {
    let only = [("cache-control", "only-if-cached")];
    app.get_with("/", &only).await.is_hit()
}

#[tokio::test(start_paused = true)]
async fn a_follower_has_the_head_and_every_chunk_as_they_come() {
    let (feed, app) = steered(FRESH, |layer| layer);
    let mut leader = app.open("/", &[]).await.into_body();
    let mut follower = follow(&app).await;
    feed.send(Step::Data("first"));
    assert_eq!(data(&mut follower).await, "first");
    assert_eq!(data(&mut leader).await, "first");
    let mut late = follow(&app).await;
    assert_eq!(data(&mut late).await, "first");
    feed.send(Step::Data("second"));
    assert_eq!(data(&mut late).await, "second");
    drop(feed);
    assert!(frame(&mut late).await.is_none());
    assert!(is_stored(&app).await);
    assert_eq!(text(follower).await, "second");
    assert_eq!(text(leader).await, "second");
    assert_eq!((app.calls(), app.cache.stats().http_collapsed), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn chunks_are_shared_and_not_copied() {
    let (feed, app) = steered(FRESH, |layer| layer);
    let mut leader = app.open("/", &[]).await.into_body();
    let mut follower = follow(&app).await;
    feed.send(Step::Data(&TEXT[..10_000]));
    let of = async |body: &mut CacheBody<Body>| {
        let frame = body.frame().await.unwrap().unwrap();
        frame.into_data().unwrap().as_ptr()
    };
    assert_eq!(of(&mut leader).await, of(&mut follower).await);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_client_leaves_cuts_nobody_off() {
    let (feed, app) = steered(FRESH, |layer| layer);
    let leader = app.open("/", &[]).await;
    let mut follower = follow(&app).await;
    feed.send(Step::Data("one "));
    assert_eq!(data(&mut follower).await, "one ");
    drop(leader);
    feed.send(Step::Data("two"));
    let late = follow(&app).await;
    drop(feed);
    assert_eq!(text(late).await, "one two");
    assert_eq!(text(follower).await, "two");
    assert!(app.get("/").await.is_hit());
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_waits_goes_on_when_the_one_who_polled_leaves() {
    let (feed, app) = steered(FRESH, |layer| layer);
    let mut leader = app.open("/", &[]).await.into_body();
    assert!(frame(&mut leader).now_or_never().is_none());
    let mut follower = follow(&app).await;
    let reading = tokio::spawn(async move { data(&mut follower).await });
    settle().await;
    drop(leader);
    settle().await;
    feed.send(Step::Data("more"));
    assert_eq!(reading.await.unwrap(), "more");
}

#[tokio::test(start_paused = true)]
async fn when_nobody_is_left_the_body_is_dropped_and_not_stored() {
    let (feed, app) = steered(FRESH, |layer| layer);
    let leader = app.open("/", &[]).await;
    let follower = follow(&app).await;
    drop(leader);
    assert!(!feed.is_abandoned());
    drop(follower);
    assert!(feed.is_abandoned());
    let stats = app.cache.stats();
    assert_eq!((stats.http_broken, stats.flights), (1, 0));
    assert_eq!(stats.http_in_flight_bytes, 0);
    assert_eq!(app.get("/").await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_is_an_error_for_everybody_and_never_an_end() {
    for is_follower_first in [false, true] {
        let (feed, app) = steered(FRESH, |layer| layer);
        let mut leader = app.open("/", &[]).await.into_body();
        let mut follower = follow(&app).await;
        feed.send(Step::Data("half"));
        feed.send(Step::Break);
        assert_eq!(data(&mut leader).await, "half");
        assert_eq!(data(&mut follower).await, "half");
        let (of_leader, of_follower) = match is_follower_first {
            true => {
                let of_follower = frame(&mut follower).await.unwrap().unwrap_err();
                (frame(&mut leader).await.unwrap().unwrap_err(), of_follower)
            }
            false => {
                let of_leader = frame(&mut leader).await.unwrap().unwrap_err();
                (of_leader, frame(&mut follower).await.unwrap().unwrap_err())
            }
        };
        let cause = of_leader.source().unwrap().to_string();
        assert_eq!(cause, "the body breaks");
        assert!(of_follower.source().is_none());
        assert!(frame(&mut follower).await.unwrap().is_err());
        assert_eq!(app.get("/").await.text(), "2");
    }
}

/// Panics when it is polled for the second time.
struct Panicking(bool);

impl http_body::Body for Panicking {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        assert!(!self.0, "the body panics");
        self.0 = true;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"half")))))
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_panics_is_an_error_for_the_others() {
    let app = App::new(Origin::now(|call| match call.number {
        1 => answer(200, FRESH, Body::new(Panicking(false))),
        _ => answer(200, FRESH, "whole"),
    }));
    let mut leader = app.open("/", &[]).await.into_body();
    let mut follower = follow(&app).await;
    let panicking = tokio::spawn(async move {
        data(&mut leader).await;
        data(&mut leader).await
    });
    assert!(panicking.await.unwrap_err().is_panic());
    assert_eq!(data(&mut follower).await, "half");
    assert!(frame(&mut follower).await.unwrap().is_err());
    drop(follower);
    assert_eq!(app.cache.stats().http_in_flight_bytes, 0);
    assert_eq!(app.get("/").await.text(), "whole");
}

#[tokio::test(start_paused = true)]
async fn a_condition_of_a_follower_is_answered_at_once() {
    let fields = &[("cache-control", "max-age=60"), ("etag", "\"a\"")];
    let (feed, app) = steered(fields, |layer| layer);
    let leader = app.open("/", &[]).await.into_body();
    let matching = app.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!((matching.status, matching.text()), (304, ""));
    assert_eq!(matching.told(), COLLAPSED);
    let other = app.open("/", &[("if-none-match", "\"b\"")]).await;
    assert_eq!(other.status(), 200);
    feed.send(Step::Data("body"));
    drop(feed);
    assert_eq!(text(leader).await, "body");
    assert_eq!(text(other.into_body()).await, "body");
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn requests_that_the_response_does_not_answer_run_by_themselves() {
    for field in [
        ("cache-control", "max-age=0"),
        ("cache-control", "min-fresh=61"),
        ("cache-control", "no-cache"),
        ("cache-control", "no-store"),
        ("authorization", "Basic b3Blbg=="),
        ("range", "bytes=0-1"),
    ] {
        let (_feed, app) = steered(FRESH, |layer| layer);
        let _leader = app.open("/", &[]).await;
        let answer = app.get_with("/", &[field]).await;
        assert_eq!(answer.text(), "2", "{field:?}");
    }
    let (_feed, app) = steered(FRESH, |layer| layer);
    let _leader = app.open("/", &[]).await;
    assert_eq!(app.send("HEAD", "/", &[]).await.status, 200);
    assert_eq!(app.calls(), 2);
    let only = [("cache-control", "only-if-cached")];
    assert_eq!(app.get_with("/", &only).await.status, 504);
}

#[tokio::test(start_paused = true)]
async fn a_freshness_that_is_implied_is_shared_with_no_cookie() {
    let minute = Duration::from_secs(60);
    let (feed, app) = steered(&[], |layer| layer.default_ttl(minute));
    let leader = app.open("/", &[]).await.into_body();
    assert_eq!(app.get_with("/", &[("cookie", "id=1")]).await.text(), "2");
    let follower = follow(&app).await;
    feed.send(Step::Data("for all"));
    drop(feed);
    assert_eq!(text(follower).await, "for all");
    assert_eq!(text(leader).await, "for all");
}

#[tokio::test(start_paused = true)]
async fn a_variant_is_shared_with_those_who_select_it() {
    for cache in [Cache::memory(), Cache::new(Asking::new())] {
        let (feed, body) = feed();
        let body = Mutex::new(Some(body));
        let fields = &[("cache-control", "max-age=60"), ("vary", "x-a")];
        let origin = Origin::new(move |call| {
            let body = body.lock().unwrap().take();
            async move {
                tokio::time::sleep(Duration::from_millis(10)).await;
                let own = format!("{} for {:?}", call.number, call.header("x-a"));
                Ok(answer(200, fields, body.unwrap_or_else(|| own.into())))
            }
        });
        let app = App::on(cache, origin, |layer| layer);
        let spawn = |value: &'static str| {
            let app = app.clone();
            tokio::spawn(async move { app.open("/", &[("x-a", value)]).await })
        };
        let leader = spawn("one");
        tokio::task::yield_now().await;
        let waiting: Vec<_> = ["one", "two", "one", "two"].map(spawn).into();
        tokio::time::sleep(Duration::from_millis(20)).await;
        let late = spawn("one");
        settle().await;
        feed.send(Step::Data("for one"));
        drop(feed);
        assert_eq!(text(leader.await.unwrap().into_body()).await, "for one");
        let mut texts = Vec::new();
        for response in waiting.into_iter().chain([late]) {
            texts.push(text(response.await.unwrap().into_body()).await);
        }
        let two = "2 for Some(\"two\")";
        assert_eq!(texts, ["for one", two, "for one", two, "for one"]);
        assert_eq!(app.calls(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_after_an_invalidation_does_not_join() {
    let (feed, app) = steered(FRESH, |layer| layer);
    let leader = app.open("/", &[]).await.into_body();
    let before = follow(&app).await;
    app.send("POST", "/", &[]).await;
    assert_eq!(app.get("/").await.text(), "3");
    feed.send(Step::Data("old"));
    drop(feed);
    assert_eq!(text(leader).await, "old");
    assert_eq!(text(before).await, "old");
    assert_eq!(app.get("/").await.text(), "3");
}

#[tokio::test(start_paused = true)]
async fn a_variant_that_was_invalidated_is_not_joined() {
    let (feed, app) = steered(
        &[("cache-control", "max-age=60"), ("vary", "x-a")],
        |layer| layer,
    );
    let leader = app.open("/", &[]).await.into_body();
    app.cache.clear().await.unwrap();
    assert_eq!(app.get("/").await.text(), "2");
    drop(feed);
    text(leader).await;
    assert_eq!(app.get("/").await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_has_gone_stale_meanwhile_is_not_shared_any_more() {
    let (_feed, app) = steered(&[("cache-control", "max-age=1")], |layer| layer);
    let _leader = app.open("/", &[]).await;
    support::after(1.5).await;
    let answer = app.get("/").await;
    assert_eq!((answer.text(), answer.is_stored()), ("2", true));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_turns_out_too_large_reaches_all_who_had_joined() {
    let (feed, app) = steered(FRESH, |layer| layer.max_body_bytes(100_000));
    let leader = tokio::spawn(text(app.open("/", &[]).await.into_body()));
    let followers: Vec<_> = [follow(&app).await, follow(&app).await, follow(&app).await]
        .map(|body| tokio::spawn(text(body)))
        .into();
    for chunk in TEXT.as_bytes().chunks(30_000) {
        feed.send(Step::Data(std::str::from_utf8(chunk).unwrap()));
        settle().await;
        assert!(app.cache.stats().http_in_flight_bytes <= 100_000);
    }
    assert_eq!(app.get("/").await.text(), "2");
    drop(feed);
    for reading in followers.into_iter().chain([leader]) {
        assert!(reading.await.unwrap() == *TEXT);
    }
    let stats = app.cache.stats();
    assert_eq!(stats.reasons[Reason::TooLarge], 1);
    assert_eq!(stats.http_in_flight_bytes, 0);
}

/// A stream that has just turned out too large, by 50 chunks of 10,000 bytes, and two readers who have read nothing.
async fn too_large() -> (Feed, App, CacheBody<Body>, CacheBody<Body>) {
    let (feed, app) = steered(FRESH, |layer| {
        layer
            .max_body_bytes(100_000)
            .follower_wait(Duration::from_secs(7))
    });
    let leader = app.open("/", &[]).await.into_body();
    let follower = follow(&app).await;
    for chunk in TEXT.as_bytes()[..500_000].chunks(10_000) {
        feed.send(Step::Data(std::str::from_utf8(chunk).unwrap()));
    }
    (feed, app, leader, follower)
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_the_faster_are_a_window_ahead_at_most() {
    let (_feed, _app, mut leader, mut follower) = too_large().await;
    assert_eq!(there(&mut leader).await, 270_000);
    assert_eq!(there(&mut leader).await, 0);
    let mut read = 0;
    while read < 10_000 {
        read += data(&mut follower).await.len();
    }
    assert_eq!(there(&mut leader).await, 10_000);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_too_slow_is_cut_off_and_the_others_go_on() {
    for is_leader_slow in [false, true] {
        let (feed, app, leader, follower) = too_large().await;
        let (fast, mut slow) = match is_leader_slow {
            true => (follower, leader),
            false => (leader, follower),
        };
        drop(feed);
        let begun = Instant::now();
        assert!(text(fast).await == TEXT[..500_000]);
        let waited = begun.elapsed();
        assert!(waited >= Duration::from_secs(7) && waited < Duration::from_secs(8));
        assert!(frame(&mut slow).await.unwrap().is_err());
        drop(slow);
        assert_eq!(app.cache.stats().http_in_flight_bytes, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_slowest_leaves_those_who_waited_go_on_at_once() {
    let (feed, _app, leader, slow) = too_large().await;
    drop(feed);
    let fast = tokio::spawn(text(leader));
    settle().await;
    assert!(!fast.is_finished());
    let begun = Instant::now();
    drop(slow);
    assert!(fast.await.unwrap() == TEXT[..500_000]);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_does_not_slow_the_others_down_for_ever() {
    let (feed, _app, leader, mut slow) = too_large().await;
    drop(feed);
    let begun = Instant::now();
    let reading = tokio::spawn(text(leader));
    let slow = tokio::spawn(async move {
        loop {
            match frame(&mut slow).await {
                Some(Ok(_)) => tokio::time::sleep(Duration::from_secs(1)).await,
                other => return other,
            }
        }
    });
    assert!(reading.await.unwrap() == TEXT[..500_000]);
    assert!(begun.elapsed() <= Duration::from_secs(8));
    assert!(slow.await.unwrap().unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_no_matter_while_the_body_is_kept() {
    let (feed, app) = steered(FRESH, |layer| layer);
    let leader = app.open("/", &[]).await.into_body();
    let slow = follow(&app).await;
    for chunk in TEXT.as_bytes()[..900_000].chunks(10_000) {
        feed.send(Step::Data(std::str::from_utf8(chunk).unwrap()));
    }
    drop(feed);
    let begun = Instant::now();
    assert!(text(leader).await == TEXT[..900_000]);
    assert_eq!(begun.elapsed(), Duration::ZERO);
    assert!(app.get("/").await.is_hit());
    support::after(100.0).await;
    assert!(text(slow).await == TEXT[..900_000]);
}

#[tokio::test(start_paused = true)]
async fn a_declared_length_over_the_limit_is_never_shared() {
    let app = App::changed(
        Origin::now(|_| answer(200, FRESH, "x".repeat(101))),
        |layer| layer.max_body_bytes(100),
    );
    let _leader = app.open("/", &[]).await;
    assert!(!app.get("/").await.told().contains("collapsed"));
    assert_eq!(app.calls(), 2);
}

/// Compares what comes with the text, and counts it.
async fn is_right(mut body: CacheBody<Body>) -> usize {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let data = frame.unwrap().into_data().unwrap();
        assert!(data == TEXT.as_bytes()[read..read + data.len()]);
        read += data.len();
    }
    read
}

#[tokio::test(start_paused = true)]
async fn a_thousand_followers_of_a_large_slow_body_share_one_copy() {
    const LEN: usize = 1_000_000;
    let (feed, app) = steered(FRESH, |layer| layer);
    let leader = app.open("/", &[]).await.into_body();
    let mut readers = vec![tokio::spawn(is_right(leader))];
    for chunk in TEXT.as_bytes()[..LEN].chunks(10_000) {
        for _ in 0..10 {
            let body = follow(&app).await;
            readers.push(tokio::spawn(is_right(body)));
        }
        feed.send(Step::Data(std::str::from_utf8(chunk).unwrap()));
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(app.cache.stats().http_in_flight_bytes <= LEN as u64);
    }
    drop(feed);
    assert_eq!(readers.len(), 1_001);
    for reader in readers {
        assert_eq!(reader.await.unwrap(), LEN);
    }
    let stats = app.cache.stats();
    assert_eq!((app.calls(), stats.http_collapsed), (1, 1_000));
    assert_eq!((stats.http_in_flight_bytes, stats.flights), (0, 0));
    assert!(app.get("/").await.is_hit());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_on_several_threads_each_have_every_byte() {
    const LEN: usize = 1_000_000;
    let (feed, app) = steered(FRESH, |layer| layer);
    let mut readers = vec![tokio::spawn(is_right(app.open("/", &[]).await.into_body()))];
    for chunk in TEXT.as_bytes()[..LEN].chunks(1_000) {
        if readers.len() < 200 {
            readers.push(tokio::spawn(is_right(follow(&app).await)));
        }
        feed.send(Step::Data(std::str::from_utf8(chunk).unwrap()));
        tokio::task::yield_now().await;
    }
    drop(feed);
    for reader in readers {
        assert_eq!(reader.await.unwrap(), LEN);
    }
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_memory_for_a_body_it_is_not_stored_and_not_shared() {
    let origin = Origin::now(|_| answer(200, FRESH, "x".repeat(600)));
    let app = App::changed(origin, |layer| layer.max_in_flight_bytes(1_000));
    let first = app.open("/1", &[]).await;
    assert_eq!(app.cache.stats().http_in_flight_bytes, 600);
    let second = app.open("/2", &[]).await;
    assert_eq!(told(&second), "larder; fwd=uri-miss; detail=in-flight");
    assert!(!app.get("/2").await.told().contains("collapsed"));
    assert_eq!(text(second.into_body()).await.len(), 600);
    text(first.into_body()).await;
    let stats = app.cache.stats();
    assert_eq!(stats.http_in_flight_bytes, 0);
    assert_eq!(stats.reasons[Reason::InFlight], 2);
    app.get("/2").await;
    assert!(app.get("/2").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_outgrows_the_memory_there_is_streams_on_to_all_who_had_joined() {
    let (feed, app) = steered(FRESH, |layer| layer.max_in_flight_bytes(50_000));
    let leader = tokio::spawn(is_right(app.open("/", &[]).await.into_body()));
    let follower = tokio::spawn(is_right(follow(&app).await));
    for chunk in TEXT.as_bytes()[..200_000].chunks(20_000) {
        feed.send(Step::Data(std::str::from_utf8(chunk).unwrap()));
        settle().await;
        assert!(app.cache.stats().http_in_flight_bytes <= 50_000);
    }
    assert_eq!(app.get("/").await.text(), "2");
    drop(feed);
    assert_eq!(leader.await.unwrap(), 200_000);
    assert_eq!(follower.await.unwrap(), 200_000);
    assert_eq!(app.cache.stats().http_in_flight_bytes, 0);
}

#[tokio::test(start_paused = true)]
async fn clones_of_a_layer_share_its_memory_for_bodies() {
    use tower::Layer;
    let layer = CacheLayer::new(Cache::memory()).max_in_flight_bytes(1_000);
    let origin = Origin::now(|_| answer(200, FRESH, "x".repeat(600)));
    let (one, two) = (layer.clone().layer(origin.clone()), layer.layer(origin));
    let mut service = one.clone();
    let held = tower::Service::call(&mut service, support::request("GET", "/1", &[])).await;
    let refused = support::send(&two, support::request("GET", "/2", &[])).await;
    assert_eq!(refused.told(), "larder; fwd=uri-miss; detail=in-flight");
    drop(held);
    let stored = support::send(&two, support::request("GET", "/3", &[])).await;
    assert!(stored.is_stored());
}

/// What happens to a shared body in a test.
#[derive(Clone, Copy, Debug)]
enum Happens {
    /// So many more bytes come.
    Comes(usize),
    /// One of the readers reads this many frames.
    Reads(usize, usize),
    /// Somebody joins.
    Joins,
    /// One of the readers leaves.
    Leaves(usize),
    /// So many seconds pass.
    Passes(u64),
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0..60_000_usize).prop_map(Happens::Comes),
        2 => (0..900_usize).prop_map(Happens::Comes),
        8 => (0..8_usize, 1..20_usize).prop_map(|(reader, frames)| Happens::Reads(reader, frames)),
        2 => Just(Happens::Joins),
        1 => (0..8_usize).prop_map(Happens::Leaves),
        1 => (0..3_u64).prop_map(Happens::Passes),
    ]
}

/// What a reader has, and whether its body broke off.
struct Reading {
    body: CacheBody<Body>,
    read: usize,
    is_broken: bool,
}

impl Reading {
    fn new(body: CacheBody<Body>) -> Self {
        Self {
            body,
            read: 0,
            is_broken: false,
        }
    }

    /// Takes a frame in; false at the end.
    fn take(&mut self, frame: Option<Result<Frame<Bytes>, BodyError>>) -> bool {
        match frame {
            Some(Ok(frame)) => {
                let data = frame.into_data().unwrap();
                assert!(data == TEXT.as_bytes()[self.read..self.read + data.len()]);
                self.read += data.len();
                true
            }
            Some(Err(_)) => {
                self.is_broken = true;
                false
            }
            None => false,
        }
    }
}

async fn survivors_have_everything(limit: u64, breaks: bool, happening: Vec<Happens>) {
    let (feed, app) = steered(FRESH, |layer| layer.max_body_bytes(limit));
    let mut readings = vec![Reading::new(app.open("/", &[]).await.into_body())];
    let mut sent = 0;
    for happens in happening {
        tokio::task::yield_now().await;
        let count = readings.len();
        match happens {
            Happens::Comes(len) => {
                feed.send(Step::Data(&TEXT[sent..sent + len]));
                sent += len;
            }
            Happens::Reads(reader, frames) => {
                let reading = &mut readings[reader % count];
                for _ in 0..frames {
                    let Some(frame) = reading.body.frame().now_or_never() else {
                        break;
                    };
                    assert!(reading.take(frame) || reading.is_broken, "it has not ended");
                }
            }
            Happens::Joins => {
                let response = app.open("/", &[]).await;
                if told(&response) == COLLAPSED {
                    readings.push(Reading::new(response.into_body()));
                }
            }
            Happens::Leaves(reader) if count > 1 => drop(readings.remove(reader % count)),
            Happens::Leaves(_) => {}
            Happens::Passes(seconds) => support::after(seconds as f64).await,
        }
    }
    if breaks {
        feed.send(Step::Break);
    }
    drop(feed);
    for reading in &mut readings {
        let mut goes_on = !reading.is_broken;
        while goes_on {
            let frame = reading.body.frame().await;
            goes_on = reading.take(frame);
        }
        let is_kept = sent as u64 <= limit;
        assert!(reading.is_broken || reading.read == sent && !breaks);
        assert!(!is_kept || reading.is_broken == breaks, "nobody is cut off");
    }
    assert!(sent as u64 > limit || breaks || readings.is_empty() || app.get("/").await.is_hit());
    drop(readings);
    assert_eq!(app.cache.stats().http_in_flight_bytes, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whoever_reads_a_shared_body_has_every_byte_or_an_error(
        limit in prop_oneof![Just(100_000_u64), Just(2_000_000)],
        breaks in prop::bool::weighted(0.2),
        happening in prop::collection::vec(happens(), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(survivors_have_everything(limit, breaks, happening));
    }
}

#[tokio::test(start_paused = true)]
async fn followers_do_not_wait_until_a_slow_server_has_stored() {
    let cache = Cache::new(support::Failing::new(support::Mode::WritesHang));
    let origin = Origin::new(|call| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(answer(200, FRESH, call.number.to_string()))
    });
    let app = App::on(cache, origin, |layer| layer);
    let spawn = || {
        let app = app.clone();
        tokio::spawn(async move { app.get("/").await })
    };
    let begun = Instant::now();
    let spawned: Vec<_> = (0..10).map(|_| spawn()).collect();
    for answer in spawned {
        assert_eq!(answer.await.unwrap().text(), "1");
    }
    assert!(begun.elapsed() < Duration::from_millis(1_100));
}

#[tokio::test(start_paused = true)]
async fn who_asks_after_a_tag_was_invalidated_does_not_join() {
    let fields = &[("cache-control", "max-age=60"), ("cache-tag", "news")];
    let (feed, app) = steered(fields, |layer| layer);
    let leader = app.open("/", &[]).await.into_body();
    let before = follow(&app).await;
    app.cache.invalidate_tag("news").await.unwrap();
    assert_eq!(app.get("/").await.text(), "2");
    feed.send(Step::Data("old"));
    drop(feed);
    assert_eq!(text(leader).await, "old");
    assert_eq!(text(before).await, "old");
    assert_eq!(app.get("/").await.text(), "2");
}

#[tokio::test(start_paused = true)]
async fn a_range_waits_for_the_whole_body_where_the_handler_gives_no_parts() {
    let (feed, body) = feed();
    let body = Mutex::new(Some(body));
    let app = App::new(Origin::now(move |call| match call.number {
        2 => answer(200, FRESH, body.lock().unwrap().take().unwrap()),
        _ => answer(200, FRESH, "whole"),
    }));
    // From this the layer learns that there are no parts; what a request for ranges brought is not stored.
    let learning = app.get_with("/", &[("range", "bytes=0-0")]).await;
    assert_eq!((learning.status, learning.text()), (200, "whole"));
    let leader = app.open("/", &[]).await.into_body();
    let range = tokio::spawn({
        let app = app.clone();
        async move { app.get_with("/", &[("range", "bytes=1-2")]).await }
    });
    settle().await;
    feed.send(Step::Data("body"));
    drop(feed);
    assert_eq!(text(leader).await, "body");
    let answer = range.await.unwrap();
    assert_eq!((answer.status, answer.text()), (206, "od"));
    assert_eq!(app.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_has_been_read_of_a_body_that_is_too_large_is_let_go() {
    struct Counted {
        _token: Arc<()>,
    }
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &[7; 10_000]
        }
    }
    let here = Arc::new(());
    let chunks = {
        let here = here.clone();
        move || {
            let _token = here.clone();
            Ok::<_, BoxError>(Bytes::from_owner(Counted { _token }))
        }
    };
    let origin = Origin::now(move |_| {
        let chunks = chunks.clone();
        let endless = futures_util::stream::repeat_with(chunks);
        answer(200, FRESH, Body::from_stream(endless))
    });
    let app = App::changed(origin, |layer| layer.max_body_bytes(100_000));
    let mut body = app.open("/", &[]).await.into_body();
    for _ in 0..12 {
        body.frame().await.unwrap().unwrap();
    }
    // This one, that of the script, and that of the body; and no chunk.
    assert_eq!(Arc::strong_count(&here), 3);
}
