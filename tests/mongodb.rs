//! The backend on a real MongoDB, alone and without users, with users and TLS, and as a replica set.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_servers;

use std::{
    ptr,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all, stream};
use larder::{
    Backend, Cache, CodecId, Entry, Error, ErrorKind, Key, MongoDb, MongoDbBuilder, PutMode,
    Settings, Timestamp,
    testing::{self, Report},
};
use mongodb::{
    Client, Collection,
    bson::{Binary, Bson, DateTime, Document, doc, spec::BinarySubtype},
};
use support_servers::{Link, MongoDb as Server, Node, Proxy, matrix};
use tokio::time::timeout;

/// A database of the server, and a client of it that knows nothing of larder.
struct Stage<'a> {
    server: &'a Server,
    raw: Client,
    database: String,
}

impl<'a> Stage<'a> {
    async fn new(server: &'a Server, database: &str) -> Self {
        Self {
            server,
            raw: server.raw().await,
            database: database.to_owned(),
        }
    }

    fn builder(&self) -> MongoDbBuilder {
        let builder = MongoDb::builder(self.server.url()).database(&self.database);
        // Under load, with other tests on the same machine.
        builder.connect_timeout(Duration::from_secs(10))
    }

    async fn connect(&self) -> MongoDb {
        self.builder().connect().await.unwrap()
    }

    fn collection(&self) -> Collection<Document> {
        self.raw.database(&self.database).collection("cache")
    }

    /// The word that the marker of a prefix has, and the number that stands for it.
    async fn generation(&self, namespace: &str) -> (String, i64) {
        let id = doc! { "n": namespace, "g": 0_i64 };
        let marker = self.collection().find_one(doc! { "_id": id }).await;
        let marker = marker.unwrap().expect("there is a marker");
        let letters = marker.get_str("m").unwrap().to_owned();
        let bytes = letters.as_bytes().try_into().unwrap();
        (letters, i64::from_be_bytes(bytes))
    }

    async fn id(&self, name: &str) -> Document {
        let (_, generation) = self.generation("shop").await;
        doc! { "n": "shop", "g": generation, "k": format!(":{name}") }
    }

    /// The document that larder keeps a name in, found as any program would.
    async fn stored(&self, name: &str) -> Option<Document> {
        let id = self.id(name).await;
        self.collection()
            .find_one(doc! { "_id": id })
            .await
            .unwrap()
    }

    async fn change(&self, name: &str, change: Document) {
        let id = self.id(name).await;
        let changed = self
            .collection()
            .update_one(doc! { "_id": id }, change)
            .await;
        assert_eq!(changed.unwrap().matched_count, 1);
    }

    async fn count(&self, filter: Document) -> u64 {
        self.collection().count_documents(filter).await.unwrap()
    }
}

fn key(name: &str) -> Key {
    Key::new("shop", None, name)
}

fn entry(payload: impl Into<bytes::Bytes>, ttl: Option<Duration>) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, payload, now).with_ttl(ttl, now)
}

const MINUTES: Option<Duration> = Some(Duration::from_secs(600));

async fn put(backend: &MongoDb, name: &str, ttl: Option<Duration>) {
    let key = key(name);
    let put = backend.put(&key, entry("value", ttl), PutMode::Always);
    assert!(put.await.unwrap());
}

/// The error of something that must not work. The types are not all `Debug`.
fn error<T>(result: Result<T, Error>) -> Error {
    match result {
        Ok(_) => panic!("it worked"),
        Err(error) => error,
    }
}

// The suite, in each mode

/// Each behaviour has a collection of its own, so that none has to look through what the others left.
async fn suite(mode: &str, left_out: &[&str], builder: impl Fn() -> MongoDbBuilder) {
    let builder = &builder;
    let chosen = testing::behaviours().filter(|behaviour| !left_out.contains(&behaviour.name()));
    let outcomes = stream::iter(chosen)
        .map(|behaviour| async move {
            let start = || async {
                let builder = builder().database("suite").collection(behaviour.name());
                // Under load, with other tests on the same machine.
                let builder = builder.connect_timeout(Duration::from_secs(10));
                builder.connect().await.unwrap()
            };
            (behaviour.name(), behaviour.run(&start).await)
        })
        .buffer_unordered(2);
    let report: Report = outcomes.collect::<Vec<_>>().await.into_iter().collect();
    matrix::judge("mongodb", mode, &report);
    for (name, needs) in report.skipped() {
        let fine = needs.contains("false") || needs == "field_expiry";
        assert!(fine, "{name} was left out for {needs}");
    }
    assert!(report.passed().count() >= 140, "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_passes_on_one_server() {
    let Some(server) = Server::start().await else {
        return;
    };
    suite("one server", &[], || MongoDb::builder(server.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_passes_with_users_and_tls() {
    let Some(server) = Server::with().secure().start().await else {
        return;
    };
    server
        .user("larder", "p@ss: wörd/", "readWrite", "suite")
        .await;
    // Every dropped future costs a connection, and hundreds of handshakes take longer than a behaviour may in a build
    // that is not optimised. The other modes have it.
    let left_out = ["hundreds_of_dropped_futures_use_nothing_up"];
    suite("users, TLS", &left_out, || {
        MongoDb::builder(server.url_of("nobody", "nothing"))
            .username("larder")
            .password("p@ss: wörd/")
            .ca_file(server.certificates().ca())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_passes_on_a_replica_set_of_one() {
    let Some(server) = Server::with().replica_set(1).start().await else {
        return;
    };
    suite("replica set of one", &[], || MongoDb::builder(server.url())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_passes_on_a_replica_set_of_three() {
    let Some(server) = Server::with().replica_set(3).start().await else {
        return;
    };
    suite("replica set of three", &[], || {
        MongoDb::builder(server.url())
    })
    .await;
}

// Connecting

#[tokio::test]
async fn what_cannot_be_right_is_said_before_anybody_is_asked() {
    let builder = || MongoDb::builder("mongodb://127.0.0.1:1");
    let long = "n".repeat(256);
    for (builder, message) in [
        (
            MongoDb::builder(""),
            "CACHE_MONGODB_URL is not set and no client was given",
        ),
        (
            builder().database("a b"),
            "CACHE_MONGODB_DATABASE, or the path of CACHE_MONGODB_URL, has ' ' in it, which the server does not allow",
        ),
        (
            builder().database(&long[..64]),
            "CACHE_MONGODB_DATABASE, or the path of CACHE_MONGODB_URL, has 64 bytes, and at most 63 are allowed",
        ),
        (
            MongoDb::builder("mongodb://127.0.0.1:1/admin"),
            "CACHE_MONGODB_DATABASE, or the path of CACHE_MONGODB_URL, is \"admin\", which the server keeps for itself",
        ),
        (
            builder().collection(""),
            "CACHE_MONGODB_COLLECTION is empty",
        ),
        (
            builder().collection("a$b"),
            "CACHE_MONGODB_COLLECTION has '$' in it, which the server does not allow",
        ),
        (
            builder().collection("system.users"),
            "CACHE_MONGODB_COLLECTION is a name that the server keeps for itself",
        ),
        (
            builder().database("four").collection(&long),
            "CACHE_MONGODB_COLLECTION has 256 bytes, and at most 250 are allowed beside the database's",
        ),
        (
            builder().pool_size(1),
            "CACHE_MONGODB_POOL_SIZE is below 2, and whoever writes takes two",
        ),
        (
            builder().password("s3cret"),
            "CACHE_MONGODB_PASSWORD is set, and neither CACHE_MONGODB_USERNAME nor the URL names a user",
        ),
        (
            MongoDb::builder("mongodb://127.0.0.1:1/?readPreference=secondaryPreferred"),
            "CACHE_MONGODB_URL has a readPreference other than primary: a secondary shows for a while what was deleted \
             or replaced",
        ),
        (
            MongoDb::builder("mongodb://127.0.0.1:1/?w=0"),
            "CACHE_MONGODB_URL has w=0, by which nobody would know whether something was written",
        ),
        (
            MongoDb::builder("mongodb://127.0.0.1:1/?tls=true&tlsInsecure=true"),
            "tlsInsecure and tlsAllowInvalidCertificates are not supported: name the certificate of the server's \
             authority by CACHE_MONGODB_CA_FILE",
        ),
        (
            builder().ca_file("/ca.pem"),
            "certificates are for TLS: CACHE_MONGODB_CA_FILE and CACHE_MONGODB_CLIENT_CERT_KEY_FILE need tls=true in \
             CACHE_MONGODB_URL",
        ),
        (
            MongoDb::builder("mongodb://127.0.0.1:1/?tls=true").ca_file("/no/such.pem"),
            "CACHE_MONGODB_CA_FILE: /no/such.pem cannot be used",
        ),
        (
            MongoDb::builder("mongodb://127.0.0.1:1/?tls=true")
                .client_cert_key_file("/no/such.pem"),
            "CACHE_MONGODB_CLIENT_CERT_KEY_FILE: /no/such.pem cannot be used",
        ),
    ] {
        let begun = Instant::now();
        let refused = error(builder.connect().await);
        assert_eq!(refused.to_string(), format!("mongodb connect: {message}"));
        assert_eq!(refused.kind(), ErrorKind::Settings);
        assert!(begun.elapsed() < Duration::from_secs(1));
    }
}

#[tokio::test]
async fn a_wrong_url_is_refused_without_being_shown() {
    for url in [
        "s3cret",
        "redis://s3cret@host",
        "mongodb://user:s3cret@@host",
        "mongodb://user:s3cret@host/?noSuchOption=1",
        "mongodb://host/?retryWrites=s3cret",
    ] {
        let builder = MongoDb::builder(url);
        assert!(!format!("{builder:?}").contains("s3cret"));
        let refused = error(builder.connect().await);
        assert_eq!(refused.kind(), ErrorKind::Settings, "{url}");
        let shown = format!("{refused:?}");
        assert!(shown.contains("CACHE_MONGODB_URL"), "{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
}

#[tokio::test]
async fn nobody_at_the_address_is_said_in_the_time_to_connect() {
    let limit = Duration::from_millis(600);
    let builder = MongoDb::builder("mongodb://127.0.0.1:1").connect_timeout(limit);
    let begun = Instant::now();
    let refused = error(builder.connect().await);
    assert!(begun.elapsed() < limit + Duration::from_secs(1));
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(
        refused.to_string().contains("nobody listens there"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_name_that_does_not_exist_is_an_outage_and_not_a_wrong_setting() {
    let url = "mongodb+srv://larder.invalid";
    let refused = error(MongoDb::builder(url).connect().await);
    assert!(
        matches!(refused.kind(), ErrorKind::Unavailable | ErrorKind::Timeout),
        "{refused:?}"
    );
    // It may exist later.
    let lazy = MongoDb::builder(url).connect_lazily().await.unwrap();
    assert!(lazy.get(&key("any")).await.is_err());
    lazy.close().await.unwrap();
}

#[tokio::test]
async fn a_lazy_backend_fails_soon_and_works_when_the_server_is_there() {
    let Some(server) = Server::start().await else {
        return;
    };
    server.node().kill();
    let lazy = MongoDb::builder(server.url())
        .connect_lazily()
        .await
        .unwrap();
    let begun = Instant::now();
    let refused = error(lazy.get(&key("any")).await);
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );

    server.node().start_again();
    let end = Instant::now() + Duration::from_secs(10);
    while let Err(error) = lazy.get(&key("any")).await {
        assert!(Instant::now() < end, "{error:?}");
    }
    put(&lazy, "any", MINUTES).await;
    assert!(lazy.contains(&key("any")).await.unwrap());
}

// With users and TLS

#[tokio::test]
async fn a_server_with_users_and_tls_is_as_strict_as_it_should_be() {
    let Some(server) = Server::with().secure().start().await else {
        return;
    };
    server.user("reader", "right", "read", "shop").await;
    server.user("writer", "right", "readWrite", "shop").await;
    let ca = server.certificates().ca();
    let builder = |url: String| {
        let builder = MongoDb::builder(url).database("shop").ca_file(&ca);
        builder.connect_timeout(Duration::from_secs(5))
    };

    let refused = error(builder(server.url_of("writer", "wr0ng")).connect().await);
    assert_eq!(refused.kind(), ErrorKind::Backend, "{refused:?}");
    assert!(
        refused.to_string().contains("CACHE_MONGODB_PASSWORD"),
        "{refused}"
    );
    assert!(!format!("{refused:?}").contains("wr0ng"));

    let refused = error(builder(server.url_of("reader", "right")).connect().await);
    assert!(
        refused.to_string().contains("needs the role readWrite"),
        "{refused:?}"
    );

    // A user who may write until it is taken from it: what the server repeats in its refusal is not repeated.
    let backend = builder(server.url_of("writer", "right"))
        .connect()
        .await
        .unwrap();
    let secret = Key::new("shop", None, "a-key-to-hide");
    backend
        .put(&secret, entry("a-value-to-hide", MINUTES), PutMode::Always)
        .await
        .unwrap();
    let admin = server.raw().await.database("admin");
    admin
        .run_command(doc! { "updateUser": "writer", "roles": [] })
        .await
        .unwrap();
    let refused = error(
        backend
            .put(&secret, entry("a-value-to-hide", MINUTES), PutMode::Always)
            .await,
    );
    assert_eq!(refused.kind(), ErrorKind::Backend);
    let shown = format!("{refused:?}");
    assert!(
        shown.contains("needs the role readWrite") && !shown.contains("hide"),
        "{shown}"
    );

    // Mozilla does not trust the authority.
    let strict = MongoDb::builder(server.url_of("writer", "right"));
    let refused = error(strict.connect().await);
    assert_eq!(refused.kind(), ErrorKind::Unavailable);
    assert!(
        refused.to_string().contains("the server's certificate"),
        "{refused:?}"
    );

    // The certificate names localhost and 127.0.0.1.
    let elsewhere = server
        .url_of("writer", "right")
        .replace("127.0.0.1", "127.0.0.2");
    let refused = error(builder(elsewhere).connect().await);
    assert!(
        refused.to_string().contains("is of another name"),
        "{refused:?}"
    );

    let plain = server.url_of("writer", "right").replace("&tls=true", "");
    let plain = MongoDb::builder(plain).database("shop").connect().await;
    let refused = error(plain);
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_the_server_asks_for_one() {
    let Some(server) = Server::with().wants_client_certificate().start().await else {
        return;
    };
    let builder = || {
        let builder = MongoDb::builder(server.url()).ca_file(server.certificates().ca());
        builder.connect_timeout(Duration::from_secs(5))
    };
    let backend = builder().client_cert_key_file(server.client_pair());
    let backend = backend.connect().await.unwrap();
    put(&backend, "name", MINUTES).await;
    let refused = error(builder().connect().await);
    assert_eq!(refused.kind(), ErrorKind::Unavailable, "{refused:?}");
}

#[tokio::test]
async fn from_the_environment_to_a_cache() {
    let Some(server) = Server::with().secure().start().await else {
        return;
    };
    server.user("larder", "right", "readWrite", "shop").await;
    let settings = Settings::from_pairs([
        ("CACHE_TYPE", "mongodb"),
        ("CACHE_MONGODB_URL", &server.url_of("larder", "wrong")),
        ("CACHE_MONGODB_DATABASE", "shop"),
        ("CACHE_MONGODB_COLLECTION", "pages"),
        ("CACHE_MONGODB_PASSWORD", "right"),
        (
            "CACHE_MONGODB_CA_FILE",
            server.certificates().ca().to_str().unwrap(),
        ),
        ("CACHE_MONGODB_POOL_SIZE", "4"),
        ("CACHE_MONGODB_CONNECT_TIMEOUT", "10s"),
        ("CACHE_BACKEND_TIMEOUT", "5s"),
    ]);
    let cache = Cache::from_settings(&settings.unwrap()).await.unwrap();
    cache.put("answer", 42).await.unwrap();
    assert_eq!(cache.get::<i32>("answer").await.unwrap(), Some(42));
    let raw = server.raw().await.database("shop");
    let kept = raw
        .collection::<Document>("pages")
        .count_documents(doc! {})
        .await
        .unwrap();
    assert_eq!(kept, 2, "the marker of the prefix and the answer");
    cache.close().await.unwrap();
}

// What the server holds: each behaviour in a database of its own, on one server

macro_rules! behaviours {
    ($($behaviour:ident)+) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn behaviours_of_one_server() {
            let Some(server) = Server::start().await else {
                return;
            };
            $(
                println!("{}", stringify!($behaviour));
                $behaviour(Stage::new(&server, stringify!($behaviour)).await).await;
            )+
        }
    };
}

behaviours! {
    the_server_removes_what_is_gone
    a_document_says_when_it_ends_and_when_it_goes
    another_index_in_the_place_is_an_error
    a_collection_of_another_kind_is_refused
    two_that_connect_at_once_make_one_index
    a_collection_that_was_dropped_gets_its_index_again
    a_counter_is_a_number_that_others_read_and_change
    a_deletion_leaves_a_trace_that_goes_by_itself
    a_load_overtaken_by_a_short_lived_put_is_not_kept
    long_keys_do_not_meet_and_are_found_by_their_prefixes
    keys_of_any_bytes_are_told_apart
    a_value_that_does_not_fit_with_its_key_is_refused
    clear_leaves_what_is_not_its_own
    a_server_that_lost_its_markers_has_no_entries
    a_damaged_document_is_an_error_by_itself_and_absent_among_many
    remove_expired_counts_what_it_removes
    remove_expired_leaves_what_is_not_larders
    more_callers_than_connections_wait_in_a_queue
    callers_who_gave_up_keep_nobody_waiting
    a_closed_backend_has_no_connections
    a_client_of_ones_own_is_left_open
}

async fn the_server_removes_what_is_gone(stage: Stage<'_>) {
    let backend = stage.connect().await;
    put(&backend, "brief", Some(Duration::from_secs(1))).await;
    put(&backend, "long", MINUTES).await;
    // Nobody wants to wait for a minute.
    let past = DateTime::from_millis(1);
    stage
        .change("brief", doc! { "$set": { "gone": past } })
        .await;
    let end = Instant::now() + Duration::from_secs(20);
    while stage.stored("brief").await.is_some() {
        assert!(Instant::now() < end, "it is still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(stage.stored("long").await.is_some());
}

async fn a_document_says_when_it_ends_and_when_it_goes(stage: Stage<'_>) {
    let backend = stage.connect().await;
    let seconds = |ttl| Some(Duration::from_secs(ttl));
    for (ttl, goes) in [
        (seconds(1), 60),
        (seconds(90), 90),
        (seconds(86_400), 86_400),
    ] {
        let now = Timestamp::now().as_millis() as i64;
        put(&backend, "put", ttl).await;
        put(&backend, "touched", None).await;
        assert!(backend.touch(&key("touched"), ttl).await.unwrap());
        backend
            .increment(&Key::new("shop", None, goes.to_string()), 1, ttl)
            .await
            .unwrap();
        for name in ["put", "touched", &goes.to_string()] {
            let stored = stage.stored(name).await.unwrap();
            let after = |field| stored.get_datetime(field).unwrap().timestamp_millis() - now;
            let ends = ttl.unwrap().as_millis() as i64;
            assert!(
                (ends..ends + 5_000).contains(&after("end")),
                "{name}: {stored}"
            );
            let goes = goes * 1_000;
            assert!(
                (goes..goes + 5_000).contains(&after("gone")),
                "{name}: {stored}"
            );
        }
    }
    put(&backend, "put", None).await;
    put(&backend, "touched", MINUTES).await;
    assert!(backend.touch(&key("touched"), None).await.unwrap());
    for name in ["put", "touched"] {
        assert!(!stage.stored(name).await.unwrap().contains_key("gone"));
        let read = backend.get(&key(name)).await.unwrap().unwrap();
        assert_eq!(read.expires_at(), None);
    }
}

async fn another_index_in_the_place_is_an_error(stage: Stage<'_>) {
    let raw = stage.raw.database(&stage.database);
    for index in [
        doc! { "key": { "gone": 1 }, "name": "mine", "expireAfterSeconds": 3_600 },
        doc! { "key": { "gone": 1 }, "name": "larder_gone" },
        doc! { "key": { "other": 1 }, "name": "larder_gone" },
    ] {
        stage.collection().drop().await.unwrap();
        let create = doc! { "createIndexes": "cache", "indexes": [index] };
        raw.run_command(create).await.unwrap();
        let refused = error(stage.builder().connect().await);
        assert_eq!(refused.kind(), ErrorKind::Settings, "{refused:?}");
        let message = refused.to_string();
        assert!(
            message.contains("another index on the field \"gone\""),
            "{message}"
        );
    }
}

async fn a_collection_of_another_kind_is_refused(stage: Stage<'_>) {
    let raw = stage.raw.database(&stage.database);
    for (options, trouble) in [
        (
            doc! { "create": "cache", "capped": true, "size": 4_096 },
            "capped",
        ),
        (
            doc! { "create": "cache", "viewOn": "other", "pipeline": [] },
            "a view",
        ),
        (
            doc! { "create": "cache", "collation": { "locale": "en", "strength": 2 } },
            "a collation",
        ),
        (
            doc! { "create": "cache", "timeseries": { "timeField": "at" } },
            "a time series",
        ),
    ] {
        raw.run_command(options).await.unwrap();
        let refused = error(stage.builder().connect().await);
        assert_eq!(refused.kind(), ErrorKind::Settings, "{refused:?}");
        assert!(refused.to_string().contains(trouble), "{refused}");
        stage.collection().drop().await.unwrap();
    }
}

async fn two_that_connect_at_once_make_one_index(stage: Stage<'_>) {
    let both = join_all((0..8).map(|_| stage.builder().connect())).await;
    assert!(both.iter().all(Result::is_ok));
    let indexes = stage.collection().list_index_names().await.unwrap();
    assert_eq!(indexes, ["_id_", "larder_gone"]);
}

async fn a_collection_that_was_dropped_gets_its_index_again(stage: Stage<'_>) {
    let backend = stage.connect().await;
    put(&backend, "name", MINUTES).await;
    stage.collection().drop().await.unwrap();
    assert!(backend.get(&key("name")).await.unwrap().is_none());
    let indexes = stage.collection().list_index_names().await.unwrap();
    assert_eq!(indexes, ["_id_", "larder_gone"]);
    put(&backend, "name", MINUTES).await;
    assert!(backend.contains(&key("name")).await.unwrap());
}

async fn a_counter_is_a_number_that_others_read_and_change(stage: Stage<'_>) {
    let backend = stage.connect().await;
    let count = |delta| {
        let backend = &backend;
        async move {
            backend
                .increment(&key("counter"), delta, MINUTES)
                .await
                .unwrap()
        }
    };
    assert_eq!(count(40).await, 40);
    let stored = stage.stored("counter").await.unwrap();
    assert_eq!(stored.get("c"), Some(&Bson::Int64(40)));
    stage
        .change("counter", doc! { "$inc": { "c": 2_i64 } })
        .await;
    let read = backend.get(&key("counter")).await.unwrap().unwrap();
    assert_eq!(read.as_counter().unwrap(), 42);
    // As a program without 64-bit numbers writes it.
    stage
        .change("counter", doc! { "$set": { "c": 7_i32 } })
        .await;
    assert_eq!(count(1 << 40).await, (1 << 40) + 7);
}

async fn a_deletion_leaves_a_trace_that_goes_by_itself(stage: Stage<'_>) {
    let backend = stage.connect().await;
    put(&backend, "name", None).await;
    for was_there in [true, false] {
        let now = Timestamp::now().as_millis() as i64;
        assert_eq!(backend.delete(&key("name")).await.unwrap(), was_there);
        let stored = stage.stored("name").await.unwrap();
        let fields: Vec<_> = stored.keys().map(String::as_str).collect();
        assert_eq!(fields, ["_id", "v", "end", "gone"]);
        let after = stored.get_datetime("gone").unwrap().timestamp_millis() - now;
        assert!((60_000..65_000).contains(&after), "{after}");
    }
}

async fn a_load_overtaken_by_a_short_lived_put_is_not_kept(stage: Stage<'_>) {
    let backend = stage.connect().await;
    let lease = backend.get_leased(&key("name")).await.unwrap().lease;
    let brief = Duration::from_millis(50);
    put(&backend, "name", Some(brief)).await;
    tokio::time::sleep(2 * brief).await;
    assert!(!backend.contains(&key("name")).await.unwrap());
    let mode = PutMode::IfUnchanged(lease);
    let late = backend
        .put(&key("name"), entry("late", MINUTES), mode)
        .await;
    assert!(!late.unwrap());
}

async fn long_keys_do_not_meet_and_are_found_by_their_prefixes(stage: Stage<'_>) {
    let backend = stage.connect().await;
    let names: Vec<_> = ["x", "y"].map(|end| "a".repeat(5_000) + end).into();
    for name in &names {
        let kept = backend
            .put(&key(name), entry(name.clone(), MINUTES), PutMode::Always)
            .await;
        assert!(kept.unwrap());
    }
    for name in &names {
        let read = backend.get(&key(name)).await.unwrap().unwrap();
        assert_eq!(read.payload(), name);
    }
    for (prefix, deleted) in [
        ("a".repeat(600) + "b", 0),
        ("a".repeat(5_002), 0),
        (names[1].clone(), 1),
        ("a".repeat(600), 1),
    ] {
        let found = backend.delete_prefix(&key(&prefix)).await.unwrap();
        assert_eq!(found, deleted, "{}", prefix.len());
    }
    for name in &names {
        backend
            .put(&key(name), entry("again", MINUTES), PutMode::Always)
            .await
            .unwrap();
    }
    assert_eq!(backend.delete_prefix(&key("aa")).await.unwrap(), 2);
}

async fn keys_of_any_bytes_are_told_apart(stage: Stage<'_>) {
    let backend = stage.connect().await;
    let keys: Vec<_> = (0..=255_u8)
        .flat_map(|byte| [vec![byte], vec![byte, 0], vec![0xC3, 0xA9, byte]])
        .map(|name| Key::new("shop", None, name))
        .collect();
    let entries = keys.iter().enumerate().map(|(number, key)| {
        (
            key.clone(),
            entry(number.to_string(), MINUTES),
            PutMode::Always,
        )
    });
    backend.put_many(entries.collect()).await.unwrap();
    let read = backend.get_many(&keys).await.unwrap();
    for (number, read) in read.into_iter().enumerate() {
        assert_eq!(read.unwrap().payload(), &number.to_string());
    }
}

async fn a_value_that_does_not_fit_with_its_key_is_refused(stage: Stage<'_>) {
    let backend = stage.connect().await;
    let largest = backend.capabilities().max_value_len.unwrap();
    let huge = vec![7; largest];
    let long = Key::new("shop", None, vec![0xFF; 11_000]);
    assert!(
        backend
            .put(&long, entry(huge.clone(), MINUTES), PutMode::Always)
            .await
            .unwrap()
    );
    let read = backend.get(&long).await.unwrap().unwrap();
    assert_eq!(read.payload().len(), largest);
    let too_long = Key::new("shop", None, vec![0xFF; 20_000]);
    assert!(
        !backend
            .put(&too_long, entry(huge, MINUTES), PutMode::Always)
            .await
            .unwrap()
    );
    assert!(backend.get(&too_long).await.unwrap().is_none());
}

async fn clear_leaves_what_is_not_its_own(stage: Stage<'_>) {
    let backend = stage.connect().await;
    let elsewhere = stage.builder().collection("other").connect().await.unwrap();
    put(&backend, "name", MINUTES).await;
    put(&elsewhere, "name", MINUTES).await;
    let neighbour = Key::new("shop2", None, "name");
    backend
        .put(&neighbour, entry("value", MINUTES), PutMode::Always)
        .await
        .unwrap();
    let foreign = doc! { "_id": "name", "of": "somebody else" };
    stage
        .collection()
        .insert_one(foreign.clone())
        .await
        .unwrap();

    backend.clear("shop").await.unwrap();
    assert!(!backend.contains(&key("name")).await.unwrap());
    assert!(backend.contains(&neighbour).await.unwrap());
    assert!(elsewhere.contains(&key("name")).await.unwrap());
    assert_eq!(stage.count(foreign).await, 1);
}

async fn a_server_that_lost_its_markers_has_no_entries(stage: Stage<'_>) {
    let backend = stage.connect().await;
    put(&backend, "name", MINUTES).await;
    let (before, _) = stage.generation("shop").await;
    let marker = doc! { "_id": { "n": "shop", "g": 0_i64 } };
    stage.collection().delete_one(marker.clone()).await.unwrap();
    assert!(backend.get(&key("name")).await.unwrap().is_none());

    // As after a restart from an old state: the marker of a generation that is over.
    let old = doc! { "$set": { "m": &before } };
    stage.collection().update_one(marker, old).await.unwrap();
    assert!(backend.get(&key("name")).await.unwrap().is_none());
    assert!(backend.get_many(&[key("name")]).await.unwrap()[0].is_none());
    assert_ne!(stage.generation("shop").await.0, before);
}

async fn a_damaged_document_is_an_error_by_itself_and_absent_among_many(stage: Stage<'_>) {
    let backend = stage.connect().await;
    for (name, damage) in [
        (
            "garbage",
            doc! { "$set": { "e": Binary { subtype: BinarySubtype::Generic, bytes: vec![0xFF; 64] } } },
        ),
        ("text", doc! { "$set": { "e": "text" } }),
        ("foreign", doc! { "$unset": { "v": "", "end": "" } }),
    ] {
        put(&backend, "fine", MINUTES).await;
        put(&backend, name, MINUTES).await;
        stage.change(name, damage).await;
        let alone = error(backend.get(&key(name)).await);
        assert_eq!(alone.kind(), ErrorKind::Decode, "{name}");
        let many = backend.get_many(&[key(name), key("fine")]).await.unwrap();
        assert!(many[0].is_none() && many[1].is_some(), "{name}");
    }
    // What is loaded may replace it.
    for name in ["garbage", "foreign"] {
        let leased = backend.get_leased(&key(name)).await.unwrap();
        assert!(leased.entry.is_none());
        let mode = PutMode::IfUnchanged(leased.lease);
        assert!(
            backend
                .put(&key(name), entry("mended", MINUTES), mode)
                .await
                .unwrap(),
            "{name}"
        );
        assert!(backend.get(&key(name)).await.unwrap().is_some());
    }
}

async fn remove_expired_counts_what_it_removes(stage: Stage<'_>) {
    let backend = stage.connect().await;
    for number in 0..30 {
        put(&backend, &number.to_string(), MINUTES).await;
    }
    // Twenty ended a minute ago and more, and ten of these were deleted.
    for number in 0..20 {
        if number < 10 {
            backend.delete(&key(&number.to_string())).await.unwrap();
        }
        let (_, generation) = stage.generation("shop").await;
        let id = doc! { "n": "shop", "g": generation, "k": format!(":{number}") };
        let past = doc! { "$set": { "gone": DateTime::from_millis(4_000_000_000_000) } };
        stage
            .collection()
            .update_one(doc! { "_id": id }, past)
            .await
            .unwrap();
    }
    // The server's own removal would be quicker than the test, so the index is gone for a while.
    stage.collection().drop_index("larder_gone").await.unwrap();
    let far = DateTime::from_millis(4_000_000_000_000);
    let past = doc! { "$set": { "gone": DateTime::from_millis(1) } };
    stage
        .collection()
        .update_many(doc! { "gone": far }, past)
        .await
        .unwrap();
    assert_eq!(backend.remove_expired(7).await.unwrap(), 7);
    assert_eq!(backend.remove_expired(100).await.unwrap(), 13);
    assert_eq!(backend.remove_expired(100).await.unwrap(), 0);
    assert!(backend.contains(&key("29")).await.unwrap());

    // Ten are left, in a generation that ends, and so do three in the next.
    let other = Key::new("shop0", None, "other");
    backend
        .put(&other, entry("value", None), PutMode::Always)
        .await
        .unwrap();
    backend.clear("shop").await.unwrap();
    for name in ["a", "b", "c"] {
        put(&backend, name, None).await;
    }
    backend.clear("shop").await.unwrap();
    put(&backend, "stays", None).await;
    assert_eq!(backend.remove_expired(4).await.unwrap(), 4);
    assert_eq!(backend.remove_expired(100).await.unwrap(), 9);
    assert_eq!(backend.remove_expired(100).await.unwrap(), 0);
    assert!(backend.contains(&key("stays")).await.unwrap());
    assert!(backend.contains(&other).await.unwrap());
    assert_eq!(stage.count(doc! {}).await, 4, "two entries and two markers");
}

async fn remove_expired_leaves_what_is_not_larders(stage: Stage<'_>) {
    let backend = stage.connect().await;
    put(&backend, "name", None).await;
    backend.clear("shop").await.unwrap();
    put(&backend, "name", None).await;
    let foreign = [
        doc! { "_id": 1 },
        doc! { "_id": "text" },
        doc! { "_id": { "n": "theirs", "g": 7_i64, "k": "without a marker" } },
        doc! { "_id": { "z": 1 } },
    ];
    stage.collection().insert_many(foreign).await.unwrap();
    assert_eq!(backend.remove_expired(100).await.unwrap(), 1);
    assert_eq!(stage.count(doc! {}).await, 6);
}

async fn more_callers_than_connections_wait_in_a_queue(stage: Stage<'_>) {
    let backend = stage.builder().pool_size(2).connect().await.unwrap();
    let calls = (0..500).map(|number: usize| {
        let (backend, name) = (&backend, number.to_string());
        async move {
            put(backend, &name, MINUTES).await;
            backend.contains(&key(&name)).await.unwrap()
        }
    });
    assert!(join_all(calls).await.into_iter().all(|there| there));
}

/// While the server hangs, many ask for a connection and give up.
async fn callers_who_gave_up_keep_nobody_waiting(stage: Stage<'_>) {
    let proxy = Proxy::to(stage.server.node().address()).await;
    let url = format!("mongodb://{}/?directConnection=true", proxy.address());
    let builder = MongoDb::builder(url).database(&stage.database);
    let builder = builder.connect_timeout(Duration::from_secs(10));
    let backend = builder.pool_size(4).connect().await.unwrap();
    put(&backend, "name", MINUTES).await;
    let name = key("name");
    let ask = || timeout(Duration::from_millis(500), backend.get(&name));

    proxy.set(Link::Stall).await;
    let answers = join_all((0..200).map(|_| ask())).await;
    assert!(answers.iter().all(Result::is_err));
    proxy.set(Link::Pass).await;
    let begun = Instant::now();
    while !matches!(ask().await, Ok(Ok(Some(_)))) {
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(3), "{waited:?}");
    }
}

async fn a_closed_backend_has_no_connections(stage: Stage<'_>) {
    let admin = stage.raw.database("admin");
    let connections = async || {
        let status = admin.run_command(doc! { "serverStatus": 1 }).await.unwrap();
        status
            .get_document("connections")
            .unwrap()
            .get_i32("current")
            .unwrap()
    };
    let before = connections().await;
    let backend = stage.connect().await;
    let keys: Vec<_> = (0..8).map(|name: u8| key(&name.to_string())).collect();
    join_all(keys.iter().map(|key| backend.get(key))).await;
    assert!(connections().await > before);
    backend.close().await.unwrap();
    let end = Instant::now() + Duration::from_secs(10);
    while connections().await > before {
        assert!(Instant::now() < end, "{} and {before}", connections().await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn a_client_of_ones_own_is_left_open(stage: Stage<'_>) {
    let builder = MongoDb::builder("").client(stage.raw.clone());
    let backend = builder.database(&stage.database).connect().await.unwrap();
    put(&backend, "name", MINUTES).await;
    backend.close().await.unwrap();
    assert_eq!(
        error(backend.get(&key("name")).await).kind(),
        ErrorKind::Closed
    );
    assert_eq!(stage.count(doc! {}).await, 2);
}

// What is written, and how often

/// The server does the first write and says that too few have it: whoever tries again would count twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_increment_in_doubt_is_an_error_and_is_never_counted_twice() {
    let Some(server) = Server::with().replica_set(1).test_commands().start().await else {
        return;
    };
    let stage = Stage::new(&server, "doubt").await;
    let backend = stage.connect().await;
    let counter = key("counter");
    let count = || backend.increment(&counter, 1, MINUTES);
    assert_eq!(count().await.unwrap(), 1);
    let fail = |how: Document| {
        let mut data = doc! { "failCommands": ["findAndModify", "update"] };
        data.extend(how);
        let point =
            doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data };
        let admin = stage.raw.database("admin");
        async move { admin.run_command(point).await.unwrap() }
    };
    for (how, kind, then) in [
        // Not done, and the connection breaks.
        (doc! { "closeConnection": true }, ErrorKind::Unavailable, 2),
        // Done, and not by a majority in time.
        (
            doc! { "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } },
            ErrorKind::Timeout,
            4,
        ),
        // Not done, because the primary steps down.
        (
            doc! { "errorCode": 189, "closeConnection": false },
            ErrorKind::Unavailable,
            5,
        ),
    ] {
        fail(how.clone()).await;
        let doubt = error(count().await);
        assert_eq!(doubt.kind(), kind, "{how}: {doubt:?}");
        let end = Instant::now() + Duration::from_secs(10);
        let sum = loop {
            match count().await {
                Ok(sum) => break sum,
                Err(error) => assert!(Instant::now() < end, "{error:?}"),
            }
        };
        assert_eq!(sum, then, "{how}");
    }
    fail(
        doc! { "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" } },
    )
    .await;
    let doubt = error(backend.delete(&key("counter")).await);
    assert_eq!(doubt.kind(), ErrorKind::Timeout, "{doubt:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_write_is_acknowledged_by_a_majority_unless_the_url_says_otherwise() {
    let Some(server) = Server::with().replica_set(1).start().await else {
        return;
    };
    let stage = Stage::new(&server, "acknowledged").await;
    let profile = stage.raw.database(&stage.database);
    for (options, w) in [
        ("", Bson::from("majority")),
        ("&w=1&journal=false", Bson::from(1_i64)),
    ] {
        let url = server.url() + options;
        let backend = MongoDb::builder(url).database(&stage.database);
        let backend = backend
            .connect_timeout(Duration::from_secs(10))
            .connect()
            .await
            .unwrap();
        put(&backend, "name", MINUTES).await;
        profile.run_command(doc! { "profile": 2 }).await.unwrap();
        put(&backend, "name", MINUTES).await;
        backend
            .increment(&key("counter"), 1, MINUTES)
            .await
            .unwrap();
        backend.delete(&key("name")).await.unwrap();
        backend.clear("shop").await.unwrap();
        profile.run_command(doc! { "profile": 0 }).await.unwrap();
        let seen = profile.collection::<Document>("system.profile");
        let writes = doc! { "ns": format!("{}.cache", stage.database), "op": { "$in": ["update", "command"] } };
        let mut writes = seen.find(writes).await.unwrap();
        let mut count = 0;
        while writes.advance().await.unwrap() {
            let write = writes.deserialize_current().unwrap();
            if let Ok(concern) = write
                .get_document("command")
                .and_then(|it| it.get_document("writeConcern"))
            {
                let said = concern
                    .get("w")
                    .cloned()
                    .map(|w| w.as_i32().map_or(w, |w| i64::from(w).into()));
                assert_eq!(said, Some(w.clone()), "{write}");
                count += 1;
            }
        }
        assert!(count >= 1, "no write was seen");
        seen.drop().await.unwrap();
    }
}

#[tokio::test]
async fn more_acknowledgements_than_there_are_nodes_are_an_error_that_names_them() {
    let Some(server) = Server::with().replica_set(1).start().await else {
        return;
    };
    for w in ["2", "nobody"] {
        let builder = MongoDb::builder(format!("{}&w={w}", server.url()));
        let builder = builder.connect_timeout(Duration::from_secs(10));
        let refused = match builder.connect().await {
            Err(refused) => refused,
            Ok(backend) => error(backend.delete(&key("name")).await),
        };
        assert_eq!(refused.kind(), ErrorKind::Backend, "{refused:?}");
        let message = refused.to_string();
        assert!(message.contains("the w of CACHE_MONGODB_URL"), "{message}");
    }
}

// A fail-over

/// The nodes that are not the primary.
fn others<'a>(server: &'a Server, primary: &Node) -> Vec<&'a Node> {
    let nodes = server.nodes().iter();
    nodes.filter(|node| !ptr::eq(*node, primary)).collect()
}

/// Asks until there is an answer, as the circuit breaker of a cache does.
async fn in_the_end<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> T {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(Instant::now() < end, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_before_a_fail_over_is_in_force_after_it() {
    let Some(server) = Server::with().replica_set(3).test_commands().start().await else {
        return;
    };
    let stage = Stage::new(&server, "over").await;
    let backend = stage.connect().await;
    let names: Vec<_> = (0..60).map(|name| name.to_string()).collect();
    for name in &names {
        put(&backend, name, MINUTES).await;
    }
    let cleared = Key::new("other", None, "cleared");
    let kept = backend.put(&cleared, entry("old", MINUTES), PutMode::Always);
    assert!(kept.await.unwrap());
    let counter = key("counter");
    assert_eq!(backend.increment(&counter, 7, MINUTES).await.unwrap(), 7);
    let leased = key("leased");
    let lease = backend.get_leased(&leased).await.unwrap().lease;

    // One of the two others has nothing of this when the primary goes.
    let primary = server.primary().await;
    let late = others(&server, primary)[0];
    late.replicate(false).await;
    for name in &names[..20] {
        assert!(backend.delete(&key(name)).await.unwrap());
    }
    let replaced = names[20..40].iter();
    let replaced = replaced.map(|name| (key(name), entry("new", MINUTES), PutMode::Always));
    assert!(
        backend
            .put_many(replaced.collect())
            .await
            .unwrap()
            .iter()
            .all(|kept| *kept)
    );
    assert_eq!(backend.increment(&counter, 1, MINUTES).await.unwrap(), 8);
    assert!(!backend.delete(&leased).await.unwrap());
    backend.clear("other").await.unwrap();
    primary.kill();
    late.replicate(true).await;

    let keys: Vec<_> = names.iter().map(|name| key(name)).collect();
    let read = in_the_end(|| backend.get_many(&keys)).await;
    for (number, read) in read.iter().enumerate() {
        let payload = read.as_ref().map(Entry::payload);
        let expected: Option<bytes::Bytes> = match number {
            ..20 => None,
            20..40 => Some("new".into()),
            _ => Some("value".into()),
        };
        assert_eq!(payload, expected.as_ref(), "{number}");
    }
    assert_eq!(
        in_the_end(|| backend.increment(&counter, 1, MINUTES)).await,
        9
    );
    assert!(!in_the_end(|| backend.contains(&cleared)).await);
    let mode = PutMode::IfUnchanged(lease);
    assert!(!in_the_end(|| backend.put(&leased, entry("loaded", MINUTES), mode)).await);
    // To a process that knows of nothing, too.
    let another = in_the_end(|| stage.builder().connect()).await;
    assert!(!another.contains(&cleared).await.unwrap());
    assert!(!another.contains(&keys[0]).await.unwrap());
}

/// Where both others take nothing, the primary alone has what is written: it goes with it, unless it counts as done by the URL.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_primary_has_alone_is_not_acknowledged() {
    let Some(server) = Server::with().replica_set(3).test_commands().start().await else {
        return;
    };
    for (options, is_acknowledged) in [("", false), ("&w=1", true)] {
        let stage = Stage::new(&server, "alone").await;
        let builder = MongoDb::builder(server.url() + options).database(&stage.database);
        let builder = builder.connect_timeout(Duration::from_secs(10));
        let backend = builder.connect().await.unwrap();
        // It is the others' as well, whatever the URL says.
        let everywhere = stage.connect().await;
        for name in ["deleted", "replaced"] {
            put(&everywhere, name, MINUTES).await;
        }
        let cleared = Key::new("other", None, "cleared");
        let kept = everywhere.put(&cleared, entry("old", MINUTES), PutMode::Always);
        assert!(kept.await.unwrap());

        let primary = server.primary().await;
        let others = others(&server, primary);
        join_all(others.iter().map(|node| node.replicate(false))).await;
        let limit = Duration::from_millis(300);
        let (deleted, name) = (key("deleted"), key("replaced"));
        let replace = backend.put(&name, entry("alone", MINUTES), PutMode::Always);
        let done = tokio::join!(
            timeout(limit, backend.delete(&deleted)),
            timeout(limit, replace),
            timeout(limit, backend.clear("other")),
        );
        let done = [
            matches!(done.0, Ok(Ok(true))),
            matches!(done.1, Ok(Ok(true))),
            matches!(done.2, Ok(Ok(()))),
        ];
        assert_eq!(done, [is_acknowledged; 3], "{options}");
        assert!(!backend.contains(&deleted).await.unwrap());
        primary.kill();
        join_all(others.iter().map(|node| node.replicate(true))).await;

        // By nobody's leave but that of the URL, what counted as done is undone.
        assert!(in_the_end(|| backend.contains(&deleted)).await);
        let read = in_the_end(|| backend.get(&name)).await.unwrap();
        assert_eq!(read.payload(), "value");
        // The old primary takes back what it had alone.
        primary.start_again();
        put_in_the_end(&everywhere, "replaced", "newer").await;
        let read = in_the_end(|| backend.get(&name)).await.unwrap();
        assert_eq!(read.payload(), "newer");
        backend.close().await.unwrap();
    }
}

async fn put_in_the_end(backend: &MongoDb, name: &str, payload: &'static str) {
    let name = key(name);
    let put = || backend.put(&name, entry(payload, MINUTES), PutMode::Always);
    assert!(in_the_end(put).await);
}

/// What could not be acknowledged is made up for when there is a primary again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_makes_up_after_a_fail_over_for_what_was_not_acknowledged() {
    let Some(server) = Server::with().replica_set(3).test_commands().start().await else {
        return;
    };
    let stage = Stage::new(&server, "made_up").await;
    let cache = Cache::new(stage.connect().await);
    cache.put("deleted", 1).await.unwrap();
    cache.put("stays", 2).await.unwrap();
    let primary = server.primary().await;
    let others = others(&server, primary);
    join_all(others.iter().map(|node| node.replicate(false))).await;
    let doubt = error(cache.delete("deleted").await);
    assert_eq!(doubt.kind(), ErrorKind::Timeout, "{doubt:?}");
    primary.kill();
    join_all(others.iter().map(|node| node.replicate(true))).await;

    assert_eq!(in_the_end(|| cache.get("stays")).await, Some(2));
    assert_eq!(cache.get::<i32>("deleted").await.unwrap(), None);
}
