//! Policies as a person reads them.

use std::{
    fmt::{self, Write},
    time::Duration,
};

use super::{cache_policy::CachePolicy, query::QueryKey};

const HEADINGS: [&str; 4] = ["route", "lifetimes", "key", "conditions"];

/// Writes a table of routes and their policies; closures are told by what they are for.
pub(super) fn write<'a>(
    rows: impl Iterator<Item = (&'a str, &'a CachePolicy)>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    let cells = |(route, policy): (&str, &CachePolicy)| {
        [
            route.to_owned(),
            lifetimes(policy),
            key(policy),
            conditions(policy),
        ]
    };
    let mut table = vec![HEADINGS.map(str::to_owned)];
    table.extend(rows.map(cells));
    let width = |column: usize| {
        let cells = table.iter().map(|row| row[column].chars().count());
        cells.max().unwrap_or_default()
    };
    let widths = [0, 1, 2].map(width);
    for row in &table {
        let [route, lifetimes, key, conditions] = row;
        let mut line = String::new();
        for (cell, width) in [route, lifetimes, key].into_iter().zip(widths) {
            write!(line, "{cell:width$}  ")?;
        }
        line.push_str(conditions);
        writeln!(f, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Writes one policy in one line.
pub(super) fn describe(policy: &CachePolicy, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let cells = [lifetimes(policy), key(policy), conditions(policy)];
    let cells: Vec<_> = cells.into_iter().filter(|cell| cell != "-").collect();
    f.write_str(&cells.join("; "))
}

fn list(parts: Vec<String>) -> String {
    match parts.is_empty() {
        true => "-".to_owned(),
        false => parts.join("; "),
    }
}

fn lifetimes(policy: &CachePolicy) -> String {
    let lifetimes = &policy.lifetimes;
    let mut parts = Vec::new();
    if policy.no_store {
        parts.push("not stored".to_owned());
    }
    parts.extend(lifetimes.ttl.map(time));
    let by_status = lifetimes.by_status.iter();
    parts.extend(by_status.map(|(status, ttl)| format!("{} {}", status.as_u16(), time(*ttl))));
    parts.extend(
        lifetimes
            .negative
            .map(|ttl| format!("negative {}", time(ttl))),
    );
    if lifetimes.override_own {
        parts.push("over the handler's".to_owned());
    }
    list(parts)
}

fn time(ttl: Duration) -> String {
    format!("{ttl:?}")
}

fn key(policy: &CachePolicy) -> String {
    let mut parts = Vec::new();
    let query = policy.query.iter().filter(|key| **key != QueryKey::All);
    parts.extend(query.map(ToString::to_string));
    if policy.sort_query {
        parts.push("query sorted".to_owned());
    }
    for (kind, names) in [("header", &policy.headers), ("cookie", &policy.cookies)] {
        parts.extend(names.iter().map(|name| format!("{kind} {name}")));
    }
    let by_function = |part: &super::parts::Extension| format!("{} by function", part.short_name());
    parts.extend(policy.extensions.iter().map(by_function));
    let identities = policy.identities.iter().map(by_function);
    parts.extend(identities.map(|identity| format!("per user: {identity}")));
    if policy.version != 0 {
        parts.push(format!("version {}", policy.version));
    }
    list(parts)
}

fn conditions(policy: &CachePolicy) -> String {
    let mut parts = Vec::new();
    if policy.strict {
        parts.push("strict".to_owned());
    }
    if policy.ignore_cookies {
        parts.push("whatever cookies".to_owned());
    }
    for (name, is_there) in [
        ("unless", policy.unless.is_some()),
        ("force_update", policy.force_update.is_some()),
        ("store_if", policy.store_if.is_some()),
    ] {
        if is_there {
            parts.push(format!("{name} by function"));
        }
    }
    if !policy.tags.is_empty() {
        parts.push(format!("tagged {}", policy.tags.join(", ")));
    }
    let most = policy.max_variants;
    parts.extend(most.map(|most| format!("{most} variants")));
    let header = policy.hit_header.as_ref();
    parts.extend(header.map(|name| format!("marks hits in {name}")));
    list(parts)
}
