//! Holds `docs/semantics.md` to tests that exist, and to the clauses that there are.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

/// What speaks of caching in each document that the page goes through.
const CLAUSES: [(&str, &[&str]); 6] = [
    (
        "RFC 9111",
        &[
            "1.2.2", "2", "3", "3.1", "3.2", "3.3", "3.5", "4", "4.1", "4.2", "4.2.1", "4.2.2",
            "4.2.3", "4.2.4", "4.3.1", "4.3.2", "4.3.3", "4.3.4", "4.4", "5.1", "5.2", "5.2.1.1",
            "5.2.1.2", "5.2.1.3", "5.2.1.4", "5.2.1.5", "5.2.1.6", "5.2.1.7", "5.2.2.1", "5.2.2.2",
            "5.2.2.3", "5.2.2.4", "5.2.2.5", "5.2.2.6", "5.2.2.7", "5.2.2.8", "5.2.2.9",
            "5.2.2.10", "5.2.3", "5.3", "5.4", "5.5", "6", "7.1", "7.2", "7.3",
        ],
    ),
    (
        "RFC 9110",
        &[
            "8.3", "8.4", "8.5", "8.6", "8.7", "8.8.1", "8.8.2", "8.8.3", "9.2.1", "9.2.2",
            "9.3.1", "9.3.2", "9.3.3", "12.1", "12.4.2", "12.5.1", "12.5.3", "12.5.4", "12.5.5",
            "13.1.1", "13.1.2", "13.1.3", "13.1.4", "13.1.5", "13.2.1", "13.2.2", "14.1", "14.1.2",
            "14.2", "14.3", "14.4", "14.6", "15.1", "15.2", "15.3.7", "15.4.5", "15.5.17",
        ],
    ),
    (
        "RFC 9211",
        &[
            "2", "2.1", "2.2", "2.3", "2.4", "2.5", "2.6", "2.7", "2.8", "6",
        ],
    ),
    ("RFC 9213", &["2.1", "2.2", "3.1"]),
    ("RFC 5861", &["3", "4"]),
    ("RFC 8246", &["2"]),
];

fn page() -> String {
    fs::read_to_string(root().join("docs/semantics.md")).unwrap()
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The functions of a file, or of the files of a folder of tests.
fn functions(file: &str) -> Option<BTreeSet<String>> {
    let path = match Path::new(file).extension() {
        Some(_) => root().join("src").join(file),
        None => root().join("tests").join(file).with_extension("rs"),
    };
    let text = fs::read_to_string(path).ok()?;
    let names = text.lines().filter_map(|line| {
        let line = line.trim_start();
        let line = line.strip_prefix("async ").unwrap_or(line);
        let name = line.strip_prefix("fn ")?;
        let end = name.find(|next: char| next != '_' && !next.is_ascii_alphanumeric())?;
        Some(name[..end].to_owned())
    });
    Some(names.collect())
}

/// Everything of the form `file::name` in the page.
fn named(page: &str) -> Vec<(String, String)> {
    let code = page.split('`').skip(1).step_by(2);
    let named = code.filter_map(|code| {
        let (file, name) = code.rsplit_once("::")?;
        let is_test = |text: &str| {
            !text.is_empty()
                && text.bytes().all(|byte| {
                    byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_/.".contains(&byte)
                })
        };
        (is_test(file) && is_test(name)).then(|| (file.to_owned(), name.to_owned()))
    });
    named.collect()
}

#[test]
fn every_test_that_is_named_exists() {
    let page = page();
    let mut files = HashMap::new();
    let mut missing = Vec::new();
    let named = named(&page);
    for (file, name) in &named {
        let functions = files.entry(file).or_insert_with(|| functions(file));
        if !functions.as_ref().is_some_and(|all| all.contains(name)) {
            missing.push(format!("{file}::{name}"));
        }
    }
    assert!(missing.is_empty(), "not there: {missing:#?}");
    assert!(
        named.len() > 100,
        "the page names {} tests only",
        named.len()
    );
}

#[test]
fn every_clause_about_caching_has_a_row_of_its_own() {
    let page = page();
    let mut missing = Vec::new();
    for (document, clauses) in CLAUSES {
        let part = page
            .split("\n## ")
            .find(|part| part.starts_with(document))
            .unwrap_or_else(|| panic!("the page has no part about {document}"));
        for clause in clauses {
            let row = format!("\n| §{clause}");
            let is_there = part.match_indices(&row).any(|(at, _)| {
                let next = part[at + row.len()..].bytes().next();
                matches!(next, Some(b' ' | b','))
            });
            if !is_there {
                missing.push(format!("{document} §{clause}"));
            }
        }
    }
    assert!(missing.is_empty(), "no row for {missing:#?}");
}

#[test]
fn every_rule_beyond_the_rfcs_names_a_test_of_its_own() {
    let page = page();
    let rules = page
        .split("\n## ")
        .find(|part| part.starts_with("Beyond the RFCs"));
    let rows = rules.unwrap().lines().filter(|line| {
        let first = line
            .strip_prefix("| ")
            .and_then(|line| line.split(" | ").next());
        first.is_some_and(|first| first != "Rule")
    });
    let mut count = 0;
    for row in rows {
        assert!(!named(row).is_empty(), "{row}");
        count += 1;
    }
    assert!(count > 40, "{count} rules only");
}

#[test]
fn every_row_has_three_cells() {
    for line in page().lines().filter(|line| line.starts_with("| ")) {
        let cells = line.matches(" | ").count() + 1;
        assert_eq!(cells, 3, "{line}");
        assert!(line.ends_with(" |"), "{line}");
    }
}
