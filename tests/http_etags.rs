//! Tags that the layer makes for stored bodies that have none.

mod support;

use support::{Answer, App, Asking, Origin, after, answer};

const MINUTE: (&str, &str) = ("cache-control", "max-age=60");

fn making(origin: Origin) -> App {
    App::changed(origin, |layer| layer.generate_etags(true))
}

fn says(fields: &[(&str, &str)], text: &'static str) -> Origin {
    let owned: Vec<(String, String)> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Origin::now(move |_| {
        let fields: Vec<_> = owned.iter().map(|(a, b)| (&**a, &**b)).collect();
        answer(200, &fields, text)
    })
}

/// The tag of a stored response, seen in the second answer.
async fn tag_of(app: &App, uri: &str) -> Option<String> {
    app.get(uri).await;
    let hit = app.get(uri).await;
    assert!(hit.is_hit());
    hit.header("etag").map(str::to_owned)
}

async fn if_none_match(app: &App, tag: &str) -> Answer {
    app.get_with("/", &[("if-none-match", tag)]).await
}

#[tokio::test(start_paused = true)]
async fn a_stored_body_has_a_strong_tag_that_answers_conditions() {
    let app = making(says(&[MINUTE], "hello"));
    let tag = tag_of(&app, "/").await.unwrap();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    let same = if_none_match(&app, &tag).await;
    assert_eq!((same.status, same.text()), (304, ""));
    assert_eq!(same.header("etag"), Some(&*tag));
    let weakly = if_none_match(&app, &format!("\"x\", W/{tag}")).await;
    assert_eq!(weakly.status, 304);
    let other = if_none_match(&app, "\"other\"").await;
    assert_eq!((other.status, other.text()), (200, "hello"));
    let head = app.send("HEAD", "/", &[]).await;
    assert_eq!(head.header("etag"), Some(&*tag));
    assert_eq!(app.calls(), 1);
}

#[tokio::test(start_paused = true)]
async fn it_is_a_condition_for_ranges_too() {
    let app = making(says(&[MINUTE], "hello"));
    let tag = tag_of(&app, "/").await.unwrap();
    let range = ("range", "bytes=1-2");
    let part = app.get_with("/", &[range, ("if-range", &tag)]).await;
    assert_eq!((part.status, part.text()), (206, "el"));
    assert_eq!(part.header("etag"), Some(&*tag));
    let whole = app.get_with("/", &[range, ("if-range", "\"other\"")]).await;
    assert_eq!((whole.status, whole.text()), (200, "hello"));
}

#[tokio::test(start_paused = true)]
async fn it_is_off_by_default() {
    let app = App::new(says(&[MINUTE], "hello"));
    assert_eq!(tag_of(&app, "/").await, None);
}

#[tokio::test(start_paused = true)]
async fn the_same_bytes_have_the_same_tag_and_others_another() {
    let tag = async |fields: &[(&str, &str)], text| {
        let fields = [&[MINUTE], fields].concat();
        tag_of(&making(says(&fields, text)), "/").await.unwrap()
    };
    let plain = tag(&[], "hello").await;
    assert_eq!(plain, tag(&[("x-a", "1")], "hello").await);
    for (fields, text) in [
        (&[][..], "hallo"),
        (&[("content-encoding", "gzip")], "hello"),
        (&[("content-type", "text/html")], "hello"),
    ] {
        assert_ne!(plain, tag(fields, text).await, "{fields:?} {text}");
    }
    let as_type = tag(&[("content-type", "gzip")], "hello").await;
    assert_ne!(as_type, tag(&[("content-encoding", "gzip")], "hello").await);
}

#[tokio::test(start_paused = true)]
async fn a_tag_of_the_handler_s_own_stays() {
    let app = making(says(&[MINUTE, ("etag", "W/\"own\"")], "hello"));
    assert_eq!(tag_of(&app, "/").await.as_deref(), Some("W/\"own\""));
}

#[tokio::test(start_paused = true)]
async fn only_a_200_is_given_one() {
    let app = making(Origin::of(404, &[MINUTE]));
    assert_eq!(tag_of(&app, "/").await, None);
}

#[tokio::test(start_paused = true)]
async fn the_handler_is_not_asked_about_a_tag_that_it_did_not_make() {
    let app = making(says(&[MINUTE], "hello"));
    let tag = tag_of(&app, "/").await.unwrap();
    after(60.5).await;
    let anew = if_none_match(&app, &tag).await;
    assert_eq!(anew.status, 200);
    assert_eq!(app.origin.last_header("if-none-match"), None);
    assert_eq!(tag_of(&app, "/").await.unwrap(), tag);
}

#[tokio::test(start_paused = true)]
async fn a_304_from_inside_keeps_it() {
    let modified = ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT");
    let app = making(Origin::now(move |call| {
        match call.header("if-modified-since") {
            Some(_) => answer(304, &[modified], ""),
            None => answer(200, &[MINUTE, modified], "hello"),
        }
    }));
    let tag = tag_of(&app, "/").await.unwrap();
    after(60.5).await;
    let validated = if_none_match(&app, &tag).await;
    assert_eq!((validated.status, validated.is_hit()), (304, false));
    assert_eq!(app.origin.last_header("if-none-match"), None);
    assert_eq!(tag_of(&app, "/").await.unwrap(), tag);
}

#[tokio::test(start_paused = true)]
async fn variants_have_tags_of_their_own() {
    let app = making(Origin::now(|call| {
        let language = call.header("accept-language").unwrap_or("none").to_owned();
        answer(200, &[MINUTE, ("vary", "accept-language")], language)
    }));
    let mut tags = Vec::new();
    for language in ["en", "de"] {
        let fields = [("accept-language", language)];
        app.get_with("/", &fields).await;
        let hit = app.get_with("/", &fields).await;
        tags.push(hit.header("etag").unwrap().to_owned());
    }
    assert_ne!(tags[0], tags[1]);
    let of_another = [("accept-language", "en"), ("if-none-match", &*tags[1])];
    assert_eq!(app.get_with("/", &of_another).await.status, 200);
}

#[cfg(feature = "compression")]
#[tokio::test]
async fn each_coding_of_a_body_has_a_tag_of_its_own() {
    const LONG: &str = match std::str::from_utf8(&[b'a'; 4096]) {
        Ok(text) => text,
        Err(_) => "",
    };
    let app = App::changed(
        says(&[MINUTE, ("content-type", "text/plain")], LONG),
        |layer| {
            layer
                .generate_etags(true)
                .precompress([larder::Coding::Gzip])
        },
    );
    let plain = tag_of(&app, "/").await.unwrap();
    let gzip = [("accept-encoding", "gzip")];
    app.get_with("/", &gzip).await;
    app.cache.flush().await;
    let encoded = app.get_with("/", &gzip).await;
    assert_eq!(encoded.header("content-encoding"), Some("gzip"));
    let tag = encoded.header("etag").unwrap();
    assert_ne!(plain, tag);
    let fields = [gzip[0], ("if-none-match", tag)];
    assert_eq!(app.get_with("/", &fields).await.status, 304);
    let fields = [gzip[0], ("if-none-match", &*plain)];
    assert_eq!(app.get_with("/", &fields).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn it_survives_the_way_to_a_server_and_back() {
    let cache = larder::Cache::new(Asking::new());
    let app = App::on(cache, says(&[MINUTE], "hello"), |layer| {
        layer.generate_etags(true)
    });
    app.get("/").await;
    app.cache.flush().await;
    let tag = tag_of(&app, "/").await.unwrap();
    assert_eq!(if_none_match(&app, &tag).await.status, 304);
    assert_eq!(app.calls(), 1);
}
