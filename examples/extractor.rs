//! `Cache` in handlers: a value that is slow to make, values of the clients, and a counter.
//!
//! ```text
//! $ curl localhost:3000/rates/eur      # half a second; of many who ask together, one loads
//! eur: 1.08 dollars
//! $ curl localhost:3000/rates/eur      # at once, for a minute
//! eur: 1.08 dollars
//! $ curl localhost:3000/rates/xyz      # half a second each time: errors are not kept
//! no rate for xyz
//! $ curl localhost:3000/notes/7
//! nothing there
//! $ curl -d 'buy milk' localhost:3000/notes/7
//! kept: true
//! $ curl localhost:3000/notes/7
//! buy milk
//! $ curl localhost:3000/visits         # and again: visit 2
//! visit 1
//! ```

use std::{error::Error, io, time::Duration};

use axum::{Router, extract::Path, http::StatusCode, routing::get};
use larder::{Cache, CacheLayer};

type Answer = Result<String, (StatusCode, String)>;

fn failed(error: &dyn Error) -> (StatusCode, String) {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n"))
}

/// Stands for a query or a call that is worth keeping.
async fn look_up(currency: &str) -> io::Result<f64> {
    tokio::time::sleep(Duration::from_millis(500)).await;
    match currency {
        "eur" => Ok(1.08),
        _ => Err(io::Error::other(format!("no rate for {currency}"))),
    }
}

async fn rate(cache: Cache, Path(currency): Path<String>) -> Answer {
    let (key, minute) = (format!("rate:{currency}"), Duration::from_secs(60));
    let rate = cache
        .get_or_load_with(key, minute, || look_up(&currency))
        .await;
    // The source is what the loader said; all who waited for it share it.
    let rate = rate.map_err(|error| failed(error.source().unwrap_or(&error)))?;
    Ok(format!("{currency}: {rate} dollars\n"))
}

async fn read(cache: Cache, Path(id): Path<u64>) -> Answer {
    let note = cache.get::<String>(format!("note:{id}")).await;
    let note = note.map_err(|error| failed(&error))?;
    Ok(note.unwrap_or("nothing there\n".into()))
}

async fn write(cache: Cache, Path(id): Path<u64>, note: String) -> Answer {
    let kept = cache.put(format!("note:{id}"), note + "\n").await;
    kept.map(|kept| format!("kept: {kept}\n"))
        .map_err(|error| failed(&error))
}

async fn visits(cache: Cache) -> Answer {
    let visits = cache.increment("visits", 1).await;
    visits
        .map(|visits| format!("visit {visits}\n"))
        .map_err(|error| failed(&error))
}

/// All of it but the port.
pub fn app(cache: Cache) -> Router {
    Router::new()
        .route("/rates/{currency}", get(rate))
        .route("/notes/{id}", get(read).post(write))
        .route("/visits", get(visits))
        .layer(CacheLayer::new(cache))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let app = app(Cache::from_env().await?);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}
