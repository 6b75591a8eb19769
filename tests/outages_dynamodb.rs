//! A service under load from 64 connections while its DynamoDB fails in every way there is: every request is answered,
//! nothing stale is served, nobody waits for more than one time-out, and the cache comes back by itself. The service is
//! Dynoxide, which `LARDER_TEST_DYNOXIDE` names.
//!
//! Each test prints its row of the table in the documentation; `cargo test --all-features --test outages_dynamodb --
//! --nocapture` shows them.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_dynamodb;
mod support_outages;
mod support_servers;

use std::time::Duration;

use larder::{BreakerState, Cache, DynamoDb, DynamoDbBuilder};
use support_dynamodb::{Front, Tls};
use support_outages::{Report, absent_at_first, on_the_way, outage, was_open};
use support_servers::{Certificates, DynamoDb as Server, Link, Proxy, dynamodb_client};

const TABLE: &str = "larder";

fn builder(endpoint: &str) -> DynamoDbBuilder {
    DynamoDb::builder(TABLE)
        .endpoint(endpoint)
        .credentials("test", "test")
        .create(true)
        .timeout(TIMEOUT)
}

/// What a request costs the SDK shows where it is not optimised and 64 ask at once: the time-out is not the default.
const TIMEOUT: Duration = Duration::from_secs(1);

fn cache_on(backend: DynamoDb) -> Cache {
    Cache::builder(backend).backend_timeout(TIMEOUT).build()
}

async fn cache(endpoint: &str) -> Cache {
    cache_on(builder(endpoint).connect().await.unwrap())
}

/// What holds after every fault, and that there was one.
fn survived(report: &Report) {
    report.is_fine(TIMEOUT);
    assert!(report.recovered.is_some(), "it never came back: {report}");
    assert_eq!(report.stats.breaker, BreakerState::Closed, "{report}");
    assert_eq!(report.stats.pending_invalidations, 0, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_empty() {
    let Some(server) = Server::start() else {
        return;
    };
    let cache = cache(&server.endpoint()).await;
    let report = outage(
        "DynamoDB killed, restarted empty",
        cache,
        async || server.kill(),
        async || server.restart(),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_with_its_data() {
    let Some(server) = Server::start_persistent() else {
        return;
    };
    let cache = cache(&server.endpoint()).await;
    let report = outage(
        "DynamoDB killed, restarted with its data",
        cache,
        async || server.kill(),
        async || server.restart(),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_and_continued() {
    let Some(server) = Server::start() else {
        return;
    };
    let cache = cache(&server.endpoint()).await;
    let report = outage(
        "DynamoDB stopped (SIGSTOP), continued",
        cache,
        async || server.stop(),
        async || server.cont(),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

/// Somebody deletes the table; the cache makes it again, because it may.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_is_deleted() {
    let Some(server) = Server::start() else {
        return;
    };
    let raw = dynamodb_client(&server.endpoint());
    let cache = cache(&server.endpoint()).await;
    let report = outage(
        "DynamoDB, its table deleted",
        cache,
        async || {
            let deleted = raw.delete_table().table_name(TABLE).send().await;
            deleted.unwrap();
        },
        async || (),
    );
    survived(&report.await);
}

/// Somebody deletes the table, and makes it again two seconds later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_is_deleted_and_made_again_by_somebody_else() {
    let Some(server) = Server::start() else {
        return;
    };
    let raw = dynamodb_client(&server.endpoint());
    builder(&server.endpoint()).connect().await.unwrap();
    let backend = builder(&server.endpoint()).create(false).connect().await;
    let report = outage(
        "DynamoDB, its table deleted, made again",
        cache_on(backend.unwrap()),
        async || {
            let deleted = raw.delete_table().table_name(TABLE).send().await;
            deleted.unwrap();
        },
        async || drop(builder(&server.endpoint()).connect().await.unwrap()),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusing_at_start_up() {
    let Some(server) = Server::start() else {
        return;
    };
    server.kill();
    let pairs = [
        ("CACHE_TYPE", "dynamodb"),
        ("CACHE_DYNAMODB_ENDPOINT", &server.endpoint()),
        ("CACHE_DYNAMODB_ACCESS_KEY_ID", "test"),
        ("CACHE_DYNAMODB_SECRET_ACCESS_KEY", "test"),
        ("CACHE_DYNAMODB_CREATE", "true"),
        ("CACHE_DYNAMODB_TIMEOUT", "1s"),
        ("CACHE_BACKEND_TIMEOUT", "1s"),
    ];
    let fault = "DynamoDB refusing at start-up, then there";
    let report = absent_at_first(fault, &pairs, || server.restart()).await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn throttling_everything() {
    let Some(server) = Server::start() else {
        return;
    };
    let front = Front::before(&server.endpoint()).await;
    let cache = cache(&front.endpoint()).await;
    let report = outage(
        "DynamoDB throttling everything",
        cache,
        async || front.throttle(true),
        async || front.throttle(false),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusing_the_credentials() {
    let Some(server) = Server::start() else {
        return;
    };
    let front = Front::before(&server.endpoint()).await;
    let cache = cache(&front.endpoint()).await;
    let report = outage(
        "DynamoDB refusing the credentials, then taking them",
        cache,
        async || front.refuse_credentials(true),
        async || front.refuse_credentials(false),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

/// What may still be read may not be invalidated any more, which is the worse half of an outage.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_credentials_may_only_read() {
    let Some(server) = Server::start() else {
        return;
    };
    let front = Front::before(&server.endpoint()).await;
    let cache = cache(&front.endpoint()).await;
    let report = outage(
        "DynamoDB the credentials may only read, then write again",
        cache,
        async || front.deny_writes(true),
        async || front.deny_writes(false),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

/// Of many keys half are left, as by a service that has much to do. All that is asked for is done in the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_of_many_keys_is_left_undone() {
    let Some(server) = Server::start() else {
        return;
    };
    let front = Front::before(&server.endpoint()).await;
    let cache = cache(&front.endpoint()).await;
    let report = outage(
        "DynamoDB leaving half of many keys undone",
        cache,
        async || front.leave_half_undone(true),
        async || front.leave_half_undone(false),
    );
    survived(&report.await);
    assert!(front.left_undone() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_is_one_of_another_name() {
    let Some(server) = Server::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(folder.path());
    let tls = Tls::before(server.address(), &certificates).await;
    let builder = builder(&format!("https://localhost:{}", tls.port));
    let backend = builder.ca_file(certificates.ca()).connect().await;
    let show = |another: bool| {
        certificates.show_another(another);
        tls.show(&certificates);
    };
    let report = outage(
        "DynamoDB a certificate of another name, then its own",
        cache_on(backend.unwrap()),
        async || show(true),
        async || show(false),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

/// Through a proxy that does `link` to what goes through it, for a while.
async fn through(fault: &str, link: Link) -> Option<Report> {
    let server = Server::start()?;
    let proxy = Proxy::to(server.address()).await;
    let cache = cache(&format!("http://{}", proxy.address())).await;
    let fault = format!("DynamoDB {fault}");
    let report = outage(
        &fault,
        cache,
        async || proxy.set(link).await,
        async || proxy.set(Link::Pass).await,
    );
    Some(report.await)
}

on_the_way!(through, slow: 40, slower_than_the_time_out: 1200);
