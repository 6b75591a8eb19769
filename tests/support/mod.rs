//! What the tests of `CacheLayer` have in common: an inner service that answers as it is told, and answers taken apart.

#![allow(
    dead_code,
    unused_imports,
    reason = "every test file uses a part of it"
)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod app;
mod backends;
mod bodies;
mod origin;
mod wire;

use std::time::{Duration, SystemTime};

pub(crate) use app::{Answer, App, request, send, try_send};
pub(crate) use backends::{Asking, Failing, Mode};
pub(crate) use bodies::{Feed, Step, body_of, feed, frames};
pub(crate) use origin::{BoxError, Call, Origin, Reply, answer};
pub(crate) use wire::{Wire, serve};

/// Lets so many seconds go by. Half a second beside whole ones keeps a test clear of rounding.
pub(crate) async fn after(seconds: f64) {
    tokio::time::advance(Duration::from_secs_f64(seconds)).await;
}

/// Lets everything that runs in the background come to where it waits.
pub(crate) async fn settle() {
    tokio::time::sleep(Duration::from_millis(1)).await;
}

/// The date that is so many seconds from now, by larder's clock.
pub(crate) fn date(seconds: i64) -> String {
    httpdate::fmt_http_date(time(seconds))
}

pub(crate) fn time(seconds: i64) -> SystemTime {
    let now = larder::Timestamp::now().as_secs();
    SystemTime::UNIX_EPOCH + Duration::from_secs(now.saturating_add_signed(seconds))
}
