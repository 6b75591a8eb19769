use proptest::prelude::*;

use super::*;

fn written(rule: &QueryRule, query: &str) -> String {
    let mut text = String::new();
    rule.write(query, |part| text.push_str(part));
    text
}

fn rule(key: QueryKey) -> QueryRule {
    QueryRule { key, sort: false }
}

fn sorted(key: QueryKey) -> QueryRule {
    QueryRule { key, sort: true }
}

#[test]
fn only_what_is_picked_is_kept_as_it_was_sent() {
    let rule = rule(QueryKey::only(["page", "q"]));
    for (query, expected) in [
        ("page=1", "?page=1"),
        ("x=1&page=2&y&q=a%20b&page=3", "?page=2&q=a%20b&page=3"),
        ("x=1", ""),
        ("", ""),
        ("page", "?page"),
        ("pages=1&Page=2", ""),
    ] {
        assert_eq!(written(&rule, query), expected, "{query}");
    }
}

#[test]
fn what_is_ignored_is_left_out_and_the_rest_kept_in_its_order() {
    let rule = rule(QueryKey::ignore(["utm"]));
    for (query, expected) in [
        ("b=1&utm=x&a=2", "?b=1&a=2"),
        ("utm=x", ""),
        ("utms=x", "?utms=x"),
        ("", "?"),
    ] {
        assert_eq!(written(&rule, query), expected, "{query}");
    }
}

#[test]
fn names_are_compared_as_handlers_read_them() {
    let picks = rule(QueryKey::only(["a b", "page"]));
    assert_eq!(
        written(&picks, "a+b=1&a%20b=2&p%61ge=3"),
        "?a+b=1&a%20b=2&p%61ge=3"
    );
    let ignores = rule(QueryKey::ignore(["utm"]));
    assert_eq!(written(&ignores, "%75tm=1&u%7=2"), "?u%7=2");
}

#[test]
fn what_could_be_read_as_a_picked_parameter_is_kept() {
    let picks = rule(QueryKey::only(["page"]));
    for query in ["page[]=1", "page[a]=1", "page%5B%5D=1", "x=1;page=2"] {
        assert_eq!(written(&picks, query), format!("?{query}"));
    }
    let ignores = rule(QueryKey::ignore(["utm"]));
    for query in ["utm[]=1", "utm=1;page=2"] {
        assert_eq!(written(&ignores, query), format!("?{query}"));
    }
}

#[test]
fn sorting_goes_by_name_and_leaves_the_order_within_one_name() {
    let rule = sorted(QueryKey::All);
    assert_eq!(
        written(&rule, "b=2&a=9&b=1&%61=3&a[]=0"),
        "?a=9&%61=3&a[]=0&b=2&b=1"
    );
    assert_eq!(written(&rule, "b=2&a=1;c"), "?b=2&a=1;c");
}

#[test]
fn it_says_whether_a_parameter_was_left_out() {
    let rule = rule(QueryKey::only(["page"]));
    let drops = |query: &str| rule.write(query, |_| {});
    assert!(drops("page=1&x"));
    assert!(!drops("page=1&&"));
    assert!(!drops(""));
}

fn query() -> impl Strategy<Value = String> {
    "([ab%126;+\\[=]{0,5}&){0,4}[ab%126;+\\[=]{0,5}"
}

fn any_rule() -> impl Strategy<Value = QueryRule> {
    let names = || prop::collection::vec("[ab]{1,2}", 1..3);
    let key = prop_oneof![
        Just(QueryKey::All),
        Just(QueryKey::None),
        names().prop_map(QueryKey::Only),
        names().prop_map(QueryKey::Ignore),
    ];
    (key, any::<bool>()).prop_map(|(key, sort)| QueryRule { key, sort })
}

/// What is kept, found in another way.
fn kept<'q>(rule: &QueryRule, query: &'q str) -> Vec<&'q str> {
    query
        .split('&')
        .filter(|parameter| rule.keeps(parameter))
        .collect()
}

proptest! {
    #[test]
    fn queries_are_written_alike_only_where_what_is_kept_is_the_same(
        rule in any_rule(), one in query(), other in query(),
    ) {
        let alike = written(&rule, &one) == written(&rule, &other);
        let (mut one, mut other) = (kept(&rule, &one), kept(&rule, &other));
        if alike && rule.sort {
            one.sort();
            other.sort();
        }
        prop_assert!(!alike || one == other);
    }

    #[test]
    fn an_order_that_is_not_sorted_is_kept(rule in any_rule(), query in query()) {
        let rule = QueryRule { sort: false, ..rule };
        let expected = kept(&rule, &query).join("&");
        let text = written(&rule, &query);
        prop_assert_eq!(text.strip_prefix('?').unwrap_or(""), expected);
    }

    #[test]
    fn sorting_makes_the_order_of_different_names_one(
        names in prop::collection::btree_set("[a-z]{1,3}", 0..6),
    ) {
        let mut names: Vec<_> = names.into_iter().collect();
        let rule = sorted(QueryKey::All);
        let one = written(&rule, &names.join("&"));
        names.reverse();
        let other = written(&rule, &names.join("&"));
        prop_assert_eq!(one, other);
    }

    #[test]
    fn what_is_written_is_written_again_as_it_is(rule in any_rule(), query in query()) {
        let once = written(&rule, &query);
        if let Some(query) = once.strip_prefix('?') {
            prop_assert_eq!(written(&rule, query), once);
        }
    }
}
