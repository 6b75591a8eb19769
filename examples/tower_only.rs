//! The layer around a plain tower service, served by hyper: no axum anywhere.
//!
//! ```text
//! $ cargo run --example tower_only --no-default-features --features memory
//! $ curl -i localhost:3000/slow        # a second
//! cache-status: larder; fwd=uri-miss; stored
//! made at 1763640000
//! $ curl -i localhost:3000/slow        # at once, and the same time again
//! cache-status: larder; hit; ttl=9
//! $ curl -i -H 'Cache-Control: no-cache' localhost:3000/slow
//! cache-status: larder; fwd=request; stored
//! $ curl -i -X DELETE localhost:3000/slow
//! cache-status: larder; fwd=method
//! ```

use std::{convert::Infallible, error::Error, time::Duration};

use http::{Request, Response, header::CACHE_CONTROL};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use larder::{Cache, CacheControl, CacheLayer, Timestamp};
use tower::ServiceBuilder;

/// Answers whatever is asked, slowly.
pub async fn answer<B>(_: Request<B>) -> Result<Response<Full<bytes::Bytes>>, Infallible> {
    tokio::time::sleep(Duration::from_secs(1)).await;
    let body = format!("made at {}\n", Timestamp::now().as_secs());
    let mut response = Response::new(Full::from(body));
    let fresh = CacheControl::new().max_age(Duration::from_secs(10));
    response.headers_mut().insert(CACHE_CONTROL, fresh.into());
    Ok(response)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = ServiceBuilder::new()
        .layer(CacheLayer::new(Cache::memory()))
        .service_fn(answer::<Incoming>);
    let service = TowerToHyperService::new(service);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let connection =
            http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}
