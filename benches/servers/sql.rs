//! SQLite, PostgreSQL and MariaDB: sqlx with a pool of as many connections as larder has, and a row for a value.

use std::sync::Arc;

use bytes::Bytes;
use larder::{MySql, Postgres, Sqlite};
use sqlx::{
    mysql::MySqlPoolOptions,
    postgres::PgPoolOptions,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{
    simplest::{MANY, Simplest, side_by_side},
    support_servers::{Postgres as PostgresServer, Product},
};

/// What larder has by default.
const CONNECTIONS: u32 = 10;

pub(crate) async fn sqlite() {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let options = SqliteConnectOptions::new()
        .filename(folder.path().join("raw.sqlite3"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal);
    let pool = SqlitePoolOptions::new()
        .max_connections(CONNECTIONS)
        .test_before_acquire(false)
        .connect_with(options);
    let raw = SqliteRows(pool.await.expect("it is a file"));
    raw.make_table().await;
    let connected = Sqlite::builder(folder.path().join("larder.sqlite3")).connect();
    let connected = connected.await.expect("it is a file");
    side_by_side("SQLite", raw, Arc::new(connected)).await;
}

pub(crate) async fn postgres() {
    let Some(server) = PostgresServer::start() else {
        return;
    };
    let url = server.url();
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .test_before_acquire(false)
        .connect(&url);
    let raw = PostgresRows(pool.await.expect("it runs"));
    raw.make_table().await;
    let connected = Postgres::builder(server.url()).connect().await;
    side_by_side("PostgreSQL", raw, Arc::new(connected.expect("it runs"))).await;
}

pub(crate) async fn mysql() {
    let Some(server) = Product::MariaDb.start() else {
        return;
    };
    let url = server.url();
    let pool = MySqlPoolOptions::new()
        .max_connections(CONNECTIONS)
        .test_before_acquire(false)
        .connect(&url);
    let raw = MySqlRows(pool.await.expect("it runs"));
    raw.make_table().await;
    let connected = MySql::builder(server.url()).connect().await;
    side_by_side("MariaDB", raw, Arc::new(connected.expect("it runs"))).await;
}

/// Rows of a table by sqlx. The statements for many are prepared once, as those for one are.
macro_rules! rows {
    ($rows:ident, $database:ty, $table:literal, $get:literal, $put:literal, $place:expr) => {
        #[derive(Clone)]
        struct $rows(sqlx::Pool<$database>);

        impl $rows {
            async fn make_table(&self) {
                sqlx::query($table).execute(&self.0).await.expect("it runs");
            }
        }

        impl Simplest for $rows {
            const NAME: &'static str = "sqlx";

            async fn get(&self, name: String) -> usize {
                let found = sqlx::query_scalar::<_, Vec<u8>>($get).bind(name);
                found.fetch_one(&self.0).await.expect("it is there").len()
            }

            async fn put(&self, name: String, value: Bytes) {
                let put = sqlx::query($put).bind(name).bind(value.to_vec());
                put.execute(&self.0).await.expect("it runs");
            }

            async fn get_many(&self, names: Vec<String>) -> usize {
                let places: Vec<String> = (1..=MANY).map($place).collect();
                let text = format!("SELECT v FROM bench WHERE k IN ({})", places.join(", "));
                let text = sqlx::AssertSqlSafe(text);
                let mut found = sqlx::query_scalar::<_, Vec<u8>>(text);
                for name in names {
                    found = found.bind(name);
                }
                found.fetch_all(&self.0).await.expect("it runs").len()
            }
        }
    };
}

rows!(
    SqliteRows,
    sqlx::Sqlite,
    "CREATE TABLE bench (k TEXT PRIMARY KEY, v BLOB NOT NULL)",
    "SELECT v FROM bench WHERE k = ?",
    "INSERT INTO bench (k, v) VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
    |_| "?".to_owned()
);

rows!(
    PostgresRows,
    sqlx::Postgres,
    "CREATE TABLE bench (k TEXT PRIMARY KEY, v BYTEA NOT NULL)",
    "SELECT v FROM bench WHERE k = $1",
    "INSERT INTO bench (k, v) VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = excluded.v",
    |number| format!("${number}")
);

rows!(
    MySqlRows,
    sqlx::MySql,
    "CREATE TABLE bench (k VARCHAR(64) PRIMARY KEY, v MEDIUMBLOB NOT NULL)",
    "SELECT v FROM bench WHERE k = ?",
    "INSERT INTO bench (k, v) VALUES (?, ?) ON DUPLICATE KEY UPDATE v = VALUES(v)",
    |_| "?".to_owned()
);
