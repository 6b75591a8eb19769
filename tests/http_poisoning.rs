//! Attempts to make the layer give one visitor what another one's request brought about. Each is harmless: whoever asks
//! afterwards, or at the same time, gets what an application gives that was never attacked.

#![cfg(all(feature = "axum", feature = "memory"))]

mod support;

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, Version, request::Parts};
use http_body_util::BodyExt;
use larder::{Cache, CacheLayer, SetCookie};
use support::{Answer, App, Asking, Origin, after, answer, body_of, request, send};
use tokio::task::JoinHandle;

/// In everything that an attacker sends, and in nothing that a victim may get.
const EVIL: &str = "evil";
const MINUTE: (&str, &str) = ("cache-control", "public, max-age=60");

// What a handler sees, and how it answers

struct Seen {
    head: Parts,
    content: Bytes,
}

impl Seen {
    /// The lines of a field with commas between, or a dash.
    fn field(&self, name: &str) -> String {
        let lines = self.head.headers.get_all(name).iter();
        let lines: Vec<_> = lines
            .map(|line| String::from_utf8_lossy(line.as_bytes()))
            .collect();
        match lines.is_empty() {
            true => "-".into(),
            false => lines.join(","),
        }
    }

    fn has(&self, name: &str) -> bool {
        self.head.headers.contains_key(name)
    }

    fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The path as a careless router reads it: decoded, without empty and dot segments and parameters, in lower case.
    fn careless_path(&self) -> String {
        let mut path = self.path().to_ascii_lowercase();
        for (encoded, plain) in [
            ("%2f", "/"),
            ("%3b", ";"),
            ("%23", "#"),
            ("%3f", "?"),
            ("%00", "\0"),
            ("%61", "a"),
        ] {
            path = path.replace(encoded, plain);
        }
        let path = path.split([';', '#', '?', '\0']).next().unwrap_or_default();
        let mut segments = Vec::new();
        for segment in path.split('/') {
            match segment {
                "" | "." => {}
                ".." => drop(segments.pop()),
                segment => segments.push(segment),
            }
        }
        segments.join("/")
    }
}

/// A page that is good for a minute, for everyone.
fn page(text: impl Into<String>) -> Response<Body> {
    answer(200, &[MINUTE], text.into())
}

/// Shows these fields of the request, and names them in `Vary`.
fn varying(seen: &Seen, names: &str) -> Response<Body> {
    let shown: Vec<_> = names.split(", ").map(|name| seen.field(name)).collect();
    answer(200, &[MINUTE, ("vary", names)], shown.join(" "))
}

/// Tells whoever has a cookie or an authorisation who they are, with these fields.
fn greeting(seen: &Seen, fields: &[(&str, &str)]) -> Response<Body> {
    let who = format!("{} {}", seen.field("cookie"), seen.field("authorization"));
    answer(200, fields, who)
}

/// Puts the same freshness on whatever happens, as a layer for response fields does.
fn blanket(fails: bool, status: u16) -> Response<Body> {
    match fails {
        true => answer(status, &[MINUTE], EVIL),
        false => page("fine"),
    }
}

// What is asked

#[derive(Clone)]
struct Ask {
    method: &'static str,
    uri: String,
    fields: Vec<(String, Vec<u8>)>,
    version: Version,
    content: Option<&'static str>,
}

fn ask(method: &'static str, uri: impl Into<String>) -> Ask {
    Ask {
        method,
        uri: uri.into(),
        fields: Vec::new(),
        version: Version::HTTP_11,
        content: None,
    }
}

fn get(uri: impl Into<String>) -> Ask {
    ask("GET", uri)
}

impl Ask {
    fn with(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.fields.push((name.into(), value.into()));
        self
    }

    fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    fn content(mut self, content: &'static str) -> Self {
        self.content = Some(content);
        self
    }

    fn request(&self) -> Request<Body> {
        let mut request = request(self.method, &self.uri, &[]);
        *request.version_mut() = self.version;
        if self.fields.iter().any(|(name, _)| name == "host") {
            request.headers_mut().remove("host");
        }
        for (name, value) in &self.fields {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            request
                .headers_mut()
                .append(name, HeaderValue::from_bytes(value).unwrap());
        }
        // A host that is named "-" is left out.
        if request
            .headers()
            .get("host")
            .is_some_and(|host| host == "-")
        {
            request.headers_mut().remove("host");
        }
        match self.content {
            Some(content) => request.map(|_| body_of(content)),
            None => request,
        }
    }
}

// The attempts

type Handler = fn(&Seen) -> Response<Body>;
type Change = fn(CacheLayer) -> CacheLayer;

struct Attempt {
    handler: Handler,
    layer: Change,
    attacks: Vec<Ask>,
    victims: Vec<Ask>,
}

fn on(handler: Handler) -> Attempt {
    Attempt {
        handler,
        layer: |layer| layer,
        attacks: Vec::new(),
        victims: Vec::new(),
    }
}

/// How an attack and what victims ask follow each other.
#[derive(Clone, Copy, Debug)]
enum Order {
    /// Nothing is stored when the attack begins.
    Empty,
    /// What victims get is stored, and the attack asks for it anew.
    Stored,
    /// What victims get is stored and stale.
    Stale,
    /// Victims ask while the attack is under way.
    Together,
}

impl Attempt {
    fn layer(mut self, layer: Change) -> Self {
        self.layer = layer;
        self
    }

    fn attack(mut self, ask: Ask) -> Self {
        self.attacks.push(ask);
        self
    }

    fn victim(mut self, ask: Ask) -> Self {
        self.victims.push(ask);
        self
    }

    fn app(&self, cache: Cache) -> App {
        let handler = self.handler;
        let origin = Origin::new(move |call| async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let content = call.body.collect().await?.to_bytes();
            let head = call.request;
            Ok(handler(&Seen { head, content }))
        });
        App::on(cache, origin, self.layer)
    }

    /// Every attack, and every attack once more in a way that asks past what is stored.
    fn attacks(&self) -> Vec<Ask> {
        let has_wish = |ask: &Ask| ask.fields.iter().any(|(name, _)| name == "cache-control");
        let plain = self.attacks.iter().cloned();
        let anew = self.attacks.iter().filter(|ask| !has_wish(ask));
        plain
            .chain(anew.map(|ask| ask.clone().with("cache-control", "no-cache")))
            .collect()
    }

    async fn harms_nobody(mut self) {
        if self.victims.is_empty() {
            self.victims.push(get("/"));
        }
        assert!(self.bites().await, "the handler does not mind the attack");
        let caches: [fn() -> Cache; 2] = [Cache::memory, || {
            Cache::builder(Asking::new())
                .hash_key(b"sixteen bytes or more")
                .build()
        }];
        let attacks = self.attacks();
        for cache in caches {
            for order in [Order::Empty, Order::Stored, Order::Stale, Order::Together] {
                self.run(order, cache, &attacks).await;
            }
            // Later ones may undo what one did; of very many, none is more than the others.
            for attack in attacks.iter().take(20) {
                for order in [Order::Empty, Order::Stored, Order::Stale] {
                    self.run(order, cache, std::slice::from_ref(attack)).await;
                }
            }
        }
    }

    /// Whether the handler answers an attack otherwise than all victims, so that there is something to be spread.
    async fn bites(&self) -> bool {
        let origin = self.app(Cache::memory()).origin;
        let mut expected = Vec::new();
        for victim in &self.victims {
            expected.push(comparable(send(&origin, victim.request()).await, victim));
        }
        for attack in &self.attacks {
            let got = comparable(send(&origin, attack.request()).await, attack);
            if expected.iter().all(|expected| *expected != got) {
                return true;
            }
        }
        false
    }

    async fn run(&self, order: Order, cache: fn() -> Cache, attacks: &[Ask]) {
        let (attacked, untouched) = (self.app(cache()), self.app(cache()));
        if let Order::Stored | Order::Stale = order {
            for victim in &self.victims {
                asked(&attacked, victim).await;
                asked(&untouched, victim).await;
            }
        }
        if let Order::Stale = order {
            after(60.5).await;
        }
        let mut expected = Vec::new();
        for victim in &self.victims {
            expected.push(asked(&untouched, victim).await);
        }
        if let Order::Together = order {
            let attacks: Vec<_> = attacks
                .iter()
                .map(|attack| begun(&attacked, attack))
                .collect();
            tokio::time::sleep(Duration::from_millis(1)).await;
            let victims = self.victims.iter().map(|victim| begun(&attacked, victim));
            let victims: Vec<_> = victims.collect();
            for (victim, expected) in victims.into_iter().zip(&expected) {
                is_as_expected(&victim.await.unwrap(), expected, order);
            }
            for attack in attacks {
                attack.await.unwrap();
            }
        } else {
            for attack in attacks {
                asked(&attacked, attack).await;
                attacked.cache.flush().await;
            }
        }
        attacked.cache.flush().await;
        for (victim, expected) in self.victims.iter().zip(&expected) {
            is_as_expected(&asked(&attacked, victim).await, expected, order);
        }
    }
}

/// What somebody gets, but for what differs between connections and what tells that it comes from a store.
async fn asked(app: &App, ask: &Ask) -> Answer {
    comparable(send(&app.service, ask.request()).await, ask)
}

fn begun(app: &App, ask: &Ask) -> JoinHandle<Answer> {
    let (app, ask) = (app.clone(), ask.clone());
    tokio::spawn(async move { asked(&app, &ask).await })
}

fn comparable(mut answer: Answer, ask: &Ask) -> Answer {
    let len = answer.header("content-length").map(|len| len.parse().ok());
    let has_body = ask.method != "HEAD" && answer.status != 304;
    assert!(
        !has_body || len.is_none_or(|len| len == Some(answer.body.len())),
        "{answer:?}"
    );
    for name in [
        "age",
        "cache-status",
        "connection",
        "content-length",
        "date",
    ] {
        answer.headers.remove(name);
    }
    answer
}

#[track_caller]
fn is_as_expected(got: &Answer, expected: &Answer, order: Order) {
    assert_eq!(got, expected, "{order:?}");
    let shown = format!("{got:?}");
    assert!(!shown.contains(EVIL), "{order:?} {shown}");
}

macro_rules! harmless {
    ($($name:ident => $attempt:expr;)*) => {$(
        #[tokio::test(start_paused = true)]
        async fn $name() {
            $attempt.harms_nobody().await;
        }
    )*};
}

// Fields that are not in the key

harmless! {
    x_forwarded_host_in_links => on(|seen| varying(seen, "x-forwarded-host"))
        .attack(get("/").with("x-forwarded-host", "evil.example"))
        .attack(get("/").with("x-forwarded-host", "").with("x-forwarded-host", "evil.example"));

    x_forwarded_proto_in_a_redirect => on(|seen| match seen.field("x-forwarded-proto") == "http" {
        true => answer(301, &[MINUTE, ("vary", "x-forwarded-proto"), ("location", "/evil")], ""),
        false => answer(200, &[MINUTE, ("vary", "x-forwarded-proto")], "fine"),
    })
        .attack(get("/").with("x-forwarded-proto", "http"));

    x_host_and_forwarded_and_others_in_links => on(|seen| varying(
        seen,
        "forwarded, x-forwarded-port, x-forwarded-prefix, x-forwarded-scheme, x-forwarded-server, x-host",
    ))
        .attack(get("/").with("x-host", "evil.example"))
        .attack(get("/").with("forwarded", "host=evil.example;proto=http"))
        .attack(get("/").with("x-forwarded-port", "evil"))
        .attack(get("/").with("x-forwarded-prefix", "/evil"))
        .attack(get("/").with("x-forwarded-scheme", "evil"))
        .attack(get("/").with("x-forwarded-server", "evil"));

    a_field_that_is_joined_with_another_one => on(|seen| varying(seen, "x-a, x-b"))
        .attack(get("/").with("x-a", "1, evil"))
        .attack(get("/").with("x-a", "1").with("x-b", "evil"))
        .attack(get("/").with("x-a", "1").with("x-a", "2 evil"))
        .victim(get("/").with("x-a", "1").with("x-b", "2"))
        .victim(get("/").with("x-a", "1, 2"))
        .victim(get("/").with("x-b", "1"));

    x_original_url_in_place_of_the_path => on(|seen| match seen.has("x-original-url") {
        true => page(seen.field("x-original-url")),
        false => page(seen.path()),
    })
        .attack(get("/").with("x-original-url", "/evil"))
        .attack(get("/").with("x-original-url", "/").with("x-original-url", "/evil"));

    x_rewrite_url_in_place_of_the_path => on(|seen| match seen.has("x-rewrite-url") {
        true => page(seen.field("x-rewrite-url")),
        false => page(seen.path()),
    })
        .attack(get("/").with("x-rewrite-url", "/evil"));

    x_http_method_override => on(|seen| blanket(seen.has("x-http-method-override"), 405))
        .attack(get("/").with("x-http-method-override", "DELETE"))
        .attack(ask("HEAD", "/").with("x-http-method-override", "GET"));

    x_method_override_and_x_http_method => on(|seen| {
        blanket(seen.has("x-method-override") || seen.has("x-http-method"), 404)
    })
        .attack(get("/").with("x-method-override", "EVIL"))
        .attack(get("/").with("x-http-method", "EVIL"));

    a_post_that_is_taken_for_a_get => on(|seen| match seen.head.method.as_str() {
        "POST" => answer(200, &[MINUTE, ("content-location", "/")], seen.content.clone()),
        _ => page("fine"),
    })
        .attack(ask("POST", "/").with("x-http-method-override", "GET").content("evil"));

    negotiation_that_fails_without_vary => on(|seen| blanket(seen.field("accept") != "*/*", 406))
        .attack(get("/").with("accept", "evil/evil"))
        .victim(get("/").with("accept", "*/*"));

    an_encoding_that_is_named_in_vary => on(|seen| varying(seen, "accept-encoding"))
        .attack(get("/").with("accept-encoding", "evil"))
        .attack(get("/").with("accept-encoding", "gzip;q=evil"))
        .victim(get("/").with("accept-encoding", "gzip"))
        .victim(get("/"));

    a_language_that_is_no_language => on(|seen| varying(seen, "accept-language"))
        .attack(get("/").with("accept-language", "de\tevil"))
        .attack(get("/").with("accept-language", "\"de, en"))
        .victim(get("/").with("accept-language", "de, en"))
        .victim(get("/").with("accept-language", "de"));

    a_field_that_is_shown_where_nothing_is_said_of_caching => on(|seen| {
        answer(200, &[], seen.field("x-forwarded-host"))
    })
        .attack(get("/").with("x-forwarded-host", "evil.example"));
}

/// No cache can know what a handler looks at and does not name. A handler that is to be cached names it in `Vary`, or does
/// not get to see it.
#[tokio::test(start_paused = true)]
async fn what_a_handler_shows_to_everyone_without_vary_is_its_own_word() {
    let attempt = on(|seen| page(seen.field("x-forwarded-host")));
    let app = attempt.app(Cache::memory());
    let attack = get("/").with("x-forwarded-host", "evil.example");
    asked(&app, &attack).await;
    assert_eq!(asked(&app, &get("/")).await.text(), "evil.example");
}

// Host

fn by_host(seen: &Seen) -> Response<Body> {
    page(format!("http://{}/", seen.field("host")))
}

/// Knows hosts by the letter only.
fn one_host(seen: &Seen) -> Response<Body> {
    blanket(seen.field("host") != "test.example", 404)
}

harmless! {
    two_hosts => on(by_host)
        .attack(get("/").with("host", "test.example").with("host", "evil.example"))
        .attack(get("/").with("host", "evil.example").with("host", "test.example"));

    a_target_with_another_host => on(by_host)
        .attack(get("http://test.example/").with("host", "evil.example"))
        .attack(get("http://test.example:80/").with("host", "evil.example"))
        .attack(get("http://test.example/").with("host", ""));

    a_target_with_a_user => on(|seen| page(seen.head.uri.authority().map_or("", |own| own.as_str())))
        .attack(get("http://evil@test.example/"))
        .attack(get("http://evil@test.example/").with("host", "test.example"))
        .attack(get("http://evil:evil@test.example/").with("host", "test.example"));

    a_host_with_a_user => on(by_host)
        .attack(get("/").with("host", "evil@test.example"))
        .attack(get("/").with("host", "test.example@evil.example"));

    a_host_in_other_letters => on(one_host)
        .attack(get("/").with("host", "TEST.example"))
        .attack(get("http://Test.Example/").with("host", "Test.Example"))
        .attack(get("http://test.example/").with("host", "Test.example"));

    a_host_with_the_default_port => on(one_host)
        .attack(get("/").with("host", "test.example:80"))
        .attack(get("/").with("host", "test.example:"))
        .attack(get("http://test.example/").with("host", "test.example:80"));

    a_host_with_another_port => on(by_host)
        .attack(get("/").with("host", "test.example:8081"))
        .attack(get("/").with("host", "test.example:80:80"))
        .attack(get("/").with("host", "test.example:080"))
        .attack(get("/").with("host", "test.example:evil"));

    a_host_with_a_dot_behind => on(by_host)
        .attack(get("/").with("host", "test.example."))
        .victim(get("/"))
        .victim(get("/").with("host", "test.example"));

    an_empty_host => on(one_host)
        .attack(get("/").with("host", ""))
        .attack(get("/").with("host", " "))
        .attack(get("/").with("host", ":80"));

    a_target_without_a_host_field => on(one_host)
        .attack(get("http://test.example/").with("host", "-"))
        .attack(get("http://test.example/").with("host", "-").version(Version::HTTP_10));

    an_encoded_host => on(by_host)
        .attack(get("/").with("host", "test%2eexample"))
        .attack(get("/").with("host", "t%65st.example"))
        .attack(get("/").with("host", "test.example%00"))
        .attack(get("/").with("host", "test.example%2fevil"));

    hosts_that_are_addresses => on(by_host)
        .attack(get("/").with("host", "[::1]"))
        .attack(get("/").with("host", "[::1]:80"))
        .attack(get("/").with("host", "[0:0::1]"))
        .attack(get("/").with("host", "::1"))
        .attack(get("/").with("host", "2130706433"))
        .victim(get("/").with("host", "127.0.0.1"))
        .victim(get("/").with("host", "[::2]"));

    a_host_that_ends_early => on(by_host)
        .attack(get("/").with("host", "test.example/evil"))
        .attack(get("/").with("host", "test.example?evil"))
        .attack(get("/").with("host", "test.example#evil"))
        .attack(get("/").with("host", "test.example\\evil"))
        .attack(get("/").with("host", "test.example,evil"))
        .attack(get("/").with("host", "test.example evil"))
        .attack(get("/").with("host", "test.example\tevil"))
        .attack(get("/").with("host", b"test.example\xff".to_vec()));

    a_host_that_brings_the_path_along => on(|seen| page(format!("{}{}", seen.field("host"), seen.path())))
        .attack(get("/b").with("host", "test.example/a"))
        .attack(get("/a/b").with("host", "test.example/"))
        .victim(get("/a/b"))
        .victim(get("//b"));

    a_scheme_that_is_none => on(|seen| page(seen.head.uri.scheme_str().unwrap_or("http")))
        .attack(get("https://test.example/"))
        .attack(get("evil://test.example/"))
        .victim(get("/"))
        .victim(get("http://test.example/"));
}

// Path and query

fn by_uri(seen: &Seen) -> Response<Body> {
    page(seen.head.uri.to_string())
}

harmless! {
    encoded_slashes => on(by_uri)
        .attack(get("/a%2fb"))
        .attack(get("/a%2Fb"))
        .attack(get("/a%5cb"))
        .victim(get("/a/b"));

    dot_segments => on(by_uri)
        .attack(get("/evil/../a"))
        .attack(get("/./a"))
        .attack(get("/evil/%2e%2e/a"))
        .attack(get("/a/."))
        .victim(get("/a"))
        .victim(get("/a/"));

    slashes_more_or_less => on(by_uri)
        .attack(get("//a"))
        .attack(get("/a//"))
        .attack(get("//test.example/a"))
        .victim(get("/a"))
        .victim(get("/a/"));

    matrix_parameters => on(by_uri)
        .attack(get("/a;evil=1"))
        .attack(get("/a;/b"))
        .attack(get("/a%3bb"))
        .victim(get("/a"))
        .victim(get("/a/b"));

    a_question_mark_without_a_query => on(by_uri)
        .attack(get("/?"))
        .attack(get("/??"))
        .attack(get("/?&"))
        .victim(get("/"));

    what_looks_like_a_fragment => on(by_uri)
        .attack(get("/%23evil"))
        .attack(get("/a%23?evil"))
        .victim(get("/"))
        .victim(get("/a"));

    parameters_that_hide_in_others => on(by_uri)
        .attack(get("/?a=1;b=evil"))
        .attack(get("/?a=1%26b=evil"))
        .attack(get("/?a=1&b=2&b=evil"))
        .attack(get("/?a[]=1&b=2"))
        .attack(get("/?utm_content=1;b=evil&a=1&b=2"))
        .attack(get("/?b=2&a=1"))
        .victim(get("/?a=1&b=2"));

    letters_and_their_codes => on(by_uri)
        .attack(get("/A"))
        .attack(get("/%61"))
        .attack(get("/a%00"))
        .attack(get("/a%20"))
        .attack(get("/a+"))
        .victim(get("/a"))
        .victim(get("/a%2b"));

    an_asterisk_that_is_no_path => on(|seen| blanket(seen.path() == "*", 404))
        .attack(get("*"))
        .attack(get("*").with("host", "test.example"))
        .victim(get("/*"))
        .victim(get("/"));

    a_query_without_a_path => on(|seen| page(seen.head.uri.query().unwrap_or("none")))
        .attack(get("http://test.example?/evil"))
        .attack(get("/?/evil"))
        .victim(get("/"))
        .victim(get("/?"))
        .victim(get("http://test.example"));
}

// Somebody is lured to an address that looks static ("web cache deception"); the marker is the one who was lured

fn account(seen: &Seen) -> Response<Body> {
    match seen.careless_path().starts_with("account") {
        true => greeting(seen, &[]),
        false => answer(404, &[], ""),
    }
}

const LURES: [&str; 9] = [
    "/account/a.css",
    "/account;a.css",
    "/account%3ba.css",
    "/account%2fa.css",
    "/account%00a.css",
    "/account%23a.css",
    "/account%3fa.css",
    "/static/..%2faccount",
    "/account?a.css",
];

fn lured(field: &'static str) -> Attempt {
    let attempt = on(account);
    LURES.into_iter().fold(attempt, |attempt, uri| {
        let seen_by_all = get(uri);
        attempt
            .attack(get(uri).with(field, EVIL))
            .victim(seen_by_all)
    })
}

harmless! {
    an_account_by_cookie_at_static_addresses => lured("cookie");

    an_account_by_authorization_at_static_addresses => lured("authorization");

    an_account_at_static_addresses_with_a_freshness_for_all => lured("cookie")
        .layer(|layer| layer.default_ttl(Duration::from_secs(60)));

    an_account_by_authorization_with_a_freshness_for_all => lured("authorization")
        .layer(|layer| layer.default_ttl(Duration::from_secs(60)).set_cookie(SetCookie::Always));

    an_account_that_was_last_changed_long_ago => {
        let mut attempt = lured("cookie");
        attempt.handler = |seen| {
            greeting(seen, &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"), ("etag", "\"a\"")])
        };
        attempt
    };
}

// Words about caching that are hard to read; the marker is the one whose page it is

fn own(handler: Handler) -> Attempt {
    on(handler)
        .attack(get("/").with("cookie", "sid=evil"))
        .attack(get("/").with("authorization", "evil"))
        .attack(
            get("/")
                .with("authorization", "")
                .with("cookie", "sid=evil"),
        )
        .victim(get("/").with("cookie", "sid=1"))
        .victim(get("/").with("authorization", "1"))
        .victim(get("/"))
}

macro_rules! own_pages {
    ($($name:ident => [$($field:expr),* $(,)?];)*) => { harmless! {$(
        $name => own(|seen| greeting(seen, &[$($field),*]));
    )*} };
}

const fn control(value: &str) -> (&str, &str) {
    ("cache-control", value)
}

own_pages! {
    private_in_another_line => [control("public, max-age=60"), control("private")];
    private_in_front => [control("private"), control("public, s-maxage=60")];
    no_store_in_another_line => [control("s-maxage=60"), control("x, NO-STORE")];
    private_in_capitals => [control("PUBLIC, MAX-AGE=60, PRIVATE")];
    private_with_an_argument => [control("public, max-age=60, private=1 1")];
    private_in_apostrophes => [control("public, max-age=60, private='x'")];
    private_of_no_field => [control("public, max-age=60, private=\"\"")];
    private_of_a_field_that_cannot_be_left_out => [control("public, max-age=60, private=\"etag\"")];
    private_behind_a_quote_without_an_end => [control("public, max-age=60, x=\"a, private")];
    private_behind_no_cache_of_a_field => [control("max-age=60, no-cache=\"x\", private")];
    no_cache_with_a_quote_without_an_end => [control("public, max-age=60, no-cache=\"x")];
    semicolons_for_commas => [control("public; max-age=60; private")];
    an_age_without_digits => [control("public, max-age=sixty")];
    ages_that_contradict => [control("public, max-age=60, max-age=0")];
    an_age_in_a_quoted_string => [control("x=\", max-age=60, public\"")];
    a_star_in_another_line => [MINUTE, ("vary", "accept"), ("vary", "*")];
    a_star_among_names => [MINUTE, ("vary", "accept, *, cookie")];
    a_star_among_nothing => [MINUTE, ("vary", ",, *,")];
    a_name_that_is_none_in_vary => [MINUTE, ("vary", "accept encoding")];
    cookie_and_authorization_in_vary => [MINUTE, ("vary", "Authorization"), ("vary", "COOKIE")];
    connection_that_names_cache_control => [control("private, max-age=60"), ("connection", "cache-control")];
    connection_that_names_vary => [MINUTE, ("vary", "cookie, authorization"), ("connection", "close, vary")];
    an_age_beyond_the_freshness => [MINUTE, ("age", "61")];
    an_age_beyond_all_numbers => [MINUTE, ("age", "99999999999999999999999")];
    a_date_long_ago => [MINUTE, ("date", "Sun, 06 Nov 1994 08:49:37 GMT")];
    expires_in_several_lines => [("expires", "Fri, 31 Dec 9999 23:59:59 GMT"), ("expires", "0")];
    expires_that_is_no_date => [("expires", "Fri, 31 Dec 9999 23:59:59 +0100"), ("cache-control", "public")];
    pragma_and_warning_alone => [("pragma", "no-cache"), ("warning", "110 - stale")];
}

harmless! {
    a_new_session_for_whoever_asks => on(|seen| answer(
        200,
        &[("cache-control", "max-age=60"), ("set-cookie", &format!("sid={}", seen.field("x-new")))],
        "",
    ))
        .attack(get("/").with("x-new", "evil"));

    a_session_that_connection_names => on(|seen| answer(
        200,
        &[
            ("cache-control", "max-age=60"),
            ("set-cookie", &format!("sid={}", seen.field("x-new"))),
            ("connection", "set-cookie"),
        ],
        "",
    ))
        .attack(get("/").with("x-new", "evil"));

    connection_that_names_credentials => on(|seen| greeting(seen, &[("cache-control", "max-age=60"), ("vary", "cookie")]))
        .attack(get("/").with("authorization", "evil").with("connection", "authorization"))
        .attack(get("/").with("cookie", "evil").with("connection", "close, cookie"))
        .attack(get("/").with("cookie", "evil").with("connection", "vary, cache-control"));
}

// Content, ranges, conditions and other methods

harmless! {
    a_get_with_content => on(|seen| page(String::from_utf8_lossy(&seen.content)))
        .attack(get("/").with("content-length", "4").content("evil"))
        .attack(get("/").with("transfer-encoding", "chunked").content("evil"))
        .attack(get("/").with("content-length", "0").with("content-length", "4").content("evil"))
        .attack(get("/").with("content-length", "00").content("evil"))
        .attack(get("/").with("content-length", "+0").content("evil"));

    a_get_with_content_that_is_not_announced => on(|seen| page(String::from_utf8_lossy(&seen.content)))
        .attack(get("/").version(Version::HTTP_2).content("evil"))
        .attack(get("/").version(Version::HTTP_3).content("evil"));

    a_part_that_is_taken_for_the_whole => on(|seen| match seen.field("range").as_str() {
        "-" => page("the whole"),
        _ => answer(206, &[MINUTE, ("content-range", "bytes 0-2/9"), ("x-range", EVIL)], "the"),
    })
        .attack(get("/").with("range", "bytes=0-2"))
        .attack(get("/").with("range", "bytes=0-2").with("if-range", "\"a\""));

    a_part_that_says_to_be_the_whole => on(|seen| match seen.field("range").as_str() {
        "-" => page("the whole"),
        _ => page("evil"),
    })
        .attack(get("/").with("range", "bytes=0-2"))
        .attack(get("/").with("range", "evil"))
        .attack(get("/").with("range", "bytes=0-0").with("range", "bytes=1-1"));

    a_range_that_cannot_be_had => on(|seen| blanket(seen.has("range"), 416))
        .attack(get("/").with("range", "bytes=99999-"));

    a_handler_that_says_not_modified_to_any_tag => on(|seen| match seen.has("if-none-match") {
        true => answer(304, &[MINUTE, ("etag", "\"evil\"")], ""),
        false => answer(200, &[MINUTE, ("etag", "\"a\"")], "fine"),
    })
        .attack(get("/").with("if-none-match", "\"evil\""));

    a_handler_that_says_not_modified_to_a_star => on(|seen| match seen.field("if-none-match").as_str() {
        "*" => answer(304, &[MINUTE, ("x-evil", EVIL)], ""),
        _ => answer(200, &[MINUTE], "fine"),
    })
        .attack(get("/").with("if-none-match", "*"))
        .attack(get("/").with("if-none-match", "*").with("cache-control", "no-cache"));

    a_handler_that_says_not_modified_of_the_future => on(|seen| match seen.has("if-modified-since") {
        true => answer(304, &[("cache-control", "private, max-age=60")], ""),
        false => answer(200, &[("cache-control", "private, max-age=60")], "fine"),
    })
        .attack(get("/").with("if-modified-since", "Fri, 31 Dec 9999 23:59:59 GMT"));

    a_precondition_that_fails => on(|seen| blanket(seen.has("if-match") || seen.has("if-unmodified-since"), 412))
        .attack(get("/").with("if-match", "\"evil\""))
        .attack(get("/").with("if-unmodified-since", "Sun, 06 Nov 1994 08:49:37 GMT"));

    a_head_that_is_taken_for_a_get => on(|seen| match seen.head.method.as_str() {
        "HEAD" => answer(200, &[MINUTE, ("x-head", EVIL), ("content-length", "9")], ""),
        _ => page("the whole"),
    })
        .attack(ask("HEAD", "/"));

    a_post_that_speaks_for_another_uri => on(|seen| match seen.head.method.as_str() {
        "POST" => {
            let at = seen.field("x-at");
            answer(200, &[MINUTE, ("content-location", &at)], seen.content.clone())
        }
        _ => page(seen.path()),
    })
        .attack(ask("POST", "/evil").with("x-at", "/").content("evil"))
        .attack(ask("POST", "/evil").with("x-at", "http://test.example/").content("evil"))
        .attack(ask("POST", "/").with("host", "evil.example").with("x-at", "http://test.example/").content("evil"))
        .attack(ask("POST", "/").with("host", "evil.example").with("x-at", "//test.example/").content("evil"));

    a_post_for_another_host_than_its_target_s => on(|seen| {
        answer(200, &[MINUTE, ("content-location", "/")], seen.field("host"))
    })
        .attack(ask("POST", "http://test.example/").with("host", "evil.example"))
        .attack(ask("POST", "http://test.example/").with("host", ""))
        .attack(ask("POST", "/").with("host", "TEST.example"))
        .attack(ask("POST", "http://evil@test.example/").with("host", "evil@test.example"));

    other_methods_that_are_taken_for_get => on(|seen| match seen.head.method.as_str() {
        "GET" => page("fine"),
        _ => answer(200, &[MINUTE, ("content-location", "/")], EVIL),
    })
        .attack(ask("PUT", "/"))
        .attack(ask("OPTIONS", "/"))
        .attack(ask("TRACE", "/"))
        .attack(ask("get", "/"))
        .attack(ask("GET2", "/"))
        .attack(ask("QUERY", "/"));
}

#[tokio::test(start_paused = true)]
async fn one_host_does_not_end_what_another_has_stored() {
    let app = on(|seen| match seen.head.method.as_str() {
        "GET" => page("fine"),
        _ => answer(
            201,
            &[
                ("location", "http://test.example/"),
                ("content-location", "//test.example/"),
            ],
            "",
        ),
    })
    .app(Cache::memory());
    app.get("/").await;
    app.send("POST", "/", &[("host", "evil.example")]).await;
    assert!(app.get("/").await.is_hit());
}

// Errors that one request brings about

harmless! {
    a_field_that_is_too_large => on(|seen| blanket(seen.field("x-large").len() > 8_192, 431))
        .attack(get("/").with("x-large", "a".repeat(100_000)));

    content_that_is_too_large => on(|seen| blanket(seen.field("expect") != "-" || seen.has("x-large"), 413))
        .attack(get("/").with("x-large", "1"));

    a_visitor_who_asks_too_often => on(|seen| blanket(seen.has("x-often"), 429))
        .attack(get("/").with("x-often", "1"));

    an_expectation_that_cannot_be_met => on(|seen| blanket(seen.has("expect"), 417))
        .attack(get("/").with("expect", "evil"));

    a_content_type_that_is_not_known => on(|seen| blanket(seen.has("content-type"), 415))
        .attack(get("/").with("content-type", "evil/evil"));

    a_visitor_without_a_login => on(|seen| blanket(!seen.has("authorization"), 401))
        .attack(get("/"))
        .attack(get("/").with("cookie", "evil"))
        .victim(get("/").with("authorization", "1"));

    an_upgrade_that_is_required_or_refused => on(|seen| blanket(seen.has("upgrade"), 426))
        .attack(get("/").with("upgrade", "evil").with("connection", "upgrade"));

    a_connection_that_is_for_another_host => on(|seen| blanket(seen.has("x-misdirected"), 421))
        .attack(get("/").with("x-misdirected", "1"));

    a_request_that_takes_too_long => on(|seen| blanket(seen.has("x-slow"), 408))
        .attack(get("/").with("x-slow", "1"));

    early_data_and_preconditions_and_portals => on(|seen| match seen.field("x-status").parse() {
        Ok(status) => blanket(true, status),
        Err(_) => page("fine"),
    })
        .attack(get("/").with("x-status", "425"))
        .attack(get("/").with("x-status", "428"))
        .attack(get("/").with("x-status", "511"));

    a_field_that_cannot_be_read => on(|seen| blanket(seen.field("x-meta").contains('\u{fffd}'), 400))
        .layer(|layer| layer.store_errors(false))
        .attack(get("/").with("x-meta", b"\xff".to_vec()));

    a_handler_that_can_be_made_to_fail => on(|seen| blanket(seen.has("x-fail"), 500))
        .layer(|layer| layer.store_errors(false))
        .attack(get("/").with("x-fail", "1"));

    a_bad_request_where_only_larder_says_what_is_fresh => on(|seen| match seen.has("x-bad") {
        true => answer(400, &[], EVIL),
        false => answer(200, &[], "fine"),
    })
        .layer(|layer| layer.default_ttl(Duration::from_secs(60)))
        .attack(get("/").with("x-bad", "1"));

    a_failure_where_only_larder_says_what_is_fresh => on(|seen| match seen.has("x-bad") {
        true => answer(503, &[("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], EVIL),
        false => answer(200, &[], "fine"),
    })
        .layer(|layer| layer.default_ttl(Duration::from_secs(60)))
        .attack(get("/").with("x-bad", "1"));
}

/// RFC 9111 §3 has every final status stored that says how long it is fresh; `CacheLayer::store_errors` is for handlers
/// that say so without meaning it.
#[tokio::test(start_paused = true)]
async fn an_error_that_says_to_be_fresh_is_the_handler_s_own_word() {
    for status in [400, 500] {
        let origin = Origin::of(status, &[MINUTE]);
        let app = App::new(origin.clone());
        app.get("/").await;
        assert!(app.get("/").await.is_hit(), "{status}");
        let app = App::changed(origin, |layer| layer.store_errors(false));
        app.get("/").await;
        assert!(!app.get("/").await.is_hit(), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_answered_does_not_end_what_is_stored() {
    let handler: Handler = |seen| match seen.field("x-status").parse() {
        Ok(status) => answer(status, &[("cache-control", "no-store")], ""),
        Err(_) => match seen.has("x-down") {
            true => answer(503, &[], ""),
            false => answer(200, &[("cache-control", "max-age=60")], "fine"),
        },
    };
    for status in ["400", "413", "417", "429", "431"] {
        let app = on(handler).app(Cache::memory());
        app.get("/").await;
        let fields = [("x-status", status), ("cache-control", "no-cache")];
        app.get_with("/", &fields).await;
        assert!(app.get("/").await.is_hit(), "{status}");
        after(60.5).await;
        app.get_with("/", &fields[..1]).await;
        assert_eq!(
            app.get_with("/", &[("x-down", "1")]).await.text(),
            "fine",
            "{status}"
        );
    }
}

// Very much of everything, and directives of requests

fn many(name: &'static str, count: usize, value: fn(usize) -> String) -> Attempt {
    let attempt = on(|seen| varying(seen, "x-many, accept-language, cookie"));
    let mut attack = get("/");
    for number in 0..count {
        attack = attack.with(name, value(number));
    }
    attempt.attack(attack).victim(get("/").with("x-many", "1"))
}

harmless! {
    thousands_of_lines => many("x-many", 3_000, |number| format!("evil{number}"));
    thousands_of_members => many("x-many", 1, |_| "evil,".repeat(10_000));
    thousands_of_languages => many("accept-language", 1, |_| "evil;q=0.1,".repeat(5_000));
    thousands_of_cookies => many("cookie", 1_000, |number| format!("evil={number}"));
    a_hundred_kilobytes_in_a_field => many("x-many", 1, |_| "evil".repeat(25_000));

    thousands_of_directives => on(|seen| varying(seen, "x-a"))
        .attack(get("/").with("x-a", "evil").with("cache-control", "max-stale=1, max-age=9,".repeat(4_000)))
        .attack(get("/").with("x-a", "evil").with("cache-control", "\"".repeat(9_001)));

    thousands_of_parameters => on(by_uri)
        .attack(get(format!("/?{}", "evil=1&".repeat(5_000))))
        .attack(get(format!("/{}", "evil/".repeat(5_000))))
        .attack(get(format!("/?a=1&{}", "a=evil&".repeat(5_000))))
        .victim(get("/"))
        .victim(get("/?a=1"));

    more_variants_than_are_kept => (0..100)
        .fold(on(|seen| varying(seen, "x-a")), |attempt, number| {
            attempt.attack(get("/").with("x-a", format!("evil {number}")))
        })
        .victim(get("/").with("x-a", "1"))
        .victim(get("/"));

    fields_of_vary_that_come_and_go => on(|seen| match seen.has("x-a") {
        true => varying(seen, "x-a, x-b, x-c"),
        false => varying(seen, "x-b"),
    })
        .attack(get("/").with("x-a", "evil"))
        .attack(get("/").with("x-a", "evil").with("x-b", "1"))
        .victim(get("/").with("x-b", "1"))
        .victim(get("/"));

    only_if_cached_where_nothing_is_cached => on(|seen| varying(seen, "x-a"))
        .attack(get("/").with("x-a", "evil").with("cache-control", "only-if-cached"))
        .attack(get("/").with("x-a", "evil").with("cache-control", "only-if-cached, max-age=0"));

    wishes_that_contradict => on(|seen| varying(seen, "x-a"))
        .attack(get("/").with("x-a", "evil").with("cache-control", "no-store, max-stale, only-if-cached"))
        .attack(get("/").with("x-a", "evil").with("cache-control", "max-age=0, min-fresh=9999999999"))
        .attack(get("/").with("x-a", "evil").with("pragma", "no-cache"));

    trailers_that_are_announced => on(|seen| varying(seen, "te"))
        .attack(get("/").with("te", "trailers, evil"))
        .attack(get("/").with("te", "trailers").with("trailer", "evil"));
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_tells_of_a_hit_is_not_believed() {
    let attempt = on(|_| {
        let told = ("cache-status", "larder; hit; ttl=9999");
        answer(200, &[("cache-control", "private"), told], "")
    });
    let app = attempt.app(Cache::memory());
    for _ in 0..2 {
        let told = app.get("/").await.told();
        let last = told.rsplit(", larder").next().unwrap();
        assert!(last.starts_with("; fwd=uri-miss"), "{told}");
    }
    assert_eq!(app.calls(), 2);
}
