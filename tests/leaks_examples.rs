//! Nothing crosses in the examples.

#![cfg(all(feature = "axum", feature = "memory", feature = "json"))]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "nobody calls the `main` of a module"
)]

use std::time::Duration;

use axum::Router;
use bytes::Bytes;
use http_body_util::Full;
use larder::{
    Cache, CacheLayer,
    testing::{LeakReport, LeakTest},
};
use tower::{Layer, ServiceBuilder};

#[path = "../examples/extractor.rs"]
mod extractor;
#[path = "../examples/from_config.rs"]
mod from_config;
#[path = "../examples/quickstart.rs"]
mod quickstart;
#[cfg(feature = "redis")]
#[path = "../examples/redis.rs"]
mod redis;
#[path = "../examples/reverse_proxy.rs"]
mod reverse_proxy;
#[path = "../examples/stack.rs"]
mod stack;
#[path = "../examples/tower_only.rs"]
mod tower_only;

fn test<const N: usize>(app: fn(Cache) -> Router, paths: [&str; N]) -> LeakTest {
    let test = LeakTest::new(move || app(Cache::memory())).paths(paths);
    test.pauses(Duration::from_secs(40))
}

fn all_were_hits(report: &LeakReport) {
    assert_eq!(report.paths_without_hits().count(), 0, "{report}");
}

#[tokio::test(start_paused = true)]
async fn nothing_crosses_in_quickstart() {
    let test = test(quickstart::app, ["/items/7", "/items/8"]);
    all_were_hits(&test.run().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn nothing_crosses_in_extractor_but_the_notes_that_are_for_all() {
    let paths = ["/rates/eur", "/rates/xyz", "/notes/7", "/visits"];
    let test = test(extractor::app, paths);
    let report = test.allow_no_hits().run().await.unwrap();
    assert_eq!(report.hits(), 0, "{report}");
    let shared: Vec<_> = report.paths_with_shared_state().collect();
    assert_eq!(shared, ["/notes/7"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_crosses_in_from_config() {
    let test = test(from_config::app, ["/one", "/two"]);
    all_were_hits(&test.run().await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn nothing_crosses_in_stack() {
    all_were_hits(&test(stack::app, ["/report"]).run().await.unwrap());
    let hangs = test(stack::app, ["/hangs"]).allow_no_hits();
    assert_eq!(hangs.run().await.unwrap().hits(), 0);
}

#[cfg(feature = "redis")]
#[tokio::test(start_paused = true)]
async fn nothing_crosses_in_redis() {
    let test = test(redis::app, ["/items/7", "/prices/7", "/visits"]);
    let report = test.run().await.unwrap();
    let silent: Vec<_> = report.paths_without_hits().collect();
    assert_eq!(silent, ["/prices/7", "/visits"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_crosses_in_tower_only() {
    let make = || {
        let layer = CacheLayer::new(Cache::memory());
        let answer = tower_only::answer::<Full<Bytes>>;
        ServiceBuilder::new().layer(layer).service_fn(answer)
    };
    let test = LeakTest::with_body::<Full<Bytes>, _, _>(make);
    all_were_hits(&test.pauses(Duration::from_secs(5)).run().await.unwrap());
}

#[tokio::test]
async fn nothing_crosses_in_reverse_proxy() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream: http::Uri = format!("http://{}", listener.local_addr().unwrap())
        .parse()
        .unwrap();
    let server = axum::serve(
        listener,
        from_config::app(Cache::memory()).into_make_service(),
    );
    let server = tokio::spawn(server.into_future());
    let proxy = reverse_proxy::proxy::<Full<Bytes>>(upstream);
    let make = move || CacheLayer::new(Cache::memory()).layer(proxy.clone());
    let test = LeakTest::with_body::<Full<Bytes>, _, _>(make).paths(["/one"]);
    all_were_hits(&test.run().await.unwrap());
    server.abort();
}
