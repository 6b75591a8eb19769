//! A service under load from 64 connections while its PostgreSQL or MariaDB fails, or its SQLite file: every request is
//! answered, nothing stale is served, nobody waits for more than one time-out, and the cache comes back by itself.
//!
//! Each test prints its row of the table in the documentation.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_outages;
mod support_servers;

use std::{fs, time::Duration};

use larder::{Cache, MySql, Postgres, Settings, Sqlite};
use support_outages::{FAULT, Load, outage, survived, was_open};
use support_servers::{Link, MariaDb, Postgres as PostgresServer, Proxy};

/// The faults that both servers have in the same words: `$name` for the table, `$server` to start, `$backend` to connect.
macro_rules! faults {
    ($module:ident, $name:literal, $server:ident, $backend:ident, $variable:literal) => {
        mod $module {
            use super::*;

            async fn cache(url: &str) -> Cache {
                Cache::new($backend::builder(url).connect().await.unwrap())
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn killed_and_restarted_with_its_data() {
                let Some(server) = $server::start() else {
                    return;
                };
                let cache = cache(&server.url()).await;
                let report = outage(
                    concat!($name, " killed, restarted with its data"),
                    cache,
                    async || server.kill(),
                    async || server.restart(),
                );
                let report = report.await;
                survived(&report);
                was_open(&report);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn killed_and_restarted_empty() {
                let Some(server) = $server::start() else {
                    return;
                };
                let cache = cache(&server.url()).await;
                let report = outage(
                    concat!($name, " killed, restarted empty"),
                    cache,
                    async || server.kill(),
                    async || server.restart_empty(),
                );
                let report = report.await;
                survived(&report);
                was_open(&report);
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn stopped_and_continued() {
                let Some(server) = $server::start() else {
                    return;
                };
                let cache = cache(&server.url()).await;
                let report = outage(
                    concat!($name, " stopped (SIGSTOP), continued"),
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
                let Some(server) = $server::start() else {
                    return;
                };
                server.kill();
                let url = server.url();
                let pairs = [
                    ("CACHE_TYPE", stringify!($module)),
                    ($variable, url.as_str()),
                    ("CACHE_CONNECT", "lazy"),
                ];
                let settings = Settings::from_pairs(pairs).unwrap();
                let load = Load::start(Cache::from_settings(&settings).await.unwrap()).await;
                load.run(FAULT).await;
                assert_eq!(load.hits(), 0);
                server.restart();
                let recovered = load.recovery(Duration::from_secs(10)).await;
                load.run(Duration::from_millis(500)).await;
                let fault = concat!($name, " refusing at start-up, then there");
                let report = load.end(fault, recovered).await;
                survived(&report);
                was_open(&report);
            }

            /// Through a proxy that does `link` to what goes through it, for a while.
            async fn through(fault: &str, link: Link, opens: bool) {
                let Some(server) = $server::start() else {
                    return;
                };
                let proxy = Proxy::to(server.address()).await;
                let port = |address: std::net::SocketAddr| format!(":{}", address.port());
                let url = server
                    .url()
                    .replace(&port(server.address()), &port(proxy.address()));
                let fault = format!("{} {fault}", $name);
                let report = outage(
                    &fault,
                    cache(&url).await,
                    async || proxy.set(link).await,
                    async || proxy.set(Link::Pass).await,
                );
                let report = report.await;
                survived(&report);
                if opens {
                    was_open(&report);
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn accepting_and_silent() {
                through("accepting, silent", Link::Stall, true).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn reset() {
                through("reset (RST)", Link::Reset, true).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn cut_within_answers() {
                through(
                    "cut after 1000 bytes, again and again",
                    Link::CutAfter(1_000),
                    false,
                )
                .await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn slower_than_the_time_out() {
                let link = Link::Delay(Duration::from_millis(400));
                through("slow: 400 ms each way", link, true).await;
            }
        }
    };
}

faults!(
    postgres,
    "PostgreSQL",
    PostgresServer,
    Postgres,
    "CACHE_POSTGRES_URL"
);
faults!(mysql, "MariaDB", MariaDb, MySql, "CACHE_MYSQL_URL");

/// The connections that there are stay what they are, so they are ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_password_is_changed_in_postgres() {
    let Some(server) = PostgresServer::start() else {
        return;
    };
    server.sql("CREATE ROLE shop LOGIN PASSWORD 'right' IN ROLE app SUPERUSER");
    let url = server.url_as("shop:right@");
    let cache = Cache::new(Postgres::builder(url).connect().await.unwrap());
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop'";
    let report = outage(
        "PostgreSQL another password, then the right one",
        cache,
        async || {
            server.sql("ALTER ROLE shop PASSWORD 'another'");
            server.sql(end);
        },
        async || {
            server.sql("ALTER ROLE shop PASSWORD 'right'");
        },
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

/// Another process has the file for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sqlite_file_is_held_by_somebody_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache.sqlite3");
    let cache = Cache::new(Sqlite::builder(&path).connect().await.unwrap());
    let holder = tokio::sync::Mutex::new(None);
    let report = outage(
        "SQLite locked by another process",
        cache,
        async || {
            use sqlx::Connection;
            let url = format!("sqlite://{}", path.display());
            let mut other = sqlx::SqliteConnection::connect(&url).await.unwrap();
            // The cache's own writes come and go.
            sqlx::query("PRAGMA busy_timeout = 10000")
                .execute(&mut other)
                .await
                .unwrap();
            sqlx::query("BEGIN IMMEDIATE")
                .execute(&mut other)
                .await
                .unwrap();
            *holder.lock().await = Some(other);
        },
        async || drop(holder.lock().await.take()),
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_of_a_sqlite_file_comes_later() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("inner");
    let path = inner.join("cache.sqlite3").display().to_string();
    let pairs = [
        ("CACHE_TYPE", "sqlite"),
        ("CACHE_SQLITE_PATH", path.as_str()),
        ("CACHE_CONNECT", "lazy"),
    ];
    let settings = Settings::from_pairs(pairs).unwrap();
    let load = Load::start(Cache::from_settings(&settings).await.unwrap()).await;
    load.run(FAULT).await;
    assert_eq!(load.hits(), 0);
    fs::create_dir(&inner).unwrap();
    let recovered = load.recovery(Duration::from_secs(10)).await;
    load.run(Duration::from_millis(500)).await;
    let report = load
        .end("SQLite without its folder, then with it", recovered)
        .await;
    survived(&report);
    was_open(&report);
}
