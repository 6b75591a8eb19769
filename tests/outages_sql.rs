//! A service under load from 64 connections while its PostgreSQL, MariaDB or MySQL fails, or its SQLite file: every request is
//! answered, nothing stale is served, nobody waits for more than one time-out, and the cache comes back by itself.
//!
//! Each test prints its row of the table in the documentation.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_outages;
mod support_servers;

use std::{
    env,
    ffi::OsStr,
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use larder::{Backend, Cache, MySql, Postgres, Settings, Sqlite};
use support_outages::{FAULT, Load, outage, survived, was_open};
use support_servers::{
    Certificates, Link, MySql as MySqlServer, Postgres as PostgresServer, Product, Proxy,
};

/// A server that fails.
trait Server: Sized {
    type Backend: Backend;

    fn name(&self) -> &'static str;
    fn address(&self) -> SocketAddr;
    fn certificates(&self) -> &Certificates;
    fn kill(&self);
    fn restart(&self);
    fn restart_empty(&self);
    fn stop(&self);
    fn cont(&self);

    /// The URL of the user `shop`, whose password is `right` until somebody says otherwise.
    fn url(&self) -> String;
    fn set_password(&self, password: &str);
    fn end_connections(&self);

    /// A backend by the plainest way that the server has, or by TLS.
    fn open(&self, url: &str, tls: bool) -> Self::Backend;

    fn ca(&self) -> String {
        self.certificates().ca().display().to_string()
    }

    async fn cache(&self) -> Cache {
        self.set_password("right");
        let backend = self.open(&self.url(), false);
        backend.ping().await.unwrap();
        Cache::new(backend)
    }
}

impl Server for PostgresServer {
    type Backend = Postgres;

    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn address(&self) -> SocketAddr {
        PostgresServer::address(self)
    }

    fn certificates(&self) -> &Certificates {
        PostgresServer::certificates(self)
    }

    fn kill(&self) {
        PostgresServer::kill(self);
    }

    fn restart(&self) {
        PostgresServer::restart(self);
    }

    fn restart_empty(&self) {
        PostgresServer::restart_empty(self);
        self.set_password("right");
    }

    fn stop(&self) {
        PostgresServer::stop(self);
    }

    fn cont(&self) {
        PostgresServer::cont(self);
    }

    fn url(&self) -> String {
        self.url_as("shop:right@")
    }

    fn set_password(&self, password: &str) {
        let known = self.sql("SELECT COUNT(*) FROM pg_roles WHERE rolname = 'shop'");
        if known == "0" {
            self.sql("CREATE ROLE shop LOGIN IN ROLE app SUPERUSER");
        }
        self.sql(&format!("ALTER ROLE shop PASSWORD '{password}'"));
    }

    fn end_connections(&self) {
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'shop'");
    }

    fn open(&self, url: &str, tls: bool) -> Postgres {
        let builder = Postgres::builder(url);
        let builder = match tls {
            true => builder.tls(true).ca(self.ca()),
            false => builder,
        };
        builder.connect_lazily().unwrap()
    }
}

impl Server for MySqlServer {
    type Backend = MySql;

    fn name(&self) -> &'static str {
        match self.product() {
            Product::MariaDb => "MariaDB",
            Product::MySql => "MySQL",
        }
    }

    fn address(&self) -> SocketAddr {
        MySqlServer::address(self)
    }

    fn certificates(&self) -> &Certificates {
        MySqlServer::certificates(self)
    }

    fn kill(&self) {
        MySqlServer::kill(self);
    }

    fn restart(&self) {
        MySqlServer::restart(self);
    }

    fn restart_empty(&self) {
        MySqlServer::restart_empty(self);
        self.set_password("right");
    }

    fn stop(&self) {
        MySqlServer::stop(self);
    }

    fn cont(&self) {
        MySqlServer::cont(self);
    }

    fn url(&self) -> String {
        self.url_as("shop:right@")
    }

    fn set_password(&self, password: &str) {
        self.sql(&format!(
            "CREATE USER IF NOT EXISTS shop@'%'; GRANT ALL ON cache.* TO shop@'%'; \
             ALTER USER shop@'%' IDENTIFIED BY '{password}'"
        ));
    }

    fn end_connections(&self) {
        MySqlServer::end_connections(self, "shop");
    }

    fn open(&self, url: &str, tls: bool) -> MySql {
        let builder = MySql::builder(url);
        let builder = match tls || self.product() == Product::MySql {
            true => builder.tls(true).ca(self.ca()),
            false => builder,
        };
        builder.connect_lazily().unwrap()
    }
}

/// What becomes of a service whose server is broken, and mended after a while.
async fn breaks<S: Server>(
    server: &S,
    fault: &str,
    cache: Cache,
    breaks: impl AsyncFnOnce(&S),
    mends: impl AsyncFnOnce(&S),
) {
    let fault = format!("{} {fault}", server.name());
    let report = outage(
        &fault,
        cache,
        async || breaks(server).await,
        async || mends(server).await,
    );
    let report = report.await;
    survived(&report);
    was_open(&report);
}

async fn killed_and_restarted_with_its_data<S: Server>(server: S) {
    let fault = "killed, restarted with its data";
    let cache = server.cache().await;
    breaks(
        &server,
        fault,
        cache,
        async |it| it.kill(),
        async |it| {
            it.restart();
        },
    )
    .await;
}

async fn killed_and_restarted_empty<S: Server>(server: S) {
    let fault = "killed, restarted empty";
    let cache = server.cache().await;
    breaks(
        &server,
        fault,
        cache,
        async |it| it.kill(),
        async |it| {
            it.restart_empty();
        },
    )
    .await;
}

async fn stopped_and_continued<S: Server>(server: S) {
    let fault = "stopped (SIGSTOP), continued";
    let cache = server.cache().await;
    breaks(
        &server,
        fault,
        cache,
        async |it| it.stop(),
        async |it| {
            it.cont();
        },
    )
    .await;
}

async fn refusing_at_start_up<S: Server>(server: S) {
    server.set_password("right");
    server.kill();
    let load = Load::start(Cache::new(server.open(&server.url(), false))).await;
    load.run(FAULT).await;
    assert_eq!(load.hits(), 0, "there was to be nothing behind the cache");
    server.restart();
    // Whoever was killed a moment after it heard of the user may know nothing of it.
    server.set_password("right");
    let fault = format!("{} refusing at start-up, then there", server.name());
    let recovered = load.recovery(Duration::from_secs(10)).await;
    load.run(Duration::from_millis(500)).await;
    let report = load.end(&fault, recovered).await;
    survived(&report);
    was_open(&report);
}

/// The connections that there are stay what they are, so they are ended, and those too that were being made.
async fn another_password<S: Server>(server: S) {
    let fault = "another password, then the right one";
    let cache = server.cache().await;
    let changes = async |it: &S| {
        it.set_password("another");
        for _ in 0..10 {
            it.end_connections();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    breaks(&server, fault, cache, changes, async |it| {
        it.set_password("right");
    })
    .await;
}

async fn a_certificate_of_another_name<S: Server>(server: S) {
    let fault = "with a certificate of another name, then its own";
    server.set_password("right");
    let backend = server.open(&server.url(), true);
    backend.ping().await.unwrap();
    let shows = async |it: &S, another| {
        it.kill();
        it.certificates().show_another(another);
        it.restart();
    };
    breaks(
        &server,
        fault,
        Cache::new(backend),
        async |it| shows(it, true).await,
        async |it| shows(it, false).await,
    )
    .await;
}

/// Through a proxy that does `link` to what goes through it, for a while.
async fn through<S: Server>(server: S, fault: &str, link: Link, opens: bool) {
    server.set_password("right");
    let proxy = Proxy::to(server.address()).await;
    let port = |address: SocketAddr| format!(":{}", address.port());
    let (direct, through) = (port(server.address()), port(proxy.address()));
    let backend = server.open(&server.url().replace(&direct, &through), false);
    backend.ping().await.unwrap();
    let fault = format!("{} {fault}", server.name());
    let report = outage(
        &fault,
        Cache::new(backend),
        async || proxy.set(link).await,
        async || proxy.set(Link::Pass).await,
    );
    let report = report.await;
    survived(&report);
    if opens {
        was_open(&report);
    }
}

async fn accepting_and_silent<S: Server>(server: S) {
    through(server, "accepting, silent", Link::Stall, true).await;
}

async fn reset<S: Server>(server: S) {
    through(server, "reset (RST)", Link::Reset, true).await;
}

async fn cut_within_answers<S: Server>(server: S) {
    let link = Link::CutAfter(1_000);
    through(server, "cut after 1000 bytes, again and again", link, false).await;
}

async fn slower_than_the_time_out<S: Server>(server: S) {
    let link = Link::Delay(Duration::from_millis(400));
    through(server, "slow: 400 ms each way", link, true).await;
}

/// The faults of one product; `$start` starts a server, and `$secure` one with TLS.
macro_rules! faults {
    ($module:ident, $start:expr, $secure:expr) => {
        mod $module {
            use super::*;

            faults!($start =>
                killed_and_restarted_with_its_data
                killed_and_restarted_empty
                stopped_and_continued
                refusing_at_start_up
                another_password
                accepting_and_silent
                reset
                cut_within_answers
                slower_than_the_time_out
            );

            faults!($secure => a_certificate_of_another_name);
        }
    };
    ($start:expr => $($fault:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $fault() {
            if let Some(server) = $start {
                super::$fault(server).await;
            }
        })+
    };
}

faults!(
    postgres,
    PostgresServer::start(),
    PostgresServer::with().tls().start()
);
faults!(
    mariadb,
    Product::MariaDb.start(),
    Product::MariaDb.with().tls().start()
);
faults!(mysql, Product::MySql.start(), Product::MySql.start());

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

/// The folder in which this program, started once more by the test, has a disk of its own.
const DISK: &str = "LARDER_TEST_SQLITE_DISK";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_of_a_sqlite_file_is_full() {
    if let Some(disk) = env::var_os(DISK) {
        return fill(Path::new(&disk)).await;
    }
    let disk = tempfile::tempdir().unwrap();
    // A file system in memory, in a namespace that this process may mount it in.
    let in_namespace = |script: &str, words: &[&OsStr]| {
        let mut command = Command::new("unshare");
        let mount = format!("mount -t tmpfs -o size=24m none \"${DISK}\" && {script}");
        command
            .args([
                "--user",
                "--map-root-user",
                "--mount",
                "sh",
                "-c",
                &mount,
                "sh",
            ])
            .args(words)
            .env(DISK, disk.path())
            .stdin(Stdio::null());
        command
    };
    let mut trial = in_namespace("true", &[]);
    if !trial
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("not tested: no file system may be mounted here");
        return;
    }
    let program = env::current_exe().unwrap();
    let test = [
        "--exact",
        "the_disk_of_a_sqlite_file_is_full",
        "--nocapture",
    ]
    .map(OsStr::new);
    let mut again = in_namespace("exec \"$@\"", &[&[program.as_os_str()], &test[..]].concat());
    let status = tokio::task::spawn_blocking(move || again.status().unwrap());
    assert!(status.await.unwrap().success());
}

async fn fill(disk: &Path) {
    let path = disk.join("cache.sqlite3");
    let cache = Cache::new(Sqlite::builder(&path).connect().await.unwrap());
    let rest = disk.join("rest");
    let report = outage(
        "SQLite on a disk that is full, then room again",
        cache,
        async || {
            let everything = fs::write(&rest, vec![1; 24 << 20]);
            assert!(everything.is_err(), "it was to be full");
        },
        async || fs::remove_file(&rest).unwrap(),
    );
    survived(&report.await);
}
