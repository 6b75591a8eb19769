//! The backend on a real Aerospike cluster, whose nodes `LARDER_TEST_AEROSPIKE_HOSTS` names. It has the namespace
//! `cache`; what needs a second one uses `test`. Each test has a set of its own, and removes that alone.

#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_servers;

use std::time::{Duration, Instant};

use aerospike::{
    Bin, Bins, Client, Expiration, Record, Value, WritePolicy,
    policy::{AdminPolicy, ClientPolicy, ReadPolicy},
};
use futures_util::{StreamExt, future::join_all, stream};
use larder::{
    Aerospike, Backend, Cache, CodecId, Entry, Error, ErrorKind, Key, PutMode, Settings, Timestamp,
    testing::{self, Report},
};
use support_servers::{Aerospike as Server, Link, Proxy, matrix};

/// The server, a client of it that knows nothing of larder, and a set.
struct Stage {
    server: Server,
    raw: Client,
    set: String,
}

impl Stage {
    async fn find() -> Option<Self> {
        let server = Server::find()?;
        let raw = Client::new(&ClientPolicy::default(), &server.hosts()).await;
        let raw = raw.expect("the server that was named is there");
        let set = format!("larder-{:016x}", rand());
        Some(Self { server, raw, set })
    }

    async fn connect(&self) -> Aerospike {
        let builder = Aerospike::builder(self.server.hosts()).set(&self.set);
        // Under load, with other tests on the same machine.
        let builder = builder.timeout(Duration::from_secs(5));
        builder.connect().await.unwrap()
    }

    /// The record under a name that the server knows.
    fn record(&self, stored: &str) -> aerospike::Key {
        let stored = Value::Blob(stored.as_bytes().to_vec());
        aerospike::Key::new("cache", self.set.as_str(), stored).unwrap()
    }

    async fn read(&self, record: &aerospike::Key) -> Option<Record> {
        self.raw
            .get(&ReadPolicy::default(), record, Bins::All)
            .await
            .ok()
    }

    /// The record that larder keeps `name` in, found as any program would.
    async fn stored(&self, namespace: &str, name: &str) -> Option<Record> {
        let marker = self.record(&format!("{namespace}:generation"));
        let marker = self.read(&marker).await?;
        let Some(Value::String(generation)) = marker.bins.get("v") else {
            panic!("the marker is a text: {marker:?}");
        };
        let record = self.record(&format!("{namespace}:{generation}:{name}"));
        self.read(&record).await
    }

    /// Sets a parameter of a namespace on every node.
    async fn configure(&self, namespace: &str, parameter: &str) {
        let command = format!("set-config:context=namespace;namespace={namespace};{parameter}");
        for node in self.raw.nodes() {
            let answer = node.info(&AdminPolicy::default(), &[&command]).await;
            assert_eq!(answer.unwrap()[&command], "ok", "{command}");
        }
    }

    async fn end(self) {
        let policy = AdminPolicy::default();
        for namespace in ["cache", "test"] {
            let _ = self.raw.truncate(&policy, namespace, &self.set, 0).await;
        }
        self.raw.close().await.unwrap();
    }
}

fn rand() -> u64 {
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

/// The error of something that must not work. The types are not all `Debug`.
fn error<T>(result: Result<T, Error>) -> Error {
    match result {
        Ok(_) => panic!("it worked"),
        Err(error) => error,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_suite_passes() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let start = || stage.connect();
    let outcomes = stream::iter(testing::behaviours())
        .map(|behaviour| async move { (behaviour.name(), behaviour.run(&start).await) })
        .buffer_unordered(8);
    let report: Report = outcomes.collect::<Vec<_>>().await.into_iter().collect();
    matrix::judge("aerospike", "community edition", &report);
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
    let builder = || Aerospike::builder("127.0.0.1:1");
    for (builder, message) in [
        (
            Aerospike::builder(""),
            "CACHE_AEROSPIKE_HOSTS is not set and no client was given",
        ),
        (
            Aerospike::builder("one:port"),
            "CACHE_AEROSPIKE_HOSTS has \"one:port\", which is none of host:port, host:tls-name:port and [IPv6 \
             address]:port",
        ),
        (
            builder().namespace(""),
            "CACHE_AEROSPIKE_NAMESPACE is empty",
        ),
        (
            builder().namespace("n".repeat(32)),
            "CACHE_AEROSPIKE_NAMESPACE has 32 bytes, and at most 31 are allowed",
        ),
        (
            builder().set("é".repeat(32)),
            "CACHE_AEROSPIKE_SET has 64 bytes, and at most 63 are allowed",
        ),
        (
            builder().set("a:b"),
            "CACHE_AEROSPIKE_SET has ':' in it, which the server does not allow",
        ),
        (
            builder().password("secret"),
            "CACHE_AEROSPIKE_PASSWORD is set, and CACHE_AEROSPIKE_USER is not",
        ),
        (
            builder().timeout(Duration::ZERO),
            "CACHE_AEROSPIKE_TIMEOUT is no time at all",
        ),
        (
            builder().tend_interval(Duration::from_millis(10)),
            "tend_interval is below 250 ms",
        ),
        (
            builder().tls(true).ca_file("ca.pem"),
            "CACHE_AEROSPIKE_HOSTS: with TLS the address 127.0.0.1 needs a TLS name, as in host:tls-name:port",
        ),
        (
            Aerospike::builder("db.example:1").tls(true),
            "CACHE_AEROSPIKE_TLS needs CACHE_AEROSPIKE_CA_FILE",
        ),
        (
            Aerospike::builder("db.example:1")
                .tls(true)
                .ca_file("no such file"),
            "CACHE_AEROSPIKE_CA_FILE: no such file cannot be used",
        ),
        (
            Aerospike::builder("db.example:1")
                .tls(true)
                .ca_file("ca.pem")
                .client_key("key.pem"),
            "CACHE_AEROSPIKE_CLIENT_CERT_FILE and CACHE_AEROSPIKE_CLIENT_KEY_FILE go together",
        ),
        (
            builder().ca_file("ca.pem"),
            "certificates are set for Aerospike, and CACHE_AEROSPIKE_TLS is not true",
        ),
    ] {
        for error in [
            error(builder.clone().connect().await),
            error(builder.connect_lazily().await),
        ] {
            assert_eq!(error.to_string(), format!("aerospike connect: {message}"));
            assert_eq!(error.kind(), ErrorKind::Settings);
        }
    }
}

#[tokio::test]
async fn a_refused_connection_names_every_host() {
    let hosts = "127.0.0.1:1,127.0.0.1:2";
    let error = error(Aerospike::builder(hosts).connect().await);
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert_eq!(
        error.to_string(),
        "aerospike connect: none of CACHE_AEROSPIKE_HOSTS can be reached: 127.0.0.1:1, 127.0.0.1:2"
    );
}

#[test]
fn a_password_is_not_shown() {
    let builder = Aerospike::builder("one:3000")
        .username("me")
        .password("hidden");
    assert!(!format!("{builder:?}").contains("hidden"));
}

#[tokio::test]
async fn a_namespace_that_is_not_there_is_told_with_those_that_are() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let builder = Aerospike::builder(stage.server.hosts()).namespace("elsewhere");
    let eager = error(builder.clone().connect().await);
    assert_eq!(eager.kind(), ErrorKind::Settings);
    let message = eager.to_string();
    assert!(
        message.contains("CACHE_AEROSPIKE_NAMESPACE is \"elsewhere\""),
        "{message}"
    );
    assert!(message.contains("cache"), "{message}");

    let lazy = builder.connect_lazily().await.unwrap();
    let found_out = error(lazy.get(&key("any")).await);
    assert_eq!(found_out.kind(), ErrorKind::Settings);
    lazy.close().await.unwrap();
    assert_eq!(error(lazy.get(&key("any")).await).kind(), ErrorKind::Closed);
    stage.end().await;
}

#[tokio::test]
async fn a_user_on_a_server_without_users_is_told_what_to_unset() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let edition = stage.raw.info(&AdminPolicy::default(), &["edition"]).await;
    if edition.unwrap()["edition"].contains("Community") {
        let builder = Aerospike::builder(stage.server.hosts());
        let error = error(builder.username("me").password("hidden").connect().await);
        assert_eq!(error.kind(), ErrorKind::Settings, "{error:?}");
        assert!(
            error.to_string().contains("unset CACHE_AEROSPIKE_USER"),
            "{error}"
        );
        assert!(!format!("{error:?}").contains("hidden"));
    }
    stage.end().await;
}

#[tokio::test]
async fn settings_lead_to_the_cluster() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let settings = Settings::from_pairs([
        ("CACHE_TYPE", "aerospike"),
        ("CACHE_AEROSPIKE_HOSTS", stage.server.hosts()),
        ("CACHE_AEROSPIKE_SET", &stage.set),
        ("CACHE_AEROSPIKE_TIMEOUT", "5s"),
        ("CACHE_BACKEND_TIMEOUT", "5s"),
    ]);
    let cache = Cache::from_settings(&settings.unwrap()).await.unwrap();
    assert_eq!(cache.increment("visits", 2).await.unwrap(), 2);
    let stored = stage.stored("larder", "visits").await.unwrap();
    assert_eq!(stored.bins.get("v"), Some(&Value::Int(2)));
    cache.close().await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn a_client_that_is_given_wins_over_hosts_and_is_not_closed() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let builder = Aerospike::builder("127.0.0.1:1").client(stage.raw.clone());
    let given = builder.set(&stage.set).connect().await.unwrap();
    given
        .put(&key("name"), entry("value", MINUTES), PutMode::Always)
        .await
        .unwrap();
    given.close().await.unwrap();
    assert_eq!(
        error(given.get(&key("name")).await).kind(),
        ErrorKind::Closed
    );
    assert!(stage.raw.is_connected());
    assert!(stage.stored("shop", "name").await.is_some());
    stage.end().await;
}

#[tokio::test]
async fn a_lazy_connection_is_made_when_the_server_is_there() {
    let Some(server) = Server::find() else { return };
    let proxy = Proxy::to(server.seeds().next().unwrap()).await;
    proxy.set(Link::Refuse).await;
    let builder = Aerospike::builder(proxy.address().to_string()).seed_only(true);
    let lazy = builder.connect_lazily().await.unwrap();
    let begun = Instant::now();
    assert_eq!(
        error(lazy.get(&key("any")).await).kind(),
        ErrorKind::Unavailable
    );
    assert!(begun.elapsed() < Duration::from_millis(200), "it waited");

    proxy.set(Link::Pass).await;
    let end = Instant::now() + Duration::from_secs(20);
    while let Err(error) = lazy.ping().await {
        assert!(Instant::now() < end, "{error:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(lazy.get(&key("any")).await.unwrap().is_none());
    lazy.close().await.unwrap();
}

#[tokio::test]
async fn a_server_that_hangs_costs_the_time_out_and_no_more() {
    let Some(server) = Server::find() else { return };
    let proxy = Proxy::to(server.seeds().next().unwrap()).await;
    let builder = Aerospike::builder(proxy.address().to_string()).seed_only(true);
    let backend = builder.connect().await.unwrap();
    let hanging = key("hanging");
    let write = || backend.put(&hanging, entry("value", MINUTES), PutMode::Always);
    assert!(write().await.unwrap());

    proxy.set(Link::Stall).await;
    let begun = Instant::now();
    let late = error(write().await);
    assert_eq!(late.kind(), ErrorKind::Timeout, "{late:?}");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );

    proxy.set(Link::Refuse).await;
    let lost = error(write().await);
    assert!(
        matches!(lost.kind(), ErrorKind::Timeout | ErrorKind::Unavailable),
        "{lost:?}"
    );

    proxy.set(Link::Pass).await;
    let end = Instant::now() + Duration::from_secs(20);
    while let Err(error) = write().await {
        assert!(Instant::now() < end, "{error:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    backend.delete(&hanging).await.unwrap();
    backend.close().await.unwrap();
}

// What the server holds

#[tokio::test]
async fn the_server_keeps_an_entry_as_long_as_it_lives_but_for_a_minute_at_least() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let backend = stage.connect().await;
    for (ttl, seconds) in [
        (Some(Duration::from_millis(200)), Some(60)),
        (Some(Duration::from_secs(1)), Some(60)),
        (Some(Duration::from_millis(122_500)), Some(123)),
        (
            Some(Duration::from_secs(11 * 365 * 24 * 60 * 60)),
            Some(315_360_000),
        ),
        (None, None),
    ] {
        backend
            .put(&key("ending"), entry("value", ttl), PutMode::Always)
            .await
            .unwrap();
        let stored = stage.stored("shop", "ending").await.unwrap();
        close_to(stored.time_to_live(), seconds);

        backend
            .put(&key("touched"), entry("value", MINUTES), PutMode::Always)
            .await
            .unwrap();
        assert!(backend.touch(&key("touched"), ttl).await.unwrap());
        let stored = stage.stored("shop", "touched").await.unwrap();
        close_to(stored.time_to_live(), seconds);
    }
    backend.close().await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn a_counter_has_its_ttl_in_whole_seconds_rounded_up() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let backend = stage.connect().await;
    for (name, ttl, seconds) in [
        ("brief", Some(Duration::from_millis(200)), Some(1)),
        ("part", Some(Duration::from_millis(122_500)), Some(123)),
        ("long", Some(Duration::MAX), Some(315_360_000)),
        ("never", None, None),
    ] {
        backend.increment(&key(name), 1, ttl).await.unwrap();
        let stored = stage.stored("shop", name).await.unwrap();
        close_to(stored.time_to_live(), seconds);
    }
    backend.close().await.unwrap();
    stage.end().await;
}

/// The clocks of the server and of the test may differ by a second.
fn close_to(ttl: Option<Duration>, expected: Option<u64>) {
    let seconds = ttl.map(|ttl| ttl.as_secs());
    let fine = match (seconds, expected) {
        (Some(seconds), Some(expected)) => seconds.abs_diff(expected) <= 1,
        (seconds, expected) => seconds == expected,
    };
    assert!(fine, "{seconds:?} is not {expected:?}");
}

#[tokio::test]
async fn a_counter_is_a_bare_integer_that_others_read_and_change() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let backend = stage.connect().await;
    assert_eq!(
        backend
            .increment(&key("counter"), 40, MINUTES)
            .await
            .unwrap(),
        40
    );
    let stored = stage.stored("shop", "counter").await.unwrap();
    assert_eq!(stored.bins.get("v"), Some(&Value::Int(40)));

    let marker = stage.read(&stage.record("shop:generation")).await.unwrap();
    let Some(Value::String(generation)) = marker.bins.get("v") else {
        panic!("the marker is a text");
    };
    let record = stage.record(&format!("shop:{generation}:counter"));
    let two = [Bin::new("v", Value::Int(2))];
    stage
        .raw
        .add(&WritePolicy::default(), &record, &two)
        .await
        .unwrap();
    let counter = backend.get(&key("counter")).await.unwrap().unwrap();
    assert_eq!(counter.as_counter().unwrap(), 42);
    backend.close().await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn a_deletion_leaves_a_trace_of_25_bytes_that_ends_by_itself() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let backend = stage.connect().await;
    backend
        .put(&key("name"), entry("value", None), PutMode::Always)
        .await
        .unwrap();
    assert!(backend.delete(&key("name")).await.unwrap());
    let stored = stage.stored("shop", "name").await.unwrap();
    let Some(Value::Blob(bytes)) = stored.bins.get("v") else {
        panic!("it is a blob: {stored:?}");
    };
    assert_eq!(bytes.len(), 25);
    close_to(stored.time_to_live(), Some(60));
    backend.close().await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn the_largest_value_is_kept_and_a_larger_one_is_refused_before_it_is_sent() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let backend = stage.connect().await;
    let largest = backend.capabilities().max_value_len.unwrap();
    assert!((1 << 19..8 << 20).contains(&largest), "{largest}");
    let put = |len: usize, mode| {
        let entry = entry(vec![7; len], MINUTES);
        let backend = &backend;
        async move { backend.put(&key("large"), entry, mode).await.unwrap() }
    };
    assert!(put(largest, PutMode::Always).await);
    assert!(backend.touch(&key("large"), MINUTES).await.unwrap());
    let read = backend.get(&key("large")).await.unwrap().unwrap();
    assert_eq!(read.payload().len(), largest);

    assert!(!put(largest + 1, PutMode::IfAbsent).await);
    assert!(!put(largest + 1, PutMode::IfVersion(1)).await);
    assert!(backend.contains(&key("large")).await.unwrap());
    assert!(!put(largest + 1, PutMode::Always).await);
    assert!(!backend.contains(&key("large")).await.unwrap());

    let entries = [largest, largest + 1].map(|len| {
        let name = key(&len.to_string());
        (name, entry(vec![7; len], MINUTES), PutMode::Always)
    });
    assert_eq!(
        backend.put_many(entries.to_vec()).await.unwrap(),
        [true, false]
    );
    backend.close().await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn clear_leaves_other_namespaces_other_sets_and_what_is_not_larders() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let backend = stage.connect().await;
    let other = Stage::find().await.unwrap();
    let elsewhere = other.connect().await;
    let neighbour = Key::new("shop2", None, "name");
    for (backend, key) in [
        (&backend, &key("name")),
        (&backend, &neighbour),
        (&elsewhere, &key("name")),
    ] {
        backend
            .put(key, entry("value", MINUTES), PutMode::Always)
            .await
            .unwrap();
    }
    let foreign = aerospike::Key::new("cache", stage.set.as_str(), Value::from("name")).unwrap();
    let policy = WritePolicy::new(0, Expiration::Seconds(600));
    let bins = [Bin::new("v", Value::Int(7))];
    stage.raw.put(&policy, &foreign, &bins).await.unwrap();

    backend.clear("shop").await.unwrap();
    assert!(!backend.contains(&key("name")).await.unwrap());
    assert!(backend.contains(&neighbour).await.unwrap());
    assert!(elsewhere.contains(&key("name")).await.unwrap());
    assert!(stage.read(&foreign).await.is_some());
    backend.close().await.unwrap();
    elsewhere.close().await.unwrap();
    other.end().await;
    stage.end().await;
}

#[tokio::test]
async fn a_server_that_lost_its_markers_has_no_entries() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let backend = stage.connect().await;
    backend
        .put(&key("name"), entry("value", MINUTES), PutMode::Always)
        .await
        .unwrap();
    let marker = stage.record("shop:generation");
    let before = stage.read(&marker).await.unwrap();
    let deleted = stage.raw.delete(&WritePolicy::default(), &marker).await;
    assert!(deleted.unwrap());
    assert!(backend.get(&key("name")).await.unwrap().is_none());

    // As after a restart from an old state: the marker of a generation that is over.
    let policy = WritePolicy::default();
    let bins = before.bins.into_iter();
    let bins: Vec<_> = bins.map(|(name, value)| Bin::new(name, value)).collect();
    stage.raw.put(&policy, &marker, &bins).await.unwrap();
    assert!(backend.get(&key("name")).await.unwrap().is_none());
    assert!(backend.get_many(&[key("name")]).await.unwrap()[0].is_none());
    backend.close().await.unwrap();
    stage.end().await;
}

// Where the server refuses

/// Both change what the whole namespace does, so they follow each other.
#[tokio::test]
async fn a_namespace_that_is_configured_otherwise_meanwhile() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let builder = Aerospike::builder(stage.server.hosts()).namespace("test");
    let builder = builder.set(&stage.set).timeout(Duration::from_secs(5));
    match builder.connect().await {
        Ok(backend) => {
            refuses_what_ends_when_it_removes_nothing(&stage, &backend).await;
            lowers_its_limit_and_does_not_keep_the_old_value(&stage, &backend).await;
            backend.close().await.unwrap();
        }
        Err(_) => println!("not tested: the server has no namespace \"test\""),
    }
    stage.end().await;
}

async fn refuses_what_ends_when_it_removes_nothing(stage: &Stage, backend: &Aerospike) {
    let name = key("name");
    let put = |ttl| backend.put(&name, entry("value", ttl), PutMode::Always);
    stage.configure("test", "nsup-period=0").await;
    let refused = put(MINUTES).await;
    let many = vec![(name.clone(), entry("value", MINUTES), PutMode::Always)];
    let many = backend.put_many(many).await;
    let endless = put(None).await;
    stage.configure("test", "nsup-period=1").await;

    for error in [error(refused), error(many)] {
        assert_eq!(error.kind(), ErrorKind::Backend);
        let message = error.to_string();
        assert!(
            message.contains("nsup-period of the namespace \"test\""),
            "{message}"
        );
        assert!(message.contains("error 22"), "{message}");
    }
    assert!(endless.unwrap(), "what never ends needs no TTL");
}

async fn lowers_its_limit_and_does_not_keep_the_old_value(stage: &Stage, backend: &Aerospike) {
    let large = key("large");
    let put = |len| backend.put(&large, entry(vec![7; len], MINUTES), PutMode::Always);
    assert!(put(500_000).await.unwrap());
    stage.configure("test", "max-record-size=256K").await;
    let kept = put(500_001).await;
    stage.configure("test", "max-record-size=1M").await;
    assert!(!kept.unwrap());
    assert!(!backend.contains(&large).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_writers_of_one_key_wait_for_each_other() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let backend = stage.connect().await;
    let writes = (0..200).map(|number: u32| {
        let backend = backend.clone();
        tokio::spawn(async move {
            let entry = entry(number.to_string(), MINUTES);
            backend.put(&key("hot"), entry, PutMode::Always).await
        })
    });
    for written in join_all(writes).await {
        assert!(written.unwrap().unwrap());
    }
    backend.close().await.unwrap();
    stage.end().await;
}

/// The client's own pool gives a connection to whoever happens to ask when one is free.
#[tokio::test]
async fn more_callers_than_connections_wait_in_a_queue() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let builder = Aerospike::builder(stage.server.hosts()).set(&stage.set);
    let builder = builder.timeout(Duration::from_secs(5));
    let backend = builder.max_conns_per_node(4).connect().await.unwrap();
    let name = key("name");
    let reads = (0..2_000).map(|_| backend.get(&name));
    for read in join_all(reads).await {
        assert!(read.unwrap().is_none());
    }
    backend.close().await.unwrap();
    stage.end().await;
}

#[tokio::test]
async fn a_damaged_record_is_an_error_by_itself_and_absent_among_many() {
    let Some(stage) = Stage::find().await else {
        return;
    };
    let backend = stage.connect().await;
    backend
        .put(&key("fine"), entry("value", MINUTES), PutMode::Always)
        .await
        .unwrap();
    let marker = stage.read(&stage.record("shop:generation")).await.unwrap();
    let Some(Value::String(generation)) = marker.bins.get("v") else {
        panic!("the marker is a text");
    };
    let record = stage.record(&format!("shop:{generation}:damaged"));
    let policy = WritePolicy::new(0, Expiration::Seconds(600));
    let bins = [Bin::new("v", Value::Blob(vec![0xFF; 64]))];
    stage.raw.put(&policy, &record, &bins).await.unwrap();

    let alone = error(backend.get(&key("damaged")).await);
    assert_eq!(alone.kind(), ErrorKind::Decode);
    let many = backend
        .get_many(&[key("damaged"), key("fine")])
        .await
        .unwrap();
    assert!(many[0].is_none() && many[1].is_some());

    let leased = backend.get_leased(&key("damaged")).await.unwrap();
    assert!(leased.entry.is_none());
    let mode = PutMode::IfUnchanged(leased.lease);
    assert!(
        backend
            .put(&key("damaged"), entry("mended", MINUTES), mode)
            .await
            .unwrap()
    );
    backend.close().await.unwrap();
    stage.end().await;
}
