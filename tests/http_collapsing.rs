//! Concurrent requests for one URI.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use larder::{Cache, CacheLayer};
use support::{Answer, App, Asking, Origin, Step, answer, feed, settle};
use tokio::{task::JoinHandle, time::Instant};

/// A second's work, and then this.
fn slow(status: u16, fields: &'static [(&str, &str)]) -> Origin {
    Origin::new(move |call| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(answer(status, fields, call.number.to_string()))
    })
}

const FRESH: &[(&str, &str)] = &[("cache-control", "max-age=60")];

fn spawn(app: &App, fields: &'static [(&str, &str)]) -> JoinHandle<Answer> {
    let app = app.clone();
    tokio::spawn(async move { app.get_with("/", fields).await })
}

async fn all(app: &App, count: usize, fields: &'static [(&str, &str)]) -> Vec<Answer> {
    let spawned: Vec<_> = (0..count).map(|_| spawn(app, fields)).collect();
    let mut answers = Vec::new();
    for answer in spawned {
        answers.push(answer.await.unwrap());
    }
    answers
}

#[tokio::test(start_paused = true)]
async fn a_thousand_misses_call_the_handler_once() {
    let app = App::new(slow(200, FRESH));
    let answers = all(&app, 1_000, &[]).await;
    assert!(answers.iter().all(|answer| answer.text() == "1"));
    let told = |text: &str| {
        answers
            .iter()
            .filter(|answer| answer.told() == text)
            .count()
    };
    assert_eq!(told("larder; fwd=uri-miss; stored"), 1);
    assert_eq!(told("larder; fwd=miss; collapsed"), 999);
    assert_eq!(app.calls(), 1);
    assert_eq!(app.cache.stats().http_collapsed, 999);
    assert_eq!(app.cache.stats().flights, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_misses_on_several_threads_call_the_handler_once() {
    let (sender, gate) = tokio::sync::watch::channel(false);
    let origin = Origin::new(move |call| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await?;
            Ok(answer(200, FRESH, call.number.to_string()))
        }
    });
    let app = App::changed(origin, |layer| layer.follower_wait(Duration::from_secs(60)));
    let waiting: Vec<_> = (0..1_000).map(|_| spawn(&app, &[])).collect();
    sender.send(true).unwrap();
    for answer in waiting {
        assert_eq!(answer.await.unwrap().text(), "1");
    }
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_misses_on_a_backend_that_has_to_be_asked_call_the_handler_once() {
    let cache = Cache::new(Asking::new());
    let app = App::on(cache, slow(200, FRESH), |layer| layer);
    let answers = all(&app, 1_000, &[]).await;
    assert!(answers.iter().all(|answer| answer.text() == "1"));
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn different_uris_do_not_wait_for_each_other() {
    let app = App::new(slow(200, FRESH));
    let before = Instant::now();
    let spawned: Vec<_> = (0..50)
        .map(|number| {
            let app = app.clone();
            tokio::spawn(async move { app.get(&format!("/{number}")).await })
        })
        .collect();
    for answer in spawned {
        assert!(!answer.await.unwrap().told().contains("collapsed"));
    }
    assert_eq!(app.calls(), 50);
    assert!(before.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn the_followers_of_a_stale_response_wait_for_one_validation() {
    let app = App::new(Origin::new(|call| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let fields = [("cache-control", "max-age=60"), ("etag", "\"a\"")];
        Ok(match call.header("if-none-match") {
            Some(_) => answer(304, &fields, ""),
            None => answer(200, &fields, "body"),
        })
    }));
    app.get("/").await;
    support::after(61.0).await;
    let answers = all(&app, 100, &[]).await;
    assert!(answers.iter().all(|answer| answer.text() == "body"));
    assert_eq!(app.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_leader_strands_nobody() {
    let app = App::new(slow(200, FRESH));
    let leader = spawn(&app, &[]);
    settle().await;
    let followers: Vec<_> = (0..100).map(|_| spawn(&app, &[])).collect();
    settle().await;
    assert_eq!(app.calls(), 1);
    let before = Instant::now();
    leader.abort();
    for follower in followers {
        assert_eq!(follower.await.unwrap().text(), "2");
    }
    assert_eq!(app.calls(), 2);
    assert!(before.elapsed() < Duration::from_secs(2));
    assert_eq!(app.cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_client_leaves_before_anybody_reads_strands_nobody() {
    let app = App::new(Origin::new(|call| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let body = match call.number {
            1 => feed_that_stalls(),
            number => number.to_string().into(),
        };
        Ok(answer(200, FRESH, body))
    }));
    let leader = tokio::spawn({
        let app = app.clone();
        // The body is dropped as soon as it is there, before those who wait have noticed.
        async move { drop(app.open("/", &[]).await) }
    });
    settle().await;
    let followers: Vec<_> = (0..50).map(|_| spawn(&app, &[])).collect();
    leader.await.unwrap();
    for follower in followers {
        assert_eq!(follower.await.unwrap().text(), "2");
    }
    assert_eq!(app.calls(), 2);
}

/// A body whose first half is all that ever comes.
fn feed_that_stalls() -> axum::body::Body {
    let (feed, body) = feed();
    feed.send(Step::Data("the first half"));
    std::mem::forget(feed);
    body
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_panics_strands_nobody() {
    let app = App::new(Origin::new(|call| async move {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_ne!(call.number, 1, "the handler panics");
        Ok(answer(200, FRESH, call.number.to_string()))
    }));
    let leader = spawn(&app, &[]);
    settle().await;
    let followers: Vec<_> = (0..50).map(|_| spawn(&app, &[])).collect();
    assert!(leader.await.is_err());
    for follower in followers {
        assert_eq!(follower.await.unwrap().text(), "2");
    }
}

#[tokio::test(start_paused = true)]
async fn followers_are_let_go_at_once_when_the_response_is_not_for_them() {
    for field in [
        ("cache-control", "no-store"),
        ("cache-control", "private"),
        ("vary", "*"),
        ("content-type", "text/event-stream"),
        ("set-cookie", "id=1"),
    ] {
        let fields: &[_] = Box::leak(Box::new([field]));
        let app = App::new(slow(200, fields));
        let before = Instant::now();
        let answers = all(&app, 200, &[]).await;
        assert!(before.elapsed() < Duration::from_millis(2_500), "{field:?}");
        let mut texts: Vec<_> = answers.iter().map(Answer::text).collect();
        texts.sort_unstable();
        texts.dedup();
        assert_eq!(texts.len(), 200, "{field:?}: each has its own");
        assert_eq!(app.calls(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_shared_is_not_waited_for_the_next_time() {
    let app = App::new(slow(200, &[("cache-control", "no-store")]));
    app.get("/").await;
    let before = Instant::now();
    all(&app, 100, &[]).await;
    assert!(before.elapsed() < Duration::from_millis(1_500));
}

#[tokio::test(start_paused = true)]
async fn followers_do_not_wait_for_another_variant() {
    let app = App::new(slow(
        200,
        &[("cache-control", "max-age=60"), ("vary", "x-a")],
    ));
    let before = Instant::now();
    let one: Vec<_> = (0..50).map(|_| spawn(&app, &[("x-a", "1")])).collect();
    let two: Vec<_> = (0..50).map(|_| spawn(&app, &[("x-a", "2")])).collect();
    let mut texts = Vec::new();
    for (one, two) in one.into_iter().zip(two) {
        texts.push((
            one.await.unwrap().text().to_owned(),
            two.await.unwrap().text().to_owned(),
        ));
    }
    texts.dedup();
    assert_eq!(texts, [("1".to_owned(), "2".to_owned())]);
    assert_eq!(app.calls(), 2);
    assert!(before.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn followers_wait_no_longer_than_they_are_told_to() {
    let app = App::changed(
        Origin::new(|call| async move {
            let seconds = if call.number == 1 { 3_600 } else { 1 };
            tokio::time::sleep(Duration::from_secs(seconds)).await;
            Ok(answer(200, FRESH, call.number.to_string()))
        }),
        |layer| layer.follower_wait(Duration::from_secs(2)),
    );
    let leader = spawn(&app, &[]);
    settle().await;
    let before = Instant::now();
    let follower = app.get("/").await;
    assert_eq!(follower.text(), "2");
    let waited = before.elapsed();
    assert!(waited > Duration::from_millis(2_900) && waited < Duration::from_secs(4));
    leader.abort();
}

#[tokio::test(start_paused = true)]
async fn collapsing_can_be_switched_off() {
    let app = App::changed(slow(200, FRESH), |layer| {
        layer.follower_wait(Duration::ZERO)
    });
    let before = Instant::now();
    all(&app, 20, &[]).await;
    assert_eq!(app.calls(), 20);
    assert!(before.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_followers_run_a_few_at_a_time() {
    for is_error in [false, true] {
        let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let app = App::new(Origin::new({
            let (running, most) = (running.clone(), most.clone());
            move |_| {
                let (running, most) = (running.clone(), most.clone());
                async move {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    match is_error {
                        true => Err("the service failed".into()),
                        false => Ok(answer(503, &[], "")),
                    }
                }
            }
        }));
        let spawned: Vec<_> = (0..40)
            .map(|_| {
                let app = app.clone();
                tokio::spawn(async move { app.try_get("/").await.map(|answer| answer.status) })
            })
            .collect();
        for answer in spawned {
            match answer.await.unwrap() {
                Ok(status) => assert_eq!(status, 503),
                Err(error) => assert_eq!(error.to_string(), "the service failed"),
            }
        }
        assert_eq!(app.calls(), 40);
        assert!(most.load(Ordering::SeqCst) <= 8, "{most:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn followers_of_a_failure_get_the_first_good_answer() {
    let app = App::new(Origin::new(|call| async move {
        tokio::time::sleep(Duration::from_millis(100)).await;
        Ok(match call.number {
            1 => answer(503, &[], ""),
            _ => answer(200, FRESH, "good"),
        })
    }));
    let answers = all(&app, 100, &[]).await;
    let good = answers
        .iter()
        .filter(|answer| answer.text() == "good")
        .count();
    assert_eq!(good, 99);
    assert!(app.calls() <= 6, "{}", app.calls());
}

#[tokio::test(start_paused = true)]
async fn a_body_that_broke_before_they_look_is_nothing_to_followers() {
    let app = App::new(Origin::now(|call| {
        let body = match call.number {
            1 => support::frames(&[Step::Data("half"), Step::Break]),
            _ => "whole".into(),
        };
        answer(200, FRESH, body)
    }));
    let answers = all(&app, 100, &[]).await;
    assert!(!answers[0].is_whole);
    assert!(answers[1..].iter().all(|answer| answer.text() == "whole"));
    assert_eq!(app.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn requests_with_authorization_wait_for_nobody() {
    let app = App::new(slow(200, &[("cache-control", "public, max-age=60")]));
    let answers = all(&app, 10, &[("authorization", "Basic b3Blbg==")]).await;
    assert_eq!(app.calls(), 10);
    assert!(answers.iter().all(|answer| answer.status == 200));
}

#[tokio::test(start_paused = true)]
async fn requests_that_force_a_fresh_response_are_not_collapsed() {
    let app = App::new(slow(200, FRESH));
    all(&app, 10, &[("cache-control", "no-cache")]).await;
    assert_eq!(app.calls(), 10);
}

#[tokio::test(start_paused = true)]
async fn requests_whose_directives_are_ignored_are_collapsed() {
    let ignoring = |layer: CacheLayer| layer.ignore_client_directives(true);
    let app = App::changed(slow(200, FRESH), ignoring);
    all(&app, 10, &[("cache-control", "no-cache, max-age=0")]).await;
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_follower_s_own_condition_is_evaluated() {
    let app = App::new(slow(
        200,
        &[("cache-control", "max-age=60"), ("etag", "\"a\"")],
    ));
    let leader = spawn(&app, &[]);
    settle().await;
    let follower = spawn(&app, &[("if-none-match", "\"a\"")]);
    assert_eq!(leader.await.unwrap().status, 200);
    let follower = follower.await.unwrap();
    assert_eq!((follower.status, follower.text()), (304, ""));
    assert_eq!(app.calls(), 1);
}
