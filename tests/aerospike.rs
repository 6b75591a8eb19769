//! The backend on a real Aerospike server, whose nodes `LARDER_TEST_AEROSPIKE_HOSTS` names (`host:port,…`). It has the
//! namespace `cache`.

use std::{env, time::Duration};

use larder::{Aerospike, testing};

/// Where the server is; without one nothing is tested, and a line says so.
fn hosts() -> Option<String> {
    let hosts = env::var("LARDER_TEST_AEROSPIKE_HOSTS").ok();
    if hosts.is_none() {
        println!("Aerospike was not tested: LARDER_TEST_AEROSPIKE_HOSTS names no server");
    }
    hosts
}

async fn connected(hosts: &str, set: &str) -> Aerospike {
    let builder = Aerospike::builder(hosts).set(set);
    let builder = builder.timeout(Duration::from_secs(2));
    builder.connect().await.expect("the server is there")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_passes() {
    let Some(hosts) = hosts() else { return };
    let report = testing::suite(|| connected(&hosts, "suite")).await;
    assert!(report.passed().count() >= 100, "{report}");
}
