//! A whole layer, asked by sequences of arbitrary requests and answered by arbitrary responses, with time going by.
#![no_main]

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use larder::{Cache, CacheLayer, Coding, SetCookie};
use libfuzzer_sys::fuzz_target;
use tower::{Layer, ServiceExt, service_fn};

const METHODS: [&str; 8] = [
    "GET", "GET", "GET", "GET", "HEAD", "POST", "DELETE", "QUERY",
];
const STATUSES: [u16; 16] = [
    200, 200, 200, 200, 201, 204, 206, 301, 304, 400, 404, 412, 429, 500, 503, 599,
];
const URIS: [&str; 8] = [
    "/",
    "/a",
    "/?q",
    "*",
    "http://one.example/",
    "http://two.example/a",
    "https://one.example/",
    "//a",
];
const HOSTS: [&str; 4] = ["one.example", "two.example", "One.example:80", ""];
const NAMES: [&str; 32] = [
    "age",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "authorization",
    "cache-control",
    "cache-tag",
    "cdn-cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "etag",
    "expires",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "last-modified",
    "location",
    "pragma",
    "range",
    "set-cookie",
    "transfer-encoding",
    "vary",
    "x-a",
    "x-http-method-override",
];
const VALUES: [&str; 32] = [
    "max-age=60",
    "public, max-age=60",
    "max-age=1, stale-while-revalidate=60",
    "private, max-age=60",
    "no-store",
    "no-cache",
    "s-maxage=9",
    "must-understand, no-store",
    "max-stale",
    "only-if-cached",
    "private=\"x-a\"",
    "\"a\"",
    "W/\"a\"",
    "*",
    "bytes=0-1",
    "bytes=-2",
    "bytes=1-1,3-",
    "bytes 0-1/4",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "Fri, 31 Dec 9999 23:59:59 GMT",
    "x-a",
    "cookie, accept-language",
    "gzip, br;q=0.5",
    "de, en;q=0.1",
    "1",
    "99999999999999999999",
    "/",
    "//two.example/a",
    "close, x-a",
    "text/event-stream",
    "a b",
    "",
];

/// Takes bytes as decisions; there are zeros behind the last.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        let (byte, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *byte
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// A value of the list, or some bytes as they are.
    fn value(&mut self) -> &'a [u8] {
        match self.byte() {
            known @ 0..192 => VALUES[usize::from(known) % VALUES.len()].as_bytes(),
            len => {
                let (value, rest) = self.0.split_at(self.0.len().min(usize::from(len - 192)));
                self.0 = rest;
                value
            }
        }
    }

    fn fields(&mut self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for _ in 0..self.byte() % 5 {
            let name = HeaderName::from_static(self.pick(&NAMES));
            if let Ok(value) = HeaderValue::from_bytes(self.value()) {
                headers.append(name, value);
            }
        }
        headers
    }
}

struct Given {
    target: String,
    is_private: bool,
    has_trick: bool,
}

#[derive(Default)]
struct Handler {
    status: StatusCode,
    fields: HeaderMap,
    given: Vec<Given>,
}

/// `private` or `no-store` alone in a line, so that no reading of the line is another.
fn is_private(fields: &HeaderMap) -> bool {
    let lines = || fields.get_all("cache-control").iter();
    let understands = fields.values().any(|value| {
        String::from_utf8_lossy(value.as_bytes())
            .to_ascii_lowercase()
            .contains("must-understand")
    });
    let targeted = fields.contains_key("cdn-cache-control");
    let is = |name: &str| lines().any(|line| line == name);
    !targeted && (is("private") || is("private, max-age=60") || is("no-store") && !understands)
}

fuzz_target!(|bytes: &[u8]| {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .expect("a runtime can be built");
    runtime.block_on(run(Script(bytes)));
});

async fn run(mut script: Script<'_>) {
    let handler: Arc<Mutex<Handler>> = Arc::default();
    let inner = service_fn({
        let handler = handler.clone();
        move |request: Request<Full<Bytes>>| {
            let mut handler = handler.lock().unwrap();
            let id = format!("{:04}", handler.given.len());
            let host = request.headers().get("host").cloned();
            let given = Given {
                target: format!("{} {host:?}", request.uri()),
                is_private: is_private(&handler.fields),
                has_trick: request.method() != Method::GET,
            };
            handler.given.push(given);
            let mut response = Response::new(Full::new(Bytes::from(id)));
            *response.status_mut() = handler.status;
            *response.headers_mut() = handler.fields.clone();
            async move { Ok::<_, Infallible>(response) }
        }
    });
    let cache = Cache::memory();
    let mut layer = CacheLayer::new(cache.clone());
    let switches = script.byte();
    if switches & 1 != 0 {
        layer = layer.default_ttl(Duration::from_secs(60));
    }
    if switches & 2 != 0 {
        layer = layer.set_cookie(SetCookie::Always).max_variants(1);
    }
    if switches & 4 != 0 {
        layer = layer
            .ignore_client_directives(true)
            .stale_if_error(Duration::MAX);
    }
    if switches & 8 != 0 {
        layer = layer.store_errors(false).heuristics(false);
    }
    if switches & 16 != 0 {
        layer = layer.precompress([Coding::Brotli, Coding::Gzip]);
    }
    let service = layer.layer(inner);
    for _ in 0..12 {
        if script.0.is_empty() {
            return;
        }
        let mut request = Request::new(Full::new(Bytes::new()));
        *request.method_mut() = script.pick(&METHODS).parse().unwrap();
        *request.uri_mut() = script.pick(&URIS).parse().unwrap();
        *request.headers_mut() = script.fields();
        if !request.headers().contains_key("host") {
            let host = HeaderValue::from_static(script.pick(&HOSTS));
            request.headers_mut().insert("host", host);
        }
        let before = {
            let mut handler = handler.lock().unwrap();
            handler.status = StatusCode::from_u16(script.pick(&STATUSES)).unwrap();
            handler.fields = script.fields();
            handler.given.len()
        };
        let asked = request.headers().clone();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let response = service.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        cache.flush().await;
        check(&handler, before, &method, &uri, &asked, &head, &body);
        let pause = script.pick(&[0, 1, 500, 1_000, 30_000, 61_000, 100_000_000]);
        tokio::time::advance(Duration::from_millis(pause)).await;
    }
}

fn check(
    handler: &Mutex<Handler>,
    before: usize,
    method: &Method,
    uri: &http::Uri,
    asked: &HeaderMap,
    head: &http::response::Parts,
    body: &[u8],
) {
    let handler = handler.lock().unwrap();
    let called = handler.given.len() > before;
    let is_conditional = ["if-none-match", "if-modified-since"]
        .iter()
        .any(|name| asked.contains_key(*name));
    let is_304 = head.status == StatusCode::NOT_MODIFIED;
    assert!(
        !is_304 || is_conditional || called && handler.status == 304,
        "a 304 to nobody"
    );
    if called || *method == Method::HEAD || is_304 || body.is_empty() {
        return;
    }
    // It is from the store.
    assert!(head.headers.contains_key("age"), "no age: {head:?}");
    let len = head
        .headers
        .get("content-length")
        .and_then(|len| len.to_str().ok()?.parse().ok());
    assert!(
        len.is_none_or(|len: usize| len == body.len()),
        "another length: {head:?}"
    );
    if head.status == StatusCode::PARTIAL_CONTENT {
        return assert!(asked.contains_key("range"), "a part that nobody asked for");
    }
    let id: usize = std::str::from_utf8(body).unwrap().parse().unwrap();
    let given = &handler.given[id];
    assert!(!given.is_private, "somebody else's own");
    // Whoever asks in the same words gets what was given to them; other spellings of a host share a key.
    let words = format!("{uri} {:?}", asked.get("host"));
    let key = |words: &str| {
        let words = words.to_ascii_lowercase().replace(":80", "");
        let path = uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned();
        (
            words.contains("two.example"),
            words.contains("https://"),
            path,
        )
    };
    let is_same = key(&words).0 == key(&given.target).0 && key(&words).1 == key(&given.target).1;
    let has_host = asked.get_all("host").iter().count() == 1;
    assert!(
        !has_host || is_same || given.has_trick,
        "{words} got what was for {}",
        given.target
    );
}
