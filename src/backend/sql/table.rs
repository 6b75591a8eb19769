//! The names of the tables.

use super::Dialect;
use crate::{Error, ErrorKind, Result};

/// What is added to the name of the first table, at most.
const SUFFIX_LEN: usize = "_namespaces".len();

/// The tables of one cache, in quotes.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    /// The name as it was given.
    pub(super) name: String,
    pub(super) entries: String,
    pub(super) namespaces: String,
    pub(super) meta: String,
    /// The index of when entries end.
    pub(super) by_end: String,
    /// The index of the generations of namespaces.
    pub(super) by_generation: String,
}

impl Tables {
    /// The tables of this name, which is of small letters, digits and underscores, so that no database takes it for
    /// another one.
    pub(super) fn new(dialect: Dialect, name: &str) -> Result<Self> {
        let most = dialect.name_len() - SUFFIX_LEN;
        let wrong = |what: &str| {
            let message = format!("{}_TABLE {what}", dialect.settings());
            Err(Error::new(ErrorKind::Settings, message).on(dialect.name(), "connect"))
        };
        let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
        let is_name = |byte: u8| is_letter(byte) || byte.is_ascii_digit();
        if !name.bytes().next().is_some_and(is_letter) || !name.bytes().all(is_name) {
            return wrong(
                "must be of small letters, digits and underscores, and not begin with a digit",
            );
        }
        if name.len() > most {
            let len = name.len();
            return wrong(&format!(
                "has {len} letters, and at most {most} are allowed, because other names begin with it"
            ));
        }
        if dialect == Dialect::Sqlite && name.starts_with("sqlite_") {
            return wrong("must not begin with sqlite_, which SQLite keeps for itself");
        }
        let quoted = |suffix: &str| dialect.quoted(&format!("{name}{suffix}"));
        Ok(Self {
            name: name.to_owned(),
            entries: quoted(""),
            namespaces: quoted("_namespaces"),
            meta: quoted("_meta"),
            by_end: quoted("_by_end"),
            by_generation: quoted("_by_gen"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Dialect; 3] = [Dialect::Sqlite, Dialect::Postgres, Dialect::MySql];

    #[test]
    fn every_derived_name_fits_the_database() {
        for dialect in ALL {
            let longest = "a".repeat(dialect.name_len() - SUFFIX_LEN);
            let tables = Tables::new(dialect, &longest).unwrap();
            for name in [
                &tables.entries,
                &tables.namespaces,
                &tables.meta,
                &tables.by_end,
                &tables.by_generation,
            ] {
                assert!(name.len() - 2 <= dialect.name_len(), "{name}");
            }
            let error = Tables::new(dialect, &(longest + "a")).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Settings);
            assert!(error.to_string().contains("_TABLE has"), "{error}");
        }
    }

    #[test]
    fn a_name_that_could_be_something_else_is_refused() {
        for dialect in ALL {
            for name in [
                "",
                "1a",
                "a-b",
                "A",
                "a b",
                "a\"b",
                "a`b",
                "a.b",
                "é",
                "a;drop table b",
            ] {
                assert!(Tables::new(dialect, name).is_err(), "{name}");
            }
        }
        assert!(Tables::new(Dialect::Sqlite, "sqlite_a").is_err());
    }
}
