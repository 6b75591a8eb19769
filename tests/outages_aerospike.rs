//! A service under load from 64 connections while its Aerospike fails: through a proxy that breaks what is between them,
//! and by whatever `LARDER_TEST_AEROSPIKE_BREAK` and `LARDER_TEST_AEROSPIKE_MEND` do to the servers themselves, two
//! commands for `sh`.
//!
//! Each test prints its row of the table in the documentation.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_outages;
mod support_servers;

use std::{env, process::Command, time::Duration};

use larder::{Aerospike as Backend, Cache};
use support_outages::{Load, Report, outage, survived, was_open};
use support_servers::{Aerospike, Link, Proxy};

/// No other test run meets this one's entries.
fn namespace(name: &str) -> String {
    format!("outages-{name}-{}", std::process::id())
}

/// Through a proxy that does `link` to what goes through it, for a while.
async fn through(fault: &str, link: Link) -> Option<Report> {
    let server = Aerospike::find()?;
    let seed = server.seeds().next().unwrap().to_owned();
    let address = tokio::net::lookup_host(seed).await.unwrap().next().unwrap();
    let proxy = Proxy::to(address).await;
    let backend = Backend::builder(proxy.address().to_string());
    let backend = backend.seed_only(true).connect().await.unwrap();
    let cache = Cache::builder(backend).namespace(namespace(&fault.replace(' ', "-")));
    let fault = format!("Aerospike {fault}");
    let report = outage(
        &fault,
        cache.build(),
        async || proxy.set(link).await,
        async || proxy.set(Link::Pass).await,
    );
    Some(report.await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusing() {
    if let Some(report) = through("refusing", Link::Refuse).await {
        survived(&report);
        was_open(&report);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accepting_and_silent() {
    if let Some(report) = through("accepting, silent", Link::Stall).await {
        survived(&report);
        was_open(&report);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reset() {
    if let Some(report) = through("reset (RST)", Link::Reset).await {
        survived(&report);
        was_open(&report);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slower_than_the_time_out() {
    let link = Link::Delay(Duration::from_millis(400));
    if let Some(report) = through("slow: 400 ms each way", link).await {
        survived(&report);
        was_open(&report);
    }
}

/// Breaks and mends the servers themselves: kills a node and starts it again, stops one and lets it go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_breaks_the_servers_themselves() {
    let (Ok(breaks), Ok(mends)) = (
        env::var("LARDER_TEST_AEROSPIKE_BREAK"),
        env::var("LARDER_TEST_AEROSPIKE_MEND"),
    ) else {
        return;
    };
    let Some(server) = Aerospike::find() else {
        return;
    };
    let shell = |command: &str| {
        let done = Command::new("sh").args(["-c", command]).status().unwrap();
        assert!(done.success(), "{command}");
    };
    let backend = Backend::builder(server.hosts()).connect().await.unwrap();
    let cache = Cache::builder(backend).namespace(namespace("servers"));
    let load = Load::warm(cache.build()).await;
    shell(&breaks);
    load.run(Duration::from_secs(6)).await;
    let before_mending = load.hits();
    shell(&mends);
    let recovered = load.recovery(Duration::from_secs(20)).await;
    load.run(Duration::from_secs(8)).await;
    println!("{} hits before it was mended", before_mending);
    let fault = env::var("LARDER_TEST_AEROSPIKE_FAULT").unwrap_or(breaks);
    survived(&load.end(&fault, recovered).await);
}
