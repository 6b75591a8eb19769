use http::HeaderValue;
use proptest::prelude::*;

use super::*;

fn vary(lines: &[&str]) -> Vary {
    let line = |line: &&str| (header::VARY, HeaderValue::from_str(line).unwrap());
    Vary::parse(&lines.iter().map(line).collect())
}

fn fields(names: &[&'static str]) -> Vary {
    Vary::Fields(
        names
            .iter()
            .map(|name| HeaderName::from_static(name))
            .collect(),
    )
}

fn request(lines: &[(&str, &[u8])]) -> HeaderMap {
    let line = |(name, value): &(&str, &[u8])| {
        let value = HeaderValue::from_bytes(value).ok()?;
        Some((HeaderName::from_bytes(name.as_bytes()).unwrap(), value))
    };
    lines.iter().filter_map(line).collect()
}

fn selected(names: &[&'static str], request: &HeaderMap) -> Buffer {
    let names: Vec<_> = names
        .iter()
        .map(|name| HeaderName::from_static(name))
        .collect();
    let mut selection = Buffer::new();
    select(&names, request, &mut selection);
    selection
}

/// What requests with these lines of one field select.
fn by(name: &'static str, lines: &[&str]) -> Buffer {
    let lines: Vec<_> = lines.iter().map(|line| (name, line.as_bytes())).collect();
    selected(&[name], &request(&lines))
}

#[test]
fn names_are_sorted_and_each_once() {
    assert_eq!(
        vary(&["Foo, bar", "BAZ,foo"]),
        fields(&["bar", "baz", "foo"])
    );
}

#[test]
fn empty_members_are_skipped() {
    assert_eq!(vary(&[", foo,, "]), fields(&["foo"]));
    for lines in [&[][..], &[""], &[" , "], &["", ","]] {
        assert_eq!(vary(lines), Vary::None, "{lines:?}");
    }
}

#[test]
fn a_star_anywhere_is_a_star() {
    for lines in [
        &["*"][..],
        &["*, *"],
        &["*", "*"],
        &[", *"],
        &["", "*"],
        &["*, foo"],
        &["foo, *"],
        &["foo", "*"],
    ] {
        assert_eq!(vary(lines), Vary::Star, "{lines:?}");
    }
}

#[test]
fn what_is_not_a_name_is_a_star() {
    for line in ["foo bar", "foo, b\"ar", "foo;q=1", "f\u{f6}o"] {
        assert_eq!(vary(&[line]), Vary::Star, "{line}");
    }
}

#[test]
fn too_many_names_are_a_star() {
    let names = |count| {
        (0..count)
            .map(|n| format!("f{n}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    assert!(matches!(vary(&[&names(16), "f0"]), Vary::Fields(fields) if fields.len() == 16));
    assert_eq!(vary(&[&names(17)]), Vary::Star);
}

#[test]
fn other_values_select_another_variant() {
    for (one, other) in [
        (&["1"][..], &["2"][..]),
        (&["1"], &[]),
        (&[""], &[]),
        (&["1, 2"], &["2, 1"]),
        (&["a"], &["A"]),
        (&["a b"], &["ab"]),
        (&["1,,2"], &["1,2"]),
        (&["\"a, b\""], &["\"a,b\""]),
        (&["\"a", "b\""], &["\"a,b\""]),
    ] {
        assert_ne!(by("foo", one), by("foo", other), "{one:?} {other:?}");
    }
}

#[test]
fn lines_are_combined_and_white_space_around_commas_left_out() {
    for same in [&["1", "2"][..], &["1,2"], &[" 1, 2 "], &["1 ,\t2"]] {
        assert_eq!(by("foo", same), by("foo", &["1, 2"]), "{same:?}");
    }
}

#[test]
fn fields_that_do_not_select_do_not_matter() {
    let one = request(&[("foo", b"1"), ("other", b"2")]);
    let other = request(&[("other", b"3"), ("foo", b"1")]);
    assert_eq!(selected(&["foo"], &one), selected(&["foo"], &other));
}

#[test]
fn values_do_not_move_between_fields() {
    let names = ["a", "b"];
    let one = selected(&names, &request(&[("a", b"1")]));
    let other = selected(&names, &request(&[("b", b"1")]));
    assert_ne!(one, other);
    let one = selected(&names, &request(&[("a", b"12"), ("b", b"3")]));
    let other = selected(&names, &request(&[("a", b"1"), ("b", b"23")]));
    assert_ne!(one, other);
}

#[test]
fn preferences_that_mean_the_same_select_the_same() {
    for (name, one, others) in [
        (
            "accept-language",
            "en, de",
            &[
                "de, en",
                "eN, De",
                " en ,   de",
                "en,,de,",
                "en;q=1, de;q=1.000",
            ][..],
        ),
        (
            "accept-language",
            "en;q=0.5",
            &["en; Q=0.50", "en ;q = 0.500"],
        ),
        (
            "accept-encoding",
            "gzip, br;q=0",
            &["br;q=0.0,GZIP", "gzip, gzip, br;q=0"],
        ),
        (
            "accept",
            "text/html;level=1",
            &["Text/HTML; LEVEL=1", "text/html;level=1;q=1.0"],
        ),
    ] {
        for other in others {
            assert_eq!(
                by(name, &[one]),
                by(name, &[other]),
                "{name}: {one} / {other}"
            );
        }
    }
    assert_eq!(
        by("accept-language", &["en", "de"]),
        by("accept-language", &["de, en"])
    );
}

#[test]
fn preferences_that_differ_select_different_variants() {
    for (name, one, other) in [
        ("accept-language", "en", "de"),
        ("accept-language", "en, de", "en"),
        ("accept-language", "en;q=0.5", "en"),
        ("accept-language", "en;q=0.5", "en;q=0.51"),
        ("accept-language", "en;q=0", "en"),
        ("accept-language", "en;q=0.5", "en;q=5"),
        ("accept-language", "en;q=0.5", "en;q=.5"),
        ("accept-language", "en;q=1", "en;q=2"),
        ("accept-language", "en;q", "en"),
        ("accept-encoding", "gzip", ""),
        ("accept", "a/b;x=\"1, 2\"", "a/b;x=\"1,2\""),
        ("accept", "a/b;x=A", "a/b;x=a"),
        ("accept", "b, \"a", "\"a,b"),
    ] {
        assert_ne!(
            by(name, &[one]),
            by(name, &[other]),
            "{name}: {one} / {other}"
        );
    }
    assert_ne!(by("accept-encoding", &[""]), by("accept-encoding", &[]));
}

#[test]
fn credentials_are_compared_as_they_are() {
    assert_ne!(by("cookie", &["a=1, 2"]), by("cookie", &["a=1,2"]));
    assert_eq!(by("cookie", &["a=1", "b=2"]), by("cookie", &["a=1; b=2"]));
    assert_ne!(by("cookie", &["a=1; b=2"]), by("cookie", &["b=2; a=1"]));
    assert_ne!(
        by("authorization", &["Digest a, b"]),
        by("authorization", &["Digest a,b"])
    );
}

proptest! {
    #[test]
    fn no_headers_make_it_panic(lines: Vec<Vec<u8>>) {
        for name in ["vary", "accept", "accept-language", "cookie", "foo"] {
            let lines: Vec<_> = lines.iter().map(|line| (name, &line[..])).collect();
            let headers = request(&lines);
            let _ = (Vary::parse(&headers), selected(&[name], &headers));
        }
    }

    #[test]
    fn different_single_values_of_an_ordinary_field_select_differently(
        one in "[a-z]( ?[a-z0-9;=\"]){0,8}", other in "[a-z]( ?[a-z0-9;=\"]){0,8}",
    ) {
        prop_assert_eq!(one == other, by("foo", &[&one]) == by("foo", &[&other]));
    }
}
