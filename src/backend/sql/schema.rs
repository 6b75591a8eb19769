//! The tables, and how they come to be.

use std::fmt::Write;

use super::{
    Dialect,
    driver::{Argument, Column, Statement},
    errors::{Cause, Failure},
    keys,
    shared::Sql,
    table::Tables,
};
use crate::{Error, ErrorKind, Migrate, Result};

/// What the tables of this version of larder are numbered by.
const VERSION: i64 = 1;

/// The statements that make the tables of a cache, each with a semicolon and on lines of its own, for who makes tables
/// by hand and sets `CACHE_…_MIGRATE=check`. They can be carried out again without harm.
///
/// # Errors
///
/// [`ErrorKind::Settings`] for a name that is none: small letters, digits and underscores, not too many of them.
///
/// # Examples
///
/// ```
/// use larder::sql::{Dialect, schema};
///
/// let text = schema(Dialect::Postgres, "larder")?;
/// assert!(text.starts_with("CREATE TABLE IF NOT EXISTS \"larder\" ("));
/// # Ok::<(), larder::Error>(())
/// ```
pub fn schema(dialect: Dialect, table: &str) -> Result<String> {
    let tables = Tables::new(dialect, table)?;
    let mut text = String::new();
    for statement in statements(dialect, &tables) {
        let _ = writeln!(text, "{statement};\n");
    }
    Ok(text.trim_end().to_owned() + "\n")
}

/// All of them leave what is there as it is.
fn statements(dialect: Dialect, tables: &Tables) -> Vec<String> {
    let Tables {
        entries,
        namespaces,
        meta,
        by_end,
        by_generation,
        ..
    } = tables;
    let id = dialect.short_bytes(keys::LIMIT);
    let (value, options) = (dialect.bytes(), dialect.table_options());
    let is_mysql = dialect == Dialect::MySql;
    // MySQL has no CREATE INDEX that leaves an index that is there.
    let index = |name: &str, column: &str| match is_mysql {
        true => format!(",\n  INDEX {name} ({column})"),
        false => String::new(),
    };
    let mut statements = vec![format!(
        "CREATE TABLE IF NOT EXISTS {entries} (\n  generation BIGINT NOT NULL,\n  id {id} NOT NULL,\n  \
         kind BIGINT NOT NULL,\n  version BIGINT NOT NULL,\n  expires_at BIGINT NOT NULL,\n  \
         number BIGINT NOT NULL,\n  value {value},\n  PRIMARY KEY (generation, id){}\n){options}",
        index(by_end, "expires_at")
    )];
    statements.push(format!(
        "CREATE TABLE IF NOT EXISTS {namespaces} (\n  namespace {id} NOT NULL,\n  generation BIGINT NOT NULL,\n  \
         PRIMARY KEY (namespace){}\n){options}",
        index(by_generation, "generation")
    ));
    if !is_mysql {
        statements.push(format!(
            "CREATE INDEX IF NOT EXISTS {by_end} ON {entries} (expires_at)"
        ));
        statements.push(format!(
            "CREATE INDEX IF NOT EXISTS {by_generation} ON {namespaces} (generation)"
        ));
    }
    statements.push(format!(
        "CREATE TABLE IF NOT EXISTS {meta} (\n  id BIGINT NOT NULL,\n  schema_version BIGINT NOT NULL,\n  \
         sweeps BIGINT NOT NULL,\n  PRIMARY KEY (id)\n){options}"
    ));
    statements.push(begin_sweeps(dialect, tables, "0"));
    statements
}

/// Makes the one row that says of which version the tables are, and counts sweeps from `first` on.
pub(super) fn begin_sweeps(dialect: Dialect, tables: &Tables, first: &str) -> String {
    let (insert, or_leave) = dialect.insert_or_leave();
    let meta = &tables.meta;
    format!(
        "{insert} INTO {meta} (id, schema_version, sweeps) VALUES (1, {VERSION}, {first}){or_leave}"
    )
}

impl Sql {
    /// Sees to it that the tables are there, and of this version.
    pub(super) async fn migrate(&self) -> Result<(), Failure> {
        if self.is_up_to_date().await? {
            return Ok(());
        }
        if self.migrate == Migrate::Check {
            let message = format!(
                "the tables of {0}_TABLE are not there: make them by what larder::sql::schema says, or set \
                 {0}_MIGRATE=apply",
                self.dialect.settings()
            );
            return Err(Error::new(ErrorKind::Settings, message).into());
        }
        let made = statements(self.dialect, self.tables());
        let mut all: Vec<Statement> = self.lock().into_iter().collect();
        all.extend(made.iter().map(|text| making(text)));
        all.extend(self.unlock());
        self.engine.run(&all).await?;
        match self.is_up_to_date().await? {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Backend, "the tables could not be made").into()),
        }
    }

    /// Whether the tables are there.
    async fn is_up_to_date(&self) -> Result<bool, Failure> {
        let text = format!(
            "SELECT schema_version FROM {} WHERE id = 1",
            self.tables().meta
        );
        let ask = Statement::read(text.into(), Vec::new(), &[Column::Int]).unusual();
        let version = match self.engine.run(&[ask]).await {
            Ok(outcomes) => {
                let row = outcomes.first().and_then(|outcome| outcome.rows.first());
                row.and_then(|row| row.int(0))
            }
            Err(failure) if failure.cause == Cause::NoTable => None,
            Err(failure) => return Err(failure),
        };
        match version {
            None => Ok(false),
            Some(VERSION) => Ok(true),
            Some(other) => {
                let message = format!(
                    "the tables of {}_TABLE are of version {other}, and this version of larder knows {VERSION}: \
                     give it tables of its own, or remove these",
                    self.dialect.settings()
                );
                Err(Error::new(ErrorKind::Settings, message).into())
            }
        }
    }

    /// Waits for others that make the same tables. SQLite needs nothing: a transaction has the file to itself.
    fn lock(&self) -> Option<Statement> {
        let text = match self.dialect {
            Dialect::Sqlite => return None,
            Dialect::Postgres => "SELECT pg_advisory_xact_lock(?)",
            Dialect::MySql => "DO GET_LOCK(CONCAT('larder ', ?), 10)",
        };
        let name = self.lock_name();
        Some(locking(self.dialect, text, name))
    }

    fn unlock(&self) -> Option<Statement> {
        let text = "DO RELEASE_LOCK(CONCAT('larder ', ?))";
        // PostgreSQL's lock ends with the transaction.
        (self.dialect == Dialect::MySql).then(|| locking(self.dialect, text, self.lock_name()))
    }

    /// The same for every process that has these tables.
    fn lock_name(&self) -> i64 {
        let name = format!("larder tables {}", self.tables().name);
        let hash = blake3::hash(name.as_bytes());
        let first = hash.as_bytes().first_chunk().copied().unwrap_or_default();
        i64::from_be_bytes(first)
    }
}

fn locking(dialect: Dialect, text: &str, name: i64) -> Statement {
    let text = dialect.placed(text).into();
    Statement::write(text, vec![Argument::Int(name)])
        .unusual()
        .repeatable()
}

fn making(text: &str) -> Statement {
    Statement::write(text.into(), Vec::new())
        .unusual()
        .repeatable()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schema_is_the_same_in_every_dialect_but_for_its_words() {
        for dialect in [Dialect::Sqlite, Dialect::Postgres, Dialect::MySql] {
            let text = schema(dialect, "shop_cache").unwrap();
            for part in ["shop_cache", "shop_cache_namespaces", "shop_cache_meta"] {
                let head = format!("CREATE TABLE IF NOT EXISTS {} (", dialect.quoted(part));
                assert!(text.contains(&head), "{text}");
            }
            assert!(text.contains("expires_at"), "{text}");
            assert!(schema(dialect, "Shop").is_err());
        }
    }
}
