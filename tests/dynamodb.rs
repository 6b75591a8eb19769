//! The backend on a server that speaks as DynamoDB does: Dynoxide, whose program `LARDER_TEST_DYNOXIDE` names, or the one
//! that `LARDER_TEST_DYNAMODB_ENDPOINT` names. Each test has a table of its own.

#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_dynamodb;
mod support_servers;

use std::{
    slice,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use aws_sdk_dynamodb::{
    Client,
    primitives::Blob,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
        ScalarAttributeType,
    },
};
use futures_util::future::join_all;
use larder::{
    Backend, Cache, CodecId, DynamoDb, DynamoDbBuilder, Entry, Error, ErrorKind, Key, PutMode,
    Settings, Timestamp, testing,
};
use support_dynamodb::{Front, tls_before};
use support_servers::{Certificates, DynamoDb as Server, Link, Proxy, dynamodb_client, matrix};

type Item = std::collections::HashMap<String, AttributeValue>;

/// The server, a client of it that knows nothing of larder, and the name of a table that is not there yet.
struct Stage {
    endpoint: String,
    raw: Client,
    table: String,
    _server: Option<Server>,
}

impl Stage {
    fn find() -> Option<Self> {
        let (endpoint, server) = Server::find()?;
        Some(Self {
            raw: dynamodb_client(&endpoint),
            endpoint,
            table: format!("larder-{:016x}", random()),
            _server: server,
        })
    }

    fn builder(&self) -> DynamoDbBuilder {
        builder(&self.endpoint, &self.table)
    }

    async fn connect(&self) -> DynamoDb {
        self.builder().connect().await.unwrap()
    }

    /// The item whose key begins with the namespace's and ends with this.
    async fn stored(&self, name: &str) -> Option<Item> {
        let all = self.raw.scan().table_name(&self.table).send().await;
        let mut found = all.unwrap().items.unwrap().into_iter().filter(|item| {
            let key = item["k"].as_b().unwrap().as_ref();
            key.ends_with(format!(":{name}").as_bytes())
        });
        let item = found.next();
        assert!(found.next().is_none(), "two items have {name}");
        item
    }

    async fn change(&self, item: Item) {
        let put = self.raw.put_item().table_name(&self.table);
        put.set_item(Some(item)).send().await.unwrap();
    }

    async fn end(self) {
        let _ = self.raw.delete_table().table_name(&self.table).send().await;
    }
}

fn builder(endpoint: &str, table: &str) -> DynamoDbBuilder {
    DynamoDb::builder(table)
        .endpoint(endpoint)
        .credentials("test", "test")
        .create(true)
        // Under load, with other tests on the same machine.
        .timeout(Duration::from_secs(5))
}

fn random() -> u64 {
    use std::hash::BuildHasher;
    std::hash::RandomState::new().hash_one(Instant::now())
}

fn key(name: &str) -> Key {
    Key::new("shop", None, name)
}

fn entry(payload: impl Into<bytes::Bytes>, ttl: Option<Duration>) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, payload, now).with_ttl(ttl, now)
}

const MINUTES: Option<Duration> = Some(Duration::from_secs(600));
const DAYS: Option<Duration> = Some(Duration::from_secs(10 * 24 * 60 * 60));

/// Puts what has to be kept.
async fn keep(backend: &DynamoDb, key: &Key, entry: Entry) {
    let kept = backend.put(key, entry, PutMode::Always).await;
    assert!(kept.unwrap(), "an ordinary put was refused");
}

/// The error of something that must not work. The types are not all `Debug`.
fn error<T>(result: Result<T, Error>) -> Error {
    match result {
        Ok(_) => panic!("it worked"),
        Err(error) => error,
    }
}

fn number(item: &Item, name: &str) -> u64 {
    item[name].as_n().unwrap().parse().unwrap()
}

fn seconds() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap().as_secs()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_passes() {
    let Some(stage) = Stage::find() else { return };
    stage.connect().await.close().await.unwrap();
    // One after the other: entries that live for parts of a second are among them.
    let report = testing::examine(|| stage.connect()).await;
    matrix::judge("dynamodb", "local", &report);
    for (name, needs) in report.skipped() {
        let without = ["remove_expired", "delete_prefix", "field_expiry"];
        let fine = needs.contains("false") || without.contains(&needs);
        assert!(fine, "{name} was left out for {needs}");
    }
    assert!(report.passed().count() >= 100);
    stage.end().await;
}

// Connecting

#[tokio::test]
async fn what_cannot_be_right_is_said_before_anybody_is_asked() {
    let builder = || DynamoDb::builder("larder").endpoint("http://127.0.0.1:1");
    for (builder, message) in [
        (
            DynamoDb::builder("ab"),
            "CACHE_DYNAMODB_TABLE has to have 3 to 255 letters, and is \"ab\"",
        ),
        (
            DynamoDb::builder("a table"),
            "CACHE_DYNAMODB_TABLE may have letters of ASCII, digits, _, - and . alone, and is \"a table\"",
        ),
        (
            builder().endpoint("127.0.0.1:8000"),
            "CACHE_DYNAMODB_ENDPOINT is no URL with http:// or https:// and a host",
        ),
        (
            builder().endpoint("http://"),
            "CACHE_DYNAMODB_ENDPOINT is no URL with http:// or https:// and a host",
        ),
        (
            builder().endpoint("https://a host"),
            "CACHE_DYNAMODB_ENDPOINT is no URL with http:// or https:// and a host",
        ),
        (
            builder().endpoint("https://key:hidden@host"),
            "CACHE_DYNAMODB_ENDPOINT names a user; see CACHE_DYNAMODB_ACCESS_KEY_ID and \
             CACHE_DYNAMODB_SECRET_ACCESS_KEY",
        ),
        (
            builder().region("eu central 1"),
            "CACHE_DYNAMODB_REGION is no name of a region, such as eu-central-1",
        ),
        (
            builder().region(""),
            "CACHE_DYNAMODB_REGION is no name of a region, such as eu-central-1",
        ),
        (
            builder().credentials("key", "hidden\n"),
            "CACHE_DYNAMODB_SECRET_ACCESS_KEY is empty, or has a space or a line break in it, or what is not ASCII",
        ),
        (
            builder().credentials("", "hidden"),
            "CACHE_DYNAMODB_ACCESS_KEY_ID is empty, or has a space or a line break in it, or what is not ASCII",
        ),
        (
            builder().session_token("token"),
            "CACHE_DYNAMODB_SESSION_TOKEN is set, and CACHE_DYNAMODB_ACCESS_KEY_ID is not",
        ),
        (
            builder().timeout(Duration::ZERO),
            "CACHE_DYNAMODB_TIMEOUT is no time at all",
        ),
        (
            builder().connect_timeout(Duration::ZERO),
            "CACHE_DYNAMODB_CONNECT_TIMEOUT is no time at all",
        ),
        (
            builder().ca_file("no such file"),
            "CACHE_DYNAMODB_CA_FILE: no such file cannot be used",
        ),
        (
            builder().ca_file("Cargo.toml"),
            "CACHE_DYNAMODB_CA_FILE: Cargo.toml has no certificate in PEM form",
        ),
    ] {
        for error in [
            error(builder.clone().connect().await),
            error(builder.connect_lazily().await),
        ] {
            assert_eq!(error.to_string(), format!("dynamodb connect: {message}"));
            assert_eq!(error.kind(), ErrorKind::Settings);
        }
    }
}

#[test]
fn a_secret_is_not_shown() {
    let builder = DynamoDb::builder("larder")
        .endpoint("https://key:hidden@host")
        .credentials("key", "hidden")
        .session_token("hidden");
    assert!(!format!("{builder:?}").contains("hidden"));
}

#[tokio::test]
async fn a_service_that_refuses_the_connection_is_unavailable() {
    let refused = error(builder("http://127.0.0.1:1", "larder").connect().await);
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    assert!(!format!("{refused:?}").contains("hidden"));
}

#[tokio::test]
async fn a_table_is_made_with_its_time_to_live() {
    let Some(stage) = Stage::find() else { return };
    // Two at the same time, as two processes that start.
    let (one, two) = tokio::join!(stage.builder().connect(), stage.builder().connect());
    one.unwrap();
    two.unwrap();
    let raw = &stage.raw;
    let described = raw.describe_table().table_name(&stage.table).send().await;
    let table = described.unwrap().table.unwrap();
    let billing = table.billing_mode_summary().unwrap().billing_mode();
    assert_eq!(billing, Some(&BillingMode::PayPerRequest));
    let ttl = raw.describe_time_to_live().table_name(&stage.table);
    let ttl = ttl.send().await.unwrap().time_to_live_description.unwrap();
    assert_eq!(ttl.attribute_name(), Some("x"));
    // And once more where it is there.
    stage.connect().await;
    stage.end().await;
}

#[tokio::test]
async fn a_table_that_is_missing_is_an_error_that_says_how_to_get_one() {
    let Some(stage) = Stage::find() else { return };
    let missing = error(stage.builder().create(false).connect().await);
    assert_eq!(missing.kind(), ErrorKind::Settings);
    let message = missing.to_string();
    assert!(message.contains(&stage.table), "{message}");
    assert!(message.contains("CACHE_DYNAMODB_CREATE=true"), "{message}");

    let lazy = stage.builder().create(false).connect_lazily().await;
    let lazy = lazy.unwrap();
    for found_out in [
        error(lazy.get(&key("any")).await.map(drop)),
        error(lazy.ping().await),
    ] {
        assert_eq!(found_out.kind(), ErrorKind::Backend, "{found_out:?}");
        assert!(found_out.to_string().contains("no such table"));
    }
    // Somebody makes it.
    stage.connect().await;
    assert!(lazy.get(&key("any")).await.unwrap().is_none());
    stage.end().await;
}

#[tokio::test]
async fn a_table_with_another_key_is_left_alone() {
    let Some(stage) = Stage::find() else { return };
    let attribute = AttributeDefinition::builder()
        .attribute_name("k")
        .attribute_type(ScalarAttributeType::S);
    let hash = KeySchemaElement::builder()
        .attribute_name("k")
        .key_type(KeyType::Hash);
    let made = stage
        .raw
        .create_table()
        .table_name(&stage.table)
        .attribute_definitions(attribute.build().unwrap())
        .key_schema(hash.build().unwrap())
        .billing_mode(BillingMode::PayPerRequest);
    made.send().await.unwrap();
    let lazy = stage.builder().connect_lazily().await.unwrap();
    for wrong in [
        error(stage.builder().connect().await),
        error(lazy.get(&key("any")).await.map(drop)),
    ] {
        assert_eq!(wrong.kind(), ErrorKind::Settings, "{wrong:?}");
        let message = wrong.to_string();
        assert!(message.contains("CACHE_DYNAMODB_TABLE"), "{message}");
        assert!(message.contains("another key"), "{message}");
    }
    stage.end().await;
}

#[tokio::test]
async fn settings_lead_to_the_table() {
    let Some(stage) = Stage::find() else { return };
    let settings = Settings::from_pairs([
        ("CACHE_TYPE", "dynamodb"),
        ("CACHE_DYNAMODB_ENDPOINT", &stage.endpoint),
        ("CACHE_DYNAMODB_TABLE", &stage.table),
        ("CACHE_DYNAMODB_ACCESS_KEY_ID", "test"),
        ("CACHE_DYNAMODB_SECRET_ACCESS_KEY", "test"),
        ("CACHE_DYNAMODB_CREATE", "yes"),
        ("CACHE_DYNAMODB_TIMEOUT", "5s"),
        ("CACHE_BACKEND_TIMEOUT", "5s"),
    ]);
    let cache = Cache::from_settings(&settings.unwrap()).await.unwrap();
    assert_eq!(cache.increment("visits", 2).await.unwrap(), 2);
    let stored = stage.stored("visits").await.unwrap();
    assert_eq!(number(&stored, "n"), 2);
    cache.close().await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn a_client_that_is_given_is_used_and_stays_open() {
    let Some(stage) = Stage::find() else { return };
    let builder = DynamoDb::builder(&stage.table).client(stage.raw.clone());
    let builder = builder.create(true).timeout(Duration::from_secs(5));
    let given = builder.connect().await.unwrap();
    keep(&given, &key("name"), entry("value", MINUTES)).await;
    given.close().await.unwrap();
    given.close().await.unwrap();
    let closed = error(given.get(&key("name")).await.map(drop));
    assert_eq!(closed.kind(), ErrorKind::Closed);
    assert!(stage.stored("name").await.is_some());
    stage.end().await;
}

#[tokio::test]
async fn a_server_that_hangs_costs_the_time_out_and_no_more() {
    let Some(stage) = Stage::find() else { return };
    let server = stage.endpoint.trim_start_matches("http://");
    let proxy = Proxy::to(server).await;
    let through = builder(&format!("http://{}", proxy.address()), &stage.table);
    let limit = Duration::from_secs(1);
    let backend = through.timeout(limit).connect().await.unwrap();
    let name = key("name");
    let write = || backend.put(&name, entry("value", MINUTES), PutMode::Always);
    assert!(write().await.unwrap());

    proxy.set(Link::Stall).await;
    for verb in 0..2 {
        let begun = Instant::now();
        let late = match verb {
            0 => error(write().await.map(drop)),
            _ => error(backend.get(&name).await.map(drop)),
        };
        assert_eq!(late.kind(), ErrorKind::Timeout, "{late:?}");
        assert!(begun.elapsed() < 3 * limit, "{:?}", begun.elapsed());
    }

    proxy.set(Link::Refuse).await;
    assert_eq!(
        error(write().await.map(drop)).kind(),
        ErrorKind::Unavailable
    );

    proxy.set(Link::Pass).await;
    assert!(write().await.unwrap());
    stage.end().await;
}

#[tokio::test]
async fn an_endpoint_with_tls_is_trusted_by_the_authority_that_is_named() {
    let Some(server) = Server::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::write(folder.path());
    let port = tls_before(server.address(), &certificates).await;
    let endpoint = format!("https://localhost:{port}");
    let trusting = builder(&endpoint, "larder").ca_file(certificates.ca());
    let backend = trusting.connect().await.unwrap();
    keep(&backend, &key("name"), entry("value", MINUTES)).await;
    assert!(backend.contains(&key("name")).await.unwrap());

    // This machine does not know it, and another authority is another authority.
    let elsewhere = tempfile::tempdir().unwrap();
    let others = Certificates::write(elsewhere.path());
    for wary in [
        builder(&endpoint, "larder"),
        builder(&endpoint, "larder").ca_file(others.ca()),
        builder(&format!("https://127.0.0.2:{port}"), "larder").ca_file(certificates.ca()),
    ] {
        let refused = error(wary.connect().await);
        assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
    }
}

// What is in the table

#[tokio::test]
async fn the_service_keeps_an_item_for_its_ttl_rounded_up_but_for_an_hour_at_least() {
    let Some(stage) = Stage::find() else { return };
    let backend = stage.connect().await;
    let part = Duration::from_millis(7_200_500);
    for (name, ttl, lasts) in [
        ("brief", Duration::from_millis(200), 3_600),
        ("part", part, 7_201),
        ("days", DAYS.unwrap(), DAYS.unwrap().as_secs()),
    ] {
        let ttl = Some(ttl);
        keep(&backend, &key(name), entry("value", ttl)).await;
        backend
            .increment(&key(&format!("{name}-n")), 1, ttl)
            .await
            .unwrap();
        let touched = key(&format!("{name}-t"));
        keep(&backend, &touched, entry("value", MINUTES)).await;
        assert!(backend.touch(&touched, ttl).await.unwrap());
        for suffix in ["", "-n", "-t"] {
            let stored = stage.stored(&format!("{name}{suffix}")).await.unwrap();
            let left = number(&stored, "x") - seconds();
            assert!(lasts.abs_diff(left) <= 2, "{name}{suffix}: {left} s");
            // Never before the end of the entry.
            assert!(number(&stored, "x") * 1_000 >= number(&stored, "e"));
        }
    }
    stage.end().await;
}

/// On DynamoDB what has ended stays for up to days, and nothing removes it here at all.
#[tokio::test]
async fn what_has_ended_and_is_still_there_is_absent_to_every_verb() {
    let Some(stage) = Stage::find() else { return };
    let backend = stage.connect().await;
    let brief = Some(Duration::from_secs(1));
    let name = key("name");
    let put = |mode| backend.put(&name, entry("value", brief), mode);
    let version = || async {
        assert!(put(PutMode::Always).await.unwrap());
        let version = backend.get(&name).await.unwrap().unwrap().version();
        tokio::time::sleep(Duration::from_millis(1_050)).await;
        assert!(stage.stored("name").await.unwrap().contains_key("p"));
        version
    };
    let before = version().await;
    assert!(backend.get(&name).await.unwrap().is_none());
    assert!(backend.get_many(slice::from_ref(&name)).await.unwrap()[0].is_none());
    assert!(!backend.contains(&name).await.unwrap());
    assert!(!backend.touch(&name, MINUTES).await.unwrap());
    assert!(!backend.delete_if(&name, before).await.unwrap());
    assert!(!put(PutMode::IfVersion(before)).await.unwrap());
    let leased = backend.get_leased(&name).await.unwrap();
    assert!(leased.entry.is_none());
    assert!(!backend.delete(&name).await.unwrap());
    version().await;
    assert_eq!(
        backend.delete_many(slice::from_ref(&name)).await.unwrap(),
        [false]
    );
    version().await;
    assert!(put(PutMode::IfAbsent).await.unwrap());
    version().await;
    assert_eq!(backend.increment(&name, 5, MINUTES).await.unwrap(), 5);
    stage.end().await;
}

#[tokio::test]
async fn a_counter_is_a_bare_number_that_others_read_and_change() {
    let Some(stage) = Stage::find() else { return };
    let backend = stage.connect().await;
    let counted = backend.increment(&key("counter"), 40, MINUTES).await;
    assert_eq!(counted.unwrap(), 40);
    let stored = stage.stored("counter").await.unwrap();
    assert_eq!(stored["n"], AttributeValue::N("40".to_owned()));
    stage
        .raw
        .update_item()
        .table_name(&stage.table)
        .key("k", stored["k"].clone())
        .update_expression("ADD n :two")
        .expression_attribute_values(":two", AttributeValue::N("2".to_owned()))
        .send()
        .await
        .unwrap();
    let counter = backend.get(&key("counter")).await.unwrap().unwrap();
    assert_eq!(counter.as_counter().unwrap(), 42);
    assert_eq!(
        backend.increment(&key("counter"), 1, None).await.unwrap(),
        43
    );

    // What no i64 is.
    let mut large = stored;
    large.insert("n".to_owned(), AttributeValue::N("1.5".to_owned()));
    stage.change(large).await;
    let read = error(backend.get(&key("counter")).await.map(drop));
    assert_eq!(read.kind(), ErrorKind::Decode);
    stage.end().await;
}

#[tokio::test]
async fn a_lease_on_a_counter_ends_though_it_counts_to_the_same_again() {
    let Some(stage) = Stage::find() else { return };
    let backend = stage.connect().await;
    let name = key("counter");
    let lease = || async {
        let count = backend.increment(&name, 5, MINUTES).await.unwrap();
        assert_eq!(count, 5);
        backend.get_leased(&name).await.unwrap().lease
    };
    let load = |lease| backend.put(&name, entry("loaded", MINUTES), PutMode::IfUnchanged(lease));
    let before = lease().await;
    assert!(backend.delete(&name).await.unwrap());
    let now = lease().await;
    assert!(!load(before).await.unwrap());
    assert!(load(now).await.unwrap());
    assert!(!load(now).await.unwrap());
    stage.end().await;
}

/// A counter that others wrote, or changed, has no version that larder knows, or the one it had.
#[tokio::test]
async fn a_lease_on_a_counter_ends_with_what_others_add_to_it() {
    let Some(stage) = Stage::find() else { return };
    let backend = stage.connect().await;
    let name = key("counter");
    backend.increment(&name, 5, MINUTES).await.unwrap();
    let lease = backend.get_leased(&name).await.unwrap().lease;
    let mut stored = stage.stored("counter").await.unwrap();
    stored.insert("n".to_owned(), AttributeValue::N("6".to_owned()));
    stage.change(stored).await;
    let mode = PutMode::IfUnchanged(lease);
    let late = backend.put(&name, entry("late", MINUTES), mode).await;
    assert!(!late.unwrap());
    stage.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixty_four_writers_in_two_processes_count_exactly_and_one_is_first() {
    let Some(stage) = Stage::find() else { return };
    let builder = || stage.builder().timeout(Duration::from_secs(60));
    let both = [
        builder().connect().await.unwrap(),
        builder().connect().await.unwrap(),
    ];
    let writers = (0..64_usize).map(|number| {
        let backend = both[number % 2].clone();
        tokio::spawn(async move {
            let (counter, first) = (key("counter"), key("first"));
            for _ in 0..5 {
                backend.increment(&counter, 1, MINUTES).await.unwrap();
            }
            let name = entry(number.to_string(), MINUTES);
            backend.put(&first, name, PutMode::IfAbsent).await.unwrap()
        })
    });
    let first = join_all(writers).await;
    assert_eq!(
        first
            .into_iter()
            .filter(|first| *first.as_ref().unwrap())
            .count(),
        1
    );
    let count = both[0].get(&key("counter")).await.unwrap().unwrap();
    assert_eq!(count.as_counter().unwrap(), 320);
    stage.end().await;
}

#[tokio::test]
async fn a_deletion_leaves_a_small_item_that_ends_by_itself() {
    let Some(stage) = Stage::find() else { return };
    let backend = stage.connect().await;
    keep(&backend, &key("name"), entry(vec![7; 10_000], None)).await;
    assert!(backend.delete(&key("name")).await.unwrap());
    let stored = stage.stored("name").await.unwrap();
    let mut names: Vec<_> = stored.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["e", "k", "v", "x"]);
    let left = number(&stored, "x") - seconds();
    assert!(left.abs_diff(3_600) <= 2, "{left}");
    stage.end().await;
}

#[tokio::test]
async fn a_key_over_the_limit_is_stored_by_its_hash() {
    let Some(stage) = Stage::find() else { return };
    let backend = stage.connect().await;
    let long = [b'a', b'b'].map(|last| {
        let mut name = vec![b'x'; 5_000];
        name.push(last);
        Key::new("shop", None, name)
    });
    for (number, key) in long.iter().enumerate() {
        keep(&backend, key, entry(number.to_string(), MINUTES)).await;
    }
    for (number, read) in backend.get_many(&long).await.unwrap().iter().enumerate() {
        let read = read.as_ref().unwrap();
        assert_eq!(read.payload(), number.to_string().as_bytes());
    }
    let name = "n".repeat(3_000);
    let far = Key::new(&name, None, "name");
    keep(&backend, &far, entry("far", MINUTES)).await;
    assert!(backend.contains(&far).await.unwrap());
    backend.clear(&name).await.unwrap();
    assert!(!backend.contains(&far).await.unwrap());
    assert!(backend.contains(&long[0]).await.unwrap());
    stage.end().await;
}

#[tokio::test]
async fn the_largest_value_is_kept_and_a_larger_one_is_refused_before_it_is_sent() {
    let Some(stage) = Stage::find() else { return };
    let backend = stage.connect().await;
    let largest = backend.capabilities().max_value_len.unwrap();
    assert_eq!(largest, 407_368, "as the documentation says");
    // The longest key that is stored as it is.
    let name = "k".repeat(2048 - "shop:AAAAAAAA:".len());
    let name = key(&name);
    let put = |len: usize, mode| {
        let entry = entry(vec![7; len], MINUTES);
        let (backend, name) = (&backend, &name);
        async move { backend.put(name, entry, mode).await.unwrap() }
    };
    assert!(put(largest, PutMode::Always).await);
    assert!(backend.touch(&name, MINUTES).await.unwrap());
    let read = backend.get(&name).await.unwrap().unwrap();
    assert_eq!(read.payload().len(), largest);

    assert!(!put(largest + 1, PutMode::IfAbsent).await);
    assert!(!put(largest + 1, PutMode::IfVersion(1)).await);
    assert!(backend.contains(&name).await.unwrap());
    assert!(!put(largest + 1, PutMode::Always).await);
    assert!(!backend.contains(&name).await.unwrap());

    let entries = [largest, largest + 1].map(|len| {
        let name = key(&len.to_string());
        (name, entry(vec![7; len], MINUTES), PutMode::Always)
    });
    let kept = backend.put_many(entries.to_vec()).await.unwrap();
    assert_eq!(kept, [true, false]);
    stage.end().await;
}

/// One answer of the service has 16 MB at most; what is over that it leaves to be asked for again.
#[tokio::test]
async fn more_bytes_than_an_answer_has_room_for_are_read_all_the_same() {
    let Some(stage) = Stage::find() else { return };
    let builder = stage.builder().timeout(Duration::from_secs(60));
    let backend = builder.connect().await.unwrap();
    let keys: Vec<_> = (0..50).map(|name: u8| key(&name.to_string())).collect();
    let entries = keys.iter().zip(0..).map(|(key, number)| {
        let entry = entry(vec![number; 400_000], MINUTES);
        (key.clone(), entry, PutMode::Always)
    });
    assert_eq!(
        backend.put_many(entries.collect()).await.unwrap(),
        [true; 50]
    );
    for (read, number) in backend.get_many(&keys).await.unwrap().iter().zip(0..) {
        let payload = read.as_ref().unwrap().payload();
        assert!(payload.len() == 400_000 && payload.iter().all(|byte| *byte == number));
    }
    stage.end().await;
}

#[tokio::test]
async fn clear_leaves_other_namespaces_and_what_is_not_larders() {
    let Some(stage) = Stage::find() else { return };
    let backend = stage.connect().await;
    let neighbour = Key::new("shop2", None, "name");
    let names: Vec<_> = (0..64).map(|name| key(&name.to_string())).collect();
    for key in names.iter().chain([&neighbour]) {
        keep(&backend, key, entry("value", MINUTES)).await;
    }
    let foreign = AttributeValue::B(Blob::new(*b"shop:foreign"));
    stage.change(Item::from([("k".to_owned(), foreign)])).await;
    backend.clear("shop").await.unwrap();
    let left = backend.get_many(&names).await.unwrap();
    assert!(left.iter().all(Option::is_none));
    assert!(backend.contains(&neighbour).await.unwrap());
    assert!(stage.stored("foreign").await.is_some());
    stage.end().await;
}

#[tokio::test]
async fn two_processes_that_clear_at_once_both_succeed() {
    let Some(stage) = Stage::find() else { return };
    let (one, two) = (stage.connect().await, stage.connect().await);
    let clears = (0..40).map(|number| {
        let backend = if number % 2 == 0 { &one } else { &two };
        backend.clear("shop")
    });
    for cleared in join_all(clears).await {
        cleared.unwrap();
    }
    keep(&one, &key("name"), entry("value", MINUTES)).await;
    assert!(two.contains(&key("name")).await.unwrap());
    stage.end().await;
}

#[tokio::test]
async fn a_table_that_lost_its_markers_has_no_entries() {
    let Some(stage) = Stage::find() else { return };
    let backend = stage.connect().await;
    let put = || async {
        keep(&backend, &key("name"), entry("value", MINUTES)).await;
    };
    put().await;
    let markers = || async {
        let all = stage.raw.scan().table_name(&stage.table).send().await;
        let items = all.unwrap().items.unwrap().into_iter();
        items
            .filter(|item| item.contains_key("g"))
            .collect::<Vec<_>>()
    };
    let before = markers().await;
    assert_eq!(before.len(), 8);
    for marker in &before {
        let delete = stage.raw.delete_item().table_name(&stage.table);
        delete.key("k", marker["k"].clone()).send().await.unwrap();
    }
    assert!(backend.get(&key("name")).await.unwrap().is_none());

    // As after a restart from an old state: the markers of generations that are over.
    put().await;
    for marker in before {
        stage.change(marker).await;
    }
    assert!(backend.get(&key("name")).await.unwrap().is_none());
    assert!(backend.get_many(&[key("name")]).await.unwrap()[0].is_none());
    stage.end().await;
}

#[tokio::test]
async fn a_damaged_item_is_an_error_by_itself_and_absent_among_many() {
    let Some(stage) = Stage::find() else { return };
    let backend = stage.connect().await;
    for name in ["fine", "damaged"] {
        keep(&backend, &key(name), entry("value", MINUTES)).await;
    }
    let mut damaged = stage.stored("damaged").await.unwrap();
    let noise = AttributeValue::B(Blob::new(vec![0xFF; 64]));
    damaged.insert("p".to_owned(), noise);
    stage.change(damaged).await;

    let alone = error(backend.get(&key("damaged")).await.map(drop));
    assert_eq!(alone.kind(), ErrorKind::Decode);
    let many = [key("damaged"), key("fine")];
    let many = backend.get_many(&many).await.unwrap();
    assert!(many[0].is_none() && many[1].is_some());

    let leased = backend.get_leased(&key("damaged")).await.unwrap();
    assert!(leased.entry.is_none());
    let mode = PutMode::IfUnchanged(leased.lease);
    let damaged = key("damaged");
    let put = backend.put(&damaged, entry("mended", MINUTES), mode);
    assert!(put.await.unwrap());
    stage.end().await;
}

#[tokio::test]
async fn conditions_among_many_are_held_one_by_one() {
    let Some(stage) = Stage::find() else { return };
    let backend = stage.connect().await;
    let keys: Vec<_> = (0..60).map(|name| key(&name.to_string())).collect();
    for key in &keys[..30] {
        keep(&backend, key, entry("old", MINUTES)).await;
    }
    let entries = keys.iter().enumerate().map(|(number, key)| {
        let mode = match number % 3 {
            0 => PutMode::Always,
            _ => PutMode::IfAbsent,
        };
        (key.clone(), entry("new", MINUTES), mode)
    });
    let kept = backend.put_many(entries.collect()).await.unwrap();
    for (number, kept) in kept.iter().enumerate() {
        assert_eq!(*kept, number >= 30 || number % 3 == 0, "{number}");
    }
    stage.end().await;
}

#[tokio::test]
async fn more_callers_than_connections_wait_in_a_queue() {
    let Some(stage) = Stage::find() else { return };
    let builder = stage.builder().timeout(Duration::from_secs(60));
    let backend = builder.max_conns(4).connect().await.unwrap();
    let name = key("name");
    let reads = (0..500).map(|_| backend.get(&name));
    for read in join_all(reads).await {
        assert!(read.unwrap().is_none());
    }
    stage.end().await;
}

// Where the service refuses, or does half of what it was asked for

#[tokio::test]
async fn what_the_service_leaves_undone_is_asked_for_again() {
    let Some(stage) = Stage::find() else { return };
    let front = Front::before(&stage.endpoint).await;
    let backend = builder(&front.endpoint(), &stage.table);
    let backend = backend.connect().await.unwrap();
    front.leave_half_undone(true);
    let keys: Vec<_> = (0..60).map(|name| key(&name.to_string())).collect();
    let entries = keys.iter().map(|key| {
        let entry = entry(key.name().to_vec(), MINUTES);
        (key.clone(), entry, PutMode::Always)
    });
    assert_eq!(
        backend.put_many(entries.collect()).await.unwrap(),
        [true; 60]
    );
    for (key, read) in keys.iter().zip(backend.get_many(&keys).await.unwrap()) {
        assert_eq!(read.unwrap().payload(), key.name());
    }
    assert_eq!(backend.delete_many(&keys).await.unwrap(), [true; 60]);
    assert!(front.left_undone() > 100, "{}", front.left_undone());
    stage.end().await;
}

#[tokio::test]
async fn what_the_service_never_does_is_an_outage_after_one_time_out() {
    let Some(stage) = Stage::find() else { return };
    let front = Front::before(&stage.endpoint).await;
    let backend = builder(&front.endpoint(), &stage.table);
    let backend = backend.timeout(Duration::from_millis(300));
    let backend = backend.connect().await.unwrap();
    let keys: Vec<_> = (0..3).map(|name| key(&name.to_string())).collect();
    assert!(backend.get_many(&keys).await.unwrap()[0].is_none());
    front.leave_all_undone(true);
    let begun = Instant::now();
    let undone = error(backend.get_many(&keys).await.map(drop));
    assert_eq!(undone.kind(), ErrorKind::Unavailable, "{undone:?}");
    assert!(undone.to_string().contains("throttles"), "{undone}");
    assert!(begun.elapsed() < Duration::from_secs(3));
    stage.end().await;
}

#[tokio::test]
async fn throttling_is_an_outage_that_says_so_at_once() {
    let Some(stage) = Stage::find() else { return };
    let front = Front::before(&stage.endpoint).await;
    let backend = builder(&front.endpoint(), &stage.table);
    let backend = backend.connect().await.unwrap();
    let name = key("name");
    let write = || backend.put(&name, entry("value", MINUTES), PutMode::Always);
    assert!(write().await.unwrap());
    front.throttle(true);
    let begun = Instant::now();
    for throttled in [
        error(write().await.map(drop)),
        error(backend.get(&name).await.map(drop)),
    ] {
        assert_eq!(throttled.kind(), ErrorKind::Unavailable, "{throttled:?}");
        assert!(throttled.to_string().contains("throttles"), "{throttled}");
    }
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    front.throttle(false);
    assert!(write().await.unwrap());
    stage.end().await;
}

#[tokio::test]
async fn a_read_that_is_throttled_once_is_tried_again() {
    let Some(stage) = Stage::find() else { return };
    let front = Front::before(&stage.endpoint).await;
    let backend = builder(&front.endpoint(), &stage.table);
    let backend = backend.connect().await.unwrap();
    let name = key("name");
    keep(&backend, &name, entry("value", MINUTES)).await;
    front.throttle_once();
    assert!(backend.get(&name).await.unwrap().is_some());
    assert_eq!(front.throttled(), 1);
    stage.end().await;
}

/// Whoever tried a write again whose answer was lost would count twice.
#[tokio::test]
async fn an_increment_in_doubt_is_an_error_and_is_never_counted_twice() {
    let Some(stage) = Stage::find() else { return };
    let front = Front::before(&stage.endpoint).await;
    let backend = builder(&front.endpoint(), &stage.table);
    let backend = backend.connect().await.unwrap();
    let counter = key("counter");
    let count = || backend.increment(&counter, 1, MINUTES);
    assert_eq!(count().await.unwrap(), 1);
    front.lose_answers_to_writes(true);
    let doubt = error(count().await);
    assert_eq!(doubt.kind(), ErrorKind::Unavailable, "{doubt:?}");
    front.lose_answers_to_writes(false);
    assert_eq!(count().await.unwrap(), 3);
    stage.end().await;
}

#[tokio::test]
async fn every_read_asks_for_what_is_newest() {
    let Some(stage) = Stage::find() else { return };
    let front = Front::before(&stage.endpoint).await;
    let backend = builder(&front.endpoint(), &stage.table);
    let backend = backend.connect().await.unwrap();
    let names = [key("one"), key("two")];
    let (begun, _) = front.reads();
    for name in &names {
        keep(&backend, name, entry("value", MINUTES)).await;
        backend.get(name).await.unwrap();
        backend.contains(name).await.unwrap();
        backend.get_leased(name).await.unwrap();
        backend.delete(name).await.unwrap();
    }
    backend.get_many(&names).await.unwrap();
    backend.delete_many(&names).await.unwrap();
    backend.increment(&names[0], 1, MINUTES).await.unwrap();
    let (reads, newest) = front.reads();
    assert!(reads - begun >= 12, "{reads} after {begun}");
    assert_eq!(reads, newest);
    stage.end().await;
}

#[tokio::test]
async fn credentials_that_are_refused_are_named_and_not_shown() {
    let Some(stage) = Stage::find() else { return };
    let front = Front::before(&stage.endpoint).await;
    front.refuse_credentials(true);
    let builder = builder(&front.endpoint(), &stage.table);
    let builder = builder.credentials("test", "hidden");
    let refused = error(builder.session_token("hidden").connect().await);
    assert_eq!(refused.kind(), ErrorKind::Backend, "{refused:?}");
    let mut message = format!("{refused:?}");
    let mut source = std::error::Error::source(&refused);
    while let Some(cause) = source {
        message.push_str(&format!("{cause} {cause:?}"));
        source = cause.source();
    }
    assert!(message.contains("UnrecognizedClientException"), "{message}");
    assert!(
        message.contains("CACHE_DYNAMODB_ACCESS_KEY_ID"),
        "{message}"
    );
    assert!(!message.contains("hidden"), "{message}");
    stage.end().await;
}

/// With nothing in the environment that the SDK would find any in.
#[test]
fn where_no_credentials_are_found_the_error_says_what_to_set() {
    const ALONE: &str = "LARDER_TEST_DYNAMODB_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let mut alone = std::process::Command::new(std::env::current_exe().unwrap());
        alone.args([
            "--exact",
            "where_no_credentials_are_found_the_error_says_what_to_set",
        ]);
        let folder = tempfile::tempdir().unwrap();
        alone.env_clear().env("HOME", folder.path());
        alone
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env(ALONE, "1");
        let output = alone.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let nowhere = DynamoDb::builder("larder").endpoint("http://127.0.0.1:1");
        let none = error(nowhere.connect().await);
        assert!(
            none.to_string().contains("no credentials were found"),
            "{none:?}"
        );
        assert!(none.to_string().contains("CACHE_DYNAMODB_ACCESS_KEY_ID"));
        let homeless = error(DynamoDb::builder("larder").connect().await);
        assert_eq!(homeless.kind(), ErrorKind::Settings);
        assert!(
            homeless.to_string().contains("CACHE_DYNAMODB_REGION"),
            "{homeless}"
        );
    });
}
