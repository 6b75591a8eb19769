//! What the tests on real servers share: servers that start for one test and end with it, a proxy that breaks the
//! connection between, and where the servers are that cannot be started here.
//!
//! What starts a server returns an `Option`: `None` when it is not to be tested on this machine, which has been said by
//! then, and the test returns.

#![allow(
    dead_code,
    unused_imports,
    reason = "every test file uses a part of it"
)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod aerospike;
#[cfg(feature = "dynamodb")]
mod dynamodb;
#[cfg(all(
    feature = "aerospike",
    feature = "dynamodb",
    feature = "memcached",
    feature = "mongodb",
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
mod every;
#[cfg(feature = "testing")]
pub(crate) mod matrix;
mod memcached;
mod memcached_sasl;
#[cfg(feature = "mongodb")]
mod mongodb;
mod mysql;
mod postgres;
mod process;
mod proxy;
mod redis;
mod redis_cluster;
mod redis_sentinel;
mod template;
mod tls;

use std::io::Write;

pub(crate) use aerospike::Aerospike;
#[cfg(feature = "dynamodb")]
pub(crate) use dynamodb::{DynamoDb, dynamodb_client};
#[cfg(all(
    feature = "aerospike",
    feature = "dynamodb",
    feature = "memcached",
    feature = "mongodb",
    feature = "mysql",
    feature = "postgres",
    feature = "redis",
    feature = "sqlite"
))]
pub(crate) use every::{Behaviour, Cut, Pair, Server, behaviours, namespace, on_every_server};
pub(crate) use memcached::{Memcached, MemcachedOptions};
#[cfg(feature = "mongodb")]
pub(crate) use mongodb::{MongoDb, Node};
pub(crate) use mysql::{MySql, Options as MySqlOptions, Product};
pub(crate) use postgres::{Options as PostgresOptions, Postgres};
pub(crate) use proxy::{Link, Proxy};
pub(crate) use redis::{
    Options, Redis, options_of_valkey, redis_cli, redis_name, valkey, valkey_with,
};
pub(crate) use redis_cluster::Cluster;
pub(crate) use redis_sentinel::{NAME as SENTINEL_NAME, Sentinel};
pub(crate) use tls::Certificates;

/// Says it past the test runner, which keeps to itself what a test that succeeds prints.
fn not_tested(what: &str, why: &str) {
    let line = format!("{what} was not tested: {why}\n");
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
