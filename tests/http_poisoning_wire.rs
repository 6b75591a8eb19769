//! Attempts to poison the cache by what only a real connection can carry. Whoever asks afterwards gets what a server
//! gives that was never attacked.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::net::SocketAddr;

use axum::{
    Router,
    body::{Body, to_bytes},
    extract::Request,
    response::Response,
};
use futures_util::stream;
use http::Version;
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use larder::{Cache, CacheLayer};
use support::{Wire, answer, serve};
use tokio::net::TcpStream;

/// Shows everything that is in the key, and everything that ought not to get here or not to be stored.
async fn mirror(request: Request) -> Response {
    let (head, content) = request.into_parts();
    let content = to_bytes(content, 100_000).await.unwrap_or_default();
    let hosts: Vec<_> = head.headers.get_all("host").iter().collect();
    let text = format!("{} {} {hosts:?} {content:?}", head.method, head.uri);
    let fields = [
        ("cache-control", "public, max-age=60"),
        ("content-location", "/"),
    ];
    answer(200, &fields, text)
}

async fn server() -> SocketAddr {
    let layer = CacheLayer::new(Cache::memory());
    serve(layer.around(Router::new().fallback(mirror))).await
}

/// Sends this text, and reads until the server closes the connection.
async fn exchange(address: SocketAddr, text: &str) -> String {
    let mut wire = Wire::open(address).await;
    wire.send(text).await;
    wire.rest().await
}

/// What somebody gets who asks for this, but for what differs between a miss and a hit.
async fn asked(address: SocketAddr, target: &str) -> Vec<String> {
    let text = format!("GET {target} HTTP/1.1\r\nHost: test.example\r\nConnection: close\r\n\r\n");
    let answer = exchange(address, &text).await;
    let varies = ["age:", "cache-status:", "date:"];
    let lines = answer.lines().map(str::to_owned);
    lines
        .filter(|line| {
            !varies
                .iter()
                .any(|name| line.to_ascii_lowercase().starts_with(name))
        })
        .collect()
}

const VICTIMS: [&str; 4] = ["/", "/a", "/a/b?c=1", "/*"];

async fn is_harmless(name: &str, address: SocketAddr) {
    let untouched = server().await;
    for target in VICTIMS {
        let (got, expected) = (asked(address, target).await, asked(untouched, target).await);
        assert_eq!(got, expected, "{name}, {target}");
        assert!(!format!("{got:?}").contains("evil"), "{name}, {target}");
    }
}

/// Texts of requests, with `~` for the end of a line.
const ATTEMPTS: [(&str, &str); 38] = [
    (
        "a target with another host",
        "GET http://test.example/ HTTP/1.1~Host: evil.example~Connection: close~~",
    ),
    (
        "a target with an empty host",
        "GET http://test.example/ HTTP/1.1~Host:~Connection: close~~",
    ),
    (
        "a target of another scheme",
        "GET https://test.example/ HTTP/1.1~Host: test.example~Connection: close~~",
    ),
    (
        "a target of an unknown scheme",
        "GET evil://test.example/ HTTP/1.1~Host: test.example~Connection: close~~",
    ),
    (
        "a target with a user",
        "GET http://evil@test.example/ HTTP/1.1~Host: test.example~Connection: close~~",
    ),
    (
        "a target and a host with a user",
        "GET http://evil@test.example/ HTTP/1.1~Host: evil@test.example~Connection: close~~",
    ),
    (
        "a target with a backslash",
        "GET http://evil.example\\@test.example/ HTTP/1.1~Host: test.example~Connection: close~~",
    ),
    (
        "a target without a host field",
        "GET http://test.example/ HTTP/1.0~~",
    ),
    (
        "a target without a host field in HTTP/1.1",
        "GET http://test.example/ HTTP/1.1~Connection: close~~",
    ),
    (
        "two hosts",
        "GET / HTTP/1.1~Host: test.example~Host: evil.example~Connection: close~~",
    ),
    (
        "two hosts, the right one behind",
        "GET / HTTP/1.1~Host: evil.example~Host: test.example~Connection: close~~",
    ),
    (
        "a host on a folded line",
        "GET / HTTP/1.1~Host: test.example~ evil.example~Connection: close~~",
    ),
    (
        "a host with a space before its colon",
        "GET / HTTP/1.1~Host : evil.example~Host: test.example~Connection: close~~",
    ),
    (
        "a host in other letters",
        "GET / HTTP/1.1~Host: Test.Example~Connection: close~~",
    ),
    (
        "a host with the default port",
        "GET / HTTP/1.1~Host: test.example:80~Connection: close~~",
    ),
    (
        "a host with a zero byte",
        "GET / HTTP/1.1~Host: test.example\0evil~Connection: close~~",
    ),
    (
        "a fragment",
        "GET /#evil HTTP/1.1~Host: test.example~Connection: close~~",
    ),
    (
        "a fragment behind a query",
        "GET /a/b?c=1#evil HTTP/1.1~Host: test.example~Connection: close~~",
    ),
    (
        "lines in the target",
        "GET /a%0d%0aSet-Cookie:%20evil HTTP/1.1~Host: test.example~Connection: close~~",
    ),
    (
        "a query without a path",
        "GET http://test.example?evil HTTP/1.1~Host: test.example~Connection: close~~",
    ),
    (
        "an asterisk",
        "GET * HTTP/1.1~Host: test.example~Connection: close~~",
    ),
    (
        "options of an asterisk",
        "OPTIONS * HTTP/1.1~Host: test.example~Connection: close~~",
    ),
    (
        "a tunnel",
        "CONNECT test.example:80 HTTP/1.1~Host: test.example~Connection: close~~",
    ),
    (
        "a method in small letters",
        "get / HTTP/1.1~Host: test.example~Connection: close~~",
    ),
    (
        "a method with something behind",
        "GET\t/evil HTTP/1.1~Host: test.example~Connection: close~~",
    ),
    (
        "a version that there is not",
        "GET / HTTP/1.2~Host: test.example~Connection: close~~",
    ),
    (
        "content",
        "GET / HTTP/1.1~Host: test.example~Content-Length: 4~Connection: close~~evil",
    ),
    (
        "content in chunks",
        "GET / HTTP/1.1~Host: test.example~Transfer-Encoding: chunked~Connection: close~~4~evil~0~~",
    ),
    (
        "content of two lengths",
        "GET / HTTP/1.1~Host: test.example~Content-Length: 4~Content-Length: 0~Connection: close~~evil",
    ),
    (
        "content of a length with a sign",
        "GET / HTTP/1.1~Host: test.example~Content-Length: +4~Connection: close~~evil",
    ),
    (
        "a request in the content of another",
        "GET /x HTTP/1.1~Host: test.example~Content-Length: 61~Transfer-Encoding: chunked~~0~~GET / HTTP/1.1~Host: evil.example~Connection: close~X: ~~",
    ),
    (
        "a request behind one without content",
        "HEAD / HTTP/1.1~Host: test.example~~GET /a HTTP/1.1~Host: evil.example~Connection: close~~",
    ),
    (
        "a transfer coding that there is not",
        "GET / HTTP/1.1~Host: test.example~Transfer-Encoding: chunked, evil~Connection: close~~evil",
    ),
    (
        "content that is waited for",
        "GET / HTTP/1.1~Host: test.example~Expect: 100-continue~Content-Length: 4~Connection: close~~evil",
    ),
    (
        "an upgrade to HTTP/2",
        "GET / HTTP/1.1~Host: test.example~Connection: close, Upgrade, HTTP2-Settings~Upgrade: h2c~HTTP2-Settings: evil~~",
    ),
    (
        "a connection that names what is essential",
        "GET / HTTP/1.1~Host: test.example~Connection: close, Host, Cache-Control~Cache-Control: no-cache~~",
    ),
    (
        "a post that is taken for a get",
        "POST / HTTP/1.1~Host: test.example~X-HTTP-Method-Override: GET~Content-Length: 4~Connection: close~~evil",
    ),
    (
        "a post for another host than its target's",
        "POST http://test.example/ HTTP/1.1~Host: evil.example~Content-Length: 0~Connection: close~~",
    ),
];

#[tokio::test]
async fn what_is_odd_on_the_wire_is_nobody_else_s() {
    for (name, text) in ATTEMPTS {
        let address = server().await;
        for _ in 0..2 {
            exchange(address, &text.replace('~', "\r\n")).await;
        }
        is_harmless(name, address).await;
    }
}

#[tokio::test]
async fn what_is_odd_on_the_wire_replaces_nothing() {
    for (name, text) in ATTEMPTS {
        let address = server().await;
        for target in VICTIMS {
            asked(address, target).await;
        }
        // Servers that take a bare line feed for the end of a line see the same.
        for end in ["\r\n", "\n"] {
            let text = text.replacen("~", "~Cache-Control: no-cache~", 1);
            exchange(address, &text.replace('~', end)).await;
        }
        is_harmless(name, address).await;
    }
}

#[tokio::test]
async fn what_the_server_refuses_is_not_stored() {
    let large = format!("X-Large: {}", "evil".repeat(200_000));
    let many = "X-Many: evil\r\n".repeat(1_000);
    let long = "evil/".repeat(100_000);
    for (name, target, fields) in [
        ("a field that is too large", "/", &*large),
        ("too many fields", "/", &*many),
        ("a target that is too long", &*long, "X: 1"),
    ] {
        let address = server().await;
        let fields = fields.trim_end();
        let text = format!(
            "GET {target} HTTP/1.1\r\nHost: test.example\r\n{fields}\r\nConnection: close\r\n\r\n"
        );
        let answer = exchange(address, &text).await;
        assert!(!answer.contains(" 200 "), "{name}: {answer}");
        is_harmless(name, address).await;
    }
}

#[tokio::test]
async fn content_that_http_2_does_not_announce_is_nobody_else_s() {
    let address = server().await;
    let ask = async |uri: &str, host: Option<&str>, content: Body| {
        let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
        let connecting = hyper::client::conn::http2::handshake(TokioExecutor::new(), stream);
        let (mut client, connection) = connecting.await.unwrap();
        tokio::spawn(connection);
        let mut request = Request::builder().uri(uri).version(Version::HTTP_2);
        if let Some(host) = host {
            request = request.header("host", host);
        }
        let response = client
            .send_request(request.body(content).unwrap())
            .await
            .unwrap();
        let told = response.headers()["cache-status"]
            .to_str()
            .unwrap()
            .to_owned();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        (told, String::from_utf8(text.to_vec()).unwrap())
    };
    let uri = "http://test.example/";
    let evil = || Body::from_stream(stream::iter([Ok::<_, std::io::Error>("evil")]));
    let (told, text) = ask(uri, None, evil()).await;
    assert_eq!(told, "larder; fwd=bypass; detail=content");
    assert!(text.contains("evil"), "{text}");
    let (told, text) = ask(uri, Some("evil.example"), Body::empty()).await;
    assert_eq!(told, "larder; fwd=bypass; detail=host");
    assert!(text.contains("evil"), "{text}");
    ask("http://evil@test.example/", None, Body::empty()).await;
    // A request without content is stored as ever.
    let (told, text) = ask(uri, None, Body::empty()).await;
    assert_eq!(told, "larder; fwd=uri-miss; stored");
    assert!(!text.contains("evil"), "{text}");
    assert!(
        ask(uri, None, Body::empty())
            .await
            .0
            .starts_with("larder; hit")
    );
}
