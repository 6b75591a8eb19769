//! Waiting for one of the client's connections.
//!
//! Whoever gives up waiting in the client's own queue stays in it and is served before those who came later, one at each
//! thing that happens to the pool: after an outage that many waited in, nobody living would be served for seconds. So they
//! wait here, and what the client is asked for never exceeds its connections.

use std::{sync::Arc, time::Duration};

use mongodb::{Client, bson::doc};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// One permit for each connection.
pub(super) struct Gate {
    permits: Arc<Semaphore>,
    /// The time to make a connection.
    limit: Duration,
}

impl Gate {
    pub(super) fn new(connections: u32, limit: Duration) -> Self {
        let connections = usize::try_from(connections).unwrap_or(usize::MAX);
        let permits = Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS));
        Self {
            permits: permits.into(),
            limit,
        }
    }

    /// Does what takes a connection of `client`.
    pub(super) async fn pass<T>(&self, client: &Client, act: impl Future<Output = T>) -> T {
        let permit = self.permits.clone().acquire_owned().await;
        let mut pass = Pass {
            permit: Some(permit.expect("nobody closes it")),
            client,
            limit: self.limit,
        };
        let done = act.await;
        pass.permit = None;
        done
    }
}

/// Leaves a stand-in behind when it is dropped before its end: the next one passes when there is a connection that works
/// again, or the time to make one is over.
struct Pass<'a> {
    permit: Option<OwnedSemaphorePermit>,
    client: &'a Client,
    limit: Duration,
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let (Some(permit), Ok(runtime)) = (self.permit.take(), Handle::try_current()) else {
            return;
        };
        let (client, limit) = (self.client.clone(), self.limit);
        runtime.spawn(async move {
            let admin = client.database("admin");
            let _ = timeout(limit, admin.run_command(doc! { "ping": 1 }).into_future()).await;
            drop(permit);
        });
    }
}
