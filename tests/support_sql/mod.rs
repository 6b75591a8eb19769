//! What every backend in a SQL database does beside the suite, tried on each by the file of its own.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

#[cfg(unix)]
pub(crate) mod servers;

use std::{future::Future, time::Duration};

use bytes::Bytes;
use larder::{
    Backend, Cache, CodecId, Entry, ErrorKind, Key, Migrate, PutMode, Result, Timestamp,
    sql::{self, Dialect},
    testing,
};
use tokio::{task::JoinSet, time::sleep};

/// A database of one kind, which several clients use.
pub(crate) trait Database: Sized {
    type Backend: Backend + Clone;

    const DIALECT: Dialect;

    /// One without a sweeper, unless the setup has one.
    fn connect(&self, setup: &Setup) -> impl Future<Output = Result<Self::Backend>> + Send;

    /// Carries out a statement, past larder, and gives the first number of its answer.
    fn sql(&self, statement: &str) -> impl Future<Output = Option<i64>>;
}

#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) table: String,
    pub(crate) migrate: Migrate,
    pub(crate) sweep: Option<Duration>,
}

impl Setup {
    /// Tables that no other test has.
    pub(crate) fn of(table: &str) -> Self {
        Self {
            table: table.to_owned(),
            migrate: Migrate::Apply,
            sweep: None,
        }
    }
}

/// The whole suite, of which nothing is left out that the database could do.
pub(crate) async fn passes<B: Backend>(backend: &str, mode: &str, start: impl AsyncFn() -> B) {
    let report = testing::examine(|| async { start().await }).await;
    crate::support_servers::matrix::judge(backend, mode, &report);
    for (name, missing) in report.skipped() {
        let expected =
            missing.contains("false") || missing.contains("MiB") || missing == "field_expiry";
        assert!(expected, "{name} was left out for {missing}");
    }
}

/// A test of each of these behaviours on what `$start` gives: a database, or nothing where there is none.
macro_rules! on_database {
    ($start:expr) => {
        support_sql::on_database!($start =>
            what_has_ended_is_removed_and_counted
            a_sweep_ends_the_leases_that_it_takes_the_traces_of
            sweeps_and_loads_race_without_a_stale_entry
            the_sweeper_works_by_itself_and_ends_with_the_backend
            clients_that_begin_at_one_moment_agree
            tables_are_made_by_hand_where_nobody_else_may
            tables_of_a_later_version_are_left_alone
            tables_that_were_emptied_or_dropped_are_an_empty_cache
            tables_of_two_names_do_not_meet
            a_damaged_row_is_absent_among_others
            a_clearing_that_the_database_lost_still_holds
            batches_that_meet_wait_for_each_other
            long_keys_have_their_prefixes
            binary_keys_and_large_values_are_kept
            dropped_futures_leave_the_connections_usable
            dropped_futures_leave_no_answer_to_others
            counts_and_first_puts_are_exact_among_clients
        );
    };
    ($start:expr => $($behaviour:ident)+) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $behaviour() {
            if let Some(database) = $start.await {
                support_sql::$behaviour(&database).await;
            }
        })+
    };
}

pub(crate) use on_database;

pub(crate) fn key(name: impl AsRef<[u8]>) -> Key {
    Key::new("shop", None, name)
}

pub(crate) fn entry(payload: impl Into<Bytes>) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, payload, now).with_ttl(Some(Duration::from_secs(600)), now)
}

/// An entry that has ended before anybody asks for it again.
fn brief(payload: &'static str) -> Entry {
    let now = Timestamp::now();
    entry(payload).with_ttl(Some(Duration::from_millis(1)), now)
}

pub(crate) async fn put(backend: &impl Backend, name: &str, entry: Entry, mode: PutMode) -> bool {
    backend.put(&key(name), entry, mode).await.unwrap()
}

pub(crate) async fn keep(backend: &impl Backend, name: &str, payload: &'static str) {
    assert!(put(backend, name, entry(payload), PutMode::Always).await);
}

pub(crate) async fn read(backend: &impl Backend, name: &str) -> Option<String> {
    let entry = backend.get(&key(name)).await.unwrap()?;
    Some(String::from_utf8(entry.payload().to_vec()).unwrap())
}

async fn lease(backend: &impl Backend, name: &str) -> PutMode {
    PutMode::IfUnchanged(backend.get_leased(&key(name)).await.unwrap().lease)
}

async fn rows(database: &impl Database, table: &str) -> i64 {
    let statement = format!("SELECT COUNT(*) FROM {table}");
    database.sql(&statement).await.unwrap()
}

pub(crate) async fn what_has_ended_is_removed_and_counted(database: &impl Database) {
    let backend = database.connect(&Setup::of("counted")).await.unwrap();
    let other = Key::new("other", None, "kept");
    backend
        .put(&other, entry("value"), PutMode::Always)
        .await
        .unwrap();
    for name in [
        "cleared",
        "cleared too",
        "cleared as well",
        "cleared at last",
    ] {
        keep(&backend, name, "value").await;
    }
    backend.clear("shop").await.unwrap();
    for name in ["ended", "ended too"] {
        assert!(put(&backend, name, brief("value"), PutMode::Always).await);
    }
    for name in ["deleted", "deleted too", "deleted as well"] {
        assert!(!backend.delete(&key(name)).await.unwrap());
    }
    keep(&backend, "kept", "value").await;
    sleep(Duration::from_millis(20)).await;
    assert_eq!(rows(database, "counted").await, 11);
    assert_eq!(backend.remove_expired(4).await.unwrap(), 4);
    assert_eq!(rows(database, "counted").await, 7);
    assert_eq!(backend.remove_expired(100).await.unwrap(), 5);
    assert_eq!(backend.remove_expired(100).await.unwrap(), 0);
    assert_eq!(rows(database, "counted").await, 2);
    assert_eq!(read(&backend, "kept").await.as_deref(), Some("value"));
    assert!(backend.contains(&other).await.unwrap());
}

/// The row that a deletion left is gone again, so nothing is under the key as it was when the load began.
pub(crate) async fn a_sweep_ends_the_leases_that_it_takes_the_traces_of(database: &impl Database) {
    let backend = database.connect(&Setup::of("traces")).await.unwrap();
    let sweeper = database.connect(&Setup::of("traces")).await.unwrap();
    for what in [
        "deleted",
        "put for a moment",
        "deleted by its prefix",
        "put and deleted",
    ] {
        let lease = lease(&backend, what).await;
        match what {
            "deleted" => assert!(!sweeper.delete(&key(what)).await.unwrap()),
            "put for a moment" => {
                assert!(put(&sweeper, what, brief("new"), PutMode::Always).await);
            }
            "deleted by its prefix" => {
                sweeper.delete_prefix(&key("deleted by")).await.unwrap();
            }
            _ => {
                keep(&sweeper, what, "new").await;
                assert!(sweeper.delete(&key(what)).await.unwrap());
            }
        }
        sleep(Duration::from_millis(20)).await;
        while sweeper.remove_expired(100).await.unwrap() > 0 {}
        assert_eq!(rows(database, "traces").await, 0, "{what}");
        assert!(!put(&backend, what, entry("loaded"), lease).await, "{what}");
        assert_eq!(read(&backend, what).await, None, "{what}");
    }
    let lease = lease(&backend, "undisturbed").await;
    assert!(put(&backend, "undisturbed", entry("loaded"), lease).await);
}

/// Loads of many keys race a sweep that takes every trace at once: what was deleted after a load began stays gone.
pub(crate) async fn sweeps_and_loads_race_without_a_stale_entry(database: &impl Database) {
    let backend = database.connect(&Setup::of("raced")).await.unwrap();
    let sweeper = database.connect(&Setup::of("raced")).await.unwrap();
    for round in 0..60 {
        let name = format!("key {round}");
        let lease = lease(&backend, &name).await;
        let (deleted, swept) = (sweeper.clone(), sweeper.clone());
        let (deleted_key, loaded_key) = (key(&name), key(&name));
        assert!(!deleted.delete(&deleted_key).await.unwrap());
        let loader = backend.clone();
        let loads = tokio::spawn(async move {
            loader
                .put(&loaded_key, entry("loaded"), lease)
                .await
                .unwrap()
        });
        let sweeps = tokio::spawn(async move { swept.remove_expired(100).await.unwrap() });
        assert!(!loads.await.unwrap(), "in round {round}");
        sweeps.await.unwrap();
        assert_eq!(read(&backend, &name).await, None, "in round {round}");
    }
}

pub(crate) async fn the_sweeper_works_by_itself_and_ends_with_the_backend(
    database: &impl Database,
) {
    let setup = Setup::of("swept");
    let quiet = database.connect(&setup).await.unwrap();
    let sweeping = Setup {
        sweep: Some(Duration::from_millis(30)),
        ..setup.clone()
    };
    for closes in [true, false] {
        let backend = database.connect(&sweeping).await.unwrap();
        quiet.delete(&key("deleted")).await.unwrap();
        keep(&quiet, "kept", "value").await;
        let patience = tokio::time::timeout(Duration::from_secs(10), async {
            while rows(database, "swept").await > 1 {
                sleep(Duration::from_millis(10)).await;
            }
        });
        patience.await.expect("nothing is swept");
        if closes {
            backend.close().await.unwrap();
        }
        drop(backend);
        // A sweep that was under way may go on to its end.
        sleep(Duration::from_millis(100)).await;
        quiet.delete(&key("deleted again")).await.unwrap();
        sleep(Duration::from_millis(300)).await;
        assert_eq!(rows(database, "swept").await, 2, "closed: {closes}");
        quiet.remove_expired(100).await.unwrap();
    }
}

pub(crate) async fn clients_that_begin_at_one_moment_agree(database: &impl Database) {
    for round in 0..3 {
        let setup = Setup::of(&format!("begun_{round}"));
        let clients = (0..6).map(|_| database.connect(&setup));
        let clients = futures_util::future::join_all(clients).await;
        let clients: Vec<_> = clients.into_iter().map(|client| client.unwrap()).collect();
        let puts = clients
            .iter()
            .enumerate()
            .map(|(number, client)| async move {
                keep(client, &number.to_string(), "value").await;
            });
        futures_util::future::join_all(puts).await;
        for client in &clients {
            for number in 0..clients.len() {
                assert!(
                    client.contains(&key(number.to_string())).await.unwrap(),
                    "{number}"
                );
            }
            client.close().await.unwrap();
        }
    }
}

pub(crate) async fn tables_are_made_by_hand_where_nobody_else_may<D: Database>(database: &D) {
    let setup = Setup {
        migrate: Migrate::Check,
        ..Setup::of("by_hand")
    };
    let Err(error) = database.connect(&setup).await else {
        panic!("there are no tables");
    };
    assert_eq!(error.kind(), ErrorKind::Settings);
    assert!(error.to_string().contains("_MIGRATE=apply"), "{error}");
    let schema = sql::schema(D::DIALECT, "by_hand").unwrap();
    for _ in 0..2 {
        for statement in schema.split(';').filter(|it| !it.trim().is_empty()) {
            database.sql(statement).await;
        }
    }
    let backend = database.connect(&setup).await.unwrap();
    keep(&backend, "key", "value").await;
    assert_eq!(read(&backend, "key").await.as_deref(), Some("value"));
}

pub(crate) async fn tables_of_a_later_version_are_left_alone(database: &impl Database) {
    let setup = Setup::of("later");
    database.connect(&setup).await.unwrap();
    database
        .sql("UPDATE later_meta SET schema_version = 99")
        .await;
    let Err(error) = database.connect(&setup).await else {
        panic!("the tables are not of this version");
    };
    assert_eq!(error.kind(), ErrorKind::Settings);
    assert!(error.to_string().contains("version 99"), "{error}");
}

pub(crate) async fn tables_that_were_emptied_or_dropped_are_an_empty_cache(
    database: &impl Database,
) {
    let backend = database.connect(&Setup::of("gone")).await.unwrap();
    let tables = ["gone", "gone_namespaces", "gone_meta"];
    for statements in [
        vec!["DELETE FROM gone_namespaces".to_owned()],
        vec!["DELETE FROM gone_meta".to_owned()],
        tables.map(|table| format!("DELETE FROM {table}")).to_vec(),
        tables.map(|table| format!("DROP TABLE {table}")).to_vec(),
    ] {
        keep(&backend, "key", "old").await;
        let lease = lease(&backend, "absent").await;
        for statement in &statements {
            database.sql(statement).await;
        }
        if !statements[0].contains("gone_meta") {
            // The first to write after it, several rows at once.
            let many = ["three", "four"].map(|name| (key(name), entry(name), PutMode::Always));
            backend.put_many(many.to_vec()).await.unwrap();
            let found = backend.get_many(&["three", "four"].map(key)).await.unwrap();
            assert!(found.iter().all(Option::is_some), "{statements:?}");
        }
        let loaded = put(&backend, "absent", entry("loaded"), lease).await;
        assert!(!loaded, "{statements:?}");
        let found = read(&backend, "key").await;
        assert!(
            found.is_none() || statements[0].contains("meta"),
            "{statements:?}"
        );
        assert_eq!(backend.increment(&key("n"), 2, None).await.unwrap(), 2);
        keep(&backend, "key", "new").await;
        assert_eq!(read(&backend, "key").await.as_deref(), Some("new"));
        assert!(backend.delete(&key("n")).await.unwrap());
        let many = ["one", "two"].map(|name| (key(name), entry(name), PutMode::Always));
        backend.put_many(many.to_vec()).await.unwrap();
        let found = backend.get_many(&["one", "two"].map(key)).await.unwrap();
        assert!(found.iter().all(Option::is_some), "{statements:?}");
        backend.ping().await.unwrap();
    }
}

pub(crate) async fn tables_of_two_names_do_not_meet(database: &impl Database) {
    let one = database.connect(&Setup::of("one")).await.unwrap();
    let other = database.connect(&Setup::of("other")).await.unwrap();
    keep(&one, "key", "one").await;
    assert_eq!(read(&other, "key").await, None);
    other.clear("shop").await.unwrap();
    assert_eq!(read(&one, "key").await.as_deref(), Some("one"));
}

pub(crate) async fn a_damaged_row_is_absent_among_others<D: Database>(database: &D) {
    let backend = database.connect(&Setup::of("damaged")).await.unwrap();
    for name in ["first", "damaged", "last"] {
        keep(&backend, name, name).await;
    }
    let id = match D::DIALECT {
        Dialect::Postgres => "convert_to('shop:damaged', 'UTF8')",
        _ => "CAST('shop:damaged' AS BINARY)",
    };
    let id = if D::DIALECT == Dialect::Sqlite {
        "CAST('shop:damaged' AS BLOB)"
    } else {
        id
    };
    let damage = format!("UPDATE damaged SET value = {id} WHERE id = {id}");
    database.sql(&damage).await;
    let error = backend.get(&key("damaged")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    let found = backend
        .get_many(&["first", "damaged", "last"].map(key))
        .await
        .unwrap();
    let found: Vec<_> = found.iter().map(Option::is_some).collect();
    assert_eq!(found, [true, false, true]);

    let cache = Cache::builder(backend).namespace("shop").build();
    assert_eq!(cache.get::<String>("damaged").await.unwrap(), None);
    assert_eq!(cache.stats().damaged, 1);
}

/// As after a fail-over to a copy that lags behind.
pub(crate) async fn a_clearing_that_the_database_lost_still_holds(database: &impl Database) {
    let backend = database.connect(&Setup::of("back")).await.unwrap();
    keep(&backend, "key", "old").await;
    let before = database
        .sql("SELECT generation FROM back_namespaces")
        .await
        .unwrap();
    backend.clear("shop").await.unwrap();
    assert_eq!(read(&backend, "key").await, None);
    database
        .sql(&format!("UPDATE back_namespaces SET generation = {before}"))
        .await;
    assert_eq!(read(&backend, "key").await, None);
    keep(&backend, "key", "new").await;
    assert_eq!(read(&backend, "key").await.as_deref(), Some("new"));
}

/// Statements of many rows that meet each other, from either end.
pub(crate) async fn batches_that_meet_wait_for_each_other(database: &impl Database) {
    let mut tasks = JoinSet::new();
    for number in 0..6 {
        let backend = database.connect(&Setup::of("met")).await.unwrap();
        tasks.spawn(async move {
            let mut keys: Vec<_> = (0..40).map(|name| key(name.to_string())).collect();
            for round in 0..8 {
                let turn = keys.len() * (number + round) / 14;
                keys.rotate_left(turn);
                if number % 2 == 0 {
                    keys.reverse();
                }
                match (number + round) % 3 {
                    0 => {
                        backend.delete_many(&keys).await.unwrap();
                    }
                    1 => {
                        let mode = PutMode::Always;
                        let puts = keys.iter().map(|key| (key.clone(), entry("value"), mode));
                        backend.put_many(puts.collect()).await.unwrap();
                    }
                    _ => {
                        let leased = backend.get_leased_many(&keys).await.unwrap();
                        let puts = keys.iter().zip(leased);
                        let puts = puts.map(|(key, leased)| {
                            let mode = PutMode::IfUnchanged(leased.lease);
                            (key.clone(), entry("loaded"), mode)
                        });
                        backend.put_many(puts.collect()).await.unwrap();
                    }
                }
            }
        });
    }
    tasks.join_all().await;
}

pub(crate) async fn long_keys_have_their_prefixes(database: &impl Database) {
    let backend = database.connect(&Setup::of("long")).await.unwrap();
    let long = |start: &str| format!("{start}{}", "k".repeat(5_000));
    let names = [
        long("a/"),
        long("a/b"),
        "a/short".to_owned(),
        long("b/"),
        "b".to_owned(),
    ];
    for name in &names {
        keep(&backend, name, "value").await;
    }
    assert_eq!(backend.delete_prefix(&key("a/")).await.unwrap(), 3);
    for (name, is_there) in names.iter().zip([false, false, false, true, true]) {
        assert_eq!(
            backend.contains(&key(name)).await.unwrap(),
            is_there,
            "{:.9}",
            name
        );
    }
    let error = backend
        .delete_prefix(&key("p".repeat(1_000)))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

pub(crate) async fn binary_keys_and_large_values_are_kept(database: &impl Database) {
    let backend = database.connect(&Setup::of("large")).await.unwrap();
    let name: Vec<u8> = (0..=255).collect();
    let value: Vec<u8> = (0..=250).cycle().take(8 << 20).collect();
    for mode in [PutMode::Always, lease(&backend, "absent").await] {
        let key = match mode {
            PutMode::Always => key(&name),
            _ => key("absent"),
        };
        assert!(backend.put(&key, entry(value.clone()), mode).await.unwrap());
        let read = backend.get(&key).await.unwrap().unwrap();
        assert!(read.payload()[..] == value[..]);
    }
}

pub(crate) async fn dropped_futures_leave_the_connections_usable(database: &impl Database) {
    let backend = database.connect(&Setup::of("dropped")).await.unwrap();
    let keys: Vec<_> = (0..20).map(|number| key(number.to_string())).collect();
    for number in 0..200_u32 {
        let patience = Duration::from_micros(u64::from(number) * 10);
        let puts = keys
            .iter()
            .map(|key| (key.clone(), entry("dropped"), PutMode::IfAbsent));
        let puts = backend.put_many(puts.collect());
        let _ = tokio::time::timeout(patience, puts).await;
        let _ = tokio::time::timeout(patience, backend.get_many(&keys)).await;
        let _ = tokio::time::timeout(patience, backend.delete_many(&keys)).await;
        let count = backend.increment(&keys[0], 1, None);
        let _ = tokio::time::timeout(patience, count).await;
        let name = format!("whole {number}");
        keep(&backend, &name, "value").await;
        assert_eq!(read(&backend, &name).await.as_deref(), Some("value"));
    }
}

pub(crate) async fn the_largest_value_is_kept_and_a_larger_one_refused(database: &impl Database) {
    let backend = database.connect(&Setup::of("largest")).await.unwrap();
    let largest = backend.capabilities().max_value_len.unwrap();
    let value = Bytes::from(vec![0xA5; largest + 1]);
    let long = "k".repeat(5_000);
    for name in ["short", &long] {
        let exact = entry(value.slice(1..));
        assert!(put(&backend, name, exact, PutMode::Always).await);
        let found = backend.get(&key(name)).await.unwrap().unwrap();
        assert!(found.payload()[..] == value[1..]);
        // What cannot be replaced is not the truth any more.
        let larger = entry(value.clone());
        assert!(!put(&backend, name, larger, PutMode::Always).await);
        assert!(!backend.contains(&key(name)).await.unwrap());
        let lease = lease(&backend, name).await;
        assert!(put(&backend, name, entry(value.slice(1..)), lease).await);
    }
}

/// However many rows there are, and however long their keys.
pub(crate) async fn batches_are_as_long_as_the_database_takes(database: &impl Database) {
    let backend = database.connect(&Setup::of("batches")).await.unwrap();
    let namespace = "n".repeat(900);
    let keys: Vec<_> = (0..300)
        .map(|number| Key::new(&namespace, None, format!("{number}{}", "k".repeat(2_000))))
        .collect();
    for len in [10, 6_500, 70_000] {
        let value = Bytes::from(vec![7; len]);
        let mode = PutMode::Always;
        let puts = keys
            .iter()
            .map(|key| (key.clone(), entry(value.clone()), mode));
        let kept = backend.put_many(puts.collect()).await.unwrap();
        assert!(kept.iter().all(|kept| *kept), "{len}");
        let found = backend.get_many(&keys).await.unwrap();
        let all = found
            .iter()
            .all(|it| it.as_ref().unwrap().payload()[..] == value[..]);
        assert!(all, "{len}");
        let deleted = backend.delete_many(&keys).await.unwrap();
        assert!(deleted.iter().all(|deleted| *deleted), "{len}");
    }
}

/// Everybody finds what is under their own key, however many calls around them were given up.
pub(crate) async fn dropped_futures_leave_no_answer_to_others(database: &(impl Database + Sync)) {
    let backend = database.connect(&Setup::of("answers")).await.unwrap();
    let mut tasks = JoinSet::new();
    for task in 0..8_u64 {
        let backend = backend.clone();
        tasks.spawn(async move {
            let (mut known, mut unknown) = (0, 0);
            for round in 0..60 {
                let names: Vec<_> = (0..4)
                    .map(|n| format!("{task} {} {n}", round % 6))
                    .collect();
                let keys: Vec<_> = names.iter().map(key).collect();
                let patience = Duration::from_micros((task * 131 + round * 977) % 6_000);
                let puts = keys.iter().zip(&names);
                let puts =
                    puts.map(|(key, name)| (key.clone(), entry(name.clone()), PutMode::Always));
                let _ = tokio::time::timeout(patience, backend.put_many(puts.collect())).await;
                // Texts of many lengths are prepared, which is a round trip of its own.
                let len = 1 + (round as usize % 4);
                let _ = tokio::time::timeout(patience, backend.get_many(&keys[..len])).await;
                let found = backend.get_many(&keys).await.unwrap();
                for (name, found) in names.iter().zip(found) {
                    if let Some(found) = found {
                        assert_eq!(found.payload()[..], *name.as_bytes());
                    }
                }
                let counter = key(format!("counter {task}"));
                let lost = tokio::time::timeout(patience, backend.increment(&counter, 1, None));
                if lost.await.is_err() {
                    unknown += 1;
                } else {
                    known += 1;
                }
                let sum = backend.increment(&counter, 1, None).await.unwrap();
                known += 1;
                assert!(
                    (known..=known + unknown).contains(&sum),
                    "{known} {unknown} {sum}"
                );
            }
        });
    }
    tasks.join_all().await;
}

/// Several clients at once, each answer told to one of them only.
pub(crate) async fn counts_and_first_puts_are_exact_among_clients(database: &impl Database) {
    const CLIENTS: i64 = 4;
    const TIMES: i64 = 40;
    let mut tasks = JoinSet::new();
    for client in 0..CLIENTS {
        let backend = database.connect(&Setup::of("exact")).await.unwrap();
        tasks.spawn(async move {
            let (mut sums, mut first, mut swapped, mut deleted) = (Vec::new(), 0, 0, 0);
            for time in 0..TIMES {
                sums.push(backend.increment(&key("sum"), 1, None).await.unwrap());
                let name = format!("first {time}");
                let own = entry(client.to_string());
                first += i64::from(put(&backend, &name, own, PutMode::IfAbsent).await);
                let seen = backend.get(&key("swapped")).await.unwrap();
                let mode = match seen.as_ref().map(Entry::version) {
                    Some(version) => PutMode::IfVersion(version),
                    None => PutMode::IfAbsent,
                };
                let count = seen.map_or(0, |seen| {
                    std::str::from_utf8(seen.payload())
                        .unwrap()
                        .parse::<i64>()
                        .unwrap()
                });
                let more = entry((count + 1).to_string());
                swapped += i64::from(put(&backend, "swapped", more, mode).await);
                let lease = lease(&backend, &format!("leased {time}")).await;
                let own = entry(client.to_string());
                put(&backend, &format!("leased {time}"), own, lease).await;
                deleted += i64::from(backend.delete(&key(&name)).await.unwrap());
            }
            (sums, first, swapped, deleted)
        });
    }
    let all = tasks.join_all().await;
    let mut sums: Vec<_> = all.iter().flat_map(|(sums, ..)| sums.clone()).collect();
    sums.sort_unstable();
    assert_eq!(sums, (1..=CLIENTS * TIMES).collect::<Vec<_>>());
    let (puts, deletions) = all.iter().fold((0, 0), |(puts, deletions), it| {
        (puts + it.1, deletions + it.3)
    });
    // What was put first was deleted once, and could be put again then.
    assert_eq!(puts, deletions);
    let swapped: i64 = all.iter().map(|it| it.2).sum();
    let backend = database.connect(&Setup::of("exact")).await.unwrap();
    assert_eq!(
        read(&backend, "swapped").await.unwrap(),
        swapped.to_string()
    );
}
