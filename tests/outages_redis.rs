//! A service under load while the servers of its Redis cluster, or those behind a sentinel, fail; and while a single one
//! refuses what it is asked: as `tests/outages.rs` has it.
//!
//! Each test prints its row of the table in the documentation.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_outages;
mod support_servers;

use std::{sync::Arc, time::Duration};

use larder::{Cache, Redis as Backend};
use support_outages::{Load, outage, survived, was_open};
use support_servers::{Cluster, Link, Options, Proxy, Redis, SENTINEL_NAME, Sentinel};

async fn on_cluster(cluster: &Cluster) -> Cache {
    let redis = Backend::cluster(cluster.addresses());
    Cache::new(redis.connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_primary_of_a_cluster_is_killed_and_its_replica_takes_over() {
    let Some(cluster) = Cluster::with_replicas() else {
        return;
    };
    let report = outage(
        "Redis Cluster: one primary of three killed, its replica takes over",
        on_cluster(&cluster).await,
        async || cluster.nodes()[0].kill(),
        async || {},
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_primary_of_a_cluster_hangs_and_its_replica_takes_over() {
    let Some(cluster) = Cluster::with_replicas() else {
        return;
    };
    let report = outage(
        "Redis Cluster: one primary of three stopped, its replica takes over",
        on_cluster(&cluster).await,
        async || cluster.nodes()[0].stop(),
        async || {},
    );
    let report = report.await;
    cluster.nodes()[0].cont();
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn most_of_a_cluster_is_killed_and_started_again() {
    let options = Options::default().persistent();
    let Some(cluster) = Cluster::with(false, false, options) else {
        return;
    };
    let report = outage(
        "Redis Cluster: two of three nodes killed, started again with their data",
        on_cluster(&cluster).await,
        async || cluster.nodes()[..2].iter().for_each(Redis::kill),
        async || cluster.nodes()[..2].iter().for_each(Redis::restart),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_of_a_cluster_are_moved() {
    let Some(cluster) = Cluster::start() else {
        return;
    };
    let cluster = Arc::new(cluster);
    let load = Load::warm(on_cluster(&cluster).await).await;
    let moving = cluster.clone();
    let moved = tokio::task::spawn_blocking(move || {
        let nodes = moving.nodes();
        // Nearly all that it has, and some of it back.
        for (from, to, slots) in [(0, 1, 5_000), (1, 0, 1_000)] {
            let output = moving.reshard(&nodes[from], &nodes[to], slots);
            assert!(output.status.success(), "{output:?}");
        }
    });
    moved.await.unwrap();
    let recovered = load.recovery(Duration::from_secs(10)).await;
    load.run(Duration::from_millis(500)).await;
    let report = load.end(
        "Redis Cluster: 6000 slots moved from node to node",
        recovered,
    );
    survived(&report.await);
}

/// A server, a replica of it that is read from, and what stands between the two.
struct Apart {
    primary: Redis,
    replica: Redis,
    between: Proxy,
}

impl Apart {
    async fn start() -> Option<Self> {
        let primary = Redis::with().config("repl-diskless-sync-delay 0").start()?;
        let between = Proxy::to(primary.address()).await;
        let replica = Redis::with().replica_of(between.port()).start()?;
        replica.follows();
        Some(Self {
            primary,
            replica,
            between,
        })
    }

    async fn cache(&self) -> Cache {
        let redis = Backend::builder(self.primary.url()).read_url(self.replica.url());
        Cache::new(redis.connect().await.unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_read_from_is_killed_and_started_again() {
    let Some(apart) = Apart::start().await else {
        return;
    };
    let report = outage(
        "Redis replica: the one that is read from killed, started again",
        apart.cache().await,
        async || apart.replica.kill(),
        async || apart.replica.restart(),
    );
    let report = report.await;
    survived(&report);
    assert_eq!(report.stats.outages, 0, "nobody was to notice: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_read_from_hangs() {
    let Some(apart) = Apart::start().await else {
        return;
    };
    let report = outage(
        "Redis replica: the one that is read from stopped, continued",
        apart.cache().await,
        async || apart.replica.stop(),
        async || apart.replica.cont(),
    );
    let report = report.await;
    survived(&report);
    assert_eq!(report.stats.outages, 0, "nobody was to notice: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_read_from_lags_behind() {
    for (fault, link) in [
        (
            "Redis replica: 50 ms late, then in time",
            Link::Delay(Duration::from_millis(50)),
        ),
        (
            "Redis replica: hears nothing of its primary, then all of it",
            Link::Stall,
        ),
    ] {
        let Some(apart) = Apart::start().await else {
            return;
        };
        let report = outage(
            fault,
            apart.cache().await,
            async || apart.between.set(link).await,
            async || apart.between.set(Link::Pass).await,
        );
        let report = report.await;
        survived(&report);
        assert_eq!(report.stats.outages, 0, "nobody was to notice: {report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_is_killed_whose_replica_is_read_from() {
    let Some(apart) = Apart::start().await else {
        return;
    };
    let report = outage(
        "Redis replica: its primary killed, started again without data",
        apart.cache().await,
        async || apart.primary.kill(),
        async || apart.primary.restart_empty(),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

/// Those who take over are read from no more, and the others are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_primary_of_a_cluster_is_killed_whose_replicas_are_read_from() {
    let Some(cluster) = Cluster::with_replicas() else {
        return;
    };
    let redis = Backend::cluster(cluster.addresses()).read_from_replicas(true);
    let report = outage(
        "Redis Cluster, replicas read: one primary of three killed, its replica takes over",
        Cache::new(redis.connect().await.unwrap()),
        async || cluster.nodes()[0].kill(),
        async || {},
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_of_a_sentinel_is_killed_whose_replica_is_read_from() {
    let Some(sentinel) = Sentinel::start() else {
        return;
    };
    let redis = Backend::sentinels([sentinel.address()], SENTINEL_NAME).read_from_replicas(true);
    let report = outage(
        "Redis Sentinel, replica read: the primary killed, its replica takes over",
        Cache::new(redis.connect().await.unwrap()),
        async || sentinel.servers()[0].kill(),
        async || {},
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

async fn behind(sentinel: &Sentinel) -> Cache {
    let redis = Backend::sentinels([sentinel.address()], SENTINEL_NAME);
    Cache::new(redis.connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_of_a_sentinel_is_killed_and_its_replica_takes_over() {
    let Some(sentinel) = Sentinel::start() else {
        return;
    };
    let report = outage(
        "Redis Sentinel: the primary killed, its replica takes over",
        behind(&sentinel).await,
        async || sentinel.servers()[0].kill(),
        async || {},
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_primary_of_a_sentinel_hangs_and_its_replica_takes_over() {
    let Some(sentinel) = Sentinel::start() else {
        return;
    };
    let report = outage(
        "Redis Sentinel: the primary stopped, its replica takes over, the old one continued",
        behind(&sentinel).await,
        async || sentinel.servers()[0].stop(),
        async || sentinel.servers()[0].cont(),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

/// What is stored is read; what would be stored is refused, and what it would have replaced is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full() {
    let Some(redis) = Redis::start() else { return };
    let cache = Cache::new(Backend::builder(redis.url()).connect().await.unwrap());
    let limit = |bytes| drop(redis.cli(&["CONFIG", "SET", "maxmemory", bytes]));
    let report = outage(
        "Redis full (maxmemory, noeviction), then room again",
        cache,
        async || limit("1"),
        async || limit("0"),
    );
    survived(&report.await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_certificate_of_another_host() {
    let Some(redis) = Redis::with().tls().start() else {
        return;
    };
    let ca = redis.certificates().ca().display().to_string();
    let backend = Backend::builder(redis.url()).ca(ca);
    let cache = Cache::new(backend.connect().await.unwrap());
    let restart = |another| {
        redis.certificates().show_another(another);
        redis.restart();
    };
    let report = outage(
        "Redis restarted with the certificate of another host, then with its own",
        cache,
        async || restart(true),
        async || restart(false),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}
