//! The cache among the usual layers, in the right order, and an orderly end.
//!
//! ```text
//! $ curl -i --compressed -H 'Origin: http://a.example' localhost:3000/report
//! cache-status: larder; fwd=uri-miss; stored
//! content-encoding: gzip
//! access-control-allow-origin: *
//! $ curl -i localhost:3000/report      # the other encoding, from the same entry
//! cache-status: larder; hit; ttl=59
//! $ curl -i localhost:3000/hangs       # two seconds
//! HTTP/1.1 503 Service Unavailable
//! cache-status: larder; fwd=uri-miss; detail=status
//! ^C
//! closed: Stats { … http_hits: 1, … }
//! ```

use std::{error::Error, time::Duration};

use axum::{Router, http::StatusCode, routing::get};
use larder::{Cache, CacheControl, CacheLayer};
use tower::ServiceBuilder;
use tower_http::{
    compression::CompressionLayer, cors::CorsLayer, timeout::TimeoutLayer, trace::TraceLayer,
};

async fn report() -> (CacheControl, String) {
    let minute = CacheControl::new()
        .public()
        .max_age(Duration::from_secs(60));
    (minute, "a line of the report\n".repeat(100))
}

/// All of it but the port.
pub fn app(cache: Cache) -> Router {
    // The first is the outermost.
    let layers = ServiceBuilder::new()
        // Sees every request, those answered from the cache too.
        .layer(TraceLayer::new_for_http())
        // Outside, it answers preflight requests and adds its fields to every answer. Inside, fields that differ by
        // `Origin` would be stored with the response, as one variant for each origin.
        .layer(CorsLayer::permissive())
        // Outside, one entry serves every encoding, compressed for each answer. Inside, each encoding is compressed
        // once and stored as a variant of its own: more memory, less work.
        .layer(CompressionLayer::new())
        .layer(CacheLayer::new(cache))
        // Inside, it bounds the handler alone, and where a stale response is stored that one stands in for the 503.
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            Duration::from_secs(2),
        ));
    Router::new()
        .route("/report", get(report))
        .route("/hangs", get(std::future::pending::<()>))
        .layer(layers)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_env_filter("info,tower_http=debug,larder=debug")
        .init();
    let cache = Cache::from_env().await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app(cache.clone()))
        .with_graceful_shutdown(async {
            // Without a handler for the signal the process would just end.
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    // Waits for writes under way; nothing can be read or kept from here on.
    cache.close().await?;
    println!("closed: {:?}", cache.stats());
    Ok(())
}
