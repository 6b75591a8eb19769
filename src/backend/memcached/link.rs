//! The one connection to a server: made on first use, shared by everybody, and made anew when it broke.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{
    connecting::Route,
    driver::{Driver, Health, Request},
    errors,
    protocol::{Command, Dialect, Output, Reply},
    space::Space,
};
use crate::{
    Result,
    backend::single::{Connection, Single},
};

/// So many requests wait in the connection's queue before those that make more of them have to.
const QUEUE: usize = 1024;

/// A connection that works, as far as is known.
pub(super) struct Live {
    requests: mpsc::Sender<Request>,
    health: Arc<Health>,
    dialect: Dialect,
    is_tls: bool,
    numbers: AtomicU32,
}

impl Live {
    /// The answers to commands that are carried out one after the other. `space` is where they write.
    ///
    /// When this is dropped they have been carried out, will be, or never are; nobody else gets their answers.
    pub(super) async fn ask(
        &self,
        commands: &[Command],
        space: Option<&Arc<Space>>,
    ) -> Result<Vec<Reply>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        let request = self.request(commands, space, answer);
        let sent = self.requests.send(request).await;
        sent.map_err(|_| errors::closed_by_server())?;
        answered
            .await
            .unwrap_or_else(|_| Err(errors::closed_by_server()))
    }

    fn request(
        &self,
        commands: &[Command],
        space: Option<&Arc<Space>>,
        answer: oneshot::Sender<Result<Vec<Reply>>>,
    ) -> Request {
        let count = u32::try_from(commands.len()).expect("the callers ask in steps");
        let first = self.numbers.fetch_add(count, Ordering::Relaxed);
        let mut output = Output::new(self.is_tls);
        for (number, command) in (0..count).zip(commands) {
            self.dialect
                .write(command, first.wrapping_add(number), &mut output);
        }
        let writes = commands.iter().any(Command::writes);
        Request {
            pieces: output.into_pieces(),
            first,
            count: commands.len(),
            writes_to: space.filter(|_| writes).cloned(),
            answer,
        }
    }
}

impl Connection for Live {
    fn is_usable(&self) -> bool {
        !self.health.is_broken()
    }
}

/// The way to a server.
#[derive(Clone)]
pub(super) struct Link(Arc<Inner>);

struct Inner {
    route: Route,
    connect_timeout: Duration,
    /// After how long without an answer a connection is called silent.
    silence: Duration,
    single: Arc<Single<Live>>,
    /// The largest item, as the server said last; 0 before it was asked.
    item_size: AtomicUsize,
}

impl Link {
    pub(super) fn new(route: Route, connect_timeout: Duration, silence: Duration) -> Self {
        Self(Arc::new(Inner {
            route,
            connect_timeout,
            silence,
            single: Single::new(),
            item_size: AtomicUsize::new(0),
        }))
    }

    /// Fails a verb that needs no connection where there will be none.
    pub(super) fn open(&self) -> Result<()> {
        self.0.single.open()
    }

    /// Gives the connection back, and makes no other.
    pub(super) fn close(&self) {
        self.0.single.close();
    }

    /// The most bytes that an item takes; `None` before the server was asked.
    pub(super) fn item_size(&self) -> Option<usize> {
        let size = self.0.item_size.load(Ordering::Relaxed);
        (size > 0).then_some(size)
    }

    /// Whether answers are owed by the connection there is, and nothing has come for a while.
    pub(super) fn is_silent(&self) -> bool {
        let current = self.0.single.current();
        current.is_some_and(|live| live.health.is_silent())
    }

    /// The connection, made now if there is none that works.
    pub(super) async fn live(&self) -> Result<Arc<Live>> {
        let connect = || {
            let inner = self.0.clone();
            async move { inner.connect().await }
        };
        self.0.single.live(connect).await
    }
}

impl Inner {
    async fn connect(&self) -> Result<Arc<Live>> {
        let connected = timeout(self.connect_timeout, self.route.connect()).await;
        let (is_tls, dialect) = (self.route.tls.is_some(), self.route.dialect);
        let (stream, facts) = connected.map_err(|_| errors::slow_to_connect(is_tls, dialect))??;
        if let Some(size) = facts.item_size {
            self.item_size.store(size, Ordering::Relaxed);
        }
        let (requests, incoming) = mpsc::channel(QUEUE);
        let health = Arc::new(Health::default());
        let driver = Driver::new(stream, dialect, incoming, health.clone(), self.silence);
        let driver = if is_tls { driver.by_records() } else { driver };
        tokio::spawn(driver);
        Ok(Arc::new(Live {
            requests,
            health,
            dialect,
            is_tls,
            numbers: AtomicU32::new(0),
        }))
    }
}

/// Shows the state, and nothing of how to get to the server.
impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.route.address, self.0.single.word())
    }
}
