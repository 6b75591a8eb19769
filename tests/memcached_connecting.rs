//! What the memcached backend says at start-up when something is not right, and what it never says.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use larder::{Backend, Cache, Error, ErrorKind, Memcached, MemcachedBuilder, Settings};
use support_servers::Memcached as Server;

/// Nothing that is secret in these tests is without it.
const SECRET: &str = "s3cret";

async fn fails(builder: MemcachedBuilder, kind: ErrorKind, message: &str) {
    assert!(!format!("{builder:?}").contains(SECRET));
    let builder = builder.connect_timeout(Duration::from_millis(500));
    says(&builder.connect().await.unwrap_err(), kind, message);
}

fn says(error: &Error, kind: ErrorKind, message: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    let text = format!("{error} {error:?}");
    assert!(text.contains(message), "{text}");
    assert!(!text.contains(SECRET), "{text}");
    assert_eq!(error.backend(), Some("memcached"));
}

#[tokio::test]
async fn nobody_listens() {
    let Some(server) = Server::start() else {
        return;
    };
    server.kill();
    let refused = Memcached::builder(server.server());
    fails(refused, ErrorKind::Unavailable, "is the server running").await;
    let socket = server.folder().join("none.sock");
    let refused = Memcached::builder(socket.display().to_string());
    fails(refused, ErrorKind::Unavailable, "CACHE_MEMCACHED_SERVERS").await;
}

#[tokio::test]
async fn the_password_is_wrong_or_missing() {
    let Some(server) = Server::with().user("app", "s3cret-right").start() else {
        return;
    };
    let without = || Memcached::builder(server.server());
    fails(
        without(),
        ErrorKind::Backend,
        "set CACHE_MEMCACHED_USERNAME",
    )
    .await;
    let wrong = without().username("app").password("s3cret-wrong");
    fails(wrong, ErrorKind::Backend, "does not know this user").await;
    let alone = without().username("app");
    fails(alone, ErrorKind::Settings, "CACHE_MEMCACHED_PASSWORD").await;
    let odd = without().username("two words").password("s3cret");
    fails(odd, ErrorKind::Settings, "CACHE_MEMCACHED_USERNAME").await;
    let odd = without().username("app").password("s3cret\r\nflush_all");
    fails(odd, ErrorKind::Settings, "CACHE_MEMCACHED_PASSWORD").await;
    let right = without().username("app").password("s3cret-right");
    let memcached = right.connect().await.unwrap();
    assert!(!format!("{memcached:?}").contains(SECRET));
}

#[tokio::test]
async fn by_sasl_the_password_is_wrong_or_missing() {
    let Some(server) = Server::with().sasl("app", "s3cret-right").start() else {
        return;
    };
    let without = || Memcached::builder(server.server()).binary_protocol(true);
    fails(
        without(),
        ErrorKind::Backend,
        "set CACHE_MEMCACHED_USERNAME and CACHE_MEMCACHED_PASSWORD",
    )
    .await;
    for (user, password) in [
        ("app", "s3cret-wrong"),
        ("app", "s3cret-righ"),
        ("app", "s3cret-right2"),
        ("other", "s3cret-right"),
    ] {
        let wrong = without().username(user).password(password);
        fails(
            wrong,
            ErrorKind::Backend,
            "does not know this user and password: see CACHE_MEMCACHED_USERNAME",
        )
        .await;
    }
    let alone = without().username("app");
    fails(alone, ErrorKind::Settings, "CACHE_MEMCACHED_PASSWORD").await;
    for odd in ["", "a\0b"] {
        let user = without().username(odd).password("s3cret");
        fails(user, ErrorKind::Settings, "CACHE_MEMCACHED_USERNAME").await;
        let password = without().username("app").password(odd);
        fails(password, ErrorKind::Settings, "CACHE_MEMCACHED_PASSWORD").await;
    }
    let right = without().username("app").password("s3cret-right");
    let memcached = right.connect().await.unwrap();
    assert!(!format!("{memcached:?}").contains(SECRET));
}

#[tokio::test]
async fn one_of_several_servers_with_sasl_wants_another_password() {
    let (Some(one), Some(two)) = (
        Server::with().sasl("app", "s3cret-one").start(),
        Server::with().sasl("app", "s3cret-two").start(),
    ) else {
        return;
    };
    let both = Memcached::builder(format!("{},{}", one.server(), two.server()));
    let both = both.binary_protocol(true);
    let both = both.username("app").password("s3cret-one");
    fails(both, ErrorKind::Backend, "does not know this user").await;
}

#[tokio::test]
async fn the_server_has_no_sasl_or_not_this_one() {
    let (Some(plain), Some(other)) = (
        Server::start(),
        Server::with().sasl_by("cram-md5", "app", "s3cret").start(),
    ) else {
        return;
    };
    let builder = |server: &Server| {
        let builder = Memcached::builder(server.server()).binary_protocol(true);
        builder.username("app").password("s3cret")
    };
    fails(builder(&plain), ErrorKind::Unsupported, "start it with -S").await;
    fails(builder(&other), ErrorKind::Unsupported, "see mech_list").await;
}

#[tokio::test]
async fn a_server_is_spoken_to_by_a_protocol_that_it_has_not() {
    let (Some(text), Some(binary)) = (
        Server::with().user("app", "s3cret").start(),
        Server::with().sasl("app", "s3cret").start(),
    ) else {
        return;
    };
    let by = |server: &Server, binary| Memcached::builder(server.server()).binary_protocol(binary);
    let told = |builder: MemcachedBuilder| builder.username("app").password("s3cret");
    let hint = "CACHE_MEMCACHED_PROTOCOL=binary";
    fails(by(&binary, false), ErrorKind::Timeout, hint).await;
    fails(told(by(&binary, false)), ErrorKind::Unavailable, hint).await;
    let hint = "CACHE_MEMCACHED_PROTOCOL=meta";
    // Which of its bytes are a line to the server depends on what they say.
    fails(by(&text, true), ErrorKind::Backend, hint).await;
    fails(told(by(&text, true)), ErrorKind::Timeout, hint).await;
}

#[tokio::test]
async fn one_of_several_servers_wants_another_password() {
    let (Some(one), Some(two)) = (
        Server::with().user("app", "s3cret-one").start(),
        Server::with().user("app", "s3cret-two").start(),
    ) else {
        return;
    };
    let both = Memcached::builder(format!("{},{}", one.server(), two.server()));
    let both = both.username("app").password("s3cret-one");
    fails(both, ErrorKind::Backend, "does not know this user").await;
}

#[tokio::test]
async fn tls_meets_a_port_without_and_the_reverse() {
    let (Some(plain), Some(tls)) = (Server::start(), Server::with().tls().start()) else {
        return;
    };
    let ca = tls.certificates().ca().display().to_string();
    let to_plain = Memcached::builder(plain.server()).tls(true).ca(&ca);
    let error = to_plain
        .connect_timeout(Duration::from_millis(300))
        .connect()
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("CACHE_MEMCACHED_TLS=false"),
        "{error}"
    );
    let to_tls = Memcached::builder(tls.server());
    let error = to_tls
        .connect_timeout(Duration::from_secs(1))
        .connect()
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("CACHE_MEMCACHED_TLS=true"),
        "{error}"
    );
}

#[tokio::test]
async fn the_authority_is_unknown_or_the_host_another() {
    let (Some(server), Some(other)) = (Server::with().tls().start(), Server::with().tls().start())
    else {
        return;
    };
    let without = Memcached::builder(server.server()).tls(true);
    fails(without, ErrorKind::Settings, "CACHE_MEMCACHED_CA_FILE").await;
    let ca = other.certificates().ca().display().to_string();
    let wrong = Memcached::builder(server.server()).tls(true).ca(ca);
    fails(
        wrong,
        ErrorKind::Unavailable,
        "none of the authorities of CACHE_MEMCACHED_CA_FILE",
    )
    .await;
    let ca = server.certificates().ca().display().to_string();
    let listener = TcpListener::bind("127.0.0.2:0").unwrap();
    let (port, to) = (listener.local_addr().unwrap().port(), server.address());
    // Whoever answers there has the certificate of another address.
    thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = std::net::TcpStream::connect(to).unwrap();
        let (mut from, mut into) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        thread::spawn(move || std::io::copy(&mut from, &mut into));
        let _ = std::io::copy(&mut server, &mut client);
    });
    let elsewhere = Memcached::builder(format!("127.0.0.2:{port}"))
        .tls(true)
        .ca(ca);
    fails(
        elsewhere,
        ErrorKind::Unavailable,
        "another host than that of CACHE_MEMCACHED_SERVERS",
    )
    .await;
}

#[tokio::test]
async fn the_server_wants_a_certificate() {
    let (Some(server), Some(other)) =
        (Server::with().mtls().start(), Server::with().mtls().start())
    else {
        return;
    };
    let path = |path: std::path::PathBuf| path.display().to_string();
    let ca = path(server.certificates().ca());
    let builder = || Memcached::builder(server.server()).tls(true).ca(&ca);
    fails(
        builder(),
        ErrorKind::Unavailable,
        "CACHE_MEMCACHED_CLIENT_CERT_FILE",
    )
    .await;
    let foreign = other.certificates();
    let (certificate, key) = (
        path(foreign.client_certificate()),
        path(foreign.client_key()),
    );
    let foreign = builder().client_certificate(&certificate, &key);
    fails(
        foreign,
        ErrorKind::Unavailable,
        "CACHE_MEMCACHED_CLIENT_CERT_FILE",
    )
    .await;
    let own = server.certificates();
    let crossed = builder().client_certificate(path(own.client_certificate()), key);
    fails(crossed, ErrorKind::Settings, "do not belong together").await;
    let missing = builder().client_certificate(path(own.client_certificate()), "/nowhere/s3cret");
    fails(
        missing,
        ErrorKind::Settings,
        "CACHE_MEMCACHED_CLIENT_KEY_FILE",
    )
    .await;
    let right =
        builder().client_certificate(path(own.client_certificate()), path(own.client_key()));
    right.connect().await.unwrap();
}

#[tokio::test]
async fn certificates_and_sockets_do_not_go_with_everything() {
    let without = Memcached::builder("127.0.0.1").ca("/etc/ssl/ca.pem");
    fails(without, ErrorKind::Settings, "CACHE_MEMCACHED_TLS=true").await;
    let socket = Memcached::builder("/run/memcached.sock")
        .tls(true)
        .ca("/etc/ssl/ca.pem");
    fails(socket, ErrorKind::Settings, "a Unix socket has no TLS").await;
    let none = Memcached::builder("user:s3cret@host");
    fails(none, ErrorKind::Settings, "CACHE_MEMCACHED_SERVERS").await;
}

#[tokio::test]
async fn the_server_has_no_cas() {
    let Some(server) = Server::with().arguments(&["-C"]).start() else {
        return;
    };
    for binary in [false, true] {
        let builder = Memcached::builder(server.server()).binary_protocol(binary);
        fails(builder, ErrorKind::Unsupported, "-C").await;
    }
}

/// A server that answers every line in the same way.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut input = [0; 4096];
            while let Ok(len @ 1..) = stream.read(&mut input) {
                for _ in input[..len].split(|byte| *byte == b'\n').skip(1) {
                    if stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            }
        }
    });
    address.to_string()
}

#[tokio::test]
async fn what_answers_is_something_else() {
    for (answer, kind, message) in [
        (
            "ERROR\r\n",
            ErrorKind::Unsupported,
            "older than memcached 1.6",
        ),
        (
            "-ERR unknown command\r\n",
            ErrorKind::Backend,
            "no memcached",
        ),
        (
            "HTTP/1.1 400 Bad Request\r\n",
            ErrorKind::Backend,
            "no memcached",
        ),
        ("", ErrorKind::Timeout, "CACHE_MEMCACHED_CONNECT_TIMEOUT"),
        ("", ErrorKind::Timeout, "CACHE_MEMCACHED_PROTOCOL=binary"),
    ] {
        let builder = Memcached::builder(answering(answer));
        fails(builder, kind, message).await;
    }
}

/// A server that answers whatever it is told with these bytes.
fn answering_bytes(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut input = [0; 4096];
            while let Ok(1..) = stream.read(&mut input) {
                if stream.write_all(&answer).is_err() {
                    break;
                }
            }
        }
    });
    address.to_string()
}

/// An answer in the binary protocol without a body.
fn binary_answer(opcode: u8, status: u8) -> Vec<u8> {
    let mut answer = vec![0; 24];
    (answer[0], answer[1], answer[7]) = (0x81, opcode, status);
    answer
}

#[tokio::test]
async fn by_the_binary_protocol_what_answers_is_something_else() {
    let unknown = [binary_answer(0x10, 0x81), binary_answer(0x0a, 0x81)].concat();
    for (answer, kind, message) in [
        (&b"ERROR\r\n"[..], ErrorKind::Backend, "binary protocol"),
        (
            b"HTTP/1.1 400 Bad Request\r\n",
            ErrorKind::Backend,
            "binary protocol",
        ),
        (b"\x81", ErrorKind::Timeout, "CACHE_MEMCACHED_PROTOCOL=meta"),
        (&unknown, ErrorKind::Backend, "binary protocol"),
    ] {
        let builder = Memcached::builder(answering_bytes(answer.to_vec())).binary_protocol(true);
        fails(builder, kind, message).await;
    }
    // Whoever says that he has found out who asks, without being asked, or in an answer to something else.
    let auth = [binary_answer(0x20, 0), binary_answer(0x21, 0x21)].concat();
    let builder = Memcached::builder(answering_bytes(auth)).binary_protocol(true);
    let builder = builder.username("app").password("s3cret");
    fails(builder, ErrorKind::Unsupported, "see mech_list").await;
}

/// A server that is what it says, and then answers each command under the number of the next one.
fn one_ahead(binary: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            while let Some(answer) = match binary {
                true => binary_one_ahead(&mut stream),
                false => text_one_ahead(&mut stream),
            } {
                if stream.get_mut().write_all(&answer).is_err() {
                    break;
                }
            }
        }
    });
    address.to_string()
}

fn binary_one_ahead(stream: &mut impl Read) -> Option<Vec<u8>> {
    let mut head = [0; 24];
    stream.read_exact(&mut head).ok()?;
    let body = u32::from_be_bytes(head[8..12].try_into().unwrap());
    stream.read_exact(&mut vec![0; body as usize]).ok()?;
    if matches!(head[1], 0x10 | 0x0a) {
        return Some(binary_answer(head[1], 0));
    }
    let number = u32::from_be_bytes(head[12..16].try_into().unwrap());
    let mut answer = binary_answer(head[1], 1);
    answer[12..16].copy_from_slice(&(number + 1).to_be_bytes());
    Some(answer)
}

fn text_one_ahead(stream: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|len| *len > 0)?;
    if line.starts_with("ms ") {
        stream.read_line(&mut String::new()).ok()?;
    }
    let mut words = line.split_whitespace();
    let number = words.find_map(|word| word.strip_prefix('O')?.parse::<u32>().ok());
    Some(match (number, line.trim_end()) {
        (Some(number), _) => format!("EN O{}\r\n", number + 1).into(),
        (None, "mn") => b"MN\r\n".to_vec(),
        (None, _) => b"END\r\n".to_vec(),
    })
}

#[tokio::test]
async fn a_server_that_turns_everybody_away_is_not_asked_by_every_verb() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = listener.local_addr().unwrap().to_string();
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            counted.fetch_add(1, Ordering::Relaxed);
            drop(stream);
        }
    });
    for binary in [false, true] {
        let builder = Memcached::builder(&servers).binary_protocol(binary);
        let memcached = builder.connect_lazily().unwrap();
        attempts.store(0, Ordering::Relaxed);
        for _ in 0..100 {
            assert!(memcached.ping().await.is_err());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let attempts = attempts.load(Ordering::Relaxed);
        assert!((1..10).contains(&attempts), "{attempts} attempts");
    }
}

#[tokio::test]
async fn an_answer_to_another_command_is_nobodys() {
    for binary in [false, true] {
        let memcached = Memcached::builder(one_ahead(binary)).binary_protocol(binary);
        let error = memcached.connect().await.unwrap_err();
        says(&error, ErrorKind::Unavailable, "is not one of memcached's");
    }
}

#[tokio::test]
async fn settings_lead_to_the_server() {
    let Some(server) = Server::with().user("app", "s3cret").start() else {
        return;
    };
    let settings = |password: &'static str| {
        let pairs = [
            ("CACHE_TYPE", "MemcachedCache".to_owned()),
            ("CACHE_MEMCACHED_SERVERS", server.server()),
            ("CACHE_MEMCACHED_USERNAME", "app".to_owned()),
            ("CACHE_MEMCACHED_PASSWORD", password.to_owned()),
            ("CACHE_KEY_PREFIX", "shop".to_owned()),
        ];
        Settings::from_pairs(pairs).unwrap()
    };
    let right = settings("s3cret");
    assert!(!format!("{right:?}").contains(SECRET));
    let cache = Cache::from_settings(&right).await.unwrap();
    cache.put("answer", 42).await.unwrap();
    assert_eq!(cache.get("answer").await.unwrap(), Some(42));
    let error = Cache::from_settings(&settings("s3cret-wrong"))
        .await
        .unwrap_err();
    says(&error, ErrorKind::Backend, "CACHE_MEMCACHED_PASSWORD");
}

#[tokio::test]
async fn settings_of_flask_caching_lead_to_a_server_with_sasl() {
    let Some(server) = Server::with().sasl("app", "s3cret").start() else {
        return;
    };
    for (kind, protocol) in [
        ("SASLMemcachedCache", ""),
        ("dogpile.cache.bmemcached", ""),
        ("memcached", "binary"),
    ] {
        let settings = |password: &'static str| {
            let pairs = [
                ("CACHE_TYPE", kind.to_owned()),
                ("CACHE_MEMCACHED_PROTOCOL", protocol.to_owned()),
                ("CACHE_MEMCACHED_SERVERS", server.server()),
                ("CACHE_MEMCACHED_USERNAME", "app".to_owned()),
                ("CACHE_MEMCACHED_PASSWORD", password.to_owned()),
            ];
            Settings::from_pairs(pairs).unwrap()
        };
        let cache = Cache::from_settings(&settings("s3cret")).await.unwrap();
        cache.put("answer", 42).await.unwrap();
        assert_eq!(cache.get("answer").await.unwrap(), Some(42));
        let wrong = Cache::from_settings(&settings("s3cret-wrong")).await;
        let error = wrong.unwrap_err();
        says(&error, ErrorKind::Backend, "CACHE_MEMCACHED_PASSWORD");
    }
}

#[tokio::test]
async fn a_lazy_cache_begins_without_its_server() {
    let Some(server) = Server::start() else {
        return;
    };
    server.kill();
    let pairs = [
        ("CACHE_TYPE", "memcached".to_owned()),
        ("CACHE_MEMCACHED_SERVERS", server.server()),
        ("CACHE_CONNECT", "lazy".to_owned()),
        ("CACHE_BREAKER_DELAY", "50ms".to_owned()),
    ];
    let settings = Settings::from_pairs(pairs).unwrap();
    let cache = Cache::from_settings(&settings).await.unwrap();
    assert!(cache.put("answer", 42).await.is_err());
    server.restart();
    let mut tries = 0;
    while cache.put("answer", 42).await.is_err() {
        tries += 1;
        assert!(tries < 100, "it is not found");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(cache.get("answer").await.unwrap(), Some(42));
}
