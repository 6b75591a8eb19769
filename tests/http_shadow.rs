//! Shadow mode: what the layer would have answered, compared with what the handler does.

mod support;

use axum::body::Body;
use http::Response;
use larder::{Difference, Reason, Shadow, ShadowRoute};
use support::{App, Origin, after};

fn shadowed(origin: Origin) -> (App, Shadow) {
    let shadow = Shadow::new(1.0).ignore_header(http::HeaderName::from_static("x-request-id"));
    let app = App::changed(origin, |layer| layer.shadow(shadow.clone()));
    (app, shadow)
}

/// Answers with a fresh response whose fields and body the number of the call makes.
fn counting(make: fn(usize) -> (u16, String, String)) -> Origin {
    let calls = std::sync::atomic::AtomicUsize::new(0);
    Origin::now(move |_| {
        let call = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (status, field, body) = make(call);
        Response::builder()
            .status(status)
            .header("cache-control", "max-age=60")
            .header("x-field", field)
            .header("x-request-id", call.to_string())
            .body(Body::from(body))
            .unwrap()
    })
}

fn only_route(shadow: &Shadow) -> ShadowRoute {
    let report = shadow.report();
    assert_eq!(report.routes.len(), 1, "{report}");
    report.routes[0].clone()
}

#[tokio::test(start_paused = true)]
async fn every_request_is_answered_by_the_handler() {
    let (app, shadow) = shadowed(counting(|call| (200, "same".into(), call.to_string())));
    for call in 0..3 {
        assert_eq!(app.get("/").await.text(), call.to_string());
    }
    assert_eq!(app.calls(), 3);
    let route = only_route(&shadow);
    assert_eq!((route.requests, route.hits), (3, 2));
    assert_eq!(app.cache.stats().http_hits, 0);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_would_have_been_right_is_not_reported() {
    let (app, shadow) = shadowed(counting(|_| (200, "same".into(), "same".into())));
    for _ in 0..3 {
        app.get("/").await;
    }
    let route = only_route(&shadow);
    assert_eq!((route.compared, route.wrong), (2, 0));
    assert_eq!(app.cache.stats().reasons[Reason::Shadow], 2);
}

#[tokio::test(start_paused = true)]
async fn wrong_answers_are_reported_by_what_differs() {
    let status: fn(usize) -> _ = |call| (200 + call as u16, "same".into(), "same".into());
    let field: fn(usize) -> _ = |call| (200, call.to_string(), "same".into());
    let body: fn(usize) -> _ = |call| (200, "same".into(), call.to_string());
    let longer: fn(usize) -> _ = |call| (200, "same".into(), "a".repeat(call + 1));
    let shorter: fn(usize) -> _ = |call| (200, "same".into(), "a".repeat(1 - call));
    let x_field = Difference::Field(http::HeaderName::from_static("x-field"));
    for (make, difference) in [
        (status, Difference::Status),
        (field, x_field),
        (body, Difference::Body),
        (longer, Difference::Body),
        (shorter, Difference::Body),
    ] {
        let (app, shadow) = shadowed(counting(make));
        app.get("/").await;
        app.get("/").await;
        let route = only_route(&shadow);
        assert_eq!((route.compared, route.wrong), (1, 1), "{difference}");
        assert_eq!(route.differences, [(difference, 1)]);
        assert_eq!(shadow.report().wrong(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_ends_as_ever() {
    let (app, shadow) = shadowed(counting(|call| (200, "same".into(), call.to_string())));
    app.get("/").await;
    after(60.5).await;
    assert_eq!(app.get("/").await.told(), "larder; fwd=stale; stored");
    app.send("POST", "/", &[]).await;
    assert_eq!(app.get("/").await.told(), "larder; fwd=uri-miss; stored");
    assert_eq!(only_route(&shadow).wrong, 0);
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_the_client_s_own_conditions_where_the_store_would_answer() {
    let (app, shadow) = shadowed(counting(|_| (200, "same".into(), "same".into())));
    app.get("/").await;
    let told = app
        .get_with("/", &[("if-none-match", "\"a\"")])
        .await
        .told();
    assert_eq!(told, "larder; fwd=bypass; detail=shadow");
    assert_eq!(app.origin.last_header("if-none-match").unwrap(), "\"a\"");
    assert_eq!(only_route(&shadow).compared, 0);
}

#[tokio::test(start_paused = true)]
async fn a_head_is_compared_by_its_head() {
    let (app, shadow) = shadowed(counting(|call| (200, "same".into(), call.to_string())));
    app.get("/").await;
    app.send("HEAD", "/", &[]).await;
    let route = only_route(&shadow);
    assert_eq!((route.compared, route.wrong), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_compared_where_the_share_is_zero() {
    let origin = counting(|call| (200, "same".into(), call.to_string()));
    let shadow = Shadow::new(0.0);
    let app = App::changed(origin, |layer| layer.shadow(shadow.clone()));
    app.get("/").await;
    app.get("/").await;
    let route = only_route(&shadow);
    assert_eq!((route.hits, route.compared), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_report_is_a_table() {
    let (app, shadow) = shadowed(counting(|call| (200, call.to_string(), "same".into())));
    for _ in 0..3 {
        app.get("/").await;
    }
    let shown = shadow.report().to_string();
    let row: Vec<_> = shown.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(row, ["-", "3", "2", "2", "2", "field", "x-field:", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_the_client_s_own_conditions_where_nothing_is_stored() {
    let (app, _) = shadowed(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("etag", "\"a\""),
    ]));
    app.get_with("/", &[("if-none-match", "\"a\"")]).await;
    assert_eq!(app.origin.last_header("if-none-match").unwrap(), "\"a\"");
}

/// Answers in the first language that is asked for.
fn speaking() -> Origin {
    Origin::now(|call| {
        let fields = [("cache-control", "max-age=60"), ("vary", "accept-language")];
        let wishes = call.header("accept-language").unwrap_or("none").to_owned();
        support::answer(200, &fields, wishes)
    })
}

#[tokio::test(start_paused = true)]
async fn a_handler_sees_all_the_languages_that_a_client_names() {
    let shadow = Shadow::new(1.0);
    let app = App::changed(speaking(), |layer| {
        layer
            .languages(["en", "de"])
            .unwrap()
            .shadow(shadow.clone())
    });
    let wishes = [("accept-language", "de-AT, en;q=0.5")];
    for _ in 0..2 {
        assert_eq!(app.get_with("/", &wishes).await.text(), "de-AT, en;q=0.5");
    }
    let route = only_route(&shadow);
    assert_eq!((route.hits, route.compared, route.wrong), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_for_all_the_languages_of_a_client_does_not_answer_for_one() {
    let cache = larder::Cache::memory();
    let shadow = App::on(cache.clone(), speaking(), |layer| {
        layer
            .languages(["en", "de"])
            .unwrap()
            .shadow(Shadow::new(1.0))
    });
    let wishes = [("accept-language", "de-AT, en;q=0.5")];
    shadow.get_with("/", &wishes).await;
    let app = App::on(cache, speaking(), |layer| {
        layer.languages(["en", "de"]).unwrap()
    });
    assert_eq!(app.get_with("/", &wishes).await.text(), "de");
}
