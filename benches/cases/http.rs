//! Requests served in process: by a handler, and by the layer in the places where it fits.

use std::{
    convert::Infallible,
    fmt::Debug,
    future::{Ready, ready},
    hint::black_box,
    pin::pin,
    rc::Rc,
    sync::LazyLock,
};

use axum::{Router, body::Body, response::IntoResponse, routing::get};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Response, Uri,
    header::{
        ACCEPT, ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH,
        USER_AGENT, VARY,
    },
    request,
};
use http_body_util::{BodyExt, Full};
use larder::{Cache, CacheLayer};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt, service_fn, util::ServiceFn};

/// Serves so many requests, one after the other.
pub(crate) type Run = Box<dyn FnMut(u64)>;

/// What a case measures, and the same requests without anybody who answers them.
pub(crate) struct Serving {
    pub(crate) run: Run,
    pub(crate) null: Run,
}

/// Something that serves requests.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) build: fn() -> Serving,
}

/// As many as an application of some size has.
const ROUTES: usize = 34;

static SMALL: [u8; 1 << 10] = [b'x'; 1 << 10];
static LARGE: [u8; 64 << 10] = [b'x'; 64 << 10];

const fn case(name: &'static str, build: fn() -> Serving) -> Case {
    Case { name, build }
}

/// Every case, the cheapest first.
pub(crate) const CASES: [Case; 19] = [
    case("null", || serve(null(), Asking::of("/small"), None)),
    case("raw 1 KiB", || serve(raw(), Asking::of("/small"), None)),
    case("bare 1 KiB", || serve(router(), Asking::of("/small"), None)),
    case("bare 64 KiB", || {
        serve(router(), Asking::of("/large"), None)
    }),
    case("bare new URI", || serve(router(), Asking::new_uris(), None)),
    case("around 1 KiB", || {
        serve(around(), Asking::of("/small"), HIT)
    }),
    case("around 64 KiB", || {
        serve(around(), Asking::of("/large"), HIT)
    }),
    case("around Vary", || {
        serve(around(), Asking::varied("/varied"), HIT)
    }),
    case("around 304", || {
        serve(around(), Asking::conditional("/small"), HIT)
    }),
    case("around not stored", || {
        serve(around(), Asking::of("/private"), MISS)
    }),
    case("around stored", || {
        serve(around(), Asking::new_uris(), STORED)
    }),
    case("inside 1 KiB", || {
        serve(inside(), Asking::of("/small"), HIT)
    }),
    case("inside 64 KiB", || {
        serve(inside(), Asking::of("/large"), HIT)
    }),
    case("inside Vary", || {
        serve(inside(), Asking::varied("/varied"), HIT)
    }),
    case("inside 304", || {
        serve(inside(), Asking::conditional("/small"), HIT)
    }),
    case("inside not stored", || {
        serve(inside(), Asking::of("/private"), MISS)
    }),
    case("inside stored", || {
        serve(inside(), Asking::new_uris(), STORED)
    }),
    case("plain 1 KiB", || serve(plain(), Asking::of("/small"), HIT)),
    case("plain 304", || {
        serve(plain(), Asking::conditional("/small"), HIT)
    }),
];

/// How `Cache-Status` begins in every answer of a case but the first.
type Status = Option<&'static str>;
const HIT: Status = Some("larder; hit");
const MISS: Status = Some("larder; fwd=uri-miss; detail=private");
const STORED: Status = Some("larder; fwd=uri-miss; stored");

/// Makes requests, as a client that keeps its connection sends them.
struct Asking {
    template: request::Parts,
    /// Every request is for a URI of its own, by this number.
    next: Option<u64>,
}

impl Asking {
    fn of(path: &'static str) -> Self {
        let request = Request::get(path)
            .header(HOST, "bench.example")
            .header(USER_AGENT, "larder-bench/1")
            .header(ACCEPT, "*/*");
        let (template, ()) = request.body(()).expect("the parts are valid").into_parts();
        Self {
            template,
            next: None,
        }
    }

    fn with(mut self, name: http::HeaderName, value: &'static str) -> Self {
        let value = HeaderValue::from_static(value);
        self.template.headers.insert(name, value);
        self
    }

    fn varied(path: &'static str) -> Self {
        Self::of(path).with(ACCEPT_ENCODING, "gzip, br")
    }

    fn conditional(path: &'static str) -> Self {
        Self::of(path).with(IF_NONE_MATCH, "\"v1\"")
    }

    fn new_uris() -> Self {
        Self {
            // All numbers have as many digits, so that no request costs more than another.
            next: Some(1_000_000_000),
            ..Self::of("/new/0")
        }
    }

    fn request(&mut self) -> Request<Body> {
        let mut parts = self.template.clone();
        if let Some(next) = &mut self.next {
            *next += 1;
            parts.uri = Uri::try_from(format!("/new/{next}")).expect("a path and digits");
        }
        Request::from_parts(parts, Body::empty())
    }
}

/// Answers with a body of static bytes and three fields.
async fn answer(cache_control: &'static str, body: &'static [u8]) -> impl IntoResponse {
    let fields = [
        (CONTENT_TYPE, "application/octet-stream"),
        (CACHE_CONTROL, cache_control),
        (ETAG, "\"v1\""),
    ];
    (fields, Bytes::from_static(body))
}

const PUBLIC: &str = "public, max-age=80000";

fn router() -> Router {
    let own = Router::new()
        .route("/small", get(|| answer(PUBLIC, &SMALL)))
        .route("/large", get(|| answer(PUBLIC, &LARGE)))
        .route("/private", get(|| answer("private", &SMALL)))
        .route("/new/{id}", get(|| answer(PUBLIC, &SMALL)))
        .route(
            "/varied",
            get(|| async { ([(VARY, "Accept-Encoding")], answer(PUBLIC, &SMALL).await) }),
        );
    (5..ROUTES).fold(own, |router, at| {
        router.route(&format!("/other/{at}"), get(|| answer(PUBLIC, &SMALL)))
    })
}

fn layer() -> CacheLayer {
    CacheLayer::new(Cache::memory())
}

/// The layer inside the router.
fn inside() -> Router {
    router().layer(layer())
}

/// The layer around the router.
fn around() -> larder::Around<Router> {
    layer().around_service(router())
}

type Answered = Ready<Result<Response<Full<Bytes>>, Infallible>>;
type Raw = ServiceFn<fn(Request<Body>) -> Answered>;

static FIELDS: LazyLock<HeaderMap> = LazyLock::new(|| {
    HeaderMap::from_iter([
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (CACHE_CONTROL, HeaderValue::from_static(PUBLIC)),
        (ETAG, HeaderValue::from_static("\"v1\"")),
    ])
});

/// No router, and fields that are only copied: what no answer costs less than.
fn raw() -> Raw {
    service_fn(|request| {
        drop(request);
        let mut response = Response::new(Full::new(Bytes::from_static(&SMALL)));
        *response.headers_mut() = FIELDS.clone();
        ready(Ok(response))
    })
}

/// The layer around a service that is no router.
fn plain() -> larder::CacheService<Raw> {
    layer().layer(raw())
}

/// Answers with nothing: what making the request costs.
fn null() -> Raw {
    service_fn(|request| {
        drop(request);
        ready(Ok(Response::default()))
    })
}

/// Serves requests by `service`, whose answers have to tell `status` once it has answered the first.
fn serve<S, B>(service: S, asking: Asking, status: Status) -> Serving
where
    S: Service<Request<Body>, Response = Response<B>, Error: Debug> + Clone + 'static,
    B: http_body::Body<Data = Bytes, Error: Debug>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = Rc::new(runtime.expect("the system has threads and sockets to give"));
    let again = Asking {
        template: asking.template.clone(),
        next: asking.next,
    };
    let mut serving = Serving {
        run: repeat(runtime.clone(), service.clone(), asking, status),
        null: repeat(runtime, null(), again, None),
    };
    // Fills the cache, and lets everything that is made once be made.
    (serving.null)(100);
    (serving.run)(100);
    serving
}

fn repeat<S, B>(runtime: Rc<Runtime>, service: S, mut asking: Asking, status: Status) -> Run
where
    S: Service<Request<Body>, Response = Response<B>, Error: Debug> + Clone + 'static,
    B: http_body::Body<Data = Bytes, Error: Debug>,
{
    let mut response = runtime.block_on(service.clone().oneshot(asking.request()));
    for _ in 0..2 {
        let body = response.expect("the services do not fail").into_body();
        runtime.block_on(async {
            drain(body).await;
            // A body that its client needs none of is stored by a task.
            tokio::task::yield_now().await;
        });
        response = runtime.block_on(service.clone().oneshot(asking.request()));
    }
    let response = response.expect("the services do not fail");
    let told = response.headers().get("cache-status");
    let told = told.and_then(|told| told.to_str().ok());
    let is_right = status.is_none_or(|status| told.is_some_and(|told| told.starts_with(status)));
    assert!(is_right, "expected {status:?}, not {told:?}");
    Box::new(move |count| {
        runtime.block_on(async {
            for _ in 0..count {
                let response = service.clone().oneshot(asking.request()).await;
                drain(response.expect("the services do not fail").into_body()).await;
            }
        });
    })
}

async fn drain<B: http_body::Body<Data = Bytes, Error: Debug>>(body: B) {
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        drop(black_box(frame.expect("the bodies do not break off")));
    }
}
