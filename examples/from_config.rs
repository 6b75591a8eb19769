//! A cache as a file and the environment say. The environment wins, and every mistake is told at once.
//!
//! ```text
//! $ CACHE_CONFIG=config/cache.toml CACHE_KEY_PREFIX=shop cargo run --example from_config
//! backend memory: 67108864 bytes at most, evicting by s3-fifo
//! entries under the prefix "shop", kept for 300s unless told otherwise
//! listening on http://127.0.0.1:3000
//!
//! $ curl localhost:3000/one
//! one: the cache holds 0 entries
//! $ curl localhost:3000/two
//! two: the cache holds 1 entries
//! $ curl localhost:3000/one            # stored, for a minute
//! one: the cache holds 0 entries
//!
//! $ CACHE_TYPE=memroy CACHE_DEFAULT_TIMEOUT=5m cargo run --example from_config
//! CACHE_TYPE must be memory or null; it is "memroy" (set in the environment); did you mean memory?
//! CACHE_DEFAULT_TIMEOUT must be whole seconds, 0 for never; it is "5m" (set in the environment)
//! ```

use std::{error::Error, process::ExitCode, time::Duration};

use axum::{Router, extract::Path, routing::get};
use larder::{Cache, CacheControl, CacheLayer, Settings};

async fn held(cache: Cache, Path(name): Path<String>) -> (CacheControl, String) {
    let minute = CacheControl::new().max_age(Duration::from_secs(60));
    let usage = cache.stats().usage.unwrap_or_default();
    let text = format!("{name}: the cache holds {} entries\n", usage.entries);
    (minute, text)
}

/// All of it but the port.
pub fn app(cache: Cache) -> Router {
    Router::new()
        .route("/{name}", get(held))
        .layer(CacheLayer::new(cache))
}

fn show(settings: &Settings) {
    print!("backend {}", settings.backend.name());
    println!(
        ": {} bytes at most, evicting by {}",
        settings.max_bytes,
        settings.memory_policy.name()
    );
    let ttl = settings.default_ttl;
    println!(
        "entries under the prefix {:?}, kept for {} unless told otherwise",
        settings.key_prefix,
        ttl.map_or("ever".to_owned(), |ttl| format!("{ttl:?}")),
    );
}

#[tokio::main]
async fn main() -> Result<ExitCode, Box<dyn Error>> {
    tracing_subscriber::fmt().init();
    let settings = match Settings::load() {
        Ok(settings) => settings,
        Err(mistakes) => {
            eprintln!("{mistakes}");
            return Ok(ExitCode::FAILURE);
        }
    };
    show(&settings);
    let cache = Cache::from_settings(&settings).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    axum::serve(listener, app(cache)).await?;
    Ok(ExitCode::SUCCESS)
}
