//! The Redis backend on real servers.

mod support_servers;

use larder::{
    Redis,
    testing::{self, Report},
};
use support_servers::Redis as Server;

/// Everything but what a backend is asked that lacks something.
fn leaves_out_nothing(report: &Report) {
    for (name, missing) in report.skipped() {
        let expected = missing.contains("false") || missing.contains("MiB");
        assert!(expected, "{name} was left out for {missing}");
    }
}

async fn suite(start: impl AsyncFn() -> Redis) {
    let report = testing::suite(|| async { start().await }).await;
    leaves_out_nothing(&report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plain_server_passes() {
    let Some(server) = Server::start() else {
        return;
    };
    suite(async || Redis::builder(server.url()).connect().await.unwrap()).await;
}
