//! A visit counter and a loaded value on Aerospike, shared by every process that runs this.
//!
//! `CACHE_AEROSPIKE_HOSTS` names the cluster, 127.0.0.1:3000 by default; it has a namespace `cache` with an
//! `nsup-period` of more than 0. Run it twice within a minute: the second one finds what the first one loaded.
//!
//! ```console
//! $ cargo run --example aerospike --features aerospike
//! visit 1: loading takes a second ...
//! the answer is 42
//! $ cargo run --example aerospike --features aerospike
//! visit 2: the answer is 42
//! ```

use std::{convert::Infallible, env, time::Duration};

use larder::{Aerospike, Cache};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Where larder says what it noticed, such as a namespace that takes no TTLs.
    tracing_subscriber::fmt().init();
    let hosts = env::var("CACHE_AEROSPIKE_HOSTS");
    let aerospike = Aerospike::builder(hosts.as_deref().unwrap_or("127.0.0.1:3000"));
    let cache = Cache::builder(aerospike.connect().await?)
        .namespace("example")
        .default_ttl(Some(Duration::from_secs(60)))
        .build();

    let visit = cache.increment("visits", 1).await?;
    print!("visit {visit}: ");
    let answer = cache
        .get_or_load("answer", async || {
            println!("loading takes a second ...");
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok::<_, Infallible>(42)
        })
        .await?;
    println!("the answer is {answer}");
    cache.close().await?;
    Ok(())
}
