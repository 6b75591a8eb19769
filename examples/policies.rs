//! Policies for each route: checked when they are built, and printed for review.
//!
//! ```text
//! $ cargo run --example policies
//! route        lifetimes          key                               conditions
//! /items       60s                query of only page; query sorted  whatever cookies; marks hits in x-cache
//! /items/{id}  600s; negative 5s  -                                 whatever cookies
//! /me          30s                per user: Principal by function   -
//! /admin       not stored         -                                 -
//! $ curl -i 'localhost:3000/items?utm_source=mail&page=2'
//! cache-status: larder; fwd=uri-miss; stored
//! $ curl -i 'localhost:3000/items?page=2'
//! cache-status: larder; hit; ttl=58
//! x-cache: HIT
//! $ curl -i -u ann: localhost:3000/me      # twice; what ann has, nobody else gets
//! cache-status: larder; hit; ttl=29
//! ```

use std::{error::Error, time::Duration};

use axum::{
    Router,
    extract::{Query, Request},
    http::header::AUTHORIZATION,
    middleware::map_request,
    routing::get,
};
use larder::{Cache, CacheLayer, CachePolicy, Policies, QueryKey};

/// Who asks. A real application finds that out by a session or a token, and trusts nothing else in the request.
#[derive(Clone)]
struct Principal(String);

async fn sign_in(mut request: Request) -> Request {
    if let Some(credentials) = request.headers().get(AUTHORIZATION) {
        let principal = Principal(format!("{credentials:?}"));
        request.extensions_mut().insert(principal);
    }
    request
}

fn policies() -> larder::Result<Policies> {
    let minute = Duration::from_secs(60);
    let list = CachePolicy::new()
        .ttl(minute)
        .query(QueryKey::only(["page"]))
        .sort_query(true)
        .ignore_cookies()
        .hit_header("x-cache");
    let item = CachePolicy::new()
        .ttl(10 * minute)
        .negative_ttl(Duration::from_secs(5))
        .ignore_cookies();
    let own = CachePolicy::new()
        .ttl(minute / 2)
        .per_user(|principal: &Principal| principal.0.clone());
    Policies::builder()
        .route("/items", list)
        .route("/items/{id}", item)
        .route("/me", own)
        .route("/admin", CachePolicy::new().no_store())
        .build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let policies = policies()?;
    println!("{policies}");
    let layer = CacheLayer::new(Cache::from_env().await?).policies(policies)?;
    let app = Router::new()
        .route(
            "/items",
            get(|query: Query<Vec<(String, String)>>| async move { format!("{query:?}") }),
        )
        .route("/items/{id}", get(|| async { "an item" }))
        .route("/me", get(|| async { "what is yours" }))
        .route("/admin", get(|| async { "what is nobody's" }))
        .layer(layer)
        // Outside: the policy asks for the extension before anything is looked up.
        .layer(map_request(sign_in));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app).await?;
    Ok(())
}
