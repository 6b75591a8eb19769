//! Connections, each for one call at a time.
//!
//! They are the backend's own business and not that of the client library's pool, which asks the server for a sign of life
//! after every call and waits for a server that refuses: a call here is one round trip, and fails at once where nobody
//! listens.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{ConnectOptions, Connection};
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    Dialect,
    driver::{Driver, Engine, Outcome, Statement},
    errors::{self, Cause, Failure},
};
use crate::{Error, ErrorKind, Timestamp, backend::pauses::Pauses};

/// A server that is silent for so long is not waited for any longer.
const SILENCE: Duration = Duration::from_secs(10);

/// A connection that was idle for longer is asked for a sign of life before it is used.
const IDLE: Duration = Duration::from_secs(20);

/// How long it may take to put a connection in order that somebody left in the middle of a call, to close one, and to give
/// a sign of life.
const REPAIR: Duration = Duration::from_secs(5);

/// How long, in all, is waited for others before a statement that met them is done again.
const PATIENCE: Duration = Duration::from_millis(500);

type Options<D> = <<D as sqlx::Database>::Connection as Connection>::Options;

/// Connections to one database.
pub(super) struct Pool<D: Driver>(Arc<Shared<D>>);

struct Shared<D: Driver> {
    dialect: Dialect,
    options: Options<D>,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle<D>>>,
    connect_timeout: Duration,
    closed: AtomicBool,
}

struct Idle<D: Driver> {
    connection: D::Connection,
    since: Timestamp,
}

impl<D: Driver> Shared<D> {
    fn idle(&self) -> MutexGuard<'_, Vec<Idle<D>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, connection: D::Connection) {
        // Checked under the lock, so that closing finds every connection that is kept.
        let mut idle = self.idle();
        if !self.closed.load(Ordering::Acquire) {
            let since = Timestamp::now();
            idle.push(Idle { connection, since });
        }
    }
}

/// A connection that is in use.
struct Used<D: Driver> {
    connection: Option<D::Connection>,
    /// Whether it is in the middle of a call.
    busy: bool,
    shared: Arc<Shared<D>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<D: Driver> Used<D> {
    fn discard(mut self) {
        self.connection = None;
    }
}

impl<D: Driver> Drop for Used<D> {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if !self.busy {
            self.shared.keep(connection);
            return;
        }
        // Somebody gave up waiting. What the server has yet to answer must not be taken for the answer to another one, nor
        // what is done next belong to a transaction that nobody ends.
        if let Ok(runtime) = Handle::try_current() {
            let (shared, permit) = (self.shared.clone(), self.permit.take());
            runtime.spawn(async move {
                if let Ok(Ok(())) = timeout(REPAIR, D::repair(&mut connection)).await {
                    shared.keep(connection);
                }
                drop(permit);
            });
        }
    }
}

impl<D: Driver> Pool<D> {
    pub(super) fn new(
        dialect: Dialect,
        options: Options<D>,
        size: usize,
        connect_timeout: Duration,
    ) -> Self {
        Self(Arc::new(Shared {
            dialect,
            options,
            permits: Arc::new(Semaphore::new(size.clamp(1, Semaphore::MAX_PERMITS))),
            idle: Mutex::default(),
            connect_timeout,
            closed: AtomicBool::new(false),
        }))
    }

    async fn acquire(&self) -> Result<Used<D>, Failure> {
        let shared = &self.0;
        let permit = timeout(
            shared.connect_timeout,
            shared.permits.clone().acquire_owned(),
        );
        let permit = match permit.await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(errors::closed().into()),
            Err(_) => {
                let message = format!(
                    "every connection was in use for {:?}; {}_POOL_SIZE is their number",
                    shared.connect_timeout,
                    shared.dialect.settings()
                );
                return Err(Error::new(ErrorKind::Timeout, message).into());
            }
        };
        let used = |connection, permit| Used {
            connection: Some(connection),
            busy: false,
            shared: shared.clone(),
            permit: Some(permit),
        };
        loop {
            let Some(idle) = shared.idle().pop() else {
                break;
            };
            if Timestamp::now().since(idle.since) < IDLE {
                return Ok(used(idle.connection, permit));
            }
            let mut connection = idle.connection;
            if let Ok(Ok(())) = timeout(REPAIR, connection.ping()).await {
                return Ok(used(connection, permit));
            }
        }
        self.connect(permit).await
    }

    /// Makes a connection, and goes on with it when nobody waits any more: the next caller finds it.
    async fn connect(&self, permit: OwnedSemaphorePermit) -> Result<Used<D>, Failure> {
        let shared = self.0.clone();
        let connecting = tokio::spawn(async move {
            D::prepare(&shared.options).await?;
            let connect = async {
                let mut connection = shared.options.connect().await?;
                D::greet(&mut connection).await?;
                Ok(connection)
            };
            let connection = match timeout(shared.connect_timeout, connect).await {
                Ok(Ok(connection)) => connection,
                Ok(Err(error)) => return Err(errors::connecting(shared.dialect, &error)),
                Err(_) => {
                    let setting = shared.dialect.connect_timeout();
                    let message = format!("no connection within {setting}");
                    return Err(Error::new(ErrorKind::Timeout, message).into());
                }
            };
            Ok(Used {
                connection: Some(connection),
                busy: false,
                shared,
                permit: Some(permit),
            })
        });
        match connecting.await {
            Ok(connected) => connected,
            Err(_) => {
                let message = "the runtime ended while connecting";
                Err(Error::new(ErrorKind::Unavailable, message).into())
            }
        }
    }

    async fn once(&self, statements: &[Statement]) -> Result<Vec<Outcome>, Failure> {
        let mut used = self.acquire().await?;
        used.busy = true;
        let Some(connection) = used.connection.as_mut() else {
            return Err(errors::closed().into());
        };
        let done = timeout(SILENCE, D::all(connection, statements)).await;
        let Ok(done) = done else {
            used.discard();
            let message = format!("the database did not answer within {SILENCE:?}");
            return Err(Error::new(ErrorKind::Timeout, message).into());
        };
        match done {
            Ok(outcomes) => {
                used.busy = false;
                Ok(outcomes)
            }
            Err(error) => {
                let failure = errors::asking(self.0.dialect, &error);
                if failure.cause == Cause::Broken {
                    used.discard();
                    // What ended this connection has probably ended the others.
                    self.0.idle().clear();
                }
                Err(failure)
            }
        }
    }
}

#[async_trait]
impl<D: Driver> Engine for Pool<D>
where
    Options<D>: Send + Sync,
{
    async fn run(&self, statements: &[Statement]) -> Result<Vec<Outcome>, Failure> {
        let mut pauses = Pauses::new(PATIENCE);
        let mut repeats = statements.iter().all(|statement| statement.repeats);
        loop {
            match self.once(statements).await {
                Err(failure) if failure.cause == Cause::Busy && pauses.next().await => {}
                // A connection that was cut while it was idle is found out by its next user.
                Err(failure) if failure.cause == Cause::Broken && repeats => repeats = false,
                done => return done,
            }
        }
    }

    async fn close(&self) {
        self.0.permits.close();
        let idle = {
            let mut idle = self.0.idle();
            self.0.closed.store(true, Ordering::Release);
            std::mem::take(&mut *idle)
        };
        for idle in idle {
            // Whatever comes of it, it is gone.
            let _ = timeout(REPAIR, idle.connection.close()).await;
        }
    }
}
