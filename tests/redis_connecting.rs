//! What the Redis backend says at start-up when something is not right, and what it never says.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

mod support_servers;

use std::time::Duration;

use larder::{Backend, Cache, Error, ErrorKind, Key, Redis, RedisBuilder, Settings};
use support_servers::Redis as Server;

/// Nothing that is secret in these tests is without it.
const SECRET: &str = "s3cret";

async fn fails(builder: RedisBuilder, kind: ErrorKind, message: &str) {
    assert!(!format!("{builder:?}").contains(SECRET));
    let builder = builder.connect_timeout(Duration::from_secs(1));
    says(&builder.connect().await.unwrap_err(), kind, message);
}

fn says(error: &Error, kind: ErrorKind, message: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    let text = format!("{error} {error:?}");
    assert!(text.contains(message), "{text}");
    assert!(!text.contains(SECRET), "{text}");
    assert_eq!(error.backend(), Some("redis"));
}

#[tokio::test]
async fn nobody_listens() {
    let Some(server) = Server::start() else {
        return;
    };
    server.kill();
    let refused = Redis::builder(server.url());
    fails(refused, ErrorKind::Unavailable, "is the server running").await;
    let socket = server.folder().join("none.sock");
    let refused = Redis::builder(format!("unix://{}", socket.display()));
    fails(refused, ErrorKind::Unavailable, "CACHE_REDIS_SOCKET").await;
}

#[tokio::test]
async fn the_password_is_wrong_or_missing() {
    let options = Server::with()
        .password("s3cret-right")
        .user("app", "s3cret-app", "~* +@all");
    let Some(server) = options.start() else {
        return;
    };
    let without = || Redis::builder(server.url_as(""));
    fails(without(), ErrorKind::Backend, "CACHE_REDIS_PASSWORD").await;
    let wrong = without().password("s3cret-wrong");
    fails(
        wrong,
        ErrorKind::Backend,
        "does not know this user and password",
    )
    .await;
    let wrong = Redis::builder(server.url_as("app:s3cret-wrong@"));
    fails(wrong, ErrorKind::Backend, "CACHE_REDIS_USERNAME").await;
    let alone = without().username("app");
    fails(alone, ErrorKind::Settings, "CACHE_REDIS_PASSWORD is not").await;
    for right in [
        without().password("s3cret-right"),
        without().username("app").password("s3cret-app"),
        Redis::builder(server.url_as(":s3cret-right@")),
    ] {
        let redis = right.connect().await.unwrap();
        assert!(!format!("{redis:?}").contains(SECRET));
    }
}

#[tokio::test]
async fn the_user_may_not() {
    let options = Server::with()
        .password("root")
        .user("app", "s3cret", "~other:* +@all -unlink");
    let Some(server) = options.start() else {
        return;
    };
    let redis = Redis::builder(server.url()).connect().await.unwrap();
    let error = redis
        .get(&Key::new("shop", None, "s3cret-name"))
        .await
        .unwrap_err();
    says(&error, ErrorKind::Backend, "CACHE_KEY_PREFIX");
    let error = redis
        .delete(&Key::new("other", None, "s3cret-name"))
        .await
        .unwrap_err();
    says(&error, ErrorKind::Backend, "ACL");
}

#[tokio::test]
async fn there_is_no_such_database() {
    let Some(server) = Server::start() else {
        return;
    };
    let far = Redis::builder(format!("{}/99", server.url()));
    fails(far, ErrorKind::Backend, "CACHE_REDIS_DATABASE").await;
    let far = Redis::builder(server.url()).database(99);
    fails(far, ErrorKind::Backend, "CACHE_REDIS_DATABASE").await;
    let redis = Redis::builder(server.url())
        .database(5)
        .connect()
        .await
        .unwrap();
    redis
        .increment(&Key::new("shop", None, "n"), 1, None)
        .await
        .unwrap();
    assert_eq!(server.cli(&["-n", "5", "DBSIZE"]), "2");
}

#[tokio::test]
async fn tls_meets_a_port_without_and_the_reverse() {
    let (Some(plain), Some(tls)) = (Server::start(), Server::with().tls().start()) else {
        return;
    };
    let to_plain = Redis::builder(plain.url()).tls(true);
    let error = to_plain
        .connect_timeout(Duration::from_millis(300))
        .connect()
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("CACHE_REDIS_TLS=false"),
        "{error}"
    );
    let to_tls = Redis::builder(tls.url()).tls(false);
    fails(to_tls, ErrorKind::Unavailable, "CACHE_REDIS_TLS=true").await;
}

#[tokio::test]
async fn the_authority_is_unknown_or_the_host_another() {
    let (Some(server), Some(other)) = (Server::with().tls().start(), Server::with().tls().start())
    else {
        return;
    };
    let unknown = Redis::builder(server.url());
    fails(unknown, ErrorKind::Unavailable, "CACHE_REDIS_CA_FILE").await;
    let wrong = Redis::builder(server.url()).ca(other.certificates().ca().display().to_string());
    fails(wrong, ErrorKind::Unavailable, "CACHE_REDIS_CA_FILE").await;
    let ca = server.certificates().ca().display().to_string();
    let elsewhere = Redis::builder(server.url())
        .ca(ca)
        .host("localhost.localdomain");
    let error = elsewhere.connect().await.unwrap_err();
    // Not every machine has the name.
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn the_server_wants_a_certificate() {
    let (Some(server), Some(other)) =
        (Server::with().mtls().start(), Server::with().mtls().start())
    else {
        return;
    };
    let ca = server.certificates().ca().display().to_string();
    let without = Redis::builder(server.url()).ca(&ca);
    fails(
        without,
        ErrorKind::Unavailable,
        "CACHE_REDIS_CLIENT_CERT_FILE",
    )
    .await;
    let certificates = other.certificates();
    let wrong = Redis::builder(server.url()).ca(&ca).client_certificate(
        certificates.client_certificate().display().to_string(),
        certificates.client_key().display().to_string(),
    );
    fails(
        wrong,
        ErrorKind::Unavailable,
        "CACHE_REDIS_CLIENT_CERT_FILE",
    )
    .await;
}

#[tokio::test]
async fn files_are_missing_or_hold_something_else() {
    let Some(server) = Server::with().tls().start() else {
        return;
    };
    let folder = server.folder();
    let path = |name: &str| folder.join(name).display().to_string();
    let ca = || Redis::builder(server.url()).ca(path("ca.crt"));
    let missing = Redis::builder(server.url()).ca(path("none.crt"));
    fails(
        missing,
        ErrorKind::Settings,
        "none.crt, which cannot be read",
    )
    .await;
    let key = Redis::builder(server.url()).ca(path("ca.key-is-none"));
    fails(key, ErrorKind::Settings, "CACHE_REDIS_CA_FILE").await;
    let log = Redis::builder(server.url()).ca(path("log"));
    fails(
        log,
        ErrorKind::Settings,
        "CACHE_REDIS_CA_FILE has no certificate",
    )
    .await;
    let swapped = ca().client_certificate(path("client.key"), path("client.crt"));
    fails(swapped, ErrorKind::Settings, "CACHE_REDIS_CLIENT_CERT_FILE").await;
    let keyless = ca().client_certificate(path("client.crt"), path("log"));
    fails(keyless, ErrorKind::Settings, "CACHE_REDIS_CLIENT_KEY_FILE").await;
    let mixed = ca().client_certificate(path("client.crt"), path("server.key"));
    fails(mixed, ErrorKind::Settings, "do not belong together").await;
    let plain = Redis::builder("redis://127.0.0.1:1").ca(path("ca.crt"));
    fails(plain, ErrorKind::Settings, "CACHE_REDIS_TLS=true").await;
}

#[tokio::test]
async fn the_url_is_none() {
    for url in [
        "",
        "s3cret",
        "http://user:s3cret@host",
        "redis://",
        "redis://user:s3cret@",
        "redis://:s3cret@host:port",
        "redis://host/s3cret",
        "redis://host/?protocol=s3cret",
        "unix://s3cret?db=x",
        "rediss://host#s3cret",
    ] {
        let error = Redis::builder(url).connect_lazily().unwrap_err();
        says(&error, ErrorKind::Settings, "CACHE_REDIS_URL");
    }
    let error = Redis::builder("rediss://host#insecure").connect_lazily();
    says(
        &error.unwrap_err(),
        ErrorKind::Settings,
        "#insecure is not supported",
    );
    let error = Redis::builder("redis://host")
        .socket("/s")
        .tls(true)
        .connect_lazily();
    says(
        &error.unwrap_err(),
        ErrorKind::Settings,
        "CACHE_REDIS_SOCKET",
    );
}

#[tokio::test]
async fn what_answers_is_another_server() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    fails(Redis::builder(url), ErrorKind::Backend, "no Redis server").await;
}

/// How many connections of larder there are that speak this version of the protocol.
fn speakers(server: &Server, version: u8) -> usize {
    let clients = server.cli(&["CLIENT", "LIST"]);
    let version = format!("resp={version}");
    let ours = clients.lines().filter(|it| it.contains("name=larder"));
    ours.filter(|it| it.split(' ').any(|field| field == version))
        .count()
}

#[tokio::test]
async fn the_protocol_is_the_third_wherever_it_is_known() {
    let options = Server::with().password("root");
    let Some(server) = options.user("app", SECRET, "~* +@all -hello").start() else {
        return;
    };
    // Whoever is yet to say who it is may always greet.
    server.cli(&["ACL", "SETUSER", "default", "-hello"]);
    let redis = Redis::builder(server.url()).connect().await.unwrap();
    assert_eq!((speakers(&server, 3), speakers(&server, 2)), (1, 0));
    drop(redis);
}

#[tokio::test]
async fn a_server_that_knows_no_hello_is_spoken_to_as_before() {
    let plain = || Server::with().config("rename-command HELLO \"\"");
    let with_password = || plain().password("root").user("app", SECRET, "~* +@all");
    for options in [plain(), with_password(), with_password().mtls()] {
        let Some(server) = options.start() else {
            return;
        };
        let client = |url: String| {
            let redis = Redis::builder(url);
            match server.url().starts_with("rediss") {
                false => redis,
                true => {
                    let certificates = server.certificates();
                    let path = |path: std::path::PathBuf| path.display().to_string();
                    redis.ca(path(certificates.ca())).client_certificate(
                        path(certificates.client_certificate()),
                        path(certificates.client_key()),
                    )
                }
            }
        };
        let redis = client(server.url() + "/3").connect().await.unwrap();
        let counter = Key::new("shop", None, "n");
        assert_eq!(redis.increment(&counter, 1, None).await.unwrap(), 1);
        assert_eq!((speakers(&server, 2), speakers(&server, 3)), (1, 0));
        // A connection that broke is made anew.
        server.cli(&["CLIENT", "KILL", "TYPE", "normal"]);
        let start = std::time::Instant::now();
        while redis.increment(&counter, 1, None).await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(2), "it is not");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if server.url().contains(SECRET) {
            let wrong = client(server.url_as("app:s3cret-wrong@"));
            fails(wrong, ErrorKind::Backend, "CACHE_REDIS_USERNAME").await;
            let without = client(server.url_as(""));
            fails(without, ErrorKind::Backend, "CACHE_REDIS_PASSWORD").await;
        }
    }
}

/// What stands before servers does not always say it in the words of one.
#[tokio::test]
async fn a_proxy_that_refuses_the_third_protocol_is_spoken_to_as_before() {
    for refusal in [
        "-NOPROTO unsupported protocol version",
        "-ERR unknown command 'hello', with args beginning with: 3",
        "-unsupported command 'HELLO'",
        "-NOAUTH Authentication required.",
        "-NOPERM this user has no permissions to run the 'hello' command",
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://app:{SECRET}@{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            use tokio::io::{AsyncReadExt, AsyncWriteExt};
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut chunk = vec![0; 4096];
                    while let Ok(len @ 1..) = stream.read(&mut chunk).await {
                        let asked = String::from_utf8_lossy(&chunk[..len]).into_owned();
                        for command in asked.split('*').skip(1) {
                            let answer = match command {
                                hello if hello.contains("HELLO") => refusal,
                                ping if ping.contains("PING") => "+PONG",
                                _ => "+OK",
                            };
                            let answer = format!("{answer}\r\n");
                            stream.write_all(answer.as_bytes()).await.unwrap();
                        }
                    }
                });
            }
        });
        let redis = Redis::builder(url).connect().await;
        redis.unwrap_or_else(|error| panic!("{refusal}: {error}"));
    }
}

#[tokio::test]
async fn lazily_nobody_is_contacted() {
    let Some(server) = Server::start() else {
        return;
    };
    server.kill();
    let redis = Redis::builder(server.url()).connect_lazily().unwrap();
    server.restart();
    redis.ping().await.unwrap();
}

#[tokio::test]
async fn a_cache_connects_as_its_settings_say() {
    let options = Server::with()
        .password("root")
        .user("app", "s3cret", "~shop:* +@all");
    let Some(server) = options.unix_socket().start() else {
        return;
    };
    let (port, socket) = (
        server.port().to_string(),
        server.socket().display().to_string(),
    );
    let (url, of_nobody) = (server.url(), server.url_as(""));
    let user = [
        ("CACHE_REDIS_USERNAME", "app"),
        ("CACHE_REDIS_PASSWORD", "s3cret"),
    ];
    for pairs in [
        vec![("CACHE_REDIS_URL", url.as_str())],
        [&user[..], &[("CACHE_REDIS_URL", of_nobody.as_str())]].concat(),
        [&user[..], &[("CACHE_REDIS_PORT", port.as_str())]].concat(),
        [&user[..], &[("CACHE_REDIS_SOCKET", socket.as_str())]].concat(),
    ] {
        let base = [("CACHE_TYPE", "redis"), ("CACHE_KEY_PREFIX", "shop")];
        let settings = Settings::from_pairs([&base[..], &pairs[..]].concat()).unwrap();
        assert!(!format!("{settings:?}").contains(SECRET));
        let cache = Cache::from_settings(&settings).await.unwrap();
        cache.put("answer", 42).await.unwrap();
        assert_eq!(cache.get::<i32>("answer").await.unwrap(), Some(42));
        cache.clear().await.unwrap();
    }
}

#[tokio::test]
async fn a_cache_may_begin_without_its_server() {
    let Some(server) = Server::start() else {
        return;
    };
    server.kill();
    let url = server.url();
    let base = [("CACHE_TYPE", "redis"), ("CACHE_REDIS_URL", url.as_str())];
    let eager = Settings::from_pairs(base).unwrap();
    let error = Cache::from_settings(&eager).await.unwrap_err();
    says(&error, ErrorKind::Unavailable, "is the server running");
    let lazy = Settings::from_pairs([&base[..], &[("CACHE_CONNECT", "lazy")]].concat()).unwrap();
    let cache = Cache::from_settings(&lazy).await.unwrap();
    let loaded = cache
        .get_or_load("key", || async { Ok::<_, Error>(7) })
        .await;
    assert_eq!(*loaded.unwrap(), 7);
}
