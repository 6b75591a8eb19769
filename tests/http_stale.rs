//! Stale responses: while a new one is fetched, and when that fails (RFC 9111 §4.2.4, RFC 5861).

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::time::Duration;

use larder::CacheLayer;
use support::{App, Origin, after, answer, settle};

/// A minute of freshness and these directives, made anew at each call after a second.
fn slow(directives: &str) -> App {
    let control = format!("max-age=60, {directives}");
    App::new(Origin::new(move |call| {
        let control = control.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(400)).await;
            Ok(answer(
                200,
                &[("cache-control", &control)],
                call.number.to_string(),
            ))
        }
    }))
}

/// A response with these directives, and failure at every later call: a status, or an error of the service itself.
fn failing(directives: &str, failure: Option<u16>, layer: fn(CacheLayer) -> CacheLayer) -> App {
    let control = directives.to_owned();
    let origin = Origin::new(move |call| {
        let reply = match (call.number, failure) {
            (1, _) => Ok(answer(200, &[("cache-control", &control)], "good")),
            (_, Some(status)) => Ok(answer(status, &[], "bad")),
            (_, None) => Err("the service failed".into()),
        };
        std::future::ready(reply)
    });
    App::changed(origin, layer)
}

fn as_it_is(layer: CacheLayer) -> CacheLayer {
    layer
}

const DEFAULT: &str = "max-age=60";

// stale-while-revalidate

#[tokio::test(start_paused = true)]
async fn a_stale_response_answers_at_once_while_one_call_makes_the_next() {
    let app = slow("stale-while-revalidate=30");
    app.get("/").await;
    after(70.1).await;
    let before = tokio::time::Instant::now();
    for _ in 0..10 {
        let stale = app.get("/").await;
        assert_eq!(
            (stale.status, stale.text(), stale.age()),
            (200, "1", Some(70))
        );
        assert_eq!(
            stale.told(),
            "larder; hit; ttl=-11; detail=stale-while-revalidate"
        );
    }
    assert_eq!(before.elapsed(), Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(app.calls(), 2);
    let next = app.get("/").await;
    assert_eq!((next.is_hit(), next.text()), (true, "2"));
    assert_eq!(app.cache.stats().http_stale, 10);
}

#[tokio::test(start_paused = true)]
async fn after_the_window_the_new_response_is_waited_for() {
    let app = slow("stale-while-revalidate=30");
    app.get("/").await;
    after(91.0).await;
    let anew = app.get("/").await;
    assert_eq!(anew.text(), "2");
    assert_eq!(anew.told(), "larder; fwd=stale; stored");
}

#[tokio::test(start_paused = true)]
async fn must_revalidate_forbids_stale_while_revalidate() {
    for forbidden in ["must-revalidate", "proxy-revalidate"] {
        let app = slow(&format!("stale-while-revalidate=30, {forbidden}"));
        app.get("/").await;
        after(70.5).await;
        let anew = app.get("/").await;
        assert_eq!((anew.is_hit(), anew.text()), (false, "2"), "{forbidden}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_background_revalidation_is_conditional_and_a_304_is_enough() {
    let app = App::new(Origin::now(|call| {
        let control = "max-age=60, stale-while-revalidate=30";
        let fields = [("cache-control", control), ("etag", "\"a\"")];
        match call.header("if-none-match") {
            Some("\"a\"") => answer(304, &fields, ""),
            _ => answer(200, &fields, "body"),
        }
    }));
    app.get("/").await;
    after(70.5).await;
    assert!(app.get("/").await.is_hit());
    settle().await;
    assert_eq!(app.calls(), 2);
    let hit = app.get("/").await;
    assert_eq!((hit.text(), hit.age()), ("body", Some(0)));
    assert_eq!(app.cache.stats().http_revalidated, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_s_condition_is_answered_from_the_stale_response_and_kept_out_of_the_background() {
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60, stale-while-revalidate=30"),
        ("etag", "\"a\""),
    ]));
    app.get("/").await;
    after(70.5).await;
    let answer = app.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!(answer.status, 304);
    settle().await;
    let hit = app.get("/").await;
    assert_eq!((hit.status, hit.text()), (200, "2"));
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_answered_stale_fetches_the_whole_response() {
    let app = App::new(Origin::with(&[(
        "cache-control",
        "max-age=60, stale-while-revalidate=30",
    )]));
    app.get("/").await;
    after(70.5).await;
    assert!(app.send("HEAD", "/", &[]).await.is_hit());
    settle().await;
    assert_eq!(app.origin.last().method, "GET");
    let hit = app.get("/").await;
    assert_eq!((hit.is_hit(), hit.text()), (true, "2"));
}

#[tokio::test(start_paused = true)]
async fn a_background_failure_leaves_the_stale_response_where_it_is() {
    let control = "max-age=60, stale-while-revalidate=30";
    for failure in [Some(503), None] {
        let app = failing(control, failure, as_it_is);
        app.get("/").await;
        after(70.5).await;
        for _ in 0..3 {
            let stale = app.get("/").await;
            assert_eq!((stale.is_hit(), stale.text()), (true, "good"));
            settle().await;
        }
        assert_eq!(app.calls(), 4);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_wants_a_fresh_response_gets_one_within_the_window() {
    for control in ["no-cache", "max-age=10", "min-fresh=1"] {
        let app = slow("stale-while-revalidate=30");
        app.get("/").await;
        after(70.5).await;
        let anew = app.get_with("/", &[("cache-control", control)]).await;
        assert_eq!((anew.is_hit(), anew.text()), (false, "2"), "{control}");
    }
}

// stale-if-error

#[tokio::test(start_paused = true)]
async fn a_stale_response_stands_in_for_a_failure_for_a_minute() {
    for failure in [Some(500), Some(502), Some(503), Some(504)] {
        let app = failing(DEFAULT, failure, as_it_is);
        app.get("/").await;
        after(119.5).await;
        let stale = app.get("/").await;
        assert_eq!(
            (stale.status, stale.text(), stale.age()),
            (200, "good", Some(119))
        );
        let status = failure.unwrap();
        let told = format!("larder; fwd=stale; fwd-status={status}; detail=stale-if-error");
        assert_eq!(stale.told(), told);
        after(1.0).await;
        assert_eq!(app.get("/").await.status, status);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_response_stands_in_for_an_error_of_the_service_itself() {
    let app = failing(DEFAULT, None, as_it_is);
    app.get("/").await;
    after(119.5).await;
    let stale = app.get("/").await;
    assert_eq!((stale.status, stale.text()), (200, "good"));
    assert_eq!(stale.told(), "larder; fwd=stale; detail=stale-if-error");
    after(1.0).await;
    let error = app.try_get("/").await.unwrap_err();
    assert_eq!(error.to_string(), "the service failed");
}

#[tokio::test(start_paused = true)]
async fn other_answers_are_no_failures() {
    for status in [400, 404, 410, 429, 501, 505, 599] {
        let app = failing(DEFAULT, Some(status), as_it_is);
        app.get("/").await;
        after(60.5).await;
        let answer = app.get("/").await;
        assert_eq!((answer.status, answer.text()), (status, "bad"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_says_itself_for_how_long_it_stands_in() {
    let app = failing("max-age=60, stale-if-error=600", Some(503), as_it_is);
    app.get("/").await;
    after(659.5).await;
    assert_eq!(app.get("/").await.status, 200);
    after(1.0).await;
    assert_eq!(app.get("/").await.status, 503);
    let app = failing("max-age=60, stale-if-error=0", Some(503), as_it_is);
    app.get("/").await;
    after(60.5).await;
    assert_eq!(app.get("/").await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn a_response_may_forbid_to_stand_in() {
    for forbidden in [
        "max-age=60, must-revalidate",
        "max-age=60, proxy-revalidate",
        "max-age=60, must-revalidate, stale-if-error=600",
        "s-maxage=60",
    ] {
        let app = failing(forbidden, Some(503), as_it_is);
        app.get("/").await;
        assert!(app.get("/").await.is_hit());
        after(60.5).await;
        assert_eq!(app.get("/").await.status, 503, "{forbidden}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_cache_forbids_to_stand_in_even_while_fresh() {
    let app = App::new(Origin::now(|call| match call.number {
        1 => {
            let fields = [("cache-control", "max-age=60, no-cache"), ("etag", "\"a\"")];
            answer(200, &fields, "good")
        }
        _ => answer(503, &[], "bad"),
    }));
    app.get("/").await;
    assert_eq!(app.get("/").await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn the_window_can_be_set_and_closed() {
    let app = failing(DEFAULT, Some(503), |layer| {
        layer.stale_if_error(Duration::from_secs(600))
    });
    app.get("/").await;
    after(659.5).await;
    assert_eq!(app.get("/").await.status, 200);
    let app = failing(DEFAULT, Some(503), |layer| {
        layer.stale_if_error(Duration::ZERO)
    });
    app.get("/").await;
    after(60.5).await;
    assert_eq!(app.get("/").await.status, 503);
}

#[tokio::test(start_paused = true)]
async fn a_failure_leaves_the_stale_response_where_it_is() {
    let app = App::new(Origin::now(|call| match call.number {
        1 => answer(
            200,
            &[("cache-control", "max-age=60"), ("etag", "\"a\"")],
            "good",
        ),
        2 => answer(503, &[], "bad"),
        _ => answer(304, &[("cache-control", "max-age=60")], ""),
    }));
    app.get("/").await;
    after(60.5).await;
    assert_eq!(app.get("/").await.text(), "good");
    let validated = app.get("/").await;
    assert_eq!(
        validated.told(),
        "larder; fwd=stale; fwd-status=304; stored"
    );
    assert!(app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn a_request_that_forced_a_failure_gets_the_fresh_stored_response() {
    let app = failing(DEFAULT, Some(503), as_it_is);
    app.get("/").await;
    let answer = app.get_with("/", &[("cache-control", "no-cache")]).await;
    assert_eq!((answer.status, answer.text()), (200, "good"));
    let told = "larder; fwd=request; fwd-status=503; detail=stale-if-error";
    assert_eq!(answer.told(), told);
}

#[tokio::test(start_paused = true)]
async fn a_failure_with_nothing_stored_is_passed_on() {
    let app = App::new(Origin::of(503, &[]));
    let answer = app.get("/").await;
    assert_eq!((answer.status, answer.text()), (503, "1"));
    let app = App::new(Origin::new(|_| std::future::ready(Err("broken".into()))));
    assert_eq!(app.try_get("/").await.unwrap_err().to_string(), "broken");
}

#[tokio::test(start_paused = true)]
async fn a_client_s_condition_is_evaluated_against_what_stands_in() {
    let app = App::new(Origin::now(|call| match call.number {
        1 => answer(
            200,
            &[("cache-control", "max-age=60"), ("etag", "\"a\"")],
            "good",
        ),
        _ => answer(503, &[], "bad"),
    }));
    app.get("/").await;
    after(60.5).await;
    let answer = app.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!(answer.status, 304);
}

/// A response for a second with this tag; later calls fail, after a second.
fn tagged_and_failing() -> App {
    App::new(Origin::new(|call| async move {
        if call.number == 1 {
            let fields = [
                ("cache-control", "max-age=1, stale-if-error=600"),
                ("cache-tag", "shelf"),
            ];
            return Ok(answer(200, &fields, "good"));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(answer(500, &[], "bad"))
    }))
}

#[tokio::test(start_paused = true)]
async fn what_ended_with_its_tag_while_the_handler_ran_does_not_stand_in_for_its_failure() {
    for is_invalidated in [false, true] {
        let app = tagged_and_failing();
        app.get("/").await;
        after(10.1).await;
        let asking = tokio::spawn({
            let app = app.clone();
            async move { app.get("/").await }
        });
        after(0.5).await;
        if is_invalidated {
            app.cache.invalidate_tag("shelf").await.unwrap();
        }
        let expected = if is_invalidated { "bad" } else { "good" };
        assert_eq!(asking.await.unwrap().text(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn what_ended_while_a_request_waited_for_another_does_not_stand_in_for_a_failure() {
    for is_by_tag in [false, true] {
        let origin = Origin::new(|call| async move {
            match call.number {
                1 => {
                    let fields = [
                        ("cache-control", "max-age=1, stale-if-error=600"),
                        ("cache-tag", "shelf"),
                    ];
                    Ok(answer(200, &fields, "good"))
                }
                2 => {
                    tokio::time::sleep(Duration::from_secs(60)).await;
                    Ok(answer(200, &[], "late"))
                }
                _ => Ok(answer(500, &[], "bad")),
            }
        });
        let app = App::changed(origin, |layer| layer.follower_wait(Duration::from_secs(5)));
        app.get("/").await;
        after(10.1).await;
        let ask = || {
            let app = app.clone();
            tokio::spawn(async move { app.get("/").await })
        };
        let leader = ask();
        after(0.5).await;
        let follower = ask();
        after(0.5).await;
        match is_by_tag {
            true => app.cache.invalidate_tag("shelf").await.unwrap(),
            false => assert!(app.cache.purge("http://test.example/").await.unwrap()),
        }
        assert_eq!(follower.await.unwrap().text(), "bad");
        leader.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_for_a_failure_is_counted_as_one() {
    let app = App::new(Origin::now(|call| match call.number {
        1 => answer(200, &[("cache-control", "max-age=60")], "good"),
        _ => answer(503, &[], "failed"),
    }));
    app.get("/").await;
    after(60.5).await;
    assert_eq!(app.get("/").await.text(), "good");
    let stats = app.cache.stats();
    assert_eq!(stats.reasons[larder::Reason::StaleIfError], 1);
    assert_eq!((stats.http_stale, stats.http_hits), (1, 0));
}
