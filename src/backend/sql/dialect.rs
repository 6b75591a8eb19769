use std::fmt::Write;

/// A family of SQL databases, as far as larder speaks to them in different ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// SQLite.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    MySql,
}

/// What an upsert changes where a row is there: columns with expressions, in which `old.` stands for the row that is
/// there and `new.` for the one that would be inserted.
pub(super) struct Change {
    /// Assigned from left to right: MySQL sees what was assigned before.
    pub(super) columns: &'static [(&'static str, &'static str)],
    /// Under which condition the row is changed.
    pub(super) condition: Option<&'static str>,
}

impl Dialect {
    /// The name of the backend.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
            Self::MySql => "mysql",
        }
    }

    /// The prefix of the backend's settings.
    pub(super) const fn settings(self) -> &'static str {
        match self {
            Self::Sqlite => "CACHE_SQLITE",
            Self::Postgres => "CACHE_POSTGRES",
            Self::MySql => "CACHE_MYSQL",
        }
    }

    /// The setting that bounds connecting.
    pub(super) const fn connect_timeout(self) -> &'static str {
        match self {
            Self::Sqlite => "CACHE_SQLITE_BUSY_TIMEOUT",
            Self::Postgres => "CACHE_POSTGRES_CONNECT_TIMEOUT",
            Self::MySql => "CACHE_MYSQL_CONNECT_TIMEOUT",
        }
    }

    /// The most letters that the name of a table, or of an index, has.
    pub(super) const fn name_len(self) -> usize {
        match self {
            // Its names have no limit; this one keeps them readable.
            Self::Sqlite => 128,
            Self::Postgres => 63,
            Self::MySql => 64,
        }
    }

    /// Whether a statement that writes can answer with rows.
    pub(super) const fn has_returning(self) -> bool {
        // MariaDB can for INSERT, MySQL never.
        !matches!(self, Self::MySql)
    }

    /// A name of letters, digits and underscores, so that it is never taken for a word of the language.
    pub(super) fn quoted(self, name: &str) -> String {
        match self {
            Self::Sqlite | Self::Postgres => format!("\"{name}\""),
            Self::MySql => format!("`{name}`"),
        }
    }

    /// The type of a text of bytes of at most this length, that an index can hold.
    pub(super) fn short_bytes(self, most: usize) -> String {
        match self {
            Self::Sqlite => "BLOB".to_owned(),
            Self::Postgres => "BYTEA".to_owned(),
            Self::MySql => format!("VARBINARY({most})"),
        }
    }

    /// The type of a text of bytes of any length.
    pub(super) const fn bytes(self) -> &'static str {
        match self {
            Self::Sqlite => "BLOB",
            Self::Postgres => "BYTEA",
            Self::MySql => "LONGBLOB",
        }
    }

    /// What follows the columns of a table.
    pub(super) const fn table_options(self) -> &'static str {
        match self {
            Self::Sqlite | Self::Postgres => "",
            // The only engine with row locks that both have, in the format that indexes long keys.
            Self::MySql => " ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
        }
    }

    /// What comes after a `SELECT` so that whoever changes the row called `alias` is waited for.
    pub(super) fn locked(self, alias: &str) -> String {
        match self {
            // Whoever writes is alone.
            Self::Sqlite => String::new(),
            Self::Postgres => format!(" FOR SHARE OF {alias}"),
            // The only words for it that both know; all rows of the statement are locked by them.
            Self::MySql => " LOCK IN SHARE MODE".to_owned(),
        }
    }

    /// The beginning and the end of an `INSERT` that leaves what is there.
    pub(super) const fn insert_or_leave(self) -> (&'static str, &'static str) {
        match self {
            Self::Sqlite | Self::Postgres => ("INSERT", " ON CONFLICT DO NOTHING"),
            Self::MySql => ("INSERT IGNORE", ""),
        }
    }

    /// What begins an upsert.
    pub(super) fn upsert_into(self, table: &str) -> String {
        match self {
            Self::Sqlite | Self::Postgres => format!("INSERT INTO {table} AS t"),
            Self::MySql => format!("INSERT INTO {table}"),
        }
    }

    /// What ends an upsert whose key is `key`.
    pub(super) fn on_conflict(self, key: &str, change: &Change) -> String {
        let mut text = match self {
            Self::Sqlite | Self::Postgres => format!(" ON CONFLICT ({key}) DO UPDATE SET "),
            Self::MySql => " ON DUPLICATE KEY UPDATE ".to_owned(),
        };
        let mut parts = Vec::with_capacity(change.columns.len() + 1);
        let guarded = self == Self::MySql && change.condition.is_some();
        if let (true, Some(condition)) = (guarded, change.condition) {
            // There is no condition but in each expression. A version is nobody else's, so it tells for the columns
            // that follow whether the condition was met.
            let condition = self.expression(condition);
            parts.push(format!(
                "version = IF({condition}, VALUES(version), version)"
            ));
        }
        for (column, expression) in change.columns {
            let expression = self.expression(expression);
            parts.push(match guarded {
                true if *column == "version" => continue,
                true => format!("{column} = IF(version = VALUES(version), {expression}, {column})"),
                false => format!("{column} = {expression}"),
            });
        }
        text.push_str(&parts.join(", "));
        if let (false, Some(condition)) = (guarded, change.condition) {
            let _ = write!(text, " WHERE {}", self.expression(condition));
        }
        text
    }

    /// Arguments of [`on_conflict`](Self::on_conflict) in their order: those of the changes, and those of the condition.
    pub(super) fn in_order<T>(self, changes: Vec<T>, condition: Vec<T>) -> impl Iterator<Item = T> {
        let (first, second) = match self {
            Self::Sqlite | Self::Postgres => (changes, condition),
            Self::MySql => (condition, changes),
        };
        first.into_iter().chain(second)
    }

    fn expression(self, text: &str) -> String {
        if self != Self::MySql {
            return text.replace("new.", "excluded.").replace("old.", "t.");
        }
        let mut parts = text.split("new.");
        let mut expression = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            let end = part.find(|letter| !is_name(letter)).unwrap_or(part.len());
            let (column, rest) = part.split_at(end);
            let _ = write!(expression, "VALUES({column}){rest}");
        }
        expression.replace("old.", "")
    }

    /// The statement with its placeholders, written as `?`, in the form that the database takes.
    pub(super) fn placed(self, text: &str) -> String {
        if self != Self::Postgres {
            return text.to_owned();
        }
        let mut placed = String::with_capacity(text.len() + 32);
        for (number, part) in text.split('?').enumerate() {
            if number > 0 {
                let _ = write!(placed, "${number}");
            }
            placed.push_str(part);
        }
        placed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANGE: Change = Change {
        columns: &[
            ("number", "old.number + new.number"),
            ("version", "new.version"),
        ],
        condition: Some("old.expires_at <= ?"),
    };

    #[test]
    fn a_change_has_a_condition_in_every_dialect() {
        assert_eq!(
            Dialect::Sqlite.on_conflict("id", &CHANGE),
            " ON CONFLICT (id) DO UPDATE SET number = t.number + excluded.number, version = excluded.version \
             WHERE t.expires_at <= ?"
        );
        assert_eq!(
            Dialect::MySql.on_conflict("id", &CHANGE),
            " ON DUPLICATE KEY UPDATE version = IF(expires_at <= ?, VALUES(version), version), \
             number = IF(version = VALUES(version), number + VALUES(number), number)"
        );
    }

    #[test]
    fn postgres_counts_its_placeholders() {
        assert_eq!(Dialect::Postgres.placed("(?, ?)"), "($1, $2)");
        assert_eq!(Dialect::MySql.placed("(?, ?)"), "(?, ?)");
    }
}
