//! The texts of the statements.

use std::sync::Arc;

use super::{
    Dialect,
    dialect::Change,
    driver::Column::{self, Bytes, Int},
    schema,
    table::Tables,
};

/// What a read answers with: generation, sweeps, id, kind, version, end, number and value.
pub(super) const READ: &[Column] = &[Int, Int, Bytes, Int, Int, Int, Int, Bytes];

/// What an upsert answers with: id, version and number.
pub(super) const WRITTEN: &[Column] = &[Bytes, Int, Int];

/// What an upsert does where a row is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Upsert {
    Always,
    IfAbsent,
    Delete,
    Increment,
}

impl Upsert {
    /// The row as it is inserted, after its generation: id, kind, version, end, number and value.
    const fn row(self) -> &'static str {
        match self {
            Self::Always | Self::IfAbsent => "?, 1, ?, ?, 0, ?",
            Self::Delete => "?, 0, ?, 0, 0, NULL",
            Self::Increment => "?, 2, ?, ?, ?, NULL",
        }
    }

    const fn change(self) -> Change {
        match self {
            Self::Always | Self::IfAbsent => Change {
                columns: &[
                    ("version", "new.version"),
                    ("kind", "new.kind"),
                    ("expires_at", "new.expires_at"),
                    ("number", "new.number"),
                    ("value", "new.value"),
                ],
                condition: match self {
                    Self::IfAbsent => Some("old.expires_at <= ?"),
                    _ => None,
                },
            },
            // The number says whether something live was there.
            Self::Delete => Change {
                columns: &[
                    ("number", "CASE WHEN old.expires_at > ? THEN 1 ELSE 0 END"),
                    ("version", "new.version"),
                    ("kind", "new.kind"),
                    ("expires_at", "new.expires_at"),
                    ("value", "new.value"),
                ],
                condition: None,
            },
            // What there is no room for is left as it is.
            Self::Increment => Change {
                columns: &[
                    ("version", "new.version"),
                    (
                        "number",
                        "CASE WHEN old.expires_at > ? THEN old.number + new.number ELSE new.number END",
                    ),
                    (
                        "expires_at",
                        "CASE WHEN old.expires_at > ? THEN old.expires_at ELSE new.expires_at END",
                    ),
                    ("kind", "new.kind"),
                    ("value", "new.value"),
                ],
                condition: Some(
                    "old.expires_at <= ? OR (old.kind = 2 AND old.number BETWEEN ? AND ?)",
                ),
            },
        }
    }
}

/// The texts for the tables of one cache.
pub(super) struct Statements {
    dialect: Dialect,
    pub(super) tables: Tables,
    /// Of the most usual of them, so that they are not put together for every call.
    read_one: Arc<str>,
    put_one: Arc<str>,
    pub(super) swap: Arc<str>,
    pub(super) fill: Arc<str>,
}

/// The generation that the namespace has at this moment.
fn generation(tables: &Tables) -> String {
    format!(
        "(SELECT n.generation FROM {} n WHERE n.namespace = ?)",
        tables.namespaces
    )
}

impl Statements {
    pub(super) fn new(dialect: Dialect, tables: Tables) -> Self {
        let placed = |text: String| dialect.placed(&text).into();
        let Tables {
            entries,
            namespaces,
            meta,
            ..
        } = &tables;
        let current = generation(&tables);
        let (insert, or_leave) = dialect.insert_or_leave();
        let locked = dialect.locked("m");
        let swap = format!(
            "UPDATE {entries} SET kind = 1, version = ?, expires_at = ?, number = 0, value = ? \
             WHERE generation = ? AND id = ? AND version = ? AND generation = {current}"
        );
        let fill = format!(
            "{insert} INTO {entries} (generation, id, kind, version, expires_at, number, value) \
             SELECT n.generation, ?, 1, ?, ?, 0, ? FROM {namespaces} n CROSS JOIN {meta} m \
             WHERE n.namespace = ? AND n.generation = ? AND m.id = 1 AND m.sweeps = ?{locked}{or_leave}"
        );
        Self {
            read_one: placed(read(&tables, 1)),
            put_one: placed(upsert(dialect, &tables, Upsert::Always, 1)),
            swap: placed(swap),
            fill: placed(fill),
            dialect,
            tables,
        }
    }

    fn text(&self, text: String) -> Arc<str> {
        self.dialect.placed(&text).into()
    }

    /// What is under so many ids of a namespace: a threshold for the ends of values, the ids, the namespace.
    pub(super) fn read(&self, ids: usize) -> Arc<str> {
        match ids {
            1 => self.read_one.clone(),
            ids => self.text(read(&self.tables, ids)),
        }
    }

    /// Rows of a namespace: for each the namespace, and what [`Upsert::row`] has places for; then what its changes and
    /// their condition have places for.
    pub(super) fn upsert(&self, upsert_by: Upsert, rows: usize) -> Arc<str> {
        match (upsert_by, rows) {
            (Upsert::Always, 1) => self.put_one.clone(),
            _ => self.text(upsert(self.dialect, &self.tables, upsert_by, rows)),
        }
    }

    /// What an upsert left under so many ids of a namespace, where it cannot say so itself.
    pub(super) fn written(&self, ids: usize) -> Arc<str> {
        let (entries, current) = (&self.tables.entries, generation(&self.tables));
        let ids = places(ids);
        self.text(format!(
            "SELECT id, version, number FROM {entries} WHERE generation = {current} AND id IN ({ids})"
        ))
    }

    /// Replaces the live entry of a version.
    pub(super) fn replace(&self) -> Arc<str> {
        self.update("kind = 1, version = ?, expires_at = ?, number = 0, value = ?")
    }

    /// Deletes the live entry of a version.
    pub(super) fn delete_if(&self) -> Arc<str> {
        self.update("kind = 0, version = ?, expires_at = 0, number = 0, value = NULL")
    }

    fn update(&self, changes: &str) -> Arc<str> {
        let (entries, current) = (&self.tables.entries, generation(&self.tables));
        self.text(format!(
            "UPDATE {entries} SET {changes} WHERE generation = {current} AND id = ? AND version = ? AND expires_at > ?"
        ))
    }

    /// Moves the end of what is live.
    pub(super) fn touch(&self) -> Arc<str> {
        let (entries, current) = (&self.tables.entries, generation(&self.tables));
        self.text(format!(
            "UPDATE {entries} SET expires_at = ? WHERE generation = {current} AND id = ? AND expires_at > ?"
        ))
    }

    /// Gives a namespace its first generation, unless it has one.
    pub(super) fn begin(&self) -> Arc<str> {
        let (insert, or_leave) = self.dialect.insert_or_leave();
        let namespaces = &self.tables.namespaces;
        self.text(format!(
            "{insert} INTO {namespaces} (namespace, generation) VALUES (?, ?){or_leave}"
        ))
    }

    /// The generation of a namespace.
    pub(super) fn generation(&self) -> Arc<str> {
        let namespaces = &self.tables.namespaces;
        self.text(format!(
            "SELECT generation FROM {namespaces} WHERE namespace = ?"
        ))
    }

    /// Begins the count of sweeps, unless it has begun.
    pub(super) fn begin_sweeps(&self) -> Arc<str> {
        self.text(schema::begin_sweeps(self.dialect, &self.tables, "?"))
    }

    /// Gives a namespace another generation, whatever it has.
    pub(super) fn clear(&self) -> Arc<str> {
        let change = Change {
            columns: &[("generation", "new.generation")],
            condition: None,
        };
        let into = self.dialect.upsert_into(&self.tables.namespaces);
        let or_change = self.dialect.on_conflict("namespace", &change);
        self.text(format!(
            "{into} (namespace, generation) VALUES (?, ?){or_change}"
        ))
    }

    /// Gives a namespace another generation in place of this one.
    pub(super) fn renew(&self) -> Arc<str> {
        let namespaces = &self.tables.namespaces;
        self.text(format!(
            "UPDATE {namespaces} SET generation = ? WHERE namespace = ? AND generation = ?"
        ))
    }

    /// Deletes what is under ids of a range: the live ones, or the others.
    pub(super) fn delete_range(&self, live: bool) -> Arc<str> {
        let (entries, current) = (&self.tables.entries, generation(&self.tables));
        let which = if live { ">" } else { "<=" };
        self.text(format!(
            "UPDATE {entries} SET kind = 0, version = ?, expires_at = 0, number = 0, value = NULL \
             WHERE generation = {current} AND id >= ? AND id < ? AND expires_at {which} ?"
        ))
    }

    /// Ends every lease on an absent key.
    pub(super) fn count_sweep(&self) -> Arc<str> {
        let meta = &self.tables.meta;
        self.text(format!(
            "UPDATE {meta} SET sweeps = sweeps + 1 WHERE id = 1"
        ))
    }

    /// The earliest end, which is 0 for what was deleted.
    pub(super) fn first_end(&self) -> Arc<str> {
        self.text(format!(
            "SELECT MIN(expires_at) FROM {}",
            self.tables.entries
        ))
    }

    /// Removes rows that ended between two times, the limit last.
    pub(super) fn sweep(&self) -> Arc<str> {
        self.remove("expires_at BETWEEN ? AND ?")
    }

    /// The generation after another one that rows have, and whether a namespace has it.
    pub(super) fn next_generation(&self) -> Arc<str> {
        let (entries, namespaces) = (&self.tables.entries, &self.tables.namespaces);
        self.text(format!(
            "SELECT g.generation, n.generation FROM (SELECT MIN(generation) AS generation FROM {entries} \
             WHERE generation > ?) g LEFT JOIN {namespaces} n ON n.generation = g.generation"
        ))
    }

    /// Removes rows of a generation that no namespace has: the generation twice, and the limit.
    pub(super) fn remove_generation(&self) -> Arc<str> {
        let namespaces = &self.tables.namespaces;
        self.remove(&format!(
            "generation = ? AND NOT EXISTS (SELECT 1 FROM {namespaces} n WHERE n.generation = ?)"
        ))
    }

    fn remove(&self, condition: &str) -> Arc<str> {
        let entries = &self.tables.entries;
        self.text(match self.dialect {
            Dialect::Sqlite => format!(
                "DELETE FROM {entries} WHERE rowid IN (SELECT rowid FROM {entries} WHERE {condition} LIMIT ?)"
            ),
            // What somebody else is at can wait for the next time.
            Dialect::Postgres => format!(
                "DELETE FROM {entries} WHERE ctid = ANY (ARRAY (SELECT ctid FROM {entries} WHERE {condition} \
                 LIMIT ? FOR UPDATE SKIP LOCKED))"
            ),
            // Neither has such words for DELETE itself.
            Dialect::MySql => format!(
                "DELETE e FROM (SELECT generation, id FROM {entries} WHERE {condition} LIMIT ? FOR UPDATE SKIP LOCKED) d \
                 STRAIGHT_JOIN {entries} e ON e.generation = d.generation AND e.id = d.id"
            ),
        })
    }

    /// The smallest of questions that the tables have to be there for.
    pub(super) fn ping(&self) -> Arc<str> {
        self.text(format!(
            "SELECT sweeps FROM {} WHERE id = 1",
            self.tables.meta
        ))
    }
}

fn places(count: usize) -> String {
    let mut places = "?, ".repeat(count);
    places.truncate(places.len().saturating_sub(2));
    places
}

fn read(tables: &Tables, ids: usize) -> String {
    let Tables {
        entries,
        namespaces,
        meta,
        ..
    } = tables;
    let ids = places(ids);
    format!(
        "SELECT n.generation, m.sweeps, e.id, e.kind, e.version, e.expires_at, e.number, \
         CASE WHEN e.expires_at > ? THEN e.value END \
         FROM {namespaces} n CROSS JOIN {meta} m \
         LEFT JOIN {entries} e ON e.generation = n.generation AND e.id IN ({ids}) \
         WHERE n.namespace = ? AND m.id = 1"
    )
}

fn upsert(dialect: Dialect, tables: &Tables, upsert: Upsert, rows: usize) -> String {
    let into = dialect.upsert_into(&tables.entries);
    let row = format!("({}, {})", generation(tables), upsert.row());
    let rows = vec![row; rows].join(", ");
    let or_change = dialect.on_conflict("generation, id", &upsert.change());
    let returning = match upsert != Upsert::Always && dialect.has_returning() {
        true => " RETURNING id, version, number",
        false => "",
    };
    format!(
        "{into} (generation, id, kind, version, expires_at, number, value) VALUES {rows}{or_change}{returning}"
    )
}
