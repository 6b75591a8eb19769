//! A service under load from 64 connections while its MongoDB fails in every way there is: every request is answered,
//! nothing stale is served, nobody waits for more than one time-out, and the cache comes back by itself.
//!
//! Each test prints its row of the table in the documentation; `cargo test --all-features --test outages_mongodb --
//! --nocapture` shows them.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_outages;
mod support_servers;

use std::{ptr, time::Duration};

use larder::{BreakerState, Cache, MongoDb as Backend};
use mongodb::bson::{Document, doc};
use support_outages::{Load, Report, absent_at_first, on_the_way, outage, was_open};
use support_servers::{Link, MongoDb, Node, Proxy};

/// A primary that is gone is missed by the test's replica set after two seconds, and replaced after that. One that hangs
/// holds up whoever copied from it for longer.
const FAIL_OVER: Duration = Duration::from_secs(30);

/// After two seconds a primary that nobody answers steps down.
const ALONE: Duration = Duration::from_secs(4);

/// What a request costs the client shows where it is not optimised and 64 ask at once: the time-out is not the default.
const TIMEOUT: Duration = Duration::from_secs(1);

fn cache_on(backend: Backend) -> Cache {
    Cache::builder(backend).backend_timeout(TIMEOUT).build()
}

async fn cache(url: &str) -> Cache {
    cache_on(Backend::builder(url).connect().await.unwrap())
}

/// What holds after every fault, and that there was one.
fn survived(report: &Report) {
    report.is_fine(TIMEOUT);
    assert!(report.recovered.is_some(), "it never came back: {report}");
    assert_eq!(report.stats.breaker, BreakerState::Closed, "{report}");
    assert_eq!(report.stats.pending_invalidations, 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_with_its_data() {
    let Some(mongodb) = MongoDb::start().await else {
        return;
    };
    let report = outage(
        "MongoDB killed, restarted with its data",
        cache(&mongodb.url()).await,
        async || mongodb.node().kill(),
        async || mongodb.node().start_again(),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_empty() {
    let Some(mongodb) = MongoDb::start().await else {
        return;
    };
    let report = outage(
        "MongoDB killed, restarted empty",
        cache(&mongodb.url()).await,
        async || mongodb.node().kill(),
        async || mongodb.node().start_empty(),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_and_continued() {
    let Some(mongodb) = MongoDb::start().await else {
        return;
    };
    let report = outage(
        "MongoDB stopped (SIGSTOP), continued",
        cache(&mongodb.url()).await,
        async || mongodb.node().stop(),
        async || mongodb.node().cont(),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusing_at_start_up() {
    let Some(mongodb) = MongoDb::start().await else {
        return;
    };
    mongodb.node().kill();
    let pairs = [
        ("CACHE_TYPE", "mongodb"),
        ("CACHE_MONGODB_URL", &mongodb.url()),
        ("CACHE_BACKEND_TIMEOUT", "1s"),
    ];
    let fault = "MongoDB refusing at start-up, then there";
    let report = absent_at_first(fault, &pairs, || mongodb.node().start_again()).await;
    survived(&report);
    was_open(&report);
}

/// A server with users and TLS, one of its users who may write, and a cache for that user.
async fn secure() -> Option<(MongoDb, Cache)> {
    let mongodb = MongoDb::with().secure().start().await?;
    mongodb.user("larder", "right", "readWrite", "larder").await;
    let builder = Backend::builder(mongodb.url_of("larder", "right"));
    let builder = builder.ca_file(mongodb.certificates().ca());
    let backend = builder.connect().await.unwrap();
    Some((mongodb, cache_on(backend)))
}

async fn change_user(mongodb: &MongoDb, change: Document) {
    let mut user = doc! { "updateUser": "larder" };
    user.extend(change);
    let admin = mongodb.raw().await.database("admin");
    admin.run_command(user).await.unwrap();
}

/// Connections that there are stay what they are, so the server closes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_is_changed() {
    let Some((mongodb, cache)) = secure().await else {
        return;
    };
    let report = outage(
        "MongoDB another password and new connections, then the right one",
        cache,
        async || {
            change_user(&mongodb, doc! { "pwd": "wrong" }).await;
            mongodb.node().start_again();
        },
        async || change_user(&mongodb, doc! { "pwd": "right" }).await,
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

/// What may still be read may not be invalidated any more, which is the worse half of an outage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_user_may_only_read() {
    let Some((mongodb, cache)) = secure().await else {
        return;
    };
    let role = |role: &str| doc! { "roles": [{ "role": role, "db": "larder" }] };
    let report = outage(
        "MongoDB the user may only read, then write again",
        cache,
        async || change_user(&mongodb, role("read")).await,
        async || change_user(&mongodb, role("readWrite")).await,
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_is_one_of_another_name() {
    let Some((mongodb, cache)) = secure().await else {
        return;
    };
    let report = outage(
        "MongoDB a certificate of another name, then its own",
        cache,
        async || mongodb.show_another(true),
        async || mongodb.show_another(false),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

/// Through a proxy that does `link` to what goes through it, for a while.
async fn through(fault: &str, link: Link) -> Option<Report> {
    let mongodb = MongoDb::start().await?;
    let proxy = Proxy::to(mongodb.node().address()).await;
    let url = format!("mongodb://{}/?directConnection=true", proxy.address());
    let fault = format!("MongoDB {fault}");
    let report = outage(
        &fault,
        cache(&url).await,
        async || proxy.set(link).await,
        async || proxy.set(Link::Pass).await,
    );
    Some(report.await)
}

on_the_way!(through, slow: 25, slower_than_the_time_out: 1200);

/// Who of a replica set of three something happens to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Struck {
    /// The others choose another one.
    Primary,
    /// The primary is left alone, and steps down.
    BothOthers,
}

async fn of_three(fault: &str, struck: Struck, breaks: fn(&Node), mends: fn(&Node)) {
    let Some(mongodb) = MongoDb::with().replica_set(3).start().await else {
        return;
    };
    let load = Load::warm(cache(&mongodb.url()).await).await;
    let primary = mongodb.primary().await;
    let nodes = mongodb.nodes().iter();
    let struck: Vec<_> = match struck {
        Struck::Primary => vec![primary],
        Struck::BothOthers => nodes.filter(|node| !ptr::eq(*node, primary)).collect(),
    };
    struck.iter().for_each(|node| breaks(node));
    let recovered = match struck.len() {
        1 => load.recovery(FAIL_OVER).await,
        _ => {
            load.run(ALONE).await;
            struck.iter().for_each(|node| mends(node));
            load.recovery(FAIL_OVER).await
        }
    };
    load.run(Duration::from_secs(1)).await;
    if struck.len() == 1 {
        mends(primary);
    }
    // Who was away takes back what nobody else has, and catches up.
    load.run(Duration::from_secs(3)).await;
    let report = load
        .end(&format!("MongoDB, three nodes: {fault}"), recovered)
        .await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_of_three_is_killed() {
    of_three(
        "the primary killed, started again after the fail-over",
        Struck::Primary,
        Node::kill,
        Node::start_again,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_of_three_is_stopped() {
    of_three(
        "the primary stopped (SIGSTOP), continued after the fail-over",
        Struck::Primary,
        Node::stop,
        Node::cont,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_are_killed_and_there_is_no_primary() {
    of_three(
        "both others killed, started again",
        Struck::BothOthers,
        Node::kill,
        Node::start_again,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_are_stopped_and_there_is_no_primary() {
    of_three(
        "both others stopped (SIGSTOP), continued",
        Struck::BothOthers,
        Node::stop,
        Node::cont,
    )
    .await;
}
