//! The Redis backend with a replica that is read from: what is read there, what never is, and what becomes of it when one
//! of the two lags behind or fails.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, body::Body, extract::State, http::header::CACHE_CONTROL, routing::get};
use http::Request;
use http_body_util::BodyExt;
use larder::{
    Backend, Cache, CacheLayer, CodecId, Entry, Error, ErrorKind, Key, PutMode, PutOptions, Redis,
    Settings, Timestamp, testing,
};
use support_servers::{
    Link, Options, Proxy, Redis as Server, matrix, options_of_valkey, redis_name,
};
use tower::ServiceExt;

/// What a user needs who reads from a replica: the commands that the documentation names.
const RULES: &str = "~suite* ~SUITE* ~:* resetchannels -@all +get +mget +set +getrange +setrange +unlink +incrby \
                     +pttl +pexpire +persist +eval +evalsha +scan +ping +role +info";

/// How late what others did may be seen, and some time for the machine.
const BOUND: Duration = Duration::from_millis(1_300);

/// A primary, its replica, and what stands between them: it can be held up without either noticing.
struct Pair {
    primary: Server,
    replica: Server,
    between: Proxy,
}

impl Pair {
    async fn start() -> Option<Self> {
        Self::with(Options::default(), Options::default()).await
    }

    async fn with(primary: Options, replica: Options) -> Option<Self> {
        let primary = primary.config("repl-diskless-sync-delay 0").start()?;
        let between = Proxy::to(primary.address()).await;
        let replica = replica.replica_of(between.port()).start()?;
        let pair = Self {
            primary,
            replica,
            between,
        };
        pair.in_step().await;
        Some(pair)
    }

    /// Waits until the replica has everything. The proxy has to be served meanwhile.
    async fn in_step(&self) {
        let offset = |server: &Server, field: &str| {
            let told = server.cli(&["INFO", "replication"]);
            let mut lines = told.lines();
            lines
                .find_map(|line| Some(line.strip_prefix(field)?.trim().to_owned()))
                .unwrap_or_default()
        };
        let start = Instant::now();
        loop {
            let is_up = self
                .replica
                .cli(&["INFO", "replication"])
                .contains("master_link_status:up");
            let (of_primary, of_replica) = (
                offset(&self.primary, "master_repl_offset:"),
                offset(&self.replica, "slave_repl_offset:"),
            );
            if is_up && of_primary == of_replica {
                return;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "out of step");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// From now on the replica hears nothing, and does not notice.
    async fn hold_up(&self) {
        self.in_step().await;
        self.between.set(Link::Stall).await;
    }

    async fn backend(&self) -> Redis {
        let redis = Redis::builder(self.primary.url()).read_url(self.replica.url());
        redis.connect().await.unwrap()
    }

    /// Somebody else, who has no replica.
    async fn other(&self) -> Redis {
        Redis::builder(self.primary.url()).connect().await.unwrap()
    }

    fn reads(&self) -> u64 {
        self.replica.calls("mget")
    }
}

fn key(name: &str) -> Key {
    Key::new("shop", None, name)
}

fn entry(payload: impl Into<bytes::Bytes>) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, payload, now).with_ttl(Some(Duration::from_secs(600)), now)
}

async fn keep(redis: &Redis, name: &str, payload: &'static str) {
    let kept = redis.put(&key(name), entry(payload), PutMode::Always).await;
    assert!(kept.unwrap());
}

fn text(entry: Option<Entry>) -> Option<String> {
    entry.map(|entry| String::from_utf8(entry.payload().to_vec()).unwrap())
}

async fn relaxed(redis: &Redis, name: &str) -> Option<String> {
    text(redis.get_relaxed(&key(name)).await.unwrap())
}

async fn exact(redis: &Redis, name: &str) -> Option<String> {
    text(redis.get(&key(name)).await.unwrap())
}

/// Has a client come to know the primary, so that it reads from the replica from then on.
async fn warmed(pair: &Pair, redis: &Redis, name: &str) {
    pair.in_step().await;
    let start = Instant::now();
    let before = pair.reads();
    while pair.reads() < before + 3 {
        relaxed(redis, name).await;
        assert!(start.elapsed() < Duration::from_secs(5), "it is never read");
    }
}

async fn passes(mode: &str, start: impl AsyncFn() -> Redis) {
    let report = testing::examine(|| async { start().await }).await;
    matrix::judge(&redis_name(), mode, &report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_server_with_a_replica_passes() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    passes("reader apart", async || pair.backend().await).await;
    assert!(pair.reads() > 0, "the replica was never asked");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_replica_that_lags_behind_passes() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    pair.between
        .set(Link::Delay(Duration::from_millis(30)))
        .await;
    passes("reader apart and 30 ms late", async || pair.backend().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn users_who_may_do_what_is_documented_pass() {
    let user = || {
        Options::default()
            .password("root")
            .user("app", "secret", RULES)
    };
    let replica = user().config("masterauth root");
    let Some(pair) = Pair::with(user(), replica).await else {
        return;
    };
    // The user of the server is that of the replica too.
    let at_replica = pair.replica.url_as("");
    passes("reader apart, ACL", async || {
        let redis = Redis::builder(pair.primary.url()).read_url(&at_replica);
        redis.connect().await.unwrap()
    })
    .await;
    assert!(pair.reads() > 0, "the replica was never asked");
}

#[tokio::test]
async fn what_is_only_shown_is_read_from_the_replica() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let redis = pair.backend().await;
    for name in ["one", "two", "three"] {
        keep(&redis, name, "value").await;
    }
    warmed(&pair, &redis, "one").await;
    for name in ["two", "three"] {
        relaxed(&redis, name).await;
    }
    let (replica, primary) = (pair.reads(), pair.primary.calls("get"));
    for _ in 0..100 {
        assert_eq!(relaxed(&redis, "one").await.as_deref(), Some("value"));
    }
    let keys = ["two", "three"].map(key);
    for _ in 0..100 {
        let found = redis.get_many_relaxed(&keys).await.unwrap();
        assert!(found.iter().all(Option::is_some));
    }
    let (replica, primary) = (pair.reads() - replica, pair.primary.calls("get") - primary);
    let clients = pair.replica.cli(&["CLIENT", "LIST"]);
    let ours = clients.lines().find(|it| it.contains("name=larder"));
    assert!(ours.unwrap().contains("resp=3"), "{clients}");
    println!("of 200 reads, the replica had {replica}, and the primary {primary} keys");
    assert!(replica > 190, "{replica}");
    assert!(primary < 20, "{primary}");
}

/// A replica that knows of nothing that was done since.
#[tokio::test]
async fn what_this_process_did_is_seen_however_late_the_replica_is() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let redis = pair.backend().await;
    let names = [
        "put",
        "compared",
        "leased",
        "deleted",
        "deleted if",
        "many",
        "touched",
        "given up",
        "left",
    ];
    for name in names {
        keep(&redis, name, "old").await;
    }
    warmed(&pair, &redis, "put").await;
    for name in names {
        relaxed(&redis, name).await;
    }
    pair.hold_up().await;
    assert_eq!(relaxed(&redis, "put").await.as_deref(), Some("old"));

    keep(&redis, "put", "new").await;
    assert_eq!(relaxed(&redis, "put").await.as_deref(), Some("new"));

    let version = redis
        .get(&key("compared"))
        .await
        .unwrap()
        .unwrap()
        .version();
    let mode = PutMode::IfVersion(version);
    assert!(
        redis
            .put(&key("compared"), entry("new"), mode)
            .await
            .unwrap()
    );
    assert_eq!(relaxed(&redis, "compared").await.as_deref(), Some("new"));

    let lease = redis.get_leased(&key("leased")).await.unwrap().lease;
    let mode = PutMode::IfUnchanged(lease);
    assert!(redis.put(&key("leased"), entry("new"), mode).await.unwrap());
    assert_eq!(relaxed(&redis, "leased").await.as_deref(), Some("new"));

    assert!(redis.delete(&key("deleted")).await.unwrap());
    assert_eq!(relaxed(&redis, "deleted").await, None);

    let version = redis
        .get(&key("deleted if"))
        .await
        .unwrap()
        .unwrap()
        .version();
    assert!(redis.delete_if(&key("deleted if"), version).await.unwrap());
    assert_eq!(relaxed(&redis, "deleted if").await, None);

    let many = vec![(key("many"), entry("new"), PutMode::Always)];
    assert_eq!(redis.put_many(many).await.unwrap(), [true]);
    assert_eq!(relaxed(&redis, "many").await.as_deref(), Some("new"));
    assert_eq!(redis.delete_many(&[key("many")]).await.unwrap(), [true]);
    let found = redis
        .get_many_relaxed(&["many", "left"].map(key))
        .await
        .unwrap();
    assert_eq!(
        (text(found[0].clone()), text(found[1].clone()).as_deref()),
        (None, Some("old"))
    );

    assert!(
        redis
            .touch(&key("touched"), Some(Duration::from_millis(20)))
            .await
            .unwrap()
    );
    tokio::time::sleep(Duration::from_millis(25)).await;
    assert_eq!(relaxed(&redis, "touched").await, None);

    // A change whose caller hung up may have happened.
    let name = key("given up");
    let put = redis.put(&name, entry("new"), PutMode::Always);
    drop(tokio::time::timeout(Duration::ZERO, put).await);
    let now = exact(&redis, "given up").await;
    assert_eq!(relaxed(&redis, "given up").await, now);

    redis.clear("shop").await.unwrap();
    assert_eq!(relaxed(&redis, "left").await, None);
    pair.between.set(Link::Pass).await;
}

/// Not only right after a change, and not only by the first question.
/// A bucket is a hash there, or keys.
#[tokio::test]
async fn a_bucket_is_read_from_the_replica_until_this_process_clears_it() {
    for with in [
        Some(Options::default()),
        options_of_valkey(Options::default()),
    ] {
        let Some(options) = with else { continue };
        let Some(pair) = Pair::with(options.clone(), options).await else {
            return;
        };
        let redis = pair.backend().await;
        let keys = [1, 2, 3].map(|name: u8| Key::new("shop", Some("7"), [name]));
        for key in &keys {
            let kept = redis.put(key, entry("value"), PutMode::Always).await;
            assert!(kept.unwrap());
        }
        keep(&redis, "key", "value").await;
        warmed(&pair, &redis, "key").await;
        redis.get_many_relaxed(&keys).await.unwrap();
        pair.hold_up().await;
        let is_together = redis.capabilities().field_expiry;
        let command = if is_together { "hmget" } else { "mget" };
        let before = pair.replica.calls(command);
        for _ in 0..10 {
            let found = redis.get_many_relaxed(&keys).await.unwrap();
            assert!(found.iter().all(Option::is_some));
        }
        assert!(pair.replica.calls(command) >= before + 9);
        assert_eq!(redis.clear_bucket(&keys[0]).await.unwrap(), is_together);
        if is_together {
            let found = redis.get_many_relaxed(&keys).await.unwrap();
            assert!(found.iter().all(Option::is_none));
        }
    }
}

#[tokio::test]
async fn what_this_process_did_stays_seen_while_the_replica_is_late() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let redis = pair.backend().await;
    keep(&redis, "key", "old").await;
    keep(&redis, "other", "value").await;
    warmed(&pair, &redis, "key").await;
    relaxed(&redis, "other").await;
    pair.between
        .set(Link::Delay(Duration::from_millis(150)))
        .await;
    keep(&redis, "key", "new").await;
    let (start, before) = (Instant::now(), pair.reads());
    while start.elapsed() < Duration::from_millis(700) {
        assert_eq!(relaxed(&redis, "key").await.as_deref(), Some("new"));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let asked = pair.reads() - before;
    println!("the replica 150 ms late: it was asked {asked} times in 700 ms");
    assert!(asked > 20, "{asked}");
}

#[tokio::test]
async fn what_others_did_is_seen_within_a_second() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let (redis, other) = (pair.backend().await, pair.other().await);
    keep(&other, "key", "old").await;
    warmed(&pair, &redis, "key").await;
    pair.hold_up().await;
    keep(&other, "key", "new").await;
    let start = Instant::now();
    let mut late = 0;
    while relaxed(&redis, "key").await.as_deref() == Some("old") {
        late += 1;
        assert!(start.elapsed() < BOUND, "it is never seen");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let time = start.elapsed();
    println!("a replica that hears nothing was read {late} times, for {time:?}");
    assert!(late > 0, "the replica was not read at all");
    // From then on nobody believes the replica.
    for _ in 0..50 {
        assert_eq!(relaxed(&redis, "key").await.as_deref(), Some("new"));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // It comes back by itself when it has what it missed.
    pair.between.set(Link::Pass).await;
    warmed(&pair, &redis, "key").await;
    assert_eq!(relaxed(&redis, "key").await.as_deref(), Some("new"));
}

/// Also of what nobody asked the primary for since.
#[tokio::test]
async fn everything_that_others_did_is_seen_within_a_second() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let (redis, other) = (pair.backend().await, pair.other().await);
    let names: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    for name in &names {
        keep(&other, name, "old").await;
    }
    warmed(&pair, &redis, "0").await;
    for name in &names {
        relaxed(&redis, name).await;
    }
    pair.hold_up().await;
    for name in &names {
        keep(&other, name, "new").await;
    }
    let start = Instant::now();
    while start.elapsed() < BOUND {
        relaxed(&redis, "0").await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for name in &names {
        assert_eq!(
            relaxed(&redis, name).await.as_deref(),
            Some("new"),
            "{name}"
        );
    }
}

/// A client that asks seldom does not believe what it knew long ago.
#[tokio::test]
async fn what_others_did_is_seen_after_a_long_silence() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let (redis, other) = (pair.backend().await, pair.other().await);
    keep(&other, "key", "old").await;
    warmed(&pair, &redis, "key").await;
    pair.hold_up().await;
    keep(&other, "key", "new").await;
    tokio::time::sleep(BOUND).await;
    assert_eq!(relaxed(&redis, "key").await.as_deref(), Some("new"));
    assert_eq!(relaxed(&redis, "key").await.as_deref(), Some("new"));
}

#[tokio::test]
async fn every_other_verb_asks_the_primary() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let (redis, other) = (pair.backend().await, pair.other().await);
    for name in ["key", "gone"] {
        keep(&other, name, "old").await;
    }
    redis.increment(&key("counter"), 1, None).await.unwrap();
    warmed(&pair, &redis, "key").await;
    pair.hold_up().await;
    keep(&other, "key", "new").await;
    other.delete(&key("gone")).await.unwrap();
    assert_eq!(exact(&redis, "key").await.as_deref(), Some("new"));
    let found = redis.get_many(&["key", "gone"].map(key)).await.unwrap();
    let found: Vec<_> = found.into_iter().map(text).collect();
    assert_eq!(found, [Some("new".to_owned()), None]);
    let leased = redis.get_leased(&key("gone")).await.unwrap();
    assert!(leased.entry.is_none());
    assert!(!redis.contains(&key("gone")).await.unwrap());
    assert!(!redis.touch(&key("gone"), None).await.unwrap());
    assert_eq!(other.increment(&key("counter"), 1, None).await.unwrap(), 2);
    assert_eq!(redis.increment(&key("counter"), 1, None).await.unwrap(), 3);
}

async fn on(pair: &Pair) -> (Cache, Cache) {
    (
        Cache::new(pair.backend().await),
        Cache::new(pair.other().await),
    )
}

/// Has a cache read from the replica from then on.
async fn warmed_by(pair: &Pair, cache: &Cache, name: &str) {
    pair.in_step().await;
    let (start, before) = (Instant::now(), pair.reads());
    while pair.reads() < before + 3 {
        let _ = cache.get::<String>(name).await.unwrap();
        assert!(start.elapsed() < Duration::from_secs(5), "it is never read");
    }
}

/// What is shown may be late; what is made of it and stored may not, because it would stay.
#[tokio::test]
async fn loaders_read_what_is_there_now() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let (cache, other) = on(&pair).await;
    other.put("price", "old".to_owned()).await.unwrap();
    other.put("label", "old".to_owned()).await.unwrap();
    warmed_by(&pair, &cache, "price").await;
    pair.hold_up().await;
    // Somebody changes the price, and then has everything made of it go.
    other.put("price", "new".to_owned()).await.unwrap();
    other.delete("label").await.unwrap();
    let shown = cache.get::<String>("price").await.unwrap();
    assert_eq!(shown.as_deref(), Some("old"), "the replica was not read");
    let label = cache.get_or_load("label", async || {
        let price = cache.get::<String>("price").await?;
        Ok::<_, Error>(price.unwrap())
    });
    assert_eq!(*label.await.unwrap(), "new");
    let stored = other.get::<String>("label").await.unwrap();
    assert_eq!(stored.as_deref(), Some("new"));
    let version = cache.get_entry::<String>("price").await.unwrap().unwrap();
    assert_eq!(version.value, "new");
}

#[tokio::test]
async fn handlers_whose_answers_are_stored_read_what_is_there_now() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let (cache, other) = on(&pair).await;
    other.put("price", "old".to_owned()).await.unwrap();
    warmed_by(&pair, &cache, "price").await;
    // The handler has its cache by another way than the layer's.
    let handler = async |State(cache): State<Cache>| {
        let price = cache.get::<String>("price").await.unwrap().unwrap();
        ([(CACHE_CONTROL, "max-age=60")], price)
    };
    let router = Router::new()
        .route("/", get(handler).post(handler))
        .with_state(cache.clone())
        .layer(CacheLayer::new(cache.clone()));
    pair.hold_up().await;
    other.put("price", "new".to_owned()).await.unwrap();
    let shown = cache.get::<String>("price").await.unwrap();
    assert_eq!(shown.as_deref(), Some("old"), "the replica was not read");
    for method in ["GET", "POST"] {
        let request = Request::builder()
            .method(method)
            .uri("/")
            .body(Body::empty());
        let response = router.clone().oneshot(request.unwrap()).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "new", "{method}");
    }
}

/// Whoever was told of a change is shown nothing older, by the process that told it.
#[tokio::test]
async fn a_get_after_a_post_shows_what_the_post_did() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let cache = Cache::new(pair.backend().await);
    let item = Arc::<AtomicU64>::default();
    let read = async |State(item): State<Arc<AtomicU64>>| {
        let item = item.load(Ordering::SeqCst);
        ([(CACHE_CONTROL, "max-age=60")], item.to_string())
    };
    let change = async |State(item): State<Arc<AtomicU64>>| {
        (item.fetch_add(1, Ordering::SeqCst) + 1).to_string()
    };
    let router = Router::new()
        .route("/item", get(read).post(change))
        .with_state(item)
        .layer(CacheLayer::new(cache.clone()));
    let ask = async |method: &str| {
        let request = Request::builder()
            .method(method)
            .uri("/item")
            .body(Body::empty());
        let response = router.clone().oneshot(request.unwrap()).await.unwrap();
        let status = response.headers().get("cache-status").cloned();
        let is_hit = status.is_some_and(|status| status.to_str().unwrap().contains("; hit"));
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let item: u64 = std::str::from_utf8(&body).unwrap().parse().unwrap();
        cache.flush().await;
        (item, is_hit)
    };
    assert_eq!(ask("GET").await, (0, false));
    pair.in_step().await;
    let before = pair.reads();
    for _ in 0..10 {
        assert_eq!(ask("GET").await, (0, true));
    }
    assert!(pair.reads() > before, "the replica was not read");
    pair.hold_up().await;
    for round in 1..20 {
        assert_eq!(ask("GET").await, (round - 1, true));
        assert_eq!(ask("POST").await.0, round);
        assert_eq!(ask("GET").await, (round, false), "in round {round}");
    }
}

#[tokio::test]
async fn an_invalidation_of_a_tag_by_others_is_seen_at_once() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let (cache, other) = on(&pair).await;
    let options = PutOptions::new().tags(["prices"]);
    other
        .put_with("price", "old".to_owned(), options)
        .await
        .unwrap();
    warmed_by(&pair, &cache, "price").await;
    pair.hold_up().await;
    let shown = cache.get::<String>("price").await.unwrap();
    assert_eq!(shown.as_deref(), Some("old"));
    other.invalidate_tag("prices").await.unwrap();
    assert_eq!(cache.get::<String>("price").await.unwrap(), None);
}

/// The longest of some reads, each of which had its answer.
async fn longest(redis: &Redis, time: Duration) -> Duration {
    let (start, mut longest) = (Instant::now(), Duration::ZERO);
    while start.elapsed() < time {
        let begun = Instant::now();
        assert_eq!(relaxed(redis, "key").await.as_deref(), Some("value"));
        longest = longest.max(begun.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    longest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_killed_is_done_without_and_comes_back() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let redis = pair.backend().await;
    keep(&redis, "key", "value").await;
    warmed(&pair, &redis, "key").await;
    pair.replica.kill();
    let time = longest(&redis, Duration::from_millis(700)).await;
    println!("the replica killed: a read took {time:?} at most");
    assert!(time < Duration::from_millis(250), "{time:?}");
    pair.replica.restart();
    pair.replica.follows();
    let start = Instant::now();
    warmed(&pair, &redis, "key").await;
    println!(
        "the replica started again: it is read after {:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_replica_that_hangs_is_done_without_and_comes_back() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let redis = pair.backend().await;
    keep(&redis, "key", "value").await;
    warmed(&pair, &redis, "key").await;
    pair.replica.stop();
    let first = longest(&redis, Duration::from_millis(300)).await;
    let after = longest(&redis, Duration::from_millis(700)).await;
    println!("the replica stopped: a read took {first:?} at first and {after:?} after that");
    assert!(first < Duration::from_millis(400), "{first:?}");
    assert!(after < Duration::from_millis(90), "{after:?}");
    pair.replica.cont();
    let start = Instant::now();
    warmed(&pair, &redis, "key").await;
    println!(
        "the replica continued: it is read after {:?}",
        start.elapsed()
    );
}

/// A server that is busy for a moment answers late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_sleeps_is_not_waited_for() {
    let Some(pair) = Pair::with(
        Options::default(),
        Options::default().config("enable-debug-command yes"),
    )
    .await
    else {
        return;
    };
    let redis = pair.backend().await;
    keep(&redis, "key", "value").await;
    warmed(&pair, &redis, "key").await;
    let replica = std::thread::scope(|scope| {
        let sleeping = scope.spawn(|| pair.replica.cli(&["DEBUG", "SLEEP", "1"]));
        std::thread::sleep(Duration::from_millis(100));
        let time = tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(longest(&redis, Duration::from_millis(600)))
        });
        sleeping.join().unwrap();
        time
    });
    println!("the replica asleep for a second: a read took {replica:?} at most");
    assert!(replica < Duration::from_millis(400), "{replica:?}");
    warmed(&pair, &redis, "key").await;
}

/// It goes on answering with what it had.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lost_its_primary_is_not_read() {
    let primary = Options::default().password("root");
    let replica = Options::default()
        .password("root")
        .config("masterauth root")
        .config("replica-serve-stale-data yes");
    let Some(pair) = Pair::with(primary, replica).await else {
        return;
    };
    let (redis, other) = (pair.backend().await, pair.other().await);
    keep(&redis, "key", "old").await;
    warmed(&pair, &redis, "key").await;
    pair.replica.cut_off_from(&pair.primary);
    keep(&other, "key", "new").await;
    for _ in 0..50 {
        assert_eq!(relaxed(&redis, "key").await.as_deref(), Some("new"));
    }
    pair.replica.cli(&["CONFIG", "SET", "masterauth", "root"]);
    pair.replica.follows();
    warmed(&pair, &redis, "key").await;
}

/// A second one that says MASTERDOWN instead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_refuses_to_answer_is_done_without() {
    let primary = Options::default().password("root");
    let replica = Options::default()
        .password("root")
        .config("masterauth root");
    let Some(pair) = Pair::with(primary, replica).await else {
        return;
    };
    let redis = pair.backend().await;
    keep(&redis, "key", "value").await;
    warmed(&pair, &redis, "key").await;
    let refusing = ["CONFIG", "SET", "replica-serve-stale-data", "no"];
    pair.replica.cli(&refusing);
    pair.replica.cut_off_from(&pair.primary);
    let time = longest(&redis, Duration::from_millis(300)).await;
    assert!(time < Duration::from_millis(250), "{time:?}");
}

#[tokio::test]
async fn without_the_primary_replicas_are_read_for_no_longer_than_a_second() {
    let Some(pair) = Pair::start().await else {
        return;
    };
    let redis = pair.backend().await;
    keep(&redis, "key", "value").await;
    warmed(&pair, &redis, "key").await;
    pair.primary.kill();
    let start = Instant::now();
    let error = loop {
        match redis.get_relaxed(&key("key")).await {
            Ok(found) => assert_eq!(text(found).as_deref(), Some("value")),
            Err(error) => break error,
        }
        assert!(start.elapsed() < BOUND, "it is read for ever");
        tokio::time::sleep(Duration::from_millis(2)).await;
    };
    println!("the primary killed: refused after {:?}", start.elapsed());
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    // What it comes back without is gone, whatever the replica still has.
    pair.primary.restart_empty();
    for _ in 0..100 {
        let found = redis.get_relaxed(&key("key")).await;
        if let Ok(found) = found {
            assert_eq!(text(found), None);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A primary that had no replica for long gives what it does another name, by which replicas find out that they have to begin
/// anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_comes_after_a_long_time_is_read_too() {
    let primary = Options::default().config("repl-backlog-ttl 1");
    let Some(pair) = Pair::with(primary, Options::default()).await else {
        return;
    };
    let redis = pair.backend().await;
    keep(&redis, "key", "value").await;
    warmed(&pair, &redis, "key").await;
    let name = || {
        let told = pair.primary.cli(&["INFO", "replication"]);
        let mut lines = told.lines();
        lines
            .find(|line| line.starts_with("master_replid:"))
            .unwrap()
            .to_owned()
    };
    let before = name();
    pair.replica.kill();
    let start = Instant::now();
    while name() == before {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "it keeps its name"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    pair.replica.restart();
    pair.replica.follows();
    warmed(&pair, &redis, "key").await;
}

/// Servers that know nothing of each other, by mistake, have other offsets.
#[tokio::test]
async fn a_server_that_is_no_replica_of_the_primary_is_never_read() {
    let (Some(pair), Some(strange)) = (Pair::start().await, Pair::start().await) else {
        return;
    };
    let of_strange = Redis::builder(strange.primary.url())
        .connect()
        .await
        .unwrap();
    for number in 0..2_000 {
        // So that it is further.
        keep(&of_strange, &number.to_string(), "something").await;
    }
    strange.in_step().await;
    for url in [strange.primary.url(), strange.replica.url()] {
        let redis = Redis::builder(pair.primary.url()).read_url(url);
        let redis = redis.connect().await.unwrap();
        keep(&redis, "key", "value").await;
        let generation = pair.primary.cli(&["GET", "shop:generation"]);
        // Even one that has the same marker and key.
        strange
            .primary
            .cli(&["SET", "shop:generation", &generation]);
        keep(&of_strange, "key", "strange").await;
        strange.in_step().await;
        for _ in 0..50 {
            assert_eq!(relaxed(&redis, "key").await.as_deref(), Some("value"));
        }
    }
}

#[tokio::test]
async fn a_cache_connects_as_its_settings_say() {
    let user = || Options::default().password("root");
    let replica = user()
        .config("masterauth root")
        .user("reader", "s3cret", "~* +@all");
    let Some(pair) = Pair::with(user(), replica).await else {
        return;
    };
    let (url, read_url) = (pair.primary.url(), pair.replica.url());
    let settings = Settings::from_pairs([
        ("CACHE_TYPE", "redis"),
        ("CACHE_REDIS_URL", url.as_str()),
        ("CACHE_REDIS_READ_URL", read_url.as_str()),
    ]);
    let settings = settings.unwrap();
    assert!(!format!("{settings:?}").contains("s3cret"));
    let cache = Cache::from_settings(&settings).await.unwrap();
    cache.put("answer", "42".to_owned()).await.unwrap();
    warmed_by(&pair, &cache, "answer").await;
    let clients = pair.replica.cli(&["CLIENT", "LIST"]);
    assert!(clients.contains("name=larder"), "{clients}");
    assert!(clients.contains("user=reader"), "{clients}");
    cache.close().await.unwrap();
    let start = Instant::now();
    while pair
        .replica
        .cli(&["CLIENT", "LIST"])
        .contains("name=larder")
    {
        assert!(
            start.elapsed() < Duration::from_secs(2),
            "it is still there"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_replica_that_cannot_be_used_is_an_error_at_start_up() {
    let user = || Options::default().password("root");
    let replica = user()
        .config("masterauth root")
        .config("user blind on >s3cret ~* +@all -role");
    let Some(pair) = Pair::with(user(), replica).await else {
        return;
    };
    for (url, message) in [
        (pair.replica.url_as("blind:wrong@"), "CACHE_REDIS_READ_URL"),
        (pair.replica.url_as("blind:s3cret@"), "ROLE and INFO"),
        ("redis://127.0.0.1:1".to_owned(), "CACHE_REDIS_READ_URL"),
    ] {
        let redis = Redis::builder(pair.primary.url()).read_url(url);
        assert!(!format!("{redis:?}").contains("s3cret"));
        let error = redis.connect().await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(message), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    for (redis, message) in [
        (
            Redis::builder("redis://one").read_url("http://s3cret"),
            "CACHE_REDIS_READ_URL",
        ),
        (
            Redis::builder("redis://one/3").read_url("redis://two/4"),
            "CACHE_REDIS_READ_URL",
        ),
        (
            Redis::builder("redis://one").read_from_replicas(true),
            "CACHE_REDIS_READ_URL",
        ),
        (
            Redis::cluster(["one"]).read_url("redis://two"),
            "CACHE_REDIS_READ_FROM_REPLICAS",
        ),
        (
            Redis::sentinels(["one"], "name").read_url("redis://two"),
            "CACHE_REDIS_READ_FROM_REPLICAS",
        ),
    ] {
        let error = redis.connect_lazily().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Settings);
        let text = format!("{error} {error:?}");
        assert!(text.contains(message), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
}
