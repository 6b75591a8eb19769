//! A service under load from 64 connections while its memcached fails, or one of three: every request is answered, nothing
//! stale is served, nobody waits for more than one time-out, and the cache comes back by itself.
//!
//! Each test prints its row of the table in the documentation; `cargo test --all-features --test outages_memcached --
//! --nocapture` shows them.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_outages;
mod support_servers;

use std::time::Duration;

use larder::{BreakerState, Cache, Memcached as Backend};
use support_outages::{
    FAULT, Load, Report, absent_at_first, on_the_way, outage, survived, was_open,
};
use support_servers::{Link, Memcached, Proxy};

async fn cache(servers: &str) -> Cache {
    Cache::new(Backend::builder(servers).connect().await.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_restarted_empty() {
    let Some(server) = Memcached::start() else {
        return;
    };
    let cache = cache(&server.server()).await;
    let report = outage(
        "memcached killed, restarted",
        cache,
        async || server.kill(),
        async || server.restart(),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarted_at_once() {
    let Some(server) = Memcached::start() else {
        return;
    };
    let cache = cache(&server.server()).await;
    let report = outage(
        "memcached restarted at once, twice",
        cache,
        async || server.restart(),
        async || server.restart(),
    );
    survived(&report.await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopped_and_continued() {
    let Some(server) = Memcached::start() else {
        return;
    };
    let cache = cache(&server.server()).await;
    let report = outage(
        "memcached stopped (SIGSTOP), continued",
        cache,
        async || server.stop(),
        async || server.cont(),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusing_at_start_up() {
    let Some(server) = Memcached::start() else {
        return;
    };
    server.kill();
    let fault = "memcached refusing at start-up, then there";
    let servers = server.server();
    let settings = [
        ("CACHE_TYPE", "memcached"),
        ("CACHE_MEMCACHED_SERVERS", servers.as_str()),
    ];
    let report = absent_at_first(fault, &settings, || server.restart()).await;
    survived(&report);
    was_open(&report);
}

/// A connection that there is stays what it is until it is cut, so that is done too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_is_changed() {
    let Some(server) = Memcached::with().user("app", "right").start() else {
        return;
    };
    let proxy = Proxy::to(server.address()).await;
    let backend = Backend::builder(proxy.address().to_string());
    let backend = backend.username("app").password("right");
    let cache = Cache::new(backend.connect().await.unwrap());
    let change = async |password: &str| {
        server.change_password(password);
        tokio::time::sleep(Duration::from_millis(50)).await;
        proxy.set(Link::Reset).await;
        proxy.set(Link::Pass).await;
    };
    let report = outage(
        "memcached another password, then the right one",
        cache,
        async || change("wrong").await,
        async || change("right").await,
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

/// The breaker never opens for want of room: everything that has to be remembered is small.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_with_other_things() {
    let Some(server) = Memcached::with().arguments(&["-m", "2"]).start() else {
        return;
    };
    let cache = cache(&server.server()).await;
    let others = Backend::builder(server.server()).connect().await.unwrap();
    let others = Cache::builder(others).namespace("others").build();
    let filling = async || {
        for number in 0..400 {
            let value = "x".repeat(1_000 + number * 997 % 50_000);
            drop(others.put(format!("{number}"), value).await);
        }
    };
    let report = outage(
        "memcached full (-m 2), evicting",
        cache,
        async || filling().await,
        async || filling().await,
    );
    let report = report.await;
    survived(&report);
    assert!(server.stat("evictions") > 0, "it was to be full");
}

/// Through a proxy that does `link` to what goes through it, for a while.
async fn through(fault: &str, link: Link) -> Option<Report> {
    let server = Memcached::start()?;
    let proxy = Proxy::to(server.address()).await;
    let cache = cache(&proxy.address().to_string()).await;
    let fault = format!("memcached {fault}");
    let report = outage(
        &fault,
        cache,
        async || proxy.set(link).await,
        async || proxy.set(Link::Pass).await,
    );
    Some(report.await)
}

on_the_way!(through, slow: 60, slower_than_the_time_out: 400);

/// With SASL, by the binary protocol.
mod sasl {
    use super::*;

    fn with_sasl(servers: &str) -> larder::MemcachedBuilder {
        let builder = Backend::builder(servers).binary_protocol(true);
        builder.username("app").password("right")
    }

    async fn sasl_cache(servers: &str) -> Cache {
        Cache::new(with_sasl(servers).connect().await.unwrap())
    }

    fn start() -> Option<Memcached> {
        Memcached::with().sasl("app", "right").start()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn killed_and_restarted_empty() {
        let Some(server) = start() else { return };
        let cache = sasl_cache(&server.server()).await;
        let report = outage(
            "memcached with SASL killed, restarted",
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
        let Some(server) = start() else { return };
        let cache = sasl_cache(&server.server()).await;
        let report = outage(
            "memcached with SASL stopped (SIGSTOP), continued",
            cache,
            async || server.stop(),
            async || server.cont(),
        );
        let report = report.await;
        survived(&report);
        was_open(&report);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_password_is_changed() {
        let Some(server) = start() else { return };
        let proxy = Proxy::to(server.address()).await;
        let cache = sasl_cache(&proxy.address().to_string()).await;
        let change = async |password: &str| {
            server.change_password(password);
            proxy.set(Link::Reset).await;
            proxy.set(Link::Pass).await;
        };
        let report = outage(
            "memcached with SASL another password, then the right one",
            cache,
            async || change("wrong").await,
            async || change("right").await,
        );
        let report = report.await;
        survived(&report);
        was_open(&report);
    }

    async fn through(fault: &str, link: Link) -> Option<Report> {
        let server = start()?;
        let proxy = Proxy::to(server.address()).await;
        let cache = sasl_cache(&proxy.address().to_string()).await;
        let fault = format!("memcached with SASL {fault}");
        let report = outage(
            &fault,
            cache,
            async || proxy.set(link).await,
            async || proxy.set(Link::Pass).await,
        );
        Some(report.await)
    }

    on_the_way!(through, slow: 60, slower_than_the_time_out: 400);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn cut_within_headers_and_within_the_greeting() {
        for bytes in [1_013, 30] {
            let fault = format!("cut after {bytes} bytes, again and again");
            if let Some(report) = through(&fault, Link::CutAfter(bytes)).await {
                survived(&report);
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn one_of_three_is_killed_and_restarted() {
        let servers: Option<Vec<_>> = (0..3).map(|_| start()).collect();
        let Some(servers) = servers else { return };
        let cache = sasl_cache(&list(&servers)).await;
        let fault = "one killed, restarted, with SASL";
        one_of(&servers, cache, fault, Memcached::kill, Memcached::restart).await;
    }
}

fn list(servers: &[Memcached]) -> String {
    let servers: Vec<_> = servers.iter().map(Memcached::server).collect();
    servers.join(",")
}

/// One of three fails: the cache goes on with the others, and never as a whole without.
async fn one_of_three(
    fault: &str,
    breaks: impl Fn(&Memcached),
    mends: impl Fn(&Memcached),
) -> Option<()> {
    let servers = (0..3)
        .map(|_| Memcached::start())
        .collect::<Option<Vec<_>>>()?;
    let cache = cache(&list(&servers)).await;
    one_of(&servers, cache, fault, breaks, mends).await;
    Some(())
}

async fn one_of(
    servers: &[Memcached],
    cache: Cache,
    fault: &str,
    breaks: impl Fn(&Memcached),
    mends: impl Fn(&Memcached),
) {
    let load = Load::warm(cache).await;
    let before = load.hits();
    breaks(&servers[1]);
    load.run(FAULT).await;
    let meanwhile = load.hits() - before;
    assert!(meanwhile > 200, "the others were hit {meanwhile} times");
    mends(&servers[1]);
    let recovered = load.recovery(Duration::from_secs(10)).await;
    load.run(Duration::from_secs(1)).await;
    let fault = format!("memcached, three servers: {fault}");
    let report = load.end(&fault, recovered).await;
    survived(&report);
    assert_eq!(report.stats.breaker, BreakerState::Closed);
    assert_eq!(
        report.stats.outages, 0,
        "two servers are no outage: {report}"
    );
    // All of it is cached again.
    assert!(servers[1].stat("cmd_set") > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_is_killed_and_restarted() {
    let fault = "one killed, restarted";
    one_of_three(fault, Memcached::kill, Memcached::restart).await;
}

/// It comes back with everything that it held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_three_is_stopped_and_continued() {
    let fault = "one stopped, continued";
    one_of_three(fault, Memcached::stop, Memcached::cont).await;
}
