//! A shop behind a real server and under load, for the time in which its cache's backend fails.
//!
//! Sixty-four connections ask for items and change them. A change is in the shop's own memory before it is answered, so
//! whoever asks after that answer may be shown nothing older: that is what "stale" means here, and it holds whatever the
//! backend does meanwhile.

#![allow(dead_code, reason = "every test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod caller;
mod on_the_way;
mod table;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{Router, extract::Path, extract::State, http::header::CACHE_CONTROL, routing::get};
use bytes::Bytes;
use caller::Calls;
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use larder::{BreakerState, Cache, CacheLayer, Settings, Stats};
#[allow(unused_imports, reason = "every test file uses a part of it")]
pub(crate) use on_the_way::on_the_way;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

pub(crate) const CONNECTIONS: usize = 64;
const ITEMS: usize = 16;

/// One request in so many changes something.
const CHANGES: u64 = 20;

/// Between two requests of a connection, so that the machine is not what is measured.
const PAUSE: Duration = Duration::from_millis(8);

/// What the items are, and what their changers were told.
#[derive(Default)]
struct Shop {
    items: [AtomicU64; ITEMS],
    told: [AtomicU64; ITEMS],
}

/// What the clients saw.
#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    failed: AtomicU64,
    stale: AtomicU64,
    hits: AtomicU64,
    longest_micros: AtomicU64,
    /// The longest time by which a sleep was late: what the machine does to everybody.
    late_micros: AtomicU64,
    last_hit: Mutex<Option<Instant>>,
}

/// The shop, its server and its clients.
pub(crate) struct Load {
    pub(crate) cache: Cache,
    seen: Arc<Seen>,
    calls: Arc<Mutex<Calls>>,
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
    server: tokio::task::JoinHandle<()>,
    _alone: tokio::sync::MutexGuard<'static, ()>,
}

/// A line of the table: what was broken, and what it did to the clients.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) fault: String,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) stale: u64,
    pub(crate) hits: u64,
    pub(crate) longest: Duration,
    /// How long the machine kept this program waiting at worst.
    pub(crate) late: Duration,
    /// From the end of the fault to the first answer out of the cache.
    pub(crate) recovered: Option<Duration>,
    /// What a handler's own calls were answered.
    pub(crate) calls: Calls,
    pub(crate) stats: Stats,
}

impl Load {
    pub(crate) async fn start(cache: Cache) -> Self {
        // Where tests share a process, one load at a time is enough for a machine.
        static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let alone = ALONE.lock().await;
        let (shop, seen) = (Arc::new(Shop::default()), Arc::new(Seen::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let router = Router::new()
            .route("/items/{id}", get(read).post(change))
            .with_state(shop.clone())
            .layer(CacheLayer::new(cache.clone()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        let mut clients = JoinSet::new();
        clients.spawn(watch(seen.clone(), stop.clone()));
        let calls = Arc::default();
        clients.spawn(caller::go_on(
            cache.clone(),
            Arc::clone(&calls),
            stop.clone(),
            PAUSE,
        ));
        for number in 0..CONNECTIONS {
            let (shop, seen, stop) = (shop.clone(), seen.clone(), stop.clone());
            clients.spawn(async move {
                let mut dice = 0x9E37_79B9 * (number as u64 + 1);
                let mut connection = None;
                while !stop.load(Ordering::Relaxed) {
                    visit(address, &mut connection, &shop, &seen, roll(&mut dice)).await;
                    sleep(PAUSE).await;
                }
            });
        }
        Self {
            cache,
            seen,
            calls,
            stop,
            clients,
            server,
            _alone: alone,
        }
    }

    /// Starts, and goes on until answers come out of the cache: before there is one, a fault has nothing to break.
    pub(crate) async fn warm(cache: Cache) -> Self {
        let load = Self::start(cache).await;
        load.run(Duration::from_millis(700)).await;
        if load.hits() == 0 {
            // The first connections of 64 visitors at once may take a slow client longer.
            load.recovery(Duration::from_secs(10)).await;
        }
        assert!(load.hits() > 0, "nothing was cached before the fault");
        load
    }

    /// Lets the clients go on for a while.
    pub(crate) async fn run(&self, time: Duration) {
        sleep(time).await;
    }

    pub(crate) fn hits(&self) -> u64 {
        self.seen.hits.load(Ordering::Relaxed)
    }

    /// Waits until something is answered out of the cache again.
    pub(crate) async fn recovery(&self, patience: Duration) -> Option<Duration> {
        let begun = Instant::now();
        while begun.elapsed() < patience {
            let last = *self.seen.last_hit.lock().unwrap();
            if let Some(hit) = last.filter(|hit| *hit > begun) {
                return Some(hit - begun);
            }
            sleep(Duration::from_millis(5)).await;
        }
        None
    }

    /// Waits until the cache is back, lets it go on for a moment, and ends.
    async fn back(self, fault: &str) -> Report {
        let recovered = self.recovery(Duration::from_secs(10)).await;
        self.run(Duration::from_millis(500)).await;
        self.end(fault, recovered).await
    }

    pub(crate) async fn end(mut self, fault: &str, recovered: Option<Duration>) -> Report {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(client) = self.clients.join_next().await {
            client.unwrap();
        }
        self.server.abort();
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let report = Report {
            fault: fault.to_owned(),
            requests: read(&self.seen.requests),
            failed: read(&self.seen.failed),
            stale: read(&self.seen.stale),
            hits: read(&self.seen.hits),
            longest: Duration::from_micros(read(&self.seen.longest_micros)),
            late: Duration::from_micros(read(&self.seen.late_micros)),
            recovered,
            calls: self.calls.lock().unwrap().clone(),
            stats: self.cache.stats(),
        };
        table::note(&report);
        report
    }
}

/// Finds out how late a task comes to run here.
async fn watch(seen: Arc<Seen>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        sleep(PAUSE).await;
        let late = begun.elapsed().saturating_sub(PAUSE).as_micros();
        let late = u64::try_from(late).unwrap();
        seen.late_micros.fetch_max(late, Ordering::Relaxed);
    }
}

async fn read(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<usize>,
) -> ([(http::HeaderName, &'static str); 1], String) {
    let item = shop.items[id].load(Ordering::SeqCst);
    ([(CACHE_CONTROL, "max-age=60")], item.to_string())
}

async fn change(State(shop): State<Arc<Shop>>, Path(id): Path<usize>) -> String {
    let item = shop.items[id].fetch_add(1, Ordering::SeqCst) + 1;
    item.to_string()
}

/// One request, and what there is to say about its answer.
async fn visit(
    address: SocketAddr,
    connection: &mut Option<SendRequest<Empty<Bytes>>>,
    shop: &Shop,
    seen: &Seen,
    dice: u64,
) {
    let id = dice as usize % ITEMS;
    let method = match (dice >> 32).is_multiple_of(CHANGES) {
        true => Method::POST,
        false => Method::GET,
    };
    let least = shop.told[id].load(Ordering::SeqCst);
    let begun = Instant::now();
    let answer = ask(address, connection, &method, id).await;
    let taken = u64::try_from(begun.elapsed().as_micros()).unwrap();
    seen.longest_micros.fetch_max(taken, Ordering::Relaxed);
    seen.requests.fetch_add(1, Ordering::Relaxed);
    let Some((item, is_hit)) = answer else {
        *connection = None;
        seen.failed.fetch_add(1, Ordering::Relaxed);
        return;
    };
    if method == Method::POST {
        shop.told[id].fetch_max(item, Ordering::SeqCst);
    } else if item < least {
        seen.stale.fetch_add(1, Ordering::Relaxed);
    }
    if is_hit {
        seen.hits.fetch_add(1, Ordering::Relaxed);
        *seen.last_hit.lock().unwrap() = Some(begun);
    }
}

/// The item that the answer shows and whether it came out of the cache; `None` for no good answer.
async fn ask(
    address: SocketAddr,
    connection: &mut Option<SendRequest<Empty<Bytes>>>,
    method: &Method,
    id: usize,
) -> Option<(u64, bool)> {
    let sender = match connection {
        Some(sender) => sender,
        None => {
            let stream = TcpStream::connect(address).await.ok()?;
            let (sender, driver) = handshake(TokioIo::new(stream)).await.ok()?;
            tokio::spawn(driver);
            connection.insert(sender)
        }
    };
    let request = Request::builder()
        .method(method)
        .uri(format!("/items/{id}"))
        .header("host", "shop.example")
        .body(Empty::new())
        .unwrap();
    sender.ready().await.ok()?;
    let response = sender.send_request(request).await.ok()?;
    let status = response.status();
    let told = response.headers().get("cache-status");
    let is_hit = told.is_some_and(|told| told.to_str().unwrap().contains("; hit"));
    let body = response.into_body().collect().await.ok()?.to_bytes();
    let item = std::str::from_utf8(&body).ok()?.parse().ok()?;
    status.is_success().then_some((item, is_hit))
}

/// xorshift: good enough to choose items by.
fn roll(dice: &mut u64) -> u64 {
    *dice ^= *dice << 13;
    *dice ^= *dice >> 7;
    *dice ^= *dice << 17;
    *dice
}

impl Report {
    /// Every request was answered, nothing stale was, and nobody waited for more than one time-out, even if the machine was
    /// at its worst before and after it.
    pub(crate) fn is_fine(&self, timeout: Duration) {
        println!("{self}");
        assert!(self.requests > 1_000, "{self}");
        assert_eq!(self.failed, 0, "{self}");
        assert_eq!((self.stale, self.calls.stale), (0, 0), "{self}");
        let most = 2 * (timeout + self.late);
        assert!(self.longest < most, "at most {most:?}: {self}");
        assert!(self.calls.longest < most, "at most {most:?}: {self}");
        assert!(self.hits > 0, "{self}");
    }
}

/// A row of the table in the documentation.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recovered = match self.recovered {
            Some(time) => format!("{} ms", time.as_millis()),
            None => String::from("-"),
        };
        write!(
            f,
            "| {} | {} | {} | {} | {} ms | {recovered} | {} |",
            self.fault,
            self.requests,
            self.failed,
            self.stale + self.calls.stale,
            self.longest.as_millis(),
            self.calls,
        )
    }
}

/// The default, and what the tests leave it at.
const TIMEOUT: Duration = Duration::from_millis(250);

/// How long a fault lasts.
pub(crate) const FAULT: Duration = Duration::from_secs(2);

/// Puts load on a cache, breaks what is behind it for a while, and mends it.
pub(crate) async fn outage(
    fault: &str,
    cache: Cache,
    breaks: impl AsyncFnOnce(),
    mends: impl AsyncFnOnce(),
) -> Report {
    let load = Load::warm(cache).await;
    breaks().await;
    load.run(FAULT).await;
    mends().await;
    load.back(fault).await
}

/// Puts load on a cache whose server is not there, by the settings that say so, and brings it.
pub(crate) async fn absent_at_first(
    fault: &str,
    settings: &[(&str, &str)],
    comes: impl FnOnce(),
) -> Report {
    let lazy = [("CACHE_CONNECT", "lazy")];
    let settings = settings.iter().copied().chain(lazy);
    let settings = Settings::from_pairs(settings).unwrap();
    let load = Load::start(Cache::from_settings(&settings).await.unwrap()).await;
    load.run(FAULT).await;
    assert_eq!(load.hits(), 0, "there was to be nothing behind the cache");
    comes();
    load.back(fault).await
}

/// What holds after every fault, and that there was one.
pub(crate) fn survived(report: &Report) {
    report.is_fine(TIMEOUT);
    assert!(report.recovered.is_some(), "it never came back: {report}");
    assert_eq!(report.stats.breaker, BreakerState::Closed, "{report}");
    assert_eq!(report.stats.pending_invalidations, 0, "{report}");
}

pub(crate) fn was_open(report: &Report) {
    assert!(report.stats.outages > 0, "nothing was noticed: {report}");
}
