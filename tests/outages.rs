//! A service under load from 64 connections while its Redis fails in every way there is: every request is answered,
//! nothing stale is served, nobody waits for more than one time-out, and the cache comes back by itself.
//!
//! Each test prints its row of the table in the documentation; `cargo test --all-features --test outages -- --nocapture`
//! shows them.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_outages;
mod support_servers;

use std::time::Duration;

use larder::{Cache, Redis as Backend};
use support_outages::{Load, Report, absent_at_first, on_the_way, outage, survived, was_open};
use support_servers::{Link, Proxy, Redis, redis_cli};

async fn cache(url: &str) -> Cache {
    Cache::new(Backend::builder(url).connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_empty() {
    let Some(redis) = Redis::start() else { return };
    let cache = cache(&redis.url()).await;
    let report = outage(
        "Redis killed, restarted empty",
        cache,
        async || redis.kill(),
        async || redis.restart_empty(),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_with_its_data() {
    let Some(redis) = Redis::with().persistent().start() else {
        return;
    };
    let cache = cache(&redis.url()).await;
    let report = outage(
        "Redis killed, restarted with its data",
        cache,
        async || redis.kill(),
        async || redis.restart(),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

/// The snapshot is from before the changes made since; what they invalidated is in it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_with_an_old_snapshot() {
    let Some(redis) = Redis::with().persistent().config("appendonly no").start() else {
        return;
    };
    let cache = cache(&redis.url()).await;
    let load = Load::warm(cache).await;
    redis.cli(&["save"]);
    load.run(Duration::from_millis(500)).await;
    redis.kill();
    redis.restart();
    let recovered = load.recovery(Duration::from_secs(10)).await;
    load.run(Duration::from_secs(1)).await;
    let report = load.end(
        "Redis killed, restarted at once with an old snapshot",
        recovered,
    );
    survived(&report.await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_and_continued() {
    let Some(redis) = Redis::start() else { return };
    let cache = cache(&redis.url()).await;
    let report = outage(
        "Redis stopped (SIGSTOP), continued",
        cache,
        async || redis.stop(),
        async || redis.cont(),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusing_at_start_up() {
    let Some(redis) = Redis::start() else { return };
    redis.kill();
    let fault = "Redis refusing at start-up, then there";
    let settings = [("CACHE_TYPE", "redis"), ("CACHE_REDIS_URL", &redis.url())];
    let report = absent_at_first(fault, &settings, || redis.restart_empty()).await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_is_changed() {
    let Some(redis) = Redis::with().password("right").start() else {
        return;
    };
    let cache = cache(&redis.url()).await;
    // The connection that there is stays what it is until it is cut.
    let change = |old: &str, new: &str| {
        for (password, command) in [
            (old, ["config", "set", "requirepass", new]),
            (new, ["client", "kill", "type", "normal"]),
        ] {
            let url = redis.url_as(&format!("default:{password}@"));
            let output = redis_cli(&[&["-u", &url, "--no-auth-warning"], &command[..]].concat());
            assert!(output.status.success(), "{output:?}");
        }
    };
    let report = outage(
        "Redis another password, then the right one",
        cache,
        async || change("right", "wrong"),
        async || change("wrong", "right"),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

/// Through a proxy that does `link` to what goes through it, for a while.
async fn through(fault: &str, link: Link) -> Option<Report> {
    let redis = Redis::start()?;
    let proxy = Proxy::to(redis.address()).await;
    let cache = cache(&format!("redis://{}", proxy.address())).await;
    let fault = format!("Redis {fault}");
    let report = outage(
        &fault,
        cache,
        async || proxy.set(link).await,
        async || proxy.set(Link::Pass).await,
    );
    Some(report.await)
}

on_the_way!(through, slow: 60, slower_than_the_time_out: 400);
