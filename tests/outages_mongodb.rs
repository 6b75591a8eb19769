//! A service under load from 64 connections while its MongoDB fails in every way there is: every request is answered,
//! nothing stale is served, nobody waits for more than one time-out, and the cache comes back by itself.
//!
//! Each test prints its row of the table in the documentation; `cargo test --all-features --test outages_mongodb --
//! --nocapture` shows them.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_outages;
mod support_servers;

use std::time::Duration;

use larder::{Cache, MongoDb as Backend, Settings};
use mongodb::bson::doc;
use support_outages::{FAULT, Load, Report, outage, survived, was_open};
use support_servers::{Link, MongoDb, Proxy};

/// A primary that is gone is missed by the test's replica set after two seconds, and replaced after that.
const FAIL_OVER: Duration = Duration::from_secs(6);

async fn cache(url: &str) -> Cache {
    let builder = Backend::builder(url).connect_timeout(Duration::from_secs(10));
    Cache::new(builder.connect().await.unwrap())
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
        ("CACHE_CONNECT", "lazy"),
    ];
    let settings = Settings::from_pairs(pairs).unwrap();
    let load = Load::start(Cache::from_settings(&settings).await.unwrap()).await;
    load.run(FAULT).await;
    assert_eq!(load.hits(), 0);
    mongodb.node().start_again();
    let recovered = load.recovery(Duration::from_secs(10)).await;
    load.run(Duration::from_millis(500)).await;
    let fault = "MongoDB refusing at start-up, then there";
    let report = load.end(fault, recovered).await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_is_changed() {
    let Some(mongodb) = MongoDb::with().secure().start().await else {
        return;
    };
    mongodb.user("larder", "right", "readWrite", "larder").await;
    let builder = Backend::builder(mongodb.url_of("larder", "right"));
    let builder = builder.ca_file(mongodb.certificates().ca());
    let backend = builder
        .connect_timeout(Duration::from_secs(10))
        .connect()
        .await;
    let raw = mongodb.raw().await.database("admin");
    let change = async |password: &str| {
        let user = doc! { "updateUser": "larder", "pwd": password };
        raw.run_command(user).await.unwrap();
    };
    let report = outage(
        "MongoDB another password, then the right one",
        Cache::new(backend.unwrap()),
        async || change("wrong").await,
        async || change("right").await,
    );
    // Connections that there are stay what they are, so there need not be an outage.
    survived(&report.await);
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
async fn cut_within_answers() {
    if let Some(report) = through(
        "cut after 1000 bytes, again and again",
        Link::CutAfter(1_000),
    )
    .await
    {
        survived(&report);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow() {
    let link = Link::Delay(Duration::from_millis(60));
    if let Some(report) = through("slow: 60 ms each way", link).await {
        survived(&report);
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

/// What happens to the primary of three, while the others go on.
async fn of_three(
    fault: &str,
    breaks: fn(&support_servers::Node),
    mends: fn(&support_servers::Node),
) {
    let Some(mongodb) = MongoDb::with().replica_set(3).start().await else {
        return;
    };
    let load = Load::start(cache(&mongodb.url()).await).await;
    load.run(Duration::from_secs(1)).await;
    assert!(load.hits() > 0, "nothing was cached before {fault}");
    let primary = mongodb.primary().await;
    breaks(primary);
    let recovered = load.recovery(Duration::from_secs(30)).await;
    load.run(FAIL_OVER).await;
    mends(primary);
    load.run(Duration::from_secs(3)).await;
    let report = load
        .end(&format!("MongoDB, three nodes: {fault}"), recovered)
        .await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_killed() {
    of_three(
        "the primary killed, then started again",
        |node| node.kill(),
        |node| node.start_again(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_is_stopped() {
    of_three(
        "the primary stopped, then continued",
        |node| node.stop(),
        |node| node.cont(),
    )
    .await;
}
