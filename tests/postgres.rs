//! The PostgreSQL backend on real servers: the suite, and what is special to it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;
mod support_sql;

use std::time::{Duration, Instant};

use larder::{
    Backend, Cache, Error, ErrorKind, Migrate, Postgres, PostgresBuilder, Result, Settings,
    sql::{self, Dialect},
};
use support_servers::Postgres as Server;
use support_sql::{Database, Setup, keep, on_database, read};

impl Database for Server {
    type Backend = Postgres;

    const DIALECT: Dialect = Dialect::Postgres;

    async fn connect(&self, setup: &Setup) -> Result<Postgres> {
        let builder = Postgres::builder(self.url())
            .table(&setup.table)
            .migrate(setup.migrate)
            .sweep_interval(setup.sweep);
        builder.connect().await
    }

    async fn sql(&self, statement: &str) -> Option<i64> {
        let answer = Server::sql(self, statement);
        answer.lines().next()?.parse().ok()
    }
}

/// On a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// The whole suite, in one of the modes of a server.
async fn passes(mode: &str, start: impl AsyncFn() -> Postgres) {
    support_sql::passes("postgres", mode, start).await;
}

async fn start() -> Option<Server> {
    Server::start()
}

on_database!(start() =>
    what_has_ended_is_removed_and_counted
    a_sweep_ends_the_leases_that_it_takes_the_traces_of
    sweeps_and_loads_race_without_a_stale_entry
    the_sweeper_works_by_itself_and_ends_with_the_backend
    clients_that_begin_at_one_moment_agree
    tables_are_made_by_hand_where_nobody_else_may
    tables_of_a_later_version_are_left_alone
    tables_that_were_emptied_or_dropped_are_an_empty_cache
    tables_of_two_names_do_not_meet
    a_damaged_row_is_absent_among_others
    a_clearing_that_the_database_lost_still_holds
    batches_that_meet_wait_for_each_other
    long_keys_have_their_prefixes
    binary_keys_and_large_values_are_kept
    dropped_futures_leave_the_connections_usable
);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plain_server_passes() {
    let Some(server) = Server::start() else {
        return;
    };
    passes("plain", async || {
        let builder = Postgres::builder(server.url())
            .sweep_interval(None)
            .connect_timeout(PATIENCE);
        builder.connect().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tls_passes() {
    let Some(server) = Server::with().tls().start() else {
        return;
    };
    let ca = server.certificates().ca().display().to_string();
    passes("TLS", async || {
        let builder = Postgres::builder(server.url())
            .sweep_interval(None)
            .connect_timeout(PATIENCE);
        builder.tls(true).ca(&ca).connect().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tls_with_a_certificate_of_the_client_passes() {
    let Some(server) = Server::with().mtls().start() else {
        return;
    };
    let pem = |path| std::fs::read_to_string(path).unwrap();
    let certificates = server.certificates();
    let ca = pem(certificates.ca());
    let certificate = pem(certificates.client_certificate());
    let key = pem(certificates.client_key());
    passes("mTLS", async || {
        let builder = Postgres::builder(server.url())
            .sweep_interval(None)
            .connect_timeout(PATIENCE);
        let builder = builder.tls(true).ca(&ca);
        let builder = builder.client_certificate(&certificate, &key);
        builder.connect().await.unwrap()
    })
    .await;
}

/// A user who may not make tables, on those that somebody else made.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_user_with_the_four_rights_passes() {
    let Some(server) = Server::start() else {
        return;
    };
    let schema = sql::schema(Dialect::Postgres, "larder").unwrap();
    server.sql(&schema);
    server.sql(
        "CREATE ROLE shop LOGIN PASSWORD 's3cret-shop'; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON larder, larder_namespaces, larder_meta TO shop",
    );
    let url = server.url_as("shop@");
    passes("four rights", async || {
        let builder = Postgres::builder(&url)
            .password("s3cret-shop")
            .sweep_interval(None)
            .connect_timeout(PATIENCE);
        builder.migrate(Migrate::Check).connect().await.unwrap()
    })
    .await;
    let other = Postgres::builder(&url)
        .password("s3cret-shop")
        .table("shop_cache");
    fails(other, ErrorKind::Backend, "CREATE on their schema").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_unix_socket_passes() {
    let Some(server) = Server::start() else {
        return;
    };
    let folder = server.folder().display().to_string().replace('/', "%2F");
    let url = format!(
        "postgres://app:s3cret@{folder}:{}/postgres",
        server.address().port()
    );
    passes("Unix socket", async || {
        let builder = Postgres::builder(&url)
            .sweep_interval(None)
            .connect_timeout(PATIENCE);
        builder.connect().await.unwrap()
    })
    .await;
}

/// Nothing that is secret in these tests is without it.
const SECRET: &str = "s3cret";

async fn fails(builder: PostgresBuilder, kind: ErrorKind, message: &str) {
    assert!(!format!("{builder:?}").contains(SECRET));
    let builder = builder.connect_timeout(Duration::from_secs(2));
    says(&builder.connect().await.unwrap_err(), kind, message);
}

fn says(error: &Error, kind: ErrorKind, message: &str) {
    assert_eq!(error.kind(), kind, "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(text.contains(message), "{text}");
    assert!(!text.contains(SECRET), "{text}");
    assert_eq!(error.backend(), Some("postgres"));
}

#[tokio::test]
async fn the_server_is_away_or_refuses() {
    let Some(server) = Server::start() else {
        return;
    };
    let plain = || Postgres::builder(server.url());
    let wrong = Postgres::builder(server.url_as("app:s3cret-wrong@"));
    fails(wrong, ErrorKind::Backend, "CACHE_POSTGRES_URL").await;
    fails(
        plain().password("s3cret-wrong"),
        ErrorKind::Backend,
        "with this password",
    )
    .await;
    let nobody = Postgres::builder(server.url_as("nobody:s3cret@"));
    fails(nobody, ErrorKind::Backend, "does not let this user in").await;
    let nowhere = server.url().replace("/postgres", "/nowhere");
    let nowhere = Postgres::builder(nowhere.replace("postgres:/nowhere", "postgres://"));
    fails(nowhere, ErrorKind::Backend, "no database of the name").await;
    fails(
        plain().tls(true),
        ErrorKind::Unavailable,
        "CACHE_POSTGRES_TLS",
    )
    .await;
    server.kill();
    let begun = Instant::now();
    fails(plain(), ErrorKind::Unavailable, "is the server running").await;
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn the_certificate_is_not_the_right_one() {
    let (Some(server), Some(other)) = (Server::with().mtls().start(), Server::with().tls().start())
    else {
        return;
    };
    let ca = |server: &Server| server.certificates().ca().display().to_string();
    let plain = Postgres::builder(other.url());
    fails(plain, ErrorKind::Backend, "pg_hba.conf").await;
    let unknown = Postgres::builder(other.url()).tls(true);
    fails(unknown, ErrorKind::Unavailable, "CACHE_POSTGRES_CA_FILE").await;
    let wrong = Postgres::builder(other.url()).tls(true).ca(ca(&server));
    fails(wrong, ErrorKind::Unavailable, "CACHE_POSTGRES_CA_FILE").await;
    // An address of this machine that the certificate is not for.
    let url = other.url().replace("127.0.0.1", "127.0.0.2");
    let elsewhere = Postgres::builder(url).tls(true).ca(ca(&other));
    fails(elsewhere, ErrorKind::Unavailable, "another host").await;
    let required = format!("{}?sslmode=require", other.url());
    fails(
        Postgres::builder(required),
        ErrorKind::Unavailable,
        "CACHE_POSTGRES_CA_FILE",
    )
    .await;
    let without = Postgres::builder(server.url()).tls(true).ca(ca(&server));
    fails(without, ErrorKind::Backend, "pg_hba.conf").await;
}

#[tokio::test]
async fn what_is_set_is_wrong() {
    for url in [
        "",
        "s3cret",
        "mysql://user:s3cret@host/db",
        "postgres://user:s3cret@host:port/db",
    ] {
        let error = Postgres::builder(url).connect_lazily().unwrap_err();
        says(&error, ErrorKind::Settings, "CACHE_POSTGRES_URL");
    }
    let url = "postgres://user:s3cret@127.0.0.1:1/db";
    let error = Postgres::builder(format!("{url}?sslmode=prefer"))
        .connect_lazily()
        .unwrap_err();
    says(&error, ErrorKind::Settings, "say require");
    let error = Postgres::builder(url)
        .ca("/none.pem")
        .connect_lazily()
        .unwrap_err();
    says(&error, ErrorKind::Settings, "CACHE_POSTGRES_TLS=true");
    let error = Postgres::builder(url)
        .tls(true)
        .ca("/none.pem")
        .connect_lazily()
        .unwrap_err();
    says(
        &error,
        ErrorKind::Settings,
        "CACHE_POSTGRES_CA_FILE names /none.pem",
    );
    let error = Postgres::builder(url)
        .table("Shop")
        .connect_lazily()
        .unwrap_err();
    says(&error, ErrorKind::Settings, "CACHE_POSTGRES_TABLE");
}

#[tokio::test]
async fn a_cache_connects_as_its_settings_say() {
    let Some(server) = Server::with().tls().start() else {
        return;
    };
    let (url, ca) = (
        server.url_as("app@"),
        server.certificates().ca().display().to_string(),
    );
    let pairs = [
        ("CACHE_TYPE", "postgres"),
        ("CACHE_POSTGRES_URL", url.as_str()),
        ("CACHE_POSTGRES_PASSWORD", "s3cret"),
        ("CACHE_POSTGRES_TLS", "true"),
        ("CACHE_POSTGRES_CA_FILE", ca.as_str()),
        ("CACHE_POSTGRES_TABLE", "shop_cache"),
        ("CACHE_POSTGRES_POOL_SIZE", "3"),
    ];
    let settings = Settings::from_pairs(pairs).unwrap();
    assert!(!format!("{settings:?}").contains(SECRET));
    let cache = Cache::from_settings(&settings).await.unwrap();
    cache.put("answer", 42).await.unwrap();
    assert_eq!(cache.get::<i32>("answer").await.unwrap(), Some(42));
    assert_eq!(server.sql("SELECT COUNT(*) FROM shop_cache"), "1");
}

/// Calls wait for a connection, and no more are made than may be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_calls_share_few_connections() {
    let Some(server) = Server::start() else {
        return;
    };
    let builder = Postgres::builder(server.url())
        .pool_size(3)
        .sweep_interval(None);
    let postgres = builder.connect().await.unwrap();
    let calls = (0..200).map(|number| {
        let postgres = postgres.clone();
        tokio::spawn(async move { keep(&postgres, &number.to_string(), "value").await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    let ours = "SELECT COUNT(*) FROM pg_stat_activity WHERE application_name = 'larder'";
    assert_eq!(server.sql(ours), "3");
    postgres.close().await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.sql(ours), "0");
}

#[tokio::test]
async fn a_connection_that_was_cut_while_idle_costs_no_error() {
    let Some(server) = Server::start() else {
        return;
    };
    let builder = Postgres::builder(server.url()).sweep_interval(None);
    let postgres = builder.connect().await.unwrap();
    for _ in 0..20 {
        keep(&postgres, "key", "value").await;
        server.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'larder'",
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert_eq!(read(&postgres, "key").await.as_deref(), Some("value"));
    }
}
