//! The servers that other tests start, and the proxy that they put before them: whether both do what they are told.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;

use std::{
    env,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use support_servers::{Aerospike, Link, Proxy, Redis, redis_cli};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Longer than anything here takes that comes at all.
const LONG: Duration = Duration::from_secs(10);
/// Long enough to tell that something does not come.
const SHORT: Duration = Duration::from_millis(200);

/// What the server says to these lines on a connection of their own, when it closes after the last or has said `until`.
async fn say(address: SocketAddr, lines: &str, until: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    ask(&mut stream, lines, until).await
}

/// The same on a connection that there is.
async fn ask(stream: &mut TcpStream, lines: &str, until: &str) -> io::Result<String> {
    stream.write_all(lines.as_bytes()).await?;
    let mut answer = Vec::new();
    let mut chunk = [0; 1024];
    while !answer.ends_with(until.as_bytes()) {
        match timeout(LONG, stream.read(&mut chunk)).await?? {
            0 => break,
            len => answer.extend_from_slice(&chunk[..len]),
        }
    }
    Ok(String::from_utf8(answer).unwrap())
}

async fn ping(address: SocketAddr) -> io::Result<String> {
    say(address, "PING\r\n", "+PONG\r\n").await
}

/// Whether this process runs. One that ended is nobody's concern, even when nobody has asked how it ended.
fn runs(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| &rest[..1]);
    state.is_some_and(|state| state != "Z" && state != "X")
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test]
async fn a_server_that_was_started_answers() {
    let Some(redis) = Redis::start() else { return };
    assert_eq!(ping(redis.address()).await.unwrap(), "+PONG\r\n");
    assert_eq!(redis.cli(&["PING"]), "PONG");
    assert_eq!(redis.url(), format!("redis://127.0.0.1:{}", redis.port()));
}

#[test]
fn two_servers_know_nothing_of_each_other() {
    let (Some(one), Some(other)) = (Redis::start(), Redis::start()) else {
        return;
    };
    assert_ne!(one.port(), other.port());
    one.cli(&["SET", "name", "value"]);
    assert_eq!(other.cli(&["DBSIZE"]), "0");
}

#[tokio::test]
#[cfg(target_os = "linux")]
async fn a_dropped_server_leaves_no_process_and_no_folder() {
    let Some(redis) = Redis::with().persistent().start() else {
        return;
    };
    let (pid, folder, address) = (redis.pid(), redis.folder().to_owned(), redis.address());
    assert!(runs(pid) && folder.exists());
    drop(redis);
    assert!(!runs(pid));
    assert!(!folder.exists());
    assert!(ping(address).await.is_err());
}

/// A server ends even with tests that could not drop it, and does not end with the thread that asked for it.
#[test]
#[cfg(target_os = "linux")]
fn a_server_ends_with_the_process_that_started_it_but_not_with_the_thread() {
    const STARTER: &str = "LARDER_TEST_STARTS_A_SERVER";
    if env::var_os(STARTER).is_some() {
        let redis = thread::spawn(Redis::start).join().unwrap().unwrap();
        println!("\nserver {} {}", redis.pid(), redis.folder().display());
        io::stdout().flush().unwrap();
        io::stdin().read_to_end(&mut Vec::new()).unwrap();
        return;
    }
    let Some(_) = Redis::start() else { return };
    let name = "a_server_ends_with_the_process_that_started_it_but_not_with_the_thread";
    let mut tests = Command::new(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(STARTER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(tests.stdout.take().unwrap()).lines();
    let server = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("server ").map(str::to_owned));
    let server = server.expect("the other process starts a server");
    let (pid, folder) = server.split_once(' ').unwrap();
    let (pid, folder) = (pid.parse().unwrap(), PathBuf::from(folder));

    // A signal that comes with the end of a thread would be there by now.
    thread::sleep(SHORT);
    assert!(runs(pid));
    tests.kill().unwrap();
    tests.wait().unwrap();
    wait_until("the server ends", || !runs(pid));
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn a_password_is_asked_for() {
    let Some(redis) = Redis::with().password("secret").start() else {
        return;
    };
    let refused = say(redis.address(), "GET name\r\n", "\r\n").await.unwrap();
    assert!(refused.starts_with("-NOAUTH"), "{refused}");
    let lines = "AUTH secret\r\nPING\r\n";
    let answer = say(redis.address(), lines, "+PONG\r\n").await.unwrap();
    assert_eq!(answer, "+OK\r\n+PONG\r\n");
    assert!(redis.url().starts_with("redis://:secret@"));
}

#[tokio::test]
async fn a_user_does_what_its_rules_allow_and_nothing_else() {
    let Some(redis) = Redis::with()
        .password("root")
        .user("app", "secret", "~cache:* &* +@all -@dangerous +client")
        .start()
    else {
        return;
    };
    let mut stream = TcpStream::connect(redis.address()).await.unwrap();
    let mut says = async |line| ask(&mut stream, line, "\r\n").await.unwrap();
    let wrong = says("AUTH app wrong\r\n").await;
    assert!(wrong.starts_with("-WRONGPASS"), "{wrong}");
    assert_eq!(says("AUTH app secret\r\n").await, "+OK\r\n");
    assert_eq!(says("SET cache:name value\r\n").await, "+OK\r\n");
    for forbidden in ["SET other value\r\n", "FLUSHALL\r\n", "KEYS *\r\n"] {
        let answer = says(forbidden).await;
        assert!(answer.starts_with("-NOPERM"), "{forbidden}: {answer}");
    }
    assert!(redis.url().starts_with("redis://app:secret@"));
    assert_eq!(redis.cli(&["GET", "cache:name"]), "value");
}

#[tokio::test]
async fn tls_is_spoken_and_nothing_else() {
    let Some(redis) = Redis::with().tls().start() else {
        return;
    };
    assert_eq!(redis.cli(&["PING"]), "PONG");
    assert!(redis.url().starts_with("rediss://127.0.0.1:"));
    match ping(redis.address()).await {
        Ok(answer) => assert!(!answer.contains("PONG"), "{answer}"),
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
}

#[test]
fn tls_is_trusted_by_its_own_authority_alone() {
    let (Some(redis), Some(other)) = (Redis::with().tls().start(), Redis::with().tls().start())
    else {
        return;
    };
    let answer = |ca: PathBuf| {
        let (port, ca) = (redis.port().to_string(), ca.display().to_string());
        redis_cli(&["-p", &port, "--tls", "--cacert", &ca, "PING"])
    };
    assert!(answer(redis.certificates().ca()).status.success());
    assert!(!answer(other.certificates().ca()).status.success());
}

#[test]
fn mtls_refuses_a_client_without_a_certificate() {
    let Some(redis) = Redis::with().mtls().start() else {
        return;
    };
    assert_eq!(redis.cli(&["PING"]), "PONG");
    let port = redis.port().to_string();
    let ca = redis.certificates().ca().display().to_string();
    let refused = redis_cli(&["-p", &port, "--tls", "--cacert", &ca, "PING"]);
    assert!(!refused.status.success());
    assert_ne!(refused.stdout, b"PONG\n");
}

#[test]
fn a_unix_socket_answers() {
    let Some(redis) = Redis::with().unix_socket().start() else {
        return;
    };
    let mut stream = UnixStream::connect(redis.socket()).unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    assert_eq!(answer, "+PONG\r\n");
}

#[test]
fn a_line_of_configuration_holds() {
    let Some(redis) = Redis::with().config("maxmemory 10mb").start() else {
        return;
    };
    let answer = redis.cli(&["CONFIG", "GET", "maxmemory"]);
    assert_eq!(answer, "maxmemory\n10485760");
}

#[test]
fn a_server_that_does_not_start_says_why() {
    let start = || Redis::with().config("no such setting").start();
    match std::panic::catch_unwind(start) {
        Ok(redis) => assert!(redis.is_none()),
        Err(why) => {
            let why = why.downcast::<String>().unwrap();
            assert!(why.contains("Bad directive"), "{why}");
        }
    }
}

#[tokio::test]
async fn a_stopped_server_hangs_until_it_goes_on() {
    let Some(redis) = Redis::start() else { return };
    let mut stream = TcpStream::connect(redis.address()).await.unwrap();
    redis.stop();
    stream.write_all(b"PING\r\n").await.unwrap();
    let mut answer = [0; 7];
    let hangs = timeout(SHORT, stream.read_exact(&mut answer)).await;
    assert!(hangs.is_err());
    redis.cont();
    let read = timeout(LONG, stream.read_exact(&mut answer)).await;
    read.unwrap().unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
#[cfg(target_os = "linux")]
fn a_stopped_server_is_dropped_like_any_other() {
    let Some(redis) = Redis::start() else { return };
    let pid = redis.pid();
    redis.stop();
    drop(redis);
    assert!(!runs(pid));
}

#[tokio::test]
async fn a_killed_server_refuses_and_comes_back_on_its_port() {
    let Some(redis) = Redis::start() else { return };
    let address = redis.address();
    redis.kill();
    let refused = ping(address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    redis.restart();
    assert_eq!(redis.address(), address);
    assert_eq!(ping(address).await.unwrap(), "+PONG\r\n");
}

#[test]
fn a_restart_keeps_what_is_persistent() {
    let Some(redis) = Redis::with().persistent().start() else {
        return;
    };
    redis.cli(&["SET", "name", "value"]);
    redis.restart();
    assert_eq!(redis.cli(&["GET", "name"]), "value");
}

#[test]
fn a_restart_loses_what_is_not() {
    let Some(redis) = Redis::start() else { return };
    redis.cli(&["SET", "name", "value"]);
    redis.restart();
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
}

#[test]
fn an_empty_restart_loses_what_is_persistent_too() {
    let Some(redis) = Redis::with().persistent().start() else {
        return;
    };
    redis.cli(&["SET", "name", "value"]);
    redis.restart_empty();
    assert_eq!(redis.cli(&["DBSIZE"]), "0");
}

/// A server, a proxy before it, and a connection through both that works.
async fn proxied() -> Option<(Redis, Proxy, TcpStream)> {
    let redis = Redis::start()?;
    let proxy = Proxy::to(redis.address()).await;
    let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
    let answer = ask(&mut stream, "PING\r\n", "+PONG\r\n").await.unwrap();
    assert_eq!(answer, "+PONG\r\n");
    Some((redis, proxy, stream))
}

#[tokio::test]
async fn a_proxy_delays_every_chunk_both_ways() {
    let Some((_redis, proxy, mut stream)) = proxied().await else {
        return;
    };
    proxy.set(Link::Delay(Duration::from_millis(50))).await;
    let start = Instant::now();
    ask(&mut stream, "PING\r\n", "+PONG\r\n").await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_proxy_that_stalls_accepts_and_forwards_nothing_until_it_passes() {
    let Some((_redis, proxy, mut stream)) = proxied().await else {
        return;
    };
    proxy.set(Link::Stall).await;
    let mut new = TcpStream::connect(proxy.address()).await.unwrap();
    let mut answer = [0; 7];
    for stream in [&mut stream, &mut new] {
        stream.write_all(b"PING\r\n").await.unwrap();
        let hangs = timeout(SHORT, stream.read(&mut answer)).await;
        assert!(hangs.is_err());
    }
    proxy.set(Link::Pass).await;
    for stream in [&mut stream, &mut new] {
        let read = timeout(LONG, stream.read_exact(&mut answer)).await;
        read.unwrap().unwrap();
        assert_eq!(&answer, b"+PONG\r\n");
    }
}

#[tokio::test]
async fn a_proxy_cuts_an_answer_after_as_many_bytes_as_it_is_told() {
    let Some((_redis, proxy, mut stream)) = proxied().await else {
        return;
    };
    proxy.set(Link::CutAfter(3)).await;
    let cut = ask(&mut stream, "PING\r\n", "+PONG\r\n").await.unwrap();
    assert_eq!(cut, "+PO");
    assert_eq!(ping(proxy.address()).await.unwrap(), "+PO");
    proxy.set(Link::Pass).await;
    assert_eq!(ping(proxy.address()).await.unwrap(), "+PONG\r\n");
}

#[tokio::test]
async fn a_proxy_resets_connections_there_are_and_new_ones() {
    let Some((_redis, proxy, mut stream)) = proxied().await else {
        return;
    };
    proxy.set(Link::Reset).await;
    let reset = stream.read(&mut [0; 7]).await.unwrap_err();
    assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    assert!(ping(proxy.address()).await.is_err());
    proxy.set(Link::Pass).await;
    assert_eq!(ping(proxy.address()).await.unwrap(), "+PONG\r\n");
}

#[tokio::test]
async fn a_proxy_refuses_until_it_passes() {
    let Some((_redis, proxy, mut stream)) = proxied().await else {
        return;
    };
    proxy.set(Link::Refuse).await;
    assert_eq!(stream.read(&mut [0; 7]).await.unwrap(), 0);
    let refused = ping(proxy.address()).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    proxy.set(Link::Pass).await;
    assert_eq!(ping(proxy.address()).await.unwrap(), "+PONG\r\n");
}

#[tokio::test]
async fn a_proxy_ends_the_connections_of_a_server_that_ended() {
    let Some((redis, proxy, mut stream)) = proxied().await else {
        return;
    };
    redis.kill();
    assert_eq!(stream.read(&mut [0; 7]).await.unwrap(), 0);
    assert_eq!(ping(proxy.address()).await.unwrap_or_default(), "");
    redis.restart();
    assert_eq!(ping(proxy.address()).await.unwrap(), "+PONG\r\n");
}

#[tokio::test]
async fn a_dropped_proxy_listens_no_more() {
    let Some((_redis, proxy, mut stream)) = proxied().await else {
        return;
    };
    let address = proxy.address();
    drop(proxy);
    assert_eq!(stream.read(&mut [0; 7]).await.unwrap(), 0);
    let refused = ping(address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(address.ip(), Ipv4Addr::LOCALHOST);
}

#[tokio::test]
async fn an_aerospike_server_answers_through_a_proxy() {
    let Some(aerospike) = Aerospike::find() else {
        return;
    };
    for seed in aerospike.seeds() {
        let proxy = Proxy::to(seed).await;
        // A message of the protocol's version 2, type 1, with the name of what is asked for.
        let question = "\u{2}\u{1}\0\0\0\0\0\u{6}build\n";
        let answer = say(proxy.address(), question, "\n").await.unwrap();
        assert!(answer[8..].starts_with("build\t"), "{answer:?}");
    }
}
