//! Two processes that share one cache. Start a server, `redis-server --port 6379` or
//! `docker compose -f config/compose.yaml up --wait redis`, then this program twice, the second time with `PORT=3001`,
//! and try the lines that it prints.

use std::{net::Ipv4Addr, process, time::Duration};

use axum::{Router, extract::Path, routing::get};
use larder::{Cache, CacheControl, CacheLayer, Error, Redis};

/// Fresh for a minute, in every process; the body tells which one made it.
async fn item(Path(id): Path<u64>) -> (CacheControl, String) {
    let control = CacheControl::new()
        .public()
        .max_age(Duration::from_secs(60));
    (control, format!("item {id}, made by {}\n", process::id()))
}

/// A value that whichever process is asked first loads for all of them.
async fn price(cache: Cache, Path(id): Path<u64>) -> Result<String, String> {
    let load = || async { Ok::<_, Error>(format!("price of {id}, loaded by {}\n", process::id())) };
    let price = cache.get_or_load(format!("price:{id}"), load).await;
    price
        .map(|price| (*price).clone())
        .map_err(|error| error.to_string())
}

/// Counted by all of them together.
async fn visits(cache: Cache) -> Result<String, String> {
    let count = cache.increment("visits", 1).await;
    count
        .map(|count| format!("visit {count}, counted by {}\n", process::id()))
        .map_err(|error| error.to_string())
}

/// All of it but the port.
pub fn app(cache: Cache) -> Router {
    Router::new()
        .route("/items/{id}", get(item).post(|| async { "changed\n" }))
        .route("/prices/{id}", get(price))
        .route("/visits", get(visits))
        .layer(CacheLayer::new(cache))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    tracing_subscriber::fmt().init();
    let url = std::env::var("CACHE_REDIS_URL").unwrap_or_else(|_| "redis://127.0.0.1".to_owned());
    let cache = Cache::new(Redis::builder(url).connect().await?);

    let port = std::env::var("PORT").map_or(Ok(3000), |port| port.parse())?;
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let url = format!("http://{}", listener.local_addr()?);
    println!(
        "Process {} listens. Try these here and at the other:",
        process::id()
    );
    // The host is part of what a response is stored under, and each process has another port.
    let shop = "-H 'Host: shop.example'";
    println!("  curl -i {shop} {url}/items/7          # made once, by whichever was asked first");
    println!("  curl -i {shop} -X POST {url}/items/7  # ends it everywhere");
    println!("  curl {url}/prices/7                   # loaded once");
    println!("  curl {url}/visits                     # counts on");
    axum::serve(listener, app(cache)).await?;
    Ok(())
}
