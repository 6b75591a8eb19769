//! How long a stored response is fresh, and how old it is (RFC 9111 §4.2).

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::time::Duration;

use http::HeaderValue;
use support::{App, Origin, after, answer, date};

/// Asserts that a response with these fields is fresh for so many seconds, and no longer.
async fn lasts(seconds: u32, fields: &[(&str, &str)]) {
    let app = App::new(Origin::with(fields));
    app.get("/").await;
    if seconds > 0 {
        after(f64::from(seconds) - 1.5).await;
        assert!(app.get("/").await.is_hit(), "{fields:?}");
        after(1.0).await;
    }
    after(1.0).await;
    let stale = app.get("/").await;
    assert!(!stale.is_hit(), "{fields:?} {}", stale.told());
}

#[tokio::test(start_paused = true)]
async fn s_maxage_comes_before_max_age_and_that_before_expires() {
    let expires = date(300);
    lasts(100, &[("cache-control", "max-age=20, s-maxage=100")]).await;
    lasts(20, &[("cache-control", "s-maxage=20, max-age=100")]).await;
    lasts(
        20,
        &[("cache-control", "max-age=20"), ("expires", &expires)],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn max_age_zero_is_stale_whatever_expires_says() {
    let expires = date(300);
    lasts(0, &[("cache-control", "max-age=0"), ("expires", &expires)]).await;
    lasts(0, &[("cache-control", "max-age=60, s-maxage=0")]).await;
}

#[tokio::test(start_paused = true)]
async fn expires_counts_from_the_response_s_own_date() {
    let (made, expires) = (date(0), date(100));
    lasts(100, &[("date", &made), ("expires", &expires)]).await;
    // A clock that is an hour ahead of ours.
    let (made, expires) = (date(3_600), date(3_700));
    lasts(100, &[("date", &made), ("expires", &expires)]).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_date_is_an_age() {
    let made = date(-40);
    lasts(60, &[("date", &made), ("cache-control", "max-age=100")]).await;
}

#[tokio::test(start_paused = true)]
async fn an_invalid_expires_is_in_the_past() {
    let modified = date(-1_000_000);
    for invalid in [
        "0",
        "-1",
        "",
        "tomorrow",
        "Thu, 18 Aug 2050 02:01:18 UTC",
        "Thu, 18 Aug 2050 02:01:18 AEST",
        "Thu 18 Aug 2050 02:01:18 GMT",
        "Thu, 18  Aug  2050 02:01:18 GMT",
        "Thu, 18-Aug-2050 02:01:18 GMT",
        "Thu, 18 Aug 2050 2:01:18 GMT",
        "Thu, 18 Aug 50 02:01:18 GMT",
    ] {
        lasts(0, &[("expires", invalid), ("last-modified", &modified)]).await;
    }
    let (one, two) = (date(60), date(90));
    lasts(0, &[("expires", &one), ("expires", &two)]).await;
}

#[tokio::test(start_paused = true)]
async fn expires_is_read_in_all_three_formats_and_any_letter_case() {
    for valid in [
        "Thu, 18 Aug 2050 02:01:18 GMT",
        "thu, 18 AUG 2050 02:01:18 gmt",
        "Thursday, 18-Aug-50 02:01:18 GMT",
        "Thu Aug 18 02:01:18 2050",
    ] {
        let app = App::new(Origin::with(&[("expires", valid)]));
        app.get("/").await;
        assert!(app.get("/").await.is_hit(), "{valid}");
    }
}

#[tokio::test(start_paused = true)]
async fn numbers_are_read_strictly_and_saturate() {
    lasts(60, &[("cache-control", "max-age=0000060")]).await;
    lasts(60, &[("cache-control", "MAX-AGE=60")]).await;
    lasts(60, &[("cache-control", "max-age=\"60\"")]).await;
    for bad in ["'60'", "-60", "60s", "6e1", "", "1.5"] {
        lasts(0, &[("cache-control", &format!("max-age={bad}"))]).await;
    }
    for huge in ["2147483648", "99999999999", "184467440737095516160"] {
        let fields = [("cache-control", &*format!("max-age={huge}"))];
        let app = App::new(Origin::with(&fields));
        app.get("/").await;
        after(1e9).await;
        assert!(app.get("/").await.is_hit(), "{huge}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_duplicates_the_strictest_wins() {
    lasts(20, &[("cache-control", "max-age=100, max-age=20")]).await;
    let lines = [
        ("cache-control", "max-age=20"),
        ("cache-control", "max-age=100"),
    ];
    lasts(20, &lines).await;
}

#[tokio::test(start_paused = true)]
async fn a_directive_inside_a_quoted_string_is_no_freshness() {
    let fields = [("cache-control", "a=\"max-age=100\", max-age=20")];
    lasts(20, &fields).await;
}

#[tokio::test(start_paused = true)]
async fn a_tenth_of_the_time_since_the_last_change_is_fresh() {
    lasts(100, &[("last-modified", &date(-1_000))]).await;
}

#[tokio::test(start_paused = true)]
async fn heuristic_freshness_ends_after_a_day() {
    lasts(86_400, &[("last-modified", &date(-100_000_000))]).await;
}

#[tokio::test(start_paused = true)]
async fn heuristics_can_be_switched_off() {
    let modified = date(-1_000_000);
    let app = App::changed(Origin::with(&[("last-modified", &modified)]), |layer| {
        layer.heuristics(false)
    });
    app.get("/").await;
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn the_default_ttl_comes_before_heuristics_and_after_what_is_explicit() {
    let minute = Duration::from_secs(60);
    for (name, distance, seconds) in [("last-modified", -100_000, 60.0), ("expires", 300, 300.0)] {
        let value = date(distance);
        let app = App::changed(Origin::with(&[(name, &value)]), |layer| {
            layer.default_ttl(minute)
        });
        app.get("/").await;
        after(seconds - 1.5).await;
        assert!(app.get("/").await.is_hit(), "{name}");
        after(2.0).await;
        assert!(!app.get("/").await.is_hit(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn age_is_on_every_answer_from_the_store_and_on_no_other() {
    let app = App::new(Origin::with(&[("cache-control", "max-age=60")]));
    assert_eq!(app.get("/").await.age(), None);
    assert_eq!(app.get("/").await.age(), Some(0));
    after(10.5).await;
    assert_eq!(app.get("/").await.age(), Some(10));
    assert_eq!(app.send("HEAD", "/", &[]).await.age(), Some(10));
    after(20.0).await;
    assert_eq!(app.get("/").await.age(), Some(30));
}

#[tokio::test(start_paused = true)]
async fn an_upstream_s_age_counts() {
    let fields = [("cache-control", "max-age=60"), ("age", "20")];
    lasts(40, &fields).await;
    let app = App::new(Origin::with(&fields));
    assert_eq!(app.get("/").await.age(), Some(20));
    after(5.5).await;
    let hit = app.get("/").await;
    assert_eq!(hit.age(), Some(25));
    assert_eq!(hit.headers.get_all("age").iter().count(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_member_of_the_first_age_counts_and_what_is_no_number_is_ignored() {
    for (lines, seconds) in [
        (&["40, 0"][..], 20),
        (&["0, 40"], 60),
        (&["40", "0"], 20),
        (&["0", "40"], 60),
        (&["-40"], 60),
        (&["forty"], 60),
        (&["40.5"], 60),
        (&["\"40\""], 60),
    ] {
        let control = std::iter::once(("cache-control", "max-age=60"));
        let ages = lines.iter().map(|line| ("age", *line));
        lasts(seconds, &control.chain(ages).collect::<Vec<_>>()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_huge_age_is_stale_and_nothing_worse() {
    for age in [
        "2147483648",
        "18446744073709551615",
        "99999999999999999999999",
    ] {
        lasts(0, &[("cache-control", "max-age=60"), ("age", age)]).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_handler_takes_counts() {
    let app = App::new(Origin::new(|call| async move {
        tokio::time::sleep(Duration::from_millis(7_500)).await;
        let fields = [("cache-control", "max-age=60"), ("age", "10")];
        Ok(answer(200, &fields, call.number.to_string()))
    }));
    app.get("/").await;
    let hit = app.get("/").await;
    assert_eq!(hit.age(), Some(17));
    after(42.0).await;
    assert!(app.get("/").await.is_hit());
    after(1.0).await;
    assert!(!app.get("/").await.is_hit());
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_body_takes_counts_too() {
    let app = App::new(Origin::now(|_| {
        let (feed, body) = support::feed();
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(20_500)).await;
            feed.send(support::Step::Data("late"));
        });
        answer(200, &[("cache-control", "max-age=60")], body)
    }));
    app.get("/").await;
    assert_eq!(app.get("/").await.age(), Some(20));
}

#[tokio::test(start_paused = true)]
async fn the_date_is_the_response_s_own_or_the_time_it_came() {
    let made = date(-5);
    let app = App::new(Origin::with(&[
        ("cache-control", "max-age=60"),
        ("date", &made),
    ]));
    app.get("/").await;
    after(10.5).await;
    assert_eq!(app.get("/").await.header("date"), Some(&*made));

    let app = App::new(Origin::with(&[("cache-control", "max-age=60")]));
    let now = date(0);
    app.get("/").await;
    after(10.5).await;
    let hit = app.get("/").await;
    let dated = httpdate::parse_http_date(hit.header("date").unwrap()).unwrap();
    let now = httpdate::parse_http_date(&now).unwrap();
    assert!(dated.duration_since(now).unwrap() <= Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_field_that_is_not_text_is_kept_and_not_read() {
    let app = App::new(Origin::now(|_| {
        let mut response = answer(200, &[("cache-control", "max-age=60")], "");
        let bytes = HeaderValue::from_bytes(b"\xff\xfe").unwrap();
        for name in ["age", "expires", "date", "x-bytes"] {
            response.headers_mut().insert(name, bytes.clone());
        }
        response
    }));
    app.get("/").await;
    let hit = app.get("/").await;
    assert!(hit.told().starts_with("larder; hit"));
    assert_eq!(hit.headers["x-bytes"].as_bytes(), b"\xff\xfe");
}
