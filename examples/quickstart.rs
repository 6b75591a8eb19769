//! A router with a cache around it. Run it and try the lines that it prints.

use std::{
    net::Ipv4Addr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderName, header},
    routing::get,
};
use larder::{Cache, CacheControl, CacheLayer};

type Made = Arc<AtomicU64>;

/// Fresh for a minute; the body tells how many times the handler ran.
async fn item(
    State(made): State<Made>,
    Path(id): Path<u64>,
) -> (CacheControl, [(HeaderName, String); 1], String) {
    let count = made.fetch_add(1, Ordering::Relaxed) + 1;
    let control = CacheControl::new()
        .public()
        .max_age(Duration::from_secs(60));
    (
        control,
        [(header::ETAG, format!("\"{id}-{count}\""))],
        format!("item {id}, made {count} times\n"),
    )
}

/// A successful POST ends what is stored for its URI.
async fn change(Path(id): Path<u64>) -> String {
    format!("item {id} changed\n")
}

/// All of it but the port.
pub fn app(cache: Cache) -> Router {
    Router::new()
        .route("/items/{id}", get(item).post(change))
        .layer(CacheLayer::new(cache))
        .with_state(Made::default())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Where larder says what it noticed, such as a setting whose name is nearly right.
    tracing_subscriber::fmt().init();
    let cache = Cache::from_env().await?;

    let port = match std::env::var("PORT") {
        Ok(port) => port
            .parse()
            .map_err(|_| "PORT must be a number from 0 to 65535")?,
        Err(_) => 3000,
    };
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let url = format!("http://{}/items/7", listener.local_addr()?);
    println!("Listening. Try these, and look at Cache-Status:");
    println!("  curl -i {url}                                  # miss: the handler runs");
    println!("  curl -i {url}                                  # hit: it does not");
    println!("  curl -i -H 'If-None-Match: \"7-1\"' {url}        # 304, from the cache");
    println!("  curl -i -X POST {url}                          # invalidation");
    println!("  curl -i {url}                                  # miss again");
    axum::serve(listener, app(cache)).await?;
    Ok(())
}
