//! The memcached backend on real servers: the suite, and what the servers see of it.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;

use std::{
    future::Future,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use larder::{
    Backend, CodecId, Entry, ErrorKind, Key, Memcached, MemcachedBuilder, PutMode, Timestamp,
    testing::{Behaviour, Report, behaviours},
};
use support_servers::{Link, Memcached as Server, MemcachedOptions, Proxy, matrix};

/// So many behaviours are tried at once: most of them wait for the end of some entry.
const AT_ONCE: usize = 16;

async fn passes(mode: &str, start: impl AsyncFn() -> Memcached) {
    let run = async |behaviour: &'static Behaviour| {
        let outcome = behaviour.run(&|| async { start().await }).await;
        (behaviour.name(), outcome)
    };
    let outcomes = stream::iter(behaviours())
        .map(run)
        .buffer_unordered(AT_ONCE);
    let outcomes: Vec<_> = outcomes.collect().await;
    let report = Report::from_iter(outcomes);
    matrix::judge("memcached", mode, &report);
    for (name, missing) in report.skipped() {
        let expected = missing.contains("false")
            || missing.contains("MiB")
            || ["delete_prefix", "field_expiry", "remove_expired"].contains(&missing);
        assert!(expected, "{name} was left out for {missing}");
    }
}

/// An item takes at most half of what is usual.
const SMALL_ITEMS: [&str; 2] = ["-I", "512k"];

async fn connect(server: &Server) -> Memcached {
    Speak::Meta.connect(server).await
}

/// How a server is spoken to that understands both.
#[derive(Clone, Copy)]
enum Speak {
    Meta,
    Binary,
}

impl Speak {
    fn builder(self, servers: impl Into<String>) -> MemcachedBuilder {
        Memcached::builder(servers).binary_protocol(matches!(self, Self::Binary))
    }

    async fn connect(self, server: &Server) -> Memcached {
        self.builder(server.server()).connect().await.unwrap()
    }
}

/// Behaviours that do not depend on how the server is spoken to, each tried in both ways.
macro_rules! in_each_protocol {
    ($($behaviour:ident)+) => {
        mod meta {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(super::Speak::Meta).await;
            })+
        }

        mod binary {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $behaviour() {
                super::$behaviour(super::Speak::Binary).await;
            })+
        }
    };
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_plain_server_passes() {
    let Some(server) = Server::start() else {
        return;
    };
    passes("one server", async || connect(&server).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_unix_socket_passes() {
    let Some(server) = Server::with().unix_socket().start() else {
        return;
    };
    passes("unix socket", async || connect(&server).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_user_with_a_password_passes() {
    let Some(server) = Server::with().user("app", "s3cret").start() else {
        return;
    };
    passes("password", async || {
        let builder = Memcached::builder(server.server());
        let builder = builder.username("app").password("s3cret");
        builder.connect().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tls_passes() {
    let Some(server) = Server::with().tls().start() else {
        return;
    };
    let ca = server.certificates().ca().display().to_string();
    passes("TLS", async || {
        let builder = Memcached::builder(server.server()).tls(true).ca(&ca);
        builder.connect().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn tls_with_a_certificate_of_the_client_passes() {
    let Some(server) = Server::with().mtls().start() else {
        return;
    };
    let read = |path| std::fs::read_to_string(path).unwrap();
    let certificates = server.certificates();
    let ca = read(certificates.ca());
    let certificate = read(certificates.client_certificate());
    let key = read(certificates.client_key());
    passes("TLS, client certificate", async || {
        let builder = Memcached::builder(server.server()).tls(true).ca(&ca);
        let builder = builder.client_certificate(&certificate, &key);
        builder.connect().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_small_item_limit_passes() {
    let Some(server) = Server::with().arguments(&SMALL_ITEMS).start() else {
        return;
    };
    passes("values split", async || connect(&server).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn large_values_refused_passes() {
    let Some(server) = Server::with().arguments(&SMALL_ITEMS).start() else {
        return;
    };
    passes("large values refused", async || {
        refusing(Speak::Meta, &server).await
    })
    .await;
}

async fn refusing(speak: Speak, server: &Server) -> Memcached {
    let builder = speak.builder(server.server()).split_large_values(false);
    builder.connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_servers_pass() {
    let Some(servers) = three() else { return };
    passes("three servers", async || together(&servers).await).await;
    let items = servers.iter().map(|server| server.stat("total_items"));
    let items: Vec<_> = items.collect();
    assert!(items.iter().all(|count| *count > 100), "{items:?}");
}

/// A server that speaks the binary protocol alone, and wants to be told who asks.
fn sasl() -> MemcachedOptions {
    Server::with().sasl("app", "s3cret: ü")
}

fn with_sasl(servers: String) -> MemcachedBuilder {
    let builder = Speak::Binary.builder(servers);
    builder.username("app").password("s3cret: ü")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sasl_passes() {
    let Some(server) = sasl().start() else {
        return;
    };
    passes("SASL", async || {
        with_sasl(server.server()).connect().await.unwrap()
    })
    .await;
    assert!(server.stat("auth_cmds") > 100 && server.stat("auth_errors") == 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sasl_by_tls_passes() {
    let Some(server) = sasl().tls().start() else {
        return;
    };
    let ca = server.certificates().ca().display().to_string();
    passes("SASL, TLS", async || {
        let builder = with_sasl(server.server()).tls(true).ca(&ca);
        builder.connect().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sasl_with_a_small_item_limit_passes() {
    let Some(server) = sasl().arguments(&SMALL_ITEMS).start() else {
        return;
    };
    passes("SASL, values split", async || {
        with_sasl(server.server()).connect().await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn three_servers_with_sasl_pass() {
    let servers: Option<Vec<_>> = (0..3).map(|_| sasl().start()).collect();
    let Some(servers) = servers else { return };
    passes("SASL, three servers", async || {
        let builder = with_sasl(list(&servers));
        let builder = builder.server_timeout(Duration::from_secs(5));
        builder.connect().await.unwrap()
    })
    .await;
    let items = servers.iter().map(|server| server.stat("total_items"));
    let items: Vec<_> = items.collect();
    assert!(items.iter().all(|count| *count > 100), "{items:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_binary_protocol_by_a_unix_socket_passes() {
    let Some(server) = Server::with().unix_socket().start() else {
        return;
    };
    passes("binary protocol, unix socket", async || {
        Speak::Binary.connect(&server).await
    })
    .await;
}

fn three() -> Option<Vec<Server>> {
    (0..3).map(|_| Server::start()).collect()
}

fn list(servers: &[Server]) -> String {
    let servers: Vec<_> = servers.iter().map(Server::server).collect();
    servers.join(",")
}

/// Nobody else's load makes a server look as if it were away.
async fn together(servers: &[Server]) -> Memcached {
    let builder = Memcached::builder(list(servers)).server_timeout(Duration::from_secs(5));
    builder.connect().await.unwrap()
}

in_each_protocol! {
    keys_are_stored_under_namespace_generation_and_name
    a_counter_is_plain_digits_to_others
    a_counter_begins_where_somebody_loads
    if_absent_takes_a_key_that_somebody_loads
    a_load_that_has_begun_is_nothing_to_others
    an_entry_that_has_ended_can_still_be_loaded_anew
    what_is_put_after_its_end_is_not_there
    an_end_in_twelve_days_is_not_taken_for_one_that_has_been
    those_who_load_at_the_same_time_share_a_lease_and_the_first_one_puts
    a_counter_tells_when_it_ends
    an_empty_item_of_which_little_is_left_is_made_anew
    counting_while_the_end_is_moved_loses_nothing
    whoever_begins_to_load_what_has_ended_undoes_no_put
    of_those_who_put_where_something_has_ended_one_wins
    what_somebody_else_put_there_is_damaged_and_can_be_replaced
    clearing_costs_one_marker
    a_marker_that_is_evicted_is_made_anew_and_revives_nothing
    a_marker_of_a_generation_that_is_over_is_replaced
    a_version_from_before_a_restart_is_none_afterwards
    one_connection_serves_everybody
    a_request_that_is_given_up_disturbs_no_other
    a_batch_is_one_round_trip
    a_server_that_was_restarted_is_found_again
    a_write_that_comes_late_revives_nothing
    a_server_without_room_keeps_nothing_old
    a_server_that_evicts_loses_entries_and_nothing_else
    the_limit_is_the_servers_own
    a_value_over_the_limit_is_split_and_reads_as_one
    a_split_value_with_a_part_missing_is_a_miss_and_can_be_loaded_anew
    a_split_value_that_is_refused_leaves_no_parts
    a_split_value_that_has_ended_is_absent_to_every_verb
    split_values_that_are_put_at_the_same_time_do_not_mix
    the_keys_of_a_server_that_is_gone_are_misses_and_the_others_are_as_they_were
    a_server_that_comes_back_shows_nothing_of_what_was_invalidated_meanwhile
    a_server_that_is_silent_is_not_waited_for_again_and_again
    counting_on_a_server_that_is_gone_is_an_error
    when_all_are_gone_verbs_fail
    one_server_of_several_is_enough_to_begin_with
}

/// A backend on a server that is there for one test.
async fn start(speak: Speak) -> Option<(Server, Memcached)> {
    let server = Server::start()?;
    let memcached = speak.connect(&server).await;
    Some((server, memcached))
}

fn key(name: impl AsRef<[u8]>) -> Key {
    Key::new("shop", None, name)
}

fn entry(payload: impl Into<bytes::Bytes>) -> Entry {
    let now = Timestamp::now();
    Entry::new(CodecId::RAW, payload, now).with_ttl(Some(Duration::from_secs(600)), now)
}

async fn put(
    memcached: &Memcached,
    name: &str,
    payload: impl Into<bytes::Bytes>,
    mode: PutMode,
) -> larder::Result<bool> {
    memcached.put(&key(name), entry(payload), mode).await
}

async fn keep(memcached: &Memcached, name: &str, payload: impl Into<bytes::Bytes>) {
    assert!(
        put(memcached, name, payload, PutMode::Always)
            .await
            .unwrap()
    );
}

async fn read(memcached: &Memcached, name: &str) -> Option<String> {
    let entry = memcached.get(&key(name)).await.unwrap()?;
    Some(String::from_utf8(entry.payload().to_vec()).unwrap())
}

/// The second line of what a server answers.
fn second_line(answer: &str) -> String {
    answer.lines().nth(1).unwrap_or_default().to_owned()
}

fn generation(server: &Server) -> String {
    second_line(&server.say("mg shop:generation v\r\n"))
}

fn stored(server: &Server, name: &str) -> String {
    format!("shop:{}:{name}", generation(server))
}

async fn keys_are_stored_under_namespace_generation_and_name(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    keep(&memcached, "user:7", "value").await;
    let bucket = Key::new("shop", Some("basket"), "7");
    memcached
        .put(&bucket, entry("in a bucket"), PutMode::Always)
        .await
        .unwrap();
    let generation = generation(&server);
    assert_eq!(generation.len(), 8);
    for (stored, payload) in [
        (format!("shop:{generation}:user:7"), "value"),
        (format!("shop:{generation}/basket:7"), "in a bucket"),
    ] {
        let answer = server.say(&format!("mg {stored} s\r\n"));
        assert_eq!(answer, format!("HD s{}\r\n", 16 + payload.len()));
    }
}

async fn a_counter_is_plain_digits_to_others(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    let counter = key("visits");
    assert_eq!(memcached.increment(&counter, 41, None).await.unwrap(), 41);
    let stored = stored(&server, "visits");
    assert_eq!(
        second_line(&server.say(&format!("mg {stored} v\r\n"))),
        "41"
    );
    assert_eq!(server.say(&format!("incr {stored} 1\r\n")), "42\r\n");
    assert_eq!(memcached.increment(&counter, 1, None).await.unwrap(), 43);
    assert_eq!(server.say(&format!("decr {stored} 40\r\n")), "3\r\n");
    let read = memcached.get(&counter).await.unwrap().unwrap();
    assert_eq!(read.as_counter().unwrap(), 3);
}

/// A lease was taken on the key by somebody whose load has not ended.
async fn a_counter_begins_where_somebody_loads(speak: Speak) {
    let Some((_server, memcached)) = start(speak).await else {
        return;
    };
    let counter = key("visits");
    let lease = memcached.get_leased(&counter).await.unwrap().lease;
    assert_eq!(memcached.increment(&counter, -5, None).await.unwrap(), -5);
    let late = memcached.put(&counter, entry("late"), PutMode::IfUnchanged(lease));
    assert!(!late.await.unwrap());
    assert_eq!(memcached.increment(&counter, 6, None).await.unwrap(), 1);
}

async fn if_absent_takes_a_key_that_somebody_loads(speak: Speak) {
    let Some((_server, memcached)) = start(speak).await else {
        return;
    };
    let lease = memcached.get_leased(&key("lock")).await.unwrap().lease;
    assert!(
        put(&memcached, "lock", "mine", PutMode::IfAbsent)
            .await
            .unwrap()
    );
    let late = put(&memcached, "lock", "late", PutMode::IfUnchanged(lease));
    assert!(!late.await.unwrap());
    assert_eq!(read(&memcached, "lock").await.as_deref(), Some("mine"));
}

async fn a_load_that_has_begun_is_nothing_to_others(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    memcached.get_leased(&key("loaded")).await.unwrap();
    assert!(
        server
            .say(&format!("mg {} s t\r\n", stored(&server, "loaded")))
            .starts_with("HD s0 t")
    );
    assert!(!memcached.contains(&key("loaded")).await.unwrap());
    assert!(memcached.get(&key("loaded")).await.unwrap().is_none());
    assert!(!memcached.touch(&key("loaded"), None).await.unwrap());
    assert!(!memcached.delete(&key("loaded")).await.unwrap());
}

async fn an_entry_that_has_ended_can_still_be_loaded_anew(speak: Speak) {
    let Some((_server, memcached)) = start(speak).await else {
        return;
    };
    let short = entry("old").with_ttl(Some(Duration::from_millis(50)), Timestamp::now());
    memcached
        .put(&key("short"), short, PutMode::Always)
        .await
        .unwrap();
    let begun_before = memcached.get_leased(&key("short")).await.unwrap();
    assert!(begun_before.entry.is_some());
    tokio::time::sleep(Duration::from_millis(60)).await;
    let mode = PutMode::IfUnchanged(begun_before.lease);
    assert!(
        memcached
            .put(&key("short"), entry("new"), mode)
            .await
            .unwrap()
    );
    assert_eq!(read(&memcached, "short").await.as_deref(), Some("new"));
}

async fn what_is_put_after_its_end_is_not_there(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    keep(&memcached, "late", "value").await;
    let now = Timestamp::now();
    let ended = entry("late").with_expires_at(Some(now));
    let name = key("late");
    memcached.put(&name, ended, PutMode::Always).await.unwrap();
    let stored = stored(&server, "late");
    assert_eq!(server.say(&format!("mg {stored} s t\r\n")), "EN\r\n");
    assert!(!memcached.contains(&key("late")).await.unwrap());
}

/// The number that an item bears has room for twelve days of milliseconds, and what is further away looks like less.
async fn an_end_in_twelve_days_is_not_taken_for_one_that_has_been(speak: Speak) {
    let Some((_server, memcached)) = start(speak).await else {
        return;
    };
    let round = Duration::from_millis((1 << 30) - 5_000);
    for (name, len) in [("short", 10), ("long", 1_500_000)] {
        let now = Timestamp::now();
        let far = entry(vec![b'x'; len]).with_ttl(Some(round), now);
        let name = key(name);
        assert!(memcached.put(&name, far, PutMode::Always).await.unwrap());
        assert!(memcached.contains(&name).await.unwrap());
        let taken = memcached.put(&name, entry("other"), PutMode::IfAbsent);
        assert!(!taken.await.unwrap());
        let version = memcached.get(&name).await.unwrap().unwrap().version();
        let exchanged = memcached.put(&name, entry("other"), PutMode::IfVersion(version));
        assert!(exchanged.await.unwrap());
        assert!(memcached.delete(&name).await.unwrap());
    }
}

async fn those_who_load_at_the_same_time_share_a_lease_and_the_first_one_puts(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    let other = speak.connect(&server).await;
    // Never there, and there and over.
    for name in ["absent", "ended"] {
        let short = entry("old").with_ttl(Some(Duration::from_millis(20)), Timestamp::now());
        if name == "ended" {
            let key = key(name);
            memcached.put(&key, short, PutMode::Always).await.unwrap();
            tokio::time::sleep(Duration::from_millis(1_100)).await;
        }
        let first = memcached.get_leased(&key(name)).await.unwrap();
        let second = other.get_leased(&key(name)).await.unwrap();
        assert!(first.entry.is_none() && second.entry.is_none());
        let put_by = |lease| PutMode::IfUnchanged(lease);
        assert!(
            put(&memcached, name, "first", put_by(first.lease))
                .await
                .unwrap()
        );
        assert!(
            !put(&other, name, "second", put_by(second.lease))
                .await
                .unwrap()
        );
        assert_eq!(read(&other, name).await.as_deref(), Some("first"));
    }
}

async fn a_counter_tells_when_it_ends(speak: Speak) {
    let Some((_server, memcached)) = start(speak).await else {
        return;
    };
    let ends = async |name: &str| {
        let counter = memcached.get(&key(name)).await.unwrap().unwrap();
        let end = counter.expires_at();
        end.map(|end| end.since(Timestamp::now()).as_secs())
    };
    let month = Duration::from_secs(60 * 24 * 60 * 60);
    for (name, ttl) in [("minutes", Duration::from_secs(600)), ("months", month)] {
        for count in 1..3 {
            let sum = memcached.increment(&key(name), 1, Some(ttl)).await.unwrap();
            assert_eq!(sum, count);
            let left = ends(name).await.unwrap();
            assert!(
                (ttl.as_secs() - 2..=ttl.as_secs() + 2).contains(&left),
                "{left}"
            );
        }
    }
    memcached.increment(&key("endless"), 1, None).await.unwrap();
    assert_eq!(ends("endless").await, None);
    let (name, minute) = (key("endless"), Some(Duration::from_secs(60)));
    assert!(memcached.touch(&name, minute).await.unwrap());
    assert!((58..=62).contains(&ends("endless").await.unwrap()));
    assert!(memcached.touch(&key("minutes"), None).await.unwrap());
    assert_eq!(ends("minutes").await, None);
    assert_eq!(
        memcached.increment(&key("minutes"), 1, None).await.unwrap(),
        3
    );
}

/// Of the two ways in which a process gets to know how long an item stays, the server's own and the number that it bears.
async fn an_empty_item_of_which_little_is_left_is_made_anew(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    let left = |stored: &str| {
        let told = server.say(&format!("mg {stored} s t\r\n"));
        let left = told.strip_prefix("HD s0 t").unwrap();
        let left = left.split_whitespace().next().unwrap();
        left.parse::<u64>().unwrap()
    };
    memcached.get_leased(&key("loaded")).await.unwrap();
    let stored = stored(&server, "loaded");
    for (seconds, expected) in [(20, 58..=60), (45, 43..=45)] {
        let end = Timestamp::now().as_secs() + seconds;
        let mark = (0b11 << 30) + end % (1 << 30);
        let put = server.say(&format!("ms {stored} 0 T{seconds} F{mark}\r\n\r\n"));
        assert_eq!(put, "HD\r\n");
        let leased = memcached.get_leased(&key("loaded")).await.unwrap();
        assert!(leased.entry.is_none());
        let left = left(&stored);
        assert!(expected.contains(&left), "{left} of {seconds}");
    }
}

async fn counting_while_the_end_is_moved_loses_nothing(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    let other = speak.connect(&server).await;
    let counter = key("visits");
    memcached.increment(&counter, 1, None).await.unwrap();
    let moving = async {
        for seconds in 100..300 {
            let ttl = Some(Duration::from_secs(seconds));
            // It may say that others changed the key at every attempt.
            drop(other.touch(&key("visits"), ttl).await);
        }
    };
    let counting = async {
        for _ in 0..300 {
            memcached.increment(&counter, 1, None).await.unwrap();
        }
    };
    tokio::join!(moving, counting);
    assert_eq!(memcached.increment(&counter, 0, None).await.unwrap(), 301);
}

/// Entries that have ended, under names that are numbers, and long enough ago that whoever loads them begins anew.
async fn ended(memcached: &Memcached, count: usize) {
    let now = Timestamp::now();
    let short = entry("old").with_ttl(Some(Duration::from_millis(1)), now);
    let entries = (0..count).map(|name| (key(name.to_string()), short.clone(), PutMode::Always));
    memcached.put_many(entries.collect()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
}

async fn whoever_begins_to_load_what_has_ended_undoes_no_put(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    let other = speak.connect(&server).await;
    ended(&memcached, 300).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..300 {
        let (one, two) = (memcached.clone(), other.clone());
        tasks.spawn(async move { drop(one.get_leased(&key(number.to_string())).await) });
        tasks.spawn(async move { keep(&two, &number.to_string(), "new").await });
    }
    tasks.join_all().await;
    for number in 0..300 {
        let read = read(&memcached, &number.to_string()).await;
        assert_eq!(read.as_deref(), Some("new"), "{number}");
    }
}

async fn of_those_who_put_where_something_has_ended_one_wins(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    let other = speak.connect(&server).await;
    ended(&memcached, 300).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..300 {
        let (one, two) = (memcached.clone(), other.clone());
        let name = number.to_string();
        tasks.spawn(async move {
            let (first, second) = tokio::join!(
                put(&one, &name, "first", PutMode::IfAbsent),
                put(&two, &name, "second", PutMode::IfAbsent),
            );
            let winner = match (first.unwrap(), second.unwrap()) {
                (true, false) => "first",
                (false, true) => "second",
                both => panic!("{name}: {both:?}"),
            };
            assert_eq!(read(&one, &name).await.as_deref(), Some(winner));
        });
    }
    tasks.join_all().await;
}

async fn what_somebody_else_put_there_is_damaged_and_can_be_replaced(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    keep(&memcached, "foreign", "value").await;
    let stored = stored(&server, "foreign");
    assert_eq!(server.say(&format!("ms {stored} 4\r\ntext\r\n")), "HD\r\n");
    let error = memcached.get(&key("foreign")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Decode);
    let many = memcached.get_many(&[key("foreign")]).await.unwrap();
    assert!(many[0].is_none());
    let leased = memcached.get_leased(&key("foreign")).await.unwrap();
    assert!(leased.entry.is_none());
    let mode = PutMode::IfUnchanged(leased.lease);
    assert!(
        memcached
            .put(&key("foreign"), entry("new"), mode)
            .await
            .unwrap()
    );
    assert_eq!(read(&memcached, "foreign").await.as_deref(), Some("new"));
}

async fn clearing_costs_one_marker(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    keep(&memcached, "name", "value").await;
    let (before, items) = (generation(&server), server.stat("curr_items"));
    memcached.clear("shop").await.unwrap();
    assert_ne!(generation(&server), before);
    assert_eq!(server.stat("curr_items"), items);
    assert_eq!(read(&memcached, "name").await, None);
}

async fn a_marker_that_is_evicted_is_made_anew_and_revives_nothing(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    let other = speak.connect(&server).await;
    keep(&memcached, "name", "old").await;
    assert_eq!(read(&other, "name").await.as_deref(), Some("old"));
    let before = generation(&server);
    assert_eq!(server.say("md shop:generation\r\n"), "HD\r\n");
    assert_eq!(read(&memcached, "name").await, None);
    assert_eq!(read(&other, "name").await, None);
    assert_ne!(generation(&server), before);
    keep(&other, "name", "new").await;
    assert_eq!(read(&memcached, "name").await.as_deref(), Some("new"));
}

/// As if the marker had come back from a time before a clearing.
async fn a_marker_of_a_generation_that_is_over_is_replaced(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    keep(&memcached, "name", "old").await;
    let before = generation(&server);
    memcached.clear("shop").await.unwrap();
    assert_eq!(
        server.say(&format!("ms shop:generation 8\r\n{before}\r\n")),
        "HD\r\n"
    );
    assert_eq!(read(&memcached, "name").await, None);
    assert_ne!(generation(&server), before);
}

/// A server that is started again counts its changes from the beginning.
async fn a_version_from_before_a_restart_is_none_afterwards(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    keep(&memcached, "name", "old").await;
    let before = memcached.get_leased(&key("name")).await.unwrap();
    let version = before.entry.unwrap().version();
    server.restart();
    // So the new entry has the cas that the old one had.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _ = memcached.get(&key("name")).await;
    keep(&memcached, "name", "new").await;
    for mode in [
        PutMode::IfVersion(version),
        PutMode::IfUnchanged(before.lease),
    ] {
        let late = put(&memcached, "name", "late", mode);
        assert!(!late.await.unwrap(), "{mode:?}");
    }
    assert!(!memcached.delete_if(&key("name"), version).await.unwrap());
    assert_eq!(read(&memcached, "name").await.as_deref(), Some("new"));
}

async fn one_connection_serves_everybody(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200 {
        let memcached = memcached.clone();
        tasks.spawn(async move {
            let name = format!("{number}");
            let payload = bytes::Bytes::from(name.repeat(100));
            memcached
                .put(&key(&name), entry(payload.clone()), PutMode::Always)
                .await
                .unwrap();
            let read = memcached.get(&key(&name)).await.unwrap().unwrap();
            assert_eq!(read.payload(), &payload);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(
        server.stat("curr_connections"),
        2,
        "the other one is this question's"
    );
}

/// Requests that are given up leave their answers behind, which must not become somebody else's.
async fn a_request_that_is_given_up_disturbs_no_other(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    let large = bytes::Bytes::from(vec![b'x'; 300_000]);
    memcached
        .put(&key("large"), entry(large), PutMode::Always)
        .await
        .unwrap();
    keep(&memcached, "small", "value").await;
    let connections = server.stat("total_connections");
    for polls in 1..60 {
        let name = key(if polls % 2 == 0 { "large" } else { "absent" });
        let mut get = pin!(memcached.get(&name));
        let mut left = polls;
        std::future::poll_fn(|context| {
            left -= 1;
            match get.as_mut().poll(context) {
                Poll::Pending if left > 0 => Poll::Pending,
                _ => Poll::Ready(()),
            }
        })
        .await;
        assert_eq!(read(&memcached, "small").await.as_deref(), Some("value"));
    }
    assert_eq!(
        server.stat("total_connections"),
        connections + 1,
        "it is still the same"
    );
}

async fn a_batch_is_one_round_trip(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    keep(&memcached, "first", "value").await;
    let proxy = Proxy::to(server.address()).await;
    let builder = speak.builder(proxy.address().to_string());
    let far = builder.connect().await.unwrap();
    far.get(&key("first")).await.unwrap();
    proxy.set(Link::Delay(Duration::from_millis(100))).await;
    let begun = Instant::now();
    let keys: Vec<_> = (0..300).map(|name| key(name.to_string())).collect();
    far.get_many(&keys).await.unwrap();
    let taken = begun.elapsed();
    assert!((200..350).contains(&taken.as_millis()), "{taken:?}");
}

async fn a_server_that_was_restarted_is_found_again(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    keep(&memcached, "name", "value").await;
    server.kill();
    let error = memcached.get(&key("name")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    let begun = Instant::now();
    assert!(memcached.get(&key("name")).await.is_err());
    assert!(
        begun.elapsed() < Duration::from_millis(20),
        "it fails at once"
    );
    server.restart();
    let begun = Instant::now();
    while memcached.ping().await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(read(&memcached, "name").await, None);
    keep(&memcached, "name", "anew").await;
}

/// The server gets what was sent before it was stopped, and does it when it goes on: after everything that came later by
/// another connection.
async fn a_write_that_comes_late_revives_nothing(speak: Speak) {
    let Some(server) = Server::start() else {
        return;
    };
    let proxy = Proxy::to(server.address()).await;
    let builder = speak.builder(proxy.address().to_string());
    let memcached = builder.connect().await.unwrap();
    // Which of the two the server reads first is up to it.
    for _ in 0..5 {
        put_late(&server, &proxy, &memcached).await;
    }
}

async fn put_late(server: &Server, proxy: &Proxy, memcached: &Memcached) {
    keep(memcached, "name", "first").await;
    server.stop();
    let name = key("name");
    let put = memcached.put(&name, entry("late"), PutMode::Always);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), put)
            .await
            .is_err()
    );
    // The connection is gone, and what it carried is still to be read by the server.
    proxy.set(Link::Refuse).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    proxy.set(Link::Pass).await;
    server.cont();
    let begun = Instant::now();
    loop {
        match memcached.delete(&key("name")).await {
            Ok(_) => break,
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
    for _ in 0..20 {
        assert_eq!(read(memcached, "name").await, None);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn a_server_without_room_keeps_nothing_old(speak: Speak) {
    let options = Server::with().arguments(&["-M", "-m", "2"]);
    let Some(server) = options.start() else {
        return;
    };
    let memcached = speak.connect(&server).await;
    keep(&memcached, "first", "old").await;
    let mut refused = None;
    let payload = bytes::Bytes::from(vec![b'x'; 20_000]);
    for number in 0..1_000 {
        let name = key(format!("fill {number}"));
        if let Err(error) = memcached
            .put(&name, entry(payload.clone()), PutMode::Always)
            .await
        {
            refused = Some(error);
            break;
        }
    }
    let refused = refused.expect("two megabytes are full by now");
    assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
    assert!(refused.to_string().contains("-M"), "{refused}");
    // It has been put in its place before, and is not the truth any more.
    let again = put(&memcached, "fill 0", vec![b'y'; 30_000], PutMode::Always).await;
    if again.is_err() {
        assert!(memcached.get(&key("fill 0")).await.unwrap().is_none());
    }
    assert_eq!(read(&memcached, "first").await.as_deref(), Some("old"));
    // Of one that is split some parts may find room, and it is not kept all the same.
    let refused = put(&memcached, "first", long(8 << 20, 1), PutMode::Always).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge, "{refused}");
    assert!(read_bytes(&memcached, "first").await.is_none());
    keep(&memcached, "second", "old").await;
    memcached.clear("shop").await.unwrap();
    assert_eq!(read(&memcached, "second").await, None);
}

async fn a_server_that_evicts_loses_entries_and_nothing_else(speak: Speak) {
    let Some(server) = Server::with().arguments(&["-m", "2"]).start() else {
        return;
    };
    let memcached = speak.connect(&server).await;
    keep(&memcached, "early", "value").await;
    for number in 0..400_u32 {
        let payload = bytes::Bytes::from(number.to_string().repeat(4_000));
        let name = key(format!("{number}"));
        assert!(
            memcached
                .put(&name, entry(payload), PutMode::Always)
                .await
                .unwrap()
        );
    }
    assert!(server.stat("evictions") > 0, "it was to be full");
    let (mut found, mut gone) = (0, 0);
    for number in 0..400_u32 {
        match memcached.get(&key(format!("{number}"))).await.unwrap() {
            Some(entry) => {
                assert_eq!(entry.payload(), &number.to_string().repeat(4_000));
                found += 1;
            }
            None => gone += 1,
        }
    }
    assert!(found > 0 && gone > 0, "{found} found, {gone} gone");
}

async fn the_limit_is_the_servers_own(speak: Speak) {
    for (arguments, item) in [
        (&[][..], 1 << 20),
        (&SMALL_ITEMS, 512 << 10),
        (&["-I", "4m"], 4 << 20),
    ] {
        let options = Server::with().arguments(arguments);
        let Some(server) = options.start() else {
            return;
        };
        let memcached = refusing(speak, &server).await;
        let limit = memcached.capabilities().max_value_len.unwrap();
        assert!(limit > item - 400 && limit < item, "{limit} of {item}");
        // The longest key that is stored as it is.
        let name = key("n".repeat(250 - "shop:GGGGGGGG:".len()));
        for (len, expected) in [(limit, true), (limit + 1, false)] {
            let kept = memcached.put(&name, entry(vec![b'x'; len]), PutMode::Always);
            assert_eq!(kept.await.unwrap(), expected, "{len} of {item}");
            let read = memcached.get(&name).await.unwrap();
            assert_eq!(read.is_some(), expected, "{len} of {item}");
        }
    }
}

/// Bytes of which no block is like another.
fn long(len: usize, seed: u8) -> bytes::Bytes {
    let bytes = (0..len).map(|at| (at / 251) as u8 ^ (at % 251) as u8 ^ seed);
    bytes.collect::<Vec<_>>().into()
}

async fn read_bytes(memcached: &Memcached, name: &str) -> Option<bytes::Bytes> {
    let entry = memcached.get(&key(name)).await.unwrap()?;
    Some(entry.payload().clone())
}

async fn a_value_over_the_limit_is_split_and_reads_as_one(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    let limit = memcached.capabilities().max_value_len.unwrap();
    assert!(limit > 15 << 20, "{limit}");
    for len in [1_000_000, 1_048_240, 1_048_241, 1_048_560, 2_500_000, limit] {
        let value = long(len, 3);
        keep(&memcached, "long", value.clone()).await;
        let read = read_bytes(&memcached, "long").await;
        assert!(read == Some(value.clone()), "{len}");
        assert!(memcached.contains(&key("long")).await.unwrap());
        let many = memcached.get_many(&[key("long")]).await.unwrap();
        assert!(many[0].as_ref().unwrap().payload() == &value, "{len}");
        let leased = memcached.get_leased(&key("long")).await.unwrap();
        assert!(leased.entry.unwrap().payload() == &value, "{len}");
    }
    assert!(server.stat("curr_items") > 16);
    let error = memcached
        .increment(&key("long"), 1, None)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongType, "{error}");
    assert!(memcached.touch(&key("long"), None).await.unwrap());
    let touched = memcached.get(&key("long")).await.unwrap().unwrap();
    assert!(touched.expires_at().is_none() && touched.payload() == &long(limit, 3));
    assert!(memcached.delete(&key("long")).await.unwrap());
    assert!(read_bytes(&memcached, "long").await.is_none());
}

async fn a_split_value_with_a_part_missing_is_a_miss_and_can_be_loaded_anew(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    for (part, damage) in [(0, "md"), (1, "md"), (2, "ms"), (2, "md")] {
        keep(&memcached, "long", long(2_500_000, 1)).await;
        let head = format!("mg {} v\r\n", stored(&server, "long"));
        let id: String = server.bytes(&head)[7..][2..18]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let part = format!("shop:{}#{id}.{part}", generation(&server));
        let damaged = match damage {
            "md" => server.say(&format!("md {part}\r\n")),
            _ => server.say(&format!("ms {part} 3\r\nabc\r\n")),
        };
        assert_eq!(damaged, "HD\r\n");
        assert!(read_bytes(&memcached, "long").await.is_none());
        assert!(memcached.get_many(&[key("long")]).await.unwrap()[0].is_none());
        let leased = memcached.get_leased(&key("long")).await.unwrap();
        assert!(leased.entry.is_none());
        let mode = PutMode::IfUnchanged(leased.lease);
        assert!(
            put(&memcached, "long", long(1_200_000, 2), mode)
                .await
                .unwrap()
        );
        assert!(read_bytes(&memcached, "long").await == Some(long(1_200_000, 2)));
    }
}

async fn a_split_value_that_is_refused_leaves_no_parts(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    keep(&memcached, "long", "short").await;
    let items = server.stat("curr_items");
    let refused = put(&memcached, "long", long(2_500_000, 1), PutMode::IfAbsent);
    assert!(!refused.await.unwrap());
    assert_eq!(server.stat("curr_items"), items);
    assert_eq!(read(&memcached, "long").await.as_deref(), Some("short"));
}

async fn a_split_value_that_has_ended_is_absent_to_every_verb(speak: Speak) {
    let Some((_server, memcached)) = start(speak).await else {
        return;
    };
    let name = key("long");
    let now = Timestamp::now();
    let short = entry(long(1_500_000, 1)).with_ttl(Some(Duration::from_millis(500)), now);
    let put = memcached.put(&name, short, PutMode::Always);
    assert!(put.await.unwrap());
    let version = memcached.get(&name).await.unwrap();
    let version = version.map_or(7, |entry| entry.version());
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(memcached.get(&name).await.unwrap().is_none());
    assert!(!memcached.contains(&name).await.unwrap());
    assert!(!memcached.touch(&name, None).await.unwrap());
    let exchanged = memcached.put(&name, entry("new"), PutMode::IfVersion(version));
    assert!(!exchanged.await.unwrap());
    let taken = memcached.put(&name, entry("new"), PutMode::IfAbsent);
    assert!(taken.await.unwrap());
    assert_eq!(read(&memcached, "long").await.as_deref(), Some("new"));
}

/// Whoever reads gets one of the values as a whole, or nothing.
async fn split_values_that_are_put_at_the_same_time_do_not_mix(speak: Speak) {
    let Some((server, memcached)) = start(speak).await else {
        return;
    };
    let other = speak.connect(&server).await;
    let values = [long(1_500_000, 1), long(2_500_000, 2)];
    let mut writers = tokio::task::JoinSet::new();
    for (backend, value) in [memcached.clone(), other].into_iter().zip(values.clone()) {
        writers.spawn(async move {
            for _ in 0..20 {
                keep(&backend, "long", value.clone()).await;
            }
        });
    }
    let mut found = 0;
    while !writers.is_empty() {
        if let Some(read) = read_bytes(&memcached, "long").await {
            assert!(values.contains(&read), "{} bytes", read.len());
            found += 1;
        }
        while let Some(done) = writers.try_join_next() {
            done.unwrap();
        }
    }
    assert!(found > 0);
}

/// Among the first thousand numbers, one whose key the server has.
async fn name_on(server: &Server, memcached: &Memcached) -> String {
    for number in 0..1_000 {
        let name = number.to_string();
        let before = server.stat("cmd_get");
        memcached.get(&key(&name)).await.unwrap();
        if server.stat("cmd_get") > before {
            return name;
        }
    }
    panic!("the server has no key of a thousand");
}

async fn the_keys_of_a_server_that_is_gone_are_misses_and_the_others_are_as_they_were(
    speak: Speak,
) {
    let Some(servers) = three() else { return };
    let memcached = speak.builder(list(&servers)).connect().await.unwrap();
    let names: Vec<_> = (0..60).map(|number| number.to_string()).collect();
    for name in &names {
        keep(&memcached, name, "value").await;
    }
    servers[1].kill();
    let begun = Instant::now();
    let mut missing = 0;
    for name in &names {
        match read(&memcached, name).await {
            Some(value) => assert_eq!(value, "value"),
            None => missing += 1,
        }
    }
    assert!((5..40).contains(&missing), "{missing} of 60");
    assert!(
        begun.elapsed() < Duration::from_secs(1),
        "{:?}",
        begun.elapsed()
    );
    let keys: Vec<_> = names.iter().map(key).collect();
    let many = memcached.get_many(&keys).await.unwrap();
    assert_eq!(many.iter().filter(|it| it.is_none()).count(), missing);
    memcached.ping().await.unwrap();

    servers[1].restart();
    let begun = Instant::now();
    loop {
        let mut kept = 0;
        for name in &names {
            let put = put(&memcached, name, "anew", PutMode::Always);
            kept += usize::from(put.await.unwrap());
        }
        if kept == names.len() {
            break;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(3),
            "it is not found again"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for name in &names {
        assert_eq!(read(&memcached, name).await.as_deref(), Some("anew"));
    }
}

/// It comes back with what it held when it was cut off.
async fn a_server_that_comes_back_shows_nothing_of_what_was_invalidated_meanwhile(speak: Speak) {
    let Some(servers) = three() else { return };
    let builder = || speak.builder(list(&servers));
    let memcached = builder().connect().await.unwrap();
    let name = name_on(&servers[2], &memcached).await;
    for verb in ["delete", "put", "delete_if", "clear", "put_many"] {
        keep(&memcached, &name, "old").await;
        let entry_there = memcached.get(&key(&name)).await.unwrap().unwrap();
        servers[2].stop();
        let begun = Instant::now();
        let name = key(&name);
        match verb {
            "delete" => assert!(!memcached.delete(&name).await.unwrap()),
            "put" => {
                let put = memcached.put(&name, entry("new"), PutMode::Always);
                assert!(!put.await.unwrap());
            }
            "put_many" => {
                let entries = vec![(name.clone(), entry("new"), PutMode::Always)];
                assert_eq!(memcached.put_many(entries).await.unwrap(), [false]);
            }
            "clear" => memcached.clear("shop").await.unwrap(),
            _ => {
                let gone = memcached.delete_if(&name, entry_there.version());
                assert!(!gone.await.unwrap());
            }
        }
        let taken = begun.elapsed();
        assert!(taken < Duration::from_millis(230), "{verb} took {taken:?}");
        assert!(memcached.get(&name).await.unwrap().is_none());
        servers[2].cont();
        let begun = Instant::now();
        let mut kept = false;
        while begun.elapsed() < Duration::from_secs(3) && !kept {
            let read = memcached.get(&name).await.unwrap();
            assert!(read.is_none(), "{verb}");
            kept = memcached
                .put(&name, entry("anew"), PutMode::IfAbsent)
                .await
                .unwrap();
        }
        assert!(kept, "{verb}: it is not found again");
        memcached.delete(&name).await.unwrap();
    }
}

async fn a_server_that_is_silent_is_not_waited_for_again_and_again(speak: Speak) {
    let Some(servers) = three() else { return };
    let memcached = speak.builder(list(&servers)).connect().await.unwrap();
    let name = name_on(&servers[0], &memcached).await;
    servers[0].stop();
    let begun = Instant::now();
    assert_eq!(read(&memcached, &name).await, None);
    assert!(begun.elapsed() >= Duration::from_millis(90));
    tokio::time::sleep(Duration::from_millis(200)).await;
    let begun = Instant::now();
    for _ in 0..100 {
        assert_eq!(read(&memcached, &name).await, None);
    }
    assert!(
        begun.elapsed() < Duration::from_millis(90),
        "{:?}",
        begun.elapsed()
    );
    servers[0].cont();
    let begun = Instant::now();
    while !memcached
        .put(&key(&name), entry("anew"), PutMode::Always)
        .await
        .unwrap()
    {
        assert!(begun.elapsed() < Duration::from_secs(2));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn counting_on_a_server_that_is_gone_is_an_error(speak: Speak) {
    let Some(servers) = three() else { return };
    let memcached = speak.builder(list(&servers)).connect().await.unwrap();
    let name = name_on(&servers[0], &memcached).await;
    assert_eq!(memcached.increment(&key(&name), 1, None).await.unwrap(), 1);
    servers[0].kill();
    let error = memcached.increment(&key(&name), 1, None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

async fn when_all_are_gone_verbs_fail(speak: Speak) {
    let Some(servers) = three() else { return };
    let memcached = speak.builder(list(&servers)).connect().await.unwrap();
    servers.iter().for_each(Server::kill);
    assert!(memcached.ping().await.is_err());
    let error = memcached.get(&key("name")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(memcached.delete(&key("name")).await.is_err());
    assert!(memcached.clear("shop").await.is_err());
}

async fn one_server_of_several_is_enough_to_begin_with(speak: Speak) {
    let Some(servers) = three() else { return };
    servers[0].kill();
    servers[2].kill();
    let memcached = speak.builder(list(&servers)).connect().await.unwrap();
    servers[1].kill();
    drop(memcached);
    let error = speak.builder(list(&servers)).connect().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}
