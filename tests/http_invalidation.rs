//! What requests that may change something end (RFC 9111 §4.4).

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::time::Duration;

use support::{App, Origin, answer, send};

/// Fresh for a minute; what is not a GET answers with this status and these fields.
fn app(status: u16, fields: &'static [(&str, &str)]) -> App {
    App::new(Origin::now(move |call| {
        match call.request.method.as_str() {
            "GET" => answer(
                200,
                &[("cache-control", "max-age=60")],
                call.number.to_string(),
            ),
            _ => answer(status, fields, ""),
        }
    }))
}

async fn is_there(app: &App, uri: &str) -> bool {
    let only = [("cache-control", "only-if-cached")];
    app.get_with(uri, &only).await.is_hit()
}

#[tokio::test(start_paused = true)]
async fn a_successful_unsafe_request_ends_what_is_stored_for_its_uri() {
    for method in ["POST", "PUT", "DELETE", "PATCH", "PURGE", "M-SEARCH"] {
        for status in [200, 201, 204, 299, 301, 303, 307] {
            let app = app(status, &[]);
            app.get("/a").await;
            app.get("/b").await;
            let answer = app.send(method, "/a", &[]).await;
            assert_eq!(
                (answer.status, &*answer.told()),
                (status, "larder; fwd=method")
            );
            assert!(!is_there(&app, "/a").await, "{method} {status}");
            assert!(is_there(&app, "/b").await, "{method} {status}");
            assert_eq!(app.cache.stats().http_invalidated, 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_one_ends_nothing() {
    for status in [400, 401, 404, 409, 500, 503] {
        let app = app(status, &[("location", "/b")]);
        app.get("/a").await;
        app.get("/b").await;
        app.send("POST", "/a", &[]).await;
        assert!(is_there(&app, "/a").await, "{status}");
        assert!(is_there(&app, "/b").await, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_service_ends_nothing() {
    let app = App::new(Origin::new(|call| {
        let reply = match call.request.method.as_str() {
            "GET" => Ok(answer(200, &[("cache-control", "max-age=60")], "")),
            _ => Err("broken".into()),
        };
        std::future::ready(reply)
    }));
    app.get("/").await;
    let post = support::request("POST", "/", &[]);
    assert!(support::try_send(&app.service, post).await.is_err());
    assert!(is_there(&app, "/").await);
}

#[tokio::test(start_paused = true)]
async fn safe_methods_end_nothing() {
    let app = app(200, &[]);
    app.get("/").await;
    for method in ["OPTIONS", "TRACE", "HEAD"] {
        app.send(method, "/", &[]).await;
        assert!(is_there(&app, "/").await, "{method}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_variant_goes() {
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("vary", "x-a"),
    ]));
    for value in ["1", "2", "3"] {
        app.get_with("/", &[("x-a", value)]).await;
    }
    app.send("POST", "/", &[("x-a", "2")]).await;
    for value in ["1", "2", "3"] {
        assert!(!app.get_with("/", &[("x-a", value)]).await.is_hit());
    }
}

#[tokio::test(start_paused = true)]
async fn location_and_content_location_of_the_same_origin_go_too() {
    let fields = &[
        ("location", "/b?c=1"),
        ("content-location", "http://TEST.example:80/d"),
    ];
    let app = app(201, fields);
    for uri in ["/a", "/b?c=1", "/b", "/d", "/e"] {
        app.get(uri).await;
    }
    app.send("POST", "/a", &[]).await;
    for (uri, expected) in [
        ("/a", false),
        ("/b?c=1", false),
        ("/b", true),
        ("/d", false),
        ("/e", true),
    ] {
        assert_eq!(is_there(&app, uri).await, expected, "{uri}");
    }
}

#[tokio::test(start_paused = true)]
async fn relative_references_are_resolved() {
    for (reference, gone) in [
        ("c", "/a/c"),
        ("./c", "/a/c"),
        ("../c", "/c"),
        ("?x=1", "/a/b?x=1"),
        ("//test.example/c", "/c"),
        ("c#part", "/a/c"),
    ] {
        let app = App::new(Origin::now(move |call| {
            match call.request.method.as_str() {
                "GET" => answer(200, &[("cache-control", "max-age=60")], ""),
                _ => answer(201, &[("location", reference)], ""),
            }
        }));
        app.get(gone).await;
        assert!(is_there(&app, gone).await);
        app.send("POST", "/a/b", &[]).await;
        assert!(!is_there(&app, gone).await, "{reference}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_origin_is_not_this_response_s_to_speak_for() {
    for location in [
        "http://other.example/b",
        "https://test.example/b",
        "http://test.example:8080/b",
        "//other.example/b",
        "http://test.example@other.example/b",
    ] {
        let app = App::new(Origin::now(move |call| {
            match call.request.method.as_str() {
                "GET" => answer(200, &[("cache-control", "max-age=60")], ""),
                _ => answer(
                    201,
                    &[("location", location), ("content-location", location)],
                    "",
                ),
            }
        }));
        for uri in ["/b", "https://test.example/b", "http://other.example/b"] {
            app.get(uri).await;
        }
        app.get_with("/b", &[("host", "test.example:8080")]).await;
        app.send("POST", "/a", &[]).await;
        for uri in ["/b", "https://test.example/b", "http://other.example/b"] {
            assert!(is_there(&app, uri).await, "{location} {uri}");
        }
        let only = [
            ("cache-control", "only-if-cached"),
            ("host", "test.example:8080"),
        ];
        assert!(app.get_with("/b", &only).await.is_hit(), "{location}");
    }
}

#[tokio::test(start_paused = true)]
async fn another_host_s_resource_of_the_same_path_stays() {
    let app = app(200, &[]);
    let other = ("host", "other.example");
    app.get_with("/a", &[other]).await;
    app.send("POST", "/a", &[]).await;
    let only = [("cache-control", "only-if-cached"), other];
    assert!(app.get_with("/a", &only).await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_during_a_load_wins() {
    let app = App::new(Origin::new(|call| async move {
        if call.number == 1 {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Ok(answer(
            200,
            &[("cache-control", "max-age=60")],
            call.number.to_string(),
        ))
    }));
    let early = tokio::spawn({
        let app = app.clone();
        async move { app.get("/").await }
    });
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(app.send("POST", "/", &[]).await.text(), "2");
    let early = early.await.unwrap();
    assert_eq!(early.text(), "1");
    let late = app.get("/").await;
    assert_eq!((late.is_hit(), late.text()), (false, "3"));
    assert_eq!(app.cache.stats().loads_late, 1);
}

#[tokio::test(start_paused = true)]
async fn who_asks_after_an_invalidation_does_not_join_a_load_from_before() {
    let app = App::new(Origin::new(|call| async move {
        if call.request.method == "GET" {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        Ok(answer(
            200,
            &[("cache-control", "max-age=60")],
            call.number.to_string(),
        ))
    }));
    let spawn = || {
        let app = app.clone();
        tokio::spawn(async move { app.get("/").await })
    };
    let (leader, follower) = (spawn(), spawn());
    tokio::time::sleep(Duration::from_secs(1)).await;
    app.send("POST", "/", &[]).await;
    let late = app.get("/").await;
    assert_eq!(late.text(), "3");
    assert_eq!(leader.await.unwrap().text(), "1");
    assert_ne!(follower.await.unwrap().text(), "1");
    let hit = app.get("/").await;
    assert!(hit.is_hit());
    assert_ne!(hit.text(), "1");
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_while_a_body_streams_wins() {
    let (feed, body) = support::feed();
    let body = std::sync::Mutex::new(Some(body));
    let app = App::new(Origin::now(move |call| {
        let early = body.lock().unwrap().take().filter(|_| call.number == 1);
        let body = early.unwrap_or_else(|| call.number.to_string().into());
        answer(200, &[("cache-control", "max-age=60")], body)
    }));
    let early = app.open("/", &[]).await;
    feed.send(support::Step::Data("early"));
    app.send("DELETE", "/", &[]).await;
    drop(feed);
    http_body_util::BodyExt::collect(early.into_body())
        .await
        .unwrap();
    assert_eq!(app.get("/").await.text(), "3");
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_during_a_background_revalidation_wins() {
    let app = App::new(Origin::new(|call| async move {
        if call.number == 2 {
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
        let fields = [("cache-control", "max-age=60, stale-while-revalidate=60")];
        Ok(answer(200, &fields, call.number.to_string()))
    }));
    app.get("/").await;
    support::after(61.0).await;
    assert_eq!(app.get("/").await.text(), "1");
    support::settle().await;
    app.send("POST", "/", &[]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let anew = app.get("/").await;
    assert_eq!((anew.is_hit(), anew.text()), (false, "4"));
}

#[tokio::test(start_paused = true)]
async fn a_repeated_post_runs_twice_with_its_body() {
    let app = App::new(Origin::new(|call| async move {
        let body = http_body_util::BodyExt::collect(call.body).await.unwrap();
        let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
        Ok(answer(
            200,
            &[("cache-control", "max-age=60")],
            format!("{}: {text}", call.number),
        ))
    }));
    for expected in ["1: hello", "2: hello"] {
        let mut post = support::request("POST", "/", &[]);
        *post.body_mut() = "hello".into();
        assert_eq!(send(&app.service, post).await.text(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_posts_are_not_collapsed() {
    let app = App::new(Origin::new(|call| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(answer(
            200,
            &[("cache-control", "max-age=60")],
            call.number.to_string(),
        ))
    }));
    let posts: Vec<_> = (0..20)
        .map(|_| {
            let app = app.clone();
            tokio::spawn(async move { app.send("POST", "/", &[]).await })
        })
        .collect();
    for post in posts {
        assert_eq!(post.await.unwrap().status, 200);
    }
    assert_eq!(app.calls(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_post_that_says_it_is_what_a_get_brings_is_stored_for_gets_only() {
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("content-location", "/a"),
    ]));
    let post = app.send("POST", "/a", &[]).await;
    assert_eq!(post.told(), "larder; fwd=method; stored");
    let get = app.get("/a").await;
    assert_eq!((get.is_hit(), get.text()), (true, "1"));
    assert_eq!(app.send("POST", "/a", &[]).await.text(), "2");
    assert_eq!(app.get("/a").await.text(), "2");
    app.send("PUT", "/a", &[]).await;
    assert!(!app.get("/a").await.is_hit());
}
