//! Why the layer did what it did: counted, logged, and told in `Cache-Status`.

mod support;

use larder::{Reason, StatusDetail};
use support::{App, Origin, after};

fn minute() -> Origin {
    Origin::with(&[("cache-control", "max-age=60")])
}

/// An application that tells everything.
fn telling_all(origin: Origin) -> App {
    App::changed(origin, |layer| layer.status_detail(StatusDetail::All))
}

#[test]
fn names_are_tokens_and_no_two_are_the_same() {
    let mut names: Vec<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    let is_token = |name: &&str| {
        let is_plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(is_plain)
    };
    assert!(names.iter().all(is_token), "{names:?}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), Reason::ALL.len());
}

#[tokio::test(start_paused = true)]
async fn what_is_stored_and_does_not_answer_is_explained() {
    let app = telling_all(minute());
    let told = |fields: &'static [(&'static str, &'static str)]| {
        let app = &app;
        async move { app.get_with("/", fields).await.told() }
    };
    assert_eq!(
        told(&[]).await,
        "larder; fwd=uri-miss; stored; detail=nothing-stored"
    );
    assert!(told(&[]).await.starts_with("larder; hit"));
    for (directive, name) in [
        ("no-cache", "request-no-cache"),
        ("max-age=0", "request-max-age"),
        ("min-fresh=61", "request-min-fresh"),
    ] {
        let told = app.get_with("/", &[("cache-control", directive)]).await;
        let expected = format!("larder; fwd=request; stored; detail={name}");
        assert_eq!(told.told(), expected);
    }
    after(60.5).await;
    assert_eq!(told(&[]).await, "larder; fwd=stale; stored; detail=stale");
}

#[tokio::test(start_paused = true)]
async fn both_reasons_are_told_where_a_response_is_neither_reused_nor_stored() {
    let app = telling_all(Origin::with(&[("cache-control", "private")]));
    assert_eq!(
        app.get("/").await.told(),
        "larder; fwd=uri-miss; detail=\"nothing-stored, private\""
    );
}

#[tokio::test(start_paused = true)]
async fn another_variant_is_told_from_nothing_stored() {
    let app = telling_all(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("vary", "x-a"),
    ]));
    app.get_with("/", &[("x-a", "1")]).await;
    assert_eq!(
        app.get_with("/", &[("x-a", "2")]).await.told(),
        "larder; fwd=vary-miss; stored; detail=other-variant"
    );
    let reasons = app.cache.stats().reasons;
    assert_eq!(reasons[Reason::NothingStored], 1);
    assert_eq!(reasons[Reason::OtherVariant], 1);
}

#[tokio::test(start_paused = true)]
async fn details_can_be_left_out() {
    let origin = Origin::with(&[("cache-control", "private")]);
    let app = App::changed(origin, |layer| layer.status_detail(StatusDetail::None));
    assert_eq!(app.get("/").await.told(), "larder; fwd=uri-miss");
}

#[tokio::test(start_paused = true)]
async fn every_reason_is_counted_whatever_is_told() {
    let app = App::new(Origin::with(&[("cache-control", "private")]));
    app.get("/").await;
    app.get_with("/", &[("if-match", "\"a\"")]).await;
    app.get_with("/", &[("cache-control", "no-store")]).await;
    app.get_with("/", &[("cache-control", "only-if-cached")])
        .await;
    app.send("OPTIONS", "/", &[]).await;
    let reasons = app.cache.stats().reasons;
    for reason in [
        Reason::Private,
        Reason::Precondition,
        Reason::RequestNoStore,
        Reason::OnlyIfCached,
        Reason::Method,
    ] {
        assert_eq!(reasons[reason], 1, "{reason}");
    }
    assert_eq!(reasons[Reason::SetCookie], 0);
    assert!(reasons.iter().all(|(_, count)| count > 0));
}
