//! Statements, their answers, and the one place that gives them to the client library.

use std::{future::Future, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::{AssertSqlSafe, Connection, Row as _, SqlSafeStr as _};

use super::errors::Failure;
use crate::Error;

/// What stands in a place of a statement.
#[derive(Clone, Debug)]
pub(super) enum Argument {
    Int(i64),
    Bytes(Bytes),
}

/// What a column of an answer holds.
#[derive(Clone, Copy, Debug)]
pub(super) enum Column {
    Int,
    Bytes,
}

/// A statement with its arguments.
#[derive(Clone, Debug)]
pub(super) struct Statement {
    /// Made of the names of tables and of words of this module; nothing of a key or a value is ever in it.
    pub(super) text: Arc<str>,
    pub(super) arguments: Vec<Argument>,
    /// What it answers with; nothing for a statement of which only the number of rows is asked.
    pub(super) columns: &'static [Column],
    #[cfg_attr(
        not(feature = "sqlite"),
        allow(dead_code, reason = "SQLite alone has a connection for writing")
    )]
    pub(super) writes: bool,
    /// Whether doing it twice is as good as doing it once.
    pub(super) repeats: bool,
    /// Whether there will be more of this text, so that the server should keep what it made of it.
    pub(super) is_usual: bool,
}

impl Statement {
    /// A statement that only reads.
    pub(super) fn read(
        text: Arc<str>,
        arguments: Vec<Argument>,
        columns: &'static [Column],
    ) -> Self {
        Self {
            text,
            arguments,
            columns,
            writes: false,
            repeats: true,
            is_usual: true,
        }
    }

    /// A statement that writes, and does so once more when it is repeated.
    pub(super) fn write(text: Arc<str>, arguments: Vec<Argument>) -> Self {
        Self {
            writes: true,
            repeats: false,
            ..Self::read(text, arguments, &[])
        }
    }

    pub(super) fn repeatable(self) -> Self {
        Self {
            repeats: true,
            ..self
        }
    }

    pub(super) fn unusual(self) -> Self {
        Self {
            is_usual: false,
            ..self
        }
    }
}

#[derive(Debug)]
enum Cell {
    Int(Option<i64>),
    Bytes(Option<Bytes>),
}

/// A row of an answer.
#[derive(Debug)]
pub(super) struct Row(Vec<Cell>);

impl Row {
    pub(super) fn int(&self, column: usize) -> Option<i64> {
        match self.0.get(column) {
            Some(Cell::Int(number)) => *number,
            _ => None,
        }
    }

    pub(super) fn bytes(&mut self, column: usize) -> Option<Bytes> {
        match self.0.get_mut(column) {
            Some(Cell::Bytes(bytes)) => bytes.take(),
            _ => None,
        }
    }
}

/// What a statement did.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) rows: Vec<Row>,
    /// How many rows it changed, or met the condition of the change, where it answers with none.
    pub(super) affected: u64,
}

/// A database within reach.
#[async_trait]
pub(super) trait Engine: Send + Sync {
    /// Carries statements out, several of them all or none, and again where the database asks for that.
    async fn run(&self, statements: &[Statement]) -> Result<Vec<Outcome>, Failure>;

    async fn close(&self);
}

/// By which way a connection is made, as far as that decides what an error means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Any,
    /// A network without TLS.
    #[cfg(feature = "mysql")]
    Open,
    /// A Unix socket without TLS.
    #[cfg(feature = "mysql")]
    Socket,
}

/// What the client library does for one database.
pub(super) trait Driver: sqlx::Database {
    /// What a new connection is told.
    const GREETING: Option<&'static str>;

    /// Whether a connection that somebody left in the middle of a call can be put in order. Where it cannot, calls go on until
    /// what was sent has been answered.
    const MENDS: bool;

    /// What comes before a connection is made.
    fn prepare(
        options: &<Self::Connection as Connection>::Options,
    ) -> impl Future<Output = Result<(), Error>> + Send;

    /// Carries statements out, as long as somebody wants them.
    fn all<'c>(
        connection: &'c mut Self::Connection,
        statements: &'c [Statement],
        is_wanted: &'c (dyn Fn() -> bool + Sync),
    ) -> impl Future<Output = sqlx::Result<Vec<Outcome>>> + Send + 'c;

    fn greet<'c>(
        connection: &'c mut Self::Connection,
    ) -> impl Future<Output = sqlx::Result<()>> + Send + 'c;

    fn way(options: &<Self::Connection as Connection>::Options) -> Way;

    /// Puts a connection in order that was left in the middle of a transaction.
    fn repair<'c>(
        connection: &'c mut Self::Connection,
    ) -> impl Future<Output = sqlx::Result<()>> + Send + 'c;
}

/// The same words for each database, because their types have no common bounds that are shorter.
macro_rules! driver {
    (
        $database:ty, begin: $begin:literal, greeting: $greeting:expr, mends: $mends:literal, prepare: $prepare:expr,
        way: $way:expr
    ) => {
        impl Driver for $database {
            const GREETING: Option<&'static str> = $greeting;

            const MENDS: bool = $mends;

            fn way(options: &<Self::Connection as Connection>::Options) -> Way {
                $way(options)
            }

            async fn prepare(
                options: &<Self::Connection as Connection>::Options,
            ) -> Result<(), Error> {
                $prepare(options)
            }

            async fn all<'c>(
                connection: &'c mut Self::Connection,
                statements: &'c [Statement],
                is_wanted: &'c (dyn Fn() -> bool + Sync),
            ) -> sqlx::Result<Vec<Outcome>> {
                async fn one(
                    connection: &mut <$database as sqlx::Database>::Connection,
                    statement: &Statement,
                    is_wanted: &(dyn Fn() -> bool + Sync),
                ) -> sqlx::Result<Outcome> {
                    let text = AssertSqlSafe(statement.text.clone());
                    if !$mends {
                        // Nothing is done late that nobody waits for any more, though its connection goes on.
                        let text = AssertSqlSafe(statement.text.clone()).into_sql_str();
                        sqlx::Executor::prepare(&mut *connection, text).await?;
                        if !is_wanted() {
                            return Err(sqlx::Error::RowNotFound);
                        }
                    }
                    let mut query =
                        sqlx::query::<$database>(text).persistent(!$mends || statement.is_usual);
                    for argument in &statement.arguments {
                        query = match argument {
                            Argument::Int(number) => query.bind(*number),
                            Argument::Bytes(bytes) => query.bind(&bytes[..]),
                        };
                    }
                    if statement.columns.is_empty() {
                        let affected = query.execute(connection).await?.rows_affected();
                        return Ok(Outcome {
                            rows: Vec::new(),
                            affected,
                        });
                    }
                    let rows = query.fetch_all(connection).await?;
                    let rows = rows.iter().map(|row| {
                        let columns = statement.columns.iter().enumerate();
                        let cells = columns.map(|(place, column)| {
                            Ok(match column {
                                Column::Int => Cell::Int(row.try_get(place)?),
                                Column::Bytes => {
                                    let bytes: Option<Vec<u8>> = row.try_get(place)?;
                                    Cell::Bytes(bytes.map(Bytes::from))
                                }
                            })
                        });
                        cells.collect::<sqlx::Result<_>>().map(Row)
                    });
                    let rows = rows.collect::<sqlx::Result<Vec<_>>>()?;
                    let affected = rows.len() as u64;
                    Ok(Outcome { rows, affected })
                }

                let [statement] = statements else {
                    let mut transaction = connection.begin_with($begin).await?;
                    let mut outcomes = Vec::with_capacity(statements.len());
                    for statement in statements {
                        outcomes.push(one(&mut transaction, statement, is_wanted).await?);
                    }
                    transaction.commit().await?;
                    return Ok(outcomes);
                };
                Ok(vec![one(connection, statement, is_wanted).await?])
            }

            async fn greet(connection: &mut Self::Connection) -> sqlx::Result<()> {
                if let Some(greeting) = Self::GREETING {
                    sqlx::raw_sql(greeting).execute(connection).await?;
                }
                Ok(())
            }

            async fn repair(connection: &mut Self::Connection) -> sqlx::Result<()> {
                // The client library forgets a transaction whose beginning it was not told of. Where there is none
                // it is an error in SQLite, and nothing to the others.
                match sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await {
                    Ok(_) | Err(sqlx::Error::Database(_)) => connection.ping().await,
                    Err(error) => Err(error),
                }
            }
        }
    };
}

#[cfg(feature = "sqlite")]
driver!(
    sqlx::Sqlite,
    begin: "BEGIN IMMEDIATE",
    greeting: None,
    mends: true,
    prepare: super::sqlite::create,
    way: |_: &_| Way::Any
);
// Each statement sees what is there when it begins; a stricter level would refuse what the conditions decide. Who left in the
// middle of a transaction may hold rows for as long as the server does not notice, so nobody waits for long.
#[cfg(feature = "postgres")]
driver!(
    sqlx::Postgres,
    begin: "BEGIN",
    greeting: Some("SET default_transaction_isolation = 'read committed'; SET lock_timeout = '2s'"),
    mends: true,
    prepare: |_: &_| Ok(()),
    way: |_: &_| Way::Any
);
// What the server's own defaults say of the same things is somebody else's business: a lenient one would put rows without a
// generation. A call that was left while its statement was being prepared leaves answers that the client library does not
// expect, so none is left. Nor is a statement closed: the next one would wait until the server has confirmed that.
#[cfg(feature = "mysql")]
driver!(
    sqlx::MySql,
    begin: "BEGIN",
    greeting: Some(
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', autocommit = 1, innodb_lock_wait_timeout = 2"
    ),
    mends: false,
    prepare: |_: &_| Ok(()),
    way: super::mysql::way
);
