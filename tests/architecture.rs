//! Reads `src/` and holds it to the rules of ARCHITECTURE.md.

#![allow(clippy::unwrap_used, reason = "what helps a test is a test too")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The leaf types, which everything may name.
const LEAVES: [&str; 4] = ["error", "clock", "key", "entry"];

/// Every module of the crate's root, and what it may name beside the leaf types and itself.
const RULES: [(&str, &[&str]); 11] = [
    ("error", &[]),
    ("clock", &[]),
    ("key", &[]),
    ("entry", &[]),
    ("codec", &[]),
    ("backend", &[]),
    ("settings", &["codec", "backend"]),
    ("cache", &["codec", "backend", "settings"]),
    ("http", &["codec", "backend", "cache"]),
    ("axum", &["cache"]),
    ("testing", &["codec", "backend", "cache"]),
];

/// Single items that one module lends to another against the rule, each for the reason given in ARCHITECTURE.md.
const LENT: [(&str, &str); 7] = [
    ("entry", "codec::CodecId"),
    ("http", "axum::original_uri"),
    ("http", "axum::set_original_uri"),
    ("http", "axum::matched_path"),
    ("axum", "http::CacheControl"),
    ("axum", "http::CacheTags"),
    ("axum", "http::CachePolicy"),
];

/// Where waiting until a deadline takes tokio's clock.
const DEADLINES: [&str; 3] = ["http/work.rs", "http/patience.rs", "backend/absence.rs"];

/// The rules of HTTP: functions of headers and `now`.
const PURE: [&str; 16] = [
    "cache_control",
    "conditional",
    "date",
    "directives",
    "fields",
    "freshness",
    "invalidation",
    "key",
    "policy",
    "range",
    "reuse",
    "status",
    "storable",
    "strict",
    "text",
    "vary",
];

const MOST_LINES: usize = 500;

#[test]
fn a_module_names_only_what_lies_below_it() {
    let house = House::read();
    let mut wrong = Vec::new();
    for file in &house.files {
        let (_, allowed) = RULES
            .iter()
            .find(|(room, _)| *room == file.room)
            .unwrap_or_else(|| panic!("no rule for {}: add one here and in the page", file.name));
        for (room, item) in house.named_in(file) {
            let path = format!("{room}::{item}");
            let fine = room == file.room
                || LEAVES.contains(&room.as_str()) && !LEAVES.contains(&file.room.as_str())
                || is_leaf_below(&file.room, &room)
                || allowed.contains(&room.as_str())
                || LENT.contains(&(&file.room, &path));
            if !fine {
                wrong.push(format!("{} names {path}", file.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Leaf types name the leaf types before them only.
fn is_leaf_below(room: &str, named: &str) -> bool {
    let place = |leaf| LEAVES.iter().position(|other| *other == leaf);
    matches!((place(room), place(named)), (Some(upper), Some(lower)) if lower < upper)
}

#[test]
fn http_names_no_backend() {
    let house = House::read();
    let backend = house.file("backend.rs");
    let backends: Vec<_> = uses(&backend.tokens)
        .into_iter()
        .filter(|path| path.len() == 2 && path[0] != "crate" && path[0] != "std")
        .map(|mut path| path.remove(1))
        .collect();
    assert!(backends.iter().any(|name| name == "Null"), "{backends:?}");
    for file in house.room("http") {
        let named = file.tokens.iter().find(|token| backends.contains(token));
        assert_eq!(named, None, "in {}", file.name);
    }
}

#[test]
fn only_the_clock_reads_time() {
    for file in &House::read().files {
        if file.name == "clock.rs" {
            continue;
        }
        assert!(!file.has("SystemTime"), "{} reads wall time", file.name);
        let imported = uses(&file.tokens);
        let std_instant = ["std", "time", "Instant"];
        assert!(
            !imported.iter().any(|path| path == &std_instant),
            "{} imports an Instant that tokio's paused clock does not move",
            file.name
        );
        assert!(
            !file.has("Instant::now") || DEADLINES.contains(&file.name.as_str()),
            "{} reads a clock",
            file.name
        );
    }
}

#[test]
fn the_rules_of_http_take_now_and_wait_for_nothing() {
    let house = House::read();
    for name in PURE {
        let file = house.file(&format!("http/{name}.rs"));
        for impure in ["Timestamp::now", "async", "tokio", "Cache"] {
            assert!(!file.has(impure), "{} has {impure}", file.name);
        }
    }
}

#[test]
fn files_stay_short_without_their_tests() {
    for file in &House::read().files {
        assert!(
            file.lines <= MOST_LINES,
            "{} has {} lines; make it a folder of the same name",
            file.name,
            file.lines
        );
    }
}

#[test]
fn the_root_holds_no_logic() {
    let root = tokens(&fs::read_to_string(source().join("lib.rs")).unwrap());
    let logic = [
        "fn",
        "impl",
        "struct",
        "enum",
        "trait",
        "const",
        "static",
        "type",
        "macro_rules",
    ];
    let found = root.iter().find(|token| logic.contains(&token.as_str()));
    assert_eq!(found, None);
}

#[test]
fn the_page_names_every_module() {
    let page = include_str!("../ARCHITECTURE.md");
    for file in &House::read().files {
        let room = format!("{}.rs", file.room);
        assert!(page.contains(&room), "ARCHITECTURE.md does not name {room}");
    }
}

/// The sources as they are, without tests, comments and texts.
struct House {
    files: Vec<File>,
    /// The items that the root re-exports, and the modules that they come from.
    exports: BTreeMap<String, String>,
}

struct File {
    /// The path within `src`.
    name: String,
    /// The module of the root that the file belongs to.
    room: String,
    depth: usize,
    lines: usize,
    tokens: Vec<String>,
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

impl House {
    fn read() -> Self {
        let mut files = Vec::new();
        collect(&source(), &mut files);
        let root = tokens(&fs::read_to_string(source().join("lib.rs")).unwrap());
        let exports = uses(&root)
            .into_iter()
            .filter(|path| path.len() == 2)
            .map(|mut path| (path.remove(1), path.remove(0)))
            .collect();
        Self { files, exports }
    }

    fn file(&self, name: &str) -> &File {
        let found = self.files.iter().find(|file| file.name == name);
        found.unwrap_or_else(|| panic!("there is no src/{name}"))
    }

    fn room(&self, room: &str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| file.room == room)
    }

    /// The items of this crate that a file names, each with its module, by `crate::` or by climbing up to the root.
    fn named_in(&self, file: &File) -> Vec<(String, String)> {
        let mut named = Vec::new();
        let mut rest = file.tokens.as_slice();
        while let Some(at) = rest
            .iter()
            .position(|token| ["crate", "super"].contains(&&**token))
        {
            rest = &rest[at..];
            let supers = rest
                .chunks(2)
                .take_while(|pair| pair == &["super", "::"])
                .count();
            let from_root = rest.starts_with(&["crate".into(), "::".into()]);
            let skip = if from_root { 2 } else { (2 * supers).max(1) };
            rest = &rest[skip..];
            if from_root || supers > 0 && supers == file.depth {
                let mut paths = Vec::new();
                tree(&mut rest, &[], &mut paths);
                named.extend(paths.iter().filter_map(|path| self.resolve(path)));
            }
        }
        named
    }

    fn resolve(&self, path: &[String]) -> Option<(String, String)> {
        let first = path.first()?;
        if let Some(room) = self.exports.get(first) {
            return Some((room.clone(), first.clone()));
        }
        Some((first.clone(), path.get(1).cloned().unwrap_or_default()))
    }
}

impl File {
    /// Whether the tokens of `path` follow each other somewhere in the file.
    fn has(&self, path: &str) -> bool {
        let path = tokens(path);
        self.tokens.windows(path.len()).any(|window| window == path)
    }
}

fn collect(folder: &Path, files: &mut Vec<File>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
            continue;
        }
        let name = path.strip_prefix(source()).unwrap();
        let parts: Vec<_> = name.iter().map(|part| part.to_str().unwrap()).collect();
        if ["lib.rs", "tests.rs"].contains(parts.last().unwrap()) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code = without_tests(&text);
        files.push(File {
            name: parts.join("/"),
            room: parts[0].trim_end_matches(".rs").to_owned(),
            depth: parts.len(),
            lines: code.lines().count(),
            tokens: tokens(&code),
        });
    }
}

/// The code but for its modules of tests, which rustfmt ends with a brace of their own in the first column.
fn without_tests(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let is_for_tests = line.starts_with("#[cfg(") && line.contains("test");
        match lines.next_if(|next| is_for_tests && next.starts_with("mod ")) {
            Some(module) if module.ends_with('{') => {
                lines.by_ref().find(|line| *line == "}");
            }
            Some(_) => {}
            None => code.extend([line, "\n"]),
        }
    }
    code
}

/// The paths of every `use` declaration, without a leading `self`.
fn uses(tokens: &[String]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    let mut rest = tokens;
    while let Some(at) = rest.iter().position(|token| token == "use") {
        rest = &rest[at + 1..];
        tree(&mut rest, &[], &mut paths);
    }
    paths
}

/// Reads the path, or the tree of paths, at the start of `rest`.
fn tree(rest: &mut &[String], prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let mut path = prefix.to_vec();
    loop {
        match rest.split_first() {
            Some((brace, tail)) if brace == "{" => {
                *rest = tail;
                while rest.first().is_some_and(|token| token != "}") {
                    tree(rest, &path, paths);
                    // What stands between two paths: a comma, or a new name.
                    while rest
                        .first()
                        .is_some_and(|token| ![",", "}"].contains(&&**token))
                    {
                        *rest = &rest[1..];
                    }
                    if rest.first().is_some_and(|token| token == ",") {
                        *rest = &rest[1..];
                    }
                }
                *rest = rest.get(1..).unwrap_or_default();
                return;
            }
            Some((name, tail)) => {
                if name != "self" {
                    path.push(name.clone());
                }
                *rest = tail;
            }
            None => break,
        }
        if rest.first().is_none_or(|token| token != "::") {
            break;
        }
        *rest = &rest[1..];
    }
    paths.push(path);
}

/// Names, `::` and single punctuation marks, without comments and texts.
fn tokens(code: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = code;
    while let Some(first) = rest.chars().next() {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        let len = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if let Some(len) = text_len(rest) {
            len
        } else if is_name(first) {
            rest.find(|c| !is_name(c)).unwrap_or(rest.len())
        } else if rest.starts_with("::") {
            2
        } else {
            first.len_utf8()
        };
        let (token, tail) = rest.split_at(len);
        let kept = is_name(first) && text_len(rest).is_none()
            || token == "::"
            || token.len() == 1 && first.is_ascii_punctuation();
        if kept {
            tokens.push(token.to_owned());
        }
        rest = tail;
    }
    tokens
}

/// The length of the text or character that `code` begins with.
fn text_len(code: &str) -> Option<usize> {
    let body = code.trim_start_matches(['b', 'c']);
    let prefix = code.len() - body.len();
    if let Some(raw) = body.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let open = 1 + hashes + 1;
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            return Some(prefix + open + body[open..].find(&end)? + end.len());
        }
    }
    let quote = body.chars().next().filter(|c| ['"', '\''].contains(c))?;
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return Some(prefix + at + 1),
            // A lifetime, not a character.
            _ if quote == '\'' && at > 1 && !body.starts_with("'\\") => return None,
            _ => {}
        }
    }
    None
}
