//! Connections, each for one call at a time.
//!
//! They are the backend's own business and not that of the client library's pool, which asks the server for a sign of life
//! after every call and waits for a server that refuses: a call here is one round trip, and fails at once where nobody
//! listens. Who waits takes whatever connection is free first, an old one or the one that is made meanwhile.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use sqlx::{ConnectOptions, Connection};
use tokio::{
    runtime::Handle,
    sync::{Notify, Semaphore, oneshot},
    time::timeout,
};

use super::{
    Dialect,
    driver::{Driver, Engine, Outcome, Statement},
    errors::{self, Cause, Failure},
};
use crate::{Error, ErrorKind, Timestamp, backend::pauses::Pauses};

/// A server that is silent for so long is not waited for any longer.
pub(super) const SILENCE: Duration = Duration::from_secs(10);

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
    size: usize,
    idle: Mutex<Vec<Idle<D>>>,
    /// A permit for each connection that is idle: who waits for one has a place in a queue.
    free: Semaphore,
    /// Connections that there are, and that are being made.
    count: AtomicUsize,
    /// Tells those who wait that there is one less.
    fewer: Notify,
    /// Why the latest connection was not made.
    refusal: Mutex<Option<Failure>>,
    connect_timeout: Duration,
    /// How long an answer may take.
    silence: Duration,
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

    fn refusal(&self) -> MutexGuard<'_, Option<Failure>> {
        self.refusal.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives up a number of connections.
    fn lose(&self, number: usize) {
        self.count.fetch_sub(number, Ordering::AcqRel);
        self.fewer.notify_waiters();
    }
}

/// One of the connections that there may be.
struct Seat<D: Driver>(Option<Arc<Shared<D>>>);

impl<D: Driver> Seat<D> {
    /// One more, unless there are as many as there may be.
    fn take(shared: &Arc<Shared<D>>) -> Option<Self> {
        let more = |count: usize| (count < shared.size).then_some(count + 1);
        let count = &shared.count;
        let taken = count.fetch_update(Ordering::AcqRel, Ordering::Acquire, more);
        taken.is_ok().then(|| Self(Some(shared.clone())))
    }

    /// Gives the connection to the next who waits.
    fn keep(mut self, connection: D::Connection) {
        let Some(shared) = &self.0 else {
            return;
        };
        // Checked under the lock, so that closing finds every connection that is kept.
        let mut idle = shared.idle();
        if shared.closed.load(Ordering::Acquire) {
            return;
        }
        let since = Timestamp::now();
        idle.push(Idle { connection, since });
        shared.free.add_permits(1);
        drop(idle);
        // It is counted as long as it is idle.
        self.0 = None;
    }
}

impl<D: Driver> Drop for Seat<D> {
    fn drop(&mut self) {
        if let Some(shared) = &self.0 {
            shared.lose(1);
        }
    }
}

/// A connection that is in use.
struct Used<D: Driver> {
    parts: Option<(Seat<D>, D::Connection)>,
    place: Place,
}

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// Between calls.
    Outside,
    /// In the middle of a call: there is more to come of its answer.
    Within,
    /// After an answer that it was not what was wanted, and perhaps within a transaction.
    Refused,
}

impl<D: Driver> Used<D> {
    fn new(seat: Seat<D>, connection: D::Connection) -> Self {
        Self {
            parts: Some((seat, connection)),
            place: Place::Outside,
        }
    }
}

impl<D: Driver> Drop for Used<D> {
    fn drop(&mut self) {
        let Some((seat, mut connection)) = self.parts.take() else {
            return;
        };
        match self.place {
            Place::Outside => return seat.keep(connection),
            // Somebody gave up waiting. What the server has yet to answer must not be taken for the answer to another one,
            // nor what is done next belong to a transaction that nobody ends.
            Place::Within if !D::MENDS => return,
            Place::Within | Place::Refused => {}
        }
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                if let Ok(Ok(())) = timeout(REPAIR, D::repair(&mut connection)).await {
                    seat.keep(connection);
                }
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
        silence: Duration,
    ) -> Self {
        Self(Arc::new(Shared {
            dialect,
            options,
            size: size.max(1),
            idle: Mutex::default(),
            free: Semaphore::new(0),
            count: AtomicUsize::new(0),
            fewer: Notify::new(),
            refusal: Mutex::default(),
            connect_timeout,
            silence,
            closed: AtomicBool::new(false),
        }))
    }

    async fn acquire(&self) -> Result<Used<D>, Failure> {
        let limit = self.0.connect_timeout;
        timeout(limit, self.wait()).await.unwrap_or_else(|_| {
            let message = format!(
                "no connection was free within {limit:?} ({}); {}_POOL_SIZE is their number",
                self.0.dialect.connect_timeout(),
                self.0.dialect.settings()
            );
            Err(Error::new(ErrorKind::Timeout, message).into())
        })
    }

    async fn wait(&self) -> Result<Used<D>, Failure> {
        let shared = &self.0;
        let mut connects = true;
        loop {
            let mut fewer = pin!(shared.fewer.notified());
            fewer.as_mut().enable();
            if let Ok(permit) = shared.free.try_acquire() {
                permit.forget();
                match self.take_idle().await {
                    Some(used) => return Ok(used),
                    None => continue,
                }
            }
            if connects && let Some(seat) = Seat::take(shared) {
                // Once is enough for one who waits: a server that has no room for more is not to be asked all the time.
                connects = false;
                connect(seat, shared.clone());
            }
            if !connects && shared.count.load(Ordering::Acquire) == 0 {
                let refusal = shared.refusal().clone();
                return Err(refusal.unwrap_or_else(|| {
                    let message = "every connection to the database broke";
                    Error::new(ErrorKind::Unavailable, message).into()
                }));
            }
            let mut free = pin!(shared.free.acquire());
            let is_free = poll_fn(|context| {
                if let Poll::Ready(permit) = free.as_mut().poll(context) {
                    return Poll::Ready(Some(permit));
                }
                fewer.as_mut().poll(context).map(|()| None)
            });
            match is_free.await {
                Some(Ok(permit)) => permit.forget(),
                Some(Err(_)) => return Err(errors::closed().into()),
                None => continue,
            }
            if let Some(used) = self.take_idle().await {
                return Ok(used);
            }
        }
    }

    /// A connection that is idle and works, to somebody with a permit.
    async fn take_idle(&self) -> Option<Used<D>> {
        let Idle {
            mut connection,
            since,
        } = self.0.idle().pop()?;
        let seat = Seat(Some(self.0.clone()));
        if Timestamp::now().since(since) > IDLE {
            timeout(REPAIR, connection.ping()).await.ok()?.ok()?;
        }
        Some(Used::new(seat, connection))
    }

    async fn once(&self, statements: &[Statement]) -> Result<Vec<Outcome>, Failure> {
        let used = self.acquire().await?;
        if D::MENDS {
            return carry_out(&self.0, used, statements, &|| true).await;
        }
        let (shared, statements) = (self.0.clone(), statements.to_vec());
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            let done = carry_out(&shared, used, &statements, &|| !answer.is_closed()).await;
            // Nobody may be there to take it.
            drop(answer.send(done));
        });
        let none =
            |_| Err(Error::new(ErrorKind::Unavailable, "the call ended with its runtime").into());
        answered.await.unwrap_or_else(none)
    }
}

async fn carry_out<D: Driver>(
    shared: &Shared<D>,
    mut used: Used<D>,
    statements: &[Statement],
    is_wanted: &(dyn Fn() -> bool + Sync),
) -> Result<Vec<Outcome>, Failure> {
    used.place = Place::Within;
    let Some((_, connection)) = used.parts.as_mut() else {
        return Err(errors::closed().into());
    };
    let silence = shared.silence;
    let done = timeout(silence, D::all(connection, statements, is_wanted)).await;
    let Ok(done) = done else {
        used.parts = None;
        let message = format!("the database did not answer within {silence:?}");
        return Err(Error::new(ErrorKind::Timeout, message).into());
    };
    match done {
        Ok(outcomes) => {
            used.place = Place::Outside;
            Ok(outcomes)
        }
        Err(error) => {
            used.place = Place::Refused;
            let failure = errors::asking(shared.dialect, &error);
            if failure.cause == Cause::Broken {
                used.parts = None;
                // What ended this connection has probably ended the others.
                let others = std::mem::take(&mut *shared.idle());
                shared.lose(others.len());
            }
            Err(failure)
        }
    }
}

/// Makes a connection, and goes on with it when nobody waits any more: the next caller finds it.
fn connect<D: Driver>(seat: Seat<D>, shared: Arc<Shared<D>>) {
    tokio::spawn(async move {
        let connect = async {
            D::prepare(&shared.options).await?;
            let made = async {
                let mut connection = shared.options.connect().await?;
                D::greet(&mut connection).await?;
                Ok(connection)
            };
            let made = made.await;
            let way = D::way(&shared.options);
            made.map_err(|error| errors::connecting(shared.dialect, way, &error))
        };
        let made = timeout(shared.connect_timeout, connect).await;
        let made = made.unwrap_or_else(|_| {
            let setting = shared.dialect.connect_timeout();
            let message = format!("no connection within {setting}");
            Err(Error::new(ErrorKind::Timeout, message).into())
        });
        match made {
            Ok(connection) => {
                *shared.refusal() = None;
                seat.keep(connection);
            }
            Err(failure) => {
                *shared.refusal() = Some(failure);
                drop(seat);
            }
        }
    });
}

#[async_trait]
impl<D: Driver> Engine for Pool<D>
where
    Options<D>: Send + Sync,
{
    async fn run(&self, statements: &[Statement]) -> Result<Vec<Outcome>, Failure> {
        let mut pauses = Pauses::new(PATIENCE);
        let begun = Timestamp::now();
        // The database may have waited itself.
        let is_early = || Timestamp::now().since(begun) < PATIENCE;
        let mut repeats = statements.iter().all(|statement| statement.repeats);
        loop {
            match self.once(statements).await {
                Err(failure)
                    if failure.cause == Cause::Busy && is_early() && pauses.next().await => {}
                // A connection that was cut while it was idle is found out by its next user.
                Err(failure) if failure.cause == Cause::Broken && repeats => repeats = false,
                done => return done,
            }
        }
    }

    async fn close(&self) {
        self.0.free.close();
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
