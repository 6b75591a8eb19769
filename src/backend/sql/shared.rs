//! What the backends of all databases are.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::{Mutex, watch},
};

use super::{
    Dialect,
    driver::{Column, Engine, Outcome, Statement},
    errors::{self, Cause, Failure},
    statements::Statements,
    sweeping,
    table::Tables,
};
use crate::{
    Migrate, Result,
    backend::{frame::Versions, generation::Namespaces},
};

/// What a packet of MySQL holds beside a payload: the key, the namespace twice, and the statement.
#[cfg(feature = "mysql")]
pub(super) const PACKET_ROOM: usize = 64 << 10;

/// What the backends have in common, beside where the database is.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) table: String,
    pub(super) migrate: Migrate,
    pub(super) pool_size: usize,
    #[cfg_attr(
        not(any(feature = "postgres", feature = "mysql")),
        allow(dead_code, reason = "a file is not connected to")
    )]
    pub(super) connect_timeout: Duration,
    pub(super) sweep_interval: Option<Duration>,
}

impl Default for Common {
    fn default() -> Self {
        Self {
            table: "larder".to_owned(),
            migrate: Migrate::Apply,
            pool_size: 10,
            connect_timeout: Duration::from_secs(5),
            sweep_interval: Some(Duration::from_secs(60)),
        }
    }
}

/// A cache's tables in some database.
pub(super) struct Sql {
    pub(super) engine: Box<dyn Engine>,
    pub(super) dialect: Dialect,
    pub(super) statements: Statements,
    pub(super) versions: Versions,
    pub(super) namespaces: Namespaces,
    pub(super) migrate: Migrate,
    /// The longest payload.
    pub(super) largest: AtomicUsize,
    /// Held while a namespace is cleared, so that this process sees its own clearings in their order.
    pub(super) clearing: Mutex<()>,
    /// The generation that the search for those that are over has come to.
    pub(super) searched: Mutex<i64>,
    /// Whether the tables were there when they were last asked for.
    is_ready: AtomicBool,
    making_ready: Mutex<()>,
    closed: AtomicBool,
    /// Ends the sweeper, by a word or by being dropped.
    end: watch::Sender<bool>,
}

impl Sql {
    /// Contacts nobody yet.
    pub(super) fn new(
        dialect: Dialect,
        engine: Box<dyn Engine>,
        common: &Common,
        largest: usize,
    ) -> Result<Arc<Self>> {
        let tables = Tables::new(dialect, &common.table)?;
        let (end, ended) = watch::channel(false);
        let sql = Arc::new(Self {
            engine,
            dialect,
            statements: Statements::new(dialect, tables),
            versions: Versions::default(),
            namespaces: Namespaces::default(),
            migrate: common.migrate,
            largest: AtomicUsize::new(largest),
            clearing: Mutex::default(),
            searched: Mutex::new(i64::MIN),
            is_ready: AtomicBool::new(false),
            making_ready: Mutex::default(),
            closed: AtomicBool::new(false),
            end,
        });
        // Outside of a runtime nothing can be spawned, nor could anything be asked.
        if let (Some(interval), Ok(runtime)) = (common.sweep_interval, Handle::try_current()) {
            runtime.spawn(sweeping::sweep(Arc::downgrade(&sql), interval, ended));
        }
        Ok(sql)
    }

    pub(super) fn tables(&self) -> &Tables {
        &self.statements.tables
    }

    pub(super) fn largest(&self) -> usize {
        self.largest.load(Ordering::Relaxed)
    }

    pub(super) fn open(&self) -> Result<(), Failure> {
        match self.closed.load(Ordering::Acquire) {
            true => Err(errors::closed().into()),
            false => Ok(()),
        }
    }

    /// Sees to it that the tables are there, as far as nobody said otherwise.
    pub(super) async fn ready(&self) -> Result<(), Failure> {
        self.open()?;
        if self.is_ready.load(Ordering::Acquire) {
            return Ok(());
        }
        let _making_ready = self.making_ready.lock().await;
        if !self.is_ready.load(Ordering::Acquire) {
            self.migrate().await?;
            #[cfg(feature = "mysql")]
            if self.dialect == Dialect::MySql {
                self.learn_limit().await?;
            }
            self.is_ready.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Asks how long a message may be.
    #[cfg(feature = "mysql")]
    async fn learn_limit(&self) -> Result<(), Failure> {
        let text = "SELECT CAST(@@max_allowed_packet AS SIGNED)";
        let ask = Statement::read(text.into(), Vec::new(), &[Column::Int]).unusual();
        let outcomes = self.engine.run(&[ask]).await?;
        let row = outcomes.first().and_then(|outcome| outcome.rows.first());
        let most = row.and_then(|row| usize::try_from(row.int(0)?).ok());
        let most = most.ok_or_else(errors::unexpected)?;
        let largest = most.saturating_sub(PACKET_ROOM);
        self.largest.store(largest, Ordering::Relaxed);
        Ok(())
    }

    pub(super) async fn run(&self, statements: &[Statement]) -> Result<Vec<Outcome>, Failure> {
        self.ready().await?;
        match self.engine.run(statements).await {
            // Somebody removed them, or the server began anew.
            Err(failure) if failure.cause == Cause::NoTable => {
                self.is_ready.store(false, Ordering::Release);
                self.ready().await?;
                self.engine.run(statements).await
            }
            done => done,
        }
    }

    /// The same of one statement.
    pub(super) async fn run_one(&self, statement: Statement) -> Result<Outcome, Failure> {
        let mut outcomes = self.run(&[statement]).await?;
        outcomes.pop().ok_or_else(|| errors::unexpected().into())
    }

    pub(super) async fn ping(&self) -> Result<(), Failure> {
        let ask = Statement::read(self.statements.ping(), Vec::new(), &[Column::Int]);
        self.run_one(ask).await?;
        Ok(())
    }

    pub(super) async fn close(&self) -> Result<()> {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.end.send_replace(true);
            self.engine.close().await;
        }
        Ok(())
    }

    /// An error with the names of the backend and of the verb.
    pub(super) fn named<T>(
        &self,
        answer: Result<T, Failure>,
        operation: &'static str,
    ) -> Result<T> {
        answer.map_err(|failure| {
            // Whatever a verb met that was under way.
            let error = match self.closed.load(Ordering::Acquire) {
                true => errors::closed(),
                false => failure.error,
            };
            error.on(self.dialect.name(), operation)
        })
    }
}
