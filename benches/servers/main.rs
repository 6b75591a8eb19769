//! `Cache` on servers against their own clients, in one run. See the README beside this file.
//!
//! Starts servers of its own, as the tests do; Aerospike is measured where `LARDER_TEST_AEROSPIKE_HOSTS` names one.

mod aerospike;
mod dynamodb;
mod measure;
mod memcached;
mod mongodb;
mod redis;
mod simplest;
mod sql;

#[path = "../../tests/support_servers/mod.rs"]
mod support_servers;

use std::time::Instant;

use larder::{BreakerState, Cache, Redis};
use measure::{Table, on_one_thread};

fn main() {
    let filter = std::env::args()
        .skip(1)
        .find(|word| !word.starts_with("--"));
    let is_wanted = |name: &str| filter.as_ref().is_none_or(|filter| name.contains(filter));
    if is_wanted("redis") {
        on_one_thread(redis::run());
    }
    if is_wanted("aerospike") {
        on_one_thread(aerospike::run());
    }
    if is_wanted("memcached") {
        on_one_thread(memcached::run());
    }
    if is_wanted("mongodb") {
        on_one_thread(mongodb::run());
    }
    if is_wanted("dynamodb") {
        on_one_thread(dynamodb::run());
    }
    if is_wanted("sqlite") {
        on_one_thread(sql::sqlite());
    }
    if is_wanted("postgres") {
        on_one_thread(sql::postgres());
    }
    if is_wanted("mysql") {
        on_one_thread(sql::mysql());
    }
    if is_wanted("breaker") {
        on_one_thread(open_breaker());
    }
}

/// What a call costs while the breaker is open.
async fn open_breaker() {
    const CALLS: u32 = 100_000;
    // Nobody listens on the port of the protocol that discards everything.
    let nobody = Redis::builder("redis://127.0.0.1:9");
    let cache = Cache::new(nobody.connect_lazily().expect("the URL is one"));
    for _ in 0..10 {
        let _ = cache.get::<String>("nothing").await;
    }
    assert_eq!(cache.stats().breaker, BreakerState::Open);
    let begun = Instant::now();
    for _ in 0..CALLS {
        let answer = cache.get::<String>("nothing").await;
        assert!(answer.is_err());
    }
    let mut table = Table::new("open breaker", &["ns a call"]);
    let each = begun.elapsed() / CALLS;
    table.row("Cache::get", &[each.as_nanos().to_string()]);
    table.print();
}
