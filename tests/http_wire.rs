//! What clients see on a real connection.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, body::Body, extract::Request, response::Response, routing::get};
use http::{StatusCode, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use larder::{Cache, CacheLayer};
use support::{Feed, Origin, Step, Wire, answer, feed, serve};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tower::Layer;

fn hello() -> Router {
    let hello = async || {
        (
            [("cache-control", "max-age=60"), ("etag", "\"a\"")],
            "hello",
        )
    };
    Router::new().route("/", get(hello))
}

fn layer() -> CacheLayer {
    CacheLayer::new(Cache::memory())
}

/// One connection on which everything is asked that a browser asks.
async fn conversation(mut wire: Wire) {
    wire.ask("GET /", &[]).await;
    let head = wire.head().await;
    assert!(
        head.contains("cache-status: larder; fwd=uri-miss; stored\r\n"),
        "{head}"
    );
    assert!(head.contains("content-length: 5\r\n"), "{head}");
    assert_eq!(wire.bytes(5).await, "hello");

    wire.ask("GET /", &[]).await;
    let head = wire.head().await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("cache-status: larder; hit; ttl="), "{head}");
    assert!(head.contains("\r\nage: "), "{head}");
    assert_eq!(head.matches("content-length: 5\r\n").count(), 1, "{head}");
    assert_eq!(head.matches("\r\ndate: ").count(), 1, "{head}");
    assert_eq!(wire.bytes(5).await, "hello");

    // A body after either of these would be taken for the next head.
    wire.ask("HEAD /", &[]).await;
    let head = wire.head().await;
    assert!(head.contains("cache-status: larder; hit"), "{head}");
    assert_eq!(head.matches("content-length: 5\r\n").count(), 1, "{head}");

    wire.ask("GET /", &["If-None-Match: \"a\""]).await;
    let head = wire.head().await;
    assert!(head.starts_with("http/1.1 304 "), "{head}");
    assert!(head.contains("cache-status: larder; hit"), "{head}");
    assert!(!head.contains("content-length"), "{head}");

    wire.ask("GET /", &["Connection: close"]).await;
    wire.head().await;
    assert_eq!(wire.rest().await, "hello");
}

#[tokio::test]
async fn a_router_with_the_layer_inside() {
    conversation(Wire::open(serve(hello().layer(layer()).into_make_service()).await).await).await;
}

#[tokio::test]
async fn a_router_with_the_layer_around() {
    conversation(Wire::open(serve(layer().around(hello())).await).await).await;
}

#[tokio::test]
async fn hyper_without_axum() {
    let hello = Origin::now(|_| {
        let fields = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
        answer(200, &fields, "hello")
    });
    let service = hyper_util::service::TowerToHyperService::new(
        tower::ServiceBuilder::new()
            .map_request(|request: http::Request<hyper::body::Incoming>| request.map(Body::new))
            .service(layer().layer(hello)),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
        let _ = server.serve_connection(TokioIo::new(stream), service).await;
    });
    conversation(Wire::open(address).await).await;
}

/// A router whose first answers are steered by the feeds; later ones are `whole`.
fn steered(count: usize, kind: &'static str) -> (Vec<Feed>, Router) {
    let (feeds, bodies): (Vec<_>, Vec<_>) = (0..count).map(|_| feed()).unzip();
    let bodies = Arc::new(Mutex::new(bodies.into_iter()));
    let handler = async move || {
        let body = bodies.lock().unwrap().next();
        let body = body.unwrap_or_else(|| "whole".into());
        (
            [("cache-control", "max-age=60"), ("content-type", kind)],
            body,
        )
    };
    (feeds, Router::new().route("/", get(handler)))
}

#[tokio::test]
async fn the_first_byte_comes_before_the_last_is_there() {
    for around in [false, true] {
        let (feeds, app) = steered(1, "text/plain");
        let address = match around {
            true => serve(layer().around(app)).await,
            false => serve(app.layer(layer()).into_make_service()).await,
        };
        let mut wire = Wire::open(address).await;
        wire.ask("GET /", &[]).await;
        assert!(wire.head().await.contains("stored"));
        feeds[0].send(Step::Data("first"));
        wire.until("first\r\n").await;
        feeds[0].send(Step::Data("second"));
        wire.until("second\r\n").await;
        drop(feeds);
        wire.until("0\r\n\r\n").await;
        // The last chunk has been read, so the response is in the store.
        wire.ask("GET /", &[]).await;
        assert!(wire.head().await.contains("larder; hit"));
        assert_eq!(wire.bytes(11).await, "firstsecond");
    }
}

#[tokio::test]
async fn a_broken_body_breaks_the_connection_and_is_not_stored() {
    let (feeds, app) = steered(1, "text/plain");
    let address = serve(layer().around(app)).await;
    let mut wire = Wire::open(address).await;
    wire.ask("GET /", &[]).await;
    wire.head().await;
    feeds[0].send(Step::Data("half"));
    wire.until("half\r\n").await;
    feeds[0].send(Step::Break);
    assert_eq!(wire.rest().await, "");
    let mut wire = Wire::open(address).await;
    wire.ask("GET /", &[]).await;
    assert!(wire.head().await.contains("larder; fwd=uri-miss; stored"));
    assert_eq!(wire.bytes(5).await, "whole");
}

#[tokio::test]
async fn a_client_that_leaves_half_way_leaves_nothing() {
    let (feeds, app) = steered(1, "text/plain");
    let address = serve(layer().around(app)).await;
    let mut leaver = Wire::open(address).await;
    leaver.ask("GET /", &[]).await;
    leaver.head().await;
    feeds[0].send(Step::Data("half"));
    leaver.until("half\r\n").await;
    drop(leaver);
    // The server notices when it writes.
    while !feeds[0].is_abandoned() {
        feeds[0].send(Step::Data("more"));
        tokio::task::yield_now().await;
    }
    let mut next = Wire::open(address).await;
    next.ask("GET /", &[]).await;
    next.head().await;
    assert_eq!(next.bytes(5).await, "whole");
}

#[tokio::test]
async fn a_client_that_leaves_half_way_cuts_off_nobody_who_shares_the_body() {
    let (mut feeds, app) = steered(1, "text/plain");
    let address = serve(layer().around(app)).await;
    let mut leaver = Wire::open(address).await;
    leaver.ask("GET /", &[]).await;
    leaver.head().await;
    feeds[0].send(Step::Data("half"));
    leaver.until("half\r\n").await;
    let mut follower = Wire::open(address).await;
    follower.ask("GET /", &[]).await;
    let head = follower.head().await;
    assert!(head.contains("; collapsed\r\n"), "{head}");
    follower.until("half\r\n").await;
    drop(leaver);
    for _ in 0..20 {
        feeds[0].send(Step::Data("more"));
        follower.until("more\r\n").await;
    }
    feeds.clear();
    assert_eq!(follower.until("\r\n\r\n").await, "0");
}

#[tokio::test]
async fn an_event_stream_flows_to_several_clients_at_once() {
    let (feeds, app) = steered(2, "text/event-stream");
    let address = serve(app.layer(layer()).into_make_service()).await;
    let mut wires = Vec::new();
    for _ in 0..2 {
        let mut wire = Wire::open(address).await;
        wire.ask("GET /", &[]).await;
        wire.head().await;
        wires.push(wire);
    }
    for number in ["one", "two", "three"] {
        for (feed, wire) in feeds.iter().zip(&mut wires) {
            feed.send(Step::Data(number));
            wire.until(number).await;
        }
    }
}

/// Becomes a protocol of its own that says everything twice.
async fn twice(mut request: Request) -> Response {
    if request.headers().get(header::UPGRADE).is_none() {
        return answer(426, &[("upgrade", "twice")], "");
    }
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let mut stream = TokioIo::new(upgrade.await.unwrap());
        let mut word = [0; 5];
        stream.read_exact(&mut word).await.unwrap();
        stream.write_all(&[word, word].concat()).await.unwrap();
    });
    let mut response = answer(101, &[("connection", "upgrade"), ("upgrade", "twice")], "");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response
}

#[tokio::test]
async fn an_upgrade_is_left_as_it_is() {
    for around in [false, true] {
        let app = Router::new().route("/", get(twice));
        let address = match around {
            true => serve(layer().around(app)).await,
            false => serve(app.layer(layer()).into_make_service()).await,
        };
        for _ in 0..2 {
            let mut wire = Wire::open(address).await;
            wire.ask("GET /", &["Connection: Upgrade", "Upgrade: twice"])
                .await;
            let head = wire.head().await;
            assert!(head.starts_with("http/1.1 101 "), "{head}");
            assert!(head.contains("upgrade: twice\r\n"), "{head}");
            assert!(!head.contains("cache-status"), "{head}");
            wire.send("hello").await;
            assert_eq!(wire.bytes(10).await, "hellohello");
        }
    }
}

#[tokio::test]
async fn many_clients_at_once_get_one_answer() {
    let origin = Origin::new(|call| async move {
        tokio::task::yield_now().await;
        Ok(answer(
            200,
            &[("cache-control", "max-age=60")],
            format!("{:05}", call.number),
        ))
    });
    let app = Router::new().fallback_service(origin.clone().infallible());
    let patient = layer().follower_wait(Duration::from_secs(60));
    let address = serve(patient.around(app)).await;
    let clients: Vec<_> = (0..50)
        .map(|_| {
            tokio::spawn(async move {
                let mut wire = Wire::open(address).await;
                let mut texts = Vec::new();
                for _ in 0..20 {
                    wire.ask("GET /", &[]).await;
                    wire.head().await;
                    texts.push(wire.bytes(5).await);
                }
                texts
            })
        })
        .collect();
    for client in clients {
        assert!(client.await.unwrap().iter().all(|text| text == "00001"));
    }
    assert_eq!(origin.calls(), 1);
}
