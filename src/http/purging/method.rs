//! The method `PURGE`.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header::CONTENT_LENGTH, request::Parts};

use crate::{
    ErrorKind, Key, Result,
    http::{
        body::CacheBody,
        key::{self, Host},
        layer::Config,
        policies::Policies,
        status::CACHE_STATUS,
        tags,
        telling::{Decision, decided},
        text::trim,
    },
};

/// Says of a request whether its sender may purge.
pub(in crate::http) type Authoriser = Arc<dyn Fn(&Parts) -> bool + Send + Sync>;

/// Says whether a purge is `hard`, which it is by default, or `soft`.
const MODE: &str = "purge-mode";

pub(in crate::http) fn is_purge(method: &Method) -> bool {
    method.as_str() == "PURGE"
}

/// Purges what a request says, when its sender may.
pub(in crate::http) async fn answer<R>(
    config: Arc<Config>,
    authoriser: Authoriser,
    request: Parts,
) -> Response<CacheBody<R>> {
    if !authoriser(&request) {
        // Not even that there is a cache.
        return empty(StatusCode::FORBIDDEN);
    }
    decided(&config, &request.extensions, Decision::Invalidated);
    let (status, detail) = purge(&config, &request).await;
    let mut response = empty(status);
    if let Some(writer) = &config.status {
        let told = writer.detail(detail);
        response.headers_mut().insert(CACHE_STATUS, told);
    }
    response
}

async fn purge(config: &Config, request: &Parts) -> (StatusCode, &'static str) {
    let Some(is_soft) = is_soft(&request.headers) else {
        return (StatusCode::BAD_REQUEST, "purge-mode");
    };
    if let Some(tags) = tags::to_purge(&request.headers) {
        return match config.cache.purge_tags(&tags, is_soft).await {
            _ if tags.iter().len() == 0 => (StatusCode::BAD_REQUEST, "tags"),
            Err(error) if error.kind() == ErrorKind::InvalidTag => {
                (StatusCode::BAD_REQUEST, "tags")
            }
            // Nobody knows how much has a tag.
            purged => told(purged.map(|()| 1), is_soft),
        };
    }
    let Some(keys) = target(config, request) else {
        return (StatusCode::BAD_REQUEST, "host");
    };
    told(config.cache.purge_keys(&keys, is_soft).await, is_soft)
}

fn told(purged: Result<usize>, is_soft: bool) -> (StatusCode, &'static str) {
    match purged {
        Ok(0) => (StatusCode::NOT_FOUND, "nothing-stored"),
        Ok(_) if is_soft => (StatusCode::OK, "purged-softly"),
        Ok(_) => (StatusCode::OK, "purged"),
        // It is remembered where the backend is out of reach, but nobody can say yet whether it is done.
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "backend"),
    }
}

/// `None` for what is neither `hard` nor `soft`.
fn is_soft(headers: &HeaderMap) -> Option<bool> {
    let mut lines = headers.get_all(MODE).iter();
    let Some(mode) = lines.next() else {
        return Some(false);
    };
    let mode = trim(mode.as_bytes());
    let is = |name: &str| mode.eq_ignore_ascii_case(name.as_bytes());
    match (is("soft"), is("hard"), lines.next()) {
        (true, _, None) => Some(true),
        (_, true, None) => Some(false),
        _ => None,
    }
}

/// The keys of what a GET of the same URI would bring.
fn target(config: &Config, request: &Parts) -> Option<Vec<Key>> {
    let host = Host::read(&request.headers);
    let head = config.cache.responses();
    key::base(head, None, &request.uri, host, &request.extensions)?;
    let uri = key::original_uri(&request.extensions).unwrap_or(&request.uri);
    let authority = key::authority(uri, host)?;
    let path_and_query = uri.path_and_query().map_or("/", |path| path.as_str());
    let scheme = uri.scheme_str().unwrap_or("http");
    Some(super::keys(
        &config.cache,
        &Policies::of(&config.cache),
        scheme,
        authority,
        path_and_query,
    ))
}

fn empty<R>(status: StatusCode) -> Response<CacheBody<R>> {
    let mut response = Response::new(CacheBody::stored(Bytes::new()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_LENGTH, 0.into());
    response
}
