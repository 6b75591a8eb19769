//! Holds `docs/backends.md` to what the backends declare. None of them needs its server for that.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

use std::{collections::BTreeMap, fs, path::Path};

use larder::{
    Aerospike, Backend, Capabilities, DynamoDb, Memcached, Memory, MongoDb, MySql, Null, Postgres,
    Redis, Sqlite,
};

/// Nobody listens there.
const NOWHERE: &str = "127.0.0.1:1";

async fn declared(folder: &Path) -> BTreeMap<&'static str, Capabilities> {
    let mongodb = MongoDb::builder(format!("mongodb://{NOWHERE}/?directConnection=true"));
    let dynamodb = DynamoDb::builder("larder")
        .endpoint(format!("http://{NOWHERE}"))
        .region("eu-central-1")
        .credentials("nobody", "nothing");
    let backends: [Box<dyn Backend>; 10] = [
        Box::new(Null),
        Box::new(Memory::new()),
        Box::new(
            Redis::builder(format!("redis://{NOWHERE}"))
                .connect_lazily()
                .unwrap(),
        ),
        Box::new(Aerospike::builder(NOWHERE).connect_lazily().await.unwrap()),
        Box::new(Memcached::builder(NOWHERE).connect_lazily().unwrap()),
        Box::new(mongodb.connect_lazily().await.unwrap()),
        Box::new(dynamodb.connect_lazily().await.unwrap()),
        Box::new(
            Sqlite::builder(folder.join("cache.db"))
                .connect_lazily()
                .unwrap(),
        ),
        Box::new(
            Postgres::builder(format!("postgres://{NOWHERE}/shop"))
                .connect_lazily()
                .unwrap(),
        ),
        Box::new(
            MySql::builder(format!("mysql://{NOWHERE}/shop"))
                .connect_lazily()
                .unwrap(),
        ),
    ];
    let named = backends
        .iter()
        .map(|backend| (backend.name(), backend.capabilities()));
    named.collect()
}

/// The fields of [`Capabilities`], as the page writes them.
fn cells(can: &Capabilities) -> BTreeMap<&'static str, String> {
    let Capabilities {
        stores,
        counters,
        if_absent,
        versions,
        leases,
        touch,
        clear,
        delete_prefix,
        field_expiry,
        remove_expired,
        shared,
        persistent,
        ttl_resolution,
        ..
    } = *can;
    let flags = [
        ("stores", stores),
        ("counters", counters),
        ("if_absent", if_absent),
        ("versions", versions),
        ("leases", leases),
        ("touch", touch),
        ("clear", clear),
        ("delete_prefix", delete_prefix),
        ("field_expiry", field_expiry),
        ("remove_expired", remove_expired),
        ("shared", shared),
        ("persistent", persistent),
    ];
    let flags = flags.map(|(name, can)| (name, if can { "yes" } else { "no" }.to_owned()));
    let resolution = match ttl_resolution {
        whole if whole.subsec_millis() == 0 => format!("{} s", whole.as_secs()),
        part => format!("{} ms", part.as_millis()),
    };
    flags
        .into_iter()
        .chain([("ttl_resolution", resolution)])
        .collect()
}

/// The first table of the page: what it says, by row and column.
fn table(page: &str) -> BTreeMap<(String, String), String> {
    let mut rows = page
        .lines()
        .skip_while(|line| !line.starts_with('|'))
        .take_while(|line| line.starts_with('|'))
        .filter(|line| !line.starts_with("|---"))
        .map(|line| {
            let cells = line.trim_matches('|').split('|');
            cells
                .map(|cell| cell.trim().trim_matches('`').to_owned())
                .collect::<Vec<_>>()
        });
    let names = rows.next().unwrap();
    let mut table = BTreeMap::new();
    for row in rows {
        assert_eq!(row.len(), names.len(), "{row:?}");
        for (name, cell) in names.iter().zip(&row).skip(1) {
            table.insert((row[0].clone(), name.clone()), cell.clone());
        }
    }
    table
}

#[tokio::test]
async fn the_page_says_what_the_backends_declare() {
    let folder = tempfile::tempdir().unwrap();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/backends.md");
    let said = table(&fs::read_to_string(page).unwrap());
    let mut expected = BTreeMap::new();
    for (name, can) in declared(folder.path()).await {
        for (field, cell) in cells(&can) {
            // Servers differ, and none was asked yet.
            let cell = match (name, field) {
                ("redis", "field_expiry") => String::from("found out"),
                _ => cell,
            };
            expected.insert((field.to_owned(), name.to_owned()), cell);
        }
    }
    assert_eq!(said, expected);
}
