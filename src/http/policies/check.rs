//! What contradicts itself in a policy, one sentence each.

use std::time::Duration;

use http::{HeaderName, StatusCode, header};

use super::{
    cache_policy::CachePolicy,
    cookies,
    parts::KeyParts,
    query::{QueryKey, QueryRule},
};
use crate::{Entry, TagStamp, http::storable::is_about_one_request};

const LONGEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// Every new variant rewrites the list of them.
const MOST_VARIANTS: usize = 4096;

/// Fields that say how to answer or to cache, or belong to one connection, and never which representation.
const NO_KEY_PARTS: [HeaderName; 19] = [
    header::AGE,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::DATE,
    header::EXPECT,
    header::IF_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::IF_RANGE,
    header::IF_UNMODIFIED_SINCE,
    header::PRAGMA,
    header::RANGE,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VARY,
    header::VIA,
];

/// Fields of responses that mean something already.
const TAKEN: [HeaderName; 34] = [
    header::ACCEPT_RANGES,
    header::AGE,
    header::ALLOW,
    header::ALT_SVC,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_DISPOSITION,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LENGTH,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_SECURITY_POLICY,
    header::CONTENT_TYPE,
    header::DATE,
    header::ETAG,
    header::EXPIRES,
    header::LAST_MODIFIED,
    header::LINK,
    header::LOCATION,
    header::PRAGMA,
    header::PROXY_AUTHENTICATE,
    header::RETRY_AFTER,
    header::SERVER,
    header::SET_COOKIE,
    header::STRICT_TRANSPORT_SECURITY,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    header::VARY,
    header::VIA,
    header::WARNING,
    header::WWW_AUTHENTICATE,
    header::CACHE_STATUS,
];

/// What is wrong with the lifetimes, for a policy that was put into a response too.
pub(super) fn lifetimes(policy: &CachePolicy) -> Vec<String> {
    let mut problems = Vec::new();
    let lifetimes = &policy.lifetimes;
    if lifetimes.all().any(|ttl| ttl.is_zero()) {
        problems.push("a TTL of zero stores nothing; leave it out, or say `no_store`".to_owned());
    }
    if lifetimes.all().any(|ttl| ttl > LONGEST) {
        problems.push("a TTL is longer than ten years".to_owned());
    }
    for (at, (status, _)) in lifetimes.by_status.iter().enumerate() {
        let number = status.as_u16();
        if is_never_stored(*status) {
            problems.push(format!("responses with status {number} are never stored"));
        }
        if lifetimes.by_status[..at]
            .iter()
            .any(|(other, _)| other == status)
        {
            problems.push(format!("there are two TTLs for status {number}"));
        }
    }
    let is_silent = lifetimes.all().next().is_none();
    if lifetimes.override_own && is_silent {
        problems.push("`override_ttl` has no TTL to override with".to_owned());
    }
    if policy.no_store && !is_silent {
        problems.push("`no_store` stores nothing that a TTL could be for".to_owned());
    }
    problems
}

/// What is wrong with the tags.
fn tags(policy: &CachePolicy, problems: &mut Vec<String>) {
    let tags = &policy.tags;
    for (at, tag) in tags.iter().enumerate() {
        if !(1..=TagStamp::MAX_LEN).contains(&tag.len()) {
            problems.push(format!(
                "a tag has between 1 and {} bytes",
                TagStamp::MAX_LEN
            ));
        }
        if tags[..at].contains(tag) {
            problems.push(format!("the tag `{tag}` is named twice"));
        }
    }
    if tags.len() > Entry::MAX_TAGS {
        problems.push(format!("a response has at most {} tags", Entry::MAX_TAGS));
    }
}

fn is_never_stored(status: StatusCode) -> bool {
    is_about_one_request(status)
}

/// Reads what a policy says of the key, and the header that marks a hit.
pub(super) fn compile(
    policy: &CachePolicy,
    problems: &mut Vec<String>,
) -> (KeyParts, Option<HeaderName>) {
    problems.extend(lifetimes(policy));
    tags(policy, problems);
    if policy.no_store
        && (policy.is_about_requests() || policy.store_if.is_some() || !policy.tags.is_empty())
    {
        problems
            .push("`no_store` looks nothing up, so nothing else can be said beside it".to_owned());
    }
    let most = policy.max_variants;
    if most.is_some_and(|most| !(1..=MOST_VARIANTS).contains(&most)) {
        problems.push(format!(
            "`max_variants` is not between 1 and {MOST_VARIANTS}"
        ));
    }
    if policy.identities.len() > 1 {
        problems
            .push("`per_user` is said twice; one identity has to tell all users apart".to_owned());
    }
    let parts = KeyParts {
        query: query(policy, problems),
        headers: headers(policy, problems),
        cookies: cookies(policy, problems),
        extensions: policy.extensions.clone(),
        identity: policy.identities.first().cloned(),
        version: policy.version,
    };
    if parts.headers.contains(&header::COOKIE) && !parts.cookies.is_empty() {
        problems.push(
            "`vary_by_header` takes all cookies, and `vary_by_cookie` some of them".to_owned(),
        );
    }
    if parts.headers.contains(&header::COOKIE) && policy.ignore_cookies {
        problems.push("`vary_by_header` takes all cookies, and `ignore_cookies` none".to_owned());
    }
    if parts.identity.is_some() && policy.ignore_cookies {
        problems.push(
            "`per_user` keeps responses apart by user, so there are no cookies to ignore"
                .to_owned(),
        );
    }
    (parts, hit_header(policy, problems))
}

fn query(policy: &CachePolicy, problems: &mut Vec<String>) -> QueryRule {
    let mut picked = Vec::new();
    let mut ignored = Vec::new();
    for key in &policy.query {
        match key {
            QueryKey::Only(names) => picked.extend(names),
            QueryKey::Ignore(names) => ignored.extend(names),
            QueryKey::All | QueryKey::None => {}
        }
        let (QueryKey::Only(names) | QueryKey::Ignore(names)) = key else {
            continue;
        };
        if names.is_empty() {
            problems.push(
                match key {
                    QueryKey::Only(_) => {
                        "`QueryKey::Only` names no parameter; `QueryKey::None` means none"
                    }
                    _ => "`QueryKey::Ignore` names no parameter; `QueryKey::All` means all",
                }
                .to_owned(),
            );
        }
        for (at, name) in names.iter().enumerate() {
            if name.is_empty() {
                problems.push("the name of a query parameter is empty".to_owned());
            } else if names[..at].contains(name) {
                problems.push(format!("the query parameter `{name}` is named twice"));
            }
        }
    }
    for name in picked.iter().filter(|name| ignored.contains(name)) {
        problems.push(format!(
            "the query parameter `{name}` is picked and ignored"
        ));
    }
    if policy.query.len() > 1 && (picked.is_empty() || ignored.is_empty()) {
        problems.push("`query` is said twice".to_owned());
    } else if policy.query.len() > 1 {
        problems.push(
            "`query` picks parameters and ignores others; what is not picked is ignored anyway"
                .to_owned(),
        );
    }
    let key = policy.query.first().cloned().unwrap_or_default();
    if policy.sort_query && key == QueryKey::None {
        problems.push("`sort_query` has nothing to sort where no query is in the key".to_owned());
    }
    QueryRule {
        key,
        sort: policy.sort_query,
    }
}

fn headers(policy: &CachePolicy, problems: &mut Vec<String>) -> Vec<HeaderName> {
    let mut headers: Vec<HeaderName> = Vec::new();
    for name in &policy.headers {
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            problems.push(format!(
                "`vary_by_header` names {name:?}, which is no field name"
            ));
            continue;
        };
        if name == "*" {
            problems.push("`vary_by_header` cannot take all fields; name them".to_owned());
        } else if name == header::HOST {
            problems.push("`vary_by_header` names `host`, which is in the key anyway".to_owned());
        } else if NO_KEY_PARTS.contains(&name) {
            problems.push(format!(
                "`vary_by_header` names `{name}`, which chooses no response"
            ));
        }
        match headers.contains(&name) {
            true => problems.push(format!("`vary_by_header` names `{name}` twice")),
            false => headers.push(name),
        }
    }
    headers.sort_unstable_by(|one, other| one.as_str().cmp(other.as_str()));
    headers
}

fn cookies(policy: &CachePolicy, problems: &mut Vec<String>) -> Vec<Box<str>> {
    let mut names: Vec<Box<str>> = Vec::new();
    for name in &policy.cookies {
        if !cookies::is_name(name) {
            problems.push(format!(
                "`vary_by_cookie` names {name:?}, which is no cookie's name"
            ));
        }
        let name: Box<str> = name.as_str().into();
        match names.contains(&name) {
            true => problems.push(format!("`vary_by_cookie` names `{name}` twice")),
            false => names.push(name),
        }
    }
    names.sort_unstable();
    names
}

fn hit_header(policy: &CachePolicy, problems: &mut Vec<String>) -> Option<HeaderName> {
    let name = policy.hit_header.as_ref()?;
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        problems.push(format!(
            "`hit_header` names {name:?}, which is no field name"
        ));
        return None;
    };
    if TAKEN.contains(&name) || name.as_str().starts_with("access-control-") {
        problems.push(format!(
            "`hit_header` names `{name}`, which means something else"
        ));
    }
    Some(name)
}
