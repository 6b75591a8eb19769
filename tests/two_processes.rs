//! Two processes on one server, of every kind: each serves what the other stored, and sees what the other invalidates.
//!
//! A process is this very test program, started again to run one test that is ignored otherwise.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "it is for tests only")]

mod support_servers;

use std::{
    env,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use axum::{
    Router,
    extract::Path,
    http::header::{CACHE_CONTROL, ETAG, VARY},
    response::IntoResponse,
    routing::get,
};
use larder::{Cache, CacheLayer};
use support_servers::Server;

/// The service that runs in each process, named by its number.
const NAME: &str = "LARDER_TEST_PROCESS";

#[test]
#[ignore = "it is the other process, not a test"]
fn a_process_of_its_own() {
    let Ok(name) = env::var(NAME) else { return };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(serve(name));
}

async fn serve(name: String) {
    let cache = Cache::from_env().await.unwrap();
    let item = {
        let name = name.clone();
        async move |Path(id): Path<u64>| {
            static MADE: AtomicU64 = AtomicU64::new(0);
            let made = MADE.fetch_add(1, Ordering::Relaxed) + 1;
            let fields = [
                (CACHE_CONTROL, "max-age=60"),
                (VARY, "accept-language"),
                (ETAG, "\"1\""),
            ];
            (fields, format!("item {id}, {made} by {name}")).into_response()
        }
    };
    let visits = async |cache: Cache| cache.increment("visits", 1).await.unwrap().to_string();
    let name = async move |cache: Cache| {
        let load = async || Ok::<_, std::io::Error>(name.clone());
        cache.get_or_load("name", load).await.unwrap().to_string()
    };
    let router = Router::new()
        .route("/items/{id}", get(item).post(async || "changed"))
        .route("/visits", get(visits))
        .route("/name", get(name))
        .layer(CacheLayer::new(cache));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("\nlistening on {}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(name: &str, server: &Server, namespace: &str) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "a_process_of_its_own",
                "--exact",
                "--ignored",
                "--nocapture",
            ])
            .env(NAME, name)
            .env("CACHE_KEY_PREFIX", namespace)
            .envs(server.settings())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines
            .map(Result::unwrap)
            .find_map(|line| Some(line.strip_prefix("listening on ")?.to_owned()))
            .unwrap();
        Self { child, address }
    }

    /// What `Cache-Status` says, and the body.
    fn ask(&self, method: &str, path: &str, language: &str) -> (String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let fields =
            format!("host: shop.example\r\naccept-language: {language}\r\nconnection: close");
        write!(stream, "{method} {path} HTTP/1.1\r\n{fields}\r\n\r\n").unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let told = head
            .lines()
            .find_map(|line| line.strip_prefix("cache-status: "));
        (told.unwrap_or_default().to_owned(), body.to_owned())
    }

    /// Asks until it is answered out of the cache; what a process stores is on its way to the server for a moment.
    fn hit(&self, path: &str, language: &str) -> String {
        for _ in 0..100 {
            let (told, body) = self.ask("GET", path, language);
            if told.contains("; hit") {
                return body;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("{path} never became a hit");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

support_servers::on_every_server! { all_is_shared, super::shows }

async fn shows(server: Server) {
    share_responses_invalidations_and_values(&server);
    what_a_process_stored_outlives_it(&server);
}

fn share_responses_invalidations_and_values(server: &Server) {
    let namespace = support_servers::namespace();
    let [a, b] = ["a", "b"].map(|name| Process::start(name, server, &namespace));

    let (told, body) = a.ask("GET", "/items/7", "de");
    assert!(told.contains("stored"), "{told}");
    assert_eq!(body, "item 7, 1 by a");
    assert_eq!(b.hit("/items/7", "de"), "item 7, 1 by a");

    let (told, body) = b.ask("GET", "/items/7", "en");
    assert!(!told.contains("; hit"), "another variant: {told}");
    assert_eq!(body, "item 7, 1 by b");
    assert_eq!(a.hit("/items/7", "en"), "item 7, 1 by b");

    assert_eq!(b.ask("POST", "/items/7", "de").1, "changed");
    for language in ["de", "en"] {
        let (told, body) = a.ask("GET", "/items/7", language);
        assert!(!told.contains("; hit"), "{language}: {told}: {body}");
    }

    let visits: Vec<_> = [&a, &b, &a]
        .map(|process| process.ask("GET", "/visits", "de").1)
        .into();
    assert_eq!(visits, ["1", "2", "3"]);
    assert_eq!(b.ask("GET", "/name", "de").1, "b");
    assert_eq!(a.ask("GET", "/name", "de").1, "b");
}

fn what_a_process_stored_outlives_it(server: &Server) {
    let namespace = support_servers::namespace();
    let a = Process::start("a", server, &namespace);
    a.ask("GET", "/items/7", "de");
    a.hit("/items/7", "de");
    drop(a);
    let b = Process::start("b", server, &namespace);
    assert_eq!(b.hit("/items/7", "de"), "item 7, 1 by a");
}
